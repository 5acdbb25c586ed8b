//! A certificate, read once, with what Go's rules ask about.
//!
//! What Go refuses to read (`crypto/x509/parser.go`) is refused here too, as far as it means something.

use std::collections::HashSet;
use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName, ParsedExtension, X509Extension};
use x509_parser::oid_registry::Oid;

use super::algorithms::{self, CERTIFICATES};
use super::constraints::{self, Constraints};
use super::{Untrusted, Usage, der};

/// The arc of RFC 5280's extensions, and those of them that Go weighs; others, if critical, are refused.
const EXTENSIONS: &str = "2.5.29.";
const SUBJECT_KEY: &str = "2.5.29.14";
const AUTHORITY_KEY: &str = "2.5.29.35";
const AUTHORITY_ACCESS: &str = "1.3.6.1.5.5.7.1.1";
const WEIGHED: [&str; 12] = [
    "14", "15", "17", "19", "30", "31", "32", "33", "35", "36", "37", "54",
];
/// Those of them that decide something, and so must be readable even where they are not critical.
const DECIDING: [&str; 7] = ["15", "17", "19", "30", "33", "36", "37"];
/// The policy that stands for all.
const ANY_POLICY: &str = "2.5.29.32.0";

pub(super) struct Certificate {
    der: CertificateDer<'static>,
    version: u32,
    issuer: Vec<u8>,
    subject: Vec<u8>,
    spki: Vec<u8>,
    /// What people call it.
    called: String,
    pub(super) common_name: String,
    /// Seconds of the epoch, both included.
    pub(super) valid: (i64, i64),
    pub(super) critical_unknown: bool,
    /// Whether it is an authority, and over how many more; none if it does not say.
    pub(super) authority: Option<(bool, Option<u32>)>,
    may_sign: bool,
    usages: Option<Usages>,
    pub(super) names: Option<Names>,
    pub(super) constraints: Option<Constraints>,
    /// Whether it demands policies of its chain, which are not weighed.
    pub(super) demands_policies: bool,
}

struct Usages {
    any: bool,
    server: bool,
    client: bool,
}

/// Alternative names of the subject.
#[derive(Default)]
pub(super) struct Names {
    /// As it is written, to tell certificates apart.
    raw: Vec<u8>,
    pub(super) dns: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) mails: Vec<String>,
    pub(super) uris: Vec<String>,
}

impl Certificate {
    pub(super) fn read(der: &CertificateDer<'_>) -> Result<Self, Untrusted> {
        let (rest, read) = x509_parser::parse_x509_certificate(der)
            .map_err(|_| malformed("malformed certificate"))?;
        if !rest.is_empty() {
            return Err(malformed("trailing data"));
        }
        let version = read.version().0 + 1;
        if version > 3 {
            return Err(malformed("invalid version"));
        }
        if read.raw_serial().first().is_some_and(|b| b & 0x80 != 0) {
            return Err(malformed("negative serial number"));
        }
        if read.signature != read.signature_algorithm {
            return Err(malformed(
                "inner and outer signature algorithm identifiers don't match",
            ));
        }
        let validity = read.validity();
        let mut certificate = Self {
            der: der.clone().into_owned(),
            version,
            issuer: read.issuer().as_raw().to_vec(),
            subject: read.subject().as_raw().to_vec(),
            spki: read.public_key().raw.to_vec(),
            called: called(&read),
            common_name: common_name(&read),
            valid: (
                validity.not_before.timestamp(),
                validity.not_after.timestamp(),
            ),
            critical_unknown: false,
            authority: None,
            may_sign: true,
            usages: None,
            names: None,
            constraints: None,
            demands_policies: false,
        };
        let mut seen = HashSet::new();
        for extension in read.extensions() {
            let id = extension.oid.to_id_string();
            certificate.take(extension, &id)?;
            if let Some(twice) = seen.replace(id) {
                return Err(malformed(&format!(
                    "certificate contains duplicate extension with OID {twice:?}"
                )));
            }
        }
        Ok(certificate)
    }

    fn take(&mut self, extension: &X509Extension<'_>, id: &str) -> Result<(), Untrusted> {
        let last = id.strip_prefix(EXTENSIONS).unwrap_or_default();
        let mut unknown = !WEIGHED.contains(&last) && id != AUTHORITY_ACCESS;
        if [SUBJECT_KEY, AUTHORITY_KEY, AUTHORITY_ACCESS].contains(&id) && extension.critical {
            return Err(malformed(&format!(
                "extension {id} incorrectly marked critical"
            )));
        }
        match extension.parsed_extension() {
            ParsedExtension::ParseError { .. } if DECIDING.contains(&last) => {
                return Err(malformed(&format!("invalid extension {id}")));
            }
            ParsedExtension::ParseError { .. } => unknown = true,
            ParsedExtension::BasicConstraints(basic) => {
                self.authority = Some((basic.ca, basic.path_len_constraint));
            }
            ParsedExtension::KeyUsage(usage) => {
                self.may_sign = usage.flags == 0 || usage.key_cert_sign();
            }
            ParsedExtension::ExtendedKeyUsage(usages) => self.usages = Usages::of(usages),
            ParsedExtension::SubjectAlternativeName(names) => {
                let names = Names::of(extension.value, &names.general_names)?;
                unknown = names.is_empty();
                self.names = Some(names);
            }
            ParsedExtension::NameConstraints(given) => {
                let constraints = Constraints::of(given)?;
                unknown = constraints.has_unknown;
                self.constraints = Some(constraints);
            }
            ParsedExtension::PolicyConstraints(_) => self.demands_policies = true,
            ParsedExtension::PolicyMappings(maps) => {
                let any = |oid: &Oid<'_>| oid.to_id_string() == ANY_POLICY;
                self.demands_policies |= maps
                    .mappings
                    .iter()
                    .any(|m| any(&m.issuer_domain_policy) || any(&m.subject_domain_policy));
            }
            _ => {}
        }
        self.critical_unknown |= extension.critical && unknown;
        Ok(())
    }

    pub(super) fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The subject without tag and length.
    pub(super) fn subject_contents(&self) -> &[u8] {
        der::element(&self.subject, der::SEQUENCE).map_or(&[], |e| e.contents)
    }

    /// Whether they are the same, byte by byte.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.der == other.der
    }

    pub(super) fn names_as_issuer(&self, other: &Self) -> bool {
        self.issuer == other.subject
    }

    /// Whether both are made out to one holder, so that a chain with both would go in circles.
    pub(super) fn is_akin_to(&self, other: &Self) -> bool {
        self.subject == other.subject
            && self.spki == other.spki
            && self.raw_names() == other.raw_names()
    }

    fn raw_names(&self) -> Option<&[u8]> {
        self.names.as_ref().map(|n| n.raw.as_slice())
    }

    /// What it is called in messages, as Go chooses: its common name, organization, or serial number.
    pub(super) fn called(&self) -> &str {
        &self.called
    }

    pub(super) fn is_for(&self, usage: Usage) -> bool {
        self.usages.as_ref().is_none_or(|allowed| {
            let asked = match usage {
                Usage::Server => allowed.server,
                Usage::Client => allowed.client,
            };
            allowed.any || asked
        })
    }

    /// Whether `parent` signed it, and may sign certificates: Go's `CheckSignatureFrom`.
    pub(super) fn check_signature_from(&self, parent: &Self) -> Result<(), Untrusted> {
        let is_authority = match parent.authority {
            Some((is_authority, _)) => is_authority,
            None => parent.version < 3,
        };
        if !is_authority || !parent.may_sign {
            return Err(Untrusted::Signature(
                "x509: invalid signature: parent certificate cannot sign this kind of certificate",
            ));
        }
        let (Some(signed), Some((algorithm, key))) =
            (der::signed(&self.der), der::key(&parent.spki))
        else {
            return Err(malformed("malformed signature"));
        };
        let fitting = CERTIFICATES.iter().find(|c| {
            c.signature_alg_id().as_ref() == signed.algorithm
                && c.public_key_alg_id().as_ref() == algorithm
        });
        fitting
            .ok_or_else(|| Untrusted::Signature(algorithms::unknown(signed.algorithm)))?
            .verify_signature(key, signed.message, signed.signature)
            .map_err(|_| Untrusted::Signature(algorithms::wrong(algorithm)))
    }
}

impl Usages {
    /// An empty list says nothing.
    fn of(given: &ExtendedKeyUsage<'_>) -> Option<Self> {
        let others = [
            given.code_signing,
            given.email_protection,
            given.time_stamping,
            given.ocsp_signing,
            !given.other.is_empty(),
        ];
        let usages = Self {
            any: given.any,
            server: given.server_auth,
            client: given.client_auth,
        };
        let says = usages.any || usages.server || usages.client || others.contains(&true);
        says.then_some(usages)
    }
}

impl Names {
    fn of(raw: &[u8], given: &[GeneralName<'_>]) -> Result<Self, Untrusted> {
        let mut names = Self {
            raw: raw.to_vec(),
            ..Self::default()
        };
        for name in given {
            match name {
                GeneralName::DNSName(name) => names.dns.push(ascii(name)?),
                GeneralName::RFC822Name(mail) => names.mails.push(ascii(mail)?),
                GeneralName::URI(uri) => names.uris.push(ascii(uri)?),
                GeneralName::IPAddress(bytes) => {
                    let address = constraints::address(bytes);
                    let address =
                        address.ok_or_else(|| malformed("cannot parse IP address in a name"))?;
                    names.addresses.push(address);
                }
                GeneralName::Invalid(tag, _) if [1, 2, 6].contains(&tag.0) => {
                    return Err(malformed("a subject alternative name is malformed"));
                }
                _ => {}
            }
        }
        Ok(names)
    }

    /// None of the kinds that are understood.
    fn is_empty(&self) -> bool {
        self.dns.is_empty()
            && self.addresses.is_empty()
            && self.mails.is_empty()
            && self.uris.is_empty()
    }
}

pub(super) fn malformed(what: &str) -> Untrusted {
    Untrusted::Malformed(what.to_owned())
}

/// IA5: what alternative names are written in.
pub(super) fn ascii(text: &str) -> Result<String, Untrusted> {
    match text.is_ascii() {
        true => Ok(text.to_owned()),
        false => Err(malformed("a subject alternative name is malformed")),
    }
}

/// The last common name, as Go has it.
fn common_name(read: &X509Certificate<'_>) -> String {
    let last = read.subject().iter_common_name().last();
    last.and_then(|a| a.as_str().ok())
        .unwrap_or_default()
        .to_owned()
}

fn called(read: &X509Certificate<'_>) -> String {
    let name = common_name(read);
    if !name.is_empty() {
        return name;
    }
    let mut organizations = read.subject().iter_organization();
    match organizations.next().and_then(|a| a.as_str().ok()) {
        Some(organization) if !organization.is_empty() => organization.to_owned(),
        _ => format!("serial:{}", read.serial),
    }
}
