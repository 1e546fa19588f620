//! A TCP proxy between a test and its server: it swallows everything, cuts connections, or leads new
//! ones elsewhere.

#![allow(dead_code)] // Each test uses a part of it.
#![allow(clippy::unwrap_used)]

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

use crate::server::pause;

/// A proxy on a free port. Dropped, it cuts everything.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

#[derive(Clone, Copy)]
struct State {
    /// Where new connections lead.
    port: u16,
    is_frozen: bool,
    /// How long what the server sends is held back, to come at once with what it sends meanwhile.
    hold: Duration,
    /// Connections of an earlier number are cut.
    number: u64,
}

impl Proxy {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (state, watched) =
            watch::channel(State { port, is_frozen: false, hold: Duration::ZERO, number: 0 });
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, watched.clone()));
            }
        });
        Self { port: own, state, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Black-holes every connection, new ones included: all is accepted, nothing comes through.
    pub(crate) fn freeze(&self) {
        self.state.send_modify(|state| state.is_frozen = true);
    }

    /// Lets through again, and first what was held back.
    pub(crate) fn thaw(&self) {
        self.state.send_modify(|state| state.is_frozen = false);
    }

    /// Holds back for a time what the server sends over new connections, and then lets all of it
    /// through at once, as a network does that is busy.
    pub(crate) fn hold(&self, time: Duration) {
        self.state.send_modify(|state| state.hold = time);
    }

    /// Cuts the connections that are open now.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.number += 1);
    }

    /// Leads new connections to another port. Those that are open stay where they are.
    pub(crate) fn lead_to(&self, port: u16) {
        self.state.send_modify(|state| state.port = port);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(client: TcpStream, mut state: watch::Receiver<State>) {
    let number = state.borrow().number;
    let mut cut = state.clone();
    let carried = async {
        let thawed = *state.wait_for(|state| !state.is_frozen).await.ok()?;
        let server = TcpStream::connect(("127.0.0.1", thawed.port)).await.ok()?;
        for stream in [&client, &server] {
            stream.set_nodelay(true).ok()?;
        }
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::select! {
            ended = pump(from_client, to_server, (state.clone(), number), Duration::ZERO) => ended.ok(),
            ended = pump(from_server, to_client, (state.clone(), number), thawed.hold) => ended.ok(),
        }
    };
    // Dropped sockets are cut connections.
    tokio::select! {
        _ = carried => {}
        _ = cut.wait_for(|state| state.number != number) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    (mut state, number): (watch::Receiver<State>, u64),
    hold: Duration,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let mut length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        if !hold.is_zero() {
            pause(hold).await;
            length += from.try_read(&mut buffer[length..]).unwrap_or_default();
        }
        let thawed = *state.wait_for(|state| !state.is_frozen).await.map_err(io::Error::other)?;
        if thawed.number != number {
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
    }
}
