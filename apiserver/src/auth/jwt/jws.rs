//! Signed tokens in their compact form (RFC 7515), and the algorithms that are taken.
//!
//! Only signatures by private keys are: a token that says it is not signed, or signed with a shared
//! secret, is refused before anything else is looked at. Which algorithm a key takes is decided by the
//! key, never by the token alone, and keys or addresses of keys in a token's header are ignored
//! (RFC 8725).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// An asymmetric algorithm (RFC 7518, section 3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    Es512,
    Ps256,
    Ps384,
    Ps512,
}

/// By name.
pub const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::Rs256),
    ("RS384", Algorithm::Rs384),
    ("RS512", Algorithm::Rs512),
    ("ES256", Algorithm::Es256),
    ("ES384", Algorithm::Es384),
    ("ES512", Algorithm::Es512),
    ("PS256", Algorithm::Ps256),
    ("PS384", Algorithm::Ps384),
    ("PS512", Algorithm::Ps512),
];

impl Algorithm {
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let found = ALGORITHMS.iter().find(|(n, _)| *n == name);
        found.map(|(_, algorithm)| *algorithm)
    }

    #[must_use]
    pub fn all() -> Vec<Self> {
        ALGORITHMS.iter().map(|(_, algorithm)| *algorithm).collect()
    }
}

/// Why a text is no signed token.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum Error {
    #[error("malformed jwt: {0}")]
    Malformed(&'static str),
    #[error("id token signed with unsupported algorithm, got {0:?}")]
    Algorithm(String),
    #[error("unsupported critical header")]
    Critical,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    /// Extensions that whoever does not know them must not ignore; none are known.
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

/// A token whose signature has not been verified.
#[derive(Debug)]
pub struct Jws<'a> {
    pub algorithm: Algorithm,
    pub key_id: Option<String>,
    /// Header and payload as they stand in the token.
    pub signed: &'a str,
    pub signature: Vec<u8>,
    payload: &'a str,
}

/// A header, which must be an object: a list of values would do for the deserializer as well.
fn header_of(json: &[u8]) -> Result<Header, Error> {
    let object: Result<serde_json::Map<_, _>, _> = serde_json::from_slice(json);
    let header = object.and_then(|object| serde_json::from_value(object.into()));
    header.map_err(|_| Error::Malformed("the header is not JSON with an algorithm"))
}

fn decode(part: &str, what: &'static str) -> Result<Vec<u8>, Error> {
    let bytes = URL_SAFE_NO_PAD.decode(part);
    bytes.map_err(|_| Error::Malformed(what))
}

impl<'a> Jws<'a> {
    /// Reads a token signed with one of these algorithms.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(token: &'a str, allowed: &[Algorithm]) -> Result<Self, Error> {
        let (signed, signature) = token
            .rsplit_once('.')
            .ok_or(Error::Malformed("it does not have three parts"))?;
        let (header, payload) = signed
            .split_once('.')
            .filter(|(_, payload)| !payload.contains('.'))
            .ok_or(Error::Malformed("it does not have three parts"))?;
        let header = header_of(&decode(header, "the header is not base64")?)?;
        let algorithm = Algorithm::named(&header.alg)
            .filter(|algorithm| allowed.contains(algorithm))
            .ok_or(Error::Algorithm(header.alg))?;
        if header.crit.is_some() {
            return Err(Error::Critical);
        }
        Ok(Self {
            algorithm,
            key_id: header.kid.filter(|id| !id.is_empty()),
            signed,
            signature: decode(signature, "the signature is not base64")?,
            payload,
        })
    }

    /// What was signed, decoded.
    ///
    /// # Errors
    /// If it is not base64.
    pub fn payload(&self) -> Result<Vec<u8>, Error> {
        decode(self.payload, "the payload is not base64")
    }
}

/// The payload of a token, of which nothing was verified.
#[must_use]
pub fn unverified_payload(token: &str) -> Option<Vec<u8>> {
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    decode(payload, "").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part(header), part("{}"), part("signature"))
    }

    #[test]
    fn only_asymmetric_algorithms_that_are_allowed_pass() {
        let allowed = [Algorithm::Rs256, Algorithm::Es256];
        let good = token(r#"{"alg":"ES256","kid":"k","typ":"JWT"}"#);
        let jws = Jws::parse(&good, &allowed).unwrap();
        assert_eq!(
            (jws.algorithm, jws.key_id.as_deref()),
            (Algorithm::Es256, Some("k"))
        );
        assert_eq!(jws.payload().unwrap(), b"{}");
        for algorithm in [
            "none", "None", "", "HS256", "HS512", "RS384", "EdDSA", "rs256",
        ] {
            let header = format!(r#"{{"alg":"{algorithm}"}}"#);
            let error = Jws::parse(&token(&header), &allowed).unwrap_err();
            assert_eq!(error, Error::Algorithm(algorithm.to_owned()));
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let all = Algorithm::all();
        for bad in [
            "",
            "a",
            "a.b",
            "a.b.c.d",
            "!.e30.c2ln",
            &token("{}"),
            &token("[]"),
            &token(r#"["RS256"]"#),
            &format!("{}=", token(r#"{"alg":"RS256"}"#)),
            &format!("{}.", token(r#"{"alg":"RS256"}"#)),
        ] {
            assert!(
                matches!(Jws::parse(bad, &all), Err(Error::Malformed(_))),
                "{bad}"
            );
        }
        let critical = token(r#"{"alg":"RS256","crit":["b64"],"b64":false}"#);
        assert_eq!(Jws::parse(&critical, &all).unwrap_err(), Error::Critical);
    }
}
