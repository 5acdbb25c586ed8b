//! Topology aware hints: each zone gets endpoints in proportion to its processors, where the annotation
//! `service.kubernetes.io/topology-mode: Auto` asks for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use component::informer::Key;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::{EndpointHints, EndpointSlice, ForZone};
use parking_lot::Mutex;
use proto::quantity::Quantity;

use super::endpoint::{Family, ZONE};
use super::hints::{changed, distribute, is_ready, touch};
use super::pack::{Changes, endpoints};

/// More load than its share that an endpoint may get.
const OVERLOAD: f64 = 0.2;

const MODE: &str = "service.kubernetes.io/topology-mode";
const OLD_MODE: &str = "service.kubernetes.io/topology-aware-hints";

/// Each zone's part of the processors; none if zones or processors are not known.
pub type Shares = Option<BTreeMap<String, f64>>;
/// Endpoints that each zone got.
pub type Zones = BTreeMap<String, i64>;

/// Whether the annotations ask for hints.
#[must_use]
pub fn is_wanted(annotations: Option<&BTreeMap<String, String>>) -> bool {
    let mode = annotations.and_then(|a| a.get(OLD_MODE).or_else(|| a.get(MODE)));
    matches!(mode.map(String::as_str), Some("Auto" | "auto"))
}

/// The zones' shares, out of the ready nodes that are not of the control plane.
#[must_use]
pub fn shares(nodes: &[Arc<Node>]) -> Shares {
    let mut cpu = BTreeMap::<String, i64>::new();
    for node in nodes {
        let label = |key: &str| node.metadata.labels.as_ref().and_then(|l| l.get(key));
        let excluded = label("node-role.kubernetes.io/control-plane")
            .or_else(|| label("node-role.kubernetes.io/master"));
        if excluded.is_some() || !node_is_ready(node) {
            continue;
        }
        let allocatable = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
        let milli = allocatable
            .and_then(|a| a.get("cpu")?.0.parse::<Quantity>().ok())
            .map_or(0, Quantity::milli_value);
        // One node that is not known makes all shares wrong.
        let zone = label(ZONE).filter(|zone| !zone.is_empty() && milli > 0)?;
        *cpu.entry(zone.clone()).or_default() += milli;
    }
    #[allow(clippy::cast_precision_loss, reason = "shares, far below 2^53 mCPU")]
    let total = cpu.values().sum::<i64>() as f64;
    #[allow(clippy::cast_precision_loss, reason = "as above")]
    (cpu.len() > 1).then(|| {
        cpu.into_iter()
            .map(|(zone, c)| (zone, c as f64 / total))
            .collect()
    })
}

/// Whether a node's `Ready` condition is true.
#[must_use]
pub fn node_is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let ready = conditions.and_then(|c| c.iter().find(|c| c.type_ == "Ready"));
    ready.is_some_and(|c| c.status == "True")
}

/// What the zones have and what services got of it.
#[derive(Default)]
pub struct Topology {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    shares: Shares,
    services: HashMap<Key, BTreeMap<Family, Zones>>,
}

impl Topology {
    /// Takes new shares; the services whose endpoints do not fit them any more.
    pub fn set(&self, shares: Shares) -> Vec<Key> {
        let mut state = self.state.lock();
        state.shares = shares;
        let shares = state.shares.as_ref();
        let overloaded = |zones: &Zones| is_overloaded(zones, shares);
        state
            .services
            .iter()
            .filter(|(_, families)| families.values().any(overloaded))
            .map(|(key, _)| key.clone())
            .collect()
    }

    #[must_use]
    pub fn shares(&self) -> Shares {
        self.state.lock().shares.clone()
    }

    /// Whether the service's endpoints have hints of this kind.
    #[must_use]
    pub fn has_hints(&self, service: &Key) -> bool {
        self.state.lock().services.contains_key(service)
    }

    /// Notes what a service's zones got; none if it has no hints.
    pub fn note(&self, service: &Key, family: Family, zones: Option<Zones>) {
        let mut state = self.state.lock();
        if let Some(zones) = zones {
            let families = state.services.entry(service.clone()).or_default();
            families.insert(family, zones);
        } else if let Some(families) = state.services.get_mut(service) {
            families.remove(&family);
            if families.is_empty() {
                state.services.remove(service);
            }
        }
    }

    /// The service is gone.
    pub fn forget(&self, service: &Key) {
        self.state.lock().services.remove(service);
    }
}

/// The least number of endpoints for a zone.
#[allow(
    clippy::cast_possible_truncation,
    reason = "a share of a number of endpoints"
)]
fn least(share: f64) -> i64 {
    (share / (1.0 + OVERLOAD)).ceil() as i64
}

#[allow(clippy::cast_precision_loss, reason = "numbers of endpoints")]
fn is_overloaded(zones: &Zones, shares: Option<&BTreeMap<String, f64>>) -> bool {
    if zones.is_empty() {
        return false;
    }
    let Some(shares) = shares else { return true };
    let total = zones.values().sum::<i64>() as f64;
    shares.iter().any(|(zone, share)| {
        zones
            .get(zone)
            .is_none_or(|has| *has < least(total * share))
    })
}

/// How many endpoints a zone should and may have.
struct Allocation {
    most: i64,
    desired: f64,
}

/// Why there are no hints, as events say it.
#[derive(PartialEq, Eq, Debug)]
pub struct Refused(pub String);

#[allow(clippy::cast_precision_loss, reason = "numbers of endpoints")]
fn allocate(
    shares: Option<&BTreeMap<String, f64>>,
    ready: i64,
) -> Result<BTreeMap<String, Allocation>, Refused> {
    let Some(shares) = shares else {
        return Err(Refused(
            "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
                .to_owned(),
        ));
    };
    let counts = format!("({ready} endpoints, {} zones)", shares.len());
    if i64::try_from(shares.len()).is_ok_and(|zones| zones > ready) {
        return Err(Refused(format!(
            "Insufficient number of endpoints {counts}"
        )));
    }
    let minimum = |share: f64| least(share * ready as f64);
    let total: i64 = shares.values().map(|share| minimum(*share)).sum();
    if total > ready {
        return Err(Refused(format!(
            "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold {counts}"
        )));
    }
    let allocation = |share: f64| Allocation {
        most: minimum(share) + ready - total,
        desired: (share * ready as f64).max(minimum(share) as f64),
    };
    Ok(shares
        .iter()
        .map(|(zone, s)| (zone.clone(), allocation(*s)))
        .collect())
}

/// Gives hints in proportion to the shares, and says what each zone got; or takes all hints away and
/// says why.
///
/// # Errors
/// If there cannot be hints.
pub fn add(shares: &Shares, changes: &mut Changes) -> Result<Zones, Refused> {
    let done = try_add(shares, changes);
    if done.is_err() {
        distribute(None, changes);
    }
    done
}

fn try_add(shares: &Shares, changes: &mut Changes) -> Result<Zones, Refused> {
    let unchanged = changes.unchanged.iter().map(|s| endpoints(s));
    let updated = changes.update.iter().map(|u| endpoints(&u.new));
    let created = changes.create.iter().map(endpoints);
    let all = unchanged.chain(updated).chain(created).flatten();
    let ready = i64::try_from(all.filter(|e| is_ready(e)).count()).unwrap_or(i64::MAX);
    let allocations = allocate(shares.as_ref(), ready)?;
    let mut zones = Zones::new();
    touch(changes, |slice| match hinted(slice, &zones, &allocations) {
        None => true,
        Some(has) => {
            for (zone, count) in has {
                *zones.entry(zone).or_default() += count;
            }
            false
        }
    });
    // Everyone's own zone first, then from those who have too much to those who have too little.
    for slice in changed(changes) {
        for endpoint in slice.endpoints.iter_mut().flatten() {
            endpoint.hints = None;
            if !is_ready(endpoint) {
                continue;
            }
            let Some(zone) = endpoint.zone.clone().filter(|zone| !zone.is_empty()) else {
                return Err(Refused(
                    "One or more endpoints do not have a zone specified".to_owned(),
                ));
            };
            *zones.entry(zone.clone()).or_default() += 1;
            endpoint.hints = Some(for_zone(zone));
        }
    }
    let (giving, receiving) = exchange(&allocations, &zones);
    redistribute(changes, giving, receiving, &mut zones);
    if zones.is_empty() {
        return Err(Refused("No hints allocated for zones".to_owned()));
    }
    Ok(zones)
}

fn for_zone(name: String) -> EndpointHints {
    EndpointHints {
        for_nodes: None,
        for_zones: Some(vec![ForZone { name }]),
    }
}

/// The hints of a slice that may stay as it is; none if it must change.
fn hinted(
    slice: &EndpointSlice,
    zones: &Zones,
    allocations: &BTreeMap<String, Allocation>,
) -> Option<Zones> {
    let mut has = Zones::new();
    for endpoint in endpoints(slice).iter().filter(|e| is_ready(e)) {
        let hints = endpoint.hints.as_ref()?.for_zones.as_ref()?;
        if hints.is_empty() {
            return None;
        }
        for hint in hints {
            allocations.get(&hint.name)?;
            *has.entry(hint.name.clone()).or_default() += 1;
        }
    }
    let fits = |(zone, count): (&String, &i64)| {
        let before = zones.get(zone).copied().unwrap_or_default();
        allocations
            .get(zone)
            .is_some_and(|a| count + before <= a.most)
    };
    has.iter().all(fits).then_some(has)
}

/// How many endpoints each zone gives to others and gets from others.
#[allow(clippy::cast_precision_loss, reason = "numbers of endpoints")]
fn exchange(allocations: &BTreeMap<String, Allocation>, zones: &Zones) -> (Zones, Zones) {
    let (mut over, mut under) = (BTreeMap::new(), BTreeMap::new());
    for (zone, allocation) in allocations {
        let surplus = zones.get(zone).copied().unwrap_or_default() as f64 - allocation.desired;
        if surplus > 0.0 {
            over.insert(zone.clone(), surplus);
        } else if surplus < 0.0 {
            under.insert(zone.clone(), -surplus);
        }
    }
    let most = |of: &BTreeMap<String, f64>| {
        of.iter()
            .filter(|(_, n)| **n > 0.0)
            .max_by(|a, b| a.1.total_cmp(b.1))
            .map(|(zone, n)| (zone.clone(), *n))
    };
    let (mut giving, mut receiving) = (Zones::new(), Zones::new());
    while let (Some((giver, give)), Some((receiver, receive))) = (most(&over), most(&under)) {
        if (give < 1.0 && receive < 1.0) || give < 0.5 || receive < 0.5 {
            break;
        }
        *giving.entry(giver.clone()).or_default() += 1;
        *receiving.entry(receiver.clone()).or_default() += 1;
        over.insert(giver, give - 1.0);
        under.insert(receiver, receive - 1.0);
    }
    (giving, receiving)
}

fn redistribute(changes: &mut Changes, mut giving: Zones, mut receiving: Zones, zones: &mut Zones) {
    for slice in changed(changes) {
        for endpoint in slice.endpoints.iter_mut().flatten().filter(|e| is_ready(e)) {
            let Some(own) = endpoint.zone.clone() else {
                continue;
            };
            let Some(give) = giving.get_mut(&own).filter(|n| **n > 0) else {
                continue;
            };
            let Some((to, take)) = receiving.iter_mut().find(|(_, n)| **n > 0) else {
                return;
            };
            (*give, *take) = (*give - 1, *take - 1);
            endpoint.hints = Some(for_zone(to.clone()));
            *zones.entry(to.clone()).or_default() += 1;
            *zones.entry(own).or_default() -= 1;
        }
    }
}
