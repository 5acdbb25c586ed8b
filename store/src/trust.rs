//! Whom TLS believes: certificates are judged as Go's `crypto/x509` judges them, which upstream's
//! daemons and their clients use, so that a cluster whose certificates work there works here.
//!
//! webpki, which rustls brings, is made for the public web and knows less. What people meet:
//!
//! | certificate | Go | webpki |
//! |---|---|---|
//! | the server's or client's is itself an authority (`openssl req -x509` makes such) | takes it | refuses it |
//! | it lies itself among the trusted ones, whoever signed it | takes it | refuses it |
//! | a client's of version 1 (`openssl x509 -req` makes such) | takes it | refuses it |
//! | usage `any`, or an empty list of usages | takes it | refuses it |
//! | wildcard over a single label, such as `*.svc` | takes it | refuses it |
//! | critical certificate policies, unique identifiers | takes it | refuses it |
//! | constraints on mail addresses and URIs, and not critical ones on directory names | weighs them | refuses it |
//! | authority with an RSA key of 1024 to 2047 bits | takes it | refuses it |
//! | trusted authority expired, or its usages, key usage or path length do not allow it | refuses it | takes it |
//! | trusted "authority" that is none signed another certificate | refuses it | takes it |
//! | negative serial number, an extension twice | refuses it | takes it |
//! | a broken certificate among those that the other side sent | refuses it | takes it |
//!
//! Both refuse names in the common name only, unknown critical extensions, and signatures with SHA-1.
//!
//! [`Roots::verify`] asks both: Go's rules ([`chain`]) decide, and webpki must agree, unless it objects to
//! something of the table. So an ordinary certificate is never believed on the word of this module alone.
//! Refusals are told in Go's words ([`Untrusted`]), which people search for.
//!
//! Certificates near their end are told of in the log ([`Expiry`]).
//!
//! Not had: elliptic curve P-521, and signatures of elliptic curves with SHA-512, which ring does not know;
//! RSA keys under 2048 bits where they sign a handshake; chains whose authorities require policies
//! (RFC 5280, section 4.2.1.11), which are refused rather than weighed.

use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, TrustAnchor, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DistinguishedName, InconsistentKeys};

mod algorithms;
mod certificate;
mod chain;
mod constraints;
mod der;
mod expiry;
mod names;
mod opinion;
mod untrusted;
mod verifier;
mod words;

use certificate::Certificate;

pub use expiry::{Expiry, Origin, Role};
pub use untrusted::Untrusted;
pub use verifier::{verify_tls12_signature, verify_tls13_signature};
pub use words::{in_words, words};

/// What a certificate is shown for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Usage {
    Server,
    Client,
}

/// Certificates that are trusted, and whatever they signed.
#[derive(Clone, Default)]
pub struct Roots {
    trusted: Vec<Arc<Certificate>>,
    /// The same for webpki, which may not be able to read all.
    anchors: Vec<TrustAnchor<'static>>,
}

impl Roots {
    /// Trusts one more.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn add(&mut self, der: CertificateDer<'_>) -> Result<(), Untrusted> {
        let certificate = Certificate::read(&der)?;
        if let Ok(anchor) = webpki::anchor_from_trusted_cert(&der) {
            self.anchors.push(anchor.to_owned());
        }
        self.trusted.push(Arc::new(certificate));
        Ok(())
    }

    /// Trusts those of many that can be read, and says how many that were; Go's
    /// `CertPool.AppendCertsFromPEM`.
    pub fn add_readable<'a>(
        &mut self,
        many: impl IntoIterator<Item = CertificateDer<'a>>,
    ) -> usize {
        many.into_iter()
            .filter_map(|der| self.add(der).ok())
            .count()
    }

    /// Whom they name: what clients are told, so that they choose a fitting certificate.
    #[must_use]
    pub fn subjects(&self) -> Vec<DistinguishedName> {
        let subjects = self.trusted.iter().map(|c| c.subject_contents());
        subjects.map(DistinguishedName::in_sequence).collect()
    }

    /// Whether the first certificate of `chain` is to be believed, with the help of the others: signed for
    /// this usage by a trusted one, valid now, and, if a name is given, made out to it.
    ///
    /// # Errors
    /// Why not.
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        usage: Usage,
        name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Result<(), Untrusted> {
        let (leaf, others) = chain
            .split_first()
            .ok_or_else(|| Untrusted::Malformed("no certificate".to_owned()))?;
        let certificate = Certificate::read(leaf)?;
        let pool = others
            .iter()
            .map(|der| Certificate::read(der))
            .collect::<Result<Vec<_>, _>>()?;
        chain::verify(&certificate, &pool, &self.trusted, usage, name, now)?;
        if self.trusted.iter().any(|c| c.is(&certificate)) {
            // There is no chain that webpki could judge.
            return Ok(());
        }
        opinion::agrees(self, leaf, others, usage, name, now)
    }
}

impl std::fmt::Debug for Roots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Roots({})", self.trusted.len())
    }
}

/// Whom a client believes.
#[derive(Clone, Debug)]
pub enum Believe {
    /// Servers that these vouch for.
    Roots(Arc<Roots>),
    /// Whoever answers: Go's `InsecureSkipVerify`.
    Anyone,
}

impl Believe {
    #[must_use]
    pub fn verifier(&self) -> Arc<dyn ServerCertVerifier> {
        match self {
            Self::Roots(roots) => Arc::new(verifier::Vouched(Arc::clone(roots))),
            Self::Anyone => Arc::new(verifier::Anyone),
        }
    }
}

/// A certificate with its intermediates, and its key.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The settings of a client: whom it believes, who it is, and what it offers to speak (ALPN).
///
/// # Errors
/// If certificate and key do not fit, or the key is of a kind that is not known.
pub fn client(
    believe: &Believe,
    identity: Option<Identity>,
    protocols: &[&[u8]],
) -> Result<ClientConfig, rustls::Error> {
    let provider = algorithms::provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(believe.verifier());
    let mut config = match identity {
        Some((chain, key)) => {
            let key = certified(chain, key)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    Ok(config)
}

/// A certificate that is shown to others, and its key. rustls' own function reads the certificate as webpki
/// does, and so has none of version 1.
///
/// # Errors
/// If they do not fit, or the key is of a kind that is not known.
pub fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, rustls::Error> {
    let key = algorithms::provider().key_provider.load_private_key(key)?;
    let certificate = chain.first();
    let certificate = certificate.ok_or(rustls::Error::NoCertificatesPresented)?;
    let certificate = Certificate::read(certificate).map_err(Untrusted::into_rustls)?;
    match key.public_key() {
        Some(public) if public.as_ref() != certificate.spki() => {
            Err(InconsistentKeys::KeyMismatch.into())
        }
        _ => Ok(CertifiedKey::new(chain, key)),
    }
}

#[cfg(test)]
mod tests;
