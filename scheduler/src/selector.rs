//! Label selectors as the scheduler keeps them: parsed once per object, comparable and hashable, so that
//! equal selectors of many pods share their counts.
//!
//! Source of the rules: `metav1.LabelSelectorAsSelector` and `k8s.io/apimachinery/pkg/labels`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// What is asked of one label.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Condition {
    In(Box<[String]>),
    NotIn(Box<[String]>),
    Exists,
    DoesNotExist,
    /// The label is a number greater than this.
    Gt(i64),
    Lt(i64),
    /// It could not be read; nothing meets it.
    Never,
}

impl Condition {
    /// An operator as the API spells it.
    #[must_use]
    pub fn new(operator: &str, values: &[String]) -> Self {
        let sorted = || {
            let mut values = values.to_vec();
            values.sort_unstable();
            values.dedup();
            values.into_boxed_slice()
        };
        let number = || match values {
            [one] => one.parse::<i64>().ok(),
            _ => None,
        };
        match operator {
            "In" if !values.is_empty() => Self::In(sorted()),
            "NotIn" if !values.is_empty() => Self::NotIn(sorted()),
            "Exists" if values.is_empty() => Self::Exists,
            "DoesNotExist" if values.is_empty() => Self::DoesNotExist,
            "Gt" => number().map_or(Self::Never, Self::Gt),
            "Lt" => number().map_or(Self::Never, Self::Lt),
            _ => Self::Never,
        }
    }

    /// Whether a label with this value, or its absence, meets the condition.
    #[must_use]
    pub fn met_by(&self, value: Option<&str>) -> bool {
        let among =
            |values: &[String], v: &str| values.binary_search_by(|x| x.as_str().cmp(v)).is_ok();
        match (self, value) {
            (Self::In(values), Some(v)) => among(values, v),
            (Self::NotIn(values), Some(v)) => !among(values, v),
            (Self::Exists, Some(_)) | (Self::NotIn(_) | Self::DoesNotExist, None) => true,
            (Self::Gt(than), Some(v)) => v.parse::<i64>().is_ok_and(|n| n > *than),
            (Self::Lt(than), Some(v)) => v.parse::<i64>().is_ok_and(|n| n < *than),
            _ => false,
        }
    }
}

/// Conditions that all have to be met, by key; or nothing at all.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Selector {
    /// None matches no object.
    all: Option<Box<[(String, Condition)]>>,
}

impl Selector {
    /// Matches no object.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { all: None }
    }

    /// Matches every object.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            all: Some(Box::default()),
        }
    }

    /// An absent selector matches nothing, an empty one everything.
    #[must_use]
    pub fn of(selector: Option<&meta::LabelSelector>) -> Self {
        let Some(selector) = selector else {
            return Self::nothing();
        };
        let labels = selector.match_labels.iter().flatten();
        let expressions = selector.match_expressions.iter().flatten();
        Self::all(
            labels
                .map(|(k, v)| (k.clone(), Condition::In(Box::new([v.clone()]))))
                .chain(expressions.map(|e| {
                    let values = e.values.as_deref().unwrap_or_default();
                    (e.key.clone(), Condition::new(&e.operator, values))
                })),
        )
    }

    /// A map of labels, all of which an object must have.
    pub fn of_labels<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        Self::all(
            labels
                .into_iter()
                .map(|(k, v)| (k.clone(), Condition::In(Box::new([v.clone()])))),
        )
    }

    fn all(conditions: impl Iterator<Item = (String, Condition)>) -> Self {
        let mut all: Vec<_> = conditions.collect();
        all.sort_unstable();
        all.dedup();
        Self {
            all: Some(all.into()),
        }
    }

    /// Both selectors' conditions. Nothing stays nothing.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        match (&self.all, &other.all) {
            (Some(a), Some(b)) => Self::all(a.iter().chain(b).cloned()),
            _ => Self::nothing(),
        }
    }

    /// Whether it matches every object.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.all.as_ref().is_some_and(|all| all.is_empty())
    }

    /// Whether it matches no object.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.all.is_none()
    }

    /// By key; empty for everything and for nothing.
    #[must_use]
    pub fn conditions(&self) -> &[(String, Condition)] {
        self.all.as_deref().unwrap_or_default()
    }

    /// Whether an object with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.all.as_ref().is_some_and(|all| {
            all.iter()
                .all(|(k, c)| c.met_by(labels.get(k).map(String::as_str)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn an_absent_label_meets_only_negative_conditions() {
        let values = ["a".to_owned()];
        for (operator, wanted) in [("In", false), ("NotIn", true), ("Gt", false), ("Lt", false)] {
            assert_eq!(
                Condition::new(operator, &values).met_by(None),
                wanted,
                "{operator}"
            );
        }
        assert!(Condition::new("DoesNotExist", &[]).met_by(None));
        assert!(!Condition::new("Exists", &[]).met_by(None));
    }

    #[test]
    fn an_absent_selector_selects_nothing_and_an_empty_one_everything() {
        assert!(!Selector::of(None).matches(&labels(&[])));
        assert!(Selector::of(Some(&meta::LabelSelector::default())).matches(&labels(&[])));
        assert!(
            Selector::nothing()
                .and(&Selector::everything())
                .is_nothing()
        );
    }

    #[test]
    fn the_order_of_writing_does_not_make_a_selector_another() {
        let ab = Selector::of_labels(&labels(&[("a", "1"), ("b", "2")]));
        let both = Selector::of_labels(&labels(&[("b", "2")]))
            .and(&Selector::of_labels(&labels(&[("a", "1")])));
        assert_eq!(ab, both);
        assert!(ab.matches(&labels(&[("a", "1"), ("b", "2"), ("c", "3")])));
        assert!(!ab.matches(&labels(&[("a", "1")])));
    }
}
