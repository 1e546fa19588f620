//! The shape of the source: which module may use which, and the rules of tidiness that a compiler
//! does not check.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
};

/// Modules of each folder from the bottom up: a module may use those before it, and no other.
///
/// A module is a file of the folder, or a folder in it. A folder's own `mod.rs` stands above them all:
/// it holds docs and what the folder is to others, so none of its modules uses it.
const ORDERS: &[(&str, &[&str])] = &[
    (
        "src",
        &[
            "sync",
            "clock",
            "structured",
            "coding",
            "deadline",
            "error",
            "json",
            "graphql",
            "key",
            "fence",
            "entry",
            "metrics",
            "insight",
            "policy",
            "origin",
            "peek",
            "route",
            "flight",
            "background",
            "recording",
            "write_body",
            "body",
            "store",
            "future",
            "exchange",
            "handle",
            "service",
            "read_content",
            "layer",
            "preset",
            "config",
            "operator",
            "publish",
            "warm",
            "testing",
            "guide",
            "verify",
        ],
    ),
    ("src/coding", &["content_coding", "codec", "choice", "tags"]),
    (
        "src/exchange",
        &[
            "assess",
            "content",
            "nesting",
            "notices",
            "rules",
            "coded",
            "request",
            "ranges",
            "respond",
            "cache",
            "encode",
            "refill",
            "audit",
            "settle",
            "fill",
            "limits",
            "revalidate",
            "stale",
            "receive",
            "lookup",
            "join",
            "classify",
            "explain",
            "shadow",
            "write",
        ],
    ),
    (
        "src/config",
        &[
            "value", "setters", "closures", "sections", "redis", "position", "build", "file",
            "watch",
        ],
    ),
    (
        "src/insight",
        &["explanation", "comparison", "digests", "examination", "write_log", "audits"],
    ),
    ("src/operator", &["json", "access", "reply", "command", "service"]),
    ("src/flight", &["broadcast", "flights"]),
    ("src/origin", &["quota", "refill", "pauses", "budget", "ledger", "controller"]),
    ("src/recording", &["budget", "tape", "cursor", "recorder"]),
    ("src/background", &["runtime", "detach", "early_refresh", "revalidation"]),
    (
        "src/metrics",
        &[
            "outcome",
            "cache_outcome",
            "recent_outcomes",
            "status_field",
            "switch",
            "telemetry",
            "latency",
            "capability",
            "operations",
            "facade",
            "sharded_counter",
            "append_list",
            "snapshot",
            "counters",
            "reporter",
        ],
    ),
    ("src/key", &["hash", "digest_key", "variant", "vary", "tag", "primary_key", "named"]),
    ("src/fence", &["unsettled", "softened", "recent", "sequence"]),
    (
        "src/entry",
        &[
            "gauge",
            "hop_by_hop",
            "interned",
            "weight",
            "pack",
            "shape",
            "head",
            "portable",
            "entry",
        ],
    ),
    (
        "src/policy",
        &[
            "directive",
            "targeted",
            "cache_control",
            "request_directives",
            "request_fields",
            "upgrade",
            "url_variation",
            "response_policy",
            "field_line",
            "http_date",
            "quota_fields",
            "entity_tag",
            "freshness",
            "validation",
            "range",
            "cache_groups",
            "cache_tags",
            "storability",
            "write_effect",
        ],
    ),
    (
        "src/route",
        &[
            "pattern",
            "request",
            "template",
            "key_builder",
            "credentials",
            "query",
            "variations",
            "host",
            "content",
            "cache_rule",
            "cache_route",
            "content_setters",
            "route_check",
            "change",
            "invalidate_route",
            "reference",
            "table",
            "admission",
            "routes",
        ],
    ),
    (
        "src/store/conformance",
        &["sample", "entries", "fills", "invalidations", "tags", "race", "suite"],
    ),
    (
        "src/store/redis",
        &[
            "record",
            "settings",
            "link",
            "waiters",
            "near",
            "outbox",
            "tag_versions",
            "state",
            "lookup",
            "fill",
            "invalidation",
            "calls",
            "store",
            "builder",
        ],
    ),
    (
        "src/store/redis/record",
        &["stamp", "compression", "seal", "tag_version", "digest", "fields", "encode", "decode"],
    ),
    (
        "src/store/redis/link",
        &[
            "random",
            "counts",
            "credentials",
            "node",
            "identity",
            "slots",
            "cluster",
            "transport",
            "scripts",
            "command",
            "heartbeats",
            "batch",
            "connection",
            "handle",
            "supervisor",
        ],
    ),
    ("src/testing", &["chaos", "replay"]),
];

/// Tests that run against a real server and wait for it; they may poll to a deadline.
const TESTS_AGAINST_SERVERS: &[&str] =
    &["support/server.rs", "redis/starved.rs", "redis/suspended.rs"];

const MAX_CODE_LINES: usize = 400;

// ===== the tests =====

#[test]
fn every_module_has_its_place_in_an_order() {
    for (folder, order) in ORDERS {
        let found: BTreeSet<_> = modules(folder).collect();
        let listed: BTreeSet<_> = order.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(found, listed, "modules of {folder}, and those in `ORDERS`");
        assert_eq!(listed.len(), order.len(), "{folder}: a module is listed twice");
    }
}

#[test]
fn dependencies_point_downward() {
    let faults: Vec<_> = ORDERS
        .iter()
        .flat_map(|(folder, order)| {
            edges(folder).filter_map(|edge| Some(format!("{edge}: {}", edge.fault(order)?)))
        })
        .collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn a_path_into_the_crate_is_found_however_it_is_written() {
    #[track_caller]
    fn check(text: &str, expected: &[(usize, &str)]) {
        let found = paths(text, &["crate::"]);
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
fn no_function_takes_a_tuple() {
    for source in sources("src") {
        let code = source.code();
        for (at, _) in code.match_indices("fn ") {
            let head = &code[at..at + code[at..].find(['{', ';']).unwrap_or(code.len() - at)];
            let parameters = head.split_once('(').map_or("", |(_, parameters)| parameters);
            let is_pattern = |text: &str| {
                let text = text.trim_start().trim_start_matches("mut ");
                text.starts_with('(')
                    && text.split_once(')').is_some_and(|(_, rest)| rest.starts_with(": "))
            };
            let mut faults = parameters.split_inclusive([',', '(']).scan(0, |offset, part| {
                let start = *offset;
                *offset += part.len();
                Some(&parameters[start..])
            });
            let fault = faults.find(|text| is_pattern(text));
            let line = code[..at].matches('\n').count() + 1;
            assert_eq!(fault, None, "{}:{line}", source.path.display());
        }
    }
}

#[test]
fn a_type_has_a_name_of_its_own() {
    let mut seen: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut faults = Vec::new();
    for source in sources("src") {
        for line in source.code().lines() {
            let mut words = line.trim_start().split(' ').skip_while(|word| word.starts_with("pub"));
            if !matches!(words.next(), Some("struct" | "enum")) {
                continue;
            }
            let rest = words.next().unwrap_or_default();
            let name = rest[..name_end(rest)].to_owned();
            if let Some(earlier) = seen.insert(name.clone(), source.path.clone()) {
                let (here, there) = (source.path.display(), earlier.display());
                faults.push(format!("{name}: {there} and {here}"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
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
    sources.extend(documents().into_iter().map(Source::read));
    // The README's program is a server. tests/examples.sh builds it as a new user does, and asks it.
    let program = concat!("```rust,", "no_run");
    let script = Source::read(root().join("tests/examples.sh"));
    assert!(script.text.contains("block rust,no_run"), "it runs the README's program");
    for source in sources.iter_mut().filter(|source| source.path == Path::new("README.md")) {
        source.text = source.text.replacen(program, "", 1);
    }
    refuse(&sources, "an example that does not run is not checked", |line| {
        let text = line.trim_start().trim_start_matches('/').trim_start_matches('!').trim_start();
        let fence = text.strip_prefix("```").unwrap_or_default();
        fence.split(',').any(|word| matches!(word.trim(), "ignore" | "no_run"))
    });
}

#[test]
fn a_doc_comment_opens_with_a_noun_or_a_verb() {
    const WORDS: &[&str] =
        &["What", "Who", "Whom", "Whose", "Where", "Whether", "How", "Whatever", "Whoever"];
    let mut faults = Vec::new();
    for source in sources("src") {
        for (line, text) in source.doc_openings() {
            if text.split(' ').next().is_some_and(|word| WORDS.contains(&word)) {
                faults.push(format!("{}:{line}: {text}", source.path.display()));
            }
        }
    }
    let rule = "a type's doc opens with a noun phrase, a function's with a verb";
    assert!(faults.is_empty(), "{rule}:\n{}", faults.join("\n"));
}

#[test]
fn every_public_type_has_an_example() {
    // `Sealed` is for this crate; `Readme` is an example.
    const EXEMPT: &[&str] = &["Sealed", "Readme"];
    let mut faults = Vec::new();
    for source in sources("src").iter().filter(|source| !source.path.starts_with("src/verify")) {
        let mut has_example = false;
        for line in source.text.lines().map(str::trim_start) {
            if line.starts_with("///") {
                has_example |= line.contains("```");
                continue;
            }
            let kinds = ["pub struct ", "pub enum ", "pub trait "];
            if let Some(rest) = kinds.iter().find_map(|kind| line.strip_prefix(kind)) {
                let name = &rest[..name_end(rest)];
                if !has_example && !EXEMPT.contains(&name) && !name.is_empty() {
                    faults.push(format!("{name}: {}", source.path.display()));
                }
            }
            has_example &= line.starts_with("#[");
        }
    }
    assert!(faults.is_empty(), "without an example:\n{}", faults.join("\n"));
}

#[test]
fn every_setter_is_in_an_example() {
    let (sources, guide) = (sources("src"), documents().into_iter().map(Source::read));
    let mut examples: String = guide.map(|page| page.text).collect();
    for source in &sources {
        let docs = source.text.lines().map(str::trim_start).filter(|line| line.starts_with("//"));
        examples.extend(docs);
    }
    let (mut faults, mut seen) = (Vec::new(), 0);
    for source in sources.iter().filter(|source| !source.path.starts_with("src/verify")) {
        for line in source.text.lines().map(str::trim_start) {
            let Some(setter) = line.strip_prefix("pub fn ") else { continue };
            if !setter.contains("(mut self") {
                continue;
            }
            let name = &setter[..name_end(setter)];
            if !examples.contains(&format!(".{name}(")) {
                faults.push(format!("{name}: {}", source.path.display()));
            }
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
    assert!(faults.is_empty(), "in no example:\n{}", faults.join("\n"));
}

// ===== edges =====

/// A use of one module by another of the same folder.
struct Edge {
    path: PathBuf,
    line: usize,
    from: String,
    to: String,
}

impl Edge {
    fn fault(&self, order: &[&str]) -> Option<String> {
        let (from, to) = (&self.from, &self.to);
        let place = |name: &str| order.iter().position(|listed| *listed == name);
        let Some(used) = place(to) else {
            return Some(format!("`{to}` is no module here: name the module that has it"));
        };
        (place(from)? < used).then(|| format!("`{from}` uses `{to}`, which stands above it"))
    }
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

/// Returns the uses of one module of a folder by another.
fn edges(folder: &str) -> impl Iterator<Item = Edge> {
    sources(folder)
        .into_iter()
        .filter_map(move |source| Some((source.module_in(folder)?, source)))
        .flat_map(move |(from, source)| {
            let code = source.code();
            let prefixes = source.prefixes(folder);
            let prefixes: Vec<_> = prefixes.iter().map(String::as_str).collect();
            let edges: Vec<_> = paths(&code, &prefixes)
                .into_iter()
                .filter(|(_, to)| *to != from)
                .map(|(line, to)| Edge { path: source.path.clone(), line, from: from.clone(), to })
                .collect();
            edges
        })
}

/// Returns the modules of a folder.
fn modules(folder: &str) -> impl Iterator<Item = String> {
    sources(folder).into_iter().filter_map(move |source| source.module_in(folder))
}

/// Returns the names that follow one of `prefixes`, with their lines.
fn paths(code: &str, prefixes: &[&str]) -> Vec<(usize, String)> {
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

    /// Returns the module of a folder that the file belongs to; `None` for the folder's own file.
    fn module_in(&self, folder: &str) -> Option<String> {
        let below = self.path.strip_prefix(folder).ok()?;
        let first = Path::new(below.iter().next()?).with_extension("");
        let module = first.to_string_lossy().into_owned();
        (!matches!(&*module, "lib" | "mod")).then_some(module)
    }

    /// Returns the beginnings of paths to modules of a folder, as this file writes them.
    fn prefixes(&self, folder: &str) -> Vec<String> {
        let below = self.path.strip_prefix(folder).expect("a file of the folder");
        let is_face = below.file_name().is_some_and(|name| name == "mod.rs");
        let depth = below.iter().count() - usize::from(is_face);
        let folders = folder.split('/').skip(1).map(|name| format!("{name}::"));
        vec![format!("crate::{}", folders.collect::<String>()), "super::".repeat(depth)]
    }

    /// Returns the first lines of doc comments, with their numbers.
    fn doc_openings(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut is_open = false;
        self.text.lines().enumerate().filter_map(move |(at, line)| {
            let line = line.trim_start();
            let text = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
            let was_open = std::mem::replace(&mut is_open, text.is_some());
            text.filter(|_| !was_open).map(|text| (at + 1, text.trim_start()))
        })
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

/// Returns the README and the pages of the guide.
fn documents() -> Vec<PathBuf> {
    let pages = fs::read_dir(root().join("docs/guide")).expect("a readable folder");
    let pages = pages.map(|page| page.expect("a readable folder").path());
    pages
        .filter(|page| page.extension().is_some_and(|kind| kind == "md"))
        .chain([root().join("README.md")])
        .collect()
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
