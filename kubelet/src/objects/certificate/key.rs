//! Keys for certificates of pods, and the requests that prove them.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, SignatureAlgorithm};

use super::super::pem;

/// Why there is no key.
#[derive(thiserror::Error, Debug)]
pub(super) enum Error {
    #[error("unknown key type {0:?}")]
    Unknown(String),
    /// No library that this kubelet is built of makes such keys.
    #[error("keys of type {0} are not supported by this kubelet")]
    Unsupported(String),
    #[error("while generating stub PKCS#10 request")]
    Make(#[from] rcgen::Error),
}

/// A new key.
pub(super) struct Generated {
    /// PKCS#8, in PEM.
    pub(super) key: String,
    /// A PKCS#10 request that says nothing but which key it is, in DER.
    pub(super) request: Vec<u8>,
}

/// The algorithm that a type of keys signs its request with.
pub(super) fn algorithm(kind: &str) -> Result<&'static SignatureAlgorithm, Error> {
    match kind {
        "ECDSAP256" => Ok(&rcgen::PKCS_ECDSA_P256_SHA256),
        "ECDSAP384" => Ok(&rcgen::PKCS_ECDSA_P384_SHA384),
        "ED25519" => Ok(&rcgen::PKCS_ED25519),
        "ECDSAP521" | "RSA3072" | "RSA4096" => Err(Error::Unsupported(kind.to_owned())),
        _ => Err(Error::Unknown(kind.to_owned())),
    }
}

/// Makes a key of a type as `podCertificate.keyType` names it.
pub(super) fn generate(kind: &str) -> Result<Generated, Error> {
    let key = KeyPair::generate_for(algorithm(kind)?)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key)?;
    Ok(Generated {
        key: pem::private_key(&first_version(key.serialize_der())),
        request: request.der().to_vec(),
    })
}

/// A key of PKCS#8's first version, which everybody reads. Those of Ed25519 are made in the second,
/// which has the public key behind the private one.
fn first_version(der: Vec<u8>) -> Vec<u8> {
    /// A sequence of 81 bytes: version 1, the algorithm 1.3.101.112, the key.
    const SECOND: &[u8] = b"\x30\x51\x02\x01\x01\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    /// A sequence of 46 bytes, and version 0.
    const FIRST: &[u8] = b"\x30\x2e\x02\x01\x00";
    match der
        .strip_prefix(SECOND)
        .and_then(|rest| rest.first_chunk::<32>())
    {
        Some(private) => [FIRST, &SECOND[FIRST.len()..], private].concat(),
        None => der,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::pki_types::pem::PemObject;
    use x509_parser::prelude::{FromDer, X509CertificationRequest};

    #[test]
    fn a_request_proves_its_key_and_says_nothing_else() {
        for (kind, oid) in [
            ("ECDSAP256", "1.2.840.10045.2.1"),
            ("ECDSAP384", "1.2.840.10045.2.1"),
            ("ED25519", "1.3.101.112"),
        ] {
            let made = generate(kind).unwrap();
            let key = KeyPair::from_pem(&made.key).unwrap();
            let der = PrivatePkcs8KeyDer::from_pem_slice(made.key.as_bytes()).unwrap();
            // A length of one or two bytes, then the version.
            let version = der.secret_pkcs8_der().windows(3).find(|v| v[..2] == [2, 1]);
            assert_eq!(version.unwrap()[2], 0, "{kind}");
            assert!(
                made.key.starts_with("-----BEGIN PRIVATE KEY-----\n"),
                "{kind}"
            );
            let (_, request) = X509CertificationRequest::from_der(&made.request).unwrap();
            let info = &request.certification_request_info;
            assert_eq!(info.subject.iter().count(), 0, "{kind}");
            let public = &info.subject_pki;
            assert_eq!(public.algorithm.algorithm.to_id_string(), oid);
            assert_eq!(&*public.subject_public_key.data, key.public_key_raw());
            request.verify_signature().unwrap();
        }
    }

    #[test]
    fn what_cannot_be_made_is_named() {
        let said = |kind: &str| generate(kind).map(drop).unwrap_err().to_string();
        assert_eq!(said("DSA"), "unknown key type \"DSA\"");
        assert!(said("RSA4096").starts_with("keys of type RSA4096 "));
    }
}
