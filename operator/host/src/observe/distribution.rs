//! What kind of host this is, by files that only that kind has.

use std::path::{Path, PathBuf};

use registry_mirror_core::observed::{Detected, Distribution};

use super::daemon::DEFAULT_CONFIG;
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
const TRACES: [(&str, Distribution); 14] = [
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
    ("/etc/systemd/system/k3s.service", Distribution::K3s),
    ("/etc/systemd/system/k3s-agent.service", Distribution::K3s),
    ("/usr/local/lib/systemd/system/rke2-server.service", Distribution::Rke2),
    ("/usr/local/lib/systemd/system/rke2-agent.service", Distribution::Rke2),
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
        let embedded = matches!(
            distribution,
            Distribution::K3s | Distribution::Rke2 | Distribution::Microk8s | Distribution::K0s
        );
        if embedded && config_file.is_some() {
            continue;
        }
        if root.stat_link(Path::new(path)).ok().flatten().is_some() {
            return Ok(Detected { distribution, evidence: format!("{path} exists") });
        }
    }
    Ok(Detected { distribution: Distribution::Plain, evidence: "no file of a known distribution".to_owned() })
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

/// The file that the unit files of a host that is not running start containerd with: `--config` of the last
/// `ExecStart=` of containerd.service and its drop-ins, if any says so.
///
/// # Errors
/// A unit file cannot be read.
pub fn config_file_of_unit_files(root: &HostRoot) -> Result<Option<PathBuf>, FileError> {
    const DIRECTORIES: [&str; 4] =
        ["/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"];
    let mut texts = Vec::new();
    for directory in DIRECTORIES {
        // The first one hides the others (systemd.unit(5)).
        if let Ok(Some(text)) = root.read(&Path::new(directory).join("containerd.service")) {
            texts.push(text);
            break;
        }
    }
    let mut drop_ins: Vec<PathBuf> = Vec::new();
    for directory in DIRECTORIES {
        drop_ins.extend(root.glob(&format!("{directory}/containerd.service.d/*.conf"))?);
    }
    // Drop-ins apply in the order of their names, whatever directory they are in.
    drop_ins.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    for path in drop_ins {
        texts.extend(root.read(&path)?);
    }
    let mut command = None;
    for text in texts {
        for line in String::from_utf8_lossy(&text).lines() {
            if let Some(value) = line.trim().strip_prefix("ExecStart=") {
                command = Some(value.to_owned());
            }
        }
    }
    let words: Vec<String> = command.unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect();
    Ok(super::daemon::config_flag(&words).filter(|path| !path.to_string_lossy().contains('$')))
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
            assert!(expected == Distribution::Plain || detected.evidence.contains(path.split("/x").next().unwrap_or(path))
                || path.starts_with(detected.evidence.trim_end_matches(" exists")), "{}", detected.evidence);
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

    #[test]
    fn unit_files_name_the_configuration_of_a_host_that_is_not_running() {
        let unit = "[Service]\nExecStart=/usr/bin/containerd\n";
        let (_dir, root) = host(&[("/usr/lib/systemd/system/containerd.service", unit)]);
        assert_eq!(config_file_of_unit_files(&root).expect("readable"), None);
        let (_dir, root) = host(&[
            ("/usr/lib/systemd/system/containerd.service", unit),
            (
                "/etc/systemd/system/containerd.service.d/10-x.conf",
                "[Service]\nExecStart=\nExecStart=/usr/bin/containerd --config /opt/c.toml\n",
            ),
        ]);
        assert_eq!(config_file_of_unit_files(&root).expect("readable"), Some(PathBuf::from("/opt/c.toml")));
    }
}
