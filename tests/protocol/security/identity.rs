//! Who is answered with what: `SEC-AUTH-*`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get as on_get,
};
use http::StatusCode;
use tower::ServiceExt;
use tower_support_cache::{
    Bypass, CacheRoute, Caller, Credentials, MemoryStore, SupportCacheLayer,
};

use super::{
    Asked, Site, numbered,
    support::{TTL, get, with},
};

const ALICE: &str = "Bearer alice";
const BOB: &str = "Bearer bob";

fn by(caller: &str) -> Asked {
    with(get("/cases/1"), "authorization", caller)
}

fn site(credentials: &Credentials, fields: &[(&'static str, &str)]) -> Site {
    Site::new(|route| route.credentials(credentials.clone()), numbered(fields))
}

fn per_caller() -> Credentials {
    Credentials::PerCaller(Caller::authorization())
}

#[tokio::test(start_paused = true)]
async fn sec_auth_1_one_callers_response_answers_another_only_where_both_route_and_response_say_so()
{
    use Credentials::{ByResponse, Bypass, CoveredByKey};
    for (credentials, cache_control, is_shared) in [
        (Bypass, "public", false),
        (per_caller(), "public", false),
        (per_caller(), "private", false),
        (ByResponse, "max-age=60", false),
        (ByResponse, "s-maxage=x", false),
        (ByResponse, "public=\"x\"", false),
        (ByResponse, "public, private", false),
        (ByResponse, "public", true),
        (ByResponse, "s-maxage=60", true),
        (ByResponse, "must-revalidate", true),
        // The route's own word, and the only way without the response's.
        (CoveredByKey, "max-age=60", true),
    ] {
        let site = site(&credentials, &[("cache-control", cache_control)]);
        let first = site.ask(by(ALICE)).await;
        let second = site.ask(by(BOB)).await;
        let was_shared = first.text() == second.text();
        assert_eq!(was_shared, is_shared, "{credentials:?}, {cache_control}: {second:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn sec_auth_1_every_credential_field_bypasses_by_default() {
    for field in [
        "authorization",
        "cookie",
        "proxy-authorization",
        "x-api-key",
        "x-auth-token",
        "x-forwarded-user",
        "x-remote-user",
        "remote-user",
        "cf-access-jwt-assertion",
        "x-amzn-oidc-data",
        "x-goog-iap-jwt-assertion",
        "x-ms-client-principal",
    ] {
        let site = site(&Credentials::Bypass, &[("cache-control", "public")]);
        for _ in 0..2 {
            let got = site.ask(with(get("/cases/1"), field, "alice")).await;
            assert!(got.cache_status().ends_with("detail=credentials"), "{field}: {got:?}");
        }
        assert_eq!((site.calls(), site.counts().entries), (2, 0), "{field}");
    }
}

#[tokio::test(start_paused = true)]
async fn sec_auth_2_callers_and_the_anonymous_share_nothing() {
    for credentials in [Credentials::Bypass, per_caller(), Credentials::ByResponse] {
        for is_alice_first in [true, false] {
            let site = site(&credentials, &[("cache-control", "public")]);
            let mut requests = [by(ALICE), get("/cases/1")];
            if !is_alice_first {
                requests.reverse();
            }
            let [first, second] = requests;
            let first = site.ask(first).await;
            let second = site.ask(second).await;
            assert_ne!(first.text(), second.text(), "{credentials:?}, {is_alice_first}");
        }
    }
}

/// An authentication layer whose one user can be revoked.
async fn authenticate(
    State(is_revoked): State<Arc<AtomicBool>>,
    request: Request,
    next: Next,
) -> Response {
    if is_revoked.load(Ordering::SeqCst) || !request.headers().contains_key("authorization") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    next.run(request).await
}

/// Where the cache stands.
#[derive(Clone, Copy, Debug)]
enum Place {
    InsideAuthentication,
    OutsideAuthentication,
}

async fn status_after_revocation(place: Place, credentials: Credentials) -> (StatusCode, usize) {
    let cache = SupportCacheLayer::builder(MemoryStore::new())
        .cache(
            CacheRoute::get("/cases/{case}").key("case:{case}").ttl(TTL).credentials(credentials),
        )
        .build()
        .unwrap();
    let is_revoked = Arc::new(AtomicBool::new(false));
    let authentication = from_fn_with_state(Arc::clone(&is_revoked), authenticate);
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let handler = move || async move { count.fetch_add(1, Ordering::SeqCst).to_string() };
    let routes = Router::new().route("/cases/{case}", on_get(handler));
    // The last layer is the outermost.
    let app = match place {
        Place::InsideAuthentication => routes.layer(cache).layer(authentication),
        Place::OutsideAuthentication => routes.layer(authentication).layer(cache),
    };
    let ask = || app.clone().oneshot(by(ALICE).map(Body::new));
    for _ in 0..2 {
        assert_eq!(ask().await.unwrap().status(), StatusCode::OK);
    }
    is_revoked.store(true, Ordering::SeqCst);
    (ask().await.unwrap().status(), calls.load(Ordering::SeqCst))
}

#[tokio::test(start_paused = true)]
async fn sec_auth_3_a_revoked_user_is_refused_within_the_lifetime() {
    for (place, credentials, calls) in [
        (Place::OutsideAuthentication, Credentials::Bypass, 2),
        (Place::InsideAuthentication, Credentials::Bypass, 2),
        (Place::InsideAuthentication, per_caller(), 1),
        (Place::InsideAuthentication, Credentials::CoveredByKey, 1),
    ] {
        let ended = status_after_revocation(place, credentials.clone()).await;
        assert_eq!(ended, (StatusCode::UNAUTHORIZED, calls), "{place:?}, {credentials:?}");
    }
}

#[derive(Clone)]
struct User(&'static str);

fn by_user(user: &'static str) -> Asked {
    let mut request = get("/cases/1");
    request.extensions_mut().insert(User(user));
    request
}

/// The principal that an outer layer put into the extensions.
fn per_user() -> Credentials {
    let caller = |request: &tower_support_cache::KeyRequest<'_>| {
        request.extensions().get::<User>().map(|user| user.0.to_owned())
    };
    Credentials::PerCaller(Caller::with(caller))
}

#[tokio::test(start_paused = true)]
async fn sec_auth_4_no_caller_is_a_bypass_and_not_a_caller_of_its_own() {
    let cookie = |value| with(get("/cases/1"), "cookie", value);
    let per_cookie = || Credentials::PerCaller(Caller::cookies(["sid"]));
    for (label, credentials, request) in [
        ("no field", per_caller(), get("/cases/1")),
        ("empty field", per_caller(), by("")),
        ("blank field", per_caller(), by(" \t ")),
        ("no cookie", per_cookie(), cookie("other=1")),
        ("empty cookie", per_cookie(), cookie("sid=")),
        ("blank cookie", per_cookie(), cookie("other=1; sid= ; x=2")),
        ("one of two cookies", per_cookie(), cookie("sid=; sid=1")),
        ("no principal", per_user(), get("/cases/1")),
        ("empty principal", per_user(), by_user("")),
        ("blank principal", per_user(), by_user(" \t\u{3000}")),
    ] {
        let site = site(&credentials, &[("cache-control", "public")]);
        let first = site.ask(request.clone()).await;
        let second = site.ask(request).await;
        assert_ne!(first.text(), second.text(), "{label}");
        assert_eq!(site.counts().bypassed[&Bypass::Caller], 2, "{label}");
    }
}

#[tokio::test(start_paused = true)]
async fn sec_auth_4_no_tenant_is_a_bypass_and_not_a_tenant_of_its_own() {
    for tenant in [None, Some(""), Some(" "), Some("\u{3000}")] {
        let key = move |_: &tower_support_cache::KeyRequest<'_>| tenant.map(str::to_owned);
        let keyed = |_| CacheRoute::get("/cases/{case}").bucket("cases").key_with(key).ttl(TTL);
        let site = Site::new(keyed, numbered(&[]));
        let first = site.ask(get("/cases/1")).await;
        assert_ne!(site.ask(get("/cases/1")).await.text(), first.text(), "{tenant:?}");
        assert_eq!(site.counts().bypassed[&Bypass::Key], 2, "{tenant:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn sec_auth_5_callers_are_the_same_only_if_byte_equal() {
    let users = [
        "Bob",
        "bob",
        "BOB",
        "B\u{f6}b",
        "Bo\u{308}b",
        "bob ",
        " bob",
        "bob\u{200b}",
        "bob\0",
        "b\u{3bf}b",
    ];
    let site = site(&per_user(), &[("cache-control", "private")]);
    for (index, user) in users.into_iter().enumerate() {
        let got = site.ask(by_user(user)).await;
        assert_eq!(got.text(), (index + 1).to_string(), "{user:?} is answered with another's");
    }
    for (index, user) in users.into_iter().enumerate() {
        let got = site.ask(by_user(user)).await;
        assert!(got.is_hit() && got.text() == (index + 1).to_string(), "{user:?}: {got:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn sec_auth_6_junk_credentials_are_counted_and_displace_nothing() {
    let site = site(&Credentials::Bypass, &[]);
    let stored = site.ask(get("/cases/1")).await;
    for junk in 0..100 {
        let got = site.ask(by(&format!("junk {junk}"))).await;
        assert!(got.cache_status().ends_with("fwd=bypass;fwd-status=200;detail=credentials"));
    }
    let counts = site.counts();
    assert_eq!((counts.bypassed[&Bypass::Credentials], counts.entries), (100, 1));
    let after = site.ask(get("/cases/1")).await;
    assert!(after.is_hit() && after.text() == stored.text());
}
