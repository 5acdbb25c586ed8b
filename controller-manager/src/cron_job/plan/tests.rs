use super::*;
use serde_json::{Value, json};

const CREATED: &str = "2026-05-04T10:00:30Z";

fn cron(spec: &Value, last: Option<&str>) -> CronJob {
    let mut whole = json!({
        "schedule": "0 * * * *",
        "jobTemplate": {
            "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
            "spec": {"template": {"spec": {"containers": []}}},
        },
    });
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    proto::typed::from_json_value(json!({
        "metadata": {"name": "tick", "namespace": "ns", "uid": "u", "creationTimestamp": CREATED},
        "spec": whole,
        "status": {"lastScheduleTime": last},
    }))
    .unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// What is due, and the reasons of what is told.
fn said(cron: &CronJob, now: &str) -> (Due, Vec<&'static str>) {
    let (notes, due) = due(cron, cron.status.as_ref().unwrap(), at(now));
    (due, notes.iter().map(|n| n.reason).collect())
}

fn later(seconds: u64) -> Due {
    Due::Later(Duration::from_secs(seconds) + SKEW)
}

fn run(time: &str, then: u64) -> Due {
    let then = Duration::from_secs(then) + SKEW;
    let time = at(time).as_second();
    Due::Run { time, then }
}

fn job(name: &str, condition: &str, start: &str, end: Option<&str>) -> Arc<Job> {
    let conditions = match condition {
        "" => json!([]),
        kind => json!([{"type": kind, "status": "True"}]),
    };
    Arc::new(
        proto::typed::from_json_value(json!({
            "metadata": {"name": name, "uid": format!("uid-{name}")},
            "status": {"startTime": start, "completionTime": end, "conditions": conditions},
        }))
        .unwrap(),
    )
}

fn active(names: &[&str]) -> CronJobStatus {
    let reference = |name: &&str| ObjectReference {
        name: Some((*name).to_owned()),
        uid: Some(format!("uid-{name}")),
        ..ObjectReference::default()
    };
    CronJobStatus {
        active: Some(names.iter().map(reference).collect()),
        ..CronJobStatus::default()
    }
}

#[test]
fn a_job_begins_when_its_time_has_come_and_not_before() {
    let plain = cron(&json!({}), None);
    assert_eq!(said(&plain, "2026-05-04T10:59:00Z"), (later(60), vec![]));
    let due = run("2026-05-04T11:00:00Z", 3599);
    assert_eq!(said(&plain, "2026-05-04T11:00:01Z"), (due, vec![]));
    let done = cron(&json!({}), Some("2026-05-04T11:00:00Z"));
    assert_eq!(said(&done, "2026-05-04T11:00:01Z"), (later(3599), vec![]));
}

#[test]
fn nothing_begins_while_suspended_going_or_unreadable() {
    let now = "2026-05-04T11:00:01Z";
    let suspended = cron(&json!({"suspend": true}), None);
    assert_eq!(said(&suspended, now), (Due::Nothing, vec![]));
    let mut going = cron(&json!({}), None);
    going.metadata.deletion_timestamp = Some(Time(at(now)));
    assert_eq!(said(&going, now), (Due::Nothing, vec![]));
    for (spec, reason) in [
        (json!({"timeZone": "Mars/Olympus"}), "UnknownTimeZone"),
        (json!({"schedule": "0 * *"}), "UnparseableSchedule"),
        (json!({"schedule": "0 0 31 2 *"}), "InvalidSchedule"),
    ] {
        assert_eq!(said(&cron(&spec, None), now), (Due::Nothing, vec![reason]));
    }
}

#[test]
fn a_job_that_is_too_late_is_not_begun() {
    let spec = json!({"startingDeadlineSeconds": 30});
    let due = run("2026-05-04T11:00:00Z", 3570);
    assert_eq!(
        said(&cron(&spec, None), "2026-05-04T11:00:30Z").0,
        later(3570)
    );
    assert_eq!(said(&cron(&spec, None), "2026-05-04T11:00:29Z").0, {
        let Due::Run { time, .. } = due else {
            unreachable!()
        };
        let then = Duration::from_secs(3571) + SKEW;
        Due::Run { time, then }
    });
    assert_eq!(
        said(&cron(&spec, None), "2026-05-04T11:00:31Z").0,
        later(3569)
    );
}

#[test]
fn of_many_missed_times_the_last_one_counts() {
    let minutely = cron(
        &json!({"schedule": "* * * * *"}),
        Some("2026-05-04T05:00:00Z"),
    );
    let due = run("2026-05-04T11:00:00Z", 45);
    let told = vec!["TooManyMissedTimes"];
    assert_eq!(said(&minutely, "2026-05-04T11:00:15Z"), (due, told));
}

#[test]
fn a_running_job_forbids_the_next_if_the_policy_says_so() {
    let now = at("2026-05-04T11:00:01Z");
    for (policy, begins) in [("Allow", true), ("Forbid", false), ("Replace", true)] {
        let cron = cron(&json!({"concurrencyPolicy": policy}), None);
        let (notes, due) = due(&cron, &active(&["tick-1"]), now);
        assert_eq!(matches!(due, Due::Run { .. }), begins, "{policy}");
        assert_eq!(
            notes.iter().any(|n| n.reason == "JobAlreadyActive"),
            !begins
        );
    }
}

#[test]
fn a_time_whose_job_runs_is_not_used_again() {
    let cron = cron(&json!({}), None);
    let now = at("2026-05-04T11:00:01Z");
    let name = job_name(&cron, at("2026-05-04T11:00:00Z").as_second());
    let (_, due) = due(&cron, &active(&[&name]), now);
    assert!(matches!(due, Due::Later(_)), "{due:?}");
}

#[test]
fn a_job_is_named_by_its_minute_and_says_its_time_in_its_zone() {
    let cron = cron(&json!({"timeZone": "Asia/Kolkata"}), None);
    let job = super::job(&cron, at("2026-05-04T11:00:00Z").as_second());
    let meta = &job.metadata;
    assert_eq!(meta.name.as_deref(), Some("tick-29631540"));
    let annotations = meta.annotations.as_ref().unwrap();
    assert_eq!(
        annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"],
        "2026-05-04T16:30:00+05:30"
    );
    assert_eq!(annotations["c"], "d");
    assert!(owners::is_controlled_by(meta, "u"));
    assert!(job.spec.is_some());
}

#[test]
fn ended_jobs_leave_the_status_and_the_last_success_is_kept() {
    let (early, late) = ("2026-05-04T10:00:00Z", "2026-05-04T11:00:00Z");
    let jobs = [
        job("good", "Complete", early, Some(late)),
        job("old", "Complete", early, Some(early)),
        job("bad", "Failed", early, None),
        job("runs", "", early, None),
        job("stray", "", early, None),
    ];
    let mut status = active(&["good", "bad", "runs", "gone"]);
    let notes = observe(&mut status, &jobs);
    let reasons: Vec<_> = notes.iter().map(|n| n.reason).collect();
    assert_eq!(
        reasons,
        ["SawCompletedJob", "SawCompletedJob", "UnexpectedJob"]
    );
    assert_eq!(
        notes[1].message,
        "Saw completed job: bad, condition: Failed"
    );
    assert_eq!(status.last_successful_time, Some(Time(at(late))));
    let names = |all: &[ObjectReference]| -> Vec<String> {
        all.iter().filter_map(|r| r.name.clone()).collect()
    };
    assert_eq!(names(status.active.as_ref().unwrap()), ["runs", "gone"]);
    assert_eq!(names(&missing(&status, &jobs)), ["gone"]);
}

#[test]
fn the_oldest_ended_jobs_beyond_the_limits_go() {
    let spec = json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0});
    let jobs = [
        job("b", "Complete", "2026-05-04T11:00:00Z", None),
        job("a", "Complete", "2026-05-04T10:00:00Z", None),
        job("bad", "Failed", "2026-05-04T10:00:00Z", None),
        job("runs", "", "2026-05-04T09:00:00Z", None),
    ];
    let gone = surplus(&cron(&spec, None), &jobs);
    let names: Vec<_> = gone.iter().map(|j| name(&j.metadata)).collect();
    assert_eq!(names, ["a", "bad"]);
    assert!(surplus(&cron(&json!({}), None), &jobs).is_empty());
}
