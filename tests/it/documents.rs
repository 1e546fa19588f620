//! README, guide and the pages on security: their defaults are those of the code, their sentences are short,
//! and their links lead somewhere.

use std::{
    fs,
    path::{Path, PathBuf},
};

const LONGEST_SENTENCE: usize = 30;

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Reads a file of the repository.
pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the pages of the guide, and the other documents for users.
fn documents() -> Vec<PathBuf> {
    let pages = fs::read_dir(root().join("docs/guide")).unwrap();
    let pages = pages.map(|page| page.unwrap().path());
    let mut all: Vec<_> = pages.filter(|page| page.extension().unwrap() == "md").collect();
    assert!(all.len() > 8, "{all:?}");
    let others = ["README.md", "SECURITY.md", "OWNER.md", "docs/security.md"];
    all.extend(others.map(|name| root().join(name)));
    all.sort();
    all
}

// ===== defaults =====

/// Returns the value of a constant or of a field in a literal, as it is written.
fn value(file: &str, name: &str) -> String {
    let source = read(file);
    let line = source.lines().map(str::trim).find_map(|line| {
        let line = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        let constant = line.strip_prefix("const ").and_then(|line| line.strip_prefix(name));
        match constant {
            Some(rest) => rest.split_once('=').filter(|_| rest.starts_with(':')),
            // A declaration has a type there and no number.
            None => line.split_once(':').filter(|(field, value)| {
                *field == name && value.contains(|letter: char| letter.is_ascii_digit())
            }),
        }
    });
    let (_, value) = line.unwrap_or_else(|| panic!("{file} has no {name}"));
    value.trim().trim_end_matches([';', ',']).to_owned()
}

/// Returns the amount that an expression or a text of the guide stands for, in bytes or milliseconds.
fn amount(text: &str) -> u64 {
    let product = |factors: &str| -> u64 {
        let factor = |factor: &str| factor.trim().replace(['_', ','], "").parse::<u64>();
        factors.split('*').map(|one| factor(one).unwrap_or_else(|_| panic!("{text}"))).product()
    };
    let argument = |call: &str| {
        let rest = text.split_once(call)?.1;
        Some(product(rest.trim_end_matches(')')))
    };
    if let Some(seconds) = argument("from_secs(") {
        return seconds * 1000;
    }
    if let Some(milliseconds) = argument("from_millis(") {
        return milliseconds;
    }
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    match unit {
        "MiB" => product(number) * 1024 * 1024,
        "s" => product(number) * 1000,
        "" | "%" | "ms" | "bytes" => product(number),
        _ => product(text),
    }
}

#[test]
fn the_defaults_of_the_guide_are_those_of_the_code() {
    let page = read("docs/guide/defaults.md");
    let mut compared = 0;
    for row in page.lines().filter(|line| line.contains("<!--")) {
        let (before, rest) = row.split_once(" <!-- ").unwrap();
        let stated = before.rsplit('|').next().unwrap().trim();
        let (file, name) = rest.split_once(" -->").unwrap().0.split_once(' ').unwrap();
        let value = value(file, name);
        assert_eq!(amount(stated), amount(&value), "{name} in {file} is {value}");
        compared += 1;
    }
    assert!(compared > 20, "{compared}");
}

// ===== prose =====

/// Returns the text of a document without code, comments, and the targets of links.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
            kept.push_str("\n\n");
        } else if !is_code && !line.starts_with("[") {
            // Rows, headings and items of lists are sentences of their own.
            let begins = line.trim_start().starts_with(['#', '*', '|', '-', '!'])
                || line.split_once(". ").is_some_and(|(number, _)| number.parse::<u8>().is_ok());
            kept.push_str(if begins || line.is_empty() { "\n\n" } else { " " });
            kept.push_str(&line.replace('|', "\n\n"));
        }
    }
    while let Some((from, to)) =
        kept.find("](").and_then(|from| Some((from, from + kept[from..].find(')')?)))
    {
        kept.replace_range(from..=to, "");
    }
    kept
}

#[test]
fn sentences_are_short() {
    let mut faults = Vec::new();
    for document in documents() {
        for paragraph in prose(&read(&document)).split("\n\n") {
            let text = paragraph.replace(['\n'], " ");
            for sentence in text.split_inclusive([';', ':']).flat_map(|part| part.split(". ")) {
                let words = sentence.split_whitespace().count();
                if words > LONGEST_SENTENCE {
                    faults.push(format!("{}: {words} words: {sentence}", document.display()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "at most {LONGEST_SENTENCE} words:\n{}", faults.join("\n"));
}

#[test]
fn the_readme_is_read_in_five_minutes() {
    let readme = read("README.md");
    let lines = readme.lines().count();
    assert!(lines <= 150, "{lines} lines");
    let words = prose(&readme).split_whitespace().count();
    assert!(words <= 1200, "{words} words, at 240 a minute");
}

// ===== code of examples =====

#[test]
fn code_that_a_page_takes_from_an_example_is_there() {
    let page = read("docs/guide/cookbook.md");
    let mut seen = 0;
    for block in page.split("```text\n// ").skip(1) {
        let (example, block) = block.split_once('\n').unwrap();
        let source = read(example);
        for line in block.split("```").next().unwrap().lines() {
            assert!(source.contains(line), "{example} has no such line: {line}");
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen}");
}

// ===== what holds =====

/// Returns the rows of a page's tables, by their cells.
fn rows(page: &str) -> impl Iterator<Item = Vec<&str>> {
    let row = |line: &'_ str| line.starts_with('|');
    page.lines()
        .filter(move |line| row(line))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

#[test]
fn each_mistake_that_proves_a_promise_is_there() {
    let page = read("docs/guide/what_holds.md");
    let mut seen = 0;
    for row in rows(&page).filter(|row| row.len() == 2 && row[1].starts_with('`')) {
        for name in row[1].split(", ").map(|name| name.trim_matches('`')) {
            let patch = root().join(format!("tests/mistakes/{name}.patch"));
            assert!(patch.exists(), "{}: no mistake is called {name}", row[0]);
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
}

#[test]
fn the_tests_that_prove_a_promise_are_there() {
    let page = read("docs/guide/what_holds.md");
    let mut seen = 0;
    let tests = page.split("\nTests: ").skip(1).map(|rest| rest.split("\n\n").next().unwrap());
    for name in tests.flat_map(|tests| tests.split('`').skip(1).step_by(2)) {
        let (before, rest) = name.split_once('{').unwrap_or((name, ""));
        let (names, _) = rest.split_once('}').unwrap_or(("", ""));
        for module in names.split(',') {
            let path = format!("{before}{module}");
            let places = ["", "tests/"].map(|folder| format!("{folder}{path}"));
            let is_there = |place: &String| {
                root().join(place).exists() || root().join(format!("{place}.rs")).exists()
            };
            assert!(places.iter().any(is_there), "there is no {path}");
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn the_readme_sums_up_the_long_histories() {
    let page = read("docs/guide/what_holds.md");
    let (_, histories) = page.split_once("# The long histories").unwrap();
    let mut sums = [0_u64; 2];
    for row in rows(histories).filter(|row| row[0].parse::<u64>().is_ok()) {
        sums[0] += amount(row[2]);
        sums[1] += amount(row[3]);
        assert_eq!(row[5..], ["0", "0"], "stale reads and failed requests");
    }
    let grouped = |number: u64| {
        let digits = number.to_string();
        let groups = digits.as_bytes().rchunks(3).rev();
        groups.map(|group| str::from_utf8(group).unwrap()).collect::<Vec<_>>().join(",")
    };
    let [reads, invalidations] = sums.map(grouped);
    let figure = format!("{reads} reads and {invalidations} invalidations");
    assert!(read("README.md").contains(&figure), "{figure}");
}

// ===== words =====

/// Words that people search the docs for, who know other caches.
const SEARCHED: &[&str] = &[
    "surrogate key",
    "stampede",
    "single flight",
    "dedup",
    "grace",
    "vary by",
    "tenant",
    "purge",
    "ban",
    "clear",
    "warm up",
];

#[test]
fn the_words_of_other_caches_lead_somewhere() {
    let mut folders = vec![root().join("src")];
    let mut source = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false => source.push_str(&fs::read_to_string(entry).unwrap_or_default()),
            }
        }
    }
    let has = |word: &&&str| source.contains(&format!("alias = \"{word}\""));
    let missing: Vec<_> = SEARCHED.iter().filter(|word| !has(word)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

// ===== links =====

#[test]
fn links_to_files_lead_to_files() {
    let mut seen = 0;
    for document in documents() {
        let text = read(&document);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap();
            let is_path = target.contains('.') && !target.contains("://");
            if !is_path {
                continue;
            }
            let path = document.parent().unwrap().join(target);
            assert!(path.exists(), "{}: {target}", document.display());
            seen += 1;
        }
    }
    assert!(seen > 3, "{seen}");
}

#[test]
fn references_are_defined_and_used() {
    for document in documents() {
        let text = read(&document);
        for line in text.lines().filter(|line| line.starts_with('[') && line.contains("]: ")) {
            let (name, _) = line[1..].split_once("]: ").unwrap();
            let uses = text.matches(&format!("[{name}]")).count();
            assert!(uses > 1, "{}: [{name}] is not used", document.display());
        }
    }
}
