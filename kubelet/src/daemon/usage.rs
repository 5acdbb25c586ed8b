//! What pods use, for those who have to choose among them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::container_manager::eviction::rank::{ContainerUsage, Disk, Usage};
use crate::container_manager::eviction::{Eviction, REASON, Tenants};
use crate::image::layer;
use crate::image::store::Store;
use crate::pod::Pods;
use crate::runtime::Runtime;

/// The pods of the node, with what they use of memory and disk.
pub(super) struct Neighbours {
    pub(super) pods: Pods,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) store: Arc<Store>,
    /// `/var/lib/kubelet`
    pub(super) root: PathBuf,
    /// `/var/log/pods`
    pub(super) logs: PathBuf,
}

/// Directories of a pod, and what they count for.
struct Places {
    volumes: Vec<(String, PathBuf)>,
    /// By name of the container: its snapshot, and its logs.
    containers: Vec<(String, String, PathBuf)>,
}

impl Tenants for Neighbours {
    fn active(&self) -> Vec<Arc<Pod>> {
        self.pods.active()
    }

    fn usage<'a>(&'a self, pod: &'a Pod, disk: bool) -> BoxFuture<'a, Option<Usage>> {
        async move {
            let uid = pod.metadata.uid.as_deref()?;
            let sandbox = self.pods.sandbox(uid)?;
            let stats = self.runtime.pod_sandbox_stats(&sandbox).await.ok()?;
            let mut usage = Usage {
                memory: stats.cgroup.memory.working_set,
                processes: stats.cgroup.pids,
                ..Usage::default()
            };
            let mut places = Places {
                volumes: volumes(&self.root.join("pods").join(uid), pod),
                containers: Vec::new(),
            };
            let logs = self.logs.join(log_dir(pod, uid));
            for container in stats.containers {
                let used = ContainerUsage {
                    memory: container.cgroup.memory.working_set,
                    ..ContainerUsage::default()
                };
                let own = logs.join(&container.name);
                usage.containers.insert(container.name.clone(), used);
                let known = self.pods.container(uid, &container.name);
                if let Some(snapshot) = known.and_then(|known| known.snapshot) {
                    places.containers.push((container.name, snapshot, own));
                }
            }
            if !disk {
                return Some(usage);
            }
            let store = Arc::clone(&self.store);
            let counted = tokio::task::spawn_blocking(move || count(&store, &places, usage)).await;
            counted.ok()
        }
        .boxed()
    }

    fn evict(&self, eviction: Eviction) -> BoxFuture<'_, ()> {
        let now = component::clock::now();
        let disruption = eviction.disruption.then(|| PodCondition {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
            reason: Some("TerminationByKubelet".to_owned()),
            message: Some(eviction.message.clone()),
            last_transition_time: Some(Time(now)),
            ..PodCondition::default()
        });
        let grace = Some(eviction.grace).filter(|grace| *grace >= 0);
        self.pods
            .evict(&eviction.uid, REASON, &eviction.message, grace, disruption)
            .boxed()
    }
}

/// Volumes that are local storage: empty directories on disk.
fn volumes(dir: &Path, pod: &Pod) -> Vec<(String, PathBuf)> {
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_ref());
    let on_disk = |v: &&k8s_openapi::api::core::v1::Volume| {
        let source = v.empty_dir.as_ref();
        source.is_some_and(|s| s.medium.as_deref().unwrap_or_default().is_empty())
    };
    let kind = dir.join("volumes").join("kubernetes.io~empty-dir");
    volumes
        .into_iter()
        .flatten()
        .filter(on_disk)
        .map(|v| (v.name.clone(), kind.join(&v.name)))
        .collect()
}

fn log_dir(pod: &Pod, uid: &str) -> String {
    let meta = &pod.metadata;
    let (namespace, name) = (
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    );
    format!("{namespace}_{name}_{uid}")
}

/// Walks the directories. Blocks.
fn count(store: &Store, places: &Places, mut usage: Usage) -> Usage {
    let add = |disk: &mut Disk, (bytes, inodes): (u64, u64)| {
        disk.bytes = disk.bytes.saturating_add(bytes);
        disk.inodes = disk.inodes.saturating_add(inodes);
        bytes
    };
    for (name, path) in &places.volumes {
        let used = layer::usage(path).unwrap_or_default();
        let bytes = add(&mut usage.disk, used);
        usage.volumes.insert(name.clone(), bytes);
    }
    for (name, snapshot, logs) in &places.containers {
        let layer = store.snapshot_usage(snapshot).unwrap_or_default();
        let logs = layer::usage(logs).unwrap_or_default();
        let (layer, logs) = (add(&mut usage.disk, layer), add(&mut usage.disk, logs));
        let container = usage.containers.entry(name.clone()).or_default();
        container.layer = Some(layer);
        container.logs = Some(logs);
    }
    usage
}
