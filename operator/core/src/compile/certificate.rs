//! X.509 certificates, as far as Go's `crypto/x509` reads them: what it cannot read, containerd cannot load.

use std::fmt;

use pkcs1::RsaPublicKeyRef;
use ring::{agreement, rand::SystemRandom};
use x509_cert::{
    certificate::{CertificateInner, Raw},
    der::{AnyRef, Decode as _, asn1::ObjectIdentifier},
    spki::SubjectPublicKeyInfoOwned,
};

pub(super) const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
pub(super) const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
pub(super) const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// The key that a certificate is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PublicKey {
    Rsa {
        modulus: Vec<u8>,
    },
    Ec {
        curve: Curve,
        /// Uncompressed.
        point: Vec<u8>,
    },
    Ed25519(Vec<u8>),
    /// For signatures that a client cannot make in TLS.
    Other,
}

/// The curves that Go knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P224,
    P256,
    P384,
    P521,
}

/// Why Go cannot read a certificate; goes on after "a block that".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    NotX509,
    Key,
    Curve,
    Serial,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotX509 => {
                "is no X.509 certificate, and with it containerd would end every pull of the registry: write the \
                 certificate anew, from whoever issued it"
            }
            Self::Key => "is a certificate with a damaged key in it: write it anew, from whoever issued it",
            Self::Curve => {
                "is a certificate on an elliptic curve that containerd does not know: have one issued on P-256, P-384 \
                 or P-521, or with an RSA or Ed25519 key"
            }
            Self::Serial => {
                "is a certificate with a negative serial number, which containerd refuses since 2.1: have it issued anew"
            }
        })
    }
}

impl Curve {
    pub(super) fn of(name: ObjectIdentifier) -> Option<Self> {
        const CURVES: [(ObjectIdentifier, Curve); 4] = [
            (ObjectIdentifier::new_unwrap("1.3.132.0.33"), Curve::P224),
            (ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"), Curve::P256),
            (ObjectIdentifier::new_unwrap("1.3.132.0.34"), Curve::P384),
            (ObjectIdentifier::new_unwrap("1.3.132.0.35"), Curve::P521),
        ];
        CURVES.into_iter().find_map(|(known, curve)| (known == name).then_some(curve))
    }

    /// Whether these bytes are one of its points, uncompressed as Go wants it. ring can tell for two curves, where it
    /// agrees on a secret with whoever has that point; the secret is thrown away.
    fn has(self, point: &[u8]) -> bool {
        let agreement = match self {
            Self::P256 => &agreement::ECDH_P256,
            Self::P384 => &agreement::ECDH_P384,
            Self::P224 | Self::P521 => return point.first() == Some(&4) && point.len() == 1 + 2 * self.size(),
        };
        let key = agreement::EphemeralPrivateKey::generate(agreement, &SystemRandom::new());
        let theirs = agreement::UnparsedPublicKey::new(agreement, point);
        key.is_ok_and(|key| agreement::agree_ephemeral(key, &theirs, |_| ()).is_ok())
    }

    /// Of one coordinate, in bytes.
    pub(super) const fn size(self) -> usize {
        match self {
            Self::P224 => 28,
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

/// Whether the bytes are one DER element and nothing behind it.
pub(super) fn is_one_element(der: &[u8]) -> bool {
    AnyRef::from_der(der).is_ok()
}

/// The key in a certificate that Go reads.
pub(super) fn read(der: &[u8]) -> Result<PublicKey, Unreadable> {
    // `Raw`: Go reads serial numbers of any length.
    let certificate = CertificateInner::<Raw>::from_der(der).map_err(|_| Unreadable::NotX509)?;
    let signature = certificate.signature_algorithm();
    let certificate = certificate.tbs_certificate();
    if certificate.signature() != signature {
        return Err(Unreadable::NotX509);
    }
    // Go refuses it from 1.23 on (x509negativeserial), which is in containerd 2.1
    if certificate.serial_number().as_bytes().first().is_none_or(|first| first & 0x80 != 0) {
        return Err(Unreadable::Serial);
    }
    key(certificate.subject_public_key_info())
}

/// `parsePublicKey` of crypto/x509/parser.go.
fn key(info: &SubjectPublicKeyInfoOwned) -> Result<PublicKey, Unreadable> {
    let SubjectPublicKeyInfoOwned { algorithm, subject_public_key } = info;
    let data = subject_public_key.as_bytes().ok_or(Unreadable::Key)?;
    let parameters = algorithm.parameters.as_ref();
    match algorithm.oid {
        RSA => {
            let key = RsaPublicKeyRef::from_der(data).map_err(|_| Unreadable::Key)?;
            let has_null = parameters.is_some_and(|parameters| AnyRef::from(parameters).is_null());
            let modulus = key.modulus.as_bytes().to_vec();
            if has_null { Ok(PublicKey::Rsa { modulus }) } else { Err(Unreadable::Key) }
        }
        EC => {
            let name = parameters.and_then(|parameters| parameters.decode_as::<ObjectIdentifier>().ok());
            let curve = name.and_then(Curve::of).ok_or(Unreadable::Curve)?;
            if curve.has(data) { Ok(PublicKey::Ec { curve, point: data.to_vec() }) } else { Err(Unreadable::Key) }
        }
        ED25519 if data.len() == 32 && parameters.is_none() => Ok(PublicKey::Ed25519(data.to_vec())),
        ED25519 => Err(Unreadable::Key),
        _ => Ok(PublicKey::Other),
    }
}
