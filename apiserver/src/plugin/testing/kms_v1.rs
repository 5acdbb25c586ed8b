//! The key management service of tests as one of the first version: what it seals begins with the name of its key.

use std::path::Path;

use tonic::{Request, Response, Status};

use super::Served;
use super::kms::{Kms, opened};
use crate::plugin::pb::kms_v1::key_management_service_server::{
    KeyManagementService, KeyManagementServiceServer,
};
use crate::plugin::pb::kms_v1::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, VersionRequest,
    VersionResponse,
};

impl Kms {
    /// Listens, and speaks the first version.
    #[must_use]
    pub fn serve_v1(&self, socket: &Path) -> Served {
        super::serve(socket, KeyManagementServiceServer::new(self.clone()))
    }
}

#[tonic::async_trait]
impl KeyManagementService for Kms {
    async fn version(
        &self,
        _: Request<VersionRequest>,
    ) -> Result<Response<VersionResponse>, Status> {
        self.called("Version").await;
        Ok(Response::new(VersionResponse {
            version: "v1beta1".to_owned(),
            runtime_name: "test".to_owned(),
            runtime_version: "0.0.1".to_owned(),
        }))
    }

    async fn encrypt(
        &self,
        request: Request<EncryptRequest>,
    ) -> Result<Response<EncryptResponse>, Status> {
        self.called("Encrypt").await;
        let key_id = self.key_id();
        let mut cipher = format!("{key_id}:").into_bytes();
        cipher.extend(Self::sealed(&key_id, &request.into_inner().plain));
        let cipher = cipher.into();
        Ok(Response::new(EncryptResponse { cipher }))
    }

    async fn decrypt(
        &self,
        request: Request<DecryptRequest>,
    ) -> Result<Response<DecryptResponse>, Status> {
        self.called("Decrypt").await;
        let cipher = request.into_inner().cipher;
        let end = cipher.iter().position(|b| *b == b':').unwrap_or_default();
        let key_id = String::from_utf8_lossy(&cipher[..end]);
        match opened(&key_id, cipher.get(end + 1..).unwrap_or_default()) {
            Some(plain) => Ok(Response::new(DecryptResponse {
                plain: plain.into(),
            })),
            None => Err(Status::invalid_argument("it was not sealed here")),
        }
    }
}
