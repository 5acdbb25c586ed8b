//! An issuer of OpenID Connect tokens: its discovery document, its keys, and what it signs.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use component::testing::Files;
use parking_lot::Mutex;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::remote::{Remote, json as answer};

/// What its tokens are for.
pub(crate) const CLIENT: &str = "client";

/// A key that signs.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) id: String,
    pair: Arc<EcdsaKeyPair>,
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Key {
    pub(crate) fn new(id: &str) -> Self {
        let (random, of) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(of, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(of, pkcs8.as_ref(), &random).unwrap();
        Self {
            id: id.to_owned(),
            pair: Arc::new(pair),
        }
    }

    /// The key in a PEM.
    pub(crate) fn read(id: &str, pem: &str) -> Self {
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        let pkcs8 = key.secret_pkcs8_der();
        let (random, of) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        Self {
            id: id.to_owned(),
            pair: Arc::new(EcdsaKeyPair::from_pkcs8(of, pkcs8, &random).unwrap()),
        }
    }

    pub(crate) fn jwk(&self) -> Value {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id, "x": b64(x), "y": b64(y)})
    }

    /// A token with this header and these claims.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let text = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), text.as_bytes());
        format!("{text}.{}", b64(signature.unwrap()))
    }

    /// A token as the issuer makes it.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(
            &json!({"alg": "ES256", "kid": self.id, "typ": "JWT"}),
            claims,
        )
    }

    /// A token whose "signature" is a digest with the public key as the secret.
    pub(crate) fn confused(&self, claims: &Value) -> String {
        let header = json!({"alg": "HS256", "kid": self.id});
        let text = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let secret = hmac::Key::new(hmac::HMAC_SHA256, self.pair.public_key().as_ref());
        format!("{text}.{}", b64(hmac::sign(&secret, text.as_bytes())))
    }
}

pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

struct State {
    keys: Vec<Key>,
    /// Answers to other paths.
    pages: Vec<(String, String)>,
    open: tokio::sync::watch::Receiver<bool>,
}

/// An issuer.
pub(crate) struct Issuer {
    pub(crate) remote: Remote,
    state: Arc<Mutex<State>>,
    gate: tokio::sync::watch::Sender<bool>,
}

impl Issuer {
    pub(crate) fn start(keys: &[Key]) -> Self {
        let (gate, open) = tokio::sync::watch::channel(true);
        let state = Arc::new(Mutex::new(State {
            keys: keys.to_vec(),
            pages: Vec::new(),
            open,
        }));
        let url = Arc::new(Mutex::new(String::new()));
        let (of, own) = (Arc::clone(&state), Arc::clone(&url));
        let remote = Remote::start(move |asked| {
            let (of, own) = (Arc::clone(&of), own.lock().clone());
            Box::pin(async move {
                let mut open = of.lock().open.clone();
                open.wait_for(|open| *open).await.unwrap();
                let state = of.lock();
                let page = state.pages.iter().find(|(path, _)| *path == asked.path);
                match (asked.path.as_str(), page) {
                    (_, Some((_, text))) => {
                        component::serving::text(http::StatusCode::OK, text.clone())
                    }
                    ("/.well-known/openid-configuration", _) => {
                        let keys = format!("{own}/keys");
                        answer(200, &json!({"issuer": own, "jwks_uri": keys}))
                    }
                    ("/keys", _) => {
                        let keys: Vec<Value> = state.keys.iter().map(Key::jwk).collect();
                        answer(200, &json!({ "keys": keys }))
                    }
                    _ => answer(404, &json!({})),
                }
            })
        });
        url.lock().clone_from(&remote.url);
        Self {
            remote,
            state,
            gate,
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.remote.url
    }

    /// Has other keys from now on.
    pub(crate) fn rotate(&self, keys: &[Key]) {
        self.state.lock().keys = keys.to_vec();
    }

    /// Answers a path with a text.
    pub(crate) fn page(&self, path: &str, text: &str) {
        let page = (path.to_owned(), text.to_owned());
        self.state.lock().pages.push(page);
    }

    /// Answers nobody, or again.
    pub(crate) fn answers(&self, answers: bool) {
        self.gate.send(answers).unwrap();
    }

    /// How often its keys were fetched.
    pub(crate) fn fetches(&self) -> usize {
        let asked = self.remote.asked();
        asked.iter().filter(|a| a.path == "/keys").count()
    }

    /// Good claims, with something else in them; what is null goes.
    pub(crate) fn claims(&self, more: &Value) -> Value {
        let mut claims = json!({
            "iss": self.url(), "aud": CLIENT, "sub": "ann", "exp": now() + 600, "groups": ["dev"],
        });
        for (name, value) in more.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        claims
    }

    /// The flags that name it.
    pub(crate) fn flags(&self, files: &Files) -> Vec<String> {
        let ca = files.write("issuer.ca", &self.remote.ca.pem);
        vec![
            format!("--oidc-issuer-url={}", self.url()),
            format!("--oidc-client-id={CLIENT}"),
            format!("--oidc-ca-file={}", ca.display()),
            "--oidc-signing-algs=ES256,RS256".to_owned(),
            "--oidc-username-prefix=oidc:".to_owned(),
            "--oidc-groups-claim=groups".to_owned(),
            "--oidc-groups-prefix=oidc:".to_owned(),
        ]
    }

    /// Its entry in the file of authentication.
    pub(crate) fn entry(&self) -> Value {
        json!({
            "issuer": {
                "url": self.url(), "audiences": [CLIENT], "certificateAuthority": self.remote.ca.pem,
            },
            "claimMappings": {"username": {"claim": "sub", "prefix": "file:"}},
        })
    }
}
