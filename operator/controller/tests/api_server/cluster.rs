//! One cluster, one controller at a time.

use std::{
    collections::BTreeMap,
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace, Node, Pod, Secret, ServiceAccount},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, CustomResourceExt, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use registry_mirror_controller::{ControllerConfig, ControllerError, contract, run};
use registry_mirror_core::bundle::{BUNDLE_KEY, Bundle, unpack};
use registry_mirror_crds::{NodeMirror, RegistryMirror};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle};
use tracing_subscriber::EnvFilter;

/// Long enough for a machine that is busy with other things; a test that waits this long has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// Where the kubeconfig is.
const KUBECONFIG: &str = "REGISTRY_MIRROR_TEST_KUBECONFIG";

/// What every restart changes.
const CHANGE: &str = "sets-config-path";

/// RegistryMirrors and Nodes are cluster-wide, so the tests take turns.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
static NAMESPACES: AtomicU32 = AtomicU32::new(0);

pub struct Cluster {
    pub client: Client,
    pub namespace: String,
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

pub struct Running {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), ControllerError>>,
}

impl Running {
    /// As on SIGTERM.
    pub async fn stop(mut self) -> Result<(), ControllerError> {
        drop(self.stop.take());
        self.task.await.expect("the controller does not panic")
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// What it says when it ends by itself.
    pub async fn ended(self) -> Result<(), ControllerError> {
        self.task.await.expect("the controller does not panic")
    }

    /// Drops it at whatever it is doing.
    pub fn cut_off(self) {
        self.task.abort();
    }
}

impl Cluster {
    /// An empty cluster with the CRDs and a namespace of its own, or `None` where there is none to be had.
    pub async fn clean() -> Option<Self> {
        if std::env::var_os(KUBECONFIG).is_none() {
            eprintln!("skipped: {KUBECONFIG} is not set");
            return None;
        }
        let turn = TURN.lock().await;
        // Shown where a test fails.
        let filter = EnvFilter::new("info,registry_mirror_controller=debug");
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let client = Client::try_from(client_config().await).expect("a client");
        let number = NAMESPACES.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("t{}-{number}", std::process::id());
        let cluster = Self { client, namespace, _turn: turn };
        cluster.install_crds().await;
        cluster.sweep().await;
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": cluster.namespace}});
        cluster.create::<Namespace>(&Api::all(cluster.client.clone()), object).await;
        let accounts: Api<ServiceAccount> = cluster.here();
        until("the namespace's service account", || async { accounts.get_opt("default").await.ok().flatten() }).await;
        Some(cluster)
    }

    async fn install_crds(&self) {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for crd in [RegistryMirror::crd(), NodeMirror::crd()] {
            let name = crd.name_any();
            let params = PatchParams::apply("test").force();
            api.patch(&name, &params, &Patch::Apply(&crd)).await.expect("the API server takes the CRD");
            until("the CRD is served", || async {
                let crd = api.get(&name).await.ok()?;
                let conditions = crd.status?.conditions?;
                conditions.iter().any(|c| c.type_ == "Established" && c.status == "True").then_some(())
            })
            .await;
        }
    }

    /// Leaves nothing of earlier tests.
    async fn sweep(&self) {
        let (gone, all) = (DeleteParams::default(), ListParams::default());
        let objects: Api<RegistryMirror> = Api::all(self.client.clone());
        let mirrors: Api<NodeMirror> = Api::all(self.client.clone());
        let nodes: Api<Node> = Api::all(self.client.clone());
        nodes.delete_collection(&gone, &all).await.expect("Nodes can be deleted");
        objects.delete_collection(&gone, &all).await.expect("RegistryMirrors can be deleted");
        mirrors.delete_collection(&gone, &all).await.expect("NodeMirrors can be deleted");
        until("they are gone", || async {
            let left = objects.list(&all).await.ok()?.items.len() + mirrors.list(&all).await.ok()?.items.len();
            (left + nodes.list(&all).await.ok()?.items.len() == 0).then_some(())
        })
        .await;
    }

    pub fn here<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn all<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::ClusterResourceScope>,
        K::DynamicType: Default,
    {
        Api::all(self.client.clone())
    }

    pub fn config(&self, identity: &str) -> ControllerConfig {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let config = ControllerConfig::new(self.namespace.clone(), identity.to_owned(), listen);
        ControllerConfig { agent_grace: Duration::ZERO, ..config }
    }

    /// Starts it on this thread, as the binary does.
    pub fn start(&self, config: ControllerConfig) -> Running {
        self.start_with(self.client.clone(), config)
    }

    /// Starts it with a client of its own.
    pub fn start_with(&self, client: Client, config: ControllerConfig) -> Running {
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(run(config, client, async {
            let _ = stopped.await;
        }));
        Running { stop: Some(stop), task }
    }

    async fn create<K>(&self, api: &Api<K>, object: Value) -> K
    where
        K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
    {
        let object = serde_json::from_value(object).expect("an object of this kind");
        api.create(&PostParams::default(), &object).await.expect("the API server takes it")
    }

    pub async fn mirror(&self, name: &str, spec: Value) -> RegistryMirror {
        let object = json!({"apiVersion": "registry-mirror.dev/v1alpha1", "kind": "RegistryMirror",
            "metadata": {"name": name}, "spec": spec});
        let params = PatchParams::apply("test").force();
        self.all::<RegistryMirror>().patch(name, &params, &Patch::Apply(object)).await.expect("the API server takes it")
    }

    pub async fn secret(&self, name: &str, data: &[(&str, &str)]) {
        let data: BTreeMap<_, _> = data.iter().copied().collect();
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
        let params = PatchParams::apply("test").force();
        self.here::<Secret>().patch(name, &params, &Patch::Apply(object)).await.expect("the API server takes it");
    }

    pub async fn bundle(&self) -> Option<Bundle> {
        let secret = self.here::<Secret>().get_opt(contract::BUNDLE_SECRET).await.ok()??;
        unpack(&secret.data?.get(BUNDLE_KEY)?.0).ok()
    }

    pub async fn objects_of_bundle(&self) -> Option<Vec<String>> {
        Some(self.bundle().await?.entries.into_iter().map(|entry| entry.object).collect())
    }

    /// A Node that is Ready, and its NodeMirror once the controller has made it.
    pub async fn node(&self, name: &str, labels: Value, taints: Value) {
        let mut all = json!({"kubernetes.io/os": "linux"});
        merge(&mut all, labels);
        let nodes: Api<Node> = self.all();
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": all},
            "spec": {"taints": taints}});
        self.create(&nodes, object).await;
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Test",
            "message": "", "lastHeartbeatTime": now(), "lastTransitionTime": now()}]}});
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.expect("the Node becomes Ready");
    }

    /// The Pod of a node's agent.
    pub async fn agent_pod(&self, node: &str, ready: bool) {
        let pods: Api<Pod> = self.here();
        let name = format!("agent-{node}");
        if pods.get_opt(&name).await.expect("the API server answers").is_none() {
            let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {
                "app.kubernetes.io/name": "registry-mirror-operator", "app.kubernetes.io/component": "agent"}},
                "spec": {"nodeName": node, "containers": [{"name": "agent", "image": "none"}],
                    "tolerations": [{"operator": "Exists"}]}});
            self.create(&pods, object).await;
        }
        let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready",
            "status": if ready { "True" } else { "False" }, "lastTransitionTime": now()}]}});
        pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .expect("the Pod's status is taken");
    }

    pub async fn node_mirror(&self, node: &str) -> NodeMirror {
        let api: Api<NodeMirror> = self.all();
        until("the NodeMirror exists", || async { api.get_opt(node).await.ok().flatten() }).await
    }

    /// What the agent of a node says. `conditions`: type, status, reason.
    pub async fn report(&self, node: &str, conditions: &[(&str, &str, &str)], restart: Option<&str>) {
        self.report_with(node, conditions, restart, json!({})).await;
    }

    /// The same with other fields of the status.
    pub async fn report_with(&self, node: &str, conditions: &[(&str, &str, &str)], restart: Option<&str>, more: Value) {
        let generation = self.node_mirror(node).await.metadata.generation;
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(kind, status, reason)| {
                json!({"type": kind, "status": status, "reason": reason, "message": format!("{reason} on {node}."),
                    "observedGeneration": generation, "lastTransitionTime": now()})
            })
            .collect();
        let bundle = self.bundle().await.expect("a bundle");
        let registries: Vec<_> = bundle
            .entries
            .iter()
            .map(|entry| {
                let mirrors: Vec<_> =
                    entry.mirrors.iter().map(|mirror| json!({"url": mirror.display_url, "state": "Active"})).collect();
                json!({"registry": entry.registry, "object": entry.object, "hash": entry.hash(), "mirrors": mirrors})
            })
            .collect();
        let plan = json!({"hash": restart.unwrap_or("none"), "kind": if restart.is_some() { "Patch" } else { "Adopt" },
            "restart": restart.is_some(), "reason": "config_path is not set", "changes": [], "change": CHANGE});
        let mut status = json!({"observedGeneration": generation, "conditions": conditions, "registries": registries,
            "plan": plan});
        merge(&mut status, more);
        let status = json!({"apiVersion": "registry-mirror.dev/v1alpha1", "kind": "NodeMirror", "status": status});
        let api: Api<NodeMirror> = self.all();
        let params = PatchParams::apply("test-agent").force();
        api.patch_status(node, &params, &Patch::Apply(status)).await.expect("the API server takes the status");
    }

    pub async fn report_ready(&self, node: &str) {
        self.report(node, &[("Ready", "True", "Ready"), ("RestartPending", "False", "NoRestartNeeded")], None).await;
    }

    /// It has restarted as it was granted, and a pull has proved it.
    pub async fn report_restarted(&self, node: &str) {
        let conditions = [("Ready", "True", "Ready"), ("Effective", "True", "Proved")];
        let proved = json!({"restarts": 1, "provedRestart": {"change": CHANGE, "at": now()}});
        self.report_with(node, &conditions, None, proved).await;
    }

    pub async fn report_pending(&self, node: &str, plan: &str) {
        let conditions = [("Ready", "False", "RestartPending"), ("RestartPending", "True", "WaitsForApproval")];
        self.report(node, &conditions, Some(plan)).await;
    }

    pub async fn report_failed(&self, node: &str, plan: &str) {
        let conditions = [("Ready", "False", "RestartFailed"), ("RestartPending", "False", "NoRestartNeeded")];
        self.report(node, &conditions, Some(plan)).await;
    }

    /// It could not begin; nothing was touched.
    pub async fn report_refused(&self, node: &str, plan: &str) {
        let conditions = [("Ready", "False", "RestartRefused"), ("RestartPending", "False", "NoRestartNeeded")];
        self.report(node, &conditions, Some(plan)).await;
    }

    /// The nodes that may restart now.
    pub async fn approved(&self) -> Vec<String> {
        let list = self.all::<NodeMirror>().list(&ListParams::default()).await.expect("the API server answers");
        let mut names: Vec<_> =
            list.items.into_iter().filter(|m| m.spec.restart_approval.is_some()).map(|m| m.name_any()).collect();
        names.sort();
        names
    }

    pub async fn rollout(&self) -> Option<BTreeMap<String, String>> {
        self.here::<ConfigMap>().get_opt(contract::ROLLOUT_CONFIG_MAP).await.ok()??.data
    }

    /// `type=status reason` of each condition of a RegistryMirror, and what `kubectl get` shows of the nodes.
    pub async fn told(&self, name: &str) -> Option<(Vec<String>, String)> {
        let status = self.all::<RegistryMirror>().get(name).await.ok()?.status?;
        let conditions = status.conditions.iter().map(|c| format!("{}={} {}", c.type_, c.status, c.reason)).collect();
        Some((conditions, status.nodes.unwrap_or_default().summary))
    }

    /// Waits for a condition of a RegistryMirror.
    pub async fn tells(&self, name: &str, condition: &str) {
        let started = Instant::now();
        let mut last = None;
        while started.elapsed() < DEADLINE {
            last = self.told(name).await;
            if last.as_ref().is_some_and(|(conditions, _)| conditions.iter().any(|c| c == condition)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{name} does not tell {condition}; it tells {last:?}");
    }
}

/// How the cluster is reached.
pub async fn client_config() -> Config {
    let path = std::env::var_os(KUBECONFIG).expect("the kubeconfig is named");
    let kubeconfig = Kubeconfig::read_from(path).expect("the kubeconfig");
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("it is whole")
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Waits until `look` finds something; the deadline is a failure.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "{what}: not in {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
