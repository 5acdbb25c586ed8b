//! Keys of tokens: PEM files into signing and verifying keys, and those into the published set.

use std::path::Path;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::auth::ec::{self, Curve, P521, Private, p521};

/// A private key.
pub(super) enum Signer {
    Rsa(Box<RsaKeyPair>),
    /// With what ring signs on its curve.
    Ecdsa(Box<EcdsaKeyPair>, &'static Curve),
    P521(Box<p521::PrivateKey>),
}

/// A public key.
pub(super) struct VerifyingKey {
    /// What tokens call it.
    pub(super) id: String,
    pub(super) algorithm: &'static str,
    pub(super) key: Public,
    /// Whether it is not published.
    pub(super) hidden: bool,
    /// The subject public key info, for the published key set.
    pub(super) spki: Vec<u8>,
}

pub(super) enum Public {
    Ring(UnparsedPublicKey<Vec<u8>>),
    P521(Box<p521::PublicKey>),
}

impl VerifyingKey {
    /// Whether this is the key's signature of a text.
    pub(super) fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            Public::Ring(key) => key.verify(text, signature).is_ok(),
            Public::P521(key) => key.verifies(text, signature),
        }
    }
}

impl Signer {
    /// As a token's header names it.
    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Ecdsa(_, curve) => curve.algorithm,
            Self::P521(_) => P521.algorithm,
        }
    }

    /// The subject public key info of the public half.
    fn spki(&self) -> Vec<u8> {
        match self {
            Self::Rsa(key) => rsa_spki(key.public().as_ref()),
            Self::Ecdsa(key, curve) => curve.spki(key.public_key().as_ref()),
            Self::P521(key) => P521.spki(&key.point()),
        }
    }

    /// The signature of a text.
    pub(super) fn sign(&self, text: &[u8]) -> Result<Vec<u8>, String> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, text, &mut signature)
                    .map_err(|e| e.to_string())?;
                Ok(signature)
            }
            Self::Ecdsa(key, _) => {
                let signature = key.sign(&random, text).map_err(|e| e.to_string())?;
                Ok(signature.as_ref().to_vec())
            }
            Self::P521(key) => Ok(key.sign(text)),
        }
    }
}

/// The blocks of a PEM text: label and content.
pub(crate) fn pem_blocks(text: &str) -> Vec<(String, Vec<u8>)> {
    let mut blocks = Vec::new();
    let mut current: Option<(String, String)> = None;
    for line in text.lines().map(str::trim) {
        if let Some(label) = line
            .strip_prefix("-----BEGIN ")
            .and_then(|l| l.strip_suffix("-----"))
        {
            current = Some((label.to_owned(), String::new()));
        } else if line.starts_with("-----END ") {
            if let Some((label, body)) = current.take()
                && let Ok(bytes) = STANDARD.decode(body)
            {
                blocks.push((label, bytes));
            }
        } else if let Some((_, body)) = &mut current {
            body.push_str(line);
        }
    }
    blocks
}

/// The private key of a PEM file, with its public key info.
pub(super) fn read_signer(path: &Path) -> anyhow::Result<(Signer, Vec<u8>)> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the signing key {}", path.display()))?;
    for (label, der) in pem_blocks(&text) {
        let signer = match label.as_str() {
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der)
                .map(|key| Signer::Rsa(Box::new(key)))
                .map_err(anyhow::Error::msg),
            "PRIVATE KEY" => match Private::pkcs8(&der) {
                Some(key) => on_curve(&key),
                None => RsaKeyPair::from_pkcs8(&der)
                    .map(|key| Signer::Rsa(Box::new(key)))
                    .map_err(|e| {
                        anyhow::anyhow!("neither an RSA nor a P-256, P-384 or P-521 key: {e}")
                    }),
            },
            "EC PRIVATE KEY" => Private::sec1(&der)
                .context("not a P-256, P-384 or P-521 key")
                .and_then(|key| on_curve(&key)),
            _ => continue,
        };
        let signer = signer.with_context(|| path.display().to_string())?;
        let spki = signer.spki();
        return Ok((signer, spki));
    }
    bail!("{}: no private key in it", path.display())
}

/// What signs with a key on a curve.
fn on_curve(key: &Private) -> anyhow::Result<Signer> {
    let algorithm = match key.curve.name {
        "P-256" => &ECDSA_P256_SHA256_FIXED_SIGNING,
        "P-384" => &ECDSA_P384_SHA384_FIXED_SIGNING,
        _ => {
            let key = p521::PrivateKey::of_number(&key.number);
            return Ok(Signer::P521(Box::new(key.context("it is out of range")?)));
        }
    };
    // ring does not make the one of the other.
    let point = key.point.as_ref();
    let point = point.context("its public key must stand beside it, as openssl writes it")?;
    let random = SystemRandom::new();
    let pair =
        EcdsaKeyPair::from_private_key_and_public_key(algorithm, &key.number, point, &random);
    Ok(Signer::Ecdsa(
        Box::new(pair.map_err(anyhow::Error::msg)?),
        key.curve,
    ))
}

/// Public keys of a file, which may hold keys, certificates' keys or private keys, as upstream's.
pub(super) fn read_public_keys(path: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the key {}", path.display()))?;
    let mut keys = Vec::new();
    for (label, der) in pem_blocks(&text) {
        match label.as_str() {
            "PUBLIC KEY" => keys.push(der),
            "RSA PUBLIC KEY" => keys.push(rsa_spki(&der)),
            "RSA PRIVATE KEY" | "PRIVATE KEY" | "EC PRIVATE KEY" => {
                keys.push(read_signer(path)?.1);
            }
            "CERTIFICATE" => {
                let (_, cert) = x509_parser::parse_x509_certificate(&der)
                    .with_context(|| format!("{}", path.display()))?;
                keys.push(cert.public_key().raw.to_vec());
            }
            _ => {}
        }
    }
    if keys.is_empty() {
        bail!("{}: no public key in it", path.display());
    }
    Ok(keys)
}

/// Subject public key info (RFC 5280) of an RSA key in PKCS #1 form.
fn rsa_spki(key: &[u8]) -> Vec<u8> {
    const RSA: [u8; 15] = [
        0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
    ];
    ec::spki(&RSA, key)
}

/// Upstream's key id: the digest of the public key in DER.
fn key_id(spki: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(spki))
}

/// The key inside a subject public key info.
pub(super) fn verifying(spki: &[u8]) -> anyhow::Result<VerifyingKey> {
    use x509_parser::prelude::FromDer;
    let (_, info) = x509_parser::x509::SubjectPublicKeyInfo::from_der(spki)
        .map_err(|e| anyhow::anyhow!("a public key cannot be read: {e}"))?;
    let bytes = info.subject_public_key.data.to_vec();
    let ring = |algorithm: &'static dyn VerificationAlgorithm, bytes| {
        Public::Ring(UnparsedPublicKey::new(algorithm, bytes))
    };
    let kind = info.algorithm.algorithm.to_id_string();
    let (algorithm, key) = match (kind.as_str(), curve_of(&info)) {
        ("1.2.840.113549.1.1.1", _) => ("RS256", ring(&RSA_PKCS1_2048_8192_SHA256, bytes)),
        ("1.2.840.10045.2.1", Some(curve)) => {
            let key = match curve.name {
                "P-256" => ring(&ECDSA_P256_SHA256_FIXED, bytes),
                "P-384" => ring(&ECDSA_P384_SHA384_FIXED, bytes),
                _ => {
                    let key = p521::PublicKey::of_point(&bytes);
                    Public::P521(Box::new(key.context("a public key is not on its curve")?))
                }
            };
            (curve.algorithm, key)
        }
        ("1.2.840.10045.2.1", None) => bail!("unknown public key curve, must be 256, 384, or 521"),
        (other, _) => bail!("keys of the kind {other} are not supported"),
    };
    Ok(VerifyingKey {
        id: key_id(spki),
        algorithm,
        key,
        hidden: false,
        spki: spki.to_vec(),
    })
}

/// The curve that a key is on.
fn curve_of(info: &x509_parser::x509::SubjectPublicKeyInfo<'_>) -> Option<&'static Curve> {
    let oid = info.algorithm.parameters.as_ref()?.as_oid().ok()?;
    Curve::of(oid.as_bytes())
}

/// A key as JSON Web Key (RFC 7517).
pub(super) fn jwk(key: &VerifyingKey) -> Option<serde_json::Value> {
    use x509_parser::prelude::FromDer;
    use x509_parser::public_key::PublicKey;
    let (_, info) = x509_parser::x509::SubjectPublicKeyInfo::from_der(&key.spki).ok()?;
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let common = json!({"use": "sig", "kid": key.id, "alg": key.algorithm});
    let mut all = common.as_object().cloned()?;
    match info.parsed().ok()? {
        PublicKey::RSA(rsa) => {
            let strip = |bytes: &[u8]| b64(&bytes[bytes.iter().take_while(|b| **b == 0).count()..]);
            all.insert("kty".into(), "RSA".into());
            all.insert("n".into(), strip(rsa.modulus).into());
            all.insert("e".into(), strip(rsa.exponent).into());
        }
        PublicKey::EC(point) => {
            let data = point.data().get(1..)?;
            let (x, y) = data.split_at(data.len() / 2);
            all.insert("kty".into(), "EC".into());
            all.insert("crv".into(), curve_of(&info)?.name.into());
            all.insert("x".into(), b64(x).into());
            all.insert("y".into(), b64(y).into());
        }
        _ => return None,
    }
    Some(all.into())
}
