//! The `registry` table of the CRI plugin, typed.

use std::fmt;

use super::{
    document::ConfigFile,
    document::location,
    errors::ConfigError,
    node::{Kind, Node, Place, Table},
};
use crate::containerd::Version;

/// What the daemon reads of its registry table.
#[derive(Debug, Clone, Default)]
pub(crate) struct RegistryTable {
    pub(crate) config_path: Option<(String, Place)>,
    pub(crate) mirrors: Vec<Mirror>,
    pub(crate) configs: Vec<HostConfig>,
    pub(crate) auths: Vec<(String, Auth, Place)>,
    pub(crate) headers: Vec<(String, Place)>,
}

/// `mirrors."NAME"`.
#[derive(Debug, Clone)]
pub(crate) struct Mirror {
    pub(crate) name: String,
    pub(crate) endpoints: Vec<String>,
    /// `rewrite` of some distributions, which hosts.toml does not have.
    pub(crate) rewrite: Option<Place>,
    pub(crate) place: Place,
}

/// `configs."HOST"`.
#[derive(Debug, Clone)]
pub(crate) struct HostConfig {
    pub(crate) host: String,
    pub(crate) auth: Option<(Auth, Place)>,
    /// Read on 1.x only.
    pub(crate) tls: Option<(Tls, Place)>,
    /// Present on 2.x, which ignores it.
    pub(crate) ignored_tls: Option<Place>,
    /// Keys that are neither `auth` nor `tls`.
    pub(crate) others: bool,
    pub(crate) place: Place,
}

/// Credentials as config.toml has them.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Auth {
    pub(crate) username: String,
    pub(crate) password: String,
    /// base64 of `username:password`.
    pub(crate) auth: String,
    pub(crate) identity_token: String,
}

/// The host that an entry of `auths` is for: the daemon lays it over `configs."HOST".auth` (`ValidateImageConfig`). `None`
/// where it has no effect: without a scheme, Go's `url.Parse` takes `host:port` for scheme and rest.
pub(crate) fn host_of_auths(name: &str) -> Option<&str> {
    match name.split_once("://") {
        Some((_, rest)) => rest.split('/').next(),
        None if name.contains(':') => None,
        None => Some(name),
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth(redacted)")
    }
}

/// `configs."HOST".tls` of 1.x.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) insecure_skip_verify: bool,
    pub(crate) ca_file: String,
    pub(crate) cert_file: String,
    pub(crate) key_file: String,
}

struct Reader<'a> {
    files: &'a [ConfigFile],
}

impl Reader<'_> {
    fn wrong(&self, place: Place, key: String, expected: &'static str) -> ConfigError {
        let (file, line) = location(self.files, place);
        ConfigError::Type { file, line, key, expected }
    }

    fn table<'n>(&self, node: &'n Node, key: &str) -> Result<&'n Table, ConfigError> {
        node.table().ok_or_else(|| self.wrong(node.place, key.to_owned(), "a table"))
    }

    /// The string at `key`, empty where it is absent, as in Go.
    fn text(&self, table: &Table, key: &str, of: &str) -> Result<String, ConfigError> {
        match table.get(key) {
            None => Ok(String::new()),
            Some(node) => match node.text() {
                Some(text) => Ok(text.to_owned()),
                None => Err(self.wrong(node.place, format!("{of}.{key}"), "a string")),
            },
        }
    }

    fn boolean(&self, table: &Table, key: &str, of: &str) -> Result<bool, ConfigError> {
        match table.get(key).map(|node| (&node.kind, node.place)) {
            None => Ok(false),
            Some((Kind::Boolean(value), _)) => Ok(*value),
            Some((_, place)) => Err(self.wrong(place, format!("{of}.{key}"), "true or false")),
        }
    }

    fn endpoints(&self, table: &Table, of: &str) -> Result<Vec<String>, ConfigError> {
        let Some(node) = table.get("endpoint") else {
            return Ok(Vec::new());
        };
        let wrong = |place| self.wrong(place, format!("{of}.endpoint"), "an array of strings");
        let Kind::Array(entries) = &node.kind else {
            return Err(wrong(node.place));
        };
        entries.iter().map(|entry| entry.text().map(str::to_owned).ok_or_else(|| wrong(entry.place))).collect()
    }

    fn auth(&self, node: &Node, of: &str) -> Result<Auth, ConfigError> {
        let table = self.table(node, of)?;
        Ok(Auth {
            username: self.text(table, "username", of)?,
            password: self.text(table, "password", of)?,
            auth: self.text(table, "auth", of)?,
            identity_token: self.text(table, "identitytoken", of)?,
        })
    }

    fn tls(&self, node: &Node, of: &str) -> Result<Tls, ConfigError> {
        let table = self.table(node, of)?;
        Ok(Tls {
            insecure_skip_verify: self.boolean(table, "insecure_skip_verify", of)?,
            ca_file: self.text(table, "ca_file", of)?,
            cert_file: self.text(table, "cert_file", of)?,
            key_file: self.text(table, "key_file", of)?,
        })
    }
}

impl RegistryTable {
    /// Reads the table that the daemon reads; a value of the wrong type keeps CRI from loading and is an error.
    pub(crate) fn read(node: Option<&Node>, files: &[ConfigFile], version: Version) -> Result<Self, ConfigError> {
        let reader = Reader { files };
        let Some(node) = node else {
            return Ok(Self::default());
        };
        let registry = reader.table(node, "registry")?;
        let config_path = match registry.get("config_path") {
            None => None,
            Some(node) => match node.text() {
                Some(text) => Some((text.to_owned(), node.place)),
                None => return Err(reader.wrong(node.place, "registry.config_path".to_owned(), "a string")),
            },
        };
        let none = Table::new();
        let sub = |key: &str| match registry.get(key) {
            None => Ok(&none),
            Some(node) => reader.table(node, &format!("registry.{key}")),
        };
        let mut mirrors = Vec::new();
        for (name, node) in sub("mirrors")? {
            let of = format!("registry.mirrors.\"{name}\"");
            let table = reader.table(node, &of)?;
            mirrors.push(Mirror {
                name: name.clone(),
                endpoints: reader.endpoints(table, &of)?,
                rewrite: table.get("rewrite").map(|node| node.place),
                place: node.place,
            });
        }
        let mut configs = Vec::new();
        for (host, node) in sub("configs")? {
            let of = format!("registry.configs.\"{host}\"");
            let table = reader.table(node, &of)?;
            let auth = match table.get("auth") {
                Some(node) => Some((reader.auth(node, &format!("{of}.auth"))?, node.place)),
                None => None,
            };
            let reads_tls = version.reads_configs_tls();
            let tls = match table.get("tls").filter(|_| reads_tls) {
                Some(node) => Some((reader.tls(node, &format!("{of}.tls"))?, node.place)),
                None => None,
            };
            configs.push(HostConfig {
                host: host.clone(),
                auth,
                tls,
                ignored_tls: table.get("tls").filter(|_| !reads_tls).map(|node| node.place),
                others: table.keys().any(|key| key != "auth" && key != "tls"),
                place: node.place,
            });
        }
        let mut auths = Vec::new();
        for (name, node) in sub("auths")? {
            auths.push((name.clone(), reader.auth(node, &format!("registry.auths.\"{name}\""))?, node.place));
        }
        let headers = sub("headers")?.iter().map(|(name, node)| (name.clone(), node.place)).collect();
        Ok(Self { config_path, mirrors, configs, auths, headers })
    }
}
