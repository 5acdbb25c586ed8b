//! What slices of devices, and rules that taint them, must be: `ValidateResourceSlice*`,
//! `ValidateDeviceTaintRule*` in `pkg/apis/resource/validation`.

use std::collections::{HashMap, HashSet};

use proto::NameId;
use proto::catalogue::messages::resource_v1::DEVICE_ATTRIBUTE;
use proto::catalogue::{Gates, names as n};
use proto::meta::names as text;
use proto::path::{Errors, Show, Spot};
use proto::view::core_v1::{NodeSelector, NodeSelectorTerm};
use proto::view::resource_v1::{
    CounterSet, Device, DeviceCounterConsumption, ResourceSlice, ResourceSliceSpec,
};
use proto::view::resource_v1beta2::{DeviceTaintRule, DeviceTaintSelector};
use proto::view::{List, Node, View};
use proto::{Map, Value, meta};

use super::{allocatable, capacity, claim, names, status};
use crate::equal::alike_in;
use crate::rules;
use crate::shown::Internal;
use crate::strategies::pod_spec;

const MOST_DEVICES: usize = 128;
/// Of devices that have taints, counters or lists.
const MOST_RICH_DEVICES: usize = 64;
const MOST_COUNTER_SETS: usize = 8;
const MOST_COUNTERS: usize = 32;
const MOST_CONSUMED_SETS: usize = 2;
const MOST_TAINTS: usize = 16;
/// Attributes and capacities of a device; values of its attributes.
const MOST_KEYS: usize = 32;
const MOST_VALUES: usize = 48;
const LONGEST_VALUE: usize = 64;

fn spec(object: &Value) -> ResourceSliceSpec<'_> {
    ResourceSlice::of(Node::new(object)).spec()
}

pub(super) fn slice(gates: Gates, object: &Value, old: Option<&Value>, e: &mut Errors<'_>) {
    let (now, was) = (spec(object), old.map(spec));
    let (at, pool) = (Spot::of(now), now.pool());
    names::driver(e, at.field(n::DRIVER), now.driver());
    names::pool(e, Spot::of(pool).field(n::NAME), pool.name());
    if pool.resource_slice_count() <= 0 {
        let count = pool.resource_slice_count();
        e.invalid(
            Spot::of(pool).field(n::RESOURCE_SLICE_COUNT),
            count,
            "must be greater than zero",
        );
    }
    if pool.generation() < 0 {
        let detail = "must be greater than or equal to zero";
        e.invalid(
            Spot::of(pool).field(n::GENERATION),
            pool.generation(),
            detail,
        );
    }
    if let Some(was) = was {
        if pool.name() != was.pool().name() {
            e.invalid(Spot::of(pool).field(n::NAME), pool.name(), rules::IMMUTABLE);
        }
        if now.driver() != was.driver() {
            e.invalid(at.field(n::DRIVER), now.driver(), rules::IMMUTABLE);
        }
        if now.node_name() != was.node_name() {
            let shown = rules::json(now.node().get(n::NODE_NAME));
            e.invalid(at.field(n::NODE_NAME), shown, rules::IMMUTABLE);
        }
    }
    nodes(e, now);
    let has = |field| now.node().get(field).is_some();
    if has(n::SHARED_COUNTERS) && has(n::DEVICES) {
        e.invalid(
            at,
            "",
            "only one of `sharedCounters` or `devices` is allowed",
        );
    }
    devices(gates, e, now, was);
    let sets = now.shared_counters();
    if sets.len() > MOST_COUNTER_SETS {
        let at = at.field(n::SHARED_COUNTERS);
        e.covered(|e| e.too_many(at, sets.len(), MOST_COUNTER_SETS));
    } else {
        sets.iter().for_each(|of| counter_set(e, of));
        claim::repeated(e, sets, |of| of.name());
    }
    allocatable::partition_type(e, now);
    status::skipped(e, now.node());
}

/// Whether a switch is on, which is never said to be off.
fn is_set(e: &mut Errors<'_>, of: Node<'_>, field: NameId) -> bool {
    let said = of.opt_bool(field);
    if said == Some(false) {
        let at = Spot::node(of.value()).field(field);
        e.invalid(at, false, "must be either unset or set to true");
    }
    said == Some(true)
}

/// Where the devices of a slice are: exactly one way says it.
fn nodes(e: &mut Errors<'_>, spec: ResourceSliceSpec<'_>) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let at = Spot::of(spec);
    let mut set = Vec::new();
    match spec.node_name() {
        Some("") => {
            let detail = "must be either unset or set to a non-empty string";
            e.invalid(at.field(n::NODE_NAME), "", detail);
        }
        Some(name) => {
            set.push("`nodeName`");
            rules::each(e, spec, n::NODE_NAME, text::subdomain_name(name, false));
        }
        None => {}
    }
    if let Some(selector) = spec.node_selector() {
        set.push("`nodeSelector`");
        node_selector(e, selector);
    }
    for (field, name) in [
        (n::ALL_NODES, "`allNodes`"),
        (n::PER_DEVICE_NODE_SELECTION, "`perDeviceNodeSelection`"),
    ] {
        if is_set(e, spec.node(), field) {
            set.push(name);
        }
    }
    match set.len() {
        0 => e.required(at, ONE),
        1 => {}
        _ => {
            let detail = format!("{ONE}, but multiple fields are set");
            e.invalid(at, format!("{{{}}}", set.join(", ")), detail);
        }
    }
}

/// One term, so that those of several slices can be merged.
fn node_selector(e: &mut Errors<'_>, selector: NodeSelector<'_>) {
    pod_spec::node_selector(e, selector, false);
    if selector.node_selector_terms().len() != 1 {
        let terms = selector.node().get(n::NODE_SELECTOR_TERMS);
        let shown = Internal(terms, NodeSelectorTerm::MESSAGE);
        let at = Spot::of(selector).field(n::NODE_SELECTOR_TERMS);
        e.invalid(at, shown, "must have exactly one node selector term");
    }
}

/// Attributes of which a device has several values.
const LISTS: [NameId; 4] = [n::BOOLS, n::INTS, n::STRINGS, n::VERSIONS];

fn is_rich(device: Device<'_>) -> bool {
    let mut attributes = device.attributes().iter();
    !device.taints().is_empty()
        || !device.consumes_counters().is_empty()
        || attributes.any(|(_, a)| LISTS.iter().any(|list| Node::new(a).get(*list).is_some()))
}

fn devices(
    gates: Gates,
    e: &mut Errors<'_>,
    now: ResourceSliceSpec<'_>,
    was: Option<ResourceSliceSpec<'_>>,
) {
    let devices = now.devices();
    let most = if devices.iter().any(is_rich) {
        MOST_RICH_DEVICES
    } else {
        MOST_DEVICES
    };
    if !names::fits(e, Spot::of(now).field(n::DEVICES), devices.len(), most) {
        return;
    }
    let mut old: HashMap<&str, Device<'_>> = HashMap::new();
    for device in was.into_iter().flat_map(|was| was.devices()) {
        old.entry(device.name()).or_insert(device);
    }
    let chosen = now.per_device_node_selection() == Some(true);
    for of in devices {
        device(gates, e, of, old.get(of.name()).copied(), chosen);
    }
    let mut seen = HashSet::new();
    for of in devices {
        if !seen.insert(of.name()) {
            e.duplicate(Spot::of(of), of.name());
        }
    }
}

fn counter_set(e: &mut Errors<'_>, set: CounterSet<'_>) {
    let at = Spot::of(set).field(n::NAME);
    e.covered(|e| match set.name() {
        "" => e.required(at, ""),
        name => names::label(e, at, name),
    });
    counters(e, Spot::of(set).field(n::COUNTERS), set.counters());
}

fn consumption(e: &mut Errors<'_>, of: DeviceCounterConsumption<'_>) {
    let at = Spot::of(of).field(n::COUNTER_SET);
    e.covered(|e| match of.counter_set() {
        "" => e.required(at, ""),
        name => names::label(e, at, name),
    });
    counters(e, Spot::of(of).field(n::COUNTERS), of.counters());
}

fn counters(e: &mut Errors<'_>, at: Spot<'_>, counters: &Map) {
    if counters.is_empty() {
        return e.covered(|e| e.required(at, ""));
    }
    if names::fits(e, at, counters.len(), MOST_COUNTERS) {
        for (name, _) in counters.iter() {
            e.covered(|e| names::label(e, at, name.as_str()));
        }
    }
}

fn device(
    gates: Gates,
    e: &mut Errors<'_>,
    device: Device<'_>,
    old: Option<Device<'_>>,
    chosen: bool,
) {
    let at = Spot::of(device);
    names::label(e, at.field(n::NAME), device.name());
    for map in [n::ATTRIBUTES, n::CAPACITY] {
        device
            .node()
            .get(map)
            .into_iter()
            .for_each(|map| e.keyed(map));
    }
    let (attributes, capacities) = (device.attributes(), device.capacity());
    let keys = attributes.len() + capacities.len();
    if keys > MOST_KEYS {
        let detail =
            format!("the total number of attributes and capacities must not exceed {MOST_KEYS}");
        e.invalid(at, keys, detail);
    }
    let values: usize = attributes.iter().map(|(_, a)| values(a)).sum();
    if values > MOST_VALUES {
        let detail = format!("the total number of attribute values must not exceed {MOST_VALUES}");
        e.invalid(at, values, detail);
    }
    for (name, value) in attributes.iter() {
        let at = at.field(n::ATTRIBUTES);
        names::qualified(e, at, name.as_str());
        attribute(
            e,
            at.key(&names::shortened(name.as_str(), names::LONGEST_KEY)),
            value,
        );
    }
    let kept = |name| {
        let field = Device::MESSAGE.field(name);
        let (now, old) = (device.node(), old.map(|old| old.node()));
        matches!((field, old), (Some(field), Some(old)) if alike_in(now.value(), old.value(), field))
    };
    if !kept(n::CAPACITY) {
        capacity::capacities(gates, e, device);
    }
    let taints = device.taints();
    if !kept(n::TAINTS) && names::fits(e, at.field(n::TAINTS), taints.len(), MOST_TAINTS) {
        taints
            .iter()
            .for_each(|of| claim::taint(e, of.node(), None));
    }
    consumed(e, at, device.consumes_counters());
    place(e, device, chosen);
    names::bindings(e, device.node());
    allocatable::resources(e, device);
}

fn consumed(e: &mut Errors<'_>, at: Spot<'_>, sets: List<'_, DeviceCounterConsumption<'_>>) {
    if sets.len() > MOST_CONSUMED_SETS {
        let at = at.field(n::CONSUMES_COUNTERS);
        return e.covered(|e| e.too_many(at, sets.len(), MOST_CONSUMED_SETS));
    }
    sets.iter().for_each(|of| consumption(e, of));
    claim::repeated(e, sets, |of| of.counter_set());
}

/// Each value of a list counts.
fn values(attribute: &Value) -> usize {
    let lists = LISTS
        .iter()
        .map(|list| Node::new(attribute).items(*list).len());
    lists.sum::<usize>().max(1)
}

fn attribute(e: &mut Errors<'_>, at: Spot<'_>, attribute: &Value) {
    let node = Node::new(attribute);
    let mut given =
        usize::from(node.get(n::BOOL).is_some()) + usize::from(node.get(n::INT).is_some());
    if let Some(value) = node.opt_str(n::STRING) {
        given += 1;
        if value.len() > LONGEST_VALUE {
            e.too_long(at.field(n::STRING), LONGEST_VALUE);
        }
    }
    if let Some(value) = node.opt_str(n::VERSION) {
        given += 1;
        version(e, at.field(n::VERSION), value);
    }
    for list in LISTS {
        let Some(value) = node.get(list) else {
            continue;
        };
        given += 1;
        if node.items(list).is_empty() {
            let detail = "must not be empty if specified";
            e.invalid(at.field(list), rules::json(Some(value)), detail);
        }
        for item in node.items(list) {
            let (at, text) = (Spot::node(item), item.as_str().unwrap_or_default());
            if list == n::STRINGS && text.len() > LONGEST_VALUE {
                e.covered(|e| e.too_long(at, LONGEST_VALUE));
            }
            if list == n::VERSIONS {
                version(e, at, text);
            }
        }
    }
    if given != 1 {
        let detail = "exactly one value must be specified";
        let shown = match given {
            0 => "".show(),
            _ => Internal(Some(node.value()), DEVICE_ATTRIBUTE).show(),
        };
        e.covered(|e| e.invalid(at, rules::Printed(shown), detail));
    }
}

fn version(e: &mut Errors<'_>, at: Spot<'_>, text: &str) {
    if !is_semantic(text) {
        let detail = "must be a string compatible with semver.org spec 2.0.0";
        e.invalid(at, text, detail);
    }
    if text.len() > LONGEST_VALUE {
        e.too_long(at, LONGEST_VALUE);
    }
}

/// Three numbers; what stands behind a dash; what stands behind a plus.
fn is_semantic(text: &str) -> bool {
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let number =
        |part: &str| !part.is_empty() && digits(part) && (part == "0" || !part.starts_with('0'));
    let (rest, build) = text
        .split_once('+')
        .map_or((text, None), |(r, b)| (r, Some(b)));
    let (core, before) = rest
        .split_once('-')
        .map_or((rest, None), |(r, b)| (r, Some(b)));
    let numbers: Vec<&str> = core.split('.').collect();
    numbers.len() == 3
        && numbers.into_iter().all(number)
        && before.is_none_or(|before| {
            let mut parts = before.split('.');
            parts.all(|part| word(part) && (!digits(part) || number(part)))
        })
        && build.is_none_or(|build| build.split('.').all(word))
}

/// Where one device is, if the slice leaves that to its devices.
fn place(e: &mut Errors<'_>, device: Device<'_>, chosen: bool) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    let (at, node) = (Spot::of(device), device.node());
    if !chosen {
        let fields = [n::NODE_NAME, n::NODE_SELECTOR, n::ALL_NODES];
        if fields.iter().any(|field| node.get(*field).is_some()) {
            let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            e.invalid(at, &Value::Null, detail);
        }
        return;
    }
    let mut set = Vec::new();
    match device.node_name() {
        Some("") => e.invalid(at.field(n::NODE_NAME), "", "must not be empty"),
        Some(name) => {
            set.push("`nodeName`");
            rules::each(e, device, n::NODE_NAME, text::subdomain_name(name, false));
        }
        None => {}
    }
    if let Some(selector) = device.node_selector() {
        set.push("`nodeSelector`");
        pod_spec::node_selector(e, selector, false);
    }
    if is_set(e, node, n::ALL_NODES) {
        set.push("`allNodes`");
    }
    match set.len() {
        0 => e.required(at, ONE),
        1 => {}
        _ => e.invalid(at, format!("{{{}}}", set.join(", ")), ONE),
    }
}

/// `ValidateDeviceTaintRule*`. An effect that stays is not looked at again.
pub(super) fn taint_rule(object: &Value, old: Option<&Value>, e: &mut Errors<'_>) {
    let rule = |object| DeviceTaintRule::of(Node::new(object)).spec();
    let now = rule(object);
    if let Some(of) = now.device_selector() {
        selector(e, of);
    }
    let was = old.map(|old| rule(old).taint().node());
    claim::taint(e, now.taint().node(), was);
}

fn selector(e: &mut Errors<'_>, selector: DeviceTaintSelector<'_>) {
    let at = Spot::of(selector);
    if let Some(driver) = selector.driver() {
        names::driver(e, at.field(n::DRIVER), driver);
    }
    if let Some(pool) = selector.pool() {
        names::pool(e, at.field(n::POOL), pool);
    }
    if let Some(device) = selector.device() {
        names::label(e, at.field(n::DEVICE), device);
    }
}

pub(super) fn taint_rule_status(object: &Value, e: &mut Errors<'_>) {
    const MOST: usize = 8;
    let status = DeviceTaintRule::of(Node::new(object)).status();
    if let Some(conditions) = status.node().get(n::CONDITIONS) {
        meta::validate_conditions(conditions, e);
    }
    let (at, length) = (
        Spot::of(status).field(n::CONDITIONS),
        status.conditions().len(),
    );
    names::fits(e, at, length, MOST);
}
