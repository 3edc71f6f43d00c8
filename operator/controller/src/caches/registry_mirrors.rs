//! RegistryMirrors, those that this release cannot read among them.

use std::sync::Arc;

use jiff::Timestamp;
use kube::{Api, Client, Resource, core::DeserializeGuard, runtime::watcher};
use registry_mirror_crds::RegistryMirror;

use super::{
    cache::Cache,
    watching::{Change, Happened, keep},
};
use crate::signals::{Lane, Signals};

/// One RegistryMirror.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ObjectRecord {
    /// Without its managed fields.
    Read(Arc<RegistryMirror>),
    /// Written for another release's CRD. What nodes have of it stays.
    Unreadable { uid: String, created: Option<Timestamp>, error: String },
}

/// `unreadable` hears of each that this release cannot read: its name, its uid and why.
pub(super) async fn watch(
    client: Client,
    cache: &Cache<ObjectRecord>,
    signals: &Signals,
    unreadable: impl Fn(&str, &str, &str),
) -> &'static str {
    let api: Api<DeserializeGuard<RegistryMirror>> = Api::all(client);
    keep(
        api,
        watcher::Config::default().page_size(100),
        cache,
        signals,
        |object| Some(read(object)),
        |happened| match happened {
            Happened::Changed(Change { old: Some(old), new: Some(new), .. }) if same_spec(old, new) => {
                signals.mark(&[Lane::Status]);
            }
            Happened::Synced => {}
            Happened::Changed(change) => {
                if let Some(ObjectRecord::Unreadable { uid, created: _, error }) = change.new {
                    unreadable(change.name, uid, error);
                }
                signals.mark(&[Lane::Publish, Lane::Status]);
            }
        },
    )
    .await;
    "watch of RegistryMirrors"
}

fn read(object: DeserializeGuard<RegistryMirror>) -> ObjectRecord {
    match object.0 {
        Ok(mut object) => {
            object.meta_mut().managed_fields = None;
            ObjectRecord::Read(Arc::new(object))
        }
        Err(invalid) => {
            let name = invalid.metadata.name.as_deref().unwrap_or_default();
            tracing::warn!(
                name,
                error = invalid.error,
                "a RegistryMirror cannot be read; nodes keep what they have of it"
            );
            let created = invalid.metadata.creation_timestamp.map(|time| time.0);
            let uid = invalid.metadata.uid.unwrap_or_default();
            ObjectRecord::Unreadable { uid, created, error: invalid.error }
        }
    }
}

/// Whether only status, labels or annotations differ, so that the bundle is the same.
fn same_spec(old: &ObjectRecord, new: &ObjectRecord) -> bool {
    let (ObjectRecord::Read(old), ObjectRecord::Read(new)) = (old, new) else { return false };
    old.metadata.uid == new.metadata.uid
        && old.metadata.generation == new.metadata.generation
        && old.metadata.deletion_timestamp.is_some() == new.metadata.deletion_timestamp.is_some()
}
