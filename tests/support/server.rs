//! A Redis server of the test's own: on a free port, in a folder of its own, killed with its value.

#![allow(dead_code)] // Each test uses a part of it.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, FromRedisValue, RedisResult, Value, aio::MultiplexedConnection,
};
use tokio::time::{sleep, timeout};

/// How long a server may take for what it does at once, on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `check` finds something, or panics with `what` at the deadline. Together with
/// [`pause`] the one place where a test against a real server waits for time to pass.
#[track_caller]
pub(crate) fn until<T>(
    deadline: Duration,
    what: &str,
    mut check: impl AsyncFnMut() -> Option<T>,
) -> impl Future<Output = T> {
    let at = std::panic::Location::caller();
    async move {
        let found = timeout(deadline, async {
            loop {
                match check().await {
                    Some(found) => return found,
                    None => sleep(Duration::from_millis(5)).await,
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("{at}: not within {deadline:?}: {what}"))
    }
}

/// Lets time pass: a handler that works, a fault that lasts.
pub(crate) async fn pause(time: Duration) {
    sleep(time).await;
}

/// What a server finds when it starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    Empty,
    /// What was saved there (`save`, or an append-only file).
    Kept,
}

/// A running `redis-server`.
pub(crate) struct Server {
    pub(crate) port: u16,
    folder: PathBuf,
    options: Vec<(String, String)>,
    clock: Option<Clock>,
    process: Child,
}

/// Clock of a server that is set while it runs.
struct Clock {
    /// File with the microseconds that it is ahead of the real one.
    file: PathBuf,
    ahead: i64,
}

impl Server {
    /// Starts a server that keeps nothing on disk.
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts a server with a clock of its own. On Linux alone; elsewhere it does not step.
    pub(crate) async fn with_clock() -> Self {
        let clock = Clock { file: new_folder().join("clock"), ahead: 0 };
        clock.write();
        Self::begin(&[], Some(clock)).await
    }

    /// Starts a server with these options, named as in `redis.conf`.
    pub(crate) async fn with(options: &[(&str, &str)]) -> Self {
        Self::begin(options, None).await
    }

    async fn begin(options: &[(&str, &str)], mut clock: Option<Clock>) -> Self {
        let mut options: Vec<_> =
            options.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        options.push(("repl-diskless-sync-delay".into(), "0".into()));
        loop {
            let port = free_port();
            let folder = new_folder();
            let process = spawn(port, &folder, &options, clock.as_ref());
            let options = options.clone();
            let mut server = Self { port, folder, options, clock: clock.take(), process };
            // Another program may have taken the port meanwhile.
            if server.is_up().await {
                return server;
            }
            clock = server.clock.take();
        }
    }

    /// Sets the clock of a server forward or back that was started [with one](Self::with_clock).
    pub(crate) fn step_clock(&mut self, millis: i64) {
        let clock = self.clock.as_mut().expect("it was started with a clock of its own");
        clock.ahead += millis * 1000;
        clock.write();
    }

    /// Returns what `RedisStore::connect` takes.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Waits until the server answers, or has ended instead.
    async fn is_up(&mut self) -> bool {
        until(PATIENCE, "the server answers", async || {
            if self.process.try_wait().unwrap().is_some() {
                return Some(false);
            }
            let pong: RedisResult<String> = self.ask(&["PING"]).await;
            match pong {
                Ok(_) => Some(true),
                // A server with a password is there too.
                Err(error) => (error.code() == Some("NOAUTH")).then_some(true),
            }
        })
        .await
    }

    // ----- commands -----

    /// Opens a connection of its own, as any other program would.
    pub(crate) async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let client = Client::open(self.url())?;
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Sends a command.
    pub(crate) async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        self.ask_bytes(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>()).await
    }

    pub(crate) async fn ask_bytes<T: FromRedisValue>(&self, words: &[&[u8]]) -> RedisResult<T> {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query_async(&mut self.connection().await?).await
    }

    /// Sends a command that the server accepts.
    pub(crate) async fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.ask(words).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Sends a command whose reply does not matter.
    pub(crate) async fn run(&self, words: &[&str]) {
        let _: Value = self.command(words).await;
    }

    /// Returns how often each command has run, by its lower-case name.
    pub(crate) async fn calls(&self) -> BTreeMap<String, u64> {
        let text: String = self.command(&["INFO", "commandstats"]).await;
        let line = |line: &str| {
            let (name, rest) = line.trim().strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        };
        text.lines().filter_map(line).collect()
    }

    /// Returns a field of `INFO`.
    pub(crate) async fn info(&self, section: &str, field: &str) -> String {
        let text: String = self.command(&["INFO", section]).await;
        let found = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        found.unwrap_or_else(|| panic!("INFO has {field}")).trim().to_owned()
    }

    /// Cuts every other connection.
    pub(crate) async fn kill_clients(&self) {
        self.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    }

    // ----- life and death -----

    /// Writes everything to the disk. A replica that is on its way into step may be in the way.
    pub(crate) async fn save(&self) {
        until(PATIENCE, "it is saved", async || self.ask::<Value>(&["SAVE"]).await.ok()).await;
    }

    /// Kills the server: no time to say goodbye, nor to save.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts the killed server again, on the same port.
    pub(crate) async fn restart(&mut self, disk: Disk) {
        if disk == Disk::Empty {
            fs::remove_dir_all(&self.folder).unwrap();
            fs::create_dir(&self.folder).unwrap();
        }
        until(PATIENCE, "the server is back on its port", async || {
            self.process = spawn(self.port, &self.folder, &self.options, self.clock.as_ref());
            self.is_up().await.then_some(())
        })
        .await;
    }

    /// Starts the killed server again with what is on disk, and does not wait until it answers.
    pub(crate) fn begin_restart(&mut self) {
        self.process = spawn(self.port, &self.folder, &self.options, self.clock.as_ref());
    }

    /// Sets an option for the next start.
    pub(crate) fn option(&mut self, name: &str, value: &str) {
        self.options.retain(|(known, _)| known != name);
        self.options.push((name.into(), value.into()));
    }

    /// Stops the server where it is: it holds its connections and answers nobody.
    pub(crate) fn stop(&self) {
        self.signal("-STOP");
    }

    /// Lets a stopped server go on.
    pub(crate) fn cont(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(signal).arg(self.process.id().to_string()).status();
        assert!(status.unwrap().success(), "kill {signal}");
    }

    // ----- replication -----

    /// Makes this server a replica of the one at `port`, and waits until it is in step.
    pub(crate) async fn follow(&self, port: u16) {
        self.demote(port).await;
        until(PATIENCE, "the replica is in step", async || {
            (self.info("replication", "master_link_status").await == "up").then_some(())
        })
        .await;
    }

    /// Makes this server a replica of the one at `port`. Its connections stay open.
    pub(crate) async fn demote(&self, port: u16) {
        self.run(&["REPLICAOF", "127.0.0.1", &port.to_string()]).await;
    }

    /// Makes this server a primary.
    pub(crate) async fn promote(&self) {
        self.run(&["REPLICAOF", "NO", "ONE"]).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if let Some(folder) = self.clock.as_ref().and_then(|clock| clock.file.parent()) {
            let _ = fs::remove_dir_all(folder);
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn spawn(port: u16, folder: &Path, options: &[(String, String)], clock: Option<&Clock>) -> Child {
    let mut command = Command::new(server_program());
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
    command.arg("--dir").arg(folder);
    if let Some(clock) = clock {
        command.env("LD_PRELOAD", clock_library()).env("SERVER_CLOCK", &clock.file);
    }
    for (name, value) in options {
        // Several words of one option, such as of `user` or `save`, are arguments of their own.
        command.arg(format!("--{name}")).args(value.split(' '));
    }
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    spawned.unwrap_or_else(|error| {
        panic!("`redis-server` does not start ({error}): `tests/run.sh` installs it")
    })
}

/// Returns the server that is started: `redis-server`, or what `REDIS_SERVER` names.
pub(crate) fn server_program() -> String {
    std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

/// Returns the name and the version of the server that is started.
pub(crate) fn server_name() -> String {
    let said = Command::new(server_program()).arg("--version").output().unwrap().stdout;
    let said = String::from_utf8_lossy(&said).to_lowercase();
    let version = said.split_once("v=").map(|(_, rest)| rest.split(' ').next().unwrap_or_default());
    let name = if said.contains("valkey") { "valkey" } else { "redis" };
    format!("{name} {}", version.unwrap_or_default())
}

impl Clock {
    /// Writes where it stands, in place: the server has mapped the file.
    fn write(&self) {
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&self.file);
        file.unwrap().write_all(&self.ahead.to_ne_bytes()).unwrap();
    }
}

/// Builds the library through which a server reads a clock of its own.
fn clock_library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/clock.c");
        let library = new_folder().join("clock.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(source);
        assert!(compiler.status().expect("a C compiler").success(), "the clock is built");
        library
    })
}

/// Returns a port that nobody listened on a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Makes an empty folder for something temporary.
pub(crate) fn new_folder() -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("support-cache-redis-{}-{count}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}
