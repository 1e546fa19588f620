//! A reverse proxy on this machine that caches what its origin says may be cached.
//!
//! ```sh
//! cargo run --release -p example-reverse-proxy -- --origin http://127.0.0.1:8000 --listen 127.0.0.1:8080
//! ```
//!
//! An HTTP cache's test suite that brings its own origin runs against it: give the suite's origin as
//! `--origin`, and `--listen` as the cache to test.

use std::{error::Error, net::SocketAddr};

use http::Uri;
use tokio::net::TcpListener;

mod proxy;

const USAGE: &str =
    "usage: example-reverse-proxy --origin http://HOST:PORT [--listen ADDRESS:PORT]";

/// What the command line says.
struct Settings {
    origin: Uri,
    listen: SocketAddr,
}

impl Settings {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut origin: Option<Uri> = None;
        let mut listen: SocketAddr = ([127, 0, 0, 1], 8080).into();
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(USAGE)?;
            match name.as_str() {
                "--origin" => origin = Some(value.parse()?),
                "--listen" => listen = value.parse()?,
                _ => return Err(USAGE.into()),
            }
        }
        let origin = origin.filter(|origin| origin.authority().is_some()).ok_or(USAGE)?;
        Ok(Self { origin, listen })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Settings { origin, listen } = Settings::parse(std::env::args().skip(1))?;
    let listener = TcpListener::bind(listen).await?;
    println!("http://{} caches {origin}", listener.local_addr()?);
    proxy::serve(listener, &origin).await?;
    Ok(())
}
