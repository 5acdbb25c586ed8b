//! What selectors of a request require, as reviews tell it. Pure.
//!
//! Upstream: `fieldSelectorToAuthorizationAPI` and `labelSelectorToAuthorizationAPI` of
//! `apiserver/plugin/pkg/authorizer/webhook`.

use proto::selector::{FieldSelector, FieldTerm, LabelSelector, Operator};

/// One of several, all of which are required.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Requirement {
    pub(super) key: String,
    pub(super) operator: &'static str,
    pub(super) values: Vec<String>,
}

/// Of a selector by fields. Nothing if it cannot be understood: more is asked for then than was meant,
/// never less.
pub(super) fn fields(selector: &str) -> Vec<Requirement> {
    let Ok(selector) = FieldSelector::parse(selector) else {
        return Vec::new();
    };
    let term = |t: &FieldTerm| Requirement {
        key: t.field.to_string(),
        operator: if t.equal { "In" } else { "NotIn" },
        values: vec![t.value.to_string()],
    };
    selector.terms().iter().map(term).collect()
}

/// Of a selector by labels, in the same way.
pub(super) fn labels(selector: &str) -> Vec<Requirement> {
    let Ok(selector) = LabelSelector::parse(selector) else {
        return Vec::new();
    };
    let term = |r: &proto::selector::Requirement| {
        let operator = match r.operator() {
            Operator::In | Operator::Equals | Operator::DoubleEquals => "In",
            Operator::NotIn | Operator::NotEquals => "NotIn",
            Operator::Exists => "Exists",
            Operator::DoesNotExist => "DoesNotExist",
            // Reviews have no word for these.
            Operator::GreaterThan | Operator::LessThan => return None,
        };
        Some(Requirement {
            key: r.key().to_owned(),
            operator,
            values: r.values().map(str::to_owned).collect(),
        })
    };
    selector.requirements().iter().filter_map(term).collect()
}
