//! Volumes and claims of them.
//!
//! A claim says once what it wants; only its size, its class of attributes and (once) the volume that it
//! got change. A volume's source never does.
//!
//! Upstream: `pkg/registry/core/{persistentvolume,persistentvolumeclaim}`, `pkg/api/persistentvolumeclaim`,
//! `pkg/apis/core/validation` (`ValidatePersistentVolume` and below, `ValidatePersistentVolumeClaim`).

use proto::catalogue::{messages, names as n};
use proto::meta::names;
use proto::path::{Errors, FieldError, Spot};
use proto::quantity::Quantity;
use proto::view::core_v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec};
use proto::view::{Node, View};
use proto::{Map, NameId, Value, meta};

use crate::registry::equal::{same, same_at};
use crate::registry::rules;
use crate::registry::strategy::{
    Cx, Part, Strategy, clear_status, keep_all_but_status, keep_status,
};
use crate::registry::warnings::Warnings;
use crate::table::row;

const PENDING: &str = "Pending";
const STORAGE: &str = "storage";
const UNSET: &str = "<unset>";
/// The class of a claim or volume, before there was a field for it.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const USE_CLASS_NAME: &str = r#"deprecated since v1.8; use "storageClassName" attribute instead"#;

/// Modes of access with the short names that tables have, in the tables' order.
const ACCESS_MODES: [(&str, &str); 4] = [
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    (ONE_POD, "RWOP"),
];
const ONE_POD: &str = "ReadWriteOncePod";
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];

pub static PERSISTENT_VOLUME: Strategy = Strategy {
    warnings: |object, _| volume_warnings(object),
    default: |object| {
        let spec = object.ensure(&[n::SPEC]).make_map();
        for (field, value) in [
            (n::PERSISTENT_VOLUME_RECLAIM_POLICY, "Retain"),
            (n::VOLUME_MODE, "Filesystem"),
        ] {
            let there = spec.entry(field);
            if there.is_null() || there.as_str() == Some("") {
                *there = value.into();
            }
        }
    },
    prepare_create: |cx, new| {
        clear_status(new);
        new.set(&[n::STATUS, n::PHASE], PENDING);
        new.set(&[n::STATUS, n::LAST_PHASE_TRANSITION_TIME], cx.now);
    },
    validate: |_, object, e| volume(object, e),
    validate_update: |_, new, old, e| volume_update(new, old, e),
    status: Some(Part {
        prepare_update: phase_changed,
        ..Part::STATUS
    }),
    generation: false,
    cells: Some(volume_cells),
    ..Strategy::WITH_STATUS
};

/// A phase has the time of its beginning, unless the client says another.
fn phase_changed(cx: &Cx<'_>, new: &mut Value, old: &Value) {
    keep_all_but_status(new, old);
    let phase = |of: &Value| {
        let phase = of.at(&[n::STATUS, n::PHASE]).and_then(Value::as_str);
        phase.unwrap_or_default().to_owned()
    };
    let way = [n::STATUS, n::LAST_PHASE_TRANSITION_TIME];
    let (said, was) = (new.at(&way).cloned(), old.at(&way).cloned());
    if phase(new) != phase(old) {
        if said.is_none() || said == was {
            new.set(&way, cx.now);
        }
    } else if let (None, Some(was)) = (said, was) {
        new.set(&way, was);
    }
}

/// The kinds of sources, as fields of a volume's specification.
fn is_source(name: NameId) -> bool {
    let sources = messages::core_v1::PERSISTENT_VOLUME_SOURCE;
    sources.fields().any(|field| field.name == name)
}

fn sources(spec: Node<'_>) -> impl Iterator<Item = (NameId, &Value)> {
    let fields = spec.map().into_iter().flat_map(Map::iter);
    fields
        .filter(|(_, value)| !value.is_null())
        .filter_map(|(name, value)| Some((name.known()?, value)))
        .filter(|(name, _)| is_source(*name))
}

fn volume(object: &Value, e: &mut Errors<'_>) {
    let spec = PersistentVolume::of(Node::new(object)).spec();
    let at = Spot::of(spec);
    access_modes(e, at, spec.access_modes(), "");
    let capacity = spec.capacity();
    if capacity.is_empty() {
        e.required(at.field(n::CAPACITY), "");
    }
    if !capacity.contains(STORAGE) || capacity.len() > 1 {
        let value = Value::Map(capacity.clone());
        e.not_supported(at.field(n::CAPACITY), &value, &[STORAGE]);
    }
    for (name, amount) in capacity.iter() {
        let at = at.field(n::CAPACITY).key(name.as_str());
        positive(e, at, amount);
    }
    rules::one_of(
        e,
        spec,
        n::PERSISTENT_VOLUME_RECLAIM_POLICY,
        &["Delete", "Recycle", "Retain"],
    );
    let mut found = sources(spec.node()).map(|(name, _)| name);
    match found.next() {
        None => e.required(at, "must specify a volume type"),
        Some(_) => found.for_each(|more| {
            e.forbidden(at.field(more), "may not specify more than 1 volume type");
        }),
    }
    if let Some(path) = spec.host_path()
        && path.path().trim_end_matches('/').is_empty()
        && spec.persistent_volume_reclaim_policy() == "Recycle"
    {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        e.forbidden(at.field(n::PERSISTENT_VOLUME_RECLAIM_POLICY), detail);
    }
    class(e, spec.node(), n::STORAGE_CLASS_NAME);
    class(e, spec.node(), n::VOLUME_ATTRIBUTES_CLASS_NAME);
    rules::one_of(e, spec, n::VOLUME_MODE, &VOLUME_MODES);
    if let Some(class) = spec.volume_attributes_class_name() {
        if class.is_empty() {
            let at = at.field(n::VOLUME_ATTRIBUTES_CLASS_NAME);
            e.required(at, "an empty string is disallowed");
        }
        if spec.csi().is_none() {
            let detail = "has to be specified when using volumeAttributesClassName";
            e.required(at.field(n::CSI), detail);
        }
    }
}

fn volume_update(new: &Value, old: &Value, e: &mut Errors<'_>) {
    volume(new, e);
    let now = PersistentVolume::of(Node::new(new)).spec();
    let was = PersistentVolume::of(Node::new(old)).spec();
    let source = |spec: Node<'_>| -> Value {
        let mut all = Map::new();
        for (name, value) in sources(spec) {
            all.insert(name, value.clone());
        }
        Value::Map(all)
    };
    let (mut a, b) = (source(now.node()), source(was.node()));
    let expands = [n::CSI, n::CONTROLLER_EXPAND_SECRET_REF];
    if b.at(&expands).is_none() {
        // May be added once.
        a.remove(&expands);
    }
    if !same(&a, &b) {
        let at = e.path(Spot::of(now)) + ".persistentvolumesource";
        let detail = "spec.persistentvolumesource is immutable after creation";
        e.push(FieldError::forbidden(at, detail));
    }
    rules::immutable(e, now, was, n::VOLUME_MODE);
    let class = n::VOLUME_ATTRIBUTES_CLASS_NAME;
    if was.volume_attributes_class_name().is_some() && now.volume_attributes_class_name().is_none()
    {
        let detail = "update from non-nil value to nil is forbidden";
        e.forbidden(Spot::of(now).field(class), detail);
    }
}

/// At least one mode, all known, and the exclusive one alone.
fn access_modes(e: &mut Errors<'_>, spec: Spot<'_>, modes: &[Value], none: &str) {
    let at = || spec.field(n::ACCESS_MODES);
    let modes: Vec<&str> = modes.iter().filter_map(Value::as_str).collect();
    if modes.is_empty() {
        e.required(at(), none);
    }
    let mut known = ACCESS_MODES.map(|(mode, _)| mode);
    known.sort_unstable();
    for mode in modes.iter().filter(|m| !known.contains(m)) {
        e.not_supported(at(), *mode, &known);
    }
    let others = |m: &&str| known.contains(m) && *m != ONE_POD;
    if modes.contains(&ONE_POD) && modes.iter().any(others) {
        let detail = "may not use ReadWriteOncePod with other access modes";
        e.forbidden(at(), detail);
    }
}

fn amount(value: Option<&Value>) -> Option<Quantity> {
    value.and_then(Value::as_str).and_then(|q| q.parse().ok())
}

fn positive(e: &mut Errors<'_>, at: Spot<'_>, value: &Value) {
    if amount(Some(value)).is_none_or(|q| q.signum() <= 0) {
        let shown = value.as_str().unwrap_or_default();
        e.invalid(at, shown, "must be greater than zero");
    }
}

/// The name of a class, if one is given.
fn class(e: &mut Errors<'_>, spec: Node<'_>, field: NameId) {
    let name = spec.str(field);
    if !name.is_empty() {
        let at = Spot::node(spec.value()).field(field);
        e.invalid_each(at, name, names::subdomain_name(name, false));
    }
}

fn modes_text(modes: &[Value]) -> String {
    let has = |mode: &str| modes.iter().any(|m| m.as_str() == Some(mode));
    let shown = ACCESS_MODES.iter().filter(|(mode, _)| has(mode));
    shown.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

fn storage_text(amounts: &Map) -> &str {
    amounts.get(STORAGE).and_then(Value::as_str).unwrap_or("0")
}

fn class_text<'a>(object: &'a Value, field: Option<&'a str>) -> &'a str {
    meta::annotation(object, BETA_CLASS)
        .or(field)
        .unwrap_or_default()
}

fn phase_text<'a>(object: &Value, phase: &'a str) -> &'a str {
    if meta::is_deleting(object) {
        "Terminating"
    } else {
        phase
    }
}

fn volume_cells(object: &Value, now: i64) -> Vec<Value> {
    let view = PersistentVolume::of(Node::new(object));
    let (spec, status) = (view.spec(), view.status());
    let claim = spec.claim_ref();
    let claim = claim.map_or(String::new(), |c| format!("{}/{}", c.namespace(), c.name()));
    let mut cells = row(
        object,
        now,
        [
            storage_text(spec.capacity()).into(),
            modes_text(spec.access_modes()).into(),
            spec.persistent_volume_reclaim_policy().into(),
            phase_text(object, status.phase()).into(),
            claim.into(),
            class_text(object, Some(spec.storage_class_name())).into(),
            spec.volume_attributes_class_name().unwrap_or(UNSET).into(),
            status.reason().into(),
        ],
    );
    cells.push(spec.volume_mode().unwrap_or(UNSET).into());
    cells
}

/// `GetWarningsForPersistentVolume`.
fn volume_warnings(object: &Value) -> Vec<String> {
    const ANNOTATIONS: [(&str, &str); 2] = [
        (BETA_CLASS, USE_CLASS_NAME),
        (
            "volume.beta.kubernetes.io/mount-options",
            r#"deprecated since v1.31; use "mountOptions" attribute instead"#,
        ),
    ];
    let spec = PersistentVolume::of(Node::new(object)).spec();
    let at = Spot::of(spec);
    let mut w = Warnings::new(object);
    for (key, text) in ANNOTATIONS {
        if meta::annotation(object, key).is_some() {
            w.push(format!("metadata.annotations[{key}]: {text}"));
        }
    }
    if spec.persistent_volume_reclaim_policy() == "Recycle" {
        w.at(
            at.field(n::PERSISTENT_VOLUME_RECLAIM_POLICY),
            "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.",
        );
    }
    let required = spec.node_affinity().and_then(|a| a.required());
    for term in required.into_iter().flat_map(|r| r.node_selector_terms()) {
        w.node_selector_term(term, false);
    }
    // Upstream says `storageOS` where the field is `storageos`.
    for (field, shown, text) in [
        (
            n::CEPHFS,
            "cephfs",
            "deprecated in v1.28, non-functional in v1.31+",
        ),
        (
            n::PHOTON_PERSISTENT_DISK,
            "photonPersistentDisk",
            "deprecated in v1.11, non-functional in v1.16+",
        ),
        (
            n::SCALE_IO,
            "scaleIO",
            "deprecated in v1.16, non-functional in v1.22+",
        ),
        (
            n::STORAGEOS,
            "storageOS",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            n::GLUSTERFS,
            "glusterfs",
            "deprecated in v1.25, non-functional in v1.26+",
        ),
        (
            n::RBD,
            "rbd",
            "deprecated in v1.28, non-functional in v1.31+",
        ),
    ] {
        if spec.node().get(field).is_some() {
            w.push(format!("spec.{shown}: {text}"));
        }
    }
    w.into_vec()
}

pub static PERSISTENT_VOLUME_CLAIM: Strategy = Strategy {
    warnings: |object, _| {
        let mut w = Warnings::new(object);
        if meta::annotation(object, BETA_CLASS).is_some() {
            w.push(format!(
                "metadata.annotations[{BETA_CLASS}]: {USE_CLASS_NAME}"
            ));
        }
        let spec = PersistentVolumeClaim::of(Node::new(object)).spec();
        super::pod_spec::warnings::claim_spec(&mut w, spec, "spec");
        w.into_vec()
    },
    prepare_create: |_, new| {
        clear_status(new);
        if !is_of_old_kinds(new) {
            new.remove(&[n::SPEC, n::DATA_SOURCE]);
        }
        one_data_source(new);
    },
    prepare_update: |_, new, old| {
        keep_status(new, old);
        let in_use = |field| old.at(&[n::SPEC, field]).is_some();
        let old_way = !in_use(n::DATA_SOURCE) && !in_use(n::DATA_SOURCE_REF);
        if old_way && !is_of_old_kinds(new) {
            new.remove(&[n::SPEC, n::DATA_SOURCE]);
        }
        one_data_source(new);
    },
    validate: |_, object, e| claim(object, e, true),
    validate_update: |_, new, old, e| claim_update(new, old, e),
    generation: false,
    // Stored without: upstream's versioned defaults fill it in whenever a claim is read.
    on_read: Some(|object| {
        let phase = object.ensure(&[n::STATUS]).make_map().entry(n::PHASE);
        if phase.as_str().is_none_or(str::is_empty) {
            *phase = PENDING.into();
        }
    }),
    cells: Some(claim_cells),
    ..Strategy::WITH_STATUS
};

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

fn claim(object: &Value, e: &mut Errors<'_>, is_new: bool) {
    let spec = PersistentVolumeClaim::of(Node::new(object)).spec();
    let at = Spot::of(spec);
    let none = "at least 1 access mode is required";
    access_modes(e, at, spec.access_modes(), none);
    super::pod_spec::selector(e, spec.node(), n::SELECTOR);
    let storage = at.field(n::RESOURCES).key(STORAGE);
    match spec.resources().requests().get(STORAGE) {
        None => e.required(storage, ""),
        Some(asked) => positive(e, storage, asked),
    }
    class(e, spec.node(), n::STORAGE_CLASS_NAME);
    class(e, spec.node(), n::VOLUME_ATTRIBUTES_CLASS_NAME);
    rules::one_of(e, spec, n::VOLUME_MODE, &VOLUME_MODES);
    data_sources(e, spec, is_new);
}

fn data_sources(e: &mut Errors<'_>, spec: PersistentVolumeClaimSpec<'_>, is_new: bool) {
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
        if !group.is_empty() && is_new {
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

fn claim_update(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let now = PersistentVolumeClaim::of(Node::new(new));
    let (spec, was) = (now.spec(), PersistentVolumeClaim::of(Node::new(old)).spec());
    let had_group = [n::DATA_SOURCE, n::DATA_SOURCE_REF]
        .iter()
        .any(|field| old.at(&[n::SPEC, *field, n::API_GROUP]).is_some());
    claim(new, e, !had_group);
    if !same(
        allowed(new, old).get(n::SPEC).unwrap_or(&Value::Null),
        &normal(old),
    ) {
        let detail = "spec is immutable after creation except resources.requests and \
                      volumeAttributesClassName for bound claims";
        e.forbidden(Spot::of(spec), detail);
    }
    let size = |amounts: &Map| amount(amounts.get(STORAGE));
    let had = size(was.resources().requests());
    let wants = size(spec.resources().requests());
    let has = old.at(&[n::STATUS, n::CAPACITY]).and_then(Value::as_map);
    if wants < had && wants <= has.and_then(size).or(Some(Quantity::default())) {
        let at = e.path(Spot::of(spec)) + ".resources.requests.storage";
        let detail = "field can not be less than status.capacity";
        e.push(FieldError::forbidden(at, detail));
    }
    rules::immutable(e, spec, was, n::VOLUME_MODE);
    if was.volume_attributes_class_name() != spec.volume_attributes_class_name()
        && now
            .status()
            .current_volume_attributes_class_name()
            .is_some()
        && spec
            .volume_attributes_class_name()
            .is_none_or(str::is_empty)
    {
        let to = match spec.volume_attributes_class_name() {
            None => "nil",
            Some(_) => "empty string",
        };
        let detail = format!(
            "update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil"
        );
        let at = Spot::of(spec).field(n::VOLUME_ATTRIBUTES_CLASS_NAME);
        e.forbidden(at, detail);
    }
}

/// The old specification as today's servers have it.
fn normal(old: &Value) -> Value {
    let mut old = old.clone();
    one_data_source(&mut old);
    old.remove(&[n::SPEC]).unwrap_or(Value::Null)
}

/// The new claim with everything that may change as it was.
fn allowed(new: &Value, old: &Value) -> Value {
    fn keep(new: &mut Value, old: &Value, way: &[NameId]) {
        match old.at(way) {
            Some(value) => new.set(way, value.clone()),
            None => drop(new.remove(way)),
        }
    }
    let mut new = new.clone();
    let was = PersistentVolumeClaim::of(Node::new(old)).spec();
    if was.volume_name().is_empty() {
        keep(&mut new, old, &[n::SPEC, n::VOLUME_NAME]);
    }
    // From the annotation, or from nothing, to the field.
    if was.storage_class_name().is_none() {
        let named = meta::annotation(old, BETA_CLASS);
        let class = new.at(&[n::SPEC, n::STORAGE_CLASS_NAME]);
        if class.is_some() && named.is_none_or(|name| class.and_then(Value::as_str) == Some(name)) {
            new.remove(&[n::SPEC, n::STORAGE_CLASS_NAME]);
        }
    }
    let bound = old.at(&[n::STATUS, n::PHASE]).and_then(Value::as_str) == Some("Bound");
    if bound {
        let requests = [n::SPEC, n::RESOURCES, n::REQUESTS];
        let had = was.resources().requests().get(STORAGE).cloned();
        if let (Some(requests), Some(had)) =
            (new.at_mut(&requests).and_then(Value::as_map_mut), had)
        {
            requests.insert(STORAGE, had);
        }
        keep(&mut new, old, &[n::SPEC, n::VOLUME_ATTRIBUTES_CLASS_NAME]);
    }
    new
}

fn claim_cells(object: &Value, now: i64) -> Vec<Value> {
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

#[cfg(test)]
mod tests;
