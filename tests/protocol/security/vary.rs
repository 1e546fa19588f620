//! What a response varies by: `SEC-VARY-*`.

use http::{HeaderValue, Response};
use tower_support_cache::{Credentials, Refusal};

use super::{
    Asked, Site, numbered,
    support::{GatedBody, get, with},
};

/// Credentials do not matter to the route, so that nothing but `Vary` tells callers apart.
fn varying(fields: &[(&'static str, &str)]) -> Site {
    Site::new(|route| route.credentials(Credentials::CoveredByKey), numbered(fields))
}

#[tokio::test(start_paused = true)]
async fn sec_vary_1_a_nominated_credential_tells_callers_apart() {
    for (field, nominations) in [
        ("authorization", &["Authorization"][..]),
        ("authorization", &["AUTHORIZATION, accept"]),
        ("authorization", &["accept", "accept-encoding ,\tauthorization"]),
        ("cookie", &["Cookie"]),
        ("cookie", &["accept", ",cookie,"]),
        ("x-api-key", &["X-Api-Key"]),
    ] {
        let lines: Vec<_> = nominations.iter().map(|line| ("vary", *line)).collect();
        let site = varying(&lines);
        let by = |caller| with(get("/cases/1"), field, caller);
        let twice = with(by("alice"), field, "bob");
        let requests = [by("alice"), by("bob"), by(""), twice, get("/cases/1")];
        for (index, request) in requests.iter().enumerate() {
            let got = site.ask(request.clone()).await;
            assert_eq!(got.text(), (index + 1).to_string(), "{field}, {nominations:?}");
        }
        for (index, request) in requests.into_iter().enumerate() {
            let got = site.ask(request).await;
            assert!(got.is_hit() && got.text() == (index + 1).to_string(), "{field}: {got:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sec_vary_1_what_cannot_be_told_apart_is_not_stored() {
    let many: Vec<_> = (0..1000).map(|number| format!("x-{number}")).collect();
    let many_on_one_line = many.join(",");
    let many_lines: Vec<_> = many.iter().map(String::as_str).collect();
    for lines in [
        &["*"][..],
        &["accept, *"],
        &["*, accept"],
        &["accept", "*"],
        &["a b"],
        &["accept;q=1"],
        &["\"accept\""],
        &["accept/x"],
        &["(cookie)"],
        &[&many_on_one_line],
        &many_lines,
    ] {
        let lines: Vec<_> = lines.iter().map(|line| ("vary", *line)).collect();
        let site = varying(&lines);
        let first = site.ask(get("/cases/1")).await;
        let second = site.ask(get("/cases/1")).await;
        assert_ne!(first.text(), second.text(), "{:?}", lines[0]);
        let counts = site.counts();
        assert_eq!((counts.stored, counts.refused[&Refusal::Vary]), (0, 2), "{:?}", lines[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn sec_vary_1_a_name_that_is_no_text_is_not_stored() {
    let site = Site::new(
        |route| route,
        |_| {
            let mut response = Response::new(GatedBody::full("x"));
            let name = HeaderValue::from_bytes(b"accept, \xff").unwrap();
            response.headers_mut().insert("vary", name);
            response
        },
    );
    site.ask(get("/cases/1")).await;
    assert!(!site.ask(get("/cases/1")).await.is_hit());
}

/// Reads the language, and the format only where no language is asked for; says so each time.
fn fickle(head: &http::request::Parts) -> Response<GatedBody> {
    let read = |name| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let (body, vary) = match read("accept-language") {
        Some(language) => (language, "accept-language"),
        None => (read("accept").unwrap_or_default(), "Accept, Accept-Language"),
    };
    let mut response = Response::new(GatedBody::full(body));
    response.headers_mut().insert("vary", HeaderValue::from_static(vary));
    response
}

fn asking(language: Option<&str>, format: Option<&str>) -> Asked {
    let mut request = get("/cases/1");
    if let Some(language) = language {
        request = with(request, "accept-language", language);
    }
    match format {
        Some(format) => with(request, "accept", format),
        None => request,
    }
}

#[tokio::test(start_paused = true)]
async fn sec_vary_2_responses_that_nominate_different_fields_are_never_mixed_up() {
    let choices = [None, Some("a"), Some("b")];
    let all: Vec<_> = choices.iter().flat_map(|l| choices.iter().map(move |f| (*l, *f))).collect();
    for start in 0..all.len() {
        let site = Site::new(|route| route, fickle);
        for step in 0..3 * all.len() {
            let (language, format) = all[(start + step * 2) % all.len()];
            let got = site.ask(asking(language, format)).await;
            let right = language.or(format).unwrap_or_default();
            assert_eq!(got.text(), right, "{language:?}, {format:?}, from {start}");
        }
        assert!(site.counts().hits >= all.len() as u64, "{:?}", site.counts());
    }
}
