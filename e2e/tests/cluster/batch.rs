//! Jobs and cron jobs.

use serde_json::{Value, json};

use super::fixture::{Namespace, SOON, eventually};
use super::serving::CLUSTER;

/// A job whose pods run a shell command.
fn job(name: &str, command: &str, spec: &Value) -> Value {
    let mut job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template(command)},
    });
    for (key, value) in spec.as_object().unwrap() {
        job["spec"][key] = value.clone();
    }
    job
}

fn template(command: &str) -> Value {
    json!({"spec": {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "navarch.local/busybox:1", "command": ["sh", "-c", command]}],
    }})
}

/// Waits for the condition that ends a job; its reason.
fn ended(ns: &Namespace<'_>, name: &str, kind: &str) -> String {
    eventually(SOON, || {
        let job = ns.get(&["job", name]);
        let conditions = job["status"]["conditions"].as_array();
        let end = conditions.and_then(|all| all.iter().find(|c| c["type"] == kind));
        end.map(|c| c["reason"].as_str().unwrap().to_owned())
            .ok_or_else(|| job["status"].to_string())
    })
}

#[test]
fn a_job_runs_its_pods_to_their_ends_and_counts_each_once() {
    let ns = CLUSTER.namespace("jobs");
    ns.apply(&job(
        "plain",
        "true",
        &json!({"completions": 3, "parallelism": 2}),
    ));
    ns.apply(&job("bad", "exit 3", &json!({"backoffLimit": 0})));
    assert_eq!(ended(&ns, "plain", "Complete"), "CompletionsReached");
    assert_eq!(ended(&ns, "bad", "Failed"), "BackoffLimitExceeded");
    let status = ns.get(&["job", "plain"])["status"].clone();
    assert_eq!(
        (&status["succeeded"], &status["ready"]),
        (&json!(3), &json!(0))
    );
    let counted = &status["uncountedTerminatedPods"];
    assert_eq!(counted, &json!({}), "all are counted");
    let finalizers = ns.kubectl(&["get", "pods", "-ojsonpath={.items[*].metadata.finalizers}"]);
    assert_eq!(finalizers, "", "and let go");
}

#[test]
fn indexes_fail_and_succeed_each_for_itself() {
    let ns = CLUSTER.namespace("indexed-jobs");
    let indexed = |more: Value| {
        let mut spec = json!({"completionMode": "Indexed", "completions": 4, "parallelism": 4});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        spec
    };
    let one_fails = "test $JOB_COMPLETION_INDEX != 1";
    ns.apply(&job(
        "each",
        one_fails,
        &indexed(json!({"backoffLimitPerIndex": 0})),
    ));
    let first_is_enough = json!({"successPolicy": {"rules": [{"succeededIndexes": "0"}]}});
    let command = "test $JOB_COMPLETION_INDEX = 0 || sleep 1000";
    ns.apply(&job("first", command, &indexed(first_is_enough)));
    assert_eq!(ended(&ns, "each", "Failed"), "FailedIndexes");
    let status = ns.get(&["job", "each"])["status"].clone();
    assert_eq!(status["completedIndexes"], "0,2,3");
    assert_eq!(status["failedIndexes"], "1");
    assert_eq!(ended(&ns, "first", "Complete"), "SuccessPolicy");
}

#[test]
fn a_suspended_job_has_no_pods() {
    let ns = CLUSTER.namespace("suspended-jobs");
    ns.apply(&job(
        "job",
        "sleep 1000",
        &json!({"parallelism": 2, "completions": 2}),
    ));
    ns.wait_for("job/job", ".status.ready", "2");
    let suspend = |is: bool| {
        let patch = json!({"spec": {"suspend": is}}).to_string();
        ns.kubectl(&["patch", "job/job", "-p", &patch]);
    };
    suspend(true);
    let suspended = ".status.conditions[?(@.type==\"Suspended\")].status";
    ns.wait_for("job/job", suspended, "True");
    eventually(SOON, || match ns.names("pods", "job-name=job") {
        none if none.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    suspend(false);
    ns.wait_for("job/job", suspended, "False");
    ns.wait_for("job/job", ".status.ready", "2");
}

#[test]
fn a_cron_job_makes_the_job_of_a_minute_once() {
    let ns = CLUSTER.namespace("cron-jobs");
    // The last minute of a schedule that has come counts, so there is no waiting for the next.
    ns.apply(&json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "tick"},
        "spec": {
            "schedule": "@every 1s",
            "concurrencyPolicy": "Forbid",
            "jobTemplate": {"spec": {"template": template("sleep 1000")}},
        },
    }));
    let job = eventually(SOON, || {
        let names = ns.names("jobs", "");
        names.first().cloned().ok_or_else(|| "no job".to_owned())
    });
    assert!(job.starts_with("tick-"), "{job}");
    ns.wait_for("cronjob/tick", ".status.active[0].name", &job);
    assert_eq!(ns.names("jobs", ""), [job.as_str()], "the first one runs");
    // No other job takes its place.
    let suspend = json!({"spec": {"suspend": true}}).to_string();
    ns.kubectl(&["patch", "cronjob/tick", "-p", &suspend]);
    ns.kubectl(&["delete", "job", &job]);
    ns.wait_for("cronjob/tick", ".status.active", "");
}
