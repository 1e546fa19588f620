//! The shape of the source: which module may use which, and the rules of tidiness that a compiler
//! does not check.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
};

/// The tiers of the crate, lowest first. A module may use modules of lower tiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    /// No I/O, no async.
    Leaf,
    /// Pure functions of heads, entries and time.
    Rule,
    /// Know the leaves, not each other.
    Mechanism,
    /// What happens to a request.
    Flow,
}

/// Every module of the crate: a file of `src`, or a folder of it.
const MODULES: &[(&str, Tier)] = &[
    ("budget", Tier::Leaf),
    ("clock", Tier::Leaf),
    ("entry", Tier::Leaf),
    ("error", Tier::Leaf),
    ("gauge", Tier::Leaf),
    ("hops", Tier::Leaf),
    ("key", Tier::Leaf),
    ("nominated", Tier::Leaf),
    ("operations", Tier::Leaf),
    ("outcome", Tier::Leaf),
    ("seconds", Tier::Leaf),
    ("secret", Tier::Leaf),
    ("sequence", Tier::Leaf),
    ("striped", Tier::Leaf),
    ("sync", Tier::Leaf),
    ("unsettled", Tier::Leaf),
    ("policy", Tier::Rule),
    ("route", Tier::Rule),
    ("body", Tier::Mechanism),
    ("bounded", Tier::Mechanism),
    ("coalesce", Tier::Mechanism),
    ("detach", Tier::Mechanism),
    ("early", Tier::Mechanism),
    ("metrics", Tier::Mechanism),
    ("notice", Tier::Mechanism),
    ("recording", Tier::Mechanism),
    ("refresh", Tier::Mechanism),
    ("reporter", Tier::Mechanism),
    ("store", Tier::Mechanism),
    ("telemetry", Tier::Mechanism),
    ("answer", Tier::Flow),
    ("decide", Tier::Flow),
    ("exchange", Tier::Flow),
    ("fill", Tier::Flow),
    // What holds for rules and leaves, built for the fuzzer and for tests alone.
    ("fuzzing", Tier::Flow),
    ("future", Tier::Flow),
    ("glance", Tier::Flow),
    ("handle", Tier::Flow),
    ("layer", Tier::Flow),
    ("lib", Tier::Flow),
    // A unit test of mechanisms together, built for the model checker alone.
    ("model", Tier::Flow),
    ("read", Tier::Flow),
    ("seek", Tier::Flow),
    ("service", Tier::Flow),
    ("shared", Tier::Flow),
    ("stale", Tier::Flow),
    ("support", Tier::Flow),
    ("testing", Tier::Flow),
    ("write", Tier::Flow),
];

/// Where a module uses others of its own tier, and why. An entry that is not needed is an error.
const WITHIN_A_TIER: &[(&str, &[&str], &str)] = &[
    // Leaves.
    ("budget", &["sync"], "counts with the primitives that the model checker replaces"),
    (
        "entry",
        &["clock", "gauge", "hops", "key", "nominated", "sequence", "sync"],
        "knows its place, its fill, its age, and where it is counted; keeps a mould under a lock",
    ),
    ("gauge", &["sync"], "counts with the primitives that the model checker replaces"),
    (
        "nominated",
        &["key", "secret"],
        "encodes values as a part of a variant, credentials digested",
    ),
    (
        "sequence",
        &["key", "sync", "unsettled"],
        "finds the stripe of a key, under its lock; what no layer on a store may fill",
    ),
    ("striped", &["sync"], "counts with the primitives that the model checker replaces"),
    ("unsettled", &["clock", "key", "sync"], "keys until an instant"),
    // Rules.
    ("policy", &["route"], "judges by the settings of a route, which the route carries"),
    ("route", &["policy"], "`Credentials` is a setting of a route and a rule of its own"),
    // Mechanisms.
    ("body", &["recording"], "the public face of a recording's reader"),
    ("coalesce", &["notice"], "tells followers how their flight settled"),
    ("detach", &["metrics"], "counts what is dropped, which happens where no flow runs any more"),
    ("metrics", &["telemetry"], "an end is counted and logged in one place"),
    ("recording", &["detach"], "goes on within the bound on work that lost its readers"),
    ("store", &["telemetry"], "tells operators of a link that is lost, which no request sees"),
    ("reporter", &["metrics"], "an end is counted, logged and said in `Cache-Status` in one place"),
    // Flow, from the outside in.
    ("layer", &["handle", "service", "shared", "support"], "makes what it is the layer of"),
    ("support", &["layer"], "the original policy is a builder that has been filled in"),
    ("handle", &["shared", "support"], "operates what services share; the original keys"),
    ("service", &["exchange", "future", "shared"], "begins an exchange"),
    (
        "exchange",
        &["answer", "decide", "fill", "future", "glance", "read", "seek", "shared", "write"],
        "tells the life of a request",
    ),
    (
        "decide",
        &["answer", "glance", "read", "shared"],
        "answers from memory, or makes the read that goes on",
    ),
    (
        "stale",
        &["answer", "fill", "read", "shared"],
        "answers a read with what it has seen, in place of a fill",
    ),
    (
        "fill",
        &["answer", "read", "shared"],
        "settles what a read began, with the store and the metrics of the layer",
    ),
    ("glance", &["answer", "read", "shared"], "answers what needs no route to be matched"),
    ("read", &["answer", "shared"], "knows what its request asks for"),
    (
        "seek",
        &["answer", "fill", "read", "shared"],
        "searches for what a read may be answered with",
    ),
    ("write", &["shared"], "invalidates through what services share"),
    ("shared", &["answer"], "holds the flights, and what followers of them are given"),
];

/// Tests that run against a real server and wait for it; they may poll to a deadline.
const TESTS_AGAINST_SERVERS: &[&str] = &["support/server.rs", "redis/suspended.rs"];

const MAX_CODE_LINES: usize = 400;

// ===== the tests =====

#[test]
fn every_module_has_a_tier_and_every_tier_its_modules() {
    let found: BTreeSet<_> = sources("src").iter().map(Source::module).collect();
    let listed: BTreeSet<_> = MODULES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let unlisted: Vec<_> = found.difference(&listed).collect();
    let missing: Vec<_> = listed.difference(&found).collect();
    assert!(unlisted.is_empty(), "give these modules a tier in `MODULES`: {unlisted:?}");
    assert!(missing.is_empty(), "`MODULES` lists what is not there: {missing:?}");
}

#[test]
fn dependencies_point_downward() {
    let faults: Vec<_> =
        edges().filter_map(|edge| Some(format!("{edge}: {}", edge.fault()?))).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_exception_is_needed() {
    let used: BTreeSet<_> = edges().map(|edge| (edge.from, edge.to)).collect();
    for (from, to, _) in WITHIN_A_TIER {
        for to in *to {
            let edge = ((*from).to_owned(), (*to).to_owned());
            assert!(used.contains(&edge), "`{from}` does not use `{to}`: take it off the table");
        }
    }
}

#[test]
fn a_path_into_the_crate_is_found_however_it_is_written() {
    #[track_caller]
    fn check(text: &str, expected: &[(usize, &str)]) {
        let found = crate_paths(text, false);
        let found: Vec<_> = found.iter().map(|(line, name)| (*line, name.as_str())).collect();
        assert_eq!(found, expected, "{text}");
    }
    check("use crate::clock::now;", &[(1, "clock")]);
    check(
        "use crate::{clock, key::{Slot, Variant}, route};",
        &[(1, "clock"), (1, "key"), (1, "route")],
    );
    check("use crate::{\n    clock::now,\n    key::Slot,\n};", &[(2, "clock"), (3, "key")]);
    check("\nfn f() { crate::clock::now() }", &[(2, "clock")]);
    check("pub(crate) fn f() {}\nuse other_crate::clock;", &[]);
}

#[test]
fn a_file_is_read_in_one_sitting() {
    for source in sources("src") {
        let lines = source.code().lines().filter(|line| !line.trim().is_empty()).count();
        assert!(lines <= MAX_CODE_LINES, "{}: {lines} lines of code", source.path.display());
    }
}

#[test]
fn tests_wait_for_gates_and_not_for_time() {
    let of_servers = |source: &Source| {
        TESTS_AGAINST_SERVERS
            .iter()
            .any(|name| source.path.ends_with(Path::new("tests").join(name)))
    };
    let sources: Vec<_> =
        sources("tests").into_iter().filter(|source| !of_servers(source)).collect();
    refuse(&sources, "pause the time and advance it, or wait for a gate", |line| {
        line.contains(concat!("sleep", "("))
    });
}

#[test]
fn no_test_is_switched_off() {
    let sources: Vec<_> = ["src", "tests", "examples"].into_iter().flat_map(sources).collect();
    refuse(&sources, "a test that does not run tells nothing", |line| {
        line.contains(concat!("#[", "ignore"))
    });
}

#[test]
fn every_example_in_the_docs_runs() {
    let mut sources: Vec<_> = ["src", "tests", "examples"].into_iter().flat_map(sources).collect();
    sources.push(Source::read(root().join("README.md")));
    refuse(&sources, "an example that does not run is not checked", |line| {
        let text = line.trim_start().trim_start_matches('/').trim_start_matches('!').trim_start();
        let fence = text.strip_prefix("```").unwrap_or_default();
        fence.split(',').any(|word| matches!(word.trim(), "ignore" | "no_run"))
    });
}

// ===== edges =====

/// A use of one module by another.
struct Edge {
    path: PathBuf,
    line: usize,
    from: String,
    to: String,
}

impl Edge {
    fn fault(&self) -> Option<String> {
        let (from, to) = (&self.from, &self.to);
        let Some(tier) = tier(to) else {
            return Some(format!("`crate::{to}` is no module: name the module that has it"));
        };
        let own = tier_of_user(from);
        if tier < own || is_excepted(from, to) {
            None
        } else if tier == own {
            Some(format!("`{from}` uses `{to}`, which is a {tier:?} too"))
        } else {
            Some(format!("`{from}`, a {own:?}, uses `{to}`, a {tier:?}"))
        }
    }
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

fn edges() -> impl Iterator<Item = Edge> {
    sources("src").into_iter().filter(|source| source.module() != "lib").flat_map(|source| {
        let (from, code) = (source.module(), source.code());
        let paths = crate_paths(&code, source.is_at_the_root());
        let edges: Vec<_> = paths
            .into_iter()
            .filter(|(_, to)| *to != from)
            .map(|(line, to)| Edge { path: source.path.clone(), line, from: from.clone(), to })
            .collect();
        edges
    })
}

fn tier(module: &str) -> Option<Tier> {
    MODULES.iter().find(|(name, _)| *name == module).map(|(_, tier)| *tier)
}

/// A file without a tier is reported by a test of its own; here it may use nothing.
fn tier_of_user(module: &str) -> Tier {
    tier(module).unwrap_or(Tier::Leaf)
}

fn is_excepted(from: &str, to: &str) -> bool {
    WITHIN_A_TIER.iter().any(|(user, used, _)| *user == from && used.contains(&to))
}

/// Returns the first names of all paths into the crate, with their lines. In a file at the root of
/// the crate, `super` is the crate.
fn crate_paths(code: &str, is_at_the_root: bool) -> Vec<(usize, String)> {
    let prefixes: &[&str] =
        if is_at_the_root { &["crate::", "super::"] } else { &["crate::", "super::super::"] };
    let mut found = Vec::new();
    for prefix in prefixes {
        for (at, _) in code.match_indices(prefix) {
            let is_whole =
                !code[..at].ends_with(|c: char| c.is_alphanumeric() || "_:$".contains(c));
            if is_whole {
                let from = at + prefix.len();
                found.extend(names(&code[from..]).map(|(offset, name)| {
                    (code[..from + offset].matches('\n').count() + 1, name.to_owned())
                }));
            }
        }
    }
    found
}

/// Returns the names that a path goes on with: one, or those of a group in braces.
fn names(rest: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = if rest.starts_with('{') { group_end(rest) } else { name_end(rest) };
    let text = &rest[..end];
    let mut depth = 0;
    let mut starts = vec![];
    if !text.starts_with('{') {
        starts.push(0);
    }
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if matches!(character, '{' | ',') && depth == 1 {
            starts.push(at + 1);
        }
    }
    starts.into_iter().filter_map(move |at| {
        let name = text[at..].trim_start();
        let start = text.len() - name.len();
        let name = &name[..name_end(name)];
        (!name.is_empty()).then_some((start, name))
    })
}

fn name_end(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len())
}

fn group_end(text: &str) -> usize {
    let mut depth = 0;
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

// ===== files =====

struct Source {
    /// Relative to the root of the repository.
    path: PathBuf,
    text: String,
}

impl Source {
    fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).expect("a source is text");
        let path = path.strip_prefix(root()).map(Path::to_owned).unwrap_or(path);
        Self { path, text }
    }

    /// The file's name under `src` without its extension, or its folder's.
    fn module(&self) -> String {
        let first = self.path.iter().nth(1).expect("a file below a folder");
        let module = Path::new(first).with_extension("");
        module.to_string_lossy().into_owned()
    }

    fn is_at_the_root(&self) -> bool {
        self.path.iter().count() == 2
    }

    /// The text up to the unit tests, its comments blanked out so that lines keep their numbers.
    fn code(&self) -> String {
        let lines = self.text.lines().take_while(|line| !line.starts_with("mod tests"));
        let code = lines.map(|line| if line.trim_start().starts_with("//") { "" } else { line });
        code.collect::<Vec<_>>().join("\n")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the Rust files below `folder`, in order; none where there is no such folder.
fn sources(folder: &str) -> Vec<Source> {
    fn collect(folder: &Path, sources: &mut Vec<Source>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                collect(&path, sources);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(Source::read(path));
            }
        }
    }
    let mut sources = Vec::new();
    collect(&root().join(folder), &mut sources);
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

#[track_caller]
fn refuse(sources: &[Source], why: &str, is_fault: impl Fn(&str) -> bool) {
    let mut faults = Vec::new();
    for source in sources {
        for (at, line) in source.text.lines().enumerate().filter(|(_, line)| is_fault(line)) {
            faults.push(format!("{}:{}: {}", source.path.display(), at + 1, line.trim()));
        }
    }
    assert!(faults.is_empty(), "{why}:\n{}", faults.join("\n"));
}
