//! Where the files come from: a host's disk, or objects that have not been applied.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::Context;
use registry_mirror_core::{
    config_toml::Need,
    containerd::Version,
    desired::{Target, desired},
    explain::{Configured, Explanation, ImageReference, RegistryDirectory, directories},
    observed::Observed,
    plan::config::{DEFAULT_DIRECTORY, before_first_start},
    proxy::Environment,
    select::select,
};
use registry_mirror_host::{
    observe,
    probe::HostTrust,
    root::{HostRoot, Kind},
    systemd::Systemd,
};

use crate::objects::ObjectArgs;

/// What containerd reads, and the files beside it.
pub struct Source {
    /// The daemon that reads it.
    pub version: Version,
    /// What it reads for the image's registry.
    pub configured: Configured,
    files: Files,
    /// Of the daemon that runs.
    environment: Environment,
    notes: Vec<String>,
}

enum Files {
    Host(HostRoot),
    /// Certificates of objects, by their path on a node.
    Rendered(BTreeMap<PathBuf, Vec<u8>>),
}

impl Source {
    /// The files below `root`.
    pub async fn host(root: &Path, version: Option<Version>, image: &ImageReference) -> anyhow::Result<Self> {
        let root = HostRoot::open(root)?;
        let mut notes = Vec::new();
        let mut environment = Environment::default();
        let observed = match version {
            Some(version) => observe::offline(&root, version, None)?,
            None => {
                let systemd = Systemd::new(root.path());
                let live = observe::live(&root, &systemd, None).await.with_context(|| {
                    format!(
                        "the containerd of {} could not be asked for its version: name it with --containerd-version",
                        root.path().display()
                    )
                })?;
                match live.process.map(|pid| observe::proxy::environment_of(&root, pid)).transpose() {
                    Ok(found) => environment = found.flatten().unwrap_or_default(),
                    Err(error) => notes.push(format!("whether containerd has a forward proxy is not known: {error}")),
                }
                live.observed
            }
        };
        let version = observed.containerd;
        let configured = configured(&root, &observed, image)?;
        Ok(Self { version, configured, files: Files::Host(root), environment, notes })
    }

    /// What an agent would write for these objects.
    pub fn objects(args: &ObjectArgs, version: Version, image: &ImageReference) -> anyhow::Result<Self> {
        let bundle = args.bundle()?;
        let certs_dir = Path::new(DEFAULT_DIRECTORY);
        let selected = select(&bundle, &args.labels());
        let mut rendered = BTreeMap::new();
        let mut notes = Vec::new();
        let mut configured = Configured::Nothing { certs_dir: certs_dir.to_owned() };
        let found = directories(&image.registry, version)
            .into_iter()
            .find_map(|directory| selected.iter().find(|entry| entry.registry.directory() == directory));
        if let Some(entry) = found {
            let wanted = desired(entry, &bundle.blobs, Target { version, certs_dir }, &BTreeSet::new())?;
            let path = certs_dir.join(wanted.registry.registry.directory());
            if entry.suspend {
                notes.push(format!("RegistryMirror `{}` is suspended: nodes keep what they have", entry.object));
            }
            notes.extend(wanted.notes.iter().map(|note| format!("RegistryMirror `{}`: {note}", entry.object)));
            rendered.extend(wanted.registry.certificates.iter().map(|(name, pem)| (path.join(name), pem.clone())));
            configured = Configured::Directory(RegistryDirectory { path, hosts_toml: Some(wanted.registry.file()) });
        }
        let environment = Environment::default();
        Ok(Self { version, configured, files: Files::Rendered(rendered), environment, notes })
    }

    /// A file that hosts.toml names.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        match &self.files {
            Files::Host(root) => match root.read(path) {
                Ok(Some(bytes)) => Ok(bytes),
                Ok(None) => Err(format!("{} does not exist", path.display())),
                Err(error) => Err(error.to_string()),
            },
            Files::Rendered(files) => {
                files.get(path).cloned().ok_or_else(|| format!("{} does not exist", path.display()))
            }
        }
    }

    /// Whom the host trusts; for objects, this machine.
    pub fn trust(&self) -> anyhow::Result<HostTrust> {
        Ok(match &self.files {
            Files::Host(root) => HostTrust::read(root)?,
            Files::Rendered(_) => HostTrust::read(&HostRoot::open(Path::new("/"))?)?,
        })
    }

    /// What stands in the way besides the file itself.
    pub fn warnings(&self, explanation: &Explanation) -> Vec<String> {
        let missing = explanation.certificate_files().collect::<BTreeSet<_>>().into_iter().filter_map(|path| {
            self.read(path).err().map(|why| format!("{why}: every pull from {} fails", explanation.registry))
        });
        self.notes.iter().cloned().chain(missing).chain(self.proxied(explanation)).collect()
    }

    /// The probe goes straight, and so may fail where containerd does not.
    fn proxied(&self, explanation: &Explanation) -> Option<String> {
        let urls = explanation.attempts.iter().map(|attempt| attempt.url.as_str());
        let origins: BTreeSet<String> = urls
            .filter(|url| self.environment.proxies(url))
            .map(|url| url.split('/').take(3).collect::<Vec<_>>().join("/"))
            .collect();
        (!origins.is_empty()).then(|| {
            format!(
                "containerd reaches {} through its forward proxy; --probe asks without it",
                origins.into_iter().collect::<Vec<_>>().join(", ")
            )
        })
    }
}

/// What the daemon reads for a registry: the first directory that exists, in the first of its directories that has one.
fn configured(root: &HostRoot, observed: &Observed, image: &ImageReference) -> anyhow::Result<Configured> {
    let config = match &observed.config {
        Ok(config) => config,
        Err(error) => return Ok(Configured::NotRead { why: error.to_string() }),
    };
    let analysis = config.analyze();
    let first = before_first_start(observed.distribution.distribution, config);
    let roots = match analysis.need(Path::new(DEFAULT_DIRECTORY)) {
        _ if first.is_some() => first.into_iter().collect(),
        Need::Nothing { directory, then, .. } => std::iter::once(directory).chain(then).collect::<Vec<_>>(),
        Need::Patch { why, .. } | Need::Migrate { why, .. } => return Ok(Configured::NotRead { why }),
    };
    for certs_dir in &roots {
        for name in directories(&image.registry, observed.containerd) {
            let path = certs_dir.join(name);
            let Some(stat) = root.stat(&path)? else { continue };
            if stat.kind != Kind::Directory {
                return Ok(Configured::NotRead {
                    why: format!("{} is no directory, which makes every pull fail: move it away", path.display()),
                });
            }
            let hosts_toml = root.read(&path.join("hosts.toml"))?;
            return Ok(Configured::Directory(RegistryDirectory { path, hosts_toml }));
        }
    }
    let certs_dir = roots.into_iter().next().unwrap_or_else(|| PathBuf::from(DEFAULT_DIRECTORY));
    Ok(Configured::Nothing { certs_dir })
}
