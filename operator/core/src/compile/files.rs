//! Certificates and keys in files of others, as containerd reads them.

use super::{certificate, keypair, pem};

const CERTIFICATE: &str = "CERTIFICATE";
const KEY: &str = "PRIVATE KEY";

/// The authorities in a file, without what else stands there (`AppendCertsFromPEM` passes over it); `None` where
/// containerd could not read it.
#[must_use]
pub fn authority_file(text: &str) -> Option<String> {
    pem::authorities(&blocks(text, CERTIFICATE)).ok()
}

/// A client's certificates and its key, which may be the same file; `None` where containerd could not read them.
#[must_use]
pub fn client_files(certificate: &str, key: &str) -> Option<(String, String)> {
    let chain = pem::chain(&blocks(certificate, CERTIFICATE)).ok()?;
    let public = certificate::read(&chain.first).ok()?;
    let key = pem::private_key(&blocks(key, KEY)).ok()?;
    keypair::check(&public, &key.der).ok()?;
    Some((chain.text, key.text))
}

/// The PEM blocks with this label; of keys, whatever kind of key they name before it.
fn blocks(text: &str, label: &str) -> String {
    let is_wanted = |line: &str| {
        let found = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"));
        found.is_some_and(|found| found == label || (label == KEY && found.ends_with(KEY)))
    };
    let mut kept = String::new();
    let mut inside = false;
    for line in text.lines() {
        let line = line.trim_end();
        inside |= is_wanted(line);
        if inside {
            kept.push_str(line);
            kept.push('\n');
        }
        inside &= !line.starts_with("-----END ");
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::{authority_file, client_files};

    const CERTIFICATE: &str = include_str!("testdata/ec.crt");
    const KEY: &str = include_str!("testdata/ec8.key");
    const OTHER_KEY: &str = include_str!("testdata/rsa8.key");

    #[test]
    fn one_file_may_hold_both() {
        let both = format!("{KEY}# the certificate\n{CERTIFICATE}");
        assert_eq!(authority_file(&both).as_deref(), authority_file(CERTIFICATE).as_deref());
        assert_eq!(client_files(&both, &both), client_files(CERTIFICATE, KEY));
        assert!(client_files(CERTIFICATE, KEY).is_some());
    }

    #[test]
    fn what_containerd_cannot_read_is_none() {
        assert_eq!(authority_file("hello"), None);
        assert_eq!(authority_file(&CERTIFICATE.replace("-----END CERTIFICATE-----", "")), None);
        assert_eq!(client_files(CERTIFICATE, OTHER_KEY), None);
        assert_eq!(client_files(CERTIFICATE, ""), None);
    }
}
