//! PEM blocks, as far as is needed to refuse what containerd would stumble over.
//!
//! A `ca` or `client` file that containerd cannot read fails the pull for all hosts of the registry, so it must never
//! reach a node.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::keypair;

/// Certificates alone, as a text that ends with a line break.
pub(super) fn certificates(text: &str) -> Result<String, String> {
    let blocks = blocks(text)?;
    for (label, _) in &blocks {
        if label.ends_with("PRIVATE KEY") {
            return Err("holds a private key among the certificates: leave the key out".to_owned());
        }
        if label != "CERTIFICATE" {
            return Err(format!("holds a PEM block `{label}`: only CERTIFICATE blocks have a place here"));
        }
    }
    if blocks.is_empty() {
        return Err("holds no certificate: write PEM text that begins with -----BEGIN CERTIFICATE-----".to_owned());
    }
    Ok(with_line_break(text))
}

/// One private key that is not encrypted, as a text that ends with a line break.
pub(super) fn private_key(text: &str) -> Result<String, String> {
    let blocks = blocks(text)?;
    // OpenSSL writes the curve before an EC key.
    let keys: Vec<_> = blocks.iter().filter(|(label, _)| label != "EC PARAMETERS").collect();
    match keys.as_slice() {
        [] => Err("holds no private key: write PEM text that begins with -----BEGIN PRIVATE KEY-----".to_owned()),
        [(label, _)] if label == "ENCRYPTED PRIVATE KEY" || text.contains("Proc-Type: 4,ENCRYPTED") => {
            Err("holds an encrypted private key, which containerd cannot read: write it without a passphrase"
                .to_owned())
        }
        [(label, _)] if matches!(label.as_str(), "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY") => {
            Ok(with_line_break(text))
        }
        [(label, _)] => Err(format!("holds a PEM block `{label}` where a private key is needed")),
        _ => Err("holds more than one PEM block where one private key is needed".to_owned()),
    }
}

fn with_line_break(text: &str) -> String {
    format!("{}\n", text.trim())
}

/// Label and bytes of each block. What stands between blocks is comment, as Go's decoder has it.
fn blocks(text: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(label) = line.trim_end().strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"))
        else {
            continue;
        };
        let end = format!("-----END {label}-----");
        let mut body = String::new();
        let mut closed = false;
        for (_, line) in lines.by_ref() {
            let line = line.trim();
            if line == end {
                closed = true;
                break;
            }
            // RFC 1421 headers of an encrypted key
            if !line.contains(':') {
                body.push_str(line);
            }
        }
        let place = format!("block {} (line {})", blocks.len() + 1, number + 1);
        if !closed {
            return Err(format!("has a PEM {place} without its line {end}"));
        }
        let encrypted = text.contains("Proc-Type: 4,ENCRYPTED");
        let bytes = STANDARD.decode(&body).map_err(|_| format!("has a PEM {place} that is no base64"))?;
        if !encrypted && !is_one_der_element(&bytes) {
            return Err(format!("has a PEM {place} that is cut short or damaged"));
        }
        blocks.push((label.to_owned(), bytes));
    }
    Ok(blocks)
}

/// Certificates and keys alike are one DER sequence, and the parameters of an EC key one object identifier.
fn is_one_der_element(bytes: &[u8]) -> bool {
    matches!(keypair::element(bytes), Some((0x30 | 0x06, _, [])))
}

/// The bytes of the first block whose label ends so.
pub(super) fn first_block(text: &str, label: &str) -> Option<Vec<u8>> {
    blocks(text).ok()?.into_iter().find(|(found, _)| found.ends_with(label)).map(|(_, bytes)| bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }

    const DER: &[u8] = &[0x30, 0x03, 1, 2, 3];

    #[test]
    fn takes_certificates_with_comments_around() {
        let text = format!("# my CA\r\n{}{}", block("CERTIFICATE", DER), block("CERTIFICATE", DER));
        assert_eq!(certificates(&text).map(|t| t.ends_with("-----\n")), Ok(true));
    }

    #[test]
    fn says_what_is_wrong() {
        let cut = block("CERTIFICATE", &DER[..4]);
        let open = "-----BEGIN CERTIFICATE-----\nMAMB\n";
        let mixed = format!("{}{}", block("CERTIFICATE", DER), block("RSA PRIVATE KEY", DER));
        let said: Vec<_> = ["", "hello", &cut, open, &mixed, &block("X509 CRL", DER), &block("CERTIFICATE", b"")]
            .map(|text| certificates(text).unwrap_err())
            .to_vec();
        insta::assert_debug_snapshot!(said);
        let keys: Vec<_> = [
            String::new(),
            block("ENCRYPTED PRIVATE KEY", DER),
            block("RSA PRIVATE KEY", DER).replace("MAM", "Proc-Type: 4,ENCRYPTED\n\nMAM"),
            block("CERTIFICATE", DER),
            format!("{}{}", block("PRIVATE KEY", DER), block("PRIVATE KEY", DER)),
        ]
        .map(|text| private_key(&text).unwrap_err())
        .to_vec();
        insta::assert_debug_snapshot!(keys);
    }

    #[test]
    fn an_ec_key_may_come_with_its_curve() {
        let text = format!("{}{}", block("EC PARAMETERS", &[0x06, 1, 42]), block("EC PRIVATE KEY", DER));
        assert!(private_key(&text).is_ok());
    }
}
