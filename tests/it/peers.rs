//! The tables and pictures of `benches/peers` are of the report that lies beside them, and no hand has
//! changed them since. `benches/peers/run.sh --draw` makes them anew.

use std::{fs, path::PathBuf};

use crate::documents::{read, root};

const AGAIN: &str = "`benches/peers/run.sh --draw` makes it anew";

/// FNV-1a, as `draw` has it.
fn digest(bytes: &[u8]) -> String {
    let fold =
        |digest: u64, byte: &u8| (digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// Fails unless `made` carries the digest of the report and its own.
#[track_caller]
fn check(path: &str, stamp: &str, made: &str) {
    let report = digest(read("benches/peers/results.json").as_bytes());
    let expected = format!("of {report} made {}", digest(made.as_bytes()));
    assert_eq!(stamp, expected, "{path} is out of step with the report: {AGAIN}");
}

/// Returns how many sections there are.
fn check_sections(path: &str) -> usize {
    let text = read(path);
    let marked = text.split("<!-- peers:").skip(1);
    let sections: Vec<_> = marked.filter(|part| !part.starts_with("end -->")).collect();
    for section in &sections {
        let (head, made) = section.split_once(" -->").unwrap();
        let (_name, stamp) = head.split_once(' ').unwrap();
        check(path, stamp, made);
    }
    sections.len()
}

#[test]
fn the_tables_are_of_the_report() {
    assert_eq!(check_sections("docs/peers.md"), 4);
}

#[test]
fn the_pictures_are_of_the_report_and_are_shown() {
    let folder = root().join("benches/peers/plots");
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 6, "three pictures, each in light and dark: {files:?}");
    let document = read("docs/peers.md");
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let (made, rest) = text.rsplit_once("<!-- ").unwrap();
        check(name, rest.trim_end().trim_end_matches(" -->"), made);
        assert!(document.contains(&format!("benches/peers/plots/{name}")), "{name} is shown");
    }
}

/// Returns what stands in bold in a row of the tables: our own figure, or both of them.
fn ours(row: &str) -> String {
    let page = read("docs/peers.md");
    let line = page.lines().find(|line| line.starts_with(&format!("| {row}"))).unwrap();
    line.split("**").skip(1).step_by(2).last().unwrap().to_owned()
}

#[test]
fn the_readme_states_what_the_report_says() {
    let readme = read("README.md");
    let calls = ours("1,000 requests, one cold key, 8 services on one Redis");
    let calls = calls.split(',').next().unwrap().to_owned();
    let allocations = ours("hit: allocations");
    for figure in [
        format!("8 services on one Redis: {calls} origin call"),
        format!("a hit in memory: {allocations} allocations"),
    ] {
        assert!(readme.contains(&figure), "{figure}");
    }
}
