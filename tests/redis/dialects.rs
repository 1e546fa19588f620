//! Services that speak as Redis does, and not quite. All of them are *imitated* (`support/dialect.rs`).

use std::time::{Duration, Instant};

use redis::{Client, Cmd, RedisResult, Value, aio::MultiplexedConnection};
use tower_support_cache::{RedisStore, RedisStoreBuilder};

use crate::{
    Site,
    dialect::{self, Dialect, Imitation},
    server::{PATIENCE, Server},
};

async fn connection(imitation: &Imitation) -> MultiplexedConnection {
    let client = Client::open(imitation.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

fn command(text: &str) -> Cmd {
    let mut command = Cmd::new();
    text.split(' ').for_each(|word| {
        command.arg(word);
    });
    command
}

/// Returns a builder that is patient, with a near cache.
fn near(url: &str) -> RedisStoreBuilder {
    RedisStore::builder(url)
        .lookup_budget(PATIENCE)
        .invalidate_budget(PATIENCE)
        .heartbeat_timeout(Duration::from_millis(800))
}

// ===== the imitations =====

#[tokio::test]
async fn an_imitation_refuses_what_its_service_refuses_in_its_words() {
    let server = Server::start().await;
    for (dialect, refused, words) in [
        (dialect::ELASTICACHE, "CONFIG GET maxmemory", "unknown command 'CONFIG'"),
        (dialect::ENTERPRISE, "client tracking on", "unknown subcommand 'TRACKING'"),
        (dialect::GARNET, "EVAL return 0", "Lua scripting support disabled"),
        (dialect::DRAGONFLY, "EVAL #!lua\nreturn 0", "Invalid flag"),
        (dialect::TENCENT, "HELLO 3", "unsupported protocol version"),
    ] {
        let imitation = Imitation::of(server.port, dialect).await;
        let mut connection = connection(&imitation).await;
        let replies = ["PING 1", refused, "PING 2"].map(command);
        let mut found: Vec<RedisResult<Value>> = Vec::new();
        for command in replies {
            found.push(command.query_async(&mut connection).await);
        }
        let error = found[1].as_ref().unwrap_err().to_string();
        assert!(error.contains(words), "{}: {error}", dialect.name);
        assert!(found[0].is_ok() && found[2].is_ok(), "{}: what is around it", dialect.name);
    }
}

#[tokio::test]
async fn an_imitation_leaves_out_what_its_service_does_not_tell() {
    let server = Server::start().await;
    let dragonfly = Imitation::of(server.port, dialect::DRAGONFLY).await;
    let upstash = Imitation::of(server.port, dialect::UPSTASH).await;
    let info = async |imitation: &Imitation, section: &str| -> String {
        let mut ask = command("INFO");
        ask.arg(section).query_async(&mut connection(imitation).await).await.unwrap()
    };
    let text = info(&dragonfly, "server").await;
    assert!(text.contains("uptime_in_seconds:") && !text.contains("run_id:"), "{text}");
    assert!(info(&dragonfly, "replication").await.contains("master_replid:"));
    assert_eq!(info(&upstash, "replication").await, "# Replication\r\n");
}

#[tokio::test]
#[allow(clippy::disallowed_methods)] // It is of real time.
async fn a_round_trip_takes_its_time_and_replies_stay_in_order() {
    let server = Server::start().await;
    let imitation = Imitation::of(server.port, dialect::FAR).await;
    let mut connection = connection(&imitation).await;
    let began = Instant::now();
    let mut pipeline = redis::pipe();
    for number in 0..100 {
        pipeline.cmd("ECHO").arg(number);
    }
    let replies: Vec<u32> = pipeline.query_async(&mut connection).await.unwrap();
    assert!(replies.into_iter().eq(0..100));
    let took = began.elapsed();
    assert!((Duration::from_millis(30)..Duration::from_secs(1)).contains(&took), "{took:?}");
}

// ===== the store over them =====

/// Fills, hits, invalidates and fills again, by two processes.
async fn is_served(dialect: Dialect) {
    let server = Server::start().await;
    let imitation = Imitation::of(server.port, dialect).await;
    let site = async || {
        let store = near(&imitation.url()).build().unwrap();
        Site::lazy(store, |route| route.tag("all")).linked().await
    };
    let (mut site, mut other) = (site().await, site().await);
    site.fill("old").await;
    other.hits("old").await;
    other.handle.invalidate("case:1").await.unwrap();
    site.fill("new").await;
    other.hits("new").await;
    site.handle.invalidate_tag("all").await.unwrap();
    other.fill("newest").await;
    assert_eq!(site.store().pending, 0, "{}", dialect.name);
}

#[tokio::test]
async fn a_service_that_forbids_what_the_store_does_not_need_is_served() {
    for dialect in [
        dialect::ONE_MS,
        dialect::ELASTICACHE,
        dialect::MEMORYSTORE,
        dialect::ENTERPRISE,
        dialect::TENCENT,
        dialect::DRAGONFLY,
        dialect::KEYDB,
    ] {
        is_served(dialect).await;
    }
}

#[tokio::test]
async fn a_server_that_is_far_is_served() {
    is_served(dialect::FAR).await;
}
