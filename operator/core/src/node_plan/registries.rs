//! What becomes of each entry of the bundle on a node that writes its own directory, and which files that takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use registry_mirror_crds::{MirrorUse, NoteReason};

use super::{Credentials, MirrorHealth, NodePlan, Observation};
use crate::{
    bundle::{Bundle, Entry, MirrorHost},
    config_toml::MigratedRegistry,
    containerd::Version,
    desired::{Note, Shortfall, Target, desired},
    health::{Health, drained},
    plan::{
        files::{
            DesiredRegistry, FilesPlan, Finding, GRACE, Input, What,
            foreign::{Root, carry, place},
            plan_files,
        },
        migrated,
    },
    proxy::Environment,
    registry::RegistryName,
    status::node::RegistryFacts,
};

/// What the entries depend on.
struct Ground<'a> {
    observed: &'a Observation,
    bundle: &'a Bundle,
    health: &'a MirrorHealth,
    /// Which mirrors containerd goes to through its proxy.
    environment: &'a Environment,
    /// The release that files are rendered for.
    reader: Version,
    /// Old registry tables: those that the plan takes out of the configuration, then those that earlier edits took out.
    migrated: Vec<MigratedRegistry>,
}

/// The files that all entries together ask for.
#[derive(Default)]
struct Wanted {
    /// With the place of the directory that they are for.
    files: Vec<(usize, DesiredRegistry)>,
    /// Registries whose directories stay as they are.
    on_hold: BTreeSet<RegistryName>,
    findings: Vec<Finding>,
}

pub(super) fn plan(plan: &mut NodePlan, observed: &Observation, bundle: &Bundle, health: &MirrorHealth) {
    let containerd = &observed.containerd;
    let nothing = Environment::default();
    let mut migrated = containerd.migrated_now().to_vec();
    migrated::add_missing(&mut migrated, &observed.migrated_before);
    let ground = Ground {
        observed,
        bundle,
        health,
        environment: containerd.proxy.running.as_ref().unwrap_or(&nothing),
        reader: observed.role.reader(containerd.version),
        migrated,
    };
    let mut wanted = Wanted::default();
    for entry in &bundle.entries {
        let facts = ground.entry(entry, &mut wanted);
        plan.registries.push(facts);
    }
    ground.old_tables(&mut wanted);
    plan.findings = std::mem::take(&mut wanted.findings);
    plan.files = ground.files(wanted);
    plan.findings.extend(plan.files.iter_mut().flat_map(|(_, files)| std::mem::take(&mut files.findings)));
    for finding in plan.findings.iter().filter(|finding| finding.prevents()) {
        for registry in plan.registries.iter_mut().filter(|facts| facts.object == finding.object) {
            registry.error = Some(finding.to_string());
        }
    }
}

impl Ground<'_> {
    /// What becomes of one entry.
    fn entry(&self, entry: &Entry, wanted: &mut Wanted) -> RegistryFacts {
        let mut facts = RegistryFacts::of(entry);
        let drained = self.mirrors(entry, &mut facts);
        if entry.suspend {
            wanted.on_hold.insert(entry.registry.clone());
            // It is in force where its file stands from before. Where none does nothing is.
            if !self.observed.directories.iter().any(|root| root.listing.serves(&entry.registry, &entry.object)) {
                facts.hash.clear();
            }
            return facts;
        }
        if let Some(why) = self.observed.role.obstacle(entry) {
            facts.error = Some(why);
            wanted.on_hold.insert(entry.registry.clone());
            return facts;
        }
        let roots = &self.observed.directories;
        let at = place(&entry.registry, roots);
        let Some(root) = roots.get(at) else { return facts };
        let version = self.reader;
        match desired(entry, &self.bundle.blobs, Target { version, certs_dir: &root.path }, &drained) {
            Ok(found) => {
                let credentials = |mirror: &MirrorHost| self.health.credentials(self.bundle, entry, mirror);
                facts.heed(notes_here(&found.notes, entry, self.observed.containerd.version, credentials));
                let found = migrated::beneath(found, entry, &self.migrated, version);
                let (found, told) = carry(found, entry, roots, at, version);
                // What another program keeps for itself hides nothing.
                if !self.observed.managed_elsewhere.registries.contains_key(&entry.registry) {
                    wanted.findings.extend(told);
                }
                wanted.files.push((at, found.registry));
            }
            Err(error) => {
                // What stands there stays: an entry that contradicts itself is no reason to remove a mirror.
                facts.error = Some(error.to_string());
                wanted.on_hold.insert(entry.registry.clone());
            }
        }
        facts
    }

    /// Which mirrors of an entry are taken out, and what is to be said of each.
    fn mirrors(&self, entry: &Entry, facts: &mut RegistryFacts) -> BTreeSet<String> {
        let health_of = |url: &str| self.health.mirror(&entry.object, url);
        let mut drained = drained(entry, health_of, &self.health.upstream(&entry.object));
        // The probes go straight: what they say of a mirror behind the proxy is told and not acted upon.
        drained.retain(|url| !self.environment.proxies(url));
        for (mirror, facts) in entry.mirrors.iter().zip(&mut facts.mirrors) {
            let reach = match (drained.contains(&mirror.url), self.environment.proxies(&mirror.url)) {
                (true, _) => Reach::Drained,
                (false, true) => Reach::Proxied,
                (false, false) => Reach::Direct,
            };
            (facts.state, facts.error) = in_use(&health_of(&mirror.url), reach);
        }
        drained
    }

    /// Files for the old registry tables that no entry has taken up.
    fn old_tables(&self, wanted: &mut Wanted) {
        // From the daemon's next start on their files count.
        let under_way = !self.observed.containerd.migrated_now().is_empty();
        // Without a mirror there is no edit, and until the edit the old tables do their own work.
        if under_way && self.bundle.entries.is_empty() {
            return;
        }
        for old in &self.migrated {
            let is_wanted = wanted.files.iter().any(|(_, files)| files.registry == old.registry);
            // What was carried over earlier stands in the file that is on hold.
            if is_wanted || (wanted.on_hold.contains(&old.registry) && !under_way) {
                continue;
            }
            wanted.on_hold.remove(&old.registry);
            let at = place(&old.registry, &self.observed.directories);
            wanted.files.push((at, migrated::alone(old, self.reader)));
        }
    }

    /// What changes in each directory.
    fn files(&self, wanted: Wanted) -> Vec<(PathBuf, FilesPlan)> {
        let nothing = BTreeMap::new();
        let Observation { directories, managed_elsewhere, writer, now, .. } = self.observed;
        let mut of_roots: Vec<Vec<DesiredRegistry>> = vec![Vec::new(); directories.len()];
        for (at, files) in wanted.files {
            if let Some(of_root) = of_roots.get_mut(at) {
                of_root.push(files);
            }
        }
        let plan = |(number, (root, desired)): (usize, (&Root, &Vec<DesiredRegistry>))| {
            let mut on_hold = wanted.on_hold.clone();
            on_hold.extend(migrated::orphans(&root.listing, &self.migrated));
            on_hold.retain(|name| !desired.iter().any(|files| files.registry == *name));
            let mut plan = plan_files(&Input {
                certs_d: &root.path,
                listing: &root.listing,
                writer: *writer,
                ownership: &root.ownership,
                desired,
                on_hold: &on_hold,
                claimed: if number == 0 { &managed_elsewhere.registries } else { &nothing },
                now: *now,
                grace: GRACE,
            });
            if let Some((path, why)) = managed_elsewhere.unreadable.clone().filter(|_| number == 0) {
                plan.findings.push(Finding { object: String::new(), path, what: What::ClaimsUnknown { why } });
            }
            if let Some(program) = managed_elsewhere.peers.as_ref().filter(|_| number == 0) {
                let ours = desired.iter().filter(|files| !managed_elsewhere.registries.contains_key(&files.registry));
                plan.findings.extend(ours.map(|files| Finding {
                    object: files.object.clone(),
                    path: root.path.join(files.registry.directory()),
                    what: What::Bypasses { program: program.clone() },
                }));
            }
            (root.path.clone(), plan)
        };
        directories.iter().zip(&of_roots).enumerate().map(plan).collect()
    }
}

/// How containerd reaches a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Direct,
    Proxied,
    /// Not at all: it is taken out.
    Drained,
}

/// Whether a mirror is in use, and what is wrong with it.
pub(super) fn in_use(health: &Health, reach: Reach) -> (MirrorUse, Option<String>) {
    match health {
        Health::Unknown => (MirrorUse::Unknown, None),
        Health::Alive => (MirrorUse::Active, None),
        // Not confirmed: nothing has changed so far, and a status that flickers tells nobody anything.
        Health::Suspect { was_alive: true, .. } => (MirrorUse::Active, None),
        Health::Suspect { was_alive: false, .. } => (MirrorUse::Unknown, None),
        Health::Failing(why) => (MirrorUse::Active, Some(why.clone())),
        Health::Dead(why) => match reach {
            Reach::Drained => (MirrorUse::Drained, Some(why.clone())),
            Reach::Proxied => {
                let stays = "it stays in place because containerd reaches it through its proxy, and this node tried \
                             without";
                (MirrorUse::Active, Some(format!("{why}; {stays}")))
            }
            Reach::Direct => {
                (MirrorUse::Active, Some(format!("{why}; it stays in place because no other way answers either")))
            }
        },
    }
}

/// What must be said of an entry's credentials on a node with this containerd.
pub(super) fn credentials_not_forwarded(
    bundle: &Bundle,
    entry: &Entry,
    target: Target<'_>,
    health: &MirrorHealth,
) -> Vec<Note> {
    let found = desired(entry, &bundle.blobs, target, &BTreeSet::new());
    let credentials = |mirror: &MirrorHost| health.credentials(bundle, entry, mirror);
    let mut notes =
        found.map_or_else(|_| Vec::new(), |found| notes_here(&found.notes, entry, target.version, credentials));
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
