//! What a value was before an update: `apiserver/pkg/cel/common/equality.go` and `maplist.go`.
//!
//! Fields correlate by name where the schema knows them, items of list-maps by their keys, items of other
//! lists not at all.

use std::cell::OnceCell;
use std::collections::HashMap;

use proto::Value;
use proto::name::Key;
use proto::path::quote;

use super::{Kind, Schema};

/// The old value that a new one correlates to.
pub(super) struct Was<'a> {
    old: &'a Value,
    schema: &'a Schema,
    /// Of a list-map, the places of old items by their keys.
    keyed: OnceCell<HashMap<String, usize>>,
}

impl<'a> Was<'a> {
    pub(super) fn new(old: &'a Value, schema: &'a Schema) -> Self {
        Self {
            old,
            schema,
            keyed: OnceCell::new(),
        }
    }

    /// What a field of the new value was.
    pub(super) fn key(&self, key: impl Key) -> Option<Self> {
        let old = self.old.get(key)?;
        Some(Self::new(old, self.schema.of_key(key)?))
    }

    /// What an item of the new list was.
    pub(super) fn index(&self, item: &Value) -> Option<Self> {
        let old = self.old.as_list()?;
        if !self.is_list_map() {
            return None;
        }
        let schema = self.schema.items.as_deref()?;
        let key = composite(self.schema, item)?;
        let keyed = self.keyed.get_or_init(|| {
            let mut keyed = HashMap::new();
            for (i, item) in old.iter().enumerate() {
                if let Some(key) = composite(self.schema, item) {
                    keyed.entry(key).or_insert(i);
                }
            }
            keyed
        });
        keyed.get(&key).map(|i| Self::new(&old[*i], schema))
    }

    fn is_list_map(&self) -> bool {
        self.schema.list_type() == Some("map")
            && self.schema.kind == Some(Kind::Array)
            && !self.schema.list_map_keys().is_empty()
    }

    /// Whether nothing changed. The order of list-maps is no change; a map with a field that the schema
    /// does not know counts as changed.
    pub(super) fn equals(&self, new: &Value) -> bool {
        match (self.old, new) {
            (Value::List(old), Value::List(new)) => {
                if old.len() != new.len() {
                    return false;
                }
                if self.schema.list_type() != Some("map") {
                    return old == new;
                }
                new.iter()
                    .all(|item| self.index(item).is_some_and(|was| was.equals(item)))
            }
            (Value::Map(old), Value::Map(new)) => {
                old.len() == new.len()
                    && new
                        .iter()
                        .all(|(name, v)| self.key(name).is_some_and(|was| was.equals(v)))
            }
            (old, new) => old == new,
        }
    }
}

/// The keys of an item in one text; none where a key is missing or no scalar.
fn composite(schema: &Schema, item: &Value) -> Option<String> {
    let keys = schema.list_map_keys();
    let mut out = String::new();
    for key in keys {
        let text = match item.get(&**key)? {
            Value::Bool(b) => b.to_string(),
            Value::Int(i) => i.to_string(),
            // One key is compared as it is, several by their texts of six digits.
            Value::Float(f) if keys.len() == 1 => format!("f{f}"),
            Value::Float(f) => format!("{f:.6}"),
            Value::String(s) => quote(s),
            _ => return None,
        };
        out.push('\0');
        out.push_str(&text);
    }
    Some(out)
}
