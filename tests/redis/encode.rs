//! Coded forms over Redis: made by one process, for all.

use std::io::Read;

use tower_support_cache::ContentCoding;

use super::*;
use crate::{
    Site, patient,
    records::{put, record},
    server::Server,
    support::{hold_blocking_thread, with, with_one_blocking_thread},
};

const JSON: (&str, &str) = ("content-type", "application/json");

fn text(word: &str) -> &'static str {
    Box::leak(format!("[{}]", vec![format!("{{\"case\":\"{word}\"}}"); 200].join(",")).into())
}

async fn site(store: RedisStoreBuilder) -> Site {
    let store = store.build().unwrap();
    Site::lazy(store, |route| route.tag("all").encode([ContentCoding::Gzip])).linked().await
}

/// Reads by gzip; if the origin is asked, it answers with `body`.
async fn read(site: &mut Site, body: &'static str) -> (String, bool) {
    let mut reading = send(&site.cache, with(get("/cases/1"), "accept-encoding", "gzip"));
    let got = loop {
        tokio::select! {
            read = &mut reading => break read.unwrap().expect("no request fails"),
            call = site.calls.next() => call.with(200, JSON, body),
        }
    };
    let is_coded = got.fields.contains_key("content-encoding");
    let mut decoded = String::new();
    match is_coded {
        true => {
            let body = got.body.unwrap();
            flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut decoded).unwrap();
        }
        false => got.text().clone_into(&mut decoded),
    }
    (decoded, is_coded)
}

async fn is_coded(site: &mut Site, body: &'static str) {
    until(PATIENCE, "it is encoded", async || {
        let (text, is_coded) = read(site, body).await;
        assert_eq!(text, body);
        is_coded.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_coded_form_is_made_by_one_process_and_found_by_all() {
    let server = Server::start().await;
    let stores = || {
        [
            patient(&server.url()),
            patient(&server.url()).near_cache_capacity(1 << 20),
            patient(&server.url()).compress_from(64),
        ]
    };
    for (writer, reader) in stores().into_iter().zip(stores()) {
        let (mut one, mut other) = (site(writer).await, site(reader).await);
        let (old, new) = (text("old"), text("new"));
        is_coded(&mut one, old).await;
        assert_eq!(read(&mut other, "asked").await, (old.to_owned(), true));
        // What has started since finds it, too.
        assert_eq!(read(&mut site(patient(&server.url())).await, "asked").await.0, old);
        assert_eq!((one.handle.metrics().encoded, other.handle.metrics().encoded), (1, 0));
        other.handle.invalidate("case:1").await.unwrap();
        until(PATIENCE, "the message is there", async || {
            (read(&mut one, new).await == (new.to_owned(), false)).then_some(())
        })
        .await;
        is_coded(&mut one, new).await;
        one.handle.invalidate_tag("all").await.unwrap();
        until(PATIENCE, "the message is there", async || {
            (read(&mut other, old).await.0 == old).then_some(())
        })
        .await;
        is_coded(&mut other, old).await;
        server.run(&["FLUSHALL"]).await;
    }
}

/// A coded body is not compressed once more, and a plain one beside it is.
#[tokio::test]
async fn what_is_beside_a_coded_form_is_compressed_as_before() {
    let server = Server::start().await;
    let mut one = site(patient(&server.url()).compress_from(64)).await;
    let body = text("the same over and over");
    assert!(!read(&mut one, body).await.1);
    let (_, plain) = record(&server, "case:1").await;
    is_coded(&mut one, body).await;
    let (_, coded) = record(&server, "case:1").await;
    assert!(coded.len() < body.len() / 4 && coded.len() > plain.len(), "{}", coded.len());
}

#[tokio::test]
async fn a_record_with_a_coded_form_that_was_changed_is_a_miss() {
    let server = Server::start().await;
    let mut one = site(patient(&server.url())).await;
    let body = text("a");
    is_coded(&mut one, body).await;
    let (field, good) = record(&server, "case:1").await;
    for at in (64..130).chain([good.len() - 1]) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        put(&server, "case:1", &field, &bytes).await;
        assert_eq!(read(&mut one, "asked").await.0, "asked", "byte {at}");
        server.run(&["DEL", "case:1"]).await;
    }
}

/// What it was made of is not at the server any more.
#[test]
fn a_form_of_what_another_process_has_replaced_meanwhile_is_not_kept() {
    with_one_blocking_thread(async {
        let server = Server::start().await;
        let begin = async || site(patient(&server.url())).await;
        let (mut one, mut other) = (begin().await, begin().await);
        let (old, new) = (text("old"), text("new"));
        assert!(!read(&mut one, old).await.1);
        let encoding = hold_blocking_thread();
        assert_eq!(read(&mut one, "asked").await, (old.to_owned(), false));
        other.handle.invalidate("case:1").await.unwrap();
        assert_eq!(read(&mut other, new).await, (new.to_owned(), false));
        drop(encoding);
        until(PATIENCE, "it is made", async || (one.handle.metrics().encoded == 1).then_some(()))
            .await;
        for _ in 0..20 {
            for site in [&mut one, &mut other] {
                assert_eq!(read(site, "asked").await.0, new);
            }
        }
    });
}
