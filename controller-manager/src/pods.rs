//! What controllers ask about pods, and how they make them.
//!
//! Sources: `pkg/api/v1/pod/util.go`, `pkg/controller/controller_utils.go`.

use std::time::Duration;

use component::client::Client;
use component::events::{Recorder, reference};
use component::informer::Key;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    DeleteOptions, ObjectMeta, OwnerReference, Preconditions,
};
use k8s_openapi::jiff::Timestamp;
use proto::meta::names;

use crate::error::Error;

mod rank;

pub use rank::Ranked;

/// A condition of a pod's status.
#[must_use]
pub fn condition<'p>(pod: &'p Pod, kind: &str) -> Option<&'p PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|c| c.type_ == kind)
}

/// Its phase; empty if the kubelet said none yet.
#[must_use]
pub fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status.and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// Its containers have ended for good.
#[must_use]
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Failed" | "Succeeded")
}

/// It runs, or will: neither ended nor being deleted.
#[must_use]
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// It is being deleted and has not ended.
#[must_use]
pub fn is_terminating(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_some()
}

/// It serves requests.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// Since when it serves requests, if it does and says so.
#[must_use]
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|c| c.status == "True")?;
    ready.last_transition_time.as_ref().map(|t| t.0)
}

/// It has been ready for `min_ready_seconds`.
#[must_use]
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    if min_ready_seconds <= 0 {
        return is_ready(pod);
    }
    available_in(pod, min_ready_seconds, now).is_some_and(|wait| wait.is_zero())
}

/// How long until it is available if it stays ready; none if it is not ready.
fn available_in(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    let ready_for = now.duration_since(ready_since(pod)?);
    let needed = i64::from(min_ready_seconds.max(0)) * 1_000_000_000;
    let nanos = needed.saturating_sub(i64::try_from(ready_for.as_nanos()).unwrap_or(i64::MAX));
    Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
}

/// When the next of these pods becomes available by waiting alone, if one does.
#[must_use]
pub fn next_available<'p>(
    pods: impl IntoIterator<Item = &'p Pod>,
    min_ready_seconds: i32,
    now: Timestamp,
) -> Option<Duration> {
    if min_ready_seconds <= 0 {
        return None;
    }
    let waits = pods
        .into_iter()
        .filter_map(|pod| available_in(pod, min_ready_seconds, now));
    waits.filter(|wait| !wait.is_zero()).min()
}

/// What stands before the random part of the names of a controller's pods.
#[must_use]
pub fn name_prefix(controller: &str) -> String {
    let prefix = format!("{controller}-");
    if names::subdomain_name(&prefix, true).is_empty() {
        prefix
    } else {
        controller.to_owned()
    }
}

/// A pod out of a template. The name is the server's choice after a prefix.
#[must_use]
pub fn from_template(template: &PodTemplateSpec, owner: &str, controller: OwnerReference) -> Pod {
    let meta = template.metadata.as_ref();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(name_prefix(owner)),
            labels: meta.and_then(|m| m.labels.clone()),
            annotations: meta.and_then(|m| m.annotations.clone()),
            finalizers: meta.and_then(|m| m.finalizers.clone()),
            owner_references: Some(vec![controller]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Creates a pod and tells it in an event about its owner.
///
/// # Errors
/// If the server refuses; told as well, unless the namespace is going.
pub async fn create<O: component::client::Kind>(
    client: &Client,
    recorder: &Recorder,
    owner: &O,
    pod: &Pod,
) -> Result<Pod, Error> {
    if pod.metadata.labels.as_ref().is_none_or(|l| l.is_empty()) {
        return Err(Error::Unusable(
            "unable to create pods, no labels".to_owned(),
        ));
    }
    let namespace = owner.metadata().namespace.as_deref().unwrap_or_default();
    match client.namespaced::<Pod>(namespace).create(pod).await {
        Ok(created) => {
            let name = created.metadata.name.as_deref().unwrap_or_default();
            recorder.normal(
                &reference(owner),
                "SuccessfulCreate",
                &format!("Created pod: {name}"),
            );
            Ok(created)
        }
        Err(e) => {
            if !e.is_namespace_terminating() {
                let message = format!("Error creating: {e}");
                recorder.warning(&reference(owner), "FailedCreate", &message);
            }
            Err(e.into())
        }
    }
}

/// Deletes a pod and tells it in an event about its owner. One that is gone already is not told.
///
/// # Errors
/// If the server refuses; told as well.
pub async fn delete<O: component::client::Kind>(
    client: &Client,
    recorder: &Recorder,
    owner: &O,
    pod: &Pod,
) -> Result<(), Error> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let options = DeleteOptions {
        preconditions: Some(Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteOptions::default()
    };
    match client
        .namespaced::<Pod>(namespace)
        .delete(name, &options)
        .await
    {
        Ok(()) => {
            let message = format!("Deleted pod: {name}");
            recorder.normal(&reference(owner), "SuccessfulDelete", &message);
            Ok(())
        }
        // Another pod of the same name is there by now.
        Err(e) if e.is_not_found() || e.is_conflict() => Ok(()),
        Err(e) => {
            let message = format!("Error deleting: {e}");
            recorder.warning(&reference(owner), "FailedDelete", &message);
            Err(e.into())
        }
    }
}

/// The key of a pod.
#[must_use]
pub fn key(pod: &Pod) -> Key {
    Key::of(&pod.metadata)
}

#[cfg(test)]
mod tests;
