//! What happens to every object before it is written: upstream's `rest.BeforeCreate`,
//! `BeforeUpdate` and `BeforeDelete`, as pure functions.

use proto::catalogue::names as n;
use proto::catalogue::{Gates, GcPolicy, Resource, ResourceFlags, gate};
use proto::path::{Errors, FieldError};
use proto::{NameId, Value, meta, time};

use super::declarative;
use super::equal;
use super::metadata;
use super::strategy::{Cx, Generation, Part, Strategy};
use crate::options::{DeleteOptions, Propagation};
use crate::status::Failure;

use proto::meta::{FINALIZER_FOREGROUND as FOREGROUND, FINALIZER_ORPHAN as ORPHAN};

mod owners;

pub use owners::{AFTER_ADMISSION, ON_ARRIVAL, dedup_owner_references};

/// Removes what only the server may set, on creates.
pub fn wipe_system_fields(object: &mut Value) {
    let metadata = meta::metadata_mut(object);
    for field in [
        n::CREATION_TIMESTAMP,
        n::DELETION_TIMESTAMP,
        n::DELETION_GRACE_PERIOD_SECONDS,
        n::UID,
        n::SELF_LINK,
    ] {
        metadata.remove(field);
    }
}

/// What happens to a new object as soon as it is decoded: system fields go, the namespace is the
/// path's.
pub fn receive(object: &mut Value, resource: &Resource, namespace: &str) -> Result<(), Failure> {
    wipe_system_fields(object);
    match_namespace(object, if resource.namespaced { namespace } else { "" })
}

/// Sets what the server gives every new object.
pub fn fill_system_fields(object: &mut Value, now: &str, uid: &str) {
    let metadata = meta::metadata_mut(object);
    metadata.insert(n::CREATION_TIMESTAMP, now);
    metadata.insert(n::UID, uid);
}

/// The object's namespace must be the path's; an empty one is filled in.
pub fn match_namespace(object: &mut Value, namespace: &str) -> Result<(), Failure> {
    let metadata = meta::metadata_mut(object);
    let given = metadata
        .get(n::NAMESPACE)
        .and_then(Value::as_str)
        .unwrap_or_default();
    if given == namespace {
        return Ok(());
    }
    if !given.is_empty() {
        if namespace.is_empty() {
            // A cluster-scoped object: upstream drops a namespace given for it.
            metadata.remove(n::NAMESPACE);
            return Ok(());
        }
        return Err(Failure::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    metadata.insert(n::NAMESPACE, namespace);
    Ok(())
}

/// Everything before a create is stored: prepared, validated, canonical. The caller has decoded,
/// defaulted, wiped and filled the object and run mutating admission.
pub fn create(
    cx: &Cx<'_>,
    resource: &Resource,
    strategy: &Strategy,
    object: &mut Value,
) -> Result<Vec<String>, Failure> {
    match_namespace(
        object,
        if resource.namespaced {
            cx.namespace
        } else {
            ""
        },
    )?;
    if strategy.generation != Generation::Ignored {
        meta::metadata_mut(object).insert(n::GENERATION, 1);
    }
    let mut warnings = (strategy.early_warnings)(object);
    (strategy.prepare_create)(cx, object);
    let errors = {
        let mut errors = errors_of(cx.gates, object);
        metadata::created(resource, strategy, object, &mut errors);
        cx.objections.iter().for_each(|e| errors.push(e.clone()));
        (strategy.validate)(cx, object, &mut errors);
        if !strategy.repeats {
            errors.dedup();
        }
        declared(cx.gates, resource, strategy, object, None, &mut errors);
        if errors.is_empty() {
            let namespaced = resource.namespaced;
            let name = meta::names::path_segment_name;
            meta::validate_object_meta(object, namespaced, name, &mut errors);
        }
        errors.into_vec()
    };
    refuse(resource, object, errors)?;
    warnings.append(&mut (strategy.warnings)(cx.gates, object, None));
    (strategy.canonicalize)(object);
    Ok(warnings)
}

/// Everything before an update is stored. `part` is the subresource's rules, if one is written.
pub fn update(
    cx: &Cx<'_>,
    resource: &Resource,
    strategy: &Strategy,
    part: Option<Part>,
    new: &mut Value,
    old: &Value,
) -> Result<Vec<String>, Failure> {
    match_namespace(
        new,
        if resource.namespaced {
            cx.namespace
        } else {
            ""
        },
    )?;
    copy(new, old, n::GENERATION);
    match part {
        Some(part) => (part.prepare_update)(cx, new, old),
        None => {
            (strategy.prepare_update)(cx, new, old);
            if changed(resource, strategy.generation, new, old) {
                let generation = meta::generation(old).unwrap_or(0) + 1;
                meta::metadata_mut(new).insert(n::GENERATION, generation);
            }
        }
    }
    if meta::uid(new).is_empty() {
        copy(new, old, n::UID);
    }
    copy_if_set(new, old, n::CREATION_TIMESTAMP);
    copy_if_set(new, old, n::DELETION_TIMESTAMP);
    if new
        .at(&[n::METADATA, n::DELETION_GRACE_PERIOD_SECONDS])
        .is_none()
    {
        copy_if_set(new, old, n::DELETION_GRACE_PERIOD_SECONDS);
    }
    let errors = {
        let mut errors = errors_of(cx.gates, new);
        meta::validate_object_meta(
            new,
            resource.namespaced,
            meta::names::path_segment_name,
            &mut errors,
        );
        meta::validate_object_meta_update(new, old, &mut errors);
        metadata::updated(resource, strategy, part.is_some(), new, &mut errors);
        cx.objections.iter().for_each(|e| errors.push(e.clone()));
        match part {
            Some(part) => (part.validate_update)(cx, new, old, &mut errors),
            None => (strategy.validate_update)(cx, new, old, &mut errors),
        }
        if !strategy.repeats {
            errors.dedup();
        }
        declared(cx.gates, resource, strategy, new, Some(old), &mut errors);
        errors.into_vec()
    };
    refuse(resource, new, errors)?;
    let warnings = match part {
        Some(part) => (part.warnings)(new),
        None => (strategy.warnings)(cx.gates, new, Some(old)),
    };
    (strategy.canonicalize)(new);
    Ok(warnings)
}

/// What is wrong with an object, by the gates that are on.
fn errors_of(gates: Gates, object: &Value) -> Errors<'_> {
    let mut errors = Errors::new(object);
    errors.lax_addresses = !gates.has(gate::STRICT_IPCIDR_VALIDATION);
    errors
}

/// What the tags of the stored type say, where the strategy leaves it to them.
fn declared<'a>(
    gates: Gates,
    resource: &Resource,
    strategy: &Strategy,
    new: &'a Value,
    old: Option<&'a Value>,
    errors: &mut Errors<'a>,
) {
    if let (Some(options), Some(storage)) = (strategy.declarative, &resource.storage) {
        let found = errors.len();
        declarative::validate(gates, storage.message, new, old, options, errors);
        errors.supersede(found);
    }
}

fn refuse(resource: &Resource, object: &Value, errors: Vec<FieldError>) -> Result<(), Failure> {
    if errors.is_empty() {
        return Ok(());
    }
    // Rules are about what is stored, which for events is of another group than what may be served.
    let stored = resource.storage.as_ref();
    Err(Failure::invalid(
        stored.map_or(resource.group, |s| s.group),
        resource.kind,
        meta::name(object),
        &errors,
    ))
}

fn copy(new: &mut Value, old: &Value, field: NameId) {
    match old.at(&[n::METADATA, field]) {
        Some(value) => drop(meta::metadata_mut(new).insert(field, value.clone())),
        None => drop(meta::metadata_mut(new).remove(field)),
    }
}

fn copy_if_set(new: &mut Value, old: &Value, field: NameId) {
    if let Some(value) = old.at(&[n::METADATA, field]).filter(|v| !v.is_null()) {
        meta::metadata_mut(new).insert(field, value.clone());
    }
}

/// The rule of `metadata.generation` for resources with a spec, by the types of what is stored.
fn changed(resource: &Resource, rule: Generation, new: &Value, old: &Value) -> bool {
    const SKIPPED: [NameId; 4] = [n::METADATA, n::STATUS, n::KIND, n::API_VERSION];
    let alike = match rule {
        Generation::Ignored => return false,
        Generation::Counted => equal::alike_in,
        Generation::CountedExactly => equal::identical_in,
    };
    resource.storage.as_ref().is_some_and(|storage| {
        let mut fields = storage.message.fields();
        fields.any(|field| !SKIPPED.contains(&field.name) && !alike(new, old, field))
    })
}

/// What a delete request means for an object.
#[derive(Debug, PartialEq)]
pub enum Deletion {
    /// Deletion runs already and the request changes nothing: answer with the object.
    Pending,
    /// Write the marked object; remove it afterwards if `then_remove`.
    Mark { then_remove: bool },
    /// Remove it at once.
    Remove,
}

/// Decides a deletion and marks the object: upstream's `BeforeDelete` together with
/// `deletionFinalizersForGarbageCollection` and `markAsDeleting`.
pub fn delete(
    resource: &Resource,
    strategy: &Strategy,
    object: &mut Value,
    options: &mut DeleteOptions,
    now: i64,
) -> Result<Deletion, Failure> {
    if let Some(decided) = (strategy.delete)(object, options, now)? {
        return Ok(decided);
    }
    check_preconditions(resource, object, options)?;
    if options.grace_period_seconds.is_some_and(|s| s < 0) {
        options.grace_period_seconds = Some(1);
    }
    let graceful = match graceful(resource, strategy, object, options, now) {
        Graceful::Pending => return Ok(Deletion::Pending),
        Graceful::Yes => true,
        Graceful::No => false,
    };
    set_collector_finalizers(resource, object, options);
    let held = !meta::finalizers(object).is_empty();
    if graceful {
        let then_remove = !held && options.grace_period_seconds == Some(0);
        return Ok(Deletion::Mark { then_remove });
    }
    if held {
        mark_deleting(object, now);
        return Ok(Deletion::Mark { then_remove: false });
    }
    Ok(Deletion::Remove)
}

fn check_preconditions(
    resource: &Resource,
    object: &Value,
    options: &DeleteOptions,
) -> Result<(), Failure> {
    let name = meta::name(object);
    let refuse = |what: &str, asked: &str, have: &str, hint: &str| {
        let why = format!(
            "the {what} in the precondition ({asked}) does not match the {what} in record ({have}). {hint}"
        );
        // Upstream names the kind as it keeps it: events of both groups are one.
        let group = resource.storage.as_ref();
        let group = group.map_or(resource.group, |storage| storage.group);
        Err(Failure::conflict(group, resource.kind, name, &why))
    };
    match (&options.uid, meta::uid(object)) {
        (Some(asked), have) if asked != have => {
            return refuse(
                "UID",
                asked,
                have,
                "The object might have been deleted and then recreated",
            );
        }
        _ => {}
    }
    match (&options.resource_version, meta::resource_version(object)) {
        (Some(asked), have) if asked != have => refuse(
            "ResourceVersion",
            asked,
            have,
            "The object might have been modified",
        ),
        _ => Ok(()),
    }
}

enum Graceful {
    Yes,
    No,
    Pending,
}

fn graceful(
    resource: &Resource,
    strategy: &Strategy,
    object: &mut Value,
    options: &mut DeleteOptions,
    now: i64,
) -> Graceful {
    if !resource.has(ResourceFlags::GRACEFUL) {
        return Graceful::No;
    }
    let running = object
        .at(&[n::METADATA, n::DELETION_TIMESTAMP])
        .and_then(Value::as_str)
        .and_then(time::unix_of);
    if let Some((since, _)) = running {
        let period = object
            .at(&[n::METADATA, n::DELETION_GRACE_PERIOD_SECONDS])
            .and_then(Value::as_int)
            .unwrap_or(0);
        let period = if period < 0 { 1 } else { period };
        if period == 0 {
            return Graceful::No;
        }
        return shorten(object, options, since, period, now);
    }
    if !(strategy.grace)(object, options) {
        return Graceful::No;
    }
    let seconds = options.grace_period_seconds.unwrap_or(0);
    let metadata = meta::metadata_mut(object);
    metadata.insert(n::DELETION_TIMESTAMP, time::print_time(now + seconds));
    metadata.insert(n::DELETION_GRACE_PERIOD_SECONDS, seconds);
    bump_generation(object);
    Graceful::Yes
}

/// A deletion that runs can only be made shorter.
fn shorten(
    object: &mut Value,
    options: &mut DeleteOptions,
    since: i64,
    period: i64,
    now: i64,
) -> Graceful {
    let Some(mut asked) = options.grace_period_seconds else {
        options.grace_period_seconds = Some(period);
        return Graceful::Pending;
    };
    if asked >= period {
        return Graceful::Pending;
    }
    let mut at = since - period + asked;
    if at < now {
        at = now;
        if asked != 0 {
            asked = 1;
        }
    }
    let metadata = meta::metadata_mut(object);
    metadata.insert(n::DELETION_TIMESTAMP, time::print_time(at));
    metadata.insert(n::DELETION_GRACE_PERIOD_SECONDS, asked);
    Graceful::Yes
}

fn bump_generation(object: &mut Value) {
    if let Some(generation) = meta::generation(object).filter(|g| *g > 0) {
        meta::metadata_mut(object).insert(n::GENERATION, generation + 1);
    }
}

/// Marks an object that waits for its finalizers.
fn mark_deleting(object: &mut Value, now: i64) {
    let at = object
        .at(&[n::METADATA, n::DELETION_TIMESTAMP])
        .and_then(Value::as_str)
        .and_then(time::unix_of);
    if at.is_none() {
        bump_generation(object);
    }
    let metadata = meta::metadata_mut(object);
    if at.is_none_or(|(seconds, _)| seconds > now) {
        metadata.insert(n::DELETION_TIMESTAMP, time::print_time(now));
    }
    metadata.insert(n::DELETION_GRACE_PERIOD_SECONDS, 0);
}

/// The preconditions of a deletion, for a strategy that decides it by itself. `failed` begins what is told of one that does not hold:
/// upstream writes it in two ways.
///
/// # Errors
/// Conflict
pub fn preconditions(
    object: &Value,
    options: &DeleteOptions,
    (group, resource): (&str, &str),
    failed: &str,
) -> Result<(), Failure> {
    let version = meta::resource_version(object);
    for (what, asked, have) in [
        ("UID", &options.uid, meta::uid(object)),
        ("ResourceVersion", &options.resource_version, version),
    ] {
        if let Some(asked) = asked.as_deref().filter(|asked| *asked != have) {
            let why =
                format!("{failed}: {what} in precondition: {asked}, {what} in object meta: {have}");
            let name = meta::name(object);
            return Err(Failure::conflict(group, resource, name, &why));
        }
    }
    Ok(())
}

/// Adds or removes the collector's finalizers as options, object and resource ask for, in that order.
fn set_collector_finalizers(resource: &Resource, object: &mut Value, options: &DeleteOptions) {
    let present: Vec<String> = meta::finalizers(object)
        .iter()
        .map(|f| (*f).to_owned())
        .collect();
    let wanted = collector_finalizer(resource, &present, options);
    let mut new: Vec<String> = present
        .iter()
        .filter(|f| !matches!(f.as_str(), ORPHAN | FOREGROUND))
        .cloned()
        .collect();
    new.extend(wanted.map(str::to_owned));
    let same = new.len() == present.len() && new.iter().all(|f| present.contains(f));
    if !same {
        let metadata = meta::metadata_mut(object);
        if new.is_empty() {
            metadata.remove(n::FINALIZERS);
        } else {
            metadata.insert(n::FINALIZERS, new);
        }
    }
}

fn collector_finalizer(
    resource: &Resource,
    present: &[String],
    options: &DeleteOptions,
) -> Option<&'static str> {
    if resource.gc == GcPolicy::Unsupported {
        return None;
    }
    if let Some(orphan) = options.orphan_dependents {
        return orphan.then_some(ORPHAN);
    }
    match options.propagation {
        Some(Propagation::Orphan) => return Some(ORPHAN),
        Some(Propagation::Foreground) => return Some(FOREGROUND),
        Some(Propagation::Background) => return None,
        None => {}
    }
    let first = present
        .iter()
        .find(|f| matches!(f.as_str(), ORPHAN | FOREGROUND));
    match first.map(String::as_str) {
        Some(ORPHAN) => Some(ORPHAN),
        Some(_) => Some(FOREGROUND),
        None => (resource.gc == GcPolicy::Orphan).then_some(ORPHAN),
    }
}

#[cfg(test)]
mod tests;
