//! The garbage collector: objects whose owners are gone go too. Source: `pkg/controller/garbagecollector`.
//!
//! The [`graph`] is kept from watches of the metadata of all kinds that can be deleted, which follow discovery. What it
//! says is a hint: before anything is deleted, the object and its owners are read from the server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use component::client::{PartialObjectMetadata, Target};
use component::controller::Next;
use component::events::Recorder;
use component::informer::{Event, Informer};
use component::queue::Queue;
use k8s_openapi::api::core::v1::ObjectReference;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::context::Context;
use crate::discovery::{Discovered, discover};
use crate::error::Error;

mod collect;
mod graph;
mod orphan;
mod references;

use graph::{Graph, Uid, Work};

/// Kinds whose objects come and go by themselves.
const IGNORED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];
/// Whose changes are new kinds: custom resources and aggregated APIs come and go with their definitions.
const DEFINITIONS: [(&str, &str); 2] = [
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "apiservices"),
];
/// Definitions change several times until their resources are served; discovery follows a little later.
const SETTLE: Duration = Duration::from_secs(1);
/// Servers behind the aggregator may change what they serve without anybody saying so.
const REDISCOVER: Duration = Duration::from_secs(300);
/// How long the first caches are waited for: one that does not come must not hold all others.
const FIRST_SYNC: Duration = Duration::from_secs(30);

/// Starts `garbage-collector-controller`.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    if !cx.config().garbage_collector.enable_garbage_collector {
        tracing::info!("The garbage collector is switched off");
        return Ok(());
    }
    let collector = Arc::new(Collector {
        cx: cx.clone(),
        graph: Mutex::default(),
        discovered: RwLock::default(),
        collect: cx.queue("garbage_collector_attempt_to_delete"),
        orphan: cx.queue("garbage_collector_attempt_to_orphan"),
        recorder: cx.recorder().clone(),
        rediscover: Notify::new(),
    });
    let nodes = Arc::downgrade(&collector);
    let size = component::metrics::Gauges::<0>::default();
    cx.metrics().register(
        "garbagecollector_controller_graph_nodes",
        "Objects in the graph of owners",
        size.clone(),
    );
    cx.metrics().before_scrape(move || {
        if let Some(collector) = nodes.upgrade() {
            let len = i64::try_from(collector.graph.lock().len()).unwrap_or(i64::MAX);
            size.get_or_create(&[]).set(len);
        }
    });
    let work = Arc::clone(&collector);
    cx.spawn("monitors", async move { work.follow_discovery().await });
    Ok(())
}

struct Collector {
    cx: Context,
    graph: Mutex<Graph>,
    discovered: RwLock<Arc<Discovered>>,
    collect: Queue<Uid>,
    orphan: Queue<Uid>,
    recorder: Recorder,
    /// There may be new kinds.
    rediscover: Notify,
}

impl Collector {
    /// Watches what discovery names, and nothing else.
    async fn follow_discovery(self: Arc<Self>) {
        let mut monitors: BTreeMap<Target, Informer<PartialObjectMetadata>> = BTreeMap::new();
        let mut started = false;
        loop {
            match self.discovered().await {
                Ok(discovered) => self.watch(&discovered, &mut monitors),
                Err(e) => {
                    tracing::warn!(error = e.chain(), "Cannot discover resources");
                    tokio::time::sleep(SETTLE).await;
                    continue;
                }
            }
            if !started {
                let synced = monitors.values().map(Informer::synced);
                let all = futures::future::join_all(synced);
                if tokio::time::timeout(FIRST_SYNC, all).await.is_err() {
                    tracing::warn!(
                        "Not all kinds could be watched in time, beginning without them"
                    );
                }
                self.start_workers();
                started = true;
            }
            tokio::select! {
                () = self.rediscover.notified() => {}
                () = tokio::time::sleep(REDISCOVER) => {}
            }
            tokio::time::sleep(SETTLE).await;
        }
    }

    async fn discovered(&self) -> Result<Arc<Discovered>, Error> {
        let discovered = Arc::new(discover(&self.cx.client().await?).await?);
        *self.discovered.write() = Arc::clone(&discovered);
        Ok(discovered)
    }

    fn watch(
        self: &Arc<Self>,
        discovered: &Discovered,
        monitors: &mut BTreeMap<Target, Informer<PartialObjectMetadata>>,
    ) {
        let wanted: BTreeSet<&Target> = discovered
            .preferred
            .iter()
            .filter(|r| ["delete", "list", "watch"].iter().all(|verb| r.can(verb)))
            .filter(|r| !IGNORED.contains(&r.group_resource()))
            .map(|r| &r.target)
            .collect();
        // What a server that does not answer serves is not known to be gone.
        let unknown = |t: &Target| {
            let version = if t.group.is_empty() {
                t.version.to_string()
            } else {
                format!("{}/{}", t.group, t.version)
            };
            discovered.stale.contains(&version)
        };
        monitors.retain(|target, informer| {
            let stays = wanted.contains(target) || unknown(target);
            if !stays {
                informer.stop();
                self.forget(target);
            }
            stays
        });
        for target in wanted {
            if !monitors.contains_key(target) {
                monitors.insert(target.clone(), self.monitor(target));
            }
        }
    }

    fn monitor(self: &Arc<Self>, target: &Target) -> Informer<PartialObjectMetadata> {
        let informer = self.cx.metadata(target.clone());
        let collector = Arc::downgrade(self);
        let target = Arc::new(target.clone());
        let defines = DEFINITIONS.contains(&(&target.group, &target.resource));
        informer.subscribe(move |_, event| {
            if let Some(collector) = collector.upgrade() {
                if defines {
                    collector.rediscover.notify_one();
                }
                collector.saw(&target, event);
            }
        });
        informer
    }

    fn saw(&self, target: &Arc<Target>, event: &Event<PartialObjectMetadata>) {
        let uid = |o: &PartialObjectMetadata| o.metadata.uid.clone().unwrap_or_default();
        let mut graph = self.graph.lock();
        let work = match event {
            Event::Added(new) => graph.observe(target, None, &new.metadata),
            Event::Updated { old, new } if uid(old) == uid(new) => {
                graph.observe(target, Some(&old.metadata), &new.metadata)
            }
            // Deleted and created again between two sights of it.
            Event::Updated { old, new } => {
                let mut work = graph.remove(&uid(old).as_str().into());
                work.extend(graph.observe(target, None, &new.metadata));
                work
            }
            Event::Deleted(old) => graph.remove(&uid(old).as_str().into()),
        };
        drop(graph);
        self.note(work);
    }

    /// A kind is not served any more: what is known of its objects means nothing.
    fn forget(&self, target: &Target) {
        let mut graph = self.graph.lock();
        let work = graph.remove_kind(target);
        drop(graph);
        self.note(work);
    }

    fn note(&self, work: Vec<Work>) {
        for one in work {
            match one {
                Work::Collect(uid) => self.collect.add(uid),
                Work::Orphan(uid) => self.orphan.add(uid),
                Work::Misplaced { dependent, owner } => self.tell_misplaced(&dependent, &owner),
            }
        }
    }

    fn tell_misplaced(&self, dependent: &Uid, owner: &Uid) {
        let graph = self.graph.lock();
        let Some(node) = graph.get(dependent) else {
            return;
        };
        let Some(reference) = node.owners.iter().find(|o| o.uid == *owner) else {
            return;
        };
        let identity = &node.identity;
        let about = ObjectReference {
            api_version: Some(identity.api_version.to_string()),
            kind: Some(identity.kind.to_string()),
            namespace: Some(identity.namespace.to_string()),
            name: Some(identity.name.to_string()),
            uid: Some(dependent.to_string()),
            ..ObjectReference::default()
        };
        let message = format!(
            "ownerRef [{}/{}, namespace: {}, name: {}, uid: {}] does not exist in namespace \"{}\"",
            reference.api_version,
            reference.kind,
            identity.namespace,
            reference.name,
            reference.uid,
            identity.namespace
        );
        self.recorder
            .warning(&about, "OwnerRefInvalidNamespace", &message);
    }

    fn start_workers(self: &Arc<Self>) {
        let workers = self.cx.config().garbage_collector.concurrent_gc_syncs;
        let collector = Arc::clone(self);
        self.cx.run(workers, &self.collect, move |uid| {
            let collector = Arc::clone(&collector);
            async move { collector.collect(uid).await.map(|()| Next::Done) }
        });
        let collector = Arc::clone(self);
        self.cx.run(workers, &self.orphan, move |uid| {
            let collector = Arc::clone(&collector);
            async move { collector.orphan(uid).await.map(|()| Next::Done) }
        });
    }
}
