//! The end of a pod: upstream's `SyncTerminatingPod` and `SyncTerminatedPod`, and what removes the
//! rest when its object is gone.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::{Step, Worker};
use crate::make;
use crate::pod::next::{Evict, Stage};
use crate::pod::registry::View;
use crate::pod::seen::Seen;
use crate::pod::{dispatch, spec, status};

/// Between tries to give up what the node holds.
const RETRY: Duration = Duration::from_secs(1);

impl Worker {
    fn advance(&self, to: Stage) {
        let mut registry = self.shared.registry.lock();
        if let Some(entry) = registry.entries.get_mut(&self.uid) {
            entry.stage = entry.stage.max(to);
            if to >= Stage::Terminated {
                entry.ended.send_replace(true);
            }
        }
        drop(registry);
        // Phases that were held back until now may be told.
        self.shared.writes.add(self.uid.clone());
    }

    /// The pod came to its end by itself, or its time is up.
    pub(super) fn terminate(&self, status: &PodStatus) {
        let mut registry = self.shared.registry.lock();
        let Some(entry) = registry.entries.get_mut(&self.uid) else {
            return;
        };
        entry.terminate();
        if entry.evict.is_none() && status.reason.as_deref() == Some("DeadlineExceeded") {
            let message = status.message.clone().unwrap_or_default();
            let reason = "DeadlineExceeded".to_owned();
            entry.evict = Some(Evict { reason, message });
            let pod = entry.pod.clone();
            drop(registry);
            let message = status.message.as_deref().unwrap_or_default();
            self.note(&pod, "DeadlineExceeded", message);
        }
    }

    /// Ends all containers and the sandbox.
    pub(super) async fn stop(&self, view: &View, seen: &Arc<Seen>) -> Step {
        let probes = self.shared.probes();
        probes.stop_liveness_and_startup(&self.uid);
        if !seen.is_at_rest() {
            let mut stop = std::pin::pin!(self.kill_pod(&view.pod, seen, Some(view.grace)));
            let stopped = loop {
                tokio::select! {
                    biased;
                    stopped = &mut stop => break stopped,
                    () = self.wake.notified() => {
                        let Some(now) = self.view() else { return Step::Again };
                        if now.grace < view.grace {
                            // Somebody wants it to end sooner.
                            return Step::Again;
                        }
                        self.look(&now).await;
                    }
                }
            };
            if stopped.is_err() {
                return Step::Wait(Some(SystemTime::now() + RETRY));
            }
            // What was made while the end began is ended too.
            match self.observe(&view.pod).await {
                Ok(seen) if seen.is_at_rest() => {}
                _ => return Step::Again,
            }
        }
        if let Err(err) = self.shared.parts.network.teardown(&self.uid).await {
            let error = component::supervisor::chain(&err);
            tracing::warn!(
                pod.uid = self.uid,
                error,
                "Cannot take a pod's network down"
            );
            return Step::Wait(Some(SystemTime::now() + RETRY));
        }
        probes.remove_pod(&self.uid);
        let Some(now) = self.view() else {
            return Step::Again;
        };
        let ended = View {
            stage: Stage::Terminated,
            ..now
        };
        self.look(&ended).await;
        self.advance(Stage::Terminated);
        Step::Again
    }

    /// Gives up what the node holds for a pod that has ended, then lets its object go.
    pub(super) async fn clean_up(&self, view: &View) -> Step {
        let parts = &self.shared.parts;
        if let Err(err) = parts.volumes.tear_down(&self.uid).await {
            let error = component::supervisor::chain(&err);
            tracing::warn!(
                pod.uid = self.uid,
                error,
                "Cannot take a pod's volumes down"
            );
            return Step::Wait(Some(SystemTime::now() + RETRY));
        }
        for volume in spec::of(&view.pod).volumes.iter().flatten() {
            if volume.image.is_some() {
                self.release(format!("{}.volume.{}", self.uid, volume.name))
                    .await;
            }
        }
        let cgroup = make::pod_cgroup(&view.pod, &self.shared.facts());
        if let Err(error) = parts.cgroups.remove_empty(&cgroup) {
            tracing::debug!(pod.uid = self.uid, %error, "The pod's cgroup stays for now");
        }
        {
            let mut registry = self.shared.registry.lock();
            if let Some(entry) = registry.entries.get_mut(&self.uid) {
                let told = entry.status.clone().unwrap_or_else(|| view.old.clone());
                entry.status = Some(status::finished(&told, &entry.pod));
            }
        }
        self.advance(Stage::Finished);
        Step::Again
    }

    /// Removes what is left of a pod whose object is gone: containers, logs, directories.
    pub(super) async fn leave(&self, pod: &Arc<Pod>) {
        while self.remove_rest(pod).await.is_err() {
            tokio::time::sleep(RETRY).await;
        }
        let again = {
            let mut registry = self.shared.registry.lock();
            let gone = registry.entries.remove(&self.uid);
            registry.wake_name(&spec::full_name(pod));
            gone.and_then(|entry| Some((entry.source, entry.again?)))
        };
        self.shared.mirrors.add(spec::full_name(pod));
        if let Some((source, pod)) = again {
            dispatch::offer(&self.shared, source, pod);
        }
    }

    async fn remove_rest(&self, pod: &Arc<Pod>) -> Result<(), super::sync::Failed> {
        let parts = &self.shared.parts;
        let seen = self.observe(pod).await;
        let seen = seen.map_err(|err| self.cannot("list containers", &err))?;
        let mut links = Vec::new();
        for container in &seen.containers {
            let (name, id) = (&container.name, &container.status.id);
            links.push(make::log_link(&parts.container_logs, pod, name, id));
            self.remove(container).await?;
        }
        for sandbox in &seen.sandboxes {
            let removed = parts.runtime.remove_pod_sandbox(&sandbox.id).await;
            removed.map_err(|err| self.cannot("remove a sandbox", &err))?;
        }
        let logs = make::log_dir(pod, &self.shared.facts());
        let work = move || {
            for link in links {
                let _ = std::fs::remove_file(link);
            }
            let _ = std::fs::remove_dir_all(logs);
        };
        let _ = tokio::task::spawn_blocking(work).await;
        let cgroup = make::pod_cgroup(pod, &self.shared.facts());
        let _ = parts.cgroups.remove_empty(&cgroup);
        let removed = parts.volumes.remove_pod_dir(&self.uid).await;
        removed.map_err(|err| {
            let error = component::supervisor::chain(&err);
            tracing::warn!(pod.uid = self.uid, error, "Cannot remove a pod's directory");
            super::sync::Failed
        })?;
        // Nothing belongs to the pod's users any more.
        parts.users.release(&self.uid);
        Ok(())
    }
}
