//! What a registry wants to know before it answers: `WWW-Authenticate`, tokens.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, USER_AGENT};
use http::{HeaderValue, Request, Uri};
use serde::Deserialize;

use super::hosts::Host;
use super::transport::Transport;
use super::{Error, MESSAGE_MAX, Result, user_agent};
use crate::image::auth::Credential;

/// One way to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// Lower case.
    pub(crate) scheme: String,
    pub(crate) parameters: BTreeMap<String, String>,
}

/// Bytes of a token server's answer.
const TOKEN_MAX: usize = 1 << 20;

/// Reads a `WWW-Authenticate` header, which may hold several challenges.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let end = rest.find(['=', ',', ' ']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if let Some(value) = after.strip_prefix('=') {
            let (value, after) = parameter(value);
            if let Some(challenge) = challenges.last_mut() {
                challenge
                    .parameters
                    .insert(word.to_ascii_lowercase(), value);
            }
            rest = after;
        } else if !word.is_empty() {
            let scheme = word.to_ascii_lowercase();
            challenges.push(Challenge {
                scheme,
                parameters: BTreeMap::new(),
            });
            rest = after;
        }
        let trimmed = rest.trim_start_matches([' ', ',', '\t']);
        // A stray character must not stop us for ever.
        let stuck = trimmed.len() == header.len() || (word.is_empty() && trimmed == after);
        rest = if stuck {
            trimmed.get(1..).unwrap_or_default()
        } else {
            trimmed
        };
    }
    challenges
}

/// A value, quoted or not, and what follows it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([',', ' ']).unwrap_or(text.len()));
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// Asks the registry's token server for a token, with our name if we have one.
pub(super) async fn token(
    transport: &Transport,
    host: &Host,
    challenge: &Challenge,
    scope: &str,
    credential: Option<&Credential>,
) -> Result<HeaderValue> {
    let bad = |reason| Error::Protocol {
        host: host.authority().to_owned(),
        reason,
    };
    let realm = challenge
        .parameters
        .get("realm")
        .ok_or_else(|| bad("names no token server"))?;
    let mut uri = realm.clone();
    let mut separator = if realm.contains('?') { '&' } else { '?' };
    let service = challenge
        .parameters
        .get("service")
        .map(|service| ("service", service.as_str()));
    for (key, value) in service.into_iter().chain([("scope", scope)]) {
        uri.push_str(&format!("{separator}{key}={}", escape(value)));
        separator = '&';
    }
    let uri: Uri = uri
        .parse()
        .map_err(|_| bad("names an invalid token server"))?;
    let server = uri.authority().map(ToString::to_string).unwrap_or_default();
    // A password does not go over the wire in the clear because a registry says so.
    if host.is_tls() && uri.scheme_str() != Some("https") {
        return Err(bad("names a token server without TLS"));
    }
    let mut request = Request::get(uri).header(USER_AGENT, user_agent());
    if let Some(credential) = credential {
        request = request.header(AUTHORIZATION, basic(credential));
    }
    let request = request
        .body(())
        .map_err(|_| bad("names an invalid token server"))?;
    let (status, _, mut body) = transport.send(request, host).await?;
    if !status.is_success() {
        let message = body.text(MESSAGE_MAX).await;
        let what = format!("token for {scope}");
        return Err(match status.as_u16() {
            401 | 403 => Error::Denied {
                what,
                host: server,
                message,
            },
            _ => Error::Status {
                what,
                host: server,
                status,
                message,
            },
        });
    }
    #[derive(Deserialize)]
    struct Token {
        token: Option<String>,
        access_token: Option<String>,
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        if bytes.len() + chunk.len() > TOKEN_MAX {
            return Err(Error::TooLarge {
                what: "token".into(),
                host: server,
            });
        }
        bytes.extend_from_slice(&chunk);
    }
    let token = serde_json::from_slice::<Token>(&bytes).ok();
    let token = token.and_then(|t| t.token.filter(|t| !t.is_empty()).or(t.access_token));
    let value = token.and_then(|token| format!("Bearer {token}").parse::<HeaderValue>().ok());
    let mut value = value.ok_or(Error::Protocol {
        host: server,
        reason: "sent no token",
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The credential itself, as a header's value.
pub(super) fn basic(credential: &Credential) -> HeaderValue {
    let pair = format!("{}:{}", credential.username, credential.password);
    let text = format!("Basic {}", STANDARD.encode(pair));
    let mut value = HeaderValue::try_from(text).expect("base64 is valid in a header");
    value.set_sensitive(true);
    value
}

/// A value as part of a query.
fn escape(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    let byte = |b: u8| {
        if plain(b) {
            char::from(b).to_string()
        } else {
            format!("%{b:02X}")
        }
    };
    value.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let found = parse(
            "Bearer realm=\"https://auth.example/token\",service=\"r.example\",scope=\"a:b,c\", \
             Basic realm=\"x \\\"y\\\"\"",
        );
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].scheme, "bearer");
        assert_eq!(found[0].parameters["realm"], "https://auth.example/token");
        assert_eq!(found[0].parameters["scope"], "a:b,c");
        assert_eq!(found[1].parameters["realm"], r#"x "y""#);
        assert_eq!(parse("BASIC")[0].scheme, "basic");
    }

    #[test]
    fn garbage_ends() {
        for text in [
            "",
            "=",
            "==,,",
            "a=b=c",
            "Bearer realm=\"",
            ", , =x",
            "Bearer =\"x\" y=",
            "\"",
        ] {
            parse(text);
        }
    }

    #[test]
    fn scopes_are_escaped() {
        assert_eq!(escape("repository:a/b:pull"), "repository%3Aa%2Fb%3Apull");
    }
}
