//! Fields that are meant for one client: `SEC-COOK-*`.

use http::HeaderName;
use tower_support_cache::Refusal;

use super::{Site, numbered, support::get};

fn name(field: &'static str) -> HeaderName {
    HeaderName::from_static(field)
}

async fn is_refused_with(fields: &[(&'static str, &str)], refusal: Refusal) {
    let site = Site::new(|route| route, numbered(fields));
    let first = site.ask(get("/cases/1")).await;
    let second = site.ask(get("/cases/1")).await;
    assert_ne!(first.text(), second.text(), "{fields:?}");
    assert_eq!(first.fields.get_all(fields[0].0).iter().count(), fields.len(), "{first:?}");
    let counts = site.counts();
    assert_eq!((counts.stored, counts.refused[&refusal]), (0, 2), "{fields:?}");
}

/// The field reaches the client whose request was forwarded, and nobody else.
async fn is_stripped(field: (&'static str, &str)) {
    let strip = |route: tower_support_cache::CacheRoute| route.strip([name(field.0)]);
    let site = Site::new(strip, numbered(&[field, ("x-kept", "1")]));
    let first = site.ask(get("/cases/1")).await;
    assert_eq!(first.fields[field.0].to_str().unwrap(), field.1);
    let hit = site.ask(get("/cases/1")).await;
    assert!(hit.is_hit() && hit.text() == first.text(), "{field:?}: {hit:?}");
    assert!(!hit.fields.contains_key(field.0), "{field:?}: {hit:?}");
    assert_eq!(hit.fields["x-kept"], "1");
}

#[tokio::test(start_paused = true)]
async fn sec_cook_1_a_response_that_sets_a_cookie_is_not_stored() {
    for fields in [
        &[("set-cookie", "sid=1")][..],
        &[("set-cookie", "")],
        &[("set-cookie", "a=1"), ("set-cookie", "sid=1; HttpOnly")],
        &[("set-cookie2", "sid=1")],
    ] {
        is_refused_with(fields, Refusal::SetCookie).await;
    }
}

#[tokio::test(start_paused = true)]
async fn sec_cook_1_a_cookie_that_the_route_strips_is_never_replayed() {
    is_stripped(("set-cookie", "sid=1")).await;
    is_stripped(("set-cookie2", "sid=1")).await;
}

#[tokio::test(start_paused = true)]
async fn sec_cook_2_a_response_for_one_client_is_not_stored() {
    for (field, refusal) in [
        ("www-authenticate", Refusal::WwwAuthenticate),
        ("proxy-authenticate", Refusal::ProxyAuthenticate),
        ("authentication-info", Refusal::AuthenticationInfo),
        ("clear-site-data", Refusal::ClearSiteData),
    ] {
        is_refused_with(&[(field, "Basic realm=\"x\"")], refusal).await;
    }
}

#[tokio::test(start_paused = true)]
async fn sec_cook_2_fields_of_one_request_are_stripped_where_the_route_says_so() {
    for field in ["x-csrf-token", "x-request-id", "server-timing", "traceparent", "clear-site-data"]
    {
        is_stripped((field, "1")).await;
    }
}
