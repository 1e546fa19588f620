//! Clients that behave, and what they notice.

use std::{collections::HashSet, error::Error, net::SocketAddr, thread, time::Duration};

use bytes::Bytes;
use http::{Request, header::HOST};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use crate::attack::Protocol;

const CLIENTS: u64 = 32;
/// Number of keys that honest clients ask for again and again.
pub const KEYS: u64 = 64;
/// Time from one request of a client to its next.
const EVERY: Duration = Duration::from_millis(25);
/// Time from one crowd to the next, and the number of its requests for one cold key.
const CROWD_EVERY: Duration = Duration::from_millis(400);
const CROWD: u64 = 20;
/// Time after which a request without a response has failed.
const PATIENCE: Duration = Duration::from_secs(20);

type Failure = Box<dyn Error + Send + Sync>;

/// Observations of the honest clients during one turn.
#[derive(Clone, Debug, Default)]
pub struct Honest {
    /// Times from a request to the end of its response, sorted.
    pub times: Vec<Duration>,
    /// Requests without a response, or with a wrong one.
    pub failed: u64,
    /// A reason of those.
    pub reason: Option<String>,
    /// Responses from the store.
    pub hits: u64,
    /// Responses of another request's call.
    pub collapsed: u64,
    /// Cold keys that a crowd has asked for at once.
    pub crowds: u64,
    /// Calls of the origin for these.
    pub crowd_calls: u64,
    /// Those of them that are stored afterwards.
    pub crowds_stored: u64,
}

impl Honest {
    /// Returns the time within which a share of the responses has come, in per cent.
    pub fn percentile(&self, percent: usize) -> Duration {
        let place = self.times.len() * percent / 100;
        self.times.get(place).or(self.times.last()).copied().unwrap_or_default()
    }

    /// Returns the share of responses that came from the store or of another request's call.
    pub fn hit_ratio(&self) -> f64 {
        (self.hits + self.collapsed) as f64 / (self.times.len() as f64).max(1.0)
    }

    fn count(&mut self, taken: Duration, answer: Result<Answer, Failure>) {
        match answer {
            Ok(answer) => {
                self.times.push(taken);
                self.hits += u64::from(answer.is_hit);
                self.collapsed += u64::from(answer.is_collapsed);
            }
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &Failure) {
        self.failed += 1;
        self.reason.get_or_insert_with(|| match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        });
    }

    fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        self.failed += other.failed;
        self.reason = self.reason.take().or(other.reason);
        self.hits += other.hits;
        self.collapsed += other.collapsed;
        self.crowds += other.crowds;
        self.crowd_calls += other.crowd_calls;
        self.crowds_stored += other.crowds_stored;
    }
}

/// Asks the server for a time, on a thread of its own.
pub(crate) fn run(address: SocketAddr, time: Duration) -> thread::JoinHandle<Honest> {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be built");
        runtime.block_on(async {
            let until = Instant::now() + time;
            let mut clients = JoinSet::new();
            for number in 0..CLIENTS {
                clients.spawn(client(address, number, until));
            }
            clients.spawn(crowds(address, until));
            let mut all = Honest::default();
            for seen in clients.join_all().await {
                all.add(seen);
            }
            all.times.sort_unstable();
            all
        })
    })
}

fn protocol_of(number: u64) -> Protocol {
    if number.is_multiple_of(2) { Protocol::Http1 } else { Protocol::Http2 }
}

/// Asks for one hot key after the other.
async fn client(address: SocketAddr, number: u64, until: Instant) -> Honest {
    let mut seen = Honest::default();
    let mut link = None;
    let mut state = number;
    let mut due = Instant::now() + EVERY * number as u32 / CLIENTS as u32;
    while due < until {
        sleep_until(due).await;
        // The generator of Knuth's MMIX: any will do.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let id = format!("honest-{}", (state >> 33) % KEYS);
        let start = Instant::now();
        let answer = ask(address, protocol_of(number), &mut link, "items", &id).await;
        seen.count(start.elapsed(), answer);
        due = (due + EVERY).max(Instant::now());
    }
    seen
}

/// Asks with many clients at once for what nobody has asked for, and once more afterwards.
async fn crowds(address: SocketAddr, until: Instant) -> Honest {
    let mut seen = Honest::default();
    let mut links: Vec<Option<Link>> = (0..CROWD).map(|_| None).collect();
    let mut due = Instant::now() + CROWD_EVERY;
    while due < until {
        sleep_until(due).await;
        let id = format!("honest-{}", seen.crowds);
        let mut crowd = JoinSet::new();
        for (number, mut link) in links.drain(..).enumerate() {
            let id = id.clone();
            crowd.spawn(async move {
                let protocol = protocol_of(number as u64);
                let answer = ask(address, protocol, &mut link, "cold", &id).await;
                (number, link, answer)
            });
        }
        let mut done = crowd.join_all().await;
        done.sort_by_key(|(number, ..)| *number);
        let mut calls = HashSet::new();
        for (_, link, answer) in done {
            links.push(link);
            match answer {
                Ok(answer) => {
                    calls.insert(answer.call);
                }
                Err(error) => seen.fail(&error),
            }
        }
        seen.crowds += 1;
        seen.crowd_calls += calls.len() as u64;
        let again = ask(address, Protocol::Http1, &mut links[0], "cold", &id).await;
        seen.crowds_stored += u64::from(again.is_ok_and(|answer| answer.is_hit));
        due = (due + CROWD_EVERY).max(Instant::now());
    }
    seen
}

struct Answer {
    call: String,
    is_hit: bool,
    is_collapsed: bool,
}

/// Sends one request, on a new connection where there is none, and reads its response.
async fn ask(
    address: SocketAddr,
    protocol: Protocol,
    link: &mut Option<Link>,
    kind: &str,
    id: &str,
) -> Result<Answer, Failure> {
    let asked = timeout(PATIENCE, async {
        let mut open = match link.take() {
            Some(open) => open,
            None => Link::open(address, protocol).await?,
        };
        let answer = open.get(address, kind, id).await?;
        *link = Some(open);
        Ok(answer)
    });
    asked.await.unwrap_or_else(|_| Err("no response within 20 s".into()))
}

enum Link {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Link {
    async fn open(address: SocketAddr, protocol: Protocol) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        Ok(match protocol {
            Protocol::Http1 => {
                let (link, connection) = http1::handshake(io).await?;
                tokio::spawn(connection);
                Self::Http1(link)
            }
            Protocol::Http2 => {
                let (link, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(connection);
                Self::Http2(link)
            }
        })
    }

    async fn get(&mut self, address: SocketAddr, kind: &str, id: &str) -> Result<Answer, Failure> {
        let response = match self {
            Self::Http1(link) => {
                let request =
                    Request::get(format!("/{kind}/{id}")).header(HOST, address.to_string());
                link.ready().await?;
                link.send_request(request.body(Empty::new())?).await?
            }
            Self::Http2(link) => {
                let request = Request::get(format!("http://{address}/{kind}/{id}"));
                link.ready().await?;
                link.send_request(request.body(Empty::new())?).await?
            }
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        if head.status != 200 || body.len() != 1024 || !body.starts_with(id.as_bytes()) {
            return Err(format!("{} with {} bytes", head.status, body.len()).into());
        }
        let text = |name: &str| {
            let value = head.headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let status = text("cache-status");
        Ok(Answer {
            call: text("x-call"),
            is_hit: status.contains(";hit"),
            is_collapsed: status.contains("collapsed"),
        })
    }
}
