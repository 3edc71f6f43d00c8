//! One containerd with one configuration, from before the operator to after it.

use std::{fs, process::Output};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use testbed::{Bed, Node, pins};

use crate::{daemon, dump::Dump, start::Start, traffic::pull, users};

const OBJECT: &str = "/etc/registry-mirror-test/docker-hub.yaml";
const STATE: &str = "/var/lib/registry-mirror-operator";

/// docker.io is to come from `mirror`; nothing is said about quay.io.
const DOCKER_HUB: &str = "\
apiVersion: registry-mirror.dev/v1alpha1
kind: RegistryMirror
metadata: {name: docker-hub}
spec:
  registry: docker.io
  mirrors:
  - url: http://10.88.0.1:5000
";

/// One cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// The release.
    pub containerd: &'static str,
    /// What it starts from.
    pub start: Start,
}

/// The releases, oldest first.
pub const MATRIX: [&str; 7] = {
    let [a, b, c, d, e, f] = pins::CONTAINERD_BUILT;
    [pins::CONTAINERD_DEBIAN, a, b, c, d, e, f]
};

/// Each release and each configuration at least once, where they are most unlike each other.
#[must_use]
pub fn covering() -> Vec<Cell> {
    let [v1_6, v1_7, v2_0, v2_1, v2_2, v2_3, v2_4] = MATRIX;
    [
        (v1_6, Start::Legacy),
        (v1_6, Start::NodeUser),
        (v1_7, Start::DropIns),
        (v2_0, Start::None),
        (v2_1, Start::ColonList),
        (v2_2, Start::Kind),
        (v2_2, Start::NativeVersion2),
        (v2_3, Start::Gpu),
        (v2_4, Start::Default),
        (v2_4, Start::Legacy),
        (v2_4, Start::Native),
        (v2_4, Start::NativeVersion2),
        (v2_4, Start::NodeUser),
    ]
    .map(|(containerd, start)| Cell { containerd, start })
    .to_vec()
}

impl Cell {
    /// Its name in test output.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.containerd, self.start.name())
    }
}

/// Goes through it on a node with that containerd, which a cell before this one may have used.
///
/// # Errors
/// At the first thing that is not as it must be.
pub fn run(cell: Cell, bed: &Bed, node: &Node) -> Result<()> {
    let Cell { containerd, start } = cell;
    let private_ca = fs::read_to_string(bed.private_ca()).context("the bed's private CA cannot be read")?;
    let files = start.files(node, &private_ca)?;
    daemon::begin(node, &files)?;
    node.write(OBJECT, DOCKER_HUB)?;
    let before = Before {
        tree: tree(node)?,
        dump: Dump::read(node)?,
        docker: pull(bed, node, "docker.io")?,
        quay: pull(bed, node, "quay.io")?,
    };
    ensure!(before.docker == start.serves(containerd, "docker.io"), "docker.io came from {} at first", before.docker);
    ensure!(before.quay == start.serves(containerd, "quay.io"), "quay.io came from {} at first", before.quay);

    if start == Start::NodeUser {
        users::each_pulls_as_itself(node).context("at first")?;
    }

    let kind = planned(node, start.expected(containerd))?;
    apply(bed, node, &before, kind).context("apply")?;
    if start == Start::NodeUser {
        users::each_pulls_as_itself(node).context("after apply")?;
    }
    apply_again(node).context("apply again")?;
    restore(bed, node, &before, kind).context("restore")
}

/// How it was.
struct Before {
    tree: String,
    dump: Dump,
    docker: &'static str,
    quay: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Adopt,
    Patch,
    Migrate,
}

fn planned(node: &Node, expected: &str) -> Result<Kind> {
    let before = tree(node)?;
    let output = node.exec(["registry-mirror", "node", "plan", "-f", OBJECT, "-o", "json"])?;
    ensure!(output.status.code() == Some(3), "plan exits with {}: {}", output.status, said(&output));
    let plan: Value = serde_json::from_slice(&output.stdout).context("the plan is no JSON")?;
    let kind = plan["kind"].as_str().unwrap_or_default();
    ensure!(kind == expected, "the plan is {kind} and not {expected}: {}", plan["reason"]);
    ensure!(tree(node)? == before, "plan has changed a file");
    let kind = match kind {
        "Adopt" => Kind::Adopt,
        "Patch" => Kind::Patch,
        "Migrate" => Kind::Migrate,
        other => bail!("the plan {other} is not one of this matrix"),
    };
    ensure!(plan["restart"] == Value::Bool(kind != Kind::Adopt), "the plan says restart: {}", plan["restart"]);
    Ok(kind)
}

fn apply(bed: &Bed, node: &Node, before: &Before, kind: Kind) -> Result<()> {
    let starts = daemon::starts(node)?;
    let run = daemon::run(node)?;
    let output = node.exec(["registry-mirror", "node", "apply", "-f", OBJECT])?;
    ensure!(output.status.success(), "it exits with {}: {}", output.status, said(&output));
    ensure!(said(&output).contains("a proof pull came through"), "the proof is missing: {}", said(&output));
    let restarts = daemon::starts(node)? - starts;
    ensure!(restarts == usize::from(kind != Kind::Adopt), "containerd was restarted {restarts} times");
    ensure!((daemon::run(node)? != run) == (kind != Kind::Adopt), "systemd tells of another run than it should");
    daemon::ready(node)?;
    before.dump.same_but_for_registry(&Dump::read(node)?)?;
    let docker = pull(bed, node, "docker.io")?;
    ensure!(docker == "mirror", "docker.io came from {docker} and not from the mirror");
    let quay = pull(bed, node, "quay.io")?;
    ensure!(quay == before.quay, "quay.io, which nobody asked for, came from {quay} and not from {}", before.quay);
    Ok(())
}

fn apply_again(node: &Node) -> Result<()> {
    let (files, run) = (tree(node)?, daemon::run(node)?);
    let output = node.exec(["registry-mirror", "node", "apply", "-f", OBJECT])?;
    ensure!(output.status.success(), "it exits with {}: {}", output.status, said(&output));
    ensure!(said(&output).contains("docker-hub unchanged"), "it says: {}", said(&output));
    ensure!(tree(node)? == files, "a file has changed");
    ensure!(daemon::run(node)? == run, "containerd was restarted");
    let plan = node.exec(["registry-mirror", "node", "plan", "-f", OBJECT])?;
    ensure!(plan.status.success(), "plan finds changes: {}", said(&plan));
    Ok(())
}

fn restore(bed: &Bed, node: &Node, before: &Before, kind: Kind) -> Result<()> {
    let run = daemon::run(node)?;
    let output = node.exec(["registry-mirror", "node", "restore"])?;
    ensure!(output.status.success(), "it exits with {}: {}", output.status, said(&output));
    ensure!(daemon::run(node)? == run, "containerd was restarted");
    if kind != Kind::Migrate {
        is_as_before(node, before)?;
    }
    pulls_as_before(bed, node, before).context("at once")?;
    daemon::restart(node)?;
    pulls_as_before(bed, node, before).context("after the next start")?;
    if kind == Kind::Migrate {
        let output = node.exec(["registry-mirror", "node", "restore", "--exact"])?;
        ensure!(output.status.success(), "--exact exits with {}: {}", output.status, said(&output));
        ensure!(said(&output).contains("must be restarted"), "--exact does not name the restart: {}", said(&output));
        is_as_before(node, before)?;
        daemon::restart(node)?;
        pulls_as_before(bed, node, before).context("after --exact and a restart")?;
    }
    Ok(())
}

fn pulls_as_before(bed: &Bed, node: &Node, before: &Before) -> Result<()> {
    daemon::ready(node)?;
    for (registry, served) in [("docker.io", before.docker), ("quay.io", before.quay)] {
        let now = pull(bed, node, registry)?;
        ensure!(now == served, "{registry} comes from {now} and not from {served} as before");
    }
    Ok(())
}

fn is_as_before(node: &Node, before: &Before) -> Result<()> {
    let now = tree(node)?;
    ensure!(now == before.tree, "the files are not as before:\n{}\n--- before:\n{}", now, before.tree);
    ensure!(!node.exists(STATE), "{STATE} is still there");
    let units = node.sh("find /etc/systemd/system /run/systemd/system -name 'registry-mirror*'")?;
    ensure!(units.is_empty(), "units are left: {units}");
    Ok(())
}

/// Every file of containerd's configuration with its mode and a hash of its content.
fn tree(node: &Node) -> Result<String> {
    node.sh("find /etc/containerd -type f -exec stat -c '%n %a %u' {} + -exec sha256sum {} + | sort")
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_covering_subset_covers() {
        let cells = covering();
        assert!(MATRIX.iter().all(|containerd| cells.iter().any(|cell| cell.containerd == *containerd)));
        assert!(Start::ALL.iter().all(|start| cells.iter().any(|cell| cell.start == *start)));
    }
}
