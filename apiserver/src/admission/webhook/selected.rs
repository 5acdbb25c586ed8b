//! Whether a webhook whose rules match is asked about a write: its selectors and conditions.
//!
//! Upstream: `ShouldCallHook` and `apiserver/pkg/admission/plugin/webhook/predicates/{namespace,object}`.

use std::sync::Arc;

use proto::catalogue::names as n;
use proto::meta;
use proto::selector::LabelSelector;
use resources::status::Failure;
use store::Entry;

use super::super::{Attributes, Operation};
use super::conditions::Verdict;
use super::forms::Forms;
use super::metrics::Metrics;
use super::seen_namespace;
use super::source::{Candidate, kind};
use crate::registry::Endpoint;
use crate::server::{Server, read_failure};

/// Whether the webhook is asked.
///
/// # Errors
/// If that cannot be said: the namespace is not there, or its conditions fail.
pub(super) async fn is_selected(
    server: &Server,
    candidate: &Candidate,
    write: &Attributes<'_>,
    forms: &mut Forms,
    metrics: &Metrics,
) -> Result<bool, Failure> {
    let hook = &*candidate.hook;
    // An error counts only for a webhook that would be asked otherwise.
    let namespace = by_namespace(server, &hook.namespaces, write).await;
    if matches!(namespace, Ok(false)) {
        return Ok(false);
    }
    let object = by_object(&hook.objects, write);
    if matches!(object, Ok(false)) {
        return Ok(false);
    }
    namespace?;
    object?;
    if hook.conditions.is_empty() {
        return Ok(true);
    }
    let verdict = hook
        .conditions
        .evaluate(server, candidate, write, forms, metrics)
        .await?;
    match verdict {
        Verdict::Matches => Ok(true),
        Verdict::Excluded => {
            metrics.excluded(&hook.name, write.operation);
            Ok(false)
        }
        Verdict::Failed(why) => {
            tracing::warn!(
                webhook = hook.name,
                why,
                "Match conditions cannot be evaluated, the write is refused"
            );
            let r = write.resource;
            Err(Failure::forbidden(r.group, r.name, write.name, &why))
        }
    }
}

/// Objects of cluster scope other than namespaces are never exempt.
pub(in super::super) async fn by_namespace(
    server: &Server,
    selector: &Result<LabelSelector, String>,
    write: &Attributes<'_>,
) -> Result<bool, Failure> {
    let namespace = seen_namespace(write);
    if namespace.is_empty() && write.resource.name != "namespaces" {
        return Ok(true);
    }
    let selector = selector.as_ref().map_err(Failure::internal)?;
    if selector.is_everything() {
        return Ok(true);
    }
    // A namespace that is written has the labels that it will have.
    let written = matches!(write.operation, Operation::Create | Operation::Update);
    if write.is("", "namespaces") && written {
        let labels = write.object.as_deref().map(meta::labels);
        return Ok(labels.is_some_and(|labels| selector.matches_map(labels)));
    }
    let (_, entry) = stored_namespace(server, namespace).await?;
    Ok(selector.matches(|key| entry.labels.get(key)))
}

/// A namespace as the cache has it, and where that is.
///
/// # Errors
/// If there is none, or it cannot be read.
pub(in super::super) async fn stored_namespace<'s>(
    server: &'s Server,
    name: &str,
) -> Result<(&'s Endpoint, Arc<Entry>), Failure> {
    let absent = || Failure::not_found("", "namespaces", name);
    let endpoint = server
        .registry
        .any_version("", "namespaces")
        .ok_or_else(absent)?;
    let entry = endpoint.collection.cached(name).await;
    let entry = entry.map_err(read_failure)?.ok_or_else(absent)?;
    Ok((endpoint, entry))
}

/// Either the object or what it was is selected.
pub(in super::super) fn by_object(
    selector: &Result<LabelSelector, String>,
    write: &Attributes<'_>,
) -> Result<bool, Failure> {
    let selector = selector.as_ref().map_err(Failure::internal)?;
    if selector.is_everything() {
        return Ok(true);
    }
    // Options of connections have no metadata, so no labels to be selected by, not even by their absence.
    let of = kind(write.resource, write.subresource).message;
    if of.field(n::METADATA).is_none() {
        return Ok(false);
    }
    let objects = [write.object.as_deref(), write.old];
    let mut objects = objects.into_iter().flatten();
    Ok(objects.any(|object| selector.matches_map(meta::labels(object))))
}

#[cfg(test)]
mod tests {
    use proto::Value;
    use proto::catalogue::messages::admissionregistration_v1::MUTATING_WEBHOOK_CONFIGURATION;

    use super::super::super::testing::{Asked, decode, pod, resource};
    use super::super::hook::{Hook, of_configuration};
    use super::*;

    fn hook(selector: &str) -> Hook {
        let text = format!(
            r#"{{"metadata":{{"name":"c"}},"webhooks":[{{"name":"a.b.c","objectSelector":{selector}}}]}}"#
        );
        of_configuration(&decode(&text, MUTATING_WEBHOOK_CONFIGURATION)).remove(0)
    }

    #[test]
    fn new_or_old_labels_select_an_object() {
        let labelled =
            |value: &str| pod(&format!(r#"{{"metadata":{{"labels":{{"k":"{value}"}}}}}}"#));
        let selector = hook(r#"{"matchLabels":{"k":"a"}}"#);
        let update = |new, old| {
            let mut asked = Asked::update("pods", labelled(new), labelled(old));
            asked.ask(|write| by_object(&selector.objects, write).unwrap())
        };
        assert!(update("a", "b") && update("b", "a") && !update("b", "b"));
        let mut create = Asked::create("pods", labelled("a"));
        assert!(create.ask(|write| by_object(&selector.objects, write).unwrap()));
    }

    #[test]
    fn only_what_can_have_labels_is_selected_by_their_absence() {
        let absent = hook(r#"{"matchExpressions":[{"key":"k","operator":"DoesNotExist"}]}"#);
        let mut bare = Asked::create("serviceaccounts", Value::object());
        let selected = |bare: &mut Asked, hook: &Hook| {
            bare.ask(|write| by_object(&hook.objects, write).unwrap())
        };
        bare.subresource = "token";
        assert!(
            selected(&mut bare, &absent),
            "a request for a token without metadata"
        );
        bare.resource = resource("pods");
        bare.subresource = "exec";
        assert!(!selected(&mut bare, &absent), "options have none");
        assert!(selected(&mut bare, &hook("{}")));
    }

    #[test]
    fn a_selector_that_is_none_fails_and_one_that_is_absent_selects_nothing() {
        let mut asked = Asked::create("pods", pod("{}"));
        let wrong = hook(r#"{"matchExpressions":[{"key":"k","operator":"Like"}]}"#);
        assert_eq!(
            asked
                .ask(|write| by_object(&wrong.objects, write))
                .unwrap_err()
                .code(),
            500
        );
        let none = hook("null");
        assert!(!asked.ask(|write| by_object(&none.objects, write).unwrap()));
    }
}
