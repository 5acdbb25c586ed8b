//! CustomResourceDefinitions: served as v1, stored as v1beta1.
//!
//! Upstream's `apiextensions-apiserver/pkg/apis/apiextensions/v1/conversion.go`. The old version has
//! schema, subresources, columns and selectable fields once for all versions; where all versions agree,
//! the conversion puts them there, and back into each version on the way out.

use crate::catalogue::names as n;
use crate::name::NameId;
use crate::value::{Map, Value};

use super::{each, rename};

/// What stands in each version of v1, and its name at the top of v1beta1.
const PER_VERSION: &[(NameId, NameId)] = &[
    (n::SUBRESOURCES, n::SUBRESOURCES),
    (n::SCHEMA, n::VALIDATION),
    (n::ADDITIONAL_PRINTER_COLUMNS, n::ADDITIONAL_PRINTER_COLUMNS),
    (n::SELECTABLE_FIELDS, n::SELECTABLE_FIELDS),
];

/// What stands in the conversion of v1beta1, and in its webhook in v1.
const WEBHOOK: &[(NameId, NameId)] = &[
    (n::WEBHOOK_CLIENT_CONFIG, n::CLIENT_CONFIG),
    (n::CONVERSION_REVIEW_VERSIONS, n::CONVERSION_REVIEW_VERSIONS),
];

pub(super) fn v1_to_v1beta1(crd: &mut Map) {
    let Some(spec) = crd.get_mut(n::SPEC).and_then(Value::as_map_mut) else {
        return;
    };
    // A pointer there: false is not absence.
    let preserve = spec
        .get(n::PRESERVE_UNKNOWN_FIELDS)
        .and_then(Value::as_bool)
        .unwrap_or(false);
    spec.insert(n::PRESERVE_UNKNOWN_FIELDS, preserve);
    if let Some(conversion) = spec.get_mut(n::CONVERSION).and_then(Value::as_map_mut)
        && let Some(Value::Map(mut webhook)) = conversion.remove(n::WEBHOOK)
    {
        for (old, new) in WEBHOOK {
            if let Some(part) = webhook.remove(*new) {
                conversion.insert(*old, part);
            }
        }
    }
    let mut top = Vec::new();
    if let Some(versions) = spec
        .get_mut(n::VERSIONS)
        .and_then(Value::as_list_mut)
        .filter(|v| !v.is_empty())
    {
        for version in versions.iter_mut() {
            each_column(version, |column| {
                rename(column, n::JSON_PATH, n::CAPITAL_JSON_PATH)
            });
        }
        if let Some(name) = versions[0].get(n::NAME) {
            top.push((n::VERSION, name.clone()));
        }
        for (inner, outer) in PER_VERSION {
            let first = content(&versions[0], *inner).cloned();
            if versions
                .iter()
                .all(|v| content(v, *inner) == first.as_ref())
            {
                versions
                    .iter_mut()
                    .for_each(|v| drop(v.make_map().remove(*inner)));
                top.extend(first.map(|value| (*outer, value)));
            }
        }
    }
    for (name, value) in top {
        spec.insert(name, value);
    }
}

pub(super) fn v1beta1_to_v1(crd: &mut Map) {
    let Some(spec) = crd.get_mut(n::SPEC).and_then(Value::as_map_mut) else {
        return;
    };
    // The old version's default.
    if spec
        .get(n::PRESERVE_UNKNOWN_FIELDS)
        .and_then(Value::as_bool)
        == Some(false)
    {
        spec.remove(n::PRESERVE_UNKNOWN_FIELDS);
    } else {
        spec.insert(n::PRESERVE_UNKNOWN_FIELDS, true);
    }
    if let Some(conversion) = spec.get_mut(n::CONVERSION).and_then(Value::as_map_mut) {
        let mut webhook = Map::new();
        for (old, new) in WEBHOOK {
            if let Some(part) = conversion.remove(*old) {
                webhook.insert(*new, part);
            }
        }
        if !webhook.is_empty() {
            conversion.insert(n::WEBHOOK, webhook);
        }
    }
    let version = spec.remove(n::VERSION);
    let top: Vec<(NameId, Value)> = PER_VERSION
        .iter()
        .filter_map(|(inner, outer)| Some((*inner, spec.remove(*outer)?)))
        .collect();
    let versions = spec.entry(n::VERSIONS).make_list();
    if let (Some(name), true) = (version, versions.is_empty()) {
        let mut only = Value::object();
        only.set(&[n::NAME], name);
        only.set(&[n::SERVED], true);
        only.set(&[n::STORAGE], true);
        versions.push(only);
    }
    for version in versions.iter_mut() {
        for (name, value) in &top {
            version.make_map().insert(*name, value.clone());
        }
        each_column(version, |column| {
            rename(column, n::CAPITAL_JSON_PATH, n::JSON_PATH)
        });
    }
}

/// A part of a version; an empty list is none.
fn content(version: &Value, name: NameId) -> Option<&Value> {
    version
        .get(name)
        .filter(|v| v.as_list().is_none_or(|l| !l.is_empty()))
}

fn each_column(version: &mut Value, change: impl Fn(&mut Map)) {
    each(version.get_mut(n::ADDITIONAL_PRINTER_COLUMNS), change);
}
