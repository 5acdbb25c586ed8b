//! Who asks: front proxies, client certificates, and tokens that the API server reviews.
//!
//! The order and the outcomes are those of
//! `k8s.io/apiserver/pkg/authentication/authenticatorfactory/delegating.go`: the first that knows the
//! user wins; if one was sure that something is wrong and none knows the user, the request is refused;
//! if nobody said anything, the user is anonymous, where that is allowed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::core::v1::ConfigMap;
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::x509::{Untrusted, common_name};
use super::{ClientCa, Connection, User};
use crate::args::{self, Args};
use crate::client::{self, Client, path_decode};
use crate::informer::{Event, Informers, Selection};
use crate::metrics::Metrics;
use crate::recent::Recent;

/// Why a request is refused.
#[derive(thiserror::Error, Debug)]
pub enum Unauthenticated {
    #[error(transparent)]
    Certificate(#[from] Untrusted),
    #[error("invalid bearer token{}", after_colon(.0))]
    Token(String),
    #[error("cannot ask for a review of the token")]
    Review(#[source] Arc<client::Error>),
    #[error("nobody said who asks")]
    Anonymous,
}

fn after_colon(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(": {text}")
    }
}

/// Why authentication cannot be set up.
#[derive(thiserror::Error, Debug)]
pub enum SetupError {
    #[error(transparent)]
    Authorities(#[from] super::tls::Error),
    #[error("cannot read {NAMESPACE}/{CONFIG_MAP}, which says whom the cluster trusts")]
    Lookup(#[source] client::Error),
}

/// How front proxies say for whom they ask (`requestheader`).
#[derive(Clone)]
pub struct RequestHeader {
    pub ca: ClientCa,
    /// Common names that a proxy may have; empty allows all.
    pub allowed_names: Vec<String>,
    pub username_headers: Vec<String>,
    pub uid_headers: Vec<String>,
    pub group_headers: Vec<String>,
    pub extra_prefixes: Vec<String>,
}

/// Finds out who asks; cheap to clone.
#[derive(Clone)]
pub struct Authenticator {
    inner: Arc<Inner>,
}

struct Inner {
    proxies: RwLock<Option<RequestHeader>>,
    client_ca: Option<ClientCa>,
    tokens: Option<Tokens>,
    anonymous: bool,
}

/// Tokens whose review is remembered.
const TOKENS: usize = 4096;

/// Where the API server publishes whom it trusts.
const NAMESPACE: &str = "kube-system";
const CONFIG_MAP: &str = "extension-apiserver-authentication";

impl Authenticator {
    /// Client certificates of these authorities, tokens that `reviewer` knows, everybody else
    /// anonymous or refused.
    #[must_use]
    pub fn new(
        client_ca: Option<ClientCa>,
        reviewer: Option<(Client, Duration)>,
        anonymous: bool,
    ) -> Self {
        let tokens = reviewer.map(|(client, ttl)| Tokens {
            client,
            ttl,
            known: Mutex::new(Recent::new(TOKENS)),
        });
        Self {
            inner: Arc::new(Inner {
                proxies: RwLock::new(None),
                client_ca,
                tokens,
                anonymous,
            }),
        }
    }

    /// Trusts front proxies, from now on.
    pub fn trust_proxies(&self, proxies: Option<RequestHeader>) {
        *self.inner.proxies.write() = proxies;
    }

    /// What the flags of [`args::delegated_authentication`] say. What they leave open is looked up in
    /// the cluster, and followed, if there is a `client`.
    ///
    /// # Errors
    /// If a file of authorities cannot be used, or the lookup fails and may not.
    pub async fn from_flags(
        args: &Args,
        client: Option<(Client, Informers)>,
        metrics: &Metrics,
    ) -> Result<Self, SetupError> {
        let ca_file = args.get(&args::CLIENT_CA_FILE);
        let proxies = RequestHeader::from_flags(args)?;
        let client_ca = match &ca_file {
            Some(path) => ClientCa::from_file(path)?,
            None => ClientCa::unset(),
        }
        .counted(metrics);
        let ttl = args.get(&args::AUTHENTICATION_CACHE_TTL);
        let reviewer = client.as_ref().map(|(client, _)| (client.clone(), ttl));
        let look_up = (ca_file.is_none() || proxies.is_none())
            && !args.get(&args::AUTHENTICATION_SKIP_LOOKUP);
        let authenticator = Self::new(Some(client_ca.clone()), reviewer, true);
        let own_proxies = proxies.is_some();
        authenticator.trust_proxies(proxies);
        if let (true, Some((client, informers))) = (look_up, client) {
            let map = client
                .namespaced::<ConfigMap>(NAMESPACE)
                .find(CONFIG_MAP)
                .await;
            let tolerate = args.get(&args::AUTHENTICATION_TOLERATE_LOOKUP_FAILURE);
            match map {
                Ok(Some(_)) => {}
                Ok(None) => tracing::warn!(
                    name = CONFIG_MAP,
                    "The cluster does not say whom it trusts yet"
                ),
                Err(e) if tolerate => {
                    tracing::warn!(error = %e, "Cannot look up whom the cluster trusts: requests may be anonymous");
                }
                Err(e) => return Err(SetupError::Lookup(e)),
            }
            authenticator.follow(&informers, client_ca, own_proxies);
        }
        Ok(authenticator)
    }

    /// Takes over what the cluster says, now and whenever it changes.
    fn follow(&self, informers: &Informers, client_ca: ClientCa, own_proxies: bool) {
        let fields = format!("metadata.name={CONFIG_MAP}");
        let selection = Selection {
            namespace: NAMESPACE.to_owned(),
            fields,
            ..Selection::default()
        };
        let authenticator = self.clone();
        let proxy_ca = ClientCa::unset();
        informers
            .select::<ConfigMap>(selection)
            .subscribe(move |_, event| {
                if matches!(event, Event::Deleted(_)) {
                    return;
                }
                let data = event.object().data.clone().unwrap_or_default();
                let text = |key: &str| data.get(key).map(String::as_str).unwrap_or_default();
                if let Err(e) = client_ca.set(text("client-ca-file")) {
                    tracing::warn!(error = %e, "The cluster's client authorities cannot be used");
                }
                if own_proxies {
                    return;
                }
                match proxy_ca.set(text("requestheader-client-ca-file")) {
                    Ok(()) => {
                        authenticator.trust_proxies(RequestHeader::published(&data, &proxy_ca))
                    }
                    Err(e) => {
                        tracing::warn!(error = %e, "The cluster's proxy authorities cannot be used")
                    }
                }
            });
    }

    /// Who asks.
    ///
    /// # Errors
    /// If the credentials are wrong, or there are none and that is not allowed.
    pub async fn authenticate<B>(
        &self,
        request: &http::Request<B>,
    ) -> Result<User, Unauthenticated> {
        let connection = Connection::of(request).map(|c| &**c);
        let mut wrong = None;
        let proxies = self.inner.proxies.read().clone();
        if let (Some(proxies), Some(connection)) = (proxies, connection) {
            match proxies.user(connection, request.headers()) {
                Ok(Some(user)) => return Ok(user.authenticated()),
                Ok(None) => {}
                Err(e) => wrong = Some(e.into()),
            }
        }
        if let (Some(ca), Some(connection)) = (&self.inner.client_ca, connection) {
            match ca.user(connection) {
                Ok(Some(user)) => return Ok(user.authenticated()),
                Ok(None) => {}
                Err(e) => wrong = Some(e.into()),
            }
        }
        if let (Some(tokens), Some(token)) = (&self.inner.tokens, bearer(request.headers())) {
            match tokens.user(token).await {
                Ok(user) => return Ok(user.authenticated()),
                Err(e) => wrong = Some(e),
            }
        }
        match wrong {
            Some(wrong) => Err(wrong),
            None if self.inner.anonymous => Ok(User::anonymous()),
            None => Err(Unauthenticated::Anonymous),
        }
    }
}

impl RequestHeader {
    /// What the flags say; none without authorities.
    fn from_flags(args: &Args) -> Result<Option<Self>, super::tls::Error> {
        let Some(path) = args.get(&args::REQUESTHEADER_CLIENT_CA_FILE) else {
            return Ok(None);
        };
        Ok(Some(Self {
            ca: ClientCa::from_file(&path)?,
            allowed_names: args.get(&args::REQUESTHEADER_ALLOWED_NAMES),
            username_headers: args.get(&args::REQUESTHEADER_USERNAME_HEADERS),
            uid_headers: args.get(&args::REQUESTHEADER_UID_HEADERS),
            group_headers: args.get(&args::REQUESTHEADER_GROUP_HEADERS),
            extra_prefixes: args.get(&args::REQUESTHEADER_EXTRA_HEADERS_PREFIX),
        }))
    }

    /// What the cluster publishes: lists of strings in JSON.
    fn published(data: &BTreeMap<String, String>, ca: &ClientCa) -> Option<Self> {
        data.get("requestheader-client-ca-file")
            .filter(|pem| !pem.is_empty())?;
        let list = |key: &str| -> Vec<String> {
            data.get(key)
                .and_then(|text| serde_json::from_str(text).ok())
                .unwrap_or_default()
        };
        Some(Self {
            ca: ca.clone(),
            allowed_names: list("requestheader-allowed-names"),
            username_headers: list("requestheader-username-headers"),
            uid_headers: list("requestheader-uid-headers"),
            group_headers: list("requestheader-group-headers"),
            extra_prefixes: list("requestheader-extra-headers-prefix"),
        })
    }

    /// Whether somebody says for whom he asks, be he a proxy or not. Costs nothing beside [`Self::user`].
    #[must_use]
    pub fn is_said(&self, headers: &HeaderMap) -> bool {
        self.username_headers
            .iter()
            .any(|name| headers.contains_key(name.as_str()))
    }

    /// For whom a proxy asks; none if it is no proxy that asks.
    ///
    /// # Errors
    /// If there is a certificate that is no proxy's.
    pub fn user(
        &self,
        connection: &Connection,
        headers: &HeaderMap,
    ) -> Result<Option<User>, Untrusted> {
        let Some(tls) = connection.tls.as_ref().filter(|t| !t.chain.is_empty()) else {
            return Ok(None);
        };
        match self.ca.verify(&tls.chain) {
            Ok(()) => {}
            Err(Untrusted::Unset) => return Ok(None),
            Err(e) => return Err(e),
        }
        let proxy = common_name(&tls.chain[0])?;
        if !self.allowed_names.is_empty() && !self.allowed_names.contains(&proxy) {
            return Err(Untrusted::Name(proxy));
        }
        let first = |names: &[String]| {
            names
                .iter()
                .flat_map(|n| values(headers, n))
                .next()
                .unwrap_or_default()
        };
        let name = first(&self.username_headers);
        if name.is_empty() {
            return Ok(None);
        }
        Ok(Some(User {
            name,
            uid: first(&self.uid_headers),
            groups: self
                .group_headers
                .iter()
                .flat_map(|n| values(headers, n))
                .collect(),
            extra: self.extra(headers),
        }))
    }

    fn extra(&self, headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
        let mut extra = BTreeMap::<String, Vec<String>>::new();
        for prefix in &self.extra_prefixes {
            let prefix = prefix.to_ascii_lowercase();
            for (name, value) in headers {
                let Some(key) = name.as_str().strip_prefix(&prefix) else {
                    continue;
                };
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                extra.entry(path_decode(key)).or_default().push(value);
            }
        }
        extra
    }
}

/// The values of a header that are not empty.
fn values<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = String> + use<'a> {
    let values = headers.get_all(name.to_ascii_lowercase()).iter();
    values
        .map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
        .filter(|v| !v.is_empty())
}

/// The bearer token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers
        .get(AUTHORIZATION)?
        .to_str()
        .ok()?
        .trim()
        .split_once(' ')?;
    let token = token.trim_start();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Tokens, reviewed by the API server. What it said is remembered for a short time, by the digest of
/// the token.
struct Tokens {
    client: Client,
    ttl: Duration,
    known: Mutex<Recent<Digest, Reviewed>>,
}

type Digest = [u8; 32];

#[derive(Clone)]
struct Reviewed {
    until: Instant,
    /// The user, or why there is none.
    answer: Result<User, String>,
}

impl Tokens {
    async fn user(&self, token: &str) -> Result<User, Unauthenticated> {
        let mut digest = [0; 32];
        digest.copy_from_slice(
            ring::digest::digest(&ring::digest::SHA256, token.as_bytes()).as_ref(),
        );
        if let Some(known) = self
            .known
            .lock()
            .get(&digest)
            .filter(|k| k.until > Instant::now())
        {
            return known.answer.clone().map_err(Unauthenticated::Token);
        }
        let answer = self.review(token).await?;
        let reviewed = Reviewed {
            until: Instant::now() + self.ttl,
            answer: answer.clone(),
        };
        self.known.lock().insert(digest, reviewed);
        answer.map_err(Unauthenticated::Token)
    }

    async fn review(&self, token: &str) -> Result<Result<User, String>, Unauthenticated> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                audiences: None,
            },
            ..TokenReview::default()
        };
        let reviewed = super::authorize::patiently(|| self.client.create_review(&review)).await;
        let status = reviewed
            .map_err(|e| Unauthenticated::Review(Arc::new(e)))?
            .status
            .unwrap_or_default();
        if status.authenticated != Some(true) {
            return Ok(Err(status.error.unwrap_or_default()));
        }
        let UserInfo {
            extra,
            groups,
            uid,
            username,
        } = status.user.unwrap_or_default();
        Ok(Ok(User {
            name: username.unwrap_or_default(),
            uid: uid.unwrap_or_default(),
            groups: groups.unwrap_or_default(),
            extra: extra.unwrap_or_default(),
        }))
    }
}

#[cfg(test)]
mod tests;
