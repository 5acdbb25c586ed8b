//! Policies and writes for tests.

use bytes::Bytes;
use proto::Value;
use proto::catalogue::messages::admissionregistration_v1 as messages;

use super::super::given::Given;
use super::super::testing::{Asked, decode, pod, resource};
use super::super::webhook::source::kind;
use super::super::webhook::{Matched, Objects};

/// What expressions are given of the creation of a pod.
pub(super) fn given(object: &str) -> Given {
    let kind = kind(resource("pods"), "");
    let matched = Matched {
        resource: resource("pods"),
        kind: &kind,
    };
    let objects = Objects {
        object: Some(Bytes::copy_from_slice(object.as_bytes())),
        old: None,
        options: None,
    };
    let mut asked = Asked::create("pods", pod("{}"));
    asked.ask(|write| Given::new(matched, write, &objects).unwrap())
}

/// A policy with these fields of a spec.
pub(super) fn policy_with(name: &str, spec: &str) -> Value {
    let text = format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{{{spec}}}}}"#);
    decode(&text, messages::VALIDATING_ADMISSION_POLICY)
}

/// A policy that wants one thing.
pub(super) fn policy(name: &str, validation: &str) -> Value {
    policy_with(
        name,
        &format!(r#""validations":[{{"expression":"{validation}"}}]"#),
    )
}

pub(super) fn binding(name: &str, policy: &str, actions: &str) -> Value {
    let text = format!(
        r#"{{"metadata":{{"name":"{name}"}},"spec":{{"policyName":"{policy}","validationActions":{actions}}}}}"#
    );
    decode(&text, messages::VALIDATING_ADMISSION_POLICY_BINDING)
}
