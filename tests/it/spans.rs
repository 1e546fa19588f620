//! Events and spans: what the log shows of each request, of background work, and of operators.

use std::{
    fmt::{Debug, Write},
    sync::{Arc, Mutex},
};

use http::{Method, header::AUTHORIZATION};
use tower::ServiceExt;
use tower_support_cache::{CacheRoute, Routes, Switch};
use tracing::{
    Dispatch, Event, Id, Instrument, Subscriber,
    dispatcher::DefaultGuard,
    field::{Empty, Field, Visit},
    info_span,
    span::Record,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::{LookupSpan, Registry},
};

use crate::support::{
    TTL, cache, cache_with, get, got, read, request, response, send, settle, with,
};

/// Keeps a line of each event, with the span it is in, and one of each record on a span.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    /// For this thread, and so for this test.
    fn kept() -> (Self, DefaultGuard) {
        let lines = Self::default();
        let subscriber = Dispatch::new(Registry::default().with(lines.clone()));
        (lines, tracing::dispatcher::set_default(&subscriber))
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        write!(self.0, " {}={value}", field.name()).unwrap();
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let (mut fields, metadata) = (Fields::default(), event.metadata());
        event.record(&mut fields);
        let span = context.event_span(event).map_or("-", |span| span.metadata().name());
        let (level, target) = (metadata.level(), metadata.target());
        if target.starts_with("tower_support_cache") {
            self.push(format!("{level} {target} in {span}:{}", fields.0));
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        record.record(&mut fields);
        let span = context.span(id).map_or("-", |span| span.metadata().name());
        self.push(format!("{span}:{}", fields.0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_logged_by_fields_and_recorded_on_the_span_that_has_room_for_it() {
    let (lines, _guard) = Lines::kept();
    let (cache, _, calls) = cache();
    calls.serve(|_| response(200, &[], "x"));
    let span = || {
        info_span!(
            "request",
            "cache.outcome" = Empty,
            "cache.reason" = Empty,
            "cache.bucket" = Empty
        )
    };
    let ask = async |request| {
        let reply = cache.clone().oneshot(request).instrument(span()).await.unwrap();
        read(reply).await;
        lines.take()
    };
    let debug = |fields: &str| {
        format!("DEBUG tower_support_cache in request: message=request ended{fields}")
    };
    let recorded = |outcome: &str, reason: Option<&str>, bucket: Option<&str>| {
        let line = |name: &str, value: &str| format!("request: cache.{name}={value}");
        let reason = reason.map(|reason| line("reason", reason));
        let bucket = bucket.map(|bucket| line("bucket", bucket));
        [Some(line("outcome", outcome)), reason, bucket].into_iter().flatten()
    };
    for (request, fields, outcome, reason) in [
        (get("/cases/1"), " bucket=cases outcome=miss status=200", "miss", None),
        (get("/cases/1"), " bucket=cases outcome=hit", "hit", None),
        (
            with(get("/cases/1"), AUTHORIZATION.as_str(), "x"),
            " bucket=cases outcome=bypass reason=credentials status=200",
            "bypass",
            Some("credentials"),
        ),
    ] {
        let found: Vec<_> =
            ask(request).await.into_iter().filter(|line| !line.starts_with("WARN")).collect();
        let expected = [debug(fields)].into_iter().chain(recorded(outcome, reason, Some("cases")));
        assert_eq!(found, expected.collect::<Vec<_>>());
    }
    let found = ask(request(Method::POST, "/cases/1/comments")).await;
    let expected = [debug(" outcome=write status=200")].into_iter();
    let expected: Vec<_> = expected.chain(recorded("write", None, None)).collect();
    assert!(found.ends_with(&expected), "{found:?}");
}

/// The request of a fill whose caller has gone away is still the one that caused it.
#[tokio::test(start_paused = true)]
async fn work_without_a_caller_goes_on_in_the_span_of_its_request() {
    let (lines, _guard) = Lines::kept();
    let (cache, handle, mut calls) =
        cache_with(|route| route.stale_while_revalidate(std::time::Duration::from_secs(100)));
    let span = info_span!("first");
    let caller = tokio::spawn(cache.clone().oneshot(get("/cases/1")).instrument(span));
    let call = calls.next().await;
    caller.abort();
    settle().await;
    call.ok("x");
    settle().await;
    assert_eq!(handle.metrics().bucket("cases").unwrap().stored, 1);
    let found = lines.take();
    assert!(found[0].starts_with("DEBUG tower_support_cache in first:"), "{found:?}");

    tokio::time::advance(crate::support::TTL).await;
    let span = info_span!("second", "cache.outcome" = Empty);
    let stale = cache.clone().oneshot(get("/cases/1")).instrument(span).await.unwrap();
    read(stale).await;
    calls.next().await.ok("new");
    settle().await;
    let found = lines.take();
    let of_second = |text: &str| {
        format!("DEBUG tower_support_cache in second: message=request ended bucket=cases {text}")
    };
    let expected = [
        of_second("outcome=stale reason=stale-while-revalidate"),
        "second: cache.outcome=stale".to_owned(),
        of_second("outcome=refresh status=200"),
    ];
    assert_eq!(found, expected);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_outlives_its_caller_is_recorded_in_the_span_of_its_request() {
    let (lines, _guard) = Lines::kept();
    let (cache, _, mut calls) = cache_with(|route| route.body_limit(4));
    let span = info_span!("streaming");
    let reply = tokio::spawn(cache.clone().oneshot(get("/cases/1")).instrument(span));
    let body = calls.next().await.stream(None);
    let reply = reply.await.unwrap().unwrap();
    body.send("ab");
    body.end();
    read(reply).await;
    settle().await;
    let found = lines.take();
    assert!(found.iter().all(|line| line.contains(" in streaming:")), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_is_logged_with_bucket_and_template_and_without_the_key() {
    let (lines, _guard) = Lines::kept();
    let (cache, handle, calls) = cache_with(|route| route.tag("account:{case}"));
    calls.serve(|_| response(200, &[], "x"));
    let line =
        |fields: &str| format!("INFO tower_support_cache in -: message=invalidated {fields}");
    let of_key = "kind=key bucket=cases template=case:{case}";
    handle.invalidate("case:s3cret").await.unwrap();
    assert_eq!(lines.take(), [line(&format!("{of_key} is_soft=false"))]);
    handle.soft_invalidate("case:s3cret").await.unwrap();
    assert_eq!(lines.take(), [line(&format!("{of_key} is_soft=true"))]);
    handle.invalidate_tag("account:s3cret").await.unwrap();
    let of_tag = "kind=tag bucket=cases template=account:{case} is_soft=false";
    assert_eq!(lines.take(), [line(of_tag)]);
    handle.invalidate_group("portal.example", "s3cret").await.unwrap();
    assert_eq!(lines.take(), [line("kind=group bucket= template= is_soft=false")]);
    handle.invalidate_all().await.unwrap();
    assert_eq!(lines.take(), [line("kind=all bucket= template= is_soft=false")]);
    // By a write.
    got(send(&cache, request(Method::POST, "/cases/s3cret/comments"))).await;
    assert_eq!(lines.take()[0], line(&format!("{of_key} is_soft=false")));
}

#[tokio::test(start_paused = true)]
async fn a_switch_and_a_reload_are_logged_at_info() {
    let (lines, _guard) = Lines::kept();
    let (_, handle, _) = cache();
    handle.switch("cases", Switch::Off);
    handle.switch("cases", Switch::On);
    handle.switch("no such bucket", Switch::On);
    let line = |switch: &str| {
        format!(
            "INFO tower_support_cache in -: message=bucket switched bucket=cases switch={switch}"
        )
    };
    assert_eq!(lines.take(), [line("off"), line("on")]);
    let route = CacheRoute::get("/cases/{case}").bucket("cases").key("case:{case}").ttl(TTL);
    handle.reload(Routes::new().cache(route)).unwrap();
    assert_eq!(lines.take(), ["INFO tower_support_cache in -: message=rules reloaded"]);
}

/// A layer inside could take the word of the outer one for its own.
#[tokio::test(start_paused = true)]
async fn each_event_has_the_crates_name_for_its_target() {
    let (lines, _guard) = Lines::kept();
    let (cache, handle, calls) = cache();
    calls.serve(|_| response(200, &[], "x"));
    got(send(&cache, with(get("/cases/1"), AUTHORIZATION.as_str(), "x"))).await;
    handle.invalidate("no such key").await.unwrap();
    let found = lines.take();
    assert!(found.len() >= 3, "{found:?}");
    for line in found {
        assert_eq!(line.split(' ').nth(1), Some("tower_support_cache"), "{line}");
    }
}
