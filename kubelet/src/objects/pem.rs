//! Certificates and keys as text.

use base64::Engine;

/// A certificate in PEM.
pub(super) fn certificate(der: &[u8]) -> String {
    block("CERTIFICATE", der)
}

/// A private key of PKCS#8 in PEM.
pub(super) fn private_key(der: &[u8]) -> String {
    block("PRIVATE KEY", der)
}

/// As Go writes it: 64 characters a line.
fn block(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}
