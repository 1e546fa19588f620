//! Configuration files: they make the layer that the setters make, and each mistake is named with its line.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{Empty, Full};
use tokio::time::timeout;
use tower::{Layer, ServiceExt, service_fn};
use tower_support_cache::{
    ConfigErrorKind,
    config::{Closures, ConfigFile, Reloader},
};

use crate::support::GatedBody;

const PORTAL: &str = r#"
name = "portal"

[store]
kind = "memory"
capacity = "16MiB"

[[cache]]
pattern = "/accounts/{account}/cases"
bucket = "case_list"
key = "support:cases:{account}"
tags = ["account:{account}"]
ttl = "2m"
jitter = 0

[[cache]]
pattern = "/inbox"
bucket = "inbox"
key_with = "user"
credentials = { per_caller = { named = "user" } }
ttl = "30s"
store_if = "complete"

[[invalidate]]
method = "POST"
pattern = "/accounts/{account}/cases"
keys = ["support:cases:{account}"]
"#;

fn closures() -> Closures {
    Closures::new()
        .text("user", |request| Some(request.headers().get("x-user")?.to_str().ok()?.to_owned()))
        .reads("searches", |_, content| content.starts_with(b"?"))
        .ttl_with("short", 1, |_| Some(Duration::from_secs(5)))
        .store_if("complete", 1, |head| !head.headers.contains_key("x-partial"))
}

/// Returns the end of a request to a layer that a file makes, as `Cache-Status` tells it.
async fn status(file: &ConfigFile, requests: &[(Method, &str, &str)]) -> Vec<String> {
    let layer = file.layer(&closures()).unwrap();
    let service = layer.layer(service_fn(async |_: Request<Empty<Bytes>>| {
        Ok::<_, std::convert::Infallible>(Response::new(GatedBody::full("x")))
    }));
    let mut all = Vec::new();
    for (method, uri, user) in requests {
        let request = Request::builder().method(method).uri(*uri).header("x-user", *user);
        let request = request.body(Empty::new()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        all.push(response.headers()["cache-status"].to_str().unwrap().to_owned());
        http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
    }
    all
}

#[tokio::test(start_paused = true)]
async fn a_file_makes_the_layer_that_the_setters_make() {
    let get = |uri, user| (Method::GET, uri, user);
    let requests = [
        get("/accounts/A1/cases", ""),
        get("/accounts/A1/cases", ""),
        (Method::POST, "/accounts/A1/cases", ""),
        get("/accounts/A1/cases", ""),
        get("/inbox", "anna"),
        get("/inbox", "bert"),
        get("/inbox", "anna"),
        get("/inbox", ""),
    ];
    let file = ConfigFile::parse("cache.toml", PORTAL).unwrap();
    let all = status(&file, &requests).await;
    let expected = [
        "portal;fwd=uri-miss;fwd-status=200;stored",
        "portal;hit;ttl=120",
        "portal;fwd=method;fwd-status=200",
        "portal;fwd=uri-miss;fwd-status=200;stored",
        "portal;fwd=uri-miss;fwd-status=200;stored",
        "portal;fwd=uri-miss;fwd-status=200;stored",
        "portal;hit",
        "portal;fwd=bypass;fwd-status=200;detail=caller",
    ];
    for (got, expected) in all.iter().zip(expected) {
        assert!(got.starts_with(expected), "{got} is not {expected}");
    }
    assert_eq!(all.len(), expected.len());
}

#[tokio::test(start_paused = true)]
async fn a_rule_of_a_file_invalidates_softly_where_it_says_so() {
    let rule = |lines| {
        let text = format!(
            "[[cache]]\npattern = \"/news\"\nkey = \"news\"\nttl = \"2m\"\njitter = 0\n\
             stale_while_revalidate = \"1m\"\n[[invalidate]]\npattern = \"/edit\"\nkeys = [\"news\"]\n{lines}"
        );
        ConfigFile::parse("cache.toml", &text).unwrap()
    };
    let [news, edit] = [(Method::GET, "/news", ""), (Method::POST, "/edit", "")];
    let requests = [news.clone(), edit, news];
    for (lines, end) in [
        ("soft = true\nunknown_for = \"1m\"", "portal;hit;ttl=0;detail=stale-while-revalidate"),
        ("soft = false", "portal;fwd=uri-miss;fwd-status=200;stored"),
    ] {
        let all = status(&rule(lines), &requests).await;
        let all: Vec<_> = all.iter().map(|status| status.split_once(';').unwrap().1).collect();
        assert_eq!(all.last().copied(), end.split_once(';').map(|(_, end)| end), "{lines}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_of_a_file_makes_entity_tags_where_it_says_so() {
    for (line, is_tagged) in [("etag = true", true), ("etag = false", false), ("", false)] {
        let text =
            format!("[[cache]]\npattern = \"/news\"\nkey = \"news\"\nttl = \"2m\"\n{line}\n");
        let layer = ConfigFile::parse("cache.toml", &text).unwrap().layer(&closures()).unwrap();
        let service = layer.layer(service_fn(async |_: Request<Empty<Bytes>>| {
            Ok::<_, std::convert::Infallible>(Response::new(GatedBody::full("x")))
        }));
        let response = service.oneshot(Request::get("/news").body(Empty::new()).unwrap()).await;
        assert_eq!(response.unwrap().headers().contains_key("etag"), is_tagged, "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_of_a_file_honours_no_vary_search_where_it_says_so() {
    for (line, is_hit) in [("no_vary_search = true", true), ("no_vary_search = false", false)] {
        let text =
            format!("[[cache]]\npattern = \"/news\"\nkey = \"news\"\nttl = \"2m\"\n{line}\n");
        let layer = ConfigFile::parse("cache.toml", &text).unwrap().layer(&closures()).unwrap();
        let service = layer.layer(service_fn(async |_: Request<Empty<Bytes>>| {
            let response = Response::builder().header("no-vary-search", "except=()");
            Ok::<_, std::convert::Infallible>(response.body(GatedBody::full("x")).unwrap())
        }));
        let ask = async |target: &str| {
            let request = Request::get(target).body(Empty::new()).unwrap();
            let response = service.clone().oneshot(request).await.unwrap();
            response.headers()["cache-status"].to_str().unwrap().contains(";hit")
        };
        assert!(!ask("/news?a").await);
        assert_eq!(ask("/news?b").await, is_hit, "{line}");
    }
}

#[cfg(feature = "encode")]
#[tokio::test(start_paused = true)]
async fn a_file_names_the_codings_of_a_route() {
    let file = |lines| {
        let text = format!("[[cache]]\npattern = \"/news\"\nkey = \"news\"\nttl = \"2m\"\n{lines}");
        ConfigFile::parse("cache.toml", &text).unwrap()
    };
    for (lines, expected) in
        [("", None), ("encode = [\"zstd\", \"br\", \"gzip\"]", Some("accept-encoding"))]
    {
        let layer = file(lines).layer(&closures()).unwrap();
        let service = layer.layer(service_fn(async |_: Request<Empty<Bytes>>| {
            Ok::<_, std::convert::Infallible>(Response::new(GatedBody::full("x")))
        }));
        let response = service.oneshot(Request::get("/news").body(Empty::new()).unwrap()).await;
        let vary =
            response.unwrap().headers().get("vary").map(|vary| vary.to_str().unwrap().to_owned());
        assert_eq!(vary.as_deref(), expected, "{lines}");
    }
    let error = file("encode_per_caller = true").layer(&closures()).unwrap_err();
    assert_eq!(error.field(), Some("encode_per_caller"));
}

#[test]
fn json_says_the_same() {
    let text = r#"{
        "store": { "kind": "memory", "capacity": "16MiB" },
        "cache": [{
            "pattern": "/news", "key": "news", "ttl": "30s", "freshness": "origin",
            "query_policy": { "only": ["page"] }, "host": "ignore", "request_directives": "honour",
            "vary": ["accept-language"], "strip": ["set-cookie"], "targeted": ["bff-cache-control"],
            "statuses": [200, 404], "negative_ttl": "5s", "stale_while_revalidate": "1m",
            "stale_if_error": "1h", "soft_timeout": "800ms", "early_refresh": 1.0, "heuristic": 5,
            "body_limit": "2MiB", "coalescing": false, "ttl_with": "short"
        }, {
            "method": "QUERY", "pattern": "/news", "bucket": "found", "key": "news", "ttl": "30s",
            "content_limit": "4KiB", "query_policy": { "sorted": { "all_but": ["utm_*"] } }
        }, {
            "method": "POST", "reads": "searches", "pattern": "/news", "bucket": "read", "key": "news",
            "ttl": "30s", "ignore_writes": ["POST"]
        }]
    }"#;
    let file = ConfigFile::parse("cache.json", text).unwrap();
    assert_eq!(file.config().cache[0].vary, ["accept-language"]);
    file.layer(&closures()).unwrap();
}

#[cfg(feature = "json")]
#[tokio::test(start_paused = true)]
async fn a_file_has_json_of_one_meaning_share_a_response() {
    for (line, expected) in [("", "fwd=uri-miss"), ("normalize = \"json\"", "hit")] {
        let route = "[[cache]]\nmethod = \"QUERY\"\npattern = \"/q\"\nkey = \"q\"\nttl = \"1m\"\n";
        let file = ConfigFile::parse("cache.toml", format!("{route}{line}")).unwrap();
        let layer = file.layer(&closures()).unwrap();
        let service = layer.reading_content().layer(service_fn(async |_| {
            Ok::<_, std::convert::Infallible>(Response::new(GatedBody::full("x")))
        }));
        let mut last = String::new();
        for content in [r#"{"a":1,"b":2}"#, r#"{ "b": 2, "a": 1.0 }"#] {
            let request = Request::builder().method("QUERY").uri("/q");
            let request = request.header("content-type", "application/json");
            let request = request.body(Full::<Bytes>::from(content)).unwrap();
            let response = service.clone().oneshot(request).await.unwrap();
            last = response.headers()["cache-status"].to_str().unwrap().to_owned();
            http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
        }
        assert!(last.starts_with(&format!("support-cache;{expected}")), "{line}: {last}");
    }
}

/// Mistake in a file: it is refused at a line, for a setting, with a reason that has these words.
struct Mistake<'m> {
    line: usize,
    field: &'m str,
    reason: &'m str,
}

impl Mistake<'_> {
    /// Returns the message of a text that is refused otherwise.
    fn fault(&self, name: &str, text: &str) -> Option<String> {
        let error = match ConfigFile::parse(name, text) {
            Err(error) => error,
            Ok(file) => match file.layer(&closures()) {
                Err(error) => error,
                Ok(_) => return Some(format!("not refused: {text}")),
            },
        };
        let message = error.to_string();
        let is_found = (error.line(), error.field()) == (Some(self.line), Some(self.field))
            && message.starts_with(&format!("{name}:{}:", self.line))
            && message.contains(self.reason);
        (!is_found).then(|| format!("{message}\n  of: {text}"))
    }
}

#[test]
fn each_mistake_in_toml_is_named_with_its_line() {
    let route = |lines: &str| {
        format!("[[cache]]\npattern = \"/a/{{x}}\"\nkey = \"a:{{x}}\"\nttl = \"1m\"\n{lines}")
    };
    let rule = |lines: &str| format!("[[invalidate]]\npattern = \"/a/{{x}}\"\n{lines}");
    let mut faults = Vec::new();
    for (text, line, field, reason) in [
        (route("tttl = \"1m\""), 5, "tttl", "unknown field"),
        (route("jitter = \"much\""), 5, "jitter", "invalid type"),
        (route("jitter = 90"), 5, "jitter", "50"),
        (route("stale_if_error = 30"), 5, "stale_if_error", "a duration in quotes"),
        (route("stale_if_error = \"30 parsecs\""), 5, "stale_if_error", "write a duration"),
        (route("body_limit = \"1 elephant\""), 5, "body_limit", "64MiB"),
        (route("body_limit = \"0B\""), 5, "body_limit", "zero"),
        (route("credentials = \"everyone\""), 5, "credentials", "unknown variant"),
        (
            route("credentials = { per_caller = { named = \"nobody\" } }"),
            5,
            "credentials",
            "nobody",
        ),
        (route("query_policy = { only = \"page\" }"), 5, "only", "invalid type"),
        (route("vary = [\"accept language\"]"), 5, "vary", "no field name"),
        (route("method = \"PUT\""), 5, "method", "is not cached"),
        (route("method = \"POST\"\nreads = \"x\""), 6, "reads", "no closure"),
        (route("ignore_writes = [\"a b\"]"), 5, "ignore_writes", "no method"),
        (route("content_limit = \"1KiB\""), 5, "content_limit", "have content"),
        (route("method = \"QUERY\"\nnormalize = \"xml\""), 6, "normalize", "write `json`"),
        (route("statuses = [200, 2000]"), 5, "statuses", "no status"),
        (route("bucket = \"Case List\""), 5, "bucket", "lower-case"),
        (route("tags = [\"a:{y}\"]"), 5, "tags", "{y}"),
        (route("ttl_with = \"long\""), 5, "ttl_with", "long"),
        (route("key_with = \"user\""), 5, "key_with", "remove one"),
        (route("[store]\nkind = \"memory\"\ncapacity = \"1B\""), 7, "capacity", "capacity"),
        (route("[store]\nkind = \"floppy\""), 6, "kind", "unknown variant"),
        (rule("keys = [\"a:{y}\"]"), 3, "keys", "{y}"),
        (rule("method = \"GET\"\nkeys = [\"a\"]"), 3, "method", "safe"),
        (rule("method = \"P OST\"\nkeys = [\"a\"]"), 3, "method", "no method"),
        (rule(""), 1, "key", "is missing"),
        (rule("keys = [\"a\"]\nunknown_for = \"0s\""), 4, "unknown_for", "is zero"),
        (rule("keys = [\"a\"]\naccepted_for = \"2h\""), 4, "accepted_for", "an hour"),
        ("name = \"two words\"".to_owned(), 1, "name", "token"),
        ("scheme = \"ftp\"".to_owned(), 1, "scheme", "https"),
        ("caller_key = \"secret\"".to_owned(), 1, "caller_key", "64 hexadecimal"),
        (
            "caller_key = { env = \"NO_SUCH_VARIABLE\" }".to_owned(),
            1,
            "caller_key",
            "NO_SUCH_VARIABLE",
        ),
        (
            "[[cache]]\npattern = \"/a/{x\"\nkey = \"a\"\nttl = \"1m\"".to_owned(),
            2,
            "pattern",
            "without `}`",
        ),
        ("[[cache]]\npattern = \"/a\"\nkey = \"a\"".to_owned(), 1, "ttl", "is missing"),
    ] {
        faults.extend(Mistake { line, field, reason }.fault("cache.toml", &text));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn each_mistake_in_json_is_named_with_its_line() {
    let route = |line: &str| {
        format!("{{ \"cache\": [{{\n\"pattern\": \"/a/{{x}}\",\n\"ttl\": \"1m\",\n{line}\n}}] }}")
    };
    let mut faults = Vec::new();
    for (line, field, reason) in [
        ("\"keys\": \"a\"", "keys", "unknown field"),
        ("\"key\": \"a:{y}\"", "key", "{y}"),
        ("\"key\": \"a\", \"jitter\": \"much\"", "jitter", "invalid type"),
        ("\"key\": \"a\", \"jitter\": 90", "jitter", "50"),
        ("\"key\": \"a\", \"vary\": [\"a b\"]", "vary", "no field name"),
    ] {
        faults.extend(Mistake { line: 4, field, reason }.fault("cache.json", &route(line)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn text_that_is_neither_toml_nor_json_is_refused_with_its_line() {
    for (name, text) in [("cache.toml", "\n[[cache]\n"), ("cache.json", "{\n\"cache\": [}")] {
        let error = ConfigFile::parse(name, text).unwrap_err();
        assert_eq!(error.line(), Some(2), "{error}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = ConfigFile::read("/no/such/cache.toml").unwrap_err();
    assert!(error.to_string().starts_with("/no/such/cache.toml: cannot be read: "), "{error}");
    assert_eq!((error.line(), error.field()), (None, None));
}

#[test]
fn an_error_of_the_builder_is_its_source() {
    let file = ConfigFile::parse("cache.toml", "name = \"two words\"").unwrap();
    let error = file.layer(&Closures::new()).unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    let source = source.downcast_ref::<tower_support_cache::ConfigError>().unwrap();
    assert_eq!(source.kind(), ConfigErrorKind::Name);
}

#[test]
fn a_secret_is_never_shown() {
    let text = "caller_key = \"0123456789012345678901234567890123456789012345678901234567890123\"";
    let file = ConfigFile::parse("cache.toml", text).unwrap();
    file.layer(&Closures::new()).unwrap();
    assert!(!format!("{:?}", file.config()).contains("0123456789"));
}

/// File of its own for a test, removed at its end.
struct TemporaryFile(std::path::PathBuf);

impl TemporaryFile {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("tower-support-cache-{}-{name}", std::process::id());
        let file = Self(std::env::temp_dir().join(name));
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.0, text).unwrap();
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn a_file_that_changes_is_reloaded_and_one_with_a_mistake_changes_nothing() {
    let route = |ttl: &str| {
        format!("[[cache]]\npattern = \"/a\"\nkey = \"a\"\nttl = \"{ttl}\"\njitter = 0")
    };
    let place = TemporaryFile::new("reload.toml", &route("2m"));
    let file = ConfigFile::read(&place.0).unwrap();
    let layer = file.layer(&closures()).unwrap();
    let mut reloader = Reloader::new(&file, layer.handle(), closures());
    let service = layer.layer(service_fn(async |_: Request<Empty<Bytes>>| {
        Ok::<_, std::convert::Infallible>(Response::new(GatedBody::full("x")))
    }));
    let status = async || {
        let request = Request::get("/a").body(Empty::new()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        let status = response.headers()["cache-status"].to_str().unwrap().to_owned();
        http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
        status
    };
    assert!(status().await.contains("fwd=uri-miss"));
    let interval = Duration::from_millis(1);
    place.write(&route("two minutes"));
    let error = reloader.changed(interval).await.unwrap_err();
    assert_eq!((error.line(), error.field()), (Some(4), Some("ttl")), "{error}");
    place.write(&route("0s"));
    let error = reloader.changed(interval).await.unwrap_err();
    assert_eq!((error.line(), error.field()), (Some(4), Some("ttl")), "{error}");
    assert!(status().await.contains("hit;ttl=1"), "the two minutes are in force");
    // What is stored stays warm, with the lifetime that is in force.
    place.write(&route("1h"));
    reloader.changed(interval).await.unwrap();
    place.write(&route("10s"));
    reloader.changed(interval).await.unwrap();
    let end = status().await;
    assert!(["hit;ttl=10", "hit;ttl=9"].iter().any(|hit| end.contains(hit)), "{end}");
    assert_eq!(layer.handle().metrics().bucket("default").unwrap().misses, 1, "counters go on");
    // On a signal, without a wait for two looks.
    place.write(&route("0s"));
    let error = reloader.reload().unwrap_err();
    assert_eq!((error.line(), error.field()), (Some(4), Some("ttl")), "{error}");
    assert!(status().await.contains("hit"), "ten seconds are in force");
    place.write(&route("5s"));
    reloader.reload().unwrap();
    let end = status().await;
    assert!(["hit;ttl=5", "hit;ttl=4"].iter().any(|hit| end.contains(hit)), "{end}");
    drop(place);
    let error = reloader.changed(interval).await.unwrap_err();
    assert_eq!(error.line(), None, "{error}");
}

/// Returns a configuration of two routes, the second with this lifetime.
fn two_routes(ttl: &str) -> String {
    let route = |name: &str, ttl: &str| {
        format!(
            "[[cache]]\npattern = \"/{name}/{{item}}\"\nbucket = \"{name}\"\nkey = \"{name}:{{item}}\"\n\
             ttl = \"{ttl}\"\n",
        )
    };
    route("kept", "1h") + &route("edited", ttl)
}

/// An editor may empty a file before it writes it: for a moment it has no routes, or the first of them.
#[tokio::test(start_paused = true)]
async fn a_file_that_is_being_written_is_not_reloaded_by_half() {
    let whole = two_routes("1h");
    let place = TemporaryFile::new("half.toml", &whole);
    let file = ConfigFile::read(&place.0).unwrap();
    let layer = file.layer(&closures()).unwrap();
    let mut reloader = Reloader::new(&file, layer.handle(), closures());
    for half in ["", &whole[..whole.len() / 2]] {
        place.write(half);
        let looked = timeout(Duration::from_millis(10), reloader.changed(Duration::from_secs(1)));
        assert!(looked.await.is_err(), "it waits for another look");
        place.write(&two_routes("2h"));
        reloader.changed(Duration::from_secs(1)).await.unwrap();
        place.write(&whole);
        reloader.changed(Duration::from_secs(1)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_edited_under_load_fails_no_request_and_cools_no_route() {
    const EDITS: usize = 60;
    let place = TemporaryFile::new("load.toml", &two_routes("1h"));
    let file = ConfigFile::read(&place.0).unwrap();
    let layer = file.layer(&closures()).unwrap();
    let handle = layer.handle();
    let service = layer.layer(service_fn(async |request: Request<Empty<Bytes>>| {
        let body = request.uri().path().to_owned();
        Ok::<_, std::convert::Infallible>(Response::new(GatedBody::full(body)))
    }));
    let get = async move |path: String| {
        let request = Request::get(&path).body(Empty::new()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
        assert_eq!(body.to_bytes(), path);
    };
    let is_over = Arc::new(AtomicBool::new(false));
    let readers = (0..4).map(|reader| {
        let (get, is_over) = (get.clone(), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut sent = [0_u64; 2];
            while !is_over.load(Ordering::Relaxed) {
                for (name, sent) in ["kept", "edited"].into_iter().zip(&mut sent) {
                    get(format!("/{name}/{reader}")).await;
                    *sent += 1;
                }
                tokio::task::yield_now().await;
            }
            sent
        })
    });
    let readers: Vec<_> = readers.collect();
    let mut reloader = Reloader::new(&file, handle.clone(), closures());
    let mut hits = 0;
    for edit in 0..EDITS {
        let is_broken = edit % 3 == 2;
        let ttl = if is_broken { "soon".to_owned() } else { format!("{}h", 2 + edit) };
        place.write(&two_routes(&ttl));
        let reloaded = reloader.changed(Duration::from_millis(1)).await;
        assert_eq!(reloaded.is_err(), is_broken, "{reloaded:?}");
        let now = handle.metrics().bucket("kept").unwrap().hits;
        assert!(now >= hits, "counters go on");
        hits = now;
    }
    is_over.store(true, Ordering::Relaxed);
    let mut sent = [0; 2];
    for reader in readers {
        for (all, own) in sent.iter_mut().zip(reader.await.unwrap()) {
            *all += own;
        }
    }
    for (name, sent) in ["kept", "edited"].into_iter().zip(sent) {
        let metrics = handle.metrics();
        let bucket = metrics.bucket(name).unwrap();
        assert_eq!(bucket.requests(), sent, "{name}");
        // Another lifetime is no other meaning, so both are warm.
        assert_eq!(bucket.misses, 4, "{name}: each reader's item once");
        assert!(sent > EDITS as u64, "{name}");
    }
}

#[cfg(feature = "config-schema")]
#[test]
fn the_schema_in_the_repository_is_that_of_the_types() {
    let made = tower_support_cache::config::schema();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config.schema.json");
    if std::env::var_os("WRITE_SCHEMA").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == made,
        "WRITE_SCHEMA=1 cargo test --all-features --test it schema makes it anew"
    );
}
