//! What to do next for one pod: upstream's `computePodActions`, as a pure function.
//!
//! The worker performs what comes out, feeds what it sees back, and asks again. There is no tick: an
//! answer says when it changes by itself ([`Next::again`]).
//!
//! A pod's life has four stages. [`Stage::Running`] brings the containers to what the specification
//! wants; [`Stage::Terminating`] ends all of them; [`Stage::Terminated`] gives up what the node holds
//! for the pod; [`Stage::Finished`] has nothing left but a status. A stage is never left backwards.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus};

use super::crash::{CrashLoops, go_seconds};
use super::seen::{self, Seen};
use super::spec::{self, Kind};
use super::status;
use super::{resize, restart};
use crate::runtime::{ContainerState, Resources};

mod init;
#[cfg(test)]
pub(super) mod tests;

/// Where a pod is in its life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Stage {
    Running,
    Terminating,
    Terminated,
    Finished,
}

/// What the probes say of a running container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Health {
    pub(crate) started: bool,
    pub(crate) ready: bool,
    pub(crate) liveness_failed: bool,
    pub(crate) startup_failed: bool,
}

/// Why a container is not running, in the terms of its status.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Waiting {
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// Somebody on this node wants the pod to end as `Failed`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Evict {
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// Everything that the decision depends on.
pub(crate) struct Ask<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) stage: Stage,
    pub(crate) seen: &'a Seen,
    /// The status as last generated, else the API server's.
    pub(crate) old: &'a PodStatus,
    /// By container id.
    pub(crate) health: &'a BTreeMap<String, Health>,
    /// Why containers could not be started the last time, by name.
    pub(crate) failures: &'a BTreeMap<String, Waiting>,
    pub(crate) crashes: &'a CrashLoops,
    /// Resources that running containers are to have, by name; none while the node cannot give them.
    pub(crate) wanted: &'a BTreeMap<String, Resources>,
    pub(crate) evict: Option<&'a Evict>,
    /// Addresses of the node, the primary first.
    pub(crate) host_ips: &'a [IpAddr],
    pub(crate) now: SystemTime,
    /// The runtime's name, of which container ids begin.
    pub(crate) runtime: &'a str,
}

/// The answer.
#[derive(Debug)]
pub(crate) struct Next {
    pub(crate) status: PodStatus,
    pub(crate) todo: Todo,
    /// Containers that wait before they are started again.
    pub(crate) backing_off: Vec<String>,
    /// When to ask again if nothing happens before.
    pub(crate) again: Option<SystemTime>,
}

#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Todo {
    Nothing,
    Sync(Sync),
    /// The pod came to its end by itself or outlived its deadline: on to [`Stage::Terminating`].
    Terminate,
    /// End all containers and the sandbox.
    Stop,
    /// Give up volumes, cgroup and network.
    CleanUp,
}

/// Changes on the way to what the specification wants, in the order of the fields.
#[derive(PartialEq, Eq, Debug, Default)]
pub(crate) struct Sync {
    /// End all containers and the sandbox first.
    pub(crate) kill_pod: bool,
    pub(crate) kill: Vec<Kill>,
    /// Containers to remove before all start anew, with whether they have to be killed.
    pub(crate) reset: Vec<(String, bool)>,
    /// Containers whose resources change while they run, by id.
    pub(crate) resize: Vec<(String, Resources)>,
    /// Make a sandbox, as this attempt.
    pub(crate) sandbox: Option<u32>,
    /// Containers to start, in order.
    pub(crate) start: Vec<(Kind, String)>,
}

impl Sync {
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a container ends for another one to take its place at once.
    pub(crate) fn replaces(&self) -> bool {
        let starts = |name: &str| self.start.iter().any(|(_, other)| other == name);
        self.kill.iter().any(|kill| starts(&kill.name))
    }
}

/// Which grace counts for a container that is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Why {
    Other,
    Liveness,
    Startup,
}

#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Kill {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) why: Why,
    /// The message of its event.
    pub(crate) message: String,
}

const DEADLINE: &str = "DeadlineExceeded";

/// Decides.
pub(crate) fn next(ask: &Ask<'_>) -> Next {
    let spec = spec::of(ask.pod);
    let (deadline, due) = deadline(ask, spec);
    let evict = ask.evict.cloned().or_else(|| {
        due.then(|| Evict {
            reason: DEADLINE.into(),
            message: "Pod was active on the node longer than the specified deadline".into(),
        })
    });
    let mut sync = Sync::default();
    let mut waits = Waits::default();
    if ask.stage == Stage::Running && evict.is_none() {
        sync = changes(ask, spec);
        waits = hold_back(ask, spec, &mut sync);
    }
    let mut failures = ask.failures.clone();
    failures.extend(waits.reasons);
    let parts = status::Parts {
        ask,
        evict: evict.as_ref(),
        failures: &failures,
        at_rest: ask.stage >= Stage::Terminated,
    };
    let status = status::generate(&parts);
    let ended = spec::is_terminal(status.phase.as_deref().unwrap_or_default());
    let todo = match ask.stage {
        Stage::Running if ended => Todo::Terminate,
        Stage::Running if sync.is_nothing() => Todo::Nothing,
        Stage::Running => Todo::Sync(sync),
        Stage::Terminating => Todo::Stop,
        Stage::Terminated => Todo::CleanUp,
        Stage::Finished => Todo::Nothing,
    };
    let again = match ask.stage {
        Stage::Running => waits.until.into_iter().chain(deadline).min(),
        _ => None,
    };
    Next {
        status,
        todo,
        backing_off: waits.names,
        again,
    }
}

/// When the pod's time is over, and whether it is.
fn deadline(ask: &Ask<'_>, spec: &PodSpec) -> (Option<SystemTime>, bool) {
    let seconds = spec
        .active_deadline_seconds
        .and_then(|s| u64::try_from(s).ok());
    let start = ask.old.start_time.as_ref().or_else(|| {
        let status = ask.pod.status.as_ref()?;
        status.start_time.as_ref()
    });
    let (Some(seconds), Some(start)) = (seconds, start) else {
        return (None, false);
    };
    let end = super::time::system(start).checked_add(Duration::from_secs(seconds));
    match end {
        Some(end) if end <= ask.now => (None, true),
        end => (end, false),
    }
}

#[derive(Default)]
struct Waits {
    names: Vec<String>,
    reasons: BTreeMap<String, Waiting>,
    until: Option<SystemTime>,
}

/// Takes containers out that failed too recently. An init container that waits holds back those
/// after it; a sidecar does not.
fn hold_back(ask: &Ask<'_>, spec: &PodSpec, sync: &mut Sync) -> Waits {
    let mut waits = Waits::default();
    let mut initializing = true;
    let start = std::mem::take(&mut sync.start);
    sync.start = start
        .into_iter()
        .filter(|(kind, name)| {
            if *kind == Kind::Main && !initializing {
                return false;
            }
            let Some((_, container)) = spec::container(spec, name) else {
                return false;
            };
            let last = exited(ask.seen, name);
            let wait = last.and_then(|last| ask.crashes.wait(&container, last.finished(), ask.now));
            let Some((delay, until)) = wait else {
                return initializing || *kind != Kind::Init;
            };
            if *kind == Kind::Init && !spec::is_sidecar(&container) {
                initializing = false;
            }
            let message = format!(
                "back-off {} restarting failed container={name} pod={}",
                go_seconds(delay),
                crate::make::describe(ask.pod)
            );
            let reason = "CrashLoopBackOff".into();
            waits.names.push(name.clone());
            waits
                .reasons
                .insert(name.clone(), Waiting { reason, message });
            waits.until = waits.until.into_iter().chain([until]).min();
            false
        })
        .collect();
    // A sandbox is worth making only for a container.
    if sync.start.is_empty() && !waits.names.is_empty() && sync.sandbox.is_some() {
        sync.sandbox = None;
        sync.kill_pod = sync.kill_pod && !ask.seen.is_at_rest();
    }
    waits
}

/// The newest container of this name that has ended.
pub(crate) fn exited<'a>(seen: &'a Seen, name: &str) -> Option<&'a seen::Container> {
    let mut containers = seen.containers.iter();
    containers.find(|c| c.name == name && c.is(ContainerState::Exited))
}

/// What has to change for the pod to be as the specification wants.
fn changes(ask: &Ask<'_>, spec: &PodSpec) -> Sync {
    let seen = ask.seen;
    if restart::could_restart_all(spec) && restart::is_restarting_all(spec, seen, ask.old) {
        let reset = reset_all(spec, seen);
        if !reset.is_empty() {
            return Sync {
                reset,
                ..Sync::default()
            };
        }
    }
    if let Some((attempt, _)) = seen.needs_sandbox(spec::is_host_network(spec)) {
        return anew(spec, seen, attempt);
    }
    let mut sync = Sync::default();
    for ephemeral in spec::ephemeral_containers(spec) {
        if seen.last(&ephemeral.name).is_none() {
            sync.start.push((Kind::Ephemeral, ephemeral.name.clone()));
        }
    }
    let initialized = init::changes(ask, spec, &mut sync);
    if sync.kill_pod || !initialized {
        return sync;
    }
    let mut kept = 0_usize;
    let mut mains = Vec::new();
    for container in &spec.containers {
        match main(ask, spec, container, &mut sync) {
            Main::Keep => kept += 1,
            Main::Start => mains.push((Kind::Main, container.name.clone())),
            Main::Leave => {}
        }
    }
    if kept == 0 && mains.is_empty() {
        sync.kill_pod = true;
        sync.start.retain(|(kind, _)| *kind != Kind::Init);
    }
    sync.start.extend(mains);
    sync
}

enum Main {
    Keep,
    Start,
    Leave,
}

/// One of the main containers, in a pod that is initialized.
fn main(ask: &Ask<'_>, spec: &PodSpec, container: &Container, sync: &mut Sync) -> Main {
    let name = &container.name;
    let last = ask.seen.last(name);
    let Some(last) = last.filter(|c| c.is(ContainerState::Running)) else {
        let deleted = spec::is_being_deleted(ask.pod);
        if !restart::is_due(container, spec, deleted, ask.seen) {
            return Main::Leave;
        }
        if let Some(last) = last.filter(|c| c.is(ContainerState::Unknown)) {
            sync.kill.push(unknown(last, "Container"));
        }
        return Main::Start;
    };
    let health = ask.health.get(&last.status.id);
    let (what, why) = if is_changed(container, last) {
        ("definition changed", Why::Other)
    } else if health.is_some_and(|h| h.liveness_failed) {
        ("failed liveness probe", Why::Liveness)
    } else if health.is_some_and(|h| h.startup_failed) {
        ("failed startup probe", Why::Startup)
    } else {
        match resized(ask, container, last, sync) {
            true => ("resize requires restart", Why::Other),
            false => return Main::Keep,
        }
    };
    let restart = why == Why::Other || restart::after_kill(container, spec);
    let then = if restart { ", will be restarted" } else { "" };
    sync.kill.push(Kill {
        id: last.status.id.clone(),
        name: name.clone(),
        why,
        message: format!("Container {name} {what}{then}"),
    });
    if restart { Main::Start } else { Main::Leave }
}

/// Notes new resources for a container that runs. Says whether it has to start anew for them.
fn resized(ask: &Ask<'_>, container: &Container, last: &seen::Container, sync: &mut Sync) -> bool {
    let wanted = ask.wanted.get(&container.name);
    let Some(resize) = wanted.and_then(|w| resize::needed(container, last, w)) else {
        return false;
    };
    if !resize.restart {
        sync.resize.push((last.status.id.clone(), resize.to));
    }
    resize.restart
}

fn is_changed(container: &Container, seen: &seen::Container) -> bool {
    seen.hash
        .is_some_and(|hash| hash != crate::make::hash(container))
}

fn unknown(container: &seen::Container, what: &str) -> Kill {
    Kill {
        id: container.status.id.clone(),
        name: container.name.clone(),
        why: Why::Other,
        message: format!("{what} is in \"unknown\" state, try killing it before restart"),
    }
}

/// A pod whose sandbox is not there or not usable: all begins again, unless it is done.
fn anew(spec: &PodSpec, seen: &Seen, attempt: u32) -> Sync {
    let stop = Sync {
        kill_pod: true,
        ..Sync::default()
    };
    let never = spec.restart_policy.as_deref() == Some("Never");
    if never && attempt != 0 && !seen.containers.is_empty() {
        return stop;
    }
    let succeeded = |c: &Container| {
        let last = seen.last(&c.name);
        last.is_some_and(|l| l.is(ContainerState::Exited) && l.status.exit_code == 0)
    };
    let once = |c: &Container| {
        let policy = c
            .restart_policy
            .as_deref()
            .or(spec.restart_policy.as_deref());
        policy == Some("OnFailure")
    };
    let wanted = spec
        .containers
        .iter()
        .filter(|c| !(once(c) && succeeded(c)));
    let wanted: Vec<_> = wanted.map(|c| (Kind::Main, c.name.clone())).collect();
    let known = |c: &Container| {
        let last = seen.last(&c.name);
        last.is_some_and(|l| !l.is(ContainerState::Unknown))
    };
    if wanted.is_empty() && spec.containers.iter().any(known) {
        return stop;
    }
    let start = match spec::init_containers(spec).first() {
        Some(first) => vec![(Kind::Init, first.name.clone())],
        None => wanted,
    };
    Sync {
        kill_pod: !seen.is_at_rest(),
        sandbox: Some(attempt),
        start,
        ..Sync::default()
    }
}

/// Every container of the pod, main ones first; those whose exit asked for it last.
fn reset_all(spec: &PodSpec, seen: &Seen) -> Vec<(String, bool)> {
    let (mut causes, mut others) = (Vec::new(), Vec::new());
    for list in [&spec.containers[..], spec::init_containers(spec)] {
        for container in list {
            for known in seen.containers.iter().filter(|c| c.name == container.name) {
                let exited = known.is(ContainerState::Exited);
                let id = known.status.id.clone();
                if exited && restart::restarts_all(container, known.status.exit_code) {
                    causes.push((id, false));
                } else {
                    others.push((id, !exited));
                }
            }
        }
    }
    others.append(&mut causes);
    others
}
