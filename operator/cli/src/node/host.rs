//! Which host: the one that this runs on, or the files of another one.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use registry_mirror_agent::node::{HostPlan, Node, NodeSettings, Offline};
use registry_mirror_core::{bundle::Bundle, containerd::Version, node_plan::RestartBy};
use registry_mirror_host::restart::READY_LIMIT;

/// Which host.
#[derive(Debug, Args)]
pub struct HostArgs {
    /// Where the host's / is. With / the containerd that runs here is asked; anything else is an image or a mounted
    /// disk, of which the files alone are read and written.
    #[arg(long, value_name = "DIR", default_value = "/")]
    host_root: PathBuf,
    /// The containerd that will read the files, for example 2.1.4; needed where none runs.
    #[arg(long, value_name = "VERSION")]
    containerd_version: Option<Version>,
}

/// A host that was opened.
pub enum Host {
    /// Its containerd answers.
    Live(Box<Node>),
    /// Its files alone.
    Offline(Offline),
}

impl HostArgs {
    /// Opens the host.
    ///
    /// # Errors
    /// Where it is not there, or its containerd's release is not known.
    pub async fn open(&self) -> anyhow::Result<Host> {
        let Self { host_root, containerd_version } = self;
        let offline = |version| Ok(Host::Offline(Offline::open(host_root, version)?));
        if !is_this_host(host_root) {
            let Some(version) = containerd_version else {
                bail!(
                    "the files in {} do not tell the release of their containerd: name it with --containerd-version, \
                     for example --containerd-version 2.1.4",
                    host_root.display()
                );
            };
            return offline(*version);
        }
        let mut node = open(host_root)?;
        match (node.version().await, containerd_version) {
            (Ok(_), None) => Ok(Host::Live(Box::new(node))),
            (Ok(running), Some(named)) if running == *named => Ok(Host::Live(Box::new(node))),
            (Ok(running), Some(named)) => bail!(
                "containerd {running} runs here, not {named}: leave --containerd-version out, or name the files of \
                 another host with --host-root"
            ),
            (Err(_), Some(version)) => offline(*version),
            (Err(why), None) => {
                bail!("{why}; if it is not to run yet, name its release with --containerd-version")
            }
        }
    }

    /// Opens it for what needs no containerd.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn files(host_root: &Path) -> anyhow::Result<Node> {
        open(host_root)
    }

    /// Whether this is the host that we run on, and not the files of another one.
    pub fn is_here(&self) -> bool {
        is_this_host(&self.host_root)
    }
}

impl Host {
    /// What would be done with this bundle.
    ///
    /// # Errors
    /// A sentence.
    pub async fn plan(&mut self, bundle: Option<&Bundle>, restart: RestartBy) -> anyhow::Result<HostPlan> {
        Ok(match self {
            Self::Live(node) => node.plan(bundle, restart).await?,
            Self::Offline(offline) => offline.plan(bundle)?,
        })
    }
}

fn open(host_root: &Path) -> anyhow::Result<Node> {
    Ok(Node::open(NodeSettings { host_root: host_root.to_owned(), pod_uid: None, ready_limit: READY_LIMIT })?)
}

fn is_this_host(root: &Path) -> bool {
    root.canonicalize().is_ok_and(|root| root == Path::new("/"))
}
