//! One NodeMirror for each Node that runs an agent, owned by it.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use registry_mirror_core::bundle::Mode;
use registry_mirror_crds::NodeMirror;

use crate::{
    caches::{Caches, NodeMirrorRecord, NodeRecord},
    contract::field_manager,
    errors::PassError,
};

/// Writes at a time: a cluster of thousands of nodes is set up in seconds without a flood.
const CONCURRENCY: usize = 8;
/// Writes in one pass. The watch tells of each, which brings the next pass; restarts and taints get their turn between.
const BATCH: usize = 200;

/// What is to be written.
#[derive(Debug, Default, PartialEq, Eq)]
struct Differences {
    /// Name and uid of the Node.
    create: Vec<(String, String)>,
    /// Name and uid of the NodeMirror.
    delete: Vec<(String, String)>,
}

/// Creates what is missing and deletes what has no Node. While the operator is taken away none is created: those that
/// have said their last word are deleted by the uninstall.
pub(crate) async fn pass(client: &Client, caches: &Caches, mode: Mode) -> Result<(), PassError> {
    let Differences { mut create, mut delete } =
        caches.nodes.with(|nodes| caches.node_mirrors.with(|mirrors| differences(nodes, mirrors)));
    create.truncate(if mode == Mode::Restore { 0 } else { BATCH });
    delete.truncate(BATCH);
    let api: Api<NodeMirror> = Api::all(client.clone());
    let api = &api;
    stream::iter(delete)
        .map(|(name, uid)| async move {
            let preconditions = Preconditions { uid: Some(uid), resource_version: None };
            let params = DeleteParams::default().preconditions(preconditions);
            match api.delete(&name, &params).await {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
                Err(error) => Err(PassError::api(format!("deleting the NodeMirror {name}"))(error)),
            }
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect::<()>()
        .await?;
    stream::iter(create)
        .map(|(name, uid)| async move {
            let params = PatchParams::apply(field_manager::NODE_MIRRORS).force();
            let object = manifest(&name, &uid);
            let what = format!("creating the NodeMirror {name}");
            api.patch(&name, &params, &Patch::Apply(&object)).await.map_err(PassError::api(what)).map(|_| ())
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect::<()>()
        .await
}

fn manifest(name: &str, node_uid: &str) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": NodeMirror::api_version(&()),
        "kind": NodeMirror::kind(&()),
        "metadata": {
            "name": name,
            // The garbage collector takes it away with its Node.
            "ownerReferences": [{
                "apiVersion": Node::api_version(&()), "kind": Node::kind(&()), "name": name, "uid": node_uid,
            }],
        },
        "spec": {},
    })
}

fn differences(nodes: &BTreeMap<String, NodeRecord>, mirrors: &BTreeMap<String, NodeMirrorRecord>) -> Differences {
    let mut differences = Differences::default();
    for (name, node) in nodes {
        match mirrors.get(name) {
            None => differences.create.push((name.clone(), node.uid.clone())),
            // Of an earlier Node of this name: what it says is about another machine. The new one follows in the
            // next pass.
            Some(mirror) if mirror.owner_uid.as_deref() != Some(&node.uid) => {
                differences.delete.push((name.clone(), mirror.uid.clone()));
            }
            Some(_) => {}
        }
    }
    for (name, mirror) in mirrors.iter().filter(|(name, _)| !nodes.contains_key(*name)) {
        differences.delete.push((name.clone(), mirror.uid.clone()));
    }
    differences
}

#[cfg(test)]
mod tests {
    use registry_mirror_core::status::node::AgentStatus;

    use super::*;
    use crate::caches::CompactLabels;

    fn node(uid: &str) -> NodeRecord {
        let labels = CompactLabels::default();
        let (created, zone) = (None, None);
        NodeRecord { uid: uid.to_owned(), created, labels, ready: true, tainted: false, control_plane: false, zone }
    }

    fn mirror(uid: &str, owner: &str) -> NodeMirrorRecord {
        NodeMirrorRecord {
            uid: uid.to_owned(),
            resource_version: "1".into(),
            generation: 1,
            owner_uid: Some(owner.to_owned()),
            approval: None,
            requested: None,
            says: AgentStatus::default(),
        }
    }

    fn named<V>(pairs: impl IntoIterator<Item = (&'static str, V)>) -> BTreeMap<String, V> {
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    #[test]
    fn each_node_has_its_own_and_no_other_is_left() {
        let nodes = named([("new", node("1")), ("known", node("2")), ("again", node("3b"))]);
        let mirrors = named([("known", mirror("m2", "2")), ("again", mirror("m3", "3a")), ("gone", mirror("m4", "4"))]);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            differences(&nodes, &mirrors),
            Differences { create: vec![pair("new", "1")], delete: vec![pair("again", "m3"), pair("gone", "m4")] }
        );
    }
}
