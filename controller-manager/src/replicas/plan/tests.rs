use super::*;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::{
    PodCondition, PodSpec, PodStatus, PodTemplateSpec, ReplicationController,
    ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

fn pod(name: &str, node: &str, ready: bool) -> Arc<Pod> {
    let condition = PodCondition {
        type_: "Ready".to_owned(),
        status: if ready { "True" } else { "False" }.to_owned(),
        last_transition_time: Some(Time(Timestamp::from_second(999_990).unwrap())),
        ..PodCondition::default()
    };
    Arc::new(Pod {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            uid: Some(name.to_owned()),
            labels: Some([("app".to_owned(), "web".to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: Some(node.to_owned()),
            ..PodSpec::default()
        }),
        status: Some(PodStatus {
            phase: Some("Running".to_owned()),
            conditions: Some(vec![condition]),
            ..PodStatus::default()
        }),
    })
}

fn replica_set(replicas: i32, min_ready_seconds: i32) -> ReplicaSet {
    ReplicaSet {
        metadata: ObjectMeta {
            generation: Some(4),
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: Some(min_ready_seconds),
            template: Some(PodTemplateSpec::default()),
            ..ReplicaSetSpec::default()
        },
        status: None,
    }
}

fn seen<'s>(active: &'s [Arc<Pod>], failure: Option<&str>) -> Seen<'s> {
    Seen {
        active,
        terminating: Some(1),
        failure: failure.map(str::to_owned),
        now: now(),
    }
}

#[test]
fn missing_pods_are_created_at_most_a_burst_at_once() {
    let active = [pod("a", "n", true)];
    let none = Vec::new;
    assert_eq!(changes(&active, 3, none, now()), Changes::Create(2));
    assert_eq!(changes(&active, 1000, none, now()), Changes::Create(BURST));
    assert_eq!(changes(&active, 1, none, now()), Changes::None);
}

#[test]
fn pods_go_first_from_the_node_that_has_most_of_them() {
    let active = [
        pod("a", "n1", true),
        pod("b", "n2", true),
        pod("c", "n1", false),
    ];
    let related = || {
        let mut all = active.to_vec();
        all.extend([pod("x", "n2", true), pod("y", "n2", true)]);
        all
    };
    let Changes::Delete(gone) = changes(&active, 1, related, now()) else {
        panic!("there are too many");
    };
    let names: Vec<_> = gone
        .iter()
        .filter_map(|p| p.metadata.name.clone())
        .collect();
    assert_eq!(
        names,
        ["c", "b"],
        "what is not ready, then the crowded node"
    );
}

#[test]
fn nobody_is_compared_when_all_go() {
    let active = [pod("a", "n", true)];
    let never = || unreachable!("there is no choice");
    assert_eq!(
        changes(&active, 0, never, now()),
        Changes::Delete(active.to_vec())
    );
}

#[test]
fn the_status_counts_what_is_seen() {
    let active = [pod("a", "n", true), pod("b", "n", false)];
    let owner = replica_set(2, 60);
    let status = status(&owner, &ReplicaSetStatus::default(), &seen(&active, None));
    assert_eq!(status.replicas, 2);
    assert_eq!(status.ready_replicas, Some(1));
    assert_eq!(status.available_replicas, None, "ready for 10 s only");
    assert_eq!(status.fully_labeled_replicas, Some(2));
    assert_eq!(status.terminating_replicas, Some(1));
    assert_eq!(status.observed_generation, Some(4));
    assert_eq!(status.conditions, None);
}

#[test]
fn a_failure_is_told_once_and_taken_back() {
    let owner = replica_set(2, 0);
    let first = status(
        &owner,
        &ReplicaSetStatus::default(),
        &seen(&[], Some("exceeded quota")),
    );
    let condition = &first.conditions.as_ref().unwrap()[0];
    assert_eq!(condition.reason.as_deref(), Some("FailedCreate"));
    assert_eq!(condition.message.as_deref(), Some("exceeded quota"));
    let second = status(&owner, &first, &seen(&[], Some("something else")));
    assert_eq!(second.conditions, first.conditions);
    let well = status(&owner, &second, &seen(&[], None));
    assert_eq!(well.conditions, None);
}

#[test]
fn both_kinds_have_the_same_status() {
    let status = ReplicationControllerStatus {
        replicas: 3,
        ready_replicas: Some(2),
        conditions: Some(vec![ReplicationControllerCondition {
            type_: REPLICA_FAILURE.to_owned(),
            status: "True".to_owned(),
            ..ReplicationControllerCondition::default()
        }]),
        ..ReplicationControllerStatus::default()
    };
    let as_replica_set = ReplicationController {
        status: Some(status.clone()),
        ..ReplicationController::default()
    };
    let shared = Replicas::status(&as_replica_set);
    assert_eq!(
        serde_json::to_value(&shared).unwrap(),
        serde_json::to_value(&status).unwrap()
    );
    let mut back = ReplicationController::default();
    back.set_status(shared);
    assert_eq!(back.status, Some(status));
}
