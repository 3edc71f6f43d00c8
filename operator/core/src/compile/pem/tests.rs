//! What is taken, and what is said of the rest.

use base64::engine::general_purpose::STANDARD;

use super::*;

const EC: &str = include_str!("../testdata/ec.crt");
const RSA: &str = include_str!("../testdata/rsa.crt");
const UNKNOWN_CURVE: &str = include_str!("../testdata/unknown-curve.crt");

fn block(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// One DER element, and neither a certificate nor a key.
const DER: &[u8] = &[0x30, 0x03, 1, 2, 3];

#[test]
fn takes_what_go_loads() {
    let body = EC.lines().filter(|line| !line.starts_with('-')).collect::<Vec<_>>();
    let spaced = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----", body.join(" \t"));
    for text in [
        EC.to_owned(),
        EC.replace('\n', "\r\n"),
        format!("# my CA\r\nissuer: me\n{EC}and another\n{RSA}"),
        spaced,
        // Go passes over what it cannot read while there is something that it can
        format!("{}{EC}{UNKNOWN_CURVE}", block("CERTIFICATE", DER)),
    ] {
        assert_eq!(authorities(&text).map(|text| text.ends_with("-----\n")), Ok(true), "{text}");
    }
}

#[test]
fn says_what_is_wrong() {
    let cut = block("CERTIFICATE", &DER[..4]);
    let open = "-----BEGIN CERTIFICATE-----\nMAMB\n";
    let mixed = format!("{EC}{}", block("RSA PRIVATE KEY", DER));
    let headers = EC.replace("CERTIFICATE-----\nM", "CERTIFICATE-----\nName: x\n\nM");
    let indented = EC.replace("-----END", "  -----END");
    let texts = [
        "",
        "hello",
        &cut,
        open,
        &mixed,
        &block("X509 CRL", DER),
        &block("CERTIFICATE", b""),
        &block("CERTIFICATE", DER),
        UNKNOWN_CURVE,
        &headers,
        &indented,
        &EC.replacen('M', "!", 1),
    ];
    let said: Vec<_> = texts.map(|text| authorities(text).unwrap_err().sentence(None)).to_vec();
    insta::assert_debug_snapshot!(said);
    let keys: Vec<_> = [
        String::new(),
        block("ENCRYPTED PRIVATE KEY", DER),
        block("RSA PRIVATE KEY", DER).replace("MAM", "Proc-Type: 4,ENCRYPTED\n\nMAM"),
        block("CERTIFICATE", DER),
        format!("{}{}", block("PRIVATE KEY", DER), block("PRIVATE KEY", DER)),
    ]
    .map(|text| private_key(&text).unwrap_err().sentence(Some("tls.key")))
    .to_vec();
    insta::assert_debug_snapshot!(keys);
}

#[test]
fn an_ec_key_may_come_with_its_curve() {
    let text = format!("{}{}", block("EC PARAMETERS", &[0x06, 1, 42]), block("EC PRIVATE KEY", DER));
    assert!(private_key(&text).is_ok());
}
