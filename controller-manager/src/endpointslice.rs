//! The slices of services that select pods (`endpointslice-controller`).
//!
//! Owns the slices labelled as managed by it. Invariants: it does not plan on a cache that has not seen
//! its own writes; a slice is written only if what it says changes.
//!
//! Source: `pkg/controller/endpointslice`, `k8s.io/endpointslice`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use component::client::RateLimit;
use component::controller::Next;
use component::events::{Event as Told, Recorder, Type, reference};
use component::informer::{Event, Index, Informer, Key, Lister};
use component::queue::{Queue, Retry};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::context::Context;
use crate::error::Error;
use crate::members::{self, Members, TriggerTimes};
use write::Writer;

pub mod endpoint;
pub mod hints;
pub mod pack;
pub mod plan;
pub mod set;
pub mod topology;
pub mod tracker;
pub mod write;

pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
/// How long changes of slices are collected, at least, before their service is looked at.
const SLICE_DELAY: Duration = Duration::from_secs(1);

/// The service that a slice says it is of.
#[must_use]
pub fn service_key(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    (!name.is_empty()).then(|| Key::new(namespace, name))
}

/// Whether a slice is that manager's.
#[must_use]
pub fn is_managed(slice: &EndpointSlice, manager: &str) -> bool {
    let labels = slice.metadata.labels.as_ref();
    labels
        .and_then(|l| l.get(MANAGED_BY))
        .is_some_and(|m| m == manager)
}

/// The index that finds slices by their service.
#[must_use]
pub fn by_service(slices: &Informer<EndpointSlice>) -> Index {
    slices.index("service", |slice| {
        let key = service_key(slice);
        key.map(|k| k.as_str().to_owned()).into_iter().collect()
    })
}

/// The services whose slices an event of a slice concerns; nothing if it is the echo of an own write.
#[must_use]
pub fn concerned(
    event: &Event<EndpointSlice>,
    tracker: &tracker::Tracker,
    manager: &str,
) -> Vec<Key> {
    let own = |slice: &EndpointSlice| is_managed(slice, manager);
    let keys: Vec<Option<Key>> = match event {
        Event::Added(slice) if own(slice) && tracker.is_foreign(slice) => vec![service_key(slice)],
        Event::Updated { old, new } if service_key(old) != service_key(new) => {
            vec![service_key(old), service_key(new)]
        }
        Event::Updated { old, new }
            if own(old) != own(new) || (own(new) && tracker.is_foreign(new)) =>
        {
            vec![service_key(new)]
        }
        Event::Deleted(slice) if own(slice) && tracker.is_foreign_deletion(slice) => {
            vec![service_key(slice)]
        }
        _ => Vec::new(),
    };
    keys.into_iter().flatten().collect()
}

/// What the queue holds.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Work {
    Service(Key),
    /// The nodes' zones or processors changed.
    Nodes,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(key) => key.fmt(f),
            Self::Nodes => f.write_str("nodes"),
        }
    }
}

struct Slices {
    queue: Queue<Work>,
    members: Members,
    services: Lister<Service>,
    nodes: Lister<Node>,
    slices: Lister<EndpointSlice>,
    by_service: Index,
    writer: Writer,
    times: TriggerTimes,
    topology: topology::Topology,
    recorder: Recorder,
    most: usize,
}

/// Starts the controller.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let config = cx.config().endpoint_slice.clone();
    let retry = Retry {
        first: Duration::from_secs(1),
        most: Duration::from_secs(1000),
        overall: RateLimit::new(10.0, 100),
    };
    let queue = cx.queue_with::<Work>("endpoint_slice", retry);
    let (pods, services) = (cx.informer::<Pod>(), cx.informer::<Service>());
    let (nodes, slices) = (cx.informer::<Node>(), cx.informer::<EndpointSlice>());
    let this = Arc::new(Slices {
        queue: queue.clone(),
        members: Members::new(&pods, &services),
        services: services.lister(),
        nodes: nodes.lister(),
        by_service: by_service(&slices),
        slices: slices.lister(),
        writer: Writer::new(cx.clone()),
        times: TriggerTimes::default(),
        topology: topology::Topology::default(),
        recorder: cx.recorder_as("endpoint-slice-controller"),
        most: usize::try_from(config.max_endpoints_per_slice).unwrap_or(1),
    });
    let delay = config.endpoint_updates_batch_period.0;
    let of = |key: &Key| Work::Service(key.clone());
    let wake = queue.clone();
    services.subscribe(move |key, _| wake.add(of(key)));
    let (wake, members) = (queue.clone(), this.members.clone());
    pods.subscribe(move |_, event| {
        for key in members.concerned(event) {
            wake.add_after(Work::Service(key), delay);
        }
    });
    let (wake, tracker) = (queue.clone(), this.writer.tracker());
    slices.subscribe(move |_, event| {
        for key in concerned(event, &tracker, MANAGER) {
            wake.add_after(Work::Service(key), delay.max(SLICE_DELAY));
        }
    });
    let wake = queue.clone();
    nodes.subscribe(move |_, event| match event {
        Event::Updated { old, new } if !zones_changed(old, new) => {}
        _ => wake.add(Work::Nodes),
    });
    cx.run(
        config.concurrent_service_endpoint_syncs,
        &queue,
        move |work| {
            let this = Arc::clone(&this);
            async move {
                match work {
                    Work::Service(key) => this.reconcile(&key).await,
                    Work::Nodes => Ok(this.nodes_changed()),
                }
            }
        },
    );
    Ok(())
}

fn zones_changed(old: &Node, new: &Node) -> bool {
    let zone = |node: &Node| {
        let labels = node.metadata.labels.as_ref();
        labels.and_then(|l| l.get(endpoint::ZONE)).cloned()
    };
    topology::node_is_ready(old) != topology::node_is_ready(new) || zone(old) != zone(new)
}

impl Slices {
    fn nodes_changed(&self) -> Next {
        for key in self.topology.set(topology::shares(&self.nodes.list())) {
            self.queue.add(Work::Service(key));
        }
        Next::Done
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(service) = self.services.by_key(key) else {
            self.times.forget(key);
            self.topology.forget(key);
            self.writer.tracker().forget(key);
            return Ok(Next::Done);
        };
        let external = service.spec.as_ref().and_then(|s| s.type_.as_deref());
        if external == Some("ExternalName") || members::selector(&service).is_none() {
            return Ok(Next::Done);
        }
        let pods = self.members.pods(&service);
        let mut slices = self.slices.indexed(self.by_service, key.as_str());
        slices.retain(|s| is_managed(s, MANAGER) && s.metadata.deletion_timestamp.is_none());
        if self.writer.tracker().is_stale(key, &slices) {
            return Ok(Next::Again);
        }
        let triggered = self.times.next(&service, &pods);
        let done = self.sync(key, &service, &pods, slices, triggered).await;
        if let Err(e) = &done {
            let message = format!(
                "Error updating Endpoint Slices for Service {key}: {}",
                e.chain()
            );
            let about = reference(&*service);
            self.recorder
                .warning(&about, "FailedToUpdateEndpointSlices", &message);
        }
        done.map(|()| Next::Done)
    }

    async fn sync(
        &self,
        key: &Key,
        service: &Service,
        pods: &[Arc<Pod>],
        slices: Vec<Arc<EndpointSlice>>,
        triggered: Option<k8s_openapi::jiff::Timestamp>,
    ) -> Result<(), Error> {
        let families = endpoint::Family::of(service);
        let mut results = Vec::new();
        for family in &families {
            let plan = self.plan(key, service, pods, &slices, *family);
            self.topology.note(key, *family, plan.zones);
            let wrote = self.writer.apply(service, plan.changes, triggered).await;
            self.tell(service, plan.events);
            results.push(wrote);
            if let Some(pod) = plan.without_node.first() {
                let what = format!("skipping Pod {pod} for Service {key}: its Node is not found");
                results.push(Err(Error::Unusable(what)));
            }
        }
        let foreign = |s: &Arc<EndpointSlice>| families.iter().all(|f| f.name() != s.address_type);
        for slice in slices.into_iter().filter(foreign) {
            results.push(self.writer.delete(&slice).await);
        }
        Error::all(results).map(drop)
    }

    fn plan(
        &self,
        key: &Key,
        service: &Service,
        pods: &[Arc<Pod>],
        slices: &[Arc<EndpointSlice>],
        family: endpoint::Family,
    ) -> plan::Plan {
        let of_family = |s: &&Arc<EndpointSlice>| s.address_type == family.name();
        let seen = plan::Seen {
            service,
            pods,
            slices: slices.iter().filter(of_family).cloned().collect(),
            node: &|name| self.nodes.get("", name),
            most: self.most,
            shares: &self.topology.shares(),
            had_hints: self.topology.has_hints(key),
        };
        plan::plan(&seen, family)
    }

    fn tell(&self, service: &Service, events: Vec<(Type, &'static str, String)>) {
        for (kind, reason, message) in events {
            self.recorder.event(Told {
                regarding: reference(service),
                related: None,
                kind,
                reason: reason.to_owned(),
                action: reason.to_owned(),
                message,
            });
        }
    }
}
