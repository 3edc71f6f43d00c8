//! The bundle: compiled from the caches, written when its bytes differ.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    core::Status,
};
use registry_mirror_core::{
    bundle::{BUNDLE_KEY, Bundle, pack, unpack},
    compile::{self, CompileOptions, Compiled, RefKind, References, Unreadable, Verdict, compile, required_refs},
    digest::Digest,
    predecessor::{Predecessor, traces, vanishing},
    status::object::PublishFailure,
};
use registry_mirror_crds::RegistryMirror;

use crate::{
    caches::{Caches, ObjectRecord},
    config::ControllerConfig,
    contract::{BUNDLE_SECRET, BUNDLE_SECRET_TYPE, SCHEMA_ANNOTATION, SHA256_ANNOTATION, field_manager},
    errors::{PassError, publish_failure},
    metrics::Metrics,
    rollout::RolloutState,
};

/// Keeps the Secret as the objects want it.
pub(crate) struct Publisher {
    secrets: Api<Secret>,
    /// The Secret as the API server has it; `None` until it was read.
    in_force: Option<InForce>,
    outcome: Option<Arc<Outcome>>,
}

#[derive(Default)]
struct InForce {
    /// `None` where there is no Secret.
    resource_version: Option<String>,
    sha256: Option<Digest>,
    /// `None` where it cannot be read.
    bundle: Option<Arc<Bundle>>,
    /// The Secret stands as the chart makes it: nothing was ever published.
    empty: bool,
}

/// What the last pass came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The bundle as the objects want it.
    pub compiled: Arc<Bundle>,
    /// What became of each object.
    pub verdicts: BTreeMap<String, Verdict>,
    /// The bundle as nodes read it last; `None` where that is not known.
    pub in_force: Option<Arc<Bundle>>,
    /// Why it is not the compiled one, where it is not.
    pub failure: Option<PublishFailure>,
}

impl Outcome {
    fn log_change(&self, before: Option<&Self>) {
        if let Some(PublishFailure::WouldVanish(objects)) = &self.failure
            && before.is_none_or(|before| before.failure != self.failure)
        {
            let objects = objects.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            tracing::warn!(
                objects,
                "the bundle in force is lost, and a new one would take these RegistryMirrors away from nodes: nothing is \
                 published until they can be compiled or are deleted"
            );
        }
    }
}

impl Publisher {
    pub fn new(client: &Client, config: &ControllerConfig) -> Self {
        let secrets = Api::namespaced(client.clone(), &config.namespace);
        Self { secrets, in_force: None, outcome: None }
    }

    /// What the last pass that compiled came to.
    pub fn outcome(&self) -> Option<&Arc<Outcome>> {
        self.outcome.as_ref()
    }

    /// Forgets what was read: another controller may have written since.
    pub fn forget(&mut self) {
        self.in_force = None;
        self.outcome = None;
    }

    /// Compiles and, where the bytes differ, writes. `false` while something has not been listed yet: then nothing is
    /// published, for an object that is not known yet would look like one that was deleted.
    pub async fn pass(
        &mut self,
        caches: &Caches,
        config: &ControllerConfig,
        metrics: &Metrics,
    ) -> Result<bool, PassError> {
        if caches.first_unsynced().is_some() {
            return Ok(false);
        }
        let (objects, unreadable) = objects(caches);
        let Some(references) = references(caches, &objects) else { return Ok(false) };
        let seen = caches.bundle_secret.with(|secrets| secrets.get(BUNDLE_SECRET).cloned());
        let in_force = match self.in_force.take() {
            Some(in_force) if in_force.resource_version == seen => in_force,
            // Someone else wrote it or deleted it, or the cache has not seen our own last write.
            _ => self.read().await?,
        };
        let known = in_force.bundle.clone().or_else(|| self.outcome.as_ref()?.in_force.clone());
        let predecessor = match (&known, &in_force.resource_version) {
            (Some(bundle), _) => Predecessor::Known(bundle),
            (None, Some(_)) if in_force.empty => Predecessor::Absent,
            (None, None) => Predecessor::Absent,
            (None, Some(_)) => Predecessor::Unreadable,
        };
        let rollout = RolloutState::read(caches);
        let options = CompileOptions {
            mode: rollout.mode.unwrap_or(config.mode),
            namespace: &config.namespace,
            own_registries: &config.own_registries,
            previous: predecessor.known(),
            unreadable: &unreadable,
            proxy: config.proxy.as_ref(),
            ..CompileOptions::default()
        };
        let mut compiled = compile(objects.iter().map(Arc::as_ref), &references, &options);
        let bytes = pack(&compiled.bundle)?;
        metrics.bundle_bytes.set(i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        let held = hold(&mut compiled, &objects, &unreadable, predecessor, caches);
        let Compiled { bundle, verdicts } = compiled;
        let compiled = Arc::new(bundle);
        let existed = in_force.resource_version.is_some();
        let (in_force, failure, result) = if held.is_empty() {
            match self.put(&compiled, bytes, in_force, metrics).await {
                Ok(in_force) => {
                    self.in_force = Some(in_force);
                    (Some(Arc::clone(&compiled)), None, Ok(true))
                }
                // Another leader's bundle may stand there: it is read before anything is written again.
                Err(kube::Error::Api(status)) if is_overtaken(&status, existed) => return Err(PassError::Overtaken),
                // Whether it was written all the same is seen when the Secret is read again.
                Err(error) => {
                    let what = format!("writing the Secret {BUNDLE_SECRET}");
                    (known, Some(publish_failure(&error)), Err(PassError::api(what)(error)))
                }
            }
        } else {
            self.in_force = Some(in_force);
            (None, Some(PublishFailure::WouldVanish(held)), Ok(true))
        };
        let outcome = Outcome { compiled, verdicts, in_force, failure };
        outcome.log_change(self.outcome.as_deref());
        self.outcome = Some(Arc::new(outcome));
        result
    }

    /// Writes the bundle where its bytes differ from those in force.
    async fn put(
        &self,
        bundle: &Arc<Bundle>,
        bytes: Vec<u8>,
        in_force: InForce,
        metrics: &Metrics,
    ) -> Result<InForce, kube::Error> {
        let sha256 = Digest::of(&bytes);
        if in_force.sha256.as_ref() == Some(&sha256) {
            return Ok(in_force);
        }
        let size = bytes.len();
        let resource_version = self.write(bundle, bytes, &sha256, in_force.resource_version).await?;
        metrics.bundle_writes.inc();
        let entries = bundle.entries.len();
        tracing::info!(entries, bytes = size, sha256 = sha256.short(), "the bundle is published");
        Ok(InForce { resource_version, sha256: Some(sha256), bundle: Some(Arc::clone(bundle)), empty: false })
    }

    async fn read(&self) -> Result<InForce, PassError> {
        let what = format!("reading the Secret {BUNDLE_SECRET}");
        let Some(secret) = self.secrets.get_opt(BUNDLE_SECRET).await.map_err(PassError::api(what))? else {
            return Ok(InForce::default());
        };
        let bytes = secret.data.and_then(|mut data| data.remove(BUNDLE_KEY)).map(|bytes| bytes.0);
        let bundle = bytes.as_deref().and_then(|bytes| {
            unpack(bytes)
                .map_err(|error| tracing::warn!(%error, "the bundle in force cannot be read"))
                .ok()
                .map(Arc::new)
        });
        Ok(InForce {
            resource_version: secret.metadata.resource_version,
            // A Secret that says something else than a bundle is written anew.
            sha256: bundle.is_some().then(|| bytes.as_deref().map(Digest::of)).flatten(),
            bundle,
            empty: bytes.is_none(),
        })
    }

    /// Writes over exactly the Secret that was read, or makes it where there was none.
    async fn write(
        &self,
        bundle: &Bundle,
        bytes: Vec<u8>,
        sha256: &Digest,
        over: Option<String>,
    ) -> Result<Option<String>, kube::Error> {
        let mut object = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": BUNDLE_SECRET,
                "annotations": {SCHEMA_ANNOTATION: bundle.schema.to_string(), SHA256_ANNOTATION: sha256.as_str()},
            },
            "type": BUNDLE_SECRET_TYPE,
            "data": {BUNDLE_KEY: ByteString(bytes)},
        });
        let written = if let Some(over) = over {
            object["metadata"]["resourceVersion"] = over.into();
            let params = PatchParams::apply(field_manager::BUNDLE).force();
            self.secrets.patch(BUNDLE_SECRET, &params, &Patch::Apply(&object)).await?
        } else {
            let secret = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
            let params = PostParams { field_manager: Some(field_manager::BUNDLE.to_owned()), ..PostParams::default() };
            self.secrets.create(&params, &secret).await?
        };
        Ok(written.metadata.resource_version)
    }
}

/// Whether the Secret is not there any more as it was read.
fn is_overtaken(status: &Status, existed: bool) -> bool {
    status.is_conflict() || status.is_already_exists() || (existed && status.is_not_found())
}

/// The objects for whose sake the bundle must not be published.
fn hold(
    compiled: &mut Compiled,
    objects: &[Arc<RegistryMirror>],
    unreadable: &[Unreadable],
    predecessor: Predecessor<'_>,
    caches: &Caches,
) -> BTreeSet<String> {
    if predecessor.known().is_some() {
        return BTreeSet::new();
    }
    let traces = caches.node_mirrors.with(|mirrors| {
        traces(objects.iter().map(Arc::as_ref), mirrors.values().filter_map(|mirror| mirror.says.report.as_ref()))
    });
    let held = vanishing(compiled, unreadable, predecessor, &traces);
    for name in &held {
        if let Some(verdict) = compiled.verdicts.get_mut(name) {
            // What nodes have of it stays.
            verdict.in_force = compile::InForce::LastGood;
        }
    }
    held
}

fn objects(caches: &Caches) -> (Vec<Arc<RegistryMirror>>, Vec<Unreadable>) {
    let (mut objects, mut unreadable) = (Vec::new(), Vec::new());
    caches.objects.with(|records| {
        for (name, record) in records {
            match record {
                ObjectRecord::Read(object) => objects.push(Arc::clone(object)),
                ObjectRecord::Unreadable { uid: _, created, error: _ } => {
                    unreadable.push(Unreadable { name: name.clone(), created: *created });
                }
            }
        }
    });
    (objects, unreadable)
}

/// What the objects name, or `None` until all of it has been listed.
fn references(caches: &Caches, objects: &[Arc<RegistryMirror>]) -> Option<References> {
    let required = required_refs(objects.iter().map(Arc::as_ref));
    let names = |kind: RefKind| -> BTreeSet<String> {
        required.iter().filter(|reference| reference.kind == kind).map(|reference| reference.name.clone()).collect()
    };
    // both are asked for before either is waited for
    let secrets = caches.secrets.want(names(RefKind::Secret));
    let config_maps = caches.config_maps.want(names(RefKind::ConfigMap));
    if !secrets || !config_maps {
        return None;
    }
    let mut references = References::default();
    for cache in [&caches.secrets, &caches.config_maps] {
        cache.with(|kept| kept.for_each(|object| references.extend(object)));
    }
    Some(references)
}
