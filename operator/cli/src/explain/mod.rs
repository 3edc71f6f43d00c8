//! `registry-mirror explain`: whom containerd asks for an image, in which order, and which file says so.

mod node;
mod probe;
mod source;
mod table;

use std::{io::Write, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{ArgGroup, Args};
use registry_mirror_core::{
    containerd::Version,
    explain::{Explanation, ImageReference, explain},
};
use serde::Serialize;

use self::{probe::Probed, source::Source};
use crate::{exit::Exit, objects::ObjectArgs, output::Format};

/// What a file is read for where no release is named: the newest that is tested.
const NEWEST: Version = Version::new(2, 4, 2);

/// Shows whom containerd asks for an image, in which order, and which file says so.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").args(["files", "host_root", "node"]).required(true))]
pub struct ExplainArgs {
    /// The image as a pod names it, for example alpine:3.20.
    image: ImageReference,
    /// Reads the files of the host below this directory; / is this machine.
    #[arg(long, value_name = "DIR")]
    host_root: Option<PathBuf>,
    /// Runs on this node, in its agent's pod, by way of kubectl.
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// The kubeconfig's context, with --node.
    #[arg(long, requires = "node")]
    context: Option<String>,
    #[command(flatten)]
    objects: ObjectArgs,
    /// The containerd that reads the files. By default the one that runs on the host; with --filename the newest.
    #[arg(long, value_name = "VERSION")]
    containerd_version: Option<Version>,
    /// Asks each host, with the same TLS settings and headers.
    #[arg(long)]
    probe: bool,
    /// How long a host may take to answer, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=300))]
    probe_timeout: u64,
    /// The output's form.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Format,
}

/// The explanation, and what the hosts answered.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    #[serde(flatten)]
    explanation: Explanation,
    /// One for each attempt, in the same order.
    #[serde(skip_serializing_if = "Option::is_none")]
    answers: Option<Vec<Probed>>,
    /// The place in `order` of the host that would serve the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    served_by: Option<usize>,
}

/// Prints the explanation.
///
/// # Errors
/// Where the files cannot be read.
pub async fn run(args: &ExplainArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    let ExplainArgs { image, host_root, node, context, objects, containerd_version, probe, probe_timeout, output } =
        args;
    if let Some(node) = node {
        return node::run(
            &node::Remote { node, context: context.as_deref(), namespace: &objects.namespace },
            args,
            out,
        );
    }
    let source = match host_root {
        Some(root) => Source::host(root, *containerd_version, image).await?,
        None => Source::objects(objects, containerd_version.unwrap_or(NEWEST), image)?,
    };
    let mut explanation = explain(image, source.version, &source.configured);
    explanation.warnings.extend(source.warnings(&explanation));

    let mut report = Report { explanation, answers: None, served_by: None };
    if *probe {
        let trust = source.trust().context("the host's trusted certificates could not be read")?;
        let mut answers = Vec::with_capacity(report.explanation.attempts.len());
        for attempt in &report.explanation.attempts {
            answers.push(probe::ask(attempt, image, &source, &trust, Duration::from_secs(*probe_timeout)).await);
        }
        report.served_by =
            report.explanation.attempts.iter().zip(&answers).find_map(|(attempt, answer)| match attempt.order {
                Some(order) if answer.serves => Some(order),
                _ => None,
            });
        report.answers = Some(answers);
    }
    output.write(&report, out, |out| table::write(&report, out))?;
    Ok(if *probe && report.served_by.is_none() { Exit::Failed } else { Exit::Done })
}

#[cfg(test)]
mod tests;
