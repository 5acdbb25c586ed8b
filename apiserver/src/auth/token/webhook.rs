//! Tokens that a server reviews: a `TokenReview` is posted, its status says who that is.
//!
//! The server's answers, good and bad, are remembered for the time that the flags say; a server that
//! does not answer is asked again next time. Upstream:
//! `apiserver/plugin/pkg/authenticator/token/webhook`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use component::Supervisor;
use component::client::ConfigError;
use component::metrics::Metrics;
use component::recent::Recent;
use parking_lot::Mutex;
use ring::digest;
use serde::Deserialize;
use serde_json::json;

use super::{User, Verified};
use crate::config::authentication;
use crate::webhook::{Review, TIMEOUT, Webhook};

/// Answers that are remembered.
const ANSWERS: usize = 32 * 1024;

type Digest = [u8; 32];

/// The webhook.
pub(super) struct TokenWebhook {
    hook: Webhook,
    api_version: &'static str,
    /// This server's audiences: what a token is for if the server says nothing of it.
    own: Vec<String>,
    ttl: Duration,
    known: Mutex<Recent<Digest, (Option<Verified>, Instant)>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Answer {
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    authenticated: bool,
    user: UserInfo,
    audiences: Vec<String>,
    error: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct UserInfo {
    username: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl TokenWebhook {
    pub(super) fn open(
        given: &authentication::TokenWebhook,
        own: &[String],
        tasks: &Supervisor,
        metrics: &Metrics,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            hook: Webhook::open(&given.kubeconfig, TIMEOUT, tasks, metrics)?,
            api_version: given.api_version,
            own: own.to_vec(),
            ttl: given.ttl,
            known: Mutex::new(Recent::new(ANSWERS)),
        })
    }

    /// Whose a token for one of these audiences is; none if the server does not know.
    ///
    /// # Errors
    /// If the server does not answer, or says what is wrong.
    pub(super) async fn review(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Verified>, String> {
        let key = key(token, audiences);
        if let Some((answer, until)) = self.known.lock().get(&key)
            && *until > Instant::now()
        {
            return Ok(answer.clone());
        }
        let spec = json!({"token": token, "audiences": audiences});
        let review = Review {
            api_version: self.api_version,
            kind: "TokenReview",
            spec: &spec,
        };
        let answer = self.hook.ask(&review, |_| {}).await.map_err(|error| {
            tracing::error!(%error, "The webhook does not review a token");
            error.to_string()
        })?;
        let answer: Answer = serde_json::from_value(answer).map_err(|e| e.to_string())?;
        let verified = judge(answer.status, audiences, &self.own)?;
        if !self.ttl.is_zero() {
            let until = Instant::now() + self.ttl;
            self.known.lock().insert(key, (verified.clone(), until));
        }
        Ok(verified)
    }
}

fn judge(status: Status, audiences: &[String], own: &[String]) -> Result<Option<Verified>, String> {
    let given = if status.audiences.is_empty() {
        own
    } else {
        &status.audiences
    };
    let shared: Vec<String> = { audiences.iter() }
        .filter(|a| given.contains(a))
        .cloned()
        .collect();
    if shared.is_empty() {
        return Ok(None);
    }
    if !status.authenticated {
        return if status.error.is_empty() {
            Ok(None)
        } else {
            Err(status.error)
        };
    }
    let UserInfo {
        username,
        uid,
        groups,
        extra,
    } = status.user;
    Ok(Some(Verified {
        user: User {
            name: username,
            uid,
            groups,
            extra,
        },
        audiences: shared,
        warnings: Vec::new(),
        annotations: Vec::new(),
    }))
}

/// The digest of a token and its audiences, each behind its length.
fn key(token: &str, audiences: &[String]) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in std::iter::once(token).chain(audiences.iter().map(String::as_str)) {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(json: serde_json::Value) -> Status {
        serde_json::from_value(json).unwrap()
    }

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(|i| (*i).to_owned()).collect()
    }

    #[test]
    fn an_answer_is_for_the_audiences_that_were_asked_for() {
        let good = |audiences: &[&str]| {
            status(
                json!({"authenticated": true, "audiences": audiences, "user": {"username": "ann"}}),
            )
        };
        let of = |status, asked: &[&str]| {
            let found = judge(status, &list(asked), &list(&["api"])).unwrap();
            found.map(|v| (v.user.name, v.audiences))
        };
        let ann = |audiences: &[&str]| Some(("ann".to_owned(), list(audiences)));
        assert_eq!(of(good(&[]), &["api"]), ann(&["api"]));
        assert_eq!(of(good(&["a", "b"]), &["b", "c"]), ann(&["b"]));
        // Of a server that says nothing, a token is for this API server alone.
        assert_eq!(of(good(&[]), &["other"]), None);
        assert_eq!(of(good(&["other"]), &["api"]), None);
    }

    #[test]
    fn what_the_server_does_not_know_is_no_error_unless_it_says_so() {
        let own = list(&["api"]);
        let no = judge(status(json!({})), &own, &own);
        assert!(matches!(no, Ok(None)));
        let why = judge(status(json!({"error": "revoked"})), &own, &own);
        assert_eq!(why.err().as_deref(), Some("revoked"));
    }

    #[test]
    fn tokens_and_audiences_do_not_run_into_each_other() {
        assert_ne!(key("ab", &list(&["c"])), key("a", &list(&["bc"])));
        assert_ne!(key("a", &list(&["b", "c"])), key("a", &list(&["bc"])));
    }
}
