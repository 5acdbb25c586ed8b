//! How a plugin is, asked again and again: that keeps the seed that seals good, and replaces it when the
//! plugin has another key.
//!
//! Who asks for health asks here, too. An answer is believed for a while, a bad one shorter than a good
//! one; all figures are upstream's (`server/options/encryptionconfig/config.go`).

use std::sync::Arc;
use std::time::Duration;

use component::{Supervisor, Task};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::envelope::check_key_id;
use super::{Provider, SEALS_FOR, State, WriteKey, v1};
use crate::plugin::pb::kms::StatusResponse;
use crate::reload::hash;

/// How long an answer is believed.
const GOOD_FOR: Duration = Duration::from_secs(20);
const BAD_FOR: Duration = Duration::from_secs(3);
/// Between two questions of a plugin that is well, and of one that is not.
const WELL: Duration = Duration::from_secs(60);
const ILL: Duration = Duration::from_secs(10);
/// The versions that are spoken, which are the same.
const VERSIONS: [&str; 2] = ["v2", "v2beta1"];

/// What was last found, and when.
#[derive(Default)]
pub(super) struct Asked(Option<(Instant, Result<(), String>)>);

impl Asked {
    /// The last answer, if it is believed still.
    pub(super) fn believed(&self, now: Instant) -> Option<Result<(), String>> {
        let (at, result) = self.0.as_ref()?;
        let believed = if result.is_ok() { GOOD_FOR } else { BAD_FOR };
        (now.duration_since(*at) < believed).then(|| result.clone())
    }

    pub(super) fn note(&mut self, result: &Result<(), String>) {
        self.0 = Some((Instant::now(), result.clone()));
    }
}

/// What is known of a plugin.
#[derive(Default)]
pub(super) struct Probed {
    last: Asked,
    /// Of the plugin, which keeps it.
    version: Option<String>,
}

impl Probed {
    /// What is wrong with an answer, apart from its key.
    fn problems(&mut self, answer: &StatusResponse) -> Vec<String> {
        let mut problems = Vec::new();
        if answer.healthz != "ok" {
            problems.push(format!("got unexpected healthz status: {}", answer.healthz));
        }
        let given = answer.version.as_str();
        if VERSIONS.contains(&given) {
            let first = self.version.get_or_insert_with(|| given.to_owned());
            if first != given {
                problems.push(format!(
                    "KMSv2 API version should not change after the initial status response version {first}, got {given}"
                ));
            }
        } else {
            problems.push(format!("expected KMSv2 API version v2, got {given}"));
        }
        problems
    }
}

/// A plugin of either version.
#[derive(Clone)]
pub(in crate::encryption) enum Plugin {
    V1(Arc<v1::Provider>),
    V2(Arc<Provider>),
}

impl Plugin {
    /// How it is.
    ///
    /// # Errors
    /// What is wrong.
    pub(in crate::encryption) async fn check(&self) -> Result<(), String> {
        match self {
            Self::V1(provider) => provider.check().await,
            Self::V2(provider) => provider.check().await,
        }
    }

    /// How long that may take.
    pub(in crate::encryption) fn timeout(&self) -> Duration {
        match self {
            Self::V1(provider) => provider.timeout(),
            Self::V2(provider) => provider.timeout(),
        }
    }
}

/// A plugin that is asked until this is dropped.
pub(in crate::encryption) struct Probing {
    pub(in crate::encryption) plugin: Plugin,
    _until: DropGuard,
}

impl Probing {
    /// Asks one of the second version once, and then in the background.
    pub(in crate::encryption) async fn start(plugin: Plugin, tasks: &Supervisor) -> Self {
        let provider = match &plugin {
            Plugin::V2(provider) => Arc::clone(provider),
            Plugin::V1(_) => {
                let _until = CancellationToken::new().drop_guard();
                return Self { plugin, _until };
            }
        };
        // Values that are read at once are opened, if the plugin is there. If it is not, it may yet come.
        let first = provider.check().await;
        let stop = CancellationToken::new();
        let (until, of) = (stop.clone(), Arc::clone(&provider));
        tasks.spawn(Task::Worker, "kms-provider", async move {
            tokio::select! {
                () = until.cancelled() => {}
                () = of.watch(first.is_ok()) => {}
            }
        });
        Self {
            plugin,
            _until: stop.drop_guard(),
        }
    }
}

impl Provider {
    async fn watch(&self, mut well: bool) {
        loop {
            tokio::time::sleep(if well { WELL } else { ILL }).await;
            well = self.check().await.is_ok();
        }
    }

    /// Whether the plugin is well and its key is used; found out a moment ago, or now.
    ///
    /// # Errors
    /// What is wrong.
    pub(in crate::encryption) async fn check(&self) -> Result<(), String> {
        let mut probed = self.probed.lock().await;
        if let Some(result) = probed.last.believed(Instant::now()) {
            return result;
        }
        let result = self.probe(&mut probed).await;
        if let Err(error) = &result {
            tracing::error!(
                provider = self.name,
                error,
                "A key management service is not well"
            );
        }
        probed.last.note(&result);
        result
    }

    pub(super) async fn probe(&self, probed: &mut Probed) -> Result<(), String> {
        let name = &self.name;
        let answer = self.service.status().await.map_err(|e| {
            format!("failed to perform status section of the healthz check for KMS Provider {name}, error: {e}")
        })?;
        let mut problems = probed.problems(&answer);
        match check_key_id(&answer.key_id) {
            Err(bad) => {
                self.counted.bad_key_id(bad);
                problems.push(format!(
                    "got invalid KMSv2 KeyID hash {:?}: {bad}",
                    hash(&answer.key_id)
                ));
            }
            Ok(()) => {
                self.counted.said(&answer.key_id);
                problems.extend(self.follow(&answer.key_id).await.err());
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(format!(
            "kmsv2 Provider {name} is not healthy, error: {}",
            proto::path::aggregate(&problems)
        ))
    }

    /// Goes on sealing, if the plugin has the same key; else by a new seed. If that cannot be had, the
    /// old one seals as long as it would have.
    async fn follow(&self, key_id: &str) -> Result<(), String> {
        // Before the plugin is asked: it is the longest that a replaced key is used.
        let until = Instant::now() + SEALS_FOR;
        let current = self
            .state
            .read()
            .as_ref()
            .map(|state| Arc::clone(&state.key));
        if let Some(key) = current.as_ref().filter(|key| key.source.key_id() == key_id) {
            *self.state.write() = Some(State {
                key: Arc::clone(key),
                until,
            });
            return Ok(());
        }
        let uid = uuid::Uuid::new_v4().to_string();
        let made = self.generate(&uid).await;
        match made {
            Ok(key) if key.source.key_id() == key_id => {
                let key = Arc::new(key);
                self.remember(key.source.digest(), &key.known);
                tracing::info!(
                    provider = self.name,
                    uid,
                    key = hash(key_id),
                    "A new seed seals"
                );
                *self.state.write() = Some(State { key, until });
                Ok(())
            }
            other => {
                let of = |key: Option<&WriteKey>| hash(key.map_or("", |key| key.source.key_id()));
                Err(format!(
                    "failed to rotate DEK uid={uid:?}, errGen={}, statusKeyIDHash={:?}, encryptKeyIDHash={:?}, stateKeyIDHash={:?}",
                    other.as_ref().err().map_or("<nil>", String::as_str),
                    hash(key_id),
                    of(other.as_ref().ok()),
                    of(current.as_deref()),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(version: &str, healthz: &str) -> StatusResponse {
        StatusResponse {
            version: version.to_owned(),
            healthz: healthz.to_owned(),
            key_id: "k".to_owned(),
        }
    }

    #[test]
    fn a_plugin_says_ok_and_keeps_its_version() {
        let mut probed = Probed::default();
        assert_eq!(
            probed.problems(&answer("v3", "sick")),
            [
                "got unexpected healthz status: sick",
                "expected KMSv2 API version v2, got v3"
            ]
        );
        assert!(probed.problems(&answer("v2beta1", "ok")).is_empty());
        assert!(probed.problems(&answer("v2beta1", "ok")).is_empty());
        assert_eq!(
            probed.problems(&answer("v2", "ok")),
            [
                "KMSv2 API version should not change after the initial status response version v2beta1, got v2"
            ]
        );
    }

    #[test]
    fn a_good_answer_is_believed_longer_than_a_bad_one() {
        let at = Instant::now();
        let believed = |result: Result<(), String>, after: u64| {
            let asked = Asked(Some((at, result)));
            asked.believed(at + Duration::from_secs(after))
        };
        let bad = || Err("bad".to_owned());
        assert_eq!(believed(Ok(()), 19), Some(Ok(())));
        assert_eq!(believed(Ok(()), 20), None);
        assert_eq!(believed(bad(), 2), Some(bad()));
        assert_eq!(believed(bad(), 3), None);
        assert_eq!(Asked::default().believed(at), None);
    }
}
