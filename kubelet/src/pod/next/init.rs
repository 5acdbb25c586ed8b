//! Init containers and sidecars: upstream's `computeInitContainerActions`.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::{Ask, Kill, Sync, Why, is_changed, resized, unknown};
use crate::pod::spec::{self, Kind};
use crate::pod::{restart, seen};
use crate::runtime::{ContainerState, container::reason};

/// What to do with init containers. Says whether the main ones may run.
///
/// Looks from the last to the first: what ran later proves that what comes before is done, even
/// where the runtime has forgotten it.
pub(super) fn changes(ask: &Ask<'_>, spec: &PodSpec, sync: &mut Sync) -> bool {
    let containers = spec::init_containers(spec);
    if containers.is_empty() {
        return true;
    }
    // A main container in this sandbox proves it, too.
    let mut of = Progress {
        initialized: spec
            .containers
            .iter()
            .any(|c| ask.seen.active(&c.name).is_some()),
        start: Vec::new(),
    };
    let mut passed = of.initialized;
    for (index, container) in containers.iter().enumerate().rev() {
        let sidecar = spec::is_sidecar(container);
        let Some(last) = ask.seen.active(&container.name) else {
            if passed && sidecar {
                of.start.push(index);
            }
            continue;
        };
        if passed && !sidecar {
            continue;
        }
        let step = Step {
            ask,
            spec,
            container,
            last,
            index,
            is_last: index + 1 == containers.len(),
            passed,
        };
        if !step.take(&mut of, sync) {
            sync.kill_pod = true;
            sync.start.retain(|(kind, _)| *kind != Kind::Init);
            return false;
        }
        passed = true;
    }
    if !passed {
        of.start.push(0);
    }
    let start = of.start.into_iter().rev().filter_map(|i| containers.get(i));
    let start = start.map(|c| (Kind::Init, c.name.clone()));
    sync.start.extend(start);
    of.initialized
}

struct Progress {
    initialized: bool,
    /// The last first.
    start: Vec<usize>,
}

/// One init container that has been made.
struct Step<'a> {
    ask: &'a Ask<'a>,
    spec: &'a PodSpec,
    container: &'a Container,
    last: &'a seen::Container,
    index: usize,
    is_last: bool,
    /// One that comes later has been made already.
    passed: bool,
}

impl Step<'_> {
    /// Whether there is still hope.
    fn take(&self, of: &mut Progress, sync: &mut Sync) -> bool {
        let sidecar = spec::is_sidecar(self.container);
        match (self.last.status.state, sidecar) {
            (ContainerState::Created, _) | (ContainerState::Exited, true) => {
                of.start.push(self.index);
            }
            (ContainerState::Running, false) => {}
            (ContainerState::Running, true) => self.running_sidecar(of, sync),
            (ContainerState::Exited, false) if self.has_failed() => {
                let deleted = spec::is_being_deleted(self.ask.pod);
                if !restart::is_due(self.container, self.spec, deleted, self.ask.seen) {
                    return false;
                }
                of.start.push(self.index);
            }
            (ContainerState::Exited, false) => self.done(of),
            (ContainerState::Unknown, sidecar) => {
                if !sidecar && !restart::after_kill(self.container, self.spec) {
                    return false;
                }
                sync.kill.push(unknown(self.last, "Init container"));
                of.start.push(self.index);
            }
        }
        true
    }

    /// The next may start.
    fn done(&self, of: &mut Progress) {
        if self.is_last {
            of.initialized = true;
        } else if !self.passed {
            of.start.push(self.index + 1);
        }
    }

    fn has_failed(&self) -> bool {
        let status = &self.last.status;
        status.reason == reason::OOM_KILLED || status.exit_code != 0
    }

    fn running_sidecar(&self, of: &mut Progress, sync: &mut Sync) {
        let health = self.ask.health.get(&self.last.status.id);
        if health.is_some_and(|h| h.startup_failed) {
            return self.replace("failed startup probe", Why::Startup, of, sync);
        }
        if self.container.startup_probe.is_some() && !health.is_some_and(|h| h.started) {
            return;
        }
        self.done(of);
        if is_changed(self.container, self.last) {
            self.replace("definition changed", Why::Other, of, sync);
        } else if health.is_some_and(|h| h.liveness_failed) {
            self.replace("failed liveness probe", Why::Liveness, of, sync);
        } else if resized(self.ask, self.container, self.last, sync) {
            self.replace("resize requires restart", Why::Other, of, sync);
        }
    }

    fn replace(&self, what: &str, why: Why, of: &mut Progress, sync: &mut Sync) {
        let name = &self.container.name;
        sync.kill.push(Kill {
            id: self.last.status.id.clone(),
            name: name.clone(),
            why,
            message: format!("Init container {name} {what}"),
        });
        of.start.push(self.index);
    }
}
