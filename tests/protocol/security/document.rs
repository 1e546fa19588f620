//! `docs/security.md` says what is true: its tests and its mistakes exist, and it names every test.

use std::{collections::BTreeSet, fs, path::Path};

fn text(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The cells of each vector's row.
fn rows(document: &str) -> Vec<[String; 4]> {
    let is_vector = |line: &&str| line.starts_with("| `SEC-");
    let cells = |line: &str| {
        let inside = line.trim().trim_matches('|');
        let cells: Vec<String> = inside.split(" | ").map(|cell| cell.trim().to_owned()).collect();
        cells.try_into().unwrap_or_else(|cells| panic!("not four cells: {cells:?}"))
    };
    document.lines().filter(is_vector).map(cells).collect()
}

/// The names between backticks.
fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Every function of this module, and of the test target with real servers, whose name begins with
/// `sec_`.
fn tests() -> BTreeSet<String> {
    let folders = ["protocol/security", "redis"].map(|name| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
        fs::read_dir(folder).unwrap()
    });
    let mut found = BTreeSet::new();
    for file in folders.into_iter().flatten() {
        let source = fs::read_to_string(file.unwrap().path()).unwrap();
        for part in source.split("async fn ").skip(1) {
            let name = part.split('(').next().unwrap();
            if name.starts_with("sec_") {
                assert!(found.insert(name.to_owned()), "{name} is there twice");
            }
        }
    }
    found
}

#[test]
fn the_tests_of_the_document_and_the_tests_that_there_are_are_the_same() {
    let document = text("docs/security.md");
    let mut told = BTreeSet::new();
    for [vector, _, tests, _] in rows(&document) {
        assert!(names(&tests).next().is_some(), "{vector} has no test");
        let prefix = vector.trim_matches('`').to_lowercase().replace('-', "_") + "_";
        for test in names(&tests) {
            assert!(test.starts_with(&prefix), "{test} is not named after {vector}");
            told.insert(test.to_owned());
        }
    }
    assert_eq!(told, tests());
}

/// Returns the tests that must fail with a mistake, without their modules.
fn found_by(mistake: &str) -> Vec<String> {
    let patch = text(&format!("tests/mistakes/{mistake}.patch"));
    let tests = patch.lines().map_while(|line| line.strip_prefix("Fails: "));
    tests.filter_map(|test| Some(test.rsplit(&[' ', ':']).next()?.to_owned())).collect()
}

#[test]
fn the_mistakes_of_the_document_are_there_and_are_found_by_its_tests() {
    for [vector, _, tests, mistakes] in rows(&text("docs/security.md")) {
        for mistake in names(&mistakes) {
            let found_by = found_by(mistake);
            let is_found = names(&tests).any(|test| found_by.iter().any(|known| known == test));
            assert!(is_found, "{vector}: {mistake} is found by {found_by:?}");
        }
    }
}
