//! TLS as a hosts.toml entry asks for it.

use std::sync::Arc;

use registry_mirror_core::sensitive::Sensitive;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use thiserror::Error as ThisError;

use super::HostTrust;

/// What a hosts.toml entry says about TLS.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// Any certificate is accepted.
    pub skip_verify: bool,
    /// Trusted besides the host's roots (PEM).
    pub ca: Option<String>,
    /// Shown to the server.
    pub client: Option<ClientIdentity>,
}

/// A certificate and its key (PEM).
#[derive(Debug, Clone)]
pub struct ClientIdentity {
    /// The chain.
    pub certificate: String,
    /// Its key.
    pub key: Sensitive,
}

/// The settings cannot be used; what is wrong never contains a key.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[error("{what} cannot be used: {why}")]
pub struct TlsError {
    what: &'static str,
    why: String,
}

impl TlsSettings {
    /// For connections with these settings from a host with this trust.
    ///
    /// # Errors
    /// Where the client certificate or its key cannot be read.
    pub fn client_config(&self, trust: &HostTrust) -> Result<Arc<ClientConfig>, TlsError> {
        let Self { skip_verify, ca, client } = self;
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError { what: "TLS", why: error.to_string() })?;
        let builder = if *skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        } else {
            builder.with_root_certificates(trust.with(ca.as_deref()))
        };
        let config = match client {
            None => builder.with_no_client_auth(),
            Some(ClientIdentity { certificate, key }) => {
                let refused = |why: String| TlsError { what: "the client certificate", why };
                let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|error| refused(error.to_string()))?;
                // The error of a key says nothing of its content.
                let key = PrivateKeyDer::from_pem_slice(key.reveal().as_bytes())
                    .map_err(|_| refused("its key is not PEM".to_owned()))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| refused(error.to_string()))?
            }
        };
        Ok(Arc::new(config))
    }
}

/// containerd's `skip_verify`: any certificate, but a handshake that is sound.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
