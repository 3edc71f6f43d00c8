//! What the agent hears from the API server: the bundle, its node's labels, its NodeMirror. Each is one watch of one
//! object, and each keeps its last value while the API server is away.

mod bundle;
mod known;
mod watching;

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Secret};
use kube::{Api, Client, ResourceExt, core::PartialObjectMeta};
use registry_mirror_core::bundle::Bundle;
use registry_mirror_crds::NodeMirror;
use tokio::{sync::watch, task::JoinSet};

pub use known::Known;
pub use watching::WatchEnded;
use watching::watch_one;

/// The newest value of each input.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// The bundle.
    pub bundle: watch::Receiver<Known<Arc<Bundle>>>,
    /// The labels of this node.
    pub labels: watch::Receiver<Known<BTreeMap<String, String>>>,
    /// This node's NodeMirror.
    pub node_mirror: watch::Receiver<Known<Arc<NodeMirror>>>,
}

impl Inputs {
    /// Whether the API server has answered for each of them. Before that nothing is said of the node: not to have heard
    /// is no failure, and an answer for one is none for another.
    #[must_use]
    pub fn are_known(&self) -> bool {
        let Self { bundle, labels, node_mirror } = self;
        *bundle.borrow() != Known::NotYet && *labels.borrow() != Known::NotYet && *node_mirror.borrow() != Known::NotYet
    }

    /// Resolves when one of them has a new value. A watch that has ended never does.
    pub async fn changed(&mut self) {
        let Self { bundle, labels, node_mirror } = self;
        tokio::select! {
            Ok(()) = bundle.changed() => {}
            Ok(()) = labels.changed() => {}
            Ok(()) = node_mirror.changed() => {}
            else => std::future::pending().await,
        }
    }
}

/// Names of the three objects.
#[derive(Debug, Clone)]
pub struct Names {
    /// The operator's namespace.
    pub namespace: String,
    /// The Secret that holds the bundle.
    pub bundle: String,
    /// The node, and its NodeMirror.
    pub node: String,
}

/// Starts the three watches in `tasks`; one that ends is an error of the process.
#[must_use]
pub fn start(client: &Client, names: &Names, tasks: &mut JoinSet<WatchEnded>) -> Inputs {
    let Names { namespace, bundle, node } = names;

    let (bundle_out, bundle_in) = watch::channel(Known::NotYet);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    tasks.spawn(watch_one("the bundle", secrets, bundle.clone(), bundle_out, |secret| bundle::read(&secret)));

    let (labels_out, labels) = watch::channel(Known::NotYet);
    let nodes: Api<PartialObjectMeta<Node>> = Api::all(client.clone());
    tasks.spawn(watch_one("the Node", nodes, node.clone(), labels_out, |node| Known::Is(node.labels().clone())));

    let (node_mirror_out, node_mirror) = watch::channel(Known::NotYet);
    let node_mirrors: Api<NodeMirror> = Api::all(client.clone());
    tasks.spawn(watch_one("the NodeMirror", node_mirrors, node.clone(), node_mirror_out, |mirror| {
        Known::Is(Arc::new(mirror))
    }));

    Inputs { bundle: bundle_in, labels, node_mirror }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_known_before_the_last_of_them_has_answered() {
        let (bundle_out, bundle) = watch::channel(Known::NotYet);
        let (labels_out, labels) = watch::channel(Known::NotYet);
        let (node_mirror_out, node_mirror) = watch::channel(Known::NotYet);
        let inputs = Inputs { bundle, labels, node_mirror };
        let _ = labels_out.send(Known::Is(BTreeMap::new()));
        assert!(!inputs.are_known());
        let _ = bundle_out.send(Known::Absent);
        assert!(!inputs.are_known());
        let _ = node_mirror_out.send(Known::Absent);
        assert!(inputs.are_known());
    }
}
