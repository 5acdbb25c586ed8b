//! Private keys in PEM files: of authorities that sign certificates, and of service account tokens.

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING,
    ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::{self, PemObject};

use crate::der;

/// Why a key cannot be used.
#[derive(thiserror::Error, Debug)]
pub enum KeyError {
    #[error("no private key in it")]
    Pem(#[source] pem::Error),
    #[error("neither an RSA key of 2048 bits or more nor one of P-256 or P-384")]
    Kind,
    #[error("the key does not sign")]
    Sign,
}

/// How signatures of elliptic curves are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// In certificates.
    Asn1,
    /// In tokens.
    Fixed,
}

/// What a key signs with, all with the digest that belongs to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    Rsa,
    P256,
    P384,
}

/// A private key.
pub struct SigningKey {
    pair: Pair,
    algorithm: Algorithm,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ecdsa(Box<EcdsaKeyPair>),
}

impl SigningKey {
    /// The first private key of a PEM text.
    ///
    /// # Errors
    /// If there is none, or it is of a kind that is not known here.
    pub fn read(text: &[u8], form: Form) -> Result<Self, KeyError> {
        let key = PrivateKeyDer::from_pem_slice(text).map_err(KeyError::Pem)?;
        let rsa = match &key {
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()).ok(),
            PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).ok(),
            _ => None,
        };
        if let Some(pair) = rsa {
            return Ok(Self {
                pair: Pair::Rsa(Box::new(pair)),
                algorithm: Algorithm::Rsa,
            });
        }
        for algorithm in [Algorithm::P256, Algorithm::P384] {
            let wrapped = match &key {
                PrivateKeyDer::Pkcs8(key) => key.secret_pkcs8_der().to_vec(),
                PrivateKeyDer::Sec1(key) => pkcs8(key.secret_sec1_der(), algorithm),
                _ => return Err(KeyError::Kind),
            };
            let curve = curve(algorithm, form);
            if let Ok(pair) = EcdsaKeyPair::from_pkcs8(curve, &wrapped, &SystemRandom::new()) {
                return Ok(Self {
                    pair: Pair::Ecdsa(Box::new(pair)),
                    algorithm,
                });
            }
        }
        Err(KeyError::Kind)
    }

    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Signs a message with SHA-256, or SHA-384 where the curve asks for it.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(|_| KeyError::Sign)?;
                Ok(signature)
            }
            Pair::Ecdsa(pair) => {
                let signature = pair.sign(&random, message).map_err(|_| KeyError::Sign)?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }

    /// The subject public key info (RFC 5280).
    #[must_use]
    pub fn public(&self) -> Vec<u8> {
        let key = match &self.pair {
            Pair::Rsa(pair) => pair.public().as_ref(),
            Pair::Ecdsa(pair) => pair.public_key().as_ref(),
        };
        der::sequence(&[&key_kind(self.algorithm), &der::bits(key, 0)])
    }
}

fn curve(algorithm: Algorithm, form: Form) -> &'static EcdsaSigningAlgorithm {
    match (algorithm, form) {
        (Algorithm::P384, Form::Asn1) => &ECDSA_P384_SHA384_ASN1_SIGNING,
        (Algorithm::P384, Form::Fixed) => &ECDSA_P384_SHA384_FIXED_SIGNING,
        (_, Form::Asn1) => &ECDSA_P256_SHA256_ASN1_SIGNING,
        (_, Form::Fixed) => &ECDSA_P256_SHA256_FIXED_SIGNING,
    }
}

/// The algorithm identifier of public and private keys.
fn key_kind(algorithm: Algorithm) -> Vec<u8> {
    let ec = der::oid(&[1, 2, 840, 10045, 2, 1]);
    match algorithm {
        Algorithm::Rsa => {
            let rsa = der::oid(&[1, 2, 840, 113_549, 1, 1, 1]);
            der::sequence(&[&rsa, &der::NULL])
        }
        Algorithm::P256 => der::sequence(&[&ec, &der::oid(&[1, 2, 840, 10045, 3, 1, 7])]),
        Algorithm::P384 => der::sequence(&[&ec, &der::oid(&[1, 3, 132, 0, 34])]),
    }
}

/// A key in SEC 1 form as PKCS #8.
fn pkcs8(sec1: &[u8], algorithm: Algorithm) -> Vec<u8> {
    let key = der::element(der::OCTET_STRING, &[sec1]);
    der::sequence(&[&der::integer(&[0]), &key_kind(algorithm), &key])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        KeyPair as Generated, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PublicKeyData,
    };

    #[test]
    fn keys_of_both_curves_are_read_and_known_by_their_public_part() {
        for (kind, algorithm) in [
            (&PKCS_ECDSA_P256_SHA256, Algorithm::P256),
            (&PKCS_ECDSA_P384_SHA384, Algorithm::P384),
        ] {
            let made = Generated::generate_for(kind).unwrap();
            let key = SigningKey::read(made.serialize_pem().as_bytes(), Form::Asn1).unwrap();
            assert_eq!(key.algorithm(), algorithm);
            assert_eq!(key.public(), made.subject_public_key_info());
            assert!(!key.sign(b"message").unwrap().is_empty());
        }
        assert!(SigningKey::read(b"nothing", Form::Asn1).is_err());
    }
}
