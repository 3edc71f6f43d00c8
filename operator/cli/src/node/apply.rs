//! `registry-mirror node apply`: the agent's work on one host, without a cluster.

use std::{
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::bail;
use clap::Args;
use registry_mirror_agent::{Metrics, RestartPermission};
use registry_mirror_core::node_plan::{NodePlan, RestartBy};
use registry_mirror_core::status::node::{Effective, Facts, Verdict};
use registry_mirror_core::{bundle::Bundle, plan::files::NewlyRead, registry::RegistryName};
use serde::Serialize;

use super::{
    host::{Host, HostArgs},
    plan::node_bundle_of,
};
use crate::{
    exit::Exit,
    objects::{ObjectArgs, note, note_about},
    output::Format,
};

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
    /// The output's form.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Format,
}

/// What was done, as programs read it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Applied {
    registry_mirrors: Vec<Object>,
    /// Directories of registries that no object names any more.
    pruned: Vec<PathBuf>,
    /// containerd's configuration file, where it was changed.
    config_file: Option<PathBuf>,
    restarted: bool,
    /// The directory that containerd was seen to read.
    proved: Option<PathBuf>,
    notes: Vec<String>,
    /// Why it is not done, a sentence each; none where it is.
    errors: Vec<String>,
}

/// What became of one object.
#[derive(Debug, Serialize)]
struct Object {
    name: String,
    registry: String,
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Configured,
    Unchanged,
    Suspended,
    Failed,
}

impl Outcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
            Self::Suspended => "suspended",
            Self::Failed => "failed",
        }
    }
}

/// Does it and prints what was done.
///
/// # Errors
/// A sentence, where it could not be done; what was done until then is printed.
pub async fn run(args: ApplyArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    let ApplyArgs { host, objects, no_restart, output } = args;
    let bundle = node_bundle_of(&objects)?;
    let mut host = host.open().await?;
    let restart_by = if no_restart { RestartBy::Others } else { RestartBy::Operator };
    let before = host.plan(Some(&bundle), restart_by).await?.plan;
    let mut notes = turned_on(&before);
    notes.iter().for_each(|sentence| note(sentence));
    let metrics = Metrics::new();
    let facts = match &mut host {
        Host::Offline(offline) => offline.apply(&bundle),
        Host::Live(node) => {
            let permission = if no_restart { RestartPermission::FilesOnly } else { RestartPermission::Person };
            let mut facts = node.pass(&bundle, &permission, &metrics).await;
            for _ in 1..ATTEMPTS {
                if no_restart || facts.verdict != Verdict::RestartPending {
                    break;
                }
                facts = node.pass(&bundle, &permission, &metrics).await;
            }
            facts
        }
    };
    let restarted = metrics.restarts.get() > 0;
    let applied = Applied { restarted: restarted && facts.verdict.is_ready(), ..done(&bundle, &before, &facts) };
    let told = notes.len();
    notes.extend(remarks(&facts, no_restart));
    let applied = Applied { notes, errors: errors(&facts, no_restart), ..applied };
    output.write(&applied, out, |out| table(&applied, out))?;
    applied.notes.iter().skip(told).for_each(|sentence| note(sentence));
    if applied.errors.is_empty() {
        return Ok(Exit::Done);
    }
    bail!("{}", applied.errors.join("\n"))
}

fn done(bundle: &Bundle, before: &NodePlan, facts: &Facts) -> Applied {
    let mut applied = Applied::default();
    let steps = before.steps();
    let changed: BTreeSet<&str> = steps.iter().map(|step| step.directory.as_str()).collect();
    if is_in_place(&facts.verdict) {
        applied.registry_mirrors.extend(facts.registries.iter().map(|registry| {
            let directory = registry.registry.parse::<RegistryName>().map(|name| name.directory()).unwrap_or_default();
            let suspended = bundle.entries.iter().any(|entry| entry.object == registry.object && entry.suspend);
            let outcome = match (&registry.error, suspended, changed.contains(directory.as_str())) {
                (Some(_), ..) => Outcome::Failed,
                (None, true, _) => Outcome::Suspended,
                (None, false, true) => Outcome::Configured,
                (None, false, false) => Outcome::Unchanged,
            };
            Object { name: registry.object.clone(), registry: registry.registry.clone(), outcome }
        }));
        let wanted: BTreeSet<String> = bundle.entries.iter().map(|entry| entry.registry.directory()).collect();
        let unwanted = steps.iter().filter(|step| !wanted.contains(&step.directory));
        let unwanted: BTreeSet<&Path> = unwanted.filter_map(|step| step.path.parent()).collect();
        applied.pruned.extend(unwanted.into_iter().map(Path::to_owned));
        let edit = before.config.edit().filter(|_| !bundle.entries.is_empty());
        applied.config_file = edit.map(|edit| edit.file.clone());
    }
    if facts.effective == Effective::Yes {
        applied.proved = before.directory().map(Path::to_owned);
    }
    applied
}

/// As kubectl says it: each object, then the rest.
fn table(applied: &Applied, out: &mut dyn Write) -> std::io::Result<()> {
    let Applied { registry_mirrors, pruned, config_file, restarted, proved, notes: _, errors: _ } = applied;
    for Object { name, registry: _, outcome } in registry_mirrors {
        // Why it failed stands among the errors.
        if *outcome != Outcome::Failed {
            writeln!(out, "registrymirror.registry-mirror.dev/{name} {}", outcome.name())?;
        }
    }
    for directory in pruned {
        writeln!(out, "{} pruned", directory.display())?;
    }
    if let Some(file) = config_file {
        writeln!(out, "{} configured", file.display())?;
    }
    if *restarted {
        writeln!(out, "containerd restarted")?;
    }
    if let Some(directory) = proved {
        writeln!(out, "containerd reads {}: a proof pull came through", directory.display())?;
    }
    Ok(())
}

/// Whether the files stand, restart or not.
const fn is_in_place(verdict: &Verdict) -> bool {
    verdict.is_ready() || matches!(verdict, Verdict::RestartPending)
}

/// What containerd will read beside the files of the objects; said before it is done.
fn turned_on(before: &NodePlan) -> Vec<String> {
    let said = |NewlyRead { registry, path }: &NewlyRead| {
        format!("{} for {registry} is turned on, which no containerd has read so far", path.display())
    };
    before.newly_read.iter().map(said).collect()
}

fn remarks(facts: &Facts, no_restart: bool) -> Vec<String> {
    if !is_in_place(&facts.verdict) {
        return Vec::new();
    }
    let mut notes: Vec<String> = facts.conflicts.iter().map(|remark| remark.trim_end_matches('.').to_owned()).collect();
    for registry in &facts.registries {
        notes.extend(registry.notes.iter().map(|note| note_about(&registry.object, note)));
    }
    if let Verdict::Shared(who) = &facts.verdict {
        notes.push(who.trim_end_matches('.').to_owned());
    }
    if facts.verdict == Verdict::RestartPending && no_restart {
        notes.push("containerd reads the files from its next start on".to_owned());
    }
    notes
}

fn errors(facts: &Facts, no_restart: bool) -> Vec<String> {
    let mut errors = Vec::new();
    if is_in_place(&facts.verdict) {
        let failed = facts.registries.iter().filter_map(|facts| Some((&facts.object, facts.error.as_ref()?)));
        errors.extend(failed.map(|(object, error)| format!("RegistryMirror `{object}`: {error}")));
    }
    match &facts.verdict {
        Verdict::Ready | Verdict::Shared(_) => {}
        Verdict::RestartPending if no_restart => {}
        Verdict::RestartPending => errors.push(
            "containerd's configuration was changed by somebody else again and again: it was not restarted; run this \
             again when that has ended"
                .to_owned(),
        ),
        Verdict::Failed(_, why) | Verdict::Restored(why) => errors.push(why.clone()),
        Verdict::DryRun => errors.push("nothing was touched: the objects ask for a dry run".to_owned()),
    }
    errors
}
