//! The bundle: compiled from the caches, written when its bytes differ.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use registry_mirror_core::{
    bundle::{BUNDLE_KEY, Bundle, pack, unpack},
    compile::{CompileOptions, Compiled, RefKind, References, Unreadable, compile, required_refs},
    digest::Digest,
};
use registry_mirror_crds::RegistryMirror;

use crate::{
    caches::{Caches, ObjectRecord},
    config::ControllerConfig,
    contract::{BUNDLE_SECRET, BUNDLE_SECRET_TYPE, SCHEMA_ANNOTATION, SHA256_ANNOTATION, field_manager},
    errors::PassError,
    metrics::Metrics,
    rollout::RolloutState,
};

/// Keeps the Secret as the objects want it.
pub(crate) struct Publisher {
    secrets: Api<Secret>,
    /// The Secret as the API server has it; `None` until it was read.
    in_force: Option<InForce>,
    compiled: Option<Arc<Compiled>>,
}

#[derive(Default)]
struct InForce {
    resource_version: Option<String>,
    sha256: Option<Digest>,
    bundle: Option<Bundle>,
}

impl Publisher {
    pub fn new(client: &Client, config: &ControllerConfig) -> Self {
        let secrets = Api::namespaced(client.clone(), &config.namespace);
        Self { secrets, in_force: None, compiled: None }
    }

    /// What was compiled last.
    pub fn compiled(&self) -> Option<&Arc<Compiled>> {
        self.compiled.as_ref()
    }

    /// Forgets what was read: another controller may have written since.
    pub fn forget(&mut self) {
        self.in_force = None;
        self.compiled = None;
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
        let rollout = RolloutState::read(caches);
        let options = CompileOptions {
            mode: rollout.mode.unwrap_or(config.mode),
            namespace: &config.namespace,
            own_registries: &config.own_registries,
            previous: in_force.bundle.as_ref(),
            unreadable: &unreadable,
            proxy: config.proxy.as_ref(),
            ..CompileOptions::default()
        };
        let compiled = compile(objects.iter().map(Arc::as_ref), &references, &options);
        let bytes = pack(&compiled.bundle)?;
        let sha256 = Digest::of(&bytes);
        metrics.bundle_bytes.set(i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        self.in_force = Some(if in_force.sha256.as_ref() == Some(&sha256) {
            in_force
        } else {
            let size = bytes.len();
            let resource_version = self.write(&compiled.bundle, bytes, &sha256).await?;
            metrics.bundle_writes.inc();
            let entries = compiled.bundle.entries.len();
            tracing::info!(entries, bytes = size, sha256 = sha256.short(), "the bundle is published");
            InForce { resource_version, sha256: Some(sha256), bundle: Some(compiled.bundle.clone()) }
        });
        self.compiled = Some(Arc::new(compiled));
        Ok(true)
    }

    async fn read(&self) -> Result<InForce, PassError> {
        let what = format!("reading the Secret {BUNDLE_SECRET}");
        let Some(secret) = self.secrets.get_opt(BUNDLE_SECRET).await.map_err(PassError::api(what))? else {
            return Ok(InForce::default());
        };
        let bytes = secret.data.and_then(|mut data| data.remove(BUNDLE_KEY)).map(|bytes| bytes.0);
        let bundle = bytes.as_deref().and_then(|bytes| {
            unpack(bytes)
                .map_err(|error| tracing::warn!(%error, "the bundle in force cannot be read and is written anew"))
                .ok()
        });
        Ok(InForce {
            resource_version: secret.metadata.resource_version,
            // A Secret that says something else than a bundle is written anew.
            sha256: bundle.is_some().then(|| bytes.as_deref().map(Digest::of)).flatten(),
            bundle,
        })
    }

    async fn write(&self, bundle: &Bundle, bytes: Vec<u8>, sha256: &Digest) -> Result<Option<String>, PassError> {
        let object = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": BUNDLE_SECRET,
                "annotations": {SCHEMA_ANNOTATION: bundle.schema.to_string(), SHA256_ANNOTATION: sha256.as_str()},
            },
            "type": BUNDLE_SECRET_TYPE,
            "data": {BUNDLE_KEY: ByteString(bytes)},
        });
        let params = PatchParams::apply(field_manager::BUNDLE).force();
        let what = format!("writing the Secret {BUNDLE_SECRET}");
        let written =
            self.secrets.patch(BUNDLE_SECRET, &params, &Patch::Apply(&object)).await.map_err(PassError::api(what))?;
        Ok(written.metadata.resource_version)
    }
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
