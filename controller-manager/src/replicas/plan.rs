//! How many pods to create, which ones to delete, and what the status says. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::kind::Replicas;
use crate::pods::{self, Ranked};
use crate::selector::holds;
use crate::status::{count, whole};

/// The most pods that are created or deleted before the cache is looked at again.
const BURST: usize = 500;

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// What has to happen to have as many pods as wanted.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Changes {
    None,
    Create(usize),
    Delete(Vec<Arc<Pod>>),
}

/// Compares the active pods with their wanted number. `related` are the pods that share their load, themselves
/// included; it is asked only if there is a choice.
pub(super) fn changes(
    active: &[Arc<Pod>],
    wanted: i32,
    related: impl FnOnce() -> Vec<Arc<Pod>>,
    now: Timestamp,
) -> Changes {
    let wanted = usize::try_from(wanted).unwrap_or(0);
    if active.len() < wanted {
        return Changes::Create((wanted - active.len()).min(BURST));
    }
    let surplus = (active.len() - wanted).min(BURST);
    if surplus == 0 {
        return Changes::None;
    }
    if surplus == active.len() {
        return Changes::Delete(active.to_vec());
    }
    Changes::Delete(least_missed(active, &related(), surplus, now))
}

fn least_missed(
    active: &[Arc<Pod>],
    related: &[Arc<Pod>],
    count: usize,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    let mut crowds: HashMap<Option<&str>, usize> = HashMap::new();
    for pod in related {
        *crowds.entry(node(pod)).or_default() += 1;
    }
    let mut ranked: Vec<(Ranked<'_>, &Arc<Pod>)> = Vec::with_capacity(active.len());
    for pod in active {
        let crowd = crowds.get(&node(pod)).copied().unwrap_or(0);
        ranked.push((Ranked { pod, crowd }, pod));
    }
    ranked.sort_by(|(a, _), (b, _)| a.order(b, now));
    let first = ranked.into_iter().take(count);
    first.map(|(_, pod)| Arc::clone(pod)).collect()
}

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// What a status is made of.
pub(super) struct Seen<'s> {
    pub active: &'s [Arc<Pod>],
    /// Pods that are going, where the kind reports them.
    pub terminating: Option<usize>,
    /// Why pods could not be created or deleted.
    pub failure: Option<String>,
    pub now: Timestamp,
}

/// The status of an owner.
pub(super) fn status(
    owner: &impl Replicas,
    old: &ReplicaSetStatus,
    seen: &Seen<'_>,
) -> ReplicaSetStatus {
    let wanted = owner.wanted();
    let template = wanted.template.and_then(|t| t.metadata.as_ref());
    let labels = template.and_then(|m| m.labels.as_ref());
    let counted = |test: &dyn Fn(&Pod) -> bool| seen.active.iter().filter(|pod| test(pod)).count();
    let available = |p: &Pod| pods::is_available(p, wanted.min_ready_seconds, seen.now);
    ReplicaSetStatus {
        available_replicas: count(counted(&available)),
        conditions: conditions(old, seen, wanted.replicas),
        fully_labeled_replicas: count(counted(&|p| holds(p.metadata.labels.as_ref(), labels))),
        observed_generation: owner.metadata().generation,
        ready_replicas: count(counted(&pods::is_ready)),
        replicas: whole(seen.active.len()),
        terminating_replicas: seen.terminating.map(whole),
    }
}

fn conditions(
    old: &ReplicaSetStatus,
    seen: &Seen<'_>,
    wanted: i32,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut all = old.conditions.clone().unwrap_or_default();
    let is_failure = |c: &ReplicaSetCondition| c.type_.as_deref() == Some(REPLICA_FAILURE);
    match &seen.failure {
        None => all.retain(|c| !is_failure(c)),
        // The first failure is the one that is told.
        Some(_) if all.iter().any(is_failure) => {}
        Some(message) => {
            let too_few = seen.active.len() < usize::try_from(wanted).unwrap_or(0);
            let reason = if too_few {
                "FailedCreate"
            } else {
                "FailedDelete"
            };
            all.push(ReplicaSetCondition {
                type_: Some(REPLICA_FAILURE.to_owned()),
                status: Some("True".to_owned()),
                last_transition_time: Some(Time(seen.now)),
                reason: Some(reason.to_owned()),
                message: Some(message.clone()),
            });
        }
    }
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests;
