//! `make bench`, the part without a cluster: what the core's decisions cost, and one host's files.
//!
//! Every figure stands beside a baseline that is measured in turn with it, in the same process on the same input, so
//! that a busy or slow machine moves both.

mod clock;
mod compile;
mod config_toml;
mod hosts_toml;
mod node_apply;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use bench::Table;

fn main() -> ExitCode {
    match figures() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn figures() -> Result<()> {
    let binary = std::env::args_os().nth(1).map(PathBuf::from);
    let binary = binary.context("name the operator's binary: `make bench` does")?;
    let mut table = Table::default();
    config_toml::measure(&mut table)?;
    hosts_toml::measure(&mut table)?;
    compile::measure(&mut table)?;
    node_apply::measure(&mut table, &binary)?;
    println!("{}", table.text());
    println!(
        "Baselines: config.toml and hosts.toml: toml_edit reads the same text and prints it; compile: the same objects \
         as JSON, compressed; node apply: cp of the files that it writes."
    );
    Ok(())
}
