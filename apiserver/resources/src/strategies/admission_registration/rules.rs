//! What webhooks and policies share: rules of what they are asked about, conditions, names.

use std::collections::HashSet;

use cel::admission::Use;
use proto::catalogue::{Gates, gate, names as n};
use proto::meta::names;
use proto::path::{Errors, Spot};
use proto::view::admissionregistration_v1::MatchCondition;
use proto::view::{List, Node};
use proto::{NameId, Value, meta};

use super::expressions::Expressions;
use crate::rules;

pub(super) const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
pub(super) const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
pub(super) const REINVOCATION_POLICIES: [&str; 2] = ["IfNeeded", "Never"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
const MOST_CONDITIONS: usize = 64;
const ANY: &str = "*";

/// The expressions of conditions that an object has.
pub(super) fn of_conditions<'a>(
    conditions: List<'a, MatchCondition<'a>>,
) -> impl Iterator<Item = (Use, &'a str)> {
    conditions
        .into_iter()
        .map(|c| (Use::Condition, c.expression()))
}

/// Names that only the server's own manifests may have (`ValidateStaticSuffix`), where it may have such.
pub(super) fn reserved_name(gates: Gates, object: &Value, e: &mut Errors<'_>) {
    let (name, suffix) = (meta::name(object), super::RESERVED_SUFFIX);
    if gates.has(gate::MANIFEST_BASED_ADMISSION_CONTROL_CONFIG)
        && name.ends_with(suffix)
        && let Some(metadata) = object.get(n::METADATA)
    {
        let detail = format!(
            "names ending with \"{suffix}\" are reserved for static manifest-based configurations and cannot be managed via the API"
        );
        e.invalid(Spot::node(metadata).field(n::NAME), name, detail);
    }
}

/// `validateRuleWithOperations`.
pub(super) fn rule(e: &mut Errors<'_>, rule: Node<'_>) {
    let at = Spot::node(rule.value());
    listed(e, rule, n::OPERATIONS, "operations");
    for item in rule.items(n::OPERATIONS) {
        let operation = item.as_str().unwrap_or_default();
        rules::known(e, Spot::node(item), operation, &OPERATIONS);
    }
    listed(e, rule, n::API_GROUPS, "API groups");
    listed(e, rule, n::API_VERSIONS, "API versions");
    for item in rule.items(n::API_VERSIONS) {
        if item.as_str() == Some("") {
            e.required(Spot::node(item), "");
        }
    }
    resources(e, rule);
    if let Some(scope) = rule.opt_str(n::SCOPE) {
        rules::known(e, at.field(n::SCOPE), scope, &SCOPES);
    }
}

/// There must be some; if one stands for all, it must be alone.
fn listed(e: &mut Errors<'_>, rule: Node<'_>, field: NameId, what: &str) {
    let (at, items) = (Spot::node(rule.value()).field(field), rule.items(field));
    if items.is_empty() {
        e.required(at, "");
    }
    if items.len() > 1 && rules::texts(items).any(|text| text == ANY) {
        let detail = format!("if '*' is present, must not specify other {what}");
        e.invalid(at, rules::json(rule.get(field)), detail);
    }
}

/// `validateResources`.
fn resources(e: &mut Errors<'_>, rule: Node<'_>) {
    let at = Spot::node(rule.value()).field(n::RESOURCES);
    let items = rule.items(n::RESOURCES);
    if items.is_empty() {
        e.required(at, "");
    }
    // `x/*` and `*/x` that stand before.
    let (mut all_below, mut below_all) = (HashSet::new(), HashSet::new());
    let (mut everything, mut any, mut plain) = (false, false, false);
    for item in items {
        let (at, text) = (Spot::node(item), item.as_str().unwrap_or_default());
        if text.is_empty() {
            e.required(at, "");
            continue;
        }
        everything |= text == "*/*";
        any |= text == ANY;
        let Some((resource, below)) = text.split_once('/') else {
            // As upstream: the last of them says it.
            plain = text != ANY;
            continue;
        };
        if all_below.contains(resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {text}");
            e.invalid(at, text, detail);
        }
        if below_all.contains(below) {
            let detail = format!("if '*/{below}' is present, must not specify {text}");
            e.invalid(at, text, detail);
        }
        if below == ANY {
            all_below.insert(resource);
        }
        if resource == ANY {
            below_all.insert(below);
        }
    }
    let shown = || rules::json(rule.get(n::RESOURCES));
    if items.len() > 1 && everything {
        let detail = "if '*/*' is present, must not specify other resources";
        e.invalid(at, shown(), detail);
    }
    if any && plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        e.invalid(at, shown(), detail);
    }
}

/// `validateMatchConditions`.
pub(super) fn conditions(
    e: &mut Errors<'_>,
    holder: Spot<'_>,
    conditions: List<'_, MatchCondition<'_>>,
    expressions: &mut Expressions<'_>,
) {
    if conditions.len() > MOST_CONDITIONS {
        let at = holder.field(n::MATCH_CONDITIONS);
        e.too_many(at, conditions.len(), MOST_CONDITIONS);
    }
    let mut seen = HashSet::new();
    for condition in conditions {
        let (at, name) = (Spot::of(condition), condition.name());
        match (at.field(n::EXPRESSION), condition.expression().trim()) {
            (at, "") => e.required(at, ""),
            (at, expression) => {
                let of = (Use::Condition, expression);
                expressions.check(e, at, of, of);
            }
        }
        if rules::required(e, condition, n::NAME) {
            rules::each(e, condition, n::NAME, names::label_key_problems(name));
            if !seen.insert(name) {
                e.duplicate(at.field(n::NAME), name);
            }
        }
    }
}
