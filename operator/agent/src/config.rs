//! Everything that the agent is told at its start.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// The agent's settings, resolved once from arguments and environment.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The Node that the agent runs on.
    pub node_name: String,
    /// The operator's namespace.
    pub namespace: String,
    /// The Secret that holds the bundle.
    pub bundle_secret: String,
    /// The UID of the agent's own pod: the containerd that lists it is the one that is meant. `None` outside a pod.
    pub pod_uid: Option<String>,
    /// Where the host's `/` is mounted.
    pub host_root: PathBuf,
    /// Where metrics are served.
    pub listen: SocketAddr,
    /// How long at most until the host is looked at again although nothing hinted at a change.
    pub look_interval: Duration,
    /// How long containerd may take after our restart to be ready, and to be proved once it is.
    pub ready_limit: Duration,
}
