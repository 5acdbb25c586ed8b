use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::FutureExt;

use super::*;
use crate::config::tokens::{EXTENDED, Signing, Tokens};

const ISSUER: &str = "https://issuer.example";

/// Keys that openssl makes, in a directory of their own.
struct Keys(tempfile::TempDir);

impl Keys {
    fn new() -> Self {
        let keys = Self(tempfile::tempdir().unwrap());
        keys.openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem");
        keys.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out p256.pem");
        keys.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384.pem");
        keys.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out p521.pem");
        for name in ["rsa", "p256", "p384", "p521"] {
            keys.openssl(&format!("pkey -in {name}.pem -pubout -out {name}.pub"));
        }
        keys.openssl("rsa -in rsa.pem -traditional -out pkcs1.pem");
        // As kubeadm writes keys on curves.
        for name in ["p256", "p384", "p521"] {
            keys.openssl(&format!("ec -in {name}.pem -out {name}.sec1"));
        }
        keys
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(self.0.path())
            .output();
        let output = output.expect("openssl is installed");
        assert!(
            output.status.success(),
            "openssl {arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Signs with one key, verifies with that and others.
    fn issuer(&self, signs: &str, verifies: &[&str]) -> Issuer {
        let config = Tokens {
            issuers: vec![ISSUER.into(), "https://old.example".into()],
            key_files: verifies.iter().map(|name| self.path(name)).collect(),
            signing: Signing::Key(self.path(signs)),
            audiences: vec!["api".into()],
            lookup: true,
            max_expiration: Duration::ZERO,
            extend_expiration: true,
            extended: EXTENDED,
            jwks_uri: String::new(),
        };
        Issuer::with_key(&config, &self.path(signs)).unwrap()
    }
}

fn claims() -> Claims {
    Claims {
        iss: ISSUER.into(),
        aud: vec!["api".into(), "vault".into()],
        exp: 2000,
        nbf: 1000,
        iat: 1000,
        ..Claims::default()
    }
}

/// A token signed by a key at hand.
fn sign(issuer: &Issuer, claims: &Claims) -> String {
    let signed = issuer.sign(claims).now_or_never();
    signed.expect("nobody is asked").unwrap()
}

fn api() -> Vec<String> {
    vec!["api".into()]
}

#[test]
fn a_token_of_every_kind_of_key_is_verified_with_its_public_half() {
    let keys = Keys::new();
    for (signs, public) in [
        ("rsa.pem", "rsa.pub"),
        ("pkcs1.pem", "rsa.pub"),
        ("p256.pem", "p256.pub"),
        ("p384.pem", "p384.pub"),
        ("p521.pem", "p521.pub"),
        ("p256.sec1", "p256.pub"),
        ("p384.sec1", "p384.pem"),
        ("p521.sec1", "p521.sec1"),
    ] {
        let token = sign(&keys.issuer(signs, &[]), &claims());
        let other = if signs.starts_with("p256") {
            "rsa.pem"
        } else {
            "p256.pem"
        };
        let verifier = keys.issuer(other, &[public]);
        assert_eq!(
            verifier.verify(&token, &api(), 1500),
            Ok((claims(), api())),
            "{signs}"
        );
        let stranger = keys.issuer(other, &[]);
        assert_eq!(
            stranger.verify(&token, &api(), 1500),
            Err(Invalid::Signature),
            "{signs}"
        );
    }
}

#[test]
fn a_token_that_others_signed_with_the_key_is_verified() {
    let keys = Keys::new();
    let issuer = keys.issuer("rsa.pem", &[]);
    // Without a key's name, as older issuers write it.
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!(
        "{}.{}",
        encode(r#"{"alg":"RS256"}"#),
        encode(&serde_json::to_string(&claims()).unwrap())
    );
    std::fs::write(keys.path("signed"), &signed).unwrap();
    keys.openssl("dgst -sha256 -sign rsa.pem -out signature signed");
    let signature = std::fs::read(keys.path("signature")).unwrap();
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    assert_eq!(issuer.verify(&token, &api(), 1500), Ok((claims(), api())));
}

#[test]
fn time_audience_and_issuer_must_be_right() {
    let keys = Keys::new();
    let issuer = keys.issuer("p256.pem", &[]);
    let token = sign(&issuer, &claims());
    let at = |now| issuer.verify(&token, &api(), now).map(drop);
    assert_eq!(at(2000 + LEEWAY), Ok(()));
    assert_eq!(at(2000 + LEEWAY + 1), Err(Invalid::Expired));
    assert_eq!(at(1000 - LEEWAY), Ok(()));
    assert_eq!(at(1000 - LEEWAY - 1), Err(Invalid::NotYet));
    let both = ["vault".to_owned(), "other".to_owned()];
    assert_eq!(
        issuer.verify(&token, &both, 1500).map(|(_, shared)| shared),
        Ok(vec!["vault".to_owned()])
    );
    let other = ["other".to_owned()];
    assert!(matches!(
        issuer.verify(&token, &other, 1500),
        Err(Invalid::Audience { .. })
    ));
    let foreign = sign(
        &issuer,
        &Claims {
            iss: "https://else.example".into(),
            ..claims()
        },
    );
    assert_eq!(
        issuer.verify(&foreign, &api(), 1500),
        Err(Invalid::Signature)
    );
    assert!(!issuer.is_ours(&foreign) && issuer.is_ours(&token));
    let old = sign(
        &issuer,
        &Claims {
            iss: "https://old.example".into(),
            ..claims()
        },
    );
    assert!(
        issuer.verify(&old, &api(), 1500).is_ok(),
        "former issuers are still accepted"
    );
}

#[test]
fn a_token_that_was_changed_is_refused() {
    let keys = Keys::new();
    let issuer = keys.issuer("p256.pem", &[]);
    let token = sign(&issuer, &claims());
    let parts: Vec<&str> = token.split('.').collect();
    let body = serde_json::to_string(&Claims {
        exp: 9000,
        ..claims()
    })
    .unwrap();
    let longer = format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(body), parts[2]);
    assert_eq!(
        issuer.verify(&longer, &api(), 1500),
        Err(Invalid::Signature)
    );
    // A header that asks for no signature, or for one of another kind, gets none believed.
    for algorithm in ["none", "HS256", "RS256"] {
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{algorithm}"}}"#));
        for signature in ["", parts[2]] {
            let forged = format!("{header}.{}.{signature}", parts[1]);
            assert_eq!(
                issuer.verify(&forged, &api(), 1500),
                Err(Invalid::Signature),
                "{algorithm}"
            );
        }
    }
    for nonsense in ["", ".", "..", "a.b.c", "a.b"] {
        assert!(issuer.verify(nonsense, &api(), 1500).is_err());
    }
}

#[test]
fn every_key_is_published() {
    let keys = Keys::new();
    let set = keys
        .issuer("p256.pem", &["rsa.pub", "p384.pub", "p256.pub"])
        .key_set();
    let kinds: Vec<&str> = set["keys"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|k| k["alg"].as_str())
        .collect();
    assert_eq!(
        kinds,
        ["ES256", "RS256", "ES384"],
        "the signing key first, none twice"
    );
    assert!(
        set["keys"]
            .as_array()
            .unwrap()
            .iter()
            .all(|k| k["use"] == "sig" && k["kid"].is_string())
    );
}
