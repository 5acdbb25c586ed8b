//! What the rest of the kubelet knows of pods and asks for.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodCondition};

use super::next::{Evict, Stage};
use super::registry::Entry;
use super::worker::SNAPSHOT;
use super::{Shared, spec};
use crate::runtime::ContainerState;

/// Nothing holds the registry for so long, unless it holds it for ever.
const STUCK: Duration = Duration::from_millis(500);

/// The pods of this node; cheap to clone.
#[derive(Clone)]
pub struct Pods {
    shared: Arc<Shared>,
}

/// A container of a pod: the newest of its name.
#[derive(Clone, Debug)]
pub struct RunningContainer {
    pub id: String,
    pub sandbox: String,
    pub state: ContainerState,
    pub restart_count: u32,
    pub log_path: Option<PathBuf>,
    /// The log of the one before, if it is kept.
    pub previous_log_path: Option<PathBuf>,
    /// Its root file system in the image store.
    pub snapshot: Option<String>,
    pub tty: bool,
    pub stdin: bool,
}

impl Pods {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn entries<T>(&self, take: impl Fn(&Entry) -> Option<T>) -> Vec<T> {
        let registry = self.shared.registry.lock();
        registry.entries.values().filter_map(take).collect()
    }

    fn entry<T>(&self, uid: &str, take: impl Fn(&Entry) -> Option<T>) -> Option<T> {
        let registry = self.shared.registry.lock();
        if let Some(entry) = registry.entries.get(uid) {
            return take(entry);
        }
        // A mirror stands for its static pod.
        let mut mirrors = registry.mirrors.values();
        let mirror = mirrors.find(|mirror| spec::uid(mirror) == uid)?;
        take(registry.mirrored(mirror)?)
    }

    /// Whether pods can be worked on at all: everything passes by the registry, which nobody holds for
    /// longer than it takes to look something up.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn health(&self) -> Result<(), String> {
        match self.shared.registry.try_lock_for(STUCK) {
            Some(_) => Ok(()),
            None => Err(format!("no pod could be looked at for {STUCK:?}")),
        }
    }

    /// All pods, static ones too, with their statuses as last generated.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Pod>> {
        self.entries(|entry| Some(entry.current()))
    }

    /// Of several pods of a name, which there are while one replaces another, the newest.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let registry = self.shared.registry.lock();
        let named = |e: &&Entry| spec::name(&e.pod) == name && spec::namespace(&e.pod) == namespace;
        let found = registry.entries.values().filter(named);
        found.max_by_key(|entry| entry.number).map(Entry::current)
    }

    /// By the uid of the pod or of the object that mirrors it.
    #[must_use]
    pub fn by_uid(&self, uid: &str) -> Option<Arc<Pod>> {
        self.entry(uid, |entry| Some(entry.current()))
    }

    /// Pods that take resources of the node.
    #[must_use]
    pub fn active(&self) -> Vec<Arc<Pod>> {
        self.entries(|entry| entry.is_active().then(|| entry.current()))
    }

    /// Whether all containers of the pod have ended and its volumes are gone.
    #[must_use]
    pub fn is_finished(&self, uid: &str) -> bool {
        self.entry(uid, |entry| Some(entry.stage == Stage::Finished))
            .unwrap_or(true)
    }

    /// The newest container of this name in the pod.
    #[must_use]
    pub fn container(&self, uid: &str, name: &str) -> Option<RunningContainer> {
        self.entry(uid, |entry| {
            let mut all = entry.seen.containers.iter().filter(|c| c.name == name);
            let newest = all.next()?;
            Some(RunningContainer {
                id: newest.status.id.clone(),
                sandbox: newest.status.sandbox.clone(),
                state: newest.status.state,
                restart_count: newest.restarts,
                log_path: newest.status.log_path.clone(),
                previous_log_path: all.next().and_then(|c| c.status.log_path.clone()),
                snapshot: newest.status.annotations.get(SNAPSHOT).cloned(),
                tty: newest.status.tty,
                stdin: newest.status.stdin,
            })
        })
    }

    /// The pod's sandbox, while it has one.
    #[must_use]
    pub fn sandbox(&self, uid: &str) -> Option<String> {
        self.entry(uid, |entry| {
            entry.seen.ready_sandbox().map(|sandbox| sandbox.id.clone())
        })
    }

    /// Ends the pod as `Failed`, with a reason that people and controllers read and, if its end is
    /// not its own fault, the condition `DisruptionTarget`. Resolves once its containers have ended.
    pub fn evict(
        &self,
        uid: &str,
        reason: &str,
        message: &str,
        grace_seconds: Option<i64>,
        disruption: Option<PodCondition>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let ended = self.begin(uid, reason, message, grace_seconds, disruption);
        async move {
            if let Some(mut ended) = ended {
                // It fails only if the entry is gone, and then so are the containers.
                let _ = ended.wait_for(|ended| *ended).await;
            }
        }
    }

    fn begin(
        &self,
        uid: &str,
        reason: &str,
        message: &str,
        grace: Option<i64>,
        disruption: Option<PodCondition>,
    ) -> Option<tokio::sync::watch::Receiver<bool>> {
        let mut registry = self.shared.registry.lock();
        let entry = registry.entries.get_mut(uid)?;
        if entry.evict.is_none() && entry.stage == Stage::Running {
            entry.evict = Some(Evict {
                reason: reason.to_owned(),
                message: message.to_owned(),
            });
            if let Some(condition) = disruption {
                let told = entry.pod.status.clone();
                let status = entry.status.get_or_insert_with(|| told.unwrap_or_default());
                let conditions = status.conditions.get_or_insert_default();
                conditions.retain(|c| c.type_ != condition.type_);
                conditions.push(condition);
            }
        }
        entry.stage = entry.stage.max(Stage::Terminating);
        entry.shorten(grace);
        entry.wake.notify_one();
        Some(entry.ended.subscribe())
    }

    /// Something that the pod refers to changed: it looks at it again.
    pub fn refresh(&self, uid: &str) {
        let registry = self.shared.registry.lock();
        if let Some(entry) = registry.entries.get(uid) {
            let flag = &entry.refresh;
            flag.store(true, std::sync::atomic::Ordering::Release);
            entry.wake.notify_one();
        }
    }

    /// The pods' network became ready, or something else that all may wait for: what failed for the
    /// want of it is tried at once.
    pub fn wake_all(&self) {
        let registry = self.shared.registry.lock();
        for entry in registry.entries.values() {
            let flag = &entry.refresh;
            flag.store(true, std::sync::atomic::Ordering::Release);
            entry.wake.notify_one();
        }
    }
}
