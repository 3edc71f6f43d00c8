//! Brings a bed up: network, registries, control plane and nodes, side by side.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use jiff::Timestamp;

use crate::bed::{Bed, Record, group_name, state_dir};
use crate::cache::Cache;
use crate::cgroup::Group;
use crate::control_plane::ControlPlane;
use crate::image::{Image, ImageFile};
use crate::netns::Netns;
use crate::node::NodeParts;
use crate::node_files::{self, KubeletFiles, NodeContext};
use crate::node_spec::{NodeSpec, check_name};
use crate::pki::{Authority, Subject, read};
use crate::registry::{Behaviour, Place, RegistrySpec, default_registries};
use crate::service::{Service, Services};
use crate::token_server::TokenParts;
use crate::{k3s, parts, pins, teardown, wait};

/// A bed to be.
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    name: String,
    kubernetes: bool,
    nodes: Vec<NodeSpec>,
    registries: Vec<RegistrySpec>,
}

impl Builder {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), kubernetes: true, nodes: Vec::new(), registries: default_registries() }
    }

    /// Whether there is a cluster. Without one a node is systemd and containerd, and is up in a few seconds.
    pub fn kubernetes(mut self, kubernetes: bool) -> Self {
        self.kubernetes = kubernetes;
        self
    }

    /// One more node.
    pub fn node(mut self, node: NodeSpec) -> Self {
        self.nodes.push(node);
        self
    }

    /// More nodes.
    pub fn nodes(mut self, nodes: impl IntoIterator<Item = NodeSpec>) -> Self {
        self.nodes.extend(nodes);
        self
    }

    /// These registries instead of [`default_registries`].
    pub fn registries(mut self, registries: Vec<RegistrySpec>) -> Self {
        self.registries = registries;
        self
    }

    /// Makes the bed, and first takes down one of that name. Returns when every node is Ready (or booted, without a cluster).
    /// Parts that are not in the cache are built, which takes minutes.
    ///
    /// # Errors
    /// When another process uses a bed of that name, or a step fails. What was started is then taken down.
    pub fn up(self) -> Result<Bed> {
        self.up_or_leave(false)
    }

    /// As [`Builder::up`], but a failed bed stays as it is, to be looked at.
    ///
    /// # Errors
    /// As [`Builder::up`].
    pub fn up_or_leave(self, leave: bool) -> Result<Bed> {
        self.check()?;
        let lock = teardown::lock(&self.name)?;
        let cache = Cache::locate()?;
        let debian = parts::debian(&cache)?;
        let kubernetes = match self.kubernetes {
            true if self.is_k3s() => Some(parts::k3s(&cache)?),
            true => Some(parts::kubernetes(&cache)?),
            false => None,
        };
        let base = parts::node_base(&cache)?;
        // Whatever takes minutes, or is a mistake in the description, comes before the first process.
        parts::cri(&cache)?;
        parts::pause(&cache)?;
        if hand_out_tokens(&self.registries) {
            parts::token_server(&cache)?;
        }
        for node in &self.nodes {
            parts::containerd(&cache, &node.containerd)?;
        }
        let record = Record {
            group: Group::own()?.child(&group_name(&self.name)),
            data: cache.var().join(&self.name),
            usr: base.join("usr"),
            cni: debian.join("usr/lib/cni"),
            kubernetes_bin: kubernetes,
            name: self.name,
            kubernetes: self.kubernetes,
            nodes: self.nodes,
            registries: self.registries,
        };
        teardown::tear_down(&record.name)?;
        let mut bed = Bed::new(record, Some(lock));
        match (Rising { bed: &bed, cache: &cache, debian, base }).rise() {
            Ok(()) => Ok(bed),
            Err(error) => {
                if leave {
                    bed.keep();
                }
                Err(error)
            }
        }
    }

    fn is_k3s(&self) -> bool {
        self.nodes.iter().any(NodeSpec::is_k3s)
    }

    fn check(&self) -> Result<()> {
        check_name("a bed", &self.name)?;
        let mut seen = BTreeSet::new();
        for node in &self.nodes {
            check_name("a node", &node.name)?;
            if !seen.insert(&node.name) {
                bail!("two nodes are called {}: a name stands for one node", node.name);
            }
        }
        if self.is_k3s() && self.nodes.len() > 1 {
            bail!("a node that K3s runs is a cluster of its own: leave the other nodes to another bed");
        }
        if self.nodes.len() > 50 {
            bail!("{} nodes are more than a bed has addresses for (50)", self.nodes.len());
        }
        Ok(())
    }
}

/// A bed on its way up.
struct Rising<'a> {
    bed: &'a Bed,
    cache: &'a Cache,
    debian: PathBuf,
    base: PathBuf,
}

impl Rising<'_> {
    fn rise(&self) -> Result<()> {
        let Record { name, group, data, kubernetes, registries, nodes, .. } = &self.bed.record;
        let state = state_dir(name);
        for dir in ["pki", "services", "logs", "registries"] {
            fs::create_dir_all(state.join(dir)).with_context(|| format!("{} cannot be made", state.display()))?;
        }
        // First of all: from now on `down` knows what to look for.
        self.bed.record.write(&state)?;
        fs::create_dir_all(data)?;
        group.create()?;
        group.child("control").create()?;
        let addresses: BTreeSet<Ipv4Addr> = registries.iter().map(|registry| *registry.address.ip()).collect();
        let pods: Vec<(Ipv4Addr, String)> = (0..)
            .take(nodes.len())
            .map(|number| (node_files::address(number), node_files::pod_subnet(number)))
            .collect();
        Netns::of_bed(name).create(&addresses.into_iter().collect::<Vec<_>>(), &pods)?;

        let pki = state.join("pki");
        let public = Authority::create(&pki, "public-ca")?;
        let private = Authority::create(&pki, "private-ca")?;
        private.sign(
            &pki,
            "mirror-client",
            Subject { common_name: "mirror-client", organization: None, names: &[] },
        )?;
        // K3s brings a control plane along.
        let is_ours = *kubernetes && !nodes.iter().any(NodeSpec::is_k3s);
        let cluster = if is_ours { Some(self.control_plane()?.prepare()?) } else { None };

        let since = Timestamp::now();
        std::thread::scope(|scope| {
            let control = scope.spawn(|| if is_ours { self.start_control_plane() } else { Ok(()) });
            let registries = scope.spawn(|| self.start_registries(&public, &private));
            let booted = scope.spawn(|| self.boot_nodes(&public, cluster.as_ref()));
            for (what, thread) in
                [("the control plane", control), ("the registries", registries), ("the nodes", booted)]
            {
                thread
                    .join()
                    .map_err(|_| anyhow!("a thread broke down"))
                    .flatten()
                    .with_context(|| format!("{what} did not come up"))?;
            }
            Ok::<(), anyhow::Error>(())
        })?;
        if *kubernetes {
            for node in self.bed.nodes() {
                self.bed.take_kubeconfig(node)?;
                self.bed.wait_ready(node, since, Duration::from_secs(120))?;
            }
        }
        Ok(())
    }

    fn control_plane(&self) -> Result<ControlPlane<'_>> {
        let kubernetes = self.bed.record.kubernetes_bin.as_deref().context("the Kubernetes programs are not built")?;
        Ok(ControlPlane { kubernetes, debian: &self.debian, state: self.bed.state(), data: &self.bed.record.data })
    }

    fn start(&self, name: &str, argv: Vec<String>, stdout: Option<PathBuf>) -> Result<()> {
        let mut inside: Vec<String> = Netns::of_bed(self.bed.name()).prefix().into();
        inside.extend(argv);
        let log = self.bed.log(name);
        let service = Service {
            name: name.to_owned(),
            argv: inside,
            group: self.bed.record.group.child("control"),
            stdout: stdout.unwrap_or_else(|| log.clone()),
            stderr: log,
        };
        Services::at(self.bed.state().join("services")).start(&service).map(|_| ())
    }

    fn start_control_plane(&self) -> Result<()> {
        // The controller manager gives up when no API server answers, so the last two wait for it.
        let (first, last): (Vec<_>, Vec<_>) = self
            .control_plane()?
            .services()
            .into_iter()
            .partition(|(name, _)| ["etcd", "kube-apiserver"].contains(name));
        for (name, argv) in first {
            self.start(name, argv, None)?;
        }
        self.bed.wait_api_server()?;
        for node in self.bed.nodes() {
            let kubelet = node.dir.join("kubelet");
            fs::create_dir_all(&kubelet)?;
            fs::write(kubelet.join(".api-server-is-up"), "")?;
        }
        for (name, argv) in last {
            self.start(name, argv, None)?;
        }
        Ok(())
    }

    fn start_registries(&self, public: &Authority, private: &Authority) -> Result<()> {
        let dir = self.bed.state().join("registries");
        let data = self.bed.record.data.join("registries");
        let pki = self.bed.state().join("pki");
        self.seed(&data)?;
        let tokens = if hand_out_tokens(&self.bed.record.registries) {
            let program = parts::token_server(self.cache)?.join("token-server");
            Some(TokenParts::create(program, &pki, private)?)
        } else {
            None
        };
        for registry in &self.bed.record.registries {
            let storage = data.join(&registry.name);
            let place = Place {
                programs: &self.debian,
                dir: &dir,
                storage: &storage,
                pki: &pki,
                public,
                private,
                tokens: tokens.as_ref(),
            };
            let argv =
                registry.prepare(&place).with_context(|| format!("the registry {} cannot be set up", registry.name))?;
            self.start(&registry.name, argv, Some(registry.access_log(&dir)))?;
        }
        let netns = Netns::of_bed(self.bed.name());
        for registry in &self.bed.record.registries {
            wait_listening(&netns, registry.address.into(), &registry.name)
                .with_context(|| format!("its log ends with:\n{}", crate::node::tail(&self.bed.log(&registry.name))))?;
        }
        Ok(())
    }

    /// The images without which no pod starts, and one with a shell.
    fn seed(&self, data: &Path) -> Result<()> {
        let pause = Image::from_scratch().program("/pause", &parts::pause(self.cache)?.join("pause"))?;
        let shell = self.debian.join("bin/busybox");
        let shell = if shell.exists() { shell } else { self.debian.join("usr/bin/busybox") };
        let content = fs::read(&shell).with_context(|| format!("{} cannot be read", shell.display()))?;
        let busybox = Image::from_scratch().program("/bin/busybox", &shell)?.layer(vec![ImageFile {
            path: "/bin/sh".to_owned(),
            mode: 0o755,
            content,
        }]);
        for registry in ["registry.k8s.io", "mirror", "mirror2"] {
            for tag in pins::PAUSE_TAGS {
                pause.store(&data.join(registry), "pause", tag)?;
            }
        }
        for registry in ["docker.io", "mirror", "mirror2"] {
            pause.store(&data.join(registry), k3s::PAUSE.0, k3s::PAUSE.1)?;
            busybox.store(&data.join(registry), "library/busybox", "1.35")?;
        }
        Ok(())
    }

    fn boot_nodes(&self, public: &Authority, cluster: Option<&Authority>) -> Result<()> {
        let hosts: Vec<(Ipv4Addr, String)> = self
            .bed
            .record
            .registries
            .iter()
            .flat_map(|registry| registry.hosts.iter().map(|host| (*registry.address.ip(), host.clone())))
            .collect();
        let trusted = read(&public.pair.certificate)?;
        let cri = parts::cri(self.cache)?;
        for node in self.bed.nodes() {
            let parts = NodeParts {
                base: self.base.clone(),
                containerd: parts::containerd(self.cache, &node.spec.containerd)?,
                cri: cri.clone(),
                trusted: trusted.clone(),
            };
            let kubernetes = cluster.map(|authority| self.kubelet_files(authority, node.name())).transpose()?;
            let context =
                NodeContext { spec: &node.spec, bed: self.bed.name(), number: node.number, hosts: &hosts, kubernetes };
            node.build(&parts, &context).with_context(|| format!("the files of {} cannot be laid out", node.name()))?;
            node.power_on()?;
        }
        self.bed.nodes().iter().try_for_each(crate::Node::wait_containerd)
    }

    fn kubelet_files(&self, authority: &Authority, node: &str) -> Result<KubeletFiles> {
        let pki = self.bed.state().join("pki");
        let common_name = format!("system:node:{node}");
        let subject = Subject { common_name: &common_name, organization: Some("system:nodes"), names: &[] };
        let pair = authority.sign(&pki, &format!("kubelet-{node}"), subject)?;
        Ok(KubeletFiles {
            authority: read(&authority.pair.certificate)?,
            certificate: read(&pair.certificate)?,
            key: read(&pair.key)?,
        })
    }
}

fn hand_out_tokens(registries: &[RegistrySpec]) -> bool {
    registries.iter().any(|registry| matches!(registry.behaviour, Behaviour::TokenServer { .. }))
}

/// Waits until something listens on that address inside the namespace.
pub(crate) fn wait_listening(netns: &Netns, address: SocketAddr, name: &str) -> Result<()> {
    // A thread of its own: a thread that entered a namespace does not come back.
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                netns.enter()?;
                wait::until(&format!("{name} listening on {address}"), Duration::from_secs(20), || {
                    Ok(TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok().map(|_| ()))
                })
            })
            .join()
            .map_err(|_| anyhow!("a thread broke down"))
            .flatten()
    })
}
