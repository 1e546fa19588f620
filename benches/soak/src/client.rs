//! A client: it reads and changes cases, and compares what it reads with what was acknowledged before.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::TokioExecutor,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use rand_distr::Zipf;
use tokio::time::{sleep, timeout};

use crate::{
    fleet::{Fleet, Member, NEAR_LAG},
    server::length,
    tally::Tally,
    truth::CASES,
};

/// Time from a response to the next request of a client.
const PAUSE: Duration = Duration::from_millis(10);
/// Time after which a request without a response has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Request of a client.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Read(usize),
    /// Changes a case; its rule invalidates it.
    Change(usize),
    /// Changes all cases of an account; its rule invalidates their tag.
    ChangeAll(usize),
    /// Changes a case and invalidates it through the handle.
    ChangeAndTell(usize),
}

struct Answer {
    status: StatusCode,
    is_hit: bool,
    body: Bytes,
}

/// Asks the fleet until it is dropped.
pub(crate) async fn run(fleet: Arc<Fleet>, tally: Arc<Tally>, cases: usize, seed: u64) {
    let http = Http::builder(TokioExecutor::new()).build_http();
    let mut random = SmallRng::seed_from_u64(seed);
    // The skew of YCSB.
    let rank = Zipf::new(cases as f64, 0.99).expect("a count and an exponent");
    for number in seed.. {
        let popular: f64 = random.sample(rank);
        // Popular cases are of all accounts and lengths.
        let case = (popular as usize - 1) * 7919 % cases;
        let asked = match random.random_range(0..1000) {
            0..30 => Asked::Change(case),
            30..50 => Asked::ChangeAndTell(case),
            50..55 => Asked::ChangeAll(case),
            _ => Asked::Read(case),
        };
        ask(&http, &fleet, &tally, asked, number).await;
        sleep(PAUSE).await;
    }
}

/// Sends a request, again if its server has ended meanwhile, and counts what comes back.
async fn ask(
    http: &Http<HttpConnector, Empty<Bytes>>,
    fleet: &Arc<Fleet>,
    tally: &Tally,
    asked: Asked,
    number: u64,
) {
    let start = Instant::now();
    let mut attempt = number;
    while start.elapsed() < PATIENCE {
        let member = fleet.member(attempt);
        let least = match asked {
            Asked::Read(case) => fleet.acknowledged.of(case).max(member.acknowledged.of(case)),
            _ => 0,
        };
        let sent = timeout(PATIENCE, send(http, &member, asked)).await;
        match sent.map_err(|_| "no response within 20 s".to_owned()).flatten() {
            Ok(answer) => match asked {
                Asked::Read(case) => {
                    return check(tally, &member, case, least, &answer, start.elapsed());
                }
                _ => return acknowledge(fleet, tally, &member, asked, &answer),
            },
            Err(_) if !fleet.has(&member) => {
                tally.moved.fetch_add(1, Ordering::Relaxed);
                attempt += 1;
            }
            Err(error) => return tally.fail(format!("{asked:?}: {error}")),
        }
    }
    tally.fail(format!("{asked:?}: no server takes it"));
}

async fn send(
    http: &Http<HttpConnector, Empty<Bytes>>,
    member: &Member,
    asked: Asked,
) -> Result<Answer, String> {
    let (method, path) = match asked {
        Asked::Read(case) => (Method::GET, format!("/accounts/{}/cases/{case}", case / CASES)),
        Asked::Change(case) => (Method::POST, format!("/accounts/{}/cases/{case}", case / CASES)),
        Asked::ChangeAll(case) => (Method::POST, format!("/accounts/{}", case / CASES)),
        Asked::ChangeAndTell(case) => {
            (Method::POST, format!("/events/accounts/{}/cases/{case}", case / CASES))
        }
    };
    let uri = format!("http://{}{path}", member.address);
    let request = Request::builder().method(method).uri(uri).body(Empty::new());
    let response = http.request(request.unwrap()).await;
    let (head, body) = response.map_err(|error| format!("{error:?}"))?.into_parts();
    let body = body.collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
    let status = head.headers.get("cache-status").and_then(|status| status.to_str().ok());
    let is_hit = status.is_some_and(|status| status.contains(";hit"));
    Ok(Answer { status: head.status, is_hit, body })
}

/// Counts a response to a read, which must be of its case, whole, and of at least a version.
fn check(
    tally: &Tally,
    member: &Member,
    case: usize,
    least: u32,
    answer: &Answer,
    taken: Duration,
) {
    let text = String::from_utf8_lossy(&answer.body);
    let mut parts = text.split(':');
    let named: Option<usize> = parts.next().and_then(|part| part.parse().ok());
    let version: Option<u32> = parts.next().and_then(|part| part.parse().ok());
    let is_whole = answer.status == StatusCode::OK && text.len() == length(case);
    match version.filter(|_| is_whole && named == Some(case)) {
        Some(version) if version >= least => tally.read(taken, answer.is_hit),
        Some(version) => tally.stale(format!(
            "case {case}: {version}, and {least} was acknowledged; {} of {}",
            if answer.is_hit { "a hit" } else { "no hit" },
            member.address
        )),
        None => tally.fail(format!("case {case}: {}, {} bytes", answer.status, text.len())),
    }
}

/// Notes what a response to a change acknowledges, and for whom.
fn acknowledge(fleet: &Arc<Fleet>, tally: &Tally, member: &Member, asked: Asked, answer: &Answer) {
    if !answer.status.is_success() {
        return tally.fail(format!("{asked:?}: {}", answer.status));
    }
    let is_for_all = matches!(asked, Asked::ChangeAndTell(_)) && answer.status == StatusCode::OK;
    tally.changed(is_for_all);
    let text = String::from_utf8_lossy(&answer.body);
    for (case, version) in text.split(',').filter_map(|pair| pair.split_once(':')) {
        let (case, version) = (case.parse().unwrap(), version.parse().unwrap());
        member.acknowledged.raise(case, version);
        if is_for_all {
            let fleet = Arc::clone(fleet);
            tokio::spawn(async move {
                sleep(NEAR_LAG).await;
                fleet.acknowledged.raise(case, version);
            });
        }
    }
}
