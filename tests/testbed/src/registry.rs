//! The registries of a bed: real ones, and stand-ins for broken ones.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::command::{command, stdout};
use crate::netns::GATEWAY;
use crate::pki::{Authority, Pair, Subject};

/// A registry, or something in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrySpec {
    /// What the bed calls it.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddrV4,
    /// Names under which the nodes reach that address (in their `/etc/hosts`, and in the certificate).
    pub hosts: Vec<String>,
    /// How it answers.
    pub behaviour: Behaviour,
}

/// How a registry answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Behaviour {
    /// As a registry: a `docker-registry` process.
    Serve {
        /// What a client must do to be let in.
        transport: Transport,
        /// User and password, if anonymous pulls are refused.
        credentials: Option<(String, String)>,
    },
    /// With `503 Service Unavailable` to everything (a stand-in: a shell script).
    Unavailable,
    /// Never: it takes the connection, reads the request and stays silent (a stand-in: a shell script).
    Silent,
}

/// How connections to a registry are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// Plain HTTP.
    Plain,
    /// HTTPS, signed by the authority that every node trusts.
    PublicTls,
    /// HTTPS, signed by an authority that no node trusts (`pki/private-ca.pem`).
    PrivateTls,
    /// HTTPS as above, for clients with a certificate of that authority only (`pki/mirror-client.pem`).
    MutualTls,
}

/// The user of the `harbor` registry, named like a robot account of Harbor.
pub const ROBOT: (&str, &str) = ("robot$mirror", "s3cret-robot-token");

/// The registry from which the nodes pull the operator's own image, whatever the mirrors do.
pub const IMAGES: &str = "images.testbed.internal:5443";

/// The registries of a bed that asks for nothing else.
#[must_use]
pub fn default_registries() -> Vec<RegistrySpec> {
    let serve =
        |name: &str, last: u8, port, transport, credentials: Option<(&str, &str)>, hosts: &[&str]| RegistrySpec {
            name: name.to_owned(),
            address: SocketAddrV4::new(Ipv4Addr::new(10, 88, 0, last), port),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            behaviour: Behaviour::Serve {
                transport,
                credentials: credentials.map(|(user, password)| (user.to_owned(), password.to_owned())),
            },
        };
    let broken = |name: &str, port, behaviour, host: &str| RegistrySpec {
        name: name.to_owned(),
        address: SocketAddrV4::new(GATEWAY, port),
        hosts: vec![host.to_owned()],
        behaviour,
    };
    vec![
        serve("mirror", 1, 5000, Transport::Plain, None, &["mirror.testbed.internal"]),
        serve("mirror2", 1, 5001, Transport::Plain, None, &["mirror2.testbed.internal"]),
        serve("tls", 1, 5002, Transport::PrivateTls, None, &["tls.testbed.internal"]),
        serve("mtls", 1, 5003, Transport::MutualTls, None, &["mtls.testbed.internal"]),
        serve("harbor", 1, 5004, Transport::PrivateTls, Some(ROBOT), &["harbor.testbed.internal"]),
        broken("unavailable", 5503, Behaviour::Unavailable, "unavailable.testbed.internal"),
        broken("silent", 5504, Behaviour::Silent, "silent.testbed.internal"),
        serve("images", 3, 5443, Transport::PublicTls, None, &["images.testbed.internal"]),
        serve("docker.io", 4, 443, Transport::PublicTls, None, &["registry-1.docker.io"]),
        serve("registry.k8s.io", 5, 443, Transport::PublicTls, None, &["registry.k8s.io"]),
        serve("quay.io", 6, 443, Transport::PublicTls, None, &["quay.io"]),
        serve("ghcr.io", 7, 443, Transport::PublicTls, None, &["ghcr.io"]),
    ]
}

/// The directories and authorities that a registry is set up with.
pub(crate) struct Place<'a> {
    /// `docker-registry`, unpacked under this root.
    pub(crate) programs: &'a Path,
    /// Configuration and logs.
    pub(crate) dir: &'a Path,
    /// Where the images are.
    pub(crate) storage: &'a Path,
    pub(crate) pki: &'a Path,
    pub(crate) public: &'a Authority,
    pub(crate) private: &'a Authority,
}

impl RegistrySpec {
    /// The file with its access log, in a directory of the bed.
    pub(crate) fn access_log(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.access.log", self.name))
    }

    /// Writes what the process needs and returns its command line.
    pub(crate) fn prepare(&self, place: &Place<'_>) -> Result<Vec<String>> {
        match &self.behaviour {
            Behaviour::Serve { transport, credentials } => {
                fs::create_dir_all(place.storage)?;
                let config = place.dir.join(format!("{}.yaml", self.name));
                let htpasswd = credentials.as_ref().map(|pair| self.htpasswd(place, pair)).transpose()?;
                let text = self.config(place.storage, &self.tls(*transport, place)?, htpasswd.as_deref());
                write(&config, &text)?;
                Ok(vec![text_of(&place.programs.join("usr/bin/docker-registry")), "serve".to_owned(), text_of(&config)])
            }
            Behaviour::Unavailable => self.stand_in(
                place,
                "503",
                "printf 'HTTP/1.1 503 Service Unavailable\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n'",
            ),
            Behaviour::Silent => self.stand_in(place, "0", "exec sleep infinity"),
        }
    }

    fn tls(&self, transport: Transport, place: &Place<'_>) -> Result<String> {
        let (authority, clients) = match transport {
            Transport::Plain => return Ok(String::new()),
            Transport::PublicTls => (place.public, None),
            Transport::PrivateTls => (place.private, None),
            Transport::MutualTls => (place.private, Some(&place.private.pair.certificate)),
        };
        let mut names = self.hosts.clone();
        names.push(self.address.ip().to_string());
        let subject = Subject { common_name: &self.name, organization: None, names: &names };
        let Pair { certificate, key } = authority.sign(place.pki, &format!("registry-{}", self.name), subject)?;
        let mut text = format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display());
        if let Some(clients) = clients {
            text.push_str(&format!("    clientcas: [{}]\n", clients.display()));
        }
        Ok(text)
    }

    fn config(&self, storage: &Path, tls: &str, htpasswd: Option<&Path>) -> String {
        let mut text = format!(
            "version: 0.1\nlog: {{level: info, formatter: text}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  maintenance:\n    uploadpurging: {{enabled: false}}\nhttp:\n  addr: {}\n{tls}",
            storage.display(),
            self.address
        );
        if let Some(htpasswd) = htpasswd {
            text.push_str(&format!("auth:\n  htpasswd: {{realm: testbed, path: {}}}\n", htpasswd.display()));
        }
        text
    }

    fn htpasswd(&self, place: &Place<'_>, (user, password): &(String, String)) -> Result<PathBuf> {
        let line = stdout(command(["htpasswd", "-nbB", "-C", "4"]).args([user, password]))?;
        let path = place.dir.join(format!("{}.htpasswd", self.name));
        write(&path, &line)?;
        Ok(path)
    }

    /// A script behind socat, which writes an access log as the real registry does.
    fn stand_in(&self, place: &Place<'_>, status: &str, answer: &str) -> Result<Vec<String>> {
        let script = place.dir.join(format!("{}.sh", self.name));
        let log = self.access_log(place.dir);
        if log.to_string_lossy().contains([' ', '\'', ',', '!']) {
            bail!(
                "the state directory {} has a character that socat takes for its own: choose another with RMO_STATE",
                place.dir.display()
            );
        }
        write(
            &script,
            &format!(
                "read -r request || exit 0\nwhile read -r header && [ \"${{#header}}\" -gt 1 ]; do :; done\n\
                 request=${{request%?}}\n\
                 printf '%s - - [%s] \"%s\" {status} 0 \"\" \"\"\\n' \"$SOCAT_PEERADDR\" \"$(date -u '+%d/%b/%Y:%H:%M:%S +0000')\" \"$request\" >> {}\n\
                 {answer}\n",
                log.display()
            ),
        )?;
        Ok(vec![
            "socat".to_owned(),
            format!("TCP4-LISTEN:{},bind={},fork,reuseaddr", self.address.port(), self.address.ip()),
            format!("EXEC:sh {}", script.display()),
        ])
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

pub(crate) fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_default_registries_share_a_name_or_an_address() {
        let all = default_registries();
        assert_eq!(all.iter().map(|spec| &spec.name).collect::<BTreeSet<_>>().len(), all.len());
        assert_eq!(all.iter().map(|spec| spec.address).collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn the_configuration_of_a_registry_with_all_options() {
        let spec = &default_registries()[4];
        assert_eq!(
            spec.config(Path::new("/s"), "  tls:\n    certificate: /c\n    key: /k\n", Some(Path::new("/h"))),
            "version: 0.1\nlog: {level: info, formatter: text}\nstorage:\n  filesystem: {rootdirectory: /s}\n  maintenance:\n    uploadpurging: {enabled: false}\nhttp:\n  addr: 10.88.0.1:5004\n  tls:\n    certificate: /c\n    key: /k\nauth:\n  htpasswd: {realm: testbed, path: /h}\n"
        );
    }
}
