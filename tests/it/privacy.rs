//! Privacy: a response answers only requests that the origin would have answered with the same.

use std::{cell::Cell, ops::Range};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, request::Parts};
use http_body_util::Empty;
use tower::{Layer, ServiceExt};
use tower_support_cache::{
    Bypass, CacheRoute, Caller, Credentials, MemoryStore, SupportCacheHandle, SupportCacheLayer,
};

use crate::{
    random::{Random, for_all},
    support::{self, Cached, Calls, GatedBody, Got, TTL, cache_with, get, origin, send, with},
};

// ===== what is stored answers those it is for =====

#[tokio::test(start_paused = true)]
async fn what_is_stored_answers_no_get_with_content() {
    let (cache, _, mut calls) = cache_with(|route| route);
    let filling = send(&cache, get("/cases/1"));
    calls.next().await.ok("without content");
    support::got(filling).await;
    let content = http_body_util::Full::new(Bytes::from_static(b"{\"id\":2}"));
    let asking = tokio::spawn(cache.oneshot(Request::get("/cases/1").body(content).unwrap()));
    calls.next().await.ok("with content");
    let status = asking.await.unwrap().unwrap().headers()["cache-status"].clone();
    assert!(status.to_str().unwrap().ends_with("detail=content"), "{status:?}");
}

// ===== any requests, any key =====

/// A request, as far as it can tell responses apart.
#[derive(Clone, Debug)]
struct Sent {
    uri: String,
    fields: Vec<(&'static str, Vec<u8>)>,
}

impl Sent {
    fn request(&self) -> Request<Empty<Bytes>> {
        let mut request = get(&self.uri);
        for (name, value) in &self.fields {
            request.headers_mut().append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        request
    }
}

fn segment(random: &mut Random) -> String {
    const HOSTILE: &[&str] = &[
        "a",
        "A",
        "%61",
        "%41",
        "%2561",
        "b",
        "a%2Fb",
        "a%2fb",
        "a:b",
        "a%3Ab",
        ".",
        "..",
        "%2e",
        "a;v=1",
        "%ff",
        "%00",
        "%20",
        "a%20",
        "a+",
        "*",
        "a*",
        "%7Ba%7D",
        "%E2%80%8B",
        "a%0D%0A",
        "%C3%A9",
        "e%CC%81",
        "null",
    ];
    match random.below(4) {
        0 => random.text("ab:.;~-".chars(), 1..4),
        _ => random.pick(HOSTILE).to_owned(),
    }
}

fn place(random: &mut Random) -> &'static str {
    random.pick(&["", "http://h", "https://h", "http://H", "http://h:80", "http://u@h"])
}

fn target(random: &mut Random) -> String {
    const QUERIES: &[&str] =
        &["", "?", "?a=1", "?a=1&b=2", "?b=2&a=1", "?%61=1", "?a=1&a=1", "?a=/x/y"];
    format!("/x/{}/{}{}", segment(random), segment(random), random.pick(QUERIES))
}

type Field = (&'static str, Vec<u8>);

fn lines(
    random: &mut Random,
    name: &'static str,
    counts: Range<usize>,
    values: &[&[u8]],
) -> Vec<Field> {
    random.vec(counts, |random| (name, random.pick(values).to_vec()))
}

fn cookie(random: &mut Random) -> Field {
    let pairs = random.vec(1..4, |random| {
        let name = random.pick(&["s", "s", "t", "t", "ss", "S"]);
        format!("{name}={}", random.pick(&["1", "s", "t", ""]))
    });
    ("cookie", pairs.join("; ").into_bytes())
}

fn fields(random: &mut Random) -> Vec<Field> {
    const TOKENS: &[&[u8]] =
        &[b"Bearer a", b"bearer a", b"Bearer  a", b"Bearer a, Bearer a", b"", b" ", b"\xff", b"a"];
    let api_keys = if random.below(10) == 0 { 1..2 } else { 0..1 };
    [
        lines(random, "host", 0..2, &[b"h", b"H", b"h:80", b"", b"\xff", b"h, g"]),
        lines(random, "authorization", 0..3, TOKENS),
        random.vec(0..3, cookie),
        lines(random, "x-api-key", api_keys, &[b"1", b"2"]),
        lines(random, "x-user", 0..2, &[b"Bob", b"bob", b"", b" ", b"Bob ", b"u:1"]),
        lines(random, "x-key", 0..2, &[b"k", b"K", b"k:a", b"a"]),
    ]
    .concat()
}

/// Requests in batches that come at the same time: few places, targets and callers, each several
/// times in any combination, so that hits and flights occur.
fn traffic(random: &mut Random) -> Vec<Vec<Sent>> {
    let (places, targets) = (random.vec(1..3, place), random.vec(1..3, target));
    let fields = random.vec(1..4, fields);
    let mut sent = |random: &mut Random| Sent {
        uri: random.pick(&places).to_owned() + &random.pick(&targets),
        fields: random.pick(&fields),
    };
    random.vec(1..12, |random| random.vec(1..4, &mut sent))
}

/// What an origin makes its answer depend on.
#[derive(Clone, Copy, Debug)]
enum Depends {
    Everything,
    /// On the target, the authority, and these fields.
    Fields(&'static [&'static str]),
    /// On the target, the authority, and the cookies `s` and `t`, each in the order it was sent.
    Cookies,
}

/// Scheme and hosts of a request, as RFC 3986 §6.2 compares them.
fn site(head: &Parts) -> (Option<&str>, Option<Vec<u8>>, Option<Vec<u8>>) {
    let scheme = head.uri.scheme_str();
    let one = |name: &[u8]| {
        let name = name.to_ascii_lowercase();
        let port: &[u8] = if scheme == Some("http") { b":80" } else { b":443" };
        match name.strip_suffix(port) {
            Some(name) if scheme.is_some() => name.to_owned(),
            _ => name,
        }
    };
    let authority = head.uri.authority().map(|authority| one(authority.as_str().as_bytes()));
    let host = head.headers.get("host").map(|host| one(host.as_bytes()));
    match authority {
        None => (scheme, host, None),
        Some(authority) => {
            let other = host.filter(|host| *host != authority);
            (scheme, Some(authority), other)
        }
    }
}

/// What the origin says to a request: all that it was asked for, and by whom.
fn says(depends: Depends, head: &Parts) -> String {
    let lines = |name: &str| -> Vec<&[u8]> {
        head.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
    };
    let always = format!("{:?} {:?}", site(head), head.uri.path_and_query());
    match depends {
        Depends::Everything => format!("{always} {:?}", head.headers),
        Depends::Fields(names) => {
            let values: Vec<_> = names.iter().map(|name| lines(name)).collect();
            format!("{always} {values:?}")
        }
        Depends::Cookies => {
            let lines = lines("cookie");
            let pairs: Vec<_> = lines
                .iter()
                .flat_map(|line| std::str::from_utf8(line).unwrap().split("; "))
                .collect();
            let of = |name: &str| -> Vec<_> {
                pairs.iter().filter(|pair| pair.split('=').next() == Some(name)).collect()
            };
            format!("{always} {:?} {:?}", of("s"), of("t"))
        }
    }
}

fn serve(calls: Calls, depends: Depends) {
    calls.serve(move |head| Response::new(GatedBody::full(says(depends, head))));
}

fn route_with(key: fn(CacheRoute) -> CacheRoute, credentials: Credentials) -> CacheRoute {
    key(CacheRoute::get("/x/{a}/{b}").bucket("any").ttl(TTL).credentials(credentials))
}

fn build(route: CacheRoute) -> (Cached, SupportCacheHandle, Calls) {
    let layer = SupportCacheLayer::builder(MemoryStore::new()).cache(route).build().unwrap();
    let (origin, calls) = origin();
    (layer.layer(origin), layer.handle(), calls)
}

/// Key builders from the careless to the arbitrary: none of them may matter.
const KEYS: [fn(CacheRoute) -> CacheRoute; 5] = [
    |route| route.key("constant"),
    |route| route.key("{a}:{b}"),
    |route| route.key("{b}"),
    |route| route.key_with(|_| Some("constant".to_owned())),
    |route| {
        route.key_with(|request| {
            let line = request.headers().get("x-key")?;
            Some(String::from_utf8_lossy(line.as_bytes()).into_owned())
        })
    },
];

/// Sends any traffic through a layer and asserts that everybody gets what the origin says to them,
/// and that the cache did answer some of it.
fn check(credentials: fn() -> Credentials, depends: Depends) {
    let (hits, shared) = (Cell::new(0), Cell::new(0));
    for_all(|random| {
        let (traffic, key) = (traffic(random), random.pick(&KEYS));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (cache, handle, calls) = build(route_with(key, credentials()));
            serve(calls, depends);
            for batch in traffic {
                let sent: Vec<_> =
                    batch.iter().map(|sent| (sent, send(&cache, sent.request()))).collect();
                for (sent, reply) in sent {
                    let expected = says(depends, &sent.request().into_parts().0);
                    let got = reply.await.unwrap().unwrap();
                    assert_eq!(got.text(), expected, "{} {:?}", got.cache_status(), sent);
                }
            }
            let bucket = handle.metrics().bucket("any").cloned().unwrap();
            hits.set(hits.get() + bucket.hits);
            shared.set(shared.get() + bucket.coalesced);
        });
    });
    assert!(hits.get() > 0 && shared.get() > 0, "nothing was ever shared, so nothing is shown");
}

#[test]
fn without_a_word_on_credentials_nobody_gets_what_was_made_for_another_request() {
    let credentials = &["authorization", "cookie", "x-api-key"];
    check(|| Credentials::Bypass, Depends::Fields(credentials));
}

#[test]
fn callers_by_authorization_never_share() {
    check(|| Credentials::PerCaller(Caller::authorization()), Depends::Fields(&["authorization"]));
}

#[test]
fn callers_by_cookies_never_share() {
    check(|| Credentials::PerCaller(Caller::cookies(["s", "t"])), Depends::Cookies);
}

#[test]
fn callers_by_a_closure_never_share() {
    let user = || {
        Credentials::PerCaller(Caller::with(|request| {
            let line = request.headers().get("x-user")?;
            Some(line.to_str().ok()?.to_owned())
        }))
    };
    check(user, Depends::Fields(&["x-user"]));
}

#[test]
fn where_the_key_covers_the_caller_targets_and_authorities_never_share() {
    check(|| Credentials::CoveredByKey, Depends::Fields(&[]));
}

// ===== what each policy says =====

async fn ask(cache: &Cached, fields: &[(&'static str, &str)]) -> Got {
    let request = fields.iter().fold(get("/cases/1"), |r, (name, value)| with(r, name, value));
    send(cache, request).await.unwrap().unwrap()
}

fn cache_for(credentials: Credentials) -> (Cached, SupportCacheHandle) {
    let (cache, handle, calls) = cache_with(|route| route.credentials(credentials));
    calls.serve(|head| Response::new(GatedBody::full(says(Depends::Everything, head))));
    (cache, handle)
}

fn by_user() -> Credentials {
    Credentials::PerCaller(Caller::with(|request| {
        let line = request.headers().get("x-user")?;
        Some(String::from_utf8_lossy(line.as_bytes()).into_owned())
    }))
}

#[track_caller]
fn assert_bypassed(got: &Got, reason: Bypass) {
    let expected = format!("support-cache;fwd=bypass;fwd-status=200;detail={}", reason.as_str());
    assert_eq!(got.cache_status(), expected);
}

/// Asserts that requests with these fields each have a response of their own, which hits.
async fn assert_apart(credentials: Credentials, callers: &[&[(&'static str, &str)]]) {
    let (cache, _) = cache_for(credentials);
    for caller in callers {
        assert!(!ask(&cache, caller).await.is_hit(), "{caller:?} gets what another was given");
    }
    for caller in callers {
        assert!(ask(&cache, caller).await.is_hit(), "{caller:?} has a response of its own");
    }
}

#[tokio::test(start_paused = true)]
async fn each_credential_field_bypasses_by_default_and_is_counted() {
    let (cache, handle) = cache_for(Credentials::default());
    assert!(!ask(&cache, &[]).await.is_hit());
    let fields = Credentials::default_fields();
    for name in ["authorization", "cookie", "proxy-authorization", "x-api-key", "x-forwarded-user"]
    {
        assert!(fields.iter().any(|field| field == name), "{name}");
    }
    for name in &fields {
        for value in ["secret", ""] {
            let mut request = get("/cases/1");
            request.headers_mut().append(name, HeaderValue::from_static(value));
            let got = send(&cache, request).await.unwrap().unwrap();
            assert_bypassed(&got, Bypass::Credentials);
        }
    }
    assert!(ask(&cache, &[]).await.is_hit(), "and without them the cache answers");
    let bucket = handle.metrics().bucket("cases").cloned().unwrap();
    let bypassed = 2 * fields.len() as u64;
    assert_eq!((bucket.bypassed[&Bypass::Credentials], bucket.stored), (bypassed, 1));
}

#[tokio::test(start_paused = true)]
async fn requests_with_credentials_do_not_wait_for_each_other() {
    let (cache, _, mut calls) = cache_with(|route| route);
    let secret = || with(get("/cases/1"), "cookie", "s=1");
    let requests = [send(&cache, secret()), send(&cache, secret()), send(&cache, get("/cases/1"))];
    let all = calls.all().await;
    assert_eq!(all.len(), 3);
    all.into_iter().for_each(|call| call.ok("x"));
    for request in requests {
        request.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_caller_or_with_a_blank_one_bypasses() {
    let authorization = || Credentials::PerCaller(Caller::authorization());
    let cookies = || Credentials::PerCaller(Caller::cookies(["s", "t"]));
    let cases: [(fn() -> Credentials, &[(&'static str, &str)]); 11] = [
        (authorization, &[]),
        (authorization, &[("authorization", "")]),
        (authorization, &[("authorization", " \t")]),
        (authorization, &[("authorization", "a"), ("authorization", "")]),
        (authorization, &[("cookie", "s=1; t=1")]),
        (cookies, &[("authorization", "a")]),
        (cookies, &[("cookie", "s=1")]),
        (cookies, &[("cookie", "s=1; t=")]),
        (cookies, &[("cookie", "s=1; T=1")]),
        (by_user, &[]),
        (by_user, &[("x-user", "\u{a0}")]),
    ];
    for (credentials, fields) in cases {
        let (cache, handle) = cache_for(credentials());
        assert_bypassed(&ask(&cache, fields).await, Bypass::Caller);
        let bucket = handle.metrics().bucket("cases").cloned().unwrap();
        assert_eq!((bucket.bypassed[&Bypass::Caller], bucket.entries), (1, 0), "{fields:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn callers_are_the_same_only_if_they_are_byte_equal() {
    // `é` in one code point and in two.
    let users = ["Bob", "bob", "Bob ", "B0b", "Andr\u{e9}", "Andre\u{301}"];
    let fields = users.map(|user| [("x-user", user)]);
    assert_apart(by_user(), &fields.each_ref().map(|fields| &fields[..])).await;
    assert_apart(
        Credentials::PerCaller(Caller::authorization()),
        &[
            &[("authorization", "Bearer a")],
            &[("authorization", "bearer a")],
            &[("authorization", "Bearer  a")],
            &[("authorization", "Bearer a"), ("authorization", "Bearer a")],
            &[("authorization", "Bearer a"), ("authorization", "b")],
            &[("authorization", "b"), ("authorization", "Bearer a")],
            &[("authorization", "Bearer ab")],
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_cookie_that_comes_twice_is_another_caller() {
    assert_apart(
        Credentials::PerCaller(Caller::cookies(["s"])),
        &[
            &[("cookie", "s=1")],
            &[("cookie", "s=2")],
            &[("cookie", "s=1; s=2")],
            &[("cookie", "s=2; s=1")],
            &[("cookie", "s=1; s=1")],
            &[("cookie", "s=\"1\"")],
        ],
    )
    .await;
    let (cache, _) = cache_for(Credentials::PerCaller(Caller::cookies(["s"])));
    ask(&cache, &[("cookie", "s=1")]).await;
    for same in [&[("cookie", "x=y; s=1;t=2")][..], &[("cookie", "ss=2"), ("cookie", " s=1 ")]] {
        assert!(ask(&cache, same).await.is_hit(), "other cookies are not the caller: {same:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cookies_value_cannot_pass_for_another_cookies_name() {
    assert_apart(
        Credentials::PerCaller(Caller::cookies(["s", "t"])),
        &[
            &[("cookie", "s=1; s=s; t=2")],
            &[("cookie", "s=1; t=s; t=2")],
            &[("cookie", "s=1; t=2")],
            &[("cookie", "s=2; t=1")],
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn where_the_key_covers_the_caller_credentials_do_not_matter() {
    let (cache, _) = cache_for(Credentials::CoveredByKey);
    ask(&cache, &[("authorization", "a"), ("cookie", "s=1")]).await;
    assert!(ask(&cache, &[("authorization", "b")]).await.is_hit());
    assert!(ask(&cache, &[]).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn what_is_the_same_for_everybody_answers_with_and_without_credentials() {
    let (cache, handle) = cache_for(Credentials::SameForEverybody);
    ask(&cache, &[]).await;
    for fields in [&[("cookie", "theme=dark")][..], &[("authorization", "b")], &[("x-user", "c")]] {
        assert!(ask(&cache, fields).await.is_hit(), "{fields:?}");
    }
    assert_eq!(handle.metrics().bucket("cases").unwrap().hits, 3);
}

#[tokio::test(start_paused = true)]
async fn the_people_of_a_tenant_share_and_tenants_do_not() {
    let per_tenant = || {
        Credentials::PerTenant(Caller::with(|request| {
            Some(request.headers().get("x-tenant")?.to_str().ok()?.to_owned())
        }))
    };
    assert_apart(per_tenant(), &[&[("x-tenant", "a")], &[("x-tenant", "A")], &[("x-tenant", "b")]])
        .await;
    let (cache, _) = cache_for(per_tenant());
    assert!(!ask(&cache, &[("x-tenant", "a"), ("authorization", "anna")]).await.is_hit());
    assert!(ask(&cache, &[("x-tenant", "a"), ("authorization", "bert")]).await.is_hit());
    assert_bypassed(&ask(&cache, &[("authorization", "anna")]).await, Bypass::Caller);
}

#[tokio::test(start_paused = true)]
async fn private_responses_are_stored_for_their_caller_alone() {
    for (credentials, is_stored) in [
        (Credentials::PerCaller(Caller::authorization()), true),
        (Credentials::PerTenant(Caller::authorization()), false),
        (Credentials::SameForEverybody, false),
        (Credentials::CoveredByKey, false),
    ] {
        let (cache, _, calls) = cache_with(|route| route.credentials(credentials));
        calls.serve(|_| support::response(200, &[("cache-control", "private")], "x"));
        ask(&cache, &[("authorization", "a")]).await;
        assert_eq!(ask(&cache, &[("authorization", "a")]).await.is_hit(), is_stored);
        assert!(!ask(&cache, &[("authorization", "b")]).await.is_hit());
    }
}

#[tokio::test(start_paused = true)]
async fn general_credentials_are_for_the_routes_that_say_nothing() {
    let route = |name: &str| {
        CacheRoute::get(format!("/{name}/{{x}}")).bucket(name).key(format!("{name}:{{x}}")).ttl(TTL)
    };
    let layer = SupportCacheLayer::builder(MemoryStore::new())
        .credentials(Credentials::CoveredByKey)
        .cache(route("silent"))
        .cache(route("own").credentials(Credentials::PerCaller(Caller::authorization())))
        .cache(route("none").credentials(Credentials::Bypass))
        .build()
        .unwrap();
    let (origin, calls) = origin();
    let cache = layer.layer(origin);
    serve(calls, Depends::Everything);
    for (uri, is_shared) in [("/silent/1", true), ("/own/1", false), ("/none/1", false)] {
        let by = |caller| with(get(uri), "authorization", caller);
        send(&cache, by("a")).await.unwrap().unwrap();
        assert_eq!(send(&cache, by("b")).await.unwrap().unwrap().is_hit(), is_shared, "{uri}");
    }
}

// ===== the warning =====

#[cfg(feature = "tracing")]
mod warning {
    use std::{
        fmt::Debug,
        sync::{Arc, Mutex, OnceLock},
    };

    use tracing::{
        Event, Level, Metadata, Subscriber,
        field::{Field, Visit},
        span,
    };

    use super::*;

    /// Keeps the route or the bucket of each warning.
    #[derive(Clone, Default)]
    struct Warnings(Arc<Mutex<Vec<String>>>);

    impl Warnings {
        /// For the whole process: one for a thread can miss what other threads saw first.
        fn of_process() -> &'static Self {
            static WARNINGS: OnceLock<Warnings> = OnceLock::new();
            WARNINGS.get_or_init(|| {
                let warnings = Self::default();
                tracing::subscriber::set_global_default(warnings.clone()).unwrap();
                warnings
            })
        }

        fn named(&self, text: &str) -> Vec<String> {
            let mut named = self.0.lock().unwrap().clone();
            named.retain(|name| name.contains(text));
            named
        }
    }

    impl Subscriber for Warnings {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() == Level::WARN
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, event: &Event<'_>) {
            struct Route(Option<String>);
            impl Visit for Route {
                fn record_str(&mut self, field: &Field, value: &str) {
                    if matches!(field.name(), "route" | "bucket") {
                        self.0 = Some(value.to_owned());
                    }
                }

                fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
            }
            let mut route = Route(None);
            event.record(&mut route);
            self.0.lock().unwrap().push(route.0.unwrap_or_default());
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_route_that_bypasses_credentials_is_named_once() {
        let warnings = Warnings::of_process();
        let route = |name: &str| CacheRoute::get(format!("/once/{name}")).key(name).ttl(TTL);
        let layer = SupportCacheLayer::builder(MemoryStore::new())
            .cache(route("a"))
            .cache(route("b"))
            .cache(route("c").credentials(Credentials::PerCaller(Caller::authorization())))
            .build()
            .unwrap();
        let (origin, calls) = origin();
        let cache = layer.layer(origin);
        serve(calls, Depends::Everything);
        for uri in ["/once/a", "/once/b", "/once/a", "/once/c", "/once/b", "/once/a"] {
            send(&cache, get(uri)).await.unwrap().unwrap();
            send(&cache, with(get(uri), "cookie", "s=1")).await.unwrap().unwrap();
        }
        assert_eq!(warnings.named("/once/"), ["GET /once/a", "GET /once/b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_layer_within_itself_is_named_once() {
        let warnings = Warnings::of_process();
        let route = CacheRoute::get("/nested/{x}").key("{x}").ttl(TTL);
        let layer = SupportCacheLayer::builder(MemoryStore::new()).cache(route).build().unwrap();
        let (origin, calls) = origin();
        let cache = layer.layer(layer.layer(origin));
        serve(calls, Depends::Everything);
        for at in 0..30 {
            let asked = get(&format!("/nested/{at}"));
            tower::ServiceExt::oneshot(cache.clone(), asked).await.unwrap();
        }
        assert_eq!(warnings.named("/nested/"), ["GET /nested/{x}"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_that_no_request_has_reached_is_named_once() {
        let warnings = Warnings::of_process();
        let route = |pattern: &str, bucket: &str| {
            CacheRoute::get(pattern).bucket(bucket).key("k:{x}").ttl(TTL)
        };
        let layer = SupportCacheLayer::builder(MemoryStore::new())
            .cache(route("/cases/{x}", "reached"))
            .cache(route("/api/messages/{x}", "unreached"))
            .build()
            .unwrap();
        let (origin, calls) = origin();
        let cache = layer.layer(origin);
        serve(calls, Depends::Everything);
        for at in 1..=1_200 {
            let uri = if at % 2 == 0 { "/messages/1" } else { "/cases/1" };
            send(&cache, get(uri)).await.unwrap().unwrap();
            let expected: &[&str] = if at < 1_000 { &[] } else { &["unreached"] };
            assert_eq!(warnings.named("reached"), expected, "request {at}");
        }
    }
}
