//! The server that hands out tokens for a registry of the bed: distribution's own, as the registry is.
//!
//! <https://distribution.github.io/distribution/spec/auth/token/>

use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::command::{command, run};
use crate::pki::{Authority, Pair, Subject};
use crate::registry::text_of;

/// Who signs, and for whom, as both sides must say it.
const ISSUER: &str = "testbed";
const SERVICE: &str = "testbed-registry";

/// The program, and the key that it signs tokens with.
pub(crate) struct TokenParts {
    program: PathBuf,
    /// SEC 1, the one form of an elliptic key that the program reads.
    key: PathBuf,
    /// By which registries know the key.
    certificate: PathBuf,
}

impl TokenParts {
    /// Makes the key. `program` is the server's binary.
    pub(crate) fn create(program: PathBuf, pki: &Path, authority: &Authority) -> Result<Self> {
        let subject = Subject { common_name: ISSUER, organization: None, names: &[] };
        let Pair { certificate, key: pkcs8 } = authority.sign(pki, "token-signing", subject)?;
        let key = pki.join("token-signing-sec1.pem");
        run(command(["openssl", "pkey", "-traditional", "-in"]).arg(pkcs8).arg("-out").arg(&key))?;
        Ok(Self { program, key, certificate })
    }

    /// How the server is started.
    pub(crate) fn command_line(&self, address: SocketAddrV4, tls: &Pair, passwords: &Path) -> Vec<String> {
        let option = |name: &str, value: String| [format!("-{name}"), value];
        let options = [
            option("addr", address.to_string()),
            option("issuer", ISSUER.to_owned()),
            option("realm", ISSUER.to_owned()),
            option("key", text_of(&self.key)),
            option("passwd", text_of(passwords)),
            option("tlscert", text_of(&tls.certificate)),
            option("tlskey", text_of(&tls.key)),
        ];
        std::iter::once(text_of(&self.program)).chain(options.into_iter().flatten()).collect()
    }

    /// What a registry's configuration says about it.
    pub(crate) fn registry_settings(&self, realm: &str) -> String {
        format!(
            "auth:\n  token: {{realm: {realm}, service: {SERVICE}, issuer: {ISSUER}, rootcertbundle: {}}}\n",
            self.certificate.display()
        )
    }
}
