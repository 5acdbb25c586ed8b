//! The HTTP part: what a client asks for, what is answered, and the connection that is then ours.
//!
//! Sources: `k8s.io/streaming/pkg/httpstream` and its `wsstream`. Refusals have upstream's codes and
//! texts.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use hyper_util::rt::TokioIo;

use super::spdy;
use crate::serving::{Response, full, text};

/// What SPDY clients and servers agree on with.
pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_VERSIONS: HeaderName =
    HeaderName::from_static("x-accepted-stream-protocol-versions");
/// What comes before the name of a SPDY protocol that is tunnelled through WebSocket.
pub const TUNNEL: &str = "SPDY/3.1+";
const TUNNELLED: &str = ".k8s.io";

/// RFC 6455, 1.3.
const ACCEPT_KEY: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A connection after its upgrade.
pub type Io = TokioIo<hyper::upgrade::Upgraded>;

/// Whether a client wants something else than HTTP.
#[must_use]
pub fn is_asked(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.to_ascii_lowercase().contains("upgrade"))
}

/// Whether it wants WebSocket.
#[must_use]
pub fn is_websocket(headers: &HeaderMap) -> bool {
    is_asked(headers)
        && headers
            .get(UPGRADE)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The subprotocols that a WebSocket client offers, the preferred one first.
#[must_use]
pub fn subprotocols(headers: &HeaderMap) -> Vec<&str> {
    listed(headers, &SEC_WEBSOCKET_PROTOCOL)
}

/// The SPDY protocols that a WebSocket client wants to tunnel.
#[must_use]
pub fn tunnelled(headers: &HeaderMap) -> Vec<&str> {
    subprotocols(headers)
        .into_iter()
        .filter_map(|name| name.strip_prefix(TUNNEL))
        .filter(|name| name.ends_with(TUNNELLED))
        .collect()
}

fn listed<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .collect()
}

fn first_common<'a>(theirs: &[&str], ours: &[&'a str]) -> Option<&'a str> {
    theirs
        .iter()
        .find_map(|wanted| ours.iter().find(|own| *own == wanted))
        .copied()
}

/// Agrees on a SPDY protocol; the protocol and the answer that switches.
///
/// # Errors
/// The answer that refuses.
pub fn spdy<'a>(
    headers: &HeaderMap,
    supported: &[&'a str],
) -> Result<(&'a str, Response), Box<Response>> {
    let refuse = |code, reason: String| Err(Box::new(text(code, reason + "\n")));
    if !headers.contains_key(&PROTOCOL_VERSION) {
        let reason = format!(
            "unable to upgrade: header X-Stream-Protocol-Version does not exist in request with {} headers",
            headers.keys_len()
        );
        return refuse(StatusCode::BAD_REQUEST, reason);
    }
    let theirs = listed(headers, &PROTOCOL_VERSION);
    if theirs.is_empty() {
        let reason = "unable to upgrade: header X-Stream-Protocol-Version contains [], but no valid protocols";
        return refuse(StatusCode::BAD_REQUEST, reason.to_owned());
    }
    let Some(protocol) = first_common(&theirs, supported) else {
        return Err(Box::new(no_common(&theirs, supported)));
    };
    if !is_spdy(headers) {
        let reason = "unable to upgrade: missing upgrade headers in request";
        return refuse(StatusCode::BAD_REQUEST, reason.to_owned());
    }
    let mut answer = switching(spdy::PROTOCOL);
    if let Ok(value) = HeaderValue::from_str(protocol) {
        answer.headers_mut().insert(PROTOCOL_VERSION, value);
    }
    Ok((protocol, answer))
}

fn no_common(theirs: &[&str], supported: &[&str]) -> Response {
    let reason = format!(
        "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]\n",
        theirs.join(" "),
        supported.join(" ")
    );
    let mut answer = text(StatusCode::FORBIDDEN, reason);
    for name in supported {
        if let Ok(value) = HeaderValue::from_str(name) {
            answer.headers_mut().append(ACCEPTED_VERSIONS, value);
        }
    }
    answer
}

/// Agrees on a WebSocket subprotocol. `None` among the supported ones is a client that names none.
///
/// # Errors
/// The answer that refuses.
pub fn websocket<'a>(
    method: &Method,
    headers: &HeaderMap,
    supported: &[&'a str],
    nameless: bool,
) -> Result<(Option<&'a str>, Response), Box<Response>> {
    let refuse = |code, reason: &str| Err(Box::new(text(code, reason.to_owned())));
    if *method != Method::GET {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "bad method\n");
    }
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .map(HeaderValue::as_bytes)
        != Some(b"13")
    {
        let mut answer = text(
            StatusCode::BAD_REQUEST,
            "missing or bad WebSocket Version\n",
        );
        let version = HeaderValue::from_static("13");
        answer.headers_mut().insert(SEC_WEBSOCKET_VERSION, version);
        return Err(Box::new(answer));
    }
    let Some(key) = headers.get(SEC_WEBSOCKET_KEY) else {
        return refuse(StatusCode::BAD_REQUEST, "mismatch challenge/response\n");
    };
    let theirs = subprotocols(headers);
    let protocol = first_common(&theirs, supported);
    if protocol.is_none() && !(nameless && theirs.is_empty()) {
        return refuse(StatusCode::FORBIDDEN, "");
    }
    let mut answer = switching("websocket");
    let out = answer.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&accept(key.as_bytes())) {
        out.insert(SEC_WEBSOCKET_ACCEPT, value);
    }
    if let Some(value) = protocol.and_then(|p| HeaderValue::from_str(p).ok()) {
        out.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    Ok((protocol, answer))
}

/// Asks for SPDY, with these protocols, the preferred one first.
pub fn ask_spdy(headers: &mut HeaderMap, protocols: &[&str]) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(spdy::PROTOCOL));
    headers.remove(&PROTOCOL_VERSION);
    for name in protocols {
        if let Ok(value) = HeaderValue::from_str(name) {
            headers.append(PROTOCOL_VERSION, value);
        }
    }
}

/// Whether the headers of an answer say that the connection speaks SPDY now.
#[must_use]
pub fn is_spdy(headers: &HeaderMap) -> bool {
    is_asked(headers)
        && headers
            .get(UPGRADE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.to_ascii_lowercase().contains("spdy/3.1"))
}

/// What proves to a client that its key was read.
#[must_use]
pub fn accept(key: &[u8]) -> String {
    let proof = [key, ACCEPT_KEY.as_bytes()].concat();
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &proof);
    BASE64_STANDARD.encode(digest)
}

fn switching(to: &'static str) -> Response {
    let mut answer = http::Response::new(full(""));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(to));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            let name: HeaderName = name.parse().unwrap();
            (name, value.parse().unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn the_proof_is_the_specifications() {
        assert_eq!(
            accept(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn the_first_protocol_of_the_client_that_is_supported_is_agreed_on() {
        let asked = headers(&[
            ("connection", "Upgrade"),
            ("upgrade", "SPDY/3.1"),
            (
                "x-stream-protocol-version",
                "v5.channel.k8s.io, v4.channel.k8s.io",
            ),
            ("x-stream-protocol-version", "v3.channel.k8s.io"),
        ]);
        let supported = ["v3.channel.k8s.io", "v4.channel.k8s.io"];
        let (protocol, answer) = spdy(&asked, &supported).unwrap();
        assert_eq!(protocol, "v4.channel.k8s.io");
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.headers()["upgrade"], "SPDY/3.1");
        assert_eq!(answer.headers()["x-stream-protocol-version"], protocol);
        let refused = spdy(&asked, &["other"]).unwrap_err();
        assert_eq!(refused.status(), 403);
        let accepted = &refused.headers()["x-accepted-stream-protocol-versions"];
        assert_eq!(accepted, "other");
        assert_eq!(
            spdy(&HeaderMap::new(), &supported).unwrap_err().status(),
            400
        );
    }

    #[test]
    fn what_asks_for_spdy_is_understood_as_such() {
        let mut asked = headers(&[("x-stream-protocol-version", "of somebody else")]);
        assert!(!is_spdy(&asked));
        ask_spdy(&mut asked, &["b", "a"]);
        assert!(is_spdy(&asked));
        let (protocol, answer) = spdy(&asked, &["a", "b"]).unwrap();
        assert_eq!(protocol, "b");
        assert!(is_spdy(answer.headers()));
        asked.insert(UPGRADE, "websocket".parse().unwrap());
        assert!(!is_spdy(&asked));
    }

    #[test]
    fn websocket_clients_may_name_no_protocol_where_that_is_allowed() {
        let mut asked = headers(&[
            ("connection", "keep-alive, upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "eA=="),
        ]);
        assert!(is_websocket(&asked));
        let ask = |asked: &HeaderMap, nameless| {
            websocket(&Method::GET, asked, &["a", "b"], nameless).map(|a| a.0)
        };
        assert_eq!(ask(&asked, true).unwrap(), None);
        assert_eq!(ask(&asked, false).unwrap_err().status(), 403);
        asked.insert(
            SEC_WEBSOCKET_PROTOCOL,
            "x, b, SPDY/3.1+portforward.k8s.io".parse().unwrap(),
        );
        assert_eq!(ask(&asked, false).unwrap(), Some("b"));
        assert_eq!(tunnelled(&asked), ["portforward.k8s.io"]);
        asked.insert(SEC_WEBSOCKET_VERSION, "8".parse().unwrap());
        assert_eq!(ask(&asked, true).unwrap_err().status(), 400);
    }
}
