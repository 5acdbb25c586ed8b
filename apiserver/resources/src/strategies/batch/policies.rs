//! What the end of single pods means for a job: failure policy and success policy.

use std::collections::HashSet;

use proto::Value;
use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Named, Reason, Spot};
use proto::view::batch_v1::{
    JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule, SuccessPolicy, SuccessPolicyRule,
};
use proto::view::{List, View};

use super::indexes;
use crate::rules;

const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_CONDITIONS: usize = 20;
const MAX_INDEXES: usize = 64 * 1024;

/// The values of Go's `%q` of a list.
fn valid(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|v| proto::path::quote(v)).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

/// A string of a named type that must be given, with a hint, and one of a list.
fn choice(e: &mut Errors<'_>, at: Spot<'_>, value: &str, allowed: &[&str]) {
    if value.is_empty() {
        e.required(at, valid(allowed));
    } else {
        rules::known(e, at, value, allowed);
    }
}

/// An error that shows no value.
pub(super) fn without_value(e: &mut Errors<'_>, at: Spot<'_>, text: impl Into<String>) {
    e.add(Reason::Invalid, at, String::new(), text);
}

/// `validatePodFailurePolicy`.
pub(super) fn failure(e: &mut Errors<'_>, spec: JobSpec<'_>, policy: PodFailurePolicy<'_>) {
    let all = policy.rules();
    if all.len() > MAX_RULES {
        e.too_many(Spot::of(policy).field(n::RULES), all.len(), MAX_RULES);
    }
    let pod = spec.template().spec();
    let containers = pod.containers().iter().chain(pod.init_containers().iter());
    let containers: HashSet<&str> = containers.map(|c| c.name()).collect();
    for rule in all {
        failure_rule(e, spec, rule, &containers);
    }
}

fn failure_rule(
    e: &mut Errors<'_>,
    spec: JobSpec<'_>,
    rule: PodFailurePolicyRule<'_>,
    containers: &HashSet<&str>,
) {
    let at = Spot::of(rule);
    match rule.action() {
        "FailIndex" => {
            if spec.backoff_limit_per_index().is_none() {
                let text = "requires the backoffLimitPerIndex to be set";
                e.invalid(at.field(n::ACTION), Named(rule.action()), text);
            }
        }
        other => {
            let allowed = ["Count", "FailIndex", "FailJob", "Ignore"];
            choice(e, at.field(n::ACTION), other, &allowed);
        }
    }
    let (codes, conditions) = (rule.on_exit_codes(), rule.on_pod_conditions());
    if let Some(codes) = codes {
        exit_codes(e, codes, containers);
    }
    if !conditions.is_empty() {
        pod_conditions(e, rule, conditions);
    }
    match (codes.is_some(), !conditions.is_empty()) {
        (true, true) => {
            let text = "specifying both OnExitCodes and OnPodConditions is not supported";
            without_value(e, at, text);
        }
        (false, false) => {
            let text = "specifying one of OnExitCodes and OnPodConditions is required";
            without_value(e, at, text);
        }
        _ => {}
    }
}

fn pod_conditions(
    e: &mut Errors<'_>,
    rule: PodFailurePolicyRule<'_>,
    patterns: List<'_, PodFailurePolicyOnPodConditionsPattern<'_>>,
) {
    if patterns.len() > MAX_CONDITIONS {
        let at = Spot::of(rule).field(n::ON_POD_CONDITIONS);
        e.too_many(at, patterns.len(), MAX_CONDITIONS);
    }
    for pattern in patterns {
        let kind = pattern.r#type();
        rules::each(e, pattern, n::TYPE, names::label_key_problems(kind));
        let at = Spot::of(pattern).field(n::STATUS);
        choice(e, at, pattern.status(), &["False", "True", "Unknown"]);
    }
}

fn exit_codes(
    e: &mut Errors<'_>,
    codes: PodFailurePolicyOnExitCodesRequirement<'_>,
    containers: &HashSet<&str>,
) {
    let at = Spot::of(codes);
    choice(e, at.field(n::OPERATOR), codes.operator(), &["In", "NotIn"]);
    if let Some(name) = codes.container_name()
        && !containers.contains(name)
    {
        let text = "must be one of the container or initContainer names in the pod template";
        e.invalid(at.field(n::CONTAINER_NAME), name, text);
    }
    let values = codes.node().items(n::VALUES);
    let shown = || rules::json(codes.node().get(n::VALUES));
    if values.is_empty() {
        e.invalid(
            at.field(n::VALUES),
            shown(),
            "at least one value is required",
        );
    } else if values.len() > MAX_EXIT_CODES {
        e.too_many(at.field(n::VALUES), values.len(), MAX_EXIT_CODES);
    }
    let mut seen = HashSet::new();
    let numbers: Vec<i64> = values.iter().map(|v| v.as_int().unwrap_or(0)).collect();
    for (i, code) in numbers.iter().enumerate() {
        let at = at.field(n::VALUES).index(i);
        if codes.operator() == "In" && *code == 0 {
            e.invalid(at, *code, "must not be 0 for the In operator");
        }
        if !seen.insert(*code) {
            e.duplicate(at, *code);
        }
    }
    if !numbers.is_sorted() {
        e.invalid(at.field(n::VALUES), shown(), "must be ordered");
    }
}

/// `validateSuccessPolicy`.
pub(super) fn success(e: &mut Errors<'_>, spec: JobSpec<'_>, policy: SuccessPolicy<'_>) {
    let (at, all) = (Spot::of(policy).field(n::RULES), policy.rules());
    if all.is_empty() {
        let text = "at least one rules must be specified when the successPolicy is specified";
        e.required(at, text);
    }
    if all.len() > MAX_RULES {
        e.too_many(at, all.len(), MAX_RULES);
    }
    for rule in all {
        success_rule(e, rule, spec.completions().unwrap_or(0));
    }
}

fn success_rule(e: &mut Errors<'_>, rule: SuccessPolicyRule<'_>, completions: i64) {
    let at = Spot::of(rule);
    let (count, text) = (rule.succeeded_count(), rule.succeeded_indexes());
    if count.is_none() && text.is_none() {
        let text = "at least one of succeededCount or succeededIndexes must be specified";
        e.required(at, text);
    }
    let mut total = 0;
    if let Some(text) = text {
        let at = at.field(n::SUCCEEDED_INDEXES);
        if text.len() > MAX_INDEXES {
            e.too_long(at, MAX_INDEXES);
        }
        match indexes::count(text, completions) {
            Ok(count) => total = count,
            Err(error) => {
                e.invalid(at, text, format!("error parsing succeededIndexes: {error}"));
            }
        }
    }
    if let Some(count) = count {
        rules::not_negative(e, rule, n::SUCCEEDED_COUNT);
        let at = at.field(n::SUCCEEDED_COUNT);
        if count > completions {
            let detail = format!(
                "must be less than or equal to {completions} (the number of specified completions)"
            );
            e.invalid(at, count, detail);
        }
        if text.is_some() && count > total {
            let detail = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            e.invalid(at, count, detail);
        }
    }
}

/// `validatePodReplacementPolicy`.
pub(super) fn replacement(e: &mut Errors<'_>, spec: JobSpec<'_>) {
    if let Some(policy) = spec
        .node()
        .get(n::POD_REPLACEMENT_POLICY)
        .and_then(Value::as_str)
    {
        let allowed: &[&str] = if spec.pod_failure_policy().is_some() {
            &["Failed"]
        } else {
            &["Failed", "TerminatingOrFailed"]
        };
        let at = Spot::of(spec).field(n::POD_REPLACEMENT_POLICY);
        rules::known(e, at, policy, allowed);
    }
}
