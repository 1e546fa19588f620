//! The table.

use std::{fmt::Write as _, fs, io, path::Path, process::Command, thread, time::Duration};

use crate::{server::Kind, turn::Turn};

/// Returns the turns as a table in Markdown: a row for each attack and protocol.
pub fn table(turns: &[Turn]) -> String {
    let mut text = String::from(
        "| Attack | | p50 | p99 | failed | answered | origin calls | hits | calls a cold key | stored | memory, MiB |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for turn in turns {
        let name = match turn.kind {
            Kind::Cached => format!("{}, {}", turn.attack.name(), turn.protocol.name()),
            Kind::Bare => String::new(),
        };
        let _ = writeln!(text, "| {name} | {} |", cells(turn).join(" | "));
    }
    text
}

/// Returns where and of what a table was made, by a command.
pub fn provenance(command: &str) -> String {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let of = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.map_or_else(
            |_| "?".to_owned(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
    };
    let processors = file("/proc/cpuinfo");
    let model =
        processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let load = file("/proc/loadavg");
    let cores = thread::available_parallelism().map_or(0, usize::from);
    format!(
        "\n<sub>Measured {}, {cores} cores of {}, {}; {}; commit {}; load average {} at the end. By `{command}`.</sub>\n",
        of("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        model.trim_matches([' ', '\t', ':']),
        of("uname", &["-srm"]),
        of("rustc", &["--version"]),
        of("git", &["rev-parse", "--short", "HEAD"]),
        load.split(' ').next().unwrap_or_default(),
    )
}

fn cells(turn: &Turn) -> Vec<String> {
    let honest = &turn.honest;
    let milliseconds = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
    let mebibytes = |kibibytes: u64| kibibytes as f64 / 1024.0;
    let of_the_cache = |text: String| match turn.kind {
        Kind::Cached => text,
        Kind::Bare => "–".to_owned(),
    };
    let crowds = honest.crowds.max(1) as f64;
    vec![
        turn.kind.name().to_owned(),
        milliseconds(honest.percentile(50)),
        milliseconds(honest.percentile(99)),
        honest.failed.to_string(),
        honest.times.len().to_string(),
        turn.calls.to_string(),
        of_the_cache(format!("{:.1} %", honest.hit_ratio() * 100.0)),
        format!("{:.2}", honest.crowd_calls as f64 / crowds),
        of_the_cache(format!("{} of {}", honest.crowds_stored, honest.crowds)),
        format!("{:.0} → {:.0}", mebibytes(turn.memory_before), mebibytes(turn.memory_most)),
    ]
}

/// Puts a table in the place of an older one in a file, between comments that name it.
///
/// # Errors
///
/// The file cannot be read or written, or has no place for the table.
pub fn write(file: &Path, name: &str, table: &str) -> io::Result<()> {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let text = fs::read_to_string(file)?;
    let place = text.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some(format!("{before}{begin}{table}{end}{after}"))
    });
    let text = place.ok_or_else(|| io::Error::other("the file has no place for the table"))?;
    fs::write(file, text)
}
