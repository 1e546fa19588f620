//! QUERY (RFC 10008), as far as it concerns a cache.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower::{Layer, ServiceExt, service_fn};
use tower_support_cache::{
    CacheRoute, Freshness, MemoryStore, PeekedBody, ReadContent, SupportCacheLayer,
};

use super::support::{GatedBody, Got, Origin, TTL, origin, read, response};

type Fields = &'static [(&'static str, &'static str)];

const TEXT: (&str, &str) = ("content-type", "text/plain");

struct Site(ReadContent<Origin, MemoryStore>);

impl Site {
    /// Caches GET and QUERY at `/q`; the origin answers by `answer`, which is given the number of the call.
    fn new(answer: impl Fn(usize) -> Response<GatedBody> + Send + 'static) -> Self {
        let settings =
            |route: CacheRoute| route.key("q").ttl(TTL).jitter(0).freshness(Freshness::Origin);
        let layer = SupportCacheLayer::builder(MemoryStore::new())
            .cache(settings(CacheRoute::query("/q")))
            .cache(settings(CacheRoute::get("/q")))
            .cache(settings(CacheRoute::get("/results/{result}")))
            .build()
            .unwrap();
        let (origin, calls) = origin();
        let count = std::sync::atomic::AtomicUsize::new(0);
        calls.serve(move |_| answer(count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1));
        Self(layer.reading_content().layer(origin))
    }

    async fn ask(&self, method: &str, target: &str, fields: Fields, content: &'static str) -> Got {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from_static(content.as_bytes()))).unwrap();
        read(self.0.clone().oneshot(request).await.unwrap()).await
    }

    async fn query(&self, fields: Fields, content: &'static str) -> Got {
        self.ask("QUERY", "/q", fields, content).await
    }
}

/// Answers `1` to the first call, and so on.
fn number(fields: Fields) -> impl Fn(usize) -> Response<GatedBody> + Send + 'static {
    move |number| {
        let texts = ["", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
        response(200, fields, texts[number])
    }
}

/// RFC 10008 §2.7: "The cache key for a QUERY request MUST incorporate the request content and related
/// metadata."
#[tokio::test(start_paused = true)]
async fn the_key_of_a_query_has_its_content_and_metadata() {
    let site = Site::new(number(&[]));
    let all: [(Fields, &str); 6] = [
        (&[TEXT], "a"),
        (&[TEXT], "b"),
        (&[("content-type", "text/html")], "a"),
        (&[TEXT, ("content-encoding", "gzip")], "a"),
        (&[TEXT, ("content-language", "de")], "a"),
        (&[TEXT], ""),
    ];
    for is_second in [false, true] {
        for (number, (fields, content)) in (1..).zip(all) {
            let got = site.query(fields, content).await;
            assert_eq!((got.text(), got.is_hit()), (&*number.to_string(), is_second));
        }
    }
}

/// RFC 10008 §2.7: "a cache MAY use it to satisfy subsequent QUERY requests", and no others. §2: the query of
/// the target takes part in identifying the resource.
#[tokio::test(start_paused = true)]
async fn a_response_to_a_query_answers_queries_of_its_target_alone() {
    let site = Site::new(number(&[]));
    assert_eq!(site.query(&[TEXT], "").await.text(), "1");
    assert_eq!(site.ask("GET", "/q", &[], "").await.text(), "2");
    assert_eq!(site.ask("QUERY", "/q?a", &[TEXT], "").await.text(), "3");
    assert!(site.ask("HEAD", "/q", &[TEXT], "").await.is_hit(), "of the GET");
    assert_eq!(site.query(&[TEXT], "").await.text(), "1");
    assert_eq!(site.ask("GET", "/q", &[], "").await.text(), "2");
}

/// RFC 10008 §2, §2.1: servers fail a request without a media type, and a cache does not stand in.
#[tokio::test(start_paused = true)]
async fn a_query_without_a_media_type_is_the_origins() {
    let site = Site::new(number(&[]));
    site.query(&[TEXT], "a").await;
    for _ in 0..2 {
        let got = site.query(&[], "a").await;
        assert!(got.cache_status().ends_with("fwd=bypass;fwd-status=200;detail=media-type"));
    }
}

/// RFC 10008 §2: safe and idempotent, so it invalidates nothing (RFC 9111 §4.4).
#[tokio::test(start_paused = true)]
async fn a_query_invalidates_nothing() {
    let site = Site::new(number(&[("content-location", "/results/1"), ("location", "/q")]));
    site.ask("GET", "/q", &[], "").await;
    site.ask("GET", "/results/1", &[], "").await;
    site.query(&[TEXT], "a").await;
    assert!(site.ask("GET", "/q", &[], "").await.is_hit());
    assert!(site.ask("GET", "/results/1", &[], "").await.is_hit());
}

/// RFC 10008 §2.3, §2.4, §3: the fields that name the result, the equivalent resource and the formats are for
/// the client. It asks for what they name by GET, which the stored response does not answer.
#[tokio::test(start_paused = true)]
async fn fields_that_name_other_resources_are_the_clients() {
    const FIELDS: Fields = &[
        ("content-location", "/results/1"),
        ("location", "/results/2"),
        ("accept-query", r#""application/jsonpath", application/sql;charset="UTF-8""#),
    ];
    let site = Site::new(number(FIELDS));
    site.query(&[TEXT], "a").await;
    let got = site.query(&[TEXT], "a").await;
    assert!(got.is_hit());
    for (name, value) in FIELDS {
        assert_eq!(got.fields[*name], *value);
    }
    assert_eq!(site.ask("GET", "/results/1", &[], "").await.text(), "2");
    assert_eq!(site.ask("GET", "/results/2", &[], "").await.text(), "3");
}

/// RFC 10008 §2.5: redirections are responses as others; a 303 leads to a GET.
#[tokio::test(start_paused = true)]
async fn a_redirection_of_a_query_is_stored_as_it_says() {
    for status in [301, 302, 303, 307, 308] {
        let fields: Fields = &[("location", "/results/1"), ("cache-control", "max-age=60")];
        let site = Site::new(move |_| response(status, fields, ""));
        site.query(&[TEXT], "a").await;
        let got = site.query(&[TEXT], "a").await;
        assert_eq!((got.status.as_u16(), got.is_hit()), (status, true));
        assert_eq!(got.fields["location"], "/results/1");
        assert!(!site.query(&[TEXT], "b").await.is_hit());
    }
}

/// RFC 10008 §2.6: conditions are about the result of the query.
#[tokio::test(start_paused = true)]
async fn a_conditional_query_is_answered_from_the_result_of_its_own_content() {
    let site = Site::new(|number| match number {
        1 => response(200, &[("etag", "\"a\"")], "of a"),
        _ => response(200, &[("etag", "\"b\"")], "of b"),
    });
    site.query(&[TEXT], "a").await;
    site.query(&[TEXT], "b").await;
    let got = site.query(&[TEXT, ("if-none-match", "\"a\"")], "a").await;
    assert_eq!((got.status.as_u16(), got.is_hit()), (304, true));
    let got = site.query(&[TEXT, ("if-none-match", "\"a\"")], "b").await;
    assert_eq!((got.status.as_u16(), got.text()), (200, "of b"));
    let got = site.query(&[TEXT, ("if-match", "\"a\"")], "a").await;
    assert!(got.cache_status().ends_with("detail=precondition"));
}

/// RFC 10008 §2.8: ranges are as for GET.
#[tokio::test(start_paused = true)]
async fn a_range_of_the_result_of_a_query_is_a_part_of_it() {
    let site = Site::new(|_| response(200, &[], "0123456789"));
    site.query(&[TEXT], "a").await;
    let got = site.query(&[TEXT, ("range", "bytes=2-4")], "a").await;
    assert_eq!((got.status.as_u16(), got.text(), got.is_hit()), (206, "234", true));
}

/// RFC 10008 §2.7: what does not matter in the content may be left out of the key. It "does not change the
/// request itself", and a client may ask for no such form by `no-transform`.
#[tokio::test(start_paused = true)]
async fn a_form_of_the_content_is_for_the_key_alone() {
    let route = CacheRoute::query("/q").key("q").ttl(TTL).jitter(0);
    let layer = SupportCacheLayer::builder(MemoryStore::new())
        .cache(route.normalize_with(1, |_, content| Some(content.to_ascii_lowercase())))
        .build()
        .unwrap();
    let echo = service_fn(async |request: Request<PeekedBody<Full<Bytes>>>| {
        let sent = request.into_body().collect().await?.to_bytes();
        Ok::<_, std::convert::Infallible>(Response::new(Full::new(sent)))
    });
    let service = layer.reading_content().layer(echo);
    let ask = async |content: &'static str, wish: &str| {
        let request = Request::builder().method("QUERY").uri("/q").header(TEXT.0, TEXT.1);
        let request = request.header("cache-control", wish).body(Full::from(content)).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        response.into_body().collect().await.unwrap().to_bytes()
    };
    assert_eq!(ask("Cats", "max-age=60").await, "Cats", "sent as it is");
    assert_eq!(ask("cATS", "max-age=60").await, "Cats", "of one form");
    assert_eq!(ask("cATS", "no-transform").await, "cATS");
    assert_eq!(ask("Cats", "no-transform").await, "Cats");
    assert_eq!(ask("cats", "no-transform").await, "cats", "it is not the form of others");
}
