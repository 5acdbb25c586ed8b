//! webpki's opinion of a chain that Go's rules believe.

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

use super::algorithms::CERTIFICATES;
use super::{Roots, Untrusted, Usage};

/// Whether webpki agrees, or objects only to what Go allows.
pub(super) fn agrees(
    roots: &Roots,
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    usage: Usage,
    name: Option<&ServerName<'_>>,
    now: UnixTime,
) -> Result<(), Untrusted> {
    let usage = match usage {
        Usage::Server => KeyUsage::server_auth(),
        Usage::Client => KeyUsage::client_auth(),
    };
    let opinion = EndEntityCert::try_from(leaf).and_then(|leaf| {
        leaf.verify_for_usage(CERTIFICATES, &roots.anchors, others, now, usage, None, None)?;
        name.map_or(Ok(()), |name| leaf.verify_is_valid_for_subject_name(name))
    });
    match opinion {
        Ok(()) => Ok(()),
        Err(objection) if is_gos_to_judge(&objection) => Ok(()),
        // It does not know the authority because it could not read it.
        Err(Error::UnknownIssuer) if roots.anchors.len() < roots.trusted.len() => Ok(()),
        Err(objection) => Err(Untrusted::Objection(objection.to_string())),
    }
}

/// What webpki refuses for reasons that Go does not know, or weighs itself.
fn is_gos_to_judge(objection: &Error) -> bool {
    matches!(
        objection,
        Error::CaUsedAsEndEntity
            | Error::UnsupportedCertVersion
            | Error::RequiredEkuNotFoundContext(_)
            | Error::EmptyEkuExtension
            | Error::UnsupportedCriticalExtension
            | Error::CertNotValidForName(_)
            | Error::MalformedDnsIdentifier
            | Error::NameConstraintViolation
            | Error::MalformedNameConstraint
            // Unique identifiers and other parts that webpki does not read.
            | Error::BadDer
            | Error::TrailingData(_)
    )
}
