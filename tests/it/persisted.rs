//! GraphQL queries that a GET names by their hash.

use http::{Request, Response};
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_support_cache::{
    CacheRoute, MemoryStore, SupportCacheLayer,
    graphql::{canonical_target, persisted},
};

use crate::support::{GatedBody, TTL, get, origin, read};

const HASH: &str = "ecf4edb46db40b5132295c0291d62fb65d6759a9eedfa4d5d612dd5ec54a6b38";

fn canonical<B>(mut request: Request<B>) -> Request<B> {
    if let Some(target) = canonical_target(request.uri()) {
        *request.uri_mut() = target;
    }
    request
}

/// Returns a target that names a query by its hash.
fn target(variables: &str) -> String {
    let extensions = format!(r#"{{"persistedQuery":{{"version":1,"sha256Hash":"{HASH}"}}}}"#);
    let escaped = |text: &str| text.replace('"', "%22").replace('{', "%7B").replace('}', "%7D");
    format!("/graphql?variables={}&extensions={}", escaped(variables), escaped(&extensions))
}

#[tokio::test(start_paused = true)]
async fn spellings_of_a_query_share_a_response_that_is_invalidated_by_its_hash() {
    let layer = SupportCacheLayer::builder(MemoryStore::new())
        .cache(
            CacheRoute::get("/graphql")
                .key_with(|request| Some(format!("graphql:{}", persisted(request.uri())?)))
                .tag_with(|request| Some(format!("graphql:{}", persisted(request.uri())?.hash)))
                .ttl(TTL)
                .jitter(0),
        )
        .build()
        .unwrap();
    let (origin, calls) = origin();
    calls.serve(|head| Response::new(GatedBody::full(head.uri.to_string())));
    let service = ServiceBuilder::new().map_request(canonical).service(layer.layer(origin));
    let ask = async |target: &str| read(service.clone().oneshot(get(target)).await.unwrap()).await;

    let first = ask(&target(r#"{"last":1,"of":"a"}"#)).await;
    assert!(first.cache_status().ends_with("stored"), "{}", first.cache_status());
    let again = ask(&target(r#"{"of":"a",+"last":1.0}"#)).await;
    assert_eq!((again.text(), again.is_hit()), (first.text(), true));
    let other = ask(&target(r#"{"of":"b","last":1}"#)).await;
    assert_ne!((other.text(), other.is_hit()), (first.text(), true));
    let unnamed = ask("/graphql?query=%7Bcats%7D").await;
    assert!(unnamed.cache_status().contains("fwd=bypass"), "{}", unnamed.cache_status());

    layer.handle().invalidate_tag(format!("graphql:{HASH}")).await.unwrap();
    for variables in [r#"{"last":1,"of":"a"}"#, r#"{"of":"b","last":1}"#] {
        assert!(!ask(&target(variables)).await.is_hit(), "{variables}");
    }
}
