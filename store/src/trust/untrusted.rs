//! Why a certificate is not believed, in the words of Go's `crypto/x509` (`verify.go`): they stand in the
//! messages that clients are given, and people look for them.

use std::fmt;
use std::sync::Arc;

use rustls::{CertificateError, OtherError};
use x509_parser::time::ASN1Time;

/// Why a certificate is not believed. It reads as in Go, `x509: ` in front.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum Untrusted {
    /// It cannot be read, or is written as none may be.
    #[error("x509: {0}")]
    Malformed(String),
    #[error("x509: unhandled critical extension")]
    UnhandledCriticalExtension,
    #[error(
        "x509: certificate has expired or is not yet valid: current time {now} is {side} {bound}"
    )]
    Expired {
        now: Time,
        side: &'static str,
        bound: Time,
    },
    #[error("x509: certificate is not authorized to sign other certificates")]
    NotAuthorizedToSign,
    #[error("x509: too many intermediates for path length constraint")]
    TooManyIntermediates,
    #[error("x509: certificate specifies an incompatible key usage")]
    IncompatibleUsage,
    #[error(
        "x509: a root or intermediate certificate is not authorized to sign for this name: {0}"
    )]
    Constrained(String),
    #[error("x509: no valid chains built: 1 candidate chains with invalid policies")]
    Policies,
    #[error("x509: {0}")]
    Name(String),
    #[error("x509: certificate signed by unknown authority{}", hint(.0.as_deref()))]
    UnknownAuthority(Option<Box<Hint>>),
    #[error("x509: signature check attempts limit reached while verifying certificate chain")]
    SignatureLimit,
    /// A candidate did not sign it.
    #[error("{0}")]
    Signature(&'static str),
    /// What webpki alone objects to.
    #[error("x509: {0}")]
    Objection(String),
}

/// The authority that might have been the one, and why it is not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hint {
    pub(super) because: Untrusted,
    pub(super) candidate: String,
}

fn hint(hint: Option<&Hint>) -> String {
    hint.map_or_else(String::new, |hint| {
        let because = hint.because.to_string();
        format!(
            " (possibly because of {because:?} while trying to verify candidate authority certificate {:?})",
            hint.candidate
        )
    })
}

/// Seconds of the epoch, told as RFC 3339 has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Time(pub(super) i64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(time) = ASN1Time::from_timestamp(self.0) else {
            return write!(f, "{} s", self.0);
        };
        let t = time.to_datetime();
        let (year, month, day) = (t.year(), u8::from(t.month()), t.day());
        let (hour, minute, second) = t.to_hms();
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

impl Untrusted {
    /// For rustls, which hands it on to whoever asked for the connection.
    #[must_use]
    pub fn into_rustls(self) -> rustls::Error {
        CertificateError::Other(OtherError(Arc::new(self))).into()
    }

    /// What [`Untrusted::into_rustls`] made an error of.
    #[must_use]
    pub fn of_rustls(error: &rustls::Error) -> Option<&Self> {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) => {
                cause.downcast_ref()
            }
            _ => None,
        }
    }
}
