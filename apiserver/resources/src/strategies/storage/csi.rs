//! What drivers say of themselves: `ValidateCSIDriver*`, `ValidateCSINode*`,
//! `ValidateCSIStorageCapacity*` in `pkg/apis/storage/validation`.

use std::collections::HashSet;

use proto::catalogue::{Gates, gate, names as n};
use proto::meta::names;
use proto::path::{Errors, FieldError, Spot};
use proto::quantity::Quantity;
use proto::selector::{SelectorRules, validate_label_selector};
use proto::view::storage_v1::{
    CSIDriver, CSIDriverSpec, CSINode, CSINodeDriver, CSIStorageCapacity, StorageHealthCondition,
};
use proto::view::{Node, View};
use proto::{MsgId, Value};

use super::class::{driver_name, known_item};
use crate::equal::alike_in;
use crate::rules;
use crate::shown::Internal;

/// Upstream's name for `attachRequired`.
const ATTACH_REQUIRED: &str = ".attachedRequired";

fn driver_spec(object: &Value) -> CSIDriverSpec<'_> {
    CSIDriver::of(Node::new(object)).spec()
}

/// `validateCSIDriverSpec`.
pub(super) fn driver(gates: Gates, object: &Value, e: &mut Errors<'_>) {
    let spec = driver_spec(object);
    let at = Spot::of(spec);
    if spec.attach_required().is_none() {
        let field = rules::beside(e, at, ATTACH_REQUIRED);
        e.push(FieldError::required(field, ""));
    }
    for field in [n::POD_INFO_ON_MOUNT, n::STORAGE_CAPACITY] {
        rules::required(e, spec, field);
    }
    if let Some(policy) = spec.fs_group_policy() {
        const POLICIES: [&str; 3] = ["File", "None", "ReadWriteOnceWithFSType"];
        rules::known(e, at.field(n::FS_GROUP_POLICY), policy, &POLICIES);
    }
    tokens(e, spec);
    let modes = at.field(n::VOLUME_LIFECYCLE_MODES);
    for mode in spec.volume_lifecycle_modes() {
        known_item(e, modes, mode, &["Persistent", "Ephemeral"]);
    }
    if gates.has(gate::SE_LINUX_MOUNT_READ_WRITE_ONCE_POD) {
        rules::required(e, spec, n::SE_LINUX_MOUNT);
    }
    if let Some(period) = spec.node_allocatable_update_period_seconds()
        && period < 10
    {
        let detail = "must be greater than or equal to 10 seconds";
        e.invalid(
            at.field(n::NODE_ALLOCATABLE_UPDATE_PERIOD_SECONDS),
            period,
            detail,
        );
    }
    if let Some(set) = spec.service_account_token_in_secrets()
        && spec.token_requests().is_empty()
    {
        let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        e.invalid(at.field(n::SERVICE_ACCOUNT_TOKEN_IN_SECRETS), set, detail);
    }
    if gates.has(gate::VOLUME_LIMIT_SCALING) {
        rules::required(e, spec, n::PREVENT_POD_SCHEDULING_IF_MISSING);
    }
}

fn tokens(e: &mut Errors<'_>, spec: CSIDriverSpec<'_>) {
    const SHORTEST: i64 = 600;
    const LONGEST: i64 = 1 << 32;
    let mut audiences = HashSet::new();
    for request in spec.token_requests() {
        let at = Spot::of(request);
        if !audiences.insert(request.audience()) {
            e.duplicate(at.field(n::AUDIENCE), request.audience());
            continue;
        }
        let Some(seconds) = request.expiration_seconds() else {
            continue;
        };
        let at = at.field(n::EXPIRATION_SECONDS);
        if seconds < SHORTEST {
            e.invalid(
                at,
                seconds,
                "may not specify a duration less than 10 minutes",
            );
        }
        if seconds > LONGEST {
            e.invalid(
                at,
                seconds,
                "may not specify a duration larger than 2^32 seconds",
            );
        }
    }
}

pub(super) fn driver_update(gates: Gates, new: &Value, old: &Value, e: &mut Errors<'_>) {
    driver(gates, new, e);
    let (now, was) = (driver_spec(new), driver_spec(old));
    if now.attach_required() != was.attach_required() {
        let field = rules::beside(e, Spot::of(now), ATTACH_REQUIRED);
        let shown = rules::json(now.node().get(n::ATTACH_REQUIRED));
        e.push(FieldError::invalid(field, shown, rules::IMMUTABLE));
    }
    if now.volume_lifecycle_modes() != was.volume_lifecycle_modes() {
        let at = Spot::of(now).field(n::VOLUME_LIFECYCLE_MODES);
        let shown = rules::json(now.node().get(n::VOLUME_LIFECYCLE_MODES));
        e.invalid(at, shown, rules::IMMUTABLE);
    }
}

pub(super) fn node(object: &Value, e: &mut Errors<'_>) {
    let mut seen = HashSet::new();
    for driver in CSINode::of(Node::new(object)).spec().drivers() {
        node_driver(e, driver, &mut seen);
    }
}

/// `validateCSINodeDriver`.
fn node_driver<'a>(e: &mut Errors<'_>, driver: CSINodeDriver<'a>, seen: &mut HashSet<&'a str>) {
    const LONGEST_ID: usize = 256;
    let at = Spot::of(driver);
    driver_name(e, at.field(n::NAME), driver.name());
    rules::required(e, driver, n::NODE_ID);
    if driver.node_id().len() > LONGEST_ID {
        let detail = format!("must be {LONGEST_ID} characters or less");
        e.invalid(at.field(n::NODE_ID), driver.node_id(), detail);
    }
    if let Some(allocatable) = driver.allocatable() {
        rules::not_negative(e, allocatable, n::COUNT);
    }
    if !seen.insert(driver.name()) {
        e.duplicate(at.field(n::NAME), driver.name());
    }
    let mut keys = HashSet::new();
    for key in rules::texts(driver.topology_keys()) {
        if key.is_empty() {
            e.required(at, "");
        }
        if !keys.insert(key) {
            e.duplicate(at, key);
        }
        e.invalid_each(at, key, names::label_key_problems(key));
    }
}

/// A driver that stays changes nothing but how many volumes it can have.
pub(super) fn node_update(new: &Value, old: &Value, e: &mut Errors<'_>) {
    node(new, e);
    let spec = |object| CSINode::of(Node::new(object)).spec();
    let fixed = |driver: CSINodeDriver<'_>| {
        let mut driver = driver.node().value().clone();
        drop(driver.remove(&[n::ALLOCATABLE]));
        driver
    };
    let at = Spot::of(spec(new)).field(n::DRIVERS);
    for was in spec(old).drivers() {
        for now in spec(new)
            .drivers()
            .iter()
            .filter(|d| d.name() == was.name())
        {
            let now = fixed(now);
            if now != fixed(was) {
                const DRIVER: MsgId = CSINodeDriver::MESSAGE;
                e.invalid(at, Internal(Some(&now), DRIVER), rules::IMMUTABLE);
            }
        }
    }
}

/// What drivers report of the health of volumes: `ValidateCSINodeStatusUpdate`.
pub(super) fn node_status(object: &Value, e: &mut Errors<'_>) {
    const MOST: usize = 16;
    let mut seen = HashSet::new();
    for health in CSINode::of(Node::new(object)).status().storage_health() {
        let at = Spot::of(health);
        if !seen.insert(health.name()) {
            e.duplicate(at, health.name());
        }
        driver_name(e, at.field(n::NAME), health.name());
        let conditions = health.health_conditions();
        if conditions.len() > MOST {
            e.too_many(at.field(n::HEALTH_CONDITIONS), conditions.len(), MOST);
        } else {
            conditions.iter().for_each(|of| health_condition(e, of));
        }
    }
}

fn health_condition(e: &mut Errors<'_>, condition: StorageHealthCondition<'_>) {
    const STATES: [&str; 2] = ["StorageDegraded", "StorageUnreachable"];
    const MODES: [&str; 4] = [
        "ReadOnlyMany",
        "ReadWriteMany",
        "ReadWriteOnce",
        "ReadWriteOncePod",
    ];
    const LONGEST_REASON: usize = 256;
    const LONGEST_MESSAGE: usize = 1024;
    let at = Spot::of(condition);
    rules::known(e, at.field(n::STATUS), condition.status(), &STATES);
    if rules::required(e, condition, n::REASON) {
        let problems = names::condition_reason_problems(condition.reason());
        rules::each(e, condition, n::REASON, problems);
        if condition.reason().len() > LONGEST_REASON {
            e.too_long(at.field(n::REASON), LONGEST_REASON);
        }
    }
    if condition.message().len() > LONGEST_MESSAGE {
        e.too_long(at.field(n::MESSAGE), LONGEST_MESSAGE);
    }
    if let Some(mode) = condition.access_mode() {
        rules::known(e, at.field(n::ACCESS_MODE), mode, &MODES);
    }
    if let Some(mode) = condition.volume_mode() {
        rules::known(e, at.field(n::VOLUME_MODE), mode, &["Filesystem", "Block"]);
    }
}

/// Values of labels that a stored selector has wrong may stay wrong.
pub(super) fn capacity(object: &Value, old: Option<&Value>, e: &mut Errors<'_>) {
    let view = CSIStorageCapacity::of(Node::new(object));
    let selector = |object: &'_ Value| object.get(n::NODE_TOPOLOGY).is_some();
    if let Some(topology) = object.get(n::NODE_TOPOLOGY) {
        let wrong = |old: &Value| {
            let old = old.get(n::NODE_TOPOLOGY).unwrap_or(&Value::Null);
            rules::breaks(|e| validate_label_selector(old, SelectorRules::default(), e))
        };
        let rules = SelectorRules {
            allow_invalid_values: old.is_some_and(|old| selector(old) && wrong(old)),
            ..SelectorRules::default()
        };
        validate_label_selector(topology, rules, e);
    }
    let problems = names::subdomain_name(view.storage_class_name(), false);
    rules::each(e, view, n::STORAGE_CLASS_NAME, problems);
    if let Some(text) = view.capacity()
        && text.parse::<Quantity>().is_ok_and(|q| q.signum() < 0)
    {
        e.invalid(Spot::of(view).field(n::CAPACITY), text, rules::NOT_NEGATIVE);
    }
}

/// What was asked of the driver stays as it is.
pub(super) fn capacity_update(new: &Value, old: &Value, e: &mut Errors<'_>) {
    capacity(new, Some(old), e);
    let (now, was) = (
        CSIStorageCapacity::of(Node::new(new)),
        CSIStorageCapacity::of(Node::new(old)),
    );
    let at = Spot::of(now);
    let topology = CSIStorageCapacity::MESSAGE.field(n::NODE_TOPOLOGY);
    if topology.is_some_and(|field| !alike_in(new, old, field)) {
        let shown = now.node_topology().map(Internal::of);
        let none = Internal(None, CSIStorageCapacity::MESSAGE);
        let shown = shown.unwrap_or(none);
        e.invalid(at.field(n::NODE_TOPOLOGY), shown, rules::IMMUTABLE);
    }
    if now.storage_class_name() != was.storage_class_name() {
        let at = at.field(n::STORAGE_CLASS_NAME);
        e.invalid(at, now.storage_class_name(), rules::IMMUTABLE);
    }
}
