//! The phase of a pod: upstream's `getPhase`.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec};

use super::containers::RESTARTING_ALL;
use crate::pod::{restart, spec};

/// What a container's status says, as far as the phase needs it.
enum Is {
    Unknown,
    Running,
    /// With the exit code and whether it comes back.
    Ended(i32, bool),
    /// It waits, and has never run.
    Waiting,
}

fn is(container: &Container, spec: &PodSpec, all: &[&ContainerStatus]) -> Is {
    let Some(status) = all.iter().find(|s| s.name == container.name) else {
        return Is::Unknown;
    };
    let Some(state) = &status.state else {
        return Is::Unknown;
    };
    let last = status
        .last_state
        .as_ref()
        .and_then(|s| s.terminated.as_ref());
    let waiting_after = last.filter(|_| state.waiting.is_some());
    if state.running.is_some() {
        return Is::Running;
    }
    match state.terminated.as_ref().or(waiting_after) {
        Some(ended) => {
            let all = ended.reason.as_deref() == Some(RESTARTING_ALL);
            let comes_back = all || restart::after_exit(container, spec, ended.exit_code);
            Is::Ended(ended.exit_code, comes_back)
        }
        None if state.waiting.is_some() => Is::Waiting,
        None => Is::Unknown,
    }
}

#[derive(Default)]
struct Count {
    unknown: usize,
    running: usize,
    waiting: usize,
    stopped: usize,
    stopped_for_good: usize,
    succeeded: usize,
}

/// `at_rest`: none of its containers will run again. `initialized`: a main container ran in the
/// present sandbox.
pub(super) fn of(
    pod: &Pod,
    all: &[&ContainerStatus],
    at_rest: bool,
    initialized: bool,
) -> &'static str {
    let spec = spec::of(pod);
    let mut count = Count::default();
    let (mut pending_init, mut pending_sidecars) = (0_usize, 0_usize);
    for container in spec::init_containers(spec) {
        let is = is(container, spec, all);
        if !spec::is_sidecar(container) {
            match is {
                Is::Ended(code, false) if code != 0 => return "Failed",
                Is::Ended(..) => {}
                _ => pending_init += 1,
            }
            continue;
        }
        let status = all.iter().find(|s| s.name == container.name);
        match is {
            Is::Running => {
                count.running += 1;
                let started = status.and_then(|s| s.started).unwrap_or_default();
                pending_sidecars += usize::from(!started);
            }
            Is::Ended(..) => {}
            Is::Waiting => {
                pending_sidecars += 1;
                count.waiting += 1;
            }
            Is::Unknown => {
                pending_sidecars += usize::from(status.is_some());
                count.unknown += 1;
            }
        }
    }
    for container in &spec.containers {
        match is(container, spec, all) {
            Is::Unknown => count.unknown += 1,
            Is::Running => count.running += 1,
            Is::Waiting => count.waiting += 1,
            Is::Ended(code, comes_back) => {
                count.stopped += 1;
                count.stopped_for_good += usize::from(!comes_back);
                // One that waits to be started again has not succeeded, whatever its code was.
                let status = all.iter().find(|s| s.name == container.name);
                let ended = status.and_then(|s| s.state.as_ref()?.terminated.as_ref());
                count.succeeded += usize::from(code == 0 && ended.is_some());
            }
        }
    }
    if pending_init > 0 || (pending_sidecars > 0 && !initialized) || count.waiting > 0 {
        return "Pending";
    }
    count.phase(at_rest && !spec::is_static(pod))
}

impl Count {
    fn phase(&self, ended: bool) -> &'static str {
        if self.running > 0 && self.unknown == 0 {
            return "Running";
        }
        if self.running > 0 || self.stopped == 0 || self.unknown > 0 {
            return "Pending";
        }
        let outcome = if self.stopped == self.succeeded {
            "Succeeded"
        } else {
            "Failed"
        };
        if ended || self.stopped == self.stopped_for_good {
            outcome
        } else {
            "Running"
        }
    }
}
