//! What leaks about whom: `SEC-PII-*` and `SEC-ENUM-*`.

use http::{HeaderMap, Method};
use tower_support_cache::{Caller, Credentials};

use super::{
    Asked, Site, numbered,
    support::{get, request, response, with},
};

fn by(caller: &str, uri: &str) -> Asked {
    with(get(uri), "authorization", caller)
}

/// Every secret of the requests below contains it.
const MARK: &str = "s3cret";

/// Requests that end in every way there is, each with secrets in path, query, key and caller.
fn revealing() -> Vec<Asked> {
    let target = "/cases/s3cret-case?token=s3cret-query";
    vec![
        get(target),
        get(target),
        request(Method::HEAD, target),
        by("Bearer s3cret-token", target),
        with(get(target), "cookie", "sid=s3cret-session"),
        with(get(target), "range", "bytes=0-s3cret"),
        get("/cases/s3cret-refused"),
        get("/cases/s3cret%ff"),
        request(Method::POST, "/cases/s3cret-case/comments?s3cret"),
        request(Method::POST, "/cases/s3cret%ff/comments"),
        request(Method::DELETE, target),
    ]
}

/// The fields of all responses.
async fn fields(site: &Site) -> Vec<String> {
    let mut all = Vec::new();
    for request in revealing() {
        all.push(format!("{:?}", site.ask(request).await.fields));
    }
    all
}

fn revealing_site(credentials: Credentials) -> Site {
    Site::new(
        |route| route.credentials(credentials).tag("s3cret-tag:{case}"),
        |head| {
            let refused = [("cache-control", "no-store")];
            let is_refused = head.uri.path().ends_with("refused");
            response(200, if is_refused { &refused } else { &[] }, "body")
        },
    )
}

fn policies() -> [Credentials; 3] {
    let per_caller = Credentials::PerCaller(Caller::authorization());
    [Credentials::Bypass, per_caller, Credentials::CoveredByKey]
}

#[tokio::test(start_paused = true)]
async fn sec_pii_1_cache_status_and_metrics_name_no_key_path_query_or_caller() {
    for credentials in policies() {
        let site = revealing_site(credentials.clone());
        let mut told = fields(&site).await;
        assert!(told.iter().any(|fields| fields.contains("support-cache;")), "{told:?}");
        told.push(format!("{:?}", site.handle.metrics()));
        told.push(format!("{:?} {:?}", site.handle, credentials));
        #[cfg(feature = "serde")]
        told.push(serde_json::to_string(&site.handle.metrics()).unwrap());
        assert!(told.iter().all(|text| !text.contains(MARK)), "{told:#?}");
    }
}

#[cfg(feature = "tracing")]
#[tokio::test(start_paused = true)]
async fn sec_pii_1_no_event_names_a_key_path_query_or_caller() {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // For the whole process: one for a thread can miss what other threads saw first.
    tracing_subscriber::util::SubscriberInitExt::init(subscriber);
    for credentials in policies() {
        fields(&revealing_site(credentials)).await;
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for said in ["request ended", "bypass the cache", "no usable key"] {
        assert!(text.contains(said), "nothing was collected: {text}");
    }
    assert!(!text.contains(MARK), "{text}");
}

/// What a response tells apart from its body.
fn told(got: &super::support::Got) -> (http::StatusCode, HeaderMap) {
    (got.status, got.fields.clone())
}

#[tokio::test(start_paused = true)]
async fn sec_enum_1_nobody_learns_what_another_caller_has_viewed() {
    let per_caller = Credentials::PerCaller(Caller::authorization());
    for credentials in [Credentials::Bypass, per_caller] {
        for field in [("vary", "accept"), ("cache-control", "no-store"), ("x", "y")] {
            let site =
                Site::new(|route| route.credentials(credentials.clone()), numbered(&[field]));
            for _ in 0..2 {
                site.ask(by("Bearer alice", "/cases/viewed")).await;
            }
            for bob in [|uri: &str| by("Bearer bob", uri), |uri: &str| get(uri)] {
                let viewed = site.ask(bob("/cases/viewed")).await;
                let fresh = site.ask(bob("/cases/unseen")).await;
                assert_eq!(told(&viewed), told(&fresh), "{credentials:?}, {field:?}");
                assert_eq!((viewed.age(), viewed.is_hit()), (None, false), "{viewed:?}");
            }
        }
    }
}
