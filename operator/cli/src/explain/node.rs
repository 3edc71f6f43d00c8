//! The same command on a node, in its agent's pod.
//!
//! By way of kubectl: it speaks every cluster's way of logging in and both protocols of `exec`, and who explains a node
//! has it.

use std::{
    io::{ErrorKind, Write},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, bail};
use clap::ValueEnum;

use super::ExplainArgs;
use crate::exit::Exit;

/// The labels of the chart's DaemonSet.
const AGENTS: &str = "app.kubernetes.io/name=registry-mirror-operator,app.kubernetes.io/component=agent";

/// Which node.
pub struct Remote<'a> {
    /// Its name.
    pub node: &'a str,
    /// The kubeconfig's context.
    pub context: Option<&'a str>,
    /// The operator's namespace.
    pub namespace: &'a str,
}

/// Runs the command there; its result goes to `out`.
pub fn run(remote: &Remote<'_>, args: &ExplainArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    let Remote { node, context, namespace } = remote;
    let kubectl = |arguments: &[&str]| -> anyhow::Result<Output> {
        let mut command = Command::new("kubectl");
        if let Some(context) = context {
            command.args(["--context", context]);
        }
        command.args(["--namespace", namespace]).args(arguments).stdin(Stdio::null());
        command.output().map_err(|error| match error.kind() {
            ErrorKind::NotFound => anyhow::anyhow!("kubectl is needed for --node and is not in PATH"),
            _ => anyhow::Error::new(error).context("kubectl could not be run"),
        })
    };
    let selector = format!("spec.nodeName={node},status.phase=Running");
    let found = kubectl(&["get", "pods", "-l", AGENTS, "--field-selector", &selector, "-o", "name"])?;
    if !found.status.success() {
        bail!("kubectl could not look for the agent of node {node}: {}", said(&found));
    }
    let pods = String::from_utf8_lossy(&found.stdout).into_owned();
    let Some(pod) = pods.lines().next() else {
        bail!(
            "no agent runs on node {node}: see `kubectl get nodes` and `kubectl -n {namespace} get pods -o wide -l \
             {AGENTS}`"
        );
    };
    let image = args.image.to_string();
    let timeout = args.probe_timeout.to_string();
    let format = args.output.to_possible_value().context("the output's form has a name")?;
    let mut arguments = vec!["exec", pod, "-c", "agent", "--", "/registry-mirror", "explain", &image];
    arguments.extend(["--host-root", "/host", "--probe-timeout", &timeout, "--output", format.get_name()]);
    if args.probe {
        arguments.push("--probe");
    }
    let version = args.containerd_version.map(|version| version.to_string());
    if let Some(version) = &version {
        arguments.extend(["--containerd-version", version]);
    }
    let output = kubectl(&arguments)?;
    out.write_all(&output.stdout)?;
    match output.status.code() {
        Some(0) => Ok(Exit::Done),
        // Nobody serves the image: the command says so in its result.
        Some(1) if args.probe && !output.stdout.is_empty() => Ok(Exit::Failed),
        _ => bail!("on node {node}: {}", said(&output)),
    }
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    cause(&text).map_or_else(|| format!("kubectl ended with {}", output.status), str::to_owned)
}

/// The last line is the error, what stands before are log lines; but kubectl adds the exit code of a command that it ran
/// in a pod.
fn cause(stderr: &str) -> Option<&str> {
    let mut lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.rfind(|line| !line.starts_with("command terminated with exit code"))?;
    // Our own error says so again.
    Some(line.strip_prefix("error: ").unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_what_the_command_in_the_pod_said() {
        let said =
            "WARN a log line\nerror: the containerd of /host could not be asked\ncommand terminated with exit code 1\n";
        assert_eq!(cause(said), Some("the containerd of /host could not be asked"));
        assert_eq!(cause("command terminated with exit code 137\n"), None);
        assert_eq!(cause(""), None);
    }
}
