//! The portal is scraped by a real Prometheus, which answers every query of the dashboard and the rules; and
//! each metric, label and value in a query is one that is exported.
//!
//! Needs `prometheus`, `promtool` and `redis-server` (`tests/run.sh` installs them).

#![allow(clippy::disallowed_methods)] // Other programs take their time, which no test can pause.
#![allow(clippy::unwrap_used)] // Clippy sees no test in a function that tests share.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// For what takes a moment on a machine that is not busy.
const PATIENCE: Duration = Duration::from_secs(120);

fn ops() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops").canonicalize().unwrap()
}

// ===== processes =====

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &str, configure: impl FnOnce(&mut Command)) -> Process {
    let mut command = Command::new(program);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    configure(&mut command);
    let started = command.spawn();
    Process(started.unwrap_or_else(|error| panic!("`{program}` does not start: {error}")))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Returns an empty folder that is left to the system's own cleaning.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("scraped-{}-{name}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[track_caller]
fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::park_timeout(Duration::from_millis(100));
    }
}

/// Sends a GET with these lines of fields, and returns the response's text. `None` if no server answers.
fn get(port: u16, target: &str, fields: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let head = format!("GET {target} HTTP/1.1\r\nhost: portal.example\r\nconnection: close\r\n");
    stream.write_all(format!("{head}{fields}\r\n").as_bytes()).ok()?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

struct Portal {
    port: u16,
    _process: Process,
    redis: Option<Process>,
}

impl Portal {
    fn start() -> Self {
        let redis_port = free_port();
        let redis = start("redis-server", |command| {
            let folder = folder("redis");
            command.args(["--save", "", "--port", &redis_port.to_string()]);
            command.args(["--dir".as_ref(), folder.as_os_str()]);
        });
        until("redis listens", || TcpStream::connect(("127.0.0.1", redis_port)).ok());
        let mut process = start(env!("CARGO_BIN_EXE_prometheus"), |command| {
            command.env("PORT", "0");
            command.env("REDIS_URL", format!("redis://127.0.0.1:{redis_port}/"));
        });
        let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        let port = line.trim_start_matches("http://127.0.0.1:").split('/').next().unwrap();
        let port = port.parse().unwrap();
        // Read to the end, so that the portal never waits for us.
        thread::spawn(move || lines.for_each(drop));
        Self { port, _process: process, redis: Some(redis) }
    }

    /// Asks for what is stored, for what is refused, for a part, and for what bypasses the cache.
    fn ask_for_everything(&self) {
        let token = "authorization: Bearer demo-A1\r\n";
        for (target, fields) in [
            ("/accounts/A1/cases", ""),
            ("/accounts/A1/cases", ""),
            ("/accounts/A1/cases/C1/messages", ""),
            ("/accounts/A1/cases/unknown/messages", ""),
            ("/accounts/A1/cases/unknown/messages", "range: bytes=0-1\r\n"),
            ("/accounts/A1/cases/C1/messages", "upgrade: websocket\r\nconnection: upgrade\r\n"),
        ] {
            get(self.port, target, &format!("{token}{fields}")).expect("the portal answers");
        }
    }

    fn metrics(&self) -> String {
        get(self.port, "/metrics/prometheus", "").expect("the portal answers")
    }
}

struct Prometheus {
    port: u16,
    _process: Process,
}

impl Prometheus {
    fn scraping(portal: &Portal) -> Self {
        let (port, folder) = (free_port(), folder("prometheus"));
        let config = folder.join("prometheus.yml");
        let rules = ops().join("prometheus/rules.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: ['{}']\n\
             scrape_configs:\n  - job_name: portal\n    metrics_path: /metrics/prometheus\n    \
             static_configs: [{{ targets: ['127.0.0.1:{}'] }}]\n",
            rules.display(),
            portal.port,
        );
        fs::write(&config, text).unwrap();
        let process = start("prometheus", |command| {
            command.arg(format!("--config.file={}", config.display()));
            command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
            command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        });
        Self { port, _process: process }
    }

    /// Returns the series that a query answers with. `None` while there is no server.
    fn query(&self, query: &str) -> Option<Vec<Value>> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let response = get(self.port, &format!("/api/v1/query?query={escaped}"), "")?;
        let body = body(&response);
        // A long answer comes in chunks.
        let json = &body[body.find('{')?..=body.rfind('}')?];
        let joined: String = json.split("\r\n").step_by(2).collect();
        let answer: Value =
            serde_json::from_str(&joined).or_else(|_| serde_json::from_str(json)).ok()?;
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().cloned()
    }
}

// ===== queries =====

/// Returns the queries of the dashboard, its variables filled in.
fn dashboard() -> Vec<String> {
    let text = fs::read_to_string(ops().join("grafana/tower-support-cache.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries = targets.map(|target| target["expr"].as_str().unwrap());
    queries
        .map(|query| {
            let query = query.replace("$__rate_interval", "1m");
            query.replace("$cache", ".*").replace("$bucket", ".*")
        })
        .collect()
}

/// Returns the lines of the rules that are queries.
fn rules() -> Vec<String> {
    let text = fs::read_to_string(ops().join("prometheus/rules.yml")).unwrap();
    let is_query = |line: &&str| !line.contains("summary:") && !line.trim().starts_with('#');
    text.lines().filter(is_query).map(str::to_owned).collect()
}

/// Names, labels and values of what is exported.
#[derive(Default)]
struct Exported(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Exported {
    fn of(text: &str) -> Self {
        let mut exported = Self::default();
        for line in body(text).lines().filter(|line| line.starts_with("support_cache_")) {
            let name = line.split(['{', ' ']).next().unwrap();
            let labels = exported.0.entry(name.to_owned()).or_default();
            for (label, value) in matchers(line) {
                labels.entry(label.to_owned()).or_default().insert(value.to_owned());
            }
        }
        exported
    }

    /// Asserts that a query names nothing that is not exported.
    fn has_all_of(&self, query: &str) {
        for (at, name) in names(query) {
            let Some(labels) = self.0.get(name) else { panic!("{name} is not exported: {query}") };
            let selector = query[at + name.len()..].strip_prefix('{').unwrap_or_default();
            for (label, wanted) in matchers(&format!("{{{selector}")) {
                let Some(values) = labels.get(label) else {
                    panic!("{name} has no label {label}: {query}")
                };
                for value in wanted.split('|').filter(|value| *value != ".*") {
                    assert!(values.contains(value), "{name}{{{label}}} is never {value}: {query}");
                }
            }
            let mut grouped = query
                .split("by (")
                .skip(1)
                .flat_map(|rest| rest[..rest.find(')').unwrap()].split(", ").collect::<Vec<_>>());
            let missing =
                grouped.find(|label| *label != "instance" && !labels.contains_key(*label));
            assert_eq!(missing, None, "{name} has no such label: {query}");
        }
    }
}

/// Returns the metrics that a query names, and their places. Recorded ones have a colon.
fn names(query: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |c: char| c.is_alphanumeric() || "_:".contains(c);
    query.match_indices("support_cache_").filter_map(move |(at, _)| {
        let end = query[at..].find(|c| !is_part(c)).map_or(query.len(), |length| at + length);
        let is_whole = !query[..at].ends_with(is_part) && !query[at..end].contains(':');
        is_whole.then_some((at, &query[at..end]))
    })
}

/// Returns the labels between the first braces, and their values.
fn matchers(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let inside = text.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let parts = inside.map_or("", |(inside, _)| inside).split("\",");
    parts.filter_map(|part| {
        let (label, value) = part.split_once('=')?;
        Some((label.trim_end_matches('!'), value.trim_matches(['~', '"'])))
    })
}

// ===== the tests =====

#[test]
fn a_prometheus_scrapes_the_portal_and_answers_every_query() {
    let mut portal = Portal::start();
    let prometheus = Prometheus::scraping(&portal);
    let is_linked = || portal.metrics().contains("support_cache_store_linked 1");
    until("the portal is linked", || is_linked().then_some(()));
    for query in dashboard() {
        // A rate needs two values, and what it shows happens again meanwhile.
        until(&format!("an answer to {query}"), || {
            portal.ask_for_everything();
            prometheus.query(&query).filter(|series| !series.is_empty())
        });
    }
    let exported = Exported::of(&portal.metrics());
    for query in dashboard().iter().chain(&rules()) {
        exported.has_all_of(query);
    }
    let ratio = until("a recorded ratio", || {
        let series =
            prometheus.query("bucket:support_cache_hit_ratio:rate10m{bucket=\"case_list\"}")?;
        series.first()?["value"][1].as_str()?.parse::<f64>().ok()
    });
    assert!(ratio > 0.5 && ratio <= 1.0, "{ratio}");
    // The store goes away, and the alert begins to wait for its minute.
    portal.redis = None;
    until("an alert", || {
        portal.ask_for_everything();
        let alerts = "ALERTS{alertname=\"SupportCacheStoreDown\",alertstate=\"pending\"}";
        prometheus.query(alerts).filter(|series| !series.is_empty())
    });
}

#[test]
fn each_rule_is_valid_and_each_alert_fires() {
    for arguments in [["check", "rules", "rules.yml"], ["test", "rules", "rules_test.yml"]] {
        let mut promtool = Command::new("promtool");
        promtool.args(arguments).current_dir(ops().join("prometheus"));
        let output = promtool.output().expect("`promtool` starts");
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
    let tested = fs::read_to_string(ops().join("prometheus/rules_test.yml")).unwrap();
    for line in rules() {
        if let Some((_, name)) = line.split_once("alert: ") {
            assert!(tested.contains(name), "{name} is not tested");
        }
    }
}
