//! Streams of requests: two public traces, and one by the law of Zipf. Fixed before anything was measured.

use std::{io, path::Path, process::Command};

use crate::objects::Random;

/// Requests of the Zipf stream, its objects, and its exponent.
const ZIPF: (usize, u32, f64) = (100_000, 20_000, 0.9);

/// First number of the objects of a second trace: none is of both.
const LATER: u32 = 1 << 30;

/// Shares of all objects' weight that a cache has room for.
pub const ROOMS: [f64; 5] = [0.01, 0.02, 0.05, 0.10, 0.25];

/// Stream of requests, each for the object of a number.
pub struct Workload {
    pub name: &'static str,
    pub requests: Vec<u32>,
    /// Numbers of all objects.
    pub objects: Vec<u32>,
}

/// Reads the traces in a folder, and makes the Zipf stream.
pub fn all(traces: &Path) -> io::Result<Vec<Workload>> {
    let mut all = Vec::new();
    for (name, file) in [("web07", "web07.trace.xz"), ("web12", "web12.trace.xz")] {
        all.push(Workload::new(name, read(&traces.join(file))?));
    }
    // Added later, as a check of what is popular no more: see docs/hit_ratio.md.
    let later = all[1].requests.iter().map(|number| number + LATER);
    let both = all[0].requests.iter().copied().chain(later).collect();
    all.push(Workload::new("Zipf", zipf()));
    all.push(Workload::new("web07, then web12", both));
    Ok(all)
}

impl Workload {
    fn new(name: &'static str, requests: Vec<u32>) -> Self {
        let mut objects = requests.clone();
        objects.sort_unstable();
        objects.dedup();
        Self { name, requests, objects }
    }
}

/// Reads a trace: big-endian numbers of 32 bits, compressed by xz.
fn read(path: &Path) -> io::Result<Vec<u32>> {
    let output = Command::new("xz").arg("-dc").arg(path).output()?;
    if !output.status.success() || output.stdout.is_empty() {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("xz -dc {}: {error}", path.display())));
    }
    Ok(output.stdout.as_chunks().0.iter().map(|bytes| u32::from_be_bytes(*bytes)).collect())
}

fn zipf() -> Vec<u32> {
    let (requests, objects, exponent) = ZIPF;
    let mut sums = Vec::with_capacity(objects as usize);
    let mut sum = 0.0;
    for rank in 1..=objects {
        sum += f64::from(rank).powf(-exponent);
        sums.push(sum);
    }
    let mut random = Random::new(7);
    let draw = |_| {
        let at = random.unit() * sum;
        sums.partition_point(|sum| *sum < at) as u32
    };
    (0..requests).map(draw).collect()
}
