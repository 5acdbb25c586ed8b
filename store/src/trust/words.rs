//! Why a handshake failed, in the words of Go's `crypto/tls`.

use std::io;

use rustls::{AlertDescription as Alert, InvalidMessage};

use super::Untrusted;

/// A handshake's failure, told as Go tells it; what is no failure of TLS stays as it is.
#[must_use]
pub fn in_words(error: io::Error) -> io::Error {
    let tls = error.get_ref().and_then(|e| e.downcast_ref());
    match tls.map(words) {
        Some(words) => io::Error::new(error.kind(), words),
        None => error,
    }
}

/// A failure of TLS, told as Go tells it where Go has it.
#[must_use]
pub fn words(error: &rustls::Error) -> String {
    if let Some(why) = Untrusted::of_rustls(error) {
        return format!("tls: failed to verify certificate: {why}");
    }
    match error {
        rustls::Error::AlertReceived(alert) => format!("remote error: tls: {}", said(*alert)),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "tls: first record does not look like a TLS handshake".to_owned()
        }
        other => format!("tls: {other}"),
    }
}

/// What the other side said when it hung up (`crypto/tls/alert.go`).
fn said(alert: Alert) -> String {
    let text = match alert {
        Alert::AccessDenied => "access denied",
        Alert::BadCertificate => "bad certificate",
        Alert::CertificateExpired => "expired certificate",
        Alert::CertificateRequired => "certificate required",
        Alert::CertificateRevoked => "revoked certificate",
        Alert::CertificateUnknown => "unknown certificate",
        Alert::DecodeError => "error decoding message",
        Alert::DecryptError => "error decrypting message",
        Alert::HandshakeFailure => "handshake failure",
        Alert::InternalError => "internal error",
        Alert::NoApplicationProtocol => "no application protocol",
        Alert::ProtocolVersion => "protocol version not supported",
        Alert::UnexpectedMessage => "unexpected message",
        Alert::UnknownCA => "unknown certificate authority",
        Alert::UnrecognisedName => "unrecognized name",
        Alert::UnsupportedCertificate => "unsupported certificate",
        other => return format!("{other:?}"),
    };
    text.to_owned()
}
