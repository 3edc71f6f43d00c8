//! `registry-mirror node plan`: what a host needs, and why. Nothing is touched.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::bail;
use clap::Args;
use registry_mirror_agent::node::HostPlan;
use registry_mirror_core::{
    bundle::Bundle,
    node_bundle::node_bundle,
    node_plan::{NodePlan, RestartBy},
    plan::{ProxyPlan, files::NewlyRead, proxy::DropInChange},
};
use registry_mirror_crds::PlanChange;
use serde::Serialize;
use tabwriter::TabWriter;

use super::{
    diff::{Secrets, diff},
    host::HostArgs,
};
use crate::{
    exit::Exit,
    objects::{ObjectArgs, note, note_passed_over},
    output::Format,
};

/// Shows what a host needs; without FILE, what its containerd's configuration needs. Exits with 3 where something would
/// change, with 0 where nothing would.
#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    host: HostArgs,
    #[command(flatten)]
    objects: ObjectArgs,
    /// The output's form.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Format,
    /// Show the values of credentials in the diff; for root on the host itself.
    #[arg(long)]
    show_secrets: bool,
}

/// The plan as programs read it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Plan {
    kind: &'static str,
    restart: bool,
    reason: String,
    config_file: String,
    directory: Option<PathBuf>,
    changes: Vec<Change>,
    registries: Vec<Registry>,
    files: Vec<File>,
    /// Absent where the plan brings no file of others into force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    newly_read: Vec<TurnedOn>,
    /// Absent where nothing is to be done about containerd's forward proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<Proxy>,
}

/// What is to be done about containerd's forward proxy, as the cluster asked for it last.
#[derive(Debug, Serialize)]
struct Proxy {
    action: &'static str,
    restart: bool,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
}

/// A key that changes; `null` where it is absent.
#[derive(Debug, Serialize)]
struct Change {
    file: String,
    key: String,
    from: Option<String>,
    to: Option<String>,
}

/// A registry that an object names.
#[derive(Debug, Serialize)]
struct Registry {
    registry: String,
    object: String,
    mirrors: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A file in the directory that would change.
#[derive(Debug, Serialize)]
struct File {
    action: &'static str,
    path: PathBuf,
}

/// A file of somebody else that no containerd has read so far.
#[derive(Debug, Serialize)]
struct TurnedOn {
    registry: String,
    path: PathBuf,
}

/// Prints the plan.
///
/// # Errors
/// For what cannot be read.
pub async fn run(args: PlanArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    let PlanArgs { host: which, objects, output, show_secrets } = args;
    let secrets = match show_secrets {
        false => Secrets::Hidden,
        true if output == Format::Table && which.is_here() && is_root() => Secrets::Shown,
        true => bail!("--show-secrets is for root on the host itself, with the output `table`"),
    };
    let mine = if objects.files.is_empty() { None } else { Some(node_bundle_of(&objects)?) };
    let mut host = which.open().await?;
    let host = host.plan(mine.as_ref(), RestartBy::Operator).await?;
    output.write(&as_data(&host), out, |out| table(&host, secrets, out))?;
    Ok(if has_changes(&host.plan) { Exit::ChangesFound } else { Exit::Done })
}

/// The objects that are for a node with these labels; the others are named on stderr.
pub fn node_bundle_of(objects: &ObjectArgs) -> anyhow::Result<Bundle> {
    let bundle = objects.bundle()?;
    let labels = objects.labels();
    note_passed_over(&bundle, &labels);
    Ok(node_bundle(&bundle, &labels))
}

fn is_root() -> bool {
    registry_mirror_host::certs_d::writer_uid() == 0
}

fn has_changes(plan: &NodePlan) -> bool {
    plan.restarts() || !plan.steps().is_empty() || plan.proxy.change().is_some()
}

fn as_data(host: &HostPlan) -> Plan {
    let HostPlan { containerd, plan } = host;
    let facts = plan.facts();
    let registries = plan.registries.iter().map(|facts| Registry {
        registry: facts.registry.clone(),
        object: facts.object.clone(),
        mirrors: facts.mirrors.iter().map(|mirror| mirror.url.clone()).collect(),
        error: facts.error.clone(),
    });
    Plan {
        kind: facts.kind.name(),
        restart: facts.restart,
        reason: facts.reason,
        config_file: containerd.facts.config_file.clone(),
        directory: plan.directory().map(Path::to_owned),
        changes: facts.changes.into_iter().map(change).collect(),
        registries: registries.collect(),
        newly_read: plan.newly_read.iter().map(turned_on).collect(),
        proxy: proxy(&plan.proxy),
        files: plan.steps().into_iter().map(|step| File { action: step.what.verb(), path: step.path }).collect(),
    }
}

fn proxy(plan: &ProxyPlan) -> Option<Proxy> {
    let action = match plan {
        ProxyPlan::Nothing { .. } => return None,
        ProxyPlan::Change(DropInChange { after: Some(_), .. }) => "write",
        ProxyPlan::Change(DropInChange { after: None, .. }) => "remove",
        ProxyPlan::Restart { .. } => "restart",
        ProxyPlan::Unsupported { .. } | ProxyPlan::HeldBack { .. } => "none",
    };
    Some(Proxy {
        action,
        restart: plan.needs_restart(),
        reason: plan.reason().unwrap_or_default().to_owned(),
        file: plan.change().map(|change| change.file.clone()),
    })
}

fn turned_on(NewlyRead { registry, path }: &NewlyRead) -> TurnedOn {
    TurnedOn { registry: registry.to_string(), path: path.clone() }
}

fn change(PlanChange { file, key, from, to }: PlanChange) -> Change {
    Change { file, key, from, to }
}

fn table(host: &HostPlan, secrets: Secrets, out: &mut dyn Write) -> std::io::Result<()> {
    let HostPlan { containerd, plan } = host;
    let NodePlan { config, registries, proxy, newly_read, .. } = plan;
    let (containerd, steps) = (&containerd.facts, plan.steps());
    let mut rows = TabWriter::new(Vec::new()).padding(3);
    let restart = if plan.restarts() { "yes, once" } else { "no" };
    writeln!(rows, "PLAN\t{}", config.kind())?;
    writeln!(rows, "REASON\t{}", config.reason())?;
    writeln!(rows, "CONTAINERD\t{}, {} ({})", containerd.version, containerd.distribution, containerd.evidence)?;
    writeln!(rows, "CONFIG FILE\t{}", containerd.config_file)?;
    if let Some(directory) = plan.directory() {
        writeln!(rows, "DIRECTORY\t{}", directory.display())?;
    }
    if let Some(reason) = proxy.reason() {
        writeln!(rows, "PROXY\t{reason}")?;
    }
    writeln!(rows, "RESTART\t{restart}")?;
    for NewlyRead { registry, path } in newly_read {
        writeln!(rows, "TURNS ON\t{} for {registry}, which no containerd has read so far", path.display())?;
    }
    out.write_all(&rows.into_inner().map_err(|error| std::io::Error::other(error.to_string()))?)?;
    if let Some(edit) = config.edit().filter(|_| plan.restart.config) {
        write!(out, "\n{}", diff(edit, secrets))?;
    }
    if !steps.is_empty() || proxy.change().is_some() {
        writeln!(out)?;
    }
    if let Some(DropInChange { file, after, .. }) = proxy.change() {
        writeln!(out, "{} {}", if after.is_some() { "write" } else { "remove" }, file.display())?;
    }
    for step in &steps {
        writeln!(out, "{}", step.words())?;
    }
    let errors = registries.iter().filter_map(|facts| Some((&facts.object, facts.error.as_ref()?)));
    if plan.directory().is_some() {
        for (object, error) in errors {
            note(&format!("RegistryMirror `{object}`: {error}"));
        }
    }
    for remark in plan.remarks() {
        note(remark.trim_end_matches('.'));
    }
    Ok(())
}
