//! Whom containerd asks for an image, in which order, and which file says so.

mod attempt;
mod image;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use attempt::Attempt;
pub use image::{ImageError, ImageReference};

use crate::{
    containerd::Version,
    hosts_toml::{self, Host, HostsToml},
    registry::RegistryName,
};

/// What stands in certs.d for a registry: the first of [`directories`] that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryDirectory {
    /// On the node.
    pub path: PathBuf,
    /// The file's content; `None` where the directory holds no hosts.toml.
    pub hosts_toml: Option<Vec<u8>>,
}

/// What containerd reads for a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Configured {
    /// The first directory that exists.
    Directory(RegistryDirectory),
    /// None exists below this directory of all registries.
    Nothing {
        /// The directory of all registries.
        certs_dir: PathBuf,
    },
    /// containerd reads no directory.
    NotRead {
        /// Why, in a sentence.
        why: String,
    },
}

/// Whom containerd asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The image in full.
    pub image: String,
    /// The registry that the image names.
    pub registry: RegistryName,
    /// The file that decides; `None` where containerd's own default does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Whom it asks, in this order.
    pub attempts: Vec<Attempt>,
    /// What people should know, each a sentence.
    pub warnings: Vec<String>,
}

/// The directories below certs.d that containerd looks up for a registry, in its order.
#[must_use]
pub fn directories(registry: &RegistryName, version: Version) -> Vec<String> {
    let mut directories = registry.directories();
    if !registry.is_default() && version.knows_default_directory() {
        directories.push(RegistryName::DEFAULT.to_owned());
    }
    directories
}

/// Whom this containerd asks for an image.
#[must_use]
pub fn explain(image: &ImageReference, version: Version, configured: &Configured) -> Explanation {
    let mut warnings = Vec::new();
    let Reading { file, hosts, has_upstream } = match configured {
        Configured::NotRead { why } => {
            warnings.push(format!("containerd reads no hosts.toml: {why}"));
            Reading::nothing()
        }
        Configured::Nothing { certs_dir } => {
            let names = directories(&image.registry, version).join(", ");
            warnings.push(format!("{} holds none of the directories {names}", certs_dir.display()));
            Reading::nothing()
        }
        Configured::Directory(directory) => read(directory, version, &mut warnings),
    };
    let HostsToml { server, root, hosts } = hosts;
    let section = |name: String| (file.clone(), name);
    let mut attempts: Vec<Attempt> = Vec::with_capacity(hosts.len() + 1);
    for Host { url, fields } in &hosts {
        match Attempt::of_host(image, version, url, fields, section(format!("[host.\"{url}\"]"))) {
            Ok(attempt) => attempts.push(attempt),
            Err(error) => warnings.push(error.to_string()),
        }
    }
    let last = match &server {
        Some(url) => Some(Attempt::of_host(image, version, url, &root, section("server".to_owned()))),
        None if has_upstream => Some(Ok(Attempt::of_registry(image, version, &root, file.clone()))),
        None => {
            warnings.push(format!(
                "containerd {version} asks the registry itself only where a file has the key `server`: add `server = \
                 \"\"` above its tables if it is meant to be asked last"
            ));
            None
        }
    };
    match last {
        Some(Ok(attempt)) => attempts.push(attempt),
        Some(Err(error)) => warnings.push(error.to_string()),
        None => {}
    }
    let mut order = 0;
    for attempt in &mut attempts {
        if attempt.asked_first {
            order += 1;
            attempt.order = Some(order);
        }
    }
    if order == 0 {
        warnings.push("no host may both pull and resolve tags: the pull fails with \"no resolve hosts\"".to_owned());
    }
    Explanation { image: image.to_string(), registry: image.registry.clone(), file, attempts, warnings }
}

/// What containerd makes of the file for a registry.
struct Reading {
    file: Option<PathBuf>,
    hosts: HostsToml,
    /// Whether the registry itself is asked last where no `server` is named.
    has_upstream: bool,
}

impl Reading {
    /// No file counts.
    fn nothing() -> Self {
        Self { file: None, hosts: HostsToml::default(), has_upstream: true }
    }
}

fn read(directory: &RegistryDirectory, version: Version, warnings: &mut Vec<String>) -> Reading {
    let RegistryDirectory { path, hosts_toml } = directory;
    let Some(bytes) = hosts_toml.as_deref().filter(|bytes| !bytes.is_empty()) else {
        warnings.push(format!(
            "{} exists without a hosts.toml: containerd goes to the registry itself, with the .crt, .cert and .key \
             files of that directory, and does not look at _default",
            path.display()
        ));
        return Reading::nothing();
    };
    let file = path.join("hosts.toml");
    let parsed = match std::str::from_utf8(bytes) {
        Ok(text) => hosts_toml::parse(text, version)
            .map(|hosts| (hosts_toml::has_upstream(text, &hosts, version), hosts))
            .map_err(|error| error.to_string()),
        Err(_) => Err("it is no UTF-8; containerd ignores the whole file and goes to the registry itself".to_owned()),
    };
    match parsed {
        Ok((has_upstream, hosts)) => Reading { file: Some(file), hosts, has_upstream },
        Err(why) => {
            warnings.push(format!("{}: {why}", file.display()));
            Reading::nothing()
        }
    }
}

impl Explanation {
    /// Every certificate and key that a host of the file names. Where one cannot be read the pull fails, for all hosts.
    pub fn certificate_files(&self) -> impl Iterator<Item = &Path> {
        self.attempts.iter().flat_map(Attempt::certificate_files)
    }
}

#[cfg(test)]
mod tests;
