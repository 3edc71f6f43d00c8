//! Restarting a unit and waiting until it has really happened.

use std::time::Duration;

use futures::StreamExt;
use tokio::time::{Instant, sleep, timeout_at};
use zbus::{MessageStream, OwnedObjectPath};

use crate::fault;

use super::{ActiveState, InvocationId, Systemd, SystemdError, UnitState, connection::Bus, unit::loaded_unit};

/// How often a unit is looked at where no signal announces its change.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Systemd {
    /// Restarts a unit and returns once the new start is active.
    ///
    /// `ResetFailed` first, so that a start-rate limit reached earlier does not refuse this start. Then `RestartUnit`,
    /// the end of that job, and `ActiveState=active` under another InvocationID than before. If the connection breaks
    /// while waiting (systemd re-executed, the bus restarted), the unit's own state decides.
    ///
    /// # Errors
    /// The job failed, the unit is not active afterwards, or `deadline` has passed.
    pub async fn restart_unit(&self, name: &str, deadline: Duration) -> Result<UnitState, SystemdError> {
        let until = Instant::now() + deadline;
        let what = format!("the restart of {name}");
        let slow = || SystemdError::Slow { what: what.clone(), after: deadline };

        let bus = timeout_at(until, self.bus()).await.map_err(|_| slow())??;
        let before = loaded_unit(&bus, name).await?.and_then(|unit| unit.invocation);
        reset_failed(&bus, name).await?;
        let mut removed = bus.removed_jobs().await?;
        let job: OwnedObjectPath = bus.manager(&what, "RestartUnit", &(name, "replace")).await?;
        fault::point("restart:called");
        let ended = timeout_at(until, wait_for_job(&mut removed, &job)).await.map_err(|_| slow())?;
        drop((removed, bus));
        match ended {
            Some(result) if result == "done" => {}
            // Another request took the job's place (`canceled`, `skipped`) or the connection broke: the unit's own
            // state, looked at below, is what counts.
            Some(result) if matches!(result.as_str(), "canceled" | "skipped") => {}
            Some(result) => return Err(SystemdError::JobFailed { unit: name.to_owned(), result }),
            None => {}
        }
        timeout_at(until, self.wait_until_active(name, before.as_ref())).await.map_err(|_| slow())?
    }

    /// Waits until a unit is active under another InvocationID than `before`.
    async fn wait_until_active(&self, name: &str, before: Option<&InvocationId>) -> Result<UnitState, SystemdError> {
        loop {
            match self.unit(name).await {
                Ok(unit) => match unit.active {
                    ActiveState::Active if unit.invocation.as_ref() != before => return Ok(unit),
                    ActiveState::Failed | ActiveState::Inactive if unit.invocation.as_ref() != before => {
                        return Err(SystemdError::NotActive { unit: name.to_owned(), state: unit.in_words() });
                    }
                    _ => {}
                },
                Err(SystemdError::Unreachable { .. }) => {}
                Err(error) => return Err(error),
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Stops a unit and forgets its failure, so that systemd unloads it. A unit that is not there is no error.
    ///
    /// # Errors
    /// systemd is out of reach or refuses.
    pub async fn stop_and_unload(&self, name: &str) -> Result<(), SystemdError> {
        let bus = self.bus().await?;
        stop_and_unload(&bus, name).await
    }

    /// Reads all unit files anew, like `systemctl daemon-reload`.
    ///
    /// # Errors
    /// systemd is out of reach or refuses.
    pub async fn daemon_reload(&self) -> Result<(), SystemdError> {
        let bus = self.bus().await?;
        bus.manager("a daemon-reload", "Reload", &()).await
    }
}

/// The job's result; `None` if the connection broke before it came.
pub(super) async fn wait_for_job(removed: &mut MessageStream, job: &OwnedObjectPath) -> Option<String> {
    while let Some(Ok(message)) = removed.next().await {
        let body = message.body();
        let Ok((_, path, _, result)) = body.deserialize::<(u32, OwnedObjectPath, String, String)>() else {
            continue;
        };
        if path == *job {
            return Some(result);
        }
    }
    None
}

pub(super) async fn stop_and_unload(bus: &Bus, name: &str) -> Result<(), SystemdError> {
    let what = format!("stopping {name}");
    let mut removed = bus.removed_jobs().await?;
    match bus.manager::<_, OwnedObjectPath>(&what, "StopUnit", &(name, "replace")).await {
        Ok(job) => {
            let until = Instant::now() + Duration::from_secs(30);
            // Whether it stopped shows when its name is used again; nobody waits longer for tidying up.
            let _ = timeout_at(until, wait_for_job(&mut removed, &job)).await;
        }
        Err(error) if error.is_no_such_unit() => return Ok(()),
        Err(error) => return Err(error),
    }
    reset_failed(bus, name).await
}

pub(super) async fn reset_failed(bus: &Bus, name: &str) -> Result<(), SystemdError> {
    match bus.manager(&format!("forgetting the failures of {name}"), "ResetFailedUnit", &(name,)).await {
        Ok(()) => Ok(()),
        Err(error) if error.is_no_such_unit() => Ok(()),
        Err(error) => Err(error),
    }
}
