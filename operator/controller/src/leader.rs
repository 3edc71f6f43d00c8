//! Who of several controllers writes: the one that holds the Lease.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    core::ObjectMeta,
};
use registry_mirror_core::lease::{Claim, LeaseState, LeaseTimes, claim, may_act_for};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    config::ControllerConfig,
    contract::{LEASE, field_manager},
    errors::ControllerError,
};

/// How long a stopping controller tries to give the Lease back.
const RELEASE: Duration = Duration::from_secs(3);
/// From a renewal that failed to the next try, in parts of the period.
const RETRIES_IN_A_PERIOD: u32 = 4;

/// Tells whether this controller leads, until it is stopped; then it gives the Lease back, so that the next one need
/// not wait for it to expire.
///
/// # Errors
/// [`ControllerError::LeaseLost`] once it no longer leads. Whatever it is about to write is not to be written any more,
/// so the process ends with it.
pub(crate) async fn campaign(
    client: Client,
    config: ControllerConfig,
    leads: watch::Sender<bool>,
    mut stop: oneshot::Receiver<()>,
) -> Result<(), ControllerError> {
    let candidate = Candidate {
        api: Api::namespaced(client, &config.namespace),
        namespace: config.namespace,
        me: config.identity,
        times: config.lease,
    };
    let mut held = tokio::select! {
        held = candidate.acquire() => held,
        _ = &mut stop => return Ok(()),
    };
    leads.send_replace(true);
    let lost = tokio::select! {
        lost = candidate.hold(&mut held) => lost,
        _ = &mut stop => {
            leads.send_replace(false);
            candidate.release(&held).await;
            return Ok(());
        }
    };
    leads.send_replace(false);
    Err(lost)
}

struct Candidate {
    api: Api<Lease>,
    namespace: String,
    me: String,
    times: LeaseTimes,
}

/// The Lease in our hands.
struct Held {
    state: LeaseState,
    /// When the write began that took or renewed it last.
    renewed: Instant,
}

/// What came of a write.
enum Written {
    Held(Held),
    /// Someone else wrote in between.
    Overtaken,
}

impl Candidate {
    /// Resolves when the Lease is ours.
    async fn acquire(&self) -> Held {
        let mut seen: Option<(LeaseState, Instant)> = None;
        let mut failing = false;
        loop {
            // A look that hangs is given up, and no other is late for it.
            let look = timeout(self.times.renew_deadline, self.look(&mut seen)).await;
            match look.unwrap_or(Err(LeaseError::NoAnswer)) {
                Ok(Some(held)) => return held,
                Ok(None) => failing = false,
                Err(error) if failing => tracing::debug!(%error, "the Lease still cannot be used"),
                Err(error) => {
                    failing = true;
                    let Self { namespace, .. } = self;
                    tracing::warn!(
                        lease = LEASE, namespace, %error,
                        "the Lease cannot be used; this controller writes nothing until it can"
                    );
                }
            }
            sleep(self.times.period / 2).await;
        }
    }

    async fn look(&self, seen: &mut Option<(LeaseState, Instant)>) -> Result<Option<Held>, LeaseError> {
        let started = Instant::now();
        let Some(state) = self.api.get_opt(LEASE).await?.map(read) else {
            return Ok(self.create(started).await?.into_held());
        };
        let since = match seen {
            Some((known, since)) if *known == state => *since,
            _ => Instant::now(),
        };
        *seen = Some((state.clone(), since));
        let started = Instant::now();
        let written = match claim(&self.me, &state, since.elapsed(), &self.times) {
            Claim::Wait => return Ok(None),
            Claim::Take => self.write(&state, state.transitions.saturating_add(1), true, started).await?,
            Claim::Renew => self.write(&state, state.transitions, false, started).await?,
        };
        Ok(written.into_held())
    }

    /// Renews until that has not succeeded for too long, or someone else holds the Lease.
    async fn hold(&self, held: &mut Held) -> ControllerError {
        let retry = self.times.period / RETRIES_IN_A_PERIOD;
        let mut pause = self.times.period;
        loop {
            let Some(left) = may_act_for(held.renewed.elapsed(), &self.times) else {
                return ControllerError::LeaseLost(self.times.renew_deadline);
            };
            sleep(pause.min(left)).await;
            let Some(left) = may_act_for(held.renewed.elapsed(), &self.times) else { continue };
            pause = match timeout(left, self.renew(&held.state)).await.unwrap_or(Err(LeaseError::NoAnswer)) {
                Ok(Written::Held(renewed)) => {
                    *held = renewed;
                    self.times.period
                }
                Ok(Written::Overtaken) => match timeout(left, self.api.get_opt(LEASE)).await {
                    Ok(Ok(Some(lease))) => {
                        // Someone edits it; or it is no longer ours.
                        held.state = read(lease);
                        if held.state.holder.as_deref() != Some(self.me.as_str()) {
                            return ControllerError::LeaseTaken(held.state.holder.take().unwrap_or_default());
                        }
                        Duration::ZERO
                    }
                    Ok(_) | Err(_) => retry,
                },
                Err(error) => {
                    tracing::warn!(%error, "the Lease could not be renewed; it is tried again");
                    retry
                }
            };
        }
    }

    async fn renew(&self, state: &LeaseState) -> Result<Written, LeaseError> {
        let started = Instant::now();
        match self.write(state, state.transitions, false, started).await {
            Err(LeaseError::Api(kube::Error::Api(status))) if status.is_not_found() => self.create(started).await,
            written => written,
        }
    }

    async fn create(&self, started: Instant) -> Result<Written, LeaseError> {
        let now = Some(MicroTime(Timestamp::now()));
        let spec = LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: Some(self.seconds()),
            acquire_time: now.clone(),
            renew_time: now,
            lease_transitions: Some(0),
            ..LeaseSpec::default()
        };
        let metadata = ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() };
        let params = PostParams { field_manager: Some(field_manager::LEASE.to_owned()), ..PostParams::default() };
        match self.api.create(&params, &Lease { metadata, spec: Some(spec) }).await {
            Ok(lease) => Ok(Written::Held(Held { state: read(lease), renewed: started })),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(Written::Overtaken),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes over exactly the state that was read.
    async fn write(
        &self,
        over: &LeaseState,
        transitions: i32,
        taken: bool,
        started: Instant,
    ) -> Result<Written, LeaseError> {
        let now = MicroTime(Timestamp::now());
        let mut spec = serde_json::json!({
            "holderIdentity": self.me, "renewTime": now,
            "leaseDurationSeconds": self.seconds(), "leaseTransitions": transitions,
        });
        if taken {
            spec["acquireTime"] = serde_json::json!(now);
        }
        match self.patch(over, spec).await {
            Ok(lease) => Ok(Written::Held(Held { state: read(lease), renewed: started })),
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(Written::Overtaken),
            Err(error) => Err(error.into()),
        }
    }

    async fn release(&self, held: &Held) {
        let given_back = self.patch(&held.state, serde_json::json!({"holderIdentity": null}));
        match timeout(RELEASE, given_back).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the Lease could not be given back; it expires"),
            Err(_) => tracing::debug!("the Lease could not be given back in time; it expires"),
        }
    }

    async fn patch(&self, over: &LeaseState, spec: serde_json::Value) -> Result<Lease, kube::Error> {
        let patch = serde_json::json!({"metadata": {"resourceVersion": over.resource_version}, "spec": spec});
        let params = PatchParams { field_manager: Some(field_manager::LEASE.to_owned()), ..PatchParams::default() };
        self.api.patch(LEASE, &params, &Patch::Merge(&patch)).await
    }

    fn seconds(&self) -> i32 {
        i32::try_from(self.times.duration.as_secs()).unwrap_or(i32::MAX).max(1)
    }
}

impl Written {
    fn into_held(self) -> Option<Held> {
        match self {
            Self::Held(held) => Some(held),
            Self::Overtaken => None,
        }
    }
}

fn read(lease: Lease) -> LeaseState {
    let spec = lease.spec.unwrap_or_default();
    LeaseState {
        resource_version: lease.metadata.resource_version.unwrap_or_default(),
        holder: spec.holder_identity,
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}

/// A look or a write that failed.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("the API server did not answer in time")]
    NoAnswer,
}
