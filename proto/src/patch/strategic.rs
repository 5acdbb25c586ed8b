//! Strategic merge patch: a merge that knows which lists merge, and by which key.
//!
//! Upstream's `apimachinery/pkg/util/strategicpatch`, the part that a server needs. Directives in a
//! patch:
//!
//! - `$patch: replace | delete` in an object: it replaces, or empties, what stands there; in an element
//!   of a list that merges: the list is replaced by the other elements, or the element of that key goes,
//! - `$retainKeys: [...]`: members that are not listed go before the patch is merged,
//! - `$deleteFromPrimitiveList/x: [...]`: these elements of the list `x` go,
//! - `$setElementOrder/x: [...]`: the order of the elements of `x` that the client knows of.
//!
//! A merged list has the patch's elements in the patch's order and the others in the order they had;
//! where both orders leave a choice, an element that stood before another one stays before it, and
//! patched elements come first.

mod order;

use std::collections::{HashMap, HashSet};

use crate::catalogue::{Field, Flags, Kind, MsgId, Shape};
use crate::name::{Name, NameId};
use crate::value::{Map, Value};

use super::Error;
use order::{Positions, Scalar, arrange, check_order};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";

/// Applies `patch` to `document`, the JSON of a `message`.
///
/// # Errors
/// If the patch or a directive in it does not fit. The document is then in a state between.
pub fn apply(document: &mut Value, patch: &Value, message: MsgId) -> Result<(), Error> {
    let (Value::Map(document), Value::Map(patch)) = (document, patch) else {
        return Err(Error::Unreadable("invalid JSON document".to_owned()));
    };
    merge_map(document, patch.clone(), Schema::Message(message))
}

/// JSON of any kind of object, as Go calls its type.
const RAW: &str = "RawExtension";

/// What is known of a node.
#[derive(Clone, Copy)]
enum Schema {
    Message(MsgId),
    /// Something without fields: its kind in Go.
    Opaque(&'static str),
}

impl Schema {
    /// The elements of a field, or the field itself where it is no list.
    fn of(field: &Field) -> Self {
        match (field.shape, field.kind) {
            (Shape::Map, _) => Self::Opaque("map"),
            (_, Kind::Message(message)) => Self::Message(message),
            (_, Kind::String | Kind::Bytes) => Self::Opaque("string"),
            (_, Kind::Bool) => Self::Opaque("bool"),
            (_, Kind::Int32 | Kind::Int64 | Kind::Float64) => Self::Opaque("int"),
            (_, Kind::Strings) => Self::Opaque("slice"),
            (_, Kind::RawExtension) => Self::Opaque(RAW),
            _ => Self::Opaque("struct"),
        }
    }

    fn field(self, name: &Name) -> Result<&'static Field, Error> {
        let message = match self {
            Self::Message(message) => message,
            Self::Opaque(RAW) => {
                return Err(Error::UnknownField {
                    message: RAW,
                    field: name.as_str().to_owned(),
                });
            }
            Self::Opaque(kind) => return Err(Error::NotAStruct(kind)),
        };
        name.known()
            .and_then(|id| message.field(id))
            .ok_or_else(|| Error::UnknownField {
                message: message.name().rsplit('.').next().unwrap_or_default(),
                field: name.as_str().to_owned(),
            })
    }

    /// A field in whose place the document has a list.
    fn list_field(self, name: &Name) -> Result<&'static Field, Error> {
        let field = self.field(name)?;
        let raw = matches!(field.kind, Kind::RawExtension | Kind::FieldsV1 | Kind::Json);
        if field.shape == Shape::One && raw {
            Err(Error::NotAList("struct"))
        } else {
            Ok(field)
        }
    }
}

fn merge_map(original: &mut Map, mut patch: Map, schema: Schema) -> Result<(), Error> {
    match patch.get(PATCH) {
        None => {}
        Some(Value::String(directive)) if &**directive == "replace" => {
            patch.remove(PATCH);
            *original = patch;
            return Ok(());
        }
        Some(Value::String(directive)) if &**directive == "delete" => {
            *original = Map::new();
            return Ok(());
        }
        Some(other) => return Err(unknown_directive(other, &Value::Map(patch.clone()))),
    }
    if let Some(keys) = patch.remove(RETAIN_KEYS) {
        retain_keys(original, &patch, &keys)?;
    }
    let ordered: Vec<Name> = patch
        .iter()
        .map(|(n, _)| n)
        .filter(|n| n.as_str().starts_with(SET_ORDER))
        .cloned()
        .collect();
    for directive in ordered {
        let order = patch.remove(&directive).unwrap_or_default();
        set_order(original, &mut patch, &directive, &order, schema)?;
    }
    let mut gone = HashSet::new();
    let mut new = Vec::new();
    for (name, value) in patch {
        let (name, delete) = match directive_target(&name, DELETE_FROM, "primitive list")? {
            Some(name) => (name, true),
            None => (name, false),
        };
        match original.get_mut(&name) {
            Some(_) if value.is_null() => {
                gone.insert(name);
            }
            Some(current) if same_type(current, &value) => {
                merge_value(current, value, &name, delete, schema)?
            }
            _ if delete || value.is_null() => {}
            current => match (fresh(value), current) {
                (Some(value), Some(current)) => *current = value,
                (Some(value), None) => new.push((name, value)),
                (None, Some(_)) => {
                    gone.insert(name);
                }
                (None, None) => {}
            },
        }
    }
    if !gone.is_empty() {
        original.retain(|name, _| !gone.contains(name));
    }
    original.extend(new);
    Ok(())
}

/// Merges two values of one type.
fn merge_value(
    current: &mut Value,
    patch: Value,
    name: &Name,
    delete: bool,
    schema: Schema,
) -> Result<(), Error> {
    match (current, patch) {
        (Value::Map(current), Value::Map(patch)) => {
            let field = schema.field(name)?;
            if field.has(Flags::PATCH_REPLACE) {
                *current = patch;
                return Ok(());
            }
            merge_map(current, patch, Schema::of(field))
        }
        (Value::List(current), Value::List(patch)) => {
            let field = schema.list_field(name)?;
            *current = merge_list_field(std::mem::take(current), patch, field, delete)?;
            Ok(())
        }
        (current, patch) => {
            *current = patch;
            Ok(())
        }
    }
}

fn merge_list_field(
    original: Vec<Value>,
    patch: Vec<Value>,
    field: &Field,
    delete: bool,
) -> Result<Vec<Value>, Error> {
    if delete || field.has(Flags::PATCH_MERGE) {
        merge_list(
            original,
            patch,
            field.patch_key(),
            Schema::of(field),
            delete,
        )
    } else {
        Ok(patch)
    }
}

fn merge_list(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: Option<NameId>,
    schema: Schema,
    delete: bool,
) -> Result<Vec<Value>, Error> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    if !elements_are_maps(&original, &patch)? {
        let order = Positions::of(&patch, None)?;
        if delete {
            original.retain(|v| Scalar::of(v).is_none_or(|v| !order.contains(&v)));
            return Ok(original);
        }
        let server_order = Positions::of(&original, None)?;
        let mut seen = HashSet::new();
        let mut merged = original;
        merged.extend(patch);
        merged.retain(|v| Scalar::of(v).is_some_and(|v| seen.insert(v)));
        // A key here fails, as scalars have none.
        return arrange(merged, &order, &server_order, key);
    }
    let key = key.ok_or(Error::NotMergeable)?;
    let (original, patch) = elements_with_directives(original, patch, key)?;
    let order = Positions::of(&patch, Some(key))?;
    let server_order = Positions::of(&original, Some(key))?;
    let merged = merge_elements(original, patch, key, schema)?;
    arrange(merged, &order, &server_order, Some(key))
}

/// Elements of the patch with an element of the same key are merged into the first such one, the others
/// come after.
fn merge_elements(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: NameId,
    schema: Schema,
) -> Result<Vec<Value>, Error> {
    let mut places: HashMap<Scalar, usize> = HashMap::new();
    for (i, element) in original.iter().enumerate() {
        if let Some(value) = element.get(key).and_then(Scalar::of) {
            places.entry(value).or_insert(i);
        }
    }
    for element in patch {
        let value = order::key_of(&element, key)?;
        match (places.get(&value), element) {
            (Some(i), Value::Map(element)) => merge_map(original[*i].make_map(), element, schema)?,
            (_, element) => {
                places.insert(value, original.len());
                original.push(element);
            }
        }
    }
    Ok(original)
}

/// Carries out `$patch` in elements of the patch, and takes those elements out.
fn elements_with_directives(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: NameId,
) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let mut replace = false;
    let mut gone = HashSet::new();
    let mut rest = Vec::with_capacity(patch.len());
    for element in patch {
        match element.get(PATCH) {
            None => rest.push(element),
            Some(Value::String(directive)) => match &**directive {
                "delete" => {
                    gone.insert(order::key_of(&element, key)?);
                }
                "replace" => replace = true,
                "merge" => return Err(Error::MergeDirective),
                _ => {
                    return Err(unknown_directive(
                        &Value::String(directive.clone()),
                        &element,
                    ));
                }
            },
            Some(other) => return Err(unknown_directive(other, &element)),
        }
    }
    if replace {
        return Ok((rest, Vec::new()));
    }
    original.retain(|e| {
        e.get(key)
            .and_then(Scalar::of)
            .is_none_or(|value| !gone.contains(&value))
    });
    Ok((original, rest))
}

/// Carries out `$setElementOrder`, and with it the patch of that list.
fn set_order(
    original: &mut Map,
    patch: &mut Map,
    directive: &Name,
    order: &Value,
    schema: Schema,
) -> Result<(), Error> {
    let order = order.as_list().ok_or_else(|| not_a_list(order))?;
    let name = directive_target(directive, SET_ORDER, "setElementOrder list")?
        .unwrap_or_else(|| directive.clone());
    for list in [original.get(&name), patch.get(&name)]
        .into_iter()
        .flatten()
    {
        list.as_list().ok_or_else(|| not_a_list(list))?;
    }
    let field = schema.list_field(&name)?;
    let key = field.patch_key();
    let list = |map: &Map| {
        map.get(&name)
            .and_then(Value::as_list)
            .map(<[Value]>::to_vec)
    };
    let (before, patched) = (list(original), list(patch));
    check_order(patched.as_deref().unwrap_or_default(), order, key)?;
    let (old, new) = (
        before.as_deref().unwrap_or_default(),
        patched.as_deref().unwrap_or_default(),
    );
    let maps = elements_are_maps(old, new);
    let server_order = order::server_order(old, new, key);
    let merged = match (before, patched) {
        (Some(before), None) => before,
        (Some(before), Some(patched)) => merge_list_field(before, patched, field, false)?,
        (None, Some(patched)) => patched.into_iter().filter_map(without_directives).collect(),
        (None, None) => return Ok(()),
    };
    let key = match (maps?, key) {
        (true, None) => return Err(Error::NotMergeable),
        (true, key) => key,
        (false, _) => None,
    };
    let (order, server_order) = (
        Positions::of(order, key)?,
        Positions::of(&server_order, key)?,
    );
    original.insert(&name, arrange(merged, &order, &server_order, key)?);
    patch.remove(&name);
    Ok(())
}

/// `x` of `$directive/x`; none if `name` is not this directive.
fn directive_target(name: &Name, prefix: &str, what: &'static str) -> Result<Option<Name>, Error> {
    let Some(rest) = name.as_str().strip_prefix(prefix) else {
        return Ok(None);
    };
    rest.strip_prefix('/')
        .map(|target| Some(Name::new(target)))
        .ok_or(Error::Directive(what))
}

/// Carries out `$retainKeys`. The keys must name all members of the patch.
fn retain_keys(original: &mut Map, patch: &Map, keys: &Value) -> Result<(), Error> {
    let malformed = || Error::Directive("retainKeys");
    let keys: HashSet<&str> = keys
        .as_list()
        .ok_or_else(malformed)?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let listed = |name: &Name| keys.contains(name.as_str());
    let directive = |name: &Name| {
        [DELETE_FROM, SET_ORDER]
            .into_iter()
            .any(|d| name.as_str().starts_with(d))
    };
    if !patch
        .iter()
        .all(|(name, value)| value.is_null() || directive(name) || listed(name))
    {
        return Err(malformed());
    }
    original.retain(|name, _| listed(name));
    Ok(())
}

/// A value of the patch where the document has none, or one of another type: nulls have nothing to
/// delete, and what has a directive of its own has nothing to merge with.
fn fresh(mut value: Value) -> Option<Value> {
    discard_nulls(&mut value);
    without_directives(value)
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Map(map) => map.retain(|_, v| {
            discard_nulls(v);
            !v.is_null()
        }),
        Value::List(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Map(map) if map.contains(PATCH) => None,
        Value::Map(map) => {
            let kept = map
                .into_iter()
                .filter_map(|(name, v)| Some((name, without_directives(v)?)));
            Some(Value::Map(kept.collect()))
        }
        Value::List(items) => Some(Value::List(
            items.into_iter().filter_map(without_directives).collect(),
        )),
        other => Some(other),
    }
}

fn same_type(a: &Value, b: &Value) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

/// Whether the elements of both lists are maps; they must all be of one type.
fn elements_are_maps(original: &[Value], patch: &[Value]) -> Result<bool, Error> {
    let mut elements = original.iter().chain(patch);
    let first = elements.next().ok_or(Error::NoElements)?;
    if matches!(first, Value::List(_)) {
        return Err(Error::ListOfLists);
    }
    if first.is_null() || !elements.all(|e| same_type(first, e)) {
        let lists = format!(
            "[{} {}]",
            printed(&Value::List(original.to_vec())),
            printed(&Value::List(patch.to_vec()))
        );
        return Err(Error::ElementTypes(lists));
    }
    Ok(matches!(first, Value::Map(_)))
}

fn unknown_directive(directive: &Value, map: &Value) -> Error {
    Error::UnknownDirective {
        directive: printed(directive),
        map: printed(map),
    }
}

fn not_a_list(given: &Value) -> Error {
    Error::WrongType {
        expected: LIST,
        given: go_type(given),
    }
}

const LIST: &str = "[]interface {}";
const MAP: &str = "map[string]interface {}";

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int64",
        Value::Float(_) => "float64",
        Value::Map(_) => MAP,
        Value::List(_) => LIST,
        Value::String(_) | Value::Bytes(_) | Value::Raw(_) => "string",
    }
}

/// Go's `%v`: `map[a:1 b:[x y]]`.
fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Float(f) => f.to_string(),
        Value::String(s) => s.to_string(),
        Value::Bytes(b) | Value::Raw(b) => String::from_utf8_lossy(b).into_owned(),
        Value::List(items) => format!(
            "[{}]",
            items.iter().map(printed).collect::<Vec<_>>().join(" ")
        ),
        Value::Map(map) => {
            let entries: Vec<String> = map
                .iter()
                .map(|(name, v)| format!("{name}:{}", printed(v)))
                .collect();
            format!("map[{}]", entries.join(" "))
        }
    }
}

#[cfg(test)]
mod tests;
