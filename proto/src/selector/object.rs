//! The object `meta/v1.LabelSelector`: `matchLabels` and `matchExpressions`.

use crate::catalogue::names as n;
use crate::meta::names::{label_key_problems, label_value_problems};
use crate::path::{Errors, Named, Spot, quote};
use crate::value::{Map, Value};

use super::label::{LabelSelector, Operator, Requirement};
use super::parse::InvalidRequirement;

/// Why an object is not a selector.
#[derive(thiserror::Error, Clone, PartialEq, Debug)]
pub enum ObjectError {
    #[error("{} is not a valid label selector operator", quote(.0))]
    Operator(String),
    #[error("{0}")]
    Invalid(InvalidRequirement),
}

impl LabelSelector {
    /// The selector of an object; null selects nothing, an empty object everything.
    ///
    /// # Errors
    /// If it is not valid.
    pub fn from_object(object: &Value) -> Result<Self, ObjectError> {
        let Some(object) = object.as_map() else {
            return Ok(Self::nothing());
        };
        let mut requirements = Vec::new();
        for (key, value) in match_labels(object).iter() {
            let values = [value.as_str().unwrap_or_default()];
            requirements.push(requirement(key.as_str(), Operator::Equals, &values)?);
        }
        for expression in match_expressions(object) {
            let operator = match text(expression, n::OPERATOR) {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(ObjectError::Operator(other.to_owned())),
            };
            requirements.push(requirement(
                text(expression, n::KEY),
                operator,
                &values(expression),
            )?);
        }
        Ok(Self::new(requirements))
    }
}

fn requirement(key: &str, operator: Operator, values: &[&str]) -> Result<Requirement, ObjectError> {
    Requirement::new(key, operator, values).map_err(ObjectError::Invalid)
}

/// What [`validate_label_selector`] lets pass, for the sake of objects that are stored already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SelectorRules {
    pub allow_invalid_values: bool,
    pub allow_unknown_operators: bool,
}

/// Upstream's `ValidateLabelSelector`. `object` is the node of the selector; null is valid.
pub fn validate_label_selector(object: &Value, rules: SelectorRules, errors: &mut Errors<'_>) {
    let Some(map) = object.as_map() else { return };
    let at = Spot::node(object).field(n::MATCH_LABELS);
    crate::meta::validate_labels(match_labels(map), at, errors);
    for expression in match_expressions(map) {
        validate_expression(expression, rules, errors);
    }
}

fn validate_expression(expression: &Value, rules: SelectorRules, errors: &mut Errors<'_>) {
    let at = Spot::node(expression);
    let values = values(expression);
    match text(expression, n::OPERATOR) {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(
                at.field(n::VALUES),
                "must be specified when `operator` is 'In' or 'NotIn'",
            );
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors.forbidden(
                at.field(n::VALUES),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            );
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ if rules.allow_unknown_operators => {}
        other => errors.invalid(
            at.field(n::OPERATOR),
            Named(other),
            "not a valid selector operator",
        ),
    }
    let key = text(expression, n::KEY);
    errors.invalid_each(at.field(n::KEY), key, label_key_problems(key));
    if rules.allow_invalid_values {
        return;
    }
    for (i, value) in values.iter().enumerate() {
        errors.invalid_each(
            at.field(n::VALUES).index(i),
            *value,
            label_value_problems(value),
        );
    }
}

fn match_labels(object: &Map) -> &Map {
    static NONE: Map = Map::new();
    object
        .get(n::MATCH_LABELS)
        .and_then(Value::as_map)
        .unwrap_or(&NONE)
}

fn match_expressions(object: &Map) -> &[Value] {
    object
        .get(n::MATCH_EXPRESSIONS)
        .and_then(Value::as_list)
        .unwrap_or_default()
}

fn text(expression: &Value, field: crate::NameId) -> &str {
    expression
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn values(expression: &Value) -> Vec<&str> {
    let values = expression
        .get(n::VALUES)
        .and_then(Value::as_list)
        .unwrap_or_default();
    values
        .iter()
        .map(|v| v.as_str().unwrap_or_default())
        .collect()
}
