//! A node that K3s runs, its server: a cluster of its own, with K3s's own API server and containerd.
//!
//! It looks as K3s's installer leaves it (`k3s.service`, the programs below the data directory), but for what a test bed
//! has no use of: flannel, kube-proxy, network policies, the add-ons.

use std::net::Ipv4Addr;

use crate::node_spec::{NodeFile, NodeSpec};

/// What a node names in place of a release of containerd.
pub const NAME: &str = "k3s";
/// Where K3s keeps everything of its own.
pub const DATA: &str = "/var/lib/rancher/k3s";
/// The socket of its containerd.
pub const SOCKET: &str = "/run/k3s/containerd/containerd.sock";
/// The service address of its API server, for pods.
pub const API_SERVER: &str = "10.43.0.1";
/// The administrator's kubeconfig, on the node.
pub(crate) const KUBECONFIG: &str = "/etc/rancher/k3s/k3s.yaml";
/// Below the data directory: the programs that a release unpacks.
pub(crate) const PROGRAMS: &str = "data/testbed/bin";
/// The sandbox image that it asks docker.io for.
pub(crate) const PAUSE: (&str, &str) = ("rancher/mirrored-pause", "3.6");

pub(crate) fn files(spec: &NodeSpec, address: Ipv4Addr) -> Vec<NodeFile> {
    let text = |path: String, content: String| NodeFile { path, mode: 0o644, content: content.into_bytes() };
    let settings = SETTINGS.replace("NODE", &spec.name).replace("ADDRESS", &address.to_string());
    vec![
        text("/etc/rancher/k3s/config.yaml".to_owned(), settings),
        text("/etc/systemd/system/k3s.service".to_owned(), UNIT.to_owned()),
        text("/etc/testbed/containerd.toml".to_owned(), CONTAINERD.to_owned()),
    ]
}

/// Files below [`DATA`], which is mounted.
pub(crate) const DATA_FILES: [(&str, &str); 1] = [("agent/etc/containerd/config-v3.toml.tmpl", TEMPLATE)];

/// The same as on the other nodes: the machine may withhold CAP_SYS_RESOURCE, and then no pod starts without it.
const CONTAINERD: &str = "\
version = 3
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
";

const TEMPLATE: &str = "\
imports = ['/etc/testbed/containerd.toml']
{{ template \"base\" . }}
";

const SETTINGS: &str = "\
node-name: NODE
node-ip: ADDRESS
tls-san: [ADDRESS]
flannel-backend: none
disable-kube-proxy: true
disable-network-policy: true
disable-helm-controller: true
disable-cloud-controller: true
disable: [coredns, servicelb, traefik, local-storage, metrics-server]
kubelet-arg:
- fail-cgroupv1=false
- fail-swap-on=false
- enforce-node-allocatable=
- eviction-hard=memory.available<50Mi,nodefs.available<1%,imagefs.available<1%
- image-gc-high-threshold=100
- image-gc-low-threshold=99
";

/// As the installer writes it. A release's program unpacks itself and then becomes `k3s-server`, under its first name.
const UNIT: &str = "\
[Unit]
Description=Lightweight Kubernetes
Documentation=https://k3s.io
After=testbed-prepare.service
Requires=testbed-prepare.service

[Service]
Type=notify
EnvironmentFile=-/etc/default/%N
EnvironmentFile=-/etc/sysconfig/%N
EnvironmentFile=-/etc/systemd/system/k3s.service.env
Environment=PATH=/var/lib/rancher/k3s/data/current/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
KillMode=process
Delegate=yes
User=root
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStart=@/var/lib/rancher/k3s/data/current/bin/k3s-server /usr/local/bin/k3s server

[Install]
WantedBy=multi-user.target
";
