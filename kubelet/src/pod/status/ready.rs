//! `started` and `ready` of containers, from what the probes say: upstream's `UpdatePodStatus`.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodStatus};

use super::Parts;
use crate::pod::spec;

pub(super) fn apply(parts: &Parts<'_>, status: &mut PodStatus) {
    let spec = spec::of(parts.ask.pod);
    let named = |list: &[Container], name: &str| list.iter().find(|c| c.name == name).cloned();
    for status in status.container_statuses.iter_mut().flatten() {
        let container = named(&spec.containers, &status.name);
        judge(parts, container.as_ref(), status);
    }
    for status in status.init_container_statuses.iter_mut().flatten() {
        let container = named(spec::init_containers(spec), &status.name);
        if container.as_ref().is_some_and(spec::is_sidecar) {
            judge(parts, container.as_ref(), status);
            continue;
        }
        let state = status.state.as_ref();
        let ended = state.and_then(|s| s.terminated.as_ref());
        status.ready = ended.is_some_and(|t| t.exit_code == 0);
        status.started = Some(state.is_some_and(|s| s.running.is_some()));
    }
}

fn judge(parts: &Parts<'_>, container: Option<&Container>, status: &mut ContainerStatus) {
    let running = status.state.as_ref().and_then(|s| s.running.as_ref());
    if running.is_none() {
        (status.started, status.ready) = (Some(false), false);
        return;
    }
    let id = status.container_id.as_deref().unwrap_or_default();
    let id = id.split_once("://").map_or(id, |(_, id)| id);
    let health = parts.ask.health.get(id);
    // Until it was told of: what has no probe is well.
    let has = |probe: fn(&Container) -> bool| container.is_some_and(probe);
    let started = health.map_or(!has(|c| c.startup_probe.is_some()), |h| h.started);
    let ready = health.map_or(!has(|c| c.readiness_probe.is_some()), |h| h.ready);
    status.started = Some(started);
    status.ready = started && ready;
}
