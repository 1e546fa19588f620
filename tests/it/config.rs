//! What `build` refuses, and that the error names the route and the field; and what must build.

use std::time::Duration;

use http::Method;
use tower_support_cache::{
    CacheRoute, Coalescing, ConfigError, ConfigErrorKind as Kind, Freshness, HostPolicy,
    InvalidateRoute, MemoryStore, SupportCacheLayer, SupportCacheLayerBuilder,
};

const TTL: Duration = Duration::from_secs(60);

fn builder() -> SupportCacheLayerBuilder<MemoryStore> {
    SupportCacheLayer::builder(MemoryStore::builder().capacity(16 * 1024).build().unwrap())
}

/// A route that nothing is wrong with.
fn route(pattern: &str) -> CacheRoute {
    CacheRoute::get(pattern).key("k").ttl(TTL)
}

#[track_caller]
fn check_error(error: &ConfigError, kind: Kind, route: Option<&str>, field: &str) {
    assert_eq!((error.kind(), error.route(), error.field()), (kind, route, field), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("{field}: ")), "the message names the field: {text}");
    let names_route = match route {
        Some(route) => text.starts_with(&format!("route `{route}`: ")),
        None => {
            text.starts_with("`SupportCacheLayerBuilder`: ")
                || text.starts_with("`MemoryStoreBuilder`: ")
        }
    };
    assert!(names_route, "the message names what is at fault: {text}");
    let problem = text.rsplit_once(&format!("{field}: ")).unwrap().1;
    assert!(!problem.is_empty() && !problem.ends_with('.'), "the message ends plainly: {text}");
    let fix = problem.split_once(": ").map(|(_, fix)| fix);
    assert!(fix.is_some_and(|fix| !fix.is_empty()), "the message says what to write: {text}");
}

#[track_caller]
fn check(builder: SupportCacheLayerBuilder<MemoryStore>, kind: Kind, route: &str, field: &str) {
    check_error(&builder.build().unwrap_err(), kind, Some(route), field);
}

/// Refused in a cached route and in a rule alike.
#[track_caller]
fn check_pattern(pattern: &str) {
    check(builder().cache(route(pattern)), Kind::Pattern, &format!("GET {pattern}"), "pattern");
    let rule = InvalidateRoute::put(pattern).key("k");
    check(builder().invalidate(rule), Kind::Pattern, &format!("PUT {pattern}"), "pattern");
}

#[track_caller]
fn check_template(template: &str) {
    let cached = CacheRoute::get("/a/{x}").key(template).ttl(TTL);
    check(builder().cache(cached), Kind::Key, "GET /a/{x}", "key");
    let rule = InvalidateRoute::any_unsafe("/a/{x}").key("fine:{x}").key(template);
    check(builder().invalidate(rule), Kind::Key, "(any unsafe) /a/{x}", "key");
}

#[track_caller]
fn check_builds(builder: SupportCacheLayerBuilder<MemoryStore>) {
    if let Err(error) = builder.build() {
        panic!("{error}");
    }
}

#[test]
fn a_pattern_that_cannot_be_parsed_is_refused() {
    for pattern in
        ["", "a", "a/{x}", "/{x", "/x}", "/a/{x}/{x}", "/{}", "/{*}", "/{*rest}/more", "/{a}{b}"]
    {
        check_pattern(pattern);
    }
}

/// Of other routers, and of axum before 0.8: each would match nothing, and say nothing.
#[test]
fn a_pattern_in_another_syntax_is_refused_and_the_error_says_what_to_write() {
    for (pattern, fix) in [
        ("/a/:id", "`{id}`"),
        ("/:id/b", "`{id}`"),
        ("/a/:id.json", "`{id}`"),
        ("/a/:", "`{name}`"),
        ("/a/*rest", "`{*rest}`"),
        ("/a/*", "`{*rest}`"),
        ("/a/**", "`{*rest}`"),
        ("/a/{id:[0-9]+}", "`{id}`"),
        ("/a/{id:[0-9]{2}}", "`{id}`"),
        ("/a/{id:[^/]+}/b", "`{id}`"),
        ("/a/{id?}", "`{id}`"),
        ("/a/{id:int}", "`{id}`"),
        ("/a/{ id }", "`{name}`"),
        ("/a/{*rest:path}", "`{*rest}`"),
        ("/a/{**rest}", "`{*rest}`"),
        ("/a/{:id}", "`{name}`"),
        ("/a/<id>", "percent-encode"),
        ("/a b", "percent-encode"),
        ("/a\tb", "percent-encode"),
        ("/a?b={c}", "without its query"),
        ("/a#b", "without its query"),
    ] {
        check_pattern(pattern);
        let error = builder().cache(route(pattern)).build().unwrap_err();
        assert!(error.to_string().contains(fix), "{pattern}: {error}");
    }
    for pattern in [
        "/v1/{id}:cancel",
        "/a:b",
        "/a*b",
        "/a/{some-id}",
        "/a/{some.id}",
        "/a/{id2}.json",
        "/a/%20",
        "/é",
        "/a~b",
    ] {
        check_builds(builder().cache(route(pattern)));
    }
}

#[test]
fn a_placeholder_that_the_pattern_lacks_is_refused_by_name() {
    check_template("k:{y}");
    check_template("k:{x}:{}");
    check_template("k:{*x}");
    let error = builder().cache(route("/a/{x}").key("k:{y}")).build().unwrap_err();
    assert!(error.to_string().contains("`{y}`"), "{error}");
}

#[test]
fn a_template_with_unbalanced_braces_is_refused() {
    check_template("k:{x");
    check_template("k:x}");
    check_template("k:{x}}");
    check_template("k:{x}{");
}

#[test]
fn a_template_that_makes_no_usable_key_is_refused() {
    check_template("");
    check_template("  ");
    check_template("a key");
    check_template("a\nkey");
    check_template(&"k".repeat(513));
    check_builds(builder().cache(route("/").key("k".repeat(512))));
}

#[test]
fn a_cached_route_has_exactly_one_key() {
    let none = CacheRoute::get("/a").ttl(TTL);
    check(builder().cache(none.clone()), Kind::MissingKey, "GET /a", "key");
    let both = none.key("k").key_with(|_| None);
    check(builder().cache(both), Kind::MissingKey, "GET /a", "key_with");
}

#[test]
fn a_rule_without_keys_is_refused() {
    let rule = InvalidateRoute::delete("/a");
    check(builder().invalidate(rule), Kind::MissingKey, "DELETE /a", "key");
}

#[test]
fn routes_that_match_the_same_paths_clash() {
    for (first, second) in [
        ("/a", "/a"),
        ("/a/{x}", "/a/{x}"),
        ("/a/{x}", "/a/{y}"),
        ("/a/{*rest}", "/a/{x}/b"),
        ("/a/{*rest}", "/a/{*all}"),
    ] {
        let both = builder().cache(route(first)).cache(route(second));
        check(both, Kind::Clash, &format!("GET {second}"), "pattern");
    }
}

#[test]
fn a_lifetime_that_is_missing_zero_or_endless_is_refused() {
    let century = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let none = CacheRoute::get("/a").key("k");
    check(builder().cache(none.clone()), Kind::Ttl, "GET /a", "ttl");
    for ttl in [Duration::ZERO, century + Duration::from_nanos(1), Duration::MAX] {
        check(builder().cache(none.clone().ttl(ttl)), Kind::Ttl, "GET /a", "ttl");
    }
    for ttl in [Duration::from_nanos(1), century] {
        check_builds(builder().cache(none.clone().ttl(ttl)));
    }
}

#[test]
fn a_bucket_has_a_name_that_metrics_can_carry() {
    for name in ["", "Cases", "1st", "_a", "a-b", "a b", "ä", &"a".repeat(65)] {
        check(builder().cache(route("/a").bucket(name)), Kind::Bucket, "GET /a", "bucket");
    }
    for name in ["a", "case_list_2", &"a".repeat(64)] {
        check_builds(builder().cache(route("/a").bucket(name)));
    }
}

#[test]
fn routes_of_one_bucket_have_the_same_settings() {
    for other in [
        route("/b").ttl(TTL * 2),
        route("/b").body_limit(1),
        route("/b").coalescing(Coalescing::Off),
    ] {
        let both = builder().cache(route("/a")).cache(other);
        check(both, Kind::Bucket, "GET /b", "bucket");
    }
    check_builds(builder().cache(route("/a")).cache(route("/b").key("another")));
}

#[test]
fn an_error_about_a_bucket_names_the_setting_and_the_fix() {
    let origin = |route: CacheRoute| route.freshness(Freshness::Origin);
    for (other, setting) in [
        (route("/b").ttl(TTL * 2), "ttl"),
        (route("/b").negative_ttl(TTL), "negative_ttl"),
        (route("/b").jitter(0), "jitter"),
        (route("/b").statuses([http::StatusCode::NOT_FOUND]), "statuses"),
        (origin(route("/b")), "freshness"),
        (origin(route("/b")).heuristic(1), "freshness"),
        (route("/b").body_limit(1), "body_limit"),
        (route("/b").coalescing(Coalescing::Off), "coalescing"),
        (route("/b").stale_while_revalidate(TTL), "stale_while_revalidate"),
        (route("/b").stale_if_error(TTL), "stale_if_error"),
        (route("/b").soft_timeout(TTL), "soft_timeout"),
        (route("/b").early_refresh(1.0), "early_refresh"),
    ] {
        let error = builder().cache(route("/a")).cache(other.clone()).build().unwrap_err();
        let text = error.to_string();
        for part in
            ["route `GET /b`", "`default`", "`GET /a`", &format!("`{setting}`"), "`.bucket("]
        {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        check_builds(builder().cache(route("/a")).cache(other.bucket("b")));
    }
}

#[test]
fn an_error_says_what_to_write_instead() {
    #[track_caller]
    fn says(error: &ConfigError, text: &str) {
        assert_eq!(error.to_string(), text);
    }
    #[track_caller]
    fn route_says(route: CacheRoute, text: &str) {
        says(
            &builder().cache(route).build().unwrap_err(),
            &format!("route `GET /a/{{x}}`: {text}"),
        );
    }
    let bare = || CacheRoute::get("/a/{x}").key("k");
    route_says(bare(), "ttl: is missing: give `.ttl(..)` or `.freshness(Freshness::Origin)`");
    route_says(bare().ttl(Duration::ZERO), "ttl: is zero: give a longer time, or remove it");
    route_says(
        CacheRoute::get("/a/{x}").ttl(TTL),
        "key: is missing: give `.key(..)` or `.key_with(..)`",
    );
    route_says(bare().ttl(TTL).key("k:{y}"), "key: `{y}` is no parameter of `/a/{x}`: write `{x}`");
    route_says(
        bare().ttl(TTL).tag("t:{x"),
        "tag: `t:{x` has a brace without its partner: double it for a literal brace",
    );
    route_says(
        bare().ttl(TTL).heuristic(5),
        "heuristic: is for `Freshness::Origin`: add `.freshness(Freshness::Origin)`, or remove it",
    );
    route_says(
        bare().ttl(TTL).statuses([http::StatusCode::UNAUTHORIZED]),
        "statuses: 401 and 407 are for one client: remove them",
    );
    says(
        &builder().cache(route("a")).build().unwrap_err(),
        "route `GET a`: pattern: does not start with `/`: write `/a`",
    );
    says(
        &builder().cache(route("/{a}{b}")).build().unwrap_err(),
        "route `GET /{a}{b}`: pattern: has two parameters in one segment: put a `/` between them",
    );
    says(
        &builder().cache(route("/a/{x}")).cache(route("/a/{y}")).build().unwrap_err(),
        "route `GET /a/{y}`: pattern: matches paths that `/a/{x}` matches: remove one route",
    );
    says(
        &builder().invalidate(InvalidateRoute::post("/a")).build().unwrap_err(),
        "route `POST /a`: key: is missing: give `.key(..)`, `.tag(..)` or `.groups()`",
    );
    says(
        &builder().name("a b").build().unwrap_err(),
        "`SupportCacheLayerBuilder`: name: is no token: write letters, digits and `-`, a letter first",
    );
    says(
        &MemoryStore::builder().capacity(1).build().unwrap_err(),
        "`MemoryStoreBuilder`: capacity: is under 16 KiB: give at least 16384",
    );
}

#[cfg(feature = "redis")]
#[test]
fn an_error_of_the_redis_store_names_its_builder() {
    use tower_support_cache::{RedisStore, RedisStoreBuilder};

    #[track_caller]
    fn check(builder: RedisStoreBuilder, start: &str) {
        let text = builder.build().unwrap_err().to_string();
        assert!(text.starts_with(&format!("`RedisStoreBuilder`: {start}")), "{text}");
        assert!(!text.contains("secret"), "an address may hold a password: {text}");
    }
    let builder = || RedisStore::builder("redis://user:secret@127.0.0.1/");
    check(builder().heartbeat(Duration::ZERO), "heartbeat: is under one millisecond: give");
    let over = [
        ("heartbeat", builder().heartbeat(Duration::MAX)),
        ("heartbeat_timeout", builder().heartbeat_timeout(Duration::MAX)),
        ("lookup_budget", builder().lookup_budget(Duration::MAX)),
        ("invalidate_budget", builder().invalidate_budget(Duration::MAX)),
        ("lease", builder().lease(Duration::MAX)),
    ];
    for (field, builder) in over {
        check(builder, &format!("{field}: is over an hour"));
    }
    let slow = builder().heartbeat(Duration::from_secs(10));
    check(slow, "heartbeat: and `heartbeat_timeout` are over 10 s together");
    check(builder().breaker(0), "breaker: is zero: give");
    check(builder().namespace("a\nb"), "namespace: has control characters: write");
    check(RedisStore::builder("http://user:secret@127.0.0.1/"), "url: cannot be parsed");
}

#[test]
fn limits_that_let_nothing_through_are_refused() {
    check(builder().cache(route("/a").body_limit(0)), Kind::Limit, "GET /a", "body_limit");
    let error = MemoryStore::builder().capacity(16 * 1024 - 1).build().unwrap_err();
    check_error(&error, Kind::Limit, None, "capacity");
    assert!(MemoryStore::builder().capacity(16 * 1024).build().is_ok());
}

#[test]
fn a_cache_name_is_a_token() {
    for name in ["", "a b", "1cache", "-", "a;hit", "a\r\nb", "é", "\"a\""] {
        check_error(&builder().name(name).build().unwrap_err(), Kind::Name, None, "name");
    }
    for name in ["a", "*", "Portal.example:8080/edge"] {
        check_builds(builder().name(name));
    }
}

#[test]
fn a_rule_for_a_safe_method_is_refused() {
    for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE] {
        let rule = InvalidateRoute::new(method.clone(), "/a").key("k");
        check(builder().invalidate(rule), Kind::Pattern, &format!("{method} /a"), "method");
    }
    for method in ["PRI", "PROPFIND", "QUERY", "REPORT", "SEARCH"] {
        let registered = Method::from_bytes(method.as_bytes()).unwrap();
        let rule = InvalidateRoute::new(registered, "/a").key("k");
        check(builder().invalidate(rule), Kind::Pattern, &format!("{method} /a"), "method");
    }
    let purge = Method::from_bytes(b"PURGE").unwrap();
    check_builds(builder().invalidate(InvalidateRoute::new(purge, "/a").key("k")));
}

#[test]
fn a_read_and_a_write_may_name_the_parameters_of_one_path_differently() {
    check_builds(
        builder()
            .cache(route("/cases/{case}").key("case:{case}"))
            .invalidate(InvalidateRoute::put("/cases/{id}").key("case:{id}"))
            .invalidate(InvalidateRoute::delete("/cases/{which}").key("case:{which}")),
    );
}

#[test]
fn rules_may_overlap_in_any_way() {
    check_builds(
        builder()
            .invalidate(InvalidateRoute::post("/a/{x}/b").key("k:{x}"))
            .invalidate(InvalidateRoute::post("/a/{x}/b").key("l:{x}"))
            .invalidate(InvalidateRoute::any_unsafe("/{*rest}").key("all"))
            .invalidate(InvalidateRoute::any_unsafe("/a/{*rest}").key("all"))
            .invalidate(InvalidateRoute::put("/{x}/b").key("m:{x}"))
            .invalidate(InvalidateRoute::put("/a/{x}.json").key("n:{x}")),
    );
}

#[test]
fn patterns_and_templates_have_all_of_their_syntax() {
    check_builds(
        builder()
            .cache(route("/"))
            .cache(route("/files/{*path}").key("files:{path}"))
            .cache(route("/cases/{case}.json").key("case:{case}:{case}"))
            .cache(route("/odd/{{x}}/{näme}").key("odd:{{literal}}:{näme}")),
    );
}

#[test]
fn an_endless_window_is_refused() {
    const ENDLESS: Duration = Duration::from_secs(101 * 365 * 24 * 60 * 60);
    let stale = route("/a").stale_while_revalidate(ENDLESS);
    check(builder().cache(stale), Kind::Ttl, "GET /a", "stale_while_revalidate");
    check(
        builder().cache(route("/a").stale_if_error(ENDLESS)),
        Kind::Ttl,
        "GET /a",
        "stale_if_error",
    );
    check_builds(builder().cache(route("/a").stale_while_revalidate(TTL).stale_if_error(TTL)));
}

#[test]
fn a_route_that_leaves_freshness_to_the_origin_needs_no_lifetime() {
    let route = || CacheRoute::get("/a").key("k").freshness(Freshness::Origin);
    check_builds(builder().cache(route()));
    check_builds(builder().cache(route().ttl(TTL).negative_ttl(TTL).heuristic(10)));
    for beta in [-0.1, 10.1, f32::NAN, f32::INFINITY] {
        let eager = route().ttl(TTL).early_refresh(beta);
        check(builder().cache(eager), Kind::Limit, "GET /a", "early_refresh");
    }
    check(builder().cache(route().heuristic(11)), Kind::Limit, "GET /a", "heuristic");
    check_builds(builder().cache(route().jitter(50)));
    check(builder().cache(route().jitter(51)), Kind::Limit, "GET /a", "jitter");
    check(builder().cache(route().ttl(Duration::ZERO)), Kind::Ttl, "GET /a", "ttl");
    let fixed = CacheRoute::get("/a").key("k").ttl(TTL).heuristic(10);
    check(builder().cache(fixed), Kind::Limit, "GET /a", "heuristic");
}

#[test]
fn hosts_and_schemes_are_checked() {
    let route = || CacheRoute::get("/a").key("a").ttl(TTL);
    for (hosts, problem) in [
        (&[][..], "names no host: name one, or use `HostPolicy::Ignore`"),
        (&["https://a.example"], "names what is no host: give `a.example` or `a.example:8080`"),
    ] {
        let only = HostPolicy::Only(hosts.iter().map(|host| (*host).to_owned()).collect());
        let error = builder().cache(route().host(only)).build().unwrap_err();
        assert_eq!(error.kind(), Kind::Host);
        assert_eq!(error.to_string(), format!("route `GET /a`: host: {problem}"));
    }
    let error = builder().scheme("ftp").build().unwrap_err();
    assert_eq!((error.kind(), error.field()), (Kind::Scheme, "scheme"));
    for scheme in ["http", "HTTPS"] {
        check_builds(builder().cache(route()).scheme(scheme));
    }
}
