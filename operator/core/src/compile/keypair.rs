//! Whether a private key belongs to a certificate.
//!
//! containerd refuses a pair that does not match, and with it every pull of the registry, from every host. No
//! cryptography is needed to find out: an RSA key holds its modulus and an EC key usually its public point, and the
//! certificate holds the same bytes.

use super::pem;

/// `false` where the key surely belongs to another certificate; `true` where it does, or cannot be told.
pub(super) fn may_match(certificates: &str, key: &str) -> bool {
    // The first certificate is the key's, those after it are its issuers'.
    let certificate = pem::first_block(certificates, "CERTIFICATE");
    let key = pem::first_block(key, "PRIVATE KEY");
    let (Some(certificate), Some(key)) = (certificate, key) else { return true };
    let Some(public) = public_part(&key) else { return true };
    certificate.windows(public.len()).any(|window| window == public)
}

/// The modulus of an RSA key (RFC 8017 appendix A.1.2) or the public point of an EC key (RFC 5915), out of a PKCS#8
/// wrapping (RFC 5958) where there is one.
fn public_part(key: &[u8]) -> Option<&[u8]> {
    let (SEQUENCE, content, _) = element(key)? else { return None };
    let (INTEGER, _version, rest) = element(content)? else { return None };
    let (tag, first, rest) = element(rest)?;
    match tag {
        SEQUENCE => {
            let (OCTET_STRING, wrapped, _) = element(rest)? else { return None };
            public_part(wrapped)
        }
        INTEGER => {
            let modulus = first.strip_prefix(&[0]).unwrap_or(first);
            (modulus.len() >= 64).then_some(modulus)
        }
        OCTET_STRING => {
            let mut rest = rest;
            loop {
                let (tag, content, after) = element(rest)?;
                if tag == PUBLIC_KEY {
                    let (BIT_STRING, bits, _) = element(content)? else { return None };
                    return bits.strip_prefix(&[0]).filter(|point| point.len() >= 32);
                }
                rest = after;
            }
        }
        _ => None,
    }
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
/// `[1]` of an EC private key.
const PUBLIC_KEY: u8 = 0xa1;

/// Tag, content and what follows the first DER element.
pub(super) fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (length.iter().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made by OpenSSL for this test; no machine knows them.
    const RSA: &str = include_str!("testdata/rsa.crt");
    const EC: &str = include_str!("testdata/ec.crt");
    const ED: &str = include_str!("testdata/ed.crt");
    const RSA_KEYS: [&str; 2] = [include_str!("testdata/rsa1.key"), include_str!("testdata/rsa8.key")];
    const EC_KEYS: [&str; 2] = [include_str!("testdata/ec1.key"), include_str!("testdata/ec8.key")];
    const ED_KEY: &str = include_str!("testdata/ed8.key");

    #[test]
    fn a_key_belongs_to_its_certificate_and_to_no_other() {
        for key in RSA_KEYS {
            assert!(may_match(RSA, key) && !may_match(EC, key));
            // the chain's later certificates are not the key's
            assert!(!may_match(&format!("{EC}{RSA}"), key) && may_match(&format!("{RSA}{EC}"), key));
        }
        for key in EC_KEYS {
            assert!(may_match(EC, key) && !may_match(RSA, key) && !may_match(ED, key));
        }
    }

    #[test]
    fn what_cannot_be_told_is_let_through() {
        assert!(may_match(ED, ED_KEY) && may_match(RSA, ED_KEY));
        assert!(may_match(RSA, "") && may_match("", RSA_KEYS[0]));
    }
}
