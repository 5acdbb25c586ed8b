//! The next steps of a stateful set, and its status. Pure.
//!
//! Source: `updateStatefulSet` in `pkg/controller/statefulset/stateful_set_control.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::jiff::Timestamp;

use super::identity::{made, ordinal, revision, start};
use crate::deployment::scaled;
use crate::history;
use crate::pods;
use crate::status::nonzero;

/// What the controller sees.
pub(super) struct Seen<'s> {
    pub set: &'s StatefulSet,
    pub pods: &'s [Arc<Pod>],
    /// The revision that pods are of which are not updated yet, and its template.
    pub current: (&'s ControllerRevision, &'s PodTemplateSpec),
    /// The revision that pods are to be of.
    pub update: (&'s ControllerRevision, &'s PodTemplateSpec),
    pub now: Timestamp,
}

/// A step.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Step {
    /// Create the pod with that number, after its claims.
    Create(i32, Box<Pod>),
    Delete(Arc<Pod>),
    /// Create claims that a pod waits for.
    Claims(i32),
}

impl Seen<'_> {
    fn replicas(&self) -> i32 {
        self.set.spec.replicas.unwrap_or(1).max(0)
    }

    fn min_ready(&self) -> i32 {
        self.set.spec.min_ready_seconds.unwrap_or(0)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pods::is_available(pod, self.min_ready(), self.now)
    }

    fn is_well(&self, pod: &Pod) -> bool {
        self.is_available(pod) && pod.metadata.deletion_timestamp.is_none()
    }

    fn in_order(&self) -> bool {
        self.set.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    fn rolls(&self) -> bool {
        let strategy = self.set.spec.update_strategy.as_ref();
        strategy.and_then(|s| s.type_.as_deref()) != Some("OnDelete")
    }

    fn partition(&self) -> Option<i32> {
        let strategy = self.set.spec.update_strategy.as_ref()?;
        Some(strategy.rolling_update.as_ref()?.partition.unwrap_or(0))
    }

    fn max_unavailable(&self) -> i32 {
        let strategy = self.set.spec.update_strategy.as_ref();
        let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
        match rolling.and_then(|r| r.max_unavailable.as_ref()) {
            None => 1,
            some => scaled(some, self.replicas(), true).max(1),
        }
    }

    /// A new pod: of the old revision below the partition, and where the rollout has not come yet.
    fn new_pod(&self, number: i32) -> Pod {
        let status = self.set.status.as_ref();
        let current = status.and_then(|s| s.current_replicas).unwrap_or(0);
        let kept = self.partition().unwrap_or(current);
        let old = self.rolls() && number < start(self.set).saturating_add(kept);
        let (revision, template) = if old { self.current } else { self.update };
        made(self.set, template, revision, number)
    }
}

fn is_ready(pod: &Pod) -> bool {
    pods::phase(pod) == "Running" && pods::is_ready(pod)
}

/// The steps that may be taken now.
pub(super) fn steps(seen: &Seen<'_>) -> Vec<Step> {
    if seen.set.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let first = start(seen.set);
    let numbers = first..first.saturating_add(seen.replicas());
    let mut replicas: BTreeMap<i32, &Arc<Pod>> = BTreeMap::new();
    let mut condemned: BTreeMap<i32, &Arc<Pod>> = BTreeMap::new();
    for pod in seen.pods {
        if let Some(number) = ordinal(seen.set, pod) {
            let list = if numbers.contains(&number) {
                &mut replicas
            } else {
                &mut condemned
            };
            list.insert(number, pod);
        }
    }
    let mut steps = Vec::new();
    for number in numbers {
        let waits = filled(seen, number, replicas.get(&number).copied(), &mut steps);
        if waits && seen.in_order() {
            return steps;
        }
    }
    let busy = steps.iter().any(|s| !matches!(s, Step::Claims(_)));
    if busy {
        return steps;
    }
    if shrunk(seen, &replicas, &condemned, &mut steps) {
        return steps;
    }
    if seen.rolls() {
        updated(seen, &replicas, &mut steps);
    }
    steps
}

/// Fills one place; whether those after it have to wait.
fn filled(seen: &Seen<'_>, number: i32, pod: Option<&Arc<Pod>>, steps: &mut Vec<Step>) -> bool {
    let Some(pod) = pod else {
        steps.push(Step::Create(number, Box::new(seen.new_pod(number))));
        return true;
    };
    if pods::is_terminal(pod) {
        if pod.metadata.deletion_timestamp.is_none() {
            steps.push(Step::Delete(Arc::clone(pod)));
        }
        return true;
    }
    if pods::phase(pod) == "Pending" && seen.set.spec.volume_claim_templates.is_some() {
        steps.push(Step::Claims(number));
    }
    pod.metadata.deletion_timestamp.is_some() || !is_ready(pod) || !seen.is_available(pod)
}

/// Takes pods away that are too many, the highest first; whether an update has to wait.
fn shrunk(
    seen: &Seen<'_>,
    replicas: &BTreeMap<i32, &Arc<Pod>>,
    condemned: &BTreeMap<i32, &Arc<Pod>>,
    steps: &mut Vec<Step>,
) -> bool {
    let unwell = |pods: &BTreeMap<i32, &Arc<Pod>>| {
        let mut pods = pods.values();
        pods.find(|p| !seen.is_well(p)).map(|p| Arc::clone(p))
    };
    // Whatever holds all others up may go although it is not well.
    let first_unwell = unwell(replicas).or_else(|| unwell(condemned));
    for pod in condemned.values().rev() {
        let going = pod.metadata.deletion_timestamp.is_some();
        if !seen.in_order() {
            if !going {
                steps.push(Step::Delete(Arc::clone(pod)));
            }
            continue;
        }
        let is_first = first_unwell.as_ref().is_some_and(|p| Arc::ptr_eq(p, pod));
        if !going && (seen.is_well(pod) || is_first) {
            steps.push(Step::Delete(Arc::clone(pod)));
        }
        return true;
    }
    !condemned.is_empty() && !steps.is_empty()
}

/// Replaces pods of old revisions, the highest first, as many as may be unavailable.
fn updated(seen: &Seen<'_>, replicas: &BTreeMap<i32, &Arc<Pod>>, steps: &mut Vec<Step>) {
    let wanted = history::name(seen.update.0);
    let least = start(seen.set).saturating_add(seen.partition().unwrap_or(0));
    let outdated = |p: &Pod| revision(p) != wanted && p.metadata.deletion_timestamp.is_none();
    let unavailable = replicas.values().filter(|p| !seen.is_well(p)).count();
    let unavailable = i32::try_from(unavailable).unwrap_or(i32::MAX);
    let candidates = replicas.range(least..).rev().map(|(_, p)| *p);
    if !seen.in_order() {
        // What does not run anyway costs nothing.
        for pod in candidates
            .clone()
            .filter(|p| outdated(p) && !seen.is_available(p))
        {
            steps.push(Step::Delete(Arc::clone(pod)));
        }
    }
    let left = usize::try_from(seen.max_unavailable().saturating_sub(unavailable)).unwrap_or(0);
    let in_order = seen.in_order();
    let next = candidates.filter(|p| outdated(p) && (in_order || seen.is_well(p)));
    steps.extend(next.take(left).map(|p| Step::Delete(Arc::clone(p))));
}

/// The status.
pub(super) fn status(seen: &Seen<'_>) -> StatefulSetStatus {
    let old = seen.set.status.clone().unwrap_or_default();
    let (current, update) = (history::name(seen.current.0), history::name(seen.update.0));
    let (mut replicas, mut ready, mut available) = (0, 0, 0);
    let (mut of_current, mut of_update) = (0, 0);
    for pod in seen.pods {
        if ordinal(seen.set, pod).is_none() {
            continue;
        }
        replicas += 1;
        if is_ready(pod) {
            ready += 1;
            available += i32::from(seen.is_available(pod));
        }
        if pod.metadata.deletion_timestamp.is_none() {
            of_current += i32::from(revision(pod) == current);
            of_update += i32::from(revision(pod) == update);
        }
    }
    let wanted = seen.replicas();
    let complete = [of_update, ready, replicas].iter().all(|n| *n == wanted);
    let (current, of_current) = if complete {
        (update, of_update)
    } else {
        (current, of_current)
    };
    StatefulSetStatus {
        available_replicas: nonzero(available),
        collision_count: Some(old.collision_count.unwrap_or(0)),
        conditions: old.conditions,
        current_replicas: nonzero(of_current),
        current_revision: Some(current.to_owned()),
        observed_generation: seen.set.metadata.generation,
        ready_replicas: nonzero(ready),
        replicas,
        update_revision: Some(update.to_owned()),
        updated_replicas: nonzero(of_update),
    }
}

#[cfg(test)]
mod tests;
