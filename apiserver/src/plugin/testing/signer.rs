//! A signer of tokens.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use tonic::{Request, Response, Status};

use super::Served;
use crate::plugin::pb::signer::external_jwt_signer_server::{
    ExternalJwtSigner, ExternalJwtSignerServer,
};
use crate::plugin::pb::signer::{
    FetchKeysRequest, FetchKeysResponse, Key, MetadataRequest, MetadataResponse, SignJwtRequest,
    SignJwtResponse, Timestamp,
};

/// The beginning of the public key info of a point on P-256 (RFC 5480).
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A key of the signer.
#[derive(Clone)]
pub struct SigningKey {
    id: String,
    pair: Arc<EcdsaKeyPair>,
    hidden: bool,
}

impl SigningKey {
    /// A new one.
    #[must_use]
    pub fn new(id: &str) -> Self {
        let (random, of) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(of, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(of, pkcs8.as_ref(), &random).unwrap();
        Self {
            id: id.to_owned(),
            pair: Arc::new(pair),
            hidden: false,
        }
    }

    /// The same, not told to others.
    #[must_use]
    pub fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// Its public half, as others are told it.
    #[must_use]
    pub fn public(&self) -> Vec<u8> {
        [&P256[..], self.pair.public_key().as_ref()].concat()
    }

    fn sign(&self, text: &str) -> String {
        let signature = self
            .pair
            .sign(&SystemRandom::new(), text.as_bytes())
            .unwrap();
        URL_SAFE_NO_PAD.encode(signature)
    }
}

/// The signer; clones are the same one.
#[derive(Clone)]
pub struct Signer(Arc<Mutex<State>>);

struct State {
    /// The first signs.
    keys: Vec<SigningKey>,
    /// Instead of what it would say.
    header: Option<Value>,
    longest: i64,
    refresh: i64,
    fetches: usize,
}

impl Signer {
    /// One whose tokens last an hour at most, and whose keys are fetched again after a minute.
    #[must_use]
    pub fn new(keys: &[SigningKey]) -> Self {
        Self(Arc::new(Mutex::new(State {
            keys: keys.to_vec(),
            header: None,
            longest: 3600,
            refresh: 60,
            fetches: 0,
        })))
    }

    /// Listens.
    #[must_use]
    pub fn serve(&self, socket: &Path) -> Served {
        super::serve(socket, ExternalJwtSignerServer::new(self.clone()))
    }

    /// Has other keys from now on.
    pub fn rotate(&self, keys: &[SigningKey]) {
        self.0.lock().keys = keys.to_vec();
    }

    /// Has its keys fetched again after so many seconds.
    pub fn refresh_after(&self, seconds: i64) {
        self.0.lock().refresh = seconds;
    }

    /// Lets tokens last so many seconds at most.
    pub fn longest(&self, seconds: i64) {
        self.0.lock().longest = seconds;
    }

    /// Puts something else before tokens.
    pub fn header(&self, header: Option<Value>) {
        self.0.lock().header = header;
    }

    /// How often its keys were fetched.
    #[must_use]
    pub fn fetches(&self) -> usize {
        self.0.lock().fetches
    }
}

#[tonic::async_trait]
impl ExternalJwtSigner for Signer {
    async fn sign(
        &self,
        request: Request<SignJwtRequest>,
    ) -> Result<Response<SignJwtResponse>, Status> {
        let state = self.0.lock();
        let key = state
            .keys
            .first()
            .ok_or_else(|| Status::unavailable("no key"))?;
        let own = json!({"alg": "ES256", "kid": key.id, "typ": "JWT"});
        let header = URL_SAFE_NO_PAD.encode(state.header.as_ref().unwrap_or(&own).to_string());
        let signature = key.sign(&format!("{header}.{}", request.into_inner().claims));
        Ok(Response::new(SignJwtResponse { header, signature }))
    }

    async fn fetch_keys(
        &self,
        _: Request<FetchKeysRequest>,
    ) -> Result<Response<FetchKeysResponse>, Status> {
        let mut state = self.0.lock();
        state.fetches += 1;
        let key = |of: &SigningKey| Key {
            key_id: of.id.clone(),
            key: of.public().into(),
            exclude_from_oidc_discovery: of.hidden,
        };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Ok(Response::new(FetchKeysResponse {
            keys: state.keys.iter().map(key).collect(),
            data_timestamp: Some(Timestamp {
                seconds: i64::try_from(since.as_secs()).unwrap(),
                nanos: 0,
            }),
            refresh_hint_seconds: state.refresh,
        }))
    }

    async fn metadata(
        &self,
        _: Request<MetadataRequest>,
    ) -> Result<Response<MetadataResponse>, Status> {
        let max_token_expiration_seconds = self.0.lock().longest;
        Ok(Response::new(MetadataResponse {
            max_token_expiration_seconds,
        }))
    }
}
