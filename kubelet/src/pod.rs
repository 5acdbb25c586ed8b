//! The pods of this node: from what is to run to what runs, and what is told of it.
//!
//! ```text
//! sources ─┬─> registry ──> one worker per pod ──> runtime, images, volumes, network
//!          │                  │   ^ exits, probe results, changes of objects: pushed
//!          └─> mirror pods    └─> status writer ──> API server
//! ```
//!
//! Owns: which pods are the node's ([`registry`], [`source`], [`mirror`]); whether it takes them
//! ([`admit`]); what is done for each ([`next`], the decision, and [`worker`], the deed); their
//! statuses ([`status`], [`writer`]).
//!
//! Invariants: what is decided depends on the specification, on what the runtime has and on the time
//! alone, so a kubelet that was killed goes on where it was; containers that run as they should are
//! not touched; nothing is told that was not seen; a pod's object goes only after its containers,
//! volumes and network.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use component::client::Client;
use component::events::Recorder;
use component::informer::{Informer, Informers, Lister, Selection};
use component::metrics::Metrics;
use component::queue::{Queue, Retry};
use component::supervisor::{Supervisor, Task};
use component::tracing::Tracer;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::config::ContainerCollection;
use crate::container_manager::eviction::Admission;
use crate::hook::Hooks;
use crate::image::auth::Keyring;
use crate::image::ensure::Images;
use crate::image::store::Store;
use crate::make::NodeFacts;
use crate::network::PodNetwork;
use crate::probe::Probes;
use crate::runtime::cgroup::Hierarchies;
use crate::runtime::{ContainerFilter, ContainerState, EventKind, PodSandboxFilter, Runtime};
use crate::volume::{Objects, Volumes};

mod admit;
mod crash;
mod dispatch;
mod handle;
mod metrics;
mod mirror;
mod next;
mod recover;
mod registry;
mod resize;
mod restart;
mod seen;
pub(crate) mod source;
mod spec;
mod status;
mod time;
pub mod users;
mod worker;
mod writer;

pub use admit::sysctl::Allowlist;
pub use crash::Limits as CrashLimits;
pub use handle::{Pods, RunningContainer};
pub use source::url::Url as ManifestUrl;
pub use users::Users;

use registry::Registry;

/// Containers that are being made at once: making one is a few milliseconds of work for a processor
/// or two.
const STARTS: usize = 16;

/// Statuses that are being written at once.
const WRITERS: usize = 8;

/// What pods are made with.
pub struct Parts {
    /// The API server; none for a node that runs static pods alone.
    pub client: Option<Client>,
    /// The informers of that client.
    pub informers: Option<Informers>,
    pub recorder: Recorder,
    pub runtime: Arc<dyn Runtime>,
    pub images: Arc<Images>,
    pub store: Arc<Store>,
    /// The node's own credentials for registries.
    pub keyring: Keyring,
    pub volumes: Arc<Volumes>,
    /// Ids for pods with `hostUsers: false`.
    pub users: Arc<Users>,
    pub network: Arc<dyn PodNetwork>,
    pub objects: Arc<dyn Objects>,
    pub facts: watch::Receiver<Arc<NodeFacts>>,
    pub cgroups: Hierarchies,
    /// `/var/lib/kubelet`
    pub root: PathBuf,
    /// `/var/log/containers`
    pub container_logs: PathBuf,
    /// `staticPodPath`
    pub static_pods: Option<PathBuf>,
    /// `staticPodURL`
    pub manifest_url: Option<ManifestUrl>,
    pub sysctls: Allowlist,
    /// Refuses pods while the node is short of something.
    pub admission: Admission,
    pub crash_limits: CrashLimits,
    /// Which ended containers are kept.
    pub dead_containers: ContainerCollection,
    pub tasks: Supervisor,
    pub metrics: Metrics,
    /// Of probes, which are served apart.
    pub probe_metrics: Metrics,
    pub tracer: Tracer,
}

/// What everything in this module works on.
pub(crate) struct Shared {
    parts: Parts,
    registry: Mutex<Registry>,
    /// Pods of the API server for this node, and the node.
    api: Option<Api>,
    probes: std::sync::OnceLock<Probes>,
    hooks: Hooks,
    /// Uids of pods whose status is to be written.
    writes: Queue<String>,
    /// Full names of pods whose mirror is to be looked at.
    mirrors: Queue<String>,
    starts: Semaphore,
    /// Held while pods arrive.
    arrivals: tokio::sync::Mutex<()>,
    /// Cancelled once every static source has told its pods.
    statics_heard: CancellationToken,
    metrics: metrics::Counts,
}

struct Api {
    client: Client,
    pods: Informer<Pod>,
    node: Informer<Node>,
    services: Informer<Service>,
}

impl Api {
    fn new(client: Client, informers: &Informers, node: &str) -> Self {
        Self {
            client,
            pods: informers.select(Selection::fields(&format!("spec.nodeName={node}"))),
            node: informers.select(Selection::fields(&format!("metadata.name={node}"))),
            services: informers.of(),
        }
    }

    fn pods(&self) -> Lister<Pod> {
        self.pods.lister()
    }
}

impl Shared {
    fn facts(&self) -> Arc<NodeFacts> {
        self.parts.facts.borrow().clone()
    }

    fn probes(&self) -> &Probes {
        self.probes
            .get()
            .expect("probes are made before the first worker")
    }

    /// The node's object, as far as the API server has told it.
    fn node(&self) -> Option<Arc<Node>> {
        let name = self.facts().name.clone();
        self.api.as_ref()?.node.lister().get("", &name)
    }

    fn wake(&self, uid: &str) {
        if let Some(entry) = self.registry.lock().entries.get(uid) {
            entry.wake.notify_one();
        }
    }
}

/// Starts to run the node's pods. The informers need not have synced.
pub fn start(parts: Parts) -> Pods {
    let node = parts.facts.borrow().name.clone();
    let api = match (&parts.client, &parts.informers) {
        (Some(client), Some(informers)) => Some(Api::new(client.clone(), informers, &node)),
        _ => None,
    };
    let retry = Retry {
        first: Duration::from_millis(100),
        most: Duration::from_secs(10),
        ..Retry::default()
    };
    let shared = Arc::new(Shared {
        registry: Mutex::default(),
        api,
        probes: std::sync::OnceLock::new(),
        hooks: Hooks::new(parts.recorder.clone(), &parts.metrics),
        writes: Queue::with_retry("pod_status", &parts.metrics, retry.clone()),
        mirrors: Queue::with_retry("mirror_pods", &parts.metrics, retry),
        starts: Semaphore::new(STARTS),
        arrivals: tokio::sync::Mutex::default(),
        statics_heard: CancellationToken::new(),
        metrics: metrics::Counts::register(&parts.metrics),
        parts,
    });
    let changed = Arc::downgrade(&shared);
    let probes = Probes::new(
        shared.parts.runtime.clone(),
        shared.parts.recorder.clone(),
        shared.parts.tasks.clone(),
        &shared.parts.probe_metrics,
        move |uid: &str| {
            if let Some(shared) = changed.upgrade() {
                shared.wake(uid);
            }
        },
    );
    let _ = shared.probes.set(probes);
    let tasks = &shared.parts.tasks;
    tasks.spawn(Task::Critical, "pod-events", events(shared.clone()));
    tasks.spawn(Task::Critical, "pod-sources", dispatch::run(shared.clone()));
    for n in 0..WRITERS {
        let write = writer::run(shared.clone());
        tasks.spawn(Task::Critical, format!("pod-status-{n}"), write);
    }
    tasks.spawn(Task::Critical, "mirror-pods", mirror::run(shared.clone()));
    Pods::new(shared)
}

/// Wakes workers when the runtime has news of their pods.
async fn events(shared: Arc<Shared>) {
    let mut events = shared.parts.runtime.events();
    loop {
        let event = events.next().await;
        match event.kind {
            // Only what the worker did itself.
            EventKind::ContainerCreated | EventKind::ContainerDeleted => {}
            _ => shared.wake(&event.pod_uid),
        }
    }
}
