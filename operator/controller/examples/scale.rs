//! What the controller costs at scale, against a real API server: resident memory with many nodes and objects, and the
//! time from a change to the bundle. Nodes are objects only; their agents' statuses are written once.
//!
//! `scale KUBECONFIG [NODES] [OBJECTS]` fills the cluster (it must be one to do with as one likes), runs the controller
//! in a process of its own, prints a table and empties the cluster again.

#![allow(clippy::expect_used, reason = "a measurement that cannot be made says where")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Node, Secret};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use registry_mirror_controller::{ControllerConfig, contract, run};
use registry_mirror_core::bundle::{BUNDLE_KEY, Bundle, unpack};
use registry_mirror_crds::{NodeMirror, RegistryMirror};
use serde_json::{Value, json};

const NAMESPACE: &str = "scale";
const DEADLINE: Duration = Duration::from_secs(600);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().expect("the path of a kubeconfig");
    if first == "controller" {
        return controller(&arguments.next().expect("the path of a kubeconfig")).await;
    }
    let nodes: usize = arguments.next().map_or(5000, |n| n.parse().expect("a number of nodes"));
    let objects: usize = arguments.next().map_or(100, |n| n.parse().expect("a number of objects"));
    measure(&first, nodes, objects).await;
}

async fn client(path: &str) -> Client {
    let kubeconfig = Kubeconfig::read_from(path).expect("the kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("it is whole");
    Client::try_from(config).expect("a client")
}

/// The controller alone, so that nothing else counts.
async fn controller(path: &str) {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = ControllerConfig::new(NAMESPACE.to_owned(), "scale".to_owned(), listen);
    run(config, client(path).await, std::future::pending()).await.expect("the controller runs");
}

/// Ends with the measurement, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(path: &str) -> Self {
        let program = std::env::current_exe().expect("this program");
        Self(Command::new(program).args(["controller", path]).spawn().expect("a second process"))
    }

    /// A line of /proc/PID/status, in MiB.
    fn memory(&self, line: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it runs");
        let line = status.lines().find_map(|l| l.strip_prefix(line)).expect("the line");
        let kib: f64 = line.trim_matches([':', ' ', '\t', 'k', 'B']).trim().parse().expect("a number");
        kib / 1024.0
    }
}

async fn measure(path: &str, nodes: usize, objects: usize) {
    let client = client(path).await;
    let api = Cluster { client };
    api.empty().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    api.apply::<Namespace>(&Api::all(api.client.clone()), NAMESPACE, &namespace).await;
    println!("{objects} RegistryMirrors, {nodes} Nodes");
    each(0..objects, |i| api.object(i, "a")).await;
    each(0..nodes, |i| api.node(i)).await;

    let controller = Running::start(path);
    let bundle = api.bundle(|bundle| bundle.entries.len() == objects).await;
    let started = Instant::now();
    while api.all::<NodeMirror>().list_metadata(&ListParams::default().limit(10_000)).await.expect("listed").items.len()
        < nodes
    {
        assert!(started.elapsed() < DEADLINE, "the NodeMirrors were not made");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("NodeMirrors made                      {:>8.1} s", started.elapsed().as_secs_f64());
    println!("resident, NodeMirrors without status  {:>8.1} MiB", controller.memory("VmRSS"));

    let status = status(&bundle);
    let started = Instant::now();
    each(0..nodes, |i| api.report(i, &status)).await;
    println!("all nodes reported (by this program)  {:>8.1} s", started.elapsed().as_secs_f64());
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!("resident, every node reported         {:>8.1} MiB", controller.memory("VmRSS"));
    println!("peak                                  {:>8.1} MiB", controller.memory("VmHWM"));
    drop(controller);

    let controller = Running::start(path);
    let mut times = Vec::new();
    for i in 0..20 {
        let url = format!("round{i}");
        let started = Instant::now();
        api.object(0, &url).await;
        api.bundle(|bundle| bundle.entries.iter().any(|e| e.mirrors.iter().any(|m| m.url.contains(&url)))).await;
        times.push(started.elapsed());
    }
    times.remove(0);
    times.sort();
    println!("apply to bundle, median of 19         {:>8.1} ms", times[times.len() / 2].as_secs_f64() * 1000.0);
    println!("apply to bundle, slowest              {:>8.1} ms", times[times.len() - 1].as_secs_f64() * 1000.0);
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!("resident after a start from that      {:>8.1} MiB", controller.memory("VmRSS"));
    println!("of it anonymous                       {:>8.1} MiB", controller.memory("RssAnon"));
    println!("peak                                  {:>8.1} MiB", controller.memory("VmHWM"));
    drop(controller);
    api.empty().await;
}

struct Cluster {
    client: Client,
}

/// As many at a time as a cluster of thousands of agents would send.
async fn each<F: Future<Output = ()>>(range: std::ops::Range<usize>, work: impl Fn(usize) -> F) {
    stream::iter(range).map(work).buffer_unordered(32).collect::<()>().await;
}

impl Cluster {
    fn all<K: kube::Resource<Scope = k8s_openapi::ClusterResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    async fn apply<K>(&self, api: &Api<K>, name: &str, object: &Value)
    where
        K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let params = PatchParams::apply("scale").force();
        api.patch(name, &params, &Patch::Apply(object)).await.expect("the API server takes it");
    }

    async fn object(&self, i: usize, part: &str) {
        let name = format!("registry-{i:04}");
        let object = json!({"apiVersion": "registry-mirror.dev/v1alpha1", "kind": "RegistryMirror",
            "metadata": {"name": name}, "spec": {"registry": format!("r{i}.example.com"), "mirrors": [
                {"url": format!("https://mirror-{part}.example.com"), "repositoryPrefix": format!("project-{i}")},
                {"url": "https://other.example.com", "repositoryPrefix": format!("project-{i}")}]}});
        self.apply(&self.all::<RegistryMirror>(), &name, &object).await;
    }

    async fn node(&self, i: usize) {
        let name = format!("node-{i:05}");
        let mut labels = serde_json::Map::new();
        for (key, value) in [
            ("kubernetes.io/os", "linux".to_owned()),
            ("kubernetes.io/arch", "amd64".to_owned()),
            ("kubernetes.io/hostname", name.clone()),
            ("topology.kubernetes.io/zone", format!("zone-{}", i % 3)),
            ("topology.kubernetes.io/region", "north".to_owned()),
            ("node.kubernetes.io/instance-type", "m7.2xlarge".to_owned()),
        ] {
            labels.insert(key.to_owned(), value.into());
        }
        for i in 0..20 {
            labels.insert(format!("example.com/label-{i}"), format!("value-{i}").into());
        }
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
        self.apply(&self.all::<Node>(), &name, &object).await;
        // as large as a real one: a node lists up to 50 images
        let images: Vec<_> = (0..50)
            .map(|i| {
                json!({"names": [format!("registry.example.com/some/project/image-{i}@sha256:{:064}", i),
                format!("registry.example.com/some/project/image-{i}:v1.2.3")], "sizeBytes": 1000 + i})
            })
            .collect();
        let status = json!({"status": {"images": images,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status"}]}});
        let params = PatchParams::default();
        self.all::<Node>().patch_status(&name, &params, &Patch::Merge(status)).await.expect("taken");
    }

    async fn report(&self, i: usize, status: &Value) {
        let name = format!("node-{i:05}");
        let patch = json!({"status": status});
        let params = PatchParams::default();
        self.all::<NodeMirror>().patch_status(&name, &params, &Patch::Merge(patch)).await.expect("taken");
    }

    async fn bundle(&self, is_it: impl Fn(&Bundle) -> bool) -> Bundle {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
        let started = Instant::now();
        loop {
            let secret = api.get_opt(contract::BUNDLE_SECRET).await.expect("the API server answers");
            let bytes = secret.and_then(|secret| secret.data).and_then(|mut data| data.remove(BUNDLE_KEY));
            if let Some(bundle) = bytes.and_then(|bytes| unpack(&bytes.0).ok()).filter(&is_it) {
                return bundle;
            }
            assert!(started.elapsed() < DEADLINE, "the bundle was not published");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn empty(&self) {
        let (gone, all) = (DeleteParams::default(), ListParams::default());
        let started = Instant::now();
        // Thousands of deletions take longer than one request may; each try deletes more of them.
        loop {
            let nodes = self.all::<Node>().delete_collection(&gone, &all).await.is_ok();
            let objects = self.all::<RegistryMirror>().delete_collection(&gone, &all).await.is_ok();
            let mirrors = self.all::<NodeMirror>().delete_collection(&gone, &all).await.is_ok();
            if nodes && objects && mirrors {
                break;
            }
            assert!(started.elapsed() < DEADLINE, "the cluster could not be emptied");
        }
        let namespaces = self.all::<Namespace>();
        let _ = namespaces.delete(NAMESPACE, &gone).await;
        while namespaces.get_opt(NAMESPACE).await.expect("the API server answers").is_some() {
            assert!(started.elapsed() < DEADLINE, "the namespace is still there");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// What an agent says once it is done.
fn status(bundle: &Bundle) -> Value {
    let registries: Vec<_> = bundle
        .entries
        .iter()
        .map(|entry| {
            let mirrors: Vec<_> = entry
                .mirrors
                .iter()
                .map(|mirror| json!({"url": mirror.display_url, "state": "Active", "since": "2026-01-01T00:00:00Z"}))
                .collect();
            json!({"registry": entry.registry, "object": entry.object, "hash": entry.hash(), "mirrors": mirrors})
        })
        .collect();
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": "containerd pulls through the mirrors.",
            "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    json!({"observedGeneration": 1, "registries": registries, "restarts": 1,
        "containerd": {"version": "2.4.2", "distribution": "kubeadm", "configFile": "/etc/containerd/config.toml"},
        "plan": {"hash": "0123456789abcdef", "kind": "Adopt", "restart": false, "reason": "config_path is set"},
        "conditions": [condition("Ready", "True", "Ready"), condition("Effective", "True", "Proved"),
            condition("RestartPending", "False", "NoRestartNeeded"), condition("MirrorsHealthy", "True", "AllAnswer")]})
}
