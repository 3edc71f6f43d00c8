//! A bed with the operator on it, and what a test asks of both.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use serde_json::Value;
use testbed::{Access, Bed, Builder, Cache, Node};

use crate::{
    Witness,
    install::{NAMESPACE, Values},
    objects::RegistryMirror,
    pristine::Pristine,
    product::Product,
    status::{Condition, condition},
    until,
};

/// containerd's configuration file on every node of the bed.
pub const CONFIG_TOML: &str = "/etc/containerd/config.toml";
/// The directory that the operator is to set and fill.
pub const CERTS_D: &str = "/etc/containerd/certs.d";

/// The directory that a node's containerd reads.
#[must_use]
pub fn certs_d(node: &Node) -> String {
    if node.spec().is_k3s() {
        format!("{}/agent/etc/containerd/certs.d", testbed::k3s::DATA)
    } else {
        CERTS_D.to_owned()
    }
}

/// Whether the bed stays after the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// It goes with the program.
    Program,
    /// It stays, and one that is up is used again.
    Kept,
}

/// A running bed with the operator's image in its registry.
pub struct Cluster {
    bed: Bed,
    product: Product,
    pub(crate) image: (String, String),
    pub(crate) helm: PathBuf,
    pub(crate) installed: Mutex<Option<Values>>,
    pristine: Vec<Pristine>,
}

impl Cluster {
    /// Boots the bed of that name (or `E2E_BED`) with [`testbed::default_nodes`], or finds it running where it is to be kept.
    ///
    /// # Errors
    /// When the bed does not come up.
    pub fn up(name: &str, product: Product, lifetime: Lifetime) -> Result<Self> {
        let other = std::env::var("E2E_BED").ok();
        let name = other.as_deref().unwrap_or(name);
        Self::up_with(name, |bed| bed.nodes(testbed::default_nodes()), product, lifetime)
    }

    /// The same with the nodes and registries of `describe`.
    ///
    /// # Errors
    /// When the bed does not come up.
    pub fn up_with(
        name: &str,
        describe: impl FnOnce(Builder) -> Builder,
        product: Product,
        lifetime: Lifetime,
    ) -> Result<Self> {
        let running = || Bed::attach(name).ok().filter(|bed| bed.health().is_ok_and(|health| health.is_good()));
        let reused = if lifetime == Lifetime::Kept { running() } else { None };
        let bed = match reused {
            Some(bed) => bed,
            None => {
                testbed::install()?;
                let mut bed = describe(Bed::builder(name)).up()?;
                if lifetime == Lifetime::Kept {
                    bed.keep();
                }
                bed
            }
        };
        let image = product.push(&bed)?;
        let helm = testbed::helm(&Cache::locate()?)?.join("helm");
        let ordinary = bed.nodes().iter().filter(|node| !node.spec().is_k3s());
        let pristine = ordinary.map(Pristine::of).collect::<Result<_>>()?;
        Ok(Self { bed, product, image, helm, installed: Mutex::new(None), pristine })
    }

    /// The bed.
    #[must_use]
    pub fn bed(&self) -> &Bed {
        &self.bed
    }

    /// The binary under test.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.product.binary
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        self.bed.nodes()
    }

    /// The node of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.bed.node(name)
    }

    /// Takes the bed down and reports what could not be removed.
    ///
    /// # Errors
    /// Names what is left.
    pub fn down(self) -> Result<()> {
        self.bed.down()
    }

    // ---- a known state to begin with ----

    /// Everything of the operator removed and every node as it was before, then the operator installed.
    ///
    /// # Errors
    /// When a node cannot be put back, or helm fails.
    pub fn fresh(&self, values: &Values) -> Result<()> {
        self.clean()?;
        self.install(values)
    }

    /// As [`Cluster::fresh`], unless the operator has been installed with these values and nothing else since.
    ///
    /// # Errors
    /// As [`Cluster::fresh`].
    pub fn installed(&self, values: &Values) -> Result<()> {
        if self.installed_values().as_ref() == Some(values) { Ok(()) } else { self.fresh(values) }
    }

    /// Everything of the operator removed and every node as it was before.
    ///
    /// # Errors
    /// When that fails; the message says where.
    pub fn clean(&self) -> Result<()> {
        self.uninstall()?;
        for (node, pristine) in self.nodes().iter().zip(&self.pristine) {
            pristine.restore(node).with_context(|| format!("{} cannot be put back", node.name()))?;
        }
        Ok(())
    }

    /// The operator installed with the default values, docker.io through the first mirror on both nodes, nothing else.
    ///
    /// # Errors
    /// When it does not become so.
    pub fn settled(&self) -> Result<()> {
        self.installed(&Values::default())?;
        let hub = RegistryMirror::docker_hub();
        let list = self.bed.kubectl_json(["get", "registrymirrors"])?;
        for item in list["items"].as_array().into_iter().flatten() {
            match item["metadata"]["name"].as_str() {
                Some(name) if name != hub.name => self.delete("registrymirror", name)?,
                _ => {}
            }
        }
        self.apply(&hub)?;
        self.programmed(&hub.name, "2/2", Duration::from_secs(90))
    }

    // ---- objects ----

    /// Applies a RegistryMirror.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn apply(&self, mirror: &RegistryMirror) -> Result<()> {
        self.bed.apply(&mirror.manifest()).map(|_| ())
    }

    /// Deletes an object and waits until it is gone.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn delete(&self, kind: &str, name: &str) -> Result<()> {
        self.bed.kubectl(["delete", kind, name, "--ignore-not-found", "--timeout=60s"]).map(|_| ())
    }

    /// Waits until `kubectl get registrymirror` shows that many nodes, for example `2/2`.
    ///
    /// # Errors
    /// After `limit`; the message holds what is shown instead.
    pub fn programmed(&self, name: &str, nodes: &str, limit: Duration) -> Result<()> {
        let mut shown = String::new();
        until(&format!("`{nodes}` in the NODES column of the RegistryMirror {name}"), limit, || {
            shown = self.bed.kubectl(["get", "registrymirror", name])?;
            Ok(shown.split_whitespace().any(|word| word == nodes).then_some(()))
        })
        .with_context(|| format!("`kubectl get registrymirror {name}` shows:\n{shown}"))
    }

    /// A NodeMirror, if the API server has it.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn node_mirror(&self, node: &str) -> Result<Value> {
        self.bed.kubectl_json(["get", "nodemirror", node])
    }

    /// Waits until a NodeMirror has a condition that `wanted` accepts, and returns it.
    ///
    /// # Errors
    /// After `limit`; the message holds the last one.
    pub fn condition(
        &self,
        node: &str,
        kind: &str,
        limit: Duration,
        wanted: impl Fn(&Condition) -> bool,
    ) -> Result<Condition> {
        let mut last = None;
        until(&format!("the awaited condition {kind} of the NodeMirror {node}"), limit, || {
            let Ok(object) = self.node_mirror(node) else { return Ok(None) };
            last = condition(&object, kind);
            Ok(last.clone().filter(&wanted))
        })
        .with_context(|| format!("it is {last:?}"))
    }

    /// The hosts of a registry's hosts.toml on a node, in order; nothing if there is no such file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn hosts(&self, node: &Node, registry: &str) -> Result<Option<Vec<String>>> {
        let text = self.hosts_toml(node, registry)?;
        Ok(text.map(|text| {
            let hosts = text.lines().filter_map(|line| line.strip_prefix("[host.\"")?.strip_suffix("\"]"));
            hosts.map(str::to_owned).collect()
        }))
    }

    /// A registry's hosts.toml on a node.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn hosts_toml(&self, node: &Node, registry: &str) -> Result<Option<String>> {
        let path = format!("{}/{registry}/hosts.toml", certs_d(node));
        if !node.exists(&path) {
            return Ok(None);
        }
        match node.read(&path) {
            Ok(text) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
            // Removed between the two looks.
            Err(_) if !node.exists(&path) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until both nodes have these hosts for a registry (`None`: no file), and returns how long the last took.
    ///
    /// # Errors
    /// After `limit`; the message holds what stands there.
    pub fn files(&self, registry: &str, hosts: Option<&[&str]>, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        let mut seen = Vec::new();
        until(&format!("hosts.toml of {registry} with {hosts:?} on every node"), limit, || {
            seen.clear();
            for node in self.nodes() {
                seen.push((node.name().to_owned(), self.hosts(node, registry)?));
            }
            let right = |found: &Option<Vec<String>>| {
                found.as_ref().map(|found| found.iter().map(String::as_str).collect::<Vec<_>>()).as_deref() == hosts
            };
            Ok(seen.iter().all(|(_, found)| right(found)).then(|| start.elapsed()))
        })
        .with_context(|| format!("found: {seen:?}"))
    }

    /// Waits until a pod runs, and returns its containers' IDs as containerd knows them.
    ///
    /// # Errors
    /// After `limit`; the message holds the pod's events.
    pub fn running(&self, pod: &str, limit: Duration) -> Result<Vec<String>> {
        until(&format!("the pod {pod} running"), limit, || {
            let object = self.bed.kubectl_json(["get", "pod", pod])?;
            if object["status"]["phase"] != "Running" {
                return Ok(None);
            }
            let containers = object["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
            let ids: Option<Vec<String>> = containers
                .iter()
                .map(|container| Some(container["containerID"].as_str()?.strip_prefix("containerd://")?.to_owned()))
                .collect();
            Ok(ids.filter(|ids| !ids.is_empty()))
        })
        .with_context(|| {
            let filter = format!("involvedObject.name={pod}");
            let events = self.bed.kubectl(["get", "events", "--field-selector", &filter]).unwrap_or_default();
            format!("its events:\n{events}")
        })
    }

    /// Waits until containerd answers on a node, and until the kubelet has given a sign of life since and is Ready.
    ///
    /// # Errors
    /// After a minute.
    pub fn node_ready(&self, node: &Node, since: Timestamp) -> Result<()> {
        let (name, minute) = (node.name(), Duration::from_secs(60));
        until(&format!("containerd's CRI on {name}"), minute, || Ok(cri_ready(node)?.then_some(())))?;
        until(&format!("the node {name} being Ready"), minute, || {
            // A node's status is written when it changes, its lease every ten seconds; a new node has none for the first.
            let Ok(lease) = self.bed.kubectl_json(["get", "lease", name, "--namespace", "kube-node-lease"]) else {
                return Ok(None);
            };
            let alive = lease["spec"]["renewTime"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
            let ready = condition(&self.bed.kubectl_json(["get", "node", name])?, "Ready");
            let is_ready = ready.is_some_and(|ready| ready.status == "True");
            Ok((is_ready && alive.is_some_and(|alive| alive >= since)).then_some(()))
        })
    }

    // ---- registries ----

    /// What a registry was asked by a node for images of `namespace` (containerd's `ns=`).
    ///
    /// # Errors
    /// When the access log cannot be read.
    pub fn asked(&self, registry: &str, node: &Node, namespace: Option<&str>) -> Result<Vec<Access>> {
        let mut accesses = self.bed.accesses(registry)?;
        accesses.retain(|access| access.client == node.address() && access.namespace.as_deref() == namespace);
        Ok(accesses)
    }

    /// Pulls an image that the node does not have, and forgets it again.
    ///
    /// # Errors
    /// When containerd refuses.
    pub fn pull_anew(&self, node: &Node, image: &str) -> Result<Duration> {
        let took = node.pull(image)?;
        node.remove_image(image)?;
        Ok(took)
    }

    // ---- the command line ----

    /// Puts the operator's command line onto a node, as `/usr/local/bin/registry-mirror`.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn install_command_line(&self, node: &Node) -> Result<()> {
        node.install_program(&self.product.binary, "registry-mirror")
    }

    /// Runs the operator's command line as the cluster's administrator.
    ///
    /// # Errors
    /// When it cannot be started. A command that fails is an `Output` that says so.
    pub fn command_line(&self, args: &[&str]) -> Result<Output> {
        self.command_line_with(&[], args)
    }

    /// The operator's command line as the cluster's administrator, to be started.
    ///
    /// # Errors
    /// When the cluster's programs are not there.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        let binary = self.product.binary.to_string_lossy().into_owned();
        let mut command = self.bed.inside([binary.as_str()]);
        command.args(args).env("KUBECONFIG", self.bed.kubeconfig());
        // Some commands run kubectl: the cluster's own one, whatever the machine has.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.bed.kubernetes_programs()?.display()));
        Ok(command)
    }

    /// As [`Cluster::command_line`], with variables of the environment.
    ///
    /// # Errors
    /// As [`Cluster::command_line`].
    pub fn command_line_with(&self, environment: &[(&str, &str)], args: &[&str]) -> Result<Output> {
        let mut command = self.command(args)?;
        command.envs(environment.iter().copied());
        command.output().context("the operator's command line could not be started")
    }

    /// Runs the operator's command line and returns what it printed.
    ///
    /// # Errors
    /// When it fails; the message holds what it said.
    pub fn must(&self, args: &[&str]) -> Result<String> {
        let output = self.command_line(args)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if !output.status.success() {
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            bail!("`registry-mirror {}` failed ({}): {err}\n{out}", args.join(" "), output.status);
        }
        Ok(text(&output.stdout))
    }

    // ---- the roll-out ----

    /// Why the controller has paused the roll-out, if it has.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn pause(&self) -> Result<Option<String>> {
        let args = ["get", "configmap", "registry-mirror-rollout", "--namespace", NAMESPACE, "--ignore-not-found"];
        let text = self.bed.kubectl(args.into_iter().chain(["-o", "json"]))?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        let object: Value = serde_json::from_str(&text).context("kubectl printed something that is not JSON")?;
        let field = |name: &str| object["data"][name].as_str().unwrap_or_default().to_owned();
        Ok((field("paused") == "true").then(|| format!("{}: {}", field("node"), field("reason"))))
    }

    /// Waits until the controller has paused the roll-out because of that node, and returns why.
    ///
    /// # Errors
    /// After `limit`.
    pub fn paused_by(&self, node: &str, limit: Duration) -> Result<String> {
        until("the pause of the roll-out", limit, || {
            Ok(self.pause()?.filter(|why| why.starts_with(&format!("{node}: "))))
        })
    }

    /// Witnesses of all nodes, in order.
    ///
    /// # Errors
    /// When one cannot be taken.
    pub fn witnesses(&self) -> Result<Vec<Witness>> {
        self.nodes().iter().map(Witness::of).collect()
    }

    /// Sees that containerd has not been started since these witnesses.
    ///
    /// # Errors
    /// Names the node where it was.
    pub fn no_restart_since(&self, before: &[Witness]) -> Result<()> {
        for (node, before) in self.nodes().iter().zip(before) {
            let now = Witness::of(node)?;
            ensure!(
                now.invocation == before.invocation && now.starts == before.starts,
                "containerd was restarted on {}: {} starts in this boot, {} before",
                node.name(),
                now.starts,
                before.starts
            );
        }
        Ok(())
    }
}

/// Whether containerd's CRI says that it is ready to run containers.
///
/// # Errors
/// When the node is off.
pub(crate) fn cri_ready(node: &Node) -> Result<bool> {
    let output = node.exec(["cri", "status"])?;
    if !output.status.success() {
        return Ok(false);
    }
    let Ok(answer) = serde_json::from_slice::<Value>(&output.stdout) else { return Ok(false) };
    let conditions = answer["status"]["conditions"].as_array().cloned().unwrap_or_default();
    Ok(conditions.iter().any(|condition| condition["type"] == "RuntimeReady" && condition["status"] == true))
}

/// Runs a command and turns its failure into a sentence.
pub(crate) fn succeed(command: &mut Command, what: &str) -> Result<String> {
    let output = command.output().with_context(|| format!("{what} could not be started"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        bail!("{what} failed ({}): {}\n{}", output.status, text(&output.stderr), text(&output.stdout));
    }
    Ok(text(&output.stdout))
}
