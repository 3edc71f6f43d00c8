//! Who was asked for what, from the access logs of all registries of the bed.

use std::collections::BTreeMap;

use anyhow::Result;
use testbed::{Access, Bed, Node, default_registries};

/// A request as a registry wrote it down, without its time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// The bed's name of the registry.
    pub registry: String,
    pub method: String,
    pub path: String,
    pub namespace: Option<String>,
    pub status: u16,
}

/// How much every access log held at one moment.
pub struct Mark(BTreeMap<String, usize>);

impl Mark {
    pub fn now(bed: &Bed) -> Result<Self> {
        let count = |name: String| -> Result<_> {
            let held = bed.accesses(&name)?.len();
            Ok((name, held))
        };
        Ok(Self(names().map(count).collect::<Result<_>>()?))
    }

    /// What the node has asked since, registry by registry, each in its order: the logs tell the second alone, so they
    /// give no order across registries.
    pub fn since(&self, bed: &Bed, node: &Node) -> Result<Vec<Request>> {
        let mut requests = Vec::new();
        for name in names() {
            let before = self.0.get(&name).copied().unwrap_or_default();
            for access in bed.accesses(&name)?.into_iter().skip(before) {
                let Access { time: _, client, method, path, namespace, status, agent, referer: _ } = access;
                // The agent's own probes of the mirrors' health come from the same address.
                // A stand-in writes no name down.
                let by_containerd = agent.is_empty() || agent.starts_with("containerd/");
                if client == node.address() && by_containerd {
                    requests.push(Request { registry: name.clone(), method, path, namespace, status });
                }
            }
        }
        Ok(requests)
    }
}

fn names() -> impl Iterator<Item = String> {
    default_registries().into_iter().map(|registry| registry.name)
}

/// The bed's name of the registry that answers there; `None` for an address where nobody listens.
pub fn registry_at(authority: &str) -> Option<String> {
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "443"));
    let found = default_registries().into_iter().find(|registry| {
        registry.address.port().to_string() == port
            && (registry.address.ip().to_string() == host || registry.hosts.iter().any(|name| name == host))
    });
    found.map(|registry| registry.name)
}
