//! Where a pod may and should run: by nodes, by other pods, and spread over nodes.
//!
//! Upstream: `validateAffinity`, `validateTopologySpreadConstraints` and below.

use std::collections::HashSet;

use proto::catalogue::{Gates, gate, names as n};
use proto::meta::names;
use proto::path::{Errors, FieldError, Named, Spot};
use proto::selector::{SelectorRules, validate_label_selector};
use proto::view::core_v1::{
    Affinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSpec,
    TopologySpreadConstraint,
};
use proto::view::{List, Node, View};
use proto::{Map, Value};

use super::{Kept, Options};
use crate::rules;

const BOTH: &str = "exists in both matchLabelKeys and labelSelector";
const NO_SELECTOR: &str = "must not be specified when labelSelector is not set";
const POLICIES: [&str; 2] = ["Honor", "Ignore"];

pub(super) fn affinity(e: &mut Errors<'_>, spec: PodSpec<'_>, options: &Options<'_>) {
    let Some(affinity) = spec.affinity() else {
        return;
    };
    if let Some(nodes) = affinity.node_affinity() {
        if let Some(selector) = nodes.required_during_scheduling_ignored_during_execution() {
            node_selector(e, selector, options.kept.values_of_nodes);
        }
        for term in nodes.preferred_during_scheduling_ignored_during_execution() {
            weight(e, Spot::of(term), term.weight());
            // A value that no label can have is only a preference that nothing fulfils.
            node_selector_term(e, term.preference(), true);
        }
    }
    for pods in pod_terms(affinity) {
        match pods {
            Term::Required(term) => pod_term(e, term, options.kept),
            Term::Preferred(at, term, share) => {
                weight(e, at, share);
                pod_term(e, term, options.kept);
            }
        }
    }
}

/// A term about other pods, with the weight of those that are preferred.
enum Term<'a> {
    Required(PodAffinityTerm<'a>),
    Preferred(Spot<'a>, PodAffinityTerm<'a>, i64),
}

/// All terms about other pods, in upstream's order.
fn pod_terms(affinity: Affinity<'_>) -> Vec<Term<'_>> {
    let sides = [n::POD_AFFINITY, n::POD_ANTI_AFFINITY];
    let mut all = Vec::new();
    for side in sides
        .into_iter()
        .filter_map(|side| affinity.node().get(side))
    {
        let side = proto::view::core_v1::PodAffinity::of(Node::new(side));
        let required = side.required_during_scheduling_ignored_during_execution();
        all.extend(required.iter().map(Term::Required));
        let preferred = side.preferred_during_scheduling_ignored_during_execution();
        all.extend(preferred.iter().map(|weighted| {
            Term::Preferred(
                Spot::of(weighted),
                weighted.pod_affinity_term(),
                weighted.weight(),
            )
        }));
    }
    all
}

fn weight(e: &mut Errors<'_>, at: Spot<'_>, weight: i64) {
    if !(1..=100).contains(&weight) {
        e.invalid(at.field(n::WEIGHT), weight, "must be in the range 1-100");
    }
}

/// `ValidateNodeSelector`; `lenient` lets values pass that no label can have.
pub fn node_selector(e: &mut Errors<'_>, selector: NodeSelector<'_>, lenient: bool) {
    let terms = selector.node_selector_terms();
    if terms.is_empty() {
        let field = Spot::of(selector).field(n::NODE_SELECTOR_TERMS);
        e.required(field, "must have at least one node selector term");
    }
    for term in terms {
        node_selector_term(e, term, lenient);
    }
}

/// `ValidateNodeSelectorTerm`.
pub fn node_selector_term(e: &mut Errors<'_>, term: NodeSelectorTerm<'_>, lenient: bool) {
    for requirement in term.match_expressions() {
        label_requirement(e, requirement, lenient);
    }
    for requirement in term.match_fields() {
        field_requirement(e, requirement);
    }
}

fn label_requirement(e: &mut Errors<'_>, requirement: NodeSelectorRequirement<'_>, lenient: bool) {
    let at = Spot::of(requirement);
    let values = requirement.values();
    match requirement.operator() {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            e.required(at.field(n::VALUES), detail);
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            e.forbidden(at.field(n::VALUES), detail);
        }
        "Gt" | "Lt" if values.len() != 1 => {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            e.required(at.field(n::VALUES), detail);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => {
            let detail = "not a valid selector operator";
            e.invalid(at.field(n::OPERATOR), Named(other), detail);
        }
    }
    let key = requirement.key();
    e.invalid_each(at.field(n::KEY), key, names::label_key_problems(key));
    for (i, value) in values.iter().filter_map(Value::as_str).enumerate() {
        if !lenient {
            let problems = names::label_value_problems(value);
            e.invalid_each(at.field(n::VALUES).index(i), value, problems);
        }
    }
}

fn field_requirement(e: &mut Errors<'_>, requirement: NodeSelectorRequirement<'_>) {
    let at = Spot::of(requirement);
    match requirement.operator() {
        "In" | "NotIn" if requirement.values().len() != 1 => {
            let detail =
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            e.required(at.field(n::VALUES), detail);
        }
        "In" | "NotIn" => {}
        other => {
            let detail = "not a valid selector operator";
            e.invalid(at.field(n::OPERATOR), Named(other), detail);
        }
    }
    if requirement.key() != "metadata.name" {
        let detail = "not a valid field selector key";
        e.invalid(at.field(n::KEY), requirement.key(), detail);
        return;
    }
    for (i, name) in requirement
        .values()
        .iter()
        .filter_map(Value::as_str)
        .enumerate()
    {
        let problems = names::subdomain_name(name, false);
        e.invalid_each(at.field(n::VALUES).index(i), name, problems);
    }
}

fn pod_term(e: &mut Errors<'_>, term: PodAffinityTerm<'_>, kept: Kept) {
    let at = Spot::of(term);
    selectors(e, term, kept.values_of_pods);
    for name in term.namespaces().iter().filter_map(Value::as_str) {
        // The path is upstream's.
        let path = rules::beside(e, at, ".namespace");
        for problem in names::label_name(name, false) {
            e.push(FieldError::invalid(path.as_str(), name, problem));
        }
    }
    let selector = term.node().get(n::LABEL_SELECTOR);
    let (matched, mismatched) = (term.match_label_keys(), term.mismatch_label_keys());
    label_keys(e, at, matched, mismatched, selector);
    let key = term.topology_key();
    if key.is_empty() {
        e.required(at.field(n::TOPOLOGY_KEY), "can not be empty");
    }
    e.invalid_each(
        at.field(n::TOPOLOGY_KEY),
        key,
        names::label_key_problems(key),
    );
}

fn selectors(e: &mut Errors<'_>, term: PodAffinityTerm<'_>, lenient: bool) {
    let rules = SelectorRules {
        allow_invalid_values: lenient,
        ..SelectorRules::default()
    };
    for field in [n::LABEL_SELECTOR, n::NAMESPACE_SELECTOR] {
        if let Some(selector) = term.node().get(field) {
            validate_label_selector(selector, rules, e);
        }
    }
}

/// `ValidateMatchLabelKeysAndMismatchLabelKeys`.
fn label_keys(
    e: &mut Errors<'_>,
    at: Spot<'_>,
    matched: &[Value],
    mismatched: &[Value],
    selector: Option<&Value>,
) {
    for (keys, field) in [
        (matched, n::MATCH_LABEL_KEYS),
        (mismatched, n::MISMATCH_LABEL_KEYS),
    ] {
        if !keys.is_empty() && selector.is_none() {
            e.forbidden(at.field(field), NO_SELECTOR);
            continue;
        }
        for (i, key) in rules::texts(keys).enumerate() {
            let problems = names::label_key_problems(key);
            e.invalid_each(at.field(field).index(i), key, problems);
        }
    }
    if let Some(selector) = selector.map(Node::new) {
        // What the server made of a key is the first of its expressions.
        let labels = selector.dict(n::MATCH_LABELS).iter();
        let mut seen: HashSet<&str> = labels.map(|(key, _)| key.as_str()).collect();
        for expression in selector.items(n::MATCH_EXPRESSIONS).iter().map(Node::new) {
            let key = expression.str(n::KEY);
            let place = rules::texts(matched).enumerate().filter(|(_, k)| *k == key);
            if let Some((i, _)) = place.last().filter(|_| seen.contains(key)) {
                e.invalid(at.index(i), key, BOTH);
            }
            seen.insert(key);
        }
    }
    for (i, key) in rules::texts(matched).enumerate() {
        if rules::texts(mismatched).any(|other| other == key) {
            let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
            e.invalid(at.field(n::MATCH_LABEL_KEYS).index(i), key, detail);
        }
    }
}

pub(super) fn spread(e: &mut Errors<'_>, spec: PodSpec<'_>, options: &Options<'_>) {
    let all = spec.topology_spread_constraints();
    for (i, constraint) in all.iter().enumerate() {
        let at = Spot::of(constraint);
        positive(e, at.field(n::MAX_SKEW), constraint.max_skew());
        let (key, action) = (constraint.topology_key(), constraint.when_unsatisfiable());
        if key.is_empty() {
            e.required(at.field(n::TOPOLOGY_KEY), "can not be empty");
        }
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        rules::known(e, at.field(n::WHEN_UNSATISFIABLE), action, &actions);
        let same = |c: TopologySpreadConstraint<'_>| {
            c.topology_key() == key && c.when_unsatisfiable() == action
        };
        if all.iter().skip(i + 1).any(same) {
            let path = rules::beside(e, at, ".{topologyKey, whenUnsatisfiable}");
            let shown = proto::path::quote(&format!("{{{key}, {action}}}"));
            e.push(FieldError::new(
                proto::path::Reason::Duplicate,
                path,
                shown,
                "",
            ));
        }
        if let Some(domains) = constraint.min_domains() {
            positive(e, at.field(n::MIN_DOMAINS), domains);
            if action != "DoNotSchedule" {
                let detail = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                );
                e.invalid(at.field(n::MIN_DOMAINS), domains, detail);
            }
        }
        for (field, policy) in [
            (n::NODE_AFFINITY_POLICY, constraint.node_affinity_policy()),
            (n::NODE_TAINTS_POLICY, constraint.node_taints_policy()),
        ] {
            if let Some(policy) = policy {
                rules::known(e, at.field(field), policy, &POLICIES);
            }
        }
        let selector = constraint.node().get(n::LABEL_SELECTOR);
        // Of the rules before and after there were merges, whichever an old pod does not break.
        let keys = gate::MATCH_LABEL_KEYS_IN_POD_TOPOLOGY_SPREAD;
        let merges = gate::MATCH_LABEL_KEYS_IN_POD_TOPOLOGY_SPREAD_SELECTOR_MERGE;
        let by_old = match options.gates.has(merges) {
            _ if !options.gates.has(keys) => true,
            true => options.kept.keys_of_spread,
            false => !options.kept.old_keys_of_spread,
        };
        if by_old {
            old_label_keys(e, constraint, selector);
        } else {
            label_keys(e, at, constraint.match_label_keys(), &[], selector);
        }
        if let Some(selector) = selector.filter(|_| !options.kept.selectors_of_spread) {
            validate_label_selector(selector, SelectorRules::default(), e);
        }
    }
}

fn positive(e: &mut Errors<'_>, at: Spot<'_>, number: i64) {
    if number <= 0 {
        e.invalid(at, number, "must be greater than zero");
    }
}

/// `ValidateMatchLabelKeysInTopologySpread`: the rule of pods from before the server merged keys into the
/// selector.
fn old_label_keys(
    e: &mut Errors<'_>,
    constraint: TopologySpreadConstraint<'_>,
    selector: Option<&Value>,
) {
    let keys = constraint.match_label_keys();
    if keys.is_empty() {
        return;
    }
    let at = Spot::of(constraint).field(n::MATCH_LABEL_KEYS);
    if selector.is_none() {
        e.forbidden(at, NO_SELECTOR);
    }
    let selector = selector.map(Node::new);
    let selects = |key: &str| {
        selector.is_some_and(|s| {
            let mut all = s.items(n::MATCH_EXPRESSIONS).iter().map(Node::new);
            s.dict(n::MATCH_LABELS).contains(key) || all.any(|x| x.str(n::KEY) == key)
        })
    };
    for (i, key) in rules::texts(keys).enumerate() {
        e.invalid_each(at.index(i), key, names::label_key_problems(key));
        if selects(key) {
            e.invalid(at.index(i), key, BOTH);
        }
    }
}

/// Faults that a pod which is there may keep; see [`Kept`].
pub(super) fn keep(kept: &mut Kept, spec: PodSpec<'_>) {
    let affinity = spec.affinity();
    let required = affinity
        .and_then(|a| a.node_affinity())
        .and_then(|a| a.required_during_scheduling_ignored_during_execution());
    let terms = required.map(|r| r.node_selector_terms());
    kept.values_of_nodes = terms.into_iter().flat_map(List::iter).any(|term| {
        let values = term.match_expressions().iter().flat_map(|x| x.values());
        { values }.any(|v| !names::label_value_problems(v.as_str().unwrap_or_default()).is_empty())
    });
    kept.values_of_pods = affinity.is_some_and(|affinity| {
        let terms = pod_terms(affinity).into_iter();
        { terms }.any(|term| {
            let (Term::Required(term) | Term::Preferred(_, term, _)) = term;
            rules::breaks(|e| selectors(e, term, false))
        })
    });
    for constraint in spec.topology_spread_constraints() {
        let selector = constraint.node().get(n::LABEL_SELECTOR);
        let keys = constraint.match_label_keys();
        kept.keys_of_spread |=
            rules::breaks(|e| label_keys(e, Spot::of(constraint), keys, &[], selector));
        kept.old_keys_of_spread |= rules::breaks(|e| old_label_keys(e, constraint, selector));
        kept.selectors_of_spread |= selector.is_some_and(|selector| {
            rules::breaks(|e| validate_label_selector(selector, SelectorRules::default(), e))
        });
    }
}

/// What the keys of labels select: the server adds it to the selectors of a new pod.
pub fn merge_label_keys(gates: Gates, pod: &mut Value) {
    let labels = proto::meta::labels(pod).clone();
    let Some(spec) = pod.get_mut(n::SPEC) else {
        return;
    };
    let sides = [n::POD_AFFINITY, n::POD_ANTI_AFFINITY];
    let by_pods = gates.has(gate::MATCH_LABEL_KEYS_IN_POD_AFFINITY);
    for side in sides.into_iter().filter(|_| by_pods) {
        let Some(side) = spec.at_mut(&[n::AFFINITY, side]) else {
            continue;
        };
        let terms = [
            n::PREFERRED_DURING_SCHEDULING_IGNORED_DURING_EXECUTION,
            n::REQUIRED_DURING_SCHEDULING_IGNORED_DURING_EXECUTION,
        ];
        for list in terms {
            let items = side.get_mut(list).and_then(Value::as_list_mut);
            for item in items.into_iter().flatten() {
                if item.get(n::POD_AFFINITY_TERM).is_some() {
                    let term = item.ensure(&[n::POD_AFFINITY_TERM]);
                    merge(term, &labels);
                } else {
                    merge(item, &labels);
                }
            }
        }
    }
    if !gates.has(gate::MATCH_LABEL_KEYS_IN_POD_TOPOLOGY_SPREAD)
        || !gates.has(gate::MATCH_LABEL_KEYS_IN_POD_TOPOLOGY_SPREAD_SELECTOR_MERGE)
    {
        return;
    }
    let constraints = spec.get_mut(n::TOPOLOGY_SPREAD_CONSTRAINTS);
    for constraint in constraints
        .and_then(Value::as_list_mut)
        .into_iter()
        .flatten()
    {
        merge(constraint, &labels);
    }
}

fn merge(term: &mut Value, labels: &Map) {
    let mut added = Vec::new();
    for (field, operator) in [
        (n::MATCH_LABEL_KEYS, "In"),
        (n::MISMATCH_LABEL_KEYS, "NotIn"),
    ] {
        let keys = term.get(field).and_then(Value::as_list).unwrap_or_default();
        for key in rules::texts(keys) {
            let Some(value) = labels.get(key) else {
                continue;
            };
            let mut expression = Value::object();
            expression.set(&[n::KEY], key);
            expression.set(&[n::OPERATOR], operator);
            expression.set(&[n::VALUES], vec![value.clone()]);
            added.push(expression);
        }
    }
    if let Some(selector) = term.get_mut(n::LABEL_SELECTOR).filter(|s| !s.is_null())
        && !added.is_empty()
    {
        selector
            .ensure(&[n::MATCH_EXPRESSIONS])
            .make_list()
            .append(&mut added);
    }
}
