//! A receiver of OTLP is sent the cache's metrics: every kind of them, and no label that it should not have.

#![allow(clippy::disallowed_methods)] // Another program takes its time, which no test can pause.
#![allow(clippy::unwrap_used)] // Clippy sees no test in a function that tests share.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{KeyValue, any_value},
    metrics::v1::{Metric, metric::Data, number_data_point},
};
use prost::Message;

/// For what takes a moment on a machine that is not busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Labels that a series of the cache may have.
const LABELS: [&str; 7] = ["bucket", "cache", "kind", "operation", "outcome", "reason", "result"];

// ===== the receiver =====

/// Values of the series that were received last, by name and labels.
#[derive(Default)]
struct Series(BTreeMap<String, f64>);

impl Series {
    fn add(&mut self, metric: &Metric) {
        let mut add = |labels: &[KeyValue], value: f64| {
            let labels: BTreeSet<_> = labels.iter().map(label).collect();
            let labels: Vec<_> = labels.into_iter().collect();
            self.0.insert(format!("{}{{{}}}", metric.name, labels.join(",")), value);
        };
        let number = |value: &Option<number_data_point::Value>| match value {
            Some(number_data_point::Value::AsInt(value)) => *value as f64,
            Some(number_data_point::Value::AsDouble(value)) => *value,
            None => f64::NAN,
        };
        match metric.data.as_ref() {
            Some(Data::Sum(sum)) => {
                assert!(sum.is_monotonic, "{}", metric.name);
                let points = sum.data_points.iter();
                points.for_each(|point| add(&point.attributes, number(&point.value)));
            }
            Some(Data::Gauge(gauge)) => {
                let points = gauge.data_points.iter();
                points.for_each(|point| add(&point.attributes, number(&point.value)));
            }
            Some(Data::Histogram(histogram)) => {
                let points = histogram.data_points.iter();
                points.for_each(|point| add(&point.attributes, point.count as f64));
            }
            other => panic!("{}: {other:?}", metric.name),
        }
    }
}

fn label(label: &KeyValue) -> String {
    assert!(LABELS.contains(&&*label.key), "a label {}", label.key);
    match label.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => format!("{}={text}", label.key),
        other => panic!("{}: {other:?}", label.key),
    }
}

/// Starts a receiver. Returns its port, and each export that it is sent.
fn receiver() -> (u16, Receiver<ExportMetricsServiceRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, received) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            // One connection at a time: the exporter keeps it.
            while let Some(body) = read_export(&mut reader) {
                let request = ExportMetricsServiceRequest::decode(&*body).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                if sender.send(request).is_err() {
                    return;
                }
            }
        }
    });
    (port, received)
}

/// Reads a request to the path that OTLP has for metrics. `None` at the end of the connection.
fn read_export(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim() {
            "" => break,
            line => head.push(line.to_ascii_lowercase()),
        }
    }
    assert_eq!(head[0], "post /v1/metrics http/1.1");
    assert!(head.contains(&"content-type: application/x-protobuf".to_owned()), "{head:?}");
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    Some(body)
}

// ===== the program =====

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn get(port: u16, target: &str) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let head = format!("GET {target} HTTP/1.1\r\nhost: portal\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}

#[test]
fn a_receiver_is_sent_counters_gauges_and_times() {
    let (collector, received) = receiver();
    let mut command = Command::new(env!("CARGO_BIN_EXE_otlp"));
    command.env("PORT", "0").env("OTEL_METRIC_EXPORT_INTERVAL", "100");
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{collector}"));
    let mut process = Process(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.trim().rsplit(':').next().unwrap().parse().unwrap();
    for case in ["1", "1", "1", "2"] {
        get(port, &format!("/cases/{case}"));
    }
    let expected = [
        ("support_cache_requests_total{bucket=cases,cache=support-cache,outcome=hit}", 2.0),
        ("support_cache_requests_total{bucket=cases,cache=support-cache,outcome=miss}", 2.0),
        ("support_cache_fills_total{bucket=cases,cache=support-cache,result=stored}", 2.0),
        ("support_cache_entries{bucket=cases,cache=support-cache}", 2.0),
        ("support_cache_origin_seconds{bucket=cases,cache=support-cache}", 2.0),
    ];
    let (mut series, deadline) = (Series::default(), Instant::now() + PATIENCE);
    while expected.iter().any(|(name, value)| series.0.get(*name) != Some(value)) {
        let left = deadline.saturating_duration_since(Instant::now());
        let export = received.recv_timeout(left);
        let export = export.unwrap_or_else(|error| panic!("{error}: {:#?}", series.0));
        for resource in export.resource_metrics {
            let names = resource.resource.unwrap().attributes;
            assert!(names.iter().any(|name| name.key == "service.name"), "{names:?}");
            let metrics = resource.scope_metrics.iter().flat_map(|scope| &scope.metrics);
            metrics.for_each(|metric| series.add(metric));
        }
    }
    assert!(series.0.keys().all(|name| name.starts_with("support_cache_")), "{:?}", series.0);
    let interrupted = Command::new("kill").args(["-INT", &process.0.id().to_string()]).status();
    assert!(interrupted.unwrap().success());
    assert!(process.0.wait().unwrap().success(), "it ends by itself, and sends the rest");
}
