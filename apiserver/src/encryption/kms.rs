//! Key management services: plugins that seal the keys of values (KMS v2, KEP-3299).
//!
//! A plugin seals a seed of this server once; the sealed seed lies beside every value that the seed
//! seals ([`envelope`], [`dek`]). So a value is sealed without asking anybody, and opened without it if
//! its seed is known: the one in use, or one that the plugin opened before. What is not known is
//! [`Locked`] and waits for the plugin; those that wait for the same seed ask once.
//!
//! The plugin is asked for its status again and again ([`probe`]). When it seals by another key, a new
//! seed takes over, and what was sealed before is stale. If it cannot be asked for three minutes,
//! nothing is sealed any more, as upstream has it: whoever replaces a key may count on that. Reading
//! goes on. Source: `encrypt/envelope/kmsv2`, `server/options/encryptionconfig`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use component::recent::Recent;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use store::entry::{Opened, TransformError};
use tokio::time::Instant;

use self::dek::{Dek, Seed};
use self::envelope::{Digest, Source};
use self::metrics::{Counted, Uses};
use self::probe::Probed;
use self::service::Service;
use super::choice::{Layer, Opening, refusal};
use super::metrics::Direction;
use crate::flights::Flights;
use crate::plugin::{NOT_GRPC, code_name};
use crate::reload::hash;

mod dek;
pub(crate) mod envelope;
mod metrics;
mod probe;
mod service;
pub(super) mod v1;

pub(super) use metrics::Registered as KmsMetrics;
pub(super) use probe::{Plugin, Probing};

/// How values begin that a plugin's keys seal; its name follows, and a colon.
pub(super) const PREFIX: &str = "k8s:enc:kms:v2:";
/// How long a seed seals after the plugin was last found well; upstream's figure.
const SEALS_FOR: Duration = Duration::from_secs(3 * 60);
/// Seeds that are remembered, some 300 bytes each: one for each start of a server and each key of the
/// plugin, as long as values are stored that it sealed.
const SEEDS: usize = 10_000;

/// A plugin as the configuration names it.
pub(super) struct Settings {
    pub(super) name: String,
    /// As [`crate::plugin::connect`] takes it.
    pub(super) socket: String,
    /// Of each call.
    pub(super) timeout: Duration,
    /// Of the first version: how many keys are remembered, if any.
    pub(super) cache: Option<usize>,
}

/// A plugin and what it opened.
pub(super) struct Provider {
    name: String,
    timeout: Duration,
    service: Service,
    counted: Counted,
    state: RwLock<Option<State>>,
    known: Mutex<Recent<Digest, Arc<Known>>>,
    asked: Flights<Digest, Result<Arc<Known>, Refused>>,
    probed: tokio::sync::Mutex<Probed>,
}

/// What seals, and until when it does.
#[derive(Clone)]
struct State {
    key: Arc<WriteKey>,
    until: Instant,
}

/// A seed of this server, in all its forms.
struct WriteKey {
    seed: Seed,
    source: Source,
    /// What stands behind every value.
    tail: Vec<u8>,
    known: Arc<Known>,
    uses: Uses,
}

/// A seed or a key that opens values.
struct Known {
    dek: Dek,
    uses: Uses,
}

/// Why a value is not opened whose seed was not known.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(super) error: TransformError,
    /// Of gRPC, where the plugin was the reason.
    code: Option<&'static str>,
}

impl Refused {
    /// What metrics call it.
    pub(super) fn code(&self) -> &'static str {
        self.code.unwrap_or(NOT_GRPC)
    }
}

impl From<TransformError> for Refused {
    fn from(error: TransformError) -> Self {
        Self { error, code: None }
    }
}

/// A value whose key is not known.
pub(crate) struct Locked {
    by: Box<dyn Unlock>,
    pub(super) stale: bool,
}

/// Who opens a value by asking a plugin.
trait Unlock: Send {
    fn open(self: Box<Self>, key: &str) -> BoxFuture<'_, Result<Opened, Refused>>;
}

/// A value whose seed is not known.
struct Waiting {
    provider: Arc<Provider>,
    source: Source,
    digest: Digest,
    data: Bytes,
}

impl State {
    /// # Errors
    /// If the time is over in which it seals.
    fn check(&self, now: Instant) -> Result<(), TransformError> {
        let Some(late) = now
            .checked_duration_since(self.until)
            .filter(|late| !late.is_zero())
        else {
            return Ok(());
        };
        let wall = crate::reload::now();
        let print = |seconds: f64| proto::time::print_time(seconds as i64);
        Err(refusal(format!(
            "encryptedDEKSource with keyID hash {:?} expired at {} (current time is {})",
            hash(self.key.source.key_id()),
            print(wall - late.as_secs_f64()),
            print(wall),
        )))
    }
}

impl Known {
    fn open(&self, key: &str, data: &Bytes) -> Result<Opened, TransformError> {
        self.uses.note();
        self.dek.open(key, data)
    }
}

impl Provider {
    /// A plugin that nobody has asked anything yet.
    pub(super) fn new(settings: Settings, metrics: &KmsMetrics) -> Arc<Self> {
        let counted = metrics.of(&settings.name);
        Arc::new(Self {
            service: Service::new(&settings.socket, settings.timeout, counted.clone()),
            name: settings.name,
            timeout: settings.timeout,
            counted,
            state: RwLock::new(None),
            known: Mutex::new(Recent::new(SEEDS)),
            asked: Flights::default(),
            probed: tokio::sync::Mutex::default(),
        })
    }

    /// How long a call may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// # Errors
    /// If the plugin never was well. Upstream refuses to open values then, too: nobody knows which
    /// are stale.
    fn state(&self) -> Result<State, TransformError> {
        let state = self.state.read().clone();
        state.ok_or_else(|| refusal("got unexpected nil transformer"))
    }

    /// A new seed, sealed by the plugin.
    async fn generate(&self, uid: &str) -> Result<WriteKey, String> {
        let (seed, plain) = self
            .counted
            .generated(Seed::generate)
            .map_err(|e| e.reason)?;
        let sealed = self.service.encrypt(uid, &plain).await;
        let sealed = sealed.map_err(|e| format!("failed to encrypt DEK, error: {e}"))?;
        let source = Source::of_seed(sealed.ciphertext, sealed.key_id, sealed.annotations)?;
        let known = self.known(seed.dek(), source.key_id());
        Ok(WriteKey {
            tail: source.tail(),
            uses: self.counted.uses(source.key_id(), Direction::ToStorage),
            known,
            seed,
            source,
        })
    }

    fn known(&self, dek: Dek, key_id: &str) -> Arc<Known> {
        let uses = self.counted.uses(key_id, Direction::FromStorage);
        Arc::new(Known { dek, uses })
    }

    fn remember(&self, digest: Digest, known: &Arc<Known>) {
        let size = {
            let mut all = self.known.lock();
            all.insert(digest, Arc::clone(known));
            all.len()
        };
        self.counted.cached(size);
    }

    fn remembered(&self, digest: &Digest) -> Option<Arc<Known>> {
        self.known.lock().touch(digest).cloned()
    }

    /// What opens values with this source: the plugin is asked, once for all that ask at a time.
    async fn unlock(
        self: &Arc<Self>,
        source: &Source,
        digest: Digest,
    ) -> Result<Arc<Known>, Refused> {
        self.counted.missed();
        let call = || {
            let (this, source) = (Arc::clone(self), source.clone());
            async move {
                // The one before may have just come back.
                if let Some(known) = this.remembered(&digest) {
                    return Ok(known);
                }
                let uid = uuid::Uuid::new_v4().to_string();
                let plain = this.service.decrypt(&uid, &source).await;
                let plain = plain.map_err(|e| Refused {
                    error: refusal(format!("failed to decrypt DEK, error: {e}")),
                    code: Some(code_name(e.code)),
                })?;
                let dek = Dek::new(&plain, source.is_seed()).map_err(refusal)?;
                let known = this.known(dek, source.key_id());
                this.remember(digest, &known);
                Ok(known)
            }
        };
        self.asked.join(&digest, call).await
    }
}

impl Locked {
    fn new(by: impl Unlock + 'static) -> Self {
        let by = Box::new(by);
        Self { by, stale: false }
    }

    /// Opens the value, once the plugin has opened its key.
    pub(super) async fn open(self, key: &str) -> Result<Opened, Refused> {
        let opened = self.by.open(key).await?;
        let stale = opened.stale | self.stale;
        Ok(Opened { stale, ..opened })
    }
}

impl Unlock for Waiting {
    fn open(self: Box<Self>, key: &str) -> BoxFuture<'_, Result<Opened, Refused>> {
        async move {
            let known = self.provider.unlock(&self.source, self.digest).await?;
            Ok(known.open(key, &self.data)?)
        }
        .boxed()
    }
}

/// A plugin as one who seals and opens.
pub(super) struct Kms(pub(super) Arc<Provider>);

impl Layer for Kms {
    fn open(&self, key: &str, sealed: &Bytes) -> Result<Opening, TransformError> {
        let (source, data) = envelope::parse(sealed.clone()).map_err(refusal)?;
        let current = self.0.state()?.key;
        let stale = source.key_id() != current.source.key_id() || !source.is_seed();
        let opening = if source == current.source {
            Opening::Open(current.known.open(key, &data)?)
        } else {
            let digest = source.digest();
            match self.0.remembered(&digest) {
                Some(known) => Opening::Open(known.open(key, &data)?),
                None => Opening::Locked(Locked::new(Waiting {
                    provider: Arc::clone(&self.0),
                    source,
                    digest,
                    data,
                })),
            }
        };
        Ok(opening.stale_if(stale))
    }

    fn seal(&self, key: &str, value: &[u8], out: &mut Vec<u8>) -> Result<(), TransformError> {
        let state = self.0.state()?;
        state.check(Instant::now())?;
        let by = &state.key;
        envelope::begin(out, Seed::sealed_len(value.len()));
        by.seed.seal(key, value, out)?;
        out.extend_from_slice(&by.tail);
        by.uses.note();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
