//! Each kind of key in each wrapping, beside its own certificate and beside the others.

use super::{super::pem, *};
use crate::compile::certificate;

// Made by OpenSSL for this test; no machine knows them.
const RSA: &str = include_str!("../testdata/rsa.crt");
const EC: &str = include_str!("../testdata/ec.crt");
const ED: &str = include_str!("../testdata/ed.crt");
const RSA_KEYS: [&str; 2] = [include_str!("../testdata/rsa1.key"), include_str!("../testdata/rsa8.key")];
const EC_KEYS: [&str; 3] = [
    include_str!("../testdata/ec1.key"),
    include_str!("../testdata/ec8.key"),
    include_str!("../testdata/ec-without-point.key"),
];
const ED_KEY: &str = include_str!("../testdata/ed8.key");
const OTHER_EC_KEY: &str = include_str!("../testdata/other-without-point.key");
const OTHER_ED_KEY: &str = include_str!("../testdata/other-ed8.key");

fn fits(certificates: &str, key: &str) -> Result<(), Unfit> {
    let chain = pem::chain(certificates).expect("certificates");
    let public = certificate::read(&chain.first).expect("a certificate");
    check(&public, &pem::private_key(key).expect("a key").der)
}

#[test]
fn a_key_belongs_to_its_certificate_and_to_no_other() {
    for (own, keys) in [(RSA, &RSA_KEYS[..]), (EC, &EC_KEYS), (ED, &[ED_KEY])] {
        for key in keys {
            for certificate in [RSA, EC, ED] {
                let expected = if certificate == own { Ok(()) } else { Err(Unfit::AnotherKind) };
                assert_eq!(fits(certificate, key), expected);
                // the chain's later certificates are not the key's
                assert_eq!(fits(&format!("{certificate}{own}"), key), expected);
            }
        }
    }
}

#[test]
fn a_key_of_the_same_kind_is_told_from_the_right_one_without_its_public_half() {
    assert_eq!(fits(EC, OTHER_EC_KEY), Err(Unfit::AnotherKey));
    assert_eq!(fits(ED, OTHER_ED_KEY), Err(Unfit::AnotherKey));
}

#[test]
fn what_is_no_key_is_told() {
    let public = PublicKey::Ed25519(vec![0; 32]);
    for junk in [&[][..], &[0x30, 0x03, 1, 2, 3], &[0x30, 0x03, 2, 1, 0], &[0x30, 0x80]] {
        assert_eq!(check(&public, junk), Err(Unfit::UnreadableKey));
    }
}
