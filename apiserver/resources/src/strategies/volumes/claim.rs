//! Claims of volumes: `pkg/registry/core/persistentvolumeclaim`, `ValidatePersistentVolumeClaim` and below.

use proto::catalogue::{Gates, gate, names as n};
use proto::meta::names;
use proto::path::{Errors, FieldError, Named, Spot};
use proto::quantity::Quantity;
use proto::selector::{SelectorRules, validate_label_selector};
use proto::view::core_v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec};
use proto::view::{Node, View};
use proto::{Map, NameId, Value, meta};

use super::{
    BETA_CLASS, STORAGE, UNSET, USE_CLASS_NAME, VOLUME_MODES, access_modes, amount, basic, class,
    class_text, modes_text, phase_text, positive, storage_text,
};
use crate::declarative::NO_OPTIONS;
use crate::equal::{alike, same_at};
use crate::gated::{self, Gated};
use crate::strategies::pod_spec;
use crate::strategy::{
    Generation, Part, Strategy, clear_status, keep_all_but_metadata_and_status, keep_status,
};
use crate::table::row;
use crate::warnings::Warnings;
use crate::{resource_names, rules, shown};

pub static PERSISTENT_VOLUME_CLAIM: Strategy = Strategy {
    declarative: Some(NO_OPTIONS),
    warnings: |_, object, _| {
        let mut w = Warnings::new(object);
        if meta::annotation(object, BETA_CLASS).is_some() {
            w.push(format!(
                "metadata.annotations[{BETA_CLASS}]: {USE_CLASS_NAME}"
            ));
        }
        let spec = PersistentVolumeClaim::of(Node::new(object)).spec();
        pod_spec::warnings::claim_spec(&mut w, spec, "spec");
        w.into_vec()
    },
    prepare_create: |cx, new| {
        clear_status(new);
        gated::drop_unused(cx.gates, new, None, &[CLASS]);
        drop_foreign_source(cx.gates, new, None);
        if !is_of_old_kinds(new) {
            new.remove(&[n::SPEC, n::DATA_SOURCE]);
        }
        one_data_source(new);
    },
    prepare_update: |cx, new, old| {
        keep_status(new, old);
        gated::drop_unused(cx.gates, new, Some(old), &[CLASS]);
        drop_foreign_source(cx.gates, new, Some(old));
        let in_use = |field| old.at(&[n::SPEC, field]).is_some();
        let old_way = !in_use(n::DATA_SOURCE) && !in_use(n::DATA_SOURCE_REF);
        if old_way && !is_of_old_kinds(new) {
            new.remove(&[n::SPEC, n::DATA_SOURCE]);
        }
        one_data_source(new);
    },
    validate: |_, object, e| claim(object, None, e),
    validate_update: |_, new, old, e| {
        claim(new, Some(old), e);
        update(new, old, e);
    },
    status: Some(Part {
        prepare_update: |cx, new, old| {
            keep_all_but_metadata_and_status(new, old);
            gated::drop_unused(cx.gates, new, Some(old), GATED_STATUS);
        },
        validate_update: |_, new, _, e| status(new, e),
        ..Part::STATUS
    }),
    generation: Generation::Ignored,
    cells: Some(cells),
    ..Strategy::WITH_STATUS
};

pub(super) const CLASS: Gated = (
    gate::VOLUME_ATTRIBUTES_CLASS,
    &[n::SPEC, n::VOLUME_ATTRIBUTES_CLASS_NAME],
);
const GATED_STATUS: &[Gated] = &[
    (gate::CSI_VOLUME_HEALTH, &[n::STATUS, n::HEALTH_STATUS]),
    (
        gate::VOLUME_ATTRIBUTES_CLASS,
        &[n::STATUS, n::CURRENT_VOLUME_ATTRIBUTES_CLASS_NAME],
    ),
    (
        gate::VOLUME_ATTRIBUTES_CLASS,
        &[n::STATUS, n::MODIFY_VOLUME_STATUS],
    ),
    (
        gate::RECOVER_VOLUME_EXPANSION_FAILURE,
        &[n::STATUS, n::ALLOCATED_RESOURCES],
    ),
    (
        gate::RECOVER_VOLUME_EXPANSION_FAILURE,
        &[n::STATUS, n::ALLOCATED_RESOURCE_STATUSES],
    ),
];

/// Behind a gate, `CrossNamespaceVolumeDataSource`: sources of another namespace.
fn drop_foreign_source(gates: Gates, new: &mut Value, old: Option<&Value>) {
    if gates.has(gate::CROSS_NAMESPACE_VOLUME_DATA_SOURCE) {
        return;
    }
    let way = [n::SPEC, n::DATA_SOURCE_REF];
    let there = |claim: &Value| claim.at(&way).is_some_and(|source| !source.is_null());
    let foreign = new
        .at(&way)
        .is_some_and(|source| !namespace_of(source).is_empty());
    if foreign && !old.is_some_and(there) {
        new.remove(&way);
    }
}

/// Whether `dataSource` may stand: clients that do not know `dataSourceRef` only ever got volumes of
/// claims and snapshots, and anything else was dropped.
fn is_of_old_kinds(claim: &Value) -> bool {
    let spec = PersistentVolumeClaim::of(Node::new(claim)).spec();
    spec.data_source_ref().is_some()
        || spec.data_source().is_none_or(|source| {
            matches!(
                (source.api_group().unwrap_or_default(), source.kind()),
                ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
            )
        })
}

/// `dataSource` and `dataSourceRef` are one: whichever is given is both, unless it is of another
/// namespace.
fn one_data_source(claim: &mut Value) {
    let spec = claim.ensure(&[n::SPEC]).make_map();
    let given = |spec: &Map, field| spec.get(field).filter(|v| !v.is_null()).cloned();
    let local = |source: &Value| {
        let mut copy = Map::new();
        for field in [n::API_GROUP, n::KIND, n::NAME] {
            if let Some(value) = source.get(field) {
                copy.insert(field, value.clone());
            }
        }
        Value::Map(copy)
    };
    match (given(spec, n::DATA_SOURCE), given(spec, n::DATA_SOURCE_REF)) {
        (Some(source), None) => drop(spec.insert(n::DATA_SOURCE_REF, local(&source))),
        (None, Some(source)) if namespace_of(&source).is_empty() => {
            spec.insert(n::DATA_SOURCE, local(&source));
        }
        _ => {}
    }
}

fn namespace_of(source: &Value) -> &str {
    source
        .get(n::NAMESPACE)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// What an old claim has wrong may stay wrong.
#[derive(Clone, Copy, Default)]
struct Lenient {
    groups: bool,
    selector: bool,
}

impl Lenient {
    /// `ValidationOptionsForPersistentVolumeClaim`.
    fn of(old: &Value) -> Self {
        let spec = PersistentVolumeClaim::of(Node::new(old)).spec();
        let group = |field| old.at(&[n::SPEC, field, n::API_GROUP]);
        let selector = spec.node().get(n::SELECTOR).is_some_and(|selector| {
            let mut found = Errors::new(old);
            validate_label_selector(selector, SelectorRules::default(), &mut found);
            !found.is_empty()
        });
        Self {
            groups: [n::DATA_SOURCE, n::DATA_SOURCE_REF]
                .into_iter()
                .any(|field| group(field).is_some_and(|group| !group.is_null())),
            selector,
        }
    }
}

pub(super) fn claim(object: &Value, old: Option<&Value>, e: &mut Errors<'_>) {
    let spec = PersistentVolumeClaim::of(Node::new(object)).spec();
    // The old claim is as today's servers have it.
    let lenient = old.map_or_else(Lenient::default, |old| {
        let mut old = old.clone();
        one_data_source(&mut old);
        Lenient::of(&old)
    });
    claim_spec(e, spec, lenient);
}

/// The specification of a claim that will be made.
pub fn claim_template_spec(e: &mut Errors<'_>, spec: PersistentVolumeClaimSpec<'_>) {
    claim_spec(e, spec, Lenient::default());
}

/// `ValidatePersistentVolumeClaimSpec`.
fn claim_spec(e: &mut Errors<'_>, spec: PersistentVolumeClaimSpec<'_>, lenient: Lenient) {
    let at = |field| Spot::of(spec).field(field);
    if spec.access_modes().is_empty() {
        e.required(at(n::ACCESS_MODES), "at least 1 access mode is required");
    }
    if let Some(selector) = spec.node().get(n::SELECTOR) {
        let rules = SelectorRules {
            allow_invalid_values: lenient.selector,
            ..SelectorRules::default()
        };
        validate_label_selector(selector, rules, e);
    }
    access_modes(e, Spot::of(spec), spec.access_modes());
    let storage = at(n::RESOURCES).key(STORAGE);
    match spec.resources().requests().get(STORAGE) {
        None => e.required(storage, ""),
        Some(asked) => positive(e, storage, asked),
    }
    class(e, spec.node(), n::STORAGE_CLASS_NAME);
    if let Some(mode) = spec.volume_mode()
        && !VOLUME_MODES.contains(&mode)
    {
        e.not_supported(at(n::VOLUME_MODE), Named(mode), &VOLUME_MODES);
    }
    data_sources(e, spec, lenient);
    class(e, spec.node(), n::VOLUME_ATTRIBUTES_CLASS_NAME);
}

fn data_sources(e: &mut Errors<'_>, spec: PersistentVolumeClaimSpec<'_>, lenient: Lenient) {
    for field in [n::DATA_SOURCE, n::DATA_SOURCE_REF] {
        let Some(source) = spec.node().get(field).map(Node::new) else {
            continue;
        };
        let at = Spot::node(source.value());
        for field in [n::NAME, n::KIND] {
            if source.str(field).is_empty() {
                e.required(at.field(field), "");
            }
        }
        let group = source.str(n::API_GROUP);
        if group.is_empty() && source.str(n::KIND) != "PersistentVolumeClaim" {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            e.invalid(at, source.str(n::KIND), detail);
        }
        if !group.is_empty() && !lenient.groups {
            let problems = names::dns_subdomain_problems(group);
            e.invalid_each(at.field(n::API_GROUP), group, problems);
        }
        let namespace = source.str(n::NAMESPACE);
        if !namespace.is_empty() {
            let problems = names::label_name(namespace, false);
            e.invalid_each(at.field(n::NAMESPACE), namespace, problems);
        }
    }
    let node = spec.node();
    if let (Some(source), Some(reference)) =
        (node.get(n::DATA_SOURCE), node.get(n::DATA_SOURCE_REF))
    {
        let detail = if !namespace_of(reference).is_empty() {
            "may not be specified when dataSourceRef.namespace is specified"
        } else if [n::API_GROUP, n::KIND, n::NAME]
            .iter()
            .all(|field| same_at(source, reference, &[*field]))
        {
            return;
        } else {
            "must match dataSourceRef"
        };
        // Upstream shows the field's path, which has nothing to show.
        e.invalid(Spot::of(spec), &Value::object(), detail);
    }
}

/// `ValidatePersistentVolumeClaimUpdate`, apart from what is asked of every claim.
pub(super) fn update(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let (now, before) = (
        PersistentVolumeClaim::of(Node::new(new)),
        PersistentVolumeClaim::of(Node::new(old)),
    );
    let (spec, was) = (now.spec(), before.spec());
    let (named, had) = (beta_class(new), beta_class(old));
    if !takes_class_from_annotation(new, old) && named != had {
        // The path is upstream's.
        let at = format!("metadata.annotations.{BETA_CLASS}");
        let shown = named.unwrap_or_default();
        e.push(FieldError::invalid(at, shown, rules::IMMUTABLE));
    }
    let (after, old_spec) = (allowed(new, old), normal(new, old));
    let after = after.get(n::SPEC).unwrap_or(&Value::Null);
    let of = PersistentVolumeClaimSpec::MESSAGE;
    if !alike(Some(after), Some(&old_spec), of) {
        let difference = shown::difference(&old_spec, after, of);
        let detail = format!(
            "spec is immutable after creation except resources.requests and \
             volumeAttributesClassName for bound claims\n{difference}"
        );
        e.forbidden(Spot::of(spec), detail);
    }
    let size = |amounts: &Map| amount(amounts.get(STORAGE)).unwrap_or_default();
    let wants = size(spec.resources().requests());
    let has: Quantity = size(before.status().capacity());
    if wants < size(was.resources().requests()) && wants <= has {
        let at = e.path(Spot::of(spec)) + ".resources.requests.storage";
        let detail = "field can not be less than status.capacity";
        e.push(FieldError::forbidden(at, detail));
    }
    if spec.volume_mode() != was.volume_mode() {
        let shown = rules::json(spec.node().get(n::VOLUME_MODE));
        e.push(FieldError::invalid("volumeMode", shown, rules::IMMUTABLE));
    }
    attributes_stay(spec, before, e);
}

/// A class of attributes that was applied can be changed, and no longer taken away.
fn attributes_stay(
    spec: PersistentVolumeClaimSpec<'_>,
    old: PersistentVolumeClaim<'_>,
    e: &mut Errors<'_>,
) {
    let class = spec.volume_attributes_class_name();
    let to = match class {
        None => "nil",
        Some("") => "empty string",
        Some(_) => return,
    };
    let applied = old.status().current_volume_attributes_class_name();
    if applied.is_some() && old.spec().volume_attributes_class_name() != class {
        let detail = format!(
            "update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil"
        );
        let at = Spot::of(spec).field(n::VOLUME_ATTRIBUTES_CLASS_NAME);
        e.forbidden(at, detail);
    }
}

fn beta_class(claim: &Value) -> Option<&str> {
    meta::annotation(claim, BETA_CLASS)
}

fn class_of(claim: &Value) -> Option<&str> {
    let spec = PersistentVolumeClaim::of(Node::new(claim)).spec();
    spec.storage_class_name()
}

/// `validateStorageClassUpgradeFromAnnotation`.
fn takes_class_from_annotation(new: &Value, old: &Value) -> bool {
    let had = beta_class(old);
    had.is_some()
        && class_of(old).is_none()
        && class_of(new) == had
        && beta_class(new).is_none_or(|named| Some(named) == had)
}

/// The old specification as today's servers have it; a volume may be named once.
fn normal(new: &Value, old: &Value) -> Value {
    let mut old = old.clone();
    one_data_source(&mut old);
    let volume = [n::SPEC, n::VOLUME_NAME];
    let spec = PersistentVolumeClaim::of(Node::new(&old)).spec();
    if spec.volume_name().is_empty()
        && let Some(name) = new.at(&volume).cloned()
    {
        old.set(&volume, name);
    }
    old.remove(&[n::SPEC]).unwrap_or(Value::Null)
}

/// The new claim with everything else that may change as it was.
fn allowed(new: &Value, old: &Value) -> Value {
    fn keep(new: &mut Value, old: &Value, way: &[NameId]) {
        match old.at(way) {
            Some(value) => new.set(way, value.clone()),
            None => drop(new.remove(way)),
        }
    }
    let mut new = new.clone();
    let was = PersistentVolumeClaim::of(Node::new(old)).spec();
    // From the annotation, or from nothing, to the field.
    if was.storage_class_name().is_none() {
        let named = beta_class(old);
        let class = class_of(&new);
        if class.is_some() && named.is_none_or(|name| class == Some(name)) {
            new.remove(&[n::SPEC, n::STORAGE_CLASS_NAME]);
        }
    }
    let phase = new.at(&[n::STATUS, n::PHASE]).and_then(Value::as_str);
    if phase == Some("Bound") {
        let requests = [n::SPEC, n::RESOURCES, n::REQUESTS];
        let had = was.resources().requests().get(STORAGE).cloned();
        if let Some(requests) = new.at_mut(&requests).and_then(Value::as_map_mut) {
            requests.insert(STORAGE, had.unwrap_or_else(|| "0".into()));
        }
        keep(&mut new, old, &[n::SPEC, n::VOLUME_ATTRIBUTES_CLASS_NAME]);
    }
    new
}

/// `ValidatePersistentVolumeClaimStatusUpdate`.
fn status(object: &Value, e: &mut Errors<'_>) {
    const RESIZES: [&str; 5] = [
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    let claim = PersistentVolumeClaim::of(Node::new(object));
    let status = claim.status();
    if meta::resource_version(object).is_empty() {
        e.push(FieldError::required("resourceVersion", ""));
    }
    if claim.spec().access_modes().is_empty() {
        e.push(FieldError::required("Spec.accessModes", ""));
    }
    let at = |field| Spot::of(status).field(field);
    for (name, amount) in status.capacity().iter() {
        basic(e, at(n::CAPACITY).key(name.as_str()), amount);
    }
    let health = status.health_status();
    if let Some(health) = health {
        rules::health(e, health.health_conditions());
    }
    let resizing = at(n::ALLOCATED_RESOURCE_STATUSES);
    for (name, resize) in status.allocated_resource_statuses().iter() {
        resource_key(e, resizing, name.as_str());
        if !resize.as_str().is_some_and(|r| RESIZES.contains(&r)) {
            e.not_supported(resizing, Named(name.as_str()), &RESIZES);
        }
    }
    let allocated = at(n::ALLOCATED_RESOURCES);
    for (name, amount) in status.allocated_resources().iter() {
        let (name, before) = (name.as_str(), e.len());
        resource_key(e, allocated, name);
        if e.len() == before {
            basic(e, allocated.key(name), amount);
        }
        if e.len() == before {
            rules::resource_amount(e, allocated.key(name), STORAGE, amount);
        }
    }
}

/// `validatePersistentVolumeClaimResourceKey`: of Kubernetes' own resources only storage is claimed.
fn resource_key(e: &mut Errors<'_>, at: Spot<'_>, name: &str) {
    let problems = names::label_key_problems(name);
    if problems.is_empty() && resource_names::is_native(name) && name != STORAGE {
        e.not_supported(at, name, &[STORAGE]);
    }
    e.invalid_each(at, name, problems);
}

pub(super) fn cells(object: &Value, now: i64) -> Vec<Value> {
    let view = PersistentVolumeClaim::of(Node::new(object));
    let (spec, status) = (view.spec(), view.status());
    let (capacity, modes) = if spec.volume_name().is_empty() {
        (String::new(), String::new())
    } else {
        let capacity = storage_text(status.capacity()).to_owned();
        (capacity, modes_text(status.access_modes()))
    };
    let mut cells = row(
        object,
        now,
        [
            phase_text(object, status.phase()).into(),
            spec.volume_name().into(),
            capacity.into(),
            modes.into(),
            class_text(object, spec.storage_class_name()).into(),
            spec.volume_attributes_class_name().unwrap_or(UNSET).into(),
        ],
    );
    cells.push(spec.volume_mode().unwrap_or(UNSET).into());
    cells
}
