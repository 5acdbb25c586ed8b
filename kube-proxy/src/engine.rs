//! From events to rules: notes which Services changed, and brings them into the kernel.
//!
//! Level-triggered: an event names a Service, nothing more; what the Service and its slices are is read from
//! the caches when rules are written. Two syncs begin at least `minSyncPeriod` apart; one that failed is
//! made again after `syncPeriod`; once an hour the kernel is read and corrected.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use component::informer::{Event, Index, Informer, Informers, Key, Lister, Selection};
use component::supervisor::BoxError;
use component::{Supervisor, Task};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::conntrack::{self, Allowed};
use crate::health::ProxyHealth;
use crate::kernel::Netlink;
use crate::metrics::Metrics;
use crate::nft::Family;
use crate::node::{self, NodePortAddresses};
use crate::proxier::Proxier;
use crate::service::{Gates, Place, Reader, parse_net};
use crate::service_health::ServiceHealth;

/// How often the kernel is read and corrected.
const FULL_PERIOD: Duration = Duration::from_secs(3600);
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Services that other proxies serve, and headless ones, are not ours.
const SERVICES: &str = "!service.kubernetes.io/service-proxy-name";
const NOT_HEADLESS: &str = "spec.clusterIP!=None";
const SLICES: &str = "!service.kubernetes.io/headless";

/// The rules of a family, and where its node ports work.
pub(crate) struct Unit {
    pub(crate) family: Family,
    pub(crate) proxier: Proxier<Netlink>,
    pub(crate) node_ports: NodePortAddresses,
    pub(crate) service_health: ServiceHealth,
}

/// What the engine is made from.
pub(crate) struct Parts {
    pub(crate) units: Vec<Unit>,
    pub(crate) place: Place,
    pub(crate) gates: Gates,
    pub(crate) min_sync_period: Duration,
    pub(crate) sync_period: Duration,
    pub(crate) metrics: Metrics,
    pub(crate) health: ProxyHealth,
}

/// Brings Services into the kernel.
pub(crate) struct Engine {
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    changes: Arc<Changes>,
    core: Arc<Mutex<Core>>,
    min_sync_period: Duration,
    sync_period: Duration,
}

/// What happened since the last sync.
struct Changes {
    noted: Mutex<Noted>,
    wake: Notify,
    families: Vec<Family>,
    started: SystemTime,
    metrics: Metrics,
    health: ProxyHealth,
}

#[derive(Default)]
struct Noted {
    services: HashSet<Key>,
    /// Every Service has to be read again: the node is in another zone.
    all: Option<String>,
    ranges: Option<Vec<String>>,
    /// When what changed endpoints happened.
    triggers: Vec<(Family, SystemTime)>,
}

/// What syncs work on.
struct Core {
    units: Vec<Unit>,
    place: Place,
    gates: Gates,
    services: Lister<Service>,
    slices: Lister<EndpointSlice>,
    by_service: Index,
    metrics: Metrics,
    health: ProxyHealth,
    next_full: Instant,
    /// Services of syncs that failed.
    left: HashSet<Key>,
}

impl Engine {
    /// Follows the objects; [`Engine::run`] does the work.
    pub(crate) fn new(parts: Parts, informers: &Informers, node: &Informer<Node>) -> Self {
        let services = informers.select::<Service>(Selection {
            labels: SERVICES.to_owned(),
            fields: NOT_HEADLESS.to_owned(),
            ..Selection::default()
        });
        let slices = informers.select::<EndpointSlice>(Selection::labels(SLICES));
        let by_service = slices.index("service", |slice| {
            service_of(slice)
                .map(|key| key.to_string())
                .into_iter()
                .collect()
        });
        let changes = Arc::new(Changes {
            noted: Mutex::default(),
            wake: Notify::new(),
            families: parts.units.iter().map(|unit| unit.family).collect(),
            started: SystemTime::now(),
            metrics: parts.metrics.clone(),
            health: parts.health.clone(),
        });
        changes.follow(&services, &slices, informers);
        changes.follow_node(node, &parts.place.zone);
        let core = Core {
            units: parts.units,
            place: parts.place,
            gates: parts.gates,
            services: services.lister(),
            slices: slices.lister(),
            by_service,
            metrics: parts.metrics,
            health: parts.health,
            next_full: Instant::now() + FULL_PERIOD,
            left: HashSet::new(),
        };
        Self {
            services,
            slices,
            changes,
            core: Arc::new(Mutex::new(core)),
            min_sync_period: parts.min_sync_period,
            sync_period: parts.sync_period,
        }
    }

    pub(crate) fn start(self, tasks: &Supervisor) {
        tasks.spawn(Task::Critical, "sync", self.run());
    }

    async fn run(self) -> Result<(), BoxError> {
        for family in &self.changes.families {
            self.changes.health.updated(*family);
            self.changes.metrics.queued(*family);
        }
        // Rules from half of the objects would break the other half's connections.
        self.services.synced().await;
        self.slices.synced().await;
        loop {
            let began = Instant::now();
            let (core, noted) = (Arc::clone(&self.core), self.changes.take());
            let done = tokio::task::spawn_blocking(move || core.lock().sync(noted)).await?;
            let wait = match done {
                true => FULL_PERIOD.saturating_sub(Duration::from_secs(1)),
                false => self.sync_period,
            };
            tokio::select! {
                () = self.changes.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
            tokio::time::sleep_until((began + self.min_sync_period).into()).await;
        }
    }
}

/// The Service that a slice belongs to.
fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    let namespace = slice.metadata.namespace.as_deref()?;
    (!name.is_empty()).then(|| Key::new(namespace, name))
}

impl Changes {
    fn take(&self) -> Noted {
        std::mem::take(&mut *self.noted.lock())
    }

    fn note(&self, note: impl FnOnce(&mut Noted)) {
        note(&mut self.noted.lock());
        for family in &self.families {
            self.health.queued(*family);
            self.metrics.queued(*family);
        }
        self.wake.notify_one();
    }

    fn follow(
        self: &Arc<Self>,
        services: &Informer<Service>,
        slices: &Informer<EndpointSlice>,
        informers: &Informers,
    ) {
        let changes = Arc::clone(self);
        services.subscribe(move |key, _| {
            changes.metrics.service_changes.inc();
            changes.metrics.service_changes_pending.inc();
            changes.note(|noted| {
                noted.services.insert(key.clone());
            });
        });
        let changes = Arc::clone(self);
        slices.subscribe(move |_, event| changes.slice(event));
        let ranges = informers.of::<ServiceCIDR>();
        let (changes, lister) = (Arc::clone(self), ranges.lister());
        ranges.subscribe(move |_, _| {
            let all = lister.list();
            let cidrs = all
                .iter()
                .filter_map(|range| range.spec.as_ref()?.cidrs.as_ref());
            let mut cidrs: Vec<String> = cidrs.flatten().cloned().collect();
            cidrs.sort_unstable();
            cidrs.dedup();
            changes.note(|noted| noted.ranges = Some(cidrs));
        });
    }

    fn slice(&self, event: &Event<EndpointSlice>) {
        let slice = event.object();
        self.metrics.endpoint_changes.inc();
        self.metrics.endpoint_changes_pending.inc();
        let before = match event {
            Event::Updated { old, .. } => service_of(old),
            _ => None,
        };
        let trigger = match event {
            Event::Deleted(_) => None,
            _ => self.trigger(slice),
        };
        self.note(|noted| {
            noted.services.extend(before);
            noted.services.extend(service_of(slice));
            noted.triggers.extend(trigger);
        });
    }

    /// When what changed the slice's endpoints happened, if it was after our start.
    fn trigger(&self, slice: &EndpointSlice) -> Option<(Family, SystemTime)> {
        let text = slice.metadata.annotations.as_ref()?.get(TRIGGER_TIME)?;
        let (seconds, nanos) = proto::time::parse_micro_time(text).ok()?;
        let since = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanos).ok()?);
        let at = SystemTime::UNIX_EPOCH.checked_add(since)?;
        let family = self
            .families
            .iter()
            .find(|f| f.name() == slice.address_type)?;
        (at > self.started).then_some((*family, at))
    }

    fn follow_node(self: &Arc<Self>, node: &Informer<Node>, zone: &str) {
        let changes = Arc::clone(self);
        let last = Mutex::new(zone.to_owned());
        node.subscribe(move |_, event| {
            let (Event::Added(node) | Event::Updated { new: node, .. }) = event else {
                return;
            };
            changes.health.set_eligible(node::is_eligible(node));
            let zone = node::zone(node);
            let mut last = last.lock();
            if *last != zone {
                last.clone_from(&zone);
                changes.note(|noted| noted.all = Some(zone));
            }
        });
    }
}

impl Core {
    /// Brings what was noted into the kernel; whether all of it is there.
    fn sync(&mut self, mut noted: Noted) -> bool {
        self.metrics.service_changes_pending.set(0);
        self.metrics.endpoint_changes_pending.set(0);
        noted.services.extend(self.left.drain());
        if let Some(zone) = noted.all.take() {
            self.place.zone = zone;
            let all = self.services.list();
            noted
                .services
                .extend(all.iter().map(|service| Key::of(&service.metadata)));
        }
        if self.next_full <= Instant::now() {
            self.next_full = Instant::now() + FULL_PERIOD;
            self.units
                .iter_mut()
                .for_each(|unit| unit.proxier.want_full());
        }
        let mut done = true;
        for at in 0..self.units.len() {
            done &= self.sync_unit(at, &noted);
        }
        if !done {
            self.left = noted.services;
        }
        done
    }

    fn sync_unit(&mut self, at: usize, noted: &Noted) -> bool {
        let began = Instant::now();
        let Some(unit) = self.units.get_mut(at) else {
            return true;
        };
        let family = unit.family;
        let reader = Reader {
            family,
            place: &self.place,
            gates: self.gates,
        };
        for key in &noted.services {
            let slices = self.slices.indexed(self.by_service, key.as_str());
            let service = self.services.by_key(key);
            let frontend = service.and_then(|service| reader.frontend(&service, &slices));
            unit.proxier.set(key, frontend);
        }
        if let Some(ranges) = &noted.ranges {
            let ranges = ranges.iter().filter_map(|text| parse_net(text));
            let ranges = ranges
                .filter(|net| Family::of(net.addr()) == family)
                .collect();
            unit.proxier
                .set_layout(|layout| layout.service_ranges = ranges);
        }
        if unit.proxier.is_full() {
            let addresses = node_port_ips(&unit.node_ports);
            unit.proxier.set_node_port_ips(addresses);
        }
        let synced = match unit.proxier.sync() {
            Ok(synced) => synced,
            Err(error) => {
                tracing::error!(family = family.name(), %error, "Sync failed");
                self.metrics.failed(family);
                return false;
            }
        };
        self.metrics.synced(family, synced.full, began.elapsed());
        self.metrics.no_local(family, unit.proxier.no_local());
        self.health.updated(family);
        tracing::debug!(
            family = family.name(),
            full = synced.full,
            services = unit.proxier.frontends().len(),
            elements = unit.proxier.elements(),
            elapsed = ?began.elapsed(),
            "Synced"
        );
        let now = SystemTime::now();
        for (_, trigger) in noted.triggers.iter().filter(|(of, _)| *of == family) {
            self.metrics
                .programmed(family, now.duration_since(*trigger).unwrap_or_default());
        }
        for key in &noted.services {
            let frontend = unit.proxier.frontends().get(key);
            let (port, endpoints) = frontend.map_or((0, 0), |f| (f.health_port, f.local_ready()));
            unit.service_health.set(key, port, endpoints);
        }
        if synced.udp {
            self.end_stale(at);
        }
        true
    }

    /// Ends UDP flows to endpoints that are gone.
    fn end_stale(&self, at: usize) {
        let Some(unit) = self.units.get(at) else {
            return;
        };
        let began = Instant::now();
        let allowed = Allowed::of(unit.proxier.frontends().values());
        match conntrack::clean(unit.family, &allowed) {
            Ok(ended) => self.metrics.cleaned(unit.family, began.elapsed(), ended),
            Err(error) => {
                tracing::error!(family = unit.family.name(), %error, "Failed to clean up connections")
            }
        }
    }
}

fn node_port_ips(addresses: &NodePortAddresses) -> Vec<IpAddr> {
    let machine = node::interface_addresses().unwrap_or_else(|error| {
        tracing::error!(%error, "Cannot list the machine's addresses: node ports will not work");
        Vec::new()
    });
    addresses.of(&machine)
}
