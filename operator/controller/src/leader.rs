//! Who of several controllers writes: the one that holds the Lease.

use std::time::Duration;

use kube::Client;
use kube_lease_manager::{LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::{oneshot, watch};

use crate::{
    config::ControllerConfig,
    contract::{LEASE, field_manager},
};

/// Seconds after which another controller may take over one that died.
const DURATION: u64 = 15;
/// Seconds before that at which the holder renews.
const GRACE: u64 = 5;
/// How long a stopping controller tries to give the Lease back.
const RELEASE: Duration = Duration::from_secs(3);

/// Tells whether this controller leads, until it is stopped; then it gives the Lease back, so that the next one need
/// not wait for it to expire.
pub(crate) async fn campaign(
    client: Client,
    config: ControllerConfig,
    leads: watch::Sender<bool>,
    mut stop: oneshot::Receiver<()>,
) -> &'static str {
    let mut failing = false;
    loop {
        let campaign = hold(&client, &config, &leads, &mut stop, &mut failing);
        match campaign.await {
            Ok(Ended::Stopped) => return "campaign for the Lease",
            Ok(Ended::Lost) => {}
            Err(error) if failing => tracing::debug!(%error, "the Lease still cannot be used"),
            Err(error) => {
                failing = true;
                tracing::warn!(
                    lease = LEASE, namespace = config.namespace, %error,
                    "the Lease cannot be used; this controller writes nothing until it can"
                );
            }
        }
        leads.send_replace(false);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
            _ = &mut stop => return "campaign for the Lease",
        }
    }
}

enum Ended {
    Stopped,
    Lost,
}

async fn hold(
    client: &Client,
    config: &ControllerConfig,
    leads: &watch::Sender<bool>,
    stop: &mut oneshot::Receiver<()>,
    failing: &mut bool,
) -> Result<Ended, LeaseManagerError> {
    let manager = LeaseManagerBuilder::new(client.clone(), LEASE)
        .with_namespace(&config.namespace)
        .with_identity(&config.identity)
        .with_duration(DURATION)
        .with_grace(GRACE)
        // One for each controller: the conflict between field managers is what makes holding exclusive.
        .with_field_manager(format!("{}-{}", field_manager::LEASE, config.identity))
        .build()
        .await?;
    let (mut state, mut task) = manager.watch().await;
    loop {
        tokio::select! {
            changed = state.changed() => {
                if changed.is_err() {
                    return Ok(Ended::Lost);
                }
                *failing = false;
                leads.send_replace(*state.borrow_and_update());
            }
            ended = &mut task => return match ended {
                Ok(Err(error)) => Err(error),
                Ok(Ok(_)) | Err(_) => Ok(Ended::Lost),
            },
            _ = &mut *stop => {
                drop(state);
                let _ = tokio::time::timeout(RELEASE, task).await;
                return Ok(Ended::Stopped);
            }
        }
    }
}
