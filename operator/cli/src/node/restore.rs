//! `registry-mirror node restore`: a host as it was before.

use std::{io::Write, path::PathBuf};

use anyhow::bail;
use clap::Args;
use registry_mirror_agent::{
    Metrics,
    node::{Depth, Restored},
};

use super::host::HostArgs;
use crate::{exit::Exit, objects::note};

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
}

/// Does it and prints what was done.
///
/// # Errors
/// A sentence, where something must be done by hand or could not be done.
pub async fn run(args: RestoreArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    let RestoreArgs { host_root, exact } = args;
    let mut node = HostArgs::files(&host_root)?;
    let depth = if exact { Depth::Exact } else { Depth::Safe };
    let Restored { done, stays, by_hand, restart_due } =
        node.restore(depth, &Metrics::new()).await.map_err(anyhow::Error::msg)?;
    for what in &done {
        writeln!(out, "{what}")?;
    }
    if done.is_empty() && stays.is_empty() && by_hand.is_empty() {
        writeln!(out, "nothing to put back")?;
    }
    for what in &stays {
        note(what);
    }
    match &restart_due {
        Some(why) => note(why),
        None if exact && !done.is_empty() => writeln!(out, "no restart of containerd is due")?,
        None => {}
    }
    if by_hand.is_empty() {
        return Ok(Exit::Done);
    }
    bail!("{}", by_hand.join("\n"))
}
