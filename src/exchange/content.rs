//! Content of a request, read before the request is looked up.

use std::{future::poll_fn, time::Duration};

use http::Request;

use crate::{
    background::runtime,
    clock::{now, timeout_at},
    peek::{Readable, SentContent},
};

/// Time that content has to arrive. Then its request is forwarded, and the origin sees the rest arrive: a
/// client may wait for an answer before it sends all.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads the content of a request up to `limit` bytes, and puts it back.
pub(super) async fn read<Q>(
    request: &mut Request<Q>,
    readable: Readable<Q>,
    limit: u64,
) -> SentContent {
    let Some(body) = readable(request.body_mut()) else { return SentContent::Unreadable };
    let content = poll_fn(|cx| body.poll_content(cx, limit));
    match runtime() {
        Some(_) => timeout_at(now() + PATIENCE, content).await.unwrap_or(SentContent::Incomplete),
        None => content.await,
    }
}
