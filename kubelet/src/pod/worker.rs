//! The worker of one pod: looks, decides ([`super::next`]), acts, and waits for news.
//!
//! One thing is done at a time, in the order of the decision; meanwhile news only change what is
//! told. What takes long (pulls, hooks, the grace of a stop) gives way when the pod is to end, or to
//! end sooner; calls on the runtime that make something are always carried through, so that what
//! was made is seen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use component::tracing::Attributes;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::crash::CrashLoops;
use super::next::{self, Ask, Health, Next, Stage, Todo, Waiting};
use super::registry::View;
use super::seen::Seen;
use super::{Shared, admit, resize, spec, status, time};
use crate::make::{self, NodeFacts, sums};
use crate::runtime::{self, ContainerFilter, ContainerState, PodSandboxFilter};

mod end;
mod files;
mod images;
mod kill;
mod message;
mod retry;
mod start;
mod sync;
mod tell;

use retry::Retries;

/// The annotation of a container that names its root file system in the image store.
pub(super) const SNAPSHOT: &str = "navarch.dev/snapshot";
/// For so long nothing is told while a container is replaced, so that one that is back at once does not seem to be away:
/// upstream looks once a second (`genericPlegRelistPeriod`), and at no pod that it is working on.
const SILENCE: Duration = Duration::from_secs(1);

/// Runs a pod from its first sight to its end.
pub(super) async fn run(shared: Arc<Shared>, uid: String) {
    let known = {
        let registry = shared.registry.lock();
        let entry = registry.entries.get(&uid);
        entry.map(|entry| (entry.wake.clone(), entry.refresh.clone()))
    };
    let Some((wake, refresh)) = known else { return };
    let memory = Memory {
        crashes: CrashLoops::new(shared.parts.crash_limits),
        ..Memory::default()
    };
    let worker = Worker {
        shared,
        uid,
        wake,
        refresh,
        memory: Mutex::new(memory),
    };
    worker.run().await;
}

struct Worker {
    shared: Arc<Shared>,
    uid: String,
    wake: Arc<Notify>,
    refresh: Arc<AtomicBool>,
    memory: Mutex<Memory>,
}

/// What a worker remembers; a kubelet that is started anew does without.
#[derive(Default)]
struct Memory {
    admitted: bool,
    crashes: CrashLoops,
    /// Why containers could not be started the last time, by name.
    failures: BTreeMap<String, Waiting>,
    retries: Retries,
    /// Termination messages by container id.
    messages: BTreeMap<String, String>,
    /// Waits whose event was recorded: the container, and what was said.
    told: BTreeMap<String, String>,
    volumes: files::Made,
    was_running: bool,
}

enum Step {
    Again,
    Wait(Option<SystemTime>),
    Over,
}

impl Worker {
    async fn run(self) {
        loop {
            let Some(view) = self.view() else { return };
            let began = std::time::Instant::now();
            let step = self.step(&view).await;
            let took = began.elapsed().as_secs_f64();
            let kind = [("operation_type", "sync".to_owned())];
            let durations = &self.shared.metrics.worker_duration;
            durations.get_or_create(&kind).observe(took);
            match step {
                Step::Again => {}
                Step::Wait(until) => self.wait(until).await,
                Step::Over => {
                    self.leave(&view.pod).await;
                    return;
                }
            }
        }
    }

    fn view(&self) -> Option<View> {
        self.shared.registry.lock().view(&self.uid)
    }

    async fn wait(&self, until: Option<SystemTime>) {
        let Some(until) = until else {
            return self.wake.notified().await;
        };
        let left = until.duration_since(SystemTime::now()).unwrap_or_default();
        tokio::select! {
            () = self.wake.notified() => {}
            // A clock that counts in whole milliseconds must not wake before the time.
            () = tokio::time::sleep(left + Duration::from_millis(1)) => {}
        }
    }

    /// One look, and what it asks for.
    async fn step(&self, view: &View) -> Step {
        if view.stage == Stage::Running {
            if self.shared.registry.lock().is_blocked(&self.uid) {
                return Step::Wait(None);
            }
            if !self.admit(view) {
                return Step::Again;
            }
        }
        let seen = match self.observe(&view.pod).await {
            Ok(seen) => Arc::new(seen),
            Err(err) => {
                let error = component::supervisor::chain(&err);
                self.warn(
                    &view.pod,
                    "FailedSync",
                    &format!("error determining status: {error}"),
                );
                return Step::Wait(Some(SystemTime::now() + Duration::from_secs(1)));
            }
        };
        let next = self.decide(view, &seen);
        self.publish(view, &seen, next.status.clone());
        self.tell_waits(&view.pod, &next, &seen);
        match next.todo {
            Todo::Nothing if view.stage == Stage::Finished && view.gone => Step::Over,
            Todo::Nothing if view.stage == Stage::Finished => Step::Wait(None),
            Todo::Nothing => Step::Wait(self.idle(view, next.again).await),
            Todo::Sync(sync) => {
                let work = self.sync(view, &seen, sync, next.again);
                self.traced("syncPod", &view.pod, work).await
            }
            Todo::Terminate => {
                self.terminate(&next.status);
                Step::Again
            }
            Todo::Stop => {
                let work = self.stop(view, &seen);
                self.traced("syncTerminatingPod", &view.pod, work).await
            }
            Todo::CleanUp => {
                let work = self.clean_up(view);
                self.traced("syncTerminatedPod", &view.pod, work).await
            }
        }
    }

    /// What is done for the pod, as a trace with upstream's names.
    async fn traced(&self, name: &str, pod: &Pod, work: impl Future<Output = Step>) -> Step {
        let tracer = &self.shared.parts.tracer;
        let describe = |a: &mut Attributes<'_>| {
            let of = |text: &Option<String>| text.clone().unwrap_or_default();
            let (namespace, own) = (of(&pod.metadata.namespace), of(&pod.metadata.name));
            a.text("k8s.pod.uid", &self.uid);
            a.text("k8s.pod", format!("{namespace}/{own}"));
            a.text("k8s.pod.name", own);
            a.text("k8s.namespace.name", namespace);
        };
        tracer.work(name, describe, work).await
    }

    /// Whether this node takes the pod; asked once.
    fn admit(&self, view: &View) -> bool {
        if self.memory.lock().admitted {
            return true;
        }
        self.memory.lock().admitted = true;
        let facts = self.shared.facts();
        let node = self.shared.node();
        let labels = node.as_ref().and_then(|node| node.metadata.labels.as_ref());
        let taints = node
            .as_ref()
            .and_then(|node| node.spec.as_ref()?.taints.as_deref());
        let of_node = admit::Node {
            name: &facts.name,
            labels: labels.unwrap_or(&facts.labels),
            taints: taints.unwrap_or_default(),
            allocatable: sums::parsed(Some(&facts.allocatable)),
            sysctls: &self.shared.parts.sysctls,
        };
        let mut registry = self.shared.registry.lock();
        let others = registry.admitted_but(&self.uid);
        let pressed = self.shared.parts.admission.admit(&view.pod);
        let refused = pressed
            .map_err(|(reason, message)| next::Evict {
                reason: reason.to_owned(),
                message,
            })
            .and_then(|()| admit::admit(&view.pod, &others, &of_node));
        let Some(entry) = registry.entries.get_mut(&self.uid) else {
            return false;
        };
        let Err(why) = refused else {
            entry.admitted = true;
            return true;
        };
        let mut status = status::rejected(&view.pod, &why);
        status::finish(&mut status, &view.old, &view.pod, &time::now());
        entry.status = Some(status);
        entry.stage = entry.stage.max(Stage::Terminated);
        entry.ended.send_replace(true);
        drop(registry);
        let reason = [("reason", why.reason.clone())];
        let rejected = &self.shared.metrics.rejected_pods;
        rejected.get_or_create(&reason).inc();
        self.warn(&view.pod, &why.reason, &why.message);
        self.shared.writes.add(self.uid.clone());
        false
    }

    /// What the runtime has of the pod. Running containers are handed to the probes.
    async fn observe(&self, pod: &Arc<Pod>) -> Result<Seen, runtime::Error> {
        let runtime = &self.shared.parts.runtime;
        let of_pod = PodSandboxFilter {
            pod_uid: Some(self.uid.clone()),
            ..PodSandboxFilter::default()
        };
        let sandboxes = runtime.list_pod_sandboxes(of_pod).await?;
        let mut containers = Vec::new();
        for sandbox in &sandboxes {
            let inside = ContainerFilter {
                sandbox: Some(sandbox.id.clone()),
                ..ContainerFilter::default()
            };
            containers.extend(runtime.list_containers(inside).await?);
        }
        self.read_messages(&containers).await;
        let messages = self.memory.lock().messages.clone();
        let seen = Seen::new(sandboxes, containers, &messages);
        self.watch_health(pod, &seen);
        Ok(seen)
    }

    fn watch_health(&self, pod: &Arc<Pod>, seen: &Seen) {
        let probes = self.shared.probes();
        let ip = seen.ips().first().copied().or_else(|| self.host_ip(pod));
        for container in &seen.containers {
            let status = &container.status;
            match (status.state, status.started_at) {
                (ContainerState::Running, Some(at)) => {
                    probes.container_started(pod, &container.name, &status.id, at, ip);
                }
                (ContainerState::Exited, _) => probes.stop(&status.id),
                _ => {}
            }
        }
    }

    fn host_ip(&self, pod: &Pod) -> Option<std::net::IpAddr> {
        let facts = self.shared.facts();
        let first = facts.host_ips.first().copied();
        first.filter(|_| spec::is_host_network(spec::of(pod)))
    }

    fn decide(&self, view: &View, seen: &Seen) -> Next {
        let probes = self.shared.probes();
        let health = seen.running().map(|container| {
            let id = container.status.id.clone();
            let state = probes.state(&id);
            let health = Health {
                started: state.started,
                ready: state.ready,
                liveness_failed: state.liveness_failed.is_some(),
                startup_failed: state.startup_failed.is_some(),
            };
            (id, health)
        });
        let health: BTreeMap<_, _> = health.collect();
        let facts = self.shared.facts();
        let wanted = self.wanted(&view.pod, seen, &facts);
        let memory = self.memory.lock();
        next::next(&Ask {
            pod: &view.pod,
            stage: view.stage,
            seen,
            old: &view.old,
            health: &health,
            failures: &memory.failures,
            crashes: &memory.crashes,
            wanted: &wanted,
            evict: view.evict.as_ref(),
            host_ips: &facts.host_ips,
            now: SystemTime::now(),
            runtime: self.shared.parts.runtime.version().name,
        })
    }

    /// Resources that running containers are to have and do not: those of the specification, if
    /// they fit beside the other pods.
    fn wanted(
        &self,
        pod: &Pod,
        seen: &Seen,
        facts: &NodeFacts,
    ) -> BTreeMap<String, runtime::Resources> {
        let sidecars = spec::init_containers(spec::of(pod)).iter();
        let all = sidecars.filter(|c| spec::is_sidecar(c));
        let all = all.chain(&spec::of(pod).containers);
        let wanted: BTreeMap<_, _> = all
            .filter_map(|container| {
                let wanted = make::container_resources(pod, container, facts);
                let mut running = seen.running().filter(|c| c.name == container.name);
                resize::needed(container, running.next()?, &wanted)?;
                Some((container.name.clone(), wanted))
            })
            .collect();
        if wanted.is_empty() {
            return wanted;
        }
        let others = self.shared.registry.lock().admitted_but(&self.uid);
        match admit::fits(pod, &others, &sums::parsed(Some(&facts.allocatable))) {
            true => wanted,
            false => BTreeMap::new(),
        }
    }

    /// Makes a status known, to the rest of the kubelet and to the API server.
    fn publish(&self, view: &View, seen: &Arc<Seen>, mut status: PodStatus) {
        status::finish(&mut status, &view.old, &view.pod, &time::now());
        let mut registry = self.shared.registry.lock();
        let Some(entry) = registry.entries.get_mut(&self.uid) else {
            return;
        };
        entry.seen = seen.clone();
        let old = entry.status.as_ref();
        let changed = old.is_none_or(|old| !status::is_same(old, &status));
        if changed {
            let runs = status.phase.as_deref() == Some("Running");
            entry.status = Some(status);
            self.shared.writes.add(self.uid.clone());
            drop(registry);
            self.count_start(&view.pod, runs);
        }
    }

    fn count_start(&self, pod: &Pod, runs: bool) {
        let mut memory = self.memory.lock();
        if !runs || std::mem::replace(&mut memory.was_running, true) {
            return;
        }
        let Some(created) = &pod.metadata.creation_timestamp else {
            return;
        };
        let since = SystemTime::now().duration_since(time::system(created));
        if let Ok(took) = since.map(|took| took.as_secs_f64()) {
            self.shared.metrics.start_duration.observe(took);
        }
    }

    /// Only tells what is new, while something else is being done.
    async fn look(&self, view: &View) {
        if let Ok(seen) = self.observe(&view.pod).await {
            let next = self.decide(view, &seen);
            self.publish(view, &Arc::new(seen), next.status);
        }
    }

    /// Everything runs as it should: brings files up to date if something they are made of changed.
    async fn idle(&self, view: &View, again: Option<SystemTime>) -> Option<SystemTime> {
        self.memory.lock().retries.clear();
        let refreshed = self.refresh.swap(false, Ordering::AcqRel);
        if (refreshed || self.are_files_due(&view.pod))
            && let Err(failures) = self.set_up_volumes(&view.pod).await
        {
            self.tell_mount_failures(&view.pod, &failures);
        }
        again.into_iter().chain(self.files_due_at(&view.pod)).min()
    }

    /// Performs changes while news only change what is told.
    async fn sync(
        &self,
        view: &View,
        seen: &Arc<Seen>,
        sync: next::Sync,
        again: Option<SystemTime>,
    ) -> Step {
        let refreshed = self.refresh.swap(false, Ordering::AcqRel);
        let (sync, held) = {
            let mut memory = self.memory.lock();
            if refreshed || memory.retries.is_other(&view.pod) {
                memory.retries.clear();
            }
            let spec = spec::of(&view.pod);
            memory.retries.hold_back(spec, sync, SystemTime::now())
        };
        if sync.is_nothing() {
            let due = self.idle_files(view).await;
            return Step::Wait([again, held, due].into_iter().flatten().min());
        }
        let stop = CancellationToken::new();
        let mut silent = sync.replaces();
        let mut work = std::pin::pin!(self.perform(&view.pod, seen, sync, &stop));
        let mut silence = std::pin::pin!(tokio::time::sleep(SILENCE));
        loop {
            tokio::select! {
                biased;
                () = &mut work => return Step::Again,
                () = &mut silence, if silent => {
                    silent = false;
                    self.wake.notify_one();
                }
                () = self.wake.notified() => match self.view() {
                    Some(now) if now.stage == Stage::Running => {
                        if !silent {
                            self.look(&now).await;
                        }
                    }
                    _ => stop.cancel(),
                },
            }
        }
    }

    async fn idle_files(&self, view: &View) -> Option<SystemTime> {
        let is_made = self.memory.lock().volumes.is_made();
        if is_made
            && self.are_files_due(&view.pod)
            && let Err(failures) = self.set_up_volumes(&view.pod).await
        {
            self.tell_mount_failures(&view.pod, &failures);
        }
        self.files_due_at(&view.pod)
    }
}
