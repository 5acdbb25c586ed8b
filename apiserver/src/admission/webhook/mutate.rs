//! Mutating webhooks: one after the other, each sees what the one before made of the object.
//!
//! Upstream: `apiserver/pkg/admission/plugin/webhook/mutating/dispatcher.go`.

use std::time::Instant;

use proto::apply::Managed;
use proto::catalogue::names as n;
use proto::patch::json::Patch;
use proto::{Value, codec, meta};
use resources::status::Failure;
use serde_json::json;

use super::super::Attributes;
use super::call::{self, Failed, PASSED, Verdict};
use super::forms::{Forms, Patched};
use super::hook::Hook;
use super::review::{Answer, JSON_PATCH, Objects};
use super::selected::is_selected;
use super::source::{Candidate, Concerned};
use super::{State, timed_out};
use crate::audit::Part;
use crate::server::Server;

/// Keys of annotations: before them stands `failed-open.`, behind them which call of the write it was.
const MUTATION: &str = "mutation.webhook.admission.k8s.io/";
const PATCH: &str = "patch.webhook.admission.k8s.io/";

/// Asks all that are concerned.
///
/// # Errors
/// The first refusal.
pub(super) async fn dispatch(
    server: &Server,
    state: &State,
    concerned: Concerned,
    write: &mut Attributes<'_>,
) -> Result<(), Failure> {
    let features = &server.config.features;
    let mut forms = Forms::new(write.resource, write.subresource, features);
    let of = forms.message();
    write.reinvocation.begin(write.object.as_deref(), of);
    let mut outcome = Ok(());
    for candidate in concerned.iter() {
        outcome = one(server, state, candidate, write, &mut forms).await;
        if outcome.is_err() {
            break;
        }
    }
    write.reinvocation.end(write.object.as_deref());
    outcome
}

async fn one(
    server: &Server,
    state: &State,
    candidate: &Candidate,
    write: &mut Attributes<'_>,
    forms: &mut Forms,
) -> Result<(), Failure> {
    let hook = &*candidate.hook;
    if !is_selected(server, candidate, write, forms, &state.metrics).await?
        || !write.reinvocation.is_due(&hook.uid)
    {
        return Ok(());
    }
    let started = Instant::now();
    let objects = forms.all(write, &candidate.kind)?;
    let (answer, said) = call::ask(server, state, candidate, write, &objects).await;
    write.spent(Part::MutatingWebhook, started.elapsed());
    said.tell(hook, write);
    let round = u8::from(write.reinvocation.again);
    let which = format!("round_{round}_index_{}", candidate.index);
    let applied =
        answer.and_then(|answer| apply(candidate, &answer, &objects, forms, write, &which));
    let changed = matches!(applied, Ok(true));
    let about = about(hook, &format!("\"mutated\":{changed}"));
    write.annotate(&format!("{MUTATION}{which}"), &about);
    let counted = applied
        .as_ref()
        .map_or_else(|failed| failed.outcome(hook), |_| PASSED);
    state
        .metrics
        .called(&hook.name, write.operation, &counted, started.elapsed());
    if changed {
        write.reinvocation.changed();
    }
    if hook.reinvoked {
        write.reinvocation.asked(&hook.uid);
    }
    let Err(failed) = applied else { return Ok(()) };
    match failed.verdict(hook) {
        Verdict::Refused(failure) => Err(failure),
        Verdict::Open => {
            state.metrics.failed_open(&hook.name);
            write.annotate(&format!("failed-open.{MUTATION}{which}"), &hook.name);
            timed_out(write)
        }
    }
}

/// Applies what a webhook wants to have changed; whether that changed anything.
fn apply(
    candidate: &Candidate,
    answer: &Answer,
    objects: &Objects,
    forms: &mut Forms,
    write: &mut Attributes<'_>,
    which: &str,
) -> Result<bool, Failed> {
    let hook = &*candidate.hook;
    if answer.patch.is_empty() {
        return Ok(false);
    }
    let undecodable = |why: &dyn std::fmt::Display| Failed::Calling {
        why: format!("received undecodable patch in webhook response: {why}"),
        code: 503,
    };
    let document = codec::json::parse(&answer.patch).map_err(|e| undecodable(&e))?;
    // Null is what Go writes for a list to which nothing was added.
    if document.is_null() || document.as_list().is_some_and(<[Value]>::is_empty) {
        return Ok(false);
    }
    let patch = Patch::read(&document).map_err(|e| undecodable(&e))?;
    let (Some(object), Some(json)) = (write.object.as_deref_mut(), &objects.object) else {
        let name = proto::path::quote(&hook.name);
        let why = format!(
            "admission webhook {name} attempted to modify the object, which is not supported for this operation"
        );
        return Err(Failed::Server(Failure::internal(why)));
    };
    if answer.patch_type != JSON_PATCH {
        let given = proto::path::quote(&answer.patch_type);
        return Err(Failed::Calling {
            why: format!("unsupported patch type {given}"),
            code: 400,
        });
    }
    let patched = forms.patched(object, &candidate.kind, json, &patch);
    let Patched {
        object: new,
        changed,
    } = patched.map_err(|why| Failed::Server(Failure::internal(why)))?;
    let before = std::mem::replace(object, new);
    write.warnings.extend(keep_managers(object, &before));
    forms.changed();
    annotate_patch(hook, &document, write, which);
    Ok(changed)
}

/// Managed fields that a webhook made unreadable stay as they were (`fieldmanager/admission.go`).
pub(in super::super) fn keep_managers(new: &mut Value, old: &Value) -> Option<String> {
    let (is, was) = (meta::managed_fields(new), meta::managed_fields(old));
    if is == was {
        return None;
    }
    let problem = Managed::read(is).err()?;
    let was = was.to_vec();
    meta::set(new, n::MANAGED_FIELDS, was);
    Some(format!(
        ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating admission controller; please fix your requests: {problem}"
    ))
}

/// What was patched is told only where the policy wants to have what the client sent as well.
fn annotate_patch(hook: &Hook, patch: &Value, write: &Attributes<'_>, which: &str) {
    let Some(trail) = write.trail.filter(|trail| trail.has_requests()) else {
        return;
    };
    let mut json = Vec::new();
    codec::json::write(patch, &mut json);
    let patch = String::from_utf8_lossy(&json);
    let about = about(
        hook,
        &format!("\"patch\":{patch},\"patchType\":\"{JSON_PATCH}\""),
    );
    trail.annotate(&format!("{PATCH}{which}"), &about);
}

/// What is told of a webhook, in upstream's order.
fn about(hook: &Hook, more: &str) -> String {
    let (configuration, webhook) = (json!(hook.configuration), json!(hook.name));
    format!("{{\"configuration\":{configuration},\"webhook\":{webhook},{more}}}")
}

#[cfg(test)]
mod tests {
    use component::features::Features;
    use proto::catalogue::messages::admissionregistration_v1::MUTATING_WEBHOOK_CONFIGURATION;

    use super::super::super::testing::{Asked, decode, pod, resource};
    use super::super::hook::of_configuration;
    use super::super::source::kind;
    use super::*;

    fn hook() -> Hook {
        let text = r#"{"metadata":{"name":"c"},"webhooks":[{"name":"a.b.c"}]}"#;
        of_configuration(&decode(text, MUTATING_WEBHOOK_CONFIGURATION)).remove(0)
    }

    #[test]
    fn what_webhooks_did_is_recorded_as_upstream_writes_it() {
        assert_eq!(
            about(&hook(), "\"mutated\":true"),
            r#"{"configuration":"c","webhook":"a.b.c","mutated":true}"#
        );
    }

    /// Whether an answer's patch changes a pod.
    fn applied(patch: &str) -> Result<bool, Failed> {
        let candidate = Candidate {
            index: 0,
            hook: hook().into(),
            resource: resource("pods"),
            kind: kind(resource("pods"), ""),
        };
        let answer = Answer {
            allowed: true,
            patch: patch.as_bytes().into(),
            patch_type: JSON_PATCH.to_owned(),
            ..Answer::default()
        };
        let mut forms = Forms::new(resource("pods"), "", &Features::defaults());
        let mut asked = Asked::create("pods", pod(r#"{"metadata":{"name":"a"}}"#));
        asked.ask(|write| {
            let objects = forms.all(write, &candidate.kind).unwrap();
            apply(
                &candidate,
                &answer,
                &objects,
                &mut forms,
                write,
                "round_0_index_0",
            )
        })
    }

    #[test]
    fn a_patch_without_operations_changes_nothing() {
        for nothing in ["", "[]", " [ ] ", "null"] {
            assert!(matches!(applied(nothing), Ok(false)), "{nothing}");
        }
        let label = r#"[{"op":"add","path":"/metadata/labels","value":{"k":"v"}}]"#;
        assert!(matches!(applied(label), Ok(true)));
        for none in ["{", "{}", "[1]"] {
            let failed = applied(none);
            assert!(matches!(failed, Err(Failed::Calling { .. })), "{none}");
        }
        let unknown = applied(r#"[{"op":"put","path":"/metadata/labels","value":{}}]"#);
        assert!(matches!(unknown, Err(Failed::Server(_))));
    }

    #[test]
    fn managers_that_cannot_be_read_stay_as_they_were() {
        let managed = |api_version: &str| {
            pod(&format!(
                r#"{{"metadata":{{"managedFields":[{{"manager":"m","operation":"Update","apiVersion":"{api_version}","fieldsType":"FieldsV1","fieldsV1":{{}}}}]}}}}"#
            ))
        };
        let old = managed("v1");
        let mut new = managed("");
        assert!(
            keep_managers(&mut new, &old)
                .unwrap()
                .starts_with(".metadata.managedFields")
        );
        assert_eq!(new, old);
        let mut other = managed("v2");
        assert_eq!(keep_managers(&mut other, &old), None);
        assert_eq!(other, managed("v2"));
    }
}
