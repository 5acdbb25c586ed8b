//! Private keys: reading what kubeadm, OpenSSL and this tool write, and making new ones.
//!
//! Read are RSA of 2048 to 4096 bits, the elliptic curves P-256 and P-384, and Ed25519, in PKCS#8, PKCS#1 and SEC 1. New
//! keys are P-256: ring makes no RSA keys, and every daemon takes these.

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{AlgorithmIdentifier, PrivateKeyDer, alg_id};

use super::der;

/// Why a key cannot be used.
#[derive(thiserror::Error, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    #[error("it may not be read")]
    File,
    #[error("it holds no key in PEM that is not encrypted")]
    NoKey,
    #[error("its key is none of RSA (2048 to 4096 bits), P-256, P-384, Ed25519")]
    Kind,
}

pub(super) fn generate() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

pub(super) fn parse(pem: &str) -> Result<KeyPair, Unreadable> {
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| Unreadable::NoKey)?;
    // rcgen reads PKCS#8 only, which is the others in an envelope that names the algorithm.
    let forms = match &key {
        PrivateKeyDer::Pkcs8(key) => vec![key.secret_pkcs8_der().to_vec()],
        PrivateKeyDer::Pkcs1(key) => {
            vec![envelope(alg_id::RSA_ENCRYPTION, key.secret_pkcs1_der())]
        }
        PrivateKeyDer::Sec1(key) => [alg_id::ECDSA_P256, alg_id::ECDSA_P384]
            .map(|curve| envelope(curve, key.secret_sec1_der()))
            .to_vec(),
        _ => return Err(Unreadable::Kind),
    };
    forms
        .into_iter()
        .find_map(|form| KeyPair::try_from(form).ok())
        .ok_or(Unreadable::Kind)
}

fn envelope(algorithm: AlgorithmIdentifier, key: &[u8]) -> Vec<u8> {
    der::sequence(&[
        &der::value(der::INTEGER, &[&[0]]),
        &der::sequence(&[algorithm.as_ref()]),
        &der::value(der::OCTET_STRING, &[key]),
    ])
}

/// The algorithm of signatures by this key, in DER.
pub(super) fn signature_algorithm(key: &KeyPair) -> Vec<u8> {
    let algorithm = if key.is_compatible(&PKCS_ECDSA_P256_SHA256) {
        alg_id::ECDSA_SHA256
    } else if key.is_compatible(&PKCS_ECDSA_P384_SHA384) {
        alg_id::ECDSA_SHA384
    } else if key.is_compatible(&PKCS_ED25519) {
        alg_id::ED25519
    } else {
        alg_id::RSA_PKCS1_SHA256
    };
    der::sequence(&[algorithm.as_ref()])
}
