//! Persistent volumes: `pkg/registry/core/persistentvolume`, `ValidatePersistentVolume` and below.

use proto::catalogue::{Gates, gate, messages, names as n};
use proto::path::{Errors, FieldError, Named, Spot};
use proto::view::core_v1::{PersistentVolume, PersistentVolumeSpec};
use proto::view::{Node, View};
use proto::{Map, MsgId, NameId, Value, meta};

use super::claim::CLASS;
use super::{
    BETA_CLASS, PENDING, STORAGE, UNSET, USE_CLASS_NAME, VOLUME_MODES, access_modes, basic, class,
    class_text, modes_text, phase_text, positive, sources, storage_text,
};
use crate::declarative::NO_OPTIONS;
use crate::equal::alike;
use crate::gated;
use crate::rules;
use crate::shown::{self, Internal};
use crate::strategies::pod_spec;
use crate::strategy::{
    Cx, Generation, Part, Strategy, clear_status, keep_all_but_metadata_and_status, keep_status,
};
use crate::table::row;
use crate::warnings::Warnings;

/// Options of `mount`, before there was a field for them.
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";
const SOURCE: MsgId = messages::core_v1::PERSISTENT_VOLUME_SOURCE;

pub static PERSISTENT_VOLUME: Strategy = Strategy {
    declarative: Some(NO_OPTIONS),
    warnings: |_, object, _| warnings(object),
    default: |_, object| {
        let spec = object.ensure(&[n::SPEC]).make_map();
        for (field, value) in [
            (n::PERSISTENT_VOLUME_RECLAIM_POLICY, "Retain"),
            (n::VOLUME_MODE, "Filesystem"),
        ] {
            let there = spec.entry(field);
            if there.is_null() || there.as_str() == Some("") && field != n::VOLUME_MODE {
                *there = value.into();
            }
        }
    },
    prepare_create: |cx, new| {
        clear_status(new);
        new.set(&[n::STATUS, n::PHASE], PENDING);
        new.set(&[n::STATUS, n::LAST_PHASE_TRANSITION_TIME], cx.now);
        gated::drop_unused(cx.gates, new, None, &[CLASS]);
    },
    prepare_update: |cx, new, old| {
        keep_status(new, old);
        gated::drop_unused(cx.gates, new, Some(old), &[CLASS]);
    },
    validate: |_, object, e| {
        volume(object, None, e);
        mount_options(object, e);
    },
    validate_update: |cx, new, old, e| {
        volume(new, Some(old), e);
        mount_options(new, e);
        update(cx.gates, new, old, e);
    },
    status: Some(Part {
        prepare_update: phase_changed,
        validate_update: |_, new, _, e| {
            if meta::resource_version(new).is_empty() {
                e.push(FieldError::required("resourceVersion", ""));
            }
        },
        ..Part::STATUS
    }),
    generation: Generation::Ignored,
    cells: Some(cells),
    ..Strategy::WITH_STATUS
};

/// A phase has the time of its beginning, unless the client says another.
fn phase_changed(cx: &Cx<'_>, new: &mut Value, old: &Value) {
    keep_all_but_metadata_and_status(new, old);
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

fn spec(object: &Value) -> PersistentVolumeSpec<'_> {
    PersistentVolume::of(Node::new(object)).spec()
}

/// `ValidatePersistentVolume`.
pub(super) fn volume(object: &Value, old: Option<&Value>, e: &mut Errors<'_>) {
    const POLICIES: [&str; 3] = ["Delete", "Recycle", "Retain"];
    let spec = spec(object);
    let at = |field| Spot::of(spec).field(field);
    if spec.access_modes().is_empty() {
        e.required(at(n::ACCESS_MODES), "");
    }
    access_modes(e, Spot::of(spec), spec.access_modes());
    capacity(spec, e);
    rules::named_one_of(e, spec, n::PERSISTENT_VOLUME_RECLAIM_POLICY, &POLICIES);
    affinity(spec, old, e);
    sources::sources(spec, meta::name(object), e);
    if let Some(path) = spec.host_path()
        && is_root(path.path())
        && spec.persistent_volume_reclaim_policy() == "Recycle"
    {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        e.forbidden(at(n::PERSISTENT_VOLUME_RECLAIM_POLICY), detail);
    }
    class(e, spec.node(), n::STORAGE_CLASS_NAME);
    if let Some(mode) = spec.volume_mode()
        && !VOLUME_MODES.contains(&mode)
    {
        e.not_supported(at(n::VOLUME_MODE), Named(mode), &VOLUME_MODES);
    }
    if let Some(attributes) = spec.volume_attributes_class_name() {
        if attributes.is_empty() {
            let at = at(n::VOLUME_ATTRIBUTES_CLASS_NAME);
            e.required(at, "an empty string is disallowed");
        }
        class(e, spec.node(), n::VOLUME_ATTRIBUTES_CLASS_NAME);
        if spec.csi().is_none() {
            let detail = "has to be specified when using volumeAttributesClassName";
            e.required(at(n::CSI), detail);
        }
    }
}

fn capacity(spec: PersistentVolumeSpec<'_>, e: &mut Errors<'_>) {
    let at = Spot::of(spec).field(n::CAPACITY);
    let capacity = spec.capacity();
    if capacity.is_empty() {
        e.required(at, "");
    }
    if !capacity.contains(STORAGE) || capacity.len() > 1 {
        e.not_supported(at, rules::json(spec.node().get(n::CAPACITY)), &[STORAGE]);
    }
    for (name, amount) in capacity.iter() {
        let at = at.key(name.as_str());
        basic(e, at, amount);
        positive(e, at, amount);
    }
}

/// `validateVolumeNodeAffinity`. Values that an old volume has wrong may stay wrong.
fn affinity(now: PersistentVolumeSpec<'_>, old: Option<&Value>, e: &mut Errors<'_>) {
    let Some(affinity) = now.node_affinity() else {
        return;
    };
    let Some(required) = affinity.required() else {
        let at = Spot::of(affinity).field(n::REQUIRED);
        return e.required(at, "must specify required node constraints");
    };
    let before = old.map(spec).and_then(|was| was.node_affinity());
    let terms = before.and_then(|before| before.required());
    let lenient = terms.is_some_and(|selector| {
        let terms = selector.node_selector_terms().iter();
        let expressions = terms.flat_map(|term| term.match_expressions().iter());
        let mut values = expressions.flat_map(|expression| rules::texts(expression.values()));
        values.any(|value| !meta::names::label_value_problems(value).is_empty())
    });
    pod_spec::node_selector(e, required, lenient);
}

/// Whether Go's `path.Clean` makes a slash of it.
fn is_root(path: &str) -> bool {
    let mut depth = 0_usize;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
    }
    path.starts_with('/') && depth == 0
}

/// The beta annotation is for volumes that the kubelet mounts with options.
fn mount_options(object: &Value, e: &mut Errors<'_>) {
    const MOUNTED: [NameId; 13] = [
        n::GCE_PERSISTENT_DISK,
        n::AWS_ELASTIC_BLOCK_STORE,
        n::GLUSTERFS,
        n::NFS,
        n::RBD,
        n::QUOBYTE,
        n::ISCSI,
        n::CINDER,
        n::CEPHFS,
        n::AZURE_FILE,
        n::VSPHERE_VOLUME,
        n::AZURE_DISK,
        n::PHOTON_PERSISTENT_DISK,
    ];
    let spec = spec(object).node();
    let mounted = MOUNTED.iter().any(|field| spec.get(*field).is_some());
    if !mounted && meta::annotation(object, MOUNT_OPTIONS).is_some() {
        // The path is upstream's.
        let at = format!("metadata.annotations.{MOUNT_OPTIONS}");
        let detail = "may not specify mount options for this volume type";
        e.push(FieldError::forbidden(at, detail));
    }
}

/// What a volume is made of, without the rest of its specification.
fn source(spec: Node<'_>) -> Value {
    let is_source = |name: NameId| SOURCE.fields().any(|field| field.name == name);
    let mut all = Map::new();
    for (name, value) in spec.map().into_iter().flat_map(Map::iter) {
        if !value.is_null() && name.known().is_some_and(is_source) {
            all.insert(name, value.clone());
        }
    }
    Value::Map(all)
}

/// `ValidatePersistentVolumeUpdate`, apart from what is asked of every volume.
pub(super) fn update(gates: Gates, new: &Value, old: &Value, e: &mut Errors<'_>) {
    let (now, was) = (spec(new), spec(old));
    let (mut a, b) = (source(now.node()), source(was.node()));
    let expands = [n::CSI, n::CONTROLLER_EXPAND_SECRET_REF];
    if b.get(n::CSI).is_some() && b.at(&expands).is_none_or(Value::is_null) {
        // May be added once.
        a.remove(&expands);
    }
    if !alike(Some(&a), Some(&b), SOURCE) {
        let difference = shown::difference(&b, &a, SOURCE);
        let detail =
            format!("spec.persistentvolumesource is immutable after creation\n{difference}");
        e.push(FieldError::forbidden("spec.persistentvolumesource", detail));
    }
    // Paths are upstream's.
    if now.volume_mode() != was.volume_mode() {
        let shown = rules::json(now.node().get(n::VOLUME_MODE));
        e.push(FieldError::invalid("volumeMode", shown, rules::IMMUTABLE));
    }
    if let Some(before) = was.node().get(n::NODE_AFFINITY)
        && !gates.has(gate::MUTABLE_PV_NODE_AFFINITY)
    {
        let after = now.node().get(n::NODE_AFFINITY);
        let of = messages::core_v1::VOLUME_NODE_AFFINITY;
        if !alike(Some(&promoted(before, after)), after, of) {
            let shown = Internal(after, of);
            let detail = "field is immutable, except for updating from beta label to GA";
            e.push(FieldError::invalid("nodeAffinity", shown, detail));
        }
    }
    if was.volume_attributes_class_name().is_some() && now.volume_attributes_class_name().is_none()
    {
        let at = Spot::of(now).field(n::VOLUME_ATTRIBUTES_CLASS_NAME);
        e.forbidden(at, "update from non-nil value to nil is forbidden");
    }
}

/// Labels of nodes that became stable under other names.
const PROMOTED: [(&str, &str); 5] = [
    (
        "failure-domain.beta.kubernetes.io/zone",
        "topology.kubernetes.io/zone",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/region",
    ),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    (
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
    ),
];

/// The old affinity with the keys of the new one, where those are the stable names of the same labels.
fn promoted(old: &Value, new: Option<&Value>) -> Value {
    let mut old = old.clone();
    promote(&mut old, new);
    old
}

fn promote(old: &mut Value, new: Option<&Value>) {
    match old {
        Value::List(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                promote(item, new.and_then(Value::as_list).and_then(|l| l.get(i)));
            }
        }
        Value::Map(map) => {
            let key = |map: &Map| map.get(n::KEY).and_then(Value::as_str).map(str::to_owned);
            let after = new.and_then(Value::as_map);
            if let (Some(was), Some(is)) = (key(map), after.map(key)) {
                let is = is.unwrap_or_default();
                let stable = PROMOTED.iter().find(|(beta, _)| *beta == was);
                // Upstream's map has the empty name for every key that it does not have.
                if stable.map_or("", |(_, stable)| stable) == is {
                    map.insert(n::KEY, is);
                }
            }
            for (name, value) in map.iter_mut() {
                promote(value, after.and_then(|after| after.get(name)));
            }
        }
        _ => {}
    }
}

pub(super) fn cells(object: &Value, now: i64) -> Vec<Value> {
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
fn warnings(object: &Value) -> Vec<String> {
    const ANNOTATIONS: [(&str, &str); 2] = [
        (BETA_CLASS, USE_CLASS_NAME),
        (
            MOUNT_OPTIONS,
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
