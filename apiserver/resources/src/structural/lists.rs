//! Lists that are sets and maps: `schema/listtype/validation.go`, and what a definition may say of them:
//! `pkg/apis/apiextensions/validation`.

use std::collections::HashMap;

use proto::path::{FieldError, Reason};
use proto::{Map, Value};

use super::text::{Path, json_text, show};
use super::{Kind, Schema};

/// Rules that were made later than others. An update keeps what broke them before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Topology {
    /// Items of sets are atomic.
    pub atomic_sets: bool,
    /// Items of sets and maps are not null; keys of maps are there, or have a default, and are not null.
    pub keys_are_set: bool,
}

impl Schema {
    /// Checks what this one node says by `x-kubernetes-list-type`, `x-kubernetes-list-map-keys` and
    /// `x-kubernetes-map-type`; nodes below are for who walks the definition. `at` is the node's path.
    #[must_use]
    pub fn validate_topology(&self, at: &str, rules: Topology) -> Vec<FieldError> {
        let mut errors = Vec::new();
        topology(self, &Path::root(at), rules, &mut errors);
        errors
    }

    /// Whether this one node breaks one of the later rules.
    #[must_use]
    pub fn breaks(&self, rules: Topology) -> bool {
        let (at, mut errors) = (Path::root(""), Vec::new());
        if rules.keys_are_set {
            keys_are_set(self, &at, &mut errors);
        }
        if rules.atomic_sets && self.list_type() == Some("set") {
            errors.extend(not_atomic(self, &at));
        }
        !errors.is_empty()
    }

    /// Checks that items of sets and keys of list-maps are there once. The root of an object is a map;
    /// for anything else nothing is checked.
    #[must_use]
    pub fn validate_lists(&self, object: &Value, at: &str) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let Value::Map(map) = object {
            in_map(self, map, &Path::root(at), &mut errors);
        }
        errors
    }
}

fn in_map(s: &Schema, map: &Map, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(additional) = s.additional.schema() {
        for (name, value) in map.iter() {
            in_value(additional, value, &at.key(name.as_str()), errors);
        }
    }
    if s.properties.is_empty() {
        return;
    }
    for (name, value) in map.iter() {
        if let Some(property) = s.property(name) {
            in_value(property, value, &at.child(name.as_str()), errors);
        }
    }
}

fn in_value(s: &Schema, value: &Value, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    match value {
        Value::Map(map) => in_map(s, map, at, errors),
        Value::List(items) => {
            match s.list_type() {
                Some("set") => set(items, at, errors),
                Some("map") => list_map(s, items, at, errors),
                _ => {}
            }
            if let Some(schema) = &s.items {
                for (i, item) in items.iter().enumerate() {
                    in_value(schema, item, &at.index(i), errors);
                }
            }
        }
        _ => {}
    }
}

fn duplicate(at: &Path<'_>, value: &Value) -> FieldError {
    FieldError::new(Reason::Duplicate, at.field(), show(value), "")
}

fn set(items: &[Value], at: &Path<'_>, errors: &mut Vec<FieldError>) {
    for i in repeated(items.iter().map(Some)) {
        errors.push(duplicate(&at.index(i), &items[i]));
    }
}

/// The places where something stands for the second time. Numbers of two types are two values, but not
/// inside of compound ones: those count as their JSON.
fn repeated<'a>(items: impl Iterator<Item = Option<&'a Value>>) -> Vec<usize> {
    let mut seen: HashMap<String, u32> = HashMap::new();
    let mut found = Vec::new();
    for (i, item) in items.enumerate() {
        let text = match item {
            None => "-".into(),
            Some(value @ Value::Float(_)) => format!("f{}", json_text(value)),
            Some(value) => json_text(value),
        };
        let times = seen.entry(text).or_default();
        *times += 1;
        if *times == 2 {
            found.push(i);
        }
    }
    found
}

fn list_map(s: &Schema, items: &[Value], at: &Path<'_>, errors: &mut Vec<FieldError>) {
    let stranger = |item: &&Value| !matches!(item, Value::Map(_) | Value::Null);
    if let Some((i, item)) = items.iter().enumerate().find(|(_, item)| stranger(item)) {
        errors.push(FieldError::new(
            Reason::Invalid,
            at.index(i).field(),
            show(item),
            "must be an object for an array of list-type map",
        ));
        return;
    }
    if let [key] = s.list_map_keys() {
        let keys: Vec<Option<&Value>> = items.iter().map(|item| item.get(&**key)).collect();
        for i in repeated(keys.iter().copied()) {
            let mut shown = Map::new();
            if let Some(value) = keys[i] {
                shown.insert(&**key, value.clone());
            }
            errors.push(duplicate(&at.index(i), &Value::Map(shown)));
        }
        return;
    }
    let keys: Vec<Value> = items
        .iter()
        .map(|item| {
            let mut all = Map::new();
            for key in s.list_map_keys() {
                if let Some(value) = item.get(&**key) {
                    all.insert(&**key, value.clone());
                }
            }
            Value::Map(all)
        })
        .collect();
    for i in repeated(keys.iter().map(Some)) {
        errors.push(duplicate(&at.index(i), &keys[i]));
    }
}

fn topology(s: &Schema, at: &Path<'_>, rules: Topology, errors: &mut Vec<FieldError>) {
    let of_type = |wanted: &Kind, extension: &str| {
        let why = format!("must be {} if {extension} is specified", wanted.as_str());
        let at = at.child("type").field();
        match &s.kind {
            None => Some(FieldError::required(at, why)),
            Some(kind) if kind != wanted => Some(FieldError::invalid(at, kind.as_str(), why)),
            Some(_) => None,
        }
    };
    if let Some(map_type) = s.map_type() {
        errors.extend(of_type(&Kind::Object, "x-kubernetes-map-type"));
        let types = ["atomic", "granular"];
        if !types.contains(&map_type) {
            let at = at.child("x-kubernetes-map-type").field();
            errors.push(FieldError::not_supported(at, map_type, &types));
        }
    }
    let list_type_at = at.child("x-kubernetes-list-type").field();
    if let Some(list_type) = s.list_type() {
        match of_type(&Kind::Array, "x-kubernetes-list-type") {
            Some(error) => errors.push(error),
            None if rules.atomic_sets && list_type == "set" => errors.extend(not_atomic(s, at)),
            None => {}
        }
        let types = ["atomic", "set", "map"];
        if !types.contains(&list_type) {
            errors.push(FieldError::not_supported(&*list_type_at, list_type, &types));
        }
    }
    if !s.list_map_keys().is_empty() {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        match s.list_type() {
            None => errors.push(FieldError::required(list_type_at, why)),
            Some("map") => {}
            Some(other) => errors.push(FieldError::invalid(list_type_at, other, why)),
        }
    }
    if s.list_type() == Some("map") {
        of_map(s, at, errors);
    }
    if rules.keys_are_set {
        keys_are_set(s, at, errors);
    }
}

/// What is wrong with items of a set that are lists or maps.
fn not_atomic(s: &Schema, at: &Path<'_>) -> Option<FieldError> {
    const WHY: &str = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let items = s.items.as_ref()?;
    let name = match &items.kind {
        Some(Kind::Array) if items.list_type().is_some_and(|t| t != "atomic") => {
            "x-kubernetes-list-type"
        }
        Some(Kind::Object) if items.map_type() != Some("atomic") => "x-kubernetes-map-type",
        _ => return None,
    };
    // Of either, upstream shows the type of the list.
    let shown = items.list_type().map_or(Value::Null, Value::from);
    let at = at.child("items");
    Some(FieldError::invalid(at.child(name).field(), &shown, WHY))
}

fn of_map(s: &Schema, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    let keys_at = at.child("x-kubernetes-list-map-keys").field();
    let keys = s.list_map_keys();
    if keys.is_empty() {
        let why = "must not be empty if x-kubernetes-list-type is map";
        errors.push(FieldError::required(&*keys_at, why));
    }
    let at = at.child("items");
    let Some(items) = &s.items else {
        let why = "must have a schema if x-kubernetes-list-type is map";
        errors.push(FieldError::required(at.field(), why));
        return;
    };
    let kind = items.kind.as_ref().map_or("", Kind::as_str);
    if items.kind != Some(Kind::Object) {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(at.child("type").field(), kind, why));
        return;
    }
    let all = Value::List(keys.iter().map(|key| Value::from(&**key)).collect());
    for (i, key) in keys.iter().enumerate() {
        match items.property(&**key) {
            Some(property) if matches!(property.kind, Some(Kind::Array | Kind::Object)) => {
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                let properties = at.child("properties");
                let at = properties.key(key);
                errors.push(FieldError::invalid(at.child("type").field(), kind, why));
            }
            Some(_) => {}
            None => {
                let why = "entries must all be names of item properties";
                errors.push(FieldError::invalid(&*keys_at, &all, why));
            }
        }
        if keys[..i].contains(key) {
            let why = "must not contain duplicate entries";
            errors.push(FieldError::invalid(&*keys_at, &all, why));
        }
    }
}

fn keys_are_set(s: &Schema, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    let (Some(items), Some(list_type @ ("set" | "map"))) = (&s.items, s.list_type()) else {
        return;
    };
    let at = at.child("items");
    if items.is_nullable() {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.push(FieldError::forbidden(at.child("nullable").field(), why));
    }
    if list_type == "set" {
        return;
    }
    const KEY: &str = "this property is in x-kubernetes-list-map-keys, so it ";
    let properties = at.child("properties");
    for key in s.list_map_keys() {
        let Some(property) = items.property(&**key) else {
            continue;
        };
        let at = properties.key(key);
        let required = items.required().iter().any(|name| name.as_str() == &**key);
        if !required && property.default_value().is_none() {
            let why = format!("{KEY}must have a default or be a required property");
            errors.push(FieldError::required(at.child("default").field(), why));
        }
        if property.is_nullable() {
            let why = format!("{KEY}cannot be nullable");
            errors.push(FieldError::forbidden(at.child("nullable").field(), why));
        }
    }
}
