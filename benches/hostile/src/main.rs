//! Attacks a server with the cache and a bare one in turns, and prints a table.
//!
//! ```sh
//! hostile [--short] [--write FILE] [ATTACK...]
//! ```

use std::{
    env,
    error::Error,
    io::{self, IsTerminal, Write},
    path::PathBuf,
};

use tower_support_cache_hostile::{Attack, Kind, Scale, measure, provenance, serve, table, write};

const USAGE: &str = "usage: hostile [--short] [--write FILE] [ATTACK...]";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [verb, kind] = arguments.as_slice()
        && verb == "serve"
    {
        let kind = Kind::ALL.into_iter().find(|known| known.name() == kind).ok_or(USAGE)?;
        return serve(kind).await;
    }
    let mut scale = Scale::LONG;
    let mut file = None;
    let mut attacks = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--short" => scale = Scale::SHORT,
            "--write" => file = Some(PathBuf::from(arguments.next().ok_or(USAGE)?)),
            name => {
                let known = Attack::ALL.into_iter().find(|attack| attack.name() == name);
                let names = || Attack::ALL.map(Attack::name).join("\n  ");
                attacks.push(known.ok_or_else(|| format!("{USAGE}\nattacks:\n  {}", names()))?);
            }
        }
    }
    if attacks.is_empty() {
        attacks = Attack::ALL.into();
    }
    let table = attack(&attacks, scale).await?;
    print!("{table}");
    if let Some(file) = file {
        write(&file, "hostile", &table)?;
    }
    Ok(())
}

async fn attack(attacks: &[Attack], scale: Scale) -> Result<String, Box<dyn Error>> {
    let program = env::current_exe()?;
    let all: Vec<_> = attacks
        .iter()
        .flat_map(|attack| attack.protocols().iter().map(move |protocol| (*attack, *protocol)))
        .flat_map(|(attack, protocol)| Kind::ALL.map(move |kind| (attack, protocol, kind)))
        .collect();
    let mut turns = Vec::new();
    for (number, (attack, protocol, kind)) in all.iter().copied().enumerate() {
        progress(
            number,
            all.len(),
            &format!("{}, {}, {}", attack.name(), protocol.name(), kind.name()),
        );
        turns.push(measure(&program, attack, protocol, kind, scale).await?);
    }
    progress(all.len(), all.len(), "");
    eprintln!();
    for turn in turns.iter().filter(|turn| turn.honest.failed > 0) {
        let reason = turn.honest.reason.as_deref().unwrap_or_default();
        eprintln!(
            "{}, {}, {}: {reason}",
            turn.attack.name(),
            turn.protocol.name(),
            turn.kind.name()
        );
    }
    Ok(table(&turns) + &provenance("bash benches/hostile.sh"))
}

/// Draws the bar, where somebody looks.
fn progress(done: usize, all: usize, name: &str) {
    const WIDTH: usize = 30;
    let mut output = io::stderr();
    if output.is_terminal() {
        let bar = "#".repeat(done * WIDTH / all);
        let _ = write!(output, "\r[{bar:.<WIDTH$}] {done}/{all} {name:<50}");
        let _ = output.flush();
    }
}
