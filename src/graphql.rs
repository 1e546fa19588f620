//! GraphQL over HTTP (feature `graphql`): which requests only read.
//!
//! A request by POST is a read if all operations in it are queries:
//!
//! ```
//! use std::time::Duration;
//! use tower_support_cache::{CacheRoute, InvalidateRoute, Routes, graphql};
//!
//! Routes::new()
//!     .cache(
//!         CacheRoute::post_read("/graphql", |_, content| graphql::reads(content))
//!             .key("graphql")
//!             .normalize_json()
//!             .ttl(Duration::from_secs(30)),
//!     )
//!     .invalidate(InvalidateRoute::post("/graphql").key("graphql"));
//! ```
//!
//! Anything else is a write, and invalidates: a mutation, a batch with one, a query that is named by a hash
//! alone. By GET servers execute no mutations, so a [`CacheRoute::get`](crate::CacheRoute::get) caches queries
//! that are named by a hash; what they mean is in the target. Have the server forbid to store what has
//! `errors`, such as an unknown hash: by `Cache-Control: no-store`, or by a
//! [`ResponsePolicy`](crate::ResponsePolicy).

use apollo_parser::{Parser, cst};
use serde_json::Value;

use crate::json::StrictValue;

/// Depth beyond which an operation is not read.
const MAX_DEPTH: usize = 64;

/// Operation of a GraphQL document.
///
/// ```
/// use tower_support_cache::graphql::{OperationKind, operations};
///
/// let content = br#"{"query": "query Cats { cats { name } }", "variables": {}}"#;
/// let operations = operations(content).unwrap();
/// assert_eq!(operations[0].kind, OperationKind::Query);
/// assert_eq!(operations[0].name.as_deref(), Some("Cats"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentOperation {
    /// Kind of the operation.
    pub kind: OperationKind,
    /// Name of the operation, if it has one.
    pub name: Option<String>,
}

/// Kind of an [`DocumentOperation`].
///
/// ```
/// use tower_support_cache::graphql::{OperationKind, operations};
///
/// let content = br#"{"query": "mutation { rename(cat: 7) { name } }"}"#;
/// assert_eq!(operations(content).unwrap()[0].kind, OperationKind::Mutation);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OperationKind {
    /// It reads.
    Query,
    /// It writes.
    Mutation,
    /// It asks for a stream of events.
    Subscription,
}

/// Returns whether the content of a request, or of a batch, has queries only.
///
/// ```
/// use tower_support_cache::graphql::reads;
///
/// assert!(reads(br#"{"query": "{ cats { name } }"}"#));
/// assert!(!reads(br#"[{"query": "{ cats { name } }"}, {"query": "mutation { rename(cat: 7) }"}]"#));
/// ```
pub fn reads(content: &[u8]) -> bool {
    let operations = operations(content).unwrap_or_default();
    !operations.is_empty()
        && operations.iter().all(|operation| operation.kind == OperationKind::Query)
}

/// Returns all operations in the content of a request, or of a batch. `None` if it is no GraphQL, or if servers
/// may understand it in another way.
pub fn operations(content: &[u8]) -> Option<Vec<DocumentOperation>> {
    let StrictValue(content) = serde_json::from_slice(content).ok()?;
    let requests = match &content {
        Value::Array(batch) => &batch[..],
        one => std::slice::from_ref(one),
    };
    let mut all = Vec::new();
    for request in requests {
        all.extend(of_document(request.get("query")?.as_str()?)?);
    }
    Some(all)
}

/// Returns the operations of a document, of which there is at least one.
fn of_document(text: &str) -> Option<Vec<DocumentOperation>> {
    let tree = Parser::new(text).recursion_limit(MAX_DEPTH).parse();
    if tree.errors().len() > 0 {
        return None;
    }
    let mut operations = Vec::new();
    for definition in tree.document().definitions() {
        match definition {
            cst::Definition::OperationDefinition(operation) => {
                let kind = match operation.operation_type() {
                    // A query may be written without its kind.
                    None => OperationKind::Query,
                    Some(kind) if kind.query_token().is_some() => OperationKind::Query,
                    Some(kind) if kind.mutation_token().is_some() => OperationKind::Mutation,
                    Some(_) => OperationKind::Subscription,
                };
                let name = operation.name().map(|name| name.text().to_string());
                operations.push(DocumentOperation { kind, name });
            }
            cst::Definition::FragmentDefinition(_) => {}
            _ => return None,
        }
    }
    (!operations.is_empty()).then_some(operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_nothing_but_queries_reads() {
        for content in [
            r#"{"query":"{ cats { name } }"}"#,
            r##"{"query":"# mutation\n query Cats($a: Int = 1) @live { cats(a: $a) { ...N } } fragment N on Cat { name }"}"##,
            r#"{"query":"query A { a } query B { b }","operationName":"A","extensions":{}}"#,
            r#"[{"query":"{ a }"},{"query":"{ b(s: \"mutation { c }\") }"}]"#,
        ] {
            assert!(reads(content.as_bytes()), "{content}");
        }
        let deep = format!(r#"{{"query":"{}{}"}}"#, "{ a ".repeat(20_000), "}".repeat(20_000));
        for content in [
            "",
            "[]",
            "{}",
            r#"{"query":""}"#,
            r#"{"query":null}"#,
            r#"{"query":"mutation { a }"}"#,
            r#"{"query":"subscription { a }"}"#,
            r#"{"query":"query A { a } mutation B { b }","operationName":"A"}"#,
            r#"{"query":"{ a }","query":"mutation { a }"}"#,
            r#"{"query":"{ a"}"#,
            r#"{"query":"{ a } type B { c: Int }"}"#,
            r#"{"query":"fragment N on Cat { name }"}"#,
            r#"[{"query":"{ a }"},{"query":"mutation { b }"}]"#,
            r#"[{"query":"{ a }"},{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"x"}}}]"#,
            r#"{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"x"}}}"#,
            &deep,
        ] {
            assert!(!reads(content.as_bytes()), "{}", &content[..content.len().min(100)]);
        }
    }
}
