//! Definitions in groups of the community say who has approved them: `validateAPIApproval`, and
//! `pkg/apihelpers`.

use proto::path::Errors;
use proto::{Value, meta};

use super::props;
use crate::rules;
use crate::webhook;

const APPROVED: &str = "api-approved.kubernetes.io";
const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

#[derive(PartialEq, Eq)]
enum State {
    Missing,
    /// There is a reason why it is not approved.
    Bypassed,
    Approved,
    Invalid,
}

fn state(object: &Value) -> State {
    match meta::annotation(object, APPROVED).unwrap_or_default() {
        "" => State::Missing,
        text if text.starts_with("unapproved") => State::Bypassed,
        text if webhook::is_absolute_url(text) => State::Approved,
        _ => State::Invalid,
    }
}

fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"].into_iter().any(|domain| {
        let below = group.strip_suffix(domain);
        below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
    })
}

/// What was so before may stay so.
pub(super) fn validate(new: &Value, old: Option<&Value>, e: &mut Errors<'_>) {
    let now = state(new);
    if !is_protected(props::spec(new).group()) || old.is_some_and(|old| state(old) == now) {
        return;
    }
    let at = rules::annotation(new, APPROVED);
    let must = format!("protected groups must have approval annotation \"{APPROVED}\"");
    match now {
        State::Missing => e.required(at, format!("{must}, {SEE}")),
        State::Invalid => {
            let given = meta::annotation(new, APPROVED).unwrap_or_default();
            let detail =
                format!("{must} with either a URL or a reason starting with \"unapproved\", {SEE}");
            e.invalid(at, given, detail);
        }
        State::Approved | State::Bypassed => {}
    }
}
