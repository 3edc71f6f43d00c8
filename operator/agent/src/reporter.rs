//! Writes NodeMirror status: only when a fact changed, and as soon as the API server takes it.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use registry_mirror_crds::{GROUP, NodeMirror, NodeMirrorStatus, VERSION};
use serde_json::json;
use tokio::sync::watch;

use crate::inputs::Known;
use registry_mirror_core::status::node::{self, Facts};

/// The field manager of every status write of an agent.
const FIELD_MANAGER: &str = "registry-mirror-agent";

/// The first pause after a write that failed; doubled up to [`RETRY_AT_MOST`].
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_AT_MOST: Duration = Duration::from_secs(10);

/// Writes each new set of facts until the sender is gone.
pub async fn run(
    client: Client,
    node: String,
    mut facts: watch::Receiver<Option<Facts>>,
    mut node_mirror: watch::Receiver<Known<Arc<NodeMirror>>>,
) {
    let api: Api<NodeMirror> = Api::all(client);
    // The API server's answer to our last write; the watch may lag behind it.
    let mut written: Option<NodeMirrorStatus> = None;
    let mut pause = RETRY_FIRST;
    loop {
        let wanted = facts.borrow_and_update().clone();
        let live = node_mirror.borrow_and_update().clone();
        let mut failed = false;
        if let (Some(wanted), Known::Is(live)) = (wanted, live) {
            let previous = written.as_ref().or(live.status.as_ref());
            let status = node::status(&wanted, previous, Timestamp::now());
            let differs = written.as_ref() != Some(&status) || live.status.is_none();
            if differs && live.status.as_ref() != Some(&status) {
                match write(&api, &node, &status).await {
                    Ok(()) => {
                        pause = RETRY_FIRST;
                        written = Some(status);
                    }
                    Err(error) => {
                        failed = true;
                        if pause == RETRY_FIRST {
                            tracing::warn!(%error, "the NodeMirror's status could not be written; it is tried again");
                        }
                    }
                }
            } else {
                written = Some(status);
            }
        }
        tokio::select! {
            changed = facts.changed() => if changed.is_err() { return },
            changed = node_mirror.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause), if failed => pause = (pause * 2).min(RETRY_AT_MOST),
        }
    }
}

async fn write(api: &Api<NodeMirror>, node: &str, status: &NodeMirrorStatus) -> Result<(), kube::Error> {
    let object = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "NodeMirror",
        "metadata": { "name": node },
        "status": status,
    });
    // The whole status under one field manager: a field that is left out is taken out.
    let params = PatchParams::apply(FIELD_MANAGER).force();
    api.patch_status(node, &params, &Patch::Apply(&object)).await.map(|_| ())
}
