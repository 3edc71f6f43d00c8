//! Certificates of a bed: the cluster's authority, the upstream registries' (which nodes trust) and a private one (which they do not).

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// A certificate and its key, as files.
#[derive(Debug, Clone)]
pub struct Pair {
    /// PEM certificate.
    pub certificate: PathBuf,
    /// PEM private key (PKCS#8), mode 0600.
    pub key: PathBuf,
}

impl Pair {
    pub(crate) fn at(dir: &Path, name: &str) -> Self {
        Self { certificate: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}-key.pem")) }
    }
}

/// A certificate authority with its files.
#[derive(Debug)]
pub(crate) struct Authority {
    pub(crate) pair: Pair,
    issuer: Issuer<'static, KeyPair>,
}

/// Whom a certificate is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) common_name: &'a str,
    pub(crate) organization: Option<&'a str>,
    /// DNS names and addresses that a server answers under.
    pub(crate) names: &'a [String],
}

impl Authority {
    /// A new authority, whose files are `NAME.pem` and `NAME-key.pem` in `dir`.
    pub(crate) fn create(dir: &Path, name: &str) -> Result<Self> {
        let params = authority_params(name)?;
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let pair = Pair::at(dir, name);
        write(&pair.certificate, &certificate.pem(), 0o644)?;
        write(&pair.key, &key.serialize_pem(), 0o600)?;
        Ok(Self { pair, issuer: Issuer::new(params, key) })
    }

    /// An authority that [`Authority::create`] made earlier, under the same name.
    pub(crate) fn open(dir: &Path, name: &str) -> Result<Self> {
        let pair = Pair::at(dir, name);
        let key = KeyPair::from_pem(&read(&pair.key)?)
            .with_context(|| format!("{} is not a private key", pair.key.display()))?;
        Ok(Self { pair, issuer: Issuer::new(authority_params(name)?, key) })
    }

    /// Signs a certificate for a server and a client in one.
    pub(crate) fn sign(&self, dir: &Path, file: &str, subject: Subject<'_>) -> Result<Pair> {
        let mut params = params(subject.common_name, subject.organization, subject.names)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let pair = Pair::at(dir, file);
        write(&pair.certificate, &certificate.pem(), 0o644)?;
        write(&pair.key, &key.serialize_pem(), 0o600)?;
        Ok(pair)
    }
}

/// A pair of bare keys, for signing service account tokens: the API server reads the private one to sign and,
/// because it does not find the public half of a PKCS#8 key by itself, the other to verify.
pub(crate) fn signing_keys(private: &Path, public: &Path) -> Result<()> {
    let key = KeyPair::generate()?;
    write(private, &key.serialize_pem(), 0o600)?;
    write(public, &key.public_key_pem(), 0o644)
}

fn authority_params(name: &str) -> Result<CertificateParams> {
    let mut params = params(name, None, &[])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

fn params(common_name: &str, organization: Option<&str>, names: &[String]) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names.to_vec())
        .with_context(|| format!("the names of {common_name} cannot stand in a certificate"))?;
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    Ok(params)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

/// The PEM text of a certificate or key.
///
/// # Errors
/// When the file cannot be read.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_signed_certificate_and_its_key_are_files() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path(), "ca").unwrap();
        let names = ["localhost".to_owned(), "10.88.0.1".to_owned()];
        let pair = authority
            .sign(dir.path(), "server", Subject { common_name: "server", organization: None, names: &names })
            .unwrap();
        assert!(read(&pair.certificate).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(read(&pair.key).unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
        assert_eq!(fs::metadata(&pair.key).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
