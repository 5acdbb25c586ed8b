//! The specification of a job, and of the template of one.

use proto::NameId;
use proto::catalogue::names as n;
use proto::path::{Errors, Named, Spot};
use proto::view::batch_v1::JobSpec;
use proto::view::{Node, View};

use super::policies;
use crate::rules;
use crate::shown::Internal;
use crate::strategies::pod_spec::{self, Options};

/// Of the pods of an indexed job, at a time.
const MAX_PARALLELISM: i64 = 100_000;
const MAX_FAILED_INDEXES: i64 = 100_000;
/// Above so many completions, other limits hold.
const MANY_COMPLETIONS: i64 = 100_000;
const MAX_OF_MANY: i64 = 10_000;
const MAX_MANAGER: usize = 63;

/// What declarative rules cannot say of a job's group (`validateGangMinCount`, `validateJobScheduling`): it has no more
/// pods than run at once, and is disrupted as a whole only if it is scheduled so.
fn scheduling(e: &mut Errors<'_>, spec: JobSpec<'_>) {
    let Some(scheduling) = spec.node().get(n::SCHEDULING) else {
        return;
    };
    let gang = scheduling.at(&[n::SCHEDULING_POLICY, n::GANG]);
    let gang = gang.filter(|gang| !gang.is_null());
    let parallelism = spec.parallelism().unwrap_or(1);
    if let Some(gang) = gang
        && let Some(least) = Node::new(gang).opt_int(n::MIN_COUNT)
        && least > parallelism
    {
        let detail = format!("must not be greater than parallelism ({parallelism})");
        e.invalid(Spot::node(gang).field(n::MIN_COUNT), least, detail);
    }
    let says = |way: &[NameId]| scheduling.at(way).is_some_and(|value| !value.is_null());
    let basic = gang.is_none() || says(&[n::SCHEDULING_POLICY, n::BASIC]);
    if basic && says(&[n::DISRUPTION_MODE, n::ALL]) {
        let at = Spot::node(scheduling).field(n::DISRUPTION_MODE);
        let detail = "the disruptionMode `all` is not supported with the Basic scheduling policy";
        e.invalid(at, "", detail);
    }
}

/// `validateJobSpec`.
pub(super) fn validate(e: &mut Errors<'_>, spec: JobSpec<'_>, options: &Options<'_>) {
    let at = Spot::of(spec);
    for field in [
        n::PARALLELISM,
        n::COMPLETIONS,
        n::ACTIVE_DEADLINE_SECONDS,
        n::BACKOFF_LIMIT,
        n::TTL_SECONDS_AFTER_FINISHED,
        n::BACKOFF_LIMIT_PER_INDEX,
        n::MAX_FAILED_INDEXES,
    ] {
        rules::not_negative(e, spec, field);
    }
    if spec.max_failed_indexes().is_some() && spec.backoff_limit_per_index().is_none() {
        let field = at.field(n::BACKOFF_LIMIT_PER_INDEX);
        e.required(field, "when maxFailedIndexes is specified");
    }
    if let Some(manager) = spec.managed_by() {
        let field = at.field(n::MANAGED_BY);
        rules::domain_prefixed_path(e, field, manager);
        if manager.len() > MAX_MANAGER {
            e.too_long(field, MAX_MANAGER);
        }
    }
    completion_mode(e, spec);
    if let Some(policy) = spec.pod_failure_policy() {
        policies::failure(e, spec, policy);
    }
    if let Some(policy) = spec.success_policy() {
        if spec.completion_mode() == Some("Indexed") {
            policies::success(e, spec, policy);
        } else {
            let shown = Internal::of(policy);
            e.invalid(Spot::of(policy), shown, "requires indexed completion mode");
        }
    }
    policies::replacement(e, spec);
    scheduling(e, spec);
    pod_spec::template(e, spec.template(), options);
    restart_policy(e, spec);
}

fn completion_mode(e: &mut Errors<'_>, spec: JobSpec<'_>) {
    let at = Spot::of(spec);
    let mode = spec.completion_mode();
    if let Some(mode) = mode {
        let allowed = ["NonIndexed", "Indexed"];
        rules::known(e, at.field(n::COMPLETION_MODE), mode, &allowed);
    }
    if mode == Some("Indexed") {
        return indexed(e, spec);
    }
    if mode.is_none_or(|mode| mode == "NonIndexed") {
        for field in [n::BACKOFF_LIMIT_PER_INDEX, n::MAX_FAILED_INDEXES] {
            if let Some(number) = spec.node().opt_int(field) {
                e.invalid(at.field(field), number, "requires indexed completion mode");
            }
        }
    }
}

fn indexed(e: &mut Errors<'_>, spec: JobSpec<'_>) {
    let at = Spot::of(spec);
    let (failed, parallelism) = (spec.max_failed_indexes(), spec.parallelism());
    let completions = spec.completions();
    if completions.is_none() {
        let text = "when completion mode is Indexed";
        e.required(at.field(n::COMPLETIONS), text);
    }
    if let Some(number) = parallelism.filter(|number| *number > MAX_PARALLELISM) {
        let detail = format!(
            "must be less than or equal to {MAX_PARALLELISM} when completion mode is Indexed"
        );
        e.invalid(at.field(n::PARALLELISM), number, detail);
    }
    if let (Some(completions), Some(number)) = (completions, failed)
        && number > completions
    {
        let text = "must be less than or equal to completions";
        e.invalid(at.field(n::MAX_FAILED_INDEXES), number, text);
    }
    if let Some(number) = failed.filter(|number| *number > MAX_FAILED_INDEXES) {
        let detail = format!("must be less than or equal to {MAX_FAILED_INDEXES}");
        e.invalid(at.field(n::MAX_FAILED_INDEXES), number, detail);
    }
    let many = completions.is_some_and(|number| number > MANY_COMPLETIONS);
    if !many || spec.backoff_limit_per_index().is_none() {
        return;
    }
    if failed.is_none() {
        let detail = format!("must be specified when completions is above {MANY_COMPLETIONS}");
        e.required(at.field(n::MAX_FAILED_INDEXES), detail);
    }
    for (field, number) in [
        (n::PARALLELISM, parallelism),
        (n::MAX_FAILED_INDEXES, failed),
    ] {
        if let Some(number) = number.filter(|number| *number > MAX_OF_MANY) {
            let detail = format!(
                "must be less than or equal to {MAX_OF_MANY} when completions are above {MANY_COMPLETIONS} and used with backoff limit per index"
            );
            e.invalid(at.field(field), number, detail);
        }
    }
}

/// Pods of a job end: they are not restarted for ever.
fn restart_policy(e: &mut Errors<'_>, spec: JobSpec<'_>) {
    let pod = spec.template().spec();
    let at = Spot::of(pod).field(n::RESTART_POLICY);
    match pod.restart_policy() {
        "Always" | "" => e.required(at, "valid values: \"OnFailure\", \"Never\""),
        "Never" => {}
        other if other != "OnFailure" => {
            e.not_supported(at, Named(other), &["OnFailure", "Never"]);
        }
        other => {
            if spec.pod_failure_policy().is_some() {
                let text = "only \"Never\" is supported when podFailurePolicy is specified";
                e.invalid(at, Named(other), text);
            }
        }
    }
}
