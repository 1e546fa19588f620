//! Making of coded forms: of a stored response once, away from the threads that answer.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE},
};
use http_body::Body;

use super::{cache::Cache, request::Asks, respond::Reuse};
use crate::{
    background::runtime,
    body::ResponseBody,
    coding::{self, ContentCoding},
    entry::{CodedBody, Entry, Head},
    policy::Directives,
    store::{Begin, Commit, Lookup, Store},
};

/// Length under which nothing is encoded: with its fields it fits into one packet (the default of Akamai).
const LEAST_LENGTH: usize = 860;

impl<St: Store> Cache<St> {
    /// Answers with a stored response, and has it encoded if the request asks for a coded form.
    #[inline]
    pub(super) fn reuse<B: Body>(
        self: &Arc<Self>,
        bucket: usize,
        asks: &Asks,
        reuse: &Reuse,
    ) -> Response<ResponseBody<B>> {
        if let Some(coding) = asks.coding.filter(|_| reuse.stale.is_none()) {
            self.encode(&reuse.entry, coding);
        }
        reuse.respond(&self.reporter, bucket, asks)
    }

    /// Has a stored response encoded, unless it was, or others are: one at a time for each response, and as many
    /// as there are permits. If it cannot be kept, there is a pause before the next attempt.
    fn encode(self: &Arc<Self>, entry: &Arc<Entry>, coding: ContentCoding) {
        let Some((head, body)) = entry.as_response() else { return };
        if entry.coded(coding).is_some() || body.len() < LEAST_LENGTH || !shrinks(head) {
            return;
        }
        let Some(runtime) = runtime() else { return };
        let Ok(permit) = Arc::clone(&self.encoders).try_acquire_owned() else { return };
        let variant = &entry.slot().variant;
        let Some(right) = self.encodings.begin(variant) else { return };
        let (cache, entry, content) = (Arc::clone(self), Arc::clone(entry), body.clone());
        runtime.spawn(async move {
            let made = tokio::task::spawn_blocking(move || coding::encode(coding, &content));
            let Ok(Ok(made)) = made.await else { return };
            cache.metrics().encoded();
            let variant = &entry.slot().variant;
            match cache.keep(&entry, coding, made).await {
                true => cache.encodings.answered(variant),
                false => cache.encodings.failed(variant),
            }
            drop((permit, right));
        });
    }

    /// Stores a coded form beside the response that it was made of, if that is in the store still.
    async fn keep(&self, entry: &Entry, coding: ContentCoding, made: Vec<u8>) -> bool {
        let (slot, store) = (entry.slot(), &self.store);
        let Begin::Granted(lease) = store.begin(slot, store.token(), Some(entry)).await else {
            return false;
        };
        // After the right was granted: an invalidation from here on takes that away.
        let Lookup::Found(found) = store.lookup(slot).await else { return false };
        let plain = found.as_response().filter(|_| found.is_same_record(entry));
        let Some((_, plain)) = plain else { return false };
        let body = if made.len() < plain.len() { made.into() } else { Bytes::new() };
        let Some(coded) = found.with_coded(CodedBody { coding, body }) else { return false };
        let committed = store.commit(lease, Arc::new(coded), None).await;
        // A copy in this process is the one before.
        let _ = store.lookup(slot).await;
        committed == Commit::Stored
    }
}

/// Returns whether the content of a response may be encoded, and mostly becomes smaller.
fn shrinks(head: &Head) -> bool {
    let lines = |wanted| {
        head.fields.lines().filter(move |(name, _)| **name == wanted).map(|(_, value)| value)
    };
    head.status == StatusCode::OK
        && lines(CONTENT_TYPE).last().is_some_and(is_text)
        && lines(CONTENT_ENCODING).next().is_none()
        // RFC 9111 §5.2.2.6.
        && !Directives::of_lines(lines(CACHE_CONTROL)).no_transform
}

/// Returns whether a media type is of text, or of a format that is made of text.
fn is_text(media_type: &HeaderValue) -> bool {
    const WHOLE: [&str; 12] = [
        "application/graphql",
        "application/javascript",
        "application/json",
        "application/manifest",
        "application/sql",
        "application/toml",
        "application/vnd.ms-fontobject",
        "application/wasm",
        "application/xml",
        "application/x-ndjson",
        "application/yaml",
        "image/bmp",
    ];
    const SUFFIXES: [&str; 4] = ["+json", "+text", "+xml", "+yaml"];
    let Ok(text) = media_type.to_str() else { return false };
    let name = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // A stream of events is never whole.
    name.starts_with("text/") && name != "text/event-stream"
        || WHOLE.contains(&&*name)
        || SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_of_text_shrinks() {
        for (media_type, expected) in [
            ("text/html; charset=utf-8", true),
            ("Text/Plain", true),
            ("text/event-stream", false),
            ("application/json", true),
            ("application/problem+json; charset=utf-8", true),
            ("image/svg+xml", true),
            ("image/png", false),
            ("application/zip", false),
            ("application/octet-stream", false),
            ("video/mp4", false),
            ("font/woff2", false),
            ("", false),
        ] {
            assert_eq!(is_text(&HeaderValue::from_static(media_type)), expected, "{media_type}");
        }
    }
}
