//! The public keys of an issuer, as it publishes them: a JSON Web Key Set (RFC 7517).
//!
//! A key verifies what fits its kind and nothing else: an RSA key takes no signature of a curve, a
//! curve's key only the one algorithm that belongs to the curve. Keys of kinds that are not known are
//! passed over, as the RFC asks; those are keys for encryption, too.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;

use super::jws::{Algorithm, Jws};
use crate::auth::ec::{Curve, p521};

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: String,
    #[serde(default, rename = "use")]
    usage: String,
    #[serde(default)]
    alg: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

/// A public key.
#[derive(Clone, PartialEq, Debug)]
pub struct Key {
    id: String,
    /// The only algorithm that it is for, if it says so.
    algorithm: Option<String>,
    material: Material,
}

#[derive(Clone, PartialEq, Debug)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// A point, uncompressed.
    Point(&'static Curve, Vec<u8>),
}

/// The keys of a set that are understood.
///
/// # Errors
/// If it is no set.
pub fn read_set(json: &[u8]) -> Result<Vec<Key>, serde_json::Error> {
    let set: Set = serde_json::from_slice(json)?;
    Ok(set.keys.into_iter().filter_map(key).collect())
}

fn key(value: serde_json::Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    if !matches!(jwk.usage.as_str(), "" | "sig") {
        return None;
    }
    let material = match (jwk.kty.as_str(), jwk.crv.as_str()) {
        ("RSA", _) => Material::Rsa {
            n: number(&jwk.n)?,
            e: number(&jwk.e)?,
        },
        ("EC", name) => {
            let curve = Curve::named(name)?;
            Material::Point(curve, point(&jwk, curve.size)?)
        }
        _ => return None,
    };
    Some(Key {
        id: jwk.kid,
        algorithm: Some(jwk.alg).filter(|alg| !alg.is_empty()),
        material,
    })
}

/// A number without leading zeros.
fn number(text: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    Some(bytes[zeros..].to_vec()).filter(|b| !b.is_empty())
}

fn point(jwk: &Jwk, size: usize) -> Option<Vec<u8>> {
    let mut point = vec![4];
    for coordinate in [&jwk.x, &jwk.y] {
        let bytes = number(coordinate)?;
        let zeros = size.checked_sub(bytes.len())?;
        point.resize(point.len() + zeros, 0);
        point.extend(bytes);
    }
    Some(point)
}

impl Key {
    /// Whether a token may be signed with this key: by its id, if it names one.
    #[must_use]
    pub fn may_have_signed(&self, jws: &Jws<'_>) -> bool {
        jws.key_id.as_ref().is_none_or(|id| *id == self.id)
    }

    /// Whether it did sign it.
    #[must_use]
    pub fn verifies(&self, jws: &Jws<'_>) -> bool {
        let named = |name: &String| Algorithm::named(name) == Some(jws.algorithm);
        if !self.algorithm.as_ref().is_none_or(named) {
            return false;
        }
        let (signed, signature) = (jws.signed.as_bytes(), jws.signature.as_slice());
        let by_curve = |algorithm: &'static dyn VerificationAlgorithm, point: &[u8]| {
            let key = UnparsedPublicKey::new(algorithm, point);
            key.verify(signed, signature).is_ok()
        };
        match (&self.material, jws.algorithm) {
            (Material::Rsa { n, e }, algorithm) => {
                let Some(parameters) = rsa(algorithm) else {
                    return false;
                };
                let key = RsaPublicKeyComponents { n, e };
                key.verify(parameters, signed, signature).is_ok()
            }
            (Material::Point(curve, point), algorithm) => match (curve.name, algorithm) {
                ("P-256", Algorithm::Es256) => by_curve(&ECDSA_P256_SHA256_FIXED, point),
                ("P-384", Algorithm::Es384) => by_curve(&ECDSA_P384_SHA384_FIXED, point),
                ("P-521", Algorithm::Es512) => p521::PublicKey::of_point(point)
                    .is_some_and(|key| key.verifies(signed, signature)),
                _ => false,
            },
        }
    }
}

/// What an RSA key does in an algorithm; nothing if that is of a curve.
fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &RSA_PSS_2048_8192_SHA512,
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => return None,
    })
}

#[cfg(test)]
mod tests;
