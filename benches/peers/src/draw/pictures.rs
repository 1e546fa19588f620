//! The pictures.

use super::{
    MEMORY, Name, REDIS, factor, grouped,
    svg::{Axis, Bar, Content, Curve, Panel, plain},
};
use crate::report::Report;

pub struct Picture {
    pub name: &'static str,
    /// What it shows, for who does not see it.
    pub alternative: &'static str,
    pub panels: Vec<Panel>,
}

pub fn all(report: &Report) -> Vec<Picture> {
    vec![
        Picture {
            name: "memory",
            alternative: "Bars for each cache in memory: what a hit costs, what a miss costs, hits of two \
                          threads in a second, and the first byte of a long body",
            panels: memory(report),
        },
        Picture {
            name: "redis",
            alternative: "Bars for each cache over Redis beside the client's bare commands: hits in a second \
                          with 1, 64 and 256 on their way, and the client's instructions of one",
            panels: redis(report),
        },
        Picture {
            name: "growth",
            alternative: "Curves for each cache: a hit with more keys, a miss with more misses under way, a \
                          hit and a miss with a longer body",
            panels: growth(report),
        },
    ]
}

/// Bars of a number made from a column's name, where there is one.
fn bars(
    names: &[Name],
    number: impl Fn(&str) -> Option<f64>,
    told: impl Fn(f64) -> String,
    axis: Axis,
) -> Content {
    let bar = |name: &Name| {
        let value = number(name.column)?;
        Some(Bar { label: name.title.to_owned(), value, told: told(value), hue: name.hue })
    };
    Content::Bars(names.iter().filter_map(bar).collect(), axis)
}

fn memory(report: &Report) -> Vec<Panel> {
    let of_minimum = |row: &'static str| {
        move |column: &str| {
            let value = |column| report.value(row, column, "instructions");
            let floor = value("harness")?;
            Some((value(column)? - floor) / (value("minimum-quick_cache")? - floor))
        }
    };
    let first_byte = |column: &str| report.value("body-storable", column, "first_ms");
    let throughput = |column: &str| report.value("throughput", column, "rate");
    vec![
        Panel {
            title: "Hit",
            unit: "instructions, × the minimum's (log scale; shorter is better)",
            content: bars(&MEMORY, of_minimum("hit"), factor, Axis::Log),
        },
        Panel {
            title: "Miss",
            unit: "instructions, × the minimum's (log scale; shorter is better)",
            content: bars(&MEMORY, of_minimum("miss"), factor, Axis::Log),
        },
        Panel {
            title: "Hits of two threads, 100,000 keys",
            unit: "requests in a second (longer is better)",
            content: bars(
                &MEMORY,
                throughput,
                |rate| format!("{} k", grouped(rate / 1000.0)),
                Axis::FromZero,
            ),
        },
        Panel {
            title: "First byte of a storable body of 10 MiB",
            unit: "in 160 chunks, 2 ms apart (shorter is better)",
            content: bars(&MEMORY, first_byte, |time| format!("{time:.0} ms"), Axis::FromZero),
        },
    ]
}

fn redis(report: &Report) -> Vec<Panel> {
    let rate = |in_flight: u64| {
        move |column: &str| {
            let cells = &report.rows.get("redis-rate")?.cells;
            let is_it = |at: Option<u64>| at == Some(in_flight);
            let cell = cells.iter().find(|cell| cell.column == column && is_it(cell.at))?;
            cell.values.get("rate").copied()
        }
    };
    let without_near: Vec<_> =
        REDIS.iter().filter(|name| name.column != "ours-redis-near").collect();
    let without_near: Vec<Name> = without_near.iter().map(|name| Name { ..**name }).collect();
    let told = |rate: f64| format!("{} k/s", grouped(rate / 1000.0));
    let instructions = |column: &str| report.value("redis-hit", column, "instructions");
    let panel = |title, in_flight| Panel {
        title,
        unit: "hits in a second, without a near cache (longer is better)",
        content: bars(&without_near, rate(in_flight), told, Axis::FromZero),
    };
    vec![
        panel("One request at a time", 1),
        panel("64 requests in flight", 64),
        panel("256 requests in flight", 256),
        Panel {
            title: "The client's instructions of a hit",
            unit: "64 in flight (shorter is better)",
            content: bars(&REDIS, instructions, grouped, Axis::FromZero),
        },
    ]
}

fn growth(report: &Report) -> Vec<Panel> {
    let panel = |title, unit, (row, value), x| Panel {
        title,
        unit,
        content: Content::Curves { curves: curves(report, row, value), x, y: time },
    };
    vec![
        panel(
            "Hit, with more keys stored",
            "time of a hit, one thread, all keys alike; by keys",
            ("growth-keys", "hit_ns"),
            plain,
        ),
        panel(
            "Miss, with more of them at once",
            "time of a miss, one thread, each of another key; by misses",
            ("growth-flights", "miss_ns"),
            plain,
        ),
        panel(
            "Hit, with a longer body",
            "time of a hit; by bytes of the body",
            ("growth-body", "hit_ns"),
            bytes,
        ),
        panel(
            "Miss, with a longer body",
            "time of a miss; by bytes of the body",
            ("growth-body", "miss_ns"),
            bytes,
        ),
    ]
}

fn curves(report: &Report, row: &str, value: &str) -> Vec<Curve> {
    let cells = report.rows.get(row).map_or(&[][..], |row| &row.cells);
    let curve = |name: &Name| {
        let mine = cells.iter().filter(|cell| cell.column == name.column);
        let points: Vec<_> =
            mine.filter_map(|cell| Some((cell.at? as f64, *cell.values.get(value)?))).collect();
        Curve { label: name.title.to_owned(), points, hue: name.hue }
    };
    MEMORY.iter().map(curve).filter(|curve| !curve.points.is_empty()).collect()
}

fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        time if time >= 1e6 => format!("{} ms", time / 1e6),
        time if time >= 1e3 => format!("{} µs", time / 1e3),
        time => format!("{time} ns"),
    }
}

fn bytes(bytes: f64) -> String {
    match bytes {
        bytes if bytes >= 1048576.0 => format!("{:.0} MiB", bytes / 1048576.0),
        bytes => format!("{:.0} KiB", bytes / 1024.0),
    }
}
