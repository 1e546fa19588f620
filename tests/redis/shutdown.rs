//! Shutdown of a real process, by the recipes of `docs/guide/life_cycle.md`: a client leaves during a slow write,
//! the process is told to end, and another process on the same server must not see the old value once it has
//! ended.
//!
//! The process is this binary, started again for one test of it. Its handler asks the test for every value,
//! so that each step waits for the test's word.

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    routing::get,
};
use http::Method;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown, service::TowerToHyperService};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::timeout,
};
use tower_support_cache::SupportCacheHandle;

use crate::{
    layer_on, patient,
    proxy::Proxy,
    server::{PATIENCE, Server, pause, until},
};

/// Variable by which a process of this binary is told to serve: the server, the port of the test, the recipe,
/// and the limit of the drain in milliseconds.
const SERVES: &str = "SHUTDOWN_SERVES";

const ALL: &str = "all is acknowledged";

// ===== the process =====

/// Serves, if this process was started for that.
#[test]
fn a_process_that_is_told_to_serve_does() {
    let Ok(told) = env::var(SERVES) else { return };
    let told: Vec<_> = told.split(' ').collect();
    let [url, port, recipe, limit] = told[..] else { panic!("{told:?}") };
    let limit = Duration::from_millis(limit.parse().unwrap());
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(serve(url, port.parse().unwrap(), recipe, limit));
    drop(runtime);
    // The harness would go on to its report.
    std::process::exit(0);
}

async fn serve(url: &str, port: u16, recipe: &str, limit: Duration) {
    let layer = layer_on(patient(url).build().unwrap(), |route| route.ttl(PATIENCE * 30));
    let cache = layer.handle();
    let routes = Router::new().route("/cases/{case}", get(ask).post(ask));
    let app = routes.layer(layer).with_state(port);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let terminate = signal(SignalKind::terminate()).unwrap();
    println!("listens {}", listener.local_addr().unwrap().port());
    match recipe {
        "axum" => with_axum(listener, app, terminate).await,
        _ => with_hyper(listener, app, terminate).await,
    }
    println!("drains {}", cache.metrics().detached);
    let drained = tokio::select! {
        drained = cache.drain(limit) => drained,
        never = tell_of_debts(&cache) => never,
    };
    match drained {
        Ok(()) => println!("ends {ALL}"),
        Err(unfinished) => println!("ends {unfinished}"),
    }
}

async fn with_axum(listener: TcpListener, app: Router, mut terminate: Signal) {
    let signal = async move {
        terminate.recv().await;
    };
    axum::serve(listener, app).with_graceful_shutdown(signal).await.unwrap();
}

async fn with_hyper(listener: TcpListener, app: Router, mut terminate: Signal) {
    let graceful = GracefulShutdown::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                let service = TowerToHyperService::new(app.clone());
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                let connection = graceful.watch(connection);
                tokio::spawn(async move { drop(connection.await) });
            }
            _ = terminate.recv() => break,
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

/// Says once that an invalidation is owed, and does not end.
async fn tell_of_debts<T>(cache: &SupportCacheHandle) -> T {
    while cache.metrics().store.is_none_or(|store| store.pending == 0) {
        pause(Duration::from_millis(5)).await;
    }
    println!("owes");
    std::future::pending().await
}

/// Asks the test for the answer to a request.
async fn ask(State(port): State<u16>, method: Method, Path(_): Path<String>) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(format!("{method}\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

// ===== the test =====

/// Place where the handlers of all processes ask for their answers.
struct Database {
    listener: TcpListener,
}

/// Handler that waits for its answer.
struct Asked {
    method: String,
    stream: TcpStream,
}

impl Database {
    async fn open() -> Self {
        Self { listener: TcpListener::bind(("127.0.0.1", 0)).await.unwrap() }
    }

    async fn next(&self) -> Asked {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut method = Vec::new();
        while stream.read_buf(&mut method).await.unwrap() > 0 && !method.ends_with(b"\n") {}
        Asked { method: String::from_utf8(method).unwrap(), stream }
    }
}

impl Asked {
    async fn answer(mut self, value: &str) {
        self.stream.write_all(value.as_bytes()).await.unwrap();
    }
}

/// Process that serves. Dropped, it is killed.
struct Process {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    port: u16,
}

impl Process {
    async fn start(url: &str, database: &Database, recipe: &str, limit: Duration) -> Self {
        let port = database.listener.local_addr().unwrap().port();
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "shutdown::a_process_that_is_told_to_serve_does", "--nocapture"])
            .env(SERVES, format!("{url} {port} {recipe} {}", limit.as_millis()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::unbounded_channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut process = Self { child, lines, port: 0 };
        process.port = process.line("listens").await.parse().unwrap();
        process
    }

    /// Waits for a line that begins with a word, and returns the rest of it.
    async fn line(&mut self, word: &str) -> String {
        let line = async {
            loop {
                let line = self.lines.recv().await.expect("the process says it before it ends");
                if let Some(rest) = line.strip_prefix(word) {
                    return rest.trim().to_owned();
                }
            }
        };
        timeout(PATIENCE, line).await.unwrap_or_else(|_| panic!("no line `{word}`"))
    }

    /// Opens a connection and sends a request over it.
    async fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Reads the case; if the database is asked, it answers with a value. Returns the response.
    async fn read(&self, database: &Database, value: &str) -> String {
        let mut stream = self.send("GET /cases/1").await;
        let mut response = String::new();
        tokio::select! {
            read = stream.read_to_string(&mut response) => {
                read.unwrap();
                return response;
            }
            asked = database.next() => asked.answer(value).await,
        }
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    fn terminate(&self) {
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(killed.unwrap().success());
    }

    /// Waits for the end of the process. Returns what its drain has said.
    async fn end(mut self) -> String {
        let said = self.line("ends").await;
        until(PATIENCE, "it ends", async || self.child.try_wait().unwrap().map(drop)).await;
        said
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two processes that have a value in common. One is told to end during a slow write that has lost its client.
struct Shutdown {
    leaving: Process,
    staying: Process,
    database: Database,
    write: Asked,
}

impl Shutdown {
    async fn begin(url: &str, server: &Server, recipe: &str, limit: Duration) -> Self {
        let database = Database::open().await;
        let mut leaving = Process::start(url, &database, recipe, limit).await;
        let staying = Process::start(&server.url(), &database, recipe, PATIENCE).await;
        for process in [&leaving, &staying] {
            until(PATIENCE, "the value is stored", async || {
                process.read(&database, "old").await.contains(";hit").then_some(())
            })
            .await;
        }
        let client = leaving.send("POST /cases/1").await;
        let write = database.next().await;
        assert_eq!(write.method, "POST\n");
        drop(client);
        leaving.terminate();
        assert_eq!(leaving.line("drains").await, "1", "the write goes on");
        Self { leaving, staying, database, write }
    }

    async fn is_new_where_it_stays(staying: &Process, database: &Database) {
        let read = staying.read(database, "new").await;
        assert!(read.ends_with("new"), "{read}");
    }
}

#[tokio::test]
async fn a_write_that_lost_its_client_invalidates_before_its_process_ends() {
    let server = Server::start().await;
    for recipe in ["axum", "hyper"] {
        let Shutdown { leaving, staying, database, write } =
            Shutdown::begin(&server.url(), &server, recipe, PATIENCE).await;
        write.answer("written").await;
        assert_eq!(leaving.end().await, ALL);
        Shutdown::is_new_where_it_stays(&staying, &database).await;
    }
}

#[tokio::test]
async fn a_process_ends_when_its_redis_is_back_and_has_the_invalidation() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port).await;
    let Shutdown { mut leaving, staying, database, write } =
        Shutdown::begin(&proxy.url(), &server, "axum", PATIENCE).await;
    proxy.freeze();
    proxy.cut();
    write.answer("written").await;
    leaving.line("owes").await;
    proxy.thaw();
    assert_eq!(leaving.end().await, ALL);
    Shutdown::is_new_where_it_stays(&staying, &database).await;
}

#[tokio::test]
async fn a_process_whose_redis_stays_away_says_what_it_owes() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port).await;
    let Shutdown { leaving, write, .. } =
        Shutdown::begin(&proxy.url(), &server, "axum", Duration::from_millis(500)).await;
    proxy.freeze();
    proxy.cut();
    write.answer("written").await;
    let said = leaving.end().await;
    assert!(said.contains("invalidation"), "{said}");
}

/// At the limit a write is of unknown outcome, and what it may have changed is invalidated.
#[tokio::test]
async fn a_write_that_is_too_slow_for_the_drain_invalidates_all_the_same() {
    let server = Server::start().await;
    let Shutdown { leaving, staying, database, write } =
        Shutdown::begin(&server.url(), &server, "axum", Duration::from_millis(200)).await;
    assert_ne!(leaving.end().await, ALL);
    drop(write);
    Shutdown::is_new_where_it_stays(&staying, &database).await;
}
