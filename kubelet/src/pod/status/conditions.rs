//! Conditions of a pod: upstream's `pkg/kubelet/status/generate.go`.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};

use super::{Parts, condition};
use crate::pod::restart::{self, ALL_RESTARTING};
use crate::pod::spec;

/// Conditions that only the kubelet writes.
const OWNED: [&str; 8] = [
    "PodScheduled",
    "Ready",
    "Initialized",
    "ContainersReady",
    "PodResizeInProgress",
    "PodResizePending",
    "PodReadyToStartContainers",
    ALL_RESTARTING,
];

/// The condition that the kubelet shares with others.
pub(super) const DISRUPTION: &str = "DisruptionTarget";

/// Whether only the kubelet writes conditions of this type.
pub(crate) fn is_owned(kind: &str) -> bool {
    OWNED.contains(&kind)
}

/// A condition's value: true, or false with a reason and a message.
struct Is {
    kind: &'static str,
    no: Option<(&'static str, String)>,
    /// A reason of a true one.
    yes: Option<&'static str>,
}

impl Is {
    const fn yes(kind: &'static str) -> Self {
        Self {
            kind,
            no: None,
            yes: None,
        }
    }

    const fn no(kind: &'static str, reason: &'static str, message: String) -> Self {
        Self {
            kind,
            no: Some((reason, message)),
            yes: None,
        }
    }

    fn condition(self, generation: Option<i64>) -> PodCondition {
        let text = |text: String| Some(text).filter(|t| !t.is_empty());
        let status = if self.no.is_some() { "False" } else { "True" };
        let (reason, message) = self
            .no
            .unwrap_or((self.yes.unwrap_or_default(), String::new()));
        PodCondition {
            type_: self.kind.into(),
            status: status.into(),
            reason: text(reason.into()),
            message: text(message),
            observed_generation: generation,
            ..PodCondition::default()
        }
    }
}

/// All conditions, given the rest of the new status.
pub(super) fn of(parts: &Parts<'_>, status: &PodStatus) -> Vec<PodCondition> {
    let ask = parts.ask;
    let told = ask.pod.status.as_ref();
    let others = told
        .and_then(|s| s.conditions.as_ref())
        .into_iter()
        .flatten();
    let mut all: Vec<_> = others.filter(|c| !is_owned(&c.type_)).cloned().collect();
    if let Some(disruption) = condition(ask.old, DISRUPTION) {
        all.retain(|c| c.type_ != DISRUPTION);
        all.push(disruption.clone());
    }
    let spec = spec::of(ask.pod);
    let sandbox = match ask.seen.needs_sandbox(spec::is_host_network(spec)) {
        None => Is::yes("PodReadyToStartContainers"),
        Some((_, why)) => Is::no(
            "PodReadyToStartContainers",
            "PodSandboxNotReady",
            why.into(),
        ),
    };
    let mut owned = vec![
        sandbox,
        initialized(parts, status),
        ready(parts, status, &all),
        containers_ready("ContainersReady", parts, status),
        Is::yes("PodScheduled"),
    ];
    if restart::could_restart_all(spec) {
        owned.push(all_restarting(parts, status));
    }
    let generation = ask.pod.metadata.generation;
    all.extend(owned.into_iter().map(|is| is.condition(generation)));
    all
}

fn find<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let main = status.container_statuses.iter().flatten();
    let mut all = main.chain(status.init_container_statuses.iter().flatten());
    all.find(|s| s.name == name)
}

/// As Go prints a list of strings.
fn names(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn problems(lists: &[(&str, &[&str])]) -> String {
    let lists = lists.iter().filter(|(_, list)| !list.is_empty());
    let texts: Vec<_> = lists
        .map(|(what, list)| format!("containers with {what} status: {}", names(list)))
        .collect();
    texts.join(", ")
}

fn containers_ready(kind: &'static str, parts: &Parts<'_>, status: &PodStatus) -> Is {
    let spec = spec::of(parts.ask.pod);
    let sidecars = spec::init_containers(spec)
        .iter()
        .filter(|c| spec::is_sidecar(c));
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    for container in sidecars.chain(&spec.containers) {
        match find(status, &container.name) {
            Some(found) if found.ready => {}
            Some(_) => unready.push(container.name.as_str()),
            None => unknown.push(container.name.as_str()),
        }
    }
    match status.phase.as_deref() {
        Some("Succeeded") if unknown.is_empty() => {
            return Is::no(kind, "PodCompleted", String::new());
        }
        Some("Failed") => return Is::no(kind, "PodFailed", String::new()),
        _ => {}
    }
    match problems(&[("unknown", &unknown), ("unready", &unready)]) {
        none if none.is_empty() => Is::yes(kind),
        message => Is::no(kind, "ContainersNotReady", message),
    }
}

fn ready(parts: &Parts<'_>, status: &PodStatus, others: &[PodCondition]) -> Is {
    let containers = containers_ready("Ready", parts, status);
    if containers.no.is_some() {
        return containers;
    }
    let gates = spec::of(parts.ask.pod).readiness_gates.iter().flatten();
    let mut messages = Vec::new();
    for gate in gates {
        let kind = &gate.condition_type;
        match others.iter().find(|c| c.type_ == *kind) {
            None => messages.push(format!(
                "corresponding condition of pod readiness gate {kind:?} does not exist."
            )),
            Some(found) if found.status != "True" => messages.push(format!(
                "the status of pod readiness gate {kind:?} is not \"True\", but {}",
                found.status
            )),
            Some(_) => {}
        }
    }
    if messages.is_empty() {
        containers
    } else {
        Is::no("Ready", "ReadinessGatesNotReady", messages.join(", "))
    }
}

fn initialized(parts: &Parts<'_>, status: &PodStatus) -> Is {
    let kind = "Initialized";
    let spec = spec::of(parts.ask.pod);
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for container in spec::init_containers(spec) {
        let Some(found) = find(status, &container.name) else {
            unknown.push(container.name.as_str());
            continue;
        };
        let done = if spec::is_sidecar(container) {
            found.started.unwrap_or_default()
        } else {
            found.ready
        };
        if !done {
            incomplete.push(container.name.as_str());
        }
    }
    if status.phase.as_deref() == Some("Succeeded") && unknown.is_empty() {
        return Is {
            yes: Some("PodCompleted"),
            ..Is::yes(kind)
        };
    }
    let ran = |s: &ContainerStatus| {
        let state = s.state.as_ref();
        state.is_some_and(|s| s.running.is_some() || s.terminated.is_some())
    };
    let mut main = status.container_statuses.iter().flatten();
    let was = condition(parts.ask.old, kind).is_some_and(|c| c.status == "True");
    let message = problems(&[("unknown", &unknown), ("incomplete", &incomplete)]);
    if message.is_empty() || was || main.any(ran) {
        Is::yes(kind)
    } else {
        Is::no(kind, "ContainersNotInitialized", message)
    }
}

fn all_restarting(parts: &Parts<'_>, status: &PodStatus) -> Is {
    let kind = ALL_RESTARTING;
    let ask = parts.ask;
    let spec = spec::of(ask.pod);
    let reason = match status.phase.as_deref() {
        Some("Succeeded") => "PodCompleted",
        Some("Failed") => "PodFailed",
        _ => "",
    };
    let containers = || spec::init_containers(spec).iter().chain(&spec.containers);
    let gone = containers().all(|c| ask.seen.last(&c.name).is_none());
    if !reason.is_empty() || gone || !restart::is_restarting_all(spec, ask.seen, ask.old) {
        return Is::no(kind, reason, String::new());
    }
    Is {
        yes: Some("RestartAllContainersStarted"),
        ..Is::yes(kind)
    }
}
