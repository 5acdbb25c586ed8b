//! How a request of a pod ends: `ValidatePodCertificateRequestStatusUpdate` in
//! `pkg/apis/certificates/validation`. It is issued, denied or failed, and stays so.

use proto::catalogue::names as n;
use proto::path::{Errors, FieldError, Named, Spot};
use proto::view::certificates_v1beta1::{
    PodCertificateRequest, PodCertificateRequestSpec, PodCertificateRequestStatus,
};
use proto::view::{Node, View};
use proto::{NameId, Value, meta, time};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::keys::{Key, Request};
use super::pem;
use super::pod_request::wrong;
use crate::equal::same_at;

const ENDS: [&str; 3] = ["Issued", "Denied", "Failed"];
/// Bytes.
const LARGEST_CHAIN: usize = 100 << 10;
const MINUTE: i64 = 60;

pub(super) fn status(new: &Value, old: &Value, now: i64, e: &mut Errors<'_>) {
    let view = PodCertificateRequest::of(Node::new(new));
    let (spec, status) = (view.spec(), view.status());
    let before = e.len();
    conditions(status, e);
    if let Some(list) = status.node().get(n::CONDITIONS) {
        meta::validate_conditions(list, e);
    }
    if e.len() > before {
        return;
    }
    let at = Spot::of(status);
    let changed = !same_at(new, old, &[n::STATUS]);
    let was = PodCertificateRequest::of(Node::new(old)).status();
    if ENDS.iter().any(|end| has(was, end)) {
        if changed {
            let detail = "immutable after PodCertificateRequest is issued, denied, or failed";
            wrong(e, at, detail);
        }
    } else if has(status, "Denied") || has(status, "Failed") {
        let rest = [
            n::CERTIFICATE_CHAIN,
            n::NOT_BEFORE,
            n::BEGIN_REFRESH_AT,
            n::NOT_AFTER,
        ];
        if rest
            .iter()
            .any(|field| !status.node().str(*field).is_empty())
        {
            let detail = "non-condition status fields must be empty when denying or failing the PodCertificateRequest";
            wrong(e, at, detail);
        }
    } else if has(status, "Issued") {
        issued(e, spec, status, now);
    } else if changed {
        let detail =
            r#"status is immutable unless transitioning to "Issued", "Denied", or "Failed""#;
        wrong(e, at, detail);
    }
}

fn has(status: PodCertificateRequestStatus<'_>, kind: &str) -> bool {
    let mut conditions = status.conditions().iter();
    conditions.any(|c| c.r#type() == kind && c.status() == "True")
}

/// At most one of those that end it. Upstream's paths have a dot before the index.
fn conditions(status: PodCertificateRequestStatus<'_>, e: &mut Errors<'_>) {
    let mut known = 0;
    for (i, condition) in status.conditions().iter().enumerate() {
        let field = |name: &str| format!("status.conditions.[{i}].{name}");
        let kind = condition.r#type();
        if !ENDS.contains(&kind) {
            e.push(FieldError::not_supported(field("type"), kind, &ENDS));
            continue;
        }
        known += 1;
        if known > 1 {
            let detail =
                r#"There may be at most one condition with type "Issued", "Denied", or "Failed""#;
            e.push(FieldError::invalid(field("type"), kind, detail));
        }
        if condition.status() != "True" {
            let shown = Named(condition.status());
            e.push(FieldError::not_supported(field("status"), shown, &["True"]));
        }
    }
}

fn issued(
    e: &mut Errors<'_>,
    spec: PodCertificateRequestSpec<'_>,
    status: PodCertificateRequestStatus<'_>,
    now: i64,
) {
    let (at, chain) = (
        Spot::of(status).field(n::CERTIFICATE_CHAIN),
        status.certificate_chain(),
    );
    if chain.len() > LARGEST_CHAIN {
        return e.too_long(at, LARGEST_CHAIN);
    }
    let mut blocks = pem::blocks(chain);
    let Some(leaf) = blocks.next() else {
        let detail = "issued certificate chain must contain at least one certificate";
        return e.invalid(at, chain, detail);
    };
    if leaf.label != "CERTIFICATE" {
        let detail = "issued certificate chain must consist entirely of CERTIFICATE PEM blocks";
        return e.invalid(at, chain, detail);
    }
    let Some(leaf) = parse(&leaf.contents) else {
        let detail = "leaf certificate does not parse as valid X.509";
        return e.invalid(at, chain, detail);
    };
    let before = e.len();
    subjects(e, at, &leaf);
    let Some(wanted) = wanted_key(e, spec) else {
        return;
    };
    if !wanted.is_of(leaf.public_key()) {
        let detail = "leaf certificate was not issued to the requested public key";
        return e.invalid(at, chain, detail);
    }
    if !times(e, spec, status, &leaf, before, now) {
        return;
    }
    for block in blocks {
        let problem = if block.label != "CERTIFICATE" {
            "issued certificate chain must consist entirely of CERTFICATE PEM blocks"
        } else if parse(&block.contents).is_none() {
            "intermediate certificate does not parse as valid X.509"
        } else {
            continue;
        };
        return e.invalid(at, chain, problem);
    }
}

fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    rest.is_empty().then_some(certificate)
}

/// Names that no client would ask for.
fn subjects(e: &mut Errors<'_>, at: Spot<'_>, leaf: &X509Certificate<'_>) {
    let names = leaf.subject_alternative_name().ok().flatten();
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    for name in names {
        let GeneralName::DNSName(name) = name else {
            continue;
        };
        for (wrong, detail) in [
            (
                name.is_empty(),
                "leaf certificate should not contain empty DNSName",
            ),
            (
                name.contains(".."),
                "leaf certificate's DNSName should not contain '..'",
            ),
            (
                name.starts_with('.') || name.ends_with('.'),
                "leaf certificate's DNSName should not start or end with '.'",
            ),
        ] {
            if wrong {
                e.invalid(at, *name, detail);
            }
        }
    }
    for name in names {
        let GeneralName::RFC822Name(address) = name else {
            continue;
        };
        let sound = address
            .split_once('@')
            .is_some_and(|(who, host)| !who.is_empty() && !host.is_empty() && !host.contains('@'));
        if !sound || address.contains(char::is_whitespace) {
            let detail = "leaf certificate should not contain invalid EmailAddress";
            e.invalid(at, *address, detail);
        }
    }
}

fn wanted_key(e: &mut Errors<'_>, spec: PodCertificateRequestSpec<'_>) -> Option<Key> {
    let request = spec.node().opt_bytes(n::STUB_PKCS10_REQUEST);
    let (key, field, detail) = match request.filter(|r| !r.is_empty()) {
        Some(request) => (
            Request::parse(request).map(|request| request.key()),
            n::STUB_PKCS10_REQUEST,
            "must be a valid PKCS#10 CSR",
        ),
        None => (
            Key::parse(
                spec.node()
                    .opt_bytes(n::PKIX_PUBLIC_KEY)
                    .unwrap_or_default(),
            ),
            n::PKIX_PUBLIC_KEY,
            "must be a valid PKIX-serialized public key",
        ),
    };
    if key.is_none() {
        wrong(e, Spot::of(spec).field(field), detail);
    }
    key
}

/// The times of the status are those of the certificate, and make sense.
fn times(
    e: &mut Errors<'_>,
    spec: PodCertificateRequestSpec<'_>,
    status: PodCertificateRequestStatus<'_>,
    leaf: &X509Certificate<'_>,
    before: usize,
    now: i64,
) -> bool {
    const CONSISTENT: &str = "must be present and consistent with the issued certificate";
    const IN_RANGE: &str = "must be present and in the range [notbefore+10min, notafter-10min]";
    let at = |field| Spot::of(status).field(field);
    let seconds = |field| {
        status
            .node()
            .opt_str(field)
            .and_then(time::unix_of)
            .map(|t| t.0)
    };
    for (field, detail) in [
        (n::NOT_BEFORE, CONSISTENT),
        (n::NOT_AFTER, CONSISTENT),
        (n::BEGIN_REFRESH_AT, IN_RANGE),
    ] {
        if seconds(field).is_none() {
            e.required(at(field), detail);
        }
    }
    let (Some(from), Some(until), Some(refresh)) = (
        seconds(n::NOT_BEFORE),
        seconds(n::NOT_AFTER),
        seconds(n::BEGIN_REFRESH_AT),
    ) else {
        return false;
    };
    if e.len() > before {
        return false;
    }
    let validity = leaf.validity();
    let (begins, ends) = (
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    );
    let longest = spec.max_expiration_seconds().unwrap_or(0);
    let text = |field: NameId| status.node().str(field);
    let checks = [
        (
            from != begins,
            n::NOT_BEFORE,
            "must be set to the NotBefore time encoded in the leaf certificate",
        ),
        (
            (from - now).abs() >= 5 * MINUTE,
            n::NOT_BEFORE,
            "must be set to within 5 minutes of kube-apiserver's current time",
        ),
        (
            until != ends,
            n::NOT_AFTER,
            "must be set to the NotAfter time encoded in the leaf certificate",
        ),
    ];
    for (fails, field, detail) in checks {
        if fails {
            e.invalid(at(field), Named(text(field)), detail);
            return false;
        }
    }
    let lifetime = ends - begins;
    if lifetime < 60 * MINUTE || lifetime > longest {
        let detail = if lifetime < 60 * MINUTE {
            "leaf certificate lifetime must be >= 1 hour".to_owned()
        } else {
            format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({longest})")
        };
        // Go shows durations in nanoseconds.
        e.invalid(
            at(n::CERTIFICATE_CHAIN),
            lifetime.saturating_mul(1_000_000_000),
            detail,
        );
        return false;
    }
    for (fails, detail) in [
        (
            refresh < from + 10 * MINUTE,
            "must be at least 10 minutes after status.notBefore",
        ),
        (
            refresh > until - 10 * MINUTE,
            "must be at least 10 minutes before status.notAfter",
        ),
    ] {
        if fails {
            let field = n::BEGIN_REFRESH_AT;
            e.invalid(at(field), Named(text(field)), detail);
            return false;
        }
    }
    true
}
