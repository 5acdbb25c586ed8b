//! Label selectors: requirements that all have to be met.

use std::fmt;

use crate::meta::names::{label_key_problems, label_value_problems};
use crate::path::{FieldError, Show};
use crate::value::{Map, Value};

use super::parse::InvalidRequirement;

/// What a requirement asks of the label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operator {
    In,
    NotIn,
    /// Written `=`.
    Equals,
    /// Written `==`, and otherwise the same.
    DoubleEquals,
    NotEquals,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One condition on one label. Invariant, where it was made by [`Requirement::new`]: as many values as
/// the operator takes, and valid ones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Requirement {
    key: Box<str>,
    operator: Operator,
    /// Sorted.
    values: Box<[Box<str>]>,
    /// The value of `GreaterThan` and `LessThan`.
    number: Option<i64>,
}

impl Requirement {
    /// # Errors
    /// If the key or a value cannot be a label's, or the values do not fit the operator.
    pub fn new(key: &str, operator: Operator, values: &[&str]) -> Result<Self, InvalidRequirement> {
        use Operator::{
            DoesNotExist, DoubleEquals, Equals, Exists, GreaterThan, In, LessThan, NotEquals, NotIn,
        };
        let mut errors = Vec::new();
        if let Some(error) = key_error("key", key) {
            errors.push(error);
        }
        let why = match operator {
            In | NotIn if values.is_empty() => {
                Some("for 'in', 'notin' operators, values set can't be empty")
            }
            Equals | DoubleEquals | NotEquals if values.len() != 1 => {
                Some("exact-match compatibility requires one single value")
            }
            Exists | DoesNotExist if !values.is_empty() => {
                Some("values set must be empty for exists and does not exist")
            }
            GreaterThan | LessThan if values.len() != 1 => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            _ => None,
        };
        errors.extend(why.map(|why| FieldError::invalid("values", Values(values), why)));
        if matches!(operator, GreaterThan | LessThan) {
            let why = "for 'Gt', 'Lt' operators, the value must be an integer";
            let bad = values
                .iter()
                .enumerate()
                .filter(|(_, v)| v.parse::<i64>().is_err());
            errors.extend(bad.map(|(i, v)| FieldError::invalid(format!("values[{i}]"), *v, why)));
        }
        for (i, value) in values.iter().enumerate() {
            let problems = label_value_problems(value);
            if !problems.is_empty() {
                errors.push(FieldError::invalid(
                    format!("values[{i}][{key}]"),
                    *value,
                    problems.join("; "),
                ));
            }
        }
        if errors.is_empty() {
            Ok(Self::unchecked(key, operator, values))
        } else {
            Err(InvalidRequirement(errors))
        }
    }

    fn unchecked(key: &str, operator: Operator, values: &[&str]) -> Self {
        let mut values: Box<[Box<str>]> = values.iter().map(|v| (*v).into()).collect();
        values.sort_unstable();
        let number = match (operator, &*values) {
            (Operator::GreaterThan | Operator::LessThan, [one]) => one.parse().ok(),
            _ => None,
        };
        Self {
            key: key.into(),
            operator,
            values,
            number,
        }
    }

    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    #[must_use]
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// In sorted order.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &str> {
        self.values.iter().map(|v| &**v)
    }

    /// Whether the label with this value (none if the object does not have the label) meets it.
    #[must_use]
    pub fn matches(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.binary_search_by(|v| (**v).cmp(value)).is_ok();
        let number = || Some((value?.parse::<i64>().ok()?, self.number?));
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(listed),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => number().is_some_and(|(value, limit)| value > limit),
            Operator::LessThan => number().is_some_and(|(value, limit)| value < limit),
        }
    }
}

/// Why a text is not a label key, at a path of its own.
pub(super) fn key_error(field: &str, key: &str) -> Option<FieldError> {
    let problems = label_key_problems(key);
    if problems.is_empty() {
        None
    } else {
        Some(FieldError::invalid(field, key, problems.join("; ")))
    }
}

/// A list of strings as Go prints it: an empty one is nil.
struct Values<'a>(&'a [&'a str]);

impl Show for Values<'_> {
    fn show(&self) -> String {
        match self.0 {
            [] => "null".to_owned(),
            values => (&Value::from(values.to_vec())).show(),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = match self.operator {
            Operator::Exists => return f.write_str(&self.key),
            Operator::DoesNotExist => return write!(f, "!{}", self.key),
            Operator::In => (" in (", ")"),
            Operator::NotIn => (" notin (", ")"),
            Operator::Equals => ("=", ""),
            Operator::DoubleEquals => ("==", ""),
            Operator::NotEquals => ("!=", ""),
            Operator::GreaterThan => (">", ""),
            Operator::LessThan => ("<", ""),
        };
        write!(f, "{}{before}", self.key)?;
        for (i, value) in self.values().enumerate() {
            write!(f, "{}{value}", if i == 0 { "" } else { "," })?;
        }
        f.write_str(after)
    }
}

/// Requirements that all have to be met, sorted by key; or nothing at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LabelSelector {
    /// None matches no object.
    requirements: Option<Vec<Requirement>>,
}

impl Default for LabelSelector {
    fn default() -> Self {
        Self::everything()
    }
}

impl LabelSelector {
    /// Matches every object.
    #[must_use]
    pub const fn everything() -> Self {
        Self {
            requirements: Some(Vec::new()),
        }
    }

    /// Matches no object.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { requirements: None }
    }

    #[must_use]
    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self {
            requirements: Some(requirements),
        }
    }

    /// A map of labels, all of which an object must have; an empty one matches everything. Nothing is
    /// validated.
    #[must_use]
    pub fn from_map(labels: &Map) -> Self {
        let one = |value: &Value| value.as_str().map(str::to_owned).unwrap_or_default();
        let equals =
            |key: &str, value: &str| Requirement::unchecked(key, Operator::Equals, &[value]);
        Self::new(
            labels
                .iter()
                .map(|(key, value)| equals(key.as_str(), &one(value)))
                .collect(),
        )
    }

    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.requirements.as_ref().is_some_and(Vec::is_empty)
    }

    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.requirements.is_none()
    }

    /// By key. Empty for everything and for nothing.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        self.requirements.as_deref().unwrap_or_default()
    }

    /// Whether an object meets all requirements; `label` looks one of its labels up.
    pub fn matches<'l>(&self, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        self.requirements
            .as_ref()
            .is_some_and(|all| all.iter().all(|r| r.matches(label(&r.key))))
    }

    /// [`LabelSelector::matches`] for the labels of a tree.
    #[must_use]
    pub fn matches_map(&self, labels: &Map) -> bool {
        self.matches(|key| labels.get(key).and_then(Value::as_str))
    }

    /// The one value that a label must have, if the selector says so.
    #[must_use]
    pub fn requires_exact(&self, key: &str) -> Option<&str> {
        let first = self.requirements().iter().find(|r| &*r.key == key)?;
        match (first.operator, &*first.values) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, [value]) => Some(value),
            _ => None,
        }
    }
}

impl fmt::Display for LabelSelector {
    /// The canonical form, which parses to an equal selector; empty for everything and for nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements().iter().enumerate() {
            write!(f, "{}{requirement}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}
