//! The certificate authorities that the host trusts, which are those that its containerd trusts.

use std::path::Path;

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::root::{FileError, HostRoot};

/// Where Go looks, in its order (crypto/x509/root_linux.go); the first that exists counts.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The host's roots.
#[derive(Debug, Clone)]
pub struct HostTrust {
    roots: RootCertStore,
}

impl HostTrust {
    /// Reads them. A host without a bundle trusts nobody.
    ///
    /// # Errors
    /// Where the bundle cannot be read.
    pub fn read(root: &HostRoot) -> Result<Self, FileError> {
        let mut roots = RootCertStore::empty();
        for bundle in BUNDLES {
            if let Some(pem) = root.read(Path::new(bundle))? {
                add(&mut roots, &pem);
                break;
            }
        }
        Ok(Self { roots })
    }

    /// Nobody: for tests and for hosts that are not here.
    #[must_use]
    pub fn nobody() -> Self {
        Self { roots: RootCertStore::empty() }
    }

    /// With these certificates (PEM) besides, as containerd adds a host's `ca`.
    #[must_use]
    pub fn with(&self, pem: Option<&str>) -> RootCertStore {
        let mut roots = self.roots.clone();
        if let Some(pem) = pem {
            add(&mut roots, pem.as_bytes());
        }
        roots
    }
}

/// Certificates that cannot be read are passed over, as Go does.
fn add(roots: &mut RootCertStore, pem: &[u8]) {
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).flatten());
}
