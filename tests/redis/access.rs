//! Servers that ask who is there, or allow little: it works with what is there, or is a bypass.

use std::{
    io::{self, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tower_support_cache::{
    ConfigErrorKind, RedisCredentials, RedisStore,
    store::{PrimaryKey, Store, Strength, Tag},
};

use crate::{
    Site, patient,
    server::{Disk, PATIENCE, Server, free_port, until},
    support::TTL,
};

/// Makes a user of the server with these rules, besides all keys and commands.
async fn user(server: &Server, rules: &[&str]) {
    let mut words = vec!["ACL", "SETUSER", "cache", "reset", "on", ">secret", "~*", "&*", "+@all"];
    words.extend(rules);
    server.run(&words).await;
}

fn store(server: &Server) -> RedisStore {
    patient(&server.url()).username("cache").password("secret").build().unwrap()
}

#[tokio::test]
async fn a_user_and_a_password_are_sent() {
    let server = Server::start().await;
    user(&server, &[]).await;
    Site::over(store(&server)).await.fill("one").await;
    let url = format!("redis://cache:secret@127.0.0.1:{}/", server.port);
    Site::over(RedisStore::connect(&url).unwrap()).await.hits("one").await;
    let clients: String = server.command(&["CLIENT", "LIST"]).await;
    assert!(clients.contains("user=cache"), "{clients}");
}

#[tokio::test]
async fn a_wrong_password_is_a_bypass_and_shown_nowhere() {
    let server = Server::start().await;
    user(&server, &[]).await;
    let store = patient(&server.url()).username("cache").password("wr0ng").build().unwrap();
    assert!(!format!("{store:?}").contains("wr0ng"));
    let mut site = Site::lazy(store, |route| route);
    for _ in 0..5 {
        assert_eq!(site.read("origin").await.text(), "origin");
    }
    assert!(site.handle.invalidate("case:1").await.is_err());
}

#[tokio::test]
async fn a_user_who_may_not_ask_who_the_server_is_bypasses() {
    let server = Server::start().await;
    user(&server, &["-info"]).await;
    let mut site = Site::lazy(store(&server), |route| route);
    for _ in 0..5 {
        let read = site.read("origin").await;
        assert_eq!((read.text(), read.is_hit()), ("origin", false));
    }
    assert!(!site.store().is_linked);
    user(&server, &[]).await;
    site.is_linked_again().await;
    site.fill("one").await;
}

/// Each of these may be forbidden: there is another way.
#[tokio::test]
async fn a_user_who_may_do_little_is_served() {
    for rules in [
        &["-role"][..],
        &["-script"],
        &["-client"],
        &["-role", "-script", "-client"],
        &["-@dangerous", "+info"],
    ] {
        let server = Server::start().await;
        user(&server, rules).await;
        let mut site = Site::over(store(&server)).await;
        site.fill("one").await;
        site.handle.invalidate("case:1").await.unwrap();
        assert_eq!(site.read("two").await.text(), "two", "{rules:?}");
        site.handle.invalidate_all().await.unwrap();
        assert_eq!(site.read("three").await.text(), "three", "{rules:?}");
    }
}

/// What the docs of `RedisStoreBuilder::username` name is enough for everything.
#[tokio::test]
async fn a_user_who_may_do_what_the_docs_name_and_no_more_is_served_in_full() {
    let docs = include_str!("../../src/store/redis/builder.rs");
    let (_, named) = docs.split_once("It needs ").expect("they name commands");
    let (named, _) = named.split_once("Besides").expect("and then keys");
    let named: Vec<_> = named.split('`').skip(1).step_by(2).map(str::to_lowercase).collect();
    let allowed = named.iter().map(|name| format!("+{}", name.replace(' ', "|")));
    // One key is that of `is_linked_again`.
    let keys = ["resetkeys", "~case:*", "~another", "~tower-support-cache:*", "-@all"];
    let keys = keys.map(str::to_owned);
    let rules: Vec<_> = keys.into_iter().chain(allowed).collect();
    let server = Server::start().await;
    user(&server, &rules.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut site = Site::lazy(store(&server), |route| route.tag("all").stale_while_revalidate(TTL));
    site.is_linked_again().await;
    let handle = site.handle.clone();
    for round in 0..2 {
        site.fill("old").await;
        handle.invalidate("case:1").await.unwrap();
        site.fill("new").await;
        handle.invalidate_tag("all").await.unwrap();
        site.fill("newer").await;
        handle.soft_invalidate("case:1").await.unwrap();
        handle.soft_invalidate_tag("all").await.unwrap();
        handle.invalidate_all().await.unwrap();
        assert_eq!(site.store().pending, 0, "{round}");
    }
    let store = store(&server);
    for subject in [PrimaryKey::new("case:1").into(), Tag::new("all").into()] {
        for strength in [Strength::Hard, Strength::Soft] {
            until(PATIENCE, "it is acknowledged", async || {
                store.unsettle(&subject, strength, PATIENCE).await.ok()
            })
            .await;
        }
    }
}

/// Not enough to fill or to invalidate, and still no reason to fail.
#[tokio::test]
async fn a_user_who_may_do_too_little_is_forwarded() {
    for rules in [
        &["-hget"][..],
        &["-hmget"],
        &["-evalsha", "-eval"],
        &["-hset"],
        &["-@write"],
        &["resetkeys"],
    ] {
        let server = Server::start().await;
        user(&server, rules).await;
        let store = RedisStore::builder(server.url()).username("cache").password("secret");
        let mut site = Site::lazy(store.build().unwrap(), |route| route);
        for _ in 0..10 {
            let read = site.read("origin").await;
            assert_eq!((read.text(), read.is_hit()), ("origin", false), "{rules:?}");
        }
    }
}

#[tokio::test]
async fn a_service_starts_while_its_server_is_down() {
    let mut server = Server::start().await;
    server.kill();
    let mut site = Site::lazy(RedisStore::connect(server.url()).unwrap(), |route| route);
    for _ in 0..10 {
        assert_eq!(site.read("origin").await.text(), "origin");
    }
    server.restart(Disk::Empty).await;
    site.fill("stored").await;
}

/// A server that is starting answers `LOADING`, and is used once it has started.
#[tokio::test]
async fn sec_red_7_a_server_that_is_loading_is_a_bypass_until_it_has() {
    let mut server = Server::start().await;
    for number in 0..100 {
        server.run(&["SET", &format!("other:{number}"), &"x".repeat(4096)]).await;
    }
    server.save().await;
    let mut site = Site::prompt(&server.url()).await;
    site.fill("old").await;
    server.kill();
    server.option("key-load-delay", "20000");
    server.option("loading-process-events-interval-bytes", "1024");
    server.begin_restart();
    until(PATIENCE, "the server is loading", async || {
        let error = server.ask::<String>(&["GET", "a"]).await.err()?;
        (error.code() == Some("LOADING")).then_some(())
    })
    .await;
    for _ in 0..5 {
        assert_eq!(site.read("meanwhile").await.text(), "meanwhile");
    }
    site.fill("new").await;
}

/// `CLUSTERDOWN` and `MOVED`, from a cluster that has not been told of.
#[tokio::test]
async fn sec_red_7_a_cluster_that_does_not_have_the_key_is_forwarded() {
    let server = Server::with(&[("cluster-enabled", "yes")]).await;
    let store = RedisStore::connect(server.url()).unwrap();
    let mut site = Site::lazy(store, |route| route);
    for _ in 0..10 {
        assert_eq!(site.read("origin").await.text(), "origin");
    }
    assert!(site.handle.invalidate("case:1").await.is_err());
}

/// Nobody listens, or something else does.
#[tokio::test]
async fn sec_red_7_what_is_no_redis_server_is_forwarded() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await;
        }
    });
    for port in [port, free_port()] {
        let store = RedisStore::connect(format!("redis://127.0.0.1:{port}/")).unwrap();
        let mut site = Site::lazy(store, |route| route);
        for _ in 0..20 {
            assert_eq!(site.read("origin").await.text(), "origin");
        }
        let flushed = site.handle.flush_pending(Duration::from_millis(10)).await;
        assert!(flushed.is_ok(), "nothing is pending");
    }
}

async fn no_credentials() -> Result<RedisCredentials, std::io::Error> {
    Err(std::io::Error::other("the vault is sealed"))
}

/// As IAM and Entra do: each password is good for one connection.
#[tokio::test]
async fn credentials_that_rotate_are_asked_for_at_each_connection() {
    let server = Server::start().await;
    user(&server, &[">token-0"]).await;
    let number = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&number);
    let source = move || {
        let token = format!("token-{}", asked.load(Ordering::SeqCst));
        async { Ok::<_, std::convert::Infallible>(RedisCredentials::new("cache", token)) }
    };
    let mut site = Site::over(patient(&server.url()).credentials(source).build().unwrap()).await;
    site.fill("stored").await;
    server.run(&["ACL", "SETUSER", "cache", "resetpass", ">token-1"]).await;
    number.store(1, Ordering::SeqCst);
    server.kill_clients().await;
    until(PATIENCE, "the link is lost", async || (site.store().links_lost > 0).then_some(())).await;
    site.is_linked_again().await;
    site.hits("stored").await;
}

#[tokio::test]
async fn a_service_without_credentials_bypasses_and_says_why() {
    let server = Server::start().await;
    let store = patient(&server.url()).credentials(no_credentials).build().unwrap();
    let error = store.linked(Duration::from_millis(100)).await.unwrap_err().to_string();
    assert!(error.contains("the vault is sealed"), "{error}");
    let mut site = Site::lazy(store, |route| route);
    assert_eq!(site.read("origin").await.text(), "origin");
}

/// A log that a test reads.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn two_programs_that_share_a_namespace_are_warned_of() {
    let (server, log) = (Server::start().await, Log::default());
    let written = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || log.clone()).finish();
    let _default = tracing::subscriber::set_default(subscriber);
    let times = || {
        let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        written.matches("without a namespace").count()
    };
    let store = || patient(&server.url());
    Site::over(store().build().unwrap()).await;
    Site::over(store().build().unwrap()).await;
    assert_eq!(times(), 0, "it is the same program");
    server.run(&["SET", "tower-support-cache:program", "billing"]).await;
    Site::over(store().namespace("portal:").build().unwrap()).await;
    assert_eq!(times(), 0, "it has a namespace of its own");
    Site::over(store().build().unwrap()).await;
    assert_eq!(times(), 1);
}

#[test]
fn a_store_that_cannot_work_is_refused_and_the_error_names_the_setting() {
    let url = "redis://127.0.0.1/";
    let zero = Duration::ZERO;
    for (builder, field) in [
        (RedisStore::builder("http://127.0.0.1/"), "url"),
        (RedisStore::builder("redis://user:secret@:x/"), "url"),
        (RedisStore::builder(url).lookup_budget(zero), "lookup_budget"),
        (RedisStore::builder(url).invalidate_budget(zero), "invalidate_budget"),
        (RedisStore::builder(url).lease(zero), "lease"),
        (RedisStore::builder(url).heartbeat(zero), "heartbeat"),
        (RedisStore::builder(url).heartbeat_timeout(zero), "heartbeat_timeout"),
        (RedisStore::builder(url).breaker(0), "breaker"),
        (RedisStore::builder(url).namespace("a\nb"), "namespace"),
        (RedisStore::builder(url).password("secret").credentials(no_credentials), "credentials"),
        (RedisStore::cluster([url]).database(1), "database"),
        (RedisStore::cluster(Vec::<String>::new()), "urls"),
        (RedisStore::sentinel("main", Vec::<String>::new()), "urls"),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!((error.kind(), error.field()), (ConfigErrorKind::Store, field));
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
