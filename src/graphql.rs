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
//! alone. A hash does not say what kind of operation it names, but by GET servers execute queries only (GraphQL
//! over HTTP, "GET"). So a [`CacheRoute::get`](crate::CacheRoute::get) caches queries that are named by a
//! hash: [`persisted`] tells which, for a key, and [`canonical_target`] has equal ones share a response. Have
//! the server forbid to store what has `errors`, such as an unknown hash: by `Cache-Control: no-store`, or by a
//! [`ResponsePolicy`](crate::ResponsePolicy).

use std::fmt;

use apollo_parser::{Parser, cst};
use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;

use crate::json::{StrictValue, canonical};

/// Depth beyond which an operation is not read.
const MAX_DEPTH: usize = 64;

/// Characters that are escaped in a parameter: all but the unreserved characters of RFC 3986 §2.3.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

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

/// Operation that the target of a GET names by the hash of its document (automatic persisted queries of
/// Apollo), from [`persisted`].
///
/// Its text is fit for a key: hash, operation name, and a digest of the variables, separated by colons.
///
/// ```
/// use std::time::Duration;
/// use tower_support_cache::{CacheRoute, graphql};
///
/// // An invalidation of the tag `graphql:HASH` reaches all responses to the document.
/// CacheRoute::get("/graphql")
///     .key_with(|request| Some(format!("graphql:{}", graphql::persisted(request.uri())?)))
///     .tag_with(|request| Some(format!("graphql:{}", graphql::persisted(request.uri())?.hash)))
///     .ttl(Duration::from_secs(30));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PersistedQuery {
    /// SHA-256 of the document: 64 hexadecimal digits in lower case.
    pub hash: String,
    /// Name of the operation, if the request has one.
    pub operation_name: Option<String>,
    /// Variables in their canonical form (RFC 8785). `None` if there are none.
    pub variables: Option<String>,
}

/// Parameter of a target, decoded.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct TargetParameter {
    name: String,
    value: String,
}

/// Returns the operation that a target names by a hash. `None` if it names none, or if servers may understand
/// it in another way: a parameter that stands twice, JSON that is malformed or ambiguous.
///
/// ```
/// let hash = "ecf4edb46db40b5132295c0291d62fb65d6759a9eedfa4d5d612dd5ec54a6b38";
/// let target = format!(
///     "/graphql?operationName=Cats&variables=%7B%22last%22%3A1.0%7D&\
///      extensions=%7B%22persistedQuery%22%3A%7B%22version%22%3A1%2C%22sha256Hash%22%3A%22{hash}%22%7D%7D"
/// );
/// let query = tower_support_cache::graphql::persisted(&target.parse().unwrap()).unwrap();
/// assert_eq!(query.hash, hash);
/// assert_eq!(query.operation_name.as_deref(), Some("Cats"));
/// assert_eq!(query.variables.as_deref(), Some(r#"{"last":1}"#));
/// ```
pub fn persisted(target: &Uri) -> Option<PersistedQuery> {
    let parameters = parameters(target)?;
    let value =
        |name| parameters.iter().find(|found| found.name == name).map(|found| &*found.value);
    let StrictValue(extensions) = serde_json::from_str(value("extensions")?).ok()?;
    let named = extensions.get("persistedQuery")?;
    let hash = named.get("sha256Hash")?.as_str()?.to_ascii_lowercase();
    let is_known = named.get("version")? == 1;
    let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    let operation_name = value("operationName").filter(|name| !name.is_empty());
    let is_name =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let variables = match value("variables") {
        Some(variables) => canonical_object(variables)?,
        None => None,
    };
    (is_known && is_hash && operation_name.is_none_or(is_name)).then(|| PersistedQuery {
        hash,
        operation_name: operation_name.map(str::to_owned),
        variables,
    })
}

/// Returns a target with its parameters in order, and with `variables` and `extensions` in their canonical form
/// (RFC 8785). `None` if it has no parameters, or if servers may understand it in another way, as for
/// [`persisted`].
///
/// A layer outside of the cache puts it in the place of the target, so that it answers all spellings of a
/// query with one response:
///
/// ```
/// use http::Request;
/// use tower::ServiceBuilder;
/// use tower_support_cache::{MemoryStore, SupportCacheLayer, graphql};
///
/// fn canonical<B>(mut request: Request<B>) -> Request<B> {
///     if let Some(target) = graphql::canonical_target(request.uri()) {
///         *request.uri_mut() = target;
///     }
///     request
/// }
///
/// let asked = Request::get("/graphql?variables=%7B%22b%22:1,+%22a%22:2%7D&query=%7Bcats%7D").body(()).unwrap();
/// let target = "/graphql?query=%7Bcats%7D&variables=%7B%22a%22%3A2%2C%22b%22%3A1%7D";
/// assert_eq!(canonical(asked).uri(), target);
///
/// let cache = SupportCacheLayer::new(MemoryStore::new());
/// ServiceBuilder::new().map_request(canonical::<String>).layer(cache);
/// ```
pub fn canonical_target(target: &Uri) -> Option<Uri> {
    let mut parameters = parameters(target)?;
    for TargetParameter { name, value } in &mut parameters {
        if ["variables", "extensions"].contains(&&**name) {
            *value = String::from_utf8(canonical(value.as_bytes())?).ok()?;
        }
    }
    parameters.sort();
    let escaped = |text| utf8_percent_encode(text, ESCAPED);
    let pairs = parameters
        .iter()
        .map(|TargetParameter { name, value }| format!("{}={}", escaped(name), escaped(value)));
    let query = pairs.collect::<Vec<_>>().join("&");
    let mut parts = target.clone().into_parts();
    parts.path_and_query = Some(format!("{}?{query}", target.path()).parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// Returns the parameters of a target. `None` if there are none, or one stands twice.
fn parameters(target: &Uri) -> Option<Vec<TargetParameter>> {
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        percent_decode_str(&text).decode_utf8().ok().map(Into::into)
    };
    let mut parameters = Vec::<TargetParameter>::new();
    for pair in target.query()?.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decoded(name)?, decoded(value)?);
        if parameters.iter().any(|other| other.name == name) {
            return None;
        }
        parameters.push(TargetParameter { name, value });
    }
    (!parameters.is_empty()).then_some(parameters)
}

/// Returns the canonical form of an object, which is nothing for one without members.
fn canonical_object(json: &str) -> Option<Option<String>> {
    let text = String::from_utf8(canonical(json.as_bytes())?).ok()?;
    match &*text {
        "null" | "{}" => Some(None),
        _ => text.starts_with('{').then_some(Some(text)),
    }
}

impl fmt::Display for PersistedQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.operation_name.as_deref().unwrap_or_default();
        write!(f, "{}:{name}:", self.hash)?;
        match &self.variables {
            Some(variables) => write!(f, "{}", blake3::hash(variables.as_bytes()).to_hex()),
            None => Ok(()),
        }
    }
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

    const HASH: &str = "ecf4edb46db40b5132295c0291d62fb65d6759a9eedfa4d5d612dd5ec54a6b38";

    /// Returns a target with these parameters, in which `HASH` stands for the hash.
    fn target(query: &str) -> Uri {
        let query = query.replace("HASH", HASH);
        let escaped = query.replace('"', "%22").replace('{', "%7B").replace(' ', "+");
        format!("/graphql?{escaped}").parse().unwrap()
    }

    const NAMED: &str = r#"extensions={"persistedQuery":{"version":1,"sha256Hash":"HASH"}}"#;

    #[test]
    fn spellings_of_one_persisted_query_are_one_and_others_are_not() {
        let of = |query: &str| persisted(&target(query)).unwrap().to_string();
        let first = of(&format!(r#"{NAMED}&variables={{"a":1,"b":"x"}}&operationName=A"#));
        let again = r#"operationName=A&variables={ "b": "\u0078", "a": 1.0 }&&extensions={"a":1,"persistedQuery":{"sha256Hash":"HASH","version":1}}"#;
        assert_eq!(of(again), first);
        assert!(first.starts_with(&format!("{HASH}:A:")) && first.len() == 131, "{first}");
        let others = [
            of(&format!(r#"{NAMED}&variables={{"a":2,"b":"x"}}&operationName=A"#)),
            of(&format!(r#"{NAMED}&variables={{"a":1,"b":"x"}}&operationName=B"#)),
            of(&format!(r#"{NAMED}&variables={{"a":1,"b":"x"}}"#)),
            of(&format!("{NAMED}&operationName=A")),
            of(NAMED),
            of(&NAMED.replace("HASH", &HASH.replace('e', "f"))),
        ];
        for (at, other) in others.iter().enumerate() {
            assert!(*other != first && !others[..at].contains(other), "{other}");
        }
        for empty in ["&variables={}", "&variables=null", "&operationName="] {
            assert_eq!(of(&format!("{NAMED}{empty}")), others[4], "{empty}");
        }
    }

    #[test]
    fn what_servers_may_understand_in_another_way_is_no_persisted_query() {
        for query in [
            "",
            "query={a}",
            "extensions={}",
            "extensions={",
            r#"extensions={"persistedQuery":{"version":2,"sha256Hash":"HASH"}}"#,
            r#"extensions={"persistedQuery":{"version":1,"sha256Hash":"HASH0"}}"#,
            r#"extensions={"persistedQuery":{"version":1,"sha256Hash":"x"}}"#,
            r#"extensions={"persistedQuery":{"version":1,"sha256Hash":"HASH","sha256Hash":"HASH"}}"#,
            &format!("{NAMED}&{NAMED}"),
            &format!("{NAMED}&%65xtensions={{}}"),
            &format!("{NAMED}&variables=1"),
            &format!("{NAMED}&variables="),
            &format!("{NAMED}&variables={{\"a\":9007199254740993}}"),
            &format!("{NAMED}&operationName=a:b"),
            &format!("{NAMED}&a=%FF"),
        ] {
            assert_eq!(persisted(&target(query)), None, "{query}");
        }
    }

    #[test]
    fn a_canonical_target_asks_the_same() {
        let first = target(&format!(r#"{NAMED}&variables={{"b":1,"a":2}}&x=a%26b%3D"#));
        let again = target(&format!(r#"x=a%26b%3d&variables={{ "a":2.0, "b":1}}&{NAMED}"#));
        let form = canonical_target(&first).unwrap();
        assert_eq!(canonical_target(&again).unwrap(), form);
        assert_eq!(canonical_target(&form).unwrap(), form);
        assert_eq!(persisted(&form), persisted(&first));
        assert!(form.query().unwrap().ends_with("&x=a%26b%3D"), "{form}");
        let absolute: Uri = "http://a.example/g?b=1&a".parse().unwrap();
        assert_eq!(canonical_target(&absolute).unwrap(), "http://a.example/g?a=&b=1");
        for left in ["/g", "/g?", "/g?a=1&a=2", "/g?variables=%7B", "/g?a=%FF"] {
            assert_eq!(canonical_target(&left.parse().unwrap()), None, "{left}");
        }
    }
}
