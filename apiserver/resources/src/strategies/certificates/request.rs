//! What certificate signing requests must be: `ValidateCertificateSigningRequest*` in
//! `pkg/apis/certificates/validation`.

use std::collections::HashSet;

use proto::catalogue::messages::certificates_v1 as messages;
use proto::catalogue::names as n;
use proto::path::{Errors, Named, Spot};
use proto::view::certificates_v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use proto::view::{Node, View};
use proto::{MsgId, Value};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::{APPROVED, DENIED, FAILED, May, keys, of_type, pem, signer};
use crate::rules;
use crate::shown;

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
/// The signer of requests of versions that knew none.
const LEGACY: &str = "kubernetes.io/legacy-unknown";
const SHORTEST: i64 = 600;

/// What is wrong with the PEM of a request: it must be one, and signed by the key that it names.
fn request_problem(text: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(text);
    let block = pem::blocks(&text).next();
    let Some(block) = block.filter(|block| block.label == "CERTIFICATE REQUEST") else {
        return Some("PEM block type must be CERTIFICATE REQUEST");
    };
    match keys::Request::parse(&block.contents) {
        None => Some("asn1: structure error: malformed certificate request"),
        Some(request) => (!request.is_signed()).then_some("x509: invalid signature"),
    }
}

/// What is wrong with an issued certificate: PEM blocks of certificates and nothing else.
fn certificate_problem(text: &[u8]) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    let text = String::from_utf8_lossy(text);
    let mut blocks = 0;
    for block in pem::blocks(&text) {
        if block.label != "CERTIFICATE" {
            let label = proto::path::quote(block.label);
            return Some(format!(
                "only CERTIFICATE PEM blocks are allowed, found {label}"
            ));
        }
        if block.has_headers {
            return Some("no PEM block headers are permitted".into());
        }
        if block.contents.is_empty() {
            return Some("found CERTIFICATE PEM block containing 0 certificates".into());
        }
        let mut rest = block.contents.as_slice();
        while !rest.is_empty() {
            match X509Certificate::from_der(rest) {
                Ok((after, _)) => rest = after,
                Err(_) => return Some("x509: malformed certificate".into()),
            }
        }
        blocks += 1;
    }
    (blocks == 0).then(|| "must contain at least one CERTIFICATE PEM block".into())
}

fn view(object: &Value) -> CertificateSigningRequest<'_> {
    CertificateSigningRequest::of(Node::new(object))
}

/// What an older object did wrong already, an update may keep.
pub(super) fn request(object: &Value, old: Option<&Value>, e: &mut Errors<'_>) {
    let (now, was) = (view(object), old.map(view));
    let spec = now.spec();
    let at = Spot::of(spec);
    if let Some(problem) = request_problem(spec.request().unwrap_or_default()) {
        let shown = rules::json(spec.node().get(n::REQUEST));
        e.invalid(at.field(n::REQUEST), shown, problem);
    }
    usages(e, spec, was.map(|was| was.spec()));
    let legacy = was.is_some_and(|was| was.spec().signer_name() == LEGACY);
    if spec.signer_name() == LEGACY && !legacy {
        let detail = "the legacy signerName is not allowed via this API version";
        e.invalid(at.field(n::SIGNER_NAME), LEGACY, detail);
    } else {
        signer(e, at.field(n::SIGNER_NAME), spec.signer_name());
    }
    if let Some(seconds) = spec.expiration_seconds()
        && seconds < SHORTEST
    {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        e.invalid(at.field(n::EXPIRATION_SECONDS), seconds, detail);
    }
    conditions(now, old, e);
    certificate(now, was, e);
}

fn usages(
    e: &mut Errors<'_>,
    spec: CertificateSigningRequestSpec<'_>,
    was: Option<CertificateSigningRequestSpec<'_>>,
) {
    let unknown = |usage: &&str| !USAGES.contains(usage);
    let of = |spec: CertificateSigningRequestSpec<'_>| -> (bool, bool) {
        let mut seen = HashSet::new();
        let usages = || rules::texts(spec.usages());
        (
            usages().any(|usage| unknown(&usage)),
            !usages().all(|usage| seen.insert(usage)),
        )
    };
    let (had_unknown, had_twice) = was.map_or((false, false), of);
    if spec.usages().is_empty() {
        e.required(Spot::of(spec).field(n::USAGES), "");
    }
    if !had_unknown {
        for item in spec.usages() {
            rules::known(
                e,
                Spot::node(item),
                item.as_str().unwrap_or_default(),
                &USAGES,
            );
        }
    }
    let mut seen = HashSet::new();
    for item in spec.usages() {
        let usage = item.as_str().unwrap_or_default();
        if !seen.insert(usage) && !had_twice {
            e.duplicate(Spot::node(item), Named(usage));
        }
    }
}

fn certificate(
    now: CertificateSigningRequest<'_>,
    was: Option<CertificateSigningRequest<'_>>,
    e: &mut Errors<'_>,
) {
    let bytes =
        |of: CertificateSigningRequest<'_>| of.status().certificate().unwrap_or_default().to_vec();
    let (new, old) = (bytes(now), was.map(bytes));
    let lenient = old.is_some_and(|old| old == new || certificate_problem(&old).is_some());
    if !lenient && let Some(problem) = certificate_problem(&new) {
        let at = Spot::of(now.status()).field(n::CERTIFICATE);
        e.invalid(at, "<certificate data>", problem);
    }
}

fn conditions(view: CertificateSigningRequest<'_>, old: Option<&Value>, e: &mut Errors<'_>) {
    let at = Spot::of(view.status()).field(n::CONDITIONS);
    let had = |kind: &str| old.is_some_and(|old| !of_type(old, kind).is_empty());
    let mut before = HashSet::new();
    let twice = |old: &Value| {
        let mut seen = HashSet::new();
        let conditions = self::view(old).status().conditions();
        !conditions
            .iter()
            .all(|c| seen.insert(c.r#type().to_owned()))
    };
    let had_twice = old.is_some_and(twice);
    for (i, condition) in view.status().conditions().iter().enumerate() {
        let (kind, status) = (condition.r#type(), condition.status());
        if kind.is_empty() && !had("") {
            e.required(at.index(i).field(n::TYPE), "");
        }
        let allowed: &[&str] = if [APPROVED, DENIED, FAILED].contains(&kind) {
            &["True"]
        } else {
            &["False", "True", "Unknown"]
        };
        rules::choice(e, at.index(i).field(n::STATUS), status, allowed);
        let other = match kind {
            APPROVED => Some(DENIED),
            DENIED => Some(APPROVED),
            _ => None,
        };
        if other.is_some_and(|other| before.contains(other)) && !(had(APPROVED) && had(DENIED)) {
            let detail = "Approved and Denied conditions are mutually exclusive";
            e.covered(|e| e.invalid(at, Named(kind), detail));
        }
        if !before.insert(kind) && !had_twice {
            e.duplicate(at.index(i).field(n::TYPE), Named(kind));
        }
    }
}

pub(super) fn update(new: &Value, old: &Value, may: May, e: &mut Errors<'_>) {
    request(new, Some(old), e);
    let status = view(new).status();
    let at = Spot::of(status).field(n::CONDITIONS);
    for kind in [APPROVED, DENIED, FAILED] {
        if of_type(new, kind).len() < of_type(old, kind).len() {
            let detail = format!("updates may not remove a condition of type \"{kind}\"");
            e.forbidden(at, detail);
        }
    }
    if may != May::SetApproval {
        for kind in [APPROVED, DENIED] {
            let (now, was) = (of_type(new, kind), of_type(old, kind));
            if now.len() > was.len() {
                let detail = format!("updates may not add a condition of type \"{kind}\"");
                e.forbidden(at, detail);
            } else if now.len() == was.len() && now != was {
                const CONDITION: MsgId = messages::CERTIFICATE_SIGNING_REQUEST_CONDITION;
                let list = |of: Vec<&Value>| Value::List(of.into_iter().cloned().collect());
                let difference = shown::difference(&list(was), &list(now), CONDITION);
                let detail =
                    format!("updates may not modify a condition of type \"{kind}\"\n{difference}");
                e.forbidden(at, detail);
            }
        }
    }
    let was = view(old).status().certificate();
    if status.certificate().unwrap_or_default() != was.unwrap_or_default() {
        let at = Spot::of(status).field(n::CERTIFICATE);
        if may != May::SetCertificate {
            e.forbidden(at, "updates may not set certificate content");
        } else if was.is_some_and(|was| !was.is_empty()) {
            e.forbidden(at, "updates may not modify existing certificate content");
        }
    }
}
