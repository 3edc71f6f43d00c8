//! What a node's file system holds beside Debian: units, network, CNI, kubelet. Values in, files out.

use std::net::Ipv4Addr;

use crate::containerd_config;
use crate::k3s;
use crate::netns::GATEWAY;
use crate::node_spec::{Config, NodeFile, NodeSpec};

/// What the files of a node depend on.
#[derive(Debug, Clone)]
pub(crate) struct NodeContext<'a> {
    pub(crate) spec: &'a NodeSpec,
    pub(crate) bed: &'a str,
    pub(crate) number: u8,
    /// Lines for `/etc/hosts`: address and names.
    pub(crate) hosts: &'a [(Ipv4Addr, String)],
    pub(crate) kubernetes: Option<KubeletFiles>,
}

/// Certificates of a node, as PEM text.
#[derive(Debug, Clone)]
pub(crate) struct KubeletFiles {
    pub(crate) authority: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// The address of the bed's node of that number (from 0).
pub(crate) fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 88, 0, 100 + number)
}

/// The subnet of that node's pods.
pub(crate) fn pod_subnet(number: u8) -> String {
    format!("10.244.{number}.0/24")
}

/// All files, in the order in which they are written: the spec's own come last and win.
pub(crate) fn files(context: &NodeContext<'_>) -> Vec<NodeFile> {
    let NodeContext { spec, bed, number, hosts, kubernetes } = context;
    let text =
        |path: &str, content: String| NodeFile { path: path.to_owned(), mode: 0o644, content: content.into_bytes() };
    let secret = |path: &str, content: &str| NodeFile {
        path: path.to_owned(),
        mode: 0o600,
        content: content.as_bytes().to_vec(),
    };
    let mut files = vec![
        text("/etc/hostname", format!("{}\n", spec.name)),
        text("/etc/machine-id", format!("{}\n", machine_id(bed, &spec.name))),
        text("/etc/hosts", hosts_file(&spec.name, *number, hosts)),
        // There is no DNS in a bed: an address where nobody listens makes a lookup fail at once instead of timing out.
        text("/etc/resolv.conf", "nameserver 127.0.0.1\n".to_owned()),
        // What a node said before a power cut can be read after it.
        text(
            "/etc/systemd/journald.conf.d/testbed.conf",
            "[Journal]\nStorage=persistent\nSystemMaxUse=64M\n".to_owned(),
        ),
        text("/etc/testbed/prepare.sh", prepare_script(spec, *number)),
        text("/etc/systemd/system/testbed-prepare.service", PREPARE_UNIT.to_owned()),
        text("/etc/cni/net.d/10-bridge.conflist", cni(*number)),
    ];
    for (path, value) in
        [("vm.overcommit_memory", "1"), ("vm.panic_on_oom", "0"), ("kernel.panic", "10"), ("kernel.panic_on_oops", "1")]
    {
        files.push(text(&format!("/etc/testbed/sysctl/{path}"), format!("{value}\n")));
    }
    if spec.is_k3s() {
        files.extend(k3s::files(spec, address(*number)));
        files.extend(spec.files.iter().cloned());
        return files;
    }
    files.push(text("/etc/systemd/system/containerd.service", CONTAINERD_UNIT.to_owned()));
    match &spec.config {
        Config::Default => {
            files.push(text("/etc/containerd/config.toml", containerd_config::for_version(&spec.containerd)));
        }
        Config::Kind => files.push(text("/etc/containerd/config.toml", containerd_config::KIND.to_owned())),
        Config::Text(config) => files.push(text("/etc/containerd/config.toml", config.clone())),
        Config::Absent => {}
    }
    if let Some(KubeletFiles { authority, certificate, key }) = kubernetes {
        files.push(text("/etc/kubernetes/pki/ca.pem", authority.clone()));
        files.push(text("/etc/kubernetes/pki/kubelet.pem", certificate.clone()));
        files.push(secret("/etc/kubernetes/pki/kubelet-key.pem", key));
        files.push(secret("/etc/kubernetes/kubelet.kubeconfig", KUBELET_KUBECONFIG));
        files.push(text("/etc/kubernetes/kubelet.yaml", KUBELET_CONFIG.to_owned()));
        files.push(text("/etc/systemd/system/kubelet.service", kubelet_unit(spec, *number)));
    }
    files.extend(spec.files.iter().cloned());
    files
}

/// Symbolic links: units that start at boot, and units of no use here.
pub(crate) fn links(spec: &NodeSpec, kubernetes: bool) -> Vec<(String, String)> {
    let kubelet = kubernetes && !spec.is_k3s();
    let wanted = ["testbed-prepare.service", spec.unit()].into_iter().chain(kubelet.then_some("kubelet.service"));
    // `/usr` is every node's, and with it the package: without these two nothing of it ever runs.
    let bus: &[&str] = if spec.without_dbus { &["dbus.service", "dbus.socket"] } else { &[] };
    let enabled = wanted.map(|unit| {
        (format!("/etc/systemd/system/multi-user.target.wants/{unit}"), format!("/etc/systemd/system/{unit}"))
    });
    let masked = [
        "console-getty.service",
        "getty.target",
        "systemd-logind.service",
        "systemd-networkd.service",
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "dpkg-db-backup.timer",
        "e2scrub_all.timer",
        "fstrim.timer",
        "e2scrub_reap.service",
        "systemd-update-utmp.service",
        "systemd-update-utmp-runlevel.service",
        "systemd-firstboot.service",
    ];
    let masked = masked.iter().chain(bus).map(|unit| (format!("/etc/systemd/system/{unit}"), "/dev/null".to_owned()));
    enabled
        .chain(masked)
        .chain([("/etc/systemd/system/default.target".to_owned(), "/lib/systemd/system/multi-user.target".to_owned())])
        .collect()
}

fn machine_id(bed: &str, node: &str) -> String {
    use sha2::{Digest, Sha256};
    crate::cache::hex(&Sha256::digest(format!("{bed}/{node}")))[..32].to_owned()
}

fn hosts_file(node: &str, number: u8, hosts: &[(Ipv4Addr, String)]) -> String {
    let mut text = format!("127.0.0.1 localhost\n::1 localhost\n{} {node}\n", address(number));
    for (address, name) in hosts {
        text.push_str(&format!("{address} {name}\n"));
    }
    text
}

fn prepare_script(spec: &NodeSpec, number: u8) -> String {
    let (service, server) = match spec.is_k3s() {
        true => (k3s::API_SERVER, address(number)),
        false => ("10.96.0.1", GATEWAY),
    };
    format!(
        r#"#!/bin/sh
set -eu
ip address replace {address}/24 dev host0
ip link set host0 up
ip route replace default via {GATEWAY}
# Pods need writable control groups; a container's boot mounts them read-only.
for controller in /sys/fs/cgroup/*; do
    if mountpoint -q "$controller"; then
        mount -o remount,bind,rw,nosuid,nodev,noexec "$controller" || true
    fi
done
mount -o remount,rw /sys/fs/cgroup || true
# Mounts of pods are shared with the host, as on any node.
mount --make-rshared /
# The kubelet wants these values; it reads them here, and the machine's kernel stays as it is.
for file in /etc/testbed/sysctl/*; do
    name=${{file##*/}}
    mount --bind "$file" "/proc/sys/${{name%%.*}}/${{name#*.}}"
done
# The service address of the API server, without kube-proxy.
for chain in PREROUTING OUTPUT; do
    iptables -w -t nat -A "$chain" -d {service} -p tcp --dport 443 -j DNAT --to-destination {server}:6443
done
"#,
        address = address(number)
    )
}

const PREPARE_UNIT: &str = "\
[Unit]
Description=Network, mounts and kernel values of a test node
DefaultDependencies=no
After=local-fs.target
Before=containerd.service kubelet.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /etc/testbed/prepare.sh
";

/// Upstream's unit (packages of deb and rpm), with the path of a release tarball.
const CONTAINERD_UNIT: &str = "\
[Unit]
Description=containerd container runtime
Documentation=https://containerd.io
After=network.target local-fs.target testbed-prepare.service
Requires=testbed-prepare.service

[Service]
ExecStartPre=-/sbin/modprobe overlay
ExecStart=/usr/local/bin/containerd

Type=notify
Delegate=yes
KillMode=process
Restart=always
RestartSec=5
LimitNPROC=infinity
LimitCORE=infinity
LimitNOFILE=infinity
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
";

fn kubelet_unit(spec: &NodeSpec, number: u8) -> String {
    let labels: Vec<String> = spec.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let labels = if labels.is_empty() { String::new() } else { format!(" --node-labels={}", labels.join(",")) };
    format!(
        "\
[Unit]
Description=kubelet
After=containerd.service
Wants=containerd.service

[Service]
# A kubelet that comes before the API server backs off for seconds; the bed says when it may begin.
ExecStartPre=/bin/sh -c 'until [ -e /var/lib/kubelet/.api-server-is-up ]; do sleep 0.1; done'
ExecStart=/opt/kubernetes/bin/kubelet --config=/etc/kubernetes/kubelet.yaml --kubeconfig=/etc/kubernetes/kubelet.kubeconfig --hostname-override={name} --node-ip={ip}{labels}
TimeoutStartSec=infinity
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
",
        name = spec.name,
        ip = address(number)
    )
}

const KUBELET_KUBECONFIG: &str = "\
apiVersion: v1
kind: Config
clusters:
- name: testbed
  cluster: {server: 'https://10.88.0.1:6443', certificate-authority: /etc/kubernetes/pki/ca.pem}
users:
- name: kubelet
  user: {client-certificate: /etc/kubernetes/pki/kubelet.pem, client-key: /etc/kubernetes/pki/kubelet-key.pem}
contexts:
- name: testbed
  context: {cluster: testbed, user: kubelet}
current-context: testbed
";

const KUBELET_CONFIG: &str = "\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: /etc/kubernetes/pki/ca.pem}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
failSwapOn: false
enforceNodeAllocatable: []
makeIPTablesUtilChains: false
volumePluginDir: /var/lib/kubelet/volume-plugins
resolvConf: /etc/resolv.conf
registerNode: true
maxPods: 60
evictionHard: {memory.available: 50Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
";

fn cni(number: u8) -> String {
    format!(
        r#"{{
  "cniVersion": "0.4.0",
  "name": "testbed",
  "plugins": [
    {{
      "type": "bridge",
      "bridge": "cni0",
      "isGateway": true,
      "ipMasq": true,
      "hairpinMode": true,
      "ipam": {{"type": "host-local", "ranges": [[{{"subnet": "{}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}
    }},
    {{"type": "portmap", "capabilities": {{"portMappings": true}}}}
  ]
}}
"#,
        pod_subnet(number)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(spec: &NodeSpec) -> NodeContext<'_> {
        NodeContext { spec, bed: "bed", number: 1, hosts: &[], kubernetes: None }
    }

    #[test]
    fn the_file_of_a_spec_wins() {
        let spec = NodeSpec::new("node2", "2.4.2").file("/etc/hosts", 0o644, "mine\n");
        let files = files(&context(&spec));
        assert_eq!(files.iter().rfind(|file| file.path == "/etc/hosts").unwrap().content, b"mine\n");
    }

    #[test]
    fn a_node_may_have_no_config() {
        let spec = NodeSpec::new("node2", "2.4.2").config(Config::Absent);
        assert!(files(&context(&spec)).iter().all(|file| file.path != "/etc/containerd/config.toml"));
    }

    #[test]
    fn the_cni_configuration_is_json() {
        let parsed: serde_json::Value = serde_json::from_str(&cni(1)).unwrap();
        assert_eq!(parsed["plugins"][0]["ipam"]["ranges"][0][0]["subnet"], "10.244.1.0/24");
    }

    #[test]
    fn nodes_have_distinct_machine_ids() {
        assert_ne!(machine_id("a", "node1"), machine_id("b", "node1"));
        assert_eq!(machine_id("a", "node1").len(), 32);
    }
}
