//! Validation of an object's metadata: upstream's `apimachinery/pkg/api/validation/objectmeta.go`.
//!
//! Order and texts are upstream's, with one difference that nobody can rely on: entries of maps come in
//! the order of their keys, where upstream takes Go's random order.

use std::collections::BTreeSet;

use crate::catalogue::names as n;
use crate::codec::json;
use crate::name::NameId;
use crate::path::{Errors, Named, Spot, is_printable, quote};
use crate::value::{Map, Value};

use super::names::{self, label_key_problems, label_value_problems};
use super::{FINALIZER_FOREGROUND, FINALIZER_ORPHAN, parse_api_version};

/// Keys and values of all annotations together.
const MAX_ANNOTATIONS: usize = 256 * 1024;
/// The manager of fields, as in the parameter `fieldManager`.
const MAX_MANAGER: usize = 128;
const MAX_SUBRESOURCE: usize = 256;

/// Validates the metadata of a new object, and that of an updated one which has its name already.
/// `name_check` is the rule of the resource (see [`names`]).
pub fn validate_object_meta(
    object: &Value,
    namespaced: bool,
    name_check: impl Fn(&str, bool) -> Vec<String>,
    errors: &mut Errors<'_>,
) {
    let at = spot(object);
    let generate_name = super::generate_name(object);
    if !generate_name.is_empty() {
        errors.invalid_each(
            at.field(n::GENERATE_NAME),
            generate_name,
            name_check(generate_name, true),
        );
    }
    match super::name(object) {
        "" => errors.required(at.field(n::NAME), "name or generateName is required"),
        name => errors.invalid_each(at.field(n::NAME), name, name_check(name, false)),
    }
    match (namespaced, super::namespace(object)) {
        (true, "") => errors.required(at.field(n::NAMESPACE), ""),
        (true, namespace) => {
            errors.invalid_each(
                at.field(n::NAMESPACE),
                namespace,
                names::label_name(namespace, false),
            );
        }
        (false, "") => {}
        (false, _) => errors.forbidden(at.field(n::NAMESPACE), "not allowed on this type"),
    }
    generation(object, at, errors);
    validate_labels(super::labels(object), at.field(n::LABELS), errors);
    validate_annotations(super::annotations(object), at.field(n::ANNOTATIONS), errors);
    owner_references(object, at, errors);
    finalizers(object, at, errors);
    managed_fields(object, errors);
}

/// Validates the metadata of an object against what it replaces.
pub fn validate_object_meta_update(new: &Value, old: &Value, errors: &mut Errors<'_>) {
    let at = spot(new);
    if super::is_deleting(old) {
        no_new_finalizers(new, old, at, errors);
    }
    if super::resource_version(new).is_empty() {
        errors.invalid(
            at.field(n::RESOURCE_VERSION),
            "",
            "must be specified for an update",
        );
    }
    generation(new, at, errors);
    let generations = (
        super::generation(new).unwrap_or(0),
        super::generation(old).unwrap_or(0),
    );
    if generations.0 < generations.1 {
        errors.invalid(
            at.field(n::GENERATION),
            generations.0,
            "must not be decremented",
        );
    }
    let text = |object, field| {
        super::get(object, field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    for field in [n::NAME, n::NAMESPACE] {
        if text(new, field) != text(old, field) {
            errors.invalid(at.field(field), text(new, field), IMMUTABLE);
        }
    }
    if text(new, n::UID) != text(old, n::UID) {
        errors.invalid(at.field(n::UID), Named(text(new, n::UID)), IMMUTABLE);
    }
    for field in [
        n::CREATION_TIMESTAMP,
        n::DELETION_TIMESTAMP,
        n::DELETION_GRACE_PERIOD_SECONDS,
    ] {
        immutable(new, old, field, at, errors);
    }
    validate_labels(super::labels(new), at.field(n::LABELS), errors);
    validate_annotations(super::annotations(new), at.field(n::ANNOTATIONS), errors);
    owner_references(new, at, errors);
    managed_fields(new, errors);
}

const IMMUTABLE: &str = "field is immutable";

fn spot(object: &Value) -> Spot<'_> {
    object
        .get(n::METADATA)
        .map_or_else(|| Spot::node(object).field(n::METADATA), Spot::node)
}

fn immutable(new: &Value, old: &Value, field: NameId, at: Spot<'_>, errors: &mut Errors<'_>) {
    let value = super::get(new, field);
    if value != super::get(old, field) {
        errors.invalid(at.field(field), value.unwrap_or(&Value::Null), IMMUTABLE);
    }
}

fn generation(object: &Value, at: Spot<'_>, errors: &mut Errors<'_>) {
    let generation = super::generation(object).unwrap_or(0);
    if generation < 0 {
        errors.invalid(
            at.field(n::GENERATION),
            generation,
            "must be greater than or equal to 0",
        );
    }
}

/// A map of labels, wherever one stands.
pub fn validate_labels(labels: &Map, at: Spot<'_>, errors: &mut Errors<'_>) {
    for (key, value) in labels.iter() {
        errors.invalid_each(at, key.as_str(), label_key_problems(key.as_str()));
        let value = value.as_str().unwrap_or_default();
        errors.invalid_each(at, value, label_value_problems(value));
    }
}

/// A map of annotations, wherever one stands.
pub fn validate_annotations(annotations: &Map, at: Spot<'_>, errors: &mut Errors<'_>) {
    let mut size = 0;
    for (key, value) in annotations.iter() {
        // The case of a key does not matter here.
        let problems = label_key_problems(&key.as_str().to_lowercase());
        errors.invalid_each(at, key.as_str(), problems);
        size += key.as_str().len() + value.as_str().map_or(0, str::len);
    }
    if size > MAX_ANNOTATIONS {
        errors.too_long(at, MAX_ANNOTATIONS);
    }
}

fn owner_references(object: &Value, at: Spot<'_>, errors: &mut Errors<'_>) {
    let mut controller: Option<String> = None;
    for owner in super::owner_references(object) {
        owner_reference(owner, errors);
        if owner.get(n::CONTROLLER).and_then(Value::as_bool) != Some(true) {
            continue;
        }
        let text = |field| owner.get(field).and_then(Value::as_str).unwrap_or_default();
        let this = format!("{}/{}", text(n::KIND), text(n::NAME));
        if let Some(first) = &controller {
            let shown: Vec<String> = super::owner_references(object)
                .iter()
                .map(shown_owner)
                .collect();
            let why = "Only one reference can have Controller set to true. Found \"true\" in references for";
            let shown = Literal(format!("[{}]", shown.join(",")));
            errors.invalid(
                at.field(n::OWNER_REFERENCES),
                shown,
                format!("{why} {first} and {this}"),
            );
        } else {
            controller = Some(this);
        }
    }
}

fn owner_reference(owner: &Value, errors: &mut Errors<'_>) {
    let at = Spot::node(owner);
    let text = |field| owner.get(field).and_then(Value::as_str).unwrap_or_default();
    let api_version = text(n::API_VERSION);
    let parsed = parse_api_version(api_version).filter(|(_, version)| !version.is_empty());
    if api_version.is_empty() {
        errors.required(at.field(n::API_VERSION), "must not be empty");
    } else if parsed.is_none() {
        errors.invalid(
            at.field(n::API_VERSION),
            api_version,
            "must be <group>/<version> or <version>",
        );
    }
    for field in [n::KIND, n::NAME, n::UID] {
        if text(field).is_empty() {
            errors.required(at.field(field), "must not be empty");
        }
    }
    if parsed == Some(("", "v1")) && text(n::KIND) == "Event" {
        errors.invalid(
            at,
            Literal(shown_owner(owner)),
            "/v1, Kind=Event is disallowed from being an owner",
        );
    }
}

/// As the Go struct prints.
fn shown_owner(owner: &Value) -> String {
    let mut out = Vec::new();
    json::encode(
        owner,
        crate::catalogue::messages::meta_v1::OWNER_REFERENCE,
        &mut out,
    );
    String::from_utf8_lossy(&out).into_owned()
}

/// A value that is printed already.
struct Literal(String);

impl crate::path::Show for Literal {
    fn show(&self) -> String {
        self.0.clone()
    }
}

fn finalizers(object: &Value, at: Spot<'_>, errors: &mut Errors<'_>) {
    let finalizers = super::finalizers(object);
    let at = at.field(n::FINALIZERS);
    for finalizer in &finalizers {
        errors.invalid_each(at, *finalizer, label_key_problems(finalizer));
    }
    if finalizers.contains(&FINALIZER_ORPHAN) && finalizers.contains(&FINALIZER_FOREGROUND) {
        let why =
            format!("finalizer {FINALIZER_ORPHAN} and {FINALIZER_FOREGROUND} cannot be both set");
        let list = super::get(object, n::FINALIZERS).unwrap_or(&Value::Null);
        errors.invalid(at, list, why);
    }
}

fn no_new_finalizers(new: &Value, old: &Value, at: Spot<'_>, errors: &mut Errors<'_>) {
    let old: BTreeSet<&str> = super::finalizers(old).into_iter().collect();
    let new: BTreeSet<&str> = super::finalizers(new).into_iter().collect();
    let added: Vec<String> = new.difference(&old).map(|f| quote(f)).collect();
    if !added.is_empty() {
        let why =
            "no new finalizers can be added if the object is being deleted, found new finalizers";
        errors.forbidden(
            at.field(n::FINALIZERS),
            format!("{why} []string{{{}}}", added.join(", ")),
        );
    }
}

fn managed_fields(object: &Value, errors: &mut Errors<'_>) {
    for entry in super::managed_fields(object) {
        let at = Spot::node(entry);
        let text = |field| entry.get(field).and_then(Value::as_str).unwrap_or_default();
        match text(n::OPERATION) {
            "" => errors.required(at.field(n::OPERATION), "must not be empty"),
            "Apply" | "Update" => {}
            other => {
                errors.not_supported(at.field(n::OPERATION), Named(other), &["Apply", "Update"])
            }
        }
        let kind = text(n::FIELDS_TYPE);
        if !kind.is_empty() && kind != "FieldsV1" {
            errors.invalid(at.field(n::FIELDS_TYPE), kind, "must be `FieldsV1`");
        }
        validate_field_manager(text(n::MANAGER), at.field(n::MANAGER), errors);
        if text(n::SUBRESOURCE).len() > MAX_SUBRESOURCE {
            errors.too_long(at.field(n::SUBRESOURCE), MAX_SUBRESOURCE);
        }
    }
}

fn validate_field_manager(manager: &str, at: Spot<'_>, errors: &mut Errors<'_>) {
    if manager.len() > MAX_MANAGER {
        errors.too_long(at, MAX_MANAGER);
    }
    for problem in field_manager_problems(manager) {
        errors.invalid(at, manager, problem);
    }
}

/// What is not printable in the name of a field manager, in a `managedFields` entry or a parameter.
pub fn field_manager_problems(manager: &str) -> impl Iterator<Item = String> {
    let bad = manager.char_indices().filter(|(_, c)| !is_printable(*c));
    bad.map(|(i, c)| format!("invalid character U+{:04X} (at position {i})", u32::from(c)))
}
