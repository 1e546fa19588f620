//! Content of requests: whether there is any, and the digest that stands for it in a variant where it is part
//! of what is asked.

use std::{any::type_name, fmt, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version,
    header::{CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_TYPE},
};
use http_body::Body;

use super::request::{HeadRef, KeyRequest};
use crate::{
    metrics::outcome::Bypass,
    peek::{HasContent, SentContent, can_peek},
    policy::{Directives, RequestFields},
};

const DEFAULT_LIMIT: u64 = 64 * 1024;

/// Fields that say what content means (RFC 9110 §8).
const METADATA: [HeaderName; 4] =
    [CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_TYPE];

/// Method of a route whose responses are cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadMethod {
    /// GET, and HEAD, which is answered from stored GET responses.
    Get,
    Query,
    Post,
}

/// Content of a request, as far as its body tells.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RequestContent<'c> {
    Absent,
    Present,
    /// It was read.
    Read(&'c SentContent),
    /// The body hides its size. The head decides.
    Hidden,
    /// The body hides its size. Its first frame decides, unless the head announces content.
    Peekable,
}

/// Reason for which a read may not consult the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    Bypass(Bypass),
    /// It is not known yet: the first frame of its body decides.
    Unknown,
    /// It is not known yet: its content is to be read first, up to this number of bytes.
    Unread(u64),
    /// It is a write, or may be one.
    Write,
}

impl From<Bypass> for Denied {
    fn from(reason: Bypass) -> Self {
        Self::Bypass(reason)
    }
}

/// Settings of a route whose requests have content.
#[derive(Clone, Debug)]
pub(crate) struct ContentRule {
    /// Largest content that is read, in bytes.
    pub(crate) limit: u64,
    /// Tells reads from writes; `None` where all requests read.
    pub(super) judge: Option<Judge>,
    /// Gives contents of one meaning one form.
    pub(super) normalizer: Option<Normalizer>,
}

/// Closure that gives contents of one meaning one form, and a text that stands for it in digests.
#[derive(Clone)]
pub(crate) struct Normalizer {
    name: String,
    form: Arc<dyn Fn(&KeyRequest<'_>, &[u8]) -> Option<Vec<u8>> + Send + Sync>,
}

impl Normalizer {
    pub(super) fn new(
        name: String,
        form: impl Fn(&KeyRequest<'_>, &[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        Self { name, form: Arc::new(form) }
    }
}

#[cfg(feature = "json")]
impl Normalizer {
    /// Takes JSON of one meaning for one.
    pub(super) fn json() -> Self {
        Self::new("json".to_owned(), |request, content| {
            let is_json = request.headers().get(CONTENT_TYPE).is_some_and(is_json);
            is_json.then(|| crate::json::canonical(content)).flatten()
        })
    }
}

/// Returns whether a media type is that of JSON (RFC 6839 §3.1).
#[cfg(feature = "json")]
fn is_json(media_type: &HeaderValue) -> bool {
    let essence = media_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    let essence = essence.trim_ascii().to_ascii_lowercase();
    essence == b"application/json" || essence.ends_with(b"+json")
}

impl fmt::Debug for Normalizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Closure that tells whether a request with this content reads.
#[derive(Clone)]
pub(crate) struct Judge(Arc<dyn Fn(&KeyRequest<'_>, &[u8]) -> bool + Send + Sync>);

impl Judge {
    pub(super) fn new(
        reads: impl Fn(&KeyRequest<'_>, &[u8]) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(reads))
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("closure")
    }
}

impl ReadMethod {
    pub(super) const COUNT: usize = 3;

    /// Returns the method of the routes that a request is for.
    #[inline]
    pub(super) fn of(method: &Method) -> Option<Self> {
        match *method {
            Method::GET | Method::HEAD => Some(Self::Get),
            Method::POST => Some(Self::Post),
            _ if method.as_str() == "QUERY" => Some(Self::Query),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Query => "QUERY",
            Self::Post => "POST",
        }
    }
}

impl RequestContent<'_> {
    pub(crate) fn of<Q: Body + 'static>(body: &Q) -> Self {
        if body.is_end_stream() {
            return Self::Absent;
        }
        let hint = body.size_hint();
        match hint.upper() {
            _ if hint.lower() > 0 => Self::Present,
            Some(0) => Self::Absent,
            _ if can_peek(body) => Self::Peekable,
            _ if may_be_decompressed::<Q>() => Self::Present,
            _ => Self::Hidden,
        }
    }

    /// Decides whether a read is without content.
    pub(super) fn check(self, head: HeadRef<'_>, fields: &RequestFields<'_>) -> Result<(), Denied> {
        if fields.announces_content {
            return Err(Bypass::Content.into());
        }
        match self {
            Self::Absent => Ok(()),
            Self::Peekable => Err(Denied::Unknown),
            // RFC 9112 §6.3: a request in HTTP/1 that announces no content has none. One that a layer of
            // another kind has decompressed may have lost the announcement, and still describes its content.
            Self::Hidden
                if head.version <= Version::HTTP_11
                    && !fields.describes_content
                    && head.extensions.get::<HasContent>().is_none() =>
            {
                Ok(())
            }
            Self::Hidden | Self::Present | Self::Read(_) => Err(Bypass::Content.into()),
        }
    }
}

impl Default for ContentRule {
    fn default() -> Self {
        Self { limit: DEFAULT_LIMIT, judge: None, normalizer: None }
    }
}

impl ContentRule {
    /// Returns the encoding that the digest is made of, to check it.
    #[cfg(any(fuzzing, test))]
    pub(crate) fn encoded(fields: &HeaderMap, data: &[u8], trailers: &HeaderMap) -> Vec<u8> {
        let mut encoded = Vec::new();
        encode(fields, data, trailers, |bytes| encoded.extend_from_slice(bytes));
        encoded
    }

    /// Returns what is known of content that is at hand.
    pub(crate) fn read(&self, data: Bytes) -> SentContent {
        if data.len() as u64 > self.limit {
            return SentContent::TooLong;
        }
        SentContent::Whole { data, trailers: HeaderMap::new() }
    }

    /// Returns a text that is equal for rules that take the same contents for one.
    pub(super) fn scope(&self) -> String {
        self.normalizer.as_ref().map(|normalizer| normalizer.name.clone()).unwrap_or_default()
    }

    /// Returns the form of content that stands for all of its meaning. `None` if it stands for itself.
    fn form(&self, request: &KeyRequest<'_>, data: &[u8]) -> Option<Vec<u8>> {
        let Normalizer { form, .. } = self.normalizer.as_ref()?;
        let fields = request.headers();
        // RFC 10008 §2.7.
        let is_left = is_coded(fields) || Directives::of(fields).no_transform;
        (!is_left).then(|| form(request, data)).flatten()
    }

    /// Decides whether a request reads.
    ///
    /// # Errors
    ///
    /// It is a write, it cannot be judged and counts as one, or its content is to be read first.
    pub(super) fn judge(
        &self,
        request: &KeyRequest<'_>,
        content: RequestContent<'_>,
    ) -> Result<(), Denied> {
        let Some(Judge(reads)) = &self.judge else { return Ok(()) };
        // The closure is given what the content means, and this is not decoded.
        if is_coded(request.headers()) {
            return Err(Denied::Write);
        }
        match content {
            RequestContent::Read(SentContent::Whole { data, .. }) if reads(request, data) => Ok(()),
            RequestContent::Read(_) => Err(Denied::Write),
            _ => Err(Denied::Unread(self.limit)),
        }
    }

    /// Returns a digest of everything in the content of a request that may make a difference to its
    /// response.
    ///
    /// # Errors
    ///
    /// The reason for which the content is not known.
    pub(super) fn digest(
        &self,
        request: &KeyRequest<'_>,
        content: RequestContent<'_>,
    ) -> Result<[u8; 32], Denied> {
        let fields = request.headers();
        // RFC 10008 §2: a server refuses such a QUERY.
        if self.judge.is_none() && !fields.contains_key(CONTENT_TYPE) {
            return Err(Bypass::MediaType.into());
        }
        let RequestContent::Read(content) = content else { return Err(Denied::Unread(self.limit)) };
        match content {
            SentContent::Whole { data, trailers } => {
                let mut hasher = blake3::Hasher::new();
                let form = self.form(request, data);
                hasher.update(&[u8::from(form.is_some())]);
                encode(fields, form.as_deref().unwrap_or(data), trailers, |bytes| {
                    hasher.update(bytes);
                });
                Ok(*hasher.finalize().as_bytes())
            }
            SentContent::TooLong => Err(Bypass::TooLarge.into()),
            SentContent::Incomplete => Err(Bypass::Incomplete.into()),
            SentContent::Unreadable => Err(Bypass::Content.into()),
        }
    }
}

/// Returns whether a body of this type that hides its size may have been decompressed by tower-http. That
/// takes off what announces the content, and shows the size of a body that it passes on as it is.
fn may_be_decompressed<Q>() -> bool {
    type_name::<Q>().contains("::DecompressionBody<")
}

/// Returns whether content is encoded.
fn is_coded(fields: &HeaderMap) -> bool {
    let is_coding = |line: &HeaderValue| !line.as_bytes().eq_ignore_ascii_case(b"identity");
    fields.get_all(CONTENT_ENCODING).iter().any(is_coding)
}

/// Encodes content with the fields that say what it means, and its trailers: different input never gives
/// the same bytes.
fn encode(fields: &HeaderMap, data: &[u8], trailers: &HeaderMap, mut take: impl FnMut(&[u8])) {
    let number = |number: usize| (number as u64).to_le_bytes();
    for name in METADATA {
        let lines = fields.get_all(name);
        take(&number(lines.iter().count()));
        for line in lines {
            take(&number(line.len()));
            take(line.as_bytes());
        }
    }
    take(&number(data.len()));
    take(data);
    take(&number(trailers.len()));
    for (name, line) in trailers {
        for part in [name.as_str().as_bytes(), line.as_bytes()] {
            take(&number(part.len()));
            take(part);
        }
    }
}
