//! Word to a handler that what it is asked for was invalidated a moment ago.

use std::time::SystemTime;

/// Extension of a request that fills what was invalidated within the
/// [settling time](crate::CacheRoute::settle) of its route. A replica may not have seen the change yet, so a
/// handler that finds it should read the primary.
///
/// It says so of every invalidation that a layer on the store has made in any process: by a write, by a handle,
/// of the key, of a tag or of everything. It does not know of a deletion by another program, nor of a tag that
/// only the response names.
///
/// A handler that has read the primary puts it into the extensions of its response. The response keeps its
/// lifetime then, and the origin is not asked once more.
///
/// ```
/// use http::{Request, Response};
/// use tower_support_cache::Refill;
///
/// # fn read(database: &str) -> String { database.to_owned() }
/// async fn case<B>(request: Request<B>) -> Response<String> {
///     let Some(refill) = request.extensions().get::<Refill>() else {
///         return Response::new(read("replica"));
///     };
///     let mut response = Response::new(read("primary"));
///     response.extensions_mut().insert(*refill);
///     response
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refill {
    /// Time of the last invalidation, by the clock of this process.
    pub since: SystemTime,
}

impl Refill {
    /// Creates the word about an invalidation at a time: for tests of handlers.
    pub fn new(since: SystemTime) -> Self {
        Self { since }
    }
}
