//! Client certificates: which to trust, and whom they name.
//!
//! Common name is user, organizations are groups, as in
//! `k8s.io/apiserver/pkg/authentication/request/x509`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;

use super::tls::{Error, roots, roots_of};
use super::{Connection, User};
use crate::files::FromFiles;

/// Why a certificate names nobody.
#[derive(thiserror::Error, Clone, PartialEq, Debug)]
pub enum Untrusted {
    #[error("verifying certificate {subject} failed: {cause}")]
    Chain {
        subject: String,
        cause: rustls::Error,
    },
    #[error("no authority is known yet")]
    Unset,
    #[error("certificate cannot be read")]
    Unreadable,
    #[error("certificate has no common name")]
    Nameless,
    #[error("certificate is {0:?}'s, who is no front proxy")]
    Name(String),
}

/// The authorities whose client certificates are trusted; cheap to clone.
#[derive(Clone)]
pub struct ClientCa {
    source: Arc<Source>,
}

enum Source {
    File(FromFiles<Arc<dyn ClientCertVerifier>>),
    /// Set from outside, such as from a ConfigMap; none until it is.
    Given(RwLock<Option<Arc<dyn ClientCertVerifier>>>),
}

/// The attribute of a subject that holds the user's UID
/// (`AllowParsingUserUIDFromCertAuth`, KEP-4982).
const UID_OID: &str = "1.3.6.1.4.1.57683.2";
/// The extra attribute that identifies the credential.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

impl ClientCa {
    /// The authorities in a PEM file, read again when it changes.
    ///
    /// # Errors
    /// If the file holds no certificate that can be an authority.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let read = path.to_owned();
        let origin = path.display().to_string();
        let file = FromFiles::new(vec![path.to_owned()], move || {
            verifier(roots(&read)?, &origin)
        })?;
        Ok(Self {
            source: Arc::new(Source::File(file)),
        })
    }

    /// Authorities that [`ClientCa::set`] gives.
    #[must_use]
    pub fn unset() -> Self {
        Self {
            source: Arc::new(Source::Given(RwLock::new(None))),
        }
    }

    /// Replaces the authorities by those in a PEM text; an empty one trusts nobody. Without effect on
    /// authorities from a file.
    ///
    /// # Errors
    /// If the text holds no certificate that can be an authority; the old ones stay then.
    pub fn set(&self, pem: &str) -> Result<(), Error> {
        let Source::Given(current) = &*self.source else {
            return Ok(());
        };
        let origin = "the cluster's configuration";
        let new = if pem.trim().is_empty() {
            None
        } else {
            Some(verifier(roots_of(pem.as_bytes(), origin)?, origin)?)
        };
        *current.write() = new;
        Ok(())
    }

    fn verifier(&self) -> Option<Arc<dyn ClientCertVerifier>> {
        match &*self.source {
            Source::File(file) => Some(Arc::clone(&*file.current())),
            Source::Given(current) => current.read().clone(),
        }
    }

    /// Whether the certificate is signed for clients by one of the authorities, now.
    ///
    /// # Errors
    /// If it is not.
    pub fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<(), Untrusted> {
        match self.verifier() {
            Some(verifier) => verify(&*verifier, chain),
            None => Err(Untrusted::Unset),
        }
    }

    /// The user that a connection's certificate names; none if it sent none, or nobody is trusted yet.
    ///
    /// # Errors
    /// If the certificate is not to be trusted.
    pub fn user(&self, connection: &Connection) -> Result<Option<User>, Untrusted> {
        let Some(tls) = connection.tls.as_ref().filter(|t| !t.chain.is_empty()) else {
            return Ok(None);
        };
        let Some(verifier) = self.verifier() else {
            return Ok(None);
        };
        verify(&*verifier, &tls.chain)?;
        user_of(&tls.chain[0]).map(Some)
    }
}

fn verify(
    verifier: &dyn ClientCertVerifier,
    chain: &[CertificateDer<'_>],
) -> Result<(), Untrusted> {
    let (leaf, intermediates) = chain.split_first().ok_or(Untrusted::Unreadable)?;
    let verified = verifier.verify_client_cert(leaf, intermediates, UnixTime::now());
    verified.map(drop).map_err(|cause| Untrusted::Chain {
        subject: subject(leaf),
        cause,
    })
}

fn verifier(
    roots: rustls::RootCertStore,
    origin: &str,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|e| Error::Authority {
            origin: origin.to_owned(),
            cause: rustls::Error::General(e.to_string()),
        })
}

/// Whom a certificate names, without asking who signed it.
///
/// # Errors
/// If it cannot be read or has no common name.
pub(crate) fn user_of(cert: &CertificateDer<'_>) -> Result<User, Untrusted> {
    let parsed = parse(cert)?;
    let subject = parsed.subject();
    let text =
        |a: &x509_parser::x509::AttributeTypeAndValue<'_>| a.as_str().ok().map(str::to_owned);
    let name = subject
        .iter_common_name()
        .last()
        .and_then(text)
        .filter(|n| !n.is_empty())
        .ok_or(Untrusted::Nameless)?;
    let uid = subject
        .iter_attributes()
        .find(|a| a.attr_type().to_id_string() == UID_OID)
        .and_then(text);
    let digest = ring::digest::digest(&ring::digest::SHA256, cert.as_ref());
    let credential = digest
        .as_ref()
        .iter()
        .fold("X509SHA256=".to_owned(), |id, byte| {
            id + &format!("{byte:02x}")
        });
    Ok(User {
        name,
        uid: uid.unwrap_or_default(),
        groups: subject.iter_organization().filter_map(text).collect(),
        extra: BTreeMap::from([(CREDENTIAL_ID.to_owned(), vec![credential])]),
    })
}

/// The common name of a certificate.
pub(crate) fn common_name(cert: &CertificateDer<'_>) -> Result<String, Untrusted> {
    user_of(cert).map(|user| user.name)
}

fn parse<'a>(cert: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Untrusted> {
    x509_parser::parse_x509_certificate(cert)
        .map(|(_, c)| c)
        .map_err(|_| Untrusted::Unreadable)
}

fn subject(cert: &CertificateDer<'_>) -> String {
    parse(cert).map_or_else(|_| "unreadable".to_owned(), |c| c.subject().to_string())
}
