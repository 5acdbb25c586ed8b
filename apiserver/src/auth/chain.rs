//! All authenticators, in upstream's order: front proxy, client certificate, token, anonymous.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use component::serving::{ClientCa, RequestHeader, Untrusted, User};
use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use parking_lot::Mutex;

use super::anonymous::Anonymous;
use super::service_account::{self, Invalid, Issuer};
use super::x509::Certificates;
use crate::chain::Exchange;
use crate::config::Config;
use crate::server::Server;
use crate::status::Failure;

/// How long a verified token is believed; upstream's `--authentication-token-webhook-cache-ttl` of its
/// in-process cache.
const BELIEVED: Duration = Duration::from_secs(10);
const REMEMBERED: usize = 4096;
/// Browsers cannot set headers on WebSockets: the token comes as a subprotocol.
const PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Who is asking.
pub struct Authenticators {
    proxies: Option<RequestHeader>,
    certificates: Option<Certificates>,
    anonymous: Anonymous,
    tokens: Arc<Issuer>,
    known: Mutex<HashMap<Box<str>, (User, Instant)>>,
}

impl Authenticators {
    /// # Errors
    /// If a file of authorities cannot be used.
    pub fn new(config: &Config, tokens: &Arc<Issuer>) -> anyhow::Result<Self> {
        let proxies = match &config.request_header {
            None => None,
            Some(given) => Some(RequestHeader {
                ca: ClientCa::from_file(&given.ca)?,
                allowed_names: given.allowed_names.clone(),
                username_headers: given.username.clone(),
                uid_headers: given.uid.clone(),
                group_headers: given.group.clone(),
                extra_prefixes: given.extra_prefixes.clone(),
            }),
        };
        let certificates = match &config.client_ca {
            None => None,
            Some(path) => Some(Certificates::new(ClientCa::from_file(path)?)),
        };
        let anonymous = Anonymous::new(config.anonymous);
        Ok(Self {
            proxies,
            certificates,
            anonymous,
            tokens: tokens.clone(),
            known: Mutex::default(),
        })
    }

    /// The user of a request.
    ///
    /// # Errors
    /// 401 if a credential is there and wrong, or none is there and nobody may be anonymous.
    pub async fn authenticate(&self, x: &Exchange) -> Result<User, Failure> {
        // A certificate that is no proxy's may still be a user's.
        if let Some(proxies) = &self.proxies
            && let Ok(Some(user)) = proxies.user(&x.connection, &x.headers)
        {
            return Ok(user.authenticated());
        }
        let mut refused = None;
        if let Some(certificates) = &self.certificates {
            match certificates.user(&x.connection) {
                Ok(Some(user)) => return Ok(user.authenticated()),
                Ok(None) => {}
                Err(error) => refused = Some(error),
            }
        }
        if let Some(token) = bearer(&x.headers) {
            return self.token(&x.server, &token).await.map(User::authenticated);
        }
        if let Some(error) = refused {
            return Err(unauthorized(&error));
        }
        self.anonymous
            .user(&x.info.path)
            .ok_or_else(Failure::unauthorized)
    }

    async fn token(&self, server: &Server, token: &str) -> Result<User, Failure> {
        let now = Instant::now();
        if let Some((user, until)) = self.known.lock().get(token)
            && *until > now
        {
            return Ok(user.clone());
        }
        let user = self
            .review(server, token, self.tokens.audiences())
            .await
            .map_err(|error| {
                tracing::debug!(%error, "a token was refused");
                Failure::unauthorized()
            })?;
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED {
            known.retain(|_, (_, until)| *until > now);
        }
        if known.len() < REMEMBERED {
            known.insert(token.into(), (user.0.clone(), now + BELIEVED));
        }
        Ok(user.0)
    }

    /// The user of a token for one of these audiences, and the audiences that it is for: what a
    /// `TokenReview` asks.
    ///
    /// # Errors
    /// Why the token is not good.
    pub async fn review(
        &self,
        server: &Server,
        token: &str,
        audiences: &[String],
    ) -> Result<(User, Vec<String>), Invalid> {
        let (claims, shared) = self
            .tokens
            .verify(token, audiences, service_account::now())?;
        Ok((service_account::user(server, &claims).await?, shared))
    }
}

fn unauthorized(error: &Untrusted) -> Failure {
    tracing::debug!(%error, "a client certificate was refused");
    Failure::unauthorized()
}

/// The bearer token of a request.
fn bearer(headers: &HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.trim().split_once(' ')?;
        let token = token.trim();
        return (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
            .then(|| token.to_owned());
    }
    headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .find_map(|protocol| protocol.trim().strip_prefix(PROTOCOL))
        .and_then(|encoded| URL_SAFE_NO_PAD.decode(encoded).ok())
        .and_then(|token| String::from_utf8(token).ok())
}
