//! The schema of a version, or of all, as a whole: `validateCustomResourceDefinitionValidation` in
//! `pkg/apis/apiextensions/validation`.

use proto::Value;
use proto::path::{Errors, FieldError, Spot};

use super::asked::Asked;
use super::cost::Total;
use super::defaults;
use super::props::Props;
use super::rules::Scope;
use super::schema::{Found, Node, Walk};
use super::shown::Shown;
use crate::structural::Schema;
use crate::structural::text::Path;

/// The place of a schema in a definition.
pub(super) struct Validation<'a> {
    /// The `CustomResourceValidation`, if it is there.
    pub of: Option<&'a Value>,
    pub at: Spot<'a>,
    /// Status is a subresource: its part of the schema is taken out.
    pub has_status: bool,
    /// The schema is as it was.
    pub same: bool,
}

impl Validation<'_> {
    pub(super) fn validate(&self, asked: &Asked<'_>, e: &mut Errors<'_>) {
        let Some(schema) = self.of.and_then(|of| Props(of).get("openAPIV3Schema")) else {
            return;
        };
        let at = e.path(self.at) + ".openAPIV3Schema";
        let mut found = self.root(Props(schema), &at);
        let structural = asked.structural.then(|| Schema::new(schema));
        let mut late = None;
        let mut with_rules = false;
        match &structural {
            Some(Err(why)) => late = Some(FieldError::invalid(&*at, "", why.as_str())),
            Some(Ok(s)) => {
                let errors = structure(Props(schema), s, &at, asked.pruned_defaults);
                with_rules = errors.is_empty();
                found.extend(errors);
            }
            None => {}
        }
        let lenient = || Schema::lenient(schema);
        let structure = structural.and_then(Result::ok).unwrap_or_else(lenient);
        let scope = Scope::root(Props(schema));
        let path = Path::root(&at);
        let mut walk = Walk {
            asked,
            same: self.same,
            total: Total::default(),
            found: Found::default(),
        };
        let scope = with_rules.then_some(&scope);
        walk.node(Node::root(Props(schema), &structure, &path, scope));
        found.extend(walk.found.schemas);
        found.extend(walk.found.rules);
        if found.is_empty() {
            found.extend(late);
        }
        found.extend(walk.total.into_errors(&at));
        found.into_iter().for_each(|error| e.push(error));
    }

    /// What the root of a schema may say.
    fn root(&self, schema: Props<'_>, at: &str) -> Vec<FieldError> {
        const WHY: &str = "if the status subresource is enabled";
        let mut found = Vec::new();
        for (go, name) in SAID.iter().filter(|_| self.has_status) {
            if !is_said(schema, name) {
                continue;
            }
            if *go == "Type" && schema.kind() != "object" {
                let why = format!(
                    "only \"object\" is allowed as the type at the root of the schema {WHY}"
                );
                found.push(FieldError::invalid(
                    format!("{at}.type"),
                    schema.kind(),
                    why,
                ));
                break;
            }
            if !MAY_SAY.contains(go) {
                let may = MAY_SAY.join(" ");
                let why =
                    format!("only [{may}] fields are allowed at the root of the schema {WHY}");
                found.push(FieldError::invalid(at, Shown::schema(schema.0), why));
                break;
            }
        }
        if schema.flag("nullable") {
            let why = "nullable cannot be true at the root";
            found.push(FieldError::forbidden(format!("{at}.nullable"), why));
        }
        found
    }
}

/// Whether Go would not take a field for zero.
fn is_said(schema: Props<'_>, name: &str) -> bool {
    schema.get(name).is_some_and(|value| match value {
        Value::String(text) => {
            !text.is_empty()
                || matches!(
                    name,
                    "$ref" | "x-kubernetes-list-type" | "x-kubernetes-map-type"
                )
        }
        Value::Bool(is) => {
            *is || matches!(
                name,
                "additionalProperties" | "additionalItems" | "x-kubernetes-preserve-unknown-fields"
            )
        }
        _ => true,
    })
}

/// The fields of a schema in upstream's order, by their names in Go.
#[rustfmt::skip]
const SAID: &[(&str, &str)] = &[
    ("ID", "id"), ("Schema", "$schema"), ("Ref", "$ref"), ("Description", "description"), ("Type", "type"),
    ("Nullable", "nullable"), ("Format", "format"), ("Title", "title"), ("Default", "default"),
    ("Maximum", "maximum"), ("ExclusiveMaximum", "exclusiveMaximum"), ("Minimum", "minimum"),
    ("ExclusiveMinimum", "exclusiveMinimum"), ("MaxLength", "maxLength"), ("MinLength", "minLength"),
    ("Pattern", "pattern"), ("MaxItems", "maxItems"), ("MinItems", "minItems"),
    ("UniqueItems", "uniqueItems"), ("MultipleOf", "multipleOf"), ("Enum", "enum"),
    ("MaxProperties", "maxProperties"), ("MinProperties", "minProperties"), ("Required", "required"),
    ("Items", "items"), ("AllOf", "allOf"), ("OneOf", "oneOf"), ("AnyOf", "anyOf"), ("Not", "not"),
    ("Properties", "properties"), ("AdditionalProperties", "additionalProperties"),
    ("PatternProperties", "patternProperties"), ("Dependencies", "dependencies"),
    ("AdditionalItems", "additionalItems"), ("Definitions", "definitions"),
    ("ExternalDocs", "externalDocs"), ("Example", "example"),
    ("XPreserveUnknownFields", "x-kubernetes-preserve-unknown-fields"),
    ("XEmbeddedResource", "x-kubernetes-embedded-resource"),
    ("XIntOrString", "x-kubernetes-int-or-string"), ("XListMapKeys", "x-kubernetes-list-map-keys"),
    ("XListType", "x-kubernetes-list-type"), ("XMapType", "x-kubernetes-map-type"),
    ("XValidations", "x-kubernetes-validations"),
];

/// Those that may stand at the root beside a status.
#[rustfmt::skip]
const MAY_SAY: [&str; 22] = [
    "Description", "Type", "Format", "Title", "Maximum", "ExclusiveMaximum", "Minimum", "ExclusiveMinimum",
    "MaxLength", "MinLength", "Pattern", "MaxItems", "MinItems", "UniqueItems", "MultipleOf", "Required",
    "Items", "Properties", "ExternalDocs", "Example", "XPreserveUnknownFields", "XValidations",
];

/// Whether a schema is structural, and its defaults are values of it.
fn structure(props: Props<'_>, schema: &Schema, at: &str, pruned: bool) -> Vec<FieldError> {
    let errors = schema.validate_structure(at);
    if !errors.is_empty() {
        return errors;
    }
    match schema.validate_defaults(at, true, pruned) {
        Err(why) => vec![FieldError::invalid(at, "", why)],
        Ok(errors) if errors.is_empty() => defaults::validate(props, &Path::root(at)),
        Ok(errors) => errors,
    }
}
