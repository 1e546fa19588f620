//! A service whose cache is made of a file, and made anew when the file changes.
//!
//! ```console
//! $ cargo run -p example-config-file -- examples/config_file/cache.toml
//! $ curl -i http://127.0.0.1:3000/accounts/A1/cases
//! ```
//!
//! Change `ttl` in the file: what is stored stays, and has the new lifetime. A file with a mistake changes
//! nothing, and the mistake is named. `PORT` chooses the port (3000; 0 takes any that is free).

use std::{env, error::Error, time::Duration};

use axum::{Router, extract::Path, routing::get};
use tokio::{net::TcpListener, signal};
use tower_support_cache::config::{Closures, ConfigFile, Reloader};

async fn list(Path(account): Path<String>) -> String {
    format!("the cases of {account}")
}

/// Puts each new text of the file in force.
async fn follow(mut reloader: Reloader) {
    loop {
        match reloader.changed(Duration::from_millis(500)).await {
            Ok(()) => eprintln!("the configuration is in force"),
            Err(error) => eprintln!("the configuration stays as it was: {error}"),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("usage: example-config-file FILE")?;
    let file = ConfigFile::read(path)?;
    let layer = file.layer(&Closures::new())?;
    tokio::spawn(follow(Reloader::new(&file, layer.handle(), Closures::new())));
    let app =
        Router::new().route("/accounts/{account}/cases", get(list).post(async || ())).layer(layer);

    let port = env::var("PORT").unwrap_or_else(|_| "3000".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async { signal::ctrl_c().await.expect("a handler of signals") })
        .await?;
    Ok(())
}
