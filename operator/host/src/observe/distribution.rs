//! What kind of host this is, by files that only that kind has.

use std::path::{Path, PathBuf};

use registry_mirror_core::{
    observed::{Detected, Distribution},
    plan::managed_elsewhere::Generator,
};

use super::{daemon::DEFAULT_CONFIG, managed_elsewhere};
use crate::root::{FileError, HostRoot};

/// Configuration files that belong to one distribution alone, by the directory that they are in.
const CONFIG_DIRECTORIES: [(&str, Distribution); 7] = [
    ("/var/lib/rancher/k3s/", Distribution::K3s),
    ("/var/lib/rancher/rke2/", Distribution::Rke2),
    ("/var/snap/microk8s/", Distribution::Microk8s),
    ("/etc/k0s/", Distribution::K0s),
    ("/run/k0s/", Distribution::K0s),
    ("/var/lib/k0s/", Distribution::K0s),
    ("/etc/cri/", Distribution::Talos),
];

/// `ID=` of os-release.
const SYSTEMS: [(&str, Distribution); 4] = [
    ("talos", Distribution::Talos),
    ("bottlerocket", Distribution::Bottlerocket),
    ("flatcar", Distribution::Flatcar),
    // Container-Optimized OS is Google's own, for GKE nodes.
    ("cos", Distribution::Gke),
];

/// Files and directories that the provisioning of a kind of node leaves behind. The first that is found decides, so
/// those that stand inside of others (KinD on a cloud machine) come first.
const TRACES: [(&str, Distribution); 25] = [
    ("/kind/version", Distribution::Kind),
    ("/kind/product_name", Distribution::Kind),
    ("/var/lib/rancher/k3s/agent/etc/containerd/config.toml", Distribution::K3s),
    ("/var/lib/rancher/rke2/agent/etc/containerd/config.toml", Distribution::Rke2),
    ("/var/snap/microk8s/current/args/containerd.toml", Distribution::Microk8s),
    ("/etc/k0s/containerd.toml", Distribution::K0s),
    ("/etc/eks", Distribution::Eks),
    ("/usr/bin/nodeadm", Distribution::Eks),
    ("/opt/azure/containers", Distribution::Aks),
    ("/home/kubernetes/kube-env", Distribution::Gke),
    // Installed, and not started yet.
    ("/etc/systemd/system/k3s.service", Distribution::K3s),
    ("/etc/systemd/system/k3s-agent.service", Distribution::K3s),
    ("/etc/init.d/k3s", Distribution::K3s),
    ("/etc/init.d/k3s-agent", Distribution::K3s),
    ("/usr/local/lib/systemd/system/rke2-server.service", Distribution::Rke2),
    ("/usr/local/lib/systemd/system/rke2-agent.service", Distribution::Rke2),
    ("/usr/lib/systemd/system/rke2-server.service", Distribution::Rke2),
    ("/usr/lib/systemd/system/rke2-agent.service", Distribution::Rke2),
    ("/snap/microk8s/current", Distribution::Microk8s),
    ("/etc/systemd/system/k0scontroller.service", Distribution::K0s),
    ("/etc/systemd/system/k0sworker.service", Distribution::K0s),
    ("/etc/init.d/k0scontroller", Distribution::K0s),
    ("/etc/init.d/k0sworker", Distribution::K0s),
    // Set up and not installed yet: cloud-init may write these first.
    ("/etc/rancher/k3s", Distribution::K3s),
    ("/etc/rancher/rke2", Distribution::Rke2),
];

/// Detects the kind of host. `config_file` is the file of the running containerd, where one runs: on a host with two
/// of them it tells which is meant.
///
/// # Errors
/// A path of the host cannot be looked at.
pub fn detect(root: &HostRoot, config_file: Option<&Path>) -> Result<Detected, FileError> {
    if let Some(config_file) = config_file {
        for (directory, distribution) in CONFIG_DIRECTORIES {
            if config_file.starts_with(directory) {
                let evidence = format!("its containerd reads {}", config_file.display());
                return Ok(Detected { distribution, evidence });
            }
        }
        if let Some(detected) = with_its_data_elsewhere(root, config_file)? {
            return Ok(detected);
        }
    }
    for path in ["/etc/os-release", "/usr/lib/os-release"] {
        // A dangling link to a file that an image does not ship is no evidence.
        let Ok(Some(text)) = root.read(Path::new(path)) else { continue };
        if let Some(id) = os_release_id(&String::from_utf8_lossy(&text))
            && let Some((_, distribution)) = SYSTEMS.iter().find(|(system, _)| *system == id)
        {
            return Ok(Detected { distribution: *distribution, evidence: format!("{path} says ID={id}") });
        }
        break;
    }
    for (path, distribution) in TRACES {
        // The daemon that runs here is none of these, whatever an earlier installation left behind.
        if brings_its_own(distribution) && config_file.is_some() {
            continue;
        }
        if root.stat_link(Path::new(path)).ok().flatten().is_some() {
            return Ok(Detected { distribution, evidence: format!("{path} exists") });
        }
    }
    Ok(Detected { distribution: Distribution::Plain, evidence: "no file of a known distribution".to_owned() })
}

/// K3s or RKE2 with `data-dir` set: the layout below it and the first line of the file tell.
fn with_its_data_elsewhere(root: &HostRoot, config_file: &Path) -> Result<Option<Detected>, FileError> {
    let Some(certs_d) = config_file.parent().map(|parent| parent.join("certs.d")) else { return Ok(None) };
    if !config_file.ends_with("agent/etc/containerd/config.toml") {
        return Ok(None);
    }
    let content = root.read(config_file)?;
    let Some(Generator { program }) = Generator::of(&certs_d, content.as_deref()) else { return Ok(None) };
    let distribution = if program == "rke2" { Distribution::Rke2 } else { Distribution::K3s };
    let evidence = format!("its containerd reads {}, which is where {program} keeps it", config_file.display());
    Ok(Some(Detected { distribution, evidence }))
}

/// Whether this kind of host starts a containerd that it brought along, beside which another one may be installed.
pub const fn brings_its_own(distribution: Distribution) -> bool {
    matches!(distribution, Distribution::K3s | Distribution::Rke2 | Distribution::Microk8s | Distribution::K0s)
}

/// The file that this kind of host starts its containerd with, where no running one tells.
#[must_use]
pub const fn config_file(distribution: Distribution) -> &'static str {
    match distribution {
        Distribution::K3s => "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
        Distribution::Rke2 => "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
        Distribution::Microk8s => "/var/snap/microk8s/current/args/containerd.toml",
        Distribution::K0s => "/etc/k0s/containerd.toml",
        Distribution::Talos => "/etc/cri/containerd.toml",
        Distribution::Plain
        | Distribution::Kind
        | Distribution::Eks
        | Distribution::Aks
        | Distribution::Gke
        | Distribution::Flatcar
        | Distribution::Bottlerocket => DEFAULT_CONFIG,
    }
}

/// The same where the settings of K3s or RKE2 name another data directory.
pub fn moved_config_file(root: &HostRoot, distribution: Distribution) -> Option<PathBuf> {
    let program = match distribution {
        Distribution::K3s => "k3s",
        Distribution::Rke2 => "rke2",
        _ => return None,
    };
    managed_elsewhere::settings(root, &Generator { program: program.to_owned() }).config_toml()
}

fn os_release_id(text: &str) -> Option<&str> {
    let value = text.lines().find_map(|line| line.trim().strip_prefix("ID="))?;
    Some(value.trim_matches(['"', '\'']))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, HostRoot) {
        let dir = tempfile::tempdir().expect("tempdir");
        for (path, text) in files {
            let path = dir.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            fs::write(path, text).expect("file");
        }
        let root = HostRoot::open(dir.path()).expect("root");
        (dir, root)
    }

    #[test]
    fn each_kind_is_known_by_its_own_traces() {
        let plain = "/var/lib/nothing";
        for (path, text, expected) in [
            (plain, "", Distribution::Plain),
            ("/kind/version", "v0.30.0", Distribution::Kind),
            ("/etc/eks/containerd/x", "", Distribution::Eks),
            ("/opt/azure/containers/provision.sh", "", Distribution::Aks),
            ("/home/kubernetes/kube-env", "", Distribution::Gke),
            ("/etc/os-release", "NAME=x\nID=flatcar\nID_LIKE=coreos", Distribution::Flatcar),
            ("/etc/os-release", "ID=\"bottlerocket\"", Distribution::Bottlerocket),
            ("/etc/os-release", "ID=talos", Distribution::Talos),
            ("/etc/os-release", "ID=debian", Distribution::Plain),
            ("/var/lib/rancher/k3s/agent/etc/containerd/config.toml", "", Distribution::K3s),
            ("/var/lib/rancher/rke2/agent/etc/containerd/config.toml", "", Distribution::Rke2),
            ("/var/snap/microk8s/current/args/containerd.toml", "", Distribution::Microk8s),
            ("/etc/k0s/containerd.toml", "", Distribution::K0s),
        ] {
            let (_dir, root) = host(&[(path, text)]);
            let detected = detect(&root, None).expect("readable");
            assert_eq!(detected.distribution, expected, "{path}: {}", detected.evidence);
            assert!(
                expected == Distribution::Plain
                    || detected.evidence.contains(path.split("/x").next().unwrap_or(path))
                    || path.starts_with(detected.evidence.trim_end_matches(" exists")),
                "{}",
                detected.evidence
            );
        }
    }

    #[test]
    fn the_running_daemon_decides_on_a_host_with_traces_of_another() {
        let (_dir, root) = host(&[("/var/lib/rancher/k3s/agent/etc/containerd/config.toml", "")]);
        let detected = detect(&root, Some(Path::new("/etc/containerd/config.toml"))).expect("readable");
        assert_eq!(detected.distribution, Distribution::Plain);
        let k3s = Path::new("/var/lib/rancher/k3s/agent/etc/containerd/config.toml");
        assert_eq!(detect(&root, Some(k3s)).expect("readable").distribution, Distribution::K3s);
    }
}
