//! The first version of key management services (gate `KMSv1`, deprecated), for clusters that have it yet.
//!
//! Each value is sealed by a key of its own, which the plugin seals: its length in two bytes, the sealed
//! key, and the value in AES-GCM. So every write asks the plugin, and so does a read whose key is not
//! remembered. Upstream once wrote AES-CBC, which is opened still, and stale then. A plugin is well if it
//! opens what it sealed; nobody asks unless somebody asks for health. Source: `encrypt/envelope/envelope.go`,
//! `encrypt/envelope/grpc_service.go`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use component::recent::Recent;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use store::entry::{Opened, TransformError};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tonic::Code;
use tonic::transport::Channel;

use super::metrics::Counted;
use super::probe::Asked;
use super::{KmsMetrics, Locked, Refused, Settings, Unlock, code_name, refusal};
use crate::encryption::choice::{Fresh, Layer, Opening};
use crate::encryption::cipher;
use crate::encryption::metrics::Direction;
use crate::flights::Flights;
use crate::plugin::pb::kms_v1::key_management_service_client::KeyManagementServiceClient;
use crate::plugin::pb::kms_v1::{DecryptRequest, EncryptRequest, VersionRequest};
use crate::plugin::{self, Failed};

/// How values begin; the plugin's name follows, and a colon.
pub(in crate::encryption) const PREFIX: &str = "k8s:enc:kms:v1:";
/// What is spoken.
const VERSION: &str = "v1beta1";
/// What a plugin seals and opens to show that it is well.
const PING: &[u8] = b"ping";

/// A plugin and the keys that it opened.
pub(in crate::encryption) struct Provider {
    name: String,
    service: Service,
    counted: Counted,
    /// None if no key is to be remembered.
    known: Option<Known>,
    asked: Flights<Bytes, Result<Arc<Dek>, Refused>>,
    probed: tokio::sync::Mutex<Asked>,
}

/// Keys by how they are sealed.
struct Known {
    keys: Mutex<Recent<Bytes, Arc<Dek>>>,
    most: usize,
}

/// The key of one value.
struct Dek {
    gcm: Box<dyn Layer>,
    cbc: Box<dyn Layer>,
}

impl Dek {
    fn new(key: &[u8]) -> Result<Self, TransformError> {
        match (cipher::aes_gcm(key), cipher::aes_cbc(key)) {
            (Some(gcm), Some(cbc)) => Ok(Self { gcm, cbc }),
            _ => Err(refusal(format!(
                "crypto/aes: invalid key size {}",
                key.len()
            ))),
        }
    }

    fn open(&self, key: &str, data: &Bytes) -> Result<Opened, TransformError> {
        let gcm = match self.gcm.open(key, data).and_then(Opening::at_once) {
            Ok(opened) => return Ok(opened),
            Err(refused) => refused.reason,
        };
        let cbc = self.cbc.open(key, data).and_then(Opening::at_once);
        let opened = cbc.map_err(|cbc| refusal(format!("[{gcm}, {}]", cbc.reason)))?;
        Ok(Opened {
            stale: true,
            ..opened
        })
    }
}

impl Provider {
    pub(in crate::encryption) fn new(settings: Settings, metrics: &KmsMetrics) -> Arc<Self> {
        Arc::new(Self {
            service: Service {
                client: KeyManagementServiceClient::new(plugin::connect(&settings.socket)),
                timeout: settings.timeout,
                checked: OnceCell::new(),
            },
            counted: metrics.of(&settings.name),
            name: settings.name,
            known: settings.cache.map(|most| Known {
                keys: Mutex::new(Recent::new(most)),
                most,
            }),
            asked: Flights::default(),
            probed: tokio::sync::Mutex::default(),
        })
    }

    /// How long the health check may take: two calls.
    pub(super) fn timeout(&self) -> Duration {
        self.service.timeout * 2
    }

    /// Whether the plugin opens what it seals; found out a moment ago, or now.
    pub(super) async fn check(&self) -> Result<(), String> {
        let mut probed = self.probed.lock().await;
        if let Some(result) = probed.believed(Instant::now()) {
            return result;
        }
        let result = self.probe().await;
        if let Err(error) = &result {
            let provider = &self.name;
            tracing::error!(provider, error, "A key management service is not well");
        }
        probed.note(&result);
        result
    }

    async fn probe(&self) -> Result<(), String> {
        let failed = |section: &str, error: &Failed| {
            let name = &self.name;
            format!(
                "failed to perform {section} section of the healthz check for KMS Provider {name}, error: {error}"
            )
        };
        let sealed = self.service.encrypt(PING).await;
        let sealed = sealed.map_err(|e| failed("encrypt", &e))?;
        let opened = self.service.decrypt(&sealed).await;
        opened.map(drop).map_err(|e| failed("decrypt", &e))
    }

    fn remembered(&self, sealed: &Bytes) -> Option<Arc<Dek>> {
        let mut keys = self.known.as_ref()?.keys.lock();
        keys.touch(sealed).cloned()
    }

    fn remember(&self, sealed: Bytes, dek: &Arc<Dek>) {
        let Some(known) = &self.known else {
            return;
        };
        // A key of its own: the one in hand would keep the whole value.
        let sealed = Bytes::copy_from_slice(&sealed);
        let mut keys = known.keys.lock();
        keys.insert(sealed, Arc::clone(dek));
        self.counted.filled(keys.len(), known.most);
    }

    /// The key, which the plugin opens: it is asked once for all that ask at a time.
    async fn unlock(self: &Arc<Self>, sealed: &Bytes) -> Result<Arc<Dek>, Refused> {
        if self.known.is_some() {
            self.counted.missed();
        }
        let call = || {
            let (this, sealed) = (Arc::clone(self), sealed.clone());
            async move {
                // The one before may have just come back.
                if let Some(known) = this.remembered(&sealed) {
                    return Ok(known);
                }
                let plain = this.service.decrypt(&sealed).await?;
                let dek = Arc::new(Dek::new(&plain)?);
                this.remember(sealed, &dek);
                Ok(dek)
            }
        };
        self.asked.join(sealed, call).await
    }

    /// A new key, and how it is sealed.
    async fn generate(&self) -> Result<Sealing, Refused> {
        self.counted.arrived(Direction::ToStorage);
        let key = self.counted.generated(cipher::random::<32>)?;
        let sealed = self.service.encrypt(&key).await?;
        let length = u16::try_from(sealed.len())
            .map_err(|_| refusal("the plugin's sealed key is longer than 65535 bytes"))?;
        let dek = Arc::new(Dek::new(&key)?);
        self.remember(sealed.clone(), &dek);
        Ok(Sealing {
            dek,
            length,
            sealed,
        })
    }
}

/// Seals one value.
struct Sealing {
    dek: Arc<Dek>,
    length: u16,
    sealed: Bytes,
}

impl Layer for Sealing {
    fn open(&self, key: &str, sealed: &Bytes) -> Result<Opening, TransformError> {
        let data = parse(sealed)?.1;
        self.dek.open(key, &data).map(Opening::Open)
    }

    fn seal(&self, key: &str, value: &[u8], out: &mut Vec<u8>) -> Result<(), TransformError> {
        out.extend_from_slice(&self.length.to_be_bytes());
        out.extend_from_slice(&self.sealed);
        self.dek.gcm.seal(key, value, out)
    }
}

/// The sealed key and the data.
fn parse(sealed: &Bytes) -> Result<(Bytes, Bytes), TransformError> {
    let end = sealed
        .first_chunk()
        .map(|length| 2 + usize::from(u16::from_be_bytes(*length)))
        .filter(|end| *end <= sealed.len());
    let end = end.ok_or_else(|| {
        refusal("invalid data encountered by envelope transformer: failed to read uint16 length prefixed data")
    })?;
    Ok((sealed.slice(2..end), sealed.slice(end..)))
}

/// A value whose key is not known.
struct Waiting {
    provider: Arc<Provider>,
    sealed: Bytes,
    data: Bytes,
}

impl Unlock for Waiting {
    fn open(self: Box<Self>, key: &str) -> BoxFuture<'_, Result<Opened, Refused>> {
        async move {
            let dek = self.provider.unlock(&self.sealed).await?;
            Ok(dek.open(key, &self.data)?)
        }
        .boxed()
    }
}

/// A plugin as one who seals and opens.
pub(in crate::encryption) struct Kms(pub(in crate::encryption) Arc<Provider>);

impl Layer for Kms {
    fn open(&self, key: &str, sealed: &Bytes) -> Result<Opening, TransformError> {
        self.0.counted.arrived(Direction::FromStorage);
        let (sealed, data) = parse(sealed)?;
        if let Some(dek) = self.0.remembered(&sealed) {
            return dek.open(key, &data).map(Opening::Open);
        }
        let provider = Arc::clone(&self.0);
        Ok(Opening::Locked(Locked::new(Waiting {
            provider,
            sealed,
            data,
        })))
    }

    fn seal(&self, _: &str, _: &[u8], _: &mut Vec<u8>) -> Result<(), TransformError> {
        Err(refusal("a plugin has to be asked for the key"))
    }

    fn fresh(&self) -> Option<Fresh> {
        let provider = Arc::clone(&self.0);
        let sealing = async move {
            let sealing = provider.generate().await?;
            Ok(Box::new(sealing) as Box<dyn Layer>)
        };
        Some(sealing.boxed())
    }
}

impl From<Failed> for Refused {
    /// As the plugin said it.
    fn from(failed: Failed) -> Self {
        Self {
            code: Some(code_name(failed.code)),
            error: refusal(failed.to_string()),
        }
    }
}

/// Calls of a plugin, each within its time.
struct Service {
    client: KeyManagementServiceClient<Channel>,
    timeout: Duration,
    /// It said once that it speaks this version.
    checked: OnceCell<()>,
}

impl Service {
    async fn encrypt(&self, plain: &[u8]) -> Result<Bytes, Failed> {
        let request = EncryptRequest {
            version: VERSION.to_owned(),
            plain: Bytes::copy_from_slice(plain),
        };
        let mut client = self.client.clone();
        let answer = self.within(async { client.encrypt(request).await }).await?;
        Ok(answer.cipher)
    }

    async fn decrypt(&self, sealed: &Bytes) -> Result<Bytes, Failed> {
        let request = DecryptRequest {
            version: VERSION.to_owned(),
            cipher: sealed.clone(),
        };
        let mut client = self.client.clone();
        let answer = self.within(async { client.decrypt(request).await }).await?;
        Ok(answer.plain)
    }

    /// A call, after the version was asked for once, both in the time of one.
    async fn within<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Failed> {
        let both = async {
            self.checked.get_or_try_init(|| self.version()).await?;
            call.await
        };
        plugin::within(self.timeout, both).await
    }

    async fn version(&self) -> Result<(), tonic::Status> {
        let request = VersionRequest {
            version: VERSION.to_owned(),
        };
        let said = self.client.clone().version(request).await;
        // Upstream wraps it, and so the code is lost.
        let unknown = |text| tonic::Status::new(Code::Unknown, text);
        let said = said.map_err(|e| {
            let failed = Failed::from(e);
            unknown(format!(
                "failed get version from remote KMS provider: {failed}"
            ))
        })?;
        match said.into_inner().version {
            version if version == VERSION => Ok(()),
            other => Err(unknown(format!(
                "KMS provider api version {other} is not supported, only {VERSION} is supported now"
            ))),
        }
    }
}

#[cfg(test)]
mod tests;
