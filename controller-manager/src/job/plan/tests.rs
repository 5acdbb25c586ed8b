use super::*;
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

use crate::job::view::{FAILURES, FINALIZER, INDEX};

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn job(spec: Value, status: Value) -> Job {
    let mut all = json!({"parallelism": 2, "completions": 3, "backoffLimit": 6, "template": {}});
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    proto::typed::from_json_value(
        json!({"metadata": {"name": "j", "namespace": "ns", "uid": "j"}, "spec": all, "status": status}),
    )
    .unwrap()
}

/// A pod that ended an hour ago, if it has.
fn pod(uid: &str, phase: &str, index: Option<i32>) -> Arc<Pod> {
    let mut annotations = json!({});
    if let Some(index) = index {
        annotations[INDEX] = json!(index.to_string());
    }
    let pod = json!({
        "metadata": {"name": uid, "uid": uid, "finalizers": [FINALIZER], "annotations": annotations,
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "status": {"phase": phase},
    });
    Arc::new(proto::typed::from_json_value(pod).unwrap())
}

fn planned(job: &Job, pods: &[Arc<Pod>]) -> (Plan, Told) {
    let seen = Seen {
        job,
        spec: job.spec.as_ref().unwrap(),
        pods,
        now: now(),
    };
    let plan = plan(&seen, Backoff::default());
    let done = Done {
        created: plan.create.len(),
        deleted: plan.delete.len(),
        deleted_ready: 0,
    };
    let told = plan.told(&seen, done, false);
    (plan, told)
}

fn uids(pods: &[Arc<Pod>]) -> Vec<&str> {
    pods.iter().map(|p| uid(p)).collect()
}

fn reason(end: Option<&JobCondition>) -> &str {
    end.and_then(|e| e.reason.as_deref()).unwrap_or_default()
}

#[test]
fn as_many_pods_as_are_left_and_no_more_than_may_run() {
    let new = job(json!({}), json!({}));
    let (plan, told) = planned(&new, &[]);
    assert_eq!(plan.create.len(), 2);
    assert_eq!(told.status.active, Some(2));
    assert_eq!(told.status.start_time, Some(Time(now())));
    let two_done = job(json!({}), json!({"succeeded": 2}));
    assert_eq!(planned(&two_done, &[]).0.create.len(), 1);
    let running = [pod("a", "Running", None), pod("b", "Running", None)];
    let (plan, _) = planned(&two_done, &running);
    assert_eq!((plan.create.len(), plan.delete.len()), (0, 1));
}

#[test]
fn what_ended_is_told_by_uid_first_and_by_number_once_it_is_released() {
    let job = job(json!({}), json!({}));
    let pods = [pod("a", "Succeeded", None), pod("b", "Failed", None)];
    let (_, told) = planned(&job, &pods);
    let mut status = told.status;
    let uncounted = status.uncounted_terminated_pods.clone().unwrap();
    assert_eq!(uncounted.succeeded.unwrap(), ["a"]);
    assert_eq!(uncounted.failed.unwrap(), ["b"]);
    assert_eq!((status.succeeded, status.failed), (None, None));
    assert_eq!(uids(&told.release), ["a", "b"]);
    settle(&mut status, |uid| uid == "b");
    assert_eq!((status.succeeded, status.failed), (Some(1), None));
    settle(&mut status, |_| false);
    assert_eq!((status.succeeded, status.failed), (Some(1), Some(1)));
}

#[test]
fn enough_successes_complete_a_job_once_all_is_counted() {
    let job = job(json!({}), json!({"succeeded": 2}));
    let (_, told) = planned(&job, &[pod("a", "Succeeded", None)]);
    let conditions = told.status.conditions.clone().unwrap();
    assert_eq!(conditions[0].type_, "SuccessCriteriaMet");
    let end = told.end.unwrap();
    assert_eq!(
        (end.type_.as_str(), reason(Some(&end))),
        ("Complete", "CompletionsReached")
    );
    let mut status = told.status;
    assert!(!finish(&mut status, &end), "a is not counted yet");
    settle(&mut status, |_| false);
    assert!(finish(&mut status, &end));
    assert_eq!(
        (status.succeeded, status.completion_time),
        (Some(3), Some(Time(now())))
    );
}

#[test]
fn too_many_failures_end_a_job_and_its_pods() {
    let job = job(json!({"backoffLimit": 0}), json!({}));
    let pods = [pod("a", "Failed", None), pod("b", "Running", None)];
    let (plan, told) = planned(&job, &pods);
    assert_eq!(reason(plan.end.as_ref()), "BackoffLimitExceeded");
    assert_eq!(uids(&plan.delete), ["b"]);
    assert!(plan.counts_deleted && plan.create.is_empty());
    let uncounted = told.status.uncounted_terminated_pods.unwrap();
    assert_eq!(uncounted.failed.unwrap(), ["a", "b"]);
    assert_eq!(told.status.conditions.unwrap()[0].type_, "FailureTarget");
    assert_eq!(told.end.unwrap().type_, "Failed");
}

#[test]
fn a_failure_is_followed_by_a_wait() {
    let job = job(json!({}), json!({}));
    let mut failed = (*pod("a", "Failed", None)).clone();
    failed.metadata.creation_timestamp = Some(Time(now()));
    let (plan, _) = planned(&job, &[Arc::new(failed)]);
    assert!(plan.create.is_empty());
    assert_eq!(plan.wait, Some(Duration::from_secs(10)));
    let (plan, _) = planned(&job, &[pod("a", "Failed", None)]);
    assert_eq!(plan.create.len(), 2, "the wait is over");
}

#[test]
fn each_index_has_one_pod_until_it_succeeded() {
    let spec = json!({"completionMode": "Indexed", "completions": 5, "parallelism": 3});
    let job = job(spec, json!({"completedIndexes": "0", "succeeded": 1}));
    let pods = [
        pod("one", "Running", Some(1)),
        pod("two", "Succeeded", Some(2)),
    ];
    let (plan, told) = planned(&job, &pods);
    let new: Vec<_> = plan.create.iter().filter_map(|n| n.index).collect();
    assert_eq!(new, [3, 4]);
    assert_eq!(told.status.completed_indexes.as_deref(), Some("0,2"));
    assert_eq!(told.status.succeeded, Some(2));
    let twins = [pod("a", "Running", Some(1)), pod("b", "Pending", Some(1))];
    assert_eq!(uids(&planned(&job, &twins).0.delete), ["b"]);
}

#[test]
fn an_index_that_failed_too_often_fails_alone() {
    let spec = json!({"completionMode": "Indexed", "completions": 2, "backoffLimitPerIndex": 1});
    let job = job(spec, json!({}));
    let first = pod("a", "Failed", Some(0));
    let (plan, told) = planned(&job, &[Arc::clone(&first)]);
    assert!(
        plan.create
            .iter()
            .any(|n| n.index == Some(0) && n.after.is_some())
    );
    assert!(told.release.is_empty(), "its successor is not there yet");
    let mut second = (*first).clone();
    let annotations = second.metadata.annotations.as_mut().unwrap();
    annotations.insert(FAILURES.to_owned(), "1".to_owned());
    let (plan, told) = planned(&job, &[Arc::new(second)]);
    let new: Vec<_> = plan.create.iter().filter_map(|n| n.index).collect();
    assert_eq!(new, [1]);
    assert_eq!(told.status.failed_indexes.as_deref(), Some("0"));
    assert_eq!(uids(&told.release), ["a"]);
}

#[test]
fn a_suspended_job_has_no_pods_and_says_so() {
    let job = job(json!({"suspend": true}), json!({}));
    let (plan, told) = planned(&job, &[pod("a", "Running", None)]);
    assert_eq!(uids(&plan.delete), ["a"]);
    assert!(!plan.counts_deleted, "its end counts for nothing");
    assert_eq!(told.turned, Some(true));
    assert_eq!(told.status.start_time, None);
}

#[test]
fn the_deadline_ends_a_job() {
    let start = json!({"startTime": "2026-01-01T00:59:00Z"});
    let past = job(json!({"activeDeadlineSeconds": 60}), start.clone());
    assert_eq!(
        reason(planned(&past, &[]).0.end.as_ref()),
        "DeadlineExceeded"
    );
    let before = job(json!({"activeDeadlineSeconds": 90}), start);
    assert_eq!(planned(&before, &[]).0.wait, Some(Duration::from_secs(30)));
}
