//! Hosts as people have them: what stands on a node before the operator comes must go on working beside it, and be as
//! it was when it goes.

mod foreign;
mod places;

use std::{fs, process::Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::{Bed, Node, pins};

use crate::{
    daemon,
    traffic::{TAG, pull},
};

const OBJECT: &str = "/etc/registry-mirror-test/field.yaml";
const CERTS_D: &str = "/etc/containerd/certs.d";

/// One kind of host.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name in test output.
    pub name: &'static str,
    /// The release that it is tried on.
    pub containerd: &'static str,
    run: fn(&Bed, &Node) -> Result<()>,
}

const OLDEST: &str = pins::CONTAINERD_DEBIAN;
const NEWEST: &str = "2.4.2";

/// Every kind.
pub const FIELD: [Field; 5] = [
    Field { name: "a-file-that-was-never-read", containerd: OLDEST, run: foreign::never_read },
    Field { name: "a-directory-whose-parents-are-missing", containerd: NEWEST, run: places::missing_parents },
    Field { name: "a-configuration-that-is-a-link", containerd: NEWEST, run: places::linked_configuration },
    Field { name: "private-authorities-and-client-certificates", containerd: NEWEST, run: foreign::certificates },
    Field { name: "the-second-directory-of-a-list", containerd: NEWEST, run: foreign::second_root },
];

impl Field {
    /// Goes through it on a node with its containerd.
    ///
    /// # Errors
    /// At the first thing that is not as it must be.
    pub fn run(&self, bed: &Bed, node: &Node) -> Result<()> {
        (self.run)(bed, node)
    }
}

/// A configuration that every release reads, that pulls without the transfer service, with this `config_path`.
fn config(config_path: Option<&str>) -> String {
    let registry = config_path.map_or_else(String::new, |path| {
        format!("[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"{path}\"\n")
    });
    format!(
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\n  discard_unpacked_layers = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n  runtime_type = \
         \"io.containerd.runc.v2\"\n{registry}"
    )
}

/// An object for this registry with this mirror.
fn object(registry: &str, mirror: &str) -> String {
    let name = registry.replace([':', '_'], "-");
    let name = name.trim_matches('-');
    format!(
        "apiVersion: registry-mirror.dev/v1alpha1\nkind: RegistryMirror\nmetadata: {{name: {name}}}\nspec:\n  registry: \
         {registry}\n  mirrors: [{{url: '{mirror}'}}]\n  healthCheck: {{enabled: false}}\n"
    )
}

fn private_ca(bed: &Bed) -> Result<String> {
    fs::read_to_string(bed.private_ca()).context("the bed's private CA cannot be read")
}

fn plan(node: &Node, kind: &str) -> Result<Value> {
    let output = node.exec(["registry-mirror", "node", "plan", "-f", OBJECT, "-o", "json"])?;
    ensure!(output.status.code() == Some(3), "plan exits with {}: {}", output.status, said(&output));
    let plan: Value = serde_json::from_slice(&output.stdout).context("the plan is no JSON")?;
    ensure!(plan["kind"] == kind, "the plan is {} and not {kind}: {}", plan["kind"], plan["reason"]);
    Ok(plan)
}

fn apply(node: &Node, objects: &str) -> Result<String> {
    node.write(OBJECT, objects)?;
    let output = node.exec(["registry-mirror", "node", "apply", "-f", OBJECT])?;
    ensure!(output.status.success(), "apply exits with {}: {}", output.status, said(&output));
    ensure!(said(&output).contains("a proof pull came through"), "the proof is missing: {}", said(&output));
    daemon::ready(node)?;
    Ok(said(&output))
}

/// What stood there before is there again, and nothing else.
fn restore(node: &Node, before: &str) -> Result<()> {
    let output = node.exec(["registry-mirror", "node", "restore"])?;
    ensure!(output.status.success(), "restore exits with {}: {}", output.status, said(&output));
    let now = files(node)?;
    ensure!(now == before, "the files are not as before:\n{now}\n--- before:\n{before}");
    Ok(())
}

/// Every file and link that a scenario may have, with its mode and content.
fn files(node: &Node) -> Result<String> {
    node.sh(
        "find /etc/containerd /etc/docker /opt/node-config /cfg /var/lib/registry-mirror-operator ! -type d 2>/dev/null \
         | sort | while read -r file; do stat -c '%N %a %u' \"$file\"; sha256sum <\"$file\"; done",
    )
}

fn is_served(bed: &Bed, node: &Node, registry: &str, by: &str) -> Result<()> {
    let served = pull(bed, node, registry).with_context(|| format!("a pull of {registry}, tag {TAG}"))?;
    ensure!(served == by, "{registry} came from {served} and not from {by}");
    Ok(())
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}
