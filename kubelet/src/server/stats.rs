//! What pods and the node use: the summary API, and what metrics are made of.
//!
//! Owns the collecting. Counters are read when they are asked for; only what is dear is remembered: disk
//! usage for a minute, and a sample of CPU time per cgroup, for rates.

mod disk;
mod node;
mod rate;
pub mod summary;
pub(crate) mod volumes;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use component::supervisor::chain;
use futures::stream::{self, StreamExt};
use k8s_openapi::api::core::v1::Pod;

use self::disk::{Disks, Usage};
use self::rate::Rates;
use self::summary::{
    ContainerStats, CpuStats, FsStats, IoStats, MemoryStats, NetworkStats, NodeStats, PodReference,
    PodStats, ProcessStats, RuntimeStats, Summary, SwapStats, Time,
};
use super::Source;
use crate::runtime::cgroup::Hierarchies;
use crate::runtime::sandbox::PodSandboxStatus;
use crate::runtime::stats::{CgroupStats, PodSandboxStats};
use crate::runtime::{
    ContainerFilter, ContainerState, ContainerStatus, PodSandboxFilter, PodSandboxState, Runtime,
};

/// Pods whose counters are read at once.
const AT_ONCE: usize = 8;

/// Where things are.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) node_name: String,
    /// `/var/lib/kubelet`
    pub(super) root_dir: PathBuf,
    pub(super) image_dir: PathBuf,
    pub(super) pod_logs: PathBuf,
    /// The cgroup of all pods, such as `/kubepods`.
    pub(super) pods_cgroup: String,
}

/// The collector.
pub(super) struct Stats {
    runtime: Arc<dyn Runtime>,
    pods: Arc<dyn Source>,
    cgroups: Option<Hierarchies>,
    places: Places,
    rates: Rates,
    disks: Arc<Disks>,
    started: SystemTime,
}

/// A running pod and its counters.
pub(super) struct Seen {
    pub(super) sandbox: PodSandboxStatus,
    pub(super) stats: PodSandboxStats,
    pub(super) containers: Vec<(ContainerStatus, crate::runtime::ContainerStats)>,
}

/// How much of the summary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Detail {
    CpuAndMemory,
    All,
}

/// Why there is no summary.
#[derive(thiserror::Error, Debug)]
pub(super) enum Error {
    #[error("failed to get root cgroup stats: {0}")]
    Root(String),
    #[error("failed to get rootFs stats: {0}")]
    RootFs(String),
    #[error("failed to list pod stats: {0}")]
    Pods(String),
}

impl Stats {
    pub(super) fn new(runtime: Arc<dyn Runtime>, pods: Arc<dyn Source>, places: Places) -> Self {
        let cgroups = Hierarchies::detect()
            .inspect_err(|error| tracing::warn!(error = %error, "No statistics of the node"))
            .ok();
        Self {
            runtime,
            pods,
            cgroups,
            places,
            rates: Rates::default(),
            disks: Arc::default(),
            started: SystemTime::now(),
        }
    }

    /// All running pods, in the order of their names.
    pub(super) async fn seen(&self) -> Result<Vec<Seen>, Error> {
        let failed = |error: crate::runtime::Error| Error::Pods(chain(&error));
        let ready = PodSandboxFilter {
            state: Some(PodSandboxState::Ready),
            ..Default::default()
        };
        let running = ContainerFilter {
            state: Some(ContainerState::Running),
            ..Default::default()
        };
        let sandboxes = self
            .runtime
            .list_pod_sandboxes(ready)
            .await
            .map_err(failed)?;
        let containers = self
            .runtime
            .list_containers(running)
            .await
            .map_err(failed)?;
        let containers: HashMap<_, _> = containers.into_iter().map(|c| (c.id.clone(), c)).collect();
        let one = async |sandbox: PodSandboxStatus| {
            // A pod that ended just now has nothing to say.
            let stats = self.runtime.pod_sandbox_stats(&sandbox.id).await.ok()?;
            let with_status = |stats: &crate::runtime::ContainerStats| {
                Some((containers.get(&stats.id)?.clone(), stats.clone()))
            };
            let containers = stats.containers.iter().filter_map(with_status).collect();
            Some(Seen {
                sandbox,
                stats,
                containers,
            })
        };
        let mut seen: Vec<Seen> = stream::iter(sandboxes)
            .map(one)
            .buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await;
        let name = |seen: &Seen| {
            let metadata = &seen.sandbox.config.metadata;
            (metadata.namespace.clone(), metadata.name.clone())
        };
        seen.sort_by_key(name);
        Ok(seen)
    }

    /// Counters of the whole node.
    pub(super) fn root(&self) -> Result<CgroupStats, Error> {
        let none = || Error::Root("no cgroups".to_owned());
        let cgroups = self.cgroups.as_ref().ok_or_else(none)?;
        node::root(cgroups).map_err(|error| Error::Root(chain(&error)))
    }

    /// Memory and swap of the machine, bytes.
    pub(super) fn machine() -> (u64, u64) {
        node::machine()
    }

    pub(super) async fn summary(&self, detail: Detail) -> Result<Summary, Error> {
        let seen = self.seen().await?;
        let mut pods = Vec::with_capacity(seen.len());
        for pod in &seen {
            pods.push(self.pod(pod, detail).await);
        }
        let node = self.node(detail).await?;
        Ok(Summary { node, pods })
    }

    async fn node(&self, detail: Detail) -> Result<NodeStats, Error> {
        let root = self.root()?;
        let all = detail == Detail::All;
        let mut swap = SwapStats::of(&root);
        swap.swap_available_bytes = Some(node::swap_free());
        let (fs, runtime) = if all {
            let (fs, images) = self.file_systems().await?;
            let runtime = RuntimeStats {
                container_fs: Some(images.clone()),
                image_fs: Some(images),
            };
            (Some(fs), Some(runtime))
        } else {
            (None, None)
        };
        Ok(NodeStats {
            node_name: self.places.node_name.clone(),
            system_containers: self.system_containers(),
            start_time: Time(node::boot_time()),
            cpu: Some(CpuStats::of(&root, self.rates.of("/", &root))),
            memory: Some(MemoryStats::of(&root)),
            io: IoStats::of(&root).filter(|_| all),
            network: NetworkStats::of(&node::interfaces(), root.at).filter(|_| all),
            fs,
            runtime,
            rlimit: node::processes().filter(|_| all),
            swap: Some(swap),
        })
    }

    /// The kubelet itself and all pods together.
    fn system_containers(&self) -> Vec<ContainerStats> {
        let Some(cgroups) = &self.cgroups else {
            return Vec::new();
        };
        let own = node::own_cgroup();
        let of = |(name, cgroup): (&str, Option<String>)| {
            let cgroup = cgroup?;
            let stats = cgroups.stats(&cgroup).ok()?;
            let start = match name {
                "kubelet" => Time(self.started),
                _ => Time(node::boot_time()),
            };
            let rate = self.rates.of(&cgroup, &stats);
            Some(container_of(name, start, &stats, rate))
        };
        [
            ("kubelet", own),
            ("pods", Some(self.places.pods_cgroup.clone())),
        ]
        .into_iter()
        .filter_map(of)
        .collect()
    }

    /// The node's and the images' file systems.
    async fn file_systems(&self) -> Result<(FsStats, FsStats), Error> {
        let (root, images) = (self.places.root_dir.clone(), self.places.image_dir.clone());
        let disks = Arc::clone(&self.disks);
        blocking(move || {
            let failed = |error: std::io::Error| Error::RootFs(error.to_string());
            let fs = disk::file_system(&root, None).map_err(failed)?;
            let images = if images.exists() {
                disk::file_system(&images, Some(disks.usage(&images))).map_err(failed)?
            } else {
                fs.clone()
            };
            Ok((fs, images))
        })
        .await
        .unwrap_or_else(|| Err(Error::RootFs("interrupted".to_owned())))
    }

    async fn pod(&self, seen: &Seen, detail: Detail) -> PodStats {
        let metadata = &seen.sandbox.config.metadata;
        let cgroup = &seen.stats.cgroup;
        let all = detail == Detail::All;
        let mut containers: Vec<ContainerStats> = seen
            .containers
            .iter()
            .map(|(status, stats)| {
                let start = Time(status.started_at.unwrap_or(status.created_at));
                let rate = self.rates.of(&stats.id, &stats.cgroup);
                container_of(container_name(status), start, &stats.cgroup, rate)
            })
            .collect();
        let mut pod = PodStats {
            pod_ref: PodReference {
                name: metadata.name.clone(),
                namespace: metadata.namespace.clone(),
                uid: metadata.uid.clone(),
            },
            start_time: Time(seen.sandbox.created_at),
            containers: Vec::new(),
            cpu: CpuStats::of(cgroup, self.rates.of(&seen.sandbox.id, cgroup)),
            memory: MemoryStats::of(cgroup),
            io: IoStats::of(cgroup).filter(|_| all),
            network: NetworkStats::of(&seen.stats.interfaces, cgroup.at).filter(|_| all),
            volumes: Vec::new(),
            ephemeral_storage: None,
            process_stats: ProcessStats {
                process_count: cgroup.pids,
            },
            swap: SwapStats::of(cgroup),
        };
        if all {
            self.add_disks(seen, &mut pod, &mut containers).await;
        }
        pod.containers = containers;
        pod
    }

    /// Root file systems, logs and volumes, and what they are together.
    async fn add_disks(&self, seen: &Seen, pod: &mut PodStats, containers: &mut [ContainerStats]) {
        let disks = Arc::clone(&self.disks);
        let places = self.places.clone();
        let spec = self.pods.by_uid(&pod.pod_ref.uid);
        let reference = pod.pod_ref.clone();
        let statuses: Vec<ContainerStatus> = seen
            .containers
            .iter()
            .map(|(status, _)| status.clone())
            .collect();
        let counted =
            blocking(move || count(&disks, &places, &reference, spec.as_deref(), &statuses));
        let Some(counted) = counted.await else { return };
        for (container, (rootfs, logs)) in containers.iter_mut().zip(counted.containers) {
            container.rootfs = rootfs;
            container.logs = logs;
        }
        pod.volumes = counted.volumes;
        pod.ephemeral_storage = counted.ephemeral;
    }
}

/// The disks of a pod.
struct Counted {
    /// Root file system and logs.
    containers: Vec<(Option<FsStats>, Option<FsStats>)>,
    volumes: Vec<summary::VolumeStats>,
    ephemeral: Option<FsStats>,
}

fn count(
    disks: &Disks,
    places: &Places,
    pod: &PodReference,
    spec: Option<&Pod>,
    containers: &[ContainerStatus],
) -> Counted {
    let mut ephemeral = Usage::default();
    let of_container = |status: &ContainerStatus| {
        let upper = status.pid.and_then(volumes::writable_layer);
        let rootfs = upper.map_or_else(Usage::default, |upper| disks.usage(&upper));
        let log_dir = status.log_path.as_deref().and_then(Path::parent);
        let logs = log_dir.map_or_else(Usage::default, |dir| disks.usage(dir));
        (rootfs, logs)
    };
    let containers = containers
        .iter()
        .map(|status| {
            let (rootfs, logs) = of_container(status);
            ephemeral = ephemeral + rootfs + logs;
            (
                disk::file_system(&places.image_dir, Some(rootfs))
                    .or_else(|_| disk::file_system(&places.root_dir, Some(rootfs)))
                    .ok(),
                disk::file_system(&places.pod_logs, Some(logs))
                    .or_else(|_| disk::file_system(&places.root_dir, Some(logs)))
                    .ok(),
            )
        })
        .collect();
    let volumes = volumes::of_pod(disks, &places.root_dir, pod, spec);
    for volume in volumes.iter().filter(|volume| volume.ephemeral) {
        ephemeral = ephemeral
            + Usage {
                bytes: volume.stats.fs.used_bytes,
                inodes: volume.stats.fs.inodes_used,
            };
    }
    Counted {
        containers,
        volumes: volumes.into_iter().map(|volume| volume.stats).collect(),
        ephemeral: disk::file_system(&places.root_dir, Some(ephemeral)).ok(),
    }
}

/// Work that waits for disks; none if it panicked.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

fn container_of(
    name: &str,
    start_time: Time,
    stats: &CgroupStats,
    rate: Option<u64>,
) -> ContainerStats {
    ContainerStats {
        name: name.to_owned(),
        start_time,
        cpu: CpuStats::of(stats, rate),
        memory: MemoryStats::of(stats),
        io: IoStats::of(stats),
        rootfs: None,
        logs: None,
        swap: Some(SwapStats::of(stats)),
    }
}

/// A container's name in its pod.
pub(super) fn container_name(status: &ContainerStatus) -> &str {
    status
        .labels
        .get(super::labels::CONTAINER_NAME)
        .unwrap_or(&status.metadata.name)
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}
