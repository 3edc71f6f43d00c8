//! The bundle's own Secret: only whether someone else touched it.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, core::PartialObjectMeta, runtime::watcher};

use super::{cache::Cache, watching::keep};
use crate::{
    contract::BUNDLE_SECRET,
    signals::{Lane, Signals},
};

pub(super) async fn watch(client: Client, namespace: &str, cache: &Cache<String>, signals: &Signals) -> &'static str {
    let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(client, namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={BUNDLE_SECRET}"));
    let read = |secret: PartialObjectMeta<Secret>| secret.metadata.resource_version;
    keep(api, config, cache, signals, read, |_| signals.mark(&[Lane::Publish])).await;
    "watch of the bundle's Secret"
}
