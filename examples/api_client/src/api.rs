//! An API that answers a number of calls and refuses those after.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{HeaderValue, RETRY_AFTER},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

pub(crate) struct Api {
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
}

impl Api {
    /// Starts an API that answers `quota` calls.
    pub(crate) async fn start(quota: usize) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, calls) = (listener.local_addr()?, Arc::<AtomicUsize>::default());
        tokio::spawn(serve(listener, quota, Arc::clone(&calls)));
        Ok(Self { address, calls })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the number of calls so far, the refused ones included.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

async fn serve(listener: TcpListener, quota: usize, calls: Arc<AtomicUsize>) {
    while let Ok((stream, _)) = listener.accept().await {
        let calls = Arc::clone(&calls);
        let service = service_fn(move |request| {
            let is_refused = calls.fetch_add(1, Ordering::Relaxed) >= quota;
            async move { Ok::<_, Infallible>(answer(&request, is_refused)) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

fn answer(request: &Request<Incoming>, is_refused: bool) -> Response<Full<Bytes>> {
    if is_refused {
        let mut response = Response::new(Full::from("no more calls"));
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
        return response;
    }
    Response::new(Full::from(format!("1.07 for {}", request.uri().path())))
}
