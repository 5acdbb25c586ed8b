//! What schemas of a definition must be: `ValidateCustomResourceDefinitionOpenAPISchema` in
//! `pkg/apis/apiextensions/validation`.
//!
//! A walk over the schema as it stands there, beside its structure ([`Schema`]). What is wrong with
//! rules is told after what is wrong with schemas, and rules are compiled only where nothing is wrong
//! with the schema that they stand in.

use proto::Value;
use proto::path::FieldError;

use super::asked::Asked;
use super::cost::Total;
use super::props::Props;
use super::rules::Scope;
use super::shown::Shown;
use crate::structural::text::Path;
use crate::structural::{Additional, Schema};

/// The types that a schema may have.
pub(super) const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Whether a schema has something of Kubernetes' own.
pub(super) fn is_extended(schema: Props<'_>) -> bool {
    let there = |name| schema.get(name).is_some();
    let filled = |name| !schema.list(name).is_empty();
    schema.flag("x-kubernetes-embedded-resource")
        || there("x-kubernetes-preserve-unknown-fields")
        || schema.flag("x-kubernetes-int-or-string")
        || filled("x-kubernetes-list-map-keys")
        || there("x-kubernetes-list-type")
        || filled("x-kubernetes-validations")
}

/// What a walk has found.
#[derive(Default)]
pub(super) struct Found {
    pub schemas: Vec<FieldError>,
    pub rules: Vec<FieldError>,
}

/// A walk over one schema.
pub(super) struct Walk<'a> {
    pub asked: &'a Asked<'a>,
    pub same: bool,
    pub total: Total,
    pub found: Found,
}

/// A schema on the way.
#[derive(Clone, Copy)]
pub(super) struct Node<'p> {
    pub props: Props<'p>,
    pub schema: &'p Schema,
    pub at: &'p Path<'p>,
    is_root: bool,
    pub standing: Standing<'p>,
    /// What rules know; none where they are not compiled.
    pub scope: Option<&'p Scope<'p>>,
}

impl<'p> Node<'p> {
    /// `scope`: where rules are compiled.
    pub(super) fn root(
        props: Props<'p>,
        schema: &'p Schema,
        at: &'p Path<'p>,
        scope: Option<&'p Scope<'p>>,
    ) -> Self {
        Self {
            props,
            schema,
            at,
            is_root: true,
            standing: Standing::default(),
            scope,
        }
    }
}

/// What follows for a schema from where it stands.
#[derive(Clone, Copy, Default)]
pub(super) struct Standing<'p> {
    /// Why it has no default.
    no_default: Option<&'static str>,
    /// It is of the type or the metadata of a resource.
    in_meta: bool,
    /// The outermost list whose old and new items nobody can match.
    pub unmatched: Option<&'p Path<'p>>,
}

impl Walk<'_> {
    fn schema(&mut self, error: FieldError) {
        self.found.schemas.push(error);
    }

    pub(super) fn node(&mut self, node: Node<'_>) {
        let before = self.found.schemas.len();
        self.plain(node);
        self.additional(node);
        self.properties(node);
        self.junctors(node);
        self.items(node);
        for (name, schema) in node.props.entries("dependencies") {
            if schema.0.as_map().is_some() {
                let at = node.at.child("dependencies");
                self.apart(node, schema, &at.key(name.as_str()));
            }
        }
        self.extensions(node);
        self.rules(node, before);
    }

    /// What needs no other schema (`specStandardValidatorV3`).
    fn plain(&mut self, node: Node<'_>) {
        let Node {
            props,
            at,
            standing,
            ..
        } = node;
        let kind = props.kind();
        if self.asked.known_types && !kind.is_empty() && !TYPES.contains(&kind) {
            self.schema(FieldError::not_supported(
                at.child("type").field(),
                kind,
                &TYPES,
            ));
        }
        if let Some(why) = standing
            .no_default
            .filter(|_| props.get("default").is_some())
        {
            let why = format!("must not be set {why}");
            self.schema(FieldError::forbidden(at.child("default").field(), why));
        }
        self.unsupported(node);
        for (name, there, why) in [
            (
                "type",
                kind == "null",
                "type cannot be set to null, use nullable as an alternative",
            ),
            (
                "items",
                !props.list("items").is_empty(),
                "items must be a schema object and not an array",
            ),
            (
                "x-kubernetes-embedded-resource",
                standing.in_meta && props.flag("x-kubernetes-embedded-resource"),
                "must not be used inside of resource meta",
            ),
            (
                "uniqueItems",
                props.flag("uniqueItems"),
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ),
        ] {
            if there {
                self.schema(FieldError::forbidden(at.child(name).field(), why));
            }
        }
    }

    /// Fields of JSON schema that no structural schema has.
    fn unsupported(&mut self, node: Node<'_>) {
        let props = node.props;
        let (there, filled) = (
            |name| props.get(name).is_some(),
            |name| !props.map(name).is_empty(),
        );
        for (name, there) in [
            ("id", !props.text("id").is_empty()),
            ("additionalItems", there("additionalItems")),
            ("patternProperties", filled("patternProperties")),
            ("definitions", filled("definitions")),
            ("dependencies", there("dependencies")),
            ("$ref", there("$ref")),
        ] {
            if there {
                let why = format!("{name} is not supported");
                self.schema(FieldError::forbidden(node.at.child(name).field(), why));
            }
        }
    }

    fn additional(&mut self, node: Node<'_>) {
        let Some(given) = node.props.get("additionalProperties") else {
            return;
        };
        let at = node.at.child("additionalProperties");
        if !node.props.map("properties").is_empty() && *given != Value::Bool(true) {
            let why = "additionalProperties and properties are mutual exclusive";
            self.schema(FieldError::forbidden(at.field(), why));
        }
        let Additional::Schema(schema) = node.schema.additional() else {
            return;
        };
        let mut standing = node.standing;
        if standing.in_meta {
            // Without a value nobody can tell what of a default is known.
            standing.no_default = Some("inside additionalProperties applying to object metadata");
        }
        self.below(node, (Props(given), None), schema, &at, standing);
    }

    fn properties(&mut self, node: Node<'_>) {
        let own_meta = node.is_root || node.props.flag("x-kubernetes-embedded-resource");
        let map_type = node.props.opt_text("x-kubernetes-map-type");
        let properties = node.at.child("properties");
        for (name, schema) in node.props.entries("properties") {
            let Some(structure) = node.schema.property(name) else {
                continue;
            };
            let mut standing = node.standing;
            if !matches!(map_type, None | Some("granular" | "atomic")) {
                standing.unmatched = standing.unmatched.or(Some(node.at));
            }
            let top = match name.as_str() {
                "metadata" => Some("in top-level metadata"),
                "kind" => Some("in top-level kind"),
                "apiVersion" => Some("in top-level apiVersion"),
                _ => None,
            };
            if own_meta && top.is_some() {
                standing.in_meta = true;
                if node.is_root {
                    standing.no_default = top;
                }
            }
            let at = properties.key(name.as_str());
            let property = Some(name.as_str());
            self.below(node, (schema, property), structure, &at, standing);
        }
    }

    fn junctors(&mut self, node: Node<'_>) {
        let nested = Node {
            is_root: false,
            scope: None,
            ..node
        };
        if let (Some(props), Some(schema)) = (node.props.schema("not"), node.schema.not()) {
            let at = &node.at.child("not");
            self.node(Node {
                props,
                schema,
                at,
                ..nested
            });
        }
        for (name, schemas) in [
            ("allOf", node.schema.all_of()),
            ("oneOf", node.schema.one_of()),
            ("anyOf", node.schema.any_of()),
        ] {
            let at = node.at.child(name);
            for (i, (props, schema)) in node.props.each(name).zip(schemas).enumerate() {
                let at = &at.index(i);
                self.node(Node {
                    props,
                    schema,
                    at,
                    ..nested
                });
            }
        }
        let at = node.at.child("definitions");
        for (name, schema) in node.props.entries("definitions") {
            self.apart(node, schema, &at.key(name.as_str()));
        }
    }

    fn items(&mut self, node: Node<'_>) {
        let at = node.at.child("items");
        let mut standing = node.standing;
        if node.props.opt_text("x-kubernetes-list-type") != Some("map") {
            standing.unmatched = standing.unmatched.or(Some(node.at));
        }
        if let (Some(items), Some(schema)) = (node.props.schema("items"), node.schema.items()) {
            self.below(node, (items, None), schema, &at, standing);
        }
        for (i, item) in node.props.each("items").enumerate() {
            self.apart(Node { standing, ..node }, item, &at.index(i));
        }
    }

    /// A schema in which rules know what they know in this one. `property`: its name, if it has one.
    fn below(
        &mut self,
        node: Node<'_>,
        (props, property): (Props<'_>, Option<&str>),
        schema: &Schema,
        at: &Path<'_>,
        standing: Standing<'_>,
    ) {
        let scope = node.scope.map(|scope| scope.below(props, property));
        self.node(Node {
            props,
            schema,
            at,
            is_root: false,
            standing,
            scope: scope.as_ref(),
        });
    }

    /// A schema where no structural one has any.
    fn apart(&mut self, node: Node<'_>, props: Props<'_>, at: &Path<'_>) {
        let schema = Schema::lenient(props.0);
        self.node(Node {
            props,
            schema: &schema,
            at,
            is_root: false,
            scope: None,
            ..node
        });
    }

    /// What Kubernetes adds to schemas, but for rules.
    fn extensions(&mut self, node: Node<'_>) {
        const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
        if node.props.get(PRESERVE) == Some(&Value::Bool(false)) {
            let at = node.at.child(PRESERVE).field();
            self.schema(FieldError::invalid(at, false, "must be true or undefined"));
        }
        let is_bare = ![
            "x-kubernetes-list-type",
            "x-kubernetes-list-map-keys",
            "x-kubernetes-map-type",
        ]
        .iter()
        .any(|name| node.props.get(name).is_some());
        if is_bare {
            return;
        }
        let at = node.at.field();
        let items_at = node.at.child("items").field();
        for error in node.schema.validate_topology(&at, self.asked.topology) {
            // A list of schemas is something else than no schema.
            let items = node.props.get("items").filter(|v| v.as_list().is_some());
            self.schema(match items.filter(|_| error.field == items_at) {
                Some(items) => FieldError::invalid(
                    error.field,
                    Shown::items(items),
                    "must only have a single schema if x-kubernetes-list-type is map",
                ),
                None => error,
            });
        }
    }
}
