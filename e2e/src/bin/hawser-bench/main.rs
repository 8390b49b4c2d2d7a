//! Ours beside the peers, in one run: round-robin, cubic, medians.
//!
//! ```text
//!   for each round: for each contender:
//!     two namespaces and a cable → the contender between them → iperf3, ping → away with it
//! ```
//! Both ends, both tunnels and iperf3 share this machine's cores, so figures compare contenders;
//! they do not say what a link between two machines would carry.

mod contender;
mod figures;
mod flood;
mod machines;
mod measure;
mod nebula;
mod wireguard;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use serde_json::{Value, json};

use contender::{Contender, contenders};
use figures::{Figures, Row};

/// Measure Hawser and its peers side by side
#[derive(Parser)]
#[command(name = "e2e/bench")]
struct Args {
    /// Write the rows to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How often every contender is measured; the medians are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// How long each single measurement takes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    secs: u8,
    /// Only these contenders
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    only: Vec<String>,
    /// Measure what a flood of forged handshakes does, and nothing else
    #[arg(long, conflicts_with_all = ["only", "rounds"])]
    flood: bool,
}

fn main() -> anyhow::Result<()> {
    let Args { json, rounds, secs, only, flood } = Args::parse();
    let each = Duration::from_secs(secs.into());
    if flood {
        let rows = flood::measure(each)?;
        flood::print(&rows);
        return write(json.as_deref(), &json!({ "flood": rows }));
    }
    let (mut chosen, missing) = choose(&only)?;
    for round in 1..=rounds {
        for (contender, figures) in &mut chosen {
            eprintln!("round {round}/{rounds}  {}", contender.name);
            match measure::measure(contender, each) {
                Ok(measured) => figures.push(measured),
                Err(error) => eprintln!("  {}: {error:#}", contender.name),
            }
        }
    }
    let rows: Vec<Row> =
        chosen.iter().filter_map(|(contender, all)| Row::median(contender.name, all)).collect();
    figures::print(&rows, &missing);
    write(json.as_deref(), &figures::document(&rows, &missing))?;
    anyhow::ensure!(rows.len() == chosen.len(), "some contenders gave no figures");
    Ok(())
}

fn write(file: Option<&Path>, document: &Value) -> anyhow::Result<()> {
    let Some(path) = file else { return Ok(()) };
    let text = serde_json::to_string_pretty(document)?;
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

type Chosen = Vec<(Contender, Vec<Figures>)>;

/// Those asked for that are installed, and the names of those that are not.
fn choose(only: &[String]) -> anyhow::Result<(Chosen, Vec<String>)> {
    let all = contenders();
    for name in only {
        let known = all.iter().any(|contender| contender.is_called(name));
        let names: Vec<_> = all.iter().map(|contender| contender.name).collect();
        anyhow::ensure!(known, "there is no {name}; there are {}", names.join(", "));
    }
    let wanted = |contender: &Contender| {
        only.is_empty() || only.iter().any(|name| contender.is_called(name))
    };
    let (present, absent): (Vec<_>, Vec<_>) =
        all.into_iter().filter(wanted).partition(Contender::is_installed);
    let missing = absent.iter().map(|contender| contender.name.to_owned()).collect();
    Ok((present.into_iter().map(|contender| (contender, Vec::new())).collect(), missing))
}
