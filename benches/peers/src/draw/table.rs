//! The tables, and who is ahead of us in which row.

use std::fmt::Write;

use super::{MEMORY, Name, REDIS, factor, grouped};
use crate::{
    columns::Keeps,
    report::{Cell, Report},
};

/// One line of a table.
struct Line {
    title: &'static str,
    tell: fn(&Report, &str) -> Told,
    /// Whether a peer can be ahead: there is a number, and it is a cost or a rate.
    better: Better,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Better {
    Less,
    More,
}

/// What a cell says, and the number that it is compared by: none where the column fails the row.
struct Told {
    text: String,
    rank: Option<f64>,
}

impl Told {
    fn good(text: impl Into<String>, rank: f64) -> Self {
        Self { text: text.into(), rank: Some(rank) }
    }

    fn bad(text: impl Into<String>) -> Self {
        Self { text: text.into(), rank: None }
    }

    fn nothing() -> Self {
        Self::bad("–")
    }
}

/// What is within a few hundredths is not ahead: medians of a shared machine tell no finer.
const NOISE: f64 = 0.05;

const IN_MEMORY: &[Line] = &[
    Line {
        title: "hit: instructions¹ (× the minimum)",
        tell: |r, c| cost(r, "hit", c),
        better: Better::Less,
    },
    Line {
        title: "hit: allocations¹",
        tell: |r, c| pieces(r, "hit", c, "harness"),
        better: Better::Less,
    },
    Line {
        title: "hits of 2 threads, 100k keys, Zipf 0.99: a second (× the minimum)",
        tell: throughput,
        better: Better::More,
    },
    Line {
        title: "miss: instructions¹ (× the minimum)",
        tell: |r, c| cost(r, "miss", c),
        better: Better::Less,
    },
    Line {
        title: "miss: allocations above the bare service",
        tell: |r, c| pieces(r, "miss", c, "bare"),
        better: Better::Less,
    },
    Line {
        title: "POST that no rule is for: instructions above the bare service, allocations",
        tell: |r, c| pass(r, "post", c),
        better: Better::Less,
    },
    Line {
        title: "GET that no route is for: instructions above the bare service, allocations",
        tell: |r, c| pass(r, "unmatched", c),
        better: Better::Less,
    },
    Line {
        title: "1,000 requests, one cold key, handler 50 ms: calls, p99",
        tell: |r, c| crowd(r, "cold-key", c),
        better: Better::Less,
    },
    Line {
        title: "1,000 requests, one cold key, the first one dropped: calls, p99",
        tell: |r, c| crowd(r, "cold-cancelled", c),
        better: Better::Less,
    },
    Line {
        title: "200 requests, `no-store`, handler 20 ms: first burst, second",
        tell: no_store,
        better: Better::Less,
    },
    Line {
        title: "storable body of 10 MiB in chunks: first byte (× bare)",
        tell: |r, c| first_byte(r, "body-storable", c),
        better: Better::Less,
    },
    Line {
        title: "storable body of 10 MiB in chunks: most bytes alive",
        tell: |r, c| peak(r, "body-storable", c),
        better: Better::Less,
    },
    Line {
        title: "`no-store` body of 10 MiB in chunks: first byte (× bare)",
        tell: |r, c| first_byte(r, "body-no-store", c),
        better: Better::Less,
    },
    Line {
        title: "`no-store` body of 10 MiB in chunks: most bytes alive",
        tell: |r, c| peak(r, "body-no-store", c),
        better: Better::Less,
    },
    Line {
        title: "invalidated during a fill: the next GET sees",
        tell: invalidation,
        better: Better::Less,
    },
    Line { title: "bytes of an entry of 1 KiB, at 100k", tell: entry, better: Better::Less },
];

const OVER_REDIS: &[Line] = &[
    Line { title: "commands of a hit", tell: commands, better: Better::Less },
    Line { title: "client's instructions of a hit (× GET)", tell: client, better: Better::Less },
    Line { title: "client's allocations of a hit", tell: client_pieces, better: Better::Less },
    Line {
        title: "hits a second, 1 in flight (× GET)",
        tell: |r, c| rate(r, c, 1),
        better: Better::More,
    },
    Line {
        title: "hits a second, 64 in flight (× GET)",
        tell: |r, c| rate(r, c, 64),
        better: Better::More,
    },
    Line {
        title: "hits a second, 256 in flight (× GET)",
        tell: |r, c| rate(r, c, 256),
        better: Better::More,
    },
    Line {
        title: "1,000 requests, one cold key, 2 services on one Redis: calls, p99",
        tell: |r, c| crowd_at(r, "cold-shared", c, Some(2)),
        better: Better::Less,
    },
    Line {
        title: "1,000 requests, one cold key, 8 services on one Redis: calls, p99",
        tell: |r, c| crowd_at(r, "cold-shared", c, Some(8)),
        better: Better::Less,
    },
    Line {
        title: "invalidated during a fill: the next GET sees",
        tell: invalidation,
        better: Better::Less,
    },
    Line { title: "bytes of an entry of 1 KiB at the server", tell: entry, better: Better::Less },
];

/// What can stand between markers in a document.
pub const SECTIONS: [&str; 4] = ["tables", "growth", "columns", "profile"];

/// Returns a section, for a document from which the pictures are at `plots`.
pub fn section(name: &str, report: &Report, plots: &str) -> String {
    let mut out = String::new();
    match name {
        "tables" => {
            picture(
                &mut out,
                plots,
                "memory",
                "What a hit, a miss and a long body cost beside the peers",
            );
            table(&mut out, report, &MEMORY, IN_MEMORY);
            out.push_str(
                "¹ Above the harness, which every column pays: making the request, reading the body. In a row \
                 of two figures the first is compared.\n\n",
            );
            picture(
                &mut out,
                plots,
                "redis",
                "Hits over Redis beside the peers and the client's bare commands",
            );
            table(&mut out, report, &REDIS, OVER_REDIS);
            ahead(&mut out, report);
            measured(&mut out, report);
        }
        "growth" => {
            picture(
                &mut out,
                plots,
                "growth",
                "How costs grow with keys, with misses at once, with the body",
            );
            grows(&mut out, report);
        }
        "columns" => columns(&mut out, report),
        _ => profile(&mut out, report),
    }
    out
}

/// What each column leaves out.
fn columns(out: &mut String, report: &Report) {
    out.push_str(
        "| | Version | What its key and policy know, and what they do not |\n|---|---|---|\n",
    );
    for name in MEMORY.iter().chain(&REDIS) {
        let Some(column) = crate::columns::named(name.column) else { continue };
        if column.safety.is_empty() || column.keeps == Keeps::Redis {
            continue;
        }
        let package = match name.column {
            "minimum-quick_cache" => "quick_cache",
            "minimum-moka" => "moka",
            "hitbox-moka" => "hitbox-tower",
            package => package,
        };
        let version = report.versions.get(package).map_or("this one", String::as_str);
        let _ = writeln!(out, "| {} | {version} | {} |", name.title, column.safety);
    }
    out.push('\n');
}

fn picture(out: &mut String, plots: &str, name: &str, alternative: &str) {
    let _ = writeln!(
        out,
        "<picture>\n  <source media=\"(prefers-color-scheme: dark)\" srcset=\"{plots}/{name}-dark.svg\">\n  \
         <img alt=\"{alternative}\" src=\"{plots}/{name}-light.svg\">\n</picture>\n"
    );
}

fn table(out: &mut String, report: &Report, names: &[Name], lines: &[Line]) {
    let title = |name: &Name| {
        let is_ours = name.column.starts_with("ours");
        if is_ours { format!("**{}**", name.title) } else { name.title.to_owned() }
    };
    let titles: Vec<_> = names.iter().map(title).collect();
    let _ = writeln!(out, "| | {} |", titles.join(" | "));
    let _ = writeln!(out, "|---{}|", "|---".repeat(names.len()));
    for line in lines {
        let cell = |name: &Name| {
            let text = (line.tell)(report, name.column).text;
            if name.column.starts_with("ours") { format!("**{text}**") } else { text }
        };
        let cells: Vec<_> = names.iter().map(cell).collect();
        let _ = writeln!(out, "| {} | {} |", line.title, cells.join(" | "));
    }
    out.push('\n');
}

/// What the processor's first caches miss, and what a hit over Redis takes here and at the server.
fn profile(out: &mut String, report: &Report) {
    out.push_str(
        "| A hit | Instructions | First-level misses, data | First-level misses, code |\n|---|---|---|---|\n",
    );
    for (names, title) in [(&MEMORY[..], ""), (&REDIS[..], " (Redis, 64 in flight)")] {
        for name in names {
            let value =
                |of| report.value("cache-misses", name.column, of).map_or("–".into(), grouped);
            let (instructions, data, code) = (value("instructions"), value("data"), value("code"));
            let _ = writeln!(out, "| {}{title} | {instructions} | {data} | {code} |", name.title);
        }
    }
    out.push_str("\n| Redis, µs of work a hit: here, at the server | 1 in flight | 64 | 256 |\n|---|---|---|---|\n");
    for name in &REDIS {
        let at = |in_flight| match cell_at(report, "redis-rate", name.column, Some(in_flight)) {
            Ok(cell) => {
                let value = |of: &str| cell.values.get(of).copied().unwrap_or(f64::NAN);
                format!("{:.1}, {:.1}", value("client_us"), value("server_us"))
            }
            Err(told) => told.text,
        };
        let _ = writeln!(out, "| {} | {} | {} | {} |", name.title, at(1), at(64), at(256));
    }
    out.push('\n');
}

/// Ours alone has routes and variants.
fn grows(out: &mut String, report: &Report) {
    let told = |row: &str, work: &str| {
        let cells = report.rows.get(row).map_or(&[][..], |row| &row.cells);
        let of: Vec<_> = cells
            .iter()
            .filter(|cell| cell.column == format!("ours {work}"))
            .filter_map(|cell| {
                let at = cell.at? as f64;
                Some(format!("{} at {}", grouped(*cell.values.get("instructions")?), grouped(at)))
            })
            .collect();
        of.join(", ")
    };
    let _ = writeln!(
        out,
        "With more routes, which the peers do not have, instructions with the harness: a hit {}; a miss {}; \
         an unmatched GET whose path begins as a route does {}. With more variants of one key: a hit {}.\n",
        told("growth-routes", "hit"),
        told("growth-routes", "miss"),
        told("growth-routes", "unmatched"),
        told("growth-variants", "hit"),
    );
}

/// Names every row where a peer that does the same is ahead of us.
fn ahead(out: &mut String, report: &Report) {
    let mut found = Vec::new();
    for (names, lines, ours, where_) in [
        (&MEMORY[..], IN_MEMORY, "ours", ""),
        (&REDIS[..], OVER_REDIS, "ours-redis", "over Redis, "),
    ] {
        for line in lines {
            let Some(own) = (line.tell)(report, ours).rank else { continue };
            let is_peer = |name: &&Name| {
                !name.column.starts_with("ours")
                    && !name.column.starts_with("minimum")
                    && !name.column.starts_with("raw")
            };
            let is_ahead = |name: &&Name| {
                let theirs = (line.tell)(report, name.column).rank;
                theirs.is_some_and(|theirs| match line.better {
                    Better::Less => theirs < own * (1.0 - NOISE),
                    Better::More => theirs > own * (1.0 + NOISE),
                })
            };
            let who: Vec<_> =
                names.iter().filter(is_peer).filter(is_ahead).map(|name| name.title).collect();
            if !who.is_empty() {
                let title = line.title.replace('¹', "");
                found.push(format!("* {where_}{title}: {}", who.join(", ")));
            }
        }
    }
    if found.is_empty() {
        out.push_str("No peer is ahead in any row.\n\n");
    } else {
        let _ = writeln!(
            out,
            "A peer that does the row is ahead by over {:.0} % here (`docs/peers.md` says why):\n\n{}\n",
            NOISE * 100.0,
            found.join("\n")
        );
    }
}

fn measured(out: &mut String, report: &Report) {
    let mut dates: Vec<_> = report.rows.values().map(|row| row.date.as_str()).collect();
    dates.sort_unstable();
    let mut commits: Vec<_> = report.rows.values().map(|row| row.commit.as_str()).collect();
    commits.sort_unstable();
    commits.dedup();
    let loads: Vec<f64> = report.rows.values().filter_map(|row| row.load.parse().ok()).collect();
    let (idle, busy) = loads
        .iter()
        .fold((f64::INFINITY, 0.0_f64), |(least, most), load| (least.min(*load), most.max(*load)));
    let versions: Vec<_> =
        report.versions.iter().map(|(name, version)| format!("`{name}` {version}")).collect();
    let _ = writeln!(
        out,
        "<sub>Measured {} to {} UTC, {}; {}, {}, Redis {}; commit {}; load average {idle:.1} to {busy:.1} when a \
         row began. By `bash benches/peers/run.sh`. {}.</sub>",
        dates.first().unwrap_or(&"never"),
        dates.last().unwrap_or(&"never"),
        report.machine,
        report.rustc,
        report.valgrind,
        report.redis_server,
        commits.join(", "),
        versions.join(", "),
    );
}

// ===== cells =====

/// Returns a cell, or what to write in its place.
fn cell<'a>(report: &'a Report, row: &str, column: &str) -> Result<&'a Cell, Told> {
    cell_at(report, row, column, None)
}

fn cell_at<'a>(
    report: &'a Report,
    row: &str,
    column: &str,
    at: Option<u64>,
) -> Result<&'a Cell, Told> {
    let cells = &report.rows.get(row).ok_or_else(Told::nothing)?.cells;
    let cell = cells.iter().find(|cell| cell.column == column && cell.at == at);
    let cell = cell.ok_or_else(Told::nothing)?;
    match &cell.fault {
        Some(fault) => Err(Told::bad(fault.clone())),
        None => Ok(cell),
    }
}

fn or(told: Result<Told, Told>) -> Told {
    told.unwrap_or_else(|told| told)
}

fn cost(report: &Report, row: &str, column: &str) -> Told {
    or(cell(report, row, column).map(|cell| {
        let value = |column| report.value(row, column, "instructions").unwrap_or(f64::NAN);
        let floor = value("harness");
        let own = cell.values["instructions"] - floor;
        let ratio = own / (value("minimum-quick_cache") - floor);
        Told::good(format!("{} ({})", grouped(own), factor(ratio)), own)
    }))
}

fn pieces(report: &Report, row: &str, column: &str, floor: &str) -> Told {
    or(cell(report, row, column).map(|cell| {
        let floor = report.value(row, floor, "allocations").unwrap_or(f64::NAN);
        let own = cell.values["allocations"] - floor;
        Told::good(format!("{:.0}", own.abs()), own.round())
    }))
}

fn pass(report: &Report, row: &str, column: &str) -> Told {
    or(cell(report, row, column).map(|cell| {
        let bare = |name| report.value(row, "bare", name).unwrap_or(f64::NAN);
        let instructions = cell.values["instructions"] - bare("instructions");
        let pieces = (cell.values["allocations"] - bare("allocations")).round();
        Told::good(format!("{}, {:.0}", grouped(instructions), pieces.abs()), instructions)
    }))
}

fn throughput(report: &Report, column: &str) -> Told {
    or(cell(report, "throughput", column).map(|cell| {
        let (rate, of) = (cell.values["rate"], cell.values["of_minimum"]);
        Told::good(format!("{} k ({})", grouped(rate / 1000.0), factor(of)), rate)
    }))
}

fn crowd(report: &Report, row: &str, column: &str) -> Told {
    crowd_at(report, row, column, None)
}

fn crowd_at(report: &Report, row: &str, column: &str, at: Option<u64>) -> Told {
    or(cell_at(report, row, column, at).map(|cell| {
        let value = |name: &str| cell.values.get(name).copied().unwrap_or(0.0);
        let calls = value("calls");
        let mut text = match cell.values.get("p99_ms") {
            Some(p99) => format!("{}, {p99:.0} ms", grouped(calls)),
            None => grouped(calls),
        };
        for (name, number) in [("failed", value("failed")), ("hung", value("hung"))] {
            if number > 0.0 {
                let _ = write!(text, ", **{} {name}**", grouped(number));
            }
        }
        let is_done = calls <= 1.0 && value("failed") + value("hung") == 0.0;
        Told { text, rank: is_done.then(|| value("p99_ms")) }
    }))
}

fn no_store(report: &Report, column: &str) -> Told {
    or(cell(report, "no-store", column).map(|cell| {
        let value = |name: &str| cell.values[name];
        if value("shared") > 0.0 {
            return Told::bad("stores and shares it");
        }
        let (first, second) = (value("first_ms"), value("second_ms"));
        let text = format!("{first:.0} ms, {second:.0} ms");
        if value("hung") > 0.0 {
            Told::bad(text + ", hangs")
        } else {
            Told::good(text, first + second)
        }
    }))
}

fn first_byte(report: &Report, row: &str, column: &str) -> Told {
    or(cell(report, row, column).map(|cell| {
        let (first, of) = (cell.values["first_ms"], cell.values["of_bare"]);
        let digits = if first < 10.0 { 1 } else { 0 };
        // The origin's own pace is in milliseconds: what is below twice of it is no difference.
        Told::good(format!("{first:.digits$} ms ({})", factor(of)), of.max(2.0))
    }))
}

fn peak(report: &Report, row: &str, column: &str) -> Told {
    or(cell(report, row, column).map(|cell| {
        let bytes = cell.values["peak_bytes"];
        Told::good(size(bytes), bytes)
    }))
}

fn size(bytes: f64) -> String {
    match bytes {
        bytes if bytes >= 1048576.0 => format!("{:.1} MiB", bytes / 1048576.0),
        bytes => format!("{:.0} KiB", bytes / 1024.0),
    }
}

fn invalidation(report: &Report, column: &str) -> Told {
    or(cell(report, "invalidation", column).map(|cell| match cell.values["sees_new"] {
        is_new if is_new > 0.0 => Told::good("the new value", 1.0),
        _ => Told::bad("the **old** value"),
    }))
}

fn entry(report: &Report, column: &str) -> Told {
    or(cell(report, "entry", column).map(|cell| {
        let bytes = cell.values["bytes"];
        Told::good(grouped(bytes), bytes)
    }))
}

fn commands(report: &Report, column: &str) -> Told {
    or(cell(report, "redis-commands", column).map(|cell| {
        let commands = cell.values["commands"];
        Told::good(format!("{commands:.0}"), commands.round())
    }))
}

fn client(report: &Report, column: &str) -> Told {
    or(cell(report, "redis-hit", column).map(|cell| {
        let own = cell.values["instructions"];
        let get = report.value("redis-hit", "raw-GET", "instructions").unwrap_or(f64::NAN);
        Told::good(format!("{} ({})", grouped(own), factor(own / get)), own)
    }))
}

fn client_pieces(report: &Report, column: &str) -> Told {
    or(cell(report, "redis-hit", column).map(|cell| {
        let own = cell.values["allocations"];
        Told::good(format!("{own:.0}"), own)
    }))
}

fn rate(report: &Report, column: &str, in_flight: u64) -> Told {
    let cells = report.rows.get("redis-rate").map_or(&[][..], |row| &row.cells);
    let is_it = |cell: &&Cell| cell.column == column && cell.at == Some(in_flight);
    match cells.iter().find(is_it) {
        Some(cell) => {
            let (rate, of) = (cell.values["rate"], cell.values["of_get"]);
            Told::good(format!("{} k ({})", grouped(rate / 1000.0), factor(of)), rate)
        }
        None => Told::nothing(),
    }
}
