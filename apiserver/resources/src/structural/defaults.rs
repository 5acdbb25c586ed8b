//! Defaults: `schema/defaulting`.

use std::sync::Arc;

use proto::path::{FieldError, aggregate};
use proto::{Map, Value};

use super::metadata::{Malformed, must_be_valid};
use super::text::{Path, show};
use super::{Additional, Schema, is_meta_field};

impl Schema {
    /// Sets what is missing, or null where it may not be, to its default.
    pub fn default(&self, value: &mut Value) {
        match value {
            Value::Map(map) => {
                for (name, property) in &self.properties {
                    if let Some(default) = property.default_value()
                        && map.get(name).is_none_or(|v| property.refuses_null(v))
                    {
                        map.insert(name, default.clone());
                    }
                }
                for (name, child) in map.iter_mut() {
                    if let Some(property) = self.property(name) {
                        property.default(child);
                    } else if let Some(schema) = self.additional.schema() {
                        schema.default_null(child);
                    }
                }
            }
            Value::List(items) => {
                if let Some(schema) = &self.items {
                    items.iter_mut().for_each(|item| schema.default_null(item));
                }
            }
            _ => {}
        }
    }

    /// An item or a value of a map: it is there, if only as a null.
    fn default_null(&self, value: &mut Value) {
        if self.refuses_null(value) {
            *value = self.default_value().cloned().unwrap_or_default();
        }
        self.default(value);
    }

    fn refuses_null(&self, value: &Value) -> bool {
        value.is_null() && !self.is_nullable()
    }

    /// Drops entries of maps that are null where nobody may give a null and there is no default.
    pub fn prune_nulls(&self, value: &mut Value) {
        prune_nulls(Some(self), value);
    }

    /// Brings all defaults to what this server knows: their unknown fields go, and those of metadata that
    /// it does not have or that are of a wrong type. The schema is that of a whole resource.
    ///
    /// # Errors
    /// Where the root has a default that is no object.
    pub fn prune_defaults(&mut self) -> Result<(), String> {
        let root = self.clone();
        prune_defaults(self, &root, None)
    }

    /// Whether there are defaults that [`Schema::prune_defaults`] would change.
    #[must_use]
    pub fn has_unpruned_defaults(&self) -> bool {
        let mut pruned = self.clone();
        pruned.prune_defaults().is_ok() && !self.has_defaults_of(&pruned)
    }

    /// Checks that defaults are values that the schema accepts, without unknown fields if `pruned`. `at`
    /// is the path of the schema in its definition; `root` says that it is the schema of a whole resource.
    /// Whether they keep expression rules is for who has these
    /// (`strategies/custom_resource_definition/defaults.rs`).
    ///
    /// # Errors
    /// Never for a schema that is structural.
    pub fn validate_defaults(
        &self,
        at: &str,
        root: bool,
        pruned: bool,
    ) -> Result<Vec<FieldError>, String> {
        let mut validation = Validation {
            pruned,
            errors: Vec::new(),
        };
        let own = Around {
            root: self,
            steps: None,
            inside_meta: false,
        };
        validation.validate(self, &Path::root(at), root, own)?;
        Ok(validation.errors)
    }
}

fn prune_nulls(schema: Option<&Schema>, value: &mut Value) {
    match value {
        Value::Map(map) => map.retain(|name, child| {
            let schema = schema.and_then(|s| s.of_key(name)).map(|s| &**s);
            let drop = |s: &Schema| s.refuses_null(child) && s.default_value().is_none();
            let drop = schema.is_some_and(drop);
            if !drop {
                prune_nulls(schema, child);
            }
            !drop
        }),
        Value::List(items) => {
            let schema = schema.and_then(|s| s.items.as_deref());
            items.iter_mut().for_each(|item| prune_nulls(schema, item));
        }
        _ => {}
    }
}

/// The way from a resource to a value in it, linked on the stack.
#[derive(Clone, Copy)]
struct Steps<'a> {
    before: Option<&'a Steps<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Item,
}

impl<'a> Steps<'a> {
    fn then(before: Option<&'a Self>, step: Step<'a>) -> Self {
        Self { before, step }
    }
}

/// The object that has nothing but the value at the end of the way.
fn surround(steps: Option<&Steps<'_>>, value: Value) -> Value {
    let Some(steps) = steps else {
        return value;
    };
    let outer = match steps.step {
        Step::Key(key) => {
            let mut map = Map::new();
            map.insert(key, value);
            Value::Map(map)
        }
        Step::Item => Value::List(vec![value]),
    };
    surround(steps.before, outer)
}

/// What stands at the end of the way.
fn follow(steps: Option<&Steps<'_>>, object: Value) -> Option<Value> {
    let Some(steps) = steps else {
        return Some(object);
    };
    match (steps.step, follow(steps.before, object)?) {
        (Step::Key(key), Value::Map(mut map)) => map.remove(key),
        (Step::Item, Value::List(items)) => items.into_iter().next(),
        _ => None,
    }
}

fn prune_defaults(s: &mut Schema, root: &Schema, steps: Option<&Steps<'_>>) -> Result<(), String> {
    if let Some(default) = s.default_value() {
        let mut object = surround(steps, default.clone());
        if object.as_map().is_none() {
            return Err(
                "failed to prune default value: object root default value must be of object type"
                    .into(),
            );
        }
        let coerced = root.coerce_metadata(&mut object, "", true, Malformed::Drop);
        coerced.map_err(|e| format!("failed to prune default value: {e}"))?;
        root.prune(&mut object, true);
        let kept = follow(steps, object);
        if let Some(rare) = &mut s.rare {
            rare.default = kept.filter(|v| !v.is_null());
        }
    }
    if let Additional::Schema(schema) = &mut s.additional
        && schema.has_defaults()
    {
        let steps = Steps::then(steps, Step::Key("*"));
        prune_defaults(Arc::make_mut(schema), root, Some(&steps))?;
    }
    if let Some(schema) = &mut s.items
        && schema.has_defaults()
    {
        let steps = Steps::then(steps, Step::Item);
        prune_defaults(Arc::make_mut(schema), root, Some(&steps))?;
    }
    for (name, schema) in &mut s.properties {
        if schema.has_defaults() {
            let steps = Steps::then(steps, Step::Key(name.as_str()));
            prune_defaults(Arc::make_mut(schema), root, Some(&steps))?;
        }
    }
    Ok(())
}

impl Schema {
    /// Whether there is a default here or below.
    fn has_defaults(&self) -> bool {
        self.default_value().is_some()
            || self.items.as_ref().is_some_and(|s| s.has_defaults())
            || self.additional.schema().is_some_and(|s| s.has_defaults())
            || self.properties.iter().any(|(_, s)| s.has_defaults())
    }
}

impl Schema {
    /// Whether a schema of the same shape has the same defaults.
    fn has_defaults_of(&self, other: &Self) -> bool {
        let below = |a: Option<&Arc<Self>>, b: Option<&Arc<Self>>| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a.has_defaults_of(b),
            _ => true,
        };
        let mut properties = self.properties.iter().zip(&other.properties);
        self.default_value() == other.default_value()
            && below(self.items.as_ref(), other.items.as_ref())
            && below(self.additional.schema(), other.additional.schema())
            && properties.all(|((_, a), (_, b))| below(Some(a), Some(b)))
    }
}

/// The resource in which a schema stands.
#[derive(Clone, Copy)]
struct Around<'a> {
    root: &'a Schema,
    steps: Option<&'a Steps<'a>>,
    inside_meta: bool,
}

struct Validation {
    pruned: bool,
    errors: Vec<FieldError>,
}

impl Validation {
    fn validate<'a>(
        &mut self,
        s: &'a Schema,
        at: &Path<'_>,
        root: bool,
        mut around: Around<'a>,
    ) -> Result<(), String> {
        let resource = root || s.is_embedded_resource();
        if resource {
            around = Around {
                root: s,
                steps: None,
                inside_meta: false,
            };
        }
        if let Some(default) = s.default_value() {
            let at = at.child("default");
            if around.inside_meta {
                self.inside_meta(s, default, &at, around)?;
            } else {
                self.outside_meta(s, default, &at, resource);
            }
        }
        // Additional properties have no defaults.
        if let Some(items) = &s.items {
            let steps = Steps::then(around.steps, Step::Item);
            let around = Around {
                steps: Some(&steps),
                ..around
            };
            self.validate(items, &at.child("items"), false, around)?;
        }
        let properties = at.child("properties");
        for (name, property) in &s.properties {
            let steps = Steps::then(around.steps, Step::Key(name.as_str()));
            let around = Around {
                steps: Some(&steps),
                inside_meta: around.inside_meta || resource && is_meta_field(name),
                ..around
            };
            self.validate(property, &properties.key(name.as_str()), false, around)?;
        }
        Ok(())
    }

    /// A default of metadata is judged as part of a resource.
    fn inside_meta(
        &mut self,
        s: &Schema,
        default: &Value,
        at: &Path<'_>,
        around: Around<'_>,
    ) -> Result<(), String> {
        let mut object = surround(around.steps, default.clone());
        let Some(map) = object.as_map_mut() else {
            return Err(
                "failed to validate default value inside metadata: object root default value must be of object type"
                    .into(),
            );
        };
        for (name, value) in [("kind", "Validation"), ("apiVersion", "validation/v1")] {
            if !map.contains(name) {
                map.insert(name, value);
            }
        }
        let coerced = around
            .root
            .coerce_metadata(&mut object, "", true, Malformed::Refuse);
        if let Err(error) = coerced {
            self.errors
                .push(must_be_valid(at, default, &error.to_string()));
            return Ok(());
        }
        let errors = around.root.validate_metadata(&object, "", true);
        if errors.is_empty() {
            self.errors
                .extend(s.validate_as_default(default, &at.field()));
        } else {
            self.errors
                .push(must_be_valid(at, default, &aggregate(&errors)));
        }
        Ok(())
    }

    fn outside_meta(&mut self, s: &Schema, default: &Value, at: &Path<'_>, resource: bool) {
        let mut value = default.clone();
        if self.pruned {
            s.prune(&mut value, resource);
            if value != *default {
                self.errors.push(FieldError::new(
                    proto::path::Reason::Invalid,
                    at.field(),
                    show(default),
                    "must not have unknown fields",
                ));
            }
            value = default.clone();
        }
        let at = at.field();
        match s.coerce_metadata(&mut value, &at, resource, Malformed::Refuse) {
            Err(error) => self.errors.push(error),
            Ok(_) => {
                let errors = s.validate_metadata(&value, &at, resource);
                if errors.is_empty() {
                    self.errors.extend(s.validate_as_default(&value, &at));
                } else {
                    self.errors.extend(errors);
                }
            }
        }
    }
}
