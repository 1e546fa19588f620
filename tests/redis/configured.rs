//! Stores that a configuration file makes: they are those that the setters make.

use std::convert::Infallible;

use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use tower::{Layer, ServiceExt, service_fn};
use tower_support_cache::{
    ChosenStore, RedisStoreBuilder, SealKey, SupportCacheHandle, SupportCacheLayer,
    config::{Closures, ConfigFile},
};

use super::*;
use crate::{
    dialect::{ENTERPRISE, Imitation, UPSTASH},
    records::record,
};

/// Returns the layer of a file with these lines about its store, and the route and digests of [`layer_on`].
fn layer(url: &str, lines: &str) -> SupportCacheLayer<ChosenStore> {
    let text = format!(
        "caller_key = \"{caller_key}\"\n\
         [store]\nkind = \"redis\"\nurl = \"{url}\"\nnear_cache_capacity = \"0B\"\n\
         lookup_budget = \"30s\"\ninvalidate_budget = \"30s\"\nheartbeat_timeout = \"800ms\"\n{lines}\n\
         [[cache]]\npattern = \"/cases/{{case}}\"\nbucket = \"cases\"\nkey = \"case:{{case}}\"\n\
         ttl = \"60s\"\njitter = 0\n",
        caller_key = "01".repeat(32)
    );
    ConfigFile::parse("cache.toml", &text).unwrap().layer(&Closures::new()).unwrap()
}

/// Returns the body that answers `/cases/1`; the origin has `new`.
async fn ask(layer: &SupportCacheLayer<ChosenStore>, new: &'static str) -> String {
    let origin = service_fn(move |_: Request<Empty<Bytes>>| async move {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(new)))
    });
    let response = layer.layer(origin).oneshot(get("/cases/1")).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

async fn is_linked(handle: &SupportCacheHandle) {
    until(PATIENCE, "there is a link", async || {
        let is_acknowledged = handle.invalidate("another").await.is_ok();
        (is_acknowledged && handle.metrics().store?.is_linked).then_some(())
    })
    .await;
}

/// Asserts that what one of the two stores, another way made, the other answers with.
async fn agree(server: &Server, lines: &str, set: impl Fn(RedisStoreBuilder) -> RedisStoreBuilder) {
    let made = layer(&server.url(), lines);
    is_linked(&made.handle()).await;
    let mut site = Site::over(set(patient(&server.url())).build().unwrap()).await;
    site.fill("secret").await;
    assert_eq!(ask(&made, "the file's store found nothing").await, "secret", "{lines}");
    made.handle().invalidate("case:1").await.unwrap();
    until(PATIENCE, "the file's store fills", async || {
        ask(&made, "another secret").await;
        let fields: Vec<String> = server.command(&["HKEYS", "case:1"]).await;
        fields.iter().any(|field| field.starts_with("v:")).then_some(())
    })
    .await;
    site.hits("another secret").await;
    server.run(&["DEL", "case:1"]).await;
}

#[tokio::test]
async fn a_file_encodes_records_as_the_setters_do() {
    let server = Server::start().await;
    let key = SealKey::new;
    let [first, second] = [format!("\"{}\"", "01".repeat(32)), format!("\"{}\"", "02".repeat(32))];
    agree(&server, "", |store| store).await;
    agree(&server, &format!("seal_key = {first}"), |store| store.authenticate(key([1; 32]))).await;
    agree(&server, "compress_from = \"64B\"", |store| store.compress_from(64)).await;
    agree(&server, &format!("encryption_key = {first}"), |store| store.encrypt(key([1; 32]))).await;
    // Each decrypts what the other encrypts.
    let lines = format!("encryption_key = {first}\ndecryption_key = {second}");
    agree(&server, &lines, |store| store.encrypt(key([2; 32])).decrypt_also(key([1; 32]))).await;
}

#[tokio::test]
async fn a_file_compresses_from_the_size_that_it_names() {
    let server = Server::start().await;
    let text: &str = Box::leak("all the same ".repeat(100).into_boxed_str());
    let mut lengths = Vec::new();
    for lines in ["", "compress_from = \"100KiB\"", "compress_from = \"1KiB\""] {
        let made = layer(&server.url(), lines);
        is_linked(&made.handle()).await;
        until(PATIENCE, "a record is there", async || {
            assert_eq!(ask(&made, text).await, text);
            let fields: Vec<String> = server.command(&["HKEYS", "case:1"]).await;
            fields.iter().any(|field| field.starts_with("v:")).then_some(())
        })
        .await;
        lengths.push(record(&server, "case:1").await.1.len());
        server.run(&["DEL", "case:1"]).await;
    }
    let [plain, under, over] = lengths[..] else { panic!("three records") };
    assert_eq!(plain, under);
    assert!(over * 2 < plain, "{over} of {plain}");
}

#[tokio::test]
async fn a_file_says_which_server_is_accepted() {
    let server = Server::start().await;
    let upstash = Imitation::of(server.port, UPSTASH).await;
    let enterprise = Imitation::of(server.port, ENTERPRISE).await;
    is_linked(&layer(&upstash.url(), "server_identity = \"token_alone\"").handle()).await;
    is_linked(&layer(&enterprise.url(), "require = [\"run-id\", \"resp3\"]").handle()).await;
    for (url, lines) in [
        (upstash.url(), "server_identity = \"reported\""),
        (enterprise.url(), "require = [\"tracking\"]"),
    ] {
        let made = layer(&url, lines);
        let is_forwarded = async || {
            assert_eq!(ask(&made, "from the origin").await, "from the origin", "{lines}");
        };
        refuses(&server, is_forwarded).await;
        assert!(!made.handle().metrics().store.unwrap().is_linked, "{lines}");
    }
}
