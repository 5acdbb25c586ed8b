//! Label selectors as objects hold them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use proto::selector::{LabelSelector, Operator, Requirement};

use crate::error::Error;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Which labels an object must have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selector(LabelSelector);

impl Selector {
    /// The selector of an object's spec; an empty one selects everything.
    ///
    /// # Errors
    /// If it cannot be read, which validation keeps from happening.
    pub fn of(selector: &meta::LabelSelector) -> Result<Self, Error> {
        let mut all = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            all.push(requirement(key, Operator::Equals, &[value.as_str()])?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    let text = format!("{other:?} is not a valid label selector operator");
                    return Err(Error::Unusable(text));
                }
            };
            let values: Vec<&str> = expression
                .values
                .iter()
                .flatten()
                .map(String::as_str)
                .collect();
            all.push(requirement(&expression.key, operator, &values)?);
        }
        Ok(Self(LabelSelector::new(all)))
    }

    /// Labels that an object must have; none select everything.
    ///
    /// # Errors
    /// If a key or a value cannot be a label's.
    pub fn of_labels(labels: &Labels) -> Result<Self, Error> {
        let all: Result<_, _> = labels
            .iter()
            .map(|(key, value)| requirement(key, Operator::Equals, &[value.as_str()]))
            .collect();
        Ok(Self(LabelSelector::new(all?)))
    }

    /// Reads the text of a selector, as a scale has it.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let read = text.parse::<LabelSelector>();
        read.map(Self).map_err(|e| Error::Unusable(e.to_string()))
    }

    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.0.is_everything()
    }

    /// Whether an object with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: Option<&Labels>) -> bool {
        self.0
            .matches(|key| labels.and_then(|l| l.get(key)).map(String::as_str))
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

fn requirement(key: &str, operator: Operator, values: &[&str]) -> Result<Requirement, Error> {
    Requirement::new(key, operator, values).map_err(|e| Error::Unusable(e.to_string()))
}

/// Whether `labels` holds all of `wanted`.
#[must_use]
pub fn holds(labels: Option<&Labels>, wanted: Option<&Labels>) -> bool {
    let mut wanted = wanted.into_iter().flatten();
    wanted.all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn all_requirements_have_to_be_met() {
        let selector = meta::LabelSelector {
            match_labels: Some(labels(&[("app", "web")])),
            match_expressions: Some(vec![meta::LabelSelectorRequirement {
                key: "tier".to_owned(),
                operator: "NotIn".to_owned(),
                values: Some(vec!["dev".to_owned()]),
            }]),
        };
        let selector = Selector::of(&selector).unwrap();
        assert!(selector.matches(Some(&labels(&[("app", "web")]))));
        assert!(!selector.matches(Some(&labels(&[("app", "web"), ("tier", "dev")]))));
        assert!(!selector.matches(None));
    }

    #[test]
    fn an_empty_selector_selects_everything() {
        let empty = Selector::of(&meta::LabelSelector::default()).unwrap();
        assert!(empty.is_everything() && empty.matches(None));
    }

    #[test]
    fn a_set_of_labels_may_hold_more() {
        let (few, many) = (labels(&[("a", "1")]), labels(&[("a", "1"), ("b", "2")]));
        assert!(holds(Some(&many), Some(&few)) && holds(None, None));
        assert!(!holds(Some(&few), Some(&many)) && !holds(None, Some(&few)));
    }
}
