//! The status of a job, and what may become of it.
//!
//! Other controllers may write it (`spec.managedBy`): it has to be one that a job can have. What was
//! wrong before may stay as it was.

use std::collections::HashSet;

use proto::catalogue::{Gates, gate, messages::batch_v1, names as n};
use proto::path::{Errors, Spot};
use proto::view::batch_v1::{Job, JobSpec, JobStatus};
use proto::view::{Node, View};
use proto::{NameId, Value};

use super::policies::without_value;
use super::{condition_is, indexes, is, text};
use crate::equal;
use crate::rules;
use crate::shown::Internal;
use crate::strategies::apps::counters;

const NOTHING: &Value = &Value::Null;

/// A job's status beside the old one.
struct Change<'a> {
    new: &'a Value,
    old: &'a Value,
}

impl<'a> Change<'a> {
    fn spec(&self) -> JobSpec<'a> {
        Job::of(Node::new(self.new)).spec()
    }

    fn status(&self) -> JobStatus<'a> {
        Job::of(Node::new(self.new)).status()
    }

    fn at(&self, field: NameId) -> Spot<'a> {
        Spot::of(self.status()).field(field)
    }

    fn is(&self, condition: &str) -> bool {
        is(self.new, condition)
    }

    fn was(&self, condition: &str) -> bool {
        is(self.old, condition)
    }

    fn finished(&self) -> bool {
        self.is("Complete") || self.is("Failed")
    }

    fn became(&self, condition: &str) -> bool {
        self.is(condition) != self.was(condition)
    }

    fn finishes(&self) -> bool {
        self.finished() != (self.was("Complete") || self.was("Failed"))
    }

    fn changed(&self, field: NameId) -> bool {
        let of = |object: &'a Value| object.at(&[n::STATUS, field]).unwrap_or(NOTHING);
        !equal::same(of(self.new), of(self.old))
    }

    fn time(&self, field: NameId) -> Option<&'a Value> {
        self.status().node().get(field)
    }
}

/// `ValidateJobStatusUpdate`. Only where others may write it there is more to say of it than that its numbers are some.
pub(super) fn update(gates: Gates, e: &mut Errors<'_>, new: &Value, old: &Value) {
    let change = Change { new, old };
    numbers(e, change.status());
    if !gates.has(gate::JOB_MANAGED_BY) {
        return;
    }
    of_complete(e, &change);
    times(e, &change);
    conditions(e, &change);
    of_finished(e, &change);
    of_indexes(e, &change);
    pods(e, &change);
    criteria(e, &change);
    transitions(e, &change);
}

fn numbers(e: &mut Errors<'_>, status: JobStatus<'_>) {
    let fields = [n::ACTIVE, n::SUCCEEDED, n::FAILED, n::READY, n::TERMINATING];
    counters(e, status, &fields);
    let Some(uncounted) = status.uncounted_terminated_pods() else {
        return;
    };
    let mut seen = HashSet::new();
    for field in [n::SUCCEEDED, n::FAILED] {
        for (i, uid) in uncounted.node().items(field).iter().enumerate() {
            let at = Spot::of(uncounted).field(field).index(i);
            match uid.as_str().unwrap_or_default() {
                "" => e.invalid(at, "", "must not be empty"),
                uid if !seen.insert(uid) => e.duplicate(at, rules::json(Some(&uid.into()))),
                _ => {}
            }
        }
    }
}

fn of_complete(e: &mut Errors<'_>, change: &Change<'_>) {
    let completes = change.became("Complete");
    for (other, name) in [("Failed", "Failed"), ("FailureTarget", "FailureTarget")] {
        if (completes || change.became(other)) && change.is("Complete") && change.is(other) {
            let text = format!("cannot set Complete=True and {name}=true conditions");
            without_value(e, change.at(n::CONDITIONS), text);
        }
    }
}

fn times(e: &mut Errors<'_>, change: &Change<'_>) {
    let (start, end) = (change.time(n::START_TIME), change.time(n::COMPLETION_TIME));
    let at = change.at(n::COMPLETION_TIME);
    if change.became("Complete") || change.changed(n::COMPLETION_TIME) {
        if end.is_some() && !change.is("Complete") {
            let text = "cannot set completionTime when there is no Complete=True condition";
            e.invalid(at, rules::json(end), text);
        }
        if end.is_none() && change.is("Complete") {
            e.required(at, "completionTime is required for Complete jobs");
        }
    }
    let seconds = |value: Option<&Value>| proto::time::unix_of(value?.as_str()?);
    if (change.changed(n::START_TIME) || change.changed(n::COMPLETION_TIME))
        && let (Some(from), Some(to)) = (seconds(start), seconds(end))
        && to < from
    {
        e.invalid(
            at,
            rules::json(end),
            "must be equal to or after `startTime`",
        );
    }
}

fn conditions(e: &mut Errors<'_>, change: &Change<'_>) {
    let at = change.at(n::CONDITIONS);
    if (change.became("Failed") || change.changed(n::FAILED_INDEXES))
        && change.is("Failed")
        && !change.is("FailureTarget")
    {
        let text = "cannot set Failed=True condition without the FailureTarget=true condition";
        without_value(e, at, text);
    }
    if (change.became("Complete") || change.became("SuccessCriteriaMet"))
        && change.is("Complete")
        && !change.is("SuccessCriteriaMet")
    {
        let text =
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        without_value(e, at, text);
    }
}

fn of_finished(e: &mut Errors<'_>, change: &Change<'_>) {
    let status = change.status();
    let (finished, finishes) = (change.finished(), change.finishes());
    if (finishes || change.changed(n::ACTIVE)) && finished && status.active() > 0 {
        let text = "active>0 is invalid for finished job";
        e.invalid(change.at(n::ACTIVE), status.active(), text);
    }
    let spec = change.spec();
    let never_runs = spec.suspend() == Some(true) && spec.completions() == Some(0);
    if (finishes || change.changed(n::START_TIME))
        && !never_runs
        && finished
        && change.time(n::START_TIME).is_none()
    {
        let text = "startTime is required for finished job";
        e.required(change.at(n::START_TIME), text);
    }
    if (finishes || change.changed(n::UNCOUNTED_TERMINATED_PODS))
        && finished
        && let Some(uncounted) = status.uncounted_terminated_pods()
        && !(uncounted.succeeded().is_empty() && uncounted.failed().is_empty())
    {
        let at = change.at(n::UNCOUNTED_TERMINATED_PODS);
        let shown = Internal(
            Some(uncounted.node().value()),
            batch_v1::UNCOUNTED_TERMINATED_PODS,
        );
        e.invalid(at, shown, "must be empty for finished job");
    }
}

fn of_indexes(e: &mut Errors<'_>, change: &Change<'_>) {
    let (spec, status) = (change.spec(), change.status());
    let (completed, failed) = (status.completed_indexes(), status.failed_indexes());
    let (at, at_failed) = (
        change.at(n::COMPLETED_INDEXES),
        change.at(n::FAILED_INDEXES),
    );
    let (completes, fails) = (
        change.changed(n::COMPLETED_INDEXES),
        change.changed(n::FAILED_INDEXES),
    );
    let completions = spec.completions();
    let per_index = spec.backoff_limit_per_index().is_some();
    if completes
        && let Some(completions) = completions
        && let Err(error) = indexes::count(completed, completions)
    {
        let detail = format!("error parsing completedIndexes: {error}");
        e.invalid(at, completed, detail);
    }
    if fails
        && per_index
        && let (Some(completions), Some(failed)) = (completions, failed)
        && let Err(error) = indexes::count(failed, completions)
    {
        let detail = format!("error parsing failedIndexes: {error}");
        e.invalid(at_failed, proto::path::Named(failed), detail);
    }
    if completes && !completed.is_empty() && spec.completion_mode() != Some("Indexed") {
        let text = "cannot set non-empty completedIndexes when non-indexed completion mode";
        e.invalid(at, completed, text);
    }
    let Some(failed) = failed else { return };
    if fails && !per_index {
        let text = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        e.invalid(at_failed, failed, text);
    }
    if (fails || completes)
        && let Some(completions) = completions
        && let Some(index) = indexes::overlap(completed, failed, completions)
    {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
        e.invalid(at_failed, failed, detail);
    }
}

fn pods(e: &mut Errors<'_>, change: &Change<'_>) {
    let status = change.status();
    let (terminating, ready) = (status.terminating().unwrap_or(0), status.ready());
    if (change.finishes() || change.changed(n::TERMINATING)) && terminating > 0 && change.finished()
    {
        let text = "terminating>0 is invalid for finished job";
        e.invalid(change.at(n::TERMINATING), terminating, text);
    }
    if (change.changed(n::READY) || change.changed(n::ACTIVE))
        && let Some(ready) = ready.filter(|ready| *ready > status.active())
    {
        let text = "cannot set more ready pods than active";
        e.invalid(change.at(n::READY), ready, text);
    }
}

fn criteria(e: &mut Errors<'_>, change: &Change<'_>) {
    let at = change.at(n::CONDITIONS);
    let met = change.is("SuccessCriteriaMet");
    for other in ["Failed", "FailureTarget"] {
        if met && change.is(other) {
            let text = format!("cannot set SuccessCriteriaMet=True and {other}=true conditions");
            without_value(e, at, text);
        }
    }
    if change.spec().success_policy().is_some() && !met && change.is("Complete") {
        let text =
            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        without_value(e, at, text);
    }
}

fn transitions(e: &mut Errors<'_>, change: &Change<'_>) {
    let (spec, status) = (change.spec(), change.status());
    let was = Job::of(Node::new(change.old)).status();
    let at = change.at(n::CONDITIONS);
    for condition in ["Failed", "Complete", "FailureTarget"] {
        if change.was(condition) && !change.is(condition) {
            let text = format!("cannot disable the terminal {condition}=True condition");
            without_value(e, at, text);
        }
    }
    if status.failed() < was.failed() {
        let text = "cannot decrease the failed counter";
        e.invalid(change.at(n::FAILED), status.failed(), text);
    }
    // All pods of such a job may go.
    let scales =
        spec.completion_mode() == Some("Indexed") && spec.completions() == spec.parallelism();
    if !scales && status.succeeded() < was.succeeded() {
        let text = "cannot decrease the succeeded counter";
        e.invalid(change.at(n::SUCCEEDED), status.succeeded(), text);
    }
    let time = |object, field| Some(text(object, &[n::STATUS, field])).filter(|t| !t.is_empty());
    if let (Some(now), Some(then)) = (
        time(change.new, n::COMPLETION_TIME),
        time(change.old, n::COMPLETION_TIME),
    ) && now != then
    {
        let shown = rules::json(change.time(n::COMPLETION_TIME));
        e.invalid(change.at(n::COMPLETION_TIME), shown, rules::IMMUTABLE);
    }
    let resumes = change.was("Suspended") && condition_is(change.new, "Suspended", "False");
    if change.changed(n::START_TIME)
        && !resumes
        && time(change.old, n::START_TIME).is_some()
        && spec.suspend() != Some(true)
    {
        let shown = rules::json(change.time(n::START_TIME));
        let text = "field is immutable for unsuspended job once set";
        e.invalid(change.at(n::START_TIME), shown, text);
    }
    if change.was("SuccessCriteriaMet") && !change.is("SuccessCriteriaMet") {
        let text = "cannot disable the SuccessCriteriaMet=True condition";
        without_value(e, at, text);
    }
    if change.was("Complete")
        && !change.was("SuccessCriteriaMet")
        && change.is("SuccessCriteriaMet")
    {
        let text =
            "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        without_value(e, at, text);
    }
}
