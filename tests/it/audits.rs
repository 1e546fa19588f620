//! Audits: handlers that lie, each named with its cause, and none that does not.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use tokio::time::advance;
use tower::{Layer, ServiceExt, service_fn};
use tower_support_cache::{
    AuditReport, AuditResult, CacheRoute, ConfigErrorKind, Credentials, InvalidateRoute,
    MemoryStore, OriginBudget, SupportCacheHandle, SupportCacheLayer, SupportCacheLayerBuilder,
};

use crate::support::{TTL, get, request, settle, with};

const SECOND: Duration = Duration::from_secs(1);

type Asked = Request<Empty<Bytes>>;

/// A portal whose handler a test writes: it is given the request and the number that writes raise.
struct Portal {
    app: tower::util::BoxCloneService<Asked, Response<Bytes>, Infallible>,
    cache: SupportCacheHandle,
    /// Requests that the origin was asked.
    asked: Arc<Mutex<Vec<http::request::Parts>>>,
}

impl Portal {
    fn new(
        handler: impl Fn(&http::request::Parts, u64) -> String + Clone + Send + 'static,
    ) -> Self {
        Self::with(|builder| builder, |route| route, handler)
    }

    fn with(
        builder: impl FnOnce(
            SupportCacheLayerBuilder<MemoryStore>,
        ) -> SupportCacheLayerBuilder<MemoryStore>,
        route: impl FnOnce(CacheRoute) -> CacheRoute,
        handler: impl Fn(&http::request::Parts, u64) -> String + Clone + Send + 'static,
    ) -> Self {
        let cases = CacheRoute::get("/accounts/{account}/cases").bucket("cases");
        let cases = cases.key("cases:{account}").ttl(TTL).jitter(0).audit(1.0);
        let layer = builder(SupportCacheLayer::builder(MemoryStore::new()))
            .empty_body(Empty::<Bytes>::new)
            .cache(route(cases))
            .invalidate(InvalidateRoute::post("/accounts/{account}/cases").key("cases:{account}"))
            .build()
            .unwrap();
        let (asked, writes) = (Arc::<Mutex<Vec<_>>>::default(), Arc::new(AtomicU64::new(0)));
        let seen = Arc::clone(&asked);
        let origin = service_fn(move |request: Asked| {
            let head = request.into_parts().0;
            if head.method != Method::GET {
                writes.fetch_add(1, Ordering::SeqCst);
            }
            let body = handler(&head, writes.load(Ordering::SeqCst));
            seen.lock().unwrap().push(head);
            async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body)))) }
        });
        let cache = layer.handle();
        let app = layer.layer(origin).map_result(|answer: Result<Response<_>, Infallible>| answer);
        let app = tower::util::BoxCloneService::new(app.and_then(async |response: Response<_>| {
            let (head, body) = response.into_parts();
            let body = BodyExt::collect(body).await.unwrap().to_bytes();
            Ok(Response::from_parts(head, body))
        }));
        Self { app, cache, asked }
    }

    async fn send(&self, request: Asked) -> String {
        let response = self.app.clone().oneshot(request).await.unwrap();
        String::from_utf8(response.into_body().to_vec()).unwrap()
    }

    /// Sends a read near the end of the lifetime of what an earlier one has stored, and waits for the audit.
    async fn audit(&self, request: Asked) -> AuditReport {
        advance(TTL - SECOND).await;
        self.send(request).await;
        self.settled().await
    }

    async fn settled(&self) -> AuditReport {
        settle().await;
        advance(11 * SECOND).await;
        settle().await;
        self.cache.audits().remove("cases").unwrap_or_default()
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn read() -> Asked {
    get("/accounts/A1/cases")
}

#[track_caller]
fn is(report: &AuditReport, result: AuditResult) {
    assert_eq!(report.results.iter().collect::<Vec<_>>(), [(&result, &1)], "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn an_honest_handler_is_confirmed_with_one_request_and_no_field_is_named() {
    let portal = Portal::new(|_, writes| writes.to_string());
    portal.send(with(read(), "user-agent", "a")).await;
    let report = portal.audit(with(read(), "user-agent", "b")).await;
    is(&report, AuditResult::Confirmed);
    assert_eq!(portal.asked(), 2);
    let suspect = report.suspects["user-agent"];
    assert_eq!((suspect.confirmed, suspect.changed), (1, 0));
    assert!(report.undeclared.is_empty() && report.missing_rules.is_empty());
    portal.send(read()).await;
    assert_eq!(portal.asked(), 3, "a response is audited once, and then it expires");
}

#[tokio::test(start_paused = true)]
async fn a_change_without_a_write_is_found_with_its_interval() {
    let state = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&state);
    let portal = Portal::new(move |_, _| shown.load(Ordering::SeqCst).to_string());
    portal.send(read()).await;
    state.store(1, Ordering::SeqCst);
    let report = portal.audit(read()).await;
    is(&report, AuditResult::Changed);
    assert_eq!(portal.asked(), 3, "the fill, and two requests of the audit");
    assert_eq!(report.staleness.iter().collect::<Vec<_>>(), [(&64, &1)]);
    let change = report.changes[0];
    assert_eq!(change.to.duration_since(change.from).unwrap(), TTL - SECOND);
    assert!(report.missing_rules.is_empty(), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_counter_in_the_body_is_not_deterministic() {
    let counter = Arc::new(AtomicU64::new(0));
    let portal =
        Portal::new(move |_, _| format!("page {}", counter.fetch_add(1, Ordering::SeqCst)));
    portal.send(with(read(), "x-a", "1")).await;
    let report = portal.audit(with(read(), "x-a", "2")).await;
    is(&report, AuditResult::NotDeterministic);
    assert_eq!(report.not_deterministic.keys().collect::<Vec<_>>(), ["body"]);
    assert!(report.undeclared.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_reflected_field_is_named_and_the_others_are_not() {
    for (filled, asked) in [(Some("a"), Some("b")), (Some("a"), None), (None, Some("b"))] {
        let portal = Portal::new(|head, _| format!("{:?}", head.headers.get("x-plan")));
        let of = |plan: Option<&str>, agent| {
            let read = with(read(), "user-agent", agent);
            plan.map_or(read.clone(), |plan| with(read, "x-plan", plan))
        };
        portal.send(of(filled, "1")).await;
        let report = portal.audit(of(asked, "2")).await;
        is(&report, AuditResult::Undeclared);
        assert_eq!(
            report.undeclared.keys().collect::<Vec<_>>(),
            ["x-plan"],
            "{filled:?} {asked:?}"
        );
        let names: Vec<_> = report.suspects.keys().collect();
        assert_eq!(names, ["user-agent", "x-plan"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_no_rule_is_for_is_reported_with_the_rule_to_add_and_how_often_it_held() {
    let changes = |head: &http::request::Parts, writes: u64| {
        let _ = head;
        writes.to_string()
    };
    let portal = Portal::new(changes);
    for write in [Some("/accounts/A1/limits"), Some("/accounts/A1/limits"), None] {
        portal.send(read()).await;
        advance(SECOND).await;
        if let Some(path) = write {
            portal.send(request(Method::PATCH, path)).await;
        }
        advance(TTL - 2 * SECOND).await;
        portal.send(read()).await;
        portal.settled().await;
        advance(TTL).await;
    }
    let report = portal.cache.audits().remove("cases").unwrap();
    assert_eq!(report.results[&AuditResult::Changed], 2);
    assert_eq!(report.results[&AuditResult::Confirmed], 1);
    let [rule] = &report.missing_rules[..] else { panic!("{report:?}") };
    assert_eq!(
        rule.line,
        r#".invalidate(InvalidateRoute::patch("/accounts/{account}/limits").key("cases:{account}"))"#
    );
    assert_eq!((rule.held, rule.failed), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_changes_nothing_counts_against_its_rule() {
    let state = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&state);
    let portal = Portal::new(move |_, _| shown.load(Ordering::SeqCst).to_string());
    for is_changed in [true, false] {
        portal.send(read()).await;
        advance(SECOND).await;
        portal.send(request(Method::PUT, "/accounts/A1/seen")).await;
        state.fetch_add(u64::from(is_changed), Ordering::SeqCst);
        advance(TTL - 2 * SECOND).await;
        portal.send(read()).await;
        portal.settled().await;
        advance(TTL).await;
    }
    let report = portal.cache.audits().remove("cases").unwrap();
    assert_eq!((report.missing_rules[0].held, report.missing_rules[0].failed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_an_invalidation_reaches_meanwhile_says_nothing() {
    let state = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&state);
    let portal = Portal::new(move |_, _| shown.load(Ordering::SeqCst).to_string());
    portal.send(read()).await;
    advance(TTL - SECOND).await;
    // The write has changed the origin, and is not answered yet.
    state.store(1, Ordering::SeqCst);
    portal.send(read()).await;
    settle().await;
    advance(5 * SECOND).await;
    portal.cache.invalidate("cases:A1").await.unwrap();
    let report = portal.settled().await;
    is(&report, AuditResult::Discarded);
    assert!(report.changes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_origin_is_asked_with_the_credentials_of_the_hits_own_caller() {
    let everybody = |route: CacheRoute| route.credentials(Credentials::SameForEverybody);
    let handler = |head: &http::request::Parts, _| format!("{:?}", head.headers.get("cookie"));
    let portal = Portal::with(|builder| builder, everybody, handler);
    let of = |caller| with(with(read(), "authorization", caller), "cookie", caller);
    portal.send(of("alice")).await;
    let report = portal.audit(of("bob")).await;
    assert_eq!(report.undeclared.keys().collect::<Vec<_>>(), ["cookie"]);
    assert!(portal.asked() > 10, "{}", portal.asked());
    for head in &portal.asked.lock().unwrap()[1..] {
        for name in ["authorization", "cookie"] {
            assert!(head.headers.get(name).is_none_or(|value| value == "bob"), "{head:?}");
        }
    }
    // One that the request does not have is never made up.
    let portal = Portal::with(|builder| builder, everybody, handler);
    portal.send(of("alice")).await;
    portal.audit(read()).await;
    for head in &portal.asked.lock().unwrap()[1..] {
        assert!(!head.headers.contains_key("cookie"), "{head:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_audited_beyond_the_budget_of_the_origin() {
    let budget = OriginBudget::new(1100, 1_000_000 * SECOND).burst(100);
    let portal = Portal::with(
        |builder| builder.origin_budget(budget),
        |route| route,
        |_, writes| writes.to_string(),
    );
    portal.send(read()).await;
    portal.cache.count_origin_calls(10);
    let report = portal.audit(read()).await;
    assert_eq!((report, portal.asked()), (AuditReport::default(), 1));
}

#[tokio::test(start_paused = true)]
async fn a_route_without_an_audit_asks_nothing() {
    let portal =
        Portal::with(|builder| builder, |route| route.audit(0.0), |_, writes| writes.to_string());
    portal.send(read()).await;
    assert_eq!(portal.audit(read()).await, AuditReport::default());
    assert_eq!(portal.asked(), 1);
}

/// A share is one of fills: one in ten is audited, whatever the number of its hits.
#[tokio::test(start_paused = true)]
async fn a_share_of_the_fills_is_audited() {
    let portal = Portal::with(|builder| builder, |route| route.audit(0.1), |_, _| String::new());
    for account in 0..500 {
        portal.send(get(&format!("/accounts/{account}/cases"))).await;
    }
    advance(TTL - SECOND).await;
    for _ in 0..3 {
        for account in 0..500 {
            portal.send(get(&format!("/accounts/{account}/cases"))).await;
        }
        settle().await;
    }
    let audited = portal.asked() - 500;
    assert!((20..100).contains(&audited), "{audited}");
}

#[test]
fn an_audit_that_cannot_be_is_refused() {
    let get = |share| CacheRoute::get("/a").audit(share);
    for route in [get(-0.1), get(1.1), get(f64::NAN), CacheRoute::query("/a").audit(0.1)] {
        let route = route.key("a").ttl(TTL);
        let error =
            SupportCacheLayer::builder(MemoryStore::new()).cache(route).build().unwrap_err();
        assert_eq!((error.kind(), error.field()), (ConfigErrorKind::Limit, "audit"));
    }
}
