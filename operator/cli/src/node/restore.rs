//! `registry-mirror node restore`: a host as it was before.

use std::{io::Write, path::PathBuf};

use anyhow::bail;
use clap::Args;
use registry_mirror_agent::{
    Metrics,
    node::{Depth, Restored},
};
use serde::Serialize;

use super::host::HostArgs;
use crate::{exit::Exit, objects::note, output::Format};

/// Puts a host back as it was before. The running containerd goes on pulling at least as well as then, and is not
/// restarted.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Where the host's / is.
    #[arg(long, value_name = "DIR", default_value = "/")]
    host_root: PathBuf,
    /// Put back every byte at once, also what the running containerd depends on; says whether it must be restarted.
    #[arg(long)]
    exact: bool,
    /// The output's form.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Format,
}

/// What was put back, as programs read it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    done: Vec<String>,
    /// What stays, and why.
    stays: Vec<String>,
    /// What a person must do.
    by_hand: Vec<String>,
    /// Files that other nodes still need.
    shared: Vec<String>,
    /// Why containerd must be restarted; `null` where it need not be.
    restart_due: Option<String>,
}

/// Does it and prints what was done.
///
/// # Errors
/// A sentence, where something must be done by hand or could not be done.
pub async fn run(args: RestoreArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    let RestoreArgs { host_root, exact, output } = args;
    let mut node = HostArgs::files(&host_root)?;
    let depth = if exact { Depth::Exact } else { Depth::Safe };
    let Restored { done, stays, by_hand, shared, restart_due } =
        node.restore(depth, &Metrics::new()).await.map_err(anyhow::Error::msg)?;
    let report = Report { done, stays, by_hand, shared, restart_due };
    output.write(&report, out, |out| table(&report, exact, out))?;
    let Report { done: _, stays, by_hand, shared, restart_due } = report;
    stays.iter().chain(&shared).chain(&restart_due).for_each(|sentence| note(sentence));
    if by_hand.is_empty() {
        return Ok(Exit::Done);
    }
    bail!("{}", by_hand.join("\n"))
}

fn table(report: &Report, exact: bool, out: &mut dyn Write) -> std::io::Result<()> {
    let Report { done, stays, by_hand, shared, restart_due } = report;
    for what in done {
        writeln!(out, "{what}")?;
    }
    if done.is_empty() && stays.is_empty() && by_hand.is_empty() && shared.is_empty() {
        writeln!(out, "nothing to put back")?;
    }
    if restart_due.is_none() && exact && !done.is_empty() {
        writeln!(out, "no restart of containerd is due")?;
    }
    Ok(())
}
