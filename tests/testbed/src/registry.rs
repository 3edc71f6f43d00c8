//! The registries of a bed: real ones, and stand-ins for broken ones.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::command::{command, stdout};
use crate::netns::GATEWAY;
use crate::pki::{Authority, Pair, Subject};
use crate::token_server::TokenParts;

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
        /// How the connection is protected.
        transport: Transport,
        /// Who may pull.
        admission: Admission,
    },
    /// No registry, but the server that hands out tokens for those of [`Admission::Token`]: distribution's own, over
    /// HTTPS signed by the private authority.
    TokenServer {
        /// Who gets tokens. They are good for repositories below this user's name.
        account: Account,
    },
    /// With `503 Service Unavailable` to everything (a stand-in: a shell script).
    Unavailable,
    /// Never: it takes the connection, reads the request and stays silent (a stand-in: a shell script).
    Silent,
}

/// Who may pull from a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Admission {
    /// Anyone.
    Anyone,
    /// Who sends this account with each request (basic authentication).
    Basic(Account),
    /// Who brings a token of the bed's token server.
    Token {
        /// The url that the registry sends clients to.
        realm: String,
    },
}

/// A user and its password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The user's name.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl Account {
    fn new((user, password): (&str, &str)) -> Self {
        Self { user: user.to_owned(), password: password.to_owned() }
    }
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

/// The user of the `token` registry. Its tokens are good for repositories below its name.
pub const TOKEN_ROBOT: (&str, &str) = ("robot", "s3cret-token-robot");

/// The registry from which the nodes pull the operator's own image, whatever the mirrors do.
pub const IMAGES: &str = "images.testbed.internal:5443";

/// The registries of a bed that asks for nothing else.
#[must_use]
pub fn default_registries() -> Vec<RegistrySpec> {
    let serve = |name: &str, last: u8, port, transport, account: Option<(&str, &str)>, hosts: &[&str]| RegistrySpec {
        name: name.to_owned(),
        address: SocketAddrV4::new(Ipv4Addr::new(10, 88, 0, last), port),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        behaviour: Behaviour::Serve {
            transport,
            admission: account.map_or(Admission::Anyone, |account| Admission::Basic(Account::new(account))),
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

/// A registry that takes no password itself but sends its clients to a token server, as Harbor does, and that server.
#[must_use]
pub fn token_registries() -> [RegistrySpec; 2] {
    let spec = |name: &str, port, behaviour| RegistrySpec {
        name: name.to_owned(),
        address: SocketAddrV4::new(GATEWAY, port),
        hosts: vec![format!("{name}.testbed.internal")],
        behaviour,
    };
    let realm = "https://token-server.testbed.internal:5006/token/".to_owned();
    [
        spec(
            "token",
            5005,
            Behaviour::Serve { transport: Transport::PrivateTls, admission: Admission::Token { realm } },
        ),
        spec("token-server", 5006, Behaviour::TokenServer { account: Account::new(TOKEN_ROBOT) }),
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
    /// Where a registry of the bed wants tokens.
    pub(crate) tokens: Option<&'a TokenParts>,
}

impl Place<'_> {
    fn tokens(&self) -> Result<&TokenParts> {
        self.tokens.context("the bed has a registry that wants tokens and no server that hands them out")
    }
}

impl RegistrySpec {
    /// The file with its access log, in a directory of the bed.
    pub(crate) fn access_log(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.access.log", self.name))
    }

    /// Writes what the process needs and returns its command line.
    pub(crate) fn prepare(&self, place: &Place<'_>) -> Result<Vec<String>> {
        match &self.behaviour {
            Behaviour::Serve { transport, admission } => {
                fs::create_dir_all(place.storage)?;
                let config = place.dir.join(format!("{}.yaml", self.name));
                let auth = self.auth(admission, place)?;
                let text = self.config(place.storage, &self.tls(*transport, place)?, &auth);
                write(&config, &text)?;
                Ok(vec![text_of(&place.programs.join("usr/bin/docker-registry")), "serve".to_owned(), text_of(&config)])
            }
            Behaviour::TokenServer { account } => {
                let tokens = place.tokens()?;
                let pair = self.certificate(place.private, place)?;
                let passwords = self.set_password(place.dir, account)?;
                Ok(tokens.command_line(self.address, &pair, &passwords))
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
        let Pair { certificate, key } = self.certificate(authority, place)?;
        let mut text = format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display());
        if let Some(clients) = clients {
            text.push_str(&format!("    clientcas: [{}]\n", clients.display()));
        }
        Ok(text)
    }

    fn certificate(&self, authority: &Authority, place: &Place<'_>) -> Result<Pair> {
        let mut names = self.hosts.clone();
        names.push(self.address.ip().to_string());
        let subject = Subject { common_name: &self.name, organization: None, names: &names };
        authority.sign(place.pki, &self.certificate_name(), subject)
    }

    /// The name of the files with its certificate in the bed's `pki` directory.
    pub(crate) fn certificate_name(&self) -> String {
        format!("registry-{}", self.name)
    }

    fn auth(&self, admission: &Admission, place: &Place<'_>) -> Result<String> {
        Ok(match admission {
            Admission::Anyone => String::new(),
            Admission::Basic(account) => {
                let passwords = self.set_password(place.dir, account)?;
                format!("auth:\n  htpasswd: {{realm: testbed, path: {}}}\n", passwords.display())
            }
            Admission::Token { realm } => place.tokens()?.registry_settings(realm),
        })
    }

    fn config(&self, storage: &Path, tls: &str, auth: &str) -> String {
        format!(
            "version: 0.1\nlog: {{level: info, formatter: text}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  maintenance:\n    uploadpurging: {{enabled: false}}\nhttp:\n  addr: {}\n{tls}{auth}",
            storage.display(),
            self.address
        )
    }

    /// Makes this account the only one that is let in; the process reads the file anew when it changes.
    pub(crate) fn set_password(&self, dir: &Path, Account { user, password }: &Account) -> Result<PathBuf> {
        let line = stdout(command(["htpasswd", "-nbB", "-C", "4"]).args([user, password]))?;
        let path = dir.join(format!("{}.htpasswd", self.name));
        let partial = dir.join(format!(".{}.htpasswd", self.name));
        write(&partial, &line)?;
        fs::rename(&partial, &path).with_context(|| format!("{} cannot be written", path.display()))?;
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
        let all: Vec<_> = default_registries().into_iter().chain(token_registries()).collect();
        assert_eq!(all.iter().map(|spec| &spec.name).collect::<BTreeSet<_>>().len(), all.len());
        assert_eq!(all.iter().map(|spec| spec.address).collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn the_configuration_of_a_registry_with_all_options() {
        let spec = &default_registries()[4];
        assert_eq!(
            spec.config(
                Path::new("/s"),
                "  tls:\n    certificate: /c\n    key: /k\n",
                "auth:\n  htpasswd: {realm: testbed, path: /h}\n"
            ),
            "version: 0.1\nlog: {level: info, formatter: text}\nstorage:\n  filesystem: {rootdirectory: /s}\n  maintenance:\n    uploadpurging: {enabled: false}\nhttp:\n  addr: 10.88.0.1:5004\n  tls:\n    certificate: /c\n    key: /k\nauth:\n  htpasswd: {realm: testbed, path: /h}\n"
        );
    }
}
