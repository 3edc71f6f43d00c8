//! `registry-mirror node apply`: the agent's work on one host, without a cluster.

use std::{collections::BTreeSet, io::Write};

use anyhow::bail;
use clap::Args;
use registry_mirror_agent::{Effective, Facts, Leave, Metrics, Verdict, node::Preview};
use registry_mirror_core::{bundle::Bundle, registry::RegistryName};

use super::{
    host::{Host, HostArgs},
    plan::slice_of,
};
use crate::{exit::Exit, objects::ObjectArgs};

/// Passes until the files hold still; somebody else may edit them at the same moment.
const ATTEMPTS: usize = 3;

/// Makes a host's containerd use the mirrors. The files are all that is wanted: what an earlier run wrote for other
/// objects is removed.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    host: HostArgs,
    #[command(flatten)]
    objects: ObjectArgs,
    /// Leave the files as they must stand before containerd's next start, and let somebody else start it.
    #[arg(long)]
    no_restart: bool,
}

/// Does it and prints what was done.
///
/// # Errors
/// A sentence, where it could not be done; what was done until then is printed.
pub async fn run(args: ApplyArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    let ApplyArgs { host, objects, no_restart } = args;
    let slice = slice_of(&objects)?;
    let mut host = host.open().await?;
    let before = host.preview(Some(&slice)).await?;
    let metrics = Metrics::new();
    let facts = match &mut host {
        Host::Offline(offline) => offline.apply(&slice),
        Host::Live(node) => {
            let leave = if no_restart { Leave::FilesOnly } else { Leave::Person };
            let mut facts = node.pass(&slice, &leave, &metrics).await;
            for _ in 1..ATTEMPTS {
                if no_restart || facts.verdict != Verdict::RestartPending {
                    break;
                }
                facts = node.pass(&slice, &leave, &metrics).await;
            }
            facts
        }
    };
    say(&slice, &before, &facts, metrics.restarts.get() > 0, out)?;
    conclude(&facts, no_restart)
}

/// As kubectl says it: each object, then the rest.
fn say(slice: &Bundle, before: &Preview, facts: &Facts, restarted: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let changed: BTreeSet<&str> = before.steps.iter().map(|step| step.directory.as_str()).collect();
    if is_in_place(&facts.verdict) {
        for registry in facts.registries.iter().filter(|facts| facts.error.is_none()) {
            let directory = registry.registry.parse::<RegistryName>().map(|name| name.directory()).unwrap_or_default();
            let suspended = slice.entries.iter().any(|entry| entry.object == registry.object && entry.suspend);
            let what = match (suspended, changed.contains(directory.as_str())) {
                (true, _) => "suspended",
                (false, true) => "configured",
                (false, false) => "unchanged",
            };
            writeln!(out, "registrymirror.registry-mirror.dev/{} {what}", registry.object)?;
        }
        let wanted: BTreeSet<String> = slice.entries.iter().map(|entry| entry.registry.directory()).collect();
        for directory in changed.iter().filter(|name| !wanted.contains(**name)) {
            if let Some(certs_d) = &before.directory {
                writeln!(out, "{} pruned", certs_d.join(directory).display())?;
            }
        }
        if let Some(edit) = before.plan.edit().filter(|_| !slice.entries.is_empty()) {
            writeln!(out, "{} configured", edit.file.display())?;
        }
    }
    if restarted && facts.verdict == Verdict::Ready {
        writeln!(out, "containerd restarted")?;
    }
    if let (Effective::Yes, Some(directory)) = (&facts.effective, &before.directory) {
        writeln!(out, "containerd reads {}: a proof pull came through", directory.display())?;
    }
    Ok(())
}

/// Whether the files stand, restart or not.
const fn is_in_place(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Ready | Verdict::RestartPending)
}

fn conclude(facts: &Facts, no_restart: bool) -> anyhow::Result<Exit> {
    let mut complaints: Vec<String> = Vec::new();
    if is_in_place(&facts.verdict) {
        let errors = facts.registries.iter().filter_map(|facts| Some((&facts.object, facts.error.as_ref()?)));
        complaints.extend(errors.map(|(object, error)| format!("RegistryMirror `{object}`: {error}")));
        for remark in facts.conflicts.iter().chain(&facts.credentials_unusable) {
            crate::objects::note(remark.trim_end_matches('.'));
        }
    }
    match &facts.verdict {
        Verdict::Ready => {}
        Verdict::RestartPending if no_restart => {
            crate::objects::note("containerd reads the files from its next start on");
        }
        Verdict::RestartPending => complaints.push(
            "containerd's configuration was changed by somebody else again and again: it was not restarted; run this \
             again when that has ended"
                .to_owned(),
        ),
        Verdict::RestartFailed(why)
        | Verdict::Unsupported(why)
        | Verdict::ConfigBroken(why)
        | Verdict::ApplyFailed(why)
        | Verdict::ProofFailed(why)
        | Verdict::ObserveFailed(why)
        | Verdict::BundleUnknown(why)
        | Verdict::Restored(why) => complaints.push(why.clone()),
        Verdict::DryRun => complaints.push("nothing was touched: the objects ask for a dry run".to_owned()),
    }
    if complaints.is_empty() {
        return Ok(Exit::Done);
    }
    bail!("{}", complaints.join("\n"))
}
