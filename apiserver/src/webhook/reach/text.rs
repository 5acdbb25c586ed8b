//! Why a call failed, in the words that people look for: those of upstream's client and of Go.

use std::io::ErrorKind;

use component::client::{Error, TransportError};
use rustls::{CertificateError, Error as Tls};

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
    match code {
        401 => "the server has asked for the client to provide credentials".to_owned(),
        404 => "the server could not find the requested resource".to_owned(),
        429 => "the server has received too many requests and has asked us to try again later"
            .to_owned(),
        503 => "the server is currently unable to handle the request".to_owned(),
        504 => "the server was unable to return a response in the time allotted, but may still be processing the request"
            .to_owned(),
        500.. => {
            let body = if body.is_empty() { "unknown" } else { body };
            let shown = proto::path::quote(body);
            format!("an error on the server ({shown}) has prevented the request from succeeding")
        }
        _ => format!("the server responded with the status code {code} but did not return more information"),
    }
}

fn unconnected(cause: &std::io::Error, address: &str) -> String {
    match cause.kind() {
        ErrorKind::ConnectionRefused => format!("dial tcp {address}: connect: connection refused"),
        ErrorKind::TimedOut => format!("dial tcp {address}: i/o timeout"),
        ErrorKind::HostUnreachable => format!("dial tcp {address}: connect: no route to host"),
        ErrorKind::NetworkUnreachable => {
            format!("dial tcp {address}: connect: network is unreachable")
        }
        _ => match cause.get_ref().and_then(|e| e.downcast_ref::<Tls>()) {
            Some(Tls::InvalidCertificate(why)) => {
                format!("tls: failed to verify certificate: x509: {}", invalid(why))
            }
            Some(tls) => format!("tls: {tls}"),
            None => cause.to_string(),
        },
    }
}

fn invalid(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate has expired or is not yet valid".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate has expired or is not yet valid".to_owned()
        }
        other => format!("certificate is not valid: {other}"),
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
        assert_eq!(answered(500, "my own words"), "my own words");
    }
}
