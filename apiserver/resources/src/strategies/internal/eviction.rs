//! How an eviction goes on (KEP-4563): `ValidateEvictionStatus` in `pkg/apis/lifecycle/validation`.
//!
//! The controller, those who respond and those who asked write one status. So that none of them can break it, an update has to
//! be a step that the controller could have made: responders have their turn one after the other by their priority, a turn
//! that is over stays over, and only whose turn it is may say how he gets on.

use std::cmp::{Ordering, Reverse};
use std::collections::HashSet;

use proto::catalogue::messages::lifecycle_v1alpha1::{RESPONDER_STATUS, TARGET_RESPONDER};
use proto::catalogue::messages::meta_v1::CONDITION;
use proto::catalogue::names as n;
use proto::path::{Errors, Named, Spot};
use proto::time::unix_of;
use proto::view::lifecycle_v1alpha1::{Eviction, EvictionStatus, ResponderStatus, TargetResponder};
use proto::view::{List, Node, View};
use proto::{NameId, Value, meta};

use crate::equal::alike;
use crate::rules;
use crate::shown::Internal;

/// Responders of a pod, and the one of Kubernetes.
const MOST_RESPONDERS: usize = 11;
/// Who evicts when nobody else has: Kubernetes itself, with this priority.
const LAST: (&str, i64) = ("imperative-eviction.k8s.io/evictor", 100);
/// Priorities below are those of Kubernetes' own responders.
const FIRST_PRIORITY: i64 = 1000;
/// Seconds without a sign of life after which a turn is over, by which clocks may differ, and that a responder may take.
const HEARTBEAT: i64 = 20 * 60;
const SKEW: i64 = 30;
const LONGEST: i64 = 10 * 365 * 24 * 60 * 60;

const ACTIVE: &str = "Active";
const INACTIVE: &str = "Inactive";
/// States in which a turn is over.
const PAST: [&str; 3] = ["Canceled", "Completed", "Interrupted"];

/// An update of the status, at a time.
pub(super) fn status(now: i64, new: &Value, old: &Value, e: &mut Errors<'_>) {
    let status = |object| Eviction::of(Node::new(object)).status();
    let (new, old) = (status(new), status(old));
    let is_final = conditions(e, new, old);
    turns(e, new, old, is_final, now);
    reports(e, new, old, now);
}

/// Of an eviction alone: what is read off its conditions is in `turns`.
fn conditions(e: &mut Errors<'_>, new: EvictionStatus<'_>, old: EvictionStatus<'_>) -> bool {
    let all = new.node().get(n::CONDITIONS);
    if let Some(all) = all {
        meta::validate_conditions(all, e);
    }
    let find = |kind: &str| new.conditions().iter().find(|c| c.r#type() == kind);
    let ends = |kind: &str| matches!(kind, "TargetEvicted" | "Failed");
    let mut is_final = ["TargetEvicted", "Failed"]
        .iter()
        .any(|kind| find(kind).is_some_and(|c| c.status() == "True"));
    for before in old.conditions() {
        let kind = before.r#type();
        if !ends(kind) || before.status() != "True" {
            continue;
        }
        let stays =
            find(kind).is_some_and(|c| c.status() != "False" && c.reason() == before.reason());
        if !stays {
            let detail = format!("{kind} condition status cannot be reverted");
            e.invalid(
                Spot::of(new).field(n::CONDITIONS),
                Internal(all, CONDITION),
                detail,
            );
            is_final = true;
        }
    }
    is_final
}

fn names<'a, V: View<'a>>(all: List<'a, V>) -> HashSet<&'a str> {
    all.iter().map(|one| one.node().str(n::NAME)).collect()
}

/// Whether there are few enough, and each once: if not, a declarative rule says so.
fn is_sound<'a, V: View<'a>>(all: List<'a, V>) -> bool {
    all.len() <= MOST_RESPONDERS && names(all).len() == all.len()
}

/// Whose turn it is.
fn turns(
    e: &mut Errors<'_>,
    new: EvictionStatus<'_>,
    old: EvictionStatus<'_>,
    is_final: bool,
    now: i64,
) {
    let (targets, before) = (new.target_responders(), old.target_responders());
    if !before.is_empty() {
        let kept = names(targets);
        let detail = if targets.len() != before.len() {
            Some("must preserve the same length and the same keys")
        } else if before.iter().any(|one| !kept.contains(one.name())) {
            Some("must preserve the same keys")
        } else {
            None
        };
        if let Some(detail) = detail {
            let shown = Internal(new.node().get(n::TARGET_RESPONDERS), TARGET_RESPONDER);
            return e.invalid(Spot::of(new).field(n::TARGET_RESPONDERS), shown, detail);
        }
    }
    if targets.is_empty() || !is_sound(targets) {
        return;
    }
    let (targets, before) = (in_order(targets), in_order(before));
    let line = Line::new(&targets, &before, is_final);
    for (i, target) in targets.iter().copied().enumerate() {
        let (expected, why) = line.expected(i);
        let report = new.responders().iter().rfind(|r| r.name() == target.name());
        turn(e, target, report, &expected, why, is_final, now);
    }
}

/// Responders in the order of their turns, and where in it the eviction is.
struct Line<'a> {
    before: Vec<TargetResponder<'a>>,
    /// Whose turn it was.
    active: Option<usize>,
    /// That turn is over.
    is_over: bool,
    is_final: bool,
    /// There will be no further turn.
    is_done: bool,
}

impl<'a> Line<'a> {
    fn new(
        targets: &[TargetResponder<'_>],
        before: &[TargetResponder<'a>],
        is_final: bool,
    ) -> Self {
        let active = before.iter().position(|one| one.state() == ACTIVE);
        let last = before.last().map_or(INACTIVE, |last| last.state());
        Self {
            before: before.to_vec(),
            active,
            is_over: active.is_some_and(|i| targets[i].state() != ACTIVE),
            is_final,
            is_done: is_final || PAST.contains(&last),
        }
    }

    /// The states that the responder of this place may have now, and why.
    fn expected(&self, place: usize) -> (Vec<&'a str>, &'static str) {
        const FINISHED: &str = "the eviction request has finished processing";
        let is_past = match self.active {
            Some(active) => place < active,
            None => !self.before.is_empty() && self.is_done,
        };
        if is_past {
            return (vec![self.before[place].state()], "final state is immutable");
        }
        if self.active == Some(place) {
            return match (self.is_over, self.is_final) {
                (true, _) => (PAST.to_vec(), "this responder must reach a final state"),
                (false, true) => (PAST.to_vec(), FINISHED),
                (false, false) => (vec![ACTIVE], "the eviction request stays active"),
            };
        }
        let begins = self.before.is_empty() && place == 0;
        let follows = self.is_over && self.active.is_some_and(|active| place == active + 1);
        match (begins || follows, self.is_final) {
            (true, true) => (vec![INACTIVE], FINISHED),
            (true, false) => (vec![ACTIVE], "this responder is next in line"),
            (false, _) => (
                vec![INACTIVE],
                "the previously active has not finished processing",
            ),
        }
    }
}

fn turn(
    e: &mut Errors<'_>,
    target: TargetResponder<'_>,
    report: Option<ResponderStatus<'_>>,
    expected: &[&str],
    why: &str,
    is_final: bool,
    now: i64,
) {
    let (at, name, state) = (Spot::of(target), target.name(), target.state());
    let Some(report) = report else {
        let detail = format!("{name:?} has to be tracked in status.responders first");
        return e.invalid(at, Internal::of(target), detail);
    };
    if let Some(priority) = target.priority().filter(|priority| *priority >= 0) {
        let detail = match name == LAST.0 {
            true => (priority != LAST.1).then(|| {
                format!(
                    "core k8s responder is expected to have priority: {}",
                    LAST.1
                )
            }),
            false => (priority < FIRST_PRIORITY).then(|| {
                "priorities 0-999 are reserved for responders with *.k8s.io suffix".into()
            }),
        };
        if let Some(detail) = detail {
            e.invalid(at.field(n::PRIORITY), priority, detail);
        }
    }
    let at = at.field(n::STATE);
    if !expected.contains(&state) {
        let detail = format!("must be one of: {}, because {why}", expected.join(", "));
        return e.invalid(at, Named(state), detail);
    }
    let is_complete = report.completion_time().is_some();
    if let Some(start) = report.start_time()
        && state != ACTIVE
        && !is_complete
        && !is_final
    {
        let sign = report.heartbeat_time().unwrap_or(start);
        if seconds(sign).is_some_and(|sign| now < sign + HEARTBEAT - SKEW) {
            let detail = "must stay Active because the responder is in progress and it should report status.responders.heartbeatTime or status.responders.completionTime";
            e.forbidden(at, detail);
        }
    }
    if state == "Completed" && !is_complete {
        let detail = "cannot become Completed because the responder didn't report status.responders.completionTime";
        e.invalid(at, Named(state), detail);
    }
}

/// `SortTargetResponders`: by priority, then by the domain from its end on, then by what stands behind the slash.
fn in_order<'a>(all: List<'a, TargetResponder<'a>>) -> Vec<TargetResponder<'a>> {
    let mut all: Vec<TargetResponder<'a>> = all.iter().collect();
    all.sort_by(|a, b| {
        let priority =
            |one: &TargetResponder<'_>| (one.priority().is_none(), Reverse(one.priority()));
        priority(a)
            .cmp(&priority(b))
            .then_with(|| by_domain(a.name(), b.name()))
    });
    all
}

fn by_domain(a: &str, b: &str) -> Ordering {
    let parts = |name: &str| {
        let (domain, key) = name.split_once('/').unwrap_or((name, ""));
        let labels: Vec<String> = domain.rsplit('.').map(str::to_owned).collect();
        (labels, key.to_owned())
    };
    parts(a).cmp(&parts(b))
}

/// What responders say of themselves.
fn reports(e: &mut Errors<'_>, new: EvictionStatus<'_>, old: EvictionStatus<'_>, now: i64) {
    let (targets, reports) = (new.target_responders(), new.responders());
    let named = names(reports);
    let detail = if targets.len() != reports.len() {
        Some("must be the same length as status.targetResponders and contain the same keys")
    } else if targets.iter().any(|one| !named.contains(one.name())) {
        Some("must contain the same keys as status.targetResponders")
    } else {
        None
    };
    if let Some(detail) = detail {
        let shown = Internal(new.node().get(n::RESPONDERS), RESPONDER_STATUS);
        return e.invalid(Spot::of(new).field(n::RESPONDERS), shown, detail);
    }
    if !is_sound(reports) {
        return;
    }
    for report in reports {
        let name = report.name();
        let before = old.responders().iter().rfind(|r| r.name() == name);
        let target = targets.iter().rfind(|t| t.name() == name);
        let acts = target.is_some_and(|target| target.state() == ACTIVE);
        self::report(e, report, before, acts, now);
    }
}

/// A time that a responder tells.
struct Told<'a> {
    field: NameId,
    text: &'a str,
    at: i64,
    /// It was told otherwise before, or not at all.
    is_new: bool,
    was: Option<i64>,
}

fn report(
    e: &mut Errors<'_>,
    report: ResponderStatus<'_>,
    before: Option<ResponderStatus<'_>>,
    acts: bool,
    now: i64,
) {
    let at = Spot::of(report);
    let same = |before: ResponderStatus<'_>| {
        let [new, old] = [report, before].map(|of| Some(of.node().value()));
        alike(new, old, RESPONDER_STATUS)
    };
    if !acts && before.is_some_and(|before| !same(before)) {
        return e.invalid(at, Internal::of(report), rules::IMMUTABLE);
    }
    let was = |field| before.and_then(|before| time(before.node().opt_str(field)));
    let told = |field| {
        let text = report.node().opt_str(field)?;
        let (at, was) = (seconds(text)?, was(field));
        Some(Told {
            field,
            text,
            at,
            is_new: was != Some(at),
            was,
        })
    };
    let start = told(n::START_TIME);
    if acts && start.is_none() && was(n::START_TIME).is_none() {
        e.required(
            at.field(n::START_TIME),
            "is required for an active responder",
        );
    }
    if was(n::HEARTBEAT_TIME).is_some() && told(n::HEARTBEAT_TIME).is_none() {
        e.required(at.field(n::HEARTBEAT_TIME), "is required once set");
    }
    let start_at = start.as_ref().map(|start| start.at);
    let others = [
        n::HEARTBEAT_TIME,
        n::EXPECTED_COMPLETION_TIME,
        n::COMPLETION_TIME,
    ];
    for told in start.into_iter().chain(others.into_iter().filter_map(told)) {
        if let Some(detail) = objection(&told, start_at, now) {
            let at = at.field(told.field);
            if detail == AFTER || detail == BEFORE {
                let path = e.path(Spot::of(report).field(n::START_TIME));
                e.invalid(at, told.text, detail.replace('%', &path));
            } else {
                e.invalid(at, told.text, detail);
            }
        }
    }
}

const AFTER: &str = "must occur after %";
const BEFORE: &str = "cannot be set before % is set";

/// What is wrong with a time; `%` stands for the path of the start.
fn objection(told: &Told<'_>, start: Option<i64>, now: i64) -> Option<&'static str> {
    const PRESENT: &str = "must be set to the present time";
    let is_near = now - SKEW < told.at && told.at < now + SKEW;
    let may_stay = told.field != n::COMPLETION_TIME;
    // Start and completion stay once they are set, which declarative rules say.
    let is_fixed = matches!(told.field, n::START_TIME | n::COMPLETION_TIME);
    if is_fixed && told.was.is_some_and(|was| was != told.at) || may_stay && !told.is_new {
        return None;
    }
    if told.field == n::START_TIME {
        return (!is_near).then_some(PRESENT);
    }
    let Some(start) = start else {
        return Some(BEFORE);
    };
    if told.field == n::HEARTBEAT_TIME && told.was.is_some_and(|was| told.at < was) {
        return Some("cannot be decreased");
    }
    if told.at < start {
        return Some(AFTER);
    }
    if told.field == n::EXPECTED_COMPLETION_TIME {
        return match () {
            () if told.at < now - SKEW => Some("cannot be set to the past time"),
            () if told.at > now + LONGEST => Some("must complete within 10 years"),
            () => None,
        };
    }
    (told.is_new && !is_near).then_some(PRESENT)
}

fn time(text: Option<&str>) -> Option<i64> {
    text.and_then(seconds)
}

fn seconds(text: &str) -> Option<i64> {
    unix_of(text).map(|(seconds, _)| seconds)
}
