//! Namespaces: they live until their finalizer is gone, through `/finalize`.
//!
//! Upstream: `pkg/registry/core/namespace`, `ValidateNamespace*` in `pkg/apis/core/validation`.

use proto::catalogue::names as n;
use proto::path::{Errors, FieldError, Named, Spot};
use proto::{Value, meta, time};

use crate::before::{self, Deletion};
use crate::declarative::NO_OPTIONS;
use crate::options::{DeleteOptions, Propagation};
use crate::status::Failure;
use crate::strategy::{Cx, Part, Strategy, keep_status};
use crate::table::age;

/// The finalizer of `spec.finalizers`.
const KUBERNETES: &str = "kubernetes";
/// The label that selectors find a namespace by.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub static NAMESPACE: Strategy = Strategy {
    declarative: Some(NO_OPTIONS),
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
    default: |_, object| {
        let name = meta::name(object).to_owned();
        if !name.is_empty() {
            meta::set_label(object, NAME_LABEL, &name);
        }
    },
    validate: |_, object, e| {
        for finalizer in finalizers(object) {
            finalizer_name(finalizer, of_spec(object), e);
        }
    },
    validate_update: |_, new, _, e| {
        for finalizer in finalizers(new) {
            finalizer_name(finalizer, of_spec(new), e);
        }
    },
    status: Some(Part {
        validate_update: |_, new, _, e| status(new, e),
        ..Part::STATUS_AND_METADATA
    }),
    parts: &[(
        "finalize",
        Part {
            prepare_update: |_, new, old| keep_status(new, old),
            validate_update: |_, new, _, e| {
                for finalizer in finalizers(new) {
                    finalizer_name(finalizer, Spot::node(finalizer), e);
                }
            },
            ..Part::STATUS
        },
    )],
    // The object goes when nobody holds it by either list.
    removable: |new, _| finalizers(new).is_empty(),
    delete,
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

/// The first request marks a namespace and lets it be; it can be removed when nobody holds it by `spec.finalizers` any more
/// (`pkg/registry/core/namespace/storage/storage.go`).
fn delete(
    object: &mut Value,
    options: &DeleteOptions,
    now: i64,
) -> Result<Option<Deletion>, Failure> {
    before::preconditions(object, options, ("", "namespaces"), "Precondition failed")?;
    if meta::is_deleting(object) {
        let held = !finalizers(object).is_empty();
        return Ok(held.then_some(Deletion::Pending));
    }
    meta::metadata_mut(object).insert(n::DELETION_TIMESTAMP, time::print_time(now));
    object.set(&[n::STATUS, n::PHASE], "Terminating");
    collector_finalizers(object, options);
    Ok(Some(Deletion::Mark { then_remove: false }))
}

/// The finalizers of the collector that the options ask for, or that there are if they ask for nothing.
fn collector_finalizers(object: &mut Value, options: &DeleteOptions) {
    let present: Vec<String> = meta::finalizers(object)
        .iter()
        .map(|f| (*f).to_owned())
        .collect();
    let wanted =
        |finalizer: &str, orphans: bool| match (options.orphan_dependents, options.propagation) {
            (Some(orphan), _) => orphan == orphans,
            (None, Some(Propagation::Orphan)) => orphans,
            (None, Some(Propagation::Foreground)) => !orphans,
            (None, Some(Propagation::Background)) => false,
            (None, None) => present.iter().any(|f| f == finalizer),
        };
    let collectors = [
        (meta::FINALIZER_ORPHAN, true),
        (meta::FINALIZER_FOREGROUND, false),
    ];
    let mut new = present.clone();
    for (finalizer, orphans) in collectors {
        if !wanted(finalizer, orphans) {
            new.retain(|f| f != finalizer);
        } else if !new.iter().any(|f| f == finalizer) {
            new.push(finalizer.to_owned());
        }
    }
    if new == present {
        return;
    }
    let metadata = meta::metadata_mut(object);
    if new.is_empty() {
        metadata.remove(n::FINALIZERS);
    } else {
        metadata.insert(n::FINALIZERS, new);
    }
}

fn keep_finalizers(new: &mut Value, old: &Value) {
    match old.at(&[n::SPEC, n::FINALIZERS]) {
        Some(list) => new.set(&[n::SPEC, n::FINALIZERS], list.clone()),
        None => drop(new.remove(&[n::SPEC, n::FINALIZERS])),
    }
}

fn of_spec(object: &Value) -> Spot<'_> {
    Spot::node(object).field(n::SPEC).field(n::FINALIZERS)
}

/// A name with a prefix, or one that Kubernetes knows.
fn finalizer_name(finalizer: &Value, at: Spot<'_>, e: &mut Errors<'_>) {
    const KNOWN: [&str; 3] = [
        KUBERNETES,
        meta::FINALIZER_ORPHAN,
        meta::FINALIZER_FOREGROUND,
    ];
    let name = finalizer.as_str().unwrap_or_default();
    e.invalid_each(at, name, meta::names::label_key_problems(name));
    if !name.contains('/') && !KNOWN.contains(&name) {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        e.invalid(at, name, detail);
    }
}

/// `ValidateNamespaceStatusUpdate`: the phase says whether the namespace goes.
fn status(object: &Value, e: &mut Errors<'_>) {
    let phase = object
        .at(&[n::STATUS, n::PHASE])
        .and_then(Value::as_str)
        .unwrap_or_default();
    let (must, when) = if meta::is_deleting(object) {
        ("Terminating", "is not empty")
    } else {
        ("Active", "is empty")
    };
    if phase != must {
        let detail = format!("may only be '{must}' if `deletionTimestamp` {when}");
        // The path is upstream's.
        e.push(FieldError::invalid("status.Phase", Named(phase), detail));
    }
}
