//! A bed that is up: its nodes, registries and control plane, and what a test does with them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::access_log::{self, Access};
use crate::builder::Builder;
use crate::cgroup::Group;
use crate::command::{said, stdout};
use crate::health::ready;
use crate::image::{self, Image};
use crate::k3s;
use crate::netns::Netns;
use crate::node::Node;
use crate::node_spec::NodeSpec;
use crate::pki::{Authority, Pair, Subject};
use crate::registry::{Account, IMAGES, RegistrySpec, text_of};
use crate::service::Services;
use crate::teardown;
use crate::wait;

/// What is written down about a bed, before anything of it exists.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) kubernetes: bool,
    pub(crate) nodes: Vec<NodeSpec>,
    pub(crate) registries: Vec<RegistrySpec>,
    pub(crate) group: Group,
    /// Nodes' files, images, etcd: on a real disk.
    pub(crate) data: PathBuf,
    /// `/usr` of the nodes.
    pub(crate) usr: PathBuf,
    pub(crate) cni: PathBuf,
    /// Directory of the Kubernetes programs.
    pub(crate) kubernetes_bin: Option<PathBuf>,
}

impl Record {
    pub(crate) fn read(state: &Path) -> Result<Self> {
        let path = state.join("bed.json");
        let text = fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged: run `testbed down`", path.display()))
    }

    pub(crate) fn write(&self, state: &Path) -> Result<()> {
        let path = state.join("bed.json");
        fs::write(&path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// `$RMO_STATE`, or a directory under `/run`.
pub(crate) fn state_root() -> PathBuf {
    std::env::var_os("RMO_STATE")
        .filter(|value| !value.is_empty())
        .map_or_else(|| PathBuf::from("/run/registry-mirror-operator-testbed"), PathBuf::from)
}

pub(crate) fn state_dir(bed: &str) -> PathBuf {
    state_root().join(bed)
}

pub(crate) fn group_name(bed: &str) -> String {
    format!("rmo-testbed-{bed}")
}

/// A bed that is up. One that was made by [`Builder::up`] is taken down when this value goes, unless [`Bed::keep`] was called.
#[derive(Debug)]
pub struct Bed {
    pub(crate) record: Record,
    pub(crate) state: PathBuf,
    pub(crate) nodes: Vec<Node>,
    /// Held by the process that made the bed and will take it down.
    pub(crate) lock: Option<fs::File>,
}

impl Bed {
    /// Begins the description of a bed.
    pub fn builder(name: &str) -> Builder {
        Builder::new(name)
    }

    /// A bed that another process made. It stays when this value goes.
    ///
    /// # Errors
    /// When there is no bed of that name.
    pub fn attach(name: &str) -> Result<Self> {
        crate::node_spec::check_name("a bed", name)?;
        let state = state_dir(name);
        let record = Record::read(&state)
            .with_context(|| format!("there is no bed `{name}`: `testbed up --name {name}` makes one"))?;
        Ok(Self::new(record, None))
    }

    /// The names of all beds.
    ///
    /// # Errors
    /// When the state directory cannot be read.
    pub fn names() -> Result<Vec<String>> {
        teardown::names()
    }

    /// Takes down the bed of that name, in whatever state it is.
    ///
    /// # Errors
    /// When another process is using it, or something cannot be removed.
    pub fn remove(name: &str) -> Result<()> {
        let _lock = teardown::lock(name)?;
        teardown::tear_down(name)
    }

    pub(crate) fn new(record: Record, lock: Option<fs::File>) -> Self {
        let state = state_dir(&record.name);
        let nodes = record
            .nodes
            .iter()
            .zip(0..)
            .map(|(spec, number)| Node {
                spec: spec.clone(),
                number,
                bed: record.name.clone(),
                dir: record.data.join("nodes").join(&spec.name),
                shared: record.data.join("shared"),
                logs: state.join("logs"),
                group: record.group.child(&spec.name),
                netns: Netns::of_bed(&record.name),
                services: Services::at(state.join("services")),
                kubernetes: record.kubernetes,
                usr: record.usr.clone(),
                cni: record.cni.clone(),
                kube_bin: record.kubernetes_bin.clone(),
            })
            .collect();
        Self { record, state, nodes, lock }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Everything about it that is not on the nodes: kubeconfig, pki, logs.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The administrator's kubeconfig. Its server is reached from inside the bed's network only.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.join("kubeconfig")
    }

    /// Lets the bed live on when this value goes; `testbed down` takes it down.
    pub fn keep(&mut self) {
        self.lock = None;
    }

    /// Takes the bed down and reports what could not be removed.
    ///
    /// # Errors
    /// Names what is left.
    pub fn down(mut self) -> Result<()> {
        let _lock = match self.lock.take() {
            Some(lock) => lock,
            None => teardown::lock(self.name())?,
        };
        teardown::tear_down(self.name())
    }

    /// The node of that name.
    ///
    /// # Errors
    /// When the bed has none.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name() == name).with_context(|| {
            let known: Vec<&str> = self.nodes.iter().map(Node::name).collect();
            format!("the bed {} has no node `{name}`; it has: {}", self.name(), known.join(", "))
        })
    }

    /// All nodes, in the order in which they were asked for.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Whether it was made of exactly these nodes.
    #[must_use]
    pub fn has(&self, nodes: &[NodeSpec], kubernetes: bool) -> bool {
        self.record.nodes == nodes && self.record.kubernetes == kubernetes
    }

    // ---- network ----

    fn netns(&self) -> Netns {
        Netns::of_bed(self.name())
    }

    /// A command that runs in the bed's network namespace, on the machine's own files.
    #[must_use]
    pub fn inside<'a>(&self, argv: impl IntoIterator<Item = &'a str>) -> Command {
        self.netns().command(argv)
    }

    /// Moves the calling thread, and threads that it starts, into the bed's network namespace for good.
    /// Call it before starting an async runtime whose clients are to reach the API server or a registry.
    ///
    /// # Errors
    /// When the bed has no network any more.
    pub fn enter_network(&self) -> Result<()> {
        self.netns().enter()
    }

    // ---- cluster ----

    /// The directory of the cluster's programs, kubectl among them.
    ///
    /// # Errors
    /// When the bed was made without a cluster.
    pub fn kubernetes_programs(&self) -> Result<&Path> {
        match &self.record.kubernetes_bin {
            Some(bin) => Ok(bin),
            None => bail!("the bed {} was made without Kubernetes", self.name()),
        }
    }

    /// A kubectl command as the administrator.
    ///
    /// # Errors
    /// When the bed was made without a cluster.
    pub fn kubectl_command<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Result<Command> {
        let bin = self.kubernetes_programs()?;
        let mut kubectl = self.inside([text_of(&bin.join("kubectl")).as_str()]);
        kubectl.arg(format!("--kubeconfig={}", self.kubeconfig().display()));
        kubectl.arg(format!("--cache-dir={}", self.state.join("kubectl-cache").display()));
        kubectl.args(args);
        Ok(kubectl)
    }

    /// Runs kubectl and returns what it printed.
    ///
    /// # Errors
    /// When it fails; the message holds what it said.
    pub fn kubectl<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Result<String> {
        stdout(&mut self.kubectl_command(args)?)
    }

    /// Runs kubectl with `-o json`.
    ///
    /// # Errors
    /// As [`Bed::kubectl`].
    pub fn kubectl_json<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Result<Value> {
        let mut kubectl = self.kubectl_command(args)?;
        serde_json::from_str(&stdout(kubectl.args(["-o", "json"]))?)
            .context("kubectl printed something that is not JSON")
    }

    /// `kubectl apply -f -` (server side) of a text with one or more objects.
    ///
    /// # Errors
    /// When the API server refuses; the message is its own.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        let mut kubectl = self.kubectl_command(["apply", "--server-side", "--force-conflicts", "-f", "-"])?;
        let mut child = kubectl
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("kubectl could not be started")?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(yaml.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("kubectl apply failed ({}): {}", output.status, said(&output));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Waits until the node is Ready by a word that it gave after `since`.
    ///
    /// # Errors
    /// After `limit`; the message holds the kubelet's last words.
    pub fn wait_ready(&self, node: &Node, since: Timestamp, limit: Duration) -> Result<()> {
        let name = node.name();
        wait::until(&format!("the node {name} becoming Ready"), limit, || {
            let Ok(object) = self.kubectl_json(["get", "node", name]) else { return Ok(None) };
            Ok(ready(&object, since).filter(|ready| ready == "True").map(|_| ()))
        })
        .with_context(|| {
            let said =
                node.sh("journalctl -u kubelet -u containerd -u k3s --no-pager -n 30 -o cat").unwrap_or_default();
            format!("its kubelet and containerd said last:\n{said}")
        })
    }

    /// Keeps the administrator's kubeconfig of a node that is a cluster of its own. Its server is loopback there.
    pub(crate) fn take_kubeconfig(&self, node: &Node) -> Result<()> {
        if !node.spec().is_k3s() {
            return Ok(());
        }
        let text = String::from_utf8(node.read(k3s::KUBECONFIG)?).context("K3s's kubeconfig is no text")?;
        let path = self.kubeconfig();
        fs::write(&path, text.replace("127.0.0.1", &node.address().to_string()))
            .with_context(|| format!("{} cannot be written", path.display()))
    }

    /// Boots a node and waits until it is Ready (or only booted, in a bed without a cluster).
    ///
    /// # Errors
    /// When that takes more than three minutes.
    pub fn boot(&self, node: &str) -> Result<()> {
        let node = self.node(node)?;
        let since = Timestamp::now();
        node.boot()?;
        if self.record.kubernetes {
            self.wait_ready(node, since, Duration::from_secs(60))?;
        }
        Ok(())
    }

    // ---- services ----

    pub(crate) fn services(&self) -> Services {
        Services::at(self.state.join("services"))
    }

    /// Ends a process of the bed (`kube-apiserver`, `etcd`, `mirror`, ...): in order, and after five seconds by force.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn stop(&self, service: &str) -> Result<()> {
        self.services().stop(service, Signal::TERM, Duration::from_secs(5))
    }

    /// Ends a process of the bed at once.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn kill(&self, service: &str) -> Result<()> {
        self.services().stop(service, Signal::KILL, Duration::from_secs(5))
    }

    /// Starts it again as it was, and waits until a registry or the API server answers.
    ///
    /// # Errors
    /// When there is none of that name, or it does not answer in time.
    pub fn start(&self, service: &str) -> Result<()> {
        self.services().start_again(service)?;
        if service == "kube-apiserver" {
            self.wait_api_server()?;
        } else if let Ok(registry) = self.registry(service) {
            crate::builder::wait_listening(&self.netns(), registry.address.into(), service)?;
        }
        Ok(())
    }

    pub(crate) fn wait_api_server(&self) -> Result<()> {
        wait::until("the API server's readiness", Duration::from_secs(90), || {
            if self.services().running("kube-apiserver")?.is_none() {
                bail!("the API server ended; its log ends with:\n{}", crate::node::tail(&self.log("kube-apiserver")));
            }
            Ok(self.kubectl(["get", "--raw", "/readyz"]).ok().map(|_| ()))
        })
    }

    /// The log of a process of the bed.
    #[must_use]
    pub fn log(&self, service: &str) -> PathBuf {
        self.state.join("logs").join(format!("{service}.log"))
    }

    // ---- registries ----

    /// The registry of that name.
    ///
    /// # Errors
    /// When the bed has none.
    pub fn registry(&self, name: &str) -> Result<&RegistrySpec> {
        self.record.registries.iter().find(|registry| registry.name == name).with_context(|| {
            let known: Vec<&str> = self.record.registries.iter().map(|registry| registry.name.as_str()).collect();
            format!("the bed {} has no registry `{name}`; it has: {}", self.name(), known.join(", "))
        })
    }

    /// What was asked of a registry since the bed is up, in order. A registry writes a request down after answering it.
    ///
    /// # Errors
    /// When the bed has no such registry, or its log cannot be read.
    pub fn accesses(&self, registry: &str) -> Result<Vec<Access>> {
        let path = self.registry(registry)?.access_log(&self.state.join("registries"));
        match fs::read_to_string(&path) {
            Ok(text) => access_log::parse(&text).with_context(|| format!("{} cannot be understood", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
        }
    }

    /// Puts an image into a registry and returns its digest.
    ///
    /// # Errors
    /// When the bed has no such registry, or its storage cannot be written.
    pub fn push(&self, registry: &str, name: &str, tag: &str, image: &Image) -> Result<String> {
        image.store(&self.storage(registry)?, name, tag)
    }

    /// Puts the image of an OCI layout directory into a registry and returns its digest.
    ///
    /// # Errors
    /// As [`Bed::push`], and when the layout is not one image.
    pub fn push_layout(&self, registry: &str, name: &str, tag: &str, layout: &Path) -> Result<String> {
        image::store_layout(layout, &self.storage(registry)?, name, tag)
    }

    /// Makes an image FROM scratch of the operator's static binary, entry point `/registry-mirror`, and returns the
    /// reference under which every node can pull it, whatever the mirrors do.
    ///
    /// # Errors
    /// When the binary cannot be read.
    pub fn push_operator_image(&self, binary: &Path) -> Result<String> {
        let image = Image::from_scratch().program("/registry-mirror", binary)?;
        self.push("images", "registry-mirror-operator", "dev", &image)?;
        Ok(format!("{IMAGES}/registry-mirror-operator:dev"))
    }

    fn storage(&self, registry: &str) -> Result<PathBuf> {
        self.registry(registry)?;
        Ok(self.record.data.join("registries").join(registry))
    }

    /// Makes this account the only one that a registry lets in (or its token server gives tokens to), at once.
    ///
    /// # Errors
    /// When the bed has no such registry.
    pub fn set_password(&self, registry: &str, account: &Account) -> Result<()> {
        self.registry(registry)?.set_password(&self.state.join("registries"), account).map(|_| ())
    }

    /// The files with a registry's certificate and key, which it reads when it starts.
    ///
    /// # Errors
    /// When the bed has no such registry.
    pub fn certificate(&self, registry: &str) -> Result<Pair> {
        Ok(Pair::at(&self.state.join("pki"), &self.registry(registry)?.certificate_name()))
    }

    /// The authority of `tls`, `mtls` and `harbor`, which nodes do not trust.
    #[must_use]
    pub fn private_ca(&self) -> PathBuf {
        self.state.join("pki/private-ca.pem")
    }

    /// A client certificate that `mtls` lets in.
    #[must_use]
    pub fn mirror_client(&self) -> Pair {
        Pair::at(&self.state.join("pki"), "mirror-client")
    }

    /// One more client certificate that `mtls` lets in, under a name of its own.
    ///
    /// # Errors
    /// When the authority's files cannot be read, or the new ones cannot be written.
    pub fn another_mirror_client(&self, name: &str) -> Result<Pair> {
        let pki = self.state.join("pki");
        let subject = Subject { common_name: name, organization: None, names: &[] };
        Authority::open(&pki, "private-ca")?.sign(&pki, name, subject)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Some(_lock) = self.lock.take()
            && let Err(error) = teardown::tear_down(self.name())
        {
            eprintln!("the bed {} is not gone: {error:#}; run `testbed down --name {}`", self.name(), self.name());
        }
    }
}
