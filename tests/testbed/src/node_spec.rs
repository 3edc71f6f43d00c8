//! The description of a node: values only.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::k3s;

/// What a node is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Its name in the cluster and on the command line.
    pub name: String,
    /// The release of containerd, one of [`crate::pins`]; `k3s` for a node that K3s runs with its own.
    pub containerd: String,
    /// Its config.toml.
    pub config: Config,
    /// Whether there is no message bus, as on KinD's and other slim images: systemd answers on its private socket alone.
    #[serde(default)]
    pub without_dbus: bool,
    /// Labels with which the kubelet registers.
    pub labels: BTreeMap<String, String>,
    /// Directories that all nodes of the bed which name the same path have in common, as KinD's `extraMounts` do it.
    #[serde(default)]
    pub shared: Vec<String>,
    /// More files; they replace the test bed's own ones (units, /etc/hosts, ...).
    pub files: Vec<NodeFile>,
}

/// A node's `/etc/containerd/config.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Config {
    /// [`crate::containerd_config::for_version`].
    Default,
    /// KinD's, which sets `discard_unpacked_layers`.
    Kind,
    /// No such file.
    Absent,
    /// This text.
    Text(String),
}

/// A file on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFile {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// What it holds.
    pub content: Vec<u8>,
}

impl NodeSpec {
    /// A node with the default configuration of its containerd.
    #[must_use]
    pub fn new(name: &str, containerd: &str) -> Self {
        Self {
            name: name.to_owned(),
            containerd: containerd.to_owned(),
            config: Config::Default,
            without_dbus: false,
            labels: BTreeMap::new(),
            shared: Vec::new(),
            files: Vec::new(),
        }
    }

    /// A server of K3s. It is a cluster of its own, so it is alone in its bed.
    #[must_use]
    pub fn k3s(name: &str) -> Self {
        Self::new(name, k3s::NAME)
    }

    /// Whether K3s runs it.
    #[must_use]
    pub fn is_k3s(&self) -> bool {
        self.containerd == k3s::NAME
    }

    /// The unit that runs its containerd.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        if self.is_k3s() { "k3s.service" } else { "containerd.service" }
    }

    /// Another config.toml.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// No message bus.
    #[must_use]
    pub fn without_dbus(mut self) -> Self {
        self.without_dbus = true;
        self
    }

    /// One more file.
    #[must_use]
    pub fn file(mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.files.push(NodeFile { path: path.to_owned(), mode, content: content.into() });
        self
    }

    /// One more directory that is the same on all nodes which name it; empty at first.
    #[must_use]
    pub fn shared(mut self, path: &str) -> Self {
        self.shared.push(path.to_owned());
        self
    }

    /// One more label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Reads `NAME=CONTAINERD[,config=FILE][,dbus=none][,label=KEY=VALUE][,shared=PATH]...`; `config=none` is a node
    /// without config.toml, `config=kind` one with KinD's.
    ///
    /// # Errors
    /// When the text has another form, or FILE cannot be read.
    pub fn parse(text: &str) -> Result<Self> {
        let form = "NAME=CONTAINERD[,config=FILE|kind|none][,dbus=none][,label=KEY=VALUE][,shared=PATH]...";
        let mut parts = text.split(',');
        let Some((name, containerd)) = parts.next().and_then(|first| first.split_once('=')) else {
            bail!("`{text}` does not describe a node: write {form}, for example node1=2.4.2");
        };
        check_name("a node", name)?;
        let mut spec = Self::new(name, containerd);
        for part in parts {
            match part.split_once('=') {
                Some(("config", "none")) => spec.config = Config::Absent,
                Some(("config", "kind")) => spec.config = Config::Kind,
                Some(("dbus", "none")) => spec.without_dbus = true,
                Some(("config", file)) => {
                    spec.config = Config::Text(
                        fs::read_to_string(file)
                            .with_context(|| format!("the config.toml {file} of {name} cannot be read"))?,
                    );
                }
                Some(("label", label)) => {
                    let Some((key, value)) = label.split_once('=') else {
                        bail!("the label `{label}` of {name} has no value: write label=KEY=VALUE")
                    };
                    spec = spec.label(key, value);
                }
                Some(("shared", path)) if path.len() > 1 && path.starts_with('/') && !path.contains([':', '\\']) => {
                    spec = spec.shared(path);
                }
                Some(("shared", path)) => {
                    bail!("`{path}` cannot be a shared directory of {name}: write an absolute path without `:`")
                }
                _ => bail!("`{part}` is not known in the description of {name}: write {form}"),
            }
        }
        Ok(spec)
    }
}

/// The nodes of a bed for which none are asked for; neither has a `config_path`. Node 1: Debian's containerd, a
/// config.toml as KinD ships it and, as there, no message bus. Node 2: the newest containerd, which silently ignores certs.d
/// until `config_path` is set, and a message bus.
#[must_use]
pub fn default_nodes() -> [NodeSpec; 2] {
    [NodeSpec::new("node1", "1.6.20").config(Config::Kind).without_dbus(), NodeSpec::new("node2", "2.4.2")]
}

/// Refuses names that cannot be part of a host name, a path and a network interface alike.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    let fits = !name.is_empty()
        && name.len() <= 20
        && name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-')
        && name.starts_with(|letter: char| letter.is_ascii_lowercase());
    if !fits {
        bail!("`{name}` cannot be the name of {what}: up to 20 lower-case letters, digits and hyphens, a letter first");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_in_one_word() {
        let spec =
            NodeSpec::parse("node1=1.6.20,config=none,dbus=none,label=region=cn-north,shared=/etc/certs.d").unwrap();
        let expected =
            NodeSpec::new("node1", "1.6.20").config(Config::Absent).without_dbus().label("region", "cn-north");
        assert_eq!(spec, expected.shared("/etc/certs.d"));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("node1", "NAME=CONTAINERD"),
            ("Node=2.4.2", "lower-case"),
            ("a=2.4.2,x=y", "`x=y`"),
            ("a=2.4.2,label=b", "no value"),
            ("a=2.4.2,shared=certs.d", "absolute path"),
        ] {
            let error = NodeSpec::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
