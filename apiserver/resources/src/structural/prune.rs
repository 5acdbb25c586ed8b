//! Dropping fields that the schema does not have: `schema/pruning/algorithm.go`.

use proto::Value;

use super::{Additional, Schema, is_meta_field};

impl Schema {
    /// Drops what the schema does not specify. `apiVersion`, `kind` and `metadata` stay in embedded
    /// resources, and at the root if `root` says that the object is a whole resource.
    pub fn prune(&self, object: &mut Value, root: bool) {
        Pruner { paths: None }.prune(object, Some(self), root, false);
    }

    /// [`Schema::prune`], telling the paths of what is dropped in sorted order (`spec.a[0].b`), for
    /// `fieldValidation` Warn and Strict.
    #[must_use]
    pub fn prune_telling(&self, object: &mut Value, root: bool) -> Vec<String> {
        let mut pruner = Pruner {
            paths: Some(Paths::default()),
        };
        pruner.prune(object, Some(self), root, false);
        let mut unknown = pruner.paths.unwrap_or_default().unknown;
        unknown.sort();
        unknown
    }
}

#[derive(Default)]
struct Paths {
    /// The path of the node at hand.
    at: String,
    unknown: Vec<String>,
}

struct Pruner {
    paths: Option<Paths>,
}

impl Pruner {
    /// Runs `f` one key further down.
    fn below(&mut self, key: &str, f: impl FnOnce(&mut Self)) {
        let before = self.push(key);
        f(self);
        self.pop(before);
    }

    fn at_index(&mut self, i: usize, f: impl FnOnce(&mut Self)) {
        let before = self.paths.as_mut().map_or(0, |paths| {
            let before = paths.at.len();
            proto::path::push_index(&mut paths.at, i);
            before
        });
        f(self);
        self.pop(before);
    }

    fn push(&mut self, key: &str) -> usize {
        self.paths.as_mut().map_or(0, |paths| {
            let before = paths.at.len();
            proto::path::push_field(&mut paths.at, key);
            before
        })
    }

    fn pop(&mut self, len: usize) {
        if let Some(paths) = &mut self.paths {
            paths.at.truncate(len);
        }
    }

    fn is_root(&self) -> bool {
        self.paths.as_ref().is_none_or(|paths| paths.at.is_empty())
    }

    fn record(&mut self, key: &str) {
        let before = self.push(key);
        if let Some(paths) = &mut self.paths {
            paths.unknown.push(paths.at.clone());
        }
        self.pop(before);
    }

    /// Below what has no schema nothing is known. Items of lists that `keep` unknown fields keep theirs.
    fn prune(&mut self, value: &mut Value, schema: Option<&Schema>, resource: bool, keep: bool) {
        let preserve = keep || schema.is_some_and(Schema::preserves_unknown_fields);
        match (value, schema) {
            (Value::Map(map), None) => {
                for (name, _) in map.iter() {
                    self.record(name.as_str());
                }
                *map = proto::Map::new();
            }
            (Value::Map(map), Some(s)) => {
                let resource = resource || s.is_embedded_resource();
                map.retain(|name, child| {
                    if resource && is_meta_field(name) {
                        return true;
                    }
                    let below = match (s.property(name), &s.additional) {
                        (Some(property), _) => Some(property),
                        (None, Additional::Absent) => {
                            if !preserve && (!is_meta_field(name) || !self.is_root()) {
                                self.record(name.as_str());
                            }
                            return preserve;
                        }
                        (None, additional) => additional.schema(),
                    };
                    self.below(name.as_str(), |p| {
                        p.prune(child, below.map(|b| &**b), false, false);
                    });
                    true
                });
            }
            (Value::List(items), s) => {
                let below = s.and_then(|s| s.items.as_deref());
                for (i, item) in items.iter_mut().enumerate() {
                    if below.is_some() || !preserve {
                        self.at_index(i, |p| p.prune(item, below, false, preserve));
                    }
                }
            }
            _ => {}
        }
    }
}
