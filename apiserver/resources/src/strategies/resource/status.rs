//! What a claim got: `ValidateResourceClaimStatusUpdate` in `pkg/apis/resource/validation`.
//!
//! Whether somebody may bind claims, or report of devices, comes as an objection.

use std::collections::HashSet;

use proto::catalogue::names as n;
use proto::meta::address::Range;
use proto::path::{Errors, Named, Show, Spot};
use proto::view::resource_v1::{
    AllocatedDeviceStatus, AllocationResult, DeviceAllocationConfiguration,
    DeviceRequestAllocationResult, NetworkDeviceData, ResourceClaim, ResourceClaimStatus,
};
use proto::view::resource_v1alpha3::ResourcePoolStatusRequestStatus;
use proto::view::{Node, View};
use proto::{Value, meta};

use super::{claim, names};
use crate::equal::alike;
use crate::rules;
use crate::shown::Internal;
use crate::strategies::pod_spec;

const MOST_USERS: usize = 256;
const MOST_RESULTS: usize = 32;
const MOST_CONFIGURATIONS: usize = 64;
const MOST_CONDITIONS: usize = 8;

pub(super) fn update(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let (now, was) = (
        ResourceClaim::of(Node::new(new)),
        ResourceClaim::of(Node::new(old)).status(),
    );
    let known = claim::Requests::of(now.spec().devices());
    let status = now.status();
    users(e, status);
    devices(e, status);
    reserved(e, status, was, meta::is_deleting(new));
    match (status.allocation(), was.allocation()) {
        (Some(now), Some(was)) => {
            let (a, b) = (now.node().value(), was.node().value());
            if !alike(Some(a), Some(b), AllocationResult::MESSAGE) {
                e.covered(|e| e.invalid(Spot::of(now), Internal::of(now), rules::IMMUTABLE));
            }
        }
        (Some(now), None) => allocation(e, now, &known),
        (None, _) => {}
    }
}

/// `ValidateResourcePoolStatusRequestStatusUpdate`: an answer is given once.
pub(super) fn pool(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let (now, was) = (new.get(n::STATUS), old.get(n::STATUS));
    if was.is_some() {
        if !alike(now, was, ResourcePoolStatusRequestStatus::MESSAGE) {
            let shown = Internal(now, ResourcePoolStatusRequestStatus::MESSAGE);
            e.invalid(Spot::node(new).field(n::STATUS), shown, rules::IMMUTABLE);
        }
    } else if let Some(conditions) = new.at(&[n::STATUS, n::CONDITIONS]) {
        meta::validate_conditions(conditions, e);
    }
}

fn users(e: &mut Errors<'_>, status: ResourceClaimStatus<'_>) {
    let users = status.reserved_for();
    if users.len() > MOST_USERS {
        let at = Spot::of(status).field(n::RESERVED_FOR);
        return e.covered(|e| e.too_many(at, users.len(), MOST_USERS));
    }
    for user in users {
        for field in [n::RESOURCE, n::NAME, n::UID] {
            rules::required(e, user, field);
        }
    }
    claim::repeated(e, users, |of| of.uid());
}

/// A claim that goes gets no new users.
fn reserved(
    e: &mut Errors<'_>,
    status: ResourceClaimStatus<'_>,
    was: ResourceClaimStatus<'_>,
    deleting: bool,
) {
    let at = Spot::of(status).field(n::RESERVED_FOR);
    if status.reserved_for().is_empty() {
        return;
    }
    if status.allocation().is_none() {
        return e.forbidden(at, "may not be specified when `allocated` is not set");
    }
    let known = |user: &Value| was.node().items(n::RESERVED_FOR).contains(user);
    let added = !status.node().items(n::RESERVED_FOR).iter().all(known);
    if deleting && added {
        let detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        e.forbidden(at, detail);
    }
}

/// What makes a device, or a share of one, unique.
type Device<'a> = (&'a str, &'a str, &'a str, &'a str);

pub(super) fn allocated(status: ResourceClaimStatus<'_>) -> HashSet<Device<'_>> {
    let allocations = status.allocation().into_iter();
    let results = allocations.flat_map(|allocation| allocation.devices().results());
    results
        .map(|of| {
            (
                of.driver(),
                of.pool(),
                of.device(),
                of.share_id().unwrap_or_default(),
            )
        })
        .collect()
}

pub(super) fn reported(of: AllocatedDeviceStatus<'_>) -> Device<'_> {
    (
        of.driver(),
        of.pool(),
        of.device(),
        of.share_id().unwrap_or_default(),
    )
}

fn devices(e: &mut Errors<'_>, status: ResourceClaimStatus<'_>) {
    let allocated = allocated(status);
    let devices = status.devices();
    for of in devices {
        device(e, of, allocated.contains(&reported(of)));
    }
    let mut seen = HashSet::new();
    for of in devices {
        if !seen.insert(reported(of)) {
            let shown = shown(reported(of));
            e.covered(|e| e.duplicate(Spot::of(of), shown));
        }
    }
}

/// As Go shows the key of a device.
fn shown((driver, pool, device, share): Device<'_>) -> rules::Printed {
    let text = |text: &str| Named(text).show();
    rules::Printed(format!(
        r#"{{"Driver":{},"Pool":{},"Device":{},"ShareID":{}}}"#,
        text(driver),
        text(pool),
        text(device),
        text(share)
    ))
}

fn device(e: &mut Errors<'_>, device: AllocatedDeviceStatus<'_>, allocated: bool) {
    let at = Spot::of(device);
    names::driver(e, at.field(n::DRIVER), device.driver());
    names::pool(e, at.field(n::POOL), device.pool());
    names::label(e, at.field(n::DEVICE), device.device());
    if let Some(share) = device.share_id() {
        e.covered(|e| names::uid(e, at.field(n::SHARE_ID), share));
    }
    if !allocated {
        let detail = "must be an allocated device in the claim";
        e.invalid(at, shown(reported(device)), detail);
    }
    let conditions = device.conditions().len();
    names::fits(e, at.field(n::CONDITIONS), conditions, MOST_CONDITIONS);
    if let Some(conditions) = device.node().get(n::CONDITIONS) {
        meta::validate_conditions(conditions, e);
    }
    let data = device.node().opt_bytes(n::DATA).unwrap_or_default();
    if !data.is_empty() {
        names::object(e, at.field(n::DATA), data, false);
    }
    if let Some(of) = device.network_data() {
        network(e, of);
    }
}

fn network(e: &mut Errors<'_>, data: NetworkDeviceData<'_>) {
    const MOST_IPS: usize = 16;
    let at = Spot::of(data);
    for (field, longest) in [(n::INTERFACE_NAME, 256), (n::HARDWARE_ADDRESS, 128)] {
        if data.node().str(field).len() > longest {
            e.covered(|e| e.too_long(at.field(field), longest));
        }
    }
    let ips = data.ips();
    if ips.len() > MOST_IPS {
        return e.covered(|e| e.too_many(at.field(n::IPS), ips.len(), MOST_IPS));
    }
    for item in ips {
        let (at, text) = (Spot::node(item), item.as_str().unwrap_or_default());
        if let Some(problem) = interface_problem(text) {
            e.invalid(at, text, problem);
        }
    }
    for (i, item) in ips.iter().enumerate() {
        if ips[..i].contains(item) {
            let text = item.as_str().unwrap_or_default();
            e.covered(|e| e.duplicate(Spot::node(item), text));
        }
    }
}

/// `IsValidInterfaceAddress`: an address with the length of its network, in canonical form.
fn interface_problem(text: &str) -> Option<String> {
    let Some(range) = Range::parse(text) else {
        let rule = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
        return Some(rule.into());
    };
    let address = range.address.to_canonical();
    let mapped = address.is_ipv4() && range.address.is_ipv6();
    let length = range.length - if mapped && range.length > 32 { 96 } else { 0 };
    let canonical = format!("{address}/{length}");
    (text != canonical).then(|| format!("must be in canonical form (\"{canonical}\")"))
}

fn allocation(e: &mut Errors<'_>, allocation: AllocationResult<'_>, known: &claim::Requests<'_>) {
    let devices = allocation.devices();
    let (at, results) = (Spot::of(devices).field(n::RESULTS), devices.results());
    if results.len() > MOST_RESULTS {
        e.covered(|e| e.too_many(at, results.len(), MOST_RESULTS));
    } else {
        results.iter().for_each(|of| result(e, of, known));
    }
    let (at, config) = (Spot::of(devices).field(n::CONFIG), devices.config());
    if config.len() > MOST_CONFIGURATIONS {
        e.covered(|e| e.too_many(at, config.len(), MOST_CONFIGURATIONS));
    } else {
        config.iter().for_each(|of| configuration(e, of, known));
    }
    if let Some(selector) = allocation.node_selector() {
        pod_spec::node_selector(e, selector, false);
    }
}

fn result(
    e: &mut Errors<'_>,
    result: DeviceRequestAllocationResult<'_>,
    known: &claim::Requests<'_>,
) {
    let at = Spot::of(result);
    claim::reference(e, at.field(n::REQUEST), result.request(), known);
    e.covered(|e| names::driver(e, at.field(n::DRIVER), result.driver()));
    e.covered(|e| names::pool(e, at.field(n::POOL), result.pool()));
    names::label(e, at.field(n::DEVICE), result.device());
    names::bindings(e, result.node());
    for of in result.tolerations() {
        claim::toleration(e, of);
    }
    if let Some(share) = result.share_id() {
        e.covered(|e| names::uid(e, at.field(n::SHARE_ID), share));
    }
    skipped(e, result.node());
}

/// `validateSkipNodeOperations`: what is not prepared cannot be unprepared.
pub(super) fn skipped(e: &mut Errors<'_>, holder: Node<'_>) {
    let items = holder.items(n::SKIP_NODE_OPERATIONS);
    let has = |operation: &str| rules::texts(items).any(|text| text == operation);
    if has("NodePrepareResources") && !has("NodeUnprepareResources") && !has("*") {
        let at = Spot::node(holder.value()).field(n::SKIP_NODE_OPERATIONS);
        let shown = rules::json(holder.get(n::SKIP_NODE_OPERATIONS));
        let detail =
            "NodePrepareResources cannot be skipped unless NodeUnprepareResources is also skipped";
        e.invalid(at, shown, detail);
    }
}

fn configuration(
    e: &mut Errors<'_>,
    config: DeviceAllocationConfiguration<'_>,
    known: &claim::Requests<'_>,
) {
    const SOURCES: [&str; 2] = ["FromClaim", "FromClass"];
    let (at, source) = (Spot::of(config).field(n::SOURCE), config.source());
    e.covered(|e| match source {
        "" => e.required(at, ""),
        _ if !SOURCES.contains(&source) => e.not_supported(at, Named(source), &SOURCES),
        _ => {}
    });
    claim::references(e, config.node(), known);
    claim::configuration(e, config.node(), false);
}
