//! Tokens of service accounts, bound to pods: `pkg/kubelet/token/token_manager.go`.
//!
//! A token is kept until a fifth of its life is left, or for a day; then the pod is told, whose
//! volumes ask again. While a new one cannot be had, the old one is given until it expires.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use component::client::{Client, Error, path_escape};
use component::supervisor::chain;
use component::{Supervisor, Task};
use http::Method;
use k8s_openapi::api::authentication::v1 as api;
use parking_lot::Mutex;
use rand::Rng;
use tokio::sync::Notify;

use super::Changed;
use crate::volume::{ObjectError, TokenRequest};

const MOST_AGE: i64 = 24 * 3600;
/// Renewals are spread over so many seconds.
const JITTER: i64 = 10;
/// After a renewal that failed.
const AGAIN: i64 = 60;

pub(super) struct Tokens {
    client: Client,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    cache: Mutex<HashMap<TokenRequest, Token>>,
    /// The earliest renewal may have moved.
    moved: Notify,
}

struct Token {
    token: String,
    expires: i64,
    /// When a new one is wanted, in Unix seconds.
    due: i64,
    /// Whether the pod was told.
    told: bool,
}

/// When a token that expires then, and was asked for so many seconds, should be renewed.
fn due(expires: i64, seconds: i64, jitter: i64) -> i64 {
    let issued = expires.saturating_sub(seconds);
    let old = issued.saturating_add(MOST_AGE).saturating_sub(jitter);
    let late = expires.saturating_sub(seconds / 5).saturating_sub(jitter);
    old.min(late)
}

fn now() -> i64 {
    component::clock::now().as_second()
}

impl Tokens {
    pub(super) fn new(client: Client, tasks: &Supervisor, changed: Changed) -> Self {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        tasks.spawn(Task::Worker, "token-renewal", async move {
            own.tell_when_due(&changed).await;
        });
        Self { client, shared }
    }

    /// A token that is good for a while yet.
    pub(super) async fn get(&self, request: TokenRequest) -> Result<String, ObjectError> {
        let known = {
            let cache = self.shared.cache.lock();
            cache
                .get(&request)
                .map(|t| (t.token.clone(), t.expires, t.due))
        };
        if let Some((token, _, due)) = &known
            && now() < *due
        {
            return Ok(token.clone());
        }
        match (self.fetch(&request).await, known) {
            (Ok(new), _) => {
                let token = new.token.clone();
                self.shared.cache.lock().insert(request, new);
                self.shared.moved.notify_one();
                Ok(token)
            }
            (Err(e), None) => Err(ObjectError::Failed(format!("failed to fetch token: {e}"))),
            (Err(e), Some((_, expires, _))) if now() >= expires => {
                Err(ObjectError::Failed(format!(
                    "token {:?}/{:?} expired and refresh failed: {e}",
                    request.service_account, request.namespace
                )))
            }
            (Err(e), Some((old, _, _))) => {
                tracing::error!(
                    service_account = request.service_account,
                    namespace = request.namespace,
                    error = e,
                    "Couldn't update token"
                );
                if let Some(token) = self.shared.cache.lock().get_mut(&request) {
                    token.due = now().saturating_add(AGAIN);
                    token.told = false;
                }
                self.shared.moved.notify_one();
                Ok(old)
            }
        }
    }

    async fn fetch(&self, request: &TokenRequest) -> Result<Token, String> {
        let body = body(request);
        let path = format!(
            "/api/v1/namespaces/{}/serviceaccounts/{}/token",
            path_escape(&request.namespace),
            path_escape(&request.service_account)
        );
        let answer: Result<api::TokenRequest, Error> = self
            .client
            .request(Method::POST, &path, &[], Some(&body))
            .await;
        let answer = answer.map_err(|e| chain(&e))?;
        let seconds = answer.spec.and_then(|s| s.expiration_seconds);
        let status = answer.status.unwrap_or_default();
        let token = status.token.unwrap_or_default();
        let expires = status
            .expiration_timestamp
            .map_or(i64::MAX, |at| at.0.as_second());
        if token.is_empty() {
            return Err("the answer has no token".to_owned());
        }
        let jitter = rand::rng().random_range(0..=JITTER);
        Ok(Token {
            token,
            expires,
            due: seconds.map_or(i64::MAX, |seconds| due(expires, seconds, jitter)),
            told: false,
        })
    }

    /// Drops the tokens of a pod.
    pub(super) fn forget(&self, uid: &str) {
        let mut cache = self.shared.cache.lock();
        cache.retain(|request, _| request.pod_uid != uid);
    }
}

impl Shared {
    async fn tell_when_due(&self, changed: &Changed) {
        loop {
            let next = self.tell_due(changed);
            let wait = next.map(|due| {
                let seconds = u64::try_from(due.saturating_sub(now())).unwrap_or(0);
                Duration::from_secs(seconds.max(1))
            });
            tokio::select! {
                () = self.moved.notified() => {}
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
        }
    }

    /// Tells pods whose tokens are due; the time of the next ones.
    fn tell_due(&self, changed: &Changed) -> Option<i64> {
        let now = now();
        let mut pods = Vec::new();
        let mut cache = self.cache.lock();
        cache.retain(|_, token| now < token.expires);
        for (request, token) in cache.iter_mut().filter(|(_, t)| !t.told && t.due <= now) {
            token.told = true;
            pods.push(request.pod_uid.clone());
        }
        let waiting = cache.values().filter(|t| !t.told && t.due < i64::MAX);
        let next = waiting.map(|t| t.due).min();
        drop(cache);
        for uid in pods {
            changed(&uid);
        }
        next
    }
}

fn body(request: &TokenRequest) -> api::TokenRequest {
    let audiences = Some(request.audience.clone()).filter(|a| !a.is_empty());
    api::TokenRequest {
        spec: Some(api::TokenRequestSpec {
            audiences: Some(audiences.into_iter().collect()),
            expiration_seconds: request.expiration_seconds,
            bound_object_ref: Some(api::BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(request.pod.clone()),
                uid: Some(request.pod_uid.clone()),
            }),
            ..api::TokenRequestSpec::default()
        }),
        ..api::TokenRequest::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_when_a_fifth_of_its_life_is_left_or_after_a_day() {
        assert_eq!(due(3600, 3600, 0), 2880);
        assert_eq!(due(3600, 3600, 10), 2870);
        let year = 365 * 86400;
        assert_eq!(due(year, year, 5), 86400 - 5);
    }

    #[test]
    fn a_request_names_its_pod_and_only_the_audience_that_was_asked_for() {
        let request = TokenRequest {
            namespace: "ns".to_owned(),
            service_account: "sa".to_owned(),
            pod: "p".to_owned(),
            pod_uid: "u".to_owned(),
            audience: String::new(),
            expiration_seconds: Some(600),
        };
        let spec = body(&request).spec.unwrap();
        assert_eq!(spec.audiences, Some(Vec::new()));
        assert_eq!(spec.bound_object_ref.unwrap().uid.as_deref(), Some("u"));
    }
}
