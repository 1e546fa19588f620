//! A server's process, and its figures.

use std::{collections::BTreeMap, error::Error, net::SocketAddr, path::Path, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
};

use crate::server::Kind;

/// A server in a process of its own, which ends with it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    figures: SocketAddr,
    _process: Child,
}

/// Figures of a server's process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// Calls of the origin for what honest clients ask.
    pub(crate) calls: u64,
    /// Resident memory, in KiB.
    pub(crate) memory: u64,
    /// The most that it has been.
    pub(crate) most_memory: u64,
}

impl Target {
    pub(crate) async fn start(program: &Path, kind: Kind) -> Result<Self, Box<dyn Error>> {
        let mut process = Command::new(program)
            .args(["serve", kind.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = process.stdout.take().ok_or("the server has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).await?;
        let (address, figures) = line.trim().split_once(' ').ok_or("the server has not started")?;
        Ok(Self { address: address.parse()?, figures: figures.parse()?, _process: process })
    }

    pub(crate) async fn figures(&self) -> Result<Figures, Box<dyn Error>> {
        let mut stream = TcpStream::connect(self.figures).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let (_, text) = text.split_once("\r\n\r\n").ok_or("the server tells no figures")?;
        let all: BTreeMap<&str, u64> = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(name, value)| Some((name, value.parse().ok()?)))
            .collect();
        let figure = |name: &str| all.get(name).copied().unwrap_or_default();
        Ok(Figures {
            calls: figure("calls"),
            memory: figure("memory"),
            most_memory: figure("most_memory"),
        })
    }
}
