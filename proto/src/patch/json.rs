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
/// Elements moved by inserting into lists and maps and taking out of them: about a second's work.
const MAX_MOVED: usize = 100_000_000;

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
    /// Of the value.
    depth: usize,
}

impl Patch {
    /// Reads a parsed JSON document.
    ///
    /// # Errors
    /// If it is not a list of operations, or has more than [`MAX_OPERATIONS`].
    pub fn read(document: &Value) -> Result<Self, Error> {
        let unfit = |given, target: &str| {
            Error::Unreadable(format!("json: cannot unmarshal {given} into Go {target}"))
        };
        let Value::List(items) = document else {
            return Err(unfit(
                type_name(document),
                "value of type []handlers.jsonPatchOp",
            ));
        };
        if items.len() > MAX_OPERATIONS {
            return Err(Error::TooManyOperations {
                max: MAX_OPERATIONS,
                given: items.len(),
            });
        }
        let mut patch = Self {
            operations: Vec::with_capacity(items.len()),
            unknown_fields: Vec::new(),
        };
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
            let value = item.get("value").cloned().unwrap_or_default();
            patch.operations.push(Operation {
                kind: text("op")?.unwrap_or_else(|| "unknown".to_owned()),
                path: text("path")?,
                from: text("from")?,
                depth: depth(&value),
                value,
            });
            let known = |name: &str| matches!(name, "op" | "path" | "from" | "value");
            let names = item
                .as_map()
                .into_iter()
                .flat_map(|m| m.iter())
                .map(|(name, _)| name.as_str());
            patch
                .unknown_fields
                .extend(names.filter(|n| !known(n)).map(|n| format!("[{i}].{n}")));
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
        let mut run = Run {
            depth: depth(document),
            document,
            copied: 0,
            moved: 0,
        };
        self.operations
            .iter()
            .try_for_each(|operation| run.apply(operation))
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
    moved: usize,
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
        self.check_depth(segments(path) + operation.depth)?;
        let missing = || {
            format!("add operation does not apply: doc is missing path: \"{path}\": missing value")
        };
        let (parent, key) = self.find(path, missing)?;
        let added = insert(parent, &key, operation.value.clone());
        self.count(added.map_err(|e| failed(format!("error in add for path: '{path}': {e}")))?)
    }

    fn remove(&mut self, operation: &Operation) -> Result<(), Error> {
        let path = operation.path("remove", "path")?;
        let missing = || {
            format!(
                "remove operation does not apply: doc is missing path: \"{path}\": missing value"
            )
        };
        let (parent, key) = self.find(path, missing)?;
        let taken = take(parent, &key)
            .map_err(|e| failed(format!("error in remove for path: '{path}': {e}")));
        self.count(taken?.1)
    }

    fn replace(&mut self, operation: &Operation) -> Result<(), Error> {
        let path = operation.path("replace", "path")?;
        self.check_depth(segments(path) + operation.depth)?;
        if path.is_empty() {
            if !matches!(operation.value, Value::Map(_) | Value::List(_)) {
                return Err(failed(
                    "replace operation value must be object or array".to_owned(),
                ));
            }
            self.document.clone_from(&operation.value);
            return Ok(());
        }
        let missing = |what| {
            format!(
                "replace operation does not apply: doc is missing {what}: {path}: missing value"
            )
        };
        let (parent, key) = self.find(path, || missing("path"))?;
        match parent {
            Value::List(items) => {
                let i = index(&key, items.len()).map_err(|_| failed(missing("key")))?;
                items[i].clone_from(&operation.value);
                Ok(())
            }
            map => {
                let moved = insert(map, &key, operation.value.clone()).map_err(failed)?;
                self.count(moved)
            }
        }
    }

    fn relocate(&mut self, operation: &Operation) -> Result<(), Error> {
        let from = operation.path("move", "from")?;
        let missing = |end, path: &str| {
            format!(
                "move operation does not apply: doc is missing {end} path: {path}: missing value"
            )
        };
        let (parent, key) = self.find(from, || missing("from", from))?;
        let taken =
            take(parent, &key).map_err(|e| failed(format!("error in move for path: '{key}': {e}")));
        let (value, moved) = taken?;
        self.count(moved)?;
        let path = operation.path("move", "path")?;
        // What is at hand cannot be deeper than the document below where it was.
        let mut deepest = segments(path) + self.depth.saturating_sub(segments(from));
        if deepest > MAX_DEPTH {
            self.depth = depth(self.document);
            deepest = segments(path) + depth(&value);
        }
        self.check_depth(deepest)?;
        let (parent, key) = self.find(path, || missing("destination", path))?;
        let added = insert(parent, &key, value);
        self.count(added.map_err(|e| failed(format!("error in move for path: '{path}': {e}")))?)
    }

    fn copy(&mut self, operation: &Operation) -> Result<(), Error> {
        let from = operation.path("copy", "from")?;
        let missing = |end, path: &str| {
            format!(
                "copy operation does not apply: doc is missing {end} path: {path}: missing value"
            )
        };
        let (parent, key) = self.find(from, || missing("from", from))?;
        let found = get(parent, &key)
            .map_err(|e| failed(format!("error in copy for from: '{from}': {e}")))?;
        let mut text = Vec::new();
        if let Some(value) = found {
            codec::json::write(value, &mut text);
        }
        let value = found.cloned().unwrap_or_default();
        self.copied += text.len();
        if self.copied > MAX_COPIED {
            return Err(Error::CopyTooLarge {
                max: MAX_COPIED,
                size: self.copied,
            });
        }
        let path = operation.path("copy", "path")?;
        self.check_depth(segments(path) + depth(&value))?;
        let (parent, key) = self.find(path, || missing("destination", path))?;
        let added = insert(parent, &key, value);
        self.count(added.map_err(|e| failed(format!("error while adding value during copy: {e}")))?)
    }

    fn test(&mut self, operation: &Operation) -> Result<(), Error> {
        let path = operation.path("test", "path")?;
        let unequal = || failed(format!("testing value {path} failed: test failed"));
        if path.is_empty() {
            return if *self.document == operation.value {
                Ok(())
            } else {
                Err(unequal())
            };
        }
        let missing =
            || format!("test operation does not apply: is missing path: {path}: missing value");
        let (parent, key) = self.find(path, missing)?;
        let found = get(parent, &key)
            .map_err(|e| failed(format!("error in test for path: '{path}': {e}")))?;
        // A member that is missing equals null, and a value that is missing is null.
        if found.unwrap_or(&Value::Null) == &operation.value {
            Ok(())
        } else {
            Err(unequal())
        }
    }

    fn find(
        &mut self,
        path: &str,
        missing: impl Fn() -> String,
    ) -> Result<(&mut Value, String), Error> {
        find(self.document, path).ok_or_else(|| failed(missing()))
    }

    /// Sees that no value is put deeper than trees may be. They are walked by recursion, and copies of a
    /// node into itself could double the depth with each operation.
    fn check_depth(&mut self, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep { max: MAX_DEPTH });
        }
        self.depth = self.depth.max(depth);
        Ok(())
    }

    fn count(&mut self, moved: usize) -> Result<(), Error> {
        self.moved += moved;
        if self.moved > MAX_MOVED {
            Err(Error::TooCostly)
        } else {
            Ok(())
        }
    }
}

fn segments(path: &str) -> usize {
    path.bytes().filter(|b| *b == b'/').count()
}

impl Operation {
    fn path(&self, kind: &str, field: &str) -> Result<&str, Error> {
        let path = if field == "path" {
            &self.path
        } else {
            &self.from
        };
        let missing = || {
            let why = match (kind, field) {
                (_, "from") => "operation, missing from field: ",
                ("add" | "remove" | "copy", _) => "",
                _ => "operation missing path field: ",
            };
            failed(format!(
                "{kind} operation failed to decode {field}: {why}missing value"
            ))
        };
        path.as_deref().ok_or_else(missing)
    }
}

/// The parent of the node at `path` and the last part of the path.
fn find<'a>(document: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (_, rest) = path.split_once('/')?;
    let (way, key) = rest
        .rsplit_once('/')
        .map_or((None, rest), |(way, key)| (Some(way), key));
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
    let given: i64 = key.parse().map_err(|_| not_a_number(key))?;
    let from_start = if given < 0 {
        given.checked_add_unsigned(len as u64)
    } else {
        Some(given)
    };
    let place = from_start
        .and_then(|i| usize::try_from(i).ok())
        .filter(|i| *i < len);
    place
        .ok_or_else(|| format!("Unable to access invalid index: {given}: invalid index referenced"))
}

fn not_a_number(key: &str) -> String {
    format!(
        "strconv.Atoi: parsing {}: invalid syntax",
        crate::path::quote(key)
    )
}

fn get<'a>(parent: &'a Value, key: &str) -> Result<Option<&'a Value>, String> {
    match parent {
        Value::List(items) => Ok(Some(&items[index(key, items.len())?])),
        map => Ok(map.get(key)),
    }
}

/// Tells how many elements that moved.
fn insert(parent: &mut Value, key: &str, value: Value) -> Result<usize, String> {
    match parent {
        Value::List(items) if key == "-" => {
            items.push(value);
            Ok(0)
        }
        Value::List(items) => {
            key.parse::<i64>().map_err(|_| {
                format!(
                    "value was not a proper array index: '{key}': {}",
                    not_a_number(key)
                )
            })?;
            let i = index(key, items.len() + 1)?;
            items.insert(i, value);
            Ok(items.len() - i)
        }
        map => {
            let map = map.make_map();
            let before = map.len();
            *map.entry(key) = value;
            Ok(if map.len() > before { before } else { 0 })
        }
    }
}

/// Takes a node out and tells how many elements that moved.
fn take(parent: &mut Value, key: &str) -> Result<(Value, usize), String> {
    match parent {
        Value::List(items) => {
            let i = index(key, items.len())?;
            Ok((items.remove(i), items.len() - i))
        }
        map => {
            let map = map.make_map();
            let missing = || format!("Unable to remove nonexistent key: {key}: missing value");
            Ok((map.remove(key).ok_or_else(missing)?, map.len()))
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

#[cfg(test)]
mod tests;
