//! Probes: whether containers have started, are alive, are ready. Upstream's `pkg/kubelet/prober`.
//!
//! Owns: a worker per probe of a running container, and what the probes found. The pod worker says
//! which containers run; results are pushed to it.
//!
//! ```text
//! container_started -> worker: wait, probe, count -> state(id), changed(uid)
//! ```
//! Invariants:
//! - Nothing is probed for liveness or readiness before the container has started, as its startup
//!   probe says.
//! - A container that failed liveness or startup is not probed any more: it is about to be stopped.
//! - A worker between two probes is a timer; how many probes run at once is bounded.

pub(crate) mod grpc;
mod metrics;
mod results;
mod run;
mod schedule;
mod stream;
pub(crate) mod target;
pub(crate) mod web;
mod worker;

#[cfg(test)]
pub(crate) mod fake;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use component::Supervisor;
use component::events::Recorder;
use component::metrics::Metrics;
use component::supervisor::Task;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, Probe};
use tokio::time::Instant;

use crate::make;
use crate::runtime::Runtime;
use metrics::Counts;
use results::Results;
use run::Prober;
use worker::Worker;

pub use results::ProbeState;

/// The three kinds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Startup, Self::Readiness, Self::Liveness];

    /// In events and metrics.
    const fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }

    fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
        }
    }
}

/// Containers that started longer than this before the kubelet ran before it.
const RESTART_GRACE: Duration = Duration::from_secs(10);

/// The probes of all pods; cheap to clone.
#[derive(Clone)]
pub struct Probes {
    inner: Arc<Inner>,
}

struct Inner {
    prober: Prober,
    results: Results,
    counts: Counts,
    tasks: Supervisor,
    /// When this kubelet began.
    since: SystemTime,
}

impl Probes {
    /// Probes of nothing yet. `changed` is called with a pod's uid when something that
    /// [`state`](Self::state) tells of its containers changed; it must not wait.
    pub fn new(
        runtime: Arc<dyn Runtime>,
        recorder: Recorder,
        tasks: Supervisor,
        metrics: &Metrics,
        changed: impl Fn(&str) + Send + Sync + 'static,
    ) -> Self {
        let inner = Inner {
            prober: Prober::new(runtime, recorder),
            results: Results::new(Box::new(changed)),
            counts: Counts::registered(metrics),
            tasks,
            since: SystemTime::now(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Begins to probe a container that runs; does nothing if it is probed already. Containers without
    /// probes are told, too: their state is started and ready. `container` is a regular one or a
    /// sidecar; the pod has the status that the API server knows.
    pub fn container_started(
        &self,
        pod: &Arc<Pod>,
        container: &str,
        id: &str,
        started_at: SystemTime,
        pod_ip: Option<IpAddr>,
    ) {
        let mut all = make::containers(pod).chain(make::init_containers(pod));
        let Some(found) = all.find(|c| c.name == container) else {
            return;
        };
        let since = started_at.checked_add(RESTART_GRACE);
        let resumed = since.is_some_and(|since| since < self.inner.since);
        let age = started_at.elapsed().unwrap_or_default();
        let (started, ready) = initial(pod, found, id, resumed);
        let probes = Kind::ALL
            .into_iter()
            .filter(|kind| kind.of(found).is_some());
        let kinds: Vec<Kind> = probes
            .filter(|kind| *kind != Kind::Startup || !started)
            .collect();
        let uid = make::uid(pod);
        let handed = self.inner.results.watch(uid, id, (started, ready), &kinds);
        for (kind, stop, started) in handed {
            let Some(probe) = kind.of(found) else {
                continue;
            };
            let worker = Worker {
                inner: Arc::clone(&self.inner),
                pod: Arc::clone(pod),
                container: found.clone(),
                id: id.to_owned(),
                kind,
                probe: probe.clone(),
                age,
                told_at: Instant::now(),
                resumed,
                pod_ip,
            };
            self.inner.tasks.spawn(Task::Worker, "probe", async move {
                stop.run_until_cancelled(worker.run(started)).await;
            });
        }
    }

    /// Ends the probes of a container that does not run any more, and forgets it.
    pub fn stop(&self, id: &str) {
        self.inner.results.forget(id);
    }

    /// A pod is being terminated: only readiness matters from now on.
    pub fn stop_liveness_and_startup(&self, uid: &str) {
        self.inner.results.only_readiness(uid);
    }

    /// Forgets a pod.
    pub fn remove_pod(&self, uid: &str) {
        self.inner.results.forget_pod(uid);
        self.inner.counts.forget_pod(uid);
    }

    /// What is known of a running container. One that was never told of is neither started nor ready.
    #[must_use]
    pub fn state(&self, id: &str) -> ProbeState {
        self.inner.results.state(id)
    }
}

/// Whether a container counts as started and as ready before it was probed. What was before the
/// kubelet was started anew goes on as it was: pods must not become unready by that.
fn initial(pod: &Pod, container: &Container, id: &str, resumed: bool) -> (bool, bool) {
    let status = pod.status.as_ref();
    let lists = status.map(|s| [&s.container_statuses, &s.init_container_statuses]);
    let mut known = lists.into_iter().flatten().flatten().flatten();
    let is_it = |status: &&ContainerStatus| {
        let of = status.container_id.as_deref().unwrap_or_default();
        status.name == container.name && of.split_once("://").is_some_and(|(_, of)| of == id)
    };
    let was_started = resumed && known.any(|s| is_it(&s) && s.started == Some(true));
    let conditions = status.and_then(|s| s.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    let was_ready = resumed && conditions.any(|c| c.type_ == "Ready" && c.status == "True");
    (
        container.startup_probe.is_none() || was_started,
        container.readiness_probe.is_none() || was_ready,
    )
}

#[cfg(test)]
mod tests;
