//! Whether a private key is one that Go reads, and belongs to a certificate.
//!
//! containerd refuses a pair that does not match (`X509KeyPair` of crypto/tls), and with it every pull of the registry,
//! from every host.

use std::fmt;

use pkcs1::RsaPrivateKeyRef;
use pkcs8::PrivateKeyInfoRef;
use ring::{rand::SystemRandom, signature};
use sec1::EcPrivateKey;
use x509_cert::der::{
    Decode as _,
    asn1::{ObjectIdentifier, OctetStringRef},
};

use super::certificate::{Curve, EC, ED25519, PublicKey, RSA};

/// A private key.
enum PrivateKey<'a> {
    Rsa { modulus: &'a [u8] },
    Ec { curve: Curve, scalar: &'a [u8], point: Option<&'a [u8]> },
    Ed25519 { seed: &'a [u8] },
}

/// Why containerd could not use a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// The key is none, or of a kind that TLS of Go does not know.
    UnreadableKey,
    /// The certificate's key is of a kind that a client of Go cannot sign with.
    UnusableCertificate,
    /// RSA beside EC, or another curve.
    AnotherKind,
    AnotherKey,
}

impl fmt::Display for Unfit {
    /// As it goes on after "names the Secret `x`, which".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnreadableKey => {
                "holds in its key `tls.key` no private key that containerd can read: write an RSA, EC (P-224, P-256, \
                 P-384, P-521) or Ed25519 key"
            }
            Self::UnusableCertificate => {
                "holds in its key `tls.crt` a certificate for a kind of key that containerd cannot show: write one with \
                 an RSA, EC or Ed25519 key"
            }
            Self::AnotherKind => {
                "holds in its key `tls.key` a private key of another kind than the certificate in `tls.crt` is for: \
                 write a pair that was issued together"
            }
            Self::AnotherKey => {
                "holds in its key `tls.key` a private key that does not belong to the certificate in `tls.crt`: write a \
                 pair that was issued together"
            }
        })
    }
}

/// Whether the key is the certificate's, as `X509KeyPair` finds out.
pub(super) fn check(public: &PublicKey, key: &[u8]) -> Result<(), Unfit> {
    let key = read(key).ok_or(Unfit::UnreadableKey)?;
    let is_the_same = match (public, &key) {
        (PublicKey::Rsa { modulus }, PrivateKey::Rsa { modulus: of_key }) => modulus == of_key,
        (PublicKey::Ec { curve, point }, PrivateKey::Ec { curve: of_key, .. }) if curve == of_key => {
            is_key_of_point(&key, point)
        }
        (PublicKey::Ed25519(public), PrivateKey::Ed25519 { seed }) => {
            signature::Ed25519KeyPair::from_seed_and_public_key(seed, public).is_ok()
        }
        (PublicKey::Other, _) => return Err(Unfit::UnusableCertificate),
        (PublicKey::Rsa { .. } | PublicKey::Ec { .. } | PublicKey::Ed25519(_), _) => return Err(Unfit::AnotherKind),
    };
    if is_the_same { Ok(()) } else { Err(Unfit::AnotherKey) }
}

/// Go computes the point from the secret number alone. On P-224 and P-521, for which ring has no code, the point that
/// stands in the key is taken for that; a key without one is let through.
fn is_key_of_point(key: &PrivateKey<'_>, public: &[u8]) -> bool {
    let PrivateKey::Ec { curve, scalar, point } = key else { return false };
    let algorithm = match curve {
        Curve::P256 => &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
        Curve::P384 => &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
        Curve::P224 | Curve::P521 => return point.is_none_or(|point| point == public),
    };
    // Go takes it with any number of zeros in front
    let scalar: Vec<u8> = scalar.iter().copied().skip_while(|byte| *byte == 0).collect();
    let padded = [vec![0; curve.size().saturating_sub(scalar.len())], scalar].concat();
    // It wants randomness for signatures, none of which is made: the answer does not depend on it.
    let random = SystemRandom::new();
    signature::EcdsaKeyPair::from_private_key_and_public_key(algorithm, &padded, public, &random).is_ok()
}

/// `parsePrivateKey` of crypto/tls: PKCS#1 (RFC 8017), PKCS#8 (RFC 5958), SEC 1 (RFC 5915).
fn read(der: &[u8]) -> Option<PrivateKey<'_>> {
    rsa(der).or_else(|| pkcs8(der)).or_else(|| sec1(der, None))
}

fn rsa(der: &[u8]) -> Option<PrivateKey<'_>> {
    let key = RsaPrivateKeyRef::from_der(der).ok()?;
    Some(PrivateKey::Rsa { modulus: key.modulus.as_bytes() })
}

fn pkcs8(der: &[u8]) -> Option<PrivateKey<'_>> {
    let PrivateKeyInfoRef { algorithm, private_key, .. } = PrivateKeyInfoRef::from_der(der).ok()?;
    let key: &[u8] = private_key.as_bytes();
    match algorithm.oid {
        RSA => rsa(key),
        EC => sec1(key, Curve::of(algorithm.parameters?.decode_as::<ObjectIdentifier>().ok()?)),
        ED25519 if algorithm.parameters.is_none() => {
            let seed = <&OctetStringRef>::from_der(key).ok()?.as_bytes();
            (seed.len() == 32).then_some(PrivateKey::Ed25519 { seed })
        }
        _ => None,
    }
}

/// `wrapped` is the curve that stands outside of the key.
fn sec1(der: &[u8], wrapped: Option<Curve>) -> Option<PrivateKey<'_>> {
    let EcPrivateKey { private_key, parameters, public_key } = EcPrivateKey::from_der(der).ok()?;
    let own = parameters.and_then(|parameters| Curve::of(parameters.named_curve()?));
    Some(PrivateKey::Ec { curve: wrapped.or(own)?, scalar: private_key, point: public_key })
}

#[cfg(test)]
mod tests;
