//! What is measured, as it is written to the disk: the one source of the tables and the pictures.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde::{Deserialize, Serialize};

/// All rows, and what they were measured on.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub machine: String,
    pub rustc: String,
    pub valgrind: String,
    pub redis_server: String,
    /// Of the peers and of what they stand on, as `Cargo.lock` has them.
    pub versions: BTreeMap<String, String>,
    pub rows: BTreeMap<String, Row>,
}

/// What one row says of each column.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Row {
    pub date: String,
    pub commit: String,
    pub command: String,
    /// The machine's load average of a minute before the row began.
    pub load: String,
    pub cells: Vec<Cell>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    pub column: String,
    /// Where on a curve: requests in flight, keys, routes, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, f64>,
    /// What the column does not do, or does wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

impl Cell {
    pub fn new<const N: usize>(column: &str, values: [(&str, f64); N]) -> Self {
        let values = values.into_iter().map(|(name, value)| (name.to_owned(), round(value)));
        Self { column: column.to_owned(), at: None, values: values.collect(), fault: None }
    }

    pub fn fault(column: &str, fault: impl Into<String>) -> Self {
        Self { fault: Some(fault.into()), ..Self::new(column, []) }
    }

    pub fn at(self, at: usize) -> Self {
        Self { at: Some(at as u64), ..self }
    }
}

/// No measurement here has more than five digits to tell.
fn round(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = 4 - value.abs().log10().floor() as i32;
    if digits <= 0 {
        return value.round();
    }
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

impl Report {
    /// Reads what is there, or begins anew.
    pub fn read(path: &Path) -> Self {
        let Ok(text) = fs::read_to_string(path) else { return Self::default() };
        serde_json::from_str(&text).expect("the file is a report")
    }

    pub fn write(&self, path: &Path) {
        let text = serde_json::to_string_pretty(self).expect("a report is JSON");
        fs::write(path, text + "\n").expect("the report can be written");
    }

    /// Fills in what the rows are measured on.
    pub fn describe(&mut self) {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let model = model.map_or("unknown processor", |(_, model)| model.trim());
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        self.machine = format!("{cores} cores of {model}, {}", said("uname", &["-srm"]));
        self.rustc = said("rustc", &["--version"]);
        self.valgrind = said("valgrind", &["--version"]);
        let server = said("redis-server", &["--version"]);
        let version = server.split_whitespace().find_map(|word| word.strip_prefix("v="));
        self.redis_server = version.unwrap_or(&server).to_owned();
        self.versions = versions();
    }

    /// Returns a value of a cell that is on no curve.
    pub fn value(&self, row: &str, column: &str, name: &str) -> Option<f64> {
        let cells = &self.rows.get(row)?.cells;
        let cell = cells.iter().find(|cell| cell.column == column && cell.at.is_none())?;
        cell.values.get(name).copied()
    }
}

impl Row {
    pub fn now() -> Self {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        Self {
            date: said("date", &["-u", "+%F %H:%M"]),
            commit: commit(),
            command: format!("benches/peers/run.sh {}", arguments.join(" ")).trim().to_owned(),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
            cells: Vec::new(),
        }
    }
}

/// Returns what a program prints, without the line's end.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}

/// Returns the commit, and whether what is measured has been changed since.
fn commit() -> String {
    let commit = said("git", &["rev-parse", "--short", "HEAD"]);
    let changed = said("git", &["status", "--porcelain", "--", "src", "Cargo.toml"]);
    if changed.is_empty() { commit } else { commit + "-dirty" }
}

fn versions() -> BTreeMap<String, String> {
    const LOCK: &str = include_str!("../Cargo.lock");
    const TOLD: [&str; 18] = [
        "axum",
        "axum-response-cache",
        "bytes",
        "cached",
        "hitbox",
        "hitbox-http",
        "hitbox-moka",
        "hitbox-redis",
        "hitbox-tower",
        "http",
        "http-cache",
        "http-cache-tower",
        "moka",
        "quick_cache",
        "redis",
        "tokio",
        "tower",
        "tower-http-cache",
    ];
    let of = |block: &str, field: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(" = \""));
        line.map(|rest| rest.trim_end_matches('"').to_owned())
    };
    let packages = LOCK.split("[[package]]");
    let named = packages.filter_map(|block| Some((of(block, "name")?, of(block, "version")?)));
    named.filter(|(name, _)| TOLD.contains(&name.as_str())).collect()
}
