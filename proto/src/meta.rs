//! What every object has: its metadata, conditions and name, and the `Status` that answers say no with.
//!
//! The readers take an object's tree (see [`crate::value`]) and never fail: what is absent, or of
//! another type than the schema says, reads as Go's zero value. [`set`] keeps a tree conformed: a zero
//! value is absence.

pub mod address;
mod condition;
pub mod names;
mod object;
mod status;

use crate::catalogue::names as n;
use crate::name::NameId;
use crate::value::{Map, Value};

pub use condition::{Condition, find_condition, set_condition, validate_conditions};
pub use names::{NameCheck, path_segment_problems};
pub use object::{
    field_manager_problems, validate_annotations, validate_labels, validate_object_meta,
    validate_object_meta_update,
};
pub use status::{Cause, Details, Status};

/// The garbage collector's finalizer: dependents are to lose this owner before it goes.
pub const FINALIZER_ORPHAN: &str = "orphan";
/// The garbage collector's finalizer: dependents are to go before their owner.
pub const FINALIZER_FOREGROUND: &str = "foregroundDeletion";

static NO_ENTRIES: Map = Map::new();

/// A field of the metadata, unless it is absent or null.
#[must_use]
pub fn get(object: &Value, field: NameId) -> Option<&Value> {
    object.get(n::METADATA)?.get(field).filter(|v| !v.is_null())
}

fn text(object: &Value, field: NameId) -> &str {
    get(object, field)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[must_use]
pub fn name(object: &Value) -> &str {
    text(object, n::NAME)
}

#[must_use]
pub fn generate_name(object: &Value) -> &str {
    text(object, n::GENERATE_NAME)
}

#[must_use]
pub fn namespace(object: &Value) -> &str {
    text(object, n::NAMESPACE)
}

#[must_use]
pub fn uid(object: &Value) -> &str {
    text(object, n::UID)
}

#[must_use]
pub fn resource_version(object: &Value) -> &str {
    text(object, n::RESOURCE_VERSION)
}

/// RFC 3339 in UTC; empty if there is none yet.
#[must_use]
pub fn creation_timestamp(object: &Value) -> &str {
    text(object, n::CREATION_TIMESTAMP)
}

#[must_use]
pub fn generation(object: &Value) -> Option<i64> {
    get(object, n::GENERATION).and_then(Value::as_int)
}

/// RFC 3339 in UTC.
#[must_use]
pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    get(object, n::DELETION_TIMESTAMP).and_then(Value::as_str)
}

#[must_use]
pub fn is_deleting(object: &Value) -> bool {
    deletion_timestamp(object).is_some()
}

#[must_use]
pub fn deletion_grace_period_seconds(object: &Value) -> Option<i64> {
    get(object, n::DELETION_GRACE_PERIOD_SECONDS).and_then(Value::as_int)
}

#[must_use]
pub fn labels(object: &Value) -> &Map {
    get(object, n::LABELS)
        .and_then(Value::as_map)
        .unwrap_or(&NO_ENTRIES)
}

#[must_use]
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    labels(object).get(key)?.as_str()
}

#[must_use]
pub fn annotations(object: &Value) -> &Map {
    get(object, n::ANNOTATIONS)
        .and_then(Value::as_map)
        .unwrap_or(&NO_ENTRIES)
}

#[must_use]
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    annotations(object).get(key)?.as_str()
}

#[must_use]
pub fn finalizers(object: &Value) -> Vec<&str> {
    items(object, n::FINALIZERS)
        .iter()
        .filter_map(Value::as_str)
        .collect()
}

#[must_use]
pub fn owner_references(object: &Value) -> &[Value] {
    items(object, n::OWNER_REFERENCES)
}

/// The owner reference with `controller: true`.
#[must_use]
pub fn controller_of(object: &Value) -> Option<&Value> {
    owner_references(object)
        .iter()
        .find(|r| r.get(n::CONTROLLER) == Some(&Value::Bool(true)))
}

#[must_use]
pub fn managed_fields(object: &Value) -> &[Value] {
    items(object, n::MANAGED_FIELDS)
}

fn items(object: &Value, field: NameId) -> &[Value] {
    get(object, field)
        .and_then(Value::as_list)
        .unwrap_or_default()
}

/// The metadata for writing, made if there is none.
pub fn metadata_mut(object: &mut Value) -> &mut Map {
    object.ensure(&[n::METADATA]).make_map()
}

/// Sets a field of the metadata; an empty string, list or map takes it away.
pub fn set(object: &mut Value, field: NameId, value: impl Into<Value>) {
    let value = value.into();
    let empty = match &value {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::List(l) => l.is_empty(),
        Value::Map(m) => m.is_empty(),
        _ => false,
    };
    let metadata = metadata_mut(object);
    if empty {
        metadata.remove(field);
    } else {
        metadata.insert(field, value);
    }
}

pub fn set_label(object: &mut Value, key: &str, value: &str) {
    metadata_mut(object)
        .entry(n::LABELS)
        .make_map()
        .insert(key, value);
}

pub fn set_annotation(object: &mut Value, key: &str, value: &str) {
    metadata_mut(object)
        .entry(n::ANNOTATIONS)
        .make_map()
        .insert(key, value);
}

/// Takes an annotation away; without any left there are none.
pub fn remove_annotation(object: &mut Value, key: &str) {
    let metadata = metadata_mut(object);
    if let Some(annotations) = metadata.get_mut(n::ANNOTATIONS).and_then(Value::as_map_mut) {
        annotations.remove(key);
        if annotations.is_empty() {
            metadata.remove(n::ANNOTATIONS);
        }
    }
}

/// Adds a finalizer unless it is there.
pub fn add_finalizer(object: &mut Value, finalizer: &str) {
    if !finalizers(object).contains(&finalizer) {
        metadata_mut(object)
            .entry(n::FINALIZERS)
            .make_list()
            .push(finalizer.into());
    }
}

/// Takes a finalizer away; tells whether it was there.
pub fn remove_finalizer(object: &mut Value, finalizer: &str) -> bool {
    let before = items(object, n::FINALIZERS);
    let after: Vec<Value> = before
        .iter()
        .filter(|f| f.as_str() != Some(finalizer))
        .cloned()
        .collect();
    let found = after.len() < before.len();
    if found {
        set(object, n::FINALIZERS, after);
    }
    found
}

/// Group and version of an `apiVersion`: `("apps", "v1")`, `("", "v1")`; none if it has more than one
/// slash. An empty text is the empty version of the core group, as upstream has it.
#[must_use]
pub fn parse_api_version(text: &str) -> Option<(&str, &str)> {
    match text.split_once('/') {
        None => Some(("", text)),
        Some((_, version)) if version.contains('/') => None,
        Some((group, version)) => Some((group, version)),
    }
}

/// What generated names end in: no vowels, so that no words come about, and no digits that look like
/// letters.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX: usize = 5;
/// A name of 63 bytes, less the suffix.
const BASE: usize = 58;

/// A name that begins with `base` (cut to 58 bytes) and ends in five random characters. `random` gives
/// uniformly distributed bits.
pub fn generated_name(base: &str, random: &mut dyn FnMut() -> u64) -> String {
    let mut name = base[..base.floor_char_boundary(BASE)].to_owned();
    let (mut bits, mut left) = (0, 0);
    let mut missing = SUFFIX;
    while missing > 0 {
        if left == 0 {
            (bits, left) = (random(), u64::BITS / 5);
        }
        if let Some(letter) = usize::try_from(bits & 31)
            .ok()
            .and_then(|i| ALPHABET.get(i))
        {
            name.push(char::from(*letter));
            missing -= 1;
        }
        bits >>= 5;
        left -= 1;
    }
    name
}

/// The decimal form of a hash in the letters of generated names: `pod-template-hash` and its like.
#[must_use]
pub fn safe_encode(text: &str) -> String {
    text.chars()
        .map(|c| char::from(ALPHABET[c as usize % ALPHABET.len()]))
        .collect()
}

#[cfg(test)]
mod tests;
