use super::*;
use crate::supervisor::Shutdown;
use crate::testing::{Ask, FakeApi};

use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Timings in tens of milliseconds, in upstream's proportions.
fn config() -> LeaderElection {
    let ms = |n| crate::config::Duration(Duration::from_millis(n));
    LeaderElection {
        lease_duration: ms(1500),
        renew_deadline: ms(1000),
        retry_period: ms(100),
        ..LeaderElection::named("kube-x")
    }
}

fn lease(holder: &str, version: u64, transitions: i32) -> Value {
    json!({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
        "metadata": {"name": "kube-x", "namespace": "kube-system", "resourceVersion": version.to_string()},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 1, "leaseTransitions": transitions,
            "acquireTime": "2026-01-01T00:00:00.000000Z", "renewTime": "2026-01-01T00:00:00.000000Z"}})
}

struct Candidate {
    api: FakeApi,
    tasks: Supervisor,
    leads: Arc<AtomicBool>,
}

impl Candidate {
    fn stand() -> Self {
        let api = FakeApi::plain();
        let tasks = Supervisor::current();
        let leads = Arc::new(AtomicBool::new(false));
        let note = Arc::clone(&leads);
        let election = Election::new(config(), &api.client(), "me".to_owned());
        election.start(&tasks, move || async move {
            note.store(true, Ordering::SeqCst);
            Ok(())
        });
        Self { api, tasks, leads }
    }

    /// Answers renewals until the process ends; returns how it ended and the last thing written.
    async fn until_end(mut self) -> (Result<(), crate::supervisor::Failure>, Value) {
        let mut last = Value::Null;
        let ended = self.tasks.finished(Shutdown::default());
        tokio::pin!(ended);
        loop {
            tokio::select! {
                ended = &mut ended => return (ended, last),
                ask = self.api.next() => {
                    let body = if ask.seen.method == http::Method::GET { lease("me", 9, 0) } else { ask.seen.json() };
                    if ask.seen.method == http::Method::PUT {
                        last = body.clone();
                    }
                    ask.json(&body);
                }
            }
        }
    }
}

fn echo(ask: Ask) -> Value {
    let body = ask.seen.json();
    ask.json(&body);
    body
}

#[tokio::test]
async fn a_lease_that_nobody_has_is_created_renewed_and_released_after_the_work() {
    let mut candidate = Candidate::stand();
    let ask = candidate.api.next().await;
    assert_eq!(
        ask.seen.path,
        "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-x"
    );
    ask.status(404, "NotFound");
    let created = echo(candidate.api.next().await);
    assert_eq!(created["spec"]["holderIdentity"], "me");
    assert_eq!(
        (
            &created["spec"]["leaseTransitions"],
            &created["spec"]["leaseDurationSeconds"]
        ),
        (&json!(0), &json!(1))
    );
    let renewal = candidate.api.next().await;
    assert!(candidate.leads.load(Ordering::SeqCst));
    assert_eq!(
        renewal.seen.method,
        http::Method::PUT,
        "the holder does not read"
    );
    let renewed = echo(renewal);
    assert_eq!(
        renewed["spec"]["acquireTime"],
        created["spec"]["acquireTime"]
    );
    assert_ne!(renewed["spec"]["renewTime"], created["spec"]["renewTime"]);
    candidate.tasks.stop();
    let (ended, last) = candidate.until_end().await;
    ended.unwrap();
    assert_eq!(
        (
            &last["spec"]["holderIdentity"],
            &last["spec"]["leaseDurationSeconds"]
        ),
        (&json!(""), &json!(1))
    );
}

#[tokio::test]
async fn a_held_lease_is_taken_only_after_it_was_not_renewed_for_its_own_time() {
    let mut candidate = Candidate::stand();
    let start = Instant::now();
    // The other renews once: the time counts from what was seen, not from what is written in it.
    candidate.api.next().await.json(&lease("other", 1, 3));
    candidate.api.next().await.json(
        &json!({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
        "metadata": {"name": "kube-x", "namespace": "kube-system", "resourceVersion": "2"},
        "spec": {"holderIdentity": "other", "leaseDurationSeconds": 1, "leaseTransitions": 3,
            "renewTime": "2026-01-01T00:00:02.000000Z"}}),
    );
    let seen_at = Instant::now();
    let written = loop {
        let ask = candidate.api.next().await;
        if ask.seen.method == http::Method::PUT {
            break echo(ask);
        }
        assert!(!candidate.leads.load(Ordering::SeqCst));
        ask.json(
            &json!({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
            "metadata": {"name": "kube-x", "namespace": "kube-system", "resourceVersion": "2"},
            "spec": {"holderIdentity": "other", "leaseDurationSeconds": 1, "leaseTransitions": 3,
                "renewTime": "2026-01-01T00:00:02.000000Z"}}),
        );
    };
    assert!(
        seen_at.elapsed() >= Duration::from_millis(980) && start.elapsed() < Duration::from_secs(5)
    );
    assert_eq!(
        (
            &written["spec"]["holderIdentity"],
            &written["spec"]["leaseTransitions"]
        ),
        (&json!("me"), &json!(4))
    );
    assert_eq!(
        written["metadata"]["resourceVersion"], "2",
        "whoever wrote meanwhile wins"
    );
}

#[tokio::test]
async fn a_lease_that_cannot_be_renewed_in_time_ends_the_process_and_its_work_at_once() {
    let mut candidate = Candidate::stand();
    candidate.api.next().await.status(404, "NotFound");
    echo(candidate.api.next().await);
    // Another may do the same work from now on: it is not waited for.
    candidate
        .tasks
        .spawn_graceful(Task::Worker, "stubborn", |_| std::future::pending::<()>());
    let start = Instant::now();
    let ended = loop {
        tokio::select! {
            ended = candidate.tasks.finished(Shutdown::default()) => break ended,
            ask = candidate.api.next() => { ask.status(500, "InternalError"); }
        }
    };
    assert_eq!(
        ended.unwrap_err().to_string(),
        "task leader-election failed: the lease kube-system/kube-x is lost"
    );
    assert!(
        (1000..2500).contains(&start.elapsed().as_millis()),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_lease_that_somebody_took_ends_the_process() {
    let mut candidate = Candidate::stand();
    candidate.api.next().await.status(404, "NotFound");
    echo(candidate.api.next().await);
    let mut version = 10;
    let ended = loop {
        tokio::select! {
            ended = candidate.tasks.finished(Shutdown::default()) => break ended,
            ask = candidate.api.next() => {
                version += 1;
                if ask.seen.method == http::Method::PUT { ask.status(409, "Conflict") } else { ask.json(&lease("thief", version, version as i32)) };
            }
        }
    };
    assert!(ended.unwrap_err().to_string().contains("is lost"));
}

#[tokio::test]
async fn one_who_only_waits_ends_without_a_word() {
    let mut candidate = Candidate::stand();
    candidate.api.next().await.json(&lease("other", 1, 0));
    candidate.tasks.stop();
    candidate.tasks.finished(Shutdown::default()).await.unwrap();
    assert!(!candidate.leads.load(Ordering::SeqCst));
}
