//! The slice as files in certs.d.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::LazyLock,
};

use jiff::Timestamp;
use registry_mirror_core::{
    bundle::{Bundle, Entry, MirrorHost},
    containerd::Version,
    desired::{Note, Shortfall, Target as Reader, desired},
    health::{Health, drained},
    plan::{
        claims::Claims,
        config::DEFAULT_DIRECTORY,
        files::{
            DesiredRegistry, FilesPlan, Finding, GRACE, Input, Ownership, What,
            foreign::{Root, carry, place},
            plan_files,
        },
        migrated,
        shared::Readers,
    },
    proxy::Environment,
    registry::RegistryName,
};
use registry_mirror_crds::NoteReason;
use registry_mirror_host::{certs_d, observe::claims::claims, root::HostRoot, state::StateDir};

use super::migrate::Carried;
use crate::health::{Credentials, HealthMap};
use registry_mirror_core::node_status::{MirrorFacts, MirrorUse, RegistryFacts};

/// What is known of the ways to the mirrors.
#[derive(Debug, Clone, Copy)]
pub struct Ways<'a> {
    /// As this node's probes see them.
    pub health: &'a HealthMap,
    /// Which of them containerd goes through its proxy.
    pub environment: &'a Environment,
}

impl Ways<'static> {
    /// Nothing is known.
    pub fn unknown() -> Self {
        static HEALTH: LazyLock<HealthMap> = LazyLock::new(HealthMap::default);
        static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(Environment::default);
        Self { health: &HEALTH, environment: &ENVIRONMENT }
    }
}

/// What became of the slice.
#[derive(Debug, Default)]
pub struct Applied {
    /// Each registry.
    pub registries: Vec<RegistryFacts>,
    /// Files of others, a sentence each.
    pub conflicts: Vec<String>,
    /// Files of others that nothing stands in the way of.
    pub notes: Vec<Finding>,
    /// Files of ours that others changed, and what is done about it in a sentence.
    pub drift: Vec<(PathBuf, String)>,
    /// Files written and removed.
    pub changes: u64,
    /// Why the files could not all be put in place.
    pub error: Option<String>,
    /// Files that are away until they are put back, a sentence each without its full stop.
    pub away: Vec<String>,
    /// When there is something to do again although nothing changes: a file goes back, a certificate goes away.
    pub next_look: Option<Timestamp>,
}

/// Whose files are wanted.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The containerd of this node.
    pub own: Version,
    /// All that read the files.
    pub readers: Readers,
    /// The directories that containerd searches, in its order.
    pub roots: &'a [PathBuf],
}

/// Makes certs.d hold what the slice wants, and nothing of ours besides. `records` tells what of it is ours.
pub fn apply_files(
    records: &StateDir,
    slice: &Bundle,
    target: Target<'_>,
    ways: &Ways<'_>,
    carried: &Carried,
) -> Applied {
    let (ground, unseen) = match Ground::see(records.writer().root(), Some(records), target.roots) {
        Ok(ground) => (ground, None),
        Err(why) => (Ground::default(), Some(why)),
    };
    let wishes = wishes(slice, target, ways, carried, &ground);
    let done = unseen.map_or_else(|| put_in_place(records, &ground, &wishes, carried), Err);
    let mut applied = wishes.applied;
    match done {
        Ok(plans) => {
            applied.changes = plans.iter().map(|plan| plan.ops.len() as u64).sum();
            applied.next_look = plans.iter().filter_map(|plan| plan.next_look).min();
            applied.heed(wishes.findings.into_iter().chain(plans.into_iter().flat_map(|plan| plan.findings)));
            applied.leave_suspended(slice, &ground);
        }
        Err(why) => {
            for registry in &mut applied.registries {
                registry.error.get_or_insert_with(|| why.clone());
            }
            applied.error = Some(why);
        }
    }
    applied
}

/// What [`apply_files`] would do; nothing is written. `records` is `None` where nothing was recorded yet.
///
/// # Errors
/// A sentence, where the host cannot be read.
pub fn plan_only(
    root: &HostRoot,
    records: Option<&StateDir>,
    slice: &Bundle,
    target: Target<'_>,
    ways: &Ways<'_>,
    carried: &Carried,
) -> Result<(Applied, Vec<(PathBuf, FilesPlan)>), String> {
    let ground = Ground::see(root, records, target.roots)?;
    let wishes = wishes(slice, target, ways, carried, &ground);
    let plans: Vec<_> = ground
        .roots
        .iter()
        .zip(decide(&ground, &wishes, carried))
        .map(|(root, plan)| (root.path.clone(), plan))
        .collect();
    let mut applied = wishes.applied;
    applied.heed(wishes.findings.into_iter().chain(plans.iter().flat_map(|(_, plan)| plan.findings.clone())));
    applied.leave_suspended(slice, &ground);
    Ok((applied, plans))
}

impl Applied {
    /// A suspended entry is in force where its file stands from before. Where none does nothing is.
    fn leave_suspended(&mut self, slice: &Bundle, ground: &Ground) {
        for (entry, facts) in slice.entries.iter().zip(&mut self.registries) {
            let stands = ground.roots.iter().any(|root| root.listing.serves(&entry.registry, &entry.object));
            if entry.suspend && !stands {
                facts.hash.clear();
            }
        }
    }

    /// Notes what people should know about files.
    fn heed(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            if finding.prevents() {
                for registry in self.registries.iter_mut().filter(|facts| facts.object == finding.object) {
                    registry.error = Some(finding.to_string());
                }
            }
            if finding.is_conflict() {
                self.conflicts.push(format!("{finding}."));
            }
            if finding.is_away() {
                self.away.push(finding.to_string());
            }
            if finding.is_drift() {
                self.drift.push((finding.path.clone(), finding.to_string()));
            }
            if finding.is_note() {
                self.notes.push(finding);
            }
        }
    }
}

/// What stands on the host before anything is done.
#[derive(Default)]
struct Ground {
    roots: Vec<Root>,
    /// What another program keeps for itself in the first of them.
    claims: Claims,
}

impl Ground {
    fn see(root: &HostRoot, records: Option<&StateDir>, paths: &[PathBuf]) -> Result<Self, String> {
        let mut ground = Self::default();
        for path in paths {
            let listing = certs_d::observe(root, path).map_err(|error| error.to_string())?;
            let ownership = match records {
                None => Ownership::default(),
                Some(records) => {
                    let (ownership, warnings) = records.ownership(path).map_err(|error| error.to_string())?;
                    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                    ownership
                }
            };
            if ground.roots.is_empty() {
                ground.claims = claims(root, path, &listing);
            }
            ground.roots.push(Root { path: path.clone(), listing, ownership });
        }
        Ok(ground)
    }
}

/// What a slice asks for, beside what stands on the host.
struct Wishes {
    applied: Applied,
    /// For each root.
    wanted: Vec<Vec<DesiredRegistry>>,
    on_hold: BTreeSet<RegistryName>,
    findings: Vec<Finding>,
}

fn wishes(slice: &Bundle, target: Target<'_>, ways: &Ways<'_>, carried: &Carried, ground: &Ground) -> Wishes {
    let Target { own, readers, roots } = target;
    let Ways { health, environment } = ways;
    let version = readers.oldest;
    let mut applied = Applied::default();
    let mut wanted: Vec<(usize, DesiredRegistry)> = Vec::new();
    let mut on_hold: BTreeSet<RegistryName> = BTreeSet::new();
    let mut findings = Vec::new();
    for entry in &slice.entries {
        let health_of = |url: &str| health.mirror(&entry.object, url);
        let mut drained = drained(entry, health_of, &health.upstream(&entry.object));
        // The probes go straight: what they say of a mirror behind the proxy is told and not acted upon.
        drained.retain(|url| !environment.proxies(url));
        let mut facts = registry_facts(entry);
        for (mirror, facts) in entry.mirrors.iter().zip(&mut facts.mirrors) {
            let way = match (drained.contains(&mirror.url), environment.proxies(&mirror.url)) {
                (true, _) => Way::Drained,
                (false, true) => Way::Proxied,
                (false, false) => Way::Straight,
            };
            (facts.state, facts.error) = in_use(&health_of(&mirror.url), way);
        }
        if entry.suspend {
            on_hold.insert(entry.registry.clone());
        } else if let Some(why) = readers.obstacle(entry) {
            facts.error = Some(why);
            on_hold.insert(entry.registry.clone());
        } else {
            let at = place(&entry.registry, &ground.roots);
            let certs_dir = roots.get(at).map_or(Path::new(DEFAULT_DIRECTORY), PathBuf::as_path);
            match desired(entry, &slice.blobs, Reader { version, certs_dir }, &drained) {
                Ok(found) => {
                    let credentials = |mirror: &MirrorHost| health.credentials(slice, entry, mirror);
                    facts.heed(notes_here(&found.notes, entry, own, credentials));
                    let found = migrated::beneath(found, entry, &carried.registries, version);
                    let (found, told) = carry(found, entry, &ground.roots, at, version);
                    // What another program keeps for itself hides nothing.
                    if !ground.claims.registries.contains_key(&entry.registry) {
                        findings.extend(told);
                    }
                    wanted.push((at, found.registry));
                }
                Err(error) => {
                    // What stands there stays: an entry that contradicts itself is no reason to remove a mirror.
                    facts.error = Some(error.to_string());
                    on_hold.insert(entry.registry.clone());
                }
            }
        }
        applied.registries.push(facts);
    }
    // Without a mirror there is no edit, and until the edit the old tables do their own work.
    if !carried.under_way || !slice.entries.is_empty() {
        for old in &carried.registries {
            let is_wanted = wanted.iter().any(|(_, files)| files.registry == old.registry);
            // What was carried over earlier stands in the file that is on hold.
            if is_wanted || (on_hold.contains(&old.registry) && !carried.under_way) {
                continue;
            }
            on_hold.remove(&old.registry);
            wanted.push((place(&old.registry, &ground.roots), migrated::alone(old, version)));
        }
    }
    let mut of_roots: Vec<Vec<DesiredRegistry>> = vec![Vec::new(); ground.roots.len()];
    for (at, files) in wanted {
        if let Some(of_root) = of_roots.get_mut(at) {
            of_root.push(files);
        }
    }
    Wishes { applied, wanted: of_roots, on_hold, findings }
}

/// How containerd reaches a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Straight,
    Proxied,
    /// Not at all: it is taken out.
    Drained,
}

/// Whether a mirror is in use, and what is wrong with it.
pub(super) fn in_use(health: &Health, way: Way) -> (MirrorUse, Option<String>) {
    match health {
        Health::Unknown => (MirrorUse::Unknown, None),
        Health::Alive => (MirrorUse::Active, None),
        // Not confirmed: nothing has changed so far, and a status that flickers tells nobody anything.
        Health::Suspect { was_alive: true, .. } => (MirrorUse::Active, None),
        Health::Suspect { was_alive: false, .. } => (MirrorUse::Unknown, None),
        Health::Failing(why) => (MirrorUse::Active, Some(why.clone())),
        Health::Dead(why) => match way {
            Way::Drained => (MirrorUse::Drained, Some(why.clone())),
            Way::Proxied => {
                let stays = "it stays in place because containerd reaches it through its proxy, and this node tried \
                             without";
                (MirrorUse::Active, Some(format!("{why}; {stays}")))
            }
            Way::Straight => {
                (MirrorUse::Active, Some(format!("{why}; it stays in place because no other way answers either")))
            }
        },
    }
}

fn put_in_place(
    records: &StateDir,
    ground: &Ground,
    wishes: &Wishes,
    carried: &Carried,
) -> Result<Vec<FilesPlan>, String> {
    let plans = decide(ground, wishes, carried);
    // What moves from one root to a later one is written there before it is removed here.
    for (root, plan) in ground.roots.iter().zip(&plans).rev() {
        for op in &plan.ops {
            tracing::info!("{}", op.describe(&root.path));
        }
        certs_d::apply(records, &root.path, plan).map_err(|error| error.to_string())?;
    }
    Ok(plans)
}

/// A plan for each root.
fn decide(ground: &Ground, wishes: &Wishes, carried: &Carried) -> Vec<FilesPlan> {
    let nothing = BTreeMap::new();
    let mut plans = Vec::with_capacity(ground.roots.len());
    for (number, (Root { path, listing, ownership }, wanted)) in ground.roots.iter().zip(&wishes.wanted).enumerate() {
        let mut on_hold = wishes.on_hold.clone();
        on_hold.extend(migrated::orphans(listing, &carried.registries));
        on_hold.retain(|name| !wanted.iter().any(|files| files.registry == *name));
        let mut plan = plan_files(&Input {
            certs_d: path,
            listing,
            writer: certs_d::writer_uid(),
            ownership,
            desired: wanted,
            on_hold: &on_hold,
            claimed: if number == 0 { &ground.claims.registries } else { &nothing },
            now: Timestamp::now(),
            grace: GRACE,
        });
        if let Some((path, why)) = ground.claims.unreadable.clone().filter(|_| number == 0) {
            plan.findings.push(Finding { object: String::new(), path, what: What::ClaimsUnknown { why } });
        }
        plans.push(plan);
    }
    plans
}

/// The slice's registries where nothing was applied, with the reason.
pub fn not_applied(slice: &Bundle, why: &str) -> Vec<RegistryFacts> {
    let with_reason = |entry| RegistryFacts { error: Some(why.to_owned()), ..registry_facts(entry) };
    slice.entries.iter().map(with_reason).collect()
}

pub(super) fn registry_facts(entry: &Entry) -> RegistryFacts {
    RegistryFacts {
        registry: entry.registry.to_string(),
        object: entry.object.clone(),
        hash: entry.hash().as_str().to_owned(),
        error: None,
        mirrors: entry
            .mirrors
            .iter()
            .map(|mirror| MirrorFacts { url: mirror.display_url.clone(), state: MirrorUse::Unknown, error: None })
            .collect(),
        notes: Vec::new(),
    }
}

/// What must be said of an entry's credentials on a node with this containerd.
pub(super) fn credentials_not_forwarded(
    slice: &Bundle,
    entry: &Entry,
    version: Version,
    directory: &Path,
    health: &HealthMap,
) -> Vec<Note> {
    let found = desired(entry, &slice.blobs, Reader { version, certs_dir: directory }, &BTreeSet::new());
    let credentials = |mirror: &MirrorHost| health.credentials(slice, entry, mirror);
    let mut notes = found.map_or_else(|_| Vec::new(), |found| notes_here(&found.notes, entry, version, credentials));
    notes.retain(|note| note.what.reason() == NoteReason::CredentialsNotForwarded);
    notes
}

/// The notes that hold on a node with this containerd. The file is the same for all releases that read it; who forwards
/// the credentials in it is up to each.
fn notes_here(
    notes: &[Note],
    entry: &Entry,
    own: Version,
    credentials: impl Fn(&MirrorHost) -> Credentials,
) -> Vec<Note> {
    let here = |note: &Note| match &note.what {
        Shortfall::CredentialsNotForwarded { url, version: _ } => {
            let mirror = note.mirror.and_then(|place| entry.mirrors.get(place));
            // Basic authentication works on every release; a warning that is wrong there hides one that is right.
            let holds = !own.forwards_authorization_to_token_server()
                && match mirror.map_or(Credentials::NeverKnown, &credentials) {
                    Credentials::ForTokenServer | Credentials::NeverKnown => true,
                    Credentials::Basic | Credentials::NotKnownYet => false,
                };
            let what = Shortfall::CredentialsNotForwarded { url: url.clone(), version: own };
            holds.then_some(Note { mirror: note.mirror, what })
        }
        Shortfall::Omitted(_)
        | Shortfall::NoMirrorLeft { .. }
        | Shortfall::DefaultDirectoryUnknown { .. }
        | Shortfall::NotDrained { .. } => Some(note.clone()),
    };
    notes.iter().filter_map(here).collect()
}

#[cfg(test)]
mod tests {
    use registry_mirror_core::compile::{CompileOptions, RefKind, Reference, References, compile};

    use super::*;

    fn slice(health_check: bool) -> Bundle {
        let object = serde_json::from_value(serde_json::json!({
            "apiVersion": "registry-mirror.dev/v1alpha1", "kind": "RegistryMirror", "metadata": {"name": "hub"},
            "spec": {
                "registry": "docker.io",
                "mirrors": [{"url": "https://m", "auth": {"secretRef": {"name": "robot"}}}],
                "healthCheck": {"enabled": health_check},
            },
        }))
        .expect("an object");
        let mut references = References::default();
        let data = [("username", "u"), ("password", "p")];
        references.insert(
            Reference { kind: RefKind::Secret, name: "robot".to_owned() },
            data.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).into(),
        );
        compile(&[object], &references, &CompileOptions::default()).bundle
    }

    fn complaints(slice: &Bundle, health: &HealthMap, version: Version) -> usize {
        let roots = [PathBuf::from("/certs.d")];
        let target = Target { own: version, readers: Readers::only(version), roots: &roots };
        let ways = Ways { health, ..Ways::unknown() };
        let applied = wishes(slice, target, &ways, &Carried::default(), &Ground::default()).applied;
        applied.registries.iter().flat_map(RegistryFacts::credentials_unusable).count()
    }

    /// A robot account in basic authentication works on every release, and most mirrors have no token server.
    #[test]
    fn an_old_containerd_is_no_reason_to_complain_of_credentials_that_arrive() {
        let (old, new) = (Version::new(1, 7, 35), Version::new(2, 1, 0));
        let slice = slice(true);
        let answered = |wants_token| HealthMap::answered("hub", "https://m", wants_token);
        assert_eq!(complaints(&slice, &answered(false), old), 0);
        assert_eq!(complaints(&slice, &answered(true), old), 1);
        assert_eq!(complaints(&slice, &answered(true), new), 0);
    }

    #[test]
    fn what_a_mirror_does_with_credentials_is_awaited_where_somebody_asks() {
        let old = Version::new(1, 7, 35);
        assert_eq!(complaints(&slice(true), &HealthMap::under_way(), old), 0);
        assert_eq!(complaints(&slice(false), &HealthMap::under_way(), old), 1);
        assert_eq!(complaints(&slice(true), &HealthMap::default(), old), 1);
    }
}
