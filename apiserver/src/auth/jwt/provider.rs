//! An issuer's keys: where they are, when they are fetched, and how long they are believed.
//!
//! Nothing is fetched before the first token comes. Then keys are kept; a token that none of them
//! verifies has them fetched again, but not more often than every few seconds, whatever tokens come:
//! who waits are such tokens alone. Keys that are old are fetched again in the background while they
//! stay in use, also if the issuer does not answer, as upstream's are.
//!
//! All of it goes over TLS, the keys' own address included.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use component::client::{self, Client, Config};
use component::metrics::Metrics;
use component::{Supervisor, Task};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, Method};
use parking_lot::RwLock;
use proto::path::quote;
use serde::Deserialize;

use super::jws::Jws;
use super::keys::{self, Key};
use super::metrics::Fetches;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Keys are not fetched again sooner, however many tokens ask for it.
const BETWEEN: Duration = Duration::from_secs(10);
/// Keys are fetched again after so long, or after what `Cache-Control` says within these bounds.
const FRESH: Duration = Duration::from_secs(3600);
const FRESH_BOUNDS: (Duration, Duration) =
    (Duration::from_secs(60), Duration::from_secs(24 * 3600));
/// The longest document that is read.
const MAX_DOCUMENT: usize = 1 << 20;
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// Why there are no keys.
#[derive(thiserror::Error, Clone, Debug)]
pub(super) enum Error {
    #[error("{url}: {problem}")]
    Fetch { url: String, problem: String },
    #[error(
        "issuer did not match the issuer returned by provider, expected {} got {}",
        quote(expected),
        quote(got)
    )]
    Issuer { expected: String, got: String },
    #[error("the address of the keys is no https URL: {0:?}")]
    KeysAddress(String),
    #[error("failed to decode keys: {0}")]
    Keys(String),
}

/// Whom to ask, and how.
#[derive(Clone)]
pub(super) struct Web {
    /// In PEM; the system's if none are given.
    pub(super) authorities: Option<String>,
    pub(super) tasks: Supervisor,
    /// Calls of issuers are no calls of an API server; nobody reads these.
    pub(super) metrics: Metrics,
}

impl Web {
    /// GETs a document, with its headers.
    pub(super) async fn get(
        &self,
        url: &str,
        token: Option<&str>,
    ) -> Result<(HeaderMap, Bytes), Error> {
        let failed = |problem: String| Error::Fetch {
            url: url.to_owned(),
            problem,
        };
        let (server, path) = split(url).ok_or_else(|| failed("it is no https URL".to_owned()))?;
        let config = Config {
            ca: { self.authorities.as_ref() }.map(|pem| client::Source::Inline(pem.clone().into())),
            bearer: token.map(|token| client::Bearer::Token(token.to_owned())),
            qps: -1.0,
            ..Config::new(server)
        };
        let chain = |e: &(dyn std::error::Error + 'static)| component::supervisor::chain(e);
        let client = Client::new(config, "kube-apiserver", &self.tasks, &self.metrics);
        let client = client.map_err(|e| failed(chain(&e)))?;
        let whole = async {
            let response = client
                .raw(Method::GET, path, "application/json, */*", None)
                .await;
            let (head, body) = response.map_err(|e| failed(chain(&e)))?.into_parts();
            let body = client::read_all(body, MAX_DOCUMENT).await;
            Ok((head.headers, body.map_err(|e| failed(chain(&e)))?))
        };
        let answer = tokio::time::timeout(TIMEOUT, whole).await;
        answer.unwrap_or_else(|_| Err(failed(format!("no answer within {TIMEOUT:?}"))))
    }
}

/// An `https` URL as server and path.
fn split(url: &str) -> Option<(&str, &str)> {
    const SCHEME: &str = "https://";
    if !url.get(..SCHEME.len())?.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let end = url[SCHEME.len()..]
        .find(['/', '?'])
        .map(|at| at + SCHEME.len());
    Some(match end {
        Some(at) if url[at..].starts_with('/') => url.split_at(at),
        _ => (url, "/"),
    })
}

/// An issuer and its keys.
pub(super) struct Provider {
    issuer: String,
    discovery: String,
    web: Web,
    /// None for issuers that the configuration does not name.
    fetches: Option<Fetches>,
    state: RwLock<State>,
    /// Held by who fetches; others wait for what comes.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<[Key]>>,
    /// When keys should be fetched again.
    stale: Option<Instant>,
    /// When they were last asked for, and what went wrong.
    asked: Option<Instant>,
    failure: Option<Error>,
}

impl Provider {
    pub(super) fn new(
        issuer: &str,
        discovery: Option<&str>,
        web: Web,
        fetches: Option<Fetches>,
    ) -> Self {
        let at_issuer = || format!("{}{WELL_KNOWN}", issuer.strip_suffix('/').unwrap_or(issuer));
        Self {
            issuer: issuer.to_owned(),
            discovery: discovery.map_or_else(at_issuer, str::to_owned),
            web,
            fetches,
            state: RwLock::default(),
            fetching: tokio::sync::Mutex::default(),
        }
    }

    /// Whether one of the issuer's keys has signed the token.
    ///
    /// # Errors
    /// Why that cannot be said, or that none has.
    pub(super) async fn verify(self: &Arc<Self>, jws: &Jws<'_>) -> Result<(), String> {
        if self.knows(jws) {
            self.refresh();
            return Ok(());
        }
        self.fetch(BETWEEN).await;
        if self.knows(jws) {
            return Ok(());
        }
        let state = self.state.read();
        Err(match (&state.keys, &state.failure) {
            (None, Some(failure)) => format!("authenticator not initialized: {failure}"),
            (_, Some(failure)) => format!("failed to verify signature: fetching keys {failure}"),
            _ => "failed to verify signature: failed to verify id token signature".to_owned(),
        })
    }

    /// Has keys, fetched now if there are none.
    ///
    /// # Errors
    /// Why there are none.
    pub(super) async fn ready(&self) -> Result<(), Error> {
        if self.state.read().keys.is_none() {
            self.fetch(BETWEEN).await;
        }
        let state = self.state.read();
        match (&state.keys, &state.failure) {
            (None, Some(failure)) => Err(failure.clone()),
            _ => Ok(()),
        }
    }

    fn knows(&self, jws: &Jws<'_>) -> bool {
        let keys = self.state.read().keys.clone();
        let mut candidates = keys.iter().flat_map(|keys| keys.iter());
        candidates.any(|key| key.may_have_signed(jws) && key.verifies(jws))
    }

    /// Fetches stale keys in the background.
    fn refresh(self: &Arc<Self>) {
        let now = Instant::now();
        let due = |state: &State| {
            let asked = state
                .asked
                .is_none_or(|at| now.duration_since(at) >= BETWEEN);
            asked && state.stale.is_some_and(|at| at <= now)
        };
        if !due(&self.state.read()) || self.fetching.try_lock().is_err() {
            return;
        }
        let (this, tasks) = (Arc::clone(self), &self.web.tasks);
        tasks.spawn(Task::Background, "issuer-keys", async move {
            this.fetch(BETWEEN).await;
        });
    }

    /// Fetches the keys, unless that was tried within the time given.
    async fn fetch(&self, between: Duration) {
        let _alone = self.fetching.lock().await;
        let asked = self.state.read().asked;
        if asked.is_some_and(|at| at.elapsed() < between) {
            return;
        }
        let found = self.documents().await;
        let mut state = self.state.write();
        state.asked = Some(Instant::now());
        match found {
            Ok((keys, fresh)) => {
                state.keys = Some(keys.into());
                state.stale = Some(Instant::now() + fresh);
                state.failure = None;
            }
            Err(error) => {
                tracing::error!(issuer = self.issuer, %error, "The keys of an issuer cannot be fetched");
                state.failure = Some(error);
            }
        }
    }

    /// The keys, and how long they are fresh.
    async fn documents(&self) -> Result<(Vec<Key>, Duration), Error> {
        #[derive(Deserialize)]
        struct Discovery {
            #[serde(default)]
            issuer: String,
            #[serde(default)]
            jwks_uri: String,
        }
        let (_, document) = self.web.get(&self.discovery, None).await?;
        let document: Discovery = serde_json::from_slice(&document).map_err(|e| Error::Fetch {
            url: self.discovery.clone(),
            problem: e.to_string(),
        })?;
        if document.issuer != self.issuer {
            return Err(Error::Issuer {
                expected: self.issuer.clone(),
                got: document.issuer,
            });
        }
        if split(&document.jwks_uri).is_none() {
            return Err(Error::KeysAddress(document.jwks_uri));
        }
        let set = self.web.get(&document.jwks_uri, None).await;
        let read = set.and_then(|(headers, set)| {
            let keys = keys::read_set(&set).map_err(|e| Error::Keys(e.to_string()))?;
            Ok((headers, set, keys))
        });
        match read {
            Ok((headers, set, keys)) => {
                if let Some(fetches) = &self.fetches {
                    fetches.succeeded(&set);
                }
                Ok((keys, freshness(&headers)))
            }
            Err(error) => {
                if let Some(fetches) = &self.fetches {
                    fetches.failed();
                }
                Err(error)
            }
        }
    }
}

/// How long `Cache-Control` calls an answer fresh (RFC 9111), within bounds.
fn freshness(headers: &HeaderMap) -> Duration {
    let directives = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim);
    let age = directives
        .filter_map(|d| d.strip_prefix("max-age="))
        .find_map(|seconds| seconds.parse().ok());
    age.map_or(FRESH, Duration::from_secs)
        .clamp(FRESH_BOUNDS.0, FRESH_BOUNDS.1)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_https_is_asked() {
        assert_eq!(split("https://h:1/a?b"), Some(("https://h:1", "/a?b")));
        assert_eq!(split("https://h"), Some(("https://h", "/")));
        for bad in ["http://h/a", "h/a", "", "ftp://h", "https:/h"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    #[test]
    fn keys_are_fresh_as_long_as_the_issuer_says_within_bounds() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(text));
            freshness(&headers)
        };
        assert_eq!(of("public, max-age=600"), Duration::from_secs(600));
        assert_eq!(of("max-age=0"), FRESH_BOUNDS.0);
        assert_eq!(of("max-age=99999999"), FRESH_BOUNDS.1);
        assert_eq!(of("max-age=x, no-store"), FRESH);
        assert_eq!(freshness(&HeaderMap::new()), FRESH);
    }
}
