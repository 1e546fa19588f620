//! `GET /`: the portal's page, with its style, scripts and chart library, all within the program.

use axum::{
    Router,
    http::{
        HeaderName,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::IntoResponse,
    routing::get,
};

/// Nothing from elsewhere, and nothing inline: the page is the files below and what the portal
/// answers.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Path, type and text of each file.
const FILES: [(&str, &str, &str); 8] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/page/style.css", CSS, include_str!("page/style.css")),
    ("/page/icon.svg", SVG, include_str!("page/icon.svg")),
    ("/page/portal.js", SCRIPT, include_str!("page/portal.js")),
    ("/page/api.js", SCRIPT, include_str!("page/api.js")),
    ("/page/charts.js", SCRIPT, include_str!("page/charts.js")),
    // uPlot 1.6.32 as published, with its licence beside it.
    ("/page/uplot.js", SCRIPT, include_str!("page/uplot/uPlot.iife.min.js")),
    ("/page/uplot.css", CSS, include_str!("page/uplot/uPlot.min.css")),
];

pub(crate) fn router() -> Router {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(async move || file(kind, text)))
    })
}

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let head: [(HeaderName, &str); 5] = [
        (CONTENT_TYPE, kind),
        // Another build of the program has other files at the same paths.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    (head, text)
}
