//! Whether a schema is structural: `schema/validation.go` and `schema/complete.go`.

use std::sync::Arc;

use proto::path::{FieldError, quote};

use super::text::Path;
use super::{Additional, Flags, Junctors, Kind, Schema};

/// Where a node stands, for those rules and texts that differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

impl Schema {
    /// Checks that the schema is structural: every value that is restricted somewhere has its structure
    /// outside of `allOf`, `anyOf`, `oneOf` and `not`, where in turn nothing but restrictions stand;
    /// vendor extensions fit together; metadata is left to the API server. `at` is the path of the
    /// schema in its definition.
    #[must_use]
    pub fn validate_structure(&self, at: &str) -> Vec<FieldError> {
        let mut check = Check { errors: Vec::new() };
        let root = Path::root(at);
        check.structure(self, Level::Root, &root);
        check.complete_checks(self, Some(self), &root, &root);
        check.errors.sort_by_cached_key(ToString::to_string);
        check.errors
    }

    /// Whether a node says nothing but its type.
    fn is_bare(&self) -> bool {
        self.flags == Flags::default()
            && self.properties.is_empty()
            && self.items.is_none()
            && self.additional.is_absent()
            && self.checks.is_none()
            && self.rare.is_none()
    }
}

/// `anyOf` of a type integer and a type string, which stands for `x-kubernetes-int-or-string`.
fn is_int_or_string(any_of: &[Arc<Schema>]) -> bool {
    let [int, string] = any_of else {
        return false;
    };
    int.is_bare()
        && string.is_bare()
        && int.kind == Some(Kind::Integer)
        && string.kind == Some(Kind::String)
}

struct Check {
    errors: Vec<FieldError>,
}

impl Check {
    fn required(&mut self, at: &Path<'_>, why: &str) {
        self.errors.push(FieldError::required(at.field(), why));
    }
    fn forbidden(&mut self, at: &Path<'_>, why: &str) {
        self.errors.push(FieldError::forbidden(at.field(), why));
    }
    fn invalid(&mut self, at: &Path<'_>, value: &str, why: &str) {
        let error = FieldError::new(
            proto::path::Reason::Invalid,
            at.field(),
            value.to_owned(),
            why,
        );
        self.errors.push(error);
    }

    fn structure(&mut self, s: &Schema, level: Level, at: &Path<'_>) {
        if s.kind == Some(Kind::Array) && s.items.is_none() {
            self.required(&at.child("items"), "must be specified");
        }
        if let Some(items) = &s.items {
            self.structure(items, Level::Item, &at.child("items"));
        }
        let properties = at.child("properties");
        for (name, property) in &s.properties {
            self.structure(property, Level::Field, &properties.key(name.as_str()));
        }
        let additional = at.child("additionalProperties");
        if !s.additional.is_absent() && level == Level::Root {
            self.forbidden(&additional, "must not be used at the root");
        }
        if let Additional::Schema(schema) = &s.additional {
            self.structure(schema, Level::Field, &additional);
        }
        self.extensions(s, at);
        let junctors = s.junctors();
        let skip_any = junctors.is_some_and(|j| is_int_or_string(&j.any_of));
        let skip_first = junctors
            .and_then(|j| j.all_of.first())
            .and_then(|first| first.junctors())
            .is_some_and(|j| is_int_or_string(&j.any_of));
        self.checks(s, skip_any, skip_first, at);
        self.types(s, level, at);
        self.metadata(s, level, at);
    }

    fn extensions(&mut self, s: &Schema, at: &Path<'_>) {
        const WHY: &str = "must be false if x-kubernetes-int-or-string is true";
        if s.is_int_or_string() && s.preserves_unknown_fields() {
            self.invalid(
                &at.child("x-kubernetes-preserve-unknown-fields"),
                "true",
                WHY,
            );
        }
        if s.is_int_or_string() && s.is_embedded_resource() {
            self.invalid(&at.child("x-kubernetes-embedded-resource"), "true", WHY);
        }
    }

    fn types(&mut self, s: &Schema, level: Level, at: &Path<'_>) {
        let type_ = at.child("type");
        match &s.kind {
            None if s.is_embedded_resource() => {
                self.required(
                    &type_,
                    "must be object if x-kubernetes-embedded-resource is true",
                );
            }
            Some(kind) if s.is_embedded_resource() && *kind != Kind::Object => self.invalid(
                &type_,
                &quote(kind.as_str()),
                "must be object if x-kubernetes-embedded-resource is true",
            ),
            None if !s.is_int_or_string() && !s.preserves_unknown_fields() => {
                let why = match level {
                    Level::Root => "must not be empty at the root",
                    Level::Item => "must not be empty for specified array items",
                    Level::Field => "must not be empty for specified object fields",
                };
                self.required(&type_, why);
            }
            _ => {}
        }
        if s.is_embedded_resource() && !s.additional.is_absent() {
            self.forbidden(
                &at.child("additionalProperties"),
                "must not be used if x-kubernetes-embedded-resource is set",
            );
        }
        if let Some(kind) = s.kind.as_ref().filter(|k| **k != Kind::Object)
            && level == Level::Root
        {
            self.invalid(&type_, &quote(kind.as_str()), "must be object at the root");
        }
    }

    fn metadata(&mut self, s: &Schema, level: Level, at: &Path<'_>) {
        let own = level == Level::Root || s.is_embedded_resource();
        let properties = at.child("properties");
        if own {
            for (name, kind) in [
                ("kind", Kind::String),
                ("apiVersion", Kind::String),
                ("metadata", Kind::Object),
            ] {
                if let Some(property) = s.property(name)
                    && property.kind.as_ref() != Some(&kind)
                {
                    let found = property.kind.as_ref().map_or("", Kind::as_str);
                    self.invalid(
                        &properties.key(name).child("type"),
                        &quote(found),
                        &format!("must be {}", kind.as_str()),
                    );
                }
            }
        }
        if level == Level::Root
            && let Some(metadata) = s.property("metadata")
            && !restricts_names_only(metadata)
        {
            self.forbidden(
                &properties.key("metadata"),
                "must not specify anything other than name and generateName, but metadata is implicitly specified",
            );
        }
        if s.is_embedded_resource() && !s.preserves_unknown_fields() && s.properties.is_empty() {
            self.required(
                &properties,
                "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            );
        }
    }

    /// What a node says of values, and what is below its junctors.
    fn checks(&mut self, s: &Schema, skip_any: bool, skip_first: bool, at: &Path<'_>) {
        if let Some(j) = s.junctors() {
            let Junctors {
                all_of,
                any_of,
                one_of,
                not,
            } = j;
            if !skip_any {
                let at = at.child("anyOf");
                for (i, nested) in any_of.iter().enumerate() {
                    self.nested(nested, false, &at.index(i));
                }
            }
            let all = at.child("allOf");
            for (i, nested) in all_of.iter().enumerate() {
                self.nested(nested, skip_first && i == 0, &all.index(i));
            }
            let one = at.child("oneOf");
            for (i, nested) in one_of.iter().enumerate() {
                self.nested(nested, false, &one.index(i));
            }
            if let Some(not) = not {
                self.nested(not, false, &at.child("not"));
            }
        }
        if let Some(pattern) = s.checks.as_ref().and_then(|c| c.pattern.as_ref())
            && let Err(why) = pattern.compiled()
        {
            let why = format!("must be a valid regular expression, but isn't: {why}");
            self.invalid(&at.child("pattern"), &quote(&pattern.text), &why);
        }
    }

    /// A node below a junctor, which may restrict values and nothing else.
    fn nested(&mut self, v: &Schema, skip_any: bool, at: &Path<'_>) {
        self.checks(v, skip_any, false, at);
        if let Some(items) = &v.items {
            self.nested(items, false, &at.child("items"));
        }
        let properties = at.child("properties");
        for (name, property) in &v.properties {
            self.nested(property, false, &properties.key(name.as_str()));
        }
        // A nested `additionalProperties: false` is no schema, and passes.
        let additional = matches!(
            v.additional,
            Additional::Schema(_) | Additional::Allowed(true)
        );
        const EMPTY: &str = "must be empty to be structural";
        const UNDEFINED: &str = "must be undefined to be structural";
        const FALSE: &str = "must be false to be structural";
        for (there, name, why) in [
            (v.kind.is_some(), "type", EMPTY),
            (additional, "additionalProperties", UNDEFINED),
            (v.default_value().is_some(), "default", UNDEFINED),
            (v.flags.has(Flags::TITLE), "title", EMPTY),
            (v.flags.has(Flags::DESCRIPTION), "description", EMPTY),
            (v.is_nullable(), "nullable", FALSE),
            (
                v.preserves_unknown_fields(),
                "x-kubernetes-preserve-unknown-fields",
                FALSE,
            ),
            (
                v.is_embedded_resource(),
                "x-kubernetes-embedded-resource",
                FALSE,
            ),
            (v.is_int_or_string(), "x-kubernetes-int-or-string", FALSE),
            (
                !v.list_map_keys().is_empty(),
                "x-kubernetes-list-map-keys",
                EMPTY,
            ),
            (v.list_type().is_some(), "x-kubernetes-list-type", UNDEFINED),
            (v.map_type().is_some(), "x-kubernetes-map-type", UNDEFINED),
            (v.rules().is_some(), "x-kubernetes-validations", EMPTY),
        ] {
            if there {
                self.forbidden(&at.child(name), why);
            }
        }
        // Rules about metadata could restrict what no schema may.
        if v.property("metadata").is_some() {
            self.forbidden(
                &properties.key("metadata"),
                "must not be specified in a nested context",
            );
        }
    }

    /// Whether what the junctors of `v` restrict is there in the structure `s`.
    fn complete_checks(&mut self, v: &Schema, s: Option<&Schema>, at: &Path<'_>, by: &Path<'_>) {
        let Some(j) = v.junctors() else {
            return;
        };
        if let Some(not) = &j.not {
            self.complete(not, s, at, &by.child("not"));
        }
        for (name, list) in [
            ("allOf", &j.all_of),
            ("anyOf", &j.any_of),
            ("oneOf", &j.one_of),
        ] {
            let by = by.child(name);
            for (i, nested) in list.iter().enumerate() {
                self.complete(nested, s, at, &by.index(i));
            }
        }
    }

    fn complete(&mut self, v: &Schema, s: Option<&Schema>, at: &Path<'_>, by: &Path<'_>) {
        let because = |by: &Path<'_>| format!("because it is defined in {}", by.field());
        let Some(s) = s else {
            self.required(at, &because(by));
            return;
        };
        self.complete_checks(v, Some(s), at, by);
        if let Some(items) = &v.items {
            self.complete(
                items,
                s.items.as_deref(),
                &at.child("items"),
                &by.child("items"),
            );
        }
        let (at, by) = (at.child("properties"), by.child("properties"));
        for (name, property) in &v.properties {
            let (at, by) = (at.key(name.as_str()), by.key(name.as_str()));
            match s.property(name) {
                Some(structure) => self.complete(property, Some(structure), &at, &by),
                None => self.required(&at, &because(&by)),
            }
        }
    }
}

/// Metadata at the root is not for the schema to describe, but for the two names, which are strings.
fn restricts_names_only(metadata: &Schema) -> bool {
    let names = metadata
        .properties
        .iter()
        .all(|(name, _)| matches!(name.as_str(), "name" | "generateName"));
    let mut rest = metadata.clone();
    if names {
        rest.properties = Box::default();
    }
    // A default is refused elsewhere.
    if let Some(rare) = &mut rest.rare {
        rare.default = None;
        let nothing = rare.list_type.is_none()
            && rare.list_map_keys.is_empty()
            && rare.map_type.is_none()
            && rare.rules.is_none();
        if nothing {
            rest.rare = None;
        }
    }
    rest.is_bare()
}
