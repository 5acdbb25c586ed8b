//! Signing certificates.
//!
//! What Go's `x509.CreateCertificate` makes of upstream's policy: the request's subject and alternative
//! names, the asked usages, never an authority; a little backdated for clocks that differ.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use component::trust::{Expiry, Origin, Role};
use k8s_openapi::jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::extensions::ParsedExtension;

use super::request::Request;
use crate::der;
use crate::keys::{Algorithm, Form, KeyError, SigningKey};

const BACKDATE: Duration = Duration::from_secs(5 * 60);
/// Certificates that live shorter are not cut by the backdating.
const SHORT: Duration = Duration::from_secs(8 * 3600);
/// The shortest life that can be asked for.
const SHORTEST: Duration = Duration::from_secs(10 * 60);

/// Names of usages and their bit (RFC 5280, 4.2.1.3).
const USAGES: &[(&str, u8)] = &[
    ("signing", 0),
    ("digital signature", 0),
    ("content commitment", 1),
    ("key encipherment", 2),
    ("data encipherment", 3),
    ("key agreement", 4),
    ("cert sign", 5),
    ("crl sign", 6),
    ("encipher only", 7),
    ("decipher only", 8),
];

/// Names of extended usages and their identifiers, in the order in which they are written.
const EXTENDED: &[(&str, &[u32])] = &[
    ("any", &[2, 5, 29, 37, 0]),
    ("server auth", &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
    ("client auth", &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
    ("code signing", &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    ("timestamping", &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    ("microsoft sgc", &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    ("netscape sgc", &[2, 16, 840, 1, 113_730, 4, 1]),
];

/// Why a certificate cannot be signed.
#[derive(thiserror::Error, Debug)]
pub enum AuthorityError {
    #[error("cannot read {path}")]
    File {
        path: String,
        #[source]
        cause: std::io::Error,
    },
    #[error("{path}: expected one certificate")]
    Certificate { path: String },
    #[error("{path} cannot be used")]
    Key {
        path: String,
        #[source]
        cause: KeyError,
    },
    #[error("the certificate cannot be signed")]
    Sign(#[source] KeyError),
    #[error("the signer has expired: NotAfter={0}")]
    Expired(Timestamp),
    #[error("unrecognized usage values: {0:?}")]
    Usages(Vec<String>),
    #[error("there is no randomness for a serial number")]
    Random,
}

/// A certificate authority.
pub struct Authority {
    key: SigningKey,
    /// The subject of its certificate, in DER.
    name: Vec<u8>,
    key_id: Option<Vec<u8>>,
    not_after: Timestamp,
}

impl Authority {
    /// Reads the authority's certificate and key.
    ///
    /// # Errors
    /// If they cannot be used.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, AuthorityError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|cause| AuthorityError::File {
                path: path.display().to_string(),
                cause,
            })
        };
        let text = read(certificate)?;
        let key_text = read(key)?;
        let signing =
            SigningKey::read(&key_text, Form::Asn1).map_err(|cause| AuthorityError::Key {
                path: key.display().to_string(),
                cause,
            })?;
        let authority = Self::new(&text, signing).ok_or_else(|| AuthorityError::Certificate {
            path: certificate.display().to_string(),
        })?;
        let mut expiry = Expiry::default();
        let one = CertificateDer::from_pem_slice(&text).ok();
        expiry.add(Role::Authority, Origin::File(certificate), one.as_slice());
        expiry.look();
        Ok(authority)
    }

    fn new(pem: &[u8], key: SigningKey) -> Option<Self> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let all = all.ok()?;
        let [one] = all.as_slice() else { return None };
        let (_, certificate) = x509_parser::parse_x509_certificate(one).ok()?;
        let key_id = certificate
            .extensions()
            .iter()
            .find_map(|e| match e.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            });
        let not_after = certificate.validity().not_after.timestamp();
        Some(Self {
            key,
            name: certificate.subject().as_raw().to_vec(),
            key_id,
            not_after: Timestamp::from_second(not_after).ok()?,
        })
    }

    /// A certificate in PEM for a request, good for so long at most.
    ///
    /// # Errors
    /// If usages are not known, or the authority itself is not good any more.
    pub fn sign(
        &self,
        request: &Request,
        usages: &[String],
        life: Duration,
        now: Timestamp,
    ) -> Result<String, AuthorityError> {
        let (before, after) = self.validity(life, now)?;
        let mut serial = [0; 16];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut serial)
            .map_err(|_| AuthorityError::Random)?;
        let extensions = der::sequence(&[&self.extensions(request, usages)?]);
        let algorithm = self.algorithm();
        let body = der::sequence(&[
            &der::element(der::constructed(0), &[&der::integer(&[2])]),
            &der::integer(&serial),
            &algorithm,
            &self.name,
            &der::sequence(&[&der::time(before), &der::time(after)]),
            &request.subject,
            &request.key,
            &der::element(der::constructed(3), &[&extensions]),
        ]);
        let signature = self.key.sign(&body).map_err(AuthorityError::Sign)?;
        let whole = der::sequence(&[&body, &algorithm, &der::bits(&signature, 0)]);
        Ok(pem("CERTIFICATE", &whole))
    }

    fn validity(
        &self,
        life: Duration,
        now: Timestamp,
    ) -> Result<(Timestamp, Timestamp), AuthorityError> {
        let limit = self.not_after;
        let cut = if life < SHORT {
            Duration::ZERO
        } else {
            BACKDATE
        };
        let before = now - BACKDATE;
        let after = now.checked_add(life.saturating_sub(cut)).unwrap_or(limit);
        if before >= limit || now >= limit {
            return Err(AuthorityError::Expired(limit));
        }
        Ok((before, after.min(limit)))
    }

    fn algorithm(&self) -> Vec<u8> {
        match self.key.algorithm() {
            Algorithm::Rsa => {
                let oid = der::oid(&[1, 2, 840, 113_549, 1, 1, 11]);
                der::sequence(&[&oid, &der::NULL])
            }
            Algorithm::P256 => der::sequence(&[&der::oid(&[1, 2, 840, 10045, 4, 3, 2])]),
            Algorithm::P384 => der::sequence(&[&der::oid(&[1, 2, 840, 10045, 4, 3, 3])]),
        }
    }

    fn extensions(&self, request: &Request, usages: &[String]) -> Result<Vec<u8>, AuthorityError> {
        let (bits, extended) = split(usages)?;
        let mut all = Vec::new();
        if bits != 0 {
            all.extend(extension(15, true, &usage_bits(bits)));
        }
        if !extended.is_empty() {
            let oids: Vec<Vec<u8>> = extended.iter().map(|oid| der::oid(oid)).collect();
            let parts: Vec<&[u8]> = oids.iter().map(Vec::as_slice).collect();
            all.extend(extension(37, false, &der::sequence(&parts)));
        }
        // Not an authority.
        all.extend(extension(19, true, &der::sequence(&[])));
        if let Some(id) = &self.key_id {
            let id = der::element(der::primitive(0), &[id]);
            all.extend(extension(35, false, &der::sequence(&[&id])));
        }
        let names = names(request);
        if !names.is_empty() {
            // Without a subject these names are all that there is.
            let critical = request.subject.len() <= 2;
            all.extend(extension(17, critical, &der::sequence(&[&names])));
        }
        Ok(all)
    }
}

/// The life of a certificate: what is asked for, within limits.
#[must_use]
pub fn life(asked: Option<i32>, most: Duration) -> Duration {
    match asked {
        None => most,
        Some(seconds) => Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
            .max(SHORTEST)
            .min(most),
    }
}

/// Usages as bits and as identifiers.
fn split(usages: &[String]) -> Result<(u16, Vec<&'static [u32]>), AuthorityError> {
    let has = |name: &str| usages.iter().any(|u| u == name);
    let known = |u: &&String| {
        USAGES.iter().any(|(name, _)| name == u) || EXTENDED.iter().any(|(name, _)| name == u)
    };
    let unknown: Vec<String> = usages.iter().filter(|u| !known(u)).cloned().collect();
    if !unknown.is_empty() {
        return Err(AuthorityError::Usages(unknown));
    }
    let bits = USAGES.iter().filter(|(name, _)| has(name));
    let bits = bits.fold(0, |bits, (_, bit)| bits | 1 << bit);
    let mut extended: Vec<_> = EXTENDED
        .iter()
        .filter(|(name, _)| has(name))
        .map(|(_, oid)| *oid)
        .collect();
    extended.dedup();
    Ok((bits, extended))
}

/// Bits of usages, the first of which is the highest of the first byte.
fn usage_bits(bits: u16) -> Vec<u8> {
    let [low, high] = bits.to_le_bytes();
    let (low, high) = (low.reverse_bits(), high.reverse_bits());
    let unused = |byte: u8| u8::try_from(byte.trailing_zeros()).unwrap_or(0);
    if high == 0 {
        der::bits(&[low], unused(low))
    } else {
        der::bits(&[low, high], unused(high))
    }
}

/// An extension with an identifier below 2.5.29.
fn extension(arc: u32, critical: bool, value: &[u8]) -> Vec<u8> {
    let oid = der::oid(&[2, 5, 29, arc]);
    let flag: &[u8] = if critical { &der::TRUE } else { &[] };
    der::sequence(&[&oid, flag, &der::element(der::OCTET_STRING, &[value])])
}

fn names(request: &Request) -> Vec<u8> {
    let text = |tag: u8, name: &String| der::element(der::primitive(tag), &[name.as_bytes()]);
    let ip = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => der::element(der::primitive(7), &[&ip.octets()]),
        IpAddr::V6(ip) => der::element(der::primitive(7), &[&ip.octets()]),
    };
    let dns = request.dns.iter().map(|n| text(2, n));
    let emails = request.emails.iter().map(|n| text(1, n));
    let uris = request.uris.iter().map(|n| text(6, n));
    dns.chain(emails)
        .chain(request.ips.iter().map(ip))
        .chain(uris)
        .flatten()
        .collect()
}

/// PEM (RFC 7468).
fn pem(label: &str, bytes: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, SanType};

    fn authority() -> (Authority, String) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let signing = SigningKey::read(key.serialize_pem().as_bytes(), Form::Asn1).unwrap();
        (
            Authority::new(certificate.as_bytes(), signing).unwrap(),
            certificate,
        )
    }

    fn request() -> Request {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "system:nodes");
        params
            .distinguished_name
            .push(DnType::CommonName, "system:node:n");
        params.subject_alt_names = vec![
            SanType::DnsName("n".try_into().unwrap()),
            SanType::IpAddress([10, 0, 0, 1].into()),
        ];
        let key = KeyPair::generate().unwrap();
        Request::read(
            params
                .serialize_request(&key)
                .unwrap()
                .pem()
                .unwrap()
                .as_bytes(),
        )
        .unwrap()
    }

    fn usages(all: &[&str]) -> Vec<String> {
        all.iter().map(|u| (*u).to_owned()).collect()
    }

    #[test]
    fn a_certificate_says_what_was_asked_and_is_signed_by_the_authority() {
        let (authority, ca) = authority();
        let request = request();
        assert_eq!(request.common_name, "system:node:n");
        let now = "2030-01-01T00:00:00Z".parse().unwrap();
        let asked = usages(&["digital signature", "key encipherment", "server auth"]);
        let text = authority
            .sign(&request, &asked, Duration::from_secs(86_400), now)
            .unwrap();
        let der = CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
        let ca = CertificateDer::from_pem_slice(ca.as_bytes()).unwrap();
        let (_, ca) = x509_parser::parse_x509_certificate(&ca).unwrap();
        certificate.verify_signature(Some(ca.public_key())).unwrap();
        assert_eq!(certificate.issuer().as_raw(), ca.subject().as_raw());
        assert_eq!(certificate.subject().as_raw(), request.subject);
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
        let extended = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.server_auth && !extended.client_auth);
        assert!(!certificate.basic_constraints().unwrap().unwrap().value.ca);
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 2);
        let validity = certificate.validity();
        assert_eq!(validity.not_before.timestamp(), now.as_second() - 300);
        assert_eq!(
            validity.not_after.timestamp(),
            now.as_second() + 86_400 - 300
        );
    }

    #[test]
    fn a_certificate_does_not_outlive_its_authority() {
        let (authority, _) = authority();
        let late = "2039-12-31T12:00:00Z".parse().unwrap();
        let (_, after) = authority
            .validity(Duration::from_secs(1_000_000), late)
            .unwrap();
        assert_eq!(after, authority.not_after);
        assert!(
            authority
                .validity(SHORT, "2040-01-01T00:00:00Z".parse().unwrap())
                .is_err()
        );
    }

    #[test]
    fn lives_have_limits() {
        let year = Duration::from_secs(31_536_000);
        assert_eq!(life(None, year), year);
        assert_eq!(life(Some(1), year), SHORTEST);
        assert_eq!(life(Some(i32::MAX), year), year);
        assert_eq!(life(Some(3600), year), Duration::from_secs(3600));
    }

    #[test]
    fn unknown_usages_are_refused() {
        let (authority, _) = authority();
        let done = authority.sign(
            &request(),
            &usages(&["flying"]),
            SHORT,
            Timestamp::UNIX_EPOCH,
        );
        assert!(matches!(done, Err(AuthorityError::Usages(_))));
        assert_eq!(usage_bits(1 << 8), [3, 3, 7, 0, 0x80]);
    }
}
