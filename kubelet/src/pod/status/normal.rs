//! What is kept of the old status, and when a new one is worth writing: upstream's status manager.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::conditions::{DISRUPTION, is_owned};
use crate::pod::spec;

/// Bytes of termination messages in a pod's status: all containers share them.
const MESSAGES: usize = 1024 * 12;

/// Completes a status that [`super::generate`] made: times that go on from the old one, limits of
/// messages. `old` is the last one, else the API server's.
pub(crate) fn finish(status: &mut PodStatus, old: &PodStatus, pod: &Pod, now: &Time) {
    for condition in status.conditions.iter_mut().flatten() {
        if !is_owned(&condition.type_) && condition.type_ != DISRUPTION {
            continue;
        }
        let before = super::condition(old, &condition.type_);
        let before = before.filter(|c| c.status == condition.status);
        let since = before.and_then(|c| c.last_transition_time.clone());
        condition.last_transition_time = Some(since.unwrap_or_else(|| now.clone()));
    }
    let started = old.start_time.clone().or_else(|| status.start_time.take());
    status.start_time = Some(started.unwrap_or_else(|| now.clone()));
    if status.volume_health.is_none() {
        status.volume_health.clone_from(&old.volume_health);
    }
    status.observed_generation = status.observed_generation.max(old.observed_generation);
    let spec = spec::of(pod);
    let containers = spec.containers.len()
        + spec::init_containers(spec).len()
        + spec::ephemeral_containers(spec).len();
    let most = MESSAGES / containers.max(1);
    for status in statuses(status) {
        for state in [&mut status.state, &mut status.last_state] {
            let ended = state.as_mut().and_then(|s| s.terminated.as_mut());
            if let Some(message) = ended.and_then(|t| t.message.as_mut()) {
                let cut = (0..=most.min(message.len())).rev();
                let cut = cut.into_iter().find(|i| message.is_char_boundary(*i));
                message.truncate(cut.unwrap_or_default());
            }
        }
    }
}

fn statuses(status: &mut PodStatus) -> impl Iterator<Item = &mut ContainerStatus> {
    let init = status.init_container_statuses.iter_mut().flatten();
    let main = status.container_statuses.iter_mut().flatten();
    let ephemeral = status.ephemeral_container_statuses.iter_mut().flatten();
    init.chain(main).chain(ephemeral)
}

/// Whether two statuses differ in nothing that the kubelet tells.
pub(crate) fn is_same(a: &PodStatus, b: &PodStatus) -> bool {
    let stripped = |status: &PodStatus| {
        let mut status = status.clone();
        let conditions = status.conditions.take().unwrap_or_default();
        let ours = |kind: &str| is_owned(kind) || kind == DISRUPTION;
        let mut conditions: Vec<_> = conditions
            .into_iter()
            .filter(|c| ours(&c.type_))
            .map(|c| (c.type_, c.status, c.reason, c.message))
            .collect();
        conditions.sort();
        status.resource_claim_statuses = None;
        status.extended_resource_claim_status = None;
        status.node_allocatable_resource_claim_statuses = None;
        (status, conditions)
    };
    stripped(a) == stripped(b)
}

/// The last status of a pod: containers that nobody saw end have failed, and so has a pod that has
/// no terminal phase yet. Static pods are run again, so theirs stays.
pub(crate) fn finished(status: &PodStatus, pod: &Pod) -> PodStatus {
    let lost = || {
        Some(k8s_openapi::api::core::v1::ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".into()),
                message: Some(
                    "The container could not be located when the pod was terminated".into(),
                ),
                ..ContainerStateTerminated::default()
            }),
            ..Default::default()
        })
    };
    let mut last = status.clone();
    let ended = |s: &ContainerStatus| s.state.as_ref().is_some_and(|s| s.terminated.is_some());
    if has_initialized(status, pod) {
        for status in last.container_statuses.iter_mut().flatten() {
            if !ended(status) {
                status.state = lost();
            }
        }
    }
    let init = last.init_container_statuses.iter_mut().flatten();
    let mut init: Vec<_> = init.collect();
    let began = |s: &ContainerStatus| {
        let waits = s.state.as_ref().is_some_and(|s| s.waiting.is_some());
        let before = s
            .last_state
            .as_ref()
            .is_some_and(|s| s.terminated.is_some());
        !waits || before
    };
    // At least the first, and all before the last that shows signs of life.
    let count = init.iter().rposition(|s| began(s)).map_or(1, |i| i + 1);
    for status in init.iter_mut().take(count) {
        if !ended(status) {
            status.state = lost();
        }
    }
    let terminal = spec::is_terminal(last.phase.as_deref().unwrap_or_default());
    if !terminal && !spec::is_static(pod) {
        last.phase = Some("Failed".into());
    }
    last
}

/// Whether all init containers of the pod have done their work, by its status.
fn has_initialized(status: &PodStatus, pod: &Pod) -> bool {
    let containers = spec::init_containers(spec::of(pod));
    let Some(last) = containers.last() else {
        return true;
    };
    let left_waiting = |s: &ContainerStatus| {
        let before = s
            .last_state
            .as_ref()
            .is_some_and(|s| s.terminated.is_some());
        before || s.state.as_ref().is_none_or(|s| s.waiting.is_none())
    };
    if status.container_statuses.iter().flatten().any(left_waiting) {
        return true;
    }
    let mut init = status.init_container_statuses.iter().flatten();
    let Some(told) = init.find(|s| s.name == last.name) else {
        return false;
    };
    if spec::is_sidecar(last) {
        let running = told.state.as_ref().is_some_and(|s| s.running.is_some());
        return running && told.started.unwrap_or_default();
    }
    let states = [&told.state, &told.last_state];
    let mut ended = states
        .into_iter()
        .flatten()
        .filter_map(|s| s.terminated.as_ref());
    ended.any(|t| t.exit_code == 0)
}
