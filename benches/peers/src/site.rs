//! A column's service behind one face, so that every loop is written once and compiled for each
//! service: what is erased is the loop, not the service.

use std::{future::poll_fn, hint::black_box, marker::PhantomData, pin::pin, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{
    HeaderName, HeaderValue, Method, Request, Response,
    header::{ACCEPT, AUTHORIZATION, HOST},
};
use http_body::Body;
use http_body_util::Empty;
use tower::{Service, ServiceExt};

use crate::origin::Script;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    pub method: Method,
    /// The first segment of the path; all have five letters, so that all requests cost the same to make.
    pub directory: &'static str,
    pub field: Option<(HeaderName, HeaderValue)>,
}

impl Wish {
    pub fn get() -> Self {
        Self { method: Method::GET, directory: "cases", field: None }
    }

    /// GET of what no route is for.
    pub fn unmatched() -> Self {
        Self { directory: "other", ..Self::get() }
    }

    /// POST of what no route and no rule is for.
    pub fn post() -> Self {
        Self { method: Method::POST, directory: "other", field: None }
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Seen {
    pub status: u16,
    pub body: Bytes,
}

/// A service of a column, warm or not.
pub trait Site: Send + Sync {
    /// Asks for the targets with these numbers, one after the other, and reads each answer to its end.
    fn run<'a>(&'a self, wish: &'a Wish, numbers: &'a [u32]) -> BoxFuture<'a, ()>;

    /// Asks once.
    fn ask(&self, wish: Wish, number: u32) -> BoxFuture<'static, Result<Seen, String>>;

    /// Asks once, and tells the length of each frame as it arrives; zero when the head has come.
    fn stream<'a>(
        &'a self,
        number: u32,
        see: &'a mut (dyn FnMut(usize) + Send),
    ) -> BoxFuture<'a, ()>;

    /// Invalidates the target with this number as the column's docs say; `None` if it has no way to.
    fn invalidate(&self, number: u32) -> Option<BoxFuture<'static, ()>>;
}

pub type AnySite = Arc<dyn Site>;

/// A way to invalidate, or none.
pub type Invalidate = Box<dyn Fn(u32) -> BoxFuture<'static, ()> + Send + Sync>;

/// What a column needs to know to build its service.
#[derive(Clone, Debug)]
pub struct Plan {
    pub script: &'static Script,
    /// How many entries the store must hold.
    pub entries: usize,
    /// How many routes there are, where a column has routes.
    pub routes: usize,
    /// Whether all targets are variants of one key, where a column knows the difference.
    pub grouping: Grouping,
    pub redis: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    KeyPerTarget,
    OneKey,
}

impl Plan {
    pub fn new(script: &'static Script) -> Self {
        Self {
            script,
            entries: 1 << 14,
            routes: 1,
            grouping: Grouping::KeyPerTarget,
            redis: std::env::var("PEERS_REDIS_URL").ok(),
        }
    }

    pub fn entries(self, entries: usize) -> Self {
        Self { entries, ..self }
    }

    pub fn redis(&self) -> &str {
        self.redis.as_deref().expect("the caller has started a server")
    }
}

// ===== over a service =====

pub struct Over<S, Q> {
    service: S,
    /// Before the path, where a service takes only absolute URIs.
    authority: &'static str,
    invalidate: Option<Invalidate>,
    request: PhantomData<fn() -> Q>,
}

/// A site over any service that takes requests without content.
pub fn site<S>(service: S) -> Over<S, Empty<Bytes>> {
    Over { service, authority: "", invalidate: None, request: PhantomData }
}

/// A site over a service that takes axum's requests.
pub fn axum_site<S>(service: S) -> Over<S, axum::body::Body> {
    Over { service, authority: "", invalidate: None, request: PhantomData }
}

impl<S, Q> Over<S, Q> {
    pub fn invalidated_by(
        self,
        invalidate: impl Fn(u32) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        Self { invalidate: Some(Box::new(invalidate)), ..self }
    }

    /// Asks by absolute URIs.
    pub fn absolute(self) -> Self {
        Self { authority: "http://portal.example", ..self }
    }
}

/// Makes a request, with the fields that all have.
pub fn request<Q: Default>(wish: &Wish, authority: &str, number: u32) -> Request<Q> {
    let mut request = Request::new(Q::default());
    *request.method_mut() = wish.method.clone();
    let target = format!("{authority}/{}/{number}", wish.directory);
    *request.uri_mut() = target.parse().expect("a path is a URI");
    let fields = request.headers_mut();
    fields.reserve(3);
    fields.insert(HOST, HeaderValue::from_static("portal.example"));
    fields.insert(ACCEPT, HeaderValue::from_static("application/json"));
    fields.insert(AUTHORIZATION, HeaderValue::from_static("Bearer 0123456789abcdef"));
    if let Some((name, value)) = &wish.field {
        fields.insert(name, value.clone());
    }
    request
}

/// The path of a number, as [`Wish::get`] asks for it.
pub fn path(number: u32) -> String {
    format!("/cases/{number}")
}

impl<S, Q, B> Site for Over<S, Q>
where
    S: Service<Request<Q>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: std::fmt::Debug + Send,
    Q: Default + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::fmt::Debug + Send,
{
    fn run<'a>(&'a self, wish: &'a Wish, numbers: &'a [u32]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            for number in numbers {
                let request = request(wish, self.authority, *number);
                let response = self.service.clone().oneshot(request).await;
                black_box(read(response.expect("it is answered").into_body()).await);
            }
        })
    }

    fn ask(&self, wish: Wish, number: u32) -> BoxFuture<'static, Result<Seen, String>> {
        let (service, authority) = (self.service.clone(), self.authority);
        Box::pin(async move {
            let request = request(&wish, authority, number);
            let response = service.oneshot(request).await.map_err(|error| format!("{error:?}"))?;
            let status = response.status().as_u16();
            let mut body = pin!(response.into_body());
            let mut bytes = BytesMut::new();
            while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                let frame = frame.map_err(|error| format!("{error:?}"))?;
                bytes.extend_from_slice(frame.data_ref().map_or(b"", |data| data));
            }
            Ok(Seen { status, body: bytes.freeze() })
        })
    }

    fn stream<'a>(
        &'a self,
        number: u32,
        see: &'a mut (dyn FnMut(usize) + Send),
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let request = request(&Wish::get(), self.authority, number);
            let response = self.service.clone().oneshot(request).await.expect("it is answered");
            see(0);
            let mut body = pin!(response.into_body());
            while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                see(frame.expect("the body is whole").data_ref().map_or(0, Bytes::len));
            }
        })
    }

    fn invalidate(&self, number: u32) -> Option<BoxFuture<'static, ()>> {
        self.invalidate.as_ref().map(|invalidate| invalidate(number))
    }
}

/// Reads a body to its end and returns its length.
async fn read<B: Body<Data = Bytes>>(body: B) -> usize
where
    B::Error: std::fmt::Debug,
{
    let mut body = pin!(body);
    let mut length = 0;
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        length += frame.expect("the body is whole").data_ref().map_or(0, Bytes::len);
    }
    length
}
