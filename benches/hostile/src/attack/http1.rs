//! Attacks over HTTP/1.1, by hand.

use std::{fmt::Write as _, io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::Barrier,
    time::{sleep, timeout},
};

use super::{Aim, Attack, BATCH, HELD, together};

pub(super) async fn strike(aim: &Aim, barrier: &Barrier) -> io::Result<()> {
    match aim.attack {
        Attack::Nothing => Ok(()),
        Attack::StalledReaders | Attack::UnreadStreams => stall(aim).await,
        Attack::Resets => reset(aim).await,
        Attack::TinyFrames | Attack::EndlessTrailers => {
            let mut stream = TcpStream::connect(aim.address).await?;
            stream.write_all(head("GET", &aim.target(0), CLOSE).as_bytes()).await?;
            timeout(Duration::from_secs(2), drain(&mut stream)).await?
        }
        Attack::ManyGroups => {
            for method in ["GET", "POST"] {
                let mut stream = TcpStream::connect(aim.address).await?;
                let fields = "connection: close\r\ncontent-length: 0\r\n";
                stream.write_all(head(method, &aim.target(0), fields).as_bytes()).await?;
                drain(&mut stream).await?;
            }
            Ok(())
        }
        Attack::Floods => flood(aim).await,
        Attack::HugeHeads => {
            let mut stream = TcpStream::connect(aim.address).await?;
            let (fields, length) = [(90, 3000), (1000, 10), (3, 200_000)][aim.seed as usize % 3];
            let mut lines = String::from(CLOSE);
            for number in 0..fields {
                let _ = write!(lines, "x-{number}: {}\r\n", "v".repeat(length));
            }
            stream.write_all(head("GET", &aim.target(0), &lines).as_bytes()).await?;
            drain(&mut stream).await
        }
        Attack::SlowBodies => dribble(aim).await,
        Attack::ColdKey => {
            // The queue of the listener is no part of the attack.
            sleep(Duration::from_micros(100 * (aim.seed % 5000))).await;
            let stream = TcpStream::connect(aim.address).await;
            together(barrier).await;
            let mut stream = stream?;
            stream.write_all(head("GET", &aim.target(0), CLOSE).as_bytes()).await?;
            drain(&mut stream).await
        }
    }
}

const CLOSE: &str = "connection: close\r\nte: trailers\r\n";

fn head(method: &str, target: &str, fields: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nhost: attacked\r\n{fields}\r\n")
}

async fn drain(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// Reads one byte of a large response.
async fn stall(aim: &Aim) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let mut stream = socket.connect(aim.address).await?;
    stream.write_all(head("GET", &aim.target(0), "").as_bytes()).await?;
    stream.read_u8().await?;
    sleep(HELD).await;
    Ok(())
}

/// Resets the connection in one of five phases of a request.
async fn reset(aim: &Aim) -> io::Result<()> {
    let mut stream = TcpStream::connect(aim.address).await?;
    stream.set_zero_linger()?;
    let target = aim.target(0);
    let whole = head("GET", &target, "");
    match aim.seed / 2 % 5 {
        0 => {}
        1 => stream.write_all(&whole.as_bytes()[..whole.len() / 2]).await?,
        2 => {
            stream.write_all(whole.as_bytes()).await?;
            sleep(Duration::from_millis(aim.seed % 25)).await;
        }
        3 => {
            stream.write_all(whole.as_bytes()).await?;
            stream.read_u8().await?;
        }
        _ => {
            let target = format!("/items/{}", aim.seed);
            let whole = head("POST", &target, "content-length: 1000\r\n");
            stream.write_all(format!("{whole}half").as_bytes()).await?;
            sleep(Duration::from_millis(aim.seed % 25)).await;
        }
    }
    Ok(())
}

/// Sends a batch of requests before it reads a response.
async fn flood(aim: &Aim) -> io::Result<()> {
    let mut stream = TcpStream::connect(aim.address).await?;
    let mut requests = String::new();
    for number in 0..BATCH {
        let fields = if number + 1 == BATCH { CLOSE } else { "" };
        requests += &head("GET", &aim.target(number), fields);
    }
    stream.write_all(requests.as_bytes()).await?;
    drain(&mut stream).await
}

/// Sends or reads one byte after the other.
async fn dribble(aim: &Aim) -> io::Result<()> {
    let mut stream = TcpStream::connect(aim.address).await?;
    if aim.seed.is_multiple_of(2) {
        stream.write_all(head("GET", &aim.target(0), CLOSE).as_bytes()).await?;
        while stream.read(&mut [0]).await? > 0 {
            sleep(Duration::from_millis(100)).await;
        }
        return Ok(());
    }
    let target = format!("/items/{}", aim.seed);
    stream.write_all(head("POST", &target, "content-length: 1000\r\n").as_bytes()).await?;
    for _ in 0..1000 {
        stream.write_all(b"x").await?;
        sleep(Duration::from_millis(100)).await;
    }
    drain(&mut stream).await
}
