//! A certificate and its key, as Go's `tls.X509KeyPair` takes them.

use rustls::SignatureAlgorithm;
use rustls::crypto::ring::sign::any_supported_type;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use x509_parser::oid_registry::{
    OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::strategies::certificates::pem;

const CERTIFICATE: &str = "CERTIFICATE";
const KEY: &str = "PRIVATE KEY";

/// Why the two are no pair.
pub(super) fn problem(certificate: &[u8], key: &[u8]) -> Option<String> {
    check(certificate, key).err()
}

fn check(certificate: &[u8], key: &[u8]) -> Result<(), String> {
    let certificate = first_certificate(&String::from_utf8_lossy(certificate))?;
    let key = first_key(&String::from_utf8_lossy(key))?;
    let (_, parsed) = X509Certificate::from_der(&certificate)
        .map_err(|_| "x509: malformed certificate".to_owned())?;
    let key = [
        PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(key.clone())),
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.clone())),
        PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(key)),
    ]
    .iter()
    .find_map(|form| any_supported_type(form).ok())
    .ok_or("tls: failed to parse private key")?;
    let kind = &parsed.public_key().algorithm.algorithm;
    let same_kind = match key.algorithm() {
        SignatureAlgorithm::RSA => *kind == OID_PKCS1_RSAENCRYPTION,
        SignatureAlgorithm::ECDSA => *kind == OID_KEY_TYPE_EC_PUBLIC_KEY,
        SignatureAlgorithm::ED25519 => *kind == OID_SIG_ED25519,
        _ => false,
    };
    if !same_kind {
        return Err("tls: private key type does not match public key type".into());
    }
    let public = key.public_key();
    if public.is_none_or(|public| public.as_ref() != parsed.public_key().raw) {
        return Err("tls: private key does not match public key".into());
    }
    Ok(())
}

fn first_certificate(text: &str) -> Result<Vec<u8>, String> {
    let mut skipped = Vec::new();
    for block in pem::blocks(text) {
        if block.label == CERTIFICATE {
            return Ok(block.contents);
        }
        skipped.push(block.label);
    }
    Err(match skipped.as_slice() {
        [] => "tls: failed to find any PEM data in certificate input".into(),
        [only] if only.ends_with(KEY) => "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched".into(),
        all => format!(
            "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following types: [{}]",
            all.join(" ")
        ),
    })
}

fn first_key(text: &str) -> Result<Vec<u8>, String> {
    let mut skipped = Vec::new();
    for block in pem::blocks(text) {
        if block.label == KEY || block.label.ends_with(" PRIVATE KEY") {
            return Ok(block.contents);
        }
        skipped.push(block.label);
    }
    Err(match skipped.as_slice() {
        [] => "tls: failed to find any PEM data in key input".into(),
        [CERTIFICATE] => {
            "tls: found a certificate rather than a key in the PEM for the private key".into()
        }
        all => format!(
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of the following types: [{}]",
            all.join(" ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_and_its_key_are_a_pair() {
        let ((certificate, key), (_, other)) = (pair(), pair());
        let told = |c: &str, k: &str| problem(c.as_bytes(), k.as_bytes()).unwrap_or_default();
        assert_eq!(told(&certificate, &key), "");
        for (c, k, expected) in [
            (
                certificate.as_str(),
                other.as_str(),
                "tls: private key does not match public key",
            ),
            (
                "",
                key.as_str(),
                "tls: failed to find any PEM data in certificate input",
            ),
            (
                certificate.as_str(),
                "",
                "tls: failed to find any PEM data in key input",
            ),
            (
                certificate.as_str(),
                certificate.as_str(),
                "tls: found a certificate rather than a key in the PEM for the private key",
            ),
        ] {
            assert_eq!(told(c, k), expected);
        }
        assert!(told(&key, &key).ends_with("PEM inputs may have been switched"));
    }
}
