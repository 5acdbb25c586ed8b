//! Client certificates: which to trust, and whom they name.
//!
//! Common name is user, organizations are groups, as in
//! `k8s.io/apiserver/pkg/authentication/request/x509`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use prometheus_client::metrics::family::MetricConstructor;
use prometheus_client::metrics::histogram::Histogram;
use rustls_pki_types::{CertificateDer, UnixTime};
use store::trust::{self, Expiry, Origin, Roots, Usage};
use x509_parser::certificate::X509Certificate;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::tls::{Error, roots, roots_of};
use super::{Connection, TlsPeer, User};
use crate::files::FromFiles;
use crate::metrics::{Buckets, Metrics};

/// Why a certificate names nobody.
#[derive(thiserror::Error, Clone, PartialEq, Debug)]
pub enum Untrusted {
    #[error("verifying certificate {subject} failed: {cause}")]
    Chain {
        subject: String,
        cause: trust::Untrusted,
    },
    #[error("no authority is known yet")]
    Unset,
    #[error("certificate cannot be read")]
    Unreadable,
    #[error("certificate has no common name")]
    Nameless,
    #[error("certificate is {0:?}'s, who is no front proxy")]
    Name(String),
    #[error("expected 1 UID, but found multiple: [{}]", .0.join(" "))]
    Uids(Vec<String>),
    #[error("UID cannot be an empty string")]
    NoUid,
}

/// The authorities whose client certificates are trusted; cheap to clone.
#[derive(Clone)]
pub struct ClientCa {
    source: Arc<Source>,
    /// Whether certificates name users' UIDs.
    uids: bool,
    /// How long the certificates of requests last.
    left: Option<Histogram>,
}

/// From half an hour to a year, and what has ended.
const LEFT: Buckets = Buckets(&[
    0.0,
    1800.0,
    3600.0,
    7200.0,
    21600.0,
    43200.0,
    86400.0,
    172_800.0,
    345_600.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
]);

enum Source {
    File(FromFiles<Authorities>),
    /// Set from outside, such as from a ConfigMap; none until it is.
    Given(RwLock<Option<Arc<Authorities>>>),
}

struct Authorities {
    roots: Roots,
    expiry: Expiry,
}

impl Authorities {
    fn new(origin: Origin<'_>, roots: Roots) -> Self {
        let mut expiry = Expiry::default();
        expiry.add_roots(origin, &roots);
        expiry.look();
        Self { roots, expiry }
    }
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
        let file = FromFiles::new(vec![path.to_owned()], move || {
            roots(&read).map(|roots| Authorities::new(Origin::File(&read), roots))
        })?;
        Ok(Self {
            source: Arc::new(Source::File(file)),
            uids: true,
            left: None,
        })
    }

    /// Authorities that [`ClientCa::set`] gives.
    #[must_use]
    pub fn unset() -> Self {
        Self {
            source: Arc::new(Source::Given(RwLock::new(None))),
            uids: true,
            left: None,
        }
    }

    /// The same, whether UIDs of users are read or not.
    #[must_use]
    pub fn with_uids(self, uids: bool) -> Self {
        Self { uids, ..self }
    }

    /// The same, which counts how long the certificates last that requests come with.
    #[must_use]
    pub fn counted(self, metrics: &Metrics) -> Self {
        let left = metrics.registered(
            "apiserver_client_certificate_expiration_seconds",
            "How long the certificate will last that a request comes with",
            LEFT.new_metric(),
        );
        Self {
            left: Some(left),
            ..self
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
            let roots = roots_of(pem.as_bytes(), origin)?;
            let origin = Origin::Elsewhere(origin);
            Some(Arc::new(Authorities::new(origin, roots)))
        };
        *current.write() = new;
        Ok(())
    }

    fn authorities(&self) -> Option<Arc<Authorities>> {
        let current = match &*self.source {
            Source::File(file) => Some(file.current()),
            Source::Given(current) => current.read().clone(),
        };
        if let Some(authorities) = &current {
            authorities.expiry.look();
        }
        current
    }

    /// Whether the certificate is signed for clients by one of the authorities, now.
    ///
    /// # Errors
    /// If it is not.
    pub fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<(), Untrusted> {
        match self.authorities() {
            Some(authorities) => verify(&authorities.roots, chain),
            None => Err(Untrusted::Unset),
        }
    }

    /// Counts how long the certificate of a request lasts. [`ClientCa::user`] does, believed or not;
    /// this is for who remembers what that said.
    pub fn count(&self, tls: &TlsPeer) {
        if let (Some(left), Some(ends)) = (&self.left, tls.ends) {
            let now = UnixTime::now().as_secs();
            #[expect(
                clippy::cast_precision_loss,
                reason = "a histogram of hours and more does not miss what a float of seconds loses"
            )]
            left.observe(ends.saturating_sub_unsigned(now) as f64);
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
        let Some(authorities) = self.authorities() else {
            return Ok(None);
        };
        self.count(tls);
        verify(&authorities.roots, &tls.chain)?;
        user_of(&tls.chain[0], self.uids).map(Some)
    }
}

fn verify(roots: &Roots, chain: &[CertificateDer<'_>]) -> Result<(), Untrusted> {
    let leaf = chain.first().ok_or(Untrusted::Unreadable)?;
    let verified = roots.verify(chain, Usage::Client, None, UnixTime::now());
    verified.map_err(|cause| Untrusted::Chain {
        subject: subject(leaf),
        cause,
    })
}

fn text(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    attribute.as_str().ok().map(str::to_owned)
}

fn name_of(subject: &X509Name<'_>) -> Result<String, Untrusted> {
    let name = subject.iter_common_name().last().and_then(text);
    name.filter(|name| !name.is_empty())
        .ok_or(Untrusted::Nameless)
}

/// `parseUIDFromCert`: one, or none.
fn uid_of(subject: &X509Name<'_>) -> Result<String, Untrusted> {
    let named = subject.iter_attributes();
    let named = named.filter(|a| a.attr_type().to_id_string() == UID_OID);
    let mut all: Vec<String> = named
        .map(|a| text(a).ok_or(Untrusted::Unreadable))
        .collect::<Result<_, _>>()?;
    match all.len() {
        0 => Ok(String::new()),
        1 if all[0].is_empty() => Err(Untrusted::NoUid),
        1 => Ok(all.remove(0)),
        _ => Err(Untrusted::Uids(all)),
    }
}

/// Whom a certificate names, without asking who signed it; with his UID if that is read.
///
/// # Errors
/// If it cannot be read, has no common name, or several UIDs.
pub(crate) fn user_of(cert: &CertificateDer<'_>, uids: bool) -> Result<User, Untrusted> {
    let parsed = parse(cert)?;
    let subject = parsed.subject();
    let name = name_of(subject)?;
    let uid = match uids {
        true => uid_of(subject)?,
        false => String::new(),
    };
    let digest = ring::digest::digest(&ring::digest::SHA256, cert.as_ref());
    let credential = digest
        .as_ref()
        .iter()
        .fold("X509SHA256=".to_owned(), |id, byte| {
            id + &format!("{byte:02x}")
        });
    Ok(User {
        name,
        uid,
        groups: subject.iter_organization().filter_map(text).collect(),
        extra: BTreeMap::from([(CREDENTIAL_ID.to_owned(), vec![credential])]),
    })
}

/// The common name of a certificate.
pub(crate) fn common_name(cert: &CertificateDer<'_>) -> Result<String, Untrusted> {
    name_of(parse(cert)?.subject())
}

/// From when to when a certificate is valid, in Unix seconds; none if it cannot be read.
pub(crate) fn validity(cert: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let parsed = parse(cert).ok()?;
    let valid = parsed.validity();
    Some((valid.not_before.timestamp(), valid.not_after.timestamp()))
}

fn parse<'a>(cert: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Untrusted> {
    x509_parser::parse_x509_certificate(cert)
        .map(|(_, c)| c)
        .map_err(|_| Untrusted::Unreadable)
}

fn subject(cert: &CertificateDer<'_>) -> String {
    parse(cert).map_or_else(|_| "unreadable".to_owned(), |c| c.subject().to_string())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    /// A certificate of somebody with these UIDs.
    fn certificate(uids: &[&str]) -> CertificateDer<'static> {
        const UID: [u8; 8] = [0x2b, 6, 1, 4, 1, 0x83, 0xc2, 0x53];
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "jane");
        for (i, uid) in (2..).zip(uids) {
            let other = DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 57683, i]);
            params.distinguished_name.push(other, *uid);
        }
        let key = KeyPair::generate().unwrap();
        let mut der = params.self_signed(&key).unwrap().der().to_vec();
        // The library takes each attribute once: they become the same one afterwards.
        for at in 0..der.len() - UID.len() {
            if der[at..].starts_with(&UID) {
                der[at + UID.len()] = 2;
            }
        }
        der.into()
    }

    #[test]
    fn a_certificate_names_one_uid_or_none() {
        let uid = |uids: &[&str]| user_of(&certificate(uids), true).map(|user| user.uid);
        assert_eq!(uid(&[]), Ok(String::new()));
        assert_eq!(uid(&["7"]), Ok("7".to_owned()));
        assert_eq!(uid(&[""]), Err(Untrusted::NoUid));
        let two = Untrusted::Uids(vec!["7".to_owned(), "8".to_owned()]);
        assert_eq!(uid(&["7", "8"]), Err(two));
        let unread = user_of(&certificate(&["7", "8"]), false).unwrap();
        assert_eq!((&*unread.name, &*unread.uid), ("jane", ""));
        assert_eq!(
            common_name(&certificate(&["7", "8"])),
            Ok("jane".to_owned())
        );
    }
}
