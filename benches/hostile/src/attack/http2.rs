//! Attacks over HTTP/2, with the frames in our hands.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use h2::{
    Reason,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::{HeaderName, HeaderValue, Method, Request};
use tokio::{
    net::TcpStream,
    sync::Barrier,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Aim, Attack, BATCH, HELD, together};

type Failure = Box<dyn Error + Send + Sync>;

pub(super) async fn strike(aim: &Aim, barrier: &Barrier) -> Result<(), Failure> {
    // Streams that never read must not use up the connection's window for each other.
    let stalled = [Attack::StalledReaders, Attack::UnreadStreams].contains(&aim.attack);
    let window = if stalled { 16 * 1024 } else { 1024 * 1024 };
    let stream = TcpStream::connect(aim.address).await;
    if aim.attack == Attack::ColdKey {
        together(barrier).await;
    }
    let (send, connection) = Builder::new()
        .initial_window_size(window)
        .initial_connection_window_size(64 * 1024 * 1024)
        .max_header_list_size(16 * 1024 * 1024)
        .handshake::<_, Bytes>(stream?)
        .await?;
    // With its end, those of all streams come.
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let _ = connection.await;
    });
    match aim.attack {
        Attack::Nothing => Ok(()),
        Attack::StalledReaders => stall(aim, send, 1).await,
        Attack::UnreadStreams => stall(aim, send, BATCH).await,
        Attack::Resets => resets(aim, send).await,
        Attack::TinyFrames => together_read(aim, send, 4).await,
        Attack::EndlessTrailers => {
            timeout(Duration::from_secs(2), together_read(aim, send, 4)).await?
        }
        Attack::ManyGroups => {
            let mut send = send;
            for method in [Method::GET, Method::POST] {
                read(request(aim, &mut send, method, 0).await?).await?;
            }
            Ok(())
        }
        Attack::Floods if aim.round.is_multiple_of(2) => {
            let mut send = send;
            for number in 0..BATCH {
                drop(request(aim, &mut send, Method::GET, number).await?);
            }
            Ok(())
        }
        Attack::Floods | Attack::ColdKey => together_read(aim, send, BATCH).await,
        Attack::HugeHeads => together_read(aim, send, 2).await,
        Attack::SlowBodies => dribble(aim, send).await,
    }
}

/// Sends a request that is complete.
async fn request(
    aim: &Aim,
    send: &mut SendRequest<Bytes>,
    method: Method,
    number: u64,
) -> Result<ResponseFuture, Failure> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://attacked{}", aim.target(number)))
        .body(())?;
    if aim.attack == Attack::HugeHeads {
        for number in 0..90 {
            let name = HeaderName::try_from(format!("x-{number}"))?;
            request.headers_mut().insert(name, HeaderValue::try_from("v".repeat(3000))?);
        }
    }
    *send = send.clone().ready().await?;
    Ok(send.send_request(request, true)?.0)
}

async fn read(response: ResponseFuture) -> Result<(), Failure> {
    let mut body = response.await?.into_body();
    while let Some(bytes) = body.data().await {
        let bytes = bytes?;
        body.flow_control().release_capacity(bytes.len())?;
    }
    body.trailers().await?;
    Ok(())
}

/// Reads as many responses at once.
async fn together_read(aim: &Aim, mut send: SendRequest<Bytes>, count: u64) -> Result<(), Failure> {
    let mut readers = JoinSet::new();
    for number in 0..count {
        readers.spawn(read(request(aim, &mut send, Method::GET, number).await?));
    }
    readers.join_all().await;
    Ok(())
}

/// Takes the heads of responses, and gives no window back.
async fn stall(aim: &Aim, mut send: SendRequest<Bytes>, count: u64) -> Result<(), Failure> {
    let mut held = Vec::new();
    for number in 0..count {
        held.push(request(aim, &mut send, Method::GET, number).await?);
    }
    let mut bodies = Vec::new();
    for response in held {
        bodies.push(response.await?.into_body());
    }
    sleep(HELD).await;
    Ok(())
}

/// Resets streams in each of five phases of a request.
async fn resets(aim: &Aim, mut send: SendRequest<Bytes>) -> Result<(), Failure> {
    for number in 0..20 {
        let pause = sleep(Duration::from_millis(number));
        if number % 5 == 4 {
            let target = format!("http://attacked/items/{}", aim.seed);
            send = send.ready().await?;
            let (_response, mut body) =
                send.send_request(Request::post(target).body(())?, false)?;
            body.send_data(Bytes::from_static(b"half"), false)?;
            pause.await;
            body.send_reset(Reason::CANCEL);
            continue;
        }
        let response = request(aim, &mut send, Method::GET, number).await?;
        match number % 5 {
            0 => {}
            1 => pause.await,
            2 => drop(response.await?),
            _ => {
                let _ = response.await?.into_body().data().await;
            }
        }
    }
    Ok(())
}

/// Sends many bodies, a byte of each at a time.
async fn dribble(aim: &Aim, mut send: SendRequest<Bytes>) -> Result<(), Failure> {
    let mut bodies = Vec::new();
    let mut responses = Vec::new();
    for number in 0..BATCH / 2 {
        let target = format!("http://attacked/items/{}-{number}", aim.seed);
        send = send.ready().await?;
        let (response, body) = send.send_request(Request::post(target).body(())?, false)?;
        bodies.push(body);
        responses.push(response);
    }
    for number in 0..BATCH / 2 {
        let mut response = Box::pin(read(request(aim, &mut send, Method::GET, number).await?));
        for body in &mut bodies {
            body.send_data(Bytes::from_static(b"x"), false)?;
        }
        let _ = timeout(Duration::from_millis(100), &mut response).await;
    }
    Ok(())
}
