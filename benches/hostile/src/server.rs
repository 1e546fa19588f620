//! The server under attack: axum, a slow origin, and the cache between them or not.

use std::{
    convert::Infallible,
    error::Error,
    fmt::Write as _,
    io::Read,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    response::Response,
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Frame, SizeHint};
use tokio::{
    net::{TcpListener, TcpSocket},
    time::{Sleep, sleep},
};
use tower_support_cache::{
    CacheRoute, InvalidateRoute, MemoryStore, Routes, SupportCacheHandle, SupportCacheLayer,
};

/// Time that the origin takes for a response head.
const ORIGIN: Duration = Duration::from_millis(20);

/// Lifetime of what honest clients ask for again and again: short, so that fills go on.
const HOT_TTL: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(60);
/// Capacity of the store, in bytes.
pub const CAPACITY: u64 = 32 * 1024 * 1024;
const GROUPS: usize = 40_000;

/// Server to be attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// With the cache.
    Cached,
    /// Without it.
    Bare,
}

impl Kind {
    /// Both, in the order of their turns.
    pub const ALL: [Self; 2] = [Self::Cached, Self::Bare];

    /// Returns the name on the command line and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cached => "cache",
            Self::Bare => "bare",
        }
    }
}

/// Calls of the origin for what honest clients ask.
#[derive(Debug, Default)]
struct Origin {
    honest: AtomicU64,
}

/// Serves until standard input ends, and prints the addresses of the server and of its figures.
///
/// # Errors
///
/// An address cannot be bound, or the cache not be built.
pub async fn serve(kind: Kind) -> Result<(), Box<dyn Error>> {
    let origin = Arc::new(Origin::default());
    let mut app = application(Arc::clone(&origin));
    let mut handle = None;
    if kind == Kind::Cached {
        let layer = layer()?;
        handle = Some(layer.handle());
        app = app.layer(layer);
    }
    let figures = Router::new().route(
        "/",
        get(move || {
            let figures = figures(&origin, handle.as_ref());
            async move { figures }
        }),
    );
    // A queue that overflows would be the kernel's refusal, for honest clients too.
    let public = TcpSocket::new_v4()?;
    public.bind(([127, 0, 0, 1], 0).into())?;
    let public = public.listen(4096)?;
    let private = TcpListener::bind("127.0.0.1:0").await?;
    println!("{} {}", public.local_addr()?, private.local_addr()?);
    thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    // The figures answer even where the server is busy.
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let private = private.into_std()?;
        runtime.block_on(async { axum::serve(TcpListener::from_std(private)?, figures).await })
    });
    axum::serve(public, app).await?;
    Ok(())
}

fn layer() -> Result<SupportCacheLayer<MemoryStore>, Box<dyn Error>> {
    let store = MemoryStore::builder().capacity(CAPACITY).build()?;
    let routes = add_routes(Routes::new());
    Ok(SupportCacheLayer::builder(store).scheme("http").routes(routes).build()?)
}

/// Adds the rules for what is attacked.
pub fn add_routes(routes: Routes) -> Routes {
    let route = |path: &str, ttl: Duration| {
        let name = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        CacheRoute::get(path).bucket(name).key(format!("{name}:{{id}}")).ttl(ttl).jitter(0)
    };
    let routes = routes
        .cache(route("/items/{id}", HOT_TTL))
        .invalidate(InvalidateRoute::post("/groups/{id}").key("groups:{id}").groups());
    let names = ["cold", "large", "over", "frames", "trailers", "groups", "slow"];
    names.iter().fold(routes, |routes, name| routes.cache(route(&format!("/{name}/{{id}}"), TTL)))
}

/// Returns what the process has used and done, a figure a line.
fn figures(origin: &Origin, handle: Option<&SupportCacheHandle>) -> String {
    let mut text = format!("calls {}\n", origin.honest.load(Ordering::Relaxed));
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (field, name) in [("VmRSS:", "memory"), ("VmHWM:", "most_memory")] {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kibibytes = line.and_then(|line| line.trim().split(' ').next()).unwrap_or("0");
        let _ = writeln!(text, "{name} {kibibytes}");
    }
    if let Some(handle) = handle {
        let metrics = handle.metrics();
        let bytes: u64 = metrics.buckets.values().map(|bucket| bucket.bytes).sum();
        let _ = writeln!(text, "stored {bytes}\nflights {}", metrics.flights);
    }
    text
}

// ===== the origin =====

/// Returns the handlers of what is attacked.
pub fn origin() -> Router {
    application(Arc::default())
}

fn application(origin: Arc<Origin>) -> Router {
    let chunk = |length| Bytes::from(vec![b'x'; length]);
    let stream = |frames: Frames| get(move || answer(frames.clone()));
    let large = Frames { declared: Some(512 * 1024), ..Frames::new(64, chunk(8192)) };
    let over = Frames::new(512, chunk(8192));
    let tiny = Frames::new(20_000, chunk(1));
    let slow = Frames { pause: Duration::from_millis(100), ..Frames::new(600, chunk(64)) };
    let trailers = Frames { trailers: u64::MAX, ..Frames::new(1, chunk(64)) };
    Router::new()
        .route("/items/{id}", get(item).post(write))
        .route("/cold/{id}", get(item))
        .route("/large/{id}", stream(large))
        .route("/over/{id}", stream(over))
        .route("/frames/{id}", stream(tiny))
        .route("/slow/{id}", stream(slow))
        .route("/trailers/{id}", stream(trailers))
        .route(
            "/groups/{id}",
            get(|| groups("cache-groups")).post(|| groups("cache-group-invalidation")),
        )
        .with_state(origin)
}

/// A resource of 1 KiB that begins with its name, and tells the number of the call.
async fn item(State(origin): State<Arc<Origin>>, Path(id): Path<String>) -> Response {
    let is_honest = id.starts_with("honest-");
    let call = match is_honest {
        true => origin.honest.fetch_add(1, Ordering::Relaxed) + 1,
        false => 0,
    };
    sleep(ORIGIN).await;
    let mut response = Response::new(Body::from(format!("{id:.<1024}")));
    response.headers_mut().insert("x-call", HeaderValue::from(call));
    response
}

async fn write(_: Bytes) {
    sleep(ORIGIN).await;
}

async fn answer(frames: Frames) -> Response {
    sleep(ORIGIN).await;
    Response::new(Body::new(frames))
}

async fn groups(field: &'static str) -> Response {
    let list: Vec<String> = (0..GROUPS).map(|group| format!("\"{group}\"")).collect();
    let mut response = answer(Frames::new(1, Bytes::from_static(b"x"))).await;
    if let Ok(list) = HeaderValue::from_str(&list.join(", ")) {
        response.headers_mut().insert(field, list);
    }
    response
}

/// Body of equal frames.
#[derive(Debug)]
struct Frames {
    left: u64,
    chunk: Bytes,
    trailers: u64,
    declared: Option<u64>,
    pause: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Frames {
    fn new(left: u64, chunk: Bytes) -> Self {
        Self { left, chunk, trailers: 0, declared: None, pause: Duration::ZERO, timer: None }
    }
}

impl Clone for Frames {
    fn clone(&self) -> Self {
        Self { chunk: self.chunk.clone(), timer: None, ..*self }
    }
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(timer) = &mut self.timer {
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
        }
        if self.left > 0 {
            self.left -= 1;
            if !self.pause.is_zero() {
                self.timer = Some(Box::pin(sleep(self.pause)));
            }
            return Poll::Ready(Some(Ok(Frame::data(self.chunk.clone()))));
        }
        if self.trailers > 0 {
            self.trailers -= 1;
            let mut fields = HeaderMap::new();
            fields.insert("x-trailer", HeaderValue::from_static("again"));
            return Poll::Ready(Some(Ok(Frame::trailers(fields))));
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && self.trailers == 0
    }

    fn size_hint(&self) -> SizeHint {
        self.declared.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
