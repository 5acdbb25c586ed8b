//! The status of a deployment, and whether it makes progress. Pure.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::conditions::{self, AVAILABLE, PROGRESSING, REPLICA_FAILURE, condition};
use super::replica_set as set;
use super::scale::sum;
use super::strategy::{max_unavailable, progress_deadline, replicas};
use crate::status::nonzero;

/// A deployment's replica sets, sorted out.
#[derive(Clone, Copy)]
pub(super) struct Sets<'s> {
    pub newest: Option<&'s Arc<ReplicaSet>>,
    pub old: &'s [Arc<ReplicaSet>],
}

impl<'s> Sets<'s> {
    pub(super) fn all(self) -> impl Iterator<Item = &'s Arc<ReplicaSet>> {
        self.old.iter().chain(self.newest)
    }
}

/// The counts of a status, over the conditions of the one before.
pub(super) fn counted(
    deployment: &Deployment,
    before: &DeploymentStatus,
    sets: Sets<'_>,
    terminating: bool,
    now: Timestamp,
) -> DeploymentStatus {
    let available = sum(sets.all(), set::available);
    let total = sum(sets.all(), set::wanted);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: nonzero(sum(sets.all(), set::actual)),
        updated_replicas: nonzero(sum(sets.newest, set::actual)),
        ready_replicas: nonzero(sum(sets.all(), set::ready)),
        available_replicas: nonzero(available),
        unavailable_replicas: nonzero((total - available).max(0)),
        collision_count: before.collision_count,
        conditions: before.conditions.clone(),
        terminating_replicas: if terminating {
            terminating_replicas(sets)
        } else {
            None
        },
    };
    let enough = available >= replicas(deployment) - max_unavailable(deployment);
    let (value, reason, message) = if enough {
        (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    } else {
        (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    conditions::set(
        &mut status,
        condition(AVAILABLE, value, reason, message, now),
    );
    status
}

/// None if a set that its controller has seen does not say how many of its pods are going.
fn terminating_replicas(sets: Sets<'_>) -> Option<i32> {
    let mut all = 0;
    for one in sets.all() {
        match one.status.as_ref().and_then(|s| s.terminating_replicas) {
            Some(n) => all += n,
            None if set::observed_generation(one) == 0 => {}
            None => return None,
        }
    }
    Some(all)
}

fn number(n: Option<i32>) -> i32 {
    n.unwrap_or(0)
}

/// All pods are new ones and available, and no old one is there.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let all = replicas(deployment);
    number(status.updated_replicas) == all
        && number(status.replicas) == all
        && number(status.available_replicas) == all
        && status.observed_generation >= deployment.metadata.generation
}

fn is_progressing(before: &DeploymentStatus, status: &DeploymentStatus) -> bool {
    let old = |s: &DeploymentStatus| number(s.replicas) - number(s.updated_replicas);
    number(status.updated_replicas) > number(before.updated_replicas)
        || old(status) < old(before)
        || number(status.ready_replicas) > number(before.ready_replicas)
        || number(status.available_replicas) > number(before.available_replicas)
}

/// When the deadline passes that began with the last sign of progress.
fn deadline(deployment: &Deployment, status: &DeploymentStatus) -> Option<Timestamp> {
    let seconds = progress_deadline(deployment)?;
    let since = conditions::get(status, PROGRESSING)?
        .last_update_time
        .as_ref()?;
    since
        .0
        .checked_add(SignedDuration::from_secs(seconds.into()))
        .ok()
}

fn has_timed_out(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> bool {
    match conditions::reason(status, PROGRESSING) {
        conditions::NEW_AVAILABLE => false,
        conditions::TIMED_OUT => true,
        _ => deadline(deployment, status).is_some_and(|end| end < now),
    }
}

/// What a rollout adds to the counts: progress, and failures of replica sets. `before` is the status with which the
/// reconciliation began.
pub(super) fn rollout(
    deployment: &Deployment,
    before: &DeploymentStatus,
    mut status: DeploymentStatus,
    sets: Sets<'_>,
    now: Timestamp,
) -> DeploymentStatus {
    if progress_deadline(deployment).is_none() {
        conditions::remove(&mut status, PROGRESSING);
    } else {
        progress(deployment, before, &mut status, sets, now);
    }
    let failures = sets.newest.into_iter().chain(sets.old);
    match failures.filter_map(|s| set::failure(s)).next() {
        Some(c) => conditions::set(
            &mut status,
            DeploymentCondition {
                type_: Some(REPLICA_FAILURE.to_owned()),
                status: c.status.clone(),
                reason: c.reason.clone(),
                message: c.message.clone(),
                last_update_time: c.last_transition_time.clone(),
                last_transition_time: c.last_transition_time.clone(),
            },
        ),
        None => conditions::remove(&mut status, REPLICA_FAILURE),
    }
    status
}

fn progress(
    deployment: &Deployment,
    before: &DeploymentStatus,
    status: &mut DeploymentStatus,
    sets: Sets<'_>,
    now: Timestamp,
) {
    let done_before = number(status.replicas) == number(status.updated_replicas)
        && conditions::reason(before, PROGRESSING) == conditions::NEW_AVAILABLE;
    if done_before {
        return;
    }
    let subject = match sets.newest {
        Some(newest) => format!("ReplicaSet \"{}\"", set::name(newest)),
        None => {
            let name = deployment.metadata.name.as_deref().unwrap_or_default();
            format!("Deployment \"{name}\"")
        }
    };
    let told = |value: &str, reason: &str, what: &str| {
        condition(
            PROGRESSING,
            value,
            reason,
            &format!("{subject} {what}"),
            now,
        )
    };
    if is_complete(deployment, status) {
        let done = told(
            "True",
            conditions::NEW_AVAILABLE,
            "has successfully progressed.",
        );
        conditions::set(status, done);
    } else if is_progressing(before, status) {
        let mut moving = told("True", conditions::UPDATED, "is progressing.");
        // The time of the update is new with each sign of progress, that of the transition is not.
        if let Some(current) = conditions::get(before, PROGRESSING)
            && current.status.as_deref() == Some("True")
        {
            moving.last_transition_time = current.last_transition_time.clone();
        }
        conditions::remove(status, PROGRESSING);
        conditions::set(status, moving);
    } else if has_timed_out(deployment, status, now) {
        let late = told("False", conditions::TIMED_OUT, "has timed out progressing.");
        conditions::set(status, late);
    }
}

/// When to look again for progress that does not come.
pub(super) fn look_again(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<Duration> {
    if is_complete(deployment, status)
        || conditions::reason(status, PROGRESSING) == conditions::TIMED_OUT
    {
        return None;
    }
    let left = deadline(deployment, status)?.duration_since(now);
    // Times are of whole seconds.
    let left = Duration::try_from(left).unwrap_or_default();
    Some(left + Duration::from_secs(1))
}
