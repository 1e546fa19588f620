//! One row of a table, and how it is run.

use std::{
    fmt::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, Method};
use tokio::time::advance;
use tower_support_cache::CacheRoute;

use super::{
    cache_status,
    support::{GatedBody, Got, cache_with, got, request, response, send, settle, with},
};

pub(crate) type Fields = &'static [(&'static str, &'static str)];

/// How the second request of a row is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// With the stored response.
    Stored,
    /// With a 304 that is made from the stored response.
    NotModified,
    /// With what the origin says now.
    Forwarded,
    /// With a status of the cache's own.
    Own(u16),
}

/// A response that the origin gives to a first GET, a second request some time later, and what
/// answers it.
pub(crate) struct Row {
    /// The line of the checklist that this is for.
    pub(crate) line: &'static str,
    rfc: &'static str,
    route: fn(CacheRoute) -> CacheRoute,
    asked: Fields,
    status: u16,
    stored: Fields,
    age: u64,
    method: Method,
    request: Fields,
    answer: Answer,
    fields: Vec<(&'static str, &'static [&'static str])>,
    cache_status: Option<&'static str>,
    forwarded: Vec<(&'static str, bool)>,
}

impl Row {
    pub(crate) fn new(line: &'static str, rfc: &'static str, answer: Answer) -> Self {
        Self {
            line,
            rfc,
            route: |route| route,
            asked: &[],
            status: 200,
            stored: &[],
            age: 1,
            method: Method::GET,
            request: &[],
            answer,
            fields: Vec::new(),
            cache_status: None,
            forwarded: Vec::new(),
        }
    }

    pub(crate) fn route(mut self, route: fn(CacheRoute) -> CacheRoute) -> Self {
        self.route = route;
        self
    }

    /// The fields of the first request.
    pub(crate) fn asked(mut self, fields: Fields) -> Self {
        self.asked = fields;
        self
    }

    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The fields of the first response.
    pub(crate) fn stored(mut self, fields: Fields) -> Self {
        self.stored = fields;
        self
    }

    /// The seconds between the first response and the second request.
    pub(crate) fn age(mut self, seconds: u64) -> Self {
        self.age = seconds;
        self
    }

    pub(crate) fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// The fields of the second request.
    pub(crate) fn request(mut self, fields: Fields) -> Self {
        self.request = fields;
        self
    }

    /// The lines that the second answer has of a field; none where it is left out.
    pub(crate) fn has(mut self, name: &'static str, lines: &'static [&'static str]) -> Self {
        self.fields.push((name, lines));
        self
    }

    pub(crate) fn says(mut self, cache_status: &'static str) -> Self {
        self.cache_status = Some(cache_status);
        self
    }

    /// Whether the origin sees a field of the last request that reaches it.
    pub(crate) fn forwards(mut self, name: &'static str, is_seen: bool) -> Self {
        self.forwarded.push((name, is_seen));
        self
    }

    async fn run(&self) -> Result<(), String> {
        let (cache, _, calls) = cache_with(self.route);
        let (status, stored) = (self.status, self.stored);
        let seen = Arc::new(Mutex::new(HeaderMap::new()));
        let (seen_there, asked) = (Arc::clone(&seen), AtomicUsize::new(0));
        let count = calls.serve(move |head| {
            *seen_there.lock().unwrap() = head.headers.clone();
            match asked.fetch_add(1, Ordering::SeqCst) {
                0 => dated(response(status, stored, "stored")),
                _ => response(200, &[], "new"),
            }
        });
        let ask = |method: Method, fields: Fields| {
            let request = request(method, "/cases/1");
            fields.iter().fold(request, |request, (name, value)| with(request, name, value))
        };
        let first = got(send(&cache, ask(Method::GET, self.asked))).await;
        settle().await;
        advance(Duration::from_secs(self.age)).await;
        let second = got(send(&cache, ask(self.method.clone(), self.request))).await;
        cache_status::check(&first.fields)?;
        cache_status::check(&second.fields)?;
        let is_forwarded = count.load(Ordering::SeqCst) > 1;
        let seen = seen.lock().unwrap().clone();
        self.judge(&second, is_forwarded, &seen)
    }

    fn judge(&self, second: &Got, is_forwarded: bool, seen: &HeaderMap) -> Result<(), String> {
        let body = match self.answer {
            _ if self.method == Method::HEAD => "",
            Answer::Stored => "stored",
            Answer::Forwarded => "new",
            Answer::NotModified | Answer::Own(_) => "",
        };
        let status = match self.answer {
            Answer::Stored => self.status,
            Answer::NotModified => 304,
            Answer::Forwarded => 200,
            Answer::Own(status) => status,
        };
        // The origin's body of a HEAD is its own affair.
        let is_same_body = self.method == Method::HEAD && is_forwarded || second.text() == body;
        if is_forwarded != (self.answer == Answer::Forwarded)
            || second.status != status
            || !is_same_body
        {
            return Err(format!(
                "expected {:?}, got {} {:?} ({})",
                self.answer,
                second.status,
                second.text(),
                second.cache_status()
            ));
        }
        for (name, expected) in &self.fields {
            let lines: Vec<_> = lines(&second.fields, name);
            if lines != *expected {
                return Err(format!("`{name}` is {lines:?}, expected {expected:?}"));
            }
        }
        for (name, is_seen) in &self.forwarded {
            if seen.contains_key(*name) != *is_seen {
                return Err(format!("the origin sees `{name}`: {}", !is_seen));
            }
        }
        match self.cache_status {
            Some(expected) if second.cache_status() != expected => {
                Err(format!("`{}`, expected `{expected}`", second.cache_status()))
            }
            _ => Ok(()),
        }
    }
}

/// Writes the dates that a row gives as seconds from now, like `@-30`.
fn dated(mut response: http::Response<GatedBody>) -> http::Response<GatedBody> {
    for value in response.headers_mut().values_mut() {
        let Some(seconds) = value.to_str().unwrap().strip_prefix('@') else { continue };
        let seconds: i64 = seconds.parse().unwrap();
        let distance = Duration::from_secs(seconds.unsigned_abs());
        let now = time_of_day();
        let date = if seconds < 0 { now - distance } else { now + distance };
        *value = httpdate::fmt_http_date(date).parse().unwrap();
    }
    response
}

/// The time of day, moved along with the paused clock as the cache does.
#[allow(clippy::disallowed_methods)]
fn time_of_day() -> SystemTime {
    let moved = tokio::time::Instant::now().into_std();
    let actual = std::time::Instant::now();
    SystemTime::now() + moved.saturating_duration_since(actual)
        - actual.saturating_duration_since(moved)
}

pub(crate) fn lines<'a>(fields: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let name = HeaderName::try_from(name).unwrap();
    fields.get_all(name).iter().map(|line| line.to_str().unwrap()).collect()
}

/// Runs all rows and reports every one that fails.
pub(crate) async fn check(rows: Vec<Row>) {
    let mut faults = String::new();
    for row in rows {
        if let Err(fault) = row.run().await {
            let (line, rfc) = (row.line, row.rfc);
            let _ = writeln!(
                faults,
                "{line} ({rfc}): {fault}\n    after {:?} {:?} {:?}, asked {:?}",
                row.asked, row.status, row.stored, row.request
            );
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}
