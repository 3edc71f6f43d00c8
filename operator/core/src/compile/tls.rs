//! How a host's certificate is checked, and the one that containerd shows.

use registry_mirror_crds as crds;

use super::{
    Compiler, certificate, keypair,
    pem::{self, Malformed},
    references::{Lookup, RefKind},
    url::Scheme,
};
use crate::bundle::{ClientCertificate, Tls};

impl Compiler<'_> {
    /// `scheme` is that of the url that the settings are for; `None` where that url is refused itself.
    pub(super) fn tls(&mut self, field: &str, tls: Option<&crds::Tls>, scheme: Option<Scheme>) -> Option<Tls> {
        let Some(tls) = tls else { return Some(Tls::default()) };
        let crds::Tls { insecure_skip_verify, ca, ca_ref, client_cert_ref } = tls;
        let problems_before = self.problems.len();
        if scheme == Some(Scheme::Http) {
            // `insecureSkipVerify` alone is let through: containerd then tries HTTPS first and plain http after it.
            if client_cert_ref.is_some() {
                self.refuse(
                    format!("{field}.clientCertRef"),
                    "is a client certificate, which plain http cannot show: write https:// in the url, or leave it out",
                );
            } else if ca.is_some() || ca_ref.is_some() {
                self.refuse(
                    field,
                    "names a CA, and plain http has no certificates: write https:// in the url, or leave it out",
                );
            }
        }
        let ca = match (ca, ca_ref) {
            (Some(_), Some(_)) => {
                self.refuse(format!("{field}.ca"), "stands beside caRef: write one of them");
                None
            }
            (Some(pem), None) => {
                let authorities = pem::authorities(pem).map_err(|malformed| malformed.sentence(None));
                self.take(&format!("{field}.ca"), authorities).map(Some)
            }
            (None, Some(reference)) => {
                let field = format!("{field}.caRef");
                let certificates = self.ca_of(&field, reference);
                self.resolve(certificates).map(Some)
            }
            (None, None) => Some(None),
        };
        let ca = ca.map(|pem| pem.map(|pem| self.blob(pem, false)));
        let client = match client_cert_ref {
            Some(secret) => {
                let field = format!("{field}.clientCertRef");
                let pair = self.client_of(&field, &secret.name);
                self.resolve(pair).map(|(certificate, key)| {
                    Some(ClientCertificate { certificate: self.blob(certificate, false), key: self.blob(key, true) })
                })
            }
            None => Some(None),
        };
        if self.problems.len() > problems_before {
            return None;
        }
        Some(Tls { skip_verify: *insecure_skip_verify, ca: ca?, client: client? })
    }

    fn ca_of(&self, field: &str, reference: &crds::ObjectKeyRef) -> Result<String, super::verdict::Unresolved> {
        let crds::ObjectKeyRef { kind, name, key } = reference;
        let lookup = Lookup::new(self.references, self.namespace, field, (*kind).into(), name)?;
        pem::authorities(lookup.text(key)?).map_err(|malformed| lookup.malformed(malformed.sentence(Some(key))))
    }

    fn client_of(&self, field: &str, name: &str) -> Result<(String, String), super::verdict::Unresolved> {
        let lookup = Lookup::new(self.references, self.namespace, field, RefKind::Secret, name)?;
        let malformed = |key: &str, malformed: Malformed| lookup.malformed(malformed.sentence(Some(key)));
        let chain = pem::chain(lookup.text("tls.crt")?).map_err(|why| malformed("tls.crt", why))?;
        let public = certificate::read(&chain.first).map_err(|why| malformed("tls.crt", chain.unreadable(why)))?;
        let key = pem::private_key(lookup.text("tls.key")?).map_err(|why| malformed("tls.key", why))?;
        keypair::check(&public, &key.der).map_err(|unfit| lookup.malformed(unfit))?;
        Ok((chain.text, key.text))
    }
}
