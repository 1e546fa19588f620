//! A customer portal's backend over a slow CRM with a daily quota, and the cache between the two.
//!
//! ```console
//! $ cargo run --example support_portal
//! ```
//!
//! It prints the address of a page to open in a browser, and three `curl` lines to try. `PORT`
//! chooses the port (3000; 0 takes any that is free).
//!
//! With `REDIS_URL` (and the feature) several processes share what they have stored, and each page
//! shows all of them. The simulated CRM keeps what they change at the same server.
//!
//! ```console
//! $ export REDIS_URL=redis://127.0.0.1:6379/
//! $ PORT=3000 cargo run --features redis --example support_portal &
//! $ PORT=3001 cargo run --features redis --example support_portal
//! ```

mod auth;
mod burst;
mod control;
mod crm;
mod metrics;
mod page;
mod portal;
mod processes;
mod seed;
#[cfg_attr(not(feature = "redis"), path = "no_server.rs")]
mod server;

use std::{env, error::Error, process::ExitCode, sync::Arc, time::Duration};

use tokio::net::TcpListener;

use crate::{crm::Crm, processes::Processes, server::Server};

const DEFAULT_PORT: u16 = 3000;
const SEED: u64 = 42;
/// Time that writes without a client, and the store, have at the end of the process.
const DRAIN: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> ExitCode {
    // On stderr, so that the lines to try stand alone on stdout.
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("support_portal: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let server = env::var("REDIS_URL").ok().map(Server::at).transpose()?;
    let (crm, processes) = (Arc::new(Crm::new(SEED, server.clone())), Processes::default());
    let (app, cache) = match &server {
        Some(server) => portal::shared(server, Arc::clone(&crm), processes.clone())?,
        None => portal::alone(Arc::clone(&crm))?,
    };
    let port = port()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(|error| {
        format!("cannot listen on 127.0.0.1:{port}: {error}; set PORT to another (0: any)")
    })?;
    let stop = stop_signal()?;
    let url = format!("http://{}", listener.local_addr()?);
    announce(&url);
    if let Some(server) = server {
        tokio::spawn(processes.exchange(server, url, cache.clone(), Arc::clone(&crm)));
    }
    tokio::spawn(async move { crm.renew_quota_daily().await });
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    cache.drain(DRAIN).await?;
    Ok(())
}

fn port() -> Result<u16, String> {
    match env::var("PORT") {
        Ok(text) => text.parse().map_err(|_| format!("PORT is `{text}`, which is no port")),
        Err(env::VarError::NotPresent) => Ok(DEFAULT_PORT),
        Err(error) => Err(format!("PORT: {error}")),
    }
}

fn announce(url: &str) {
    let account = seed::FIRST_ACCOUNT;
    let case = seed::FIRST_CASE;
    let token = auth::token_of(account);
    let cases = format!("{url}/accounts/{account}/cases");
    println!("support_portal listens on {url}");
    println!("Open {url}/ in a browser, or try these lines.");
    println!();
    println!(
        "An account's cases. Run it twice: `fwd=uri-miss` and `stored`, then `hit` and an `Age`."
    );
    println!("curl -si -H 'Authorization: Bearer {token}' {cases}");
    println!("A comment. The list counts messages, so the first line is a miss again after it.");
    println!(
        "curl -si -X POST -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' \
         -d '{{\"text\": \"Still broken, sorry.\"}}' {cases}/{case}/comments"
    );
    println!("What the cache counted, and how often the CRM was called.");
    println!("curl -si {url}/metrics");
}

/// Returns a future that ends when the process is told to stop.
///
/// The signals are taken over here, before the address is printed, so that none that follows is
/// lost.
#[cfg(unix)]
fn stop_signal() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Returns a future that ends when the process is told to stop.
#[cfg(not(unix))]
fn stop_signal() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a signal to wait for, the portal runs until it is killed.
            std::future::pending::<()>().await;
        }
    })
}
