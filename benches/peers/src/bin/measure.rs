//! Measures the rows, all or those that are named, and writes them into the report.

use std::{env, path::PathBuf, process::ExitCode};

use tower_support_cache_peers::{
    columns,
    course::{Size, Work},
    report::{self, Report},
    rows::{Bench, ROWS, child},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [word, work, column, routes, variants] = arguments.as_slice()
        && word == "child"
    {
        let (Some(work), Some(column)) = (Work::named(work), columns::named(column)) else {
            return refuse("no such work or column");
        };
        let (Ok(routes), Ok(variants)) = (routes.parse(), variants.parse()) else {
            return refuse("sizes are numbers");
        };
        return match child(column, work, Size { routes, variants }) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => refuse(&why),
        };
    }
    if arguments == ["--list"] {
        ROWS.iter().for_each(|row| println!("{}", row.name));
        return ExitCode::SUCCESS;
    }
    let is_named = |name: &str| arguments.iter().any(|argument| argument == name);
    let unknown = arguments.iter().find(|name| !ROWS.iter().any(|row| row.name == **name));
    if let Some(unknown) = unknown {
        let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        return refuse(&format!("unknown row {unknown}; rows: {}", names.join(" ")));
    }
    let chosen: Vec<_> =
        ROWS.iter().filter(|row| arguments.is_empty() || is_named(row.name)).collect();
    let path = PathBuf::from(env::var_os("PEERS_REPORT").unwrap_or_else(|| "results.json".into()));
    let mut report = Report::read(&path);
    report.describe();
    let mut bench = Bench::start(chosen.len());
    for row in chosen {
        bench.progress.row(row.name);
        let mut told = report::Row::now();
        told.cells = (row.measure)(&mut bench);
        report.rows.insert(row.name.to_owned(), told);
        report.write(&path);
    }
    bench.progress.end();
    ExitCode::SUCCESS
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::FAILURE
}
