//! What each version, or all of them, have besides a schema: subresources, columns of tables, fields that
//! selectors can name.

use std::collections::HashSet;

use proto::Value;
use proto::catalogue::names as n;
use proto::path::{Errors, Spot, is_printable};
use proto::view::apiextensions_v1beta1::{
    CustomResourceColumnDefinition, CustomResourceDefinitionVersion, CustomResourceSubresources,
    SelectableField,
};
use proto::view::{List, View};

use crate::rules;
use crate::structural::{Kind, Schema};

/// How many fields selectors may name.
pub(super) const MOST_SELECTABLE: usize = 8;

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];

/// `validateDeprecationWarning`.
pub(super) fn deprecation(version: CustomResourceDefinitionVersion<'_>, e: &mut Errors<'_>) {
    const LONGEST: usize = 256;
    let Some(warning) = version.deprecation_warning() else {
        return;
    };
    let mut problems: Vec<String> = Vec::new();
    if version.deprecated() {
        if warning.len() > LONGEST {
            problems.push(format!("must be <= {LONGEST} characters long"));
        }
        if warning.is_empty() {
            problems.push("must not be an empty string".into());
        }
        if let Some((i, _)) = warning.char_indices().find(|(_, c)| !is_printable(*c)) {
            problems.push(format!(
                "must only contain printable UTF-8 characters; non-printable character found at index {i}"
            ));
        }
    } else {
        problems.push("can only be set for deprecated versions".into());
    }
    let shown = || rules::json(version.node().get(n::DEPRECATION_WARNING));
    for problem in problems {
        e.invalid(
            Spot::of(version).field(n::DEPRECATION_WARNING),
            shown(),
            problem,
        );
    }
}

/// `ValidateCustomResourceDefinitionSubresources`.
pub(super) fn subresources(of: Option<CustomResourceSubresources<'_>>, e: &mut Errors<'_>) {
    let Some(scale) = of.and_then(|of| of.scale()) else {
        return;
    };
    let at = Spot::of(scale);
    for (field, path, below) in [
        (n::SPEC_REPLICAS_PATH, scale.spec_replicas_path(), ".spec"),
        (
            n::STATUS_REPLICAS_PATH,
            scale.status_replicas_path(),
            ".status",
        ),
    ] {
        if path.is_empty() {
            e.required(at.field(field), "");
        } else if simple_path(path, at.field(field), e) && !is_below(path, below) {
            let detail = format!("should be a json path under {below}");
            e.invalid(at.field(field), path, detail);
        }
    }
    let selector = scale.label_selector_path().unwrap_or_default();
    let at = at.field(n::LABEL_SELECTOR_PATH);
    if !selector.is_empty()
        && simple_path(selector, at, e)
        && !is_below(selector, ".spec")
        && !is_below(selector, ".status")
    {
        let shown = rules::json(scale.node().get(n::LABEL_SELECTOR_PATH));
        let detail = "should be a json path under either .spec or .status";
        e.invalid(at, shown, detail);
    }
}

fn is_below(path: &str, field: &str) -> bool {
    path.strip_prefix(field).is_some_and(|p| p.starts_with('.'))
}

/// A path that is not empty, and all that upstream asks of it.
fn simple_path(path: &str, at: Spot<'_>, e: &mut Errors<'_>) -> bool {
    let simple = path.starts_with('.');
    if !simple {
        e.invalid(at, path, "must be a simple json path starting with .");
    }
    simple
}

/// `ValidateCustomResourceColumnDefinition`.
pub(super) fn columns(columns: List<'_, CustomResourceColumnDefinition<'_>>, e: &mut Errors<'_>) {
    for column in columns {
        let at = Spot::of(column);
        rules::required(e, column, n::NAME);
        let kinds = || format!("must be one of {}", COLUMN_TYPES.join(","));
        match column.r#type() {
            "" => e.required(at.field(n::TYPE), kinds()),
            kind if !COLUMN_TYPES.contains(&kind) => e.invalid(at.field(n::TYPE), kind, kinds()),
            _ => {}
        }
        let format = column.format();
        if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
            let detail = format!("must be one of {}", COLUMN_FORMATS.join(","));
            e.invalid(at.field(n::FORMAT), format, detail);
        }
        let path = column.capital_json_path();
        let at = at.field(n::CAPITAL_JSON_PATH);
        if path.is_empty() {
            e.required(at, "");
        } else {
            simple_path(path, at, e);
        }
    }
}

/// Fields that selectors can name, of a version or of all.
pub(super) struct Selectable<'a> {
    pub fields: List<'a, SelectableField<'a>>,
    /// Who has them.
    pub of: Spot<'a>,
    pub schema: Place<'a>,
    /// There may be more than others may have.
    pub many: bool,
}

/// Where the schema is that the fields are in.
pub(super) enum Place<'a> {
    None(&'static str),
    /// There is none, where one may be.
    Empty,
    At(&'a Value),
}

impl Selectable<'_> {
    pub(super) fn validate(&self, e: &mut Errors<'_>) {
        if self.fields.is_empty() {
            return;
        }
        let at = self.of.field(n::SELECTABLE_FIELDS);
        let schema = match self.schema {
            Place::None(why) => return e.invalid(at, "", why),
            Place::Empty => Schema::new(&Value::Null),
            Place::At(schema) => Schema::new(schema),
        };
        let schema = match schema {
            Ok(schema) => schema,
            Err(why) => {
                let at = self.of.field(n::SCHEMA).field(n::OPEN_APIV3_SCHEMA);
                return e.invalid(at, "", why);
            }
        };
        let mut seen = HashSet::new();
        for field in self.fields {
            selectable(field, &schema, &mut seen, e);
        }
        if seen.len() > MOST_SELECTABLE && !self.many {
            e.too_many(at, seen.len(), MOST_SELECTABLE);
        }
    }
}

fn selectable(
    field: SelectableField<'_>,
    schema: &Schema,
    seen: &mut HashSet<String>,
    e: &mut Errors<'_>,
) {
    let (at, path) = (Spot::of(field).field(n::JSON_PATH), field.json_path());
    if path.is_empty() {
        return e.required(at, "");
    }
    let found = match schema.follow(path, false) {
        Ok(found) => found,
        Err(why) => return e.invalid(at, path, format!("is an invalid path: {why}")),
    };
    if found.root == "metadata" {
        e.invalid(at, path, "must not point to fields in metadata");
    }
    let kind = found.schema.and_then(Schema::kind);
    if !matches!(kind, Some(Kind::String | Kind::Boolean | Kind::Integer)) {
        let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
        e.invalid(at, path, detail);
    }
    if !seen.insert(found.text) {
        e.duplicate(at, path);
    }
}
