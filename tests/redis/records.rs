//! Whatever stands at a key: it is used only if it is ours, whole, and for this request (SEC-RED-*).

use std::collections::BTreeMap;

use redis::Value;
use tower_support_cache::{RedisStore, SealKey};

use crate::{
    Site, far, patient,
    server::{PATIENCE, Server, until},
    support::{get, got, send},
};

/// The fields of a key's hash.
async fn fields(server: &Server, key: &str) -> BTreeMap<String, Vec<u8>> {
    server.command(&["HGETALL", key]).await
}

/// Returns the field and the bytes of the one record at a key.
pub(crate) async fn record(server: &Server, key: &str) -> (String, Vec<u8>) {
    let fields = fields(server, key).await;
    let is_record = |field: &str| field.starts_with("v:") && !field.ends_with('n');
    let mut records = fields.into_iter().filter(|(field, _)| is_record(field));
    let record = records.next().expect("there is a record");
    assert!(records.next().is_none(), "and one only");
    record
}

/// Puts something at a field. What has been read of it before is read anew.
pub(crate) async fn put(server: &Server, key: &str, field: &str, bytes: &[u8]) {
    let words = [b"HSET", key.as_bytes(), field.as_bytes(), bytes];
    let _: Value = server.ask_bytes(&words).await.unwrap();
    server.run(&["HDEL", key, &format!("{field}n")]).await;
}

async fn remove(server: &Server, key: &str, field: &str) {
    server.run(&["HDEL", key, field, &format!("{field}n")]).await;
}

/// Puts each of `records` where a good one was. Each must be a miss, and be replaced by what the
/// origin says then.
async fn are_misses(server: &Server, site: &mut Site, records: impl Iterator<Item = Vec<u8>>) {
    for (number, bytes) in records.enumerate() {
        let (field, good) = record(server, "case:1").await;
        assert_ne!(bytes, good, "{number}: it is a bad one");
        put(server, "case:1", &field, &bytes).await;
        let read = site.read("new").await;
        assert_eq!((read.status.as_u16(), read.text()), (200, "new"), "{number}: {bytes:?}");
        site.fill("new").await;
        // For the next, whose stamp is to be of the same fill.
        put(server, "case:1", &field, &good).await;
        site.hits("old").await;
    }
}

#[tokio::test]
async fn a_key_is_a_hash_of_records_and_expires() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    site.fill("stored").await;
    let fields = fields(&server, "case:1").await;
    let [(name, record), (name_of_number, number)] = fields.iter().collect::<Vec<_>>()[..] else {
        panic!("two: {:?}", fields.keys());
    };
    assert_eq!((&name[..2], name_of_number), ("v:", &format!("{name}n")));
    assert!(record.windows(number.len()).any(|part| part == number), "the record has its number");
    let left: i64 = server.command(&["PTTL", "case:1"]).await;
    assert!((1..=120_000).contains(&left), "{left} ms: its time and some room");
}

/// The entry of the benchmarks: 1 KiB, six fields. Its record fits into 1,280 bytes of the server's allocator.
#[tokio::test]
async fn an_entry_of_one_kib_takes_little_at_the_server() {
    const FIELDS: [(&str, &str); 6] = [
        ("content-type", "application/json"),
        ("content-length", "1024"),
        ("cache-control", "max-age=3600"),
        ("date", "Sun, 22 Nov 2026 12:00:00 GMT"),
        ("etag", "\"33a64df551425fcc55e4d42a148795d9\""),
        ("last-modified", "Sun, 22 Nov 2026 11:00:00 GMT"),
    ];
    let server = Server::start().await;
    let plain = patient(&server.url());
    let compressing = plain.clone().namespace("zstd:").compress_from(512);
    // A list of cases, none of which is as another.
    let case = |number: u64| {
        let id = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (subject, day) = (["Invoice", "Login", "Delivery"][id as usize % 3], 1 + id % 28);
        format!(
            r#"{{"id":"C{id:x}","subject":"{subject} {number}","updated":"2026-11-{day:02}"}},"#
        )
    };
    let text: &'static str = (1..30).map(case).collect::<String>().leak();
    for (store, key, most) in [(plain, "case:1", 1600), (compressing, "zstd:case:1", 1130)] {
        let Site { cache, calls, .. } = Site::over(store.build().unwrap()).await;
        calls.serve(|_| crate::support::response(200, &FIELDS, &text[..1024]));
        got(send(&cache, get("/cases/1"))).await;
        let bytes: u64 = server.command(&["MEMORY", "USAGE", key]).await;
        let (_, record) = record(&server, key).await;
        assert!(bytes <= most, "{bytes} at the server, {} of the record", record.len());
    }
}

#[tokio::test]
async fn sec_red_2_a_record_with_any_byte_flipped_is_a_miss() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    site.fill("old").await;
    let (_, good) = record(&server, "case:1").await;
    let flipped = (0..good.len()).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        bytes
    });
    are_misses(&server, &mut site, flipped).await;
    assert!(site.store().unreadable > good.len() as u64 / 2, "{:?}", site.store());
}

#[tokio::test]
async fn sec_red_2_a_record_that_is_cut_off_or_has_something_behind_is_a_miss() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    site.fill("old").await;
    let (_, good) = record(&server, "case:1").await;
    let cut = (0..good.len()).step_by(5).map(|length| good[..length].to_vec());
    let extended = [&b"\0"[..], b"more", &good].map(|more| [&good[..], more].concat());
    are_misses(&server, &mut site, cut.chain(extended)).await;
}

#[tokio::test]
async fn sec_red_2_a_record_of_another_version_is_a_miss() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    site.fill("old").await;
    let (_, good) = record(&server, "case:1").await;
    let versions = [b"TSC4", b"TSC6", b"HC1 "].map(|version| [&version[..], &good[4..]].concat());
    let foreign = [&b"{\"json\": true}"[..], b"", b"\xff\xff\xff\xff"].map(<[u8]>::to_vec);
    are_misses(&server, &mut site, versions.into_iter().chain(foreign)).await;
}

#[tokio::test]
async fn sec_red_3_a_record_of_sixteen_megabytes_is_a_miss() {
    let server = Server::start().await;
    let mut site = Site::prompt(&server.url()).await;
    site.fill("old").await;
    let (field, good) = record(&server, "case:1").await;
    let huge = [&good[..], &vec![b'x'; 16 << 20]].concat();
    for bytes in [&huge, &huge[good.len()..]] {
        put(&server, "case:1", &field, bytes).await;
        assert_eq!(site.read("from the origin").await.text(), "from the origin");
        server.run(&["DEL", "case:1"]).await;
        site.fill("new").await;
    }
}

/// A record says for which key and variant it is.
#[tokio::test]
async fn sec_red_1_a_record_that_was_moved_is_a_miss() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    for (target, body) in [("/cases/1", "one"), ("/cases/2", "two"), ("/cases/1?page=2", "three")] {
        let read = site.ask(get(target), body).await;
        assert!(read.cache_status().ends_with(";stored"), "{}", read.cache_status());
    }
    let (own, secret) = record(&server, "case:2").await;
    for (field, _) in fields(&server, "case:1").await {
        put(&server, "case:1", &field, &secret).await;
    }
    put(&server, "case:1", &own, &secret).await;
    assert_eq!(site.read("origin").await.text(), "origin");
    assert_eq!(site.ask(get("/cases/1?page=2"), "origin").await.text(), "origin");
    assert!(site.store().unreadable >= 2, "{:?}", site.store());
}

/// Nor may it be moved from one tenant's namespace to another's.
#[tokio::test]
async fn sec_red_1_a_record_that_was_moved_to_another_namespace_is_a_miss() {
    let server = Server::start().await;
    let at = |namespace: &str| patient(&server.url()).namespace(namespace).build().unwrap();
    let (mut site, mut tenant) = (Site::over(at("a:")).await, Site::over(at("b:")).await);
    site.fill("of a").await;
    tenant.fill("of b").await;
    let (own, secret) = record(&server, "a:case:1").await;
    for field in [own, record(&server, "b:case:1").await.0] {
        put(&server, "b:case:1", &field, &secret).await;
    }
    assert_eq!(tenant.read("origin").await.text(), "origin");
}

/// With a key, who writes to Redis and does not have it can plant nothing.
#[tokio::test]
async fn sec_red_5_a_record_without_the_right_seal_is_a_miss() {
    let server = Server::start().await;
    let url = server.url();
    let sealed = |key: u8| patient(&url).authenticate(SealKey::new([key; 32])).build().unwrap();
    let mut plain = Site::on(&url).await;
    let mut owner = Site::over(sealed(1)).await;
    let mut stranger = Site::over(sealed(2)).await;
    for (body, writer) in [("without a seal", &mut plain), ("of a stranger", &mut stranger)] {
        writer.fill(body).await;
        let read = owner.read("origin").await;
        assert_eq!(read.text(), "origin", "a response {body}");
        server.run(&["DEL", "case:1"]).await;
    }
    owner.fill("sealed").await;
    let (field, good) = record(&server, "case:1").await;
    Site::over(sealed(1)).await.hits("sealed").await;
    for at in (0..good.len()).step_by(3) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        put(&server, "case:1", &field, &bytes).await;
        assert_eq!(owner.read("origin").await.text(), "origin", "byte {at}");
    }
}

/// Each of these deploys reads what the one before has written, and what both write.
#[tokio::test]
async fn keys_of_encryption_rotate_without_a_miss() {
    let server = Server::start().await;
    let (old, new) = (SealKey::new([1; 32]), SealKey::new([2; 32]));
    let store = |current, other| {
        let builder = patient(&server.url()).encrypt(current);
        match other {
            Some(other) => builder.decrypt_also(other),
            None => builder,
        }
    };
    let site = async |current, other| Site::over(store(current, other).build().unwrap()).await;
    let mut deploys = Vec::new();
    for (current, other) in [(old, None), (old, Some(new)), (new, Some(old)), (new, None)] {
        deploys.push(site(current, other).await);
    }
    for before in 0..3 {
        for (writer, reader) in [(before, before + 1), (before + 1, before)] {
            deploys[writer].fill("secret").await;
            // The last deploy has forgotten the first key.
            deploys[reader].hits("secret").await;
            server.run(&["DEL", "case:1"]).await;
        }
    }
    deploys[0].fill("secret").await;
    let (_, good) = record(&server, "case:1").await;
    assert!(!good.windows(6).any(|part| part == b"secret"));
    assert_eq!(deploys[3].read("origin").await.text(), "origin");
    assert_eq!(Site::on(&server.url()).await.read("origin").await.text(), "origin");
    server.run(&["DEL", "case:1"]).await;
    deploys[0].fill("secret").await;
    let (_, good) = record(&server, "case:1").await;
    for at in (0..good.len()).step_by(3) {
        let (field, _) = record(&server, "case:1").await;
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        put(&server, "case:1", &field, &bytes).await;
        assert_eq!(deploys[0].read("origin").await.text(), "origin", "byte {at}");
        server.run(&["DEL", "case:1"]).await;
        deploys[0].fill("secret").await;
    }
}

/// Neither do so in the budget of a lookup, or at the cost of memory: `record/compression.rs` has the limits.
#[tokio::test]
async fn sec_red_3_a_record_that_expands_to_what_it_should_not_is_a_miss() {
    const BODY: &str = include_str!("records.rs");
    let server = Server::start().await;
    let store = || far(&server.url()).compress_from(512).build().unwrap();
    let (mut site, mut other) = (Site::over(store()).await, Site::over(store()).await);
    site.fill(BODY).await;
    other.hits(BODY).await;
    // Any process with the feature reads it.
    Site::on(&server.url()).await.hits(BODY).await;
    let (field, good) = record(&server, "case:1").await;
    assert!(good.len() < BODY.len() / 2, "{} bytes of {}", good.len(), BODY.len());
    // The length that it claims stands behind the line and the form. The checksum is made to fit.
    for claim in [u32::MAX, 1 << 30, 0, BODY.len() as u32 - 1] {
        let mut bytes = good[..good.len() - 4].to_vec();
        bytes[65..69].copy_from_slice(&claim.to_be_bytes());
        let sum = crc32fast::hash(&bytes).to_be_bytes();
        put(&server, "case:1", &field, &[&bytes[..], &sum].concat()).await;
        let unreadable = site.store().unreadable;
        assert_eq!(site.read("origin").await.text(), "origin", "{claim}");
        assert!(site.store().unreadable > unreadable);
        server.run(&["DEL", "case:1"]).await;
        put(&server, "case:1", &field, &good).await;
    }
}

/// The bug of many clients, in which a reply that nobody waits for any more is given to
/// the next.
#[tokio::test]
async fn sec_red_4_ten_thousand_requests_that_are_cancelled_leave_no_reply_to_others() {
    let server = Server::start().await;
    let site = Site::on(&server.url()).await;
    let cache = site.cache.clone();
    site.calls.serve(|head| {
        let mut response = crate::support::response(200, &[], "");
        *response.body_mut() = crate::support::GatedBody::full(head.uri.path().to_owned());
        response
    });
    for round in 0..100 {
        let readings: Vec<_> = (0..100)
            .map(|case| {
                let reading = send(&cache, get(&format!("/cases/{case}")));
                if case % 3 == round % 3 {
                    reading.abort();
                }
                (case, reading)
            })
            .collect();
        for (_, reading) in readings.iter().take(round) {
            tokio::task::yield_now().await;
            reading.abort();
        }
        for (case, reading) in readings {
            if let Ok(read) = reading.await {
                assert_eq!(read.unwrap().text(), format!("/cases/{case}"));
            }
        }
    }
    for case in 0..100 {
        let target = format!("/cases/{case}");
        assert_eq!(got(send(&cache, get(&target))).await.text(), target);
    }
}

/// Characters that may be in a path and mean something to Redis, to its patterns, to scripts or in a
/// namespace each make a key of its own.
#[tokio::test]
async fn sec_key_3_each_key_is_its_own_at_the_server() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    let cases = [
        "1",
        "01",
        "1%20",
        "1:2",
        "1%3A2",
        "1%253A2",
        "a",
        "A",
        "a%0A",
        "a%00b",
        "%C3%A4",
        "%C3%84",
        "K",
        "%E2%84%AA",
        "*",
        "%3F",
        "%5B1%5D",
        "%7B1%7D",
        "1%0D%0ADEL%20case:1",
        "v:1",
        "s:1",
        "%25",
    ];
    for case in cases {
        let body = &*case.to_owned().leak();
        let read = site.ask(get(&format!("/cases/{case}")), body).await;
        assert!(read.cache_status().ends_with(";stored"), "{case}: {}", read.cache_status());
    }
    for case in cases {
        let read = site.ask(get(&format!("/cases/{case}")), "not stored").await;
        assert_eq!(read.text(), case);
    }
    let keys: Vec<Vec<u8>> = server.command(&["KEYS", "case:*"]).await;
    // `1:2` and `1%3A2` are one value, written in two ways, and so one key with two variants.
    assert_eq!(keys.len(), cases.len() - 1, "{keys:?}");
}

#[tokio::test]
async fn sec_key_8_no_key_is_a_pattern_or_a_command() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    site.fill("one").await;
    for key in [
        "*",
        "case:*",
        "case:?",
        "case:[1]",
        "case:1*",
        "",
        "case:",
        "case:1 case:1",
        "case:1\n",
        "x\r\nDEL case:1\r\n",
        "') redis.call('FLUSHALL') --",
        "case:1\0",
    ] {
        let _ = site.handle.invalidate(key).await;
        site.hits("one").await;
    }
    let comments = "/cases/%2A/comments";
    let written = site.ask(crate::support::request(http::Method::POST, comments), "").await;
    assert_eq!(written.status, 200);
    site.hits("one").await;
}

/// Foreign data is not ours to delete, and no reason to fail.
#[tokio::test]
async fn a_key_that_holds_something_else_is_bypassed_and_left_alone() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    site.fill("old").await;
    for (number, put) in [
        &["SET", "case:1", "theirs"][..],
        &["RPUSH", "case:1", "theirs"],
        &["SADD", "case:1", "theirs"],
        &["ZADD", "case:1", "1", "theirs"],
    ]
    .into_iter()
    .enumerate()
    {
        server.run(&["DEL", "case:1"]).await;
        server.run(put).await;
        let before: Vec<u8> = server.command(&["DUMP", "case:1"]).await;
        for _ in 0..3 {
            let read = site.read("origin").await;
            assert_eq!((read.text(), read.is_hit()), ("origin", false));
        }
        let after: Vec<u8> = server.command(&["DUMP", "case:1"]).await;
        assert_eq!(before, after, "{put:?}");
        assert!(site.store().foreign > number as u64);
    }
    server.run(&["DEL", "case:1"]).await;
    site.fill("new").await;
}

/// Also what is in our hash and is not of our kind.
#[tokio::test]
async fn sec_red_2_fields_that_are_no_records_do_no_harm() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    site.fill("old").await;
    put(&server, "case:1", "theirs", b"\0\xff").await;
    site.hits("old").await;
    let (field, _) = record(&server, "case:1").await;
    let lease = field.replacen("v:", "l:", 1);
    for nonsense in [&b""[..], b"nonsense", b"\xff\xff", b"0 0 0 0", b"zz 99999999999999999999 0"] {
        remove(&server, "case:1", &field).await;
        put(&server, "case:1", &lease, nonsense).await;
        site.fill("new").await;
    }
    let outdated = field.replacen("v:", "s:", 1);
    let (_, good) = record(&server, "case:1").await;
    let outdated_in_the_past = [b"0000000000001 ", &good[..]].concat();
    for nonsense in
        [&b""[..], b"nonsense", b"0000000000001", b"000000000000x ", &good, &outdated_in_the_past]
    {
        remove(&server, "case:1", &field).await;
        put(&server, "case:1", &outdated, nonsense).await;
        site.fill("newer").await;
    }
}

/// The key of what counts for everything is as open to others as any.
#[tokio::test]
async fn a_nonsensical_epoch_does_no_harm() {
    let server = Server::start().await;
    let mut site = Site::on(&server.url()).await;
    site.fill("old").await;
    let keys: Vec<String> = server.command(&["KEYS", "*"]).await;
    let epoch = keys.iter().find(|key| *key != "case:1").expect("there is an epoch").clone();
    for put in [&["SET", &epoch, "nonsense"][..], &["DEL", &epoch]] {
        server.run(put).await;
        until(PATIENCE, "the site works again", async || {
            site.read("old").await.is_hit().then_some(())
        })
        .await;
    }
    server.run(&["DEL", &epoch]).await;
    server.run(&["RPUSH", &epoch, "theirs"]).await;
    for _ in 0..20 {
        assert_eq!(site.read("old").await.status, 200);
    }
}

#[tokio::test]
async fn a_store_is_made_without_a_server_and_refuses_what_is_no_address() {
    assert!(RedisStore::connect("redis://127.0.0.1:1/").is_ok());
    for url in ["", "nonsense", "http://127.0.0.1/", "redis://"] {
        let refused = RedisStore::connect(url).map(drop);
        assert!(refused.is_err(), "{url:?}");
    }
}
