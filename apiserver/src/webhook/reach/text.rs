//! Why a call failed, in the words that people look for: those of upstream's client and of Go.

use std::io::ErrorKind;

use component::client::{Error, TransportError};

/// The code of the answer, 0 if there was none, and the text; `address` is where it was looked for.
pub(super) fn of(error: &Error, address: &str) -> (u16, String) {
    match error {
        Error::Status(status) => {
            let code = error.code().unwrap_or(500);
            let said = status.message.as_deref().unwrap_or_default();
            (code, answered(code, said))
        }
        Error::Transport {
            cause: TransportError::Connect(cause),
            ..
        } => (0, unconnected(cause, address)),
        Error::Transport { cause, .. } => (0, component::supervisor::chain(cause)),
        other => (0, component::supervisor::chain(other)),
    }
}

/// A `Status` speaks for itself; other answers are told as upstream's `NewGenericServerResponse` tells them.
fn answered(code: u16, said: &str) -> String {
    let generic = said.strip_prefix("the server answered ");
    let Some((_, body)) = generic.and_then(|rest| rest.split_once(": ")) else {
        return said.to_owned();
    };
    let body = if body.is_empty() { "unknown" } else { body };
    let known = match code {
        400 => "the server rejected our request for an unknown reason",
        401 => "the server has asked for the client to provide credentials",
        403 | 415 => body,
        404 => "the server could not find the requested resource",
        406 if body == "unknown" => {
            "the server was unable to respond with a content type that the client supports"
        }
        406 => body,
        405 => "the server does not allow this method on the requested resource",
        409 => "the server reported a conflict",
        422 => "the server rejected our request due to an error in our request",
        429 => "the server has received too many requests and has asked us to try again later",
        503 => "the server is currently unable to handle the request",
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
        }
        500.. => {
            let shown = proto::path::quote(body);
            return format!(
                "an error on the server ({shown}) has prevented the request from succeeding"
            );
        }
        _ => {
            return format!(
                "the server responded with the status code {code} but did not return more information"
            );
        }
    };
    known.to_owned()
}

/// Why there is no connection to an address.
pub(super) fn unconnected(cause: &std::io::Error, address: &str) -> String {
    match cause.kind() {
        ErrorKind::ConnectionRefused => format!("dial tcp {address}: connect: connection refused"),
        ErrorKind::TimedOut => format!("dial tcp {address}: i/o timeout"),
        ErrorKind::HostUnreachable => format!("dial tcp {address}: connect: no route to host"),
        ErrorKind::NetworkUnreachable => {
            format!("dial tcp {address}: connect: network is unreachable")
        }
        // Failures of TLS are told in Go's words already.
        _ => cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_none_are_told_as_upstream_tells_them() {
        let of = |code: u16, body: &str| {
            let status = http::StatusCode::from_u16(code).unwrap();
            answered(code, &format!("the server answered {status}: {body}"))
        };
        assert_eq!(
            of(404, "x"),
            "the server could not find the requested resource"
        );
        let said = "an error on the server (\"it \\\"broke\\\"\") has prevented the request from succeeding";
        assert_eq!(of(500, "it \"broke\""), said);
        assert!(of(502, "").contains("unknown"));
        assert_eq!(of(403, "not you: never"), "not you: never");
        assert_eq!(of(403, ""), "unknown");
        let refused = "the server rejected our request for an unknown reason";
        assert_eq!(of(400, "x"), refused);
        let none =
            "the server responded with the status code 307 but did not return more information";
        assert_eq!(of(307, ""), none);
        assert_eq!(answered(500, "my own words"), "my own words");
    }
}
