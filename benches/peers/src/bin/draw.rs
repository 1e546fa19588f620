//! Makes the tables and pictures from the report: `draw REPORT PLOTS DOCUMENT...`. In each document what
//! stands between `<!-- peers:NAME … -->` and `<!-- peers:end -->` is made anew. Each carries a digest of the report and one of itself, by
//! which `tests/it/peers.rs` finds what is out of step.

use std::{env, fs, path::Path, process::ExitCode};

use tower_support_cache_peers::{
    draw::{
        pictures,
        svg::{DARK, LIGHT, draw},
        table,
    },
    report::Report,
};

const END: &str = "<!-- peers:end -->";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [report, plots, documents @ ..] = arguments.as_slice() else {
        eprintln!("usage: draw REPORT PLOTS DOCUMENT...");
        return ExitCode::FAILURE;
    };
    let source = fs::read(report).expect("the report can be read");
    let report = Report::read(Path::new(report));
    fs::create_dir_all(plots).expect("a folder can be made");
    for picture in pictures::all(&report) {
        for theme in [&LIGHT, &DARK] {
            let drawn = draw(&picture.panels, theme, picture.alternative);
            let stamp = stamp(&source, &drawn);
            let path = format!("{plots}/{}-{}.svg", picture.name, theme.name);
            fs::write(&path, format!("{drawn}<!-- {stamp} -->\n"))
                .expect("a picture can be written");
        }
    }
    for document in documents {
        let mut text = fs::read_to_string(document).expect("the document can be read");
        for name in table::SECTIONS {
            let begin = format!("<!-- peers:{name} ");
            let Some(from) = text.find(&begin) else { continue };
            let to = from + text[from..].find(END).expect("a section has an end");
            let section = table::section(name, &report, &between(document, plots));
            let section = format!("\n{section}");
            let stamp = stamp(&source, &section);
            text.replace_range(from..to, &format!("{begin}{stamp} -->{section}"));
        }
        fs::write(document, text).expect("the document can be written");
    }
    ExitCode::SUCCESS
}

/// Returns the way from a document to the pictures: both paths begin at the same folder.
fn between(document: &str, plots: &str) -> String {
    "../".repeat(document.matches('/').count()) + plots
}

fn stamp(source: &[u8], made: &str) -> String {
    format!("of {:016x} made {:016x}", digest(source), digest(made.as_bytes()))
}

/// FNV-1a: it guards against forgetting, not against malice.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |digest, byte| {
        (digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
