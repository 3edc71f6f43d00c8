//! What a pass would do, as values: for `node plan`, and for telling what `node apply` has done. Nothing is written.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use registry_mirror_core::{
    bundle::Bundle,
    containerd::Version,
    plan::{
        ConfigPlan, ProxyPlan,
        files::{FilePath, NewlyRead, Op},
        shared::DIRECTORY,
    },
};
use registry_mirror_host::{
    file_error::FileError,
    files::{HostWriter, WriteScope},
    root::HostRoot,
    state::{STATE_DIR, StateDir},
};

use super::{
    Asking, Node, Offline, RestartBy,
    files::{Applied, Target, Ways, plan_only},
    look::turned_on,
    migrate::carried,
    shared::{self, Role, forbids_migration, role_now, stand_by},
};
use registry_mirror_core::node_status::{ContainerdFacts, RegistryFacts};

/// What a pass would do.
#[derive(Debug)]
pub struct Preview {
    /// The containerd that was found or named.
    pub containerd: ContainerdFacts,
    /// What its configuration needs.
    pub plan: ConfigPlan,
    /// The directory of hosts.toml files; `None` where the host is left alone.
    pub directory: Option<PathBuf>,
    /// Each registry; empty without a slice.
    pub registries: Vec<RegistryFacts>,
    /// containerd's forward proxy, as the cluster asked for it last.
    pub proxy: ProxyPlan,
    /// The steps in the directory, in order.
    pub steps: Vec<Step>,
    /// Files of others that the restart brings into force.
    pub newly_read: Vec<NewlyRead>,
    /// Files of others, and what the objects ask for and this containerd does not do, a sentence each.
    pub remarks: Vec<String>,
}

/// One change in the directory of hosts.toml files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The registry's directory.
    pub directory: String,
    /// What happens to which file.
    pub what: What,
    /// The host path.
    pub path: PathBuf,
}

/// What happens to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A foreign file is kept as a backup.
    BackUp,
    /// It is written.
    Write,
    /// A foreign file comes back.
    Restore,
    /// It is removed.
    Remove,
}

impl What {
    /// An imperative.
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::BackUp => "back up",
            Self::Write => "write",
            Self::Restore => "restore",
            Self::Remove => "remove",
        }
    }
}

impl Step {
    /// The step in words: `write /etc/containerd/certs.d/docker.io/hosts.toml`.
    #[must_use]
    pub fn words(&self) -> String {
        let Self { directory: _, what, path } = self;
        format!("{} {}", what.verb(), path.display())
    }
}

impl Node {
    /// The release of the containerd that runs here.
    ///
    /// # Errors
    /// A sentence, where none answers or the host cannot be read.
    pub async fn version(&mut self) -> Result<Version, String> {
        let version = self.look_now(Asking::Forbidden).await?.version;
        self.look_afresh();
        Ok(version)
    }

    /// What a pass with this slice would do; without one, what containerd's configuration needs. The daemon is not
    /// asked for a proof pull, because that would write a file.
    ///
    /// # Errors
    /// A sentence, where no containerd answers or the host cannot be read.
    pub async fn preview(&mut self, slice: Option<&Bundle>, restart_by: RestartBy) -> Result<Preview, String> {
        let root = self.root.clone();
        let health = self.health.clone();
        let cluster = self.remembered();
        let look = self.look_now(Asking::Forbidden).await?;
        let (containerd, version, plan) = (look.containerd.clone(), look.version, look.plan_for(restart_by));
        let environment = look.proxy.running.clone().unwrap_or_default();
        let proxy =
            cluster.map_or(ProxyPlan::Nothing { notes: Vec::new() }, |cluster| super::proxy::plan(look, &cluster));
        self.look_afresh();
        let ways = Ways { health: &health, environment: &environment };
        Ok(Preview { proxy, ..preview(&root, containerd, version, plan, slice, &ways)? })
    }
}

impl Offline {
    /// As [`Node::preview`].
    ///
    /// # Errors
    /// A sentence, where the host cannot be read.
    pub fn preview(&self, slice: Option<&Bundle>) -> Result<Preview, String> {
        let (containerd, plan) = self.look()?;
        preview(self.root(), containerd, self.version(), plan, slice, &Ways::unknown())
    }
}

fn preview(
    root: &HostRoot,
    containerd: ContainerdFacts,
    version: Version,
    plan: ConfigPlan,
    slice: Option<&Bundle>,
    ways: &Ways<'_>,
) -> Result<Preview, String> {
    let directory = plan.directory().map(Path::to_owned);
    let mut preview = Preview {
        containerd,
        plan,
        directory,
        registries: Vec::new(),
        proxy: ProxyPlan::Nothing { notes: Vec::new() },
        steps: Vec::new(),
        newly_read: Vec::new(),
        remarks: Vec::new(),
    };
    let sentence = |error: FileError| error.to_string();
    preview.newly_read = turned_on(root, &preview.plan, version, slice).map_err(sentence)?;
    let Some(slice) = slice else { return Ok(preview) };
    let Some(directory) = &preview.directory else {
        preview.registries = super::files::not_applied(slice, preview.plan.reason());
        return Ok(preview);
    };
    if let Some(why) = forbids_migration(root, &preview.plan).map_err(sentence)? {
        preview.registries = super::files::not_applied(slice, &why);
        return Ok(preview);
    }
    let role = role_now(root, directory, version).map_err(sentence)?;
    if let Role::StandBy(record) = &role {
        let Applied { registries, conflicts, .. } = stand_by(slice, record.as_ref(), version, directory, ways.health);
        let said = shared::sentence(record.as_ref(), directory);
        preview.remarks = std::iter::once(said).chain(conflicts).chain(remarks(&registries)).collect();
        preview.registries = registries;
        return Ok(preview);
    }
    let carried = carried(root, &preview.plan).map_err(sentence)?;
    let records = existing_records(root, &role, directory).map_err(sentence)?;
    let roots = role.roots(&preview.plan);
    let target = Target { own: version, readers: role.readers(version), roots: &roots };
    let (applied, plans) = plan_only(root, records.as_ref(), slice, target, ways, &carried)?;
    let Applied { registries, conflicts, notes, .. } = applied;
    preview.steps = plans.iter().flat_map(|(root, plan)| steps(root, &plan.ops)).collect();
    let notes = notes.iter().map(ToString::to_string);
    preview.remarks = conflicts.into_iter().chain(notes).chain(remarks(&registries)).collect();
    preview.registries = registries;
    Ok(preview)
}

/// The notes of all registries, a sentence each.
fn remarks(registries: &[RegistryFacts]) -> Vec<String> {
    let of = |registry: &RegistryFacts| -> Vec<String> {
        registry.notes.iter().map(|note| format!("RegistryMirror/{}: {note}.", registry.object)).collect()
    };
    registries.iter().flat_map(of).collect()
}

/// The records of what is ours in a directory. Opening the state directory would make it.
fn existing_records(root: &HostRoot, role: &Role, directory: &Path) -> Result<Option<StateDir>, FileError> {
    let place = match role {
        Role::Alone => PathBuf::from(STATE_DIR),
        Role::Writer(_) | Role::StandBy(_) => directory.join(DIRECTORY),
    };
    if root.stat(&place)?.is_none() {
        return Ok(None);
    }
    let writer = HostWriter::new(root.clone(), WriteScope::of([place.as_path()]));
    role.records(&writer, directory).map(Some)
}

/// What changes in the end: the names under which directories are filled or emptied are nobody's business.
pub(super) fn steps(certs_d: &Path, ops: &[Op]) -> Vec<Step> {
    // A directory is filled before it gets its name, and emptied after it has lost it.
    let mut named: BTreeMap<&str, &str> = BTreeMap::new();
    for op in ops {
        if let Op::MoveDirectory { from, to } = op {
            let hidden = |name: &str| name.starts_with(registry_mirror_core::plan::files::TEMPORARY_PREFIX);
            if hidden(from) {
                named.insert(from, to);
            } else if hidden(to) {
                named.insert(to, from);
            }
        }
    }
    let at = |path: &FilePath, what: What| {
        let directory = named.get(path.directory.as_str()).map_or(path.directory.as_str(), |name| *name);
        Step { directory: directory.to_owned(), what, path: certs_d.join(directory).join(&path.name) }
    };
    ops.iter()
        .filter_map(|op| match op {
            Op::BackUp { path, .. } => Some(at(path, What::BackUp)),
            Op::Write { path, .. } => Some(at(path, What::Write)),
            Op::Restore { path, .. } => Some(at(path, What::Restore)),
            Op::Remove(path) => Some(at(path, What::Remove)),
            Op::CreateDirectory { .. } | Op::MoveDirectory { .. } | Op::RemoveDirectory { .. } => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use registry_mirror_core::plan::files::Bytes;

    use super::*;

    #[test]
    fn hidden_names_are_not_shown() {
        let file = |directory: &str| FilePath { directory: directory.to_owned(), name: "hosts.toml".to_owned() };
        let ops = [
            Op::CreateDirectory { name: ".registry-mirror.0".to_owned() },
            Op::Write { path: file(".registry-mirror.0"), content: Bytes(Vec::new()), mode: 0o644 },
            Op::MoveDirectory { from: ".registry-mirror.0".to_owned(), to: "docker.io".to_owned() },
            Op::MoveDirectory { from: "quay.io".to_owned(), to: ".registry-mirror.1".to_owned() },
            Op::Remove(file(".registry-mirror.1")),
            Op::RemoveDirectory { name: ".registry-mirror.1".to_owned() },
        ];
        let shown: Vec<_> = steps(Path::new("/c"), &ops).iter().map(Step::words).collect();
        assert_eq!(shown, ["write /c/docker.io/hosts.toml", "remove /c/quay.io/hosts.toml"]);
    }
}
