//! All authenticators, in upstream's order: front proxy, client certificate, token, anonymous.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use component::serving::{ClientCa, RequestHeader, Untrusted, User};
use component::streaming::upgrade;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue};
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
    known: Mutex<HashMap<Box<str>, (Verified, Instant)>>,
}

/// What a token turned out to be.
#[derive(Clone, Debug)]
pub struct Verified {
    pub user: User,
    /// Those asked for that it is for.
    pub audiences: Vec<String>,
    /// What whoever uses it should know.
    pub warnings: Vec<String>,
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
    pub async fn authenticate(&self, x: &mut Exchange) -> Result<User, Failure> {
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
        if let Some(token) = bearer(&x.headers)? {
            let verified = self.token(&x.server, &token).await?;
            x.warnings.extend(verified.warnings);
            return Ok(verified.user.authenticated());
        }
        if let Some(error) = refused {
            return Err(unauthorized(&error));
        }
        self.anonymous
            .user(&x.info.path)
            .ok_or_else(Failure::unauthorized)
    }

    async fn token(&self, server: &Arc<Server>, token: &str) -> Result<Verified, Failure> {
        let now = Instant::now();
        if let Some((verified, until)) = self.known.lock().get(token)
            && *until > now
        {
            return Ok(verified.clone());
        }
        let verified = self
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
            known.insert(token.into(), (verified.clone(), now + BELIEVED));
        }
        Ok(verified)
    }

    /// Whose a token for one of these audiences is: what a `TokenReview` asks.
    ///
    /// # Errors
    /// Why the token is not good.
    pub async fn review(
        &self,
        server: &Arc<Server>,
        token: &str,
        audiences: &[String],
    ) -> Result<Verified, Invalid> {
        if self.tokens.is_legacy(token) {
            let old = self.legacy(server, token, audiences).await;
            // The cluster's issuer may have that name.
            let is_own = |issuer: &String| issuer == service_account::legacy::ISSUER;
            if old.is_ok() || !self.tokens.config().issuers.iter().any(is_own) {
                return old;
            }
        }
        let now = service_account::now();
        let (claims, audiences) = self.tokens.verify(token, audiences, now)?;
        Ok(Verified {
            user: service_account::user(server, &claims).await?,
            audiences,
            warnings: Vec::new(),
        })
    }

    async fn legacy(
        &self,
        server: &Arc<Server>,
        token: &str,
        audiences: &[String],
    ) -> Result<Verified, Invalid> {
        let (claims, audiences) = self.tokens.verify_legacy(token, audiences)?;
        let (user, warnings) = service_account::legacy::user(server, token, &claims).await?;
        Ok(Verified {
            user,
            audiences,
            warnings,
        })
    }
}

fn unauthorized(error: &Untrusted) -> Failure {
    tracing::debug!(%error, "a client certificate was refused");
    Failure::unauthorized()
}

/// The bearer token of a request.
fn bearer(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let given = headers
        .get(AUTHORIZATION)
        .and_then(|v| v.to_str().ok()?.trim().split_once(' '));
    if let Some((scheme, token)) = given
        && scheme.eq_ignore_ascii_case("bearer")
        && !token.trim().is_empty()
    {
        return Ok(Some(token.trim().to_owned()));
    }
    if upgrade::is_websocket(headers) {
        return of_websocket(&upgrade::subprotocols(headers)).map_err(|why| {
            tracing::debug!(why, "a WebSocket's token was refused");
            Failure::unauthorized()
        });
    }
    Ok(None)
}

/// The token among the subprotocols of a WebSocket, beside which there must be another one that the
/// answer can name.
fn of_websocket(protocols: &[&str]) -> Result<Option<String>, &'static str> {
    let mut tokens = protocols.iter().filter_map(|p| p.strip_prefix(PROTOCOL));
    let Some(encoded) = tokens.next() else {
        return Ok(None);
    };
    if tokens.next().is_some() {
        return Err("more than one token");
    }
    let token = URL_SAFE_NO_PAD.decode(encoded);
    let token = token.map_err(|_| "not in base64url without padding")?;
    let token = String::from_utf8(token).map_err(|_| "not a text")?;
    if token.is_empty() {
        return Ok(None);
    }
    if protocols.len() == 1 {
        return Err("no subprotocol beside the token");
    }
    Ok(Some(token))
}

/// Takes the token out of the subprotocols of a WebSocket: nobody behind authentication sees it.
pub fn hide_token(headers: &mut HeaderMap) {
    let all = upgrade::subprotocols(headers);
    let kept: Vec<&str> = all
        .iter()
        .copied()
        .filter(|p| !p.starts_with(PROTOCOL))
        .collect();
    if kept.len() == all.len() {
        return;
    }
    let kept = kept.join(", ");
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Ok(value) = HeaderValue::from_str(&kept)
        && !kept.is_empty()
    {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_websockets_token_stands_beside_another_protocol() {
        let token = format!("{PROTOCOL}c2VjcmV0");
        assert_eq!(of_websocket(&["binary.k8s.io"]), Ok(None));
        let both = ["binary.k8s.io", token.as_str()];
        assert_eq!(of_websocket(&both), Ok(Some("secret".to_owned())));
        for wrong in [
            vec![token.as_str()],
            vec![token.as_str(), token.as_str(), "binary.k8s.io"],
            vec!["binary.k8s.io", "base64url.bearer.authorization.k8s.io.=="],
            vec!["binary.k8s.io", "base64url.bearer.authorization.k8s.io._w"],
        ] {
            assert!(of_websocket(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_token_among_the_protocols_is_seen_by_nobody_else() {
        let hidden = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(text));
            hide_token(&mut headers);
            headers
                .get(SEC_WEBSOCKET_PROTOCOL)
                .map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
        };
        let token = "base64url.bearer.authorization.k8s.io.c2VjcmV0";
        assert_eq!(
            hidden("v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.c2VjcmV0"),
            Some("v5.channel.k8s.io".to_owned())
        );
        assert_eq!(hidden(token), None);
    }
}
