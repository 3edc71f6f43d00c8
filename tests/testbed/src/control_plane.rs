//! etcd, the API server, the controller manager and the scheduler, as processes in the bed's network namespace.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::pki::{Authority, Pair, Subject, read, signing_keys};
use crate::registry::text_of;

/// Where the API server answers, inside the bed's network namespace.
pub(crate) const API_SERVER: &str = "https://10.88.0.1:6443";

/// Files that the control plane is started with.
pub(crate) struct ControlPlane<'a> {
    pub(crate) kubernetes: &'a Path,
    /// `etcd`, unpacked under this root.
    pub(crate) debian: &'a Path,
    pub(crate) state: &'a Path,
    pub(crate) data: &'a Path,
}

impl ControlPlane<'_> {
    fn pki(&self) -> PathBuf {
        self.state.join("pki")
    }

    /// Makes certificates and kubeconfigs. Returns the cluster's authority, which signs the kubelets'.
    pub(crate) fn prepare(&self) -> Result<Authority> {
        let pki = self.pki();
        let authority = Authority::create(&pki, "cluster-ca")?;
        let names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
            "127.0.0.1",
            "10.88.0.1",
            "10.96.0.1",
        ]
        .map(str::to_owned);
        authority.sign(
            &pki,
            "apiserver",
            Subject { common_name: "kube-apiserver", organization: None, names: &names },
        )?;
        signing_keys(&pki.join("service-accounts-key.pem"), &pki.join("service-accounts.pem"))?;
        for (file, common_name, organization) in [
            ("admin", "testbed-admin", Some("system:masters")),
            ("controller-manager", "system:kube-controller-manager", None),
            ("scheduler", "system:kube-scheduler", None),
        ] {
            let pair = authority.sign(&pki, file, Subject { common_name, organization, names: &[] })?;
            let path =
                if file == "admin" { self.state.join("kubeconfig") } else { pki.join(format!("{file}.kubeconfig")) };
            write_kubeconfig(&path, &authority.pair.certificate, &pair)?;
        }
        Ok(authority)
    }

    /// The command lines, in the order in which they start.
    pub(crate) fn services(&self) -> Vec<(&'static str, Vec<String>)> {
        let pki = self.pki();
        let file = |name: &str| text_of(&pki.join(name));
        let etcd = vec![
            text_of(&self.debian.join("usr/bin/etcd")),
            "--name=testbed".to_owned(),
            format!("--data-dir={}", self.data.join("etcd").display()),
            "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
            "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
            "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
            "--initial-advertise-peer-urls=http://127.0.0.1:2380".to_owned(),
            "--initial-cluster=testbed=http://127.0.0.1:2380".to_owned(),
            // A bed does not outlive its machine; without this each write waits for the disk.
            "--unsafe-no-fsync".to_owned(),
            "--logger=zap".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        let api_server = vec![
            text_of(&self.kubernetes.join("kube-apiserver")),
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            "--advertise-address=10.88.0.1".to_owned(),
            "--secure-port=6443".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--profiling=false".to_owned(),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            format!("--client-ca-file={}", file("cluster-ca.pem")),
            format!("--tls-cert-file={}", file("apiserver.pem")),
            format!("--tls-private-key-file={}", file("apiserver-key.pem")),
            format!("--kubelet-client-certificate={}", file("admin.pem")),
            format!("--kubelet-client-key={}", file("admin-key.pem")),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            format!("--service-account-key-file={}", file("service-accounts.pem")),
            format!("--service-account-signing-key-file={}", file("service-accounts-key.pem")),
        ];
        let kubeconfig = |name: &str| file(&format!("{name}.kubeconfig"));
        let controller_manager = vec![
            text_of(&self.kubernetes.join("kube-controller-manager")),
            format!("--kubeconfig={}", kubeconfig("controller-manager")),
            "--bind-address=127.0.0.1".to_owned(),
            "--leader-elect=false".to_owned(),
            "--use-service-account-credentials=true".to_owned(),
            "--profiling=false".to_owned(),
            // Volumes, node addresses and certificates are set up by hand here.
            "--controllers=*,-node-ipam-controller,-persistentvolume-binder-controller,-persistentvolume-attach-detach-controller,-persistentvolume-expander-controller,-horizontal-pod-autoscaler-controller,-certificatesigningrequest-signing-controller".to_owned(),
            format!("--root-ca-file={}", file("cluster-ca.pem")),
            format!("--service-account-private-key-file={}", file("service-accounts-key.pem")),
        ];
        let scheduler = vec![
            text_of(&self.kubernetes.join("kube-scheduler")),
            format!("--kubeconfig={}", kubeconfig("scheduler")),
            "--bind-address=127.0.0.1".to_owned(),
            "--leader-elect=false".to_owned(),
            "--profiling=false".to_owned(),
        ];
        vec![
            ("etcd", etcd),
            ("kube-apiserver", api_server),
            ("kube-controller-manager", controller_manager),
            ("kube-scheduler", scheduler),
        ]
    }
}

/// A kubeconfig that holds its certificates, so that it can be copied.
fn write_kubeconfig(path: &Path, authority: &Path, client: &Pair) -> Result<()> {
    let encoded = |path: &Path| -> Result<String> { Ok(STANDARD.encode(read(path)?)) };
    let text = format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: testbed\n  cluster:\n    server: {API_SERVER}\n    certificate-authority-data: {}\nusers:\n- name: testbed\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\ncontexts:\n- name: testbed\n  context: {{cluster: testbed, user: testbed}}\ncurrent-context: testbed\n",
        encoded(authority)?,
        encoded(&client.certificate)?,
        encoded(&client.key)?,
    );
    fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}
