//! Certificate signing requests, those of pods, and cluster trust bundles.
//!
//! Upstream: `pkg/registry/certificates`, `pkg/apis/certificates/validation`.

use proto::catalogue::names as n;
use proto::path::{Errors, Spot};
use proto::view::certificates_v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use proto::view::certificates_v1beta1::PodCertificateRequest;
use proto::view::{Node, View};
use proto::{NameId, Value, meta};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

use crate::registry::rules;
use crate::registry::strategy::{Cx, Part, Strategy};
use crate::table::{age, human_duration, labels};

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
const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
const FAILED: &str = "Failed";

/// What an update may do.
#[derive(Clone, Copy, PartialEq)]
enum May {
    Nothing,
    SetCertificate,
    SetApproval,
}

pub static REQUEST: Strategy = Strategy {
    name: |_, _| Vec::new(),
    prepare_create: |cx, new| {
        stamp_requestor(cx, new);
        new.set(&[n::STATUS], Value::object());
    },
    prepare_update: |_, new, old| {
        keep(new, old, n::SPEC);
        keep(new, old, n::STATUS);
    },
    validate: |_, object, e| request(object, None, e),
    validate_update: |_, new, old, e| update(new, old, May::Nothing, e),
    status: Some(Part {
        prepare_update: |cx, new, old| {
            keep(new, old, n::SPEC);
            keep_conditions(new, old, APPROVED);
            keep_conditions(new, old, DENIED);
            stamp_conditions(cx, new, old);
        },
        validate_update: |_, new, old, e| update(new, old, May::SetCertificate, e),
        ..Part::STATUS
    }),
    parts: &[(
        "approval",
        Part {
            prepare_update: |cx, new, old| {
                keep(new, old, n::SPEC);
                stamp_conditions(cx, new, old);
                let conditions = new.remove(&[n::STATUS, n::CONDITIONS]);
                keep(new, old, n::STATUS);
                match conditions {
                    Some(conditions) => new.set(&[n::STATUS, n::CONDITIONS], conditions),
                    None => drop(new.remove(&[n::STATUS, n::CONDITIONS])),
                }
            },
            validate_update: |_, new, old, e| update(new, old, May::SetApproval, e),
            ..Part::STATUS
        },
    )],
    cells: Some(|object, now| {
        let view = CertificateSigningRequest::of(Node::new(object));
        let lasts = view
            .spec()
            .expiration_seconds()
            .map_or_else(|| "<none>".to_owned(), human_duration);
        vec![
            meta::name(object).into(),
            age(meta::creation_timestamp(object), now).into(),
            view.spec().signer_name().into(),
            view.spec().username().into(),
            lasts.into(),
            state(view).into(),
        ]
    }),
    ..Strategy::DEFAULT
};

/// A request is made by the one who sends it, whatever it says.
fn stamp_requestor(cx: &Cx<'_>, new: &mut Value) {
    let spec = new.ensure(&[n::SPEC]).make_map();
    for field in [n::USERNAME, n::UID, n::GROUPS, n::EXTRA] {
        spec.remove(field);
    }
    let user = cx.user;
    let list = |texts: &[String]| Value::List(texts.iter().map(|t| t.as_str().into()).collect());
    if !user.name.is_empty() {
        spec.insert(n::USERNAME, user.name.as_str());
    }
    if !user.uid.is_empty() {
        spec.insert(n::UID, user.uid.as_str());
    }
    if !user.groups.is_empty() {
        spec.insert(n::GROUPS, list(&user.groups));
    }
    if !user.extra.is_empty() {
        let extra = spec.entry(n::EXTRA).make_map();
        for (key, values) in &user.extra {
            extra.insert(key.as_str(), list(values));
        }
    }
}

fn keep(new: &mut Value, old: &Value, field: NameId) {
    match old.get(field) {
        Some(value) => new.set(&[field], value.clone()),
        None => drop(new.remove(&[field])),
    }
}

fn conditions_of(object: &Value) -> &[Value] {
    object
        .at(&[n::STATUS, n::CONDITIONS])
        .and_then(Value::as_list)
        .unwrap_or_default()
}

fn text(condition: &Value, field: NameId) -> &str {
    condition
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn of_type<'a>(object: &'a Value, kind: &str) -> Vec<&'a Value> {
    conditions_of(object)
        .iter()
        .filter(|c| text(c, n::TYPE) == kind)
        .collect()
}

/// Puts back the old conditions of a type, unless some were added or removed: that is refused later.
fn keep_conditions(new: &mut Value, old: &Value, kind: &str) {
    let was = of_type(old, kind);
    if was.len() != of_type(new, kind).len() {
        return;
    }
    let Some(list) = new
        .at_mut(&[n::STATUS, n::CONDITIONS])
        .and_then(Value::as_list_mut)
    else {
        return;
    };
    for (now, was) in list
        .iter_mut()
        .filter(|c| text(c, n::TYPE) == kind)
        .zip(was)
    {
        *now = was.clone();
    }
}

/// Conditions say when they were set and when they changed, also if the client did not.
fn stamp_conditions(cx: &Cx<'_>, new: &mut Value, old: &Value) {
    let Some(list) = new
        .at_mut(&[n::STATUS, n::CONDITIONS])
        .and_then(Value::as_list_mut)
    else {
        return;
    };
    for condition in list {
        if text(condition, n::LAST_UPDATE_TIME).is_empty() {
            condition.set(&[n::LAST_UPDATE_TIME], cx.now);
        }
        if text(condition, n::LAST_TRANSITION_TIME).is_empty() {
            let same = |c: &&Value| {
                [n::TYPE, n::STATUS]
                    .iter()
                    .all(|&f| text(c, f) == text(condition, f))
            };
            let since = conditions_of(old)
                .iter()
                .filter(same)
                .map(|c| text(c, n::LAST_TRANSITION_TIME))
                .find(|t| !t.is_empty())
                .unwrap_or(cx.now)
                .to_owned();
            condition.set(&[n::LAST_TRANSITION_TIME], since);
        }
    }
}

fn state(request: CertificateSigningRequest<'_>) -> String {
    let has = |kind: &str| {
        request
            .status()
            .conditions()
            .iter()
            .any(|c| c.r#type() == kind)
    };
    let mut state = match (has(DENIED), has(APPROVED)) {
        (true, _) => DENIED,
        (_, true) => APPROVED,
        _ => "Pending",
    }
    .to_owned();
    if has(FAILED) {
        state.push_str(",Failed");
    }
    if !request
        .status()
        .certificate()
        .unwrap_or_default()
        .is_empty()
    {
        state.push_str(",Issued");
    }
    state
}

/// What is wrong with the PEM of a request: it must be one, and signed by the key that it names.
fn request_problem(pem: &[u8]) -> Option<String> {
    let not_pem = || Some("PEM block type must be CERTIFICATE REQUEST".to_owned());
    let Ok((_, block)) = parse_x509_pem(pem) else {
        return not_pem();
    };
    if block.label != "CERTIFICATE REQUEST" {
        return not_pem();
    }
    match X509CertificationRequest::from_der(&block.contents) {
        Ok((_, request)) => request
            .verify_signature()
            .err()
            .map(|e| format!("the signature does not hold: {e}")),
        Err(e) => Some(format!("not a certificate request: {e}")),
    }
}

/// What is wrong with an issued certificate: PEM blocks of certificates and nothing else.
fn certificate_problem(mut pem: &[u8]) -> Option<String> {
    if pem.is_empty() {
        return None;
    }
    let mut blocks = 0;
    while let Ok((rest, block)) = parse_x509_pem(pem) {
        if block.label != "CERTIFICATE" {
            return Some(format!(
                "only CERTIFICATE PEM blocks are allowed, found {:?}",
                block.label
            ));
        }
        if block.parse_x509().is_err() {
            return Some("a PEM block does not hold a certificate".to_owned());
        }
        blocks += 1;
        pem = rest;
    }
    (blocks == 0).then(|| "must contain at least one CERTIFICATE PEM block".to_owned())
}

/// What is wrong with the name of a signer: `domain/path`, see `ValidateSignerName` in upstream's
/// `pkg/apis/core/validation`.
fn signer_problem(signer: &str) -> Option<&'static str> {
    let (domain, path) = signer.split_once('/')?;
    let (domain_longest, path_longest) = (253, 253);
    let good_path = !path.is_empty()
        && path.len() <= path_longest
        && path
            .split('.')
            .all(|part| meta::names::dns_label_problems(part).is_empty());
    let good_domain = domain.len() <= domain_longest
        && domain.contains('.')
        && meta::names::dns_subdomain_problems(domain).is_empty();
    (!good_path || path.contains('/') || !good_domain).then_some(
        "must be a fully qualified domain and path of the form 'example.com/signer-name'",
    )
}

pub(super) fn signer(e: &mut Errors<'_>, at: Spot<'_>, signer: &str) {
    if signer.is_empty() {
        e.required(at, "");
    } else if !signer.contains('/') {
        e.invalid(
            at,
            signer,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        );
    } else if let Some(problem) = signer_problem(signer) {
        e.invalid(at, signer, problem);
    }
}

/// What an older object did wrong already, an update may keep.
fn request(object: &Value, old: Option<&Value>, e: &mut Errors<'_>) {
    let view = CertificateSigningRequest::of(Node::new(object));
    let was = old.map(|old| CertificateSigningRequest::of(Node::new(old)));
    let spec = view.spec();
    let at = Spot::of(spec);
    if let Some(problem) = request_problem(spec.request().unwrap_or_default()) {
        e.invalid(at.field(n::REQUEST), "<request>", problem);
    }
    let usages: Vec<&str> = spec.usages().iter().filter_map(Value::as_str).collect();
    if usages.is_empty() {
        e.required(at.field(n::USAGES), "");
    }
    if was.is_none() {
        for (i, usage) in usages.iter().enumerate() {
            let at = at.field(n::USAGES);
            if !USAGES.contains(usage) {
                e.not_supported(at.index(i), *usage, &USAGES);
            }
            if usages[..i].contains(usage) {
                e.duplicate(at.index(i), *usage);
            }
        }
    }
    let legacy = "kubernetes.io/legacy-unknown";
    if spec.signer_name() == legacy && was.is_none_or(|was| was.spec().signer_name() != legacy) {
        e.invalid(
            at.field(n::SIGNER_NAME),
            legacy,
            "the legacy signerName is not allowed via this API version",
        );
    } else {
        signer(e, at.field(n::SIGNER_NAME), spec.signer_name());
    }
    if let Some(seconds) = spec.expiration_seconds()
        && seconds < 600
    {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        e.invalid(at.field(n::EXPIRATION_SECONDS), seconds, detail);
    }
    conditions(view, old, e);
    let touched = was.is_none_or(|was| was.status().certificate() != view.status().certificate());
    if touched
        && let Some(problem) = certificate_problem(view.status().certificate().unwrap_or_default())
    {
        e.invalid(
            Spot::of(view.status()).field(n::CERTIFICATE),
            "<certificate data>",
            problem,
        );
    }
}

fn conditions(view: CertificateSigningRequest<'_>, old: Option<&Value>, e: &mut Errors<'_>) {
    let at = Spot::of(view.status()).field(n::CONDITIONS);
    let all: Vec<CertificateSigningRequestCondition<'_>> =
        view.status().conditions().iter().collect();
    let had = |kind: &str| old.map_or(0, |old| of_type(old, kind).len());
    for (i, condition) in all.iter().enumerate() {
        let (kind, status) = (condition.r#type(), condition.status());
        if kind.is_empty() && had("") == 0 {
            e.required(at.index(i).field(n::TYPE), "");
        }
        let allowed: &[&str] = if [APPROVED, DENIED, FAILED].contains(&kind) {
            &["True"]
        } else {
            &["False", "True", "Unknown"]
        };
        if status.is_empty() {
            e.required(at.index(i).field(n::STATUS), "");
        } else if !allowed.contains(&status) {
            e.not_supported(at.index(i).field(n::STATUS), status, allowed);
        }
        let before = &all[..i];
        let other = match kind {
            APPROVED => Some(DENIED),
            DENIED => Some(APPROVED),
            _ => None,
        };
        if let Some(other) = other
            && before.iter().any(|c| c.r#type() == other)
            && (had(APPROVED) == 0 || had(DENIED) == 0)
        {
            e.invalid(
                at,
                kind,
                "Approved and Denied conditions are mutually exclusive",
            );
        }
        if before.iter().any(|c| c.r#type() == kind) && had(kind) < 2 {
            e.duplicate(at.index(i).field(n::TYPE), kind);
        }
    }
}

fn update(new: &Value, old: &Value, may: May, e: &mut Errors<'_>) {
    request(new, Some(old), e);
    let status = CertificateSigningRequest::of(Node::new(new)).status();
    let at = Spot::of(status).field(n::CONDITIONS);
    for kind in [APPROVED, DENIED, FAILED] {
        if of_type(new, kind).len() < of_type(old, kind).len() {
            e.forbidden(
                at,
                format!("updates may not remove a condition of type {kind:?}"),
            );
        }
    }
    if may != May::SetApproval {
        for kind in [APPROVED, DENIED] {
            let (now, was) = (of_type(new, kind), of_type(old, kind));
            if now.len() > was.len() {
                e.forbidden(
                    at,
                    format!("updates may not add a condition of type {kind:?}"),
                );
            } else if now.len() == was.len() && now != was {
                e.forbidden(
                    at,
                    format!("updates may not modify a condition of type {kind:?}"),
                );
            }
        }
    }
    let was = CertificateSigningRequest::of(Node::new(old))
        .status()
        .certificate();
    if status.certificate() != was {
        let at = Spot::of(status).field(n::CERTIFICATE);
        if may != May::SetCertificate {
            e.forbidden(at, "updates may not set certificate content");
        } else if was.is_some_and(|was| !was.is_empty()) {
            e.forbidden(at, "updates may not modify existing certificate content");
        }
    }
}

/// Trust anchors that one signer publishes, or nobody in particular.
pub static POD_REQUEST: Strategy = Strategy {
    generation: false,
    cells: Some(|object, _| {
        let view = PodCertificateRequest::of(Node::new(object));
        let spec = view.spec();
        let conditions = view.status().conditions();
        let ended = conditions
            .iter()
            .rfind(|c| matches!(c.r#type(), "Issued" | "Denied" | "Failed"));
        vec![
            meta::name(object).into(),
            spec.pod_name().into(),
            spec.service_account_name().into(),
            spec.node_name().into(),
            spec.signer_name().into(),
            ended.map_or("Pending", |c| c.r#type()).into(),
            labels(spec.unverified_user_annotations()).into(),
        ]
    }),
    ..Strategy::WITH_STATUS
};

pub static TRUST_BUNDLE: Strategy = Strategy {
    name: meta::names::path_segment_name,
    validate: |_, object, e| {
        bundle_name(object, e);
        bundle(object, e);
    },
    validate_update: |_, new, old, e| {
        bundle_name(new, e);
        let path = [n::SPEC, n::TRUST_BUNDLE];
        if new.at(&path) != old.at(&path) {
            bundle(new, e);
        }
        if let (Some(now), Some(was)) = (new.get(n::SPEC), old.get(n::SPEC))
            && !rules::same(now.get(n::SIGNER_NAME), was.get(n::SIGNER_NAME))
        {
            e.invalid(
                Spot::node(now).field(n::SIGNER_NAME),
                text(now, n::SIGNER_NAME),
                "field is immutable",
            );
        }
    },
    cells: Some(|object, _| {
        let signer = object
            .get(n::SPEC)
            .map_or("", |spec| text(spec, n::SIGNER_NAME));
        vec![
            meta::name(object).into(),
            if signer.is_empty() { "<none>" } else { signer }.into(),
        ]
    }),
    ..Strategy::DEFAULT
};

/// The bundle of a signer begins with the signer's name (`/` is `:`), any other has no colon.
fn bundle_name(object: &Value, e: &mut Errors<'_>) {
    let (Some(metadata), Some(spec)) = (object.get(n::METADATA), object.get(n::SPEC)) else {
        return;
    };
    let (at, name) = (Spot::node(metadata).field(n::NAME), meta::name(object));
    let of = text(spec, n::SIGNER_NAME);
    if of.is_empty() {
        e.invalid_each(at, name, meta::names::subdomain_name(name, false));
        return;
    }
    signer(e, Spot::node(spec).field(n::SIGNER_NAME), of);
    let prefix = format!("{}:", of.replace('/', ":"));
    match name.strip_prefix(prefix.as_str()) {
        Some(rest) => e.invalid_each(at, name, meta::names::subdomain_name(rest, false)),
        None => {
            let detail = format!(
                "ClusterTrustBundle for signerName {of} must be named with prefix {prefix}"
            );
            e.invalid(at, name, detail);
        }
    }
}

fn bundle(object: &Value, e: &mut Errors<'_>) {
    /// Bytes; see `MaxTrustBundleSize` in upstream's `pkg/apis/certificates`.
    const LARGEST: usize = 1 << 20;
    let Some(spec) = object.get(n::SPEC) else {
        return;
    };
    let at = Spot::node(spec).field(n::TRUST_BUNDLE);
    let pem = text(spec, n::TRUST_BUNDLE);
    if pem.len() > LARGEST {
        e.too_long(at, LARGEST);
        return;
    }
    let hidden = "<value omitted>";
    let mut anchors: Vec<Vec<u8>> = Vec::new();
    let mut rest = pem.as_bytes();
    let mut sound = true;
    let mut i = 0;
    while let Ok((after, block)) = parse_x509_pem(rest) {
        rest = after;
        let problem = if block.label == "CERTIFICATE" {
            match block.parse_x509() {
                Err(_) => Some(format!("entry {i} does not parse as X.509")),
                Ok(certificate) if !certificate.is_ca() => {
                    Some(format!("entry {i} does not have the CA bit set"))
                }
                Ok(_) if anchors.contains(&block.contents) => {
                    Some(format!("entry {i} is there twice"))
                }
                Ok(_) => None,
            }
        } else {
            Some(format!("entry {i} has bad block type: {}", block.label))
        };
        if let Some(problem) = problem {
            e.invalid(at, hidden, problem);
            sound = false;
        }
        anchors.push(block.contents);
        i += 1;
    }
    if sound && anchors.is_empty() {
        e.invalid(at, hidden, "at least one trust anchor must be provided");
    }
}
