//! The conditions of a deployment.

use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

pub(super) const PROGRESSING: &str = "Progressing";
pub(super) const AVAILABLE: &str = "Available";
pub(super) const REPLICA_FAILURE: &str = "ReplicaFailure";

pub(super) const UPDATED: &str = "ReplicaSetUpdated";
pub(super) const CREATE_ERROR: &str = "ReplicaSetCreateError";
pub(super) const CREATED: &str = "NewReplicaSetCreated";
pub(super) const FOUND: &str = "FoundNewReplicaSet";
pub(super) const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";
pub(super) const TIMED_OUT: &str = "ProgressDeadlineExceeded";
pub(super) const PAUSED: &str = "DeploymentPaused";
pub(super) const RESUMED: &str = "DeploymentResumed";

pub(super) fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(kind.to_owned()),
        status: Some(status.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

pub(super) fn get<'s>(status: &'s DeploymentStatus, kind: &str) -> Option<&'s DeploymentCondition> {
    let conditions = status.conditions.as_deref()?;
    conditions.iter().find(|c| c.type_.as_deref() == Some(kind))
}

/// The reason of a condition; empty if there is none.
pub(super) fn reason<'s>(status: &'s DeploymentStatus, kind: &str) -> &'s str {
    get(status, kind)
        .and_then(|c| c.reason.as_deref())
        .unwrap_or_default()
}

/// Puts a condition in its place, unless one of the same status and reason is there. The time of its transition is that
/// of the one before if the status is the same.
pub(super) fn set(status: &mut DeploymentStatus, mut new: DeploymentCondition) {
    let kind = new.type_.clone().unwrap_or_default();
    if let Some(old) = get(status, &kind)
        && old.status == new.status
    {
        if old.reason == new.reason {
            return;
        }
        new.last_transition_time = old.last_transition_time.clone();
    }
    remove(status, &kind);
    status.conditions.get_or_insert_default().push(new);
}

pub(super) fn remove(status: &mut DeploymentStatus, kind: &str) {
    let conditions = status.conditions.take();
    let rest = conditions.map(|mut all| {
        all.retain(|c| c.type_.as_deref() != Some(kind));
        all
    });
    status.conditions = rest.filter(|all| !all.is_empty());
}
