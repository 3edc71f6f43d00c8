//! Which containerd is meant: some hosts run two, and only one of them runs this node's pods.

use std::path::{Path, PathBuf};

use registry_mirror_core::containerd::Version;
use thiserror::Error;

use crate::{
    cri::{Cri, CriError},
    root::HostRoot,
};

/// Where distributions let their containerd listen, the usual one first.
const KNOWN: [&str; 6] = [
    "/run/containerd/containerd.sock",
    // K3s and RKE2
    "/run/k3s/containerd/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
    "/run/k0s/containerd.sock",
    // Bottlerocket: this one runs the pods, the next one its own host containers.
    "/run/dockershim.sock",
    "/run/host-containerd/containerd.sock",
];

/// Where the kubelet is told which socket to use, when it is not the usual one.
const KUBELET_SETTINGS: [&str; 3] =
    ["/var/lib/kubelet/config.yaml", "/var/lib/kubelet/kubeadm-flags.env", "/etc/default/kubelet"];

/// A containerd that answers.
#[derive(Debug, Clone)]
pub struct Found {
    /// To ask it.
    pub cri: Cri,
    /// Its socket on the host.
    pub socket: PathBuf,
    /// Its release.
    pub version: Version,
}

/// No containerd, or more than one, and no way to tell which.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SocketError {
    /// None answers.
    #[error("no containerd answers on this host; tried {tried}: start containerd, or name another host root")]
    NoneAnswers {
        /// The sockets with their reasons.
        tried: String,
    },
    /// Some answer, but none runs our own pod.
    #[error("none of the containerds on this host ({answering}) runs the agent's own pod {pod}: nothing is touched")]
    NotOurs {
        /// The sockets that answer.
        answering: String,
        /// The pod's UID.
        pod: String,
    },
    /// More than one answers.
    #[error(
        "several containerds answer on this host ({answering}), and none of them on {}: name one by its configuration \
         file, or run inside the cluster, where the pod tells",
        KNOWN[0]
    )]
    Several {
        /// The sockets that answer.
        answering: String,
    },
}

/// Finds the containerd that is meant: the one that runs the pod with this UID; without a pod the usual one, or the only
/// one that answers.
///
/// # Errors
/// None answers, or it cannot be told which is meant.
pub async fn find(root: &HostRoot, pod_uid: Option<&str>) -> Result<Found, SocketError> {
    let mut answering = Vec::new();
    let mut silent = Vec::new();
    for socket in candidates(root) {
        // Symlinks on the way would lead out of the host's root.
        let Ok(Some(resolved)) = root.resolve(&socket) else { continue };
        let cri = Cri::new(beneath(root.path(), &resolved), socket.clone());
        match cri.version().await {
            Ok(version) => answering.push(Found { cri, socket, version }),
            Err(error) => silent.push((socket, error)),
        }
    }
    if answering.is_empty() {
        return Err(SocketError::NoneAnswers { tried: reasons(&silent) });
    }
    let names = |found: &[Found]| {
        let names: Vec<_> = found.iter().map(|found| found.socket.display().to_string()).collect();
        names.join(", ")
    };
    if let Some(uid) = pod_uid {
        let all = names(&answering);
        for found in answering {
            // One that cannot list its pods does not run ours.
            if found.cri.owns_pod(uid).await.unwrap_or(false) {
                return Ok(found);
            }
        }
        return Err(SocketError::NotOurs { answering: all, pod: uid.to_owned() });
    }
    let several = answering.len() > 1;
    let all = names(&answering);
    let usual = answering.iter().position(|found| found.socket == Path::new(KNOWN[0])).unwrap_or(0);
    let found = answering.swap_remove(usual);
    if several && found.socket != Path::new(KNOWN[0]) {
        return Err(SocketError::Several { answering: all });
    }
    Ok(found)
}

/// A host path as this process opens it.
#[must_use]
pub fn beneath(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn candidates(root: &HostRoot) -> Vec<PathBuf> {
    let mut candidates: Vec<PathBuf> = KNOWN.iter().map(PathBuf::from).collect();
    for file in KUBELET_SETTINGS {
        let Ok(Some(text)) = root.read(Path::new(file)) else { continue };
        for socket in endpoints(&String::from_utf8_lossy(&text)) {
            if !candidates.contains(&socket) {
                candidates.push(socket);
            }
        }
    }
    candidates
}

/// The sockets in `containerRuntimeEndpoint: unix:///…` or `--container-runtime-endpoint=unix:///…`.
fn endpoints(text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let lower = line.to_ascii_lowercase();
        if !lower.contains("containerruntimeendpoint") && !lower.contains("container-runtime-endpoint") {
            continue;
        }
        found.extend(line.split("unix://").skip(1).map(|rest| {
            let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',')).unwrap_or(rest.len());
            PathBuf::from(&rest[..end])
        }));
    }
    found.retain(|path| path.is_absolute());
    found
}

fn reasons(silent: &[(PathBuf, CriError)]) -> String {
    if silent.is_empty() {
        return KNOWN.join(", ");
    }
    let reasons: Vec<_> = silent.iter().map(|(_, error)| error.to_string()).collect();
    reasons.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelets_own_setting_names_a_socket_elsewhere() {
        let yaml = "kind: KubeletConfiguration\ncontainerRuntimeEndpoint: \"unix:///run/my/containerd.sock\"\n";
        assert_eq!(endpoints(yaml), [PathBuf::from("/run/my/containerd.sock")]);
        let flags = "KUBELET_KUBEADM_ARGS=\"--container-runtime-endpoint=unix:///run/b.sock --node-ip=10.0.0.1\"\n";
        assert_eq!(endpoints(flags), [PathBuf::from("/run/b.sock")]);
        assert!(endpoints("# containerRuntimeEndpoint: unix:///run/c.sock\n").is_empty());
    }

    #[tokio::test]
    async fn a_host_without_containerd_gets_a_sentence() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = HostRoot::open(dir.path()).expect("root");
        let error = find(&root, None).await.expect_err("nothing is there");
        insta::assert_snapshot!(
            error,
            @"no containerd answers on this host; tried /run/containerd/containerd.sock, /run/k3s/containerd/containerd.sock, /var/snap/microk8s/common/run/containerd.sock, /run/k0s/containerd.sock, /run/dockershim.sock, /run/host-containerd/containerd.sock: start containerd, or name another host root"
        );
    }
}
