//! All authenticators, in upstream's order: front proxy, client certificate, token, anonymous.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use component::Supervisor;
use component::metrics::Metrics;
use component::serving::{ClientCa, RequestHeader, Untrusted, User};
use component::streaming::upgrade;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderName, HeaderValue};
use resources::status::Failure;

use super::anonymous::Anonymous;
use super::metrics::{Attempts, Impersonations};
use super::service_account::Issuer;
use super::token::Tokens;
use super::x509::Certificates;
use crate::chain::Exchange;
use crate::config::Config;

/// Browsers cannot set headers on WebSockets: the token comes as a subprotocol.
const PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";
/// What front proxies say for whom they ask, if nothing else is configured.
const PROXY_HEADERS: [&str; 3] = ["x-remote-user", "x-remote-uid", "x-remote-group"];
const PROXY_EXTRA: &str = "x-remote-extra-";

/// Who is asking.
pub struct Authenticators {
    proxies: Option<RequestHeader>,
    certificates: Option<Certificates>,
    /// Also for who reviews a token.
    pub tokens: Tokens,
    anonymous: Anonymous,
    hidden: Hidden,
    attempts: Attempts,
    pub impersonations: Impersonations,
}

impl Authenticators {
    /// What the configuration names. `server` is this server's identity.
    ///
    /// # Errors
    /// If a file cannot be used.
    pub fn new(
        config: &Config,
        accounts: &Arc<Issuer>,
        tasks: &Supervisor,
        metrics: &Metrics,
        server: &str,
    ) -> anyhow::Result<Self> {
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
            Some(path) => {
                let uids = config.features.enabled("AllowParsingUserUIDFromCertAuth");
                let ca = ClientCa::from_file(path)?.with_uids(uids);
                Some(Certificates::new(ca.counted(metrics)))
            }
        };
        let given = &config.authentication;
        let (tokens, anonymous) = Tokens::open(given, accounts, tasks, metrics, server)?;
        Ok(Self {
            hidden: Hidden::of(proxies.as_ref()),
            proxies,
            certificates,
            tokens,
            anonymous,
            attempts: Attempts::register(metrics),
            impersonations: Impersonations::register(metrics),
        })
    }

    /// The user of a request.
    ///
    /// # Errors
    /// 401 if a credential is there and wrong, or none is there and nobody may be anonymous.
    pub async fn authenticate(&self, x: &mut Exchange) -> Result<User, Failure> {
        self.tokens.look();
        let started = Instant::now();
        let found = self.user(x).await;
        self.attempts.note(&found, started);
        match found {
            Ok(Some(user)) => Ok(user),
            Ok(None) => Err(Failure::unauthorized()),
            Err(why) => {
                tracing::debug!(why, "A credential was refused");
                Err(Failure::unauthorized())
            }
        }
    }

    /// The user of a request; none if it does not say, and must.
    async fn user(&self, x: &mut Exchange) -> Result<Option<User>, String> {
        let mut refused = None;
        // A certificate that is no proxy's may still be a user's: it is not verified for nothing.
        if let Some(proxies) = self.proxies.as_ref().filter(|p| p.is_said(&x.headers))
            && let Ok(Some(user)) = proxies.user(&x.connection, &x.headers)
        {
            return Ok(Some(user.authenticated()));
        }
        if let Some(certificates) = &self.certificates {
            match certificates.user(&x.connection) {
                Ok(Some(user)) => return Ok(Some(user.authenticated())),
                Ok(None) => {}
                Err(error) => refused = Some(untrusted(&error)),
            }
        }
        if let Some(token) = bearer(&x.headers).map_err(str::to_owned)? {
            let found = self.tokens.of_request(&x.server, &token).await;
            let verified = found.map_err(|refused| refused.to_string())?;
            x.warnings.extend(verified.warnings.iter().cloned());
            x.noted.extend(verified.annotations.iter().cloned());
            return Ok(Some(verified.user.clone().authenticated()));
        }
        match refused {
            Some(error) => Err(error),
            None => Ok(self.anonymous.user(&x.info.path)),
        }
    }

    /// Takes credentials and what front proxies say out of a request: nobody behind authentication sees
    /// them.
    pub fn hide(&self, headers: &mut HeaderMap) {
        headers.remove(AUTHORIZATION);
        hide_token(headers);
        self.hidden.take(headers);
    }
}

/// What front proxies say for whom they ask, by whatever names.
struct Hidden {
    names: Vec<HeaderName>,
    /// In lower case.
    prefixes: Vec<String>,
}

impl Hidden {
    fn of(proxies: Option<&RequestHeader>) -> Self {
        let mut hidden = Self {
            names: PROXY_HEADERS.map(HeaderName::from_static).to_vec(),
            prefixes: vec![PROXY_EXTRA.to_owned()],
        };
        if let Some(proxies) = proxies {
            let lists = [
                &proxies.username_headers,
                &proxies.uid_headers,
                &proxies.group_headers,
            ];
            let names = lists.into_iter().flatten();
            // A name that no header can have hides nothing.
            hidden
                .names
                .extend(names.filter_map(|name| name.parse().ok()));
            let prefixes = proxies.extra_prefixes.iter();
            hidden
                .prefixes
                .extend(prefixes.map(|p| p.to_ascii_lowercase()));
        }
        hidden
    }

    fn take(&self, headers: &mut HeaderMap) {
        for name in &self.names {
            headers.remove(name);
        }
        let is_extra = |name: &&HeaderName| {
            let name = name.as_str();
            self.prefixes
                .iter()
                .any(|prefix| name.starts_with(prefix.as_str()))
        };
        let extra: Vec<HeaderName> = headers.keys().filter(is_extra).cloned().collect();
        for name in extra {
            headers.remove(name);
        }
    }
}

fn untrusted(error: &Untrusted) -> String {
    format!("a client certificate was refused: {error}")
}

/// The bearer token of a request.
fn bearer(headers: &HeaderMap) -> Result<Option<String>, &'static str> {
    let given = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
    let mut parts = given.unwrap_or_default().trim().split(' ');
    if parts
        .next()
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer"))
        && let Some(token) = parts.next().filter(|token| !token.is_empty())
    {
        return Ok(Some(token.to_owned()));
    }
    if upgrade::is_websocket(headers) {
        return of_websocket(&upgrade::subprotocols(headers));
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
fn hide_token(headers: &mut HeaderMap) {
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
    fn a_token_is_the_word_after_bearer() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static(text));
            bearer(&headers).unwrap()
        };
        assert_eq!(of("Bearer token"), Some("token".to_owned()));
        assert_eq!(of(" bearer token more"), Some("token".to_owned()));
        for none in [
            "Bearer",
            "Bearer ",
            "Bearer  token",
            "Basic token",
            "token",
            "",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn what_proxies_say_is_seen_by_nobody_else() {
        let proxies = RequestHeader {
            ca: ClientCa::unset(),
            allowed_names: Vec::new(),
            username_headers: vec!["X-My-User".to_owned()],
            uid_headers: Vec::new(),
            group_headers: Vec::new(),
            extra_prefixes: vec!["X-My-Extra-".to_owned()],
        };
        let mut headers = HeaderMap::new();
        for name in [
            "x-my-user",
            "x-my-extra-a",
            "x-remote-user",
            "x-remote-extra-b",
            "accept",
        ] {
            headers.insert(name, HeaderValue::from_static("v"));
        }
        Hidden::of(Some(&proxies)).take(&mut headers);
        assert_eq!(headers.len(), 1);
        assert!(headers.contains_key("accept"));
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
