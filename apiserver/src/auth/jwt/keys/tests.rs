use std::process::Command;

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::*;
use crate::auth::ec;

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A private key that openssl makes.
fn pkcs8(arguments: &str) -> PrivatePkcs8KeyDer<'static> {
    let output = Command::new("openssl")
        .arg("genpkey")
        .args(arguments.split(' '))
        .output()
        .expect("openssl is installed");
    PrivatePkcs8KeyDer::from_pem_slice(&output.stdout).unwrap()
}

enum Signer {
    Rsa(Box<RsaKeyPair>),
    Curve(Box<EcdsaKeyPair>, &'static str),
    P521(p521::PrivateKey),
}

impl Signer {
    fn rsa() -> Self {
        let key = pkcs8("-algorithm RSA -pkeyopt rsa_keygen_bits:2048");
        Self::Rsa(Box::new(
            RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap(),
        ))
    }

    fn p521() -> Self {
        let key = pkcs8("-algorithm EC -pkeyopt ec_paramgen_curve:P-521");
        let key = ec::Private::pkcs8(key.secret_pkcs8_der()).unwrap();
        Self::P521(p521::PrivateKey::of_number(&key.number).unwrap())
    }

    fn curve(name: &'static str) -> Self {
        let signing = match name {
            "P-256" => &ECDSA_P256_SHA256_FIXED_SIGNING,
            _ => &ECDSA_P384_SHA384_FIXED_SIGNING,
        };
        let key = pkcs8(&format!("-algorithm EC -pkeyopt ec_paramgen_curve:{name}"));
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(signing, key.secret_pkcs8_der(), &random).unwrap();
        Self::Curve(Box::new(key), name)
    }

    fn jwk(&self, id: &str) -> Value {
        match self {
            Self::Rsa(key) => {
                let public: RsaPublicKeyComponents<Vec<u8>> = key.public().into();
                json!({"kty": "RSA", "kid": id, "n": b64(public.n), "e": b64(public.e)})
            }
            Self::Curve(key, name) => on_curve(name, id, key.public_key().as_ref()),
            Self::P521(key) => on_curve("P-521", id, &key.point()),
        }
    }

    fn token(&self, algorithm: &str, id: Option<&str>) -> String {
        let mut header = json!({"alg": algorithm});
        if let Some(id) = id {
            header["kid"] = id.into();
        }
        let text = format!("{}.{}", b64(header.to_string()), b64("{}"));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(key) => {
                let encoding: &dyn RsaEncoding = match algorithm {
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    "PS512" => &RSA_PSS_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(encoding, &random, text.as_bytes(), &mut signature)
                    .unwrap();
                signature
            }
            Self::Curve(key, _) => key
                .sign(&random, text.as_bytes())
                .unwrap()
                .as_ref()
                .to_vec(),
            Self::P521(key) => key.sign(text.as_bytes()),
        };
        format!("{text}.{}", b64(signature))
    }
}

fn on_curve(name: &str, id: &str, point: &[u8]) -> Value {
    let (x, y) = point[1..].split_at(point.len() / 2);
    json!({"kty": "EC", "crv": name, "kid": id, "x": b64(x), "y": b64(y)})
}

fn set(keys: &[Value]) -> Vec<Key> {
    read_set(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

/// Whether one of the keys has signed the token.
fn signed(keys: &[Key], token: &str) -> bool {
    let jws = Jws::parse(token, &Algorithm::all()).unwrap();
    keys.iter()
        .any(|key| key.may_have_signed(&jws) && key.verifies(&jws))
}

#[test]
fn a_key_verifies_what_it_signed_by_every_algorithm_of_its_kind() {
    let (rsa, p256, p384, p521) = (
        Signer::rsa(),
        Signer::curve("P-256"),
        Signer::curve("P-384"),
        Signer::p521(),
    );
    let keys = set(&[rsa.jwk("r"), p256.jwk("a"), p384.jwk("b"), p521.jwk("c")]);
    assert_eq!(keys.len(), 4);
    for algorithm in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        assert!(
            signed(&keys, &rsa.token(algorithm, Some("r"))),
            "{algorithm}"
        );
        assert!(signed(&keys, &rsa.token(algorithm, None)), "{algorithm}");
        assert!(
            !signed(&keys, &rsa.token(algorithm, Some("a"))),
            "{algorithm}"
        );
        assert!(
            !signed(&keys, &rsa.token(algorithm, Some("unknown"))),
            "{algorithm}"
        );
    }
    assert!(signed(&keys, &p256.token("ES256", Some("a"))));
    assert!(signed(&keys, &p384.token("ES384", Some("b"))));
    assert!(signed(&keys, &p521.token("ES512", Some("c"))));
    assert!(!signed(&keys, &Signer::p521().token("ES512", Some("c"))));
    assert!(!signed(&keys, &p384.token("ES512", Some("c"))));
    let stranger = Signer::curve("P-256");
    assert!(!signed(&keys, &stranger.token("ES256", Some("a"))));
    let token = p256.token("ES256", Some("a"));
    let (rest, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = rest.split_once('.').unwrap();
    let forged = format!("{header}.{}.{signature}", b64(r#"{"sub":"admin"}"#));
    assert!(!signed(&keys, &forged));
}

#[test]
fn a_token_does_not_choose_the_algorithm_of_a_key() {
    let (rsa, p256) = (Signer::rsa(), Signer::curve("P-256"));
    let keys = set(&[rsa.jwk("k"), p256.jwk("k")]);
    // Signed by one algorithm, called by another.
    for (signer, algorithm) in [
        (&rsa, "ES256"),
        (&p256, "RS256"),
        (&p256, "ES384"),
        (&p256, "ES512"),
    ] {
        assert!(
            !signed(&keys, &signer.token(algorithm, Some("k"))),
            "{algorithm}"
        );
    }
    let mut only = rsa.jwk("k");
    only["alg"] = "RS256".into();
    let keys = set(&[only]);
    assert!(signed(&keys, &rsa.token("RS256", Some("k"))));
    assert!(!signed(&keys, &rsa.token("PS256", Some("k"))));
}

#[test]
fn keys_that_are_not_understood_are_passed_over() {
    let p256 = Signer::curve("P-256");
    let mut encrypts = p256.jwk("a");
    encrypts["use"] = "enc".into();
    let mut torn = p256.jwk("a");
    torn["x"] = "!".into();
    let keys = set(&[
        json!({"kty": "oct", "k": "c2VjcmV0"}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": "AA"}),
        json!({"kty": "RSA", "n": "", "e": "AQAB"}),
        json!({}),
        json!("key"),
        encrypts,
        torn,
        p256.jwk("a"),
    ]);
    assert_eq!(keys.len(), 1);
    assert!(signed(&keys, &p256.token("ES256", Some("a"))));
    for bad in ["", "[]", "{}", r#"{"keys": {}}"#] {
        assert!(read_set(bad.as_bytes()).is_err(), "{bad}");
    }
}
