//! Certificate authorities: a certificate that may sign, with its key.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};

use super::certificate::{Certificate, Malformed, Signer};
use super::files::{read, write_private, write_public};
use super::{CA_VALIDITY, Error, dates, keys};

/// Why an authority that is there cannot be used.
#[derive(thiserror::Error, Debug)]
pub enum Unfit {
    #[error("its key {} is missing; put it back", .0.display())]
    NoKey(PathBuf),
    #[error(
        "its certificate {} is missing though its key is there; put it back, or remove the key if nothing was signed with it",
        .0.display()
    )]
    NoCertificate(PathBuf),
    #[error("{}: {reason}", path.display())]
    Key {
        path: PathBuf,
        reason: keys::Unreadable,
    },
    #[error("{}: {Malformed}", .0.display())]
    Certificate(PathBuf),
    #[error("{} holds no certificate that its key belongs to", .0.display())]
    OtherKey(PathBuf),
    #[error("{} may not sign certificates", .0.display())]
    NoAuthority(PathBuf),
    #[error("it ends on {0}")]
    Ends(String),
}

impl Unfit {
    /// Whether the certificate is there and can be followed by another with another key.
    pub(super) fn can_be_rolled(&self) -> bool {
        matches!(self, Self::NoKey(_) | Self::Key { .. } | Self::OtherKey(_))
    }
}

pub(super) struct Authority {
    /// The one that its key belongs to.
    pub(super) certificate: Certificate,
    /// With those that are trusted beside it, while an authority gets another key.
    pub(super) trusted: Vec<Certificate>,
    pub(super) key: KeyPair,
}

impl Authority {
    /// Reads an authority, or nothing if neither of its files is there. Of several certificates it is the one that the key
    /// belongs to: the others are trusted while the authority is rolled.
    pub(super) fn read(
        certificate: &Path,
        key: &Path,
        good_until: SystemTime,
    ) -> Result<Option<Result<Self, Unfit>>, Error> {
        let (pem, key_pem) = (read(certificate)?, read(key)?);
        if pem.is_none() && key_pem.is_none() {
            return Ok(None);
        }
        Ok(Some(Self::of(
            (certificate, pem),
            (key, key_pem),
            good_until,
        )))
    }

    fn of(
        (path, pem): (&Path, Option<String>),
        (key_path, key_pem): (&Path, Option<String>),
        good_until: SystemTime,
    ) -> Result<Self, Unfit> {
        let pem = pem.ok_or_else(|| Unfit::NoCertificate(path.to_owned()))?;
        let key_pem = key_pem.ok_or_else(|| Unfit::NoKey(key_path.to_owned()))?;
        let all = Certificate::all(&pem).map_err(|_| Unfit::Certificate(path.to_owned()))?;
        if all.is_empty() {
            return Err(Unfit::Certificate(path.to_owned()));
        }
        let key = keys::parse(&key_pem).map_err(|reason| Unfit::Key {
            path: key_path.to_owned(),
            reason,
        })?;
        let certificate = all.iter().find(|certificate| certificate.is_of(&key));
        let certificate = certificate.ok_or_else(|| Unfit::OtherKey(path.to_owned()))?;
        if !certificate.is_authority {
            return Err(Unfit::NoAuthority(path.to_owned()));
        }
        if certificate.ends_before(good_until) {
            return Err(Unfit::Ends(dates::words(certificate.not_after)));
        }
        Ok(Self {
            certificate: certificate.clone(),
            trusted: all,
            key,
        })
    }

    /// Makes an authority that was not there before.
    pub(super) fn make(
        common_name: &str,
        path: &Path,
        key_path: &Path,
        now: SystemTime,
    ) -> Result<Self, Error> {
        let failed = |cause| Error::Make {
            path: path.to_owned(),
            cause,
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let key = keys::generate().map_err(failed)?;
        let draft = draft(&params, &key).map_err(failed)?;
        let certificate = renewed(&draft, &key, now).map_err(failed)?;
        write_private(key_path, &key.serialize_pem())?;
        write_public(path, &certificate.pem())?;
        Ok(Self {
            trusted: vec![certificate.clone()],
            certificate,
            key,
        })
    }

    /// Whether it, or one that is trusted beside it, signed a certificate.
    pub(super) fn signed(&self, certificate: &Certificate) -> bool {
        self.trusted
            .iter()
            .any(|trusted| certificate.is_signed_by(trusted))
    }

    /// A certificate of what the draft says, for a key.
    pub(super) fn sign(
        &self,
        draft: &Certificate,
        key: &KeyPair,
        now: SystemTime,
        validity: Duration,
    ) -> Result<Certificate, rcgen::Error> {
        let signer = Signer {
            certificate: &self.certificate,
            key: &self.key,
        };
        draft.again(key, &signer, now, validity)
    }
}

/// What a new certificate says of its holder. Who signs it and how long it is good are written by [`Certificate::again`],
/// for new certificates as for renewed ones.
pub(super) fn draft(
    params: &CertificateParams,
    key: &KeyPair,
) -> Result<Certificate, rcgen::Error> {
    let made = params.self_signed(key)?;
    Certificate::from_der(made.der().to_vec())
        .map_err(|Malformed| rcgen::Error::CouldNotParseCertificate)
}

/// The next certificate of an authority that signs itself, with this key.
pub(super) fn renewed(
    certificate: &Certificate,
    key: &KeyPair,
    now: SystemTime,
) -> Result<Certificate, rcgen::Error> {
    let own = Signer { certificate, key };
    certificate.again(key, &own, now, CA_VALIDITY)
}
