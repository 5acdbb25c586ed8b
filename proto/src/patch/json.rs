//! JSON patch (RFC 6902).
//!
//! Behaves as upstream's library (`evanphx/json-patch` v4) where that differs from the RFC: `replace`
//! of a member that does not exist adds it, `copy` of one adds null, `test` of one against null
//! passes, a missing value is null, indexes may be negative and count from the end, and of a path only
//! what follows the first slash counts.
//!
//! Unlike there, `test` compares values and not texts (`"<"` equals `"\u003c"`).

use crate::codec::{self, MAX_DEPTH};
use crate::value::Value;

use super::{Error, type_name};

/// Upstream's `maxJSONPatchOperations`.
pub const MAX_OPERATIONS: usize = 10_000;
/// Upstream's `JSONPatchMaxCopyBytes`: the JSON of everything that `copy` adds (CVE-2019-1002100).
pub const MAX_COPIED: usize = 3 * 1024 * 1024;

/// A patch that was read; it can be applied several times.
#[derive(Clone, PartialEq, Debug)]
pub struct Patch {
    operations: Vec<Operation>,
    unknown_fields: Vec<String>,
}

#[derive(Clone, PartialEq, Debug)]
struct Operation {
    kind: String,
    path: Option<String>,
    from: Option<String>,
    /// Null if it is missing.
    value: Value,
    has_value: bool,
}

impl Patch {
    /// Reads a parsed JSON document.
    ///
    /// # Errors
    /// If it is not a list of operations, or has more than [`MAX_OPERATIONS`].
    pub fn read(document: &Value) -> Result<Self, Error> {
        let unfit = |given, target: &str| Error::Unreadable(format!("json: cannot unmarshal {given} into Go {target}"));
        let Value::List(items) = document else {
            return Err(unfit(type_name(document), "value of type []handlers.jsonPatchOp"));
        };
        if items.len() > MAX_OPERATIONS {
            return Err(Error::TooManyOperations { max: MAX_OPERATIONS, given: items.len() });
        }
        let mut patch = Self { operations: Vec::with_capacity(items.len()), unknown_fields: Vec::new() };
        for (i, item) in items.iter().enumerate() {
            if !matches!(item, Value::Map(_) | Value::Null) {
                return Err(unfit(type_name(item), "value of type handlers.jsonPatchOp"));
            }
            let text = |field: &str| match item.get(field) {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(text)) => Ok(Some(text.to_string())),
                Some(other) => {
                    let target = format!("struct field jsonPatchOp.{field} of type string");
                    Err(unfit(type_name(other), &target))
                }
            };
            let value = item.get("value");
            patch.operations.push(Operation {
                kind: text("op")?.unwrap_or_else(|| "unknown".to_owned()),
                path: text("path")?,
                from: text("from")?,
                value: value.cloned().unwrap_or_default(),
                has_value: value.is_some(),
            });
            let known = |name: &str| matches!(name, "op" | "path" | "from" | "value");
            let names = item.as_map().into_iter().flat_map(|m| m.iter()).map(|(name, _)| name.as_str());
            patch.unknown_fields.extend(names.filter(|n| !known(n)).map(|n| format!("[{i}].{n}")));
        }
        Ok(patch)
    }

    /// Fields that operations do not have: `[0].foo`.
    #[must_use]
    pub fn unknown_fields(&self) -> &[String] {
        &self.unknown_fields
    }

    /// Applies the operations in order.
    ///
    /// # Errors
    /// The first operation that fails; the document is then in a state between.
    pub fn apply(&self, document: &mut Value) -> Result<(), Error> {
        let mut run = Run { depth: depth(document), document, copied: 0 };
        self.operations.iter().try_for_each(|operation| run.apply(operation))
    }
}

fn failed(text: String) -> Error {
    Error::Operation(text)
}

struct Run<'a> {
    document: &'a mut Value,
    /// Not less than the depth of the document.
    depth: usize,
    /// Bytes of JSON.
    copied: usize,
}

impl Run<'_> {
    fn apply(&mut self, operation: &Operation) -> Result<(), Error> {
        match operation.kind.as_str() {
            "add" => self.add(operation),
            "remove" => self.remove(operation),
            "replace" => self.replace(operation),
            "move" => self.relocate(operation),
            "test" => self.test(operation),
            "copy" => self.copy(operation),
            other => Err(failed(format!("Unexpected kind: {other}"))),
        }
    }

    fn add(&mut self, operation: &Operation) -> Result<(), Error> {
        let path = operation.path("add", "path")?;
        self.grow(path, depth(&operation.value))?;
        let missing = || failed(format!("add operation does not apply: doc is missing path: \"{path}\": missing value"));
        let (parent, key) = find(self.document, path).ok_or_else(missing)?;
        insert(parent, &key, operation.value.clone()).map_err(|e| failed(format!("error in add for path: '{path}': {e}")))
    }

    fn remove(&mut self, operation: &Operation) -> Result<(), Error> {
        let path = operation.path("remove", "path")?;
        let missing = || failed(format!("remove operation does not apply: doc is missing path: \"{path}\": missing value"));
        let (parent, key) = find(self.document, path).ok_or_else(missing)?;
        take(parent, &key).map(drop).map_err(|e| failed(format!("error in remove for path: '{path}': {e}")))
    }

    fn replace(&mut self, operation: &Operation) -> Result<(), Error> {
        let path = operation.path("replace", "path")?;
        self.grow(path, depth(&operation.value))?;
        if path.is_empty() {
            if !matches!(operation.value, Value::Map(_) | Value::List(_)) {
                return Err(failed("replace operation value must be object or array".to_owned()));
            }
            self.document.clone_from(&operation.value);
            return Ok(());
        }
        let missing = |what: &str| failed(format!("replace operation does not apply: doc is missing {what}: {path}: missing value"));
        let (parent, key) = find(self.document, path).ok_or_else(|| missing("path"))?;
        match parent {
            Value::List(items) => {
                let i = index(&key, items.len()).map_err(|_| missing("key"))?;
                items[i].clone_from(&operation.value);
            }
            map => *map.make_map().entry(key.as_str()) = operation.value.clone(),
        }
        Ok(())
    }

    fn relocate(&mut self, operation: &Operation) -> Result<(), Error> {
        let from = operation.path("move", "from")?;
        let missing = |end: &str, path: &str| failed(format!("move operation does not apply: doc is missing {end} path: {path}: missing value"));
        let (parent, key) = find(self.document, from).ok_or_else(|| missing("from", from))?;
        let value = take(parent, &key).map_err(|e| failed(format!("error in move for path: '{key}': {e}")))?;
        let path = operation.path("move", "path")?;
        self.grow(path, depth(&value))?;
        let (parent, key) = find(self.document, path).ok_or_else(|| missing("destination", path))?;
        insert(parent, &key, value).map_err(|e| failed(format!("error in move for path: '{path}': {e}")))
    }

    fn copy(&mut self, operation: &Operation) -> Result<(), Error> {
        let from = operation.path("copy", "from")?;
        let missing = |end: &str, path: &str| failed(format!("copy operation does not apply: doc is missing {end} path: {path}: missing value"));
        let (parent, key) = find(self.document, from).ok_or_else(|| missing("from", from))?;
        let found = get(parent, &key).map_err(|e| failed(format!("error in copy for from: '{from}': {e}")))?;
        let mut text = Vec::new();
        if let Some(value) = found {
            codec::json::write(value, &mut text);
        }
        self.copied += text.len();
        if self.copied > MAX_COPIED {
            return Err(Error::CopyTooLarge { max: MAX_COPIED, size: self.copied });
        }
        let value = found.cloned().unwrap_or_default();
        let path = operation.path("copy", "path")?;
        self.grow(path, depth(&value))?;
        let (parent, key) = find(self.document, path).ok_or_else(|| missing("destination", path))?;
        insert(parent, &key, value).map_err(|e| failed(format!("error while adding value during copy: {e}")))
    }

    fn test(&mut self, operation: &Operation) -> Result<(), Error> {
        let path = operation.path("test", "path")?;
        let unequal = || failed(format!("testing value {path} failed: test failed"));
        if path.is_empty() {
            return if *self.document == operation.value { Ok(()) } else { Err(unequal()) };
        }
        let missing = || failed(format!("test operation does not apply: is missing path: {path}: missing value"));
        let (parent, key) = find(self.document, path).ok_or_else(missing)?;
        let found = get(parent, &key).map_err(|e| failed(format!("error in test for path: '{path}': {e}")))?;
        // A member that is missing equals null, and a value that is missing is null.
        if found.unwrap_or(&Value::Null) == &operation.value { Ok(()) } else { Err(unequal()) }
    }

    /// Sees that a value put at `path` does not make the document deeper than trees may be. Trees are
    /// walked by recursion, and copies into themselves could double the depth with each operation.
    fn grow(&mut self, path: &str, value: usize) -> Result<(), Error> {
        let depth = path.split('/').count() - 1 + value;
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep { max: MAX_DEPTH });
        }
        self.depth = self.depth.max(depth);
        Ok(())
    }
}

impl Operation {
    fn path(&self, kind: &str, field: &str) -> Result<&str, Error> {
        let path = if field == "path" { &self.path } else { &self.from };
        let missing = || failed(format!("{kind} operation failed to decode {field}: missing value"));
        path.as_deref().ok_or_else(missing)
    }
}

/// The parent of the node at `path` and the last part of the path.
fn find<'a>(document: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (_, rest) = path.split_once('/')?;
    let (way, key) = rest.rsplit_once('/').map_or((None, rest), |(way, key)| (Some(way), key));
    let mut node = document;
    for part in way.into_iter().flat_map(|way| way.split('/')) {
        let key = decoded(part);
        node = match node {
            Value::List(items) => {
                let i = index(&key, items.len()).ok()?;
                &mut items[i]
            }
            other => other.get_mut(key.as_str())?,
        };
    }
    matches!(node, Value::Map(_) | Value::List(_)).then(|| (node, decoded(key)))
}

fn decoded(part: &str) -> String {
    // In one pass: `~01` is `~1`.
    let mut out = String::with_capacity(part.len());
    let mut rest = part;
    while let Some((before, after)) = rest.split_once('~') {
        out.push_str(before);
        (out, rest) = match after.as_bytes().first() {
            Some(b'0') => (out + "~", &after[1..]),
            Some(b'1') => (out + "/", &after[1..]),
            _ => (out + "~", after),
        };
    }
    out + rest
}

/// The place of an element of a list of `len`. Negative indexes count from the end.
fn index(key: &str, len: usize) -> Result<usize, String> {
    let given: i64 = key.parse().map_err(|_| format!("strconv.Atoi: parsing {}: invalid syntax", crate::path::quote(key)))?;
    let from_start = if given < 0 { given.checked_add_unsigned(len as u64) } else { Some(given) };
    let place = from_start.and_then(|i| usize::try_from(i).ok()).filter(|i| *i < len);
    place.ok_or_else(|| format!("Unable to access invalid index: {given}: invalid index referenced"))
}

fn get<'a>(parent: &'a Value, key: &str) -> Result<Option<&'a Value>, String> {
    match parent {
        Value::List(items) => Ok(Some(&items[index(key, items.len())?])),
        map => Ok(map.get(key)),
    }
}

fn insert(parent: &mut Value, key: &str, value: Value) -> Result<(), String> {
    match parent {
        Value::List(items) if key == "-" => items.push(value),
        Value::List(items) => {
            if key.parse::<i64>().is_err() {
                return Err(format!("value was not a proper array index: '{key}'"));
            }
            let i = index(key, items.len() + 1)?;
            items.insert(i, value);
        }
        map => *map.make_map().entry(key) = value,
    }
    Ok(())
}

fn take(parent: &mut Value, key: &str) -> Result<Value, String> {
    match parent {
        Value::List(items) => {
            let i = index(key, items.len())?;
            Ok(items.remove(i))
        }
        map => {
            let missing = || format!("Unable to remove nonexistent key: {key}: missing value");
            map.make_map().remove(key).ok_or_else(missing)
        }
    }
}

/// The number of levels of a tree; a scalar has one.
fn depth(value: &Value) -> usize {
    1 + match value {
        Value::Map(map) => map.iter().map(|(_, v)| depth(v)).max().unwrap_or(0),
        Value::List(items) => items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
