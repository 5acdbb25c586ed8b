//! Namespaces: they live until their finalizer is gone, through `/finalize`.
//!
//! Upstream: `pkg/registry/core/namespace`.

use proto::catalogue::names as n;
use proto::{Value, meta};

use crate::registry::strategy::{Cx, Part, Strategy, keep_status};
use crate::table::age;

/// The finalizer of `spec.finalizers`.
const KUBERNETES: &str = "kubernetes";
/// The label that selectors find a namespace by.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub static NAMESPACE: Strategy = Strategy {
    name: meta::names::label_name,
    prepare_create,
    prepare_update: |_, new, old| {
        keep_status(new, old);
        keep_finalizers(new, old);
    },
    canonicalize: |object| {
        let name = meta::name(object).to_owned();
        meta::set_label(object, NAME_LABEL, &name);
    },
    default: |object| {
        let name = meta::name(object).to_owned();
        if !name.is_empty() {
            meta::set_label(object, NAME_LABEL, &name);
        }
    },
    status: Some(Part {
        prepare_update: keep_spec,
        validate_update: |_, _, _, _| {},
        ..Part::STATUS
    }),
    parts: &[(
        "finalize",
        Part {
            prepare_update: finalize,
            validate_update: |_, _, _, _| {},
            ..Part::STATUS
        },
    )],
    // The object goes when nobody holds it by either list.
    removable: |new, _| finalizers(new).is_empty(),
    held: |object| !finalizers(object).is_empty(),
    cells: Some(|object, now| {
        let phase = object
            .at(&[n::STATUS, n::PHASE])
            .and_then(Value::as_str)
            .unwrap_or_default();
        vec![
            meta::name(object).into(),
            phase.into(),
            age(meta::creation_timestamp(object), now).into(),
        ]
    }),
    on_delete: |object| object.set(&[n::STATUS, n::PHASE], "Terminating"),
    ..Strategy::DEFAULT
};

fn finalizers(object: &Value) -> &[Value] {
    object
        .at(&[n::SPEC, n::FINALIZERS])
        .and_then(Value::as_list)
        .unwrap_or_default()
}

fn prepare_create(_: &Cx<'_>, object: &mut Value) {
    let mut status = Value::object();
    status.set(&[n::PHASE], "Active");
    object.set(&[n::STATUS], status);
    let list = object.ensure(&[n::SPEC, n::FINALIZERS]).make_list();
    if !list.iter().any(|f| f.as_str() == Some(KUBERNETES)) {
        list.push(KUBERNETES.into());
    }
}

fn keep_finalizers(new: &mut Value, old: &Value) {
    match old.at(&[n::SPEC, n::FINALIZERS]) {
        Some(list) => new.set(&[n::SPEC, n::FINALIZERS], list.clone()),
        None => drop(new.remove(&[n::SPEC, n::FINALIZERS])),
    }
}

fn keep_spec(_: &Cx<'_>, new: &mut Value, old: &Value) {
    if let Some(spec) = old.get(n::SPEC) {
        new.set(&[n::SPEC], spec.clone());
    }
}

/// `/finalize` changes the finalizers and nothing else.
fn finalize(_: &Cx<'_>, new: &mut Value, old: &Value) {
    keep_status(new, old);
}
