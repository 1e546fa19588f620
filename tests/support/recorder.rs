//! A recorder of the `metrics` facade that keeps what it is given.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

/// A metric as text, such as `name{a="b",c="d"}`, its labels sorted.
pub(crate) type Series = String;

#[derive(Default)]
pub(crate) struct Kept {
    values: Arc<Mutex<BTreeMap<Series, Value>>>,
    described: Mutex<BTreeSet<String>>,
}

type Value = Arc<Mutex<Vec<f64>>>;

impl Kept {
    /// Returns the value of a counter or gauge, or the sum of a histogram. 0 if there is none.
    pub(crate) fn value(&self, series: &str) -> f64 {
        self.recorded(series).iter().sum()
    }

    /// Returns what was recorded in a histogram.
    pub(crate) fn recorded(&self, series: &str) -> Vec<f64> {
        let values = self.values.lock().unwrap();
        values.get(series).map(|value| value.lock().unwrap().clone()).unwrap_or_default()
    }

    pub(crate) fn series(&self) -> Vec<Series> {
        self.values.lock().unwrap().keys().cloned().collect()
    }

    pub(crate) fn described(&self) -> BTreeSet<String> {
        self.described.lock().unwrap().clone()
    }

    fn register(&self, key: &Key) -> Arc<Cell> {
        let mut labels: Vec<_> =
            key.labels().map(|label| format!("{}=\"{}\"", label.key(), label.value())).collect();
        labels.sort();
        let series = format!("{}{{{}}}", key.name(), labels.join(","));
        Arc::new(Cell(Arc::clone(self.values.lock().unwrap().entry(series).or_default())))
    }

    fn describe(&self, name: &KeyName, text: &str) {
        assert!(text.ends_with('.'), "{text}");
        self.described.lock().unwrap().insert(name.as_str().to_owned());
    }
}

struct Cell(Value);

impl Cell {
    fn put(&self, value: f64) {
        *self.0.lock().unwrap() = vec![value];
    }
}

impl CounterFn for Cell {
    fn increment(&self, _: u64) {
        unreachable!("counts are copied out as they are")
    }

    fn absolute(&self, value: u64) {
        self.put(value as f64);
    }
}

impl GaugeFn for Cell {
    fn increment(&self, _: f64) {
        unreachable!("gauges are set")
    }

    fn decrement(&self, _: f64) {
        unreachable!("gauges are set")
    }

    fn set(&self, value: f64) {
        self.put(value);
    }
}

impl HistogramFn for Cell {
    fn record(&self, value: f64) {
        self.0.lock().unwrap().push(value);
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, text: SharedString) {
        assert!(name.as_str().ends_with("_total"), "{}", name.as_str());
        self.describe(&name, &text);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, text: SharedString) {
        self.describe(&name, &text);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, text: SharedString) {
        assert!(name.as_str().ends_with("_seconds"), "{}", name.as_str());
        self.describe(&name, &text);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.register(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.register(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.register(key))
    }
}
