//! The row of a pod. Upstream: `pkg/printers/internalversion/printers.go`, `printPod`.

use proto::view::core_v1::{ContainerStatus, Pod};
use proto::view::{Node, View};
use proto::{Value, meta, time};

use crate::table::age;

pub(super) fn cells(object: &Value, now: i64) -> Vec<Value> {
    let pod = Pod::of(Node::new(object));
    let seen = look(pod, object);
    let or_none = |text: &str| -> Value { if text.is_empty() { "<none>" } else { text }.into() };
    let restarts = match seen.last_restart {
        Some(at) if seen.restarts != 0 => {
            format!(
                "{} ({} ago)",
                seen.restarts,
                crate::table::human_duration(now - at)
            )
        }
        _ => seen.restarts.to_string(),
    };
    let ip = pod.status().pod_ips().first().map_or("", |ip| ip.ip());
    vec![
        meta::name(object).into(),
        format!("{}/{}", seen.ready, seen.total).into(),
        seen.reason.into(),
        restarts.into(),
        age(meta::creation_timestamp(object), now).into(),
        or_none(ip),
        or_none(pod.spec().node_name()),
        or_none(pod.status().nominated_node_name()),
        gates(pod).into(),
    ]
}

struct Seen {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<i64>,
}

impl Seen {
    fn count(&mut self, status: ContainerStatus<'_>) {
        self.restarts += status.restart_count();
        let finished = status
            .last_state()
            .terminated()
            .and_then(|t| t.finished_at())
            .and_then(time::unix_of);
        if let Some((at, _)) = finished {
            self.last_restart = self.last_restart.max(Some(at));
        }
    }
}

fn look(pod: Pod<'_>, object: &Value) -> Seen {
    let status = pod.status();
    let mut reason = if status.reason().is_empty() {
        status.phase()
    } else {
        status.reason()
    }
    .to_owned();
    if status
        .conditions()
        .iter()
        .any(|c| c.r#type() == "PodScheduled" && c.reason() == "SchedulingGated")
    {
        "SchedulingGated".clone_into(&mut reason);
    }
    let sidecar = |name: &str| {
        pod.spec()
            .init_containers()
            .iter()
            .any(|c| c.name() == name && c.restart_policy() == Some("Always"))
    };
    let sidecars = pod
        .spec()
        .init_containers()
        .iter()
        .filter(|c| c.restart_policy() == Some("Always"))
        .count();
    let mut seen = Seen {
        reason,
        ready: 0,
        total: pod.spec().containers().len() + sidecars,
        restarts: 0,
        last_restart: None,
    };
    let mut of_sidecars = Seen {
        reason: String::new(),
        ready: 0,
        total: 0,
        restarts: 0,
        last_restart: None,
    };
    let initializing = initializing(pod, &mut seen, &mut of_sidecars, &sidecar);
    let initialized = status
        .conditions()
        .iter()
        .any(|c| c.r#type() == "Initialized" && c.status() == "True");
    if !initializing || initialized {
        seen.restarts = of_sidecars.restarts;
        seen.last_restart = of_sidecars.last_restart;
        running(pod, &mut seen);
    }
    if meta::is_deleting(object) {
        if status.reason() == "NodeLost" {
            seen.reason = "Unknown".into();
        } else if !matches!(status.phase(), "Failed" | "Succeeded") {
            seen.reason = "Terminating".into();
        }
    }
    seen
}

/// Looks at init containers until the one that holds the pod up; says whether there is one.
fn initializing(
    pod: Pod<'_>,
    seen: &mut Seen,
    of_sidecars: &mut Seen,
    sidecar: &impl Fn(&str) -> bool,
) -> bool {
    let total = pod.spec().init_containers().len();
    for (i, status) in pod.status().init_container_statuses().iter().enumerate() {
        seen.count(status);
        let is_sidecar = sidecar(status.name());
        if is_sidecar {
            of_sidecars.count(status);
        }
        let terminated = status.state().terminated();
        if terminated.is_some_and(|t| t.exit_code() == 0) {
            continue;
        }
        if is_sidecar && status.started() == Some(true) {
            seen.ready += usize::from(status.ready());
            continue;
        }
        let waiting = status.state().waiting().map_or("", |w| w.reason());
        seen.reason = match terminated {
            Some(t) if !t.reason().is_empty() => format!("Init:{}", t.reason()),
            Some(t) if t.signal() != 0 => format!("Init:Signal:{}", t.signal()),
            Some(t) => format!("Init:ExitCode:{}", t.exit_code()),
            None if !waiting.is_empty() && waiting != "PodInitializing" => {
                format!("Init:{waiting}")
            }
            None => format!("Init:{i}/{total}"),
        };
        return true;
    }
    false
}

fn running(pod: Pod<'_>, seen: &mut Seen) {
    let mut has_running = false;
    let mut error = String::new();
    for status in pod.status().container_statuses().iter().rev() {
        seen.count(status);
        let waiting = status.state().waiting().map_or("", |w| w.reason());
        if !waiting.is_empty() {
            waiting.clone_into(&mut seen.reason);
        } else if let Some(t) = status.state().terminated() {
            seen.reason = match t.reason() {
                "" if t.signal() != 0 => format!("Signal:{}", t.signal()),
                "" => format!("ExitCode:{}", t.exit_code()),
                reason => reason.to_owned(),
            };
            if t.exit_code() != 0 {
                error.clone_from(&seen.reason);
            }
        } else if status.ready() && status.state().running().is_some() {
            has_running = true;
            seen.ready += 1;
        }
    }
    if seen.reason == "Completed" {
        let ready = pod
            .status()
            .conditions()
            .iter()
            .any(|c| c.r#type() == "Ready" && c.status() == "True");
        if has_running && ready {
            seen.reason = "Running".into();
        } else if !error.is_empty() {
            seen.reason = error;
        } else if has_running {
            seen.reason = "NotReady".into();
        }
    }
}

fn gates(pod: Pod<'_>) -> String {
    let gates = pod.spec().readiness_gates();
    if gates.is_empty() {
        return "<none>".into();
    }
    let is_true = |kind: &str| {
        pod.status()
            .conditions()
            .iter()
            .any(|c| c.r#type() == kind && c.status() == "True")
    };
    let open = gates.iter().filter(|g| is_true(g.condition_type())).count();
    format!("{open}/{}", gates.len())
}
