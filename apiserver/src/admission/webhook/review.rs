//! `AdmissionReview`: what a webhook is sent, and what of its answer counts.
//!
//! Upstream: `apiserver/pkg/admission/plugin/webhook/{request,errors}`.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::catalogue::{Resource, messages, names as n};
use proto::codec::json::{self, Strictness};
use proto::path::quote;
use proto::{MsgId, Value};
use resources::object::Type;
use resources::status::Failure;
use serde::Serialize;

use super::super::Attributes;
use super::seen_namespace;
use super::source::{Candidate, Matched, kind};

const KIND: &str = "AdmissionReview";

/// The versions of reviews.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Version {
    V1,
    V1beta1,
}

impl Version {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "v1" => Some(Self::V1),
            "v1beta1" => Some(Self::V1beta1),
            _ => None,
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "admission.k8s.io/v1",
            Self::V1beta1 => "admission.k8s.io/v1beta1",
        }
    }

    fn message(self) -> MsgId {
        match self {
            Self::V1 => messages::admission_v1::ADMISSION_REVIEW,
            Self::V1beta1 => messages::admission_v1beta1::ADMISSION_REVIEW,
        }
    }
}

#[derive(Serialize)]
struct GroupVersionKind<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
}

impl<'a> From<&Type> for GroupVersionKind<'a> {
    fn from(of: &Type) -> Self {
        Self {
            group: of.group,
            version: of.version,
            kind: of.kind,
        }
    }
}

#[derive(Serialize)]
struct GroupVersionResource<'a> {
    group: &'a str,
    version: &'a str,
    resource: &'a str,
}

impl<'a> From<&Resource> for GroupVersionResource<'a> {
    fn from(of: &Resource) -> Self {
        Self {
            group: of.group,
            version: of.version,
            resource: of.name,
        }
    }
}

#[derive(Serialize)]
struct UserInfo<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    groups: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: &'a BTreeMap<String, Vec<String>>,
}

/// All of a request but its objects, which are JSON already.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: &'a str,
    kind: GroupVersionKind<'a>,
    resource: GroupVersionResource<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    sub_resource: &'a str,
    request_kind: GroupVersionKind<'a>,
    request_resource: GroupVersionResource<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    request_sub_resource: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    operation: &'a str,
    user_info: UserInfo<'a>,
    dry_run: bool,
}

/// The objects of a write, as JSON of the kind that the webhook sees.
#[derive(Clone, Default)]
pub(in super::super) struct Objects {
    pub(in super::super) object: Option<Bytes>,
    pub(in super::super) old: Option<Bytes>,
    pub(in super::super) options: Option<Bytes>,
}

/// The request alone, as expressions see it: without its objects, but with its options.
pub(in super::super) fn request(
    write: &Attributes<'_>,
    to: Matched<'_>,
    objects: &Objects,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::with_capacity(1024);
    put_request(&mut out, "", write, to, &[("options", &objects.options)])?;
    Ok(out)
}

/// Appends a request; what is JSON already goes before the brace that closes it.
fn put_request(
    out: &mut Vec<u8>,
    uid: &str,
    write: &Attributes<'_>,
    to: Matched<'_>,
    parts: &[(&str, &Option<Bytes>)],
) -> Result<(), serde_json::Error> {
    let user = write.user;
    let request = Request {
        uid,
        kind: to.kind.into(),
        resource: to.resource.into(),
        sub_resource: write.subresource,
        request_kind: (&kind(write.resource, write.subresource)).into(),
        request_resource: write.resource.into(),
        request_sub_resource: write.subresource,
        name: write.name,
        namespace: seen_namespace(write),
        operation: write.operation.text(),
        user_info: UserInfo {
            username: &user.name,
            uid: &user.uid,
            groups: &user.groups,
            extra: &user.extra,
        },
        dry_run: write.dry_run(),
    };
    serde_json::to_writer(&mut *out, &request)?;
    out.pop();
    for (name, json) in parts {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        out.extend_from_slice(json.as_deref().unwrap_or(b"null"));
    }
    out.push(b'}');
    Ok(())
}

/// What a webhook is sent.
pub(super) fn question(
    version: Version,
    uid: &str,
    write: &Attributes<'_>,
    to: &Candidate,
    objects: &Objects,
) -> Result<Bytes, serde_json::Error> {
    let parts = [
        ("object", &objects.object),
        ("oldObject", &objects.old),
        ("options", &objects.options),
    ];
    let size = |(_, json): &(&str, &Option<Bytes>)| json.as_ref().map_or(0, Bytes::len);
    let mut out = Vec::with_capacity(parts.iter().map(size).sum::<usize>() + 1024);
    out.extend_from_slice(b"{\"kind\":\"AdmissionReview\",\"apiVersion\":\"");
    out.extend_from_slice(version.api_version().as_bytes());
    out.extend_from_slice(b"\",\"request\":");
    put_request(&mut out, uid, write, to.matched(), &parts)?;
    out.push(b'}');
    Ok(out.into())
}

/// What of an answer counts.
#[derive(PartialEq, Default, Debug)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    /// Empty for none.
    pub(super) patch: Box<[u8]>,
    pub(super) patch_type: String,
    pub(super) status: Option<Value>,
    pub(super) warnings: Vec<String>,
    pub(super) annotations: Vec<(String, String)>,
}

/// What is wrong with an answer.
#[derive(thiserror::Error, PartialEq, Debug)]
pub(super) enum Wrong {
    #[error("failed to call webhook: {0}")]
    Undecodable(String),
    #[error("received invalid webhook response: {0}")]
    Invalid(String),
}

/// Reads an answer. Only version 1 is strict about what it is and whose.
pub(super) fn answer(
    bytes: &[u8],
    version: Version,
    uid: &str,
    mutating: bool,
) -> Result<Answer, Wrong> {
    let undecodable = |e: &dyn std::fmt::Display| Wrong::Undecodable(e.to_string());
    let decoded = json::decode(bytes, version.message(), Strictness::Lenient);
    let review = decoded.map_err(|e| undecodable(&e))?.value;
    let text = |name| review.get(name).and_then(Value::as_str).unwrap_or_default();
    let (api_version, given) = (text(n::API_VERSION), text(n::KIND));
    let expected = |given: &str, own: &str| given.is_empty() || given == own;
    if !expected(api_version, version.api_version()) || !expected(given, KIND) {
        let why = format!(
            "no kind {} is registered for version {} in scheme \"pkg/runtime/scheme.go:111\"",
            quote(if given.is_empty() { KIND } else { given }),
            quote(if api_version.is_empty() {
                version.api_version()
            } else {
                api_version
            }),
        );
        return Err(undecodable(&why));
    }
    let invalid = |why: String| Err(Wrong::Invalid(why));
    let Some(response) = review.get(n::RESPONSE).filter(|v| !v.is_null()) else {
        return invalid("webhook response was absent".to_owned());
    };
    if version == Version::V1 {
        let own = response
            .get(n::UID)
            .and_then(Value::as_str)
            .unwrap_or_default();
        if own != uid {
            let (uid, own) = (quote(uid), quote(own));
            return invalid(format!("expected response.uid={uid}, got {own}"));
        }
        if api_version.is_empty() || given.is_empty() {
            let (group, version) = proto::meta::parse_api_version(api_version).unwrap_or_default();
            return invalid(format!(
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {group}/{version}, Kind={given}"
            ));
        }
    }
    let patch = match response.get(n::PATCH) {
        Some(Value::Bytes(patch)) => &**patch,
        _ => &[],
    };
    let patch_type = response.get(n::PATCH_TYPE).and_then(Value::as_str);
    if version == Version::V1 {
        check_patch(patch, patch_type, mutating).map_err(Wrong::Invalid)?;
    }
    let strings = response.get(n::AUDIT_ANNOTATIONS).and_then(Value::as_map);
    let annotations = strings.into_iter().flat_map(proto::Map::iter);
    let warnings = response.get(n::WARNINGS).and_then(Value::as_list);
    Ok(Answer {
        allowed: response.get(n::ALLOWED).and_then(Value::as_bool) == Some(true),
        patch: if mutating {
            patch.into()
        } else {
            Box::default()
        },
        patch_type: match version {
            Version::V1 => patch_type.unwrap_or_default().to_owned(),
            Version::V1beta1 => JSON_PATCH.to_owned(),
        },
        status: response.get(n::STATUS).filter(|v| !v.is_null()).cloned(),
        warnings: warnings
            .unwrap_or_default()
            .iter()
            .filter_map(|w| w.as_str().map(str::to_owned))
            .collect(),
        annotations: annotations
            .map(|(key, value)| {
                (
                    key.as_str().to_owned(),
                    value.as_str().unwrap_or_default().to_owned(),
                )
            })
            .collect(),
    })
}

/// The only type of patches.
pub(super) const JSON_PATCH: &str = "JSONPatch";

/// A patch has a type, and only who may change something has one.
fn check_patch(patch: &[u8], patch_type: Option<&str>, mutating: bool) -> Result<(), String> {
    let why = match (mutating, patch.is_empty(), patch_type) {
        (true, false, None) => "webhook returned response.patch but not response.patchType",
        (true, true, Some(_)) => "webhook returned response.patchType but not response.patch",
        (true, false, Some("")) => "webhook returned invalid response.patchType of \"\"",
        (false, false, _) => "validating webhook may not return response.patch",
        (false, true, Some(_)) => "validating webhook may not return response.patchType",
        _ => return Ok(()),
    };
    Err(why.to_owned())
}

/// The refusal of a webhook, in its own words.
pub(super) fn refusal(webhook: &str, status: Option<&Value>) -> Failure {
    let denied = format!("admission webhook {} denied the request", quote(webhook));
    let mut status = status.cloned().unwrap_or_else(Value::object);
    let text = |status: &Value, name| {
        let text = status.get(name).and_then(Value::as_str).unwrap_or_default();
        text.to_owned()
    };
    let code = status.get(n::CODE).and_then(Value::as_int).unwrap_or(0);
    status.set(&[n::CODE], code.max(400));
    if matches!(text(&status, n::STATUS).as_str(), "" | "Success") {
        status.set(&[n::STATUS], "Failure");
    }
    let message = match (text(&status, n::MESSAGE), text(&status, n::REASON)) {
        (message, _) if !message.is_empty() => format!("{denied}: {message}"),
        (_, reason) if !reason.is_empty() => format!("{denied}: {reason}"),
        _ => format!("{denied} without explanation"),
    };
    status.set(&[n::MESSAGE], message);
    Failure::of_status(&status)
}

#[cfg(test)]
mod tests;
