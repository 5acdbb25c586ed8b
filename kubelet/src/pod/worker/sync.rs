//! Performing what was decided for a running pod: upstream's `kuberuntime_manager.SyncPod`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::kill::How;
use super::retry::POD;
use super::start::Start;
use crate::make;
use crate::network::{Answer, Attachment, Status};
use crate::pod::next::{self, Kill, Waiting};
use crate::pod::seen::Seen;
use crate::pod::spec::{self, Kind};
use crate::runtime::sandbox::UserNamespace;
use crate::runtime::{ContainerState, Network, PodSandboxState, Resources};
use crate::volume::PodVolumes;

/// Something failed that was told already: later is another try.
pub(super) struct Failed;

impl Worker {
    pub(super) async fn perform(
        &self,
        pod: &Arc<Pod>,
        seen: &Arc<Seen>,
        sync: next::Sync,
        stop: &CancellationToken,
    ) {
        let done = self.perform_all(pod, seen, sync, stop).await;
        let mut memory = self.memory.lock();
        match done {
            Ok(()) => memory.retries.succeeded(POD),
            Err(Failed) => {
                component::tracing::failed("its events say why");
                memory.retries.failed(POD, SystemTime::now());
            }
        }
    }

    async fn perform_all(
        &self,
        pod: &Arc<Pod>,
        seen: &Arc<Seen>,
        sync: next::Sync,
        stop: &CancellationToken,
    ) -> Result<(), Failed> {
        if sync.sandbox.is_some() && !seen.sandboxes.is_empty() {
            self.note(
                pod,
                "SandboxChanged",
                "Pod sandbox changed, it will be killed and re-created.",
            );
        }
        if sync.kill_pod {
            let killed = stop
                .run_until_cancelled(self.kill_pod(pod, seen, None))
                .await;
            killed.unwrap_or(Ok(()))?;
            if sync.sandbox.is_none() {
                return Ok(());
            }
        } else {
            let killed = stop
                .run_until_cancelled(self.kill_some(pod, seen, &sync.kill))
                .await;
            killed.unwrap_or(Ok(()))?;
            self.reset(pod, seen, &sync.reset).await?;
            self.resize(pod, seen, &sync.resize).await?;
        }
        if stop.is_cancelled() || (sync.sandbox.is_none() && sync.start.is_empty()) {
            return Ok(());
        }
        let volumes = match stop.run_until_cancelled(self.set_up_volumes(pod)).await {
            None => return Ok(()),
            Some(Ok(volumes)) => volumes,
            Some(Err(failures)) => {
                self.tell_mount_failures(pod, &failures);
                return Err(Failed);
            }
        };
        if let Some(attempt) = sync.sandbox {
            self.make_sandbox(pod, seen, attempt).await?;
        }
        let seen = Arc::new(self.observe(pod).await.map_err(|_| Failed)?);
        self.start_all(pod, &seen, &volumes, &sync.start, stop)
            .await;
        self.prune(pod).await;
        Ok(())
    }

    /// Ends all containers, then the sandboxes.
    pub(super) async fn kill_pod(
        &self,
        pod: &Arc<Pod>,
        seen: &Seen,
        grace: Option<i64>,
    ) -> Result<(), Failed> {
        let killed = self.kill_all(pod, seen, grace).await;
        let stopped = match killed {
            Ok(()) => self.stop_sandboxes(seen).await,
            Err(err) => Err(component::supervisor::chain(&err)),
        };
        stopped.map_err(|error| {
            self.warn(pod, "FailedKillPod", &format!("error killing pod: {error}"));
            Failed
        })
    }

    async fn stop_sandboxes(&self, seen: &Seen) -> Result<(), String> {
        let parts = &self.shared.parts;
        if seen
            .sandboxes
            .iter()
            .any(|s| s.config.network != Network::Node)
        {
            let down = parts.network.teardown(&self.uid).await;
            down.map_err(|err| component::supervisor::chain(&err))?;
        }
        let ready = seen
            .sandboxes
            .iter()
            .filter(|s| s.state == PodSandboxState::Ready);
        let stops = ready.map(|sandbox| parts.runtime.stop_pod_sandbox(&sandbox.id));
        for stopped in join_all(stops).await {
            match stopped {
                Err(err) if err.is_not_found() => {}
                stopped => stopped.map_err(|err| component::supervisor::chain(&err))?,
            }
        }
        Ok(())
    }

    async fn kill_some(&self, pod: &Pod, seen: &Seen, kills: &[Kill]) -> Result<(), Failed> {
        let kills = kills.iter().filter_map(|kill| {
            let container = seen.containers.iter().find(|c| c.status.id == kill.id)?;
            let how = How {
                why: kill.why,
                message: &kill.message,
                grace: None,
                order: None,
                pod_ip: seen.ips().first().copied().or_else(|| self.host_ip(pod)),
            };
            Some(self.kill(pod, container, how))
        });
        let killed: Result<(), _> = join_all(kills).await.into_iter().collect();
        killed.map_err(|err| self.cannot("end a container", &err))
    }

    /// Removes containers before all start anew.
    async fn reset(&self, pod: &Pod, seen: &Seen, reset: &[(String, bool)]) -> Result<(), Failed> {
        for (id, kill) in reset {
            let Some(container) = seen.containers.iter().find(|c| c.status.id == *id) else {
                continue;
            };
            if *kill {
                let how = How {
                    why: next::Why::Other,
                    message: "killing",
                    grace: Some(0),
                    order: None,
                    pod_ip: None,
                };
                let killed = self.kill(pod, container, how).await;
                killed.map_err(|err| self.cannot("end a container", &err))?;
            }
            self.remove(container).await?;
        }
        Ok(())
    }

    /// Changes the resources of running containers, and of the pod around them.
    async fn resize(
        &self,
        pod: &Pod,
        seen: &Seen,
        resize: &[(String, Resources)],
    ) -> Result<(), Failed> {
        let (Some(sandbox), false) = (seen.ready_sandbox(), resize.is_empty()) else {
            return Ok(());
        };
        let runtime = &self.shared.parts.runtime;
        let of_pod = make::pod_resources(pod, &self.shared.facts());
        // What grows needs room in the pod first; what shrinks has to be small before the pod is.
        let grown = runtime.update_pod_sandbox_resources(&sandbox.id, of_pod.clone());
        if let Err(err) = grown.await {
            tracing::debug!(pod.uid = self.uid, error = %err, "The pod shrinks after its containers");
        }
        for (id, to) in resize {
            let resized = runtime.update_container_resources(id, to.clone()).await;
            resized.map_err(|err| self.cannot("resize a container", &err))?;
        }
        let shrunk = runtime.update_pod_sandbox_resources(&sandbox.id, of_pod);
        shrunk
            .await
            .map_err(|err| self.cannot("resize a pod", &err))
    }

    pub(super) fn cannot(&self, what: &str, err: &crate::runtime::Error) -> Failed {
        let error = component::supervisor::chain(err);
        tracing::warn!(pod.uid = self.uid, error, "Cannot {what}");
        Failed
    }

    async fn make_sandbox(&self, pod: &Arc<Pod>, seen: &Seen, attempt: u32) -> Result<(), Failed> {
        let host = spec::is_host_network(spec::of(pod));
        let parts = &self.shared.parts;
        if let (false, Status::NotReady { reason, message }) = (host, parts.network.status()) {
            let message = format!(
                "network is not ready: container runtime network not ready: NetworkReady=false \
                 reason:{reason} message:{message}"
            );
            self.warn(pod, "NetworkNotReady", &message);
            return Err(Failed);
        }
        self.shared.metrics.started_pods.inc();
        if let Err(error) = self.try_sandbox(pod, seen, attempt).await {
            self.shared.metrics.started_pods_errors.inc();
            let message = format!("Failed to create pod sandbox: {error}");
            self.warn(pod, "FailedCreatePodSandBox", &message);
            if !host {
                let _ = parts.network.teardown(&self.uid).await;
            }
            return Err(Failed);
        }
        Ok(())
    }

    async fn try_sandbox(&self, pod: &Pod, seen: &Seen, attempt: u32) -> Result<(), String> {
        let parts = &self.shared.parts;
        let facts = self.shared.facts();
        let user = self.users(pod).await?;
        let (mut network, mut ips) = (Network::Node, Vec::new());
        if !spec::is_host_network(spec::of(pod)) {
            if !seen.sandboxes.is_empty() {
                text(parts.network.teardown(&self.uid)).await?;
            }
            let wanted = make::network(pod, user.as_ref()).map_err(|err| err.to_string())?;
            let attached: Attachment = text(parts.network.setup(wanted)).await?;
            network = Network::Path(attached.netns);
            ips = attached.ips;
        }
        let config = make::sandbox(pod, &facts, network, user, ips, attempt);
        let config = config.map_err(|err| err.to_string())?;
        let _permit = self.shared.starts.acquire().await;
        let made = parts.runtime.run_pod_sandbox(config).await;
        made.map(drop)
            .map_err(|err| component::supervisor::chain(&err))
    }

    /// The ids of a pod with users of its own.
    pub(super) async fn users(&self, pod: &Pod) -> Result<Option<UserNamespace>, String> {
        if spec::of(pod).host_users != Some(false) {
            return Ok(None);
        }
        let (users, uid) = (Arc::clone(&self.shared.parts.users), self.uid.clone());
        let given = tokio::task::spawn_blocking(move || users.of(&uid)).await;
        let given = given.map_err(|_| "the kubelet is shutting down".to_owned())?;
        given.map(Some).map_err(|err| {
            let error = component::supervisor::chain(&err);
            format!("create user namespace: {error}")
        })
    }

    /// Starts containers one after the other. An init container that fails holds up those after it;
    /// a sidecar and a main container do not.
    async fn start_all(
        &self,
        pod: &Arc<Pod>,
        seen: &Arc<Seen>,
        volumes: &PodVolumes,
        starts: &[(Kind, String)],
        stop: &CancellationToken,
    ) {
        let Some(sandbox) = seen.ready_sandbox() else {
            return;
        };
        let mut ips = seen.ips().to_vec();
        if ips.is_empty() {
            ips.extend(self.host_ip(pod));
        }
        for (kind, name) in starts {
            let Some((_, container)) = spec::container(spec::of(pod), name) else {
                continue;
            };
            if stop.is_cancelled() {
                return;
            }
            let start = Start {
                pod,
                kind: *kind,
                container: &container,
                seen,
                sandbox: &sandbox.id,
                ips: &ips,
                volumes,
                stop,
            };
            let started = self.start(&start).await;
            let failed = started.is_err();
            self.started(&start, started.err());
            if failed && *kind == Kind::Init && !spec::is_sidecar(&container) {
                return;
            }
            if let (true, Some(view)) = (starts.len() > 1, self.view()) {
                self.look(&view).await;
            }
        }
    }

    /// Remembers how a start went.
    fn started(&self, start: &Start<'_>, failure: Option<Waiting>) {
        let name = &start.container.name;
        let now = SystemTime::now();
        let again = failure.as_ref().map(|_| self.images_again(start.container));
        let mut memory = self.memory.lock();
        let Some(failure) = failure else {
            memory.failures.remove(name);
            memory.retries.succeeded(name);
            return;
        };
        if start.stop.is_cancelled() {
            return;
        }
        match again.flatten() {
            Some(until) => memory.retries.failed_until(name, until),
            None => memory.retries.failed(name, now),
        }
        let labels = [
            ("container_type", start.kind.metric().to_owned()),
            ("code", failure.reason.clone()),
        ];
        let errors = &self.shared.metrics.started_containers_errors;
        errors.get_or_create(&labels).inc();
        memory.failures.insert(name.clone(), failure);
    }

    /// Removes what is kept no longer: of each name the newest container stays, and as many before it
    /// as the node keeps, for their logs and ends; of sandboxes those that have containers.
    async fn prune(&self, pod: &Arc<Pod>) {
        let Ok(seen) = self.observe(pod).await else {
            return;
        };
        let spec = spec::of(pod);
        let keep = &self.shared.parts.dead_containers;
        let mut kept: BTreeMap<&str, usize> = BTreeMap::new();
        for container in &seen.containers {
            let count = kept.entry(&container.name).or_default();
            *count += 1;
            let init = spec::init_containers(spec)
                .iter()
                .any(|c| c.name == container.name);
            let running = container.is(ContainerState::Running);
            let before = match usize::try_from(keep.per_container) {
                _ if init => 0,
                Ok(before) => before,
                Err(_) => continue,
            };
            let age = container.status.created_at.elapsed().unwrap_or_default();
            if *count > before.saturating_add(1) && !running && age >= keep.min_age {
                let _ = self.remove(container).await;
            }
        }
        for sandbox in seen.sandboxes.iter().skip(1) {
            let used = seen
                .containers
                .iter()
                .any(|c| c.status.sandbox == sandbox.id);
            if !used && sandbox.state == PodSandboxState::NotReady {
                let removed = self
                    .shared
                    .parts
                    .runtime
                    .remove_pod_sandbox(&sandbox.id)
                    .await;
                if let Err(err) = removed {
                    self.cannot("remove a sandbox", &err);
                }
            }
        }
    }
}

async fn text<T>(answer: Answer<'_, T>) -> Result<T, String> {
    answer
        .await
        .map_err(|err| component::supervisor::chain(&err))
}
