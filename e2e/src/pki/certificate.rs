//! One certificate: what it says, and making the next one of it.

use rcgen::{KeyPair, PublicKeyData, SigningKey};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use super::{der, keys};

/// Clocks of nodes may lag behind.
const BACKDATE: Duration = Duration::from_secs(5 * 60);
/// Of the identifiers of keys (2.5.29.x).
const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x0e];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];

/// What cannot be read as a certificate.
#[derive(thiserror::Error, Debug, Clone, Copy, PartialEq, Eq)]
#[error("not a certificate in PEM")]
pub(super) struct Malformed;

/// A certificate that was parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    der: Vec<u8>,
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) common_names: Vec<String>,
    /// Subject alternative names, in the order in which they stand there.
    pub(super) names: Vec<String>,
    /// Extended usages; empty means any.
    pub(super) usages: Vec<String>,
    /// Whether it may sign others.
    pub(super) is_authority: bool,
    /// Seconds since 1970.
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    /// The public key without its algorithm.
    public_key: Vec<u8>,
}

impl Certificate {
    pub(super) fn from_der(der: Vec<u8>) -> Result<Self, Malformed> {
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| Malformed)?;
        let signs = parsed.key_usage().ok().flatten();
        let common_names = parsed.subject().iter_common_name();
        let constraints = parsed.basic_constraints().ok().flatten();
        Ok(Self {
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            common_names: common_names
                .filter_map(|name| name.as_str().ok())
                .map(str::to_owned)
                .collect(),
            names: names(&parsed),
            usages: parsed
                .extended_key_usage()
                .ok()
                .flatten()
                .map(|extension| usages(extension.value))
                .unwrap_or_default(),
            is_authority: constraints.is_some_and(|extension| extension.value.ca)
                && signs.is_none_or(|extension| extension.value.key_cert_sign()),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            public_key: parsed.public_key().subject_public_key.data.to_vec(),
            der,
        })
    }

    /// All certificates of a text; other blocks are left out.
    pub(super) fn all(pem: &str) -> Result<Vec<Self>, Malformed> {
        CertificateDer::pem_slice_iter(pem.as_bytes())
            .map(|der| Self::from_der(der.map_err(|_| Malformed)?.to_vec()))
            .collect()
    }

    pub(super) fn pem(&self) -> String {
        let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &self.der);
        let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
        for line in base64.as_bytes().chunks(64) {
            text.extend(line.iter().map(|byte| char::from(*byte)));
            text.push('\n');
        }
        text + "-----END CERTIFICATE-----\n"
    }

    fn parsed(&self) -> X509Certificate<'_> {
        let parsed = X509Certificate::from_der(&self.der);
        parsed.expect("it was parsed when this value was made").1
    }

    pub(super) fn is_of(&self, key: &KeyPair) -> bool {
        self.public_key == key.public_key_raw()
    }

    pub(super) fn has_key_of(&self, other: &Self) -> bool {
        self.public_key == other.public_key
    }

    pub(super) fn is_signed_by(&self, authority: &Self) -> bool {
        let (own, above) = (self.parsed(), authority.parsed());
        own.issuer().as_raw() == above.subject().as_raw()
            && own.verify_signature(Some(above.public_key())).is_ok()
    }

    pub(super) fn ends_before(&self, when: SystemTime) -> bool {
        self.not_after < seconds(when)
    }

    pub(super) fn may_be(&self, usage: &str) -> bool {
        let wanted = |has: &String| has == usage || has == "any";
        self.usages.is_empty() || self.usages.iter().any(wanted)
    }

    /// The same certificate, byte for byte in subject and extensions, for another key or time, signed by an authority.
    /// It never outlives the authority: the rest of its time would be a promise that nobody keeps.
    pub(super) fn again(
        &self,
        key: &KeyPair,
        authority: &Signer<'_>,
        now: SystemTime,
        validity: Duration,
    ) -> Result<Self, rcgen::Error> {
        let (own, above) = (self.parsed(), authority.certificate.parsed());
        let is_self = self == authority.certificate;
        let id = if self.is_of(key) {
            key_id(&own)
        } else {
            Some(Sha256::digest(key.der_bytes())[..20].to_vec())
        };
        // An authority that signs itself names itself only if it did so before.
        let above_id = match is_self {
            true => issuer_id(&own).and(id.clone()),
            false => key_id(&above),
        };
        let mut end = seconds(now + validity);
        if !is_self {
            end = end.min(authority.certificate.not_after);
        }
        let time = |at| ASN1Time::from_timestamp(at).map_err(|_| rcgen::Error::Time);
        let algorithm = keys::signature_algorithm(authority.key);
        let body = der::sequence(&[
            &der::explicit(0, &der::value(der::INTEGER, &[&[2]])),
            &der::value(der::INTEGER, &[&serial()?]),
            &algorithm,
            above.subject().as_raw(),
            &der::sequence(&[
                &der::time(time(seconds(now - BACKDATE))?),
                &der::time(time(end)?),
            ]),
            own.subject().as_raw(),
            &key.subject_public_key_info(),
            &extensions(&own, id, above_id),
        ]);
        let signature = authority.key.sign(&body)?;
        let made = der::sequence(&[&body, &algorithm, &der::bits(&signature)]);
        Self::from_der(made).map_err(|Malformed| rcgen::Error::CouldNotParseCertificate)
    }
}

/// Who signs.
pub(super) struct Signer<'a> {
    pub(super) certificate: &'a Certificate,
    pub(super) key: &'a KeyPair,
}

pub(super) fn seconds(when: SystemTime) -> i64 {
    let since = when
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Twenty random bytes, positive and without a zero in front. Not derived from the key, as rcgen's: an authority that is
/// renewed keeps its key, and one issuer never gives a serial number twice.
fn serial() -> Result<[u8; 20], rcgen::Error> {
    let mut bytes = [0; 20];
    let provider = rustls::crypto::ring::default_provider();
    let filled = provider.secure_random.fill(&mut bytes);
    filled.map_err(|_| rcgen::Error::RingUnspecified)?;
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(bytes)
}

/// The extensions of a certificate, with other identifiers of keys: its own where it had one, the authority's if that has
/// one.
fn extensions(of: &X509Certificate<'_>, id: Option<Vec<u8>>, above: Option<Vec<u8>>) -> Vec<u8> {
    let mut all = Vec::new();
    for extension in of.extensions() {
        let (oid, critical) = (extension.oid.as_bytes(), extension.critical);
        match oid {
            AUTHORITY_KEY_IDENTIFIER => {}
            SUBJECT_KEY_IDENTIFIER => {
                if let Some(id) = &id {
                    let content = der::value(der::OCTET_STRING, &[id]);
                    all.push(der::extension(oid, critical, &content));
                }
            }
            _ => all.push(der::extension(oid, critical, extension.value)),
        }
    }
    if let Some(above) = above {
        // `[0]` of the sequence, without a tag of its own.
        let content = der::sequence(&[&der::value(0x80, &[&above])]);
        all.push(der::extension(AUTHORITY_KEY_IDENTIFIER, false, &content));
    }
    if all.is_empty() {
        return Vec::new();
    }
    der::explicit(3, &der::sequence(&[&all.concat()]))
}

fn key_id(of: &X509Certificate<'_>) -> Option<Vec<u8>> {
    of.extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        })
}

fn issuer_id<'a>(of: &'a X509Certificate<'a>) -> Option<&'a [u8]> {
    of.extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                id.key_identifier.as_ref().map(|id| id.0)
            }
            _ => None,
        })
}

fn names(of: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = of.subject_alternative_name() else {
        return Vec::new();
    };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
            Some((*text).to_owned())
        }
        GeneralName::IPAddress(octets) => match octets.len() {
            4 => <[u8; 4]>::try_from(*octets)
                .ok()
                .map(|octets| Ipv4Addr::from(octets).to_string()),
            _ => <[u8; 16]>::try_from(*octets)
                .ok()
                .map(|octets| Ipv6Addr::from(octets).to_string()),
        },
        _ => None,
    };
    names.value.general_names.iter().filter_map(text).collect()
}

/// In the words of certificate signing requests of the API.
fn usages(extended: &ExtendedKeyUsage<'_>) -> Vec<String> {
    let words = [
        (extended.any, "any"),
        (extended.server_auth, "server auth"),
        (extended.client_auth, "client auth"),
        (extended.code_signing, "code signing"),
        (extended.email_protection, "email protection"),
        (extended.time_stamping, "timestamping"),
        (extended.ocsp_signing, "ocsp signing"),
    ];
    let known = words.into_iter().filter(|(has, _)| *has);
    let known = known.map(|(_, word)| word.to_owned());
    known
        .chain(extended.other.iter().map(ToString::to_string))
        .collect()
}
