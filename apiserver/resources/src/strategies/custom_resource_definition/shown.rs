//! Schemas, rules and versions in errors: upstream's internal types as `encoding/json` writes them, with
//! the names and in the order of their declaration (`pkg/apis/apiextensions/types*.go`).

use std::fmt::Write;

use proto::codec::json;
use proto::path::Show;
use proto::{Name, Value};

use crate::shown::list;

/// A field: its name in Go, its name, and what it is.
type Field = (&'static str, &'static str, Kind);

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    Number,
    /// Behind a pointer, or a list: as it is, null if it is not there.
    Given,
    /// `JSONSchemaPropsOrBool`.
    OrBool,
    /// `JSONSchemaPropsOrArray`.
    OrList,
    /// `JSONSchemaPropsOrStringArray`, by name.
    OrTexts,
    /// A message behind a pointer, or null.
    One(Of),
    List(Of),
    ByName(Of),
}

/// The types that are shown.
#[derive(Clone, Copy)]
enum Of {
    Schema,
    Rule,
    Version,
    Column,
    Selectable,
    Subresources,
    Status,
    Scale,
    Validation,
    Documentation,
}

use Kind::{ByName, Flag, Given, List, Number, One, OrBool, OrList, OrTexts, Text};

#[rustfmt::skip]
const SCHEMA: &[Field] = &[
    ("ID", "id", Text),
    ("Schema", "$schema", Text),
    ("Ref", "$ref", Given),
    ("Description", "description", Text),
    ("Type", "type", Text),
    ("Nullable", "nullable", Flag),
    ("Format", "format", Text),
    ("Title", "title", Text),
    ("Default", "default", Given),
    ("Maximum", "maximum", Given),
    ("ExclusiveMaximum", "exclusiveMaximum", Flag),
    ("Minimum", "minimum", Given),
    ("ExclusiveMinimum", "exclusiveMinimum", Flag),
    ("MaxLength", "maxLength", Given),
    ("MinLength", "minLength", Given),
    ("Pattern", "pattern", Text),
    ("MaxItems", "maxItems", Given),
    ("MinItems", "minItems", Given),
    ("UniqueItems", "uniqueItems", Flag),
    ("MultipleOf", "multipleOf", Given),
    ("Enum", "enum", Given),
    ("MaxProperties", "maxProperties", Given),
    ("MinProperties", "minProperties", Given),
    ("Required", "required", Given),
    ("Items", "items", OrList),
    ("AllOf", "allOf", List(Of::Schema)),
    ("OneOf", "oneOf", List(Of::Schema)),
    ("AnyOf", "anyOf", List(Of::Schema)),
    ("Not", "not", One(Of::Schema)),
    ("Properties", "properties", ByName(Of::Schema)),
    ("AdditionalProperties", "additionalProperties", OrBool),
    ("PatternProperties", "patternProperties", ByName(Of::Schema)),
    ("Dependencies", "dependencies", OrTexts),
    ("AdditionalItems", "additionalItems", OrBool),
    ("Definitions", "definitions", ByName(Of::Schema)),
    ("ExternalDocs", "externalDocs", One(Of::Documentation)),
    ("Example", "example", Given),
    ("XPreserveUnknownFields", "x-kubernetes-preserve-unknown-fields", Given),
    ("XEmbeddedResource", "x-kubernetes-embedded-resource", Flag),
    ("XIntOrString", "x-kubernetes-int-or-string", Flag),
    ("XListMapKeys", "x-kubernetes-list-map-keys", Given),
    ("XListType", "x-kubernetes-list-type", Given),
    ("XMapType", "x-kubernetes-map-type", Given),
    ("XValidations", "x-kubernetes-validations", List(Of::Rule)),
];

const RULE: &[Field] = &[
    ("Rule", "rule", Text),
    ("Message", "message", Text),
    ("MessageExpression", "messageExpression", Text),
    ("Reason", "reason", Given),
    ("FieldPath", "fieldPath", Text),
    ("OptionalOldSelf", "optionalOldSelf", Given),
];

#[rustfmt::skip]
const VERSION: &[Field] = &[
    ("Name", "name", Text),
    ("Served", "served", Flag),
    ("Storage", "storage", Flag),
    ("Deprecated", "deprecated", Flag),
    ("DeprecationWarning", "deprecationWarning", Given),
    ("Schema", "schema", One(Of::Validation)),
    ("Subresources", "subresources", One(Of::Subresources)),
    ("AdditionalPrinterColumns", "additionalPrinterColumns", List(Of::Column)),
    ("SelectableFields", "selectableFields", List(Of::Selectable)),
];

const COLUMN: &[Field] = &[
    ("Name", "name", Text),
    ("Type", "type", Text),
    ("Format", "format", Text),
    ("Description", "description", Text),
    ("Priority", "priority", Number),
    ("JSONPath", "JSONPath", Text),
];

const SCALE: &[Field] = &[
    ("SpecReplicasPath", "specReplicasPath", Text),
    ("StatusReplicasPath", "statusReplicasPath", Text),
    ("LabelSelectorPath", "labelSelectorPath", Given),
];

impl Of {
    fn fields(self) -> &'static [Field] {
        match self {
            Self::Schema => SCHEMA,
            Self::Rule => RULE,
            Self::Version => VERSION,
            Self::Column => COLUMN,
            Self::Selectable => &[("JSONPath", "jsonPath", Text)],
            Self::Subresources => &[
                ("Status", "status", One(Self::Status)),
                ("Scale", "scale", One(Self::Scale)),
            ],
            Self::Status => &[],
            Self::Scale => SCALE,
            Self::Validation => &[("OpenAPIV3Schema", "openAPIV3Schema", One(Self::Schema))],
            Self::Documentation => &[("Description", "description", Text), ("URL", "url", Text)],
        }
    }
}

/// What is shown of a definition.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a>(Option<&'a Value>, Kind);

impl<'a> Shown<'a> {
    pub(super) fn schema(schema: &'a Value) -> Self {
        Self(Some(schema), One(Of::Schema))
    }
    pub(super) fn rule(rule: &'a Value) -> Self {
        Self(Some(rule), One(Of::Rule))
    }
    pub(super) fn items(items: &'a Value) -> Self {
        Self(Some(items), OrList)
    }
    pub(super) fn versions(versions: Option<&'a Value>) -> Self {
        Self(versions, List(Of::Version))
    }
}

impl Show for Shown<'_> {
    fn show(&self) -> String {
        let mut out = String::new();
        value(&mut out, self.0, self.1);
        out
    }
}

fn value(out: &mut String, given: Option<&Value>, kind: Kind) {
    match (kind, given.filter(|v| !v.is_null())) {
        (Text, None) => out.push_str("\"\""),
        (Flag, None) => out.push_str("false"),
        (Number, None) => out.push('0'),
        (_, None) => out.push_str("null"),
        (One(of), Some(given)) => message(out, given, of),
        (List(of), Some(Value::List(items))) => {
            list(out, items, |out, item| message(out, item, of))
        }
        (ByName(of), Some(Value::Map(entries))) => {
            object(out, entries.iter(), |out, item| message(out, item, of));
        }
        (OrTexts, Some(Value::Map(entries))) => {
            object(out, entries.iter(), |out, item| {
                or(out, item, "Schema", "Property");
            });
        }
        (OrList, Some(given)) => or(out, given, "Schema", "JSONSchemas"),
        (OrBool, Some(given)) => {
            let allows = *given != Value::Bool(false);
            let _ = write!(out, "{{\"Allows\":{allows},\"Schema\":");
            let schema = Some(given).filter(|g| g.as_map().is_some());
            value(out, schema, One(Of::Schema));
            out.push('}');
        }
        (_, Some(given)) => text(out, given),
    }
}

/// A schema or a list of something else.
fn or(out: &mut String, given: &Value, schema: &str, other: &str) {
    let is_schema = given.as_map().is_some();
    let one = Some(given).filter(|_| is_schema);
    let many = Some(given).filter(|_| !is_schema);
    let _ = write!(out, "{{\"{schema}\":");
    value(out, one, One(Of::Schema));
    let _ = write!(out, ",\"{other}\":");
    let kind = if other == "Property" {
        Given
    } else {
        List(Of::Schema)
    };
    value(out, many, kind);
    out.push('}');
}

fn message(out: &mut String, given: &Value, of: Of) {
    out.push('{');
    for (i, (go, name, kind)) in of.fields().iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        let _ = write!(out, "{comma}\"{go}\":");
        value(out, given.get(*name), *kind);
    }
    out.push('}');
}

fn object<'v>(
    out: &mut String,
    entries: impl Iterator<Item = (&'v Name, &'v Value)>,
    one: impl Fn(&mut String, &Value),
) {
    out.push('{');
    for (i, (name, item)) in entries.enumerate() {
        if i > 0 {
            out.push(',');
        }
        text(out, &Value::from(name.as_str()));
        out.push(':');
        one(out, item);
    }
    out.push('}');
}

/// JSON in a definition is read and written anew.
fn text(out: &mut String, given: &Value) {
    let mut bytes = Vec::new();
    match given {
        Value::Raw(raw) => {
            let parsed = json::parse(raw).unwrap_or_default();
            json::write(&parsed, &mut bytes);
        }
        Value::List(items) => {
            let parsed = items.iter().map(|item| match item {
                Value::Raw(raw) => json::parse(raw).unwrap_or_default(),
                other => other.clone(),
            });
            json::write(&Value::List(parsed.collect()), &mut bytes);
        }
        other => json::write(other, &mut bytes),
    }
    out.push_str(&String::from_utf8_lossy(&bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_shows_all_its_fields() {
        let rule = json::parse(br#"{"rule":"a<b","optionalOldSelf":true}"#).unwrap();
        assert_eq!(
            Shown::rule(&rule).show(),
            r#"{"Rule":"a\u003cb","Message":"","MessageExpression":"","Reason":null,"FieldPath":"","OptionalOldSelf":true}"#
        );
    }

    #[test]
    fn what_may_be_two_things_shows_both() {
        let items = json::parse(br#"[]"#).unwrap();
        let shown = Shown::items(&items).show();
        assert_eq!(shown, r#"{"Schema":null,"JSONSchemas":[]}"#);
        let schema = json::parse(br#"{"additionalProperties":true,"dependencies":{"a":["b"]}}"#);
        let schema = schema.unwrap();
        let shown = Shown::schema(&schema).show();
        assert!(shown.contains(r#""AdditionalProperties":{"Allows":true,"Schema":null}"#));
        assert!(shown.contains(r#""Dependencies":{"a":{"Schema":null,"Property":["b"]}}"#));
    }
}
