//! A key management service whose keys follow from their names, so that it opens what it sealed in
//! another life.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};

use super::Served;
use crate::plugin::pb::kms::key_management_service_server::{
    KeyManagementService, KeyManagementServiceServer,
};
use crate::plugin::pb::kms::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, StatusRequest, StatusResponse,
};

/// The annotation that it wants back.
const ANNOTATION: &str = "key.kms.example.com";

/// The service; clones are the same one.
#[derive(Clone)]
pub struct Kms(Arc<Mutex<State>>);

struct State {
    key_id: String,
    /// What it says that it seals with, if that is another key.
    said: Option<String>,
    healthz: String,
    silent: bool,
    calls: BTreeMap<&'static str, usize>,
}

impl Kms {
    /// One that is well.
    #[must_use]
    pub fn new(key_id: &str) -> Self {
        Self(Arc::new(Mutex::new(State {
            key_id: key_id.to_owned(),
            said: None,
            healthz: "ok".to_owned(),
            silent: false,
            calls: BTreeMap::new(),
        })))
    }

    /// Listens.
    #[must_use]
    pub fn serve(&self, socket: &Path) -> Served {
        super::serve(socket, KeyManagementServiceServer::new(self.clone()))
    }

    /// Seals with another key from now on.
    pub fn rotate(&self, key_id: &str) {
        self.0.lock().key_id = key_id.to_owned();
    }

    /// Says that it seals with a key with which it does not.
    pub fn pretend(&self, key_id: Option<&str>) {
        self.0.lock().said = key_id.map(str::to_owned);
    }

    /// Says how it is.
    pub fn say(&self, healthz: &str) {
        self.0.lock().healthz = healthz.to_owned();
    }

    /// Answers nobody, or again.
    pub fn silence(&self, silent: bool) {
        self.0.lock().silent = silent;
    }

    /// How often `Status`, `Encrypt` or `Decrypt` was asked.
    #[must_use]
    pub fn calls(&self, method: &str) -> usize {
        self.0.lock().calls.get(method).copied().unwrap_or_default()
    }

    /// What a key seals.
    #[must_use]
    pub fn sealed(key_id: &str, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).unwrap();
        let mut text = plain.to_vec();
        key(key_id)
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut text)
            .unwrap();
        [&nonce[..], &text].concat()
    }

    pub(super) fn key_id(&self) -> String {
        self.0.lock().key_id.clone()
    }

    pub(super) async fn called(&self, method: &'static str) {
        let silent = {
            let mut state = self.0.lock();
            *state.calls.entry(method).or_default() += 1;
            state.silent
        };
        if silent {
            std::future::pending::<()>().await;
        }
    }
}

/// The key of that name.
fn key(id: &str) -> LessSafeKey {
    let secret = Sha256::digest(format!("the key {id}"));
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &secret).unwrap())
}

pub(super) fn opened(key_id: &str, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut text = text.to_vec();
    let plain = key(key_id)
        .open_in_place(nonce, Aad::empty(), &mut text)
        .ok()?;
    Some(plain.to_vec())
}

#[tonic::async_trait]
impl KeyManagementService for Kms {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        self.called("Status").await;
        let state = self.0.lock();
        Ok(Response::new(StatusResponse {
            version: "v2".to_owned(),
            healthz: state.healthz.clone(),
            key_id: state.said.as_ref().unwrap_or(&state.key_id).clone(),
        }))
    }

    async fn encrypt(
        &self,
        request: Request<EncryptRequest>,
    ) -> Result<Response<EncryptResponse>, Status> {
        self.called("Encrypt").await;
        let key_id = self.key_id();
        let sealed = Self::sealed(&key_id, &request.into_inner().plaintext);
        let annotation = (ANNOTATION.to_owned(), Bytes::from(key_id.clone()));
        Ok(Response::new(EncryptResponse {
            ciphertext: sealed.into(),
            key_id,
            annotations: [annotation].into(),
        }))
    }

    async fn decrypt(
        &self,
        request: Request<DecryptRequest>,
    ) -> Result<Response<DecryptResponse>, Status> {
        self.called("Decrypt").await;
        let request = request.into_inner();
        let annotation = request.annotations.get(ANNOTATION);
        if annotation.is_some_and(|id| *id != request.key_id.as_bytes()) {
            return Err(Status::invalid_argument("the annotation is of another key"));
        }
        match opened(&request.key_id, &request.ciphertext) {
            Some(plain) => Ok(Response::new(DecryptResponse {
                plaintext: plain.into(),
            })),
            None => Err(Status::invalid_argument("it was not sealed here")),
        }
    }
}
