//! Keys of tokens: PEM files into signing and verifying keys, and those into the published set.

use std::path::Path;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use serde_json::json;
use sha2::{Digest, Sha256};

/// A private key.
pub(super) enum Signer {
    Rsa(Box<RsaKeyPair>),
    Ecdsa(Box<EcdsaKeyPair>, &'static str),
}

/// A public key.
pub(super) struct VerifyingKey {
    /// What tokens call it.
    pub(super) id: String,
    pub(super) algorithm: &'static str,
    pub(super) key: UnparsedPublicKey<Vec<u8>>,
    /// Whether it is not published.
    pub(super) hidden: bool,
    /// The subject public key info, for the published key set.
    pub(super) spki: Vec<u8>,
}

impl Signer {
    /// As a token's header names it.
    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Ecdsa(_, algorithm) => algorithm,
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
            "RSA PRIVATE KEY" => Signer::Rsa(Box::new(
                RsaKeyPair::from_der(&der)
                    .map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?,
            )),
            "PRIVATE KEY" => match RsaKeyPair::from_pkcs8(&der) {
                Ok(key) => Signer::Rsa(Box::new(key)),
                Err(_) => ecdsa(&der).with_context(|| {
                    format!(
                        "{}: neither an RSA nor a P-256 or P-384 key",
                        path.display()
                    )
                })?,
            },
            "EC PRIVATE KEY" => bail!(
                "{}: convert the key to PKCS #8 (openssl pkcs8 -topk8 -nocrypt)",
                path.display()
            ),
            _ => continue,
        };
        let spki = match &signer {
            Signer::Rsa(key) => rsa_spki(key.public().as_ref()),
            Signer::Ecdsa(key, algorithm) => ec_spki(key.public_key().as_ref(), algorithm),
        };
        return Ok((signer, spki));
    }
    bail!("{}: no private key in it", path.display())
}

fn ecdsa(der: &[u8]) -> Option<Signer> {
    let random = SystemRandom::new();
    let p256 = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random);
    if let Ok(key) = p256 {
        return Some(Signer::Ecdsa(Box::new(key), "ES256"));
    }
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, der, &random).ok()?;
    Some(Signer::Ecdsa(Box::new(key), "ES384"))
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
            "RSA PRIVATE KEY" | "PRIVATE KEY" => keys.push(read_signer(path)?.1),
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

/// DER of one element.
fn der(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match body.len() {
        len @ 0..=127 => out.push(len as u8),
        len @ 128..=255 => out.extend([0x81, len as u8]),
        len => out.extend([0x82, (len >> 8) as u8, len as u8]),
    }
    out.extend_from_slice(body);
    out
}

/// Subject public key info (RFC 5280) of an RSA key in PKCS #1 form.
fn rsa_spki(key: &[u8]) -> Vec<u8> {
    const RSA: [u8; 15] = [
        0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
    ];
    spki(&RSA, key)
}

/// The same of a point on a curve (RFC 5480).
fn ec_spki(point: &[u8], algorithm: &str) -> Vec<u8> {
    const P256: [u8; 21] = [
        0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
    ];
    const P384: [u8; 18] = [
        0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81,
        0x04, 0x00, 0x22,
    ];
    spki(if algorithm == "ES384" { &P384 } else { &P256 }, point)
}

fn spki(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let mut bits = vec![0];
    bits.extend_from_slice(key);
    let mut body = algorithm.to_vec();
    body.extend(der(0x03, &bits));
    der(0x30, &body)
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
    let (algorithm, key): (_, UnparsedPublicKey<Vec<u8>>) = match (
        info.algorithm.algorithm.to_id_string().as_str(),
        bytes.len(),
    ) {
        ("1.2.840.113549.1.1.1", _) => (
            "RS256",
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, bytes),
        ),
        ("1.2.840.10045.2.1", 65) => (
            "ES256",
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes),
        ),
        ("1.2.840.10045.2.1", 97) => (
            "ES384",
            UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, bytes),
        ),
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
            all.insert(
                "crv".into(),
                if key.algorithm == "ES384" {
                    "P-384"
                } else {
                    "P-256"
                }
                .into(),
            );
            all.insert("x".into(), b64(x).into());
            all.insert("y".into(), b64(y).into());
        }
        _ => return None,
    }
    Some(all.into())
}
