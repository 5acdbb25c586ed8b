//! A plugin that signs tokens (`--service-account-signing-endpoint`, KEP-740).
//!
//! The plugin has the keys: it signs what it is given, and says which keys verify. Those are kept, and
//! fetched again as often as the plugin says and when a token names a key that is not known; whoever
//! waits for that waits together. If they cannot be fetched, the old ones stay. Keys of a kind that
//! nothing here verifies (Ed25519) are passed over. Source: `pkg/serviceaccount/externaljwt/plugin`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use component::metrics::Metrics;
use component::{Supervisor, Task};
use parking_lot::RwLock;
use serde::Deserialize;
use tonic::transport::Channel;

use self::metrics::Counted;
use super::keys::{VerifyingKey, verifying};
use crate::flights::Flights;
use crate::plugin::pb::signer::external_jwt_signer_client::ExternalJwtSignerClient;
use crate::plugin::pb::signer::{
    FetchKeysRequest, FetchKeysResponse, MetadataRequest, SignJwtRequest, SignJwtResponse,
};
use crate::plugin::{self, Failed};

mod metrics;

/// How long calls may take: a signature not longer than the request that it is for.
const SIGN_TIMEOUT: Duration = Duration::from_secs(60);
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);
/// Before keys are fetched again that could not be fetched.
const RETRY: Duration = Duration::from_secs(10);
/// A plugin must allow tokens this long, in seconds; upstream's bound.
const SHORTEST: i64 = 600;
const LONGEST_KEY_ID: usize = 1024;
const ALGORITHMS: [&str; 4] = ["RS256", "ES256", "ES384", "ES512"];

/// Why a plugin's answer is not used.
#[derive(thiserror::Error, Clone, Debug)]
pub(super) enum Error {
    #[error("{0}")]
    Call(#[from] Failed),
    #[error("{0}")]
    Answer(String),
}

impl Error {
    fn answer(why: impl Into<String>) -> Self {
        Self::Answer(why.into())
    }
}

/// The plugin and its keys.
pub(super) struct External {
    client: ExternalJwtSignerClient<Channel>,
    keys: RwLock<Set>,
    fetching: Flights<(), Result<(), Error>>,
    counted: Counted,
}

/// The keys as the plugin said them.
#[derive(Clone)]
struct Set {
    keys: Arc<[VerifyingKey]>,
    /// When the plugin got them from where they are kept, in seconds since 1970.
    data: f64,
    /// When they are to be fetched again.
    until: Instant,
}

impl External {
    /// Asks the plugin for its keys and how long tokens may last, and keeps the keys fresh.
    pub(super) async fn open(
        socket: &str,
        tasks: &Supervisor,
        metrics: &Metrics,
    ) -> anyhow::Result<(Arc<Self>, Duration)> {
        const WHAT: &str = "while setting up external-jwt-signer";
        let external = Arc::new(Self {
            client: ExternalJwtSignerClient::new(plugin::connect(socket)),
            keys: RwLock::new(Set {
                keys: Arc::new([]),
                data: 0.0,
                until: Instant::now(),
            }),
            fetching: Flights::default(),
            counted: Counted::register(metrics),
        });
        { external.fetch().await }
            .context("while performing initial cache fill")
            .context(WHAT)?;
        let longest = external.longest().await.context(WHAT)?;
        let keeping = Arc::clone(&external);
        tasks.spawn(Task::Worker, "external-jwt-keys", async move {
            keeping.keep().await;
        });
        Ok((external, longest))
    }

    /// How long tokens may last.
    async fn longest(&self) -> anyhow::Result<Duration> {
        let mut client = self.client.clone();
        let call = async { client.metadata(MetadataRequest {}).await };
        let answer = self.measured("Metadata", METADATA_TIMEOUT, call).await?;
        let seconds = answer.max_token_expiration_seconds;
        match u64::try_from(seconds) {
            Ok(longest) if seconds >= SHORTEST => Ok(Duration::from_secs(longest)),
            _ => bail!(
                "max token life supported by external-jwt-signer ({seconds}s) is less than acceptable (min {SHORTEST}s)"
            ),
        }
    }

    async fn keep(self: &Arc<Self>) {
        let mut until = self.keys.read().until;
        loop {
            tokio::time::sleep_until(until.into()).await;
            until = match self.fetch().await {
                Ok(()) => self.keys.read().until,
                Err(error) => {
                    tracing::error!(%error, "Keys that verify tokens cannot be fetched; the old ones stay");
                    Instant::now() + RETRY
                }
            };
        }
    }

    /// The keys that verify.
    pub(super) fn keys(&self) -> Arc<[VerifyingKey]> {
        Arc::clone(&self.keys.read().keys)
    }

    /// How long they stay.
    pub(super) fn keys_stay(&self) -> Duration {
        self.keys
            .read()
            .until
            .saturating_duration_since(Instant::now())
    }

    /// Fetches the keys if there is none of this name; none is named by an empty one.
    pub(super) async fn learn(self: &Arc<Self>, id: &str) {
        let keys = self.keys();
        let known = keys.iter().any(|key| id.is_empty() || key.id == id);
        if !known && let Err(error) = self.fetch().await {
            tracing::warn!(%error, "The key of a token is not known, and keys cannot be fetched");
        }
    }

    async fn fetch(self: &Arc<Self>) -> Result<(), Error> {
        let this = Arc::clone(self);
        let fetched = self.fetching.join(&(), || async move {
            let mut client = this.client.clone();
            let call = async { client.fetch_keys(FetchKeysRequest {}).await };
            let answer = this.measured("FetchKeys", FETCH_TIMEOUT, call).await;
            let set = answer
                .map_err(Error::from)
                .and_then(|answer| Set::of(&answer));
            this.counted.fetched(set.as_ref().map(|set| set.data));
            *this.keys.write() = set?;
            Ok(())
        });
        fetched.await
    }

    /// The token of encoded claims.
    pub(super) async fn sign(self: &Arc<Self>, claims: &str) -> Result<String, String> {
        let signed = self.signed(claims).await;
        self.counted.signed(signed.as_ref().err());
        signed.map_err(|e| e.to_string())
    }

    async fn signed(self: &Arc<Self>, claims: &str) -> Result<String, Error> {
        let request = SignJwtRequest {
            claims: claims.to_owned(),
        };
        let mut client = self.client.clone();
        let call = async { client.sign(request).await };
        let SignJwtResponse { header, signature } =
            self.measured("Sign", SIGN_TIMEOUT, call).await?;
        let bad = |why| Error::Answer(format!("while validating header: {why}"));
        let id = key_of(&header).map_err(bad)?;
        self.learn(&id).await;
        if self.keys().iter().any(|key| key.id == id && key.hidden) {
            return Err(bad(format!(
                "key used for signing JWT (kid: {id}) is excluded from OIDC discovery docs"
            )));
        }
        if signature.is_empty() {
            return Err(Error::answer("empty signature returned"));
        }
        Ok(format!("{header}.{claims}.{signature}"))
    }

    async fn measured<T>(
        &self,
        method: &str,
        limit: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Failed> {
        let started = Instant::now();
        let answer = plugin::within(limit, call).await;
        let outcome = plugin::outcome(&answer);
        self.counted.called(method, outcome, started.elapsed());
        answer
    }
}

impl Set {
    /// What an answer says.
    fn of(answer: &FetchKeysResponse) -> Result<Self, Error> {
        let seconds = answer.refresh_hint_seconds;
        let hint = u64::try_from(seconds).ok().filter(|s| *s > 0);
        let until = hint.and_then(|s| Instant::now().checked_add(Duration::from_secs(s)));
        let Some(until) = until else {
            return Err(Error::Answer(format!(
                "found invalid refresh hint ({seconds}s)"
            )));
        };
        if answer.keys.is_empty() {
            return Err(Error::answer("found no keys"));
        }
        let stamp = { answer.data_timestamp.as_ref() }
            .filter(|stamp| (0..1_000_000_000).contains(&stamp.nanos))
            .ok_or_else(|| Error::answer("invalid data timestamp"))?;
        let mut keys = Vec::with_capacity(answer.keys.len());
        for key in &answer.keys {
            if key.key_id.is_empty() || key.key_id.len() > LONGEST_KEY_ID {
                return Err(Error::Answer(format!(
                    "found invalid public key id {:?}",
                    key.key_id
                )));
            }
            if key.key.is_empty() {
                return Err(Error::answer("found empty public key"));
            }
            match verifying(&key.key) {
                Ok(known) => keys.push(VerifyingKey {
                    id: key.key_id.clone(),
                    hidden: key.exclude_from_oidc_discovery,
                    ..known
                }),
                Err(error) => {
                    tracing::warn!(key = key.key_id, %error, "A key of the signer of tokens is passed over");
                }
            }
        }
        if keys.is_empty() {
            return Err(Error::answer("found no keys that are supported"));
        }
        Ok(Self {
            keys: keys.into(),
            data: stamp.seconds as f64 + f64::from(stamp.nanos) / 1e9,
            until,
        })
    }
}

/// The key that a header names, which must say this, the algorithm and the type, and nothing else.
fn key_of(header: &str) -> Result<String, String> {
    #[derive(Deserialize, Default)]
    #[serde(default, deny_unknown_fields)]
    struct Header {
        alg: String,
        kid: String,
        typ: String,
    }
    let json = URL_SAFE_NO_PAD.decode(header);
    let json = json.map_err(|e| format!("while unwrapping header: {e}"))?;
    let header: Header =
        serde_json::from_slice(&json).map_err(|e| format!("while parsing header JSON: {e}"))?;
    if header.typ != "JWT" {
        return Err("bad type".to_owned());
    }
    if header.kid.is_empty() {
        return Err("key id missing".to_owned());
    }
    if header.kid.len() > LONGEST_KEY_ID {
        return Err("key id longer than 1 kb".to_owned());
    }
    if !ALGORITHMS.contains(&header.alg.as_str()) {
        return Err(format!("bad signing algorithm {:?}", header.alg));
    }
    Ok(header.kid)
}

#[cfg(test)]
mod tests;
