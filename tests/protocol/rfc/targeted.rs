//! Fields that take the place of `Cache-Control` (RFC 9213).

use http::HeaderName;
use tower_support_cache::{CacheRoute, Credentials};

use super::{
    freshness::by_origin,
    row::{Answer, Answer::*, Fields, Row, check},
};

fn targeted(route: CacheRoute) -> CacheRoute {
    let name = HeaderName::from_static;
    by_origin(route).targeted([name("bff-cache-control"), name("cdn-cache-control")])
}

fn row(line: &'static str, stored: Fields, answer: Answer) -> Row {
    Row::new(line, "RFC 9213 §2", answer).route(targeted).stored(stored).age(20)
}

fn fields() -> Vec<Row> {
    let list = |stored, answer| row("3.6 target list", stored, answer);
    let dictionary = |stored, answer| row("3.6 dictionary", stored, answer);
    vec![
        list(&[("bff-cache-control", "max-age=60"), ("cache-control", "no-store")], Stored),
        list(&[("bff-cache-control", "max-age=60"), ("cache-control", "private")], Stored),
        list(&[("bff-cache-control", "max-age=10"), ("cache-control", "max-age=60")], Forwarded),
        list(&[("bff-cache-control", "public"), ("expires", "@60")], Forwarded),
        list(&[("bff-cache-control", "max-age=60"), ("expires", "0")], Stored),
        list(&[("cdn-cache-control", "max-age=60"), ("cache-control", "max-age=10")], Stored),
        list(&[("bff-cache-control", "max-age=60"), ("cdn-cache-control", "no-store")], Stored),
        list(
            &[("bff-cache-control", "max-age=10"), ("cdn-cache-control", "max-age=60")],
            Forwarded,
        ),
        list(&[("other-cache-control", "no-store"), ("cache-control", "max-age=60")], Stored),
        list(&[("other-cache-control", "max-age=60")], Forwarded),
        list(&[("bff-cache-control", "no-store"), ("cache-control", "max-age=60")], Forwarded),
        dictionary(&[("bff-cache-control", ""), ("cache-control", "max-age=60")], Stored),
        dictionary(&[("bff-cache-control", "no-store,"), ("cache-control", "max-age=60")], Stored),
        dictionary(&[("bff-cache-control", "No-Store"), ("cache-control", "max-age=60")], Stored),
        dictionary(&[("bff-cache-control", "max-age=60;x=\"y\", unknown=(a b)")], Stored),
        dictionary(&[("bff-cache-control", "no-store=?0, max-age=60")], Stored),
        dictionary(&[("bff-cache-control", "max-age=\"60\"")], Forwarded),
        dictionary(&[("bff-cache-control", "max-age=60.0")], Forwarded),
        dictionary(
            &[("bff-cache-control", "max-age=10"), ("bff-cache-control", "max-age=60")],
            Stored,
        ),
    ]
}

fn directives() -> Vec<Row> {
    let directives = |stored, answer| row("3.6 directives", stored, answer);
    vec![
        directives(&[("bff-cache-control", "max-age=60, no-store")], Forwarded),
        directives(&[("bff-cache-control", "max-age=60, no-cache")], Forwarded),
        directives(&[("bff-cache-control", "max-age=60, private")], Forwarded),
        directives(&[("bff-cache-control", "max-age=60, private=\"x\""), ("x", "1")], Forwarded),
        directives(&[("bff-cache-control", "max-age=60, must-revalidate")], Stored),
        directives(&[("bff-cache-control", "max-age=60, s-maxage=10")], Forwarded),
        directives(&[("bff-cache-control", "public, max-age=60")], Stored)
            .route(|route| targeted(route).credentials(Credentials::ByResponse))
            .asked(&[("authorization", "alice")])
            .request(&[("authorization", "bob")]),
        // A route with a lifetime of its own heeds what it forbids, and keeps its lifetime.
        row("3.6 directives", &[("bff-cache-control", "max-age=10")], Stored)
            .route(|route| route.targeted([HeaderName::from_static("bff-cache-control")])),
        row("3.6 directives", &[("bff-cache-control", "no-store")], Forwarded)
            .route(|route| route.targeted([HeaderName::from_static("bff-cache-control")])),
        row(
            "3.6 directives",
            &[("bff-cache-control", "public"), ("cache-control", "no-store")],
            Stored,
        )
        .route(|route| route.targeted([HeaderName::from_static("bff-cache-control")])),
        row(
            "3.6 downstream",
            &[("bff-cache-control", "max-age=60"), ("cache-control", "no-store")],
            Stored,
        )
        .has("cache-control", &["no-store"]),
        row(
            "3.6 downstream",
            &[("bff-cache-control", "max-age=60"), ("cache-control", "no-store")],
            Stored,
        )
        .route(|route| targeted(route).strip([HeaderName::from_static("bff-cache-control")]))
        .has("bff-cache-control", &[])
        .has("cache-control", &["no-store"]),
    ]
}

pub(crate) fn rows() -> Vec<Row> {
    [fields(), directives()].into_iter().flatten().collect()
}

#[tokio::test(start_paused = true)]
async fn a_targeted_field_takes_the_place_of_cache_control() {
    check(rows()).await;
}
