//! The ConfigMap that says whether restarts are paused, and why.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use registry_mirror_core::{
    budget::{Failure, Pause, failures_from_text, failures_to_text},
    bundle::Mode,
    compile::{RefKind, Reference},
};

use crate::{
    caches::Caches,
    contract::{ROLLOUT_CONFIG_MAP, field_manager, rollout_key as key},
    errors::PassError,
};

/// What the ConfigMap says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RolloutState {
    /// Whether there is one at all.
    pub exists: bool,
    /// Why restarts are paused, where they are.
    pub paused: Option<String>,
    /// The failures that the last pause was made for; they stay when it is lifted, so that it is not made anew.
    pub failures: BTreeSet<Failure>,
    /// Overrides the mode that the controller was started with.
    pub mode: Option<Mode>,
}

impl RolloutState {
    pub fn read(caches: &Caches) -> Self {
        let reference = Reference { kind: RefKind::ConfigMap, name: ROLLOUT_CONFIG_MAP.to_owned() };
        let references = caches.config_maps.get(ROLLOUT_CONFIG_MAP);
        let Some(data) = references.as_ref().and_then(|references| references.get(&reference)) else {
            return Self::default();
        };
        Self::from_text(|key| data.get(key).and_then(|value| std::str::from_utf8(value).ok()))
    }

    fn from_text<'d>(get: impl Fn(&str) -> Option<&'d str>) -> Self {
        let paused = get(key::PAUSED).is_some_and(|value| value.trim() == "true");
        let why = || match (get(key::NODE), get(key::REASON)) {
            (Some(node), Some(reason)) if !node.is_empty() => format!("{node}: {reason}"),
            (_, Some(reason)) if !reason.is_empty() => reason.to_owned(),
            _ => format!("the ConfigMap {ROLLOUT_CONFIG_MAP} says so"),
        };
        // An uninstall that was broken off is over once the release has another revision.
        let of_this_revision = get(key::MODE_FOR).is_none_or(|revision| Some(revision) == get(key::REVISION));
        let mode = match get(key::MODE).map(str::trim).filter(|_| of_this_revision) {
            Some("Enforce") => Some(Mode::Enforce),
            Some("DryRun") => Some(Mode::DryRun),
            Some("Restore") => Some(Mode::Restore),
            None | Some("") => None,
            Some(other) => {
                tracing::warn!(
                    mode = other,
                    "the ConfigMap {ROLLOUT_CONFIG_MAP} has a mode that is none: write Enforce, DryRun or Restore"
                );
                None
            }
        };
        Self {
            exists: true,
            paused: paused.then(why),
            failures: get(key::FAILURES).map(failures_from_text).unwrap_or_default(),
            mode,
        }
    }
}

/// Writes the pause.
pub(crate) async fn pause(
    config_maps: &Api<ConfigMap>,
    pause: &Pause,
    failures: &BTreeSet<Failure>,
    now: Timestamp,
) -> Result<(), PassError> {
    let data = BTreeMap::from([
        (key::PAUSED, "true".to_owned()),
        (key::NODE, pause.node.clone()),
        (key::PLAN, pause.plan.to_string()),
        (key::REASON, pause.why.clone()),
        (key::SINCE, now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        (key::FAILURES, failures_to_text(failures)),
    ]);
    let object = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": ROLLOUT_CONFIG_MAP}, "data": data,
    });
    // By force: `resume` has written `paused` last.
    let params = PatchParams::apply(field_manager::ROLLOUT).force();
    config_maps
        .patch(ROLLOUT_CONFIG_MAP, &params, &Patch::Apply(&object))
        .await
        .map_err(PassError::api(format!("writing the pause into the ConfigMap {ROLLOUT_CONFIG_MAP}")))?;
    Ok(())
}

/// Makes the ConfigMap where there is none. Never changes one: it may hold a pause that the cache has not seen yet.
pub(crate) async fn create(config_maps: &Api<ConfigMap>) -> Result<(), PassError> {
    let object = ConfigMap {
        metadata: kube::core::ObjectMeta { name: Some(ROLLOUT_CONFIG_MAP.to_owned()), ..Default::default() },
        data: Some(BTreeMap::from([(key::PAUSED.to_owned(), "false".to_owned())])),
        ..ConfigMap::default()
    };
    let params = PostParams { field_manager: Some(field_manager::ROLLOUT.to_owned()), ..PostParams::default() };
    match config_maps.create(&params, &object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => Err(PassError::api(format!("creating the ConfigMap {ROLLOUT_CONFIG_MAP}"))(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: &[(&str, &str)]) -> RolloutState {
        let data: BTreeMap<_, _> = data.iter().copied().collect();
        RolloutState::from_text(|key| data.get(key).copied())
    }

    #[test]
    fn a_pause_is_read_with_its_reason_and_a_lifted_one_keeps_its_failures() {
        let paused = read(&[("paused", "true"), ("node", "a"), ("reason", "It failed."), ("failures", "a p\n")]);
        assert_eq!(paused.paused.as_deref(), Some("a: It failed."));
        let lifted = read(&[("paused", "false"), ("node", "a"), ("reason", "It failed."), ("failures", "a p\n")]);
        assert_eq!((lifted.paused, lifted.failures), (None, paused.failures));
        assert!(read(&[("paused", "true")]).paused.is_some());
        assert_eq!(read(&[("mode", "Restore")]).mode, Some(Mode::Restore));
        assert_eq!(read(&[("mode", "restore")]).mode, None);
        let uninstalled = |revision| read(&[("mode", "Restore"), ("modeFor", "3"), ("revision", revision)]).mode;
        assert_eq!(uninstalled("3"), Some(Mode::Restore));
        assert_eq!(uninstalled("4"), None, "the release was upgraded since");
    }
}
