//! RegistryMirrors and what they refer to become the bundle, with a verdict on each.
//!
//! Total: a refused object never stops the others, and never takes away from a node what it had. The CRD's rules
//! refuse most bad specs at `kubectl apply` already; all of them are checked here too, because `render` has no API
//! server and an older CRD may stand in the cluster.

mod bound;
mod certificate;
mod conflict;
mod credentials;
mod duration;
mod files;
mod headers;
mod keypair;
mod mirror;
mod pem;
mod references;
mod selector;
mod self_lockout;
mod tls;
mod upstream;
mod url;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use registry_mirror_crds::RegistryMirror;

pub use conflict::Conflict;
pub use files::{authority_file, client_files};
pub use references::{RefKind, Reference, References, required_refs};
pub use self_lockout::registry_of_image;
pub use url::shown as shown_url;
pub use verdict::{InForce, Problem, Refusal, Revision, Verdict};

use crate::{
    bundle::{Blob, Bundle, Entry, MAX_BUNDLE_BYTES, Mode, SCHEMA},
    digest::Digest,
    proxy::ProxySettings,
    registry::{RegistryName, is_image_host},
};

/// What besides the objects decides the bundle.
#[derive(Debug, Clone)]
pub struct CompileOptions<'a> {
    /// Written into the bundle.
    pub mode: Mode,
    /// The operator's namespace: where references are looked up, named in messages.
    pub namespace: &'a str,
    /// The registries that the operator's own images, and those of mirrors that run in the cluster, are pulled from.
    /// `fallback: Deny` for one of them could keep a node from ever starting the agent that would undo it.
    pub own_registries: &'a BTreeSet<RegistryName>,
    /// The bundle in force: a refused object keeps its entry of it.
    pub previous: Option<&'a Bundle>,
    /// Objects that exist and that this release cannot read: they keep their entry of the bundle in force.
    pub unreadable: &'a [Unreadable],
    /// How large the packed bundle may be, in bytes.
    pub max_bytes: usize,
    /// The forward proxy of containerd itself, for every node.
    pub proxy: Option<&'a ProxySettings>,
}

/// An object that was written for another release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its name.
    pub name: String,
    /// When it was created: it keeps its place among the others.
    pub created: Option<Timestamp>,
}

impl Default for CompileOptions<'_> {
    fn default() -> Self {
        static NONE: BTreeSet<RegistryName> = BTreeSet::new();
        Self {
            mode: Mode::Enforce,
            namespace: "registry-mirror-system",
            own_registries: &NONE,
            previous: None,
            unreadable: &[],
            max_bytes: MAX_BUNDLE_BYTES,
            proxy: None,
        }
    }
}

/// The bundle, and what became of each object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// For the agents.
    pub bundle: Bundle,
    /// By object name, one for each object.
    pub verdicts: BTreeMap<String, Verdict>,
}

/// Compiles the objects; those that are being deleted count as gone.
#[must_use]
pub fn compile<'o>(
    objects: impl IntoIterator<Item = &'o RegistryMirror>,
    references: &References,
    options: &CompileOptions<'_>,
) -> Compiled {
    let objects: Vec<&RegistryMirror> =
        objects.into_iter().filter(|object| object.metadata.deletion_timestamp.is_none()).collect();
    let denied = self_lockout::denied(&objects, options.own_registries);

    let mut verdicts = BTreeMap::new();
    // Sorted below: the oldest claims its registry; an object without a time (offline) counts by its name.
    let mut candidates = Vec::with_capacity(objects.len());
    for object in objects {
        let name = name_of(object);
        let mut compiler = Compiler::new(references, options);
        let entry = compiler.entry(name, object);
        let Compiler { problems, unresolved, blobs, .. } = compiler;
        let mut verdict = Verdict::from_problems(Revision::of(object), problems, unresolved);
        if let Some(refusal) = denied.get(name)
            && verdict.accepted.is_ok()
        {
            verdict.accepted = Err(refusal.clone());
        }
        let compiled = entry.filter(|_| verdict.is_good());
        let before = options.previous.and_then(|bundle| previous_entry(bundle, name, object));
        verdict.in_force = match (&compiled, &before) {
            (Some(_), _) => InForce::Current,
            (None, Some(_)) => InForce::LastGood,
            (None, None) => InForce::Nothing,
        };
        let created = object.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let compiled = compiled.map(|entry| (entry, blobs));
        candidates.push(bound::Candidate { name: name.to_owned(), created, compiled, before });
        verdicts.insert(name.to_owned(), verdict);
    }

    keep_unreadable(&mut candidates, options);
    candidates.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));

    let (bundle, refused) = bound::fit(&candidates, options);
    for (name, refused) in refused {
        if let Some(verdict) = verdicts.get_mut(&name) {
            verdict.accepted = Err(refused.refusal);
            verdict.in_force = refused.in_force;
        }
    }
    Compiled { bundle, verdicts }
}

fn keep_unreadable(candidates: &mut Vec<bound::Candidate>, options: &CompileOptions<'_>) {
    for Unreadable { name, created } in options.unreadable {
        let before = options.previous.and_then(|bundle| {
            let entry = bundle.entries.iter().find(|entry| entry.object == *name)?;
            with_blobs(bundle, entry.clone())
        });
        candidates.push(bound::Candidate { name: name.clone(), created: *created, compiled: None, before });
    }
}

/// The entry that the bundle in force has of this object, with its blobs. `suspend` follows the object all the same:
/// it says to leave the nodes as they are, which needs no reference.
fn previous_entry(bundle: &Bundle, name: &str, object: &RegistryMirror) -> Option<(Entry, BTreeMap<Digest, Blob>)> {
    let entry = bundle.entries.iter().find(|e| e.object == name && e.registry.as_str() == object.spec.registry)?;
    let entry = Entry { suspend: object.spec.suspend, ..entry.clone() };
    with_blobs(bundle, entry)
}

fn with_blobs(bundle: &Bundle, entry: Entry) -> Option<(Entry, BTreeMap<Digest, Blob>)> {
    let blobs = entry
        .digests()
        .map(|digest| bundle.blobs.get(digest).map(|blob| (digest.clone(), blob.clone())))
        .collect::<Option<_>>()?;
    Some((entry, blobs))
}

fn name_of(object: &RegistryMirror) -> &str {
    object.metadata.name.as_deref().unwrap_or_default()
}

fn can_stand_in_an_image(registry: &RegistryName) -> bool {
    registry.is_default() || is_image_host(registry.as_str())
}

/// Compiles one object and gathers all that is wrong with it, so that the user corrects it once.
struct Compiler<'a> {
    references: &'a References,
    namespace: &'a str,
    problems: Vec<Problem>,
    unresolved: Vec<verdict::Unresolved>,
    blobs: BTreeMap<Digest, Blob>,
}

impl<'a> Compiler<'a> {
    const fn new(references: &'a References, options: &CompileOptions<'a>) -> Self {
        Self {
            references,
            namespace: options.namespace,
            problems: Vec::new(),
            unresolved: Vec::new(),
            blobs: BTreeMap::new(),
        }
    }

    fn refuse(&mut self, field: impl Into<String>, sentence: impl Into<String>) {
        self.problems.push(Problem { field: field.into(), sentence: sentence.into() });
    }

    /// The value, or a problem with the field.
    fn take<T>(&mut self, field: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|sentence| self.refuse(field, sentence)).ok()
    }

    /// The value of a reference, or that it is unresolved.
    fn resolve<T>(&mut self, value: Result<T, verdict::Unresolved>) -> Option<T> {
        value.map_err(|unresolved| self.unresolved.push(unresolved)).ok()
    }

    fn blob(&mut self, pem: String, private: bool) -> Digest {
        let digest = Digest::of(pem.as_bytes());
        self.blobs.insert(digest.clone(), Blob { pem: pem.into(), private });
        digest
    }

    /// `None` where something is wrong; what, stands in `problems` and `unresolved`.
    fn entry(&mut self, name: &str, object: &RegistryMirror) -> Option<Entry> {
        let registry_mirror_crds::RegistryMirrorSpec {
            registry,
            mirrors,
            upstream,
            node_selector,
            health_check,
            suspend,
        } = &object.spec;
        let registry = match registry.parse::<RegistryName>() {
            Ok(registry) if !can_stand_in_an_image(&registry) => {
                self.refuse(
                    "spec.registry",
                    format!(
                        "`{registry}` has neither a dot nor a port, so no image can name it: write the host as images \
                         carry it, for example docker.io"
                    ),
                );
                None
            }
            Ok(registry) => Some(registry),
            Err(error) => {
                let sentence = error.to_string();
                // the field says the first word already
                self.refuse("spec.registry", sentence.strip_prefix("registry ").unwrap_or(&sentence));
                None
            }
        };
        let mirrors = self.mirrors(mirrors);
        let upstream =
            self.upstream(upstream.as_ref(), mirrors.as_deref(), object.spec.registry == RegistryName::DEFAULT);
        let node_selector = self.node_selector(node_selector.as_ref());
        let health_interval_seconds = self.health_interval(health_check.as_ref());
        Some(Entry {
            object: name.to_owned(),
            registry: registry?,
            node_selector: node_selector?,
            suspend: *suspend,
            health_interval_seconds: health_interval_seconds?,
            mirrors: mirrors?,
            upstream: upstream?,
        })
    }

    fn health_interval(&mut self, check: Option<&registry_mirror_crds::HealthCheck>) -> Option<Option<u32>> {
        let default = registry_mirror_crds::HealthCheck::default();
        let check = check.unwrap_or(&default);
        let millis = self.take("spec.healthCheck.interval", duration::health_interval(&check.interval))?;
        let seconds = u32::try_from(millis.div_ceil(1000)).unwrap_or(u32::MAX);
        Some(check.enabled.then_some(seconds))
    }
}

/// An empty bundle of this release, for what has no objects.
#[must_use]
pub const fn empty_bundle(mode: Mode) -> Bundle {
    Bundle { schema: SCHEMA, mode, entries: Vec::new(), blobs: BTreeMap::new(), proxy: None }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
