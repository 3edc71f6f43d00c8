//! What a start of the controller is told.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use registry_mirror_core::{
    budget::{MaxUnavailable, Policy},
    bundle::Mode,
    lease::LeaseTimes,
    proxy::ProxySettings,
    registry::RegistryName,
};

/// The settings of one start.
#[derive(Debug, Clone)]
pub struct ControllerConfig {
    /// The operator's namespace: bundle, Secrets and ConfigMaps that objects name, agents' pods, Lease.
    pub namespace: String,
    /// Who this is in the Lease and in Events: the pod's name.
    pub identity: String,
    /// When a Lease is renewed, lost and taken over.
    pub lease: LeaseTimes,
    /// Whether nodes are changed; the ConfigMap of the roll-out may override it (`helm uninstall` writes `Restore`).
    pub mode: Mode,
    /// Who decides that a node may restart.
    pub policy: Policy,
    /// How many matching nodes may be unavailable at a time.
    pub max_unavailable: MaxUnavailable,
    /// Whether a failed restart stops all further ones.
    pub pause_on_failure: bool,
    /// The key of the taint that new nodes carry until their agent is done; `None` where there is none.
    pub startup_taint: Option<String>,
    /// After this time from a node's creation the taint goes in any case.
    pub startup_taint_deadline: Duration,
    /// How long an agent may be away, to be replaced or started anew, before what it said last counts no more.
    pub agent_grace: Duration,
    /// Where `/healthz`, `/readyz` and `/metrics` are served.
    pub listen: SocketAddr,
    /// The registries of the operator's own image and of mirrors that run in the cluster: none of them can be denied.
    pub own_registries: BTreeSet<RegistryName>,
    /// The forward proxy of every node's containerd.
    pub proxy: Option<ProxySettings>,
}

/// An upgrade replaces an agent in seconds, where its image must be pulled in a minute or so.
pub const AGENT_GRACE: Duration = Duration::from_secs(120);

impl ControllerConfig {
    /// The settings of a chart whose values were left alone.
    #[must_use]
    pub fn new(namespace: String, identity: String, listen: SocketAddr) -> Self {
        Self {
            namespace,
            identity,
            lease: LeaseTimes::default(),
            mode: Mode::Enforce,
            policy: Policy::Automatic,
            max_unavailable: MaxUnavailable::default(),
            pause_on_failure: true,
            startup_taint: None,
            startup_taint_deadline: Duration::from_secs(300),
            agent_grace: AGENT_GRACE,
            listen,
            own_registries: BTreeSet::new(),
            proxy: None,
        }
    }
}
