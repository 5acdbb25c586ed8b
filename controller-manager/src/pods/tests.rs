use super::*;
use k8s_openapi::api::core::v1::{ContainerStatus, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::SignedDuration;

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

fn ago(seconds: i64) -> Time {
    Time(now() - SignedDuration::from_secs(seconds))
}

/// A running pod that has been ready for so long.
fn ready(name: &str, seconds: i64) -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            uid: Some(format!("uid-{name}")),
            creation_timestamp: Some(ago(seconds)),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: Some("n".to_owned()),
            ..PodSpec::default()
        }),
        status: Some(PodStatus {
            phase: Some("Running".to_owned()),
            conditions: Some(vec![PodCondition {
                type_: "Ready".to_owned(),
                status: "True".to_owned(),
                last_transition_time: Some(ago(seconds)),
                ..PodCondition::default()
            }]),
            ..PodStatus::default()
        }),
    }
}

#[test]
fn a_pod_is_available_once_it_was_ready_long_enough() {
    let pod = ready("a", 30);
    assert!(is_available(&pod, 0, now()));
    assert!(is_available(&pod, 30, now()));
    assert!(!is_available(&pod, 31, now()));
    let pods = [pod, ready("b", 20)];
    assert_eq!(
        next_available(&pods, 45, now()),
        Some(Duration::from_secs(15))
    );
    assert_eq!(next_available(&pods, 20, now()), None);
    assert_eq!(next_available(&pods, 0, now()), None);
}

#[test]
fn a_pod_that_is_not_ready_is_not_available() {
    let mut pod = ready("a", 30);
    pod.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "False".to_owned();
    assert!(!is_available(&pod, 0, now()));
    assert!(!is_available(&pod, 10, now()));
    assert_eq!(next_available([&pod], 60, now()), None);
}

fn first_to_go<'p>(a: &'p Pod, b: &'p Pod) -> &'p str {
    first_of(a, 1, b, 1)
}

fn first_of<'p>(a: &'p Pod, crowd_a: usize, b: &'p Pod, crowd_b: usize) -> &'p str {
    let (a, b) = (
        Ranked {
            pod: a,
            crowd: crowd_a,
        },
        Ranked {
            pod: b,
            crowd: crowd_b,
        },
    );
    let order = a.order(&b, now());
    assert_eq!(order.reverse(), b.order(&a, now()), "the order is one");
    let first = if order.is_lt() { a } else { b };
    first.pod.metadata.name.as_deref().unwrap()
}

#[test]
fn what_is_missed_least_goes_first() {
    let old = ready("old", 4000);
    let mut unassigned = ready("unassigned", 4000);
    unassigned.spec = None;
    let mut pending = ready("pending", 4000);
    pending.status.as_mut().unwrap().phase = Some("Pending".to_owned());
    let mut unready = ready("unready", 4000);
    unready.status.as_mut().unwrap().conditions = None;
    let mut cheap = ready("cheap", 9000);
    let cost = [(
        "controller.kubernetes.io/pod-deletion-cost".to_owned(),
        "-5".to_owned(),
    )];
    cheap.metadata.annotations = Some(cost.into());
    for pod in [&unassigned, &pending, &unready, &cheap] {
        assert_eq!(
            first_to_go(&old, pod),
            pod.metadata.name.as_deref().unwrap()
        );
    }
    assert_eq!(first_to_go(&unassigned, &pending), "unassigned");
    let young = ready("young", 10);
    assert_eq!(first_to_go(&old, &young), "young");
    assert_eq!(
        first_of(&old, 3, &young, 1),
        "old",
        "its node has more of them"
    );
}

#[test]
fn ages_of_the_same_power_of_two_are_equal() {
    let (a, b) = (ready("a", 4100), ready("b", 4000));
    assert_eq!(first_to_go(&a, &b), "a", "by UID");
}

#[test]
fn of_equal_pods_the_one_that_restarts_more_goes_first() {
    let (a, mut b) = (ready("a", 100), ready("b", 100));
    b.status.as_mut().unwrap().container_statuses = Some(vec![ContainerStatus {
        name: "c".to_owned(),
        restart_count: 2,
        ..ContainerStatus::default()
    }]);
    assert_eq!(first_to_go(&a, &b), "b");
}

#[test]
fn a_bad_cost_is_no_cost() {
    let mut odd = ready("odd", 100);
    for text in ["+10", "008", "x", ""] {
        let cost = [(
            "controller.kubernetes.io/pod-deletion-cost".to_owned(),
            text.to_owned(),
        )];
        odd.metadata.annotations = Some(cost.into());
        let plain = ready("a", 100);
        assert!(
            Ranked {
                pod: &odd,
                crowd: 1
            }
            .order(
                &Ranked {
                    pod: &plain,
                    crowd: 1
                },
                now()
            )
            .is_eq()
        );
    }
}

#[test]
fn names_of_pods_begin_with_their_controllers_name() {
    assert_eq!(name_prefix("web"), "web-");
    assert_eq!(name_prefix("Bad"), "Bad");
}
