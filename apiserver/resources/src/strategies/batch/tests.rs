//! Tests of jobs.

use super::*;
use crate::strategies::testing::Of;

fn job_of(json: &str) -> Value {
    let mut job = proto::codec::json::parse(json.as_bytes()).unwrap();
    (JOB.default)(Gates::defaults(), &mut job);
    job
}

#[test]
fn a_job_is_one_pod_unless_it_says_more() {
    let counts = |json| {
        let job = job_of(json);
        let of = |field| number(&job, &[n::SPEC, field]);
        (of(n::COMPLETIONS), of(n::PARALLELISM), of(n::BACKOFF_LIMIT))
    };
    assert_eq!(counts(r#"{"spec":{}}"#), (Some(1), Some(1), Some(6)));
    let queue = r#"{"spec":{"parallelism":3}}"#;
    assert_eq!(counts(queue), (None, Some(3), Some(6)));
    let indexed = r#"{"spec":{"completions":3,"backoffLimitPerIndex":1}}"#;
    assert_eq!(counts(indexed), (Some(3), Some(1), Some(2_147_483_647)));
}

#[test]
fn a_job_selects_its_pods_by_its_uid() {
    let mut job = job_of(r#"{"metadata":{"name":"j","uid":"u"},"spec":{}}"#);
    select(&mut job);
    let labels = meta::labels(job.at(&TEMPLATE).unwrap());
    assert_eq!(labels.len(), 4);
    let selected = job.at(&[n::SPEC, n::SELECTOR, n::MATCH_LABELS]).unwrap();
    assert_eq!(selected.get(UID_LABEL).and_then(Value::as_str), Some("u"));
    let manual = r#"{"metadata":{"name":"j","uid":"u"},"spec":{"manualSelector":true}}"#;
    let mut job = job_of(manual);
    select(&mut job);
    assert!(job.at(&[n::SPEC, n::SELECTOR]).is_none());
}

const JOBS: Of = Of("batch", "v1", "jobs");
const CRON_JOBS: Of = Of("batch", "v1", "cronjobs");
const TEMPLATE_OF_JOB: &str =
    r#""template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}"#;

fn of(parts: &str) -> String {
    format!(r#"{{"metadata":{{"name":"j","namespace":"n"}},"spec":{{{TEMPLATE_OF_JOB}{parts}}}}}"#)
}

/// A job as it is stored, with something more in its specification and status.
fn stored(parts: &str, status: &str) -> String {
    let made = JOBS.stored(&of(parts));
    made.replace(r#""status":{}"#, &format!(r#""status":{{{status}}}"#))
}

#[test]
fn a_job_is_one_that_can_end() {
    for (parts, expected) in [
        ("", vec![]),
        (
            r#","completionMode":"Indexed","parallelism":100001,"maxFailedIndexes":1"#,
            vec![
                "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
                "spec.completions: Required value: when completion mode is Indexed",
                "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed",
            ],
        ),
        (
            r#","backoffLimitPerIndex":1"#,
            vec!["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"],
        ),
        (
            r#","podReplacementPolicy":"TerminatingOrFailed","podFailurePolicy":{"rules":[
                {"action":"x","onExitCodes":{"operator":"In","values":[2,0,2]}},
                {"action":"FailIndex","onPodConditions":[{"type":"a b"}]},{"action":"Ignore"}]}"#,
            vec![
                r#"spec.podFailurePolicy.rules[0].action: Unsupported value: "x": supported values: "Count", "FailIndex", "FailJob", "Ignore""#,
                "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
                "spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 2",
                "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,0,2]: must be ordered",
                r#"spec.podFailurePolicy.rules[1].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set"#,
                "spec.podFailurePolicy.rules[1].onPodConditions[0].type: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                "spec.podFailurePolicy.rules[2]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
                r#"spec.podReplacementPolicy: Unsupported value: "TerminatingOrFailed": supported values: "Failed""#,
            ],
        ),
        (
            r#","completionMode":"Indexed","completions":3,"successPolicy":{"rules":[{"succeededIndexes":"0-5"},{"succeededCount":4},{}]}"#,
            vec![
                r#"spec.successPolicy.rules[0].succeededIndexes: Invalid value: "0-5": error parsing succeededIndexes: too large index: "5""#,
                "spec.successPolicy.rules[1].succeededCount: Invalid value: 4: must be less than or equal to 3 (the number of specified completions)",
                "spec.successPolicy.rules[2]: Required value: at least one of succeededCount or succeededIndexes must be specified",
            ],
        ),
        (
            r#","successPolicy":{"rules":[{"succeededCount":1}]}"#,
            vec![
                r#"spec.successPolicy: Invalid value: {"Rules":[{"SucceededIndexes":null,"SucceededCount":1}]}: requires indexed completion mode"#,
            ],
        ),
        (
            r#","managedBy":"x""#,
            vec![
                r#"spec.managedBy: Invalid value: "x": must be a domain-prefixed path (such as "acme.io/foo")"#,
            ],
        ),
    ] {
        assert_eq!(JOBS.refused(&of(parts)), expected, "{parts}");
    }
    let lasting = of("").replace("Never", "Always");
    assert_eq!(
        JOBS.refused(&lasting),
        [r#"spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#]
    );
}

#[test]
fn a_job_that_waits_may_be_placed_anew() {
    let waits = stored(r#","suspend":true"#, "");
    let placed = waits.replace(
        r#""restartPolicy""#,
        r#""nodeSelector":{"a":"b"},"restartPolicy""#,
    );
    assert!(JOBS.refused_update("", &placed, &waits).is_empty());
    for (affinity, may_go) in [
        ("{}", true),
        (
            r#"{"nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[]}}"#,
            true,
        ),
        (r#"{"podAffinity":{}}"#, false),
    ] {
        let near = format!(r#""affinity":{affinity},"restartPolicy""#);
        let near = waits.replace(r#""restartPolicy""#, &near);
        for (new, old) in [(&near, &waits), (&waits, &near)] {
            let refused = JOBS.refused_update("", new, old);
            assert_eq!(refused.is_empty(), may_go, "{affinity}: {refused:?}");
        }
    }
    let other = waits.replace(r#""image":"i""#, r#""image":"k""#);
    let refused = JOBS.refused_update("", &other, &waits);
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].starts_with("spec.template.spec: Invalid value: {"));
    let runs = waits.replace(r#""suspend":true"#, r#""suspend":false"#);
    let placed = placed.replace(r#""suspend":true"#, r#""suspend":false"#);
    let refused = JOBS.refused_update("", &placed, &runs);
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].starts_with("spec.template: Invalid value: {"));
}

#[test]
fn a_status_is_one_that_a_job_can_have() {
    let complete = r#"{"type":"Complete","status":"True"}"#;
    let met = r#"{"type":"SuccessCriteriaMet","status":"True"}"#;
    let failed = r#"{"type":"Failed","status":"True"}"#;
    let (start, end) = ("2024-01-01T00:00:00Z", "2024-01-01T00:00:01Z");
    let before = stored("", "");
    let told = |old: &str, status: &str| JOBS.refused_update("status", &stored("", status), old);
    let finished = format!(
        r#""startTime":"{start}","completionTime":"{end}","conditions":[{met},{complete}]"#
    );
    assert!(told(&before, &finished).is_empty());
    for (status, expected) in [
        (
            format!(r#""conditions":[{complete}],"active":1"#),
            vec![
                "status.completionTime: Required value: completionTime is required for Complete jobs",
                "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
                "status.active: Invalid value: 1: active>0 is invalid for finished job",
                "status.startTime: Required value: startTime is required for finished job",
            ],
        ),
        (
            format!(r#""startTime":"{start}","conditions":[{failed}]"#),
            vec![
                "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
            ],
        ),
        (
            r#""ready":2,"active":1,"completedIndexes":"5""#.into(),
            vec![
                r#"status.completedIndexes: Invalid value: "5": error parsing completedIndexes: too large index: "5""#,
                r#"status.completedIndexes: Invalid value: "5": cannot set non-empty completedIndexes when non-indexed completion mode"#,
                "status.ready: Invalid value: 2: cannot set more ready pods than active",
            ],
        ),
        (
            r#""uncountedTerminatedPods":{"succeeded":["a",""],"failed":["a"]}"#.into(),
            vec![
                r#"status.uncountedTerminatedPods.succeeded[1]: Invalid value: "": must not be empty"#,
                r#"status.uncountedTerminatedPods.failed[0]: Duplicate value: "a""#,
            ],
        ),
    ] {
        assert_eq!(told(&before, &status), expected, "{status}");
    }
    let after = stored("", &finished);
    assert_eq!(
        told(&after, &format!(r#""startTime":"{start}""#)),
        [
            "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
            "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
        ]
    );
}

#[test]
fn a_cron_job_knows_when_and_where_its_time_is() {
    let cron = |schedule: &str, more: &str| {
        format!(
            r#"{{"metadata":{{"name":"c","namespace":"n"}},"spec":{{"schedule":"{schedule}","jobTemplate":{{"spec":{{{TEMPLATE_OF_JOB}}}}}{more}}}}}"#
        )
    };
    let zone = |zone: &str| format!(r#","timeZone":"{zone}""#);
    for (object, expected) in [
        (cron("* * * * *", ""), vec![]),
        (cron("@daily", &zone("Europe/Berlin")), vec![]),
        (cron("", ""), vec!["spec.schedule: Required value"]),
        (
            cron("x", &zone("Mars/Olympus")),
            vec![
                r#"spec.schedule: Invalid value: "x": expected exactly 5 fields, found 1: [x]"#,
                r#"spec.timeZone: Invalid value: "Mars/Olympus": unknown time zone Mars/Olympus"#,
            ],
        ),
        (
            cron("TZ=Europe/Berlin * * * * *", &zone("local")),
            vec![
                r#"spec.schedule: Invalid value: "TZ=Europe/Berlin * * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead"#,
                r#"spec.timeZone: Invalid value: "local": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"#,
                r#"spec.timeZone: Invalid value: "local": unknown time zone local"#,
            ],
        ),
        (
            cron(
                "* * * * *",
                r#","concurrencyPolicy":"x","failedJobsHistoryLimit":-1"#,
            ),
            vec![
                r#"spec.concurrencyPolicy: Unsupported value: "x": supported values: "Allow", "Forbid", "Replace""#,
                "spec.failedJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
            ],
        ),
    ] {
        assert_eq!(CRON_JOBS.refused(&object), expected, "{object}");
    }
    // Of an update of its status, no finalizer is looked at.
    let held = cron("* * * * *", "").replace(r#""name":"c""#, r#""name":"c","finalizers":["x"]"#);
    assert!(CRON_JOBS.refused_update("status", &held, &held).is_empty());
    assert_eq!(CRON_JOBS.refused_update("", &held, &held).len(), 1);
    let old = cron("TZ=UTC * * * * *", "");
    let new = cron("TZ=UTC 1 * * * *", "");
    assert!(CRON_JOBS.refused_update("", &new, &old).is_empty());
}
