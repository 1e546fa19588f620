//! Runs the soak, prints its table, and writes it where it is asked to.
//!
//! ```sh
//! soak [--seconds N] [--cases N] [--clients N] [--seed N] [--write FILE]
//! ```

use std::{env, error::Error, path::PathBuf, process::ExitCode, time::Duration};

use tower_support_cache_soak::{Settings, run, serve, write};

const USAGE: &str = "usage: soak [--seconds N] [--cases N] [--clients N] [--seed N] [--write FILE]";

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [verb, origin, redis] = arguments.as_slice()
        && verb == "serve"
    {
        serve(origin.clone(), redis.clone()).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut settings = Settings {
        program: env::current_exe()?,
        time: Duration::from_secs(60),
        cases: 200_000,
        clients: 16,
        seed: 1,
    };
    let mut file = None;
    let mut arguments = arguments.into_iter();
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(USAGE)?;
        match name.as_str() {
            "--seconds" => settings.time = Duration::from_secs(value.parse()?),
            "--cases" => settings.cases = value.parse()?,
            "--clients" => settings.clients = value.parse()?,
            "--seed" => settings.seed = value.parse()?,
            "--write" => file = Some(PathBuf::from(value)),
            _ => return Err(USAGE.into()),
        }
    }
    let report = run(&settings).await;
    eprintln!();
    print!("{}", report.table());
    if let Some(file) = file {
        write(&file, &report)?;
    }
    let faults = report.faults();
    faults.iter().for_each(|fault| eprintln!("soak: {fault}"));
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
