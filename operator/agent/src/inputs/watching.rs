//! One object, watched for ever.

use std::fmt::Debug;

use futures::StreamExt;
use kube::{
    Api, Resource,
    runtime::{WatchStreamExt, watcher},
};
use registry_mirror_client::watch_backoff;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::known::Known;

/// A watch came to its end, which only happens when nobody listens any more.
#[derive(Debug)]
pub struct WatchEnded(pub &'static str);

/// Publishes what `read` makes of the object `name` until the receiver is gone. Errors are retried with back-off and
/// logged once until the next success, so that an API server that is away for an hour costs one line.
pub(super) async fn watch_one<K, T>(
    what: &'static str,
    api: Api<K>,
    name: String,
    publish: watch::Sender<Known<T>>,
    read: impl Fn(K) -> Known<T> + Send + 'static,
) -> WatchEnded
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    T: PartialEq + Send + Sync + 'static,
{
    let stream = watcher::watch_object(api, &name).backoff(watch_backoff());
    let mut stream = std::pin::pin!(stream);
    let mut failing = false;
    loop {
        let item = tokio::select! {
            item = stream.next() => item,
            () = publish.closed() => return WatchEnded(what),
        };
        match item {
            Some(Ok(object)) => {
                if failing {
                    failing = false;
                    tracing::info!(what, name, "the API server answers again");
                }
                let value = object.map_or(Known::Absent, &read);
                // The kubelet's heartbeats touch objects without changing what matters here.
                publish.send_if_modified(|current| {
                    let changed = *current != value;
                    if changed {
                        *current = value;
                    }
                    changed
                });
            }
            Some(Err(error)) if !failing => {
                failing = true;
                tracing::warn!(what, name, %error, "cannot be watched; the last state stays in force until it can");
            }
            Some(Err(error)) => tracing::debug!(what, name, %error, "still cannot be watched"),
            None => return WatchEnded(what),
        }
    }
}
