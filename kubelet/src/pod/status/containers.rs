//! Statuses of containers: upstream's `convertToAPIContainerStatuses`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerState as State, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, ContainerUser, LinuxContainerUser, PodSpec,
    VolumeMountStatus,
};

use super::Parts;
use crate::pod::seen::{self, Seen};
use crate::pod::{resize, restart, spec, time};
use crate::runtime::ContainerState;

/// Reasons in statuses.
pub(super) const RESTARTING_ALL: &str = "RestartingAllContainers";
const UNKNOWN: &str = "ContainerStatusUnknown";

/// What a container is said to have ended with when nobody knows.
const LOST: i32 = 137;

pub(super) fn main(parts: &Parts<'_>) -> Option<Vec<ContainerStatus>> {
    let spec = spec::of(parts.ask.pod);
    let old = parts.ask.old.container_statuses.as_deref();
    let mut all = all(parts, &spec.containers, old, false);
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Some(all).filter(|all| !all.is_empty())
}

pub(super) fn init(parts: &Parts<'_>) -> Option<Vec<ContainerStatus>> {
    let spec = spec::of(parts.ask.pod);
    let old = parts.ask.old.init_container_statuses.as_deref();
    // In the order of the specification.
    let all = all(parts, spec::init_containers(spec), old, true);
    Some(all).filter(|all| !all.is_empty())
}

pub(super) fn ephemeral(parts: &Parts<'_>) -> Option<Vec<ContainerStatus>> {
    let spec = spec::of(parts.ask.pod);
    let old = parts.ask.old.ephemeral_container_statuses.as_deref();
    let ephemeral = spec::ephemeral_containers(spec).iter();
    let ephemeral: Vec<_> = ephemeral.map(crate::make::ephemeral).collect();
    let mut all = all(parts, &ephemeral, old, false);
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Some(all).filter(|all| !all.is_empty())
}

fn all(
    parts: &Parts<'_>,
    containers: &[Container],
    old: Option<&[ContainerStatus]>,
    init: bool,
) -> Vec<ContainerStatus> {
    let old = old.unwrap_or_default();
    let old: BTreeMap<_, _> = old.iter().map(|s| (s.name.as_str(), s)).collect();
    let spec = spec::of(parts.ask.pod);
    let restarting = restart::could_restart_all(spec)
        && restart::is_restarting_all(spec, parts.ask.seen, parts.ask.old);
    let each = containers.iter().map(|container| {
        let one = One {
            parts,
            spec,
            container,
            old: old.get(container.name.as_str()).copied(),
            init,
            restarting,
        };
        one.status()
    });
    each.collect()
}

/// One container.
struct One<'a> {
    parts: &'a Parts<'a>,
    spec: &'a PodSpec,
    container: &'a Container,
    old: Option<&'a ContainerStatus>,
    init: bool,
    /// All containers of the pod are being restarted.
    restarting: bool,
}

impl One<'_> {
    fn seen(&self) -> &Seen {
        self.parts.ask.seen
    }

    fn status(&self) -> ContainerStatus {
        let name = &self.container.name;
        let mut known = self.seen().containers.iter().filter(|c| c.name == *name);
        let (newest, before) = (known.next(), known.next());
        let mut status = match newest {
            Some(newest) => self.of_seen(newest),
            None => self.of_missing(),
        };
        if let Some(before) = before {
            status.last_state = self.of_seen(before).state;
        }
        self.wait(newest, &mut status);
        status
    }

    /// A container that the runtime does not have.
    fn of_missing(&self) -> ContainerStatus {
        let mut status = self.default();
        let Some(old) = self.old else {
            return status;
        };
        let was = old.state.as_ref();
        if let Some(ended) = was.and_then(|s| s.terminated.as_ref()) {
            if !self.restarting {
                return old.clone();
            }
            status.last_state = terminated(ended.clone());
        }
        status.restart_count = old.restart_count;
        if status.last_state.is_none() {
            status.last_state.clone_from(&old.last_state);
        }
        if self.restarting && was.is_none_or(|s| s.waiting.is_none()) {
            let message = "The container is removed because RestartAllContainers in place";
            status.state = waiting(RESTARTING_ALL, message);
            status.last_state = lost(RESTARTING_ALL, message);
            status.restart_count = old.restart_count.saturating_add(1);
            return status;
        }
        let ran = was.is_some_and(|s| s.running.is_some());
        let told = old.last_state.as_ref();
        let told = told.is_some_and(|s| s.terminated.is_some());
        if ran && !told {
            let message = "The container could not be located when the pod was deleted.  The \
                           container used to be Running";
            status.last_state = lost(UNKNOWN, message);
            if !spec::is_being_deleted(self.parts.ask.pod) {
                status.restart_count = status.restart_count.saturating_add(1);
            }
        }
        status
    }

    /// Nothing is known yet.
    fn default(&self) -> ContainerStatus {
        let reason = if spec::init_containers(self.spec).is_empty() {
            "ContainerCreating"
        } else {
            "PodInitializing"
        };
        ContainerStatus {
            name: self.container.name.clone(),
            image: self.container.image.clone().unwrap_or_default(),
            state: waiting(reason, ""),
            volume_mounts: volume_mounts(self.container),
            ..ContainerStatus::default()
        }
    }

    fn of_seen(&self, seen: &seen::Container) -> ContainerStatus {
        let id = format!("{}://{}", self.parts.ask.runtime, seen.status.id);
        let restarts = i32::try_from(seen.restarts).unwrap_or(i32::MAX);
        let mut status = ContainerStatus {
            name: seen.name.clone(),
            restart_count: restarts,
            image: seen.status.image.clone(),
            image_id: seen.status.image_ref.clone(),
            volume_mounts: volume_mounts(self.container),
            resources: resize::in_force(self.container, seen),
            allocated_resources: self
                .container
                .resources
                .as_ref()
                .and_then(|r| r.requests.clone()),
            user: Some(user(seen)),
            ..ContainerStatus::default()
        };
        let old_ended = self.old.and_then(|o| o.state.as_ref()?.terminated.as_ref());
        if let Some(old) = self.old {
            status.restart_count = restarts.max(old.restart_count);
            if old.container_id.as_deref() != Some(&id) && old_ended.is_some() {
                status.last_state = old_ended.cloned().and_then(terminated);
            } else {
                status.last_state.clone_from(&old.last_state);
            }
        }
        status.state = match seen.status.state {
            ContainerState::Running => {
                // A count that the runtime forgot goes on from the one that was told.
                let next = self
                    .old
                    .filter(|o| old_ended.is_some() && o.restart_count >= restarts);
                if let Some(old) = next.filter(|o| o.container_id.as_deref() != Some(&id)) {
                    status.restart_count = old.restart_count.saturating_add(1);
                }
                running(seen)
            }
            // About to start; what waits for it to run waits for the same reason as before.
            ContainerState::Created => self.default().state,
            ContainerState::Exited => terminated(ended(seen, &id)),
            ContainerState::Unknown => {
                let old = self
                    .old
                    .filter(|o| o.state.as_ref().is_some_and(|s| s.running.is_some()));
                if let Some(old) = old {
                    status.restart_count = old.restart_count.saturating_add(1);
                    let reason = if self.restarting {
                        RESTARTING_ALL
                    } else {
                        UNKNOWN
                    };
                    lost(
                        reason,
                        "The container could not be located when the pod was terminated",
                    )
                } else {
                    waiting("", "")
                }
            }
        };
        status.container_id = Some(id);
        status
    }

    /// A container that is to run and could not be started waits, and says why.
    fn wait(&self, newest: Option<&seen::Container>, status: &mut ContainerStatus) {
        let ended_well =
            |c: &seen::Container| c.is(ContainerState::Exited) && c.status.exit_code == 0;
        if self.init && newest.is_some_and(ended_well) {
            return;
        }
        let is_waiting = status.state.as_ref().is_some_and(|s| s.waiting.is_some());
        if self.init && newest.is_none() && is_waiting && !spec::is_sidecar(self.container) {
            let known = |c: &Container| {
                let last = self.seen().last(&c.name);
                last.is_some_and(|c| !c.is(ContainerState::Unknown))
            };
            if self.spec.containers.iter().any(known) {
                status.state = terminated(ContainerStateTerminated {
                    reason: Some("Completed".into()),
                    message: Some(
                        "Unable to get init container status from container runtime and pod has \
                         been initialized, treat it as exited normally"
                            .into(),
                    ),
                    ..ContainerStateTerminated::default()
                });
                return;
            }
        }
        let ask = self.parts.ask;
        let deleted = spec::is_being_deleted(ask.pod) || self.parts.evict.is_some();
        if !restart::is_due(self.container, self.spec, deleted, ask.seen) {
            return;
        }
        let Some(why) = self.parts.failures.get(&self.container.name) else {
            return;
        };
        let state = status.state.take();
        if state.as_ref().is_some_and(|s| s.terminated.is_some()) {
            status.last_state = state;
        }
        status.state = waiting(&why.reason, &why.message);
    }
}

fn running(seen: &seen::Container) -> Option<State> {
    let started_at = seen.status.started_at.and_then(time::object);
    Some(State {
        running: Some(ContainerStateRunning { started_at }),
        ..State::default()
    })
}

fn ended(seen: &seen::Container, id: &str) -> ContainerStateTerminated {
    let status = &seen.status;
    let text = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
    ContainerStateTerminated {
        container_id: Some(id.to_owned()),
        exit_code: status.exit_code,
        finished_at: status.finished_at.and_then(time::object),
        message: text(&seen.message),
        reason: text(status.reason),
        // Upstream's runtime does not tell the signal.
        signal: None,
        // One that never ran has the zero time of the runtime's protocol.
        started_at: time::object(status.started_at.unwrap_or(std::time::UNIX_EPOCH)),
    }
}

fn terminated(ended: ContainerStateTerminated) -> Option<State> {
    Some(State {
        terminated: Some(ended),
        ..State::default()
    })
}

fn lost(reason: &str, message: &str) -> Option<State> {
    terminated(ContainerStateTerminated {
        exit_code: LOST,
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..ContainerStateTerminated::default()
    })
}

fn waiting(reason: &str, message: &str) -> Option<State> {
    let text = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
    Some(State {
        waiting: Some(ContainerStateWaiting {
            reason: text(reason),
            message: text(message),
        }),
        ..State::default()
    })
}

fn user(seen: &seen::Container) -> ContainerUser {
    let user = &seen.status.user;
    let groups: Vec<i64> = user
        .supplemental_groups
        .iter()
        .map(|g| i64::from(*g))
        .collect();
    ContainerUser {
        linux: Some(LinuxContainerUser {
            uid: user.uid.into(),
            gid: user.gid.into(),
            supplemental_groups: Some(groups).filter(|g| !g.is_empty()),
        }),
    }
}

fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref()?.iter().map(|mount| {
        let read_only = mount.read_only.unwrap_or_default();
        let recursive = match mount.recursive_read_only.as_deref() {
            Some("Enabled" | "IfPossible") => "Enabled",
            _ => "Disabled",
        };
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: mount.read_only.filter(|r| *r),
            recursive_read_only: read_only.then(|| recursive.to_owned()),
            volume_status: None,
        }
    });
    Some(mounts.collect()).filter(|m: &Vec<_>| !m.is_empty())
}
