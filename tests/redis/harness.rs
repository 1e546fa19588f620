//! Tests of the harness: servers and proxy do what their names say.

use std::time::Duration;

use redis::RedisResult;

use crate::{
    proxy::Proxy,
    server::{Disk, PATIENCE, Server, until},
};

/// Less than a busy machine needs for a reply, if one came at all.
const BRIEFLY: Duration = Duration::from_millis(300);

async fn value(server: &Server) -> Option<String> {
    server.command(&["GET", "a"]).await
}

#[tokio::test]
async fn a_server_is_killed_with_its_value() {
    let server = Server::start().await;
    let (client, port) = (redis::Client::open(server.url()).unwrap(), server.port);
    assert_ne!(port, 6379);
    server.run(&["SET", "a", "1"]).await;
    drop(server);
    assert!(client.get_multiplexed_async_connection().await.is_err());
}

#[tokio::test]
async fn a_server_comes_back_empty_or_with_what_was_saved() {
    let mut server = Server::start().await;
    server.run(&["SET", "a", "saved"]).await;
    server.save().await;
    server.run(&["SET", "a", "not saved"]).await;
    server.kill();
    assert!(server.ask::<String>(&["PING"]).await.is_err());
    server.restart(Disk::Kept).await;
    assert_eq!(value(&server).await.as_deref(), Some("saved"));
    server.kill();
    server.restart(Disk::Empty).await;
    assert_eq!(value(&server).await, None);
}

#[tokio::test]
async fn a_server_comes_back_with_its_append_only_file() {
    let mut server = Server::with(&[("appendonly", "yes")]).await;
    server.run(&["SET", "a", "1"]).await;
    server.kill();
    server.restart(Disk::Kept).await;
    assert_eq!(value(&server).await.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_stopped_server_answers_nobody_until_it_goes_on() {
    let server = Server::start().await;
    let mut connection = server.connection().await.unwrap();
    server.stop();
    let reply: Result<RedisResult<String>, _> =
        tokio::time::timeout(BRIEFLY, redis::cmd("PING").query_async(&mut connection)).await;
    assert!(reply.is_err());
    server.cont();
    server.run(&["PING"]).await;
}

#[tokio::test]
async fn a_replica_is_in_step_and_can_be_promoted() {
    let (primary, replica) = (Server::start().await, Server::start().await);
    primary.run(&["SET", "a", "1"]).await;
    replica.follow(primary.port).await;
    assert_eq!(value(&replica).await.as_deref(), Some("1"));
    let refused = replica.ask::<()>(&["SET", "a", "2"]).await.unwrap_err();
    assert_eq!(refused.code(), Some("READONLY"));
    replica.promote().await;
    replica.run(&["SET", "a", "2"]).await;
}

#[tokio::test]
async fn commands_are_counted() {
    let server = Server::start().await;
    for _ in 0..3 {
        server.run(&["HMGET", "a", "b"]).await;
    }
    assert_eq!(server.calls().await["hmget"], 3);
}

#[tokio::test]
async fn a_proxy_freezes_thaws_cuts_and_leads_elsewhere() {
    let (server, other) = (Server::start().await, Server::start().await);
    server.run(&["SET", "a", "1"]).await;
    other.run(&["SET", "a", "2"]).await;
    let proxy = Proxy::to(server.port).await;
    let client = redis::Client::open(proxy.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut get = async || -> RedisResult<String> {
        redis::cmd("GET").arg("a").query_async(&mut connection).await
    };
    assert_eq!(get().await.unwrap(), "1");
    proxy.freeze();
    assert!(tokio::time::timeout(BRIEFLY, get()).await.is_err());
    proxy.thaw();
    assert_eq!(get().await.unwrap(), "1");
    proxy.lead_to(other.port);
    assert_eq!(get().await.unwrap(), "1", "an open connection stays where it is");
    proxy.cut();
    until(PATIENCE, "the connection is cut", async || get().await.is_err().then_some(())).await;
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let found: String = redis::cmd("GET").arg("a").query_async(&mut connection).await.unwrap();
    assert_eq!(found, "2");
}
