//! Calls of a plugin, each within the time that the configuration gives them, and measured.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tonic::transport::Channel;

use super::envelope::Source;
use super::metrics::Counted;
use crate::plugin::pb::kms::key_management_service_client::KeyManagementServiceClient;
use crate::plugin::pb::kms::{DecryptRequest, EncryptRequest, StatusRequest, StatusResponse};
use crate::plugin::{self, Failed};

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Service {
    client: KeyManagementServiceClient<Channel>,
    timeout: Duration,
    counted: Counted,
}

/// What a plugin sealed.
pub(super) struct Sealed {
    pub(super) ciphertext: Bytes,
    pub(super) key_id: String,
    pub(super) annotations: BTreeMap<String, Bytes>,
}

impl Service {
    pub(super) fn new(socket: &str, timeout: Duration, counted: Counted) -> Self {
        Self {
            client: KeyManagementServiceClient::new(plugin::connect(socket)),
            timeout,
            counted,
        }
    }

    pub(super) async fn status(&self) -> Result<StatusResponse, Failed> {
        let mut client = self.client.clone();
        let call = async { client.status(StatusRequest {}).await };
        self.measured("Status", call).await
    }

    pub(super) async fn encrypt(&self, uid: &str, plain: &[u8]) -> Result<Sealed, Failed> {
        let request = EncryptRequest {
            plaintext: Bytes::copy_from_slice(plain),
            uid: uid.to_owned(),
        };
        let mut client = self.client.clone();
        let call = async { client.encrypt(request).await };
        let answer = self.measured("Encrypt", call).await?;
        Ok(Sealed {
            ciphertext: answer.ciphertext,
            key_id: answer.key_id,
            annotations: answer.annotations,
        })
    }

    pub(super) async fn decrypt(&self, uid: &str, source: &Source) -> Result<Bytes, Failed> {
        let request = DecryptRequest {
            ciphertext: source.sealed().clone(),
            uid: uid.to_owned(),
            key_id: source.key_id().to_owned(),
            annotations: source.annotations().clone(),
        };
        let mut client = self.client.clone();
        let call = async { client.decrypt(request).await };
        Ok(self.measured("Decrypt", call).await?.plaintext)
    }

    async fn measured<T>(
        &self,
        method: &str,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Failed> {
        let started = Instant::now();
        let answer = plugin::within(self.timeout, call).await;
        let outcome = plugin::outcome(&answer);
        self.counted.called(method, outcome, started.elapsed());
        answer
    }
}
