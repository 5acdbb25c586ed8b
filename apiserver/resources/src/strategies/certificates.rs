//! Certificate signing requests, those of pods, and cluster trust bundles.
//!
//! Upstream: `pkg/registry/certificates`, `pkg/apis/certificates/validation`.

use proto::catalogue::names as n;
use proto::view::certificates_v1::CertificateSigningRequest;
use proto::view::certificates_v1beta1::PodCertificateRequest;
use proto::view::{Node, View};
use proto::{NameId, Value, meta};

use crate::declarative::NO_OPTIONS;
use crate::rules;
use crate::strategy::{Cx, Generation, Part, Strategy};
use crate::table::{age, human_duration, labels};

mod bundle;
mod issued;
mod keys;
pub(super) mod pem;
mod pod_request;
mod request;
mod signer;

#[cfg(test)]
mod tests;

pub(super) use signer::signer;

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
    validate: |_, object, e| request::request(object, None, e),
    validate_update: |_, new, old, e| request::update(new, old, May::Nothing, e),
    declarative: Some(NO_OPTIONS),
    status: Some(Part {
        prepare_update: |cx, new, old| {
            keep(new, old, n::SPEC);
            keep_conditions(new, old, APPROVED);
            keep_conditions(new, old, DENIED);
            stamp_conditions(cx, new, old);
        },
        validate_update: |_, new, old, e| request::update(new, old, May::SetCertificate, e),
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
            validate_update: |_, new, old, e| request::update(new, old, May::SetApproval, e),
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
    new.copy(old, &[field]);
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

pub static POD_REQUEST: Strategy = Strategy {
    validate: |_, object, e| pod_request::create(object, e),
    validate_update: |_, new, old, e| pod_request::update(new, old, e),
    declarative: Some(NO_OPTIONS),
    status: Some(Part {
        validate_update: |cx, new, old, e| {
            // Who changes metadata as well hears nothing else.
            if !rules::breaks(|e| meta::validate_object_meta_update(new, old, e)) {
                issued::status(new, old, cx.now_seconds, e);
            }
        },
        ..Part::STATUS_ALONE
    }),
    generation: Generation::Ignored,
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

/// Trust anchors that one signer publishes, or nobody in particular.
pub static TRUST_BUNDLE: Strategy = Strategy {
    // The signer is part of it: see `bundle`.
    name: |_, _| Vec::new(),
    validate: |_, object, e| bundle::bundle(object, None, e),
    validate_update: |_, new, old, e| bundle::bundle(new, Some(old), e),
    declarative: Some(NO_OPTIONS),
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
