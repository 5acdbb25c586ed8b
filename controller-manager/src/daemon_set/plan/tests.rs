use super::*;
use k8s_openapi::api::apps::v1::{DaemonSetSpec, DaemonSetUpdateStrategy};
use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::daemon_set::placement::tolerant;

fn node(name: &str) -> Arc<Node> {
    let mut node = Node::default();
    node.metadata.name = Some(name.to_owned());
    Arc::new(node)
}

/// A pod of a revision on a node.
fn pod(name: &str, hash: &str, phase: &str, ready: bool) -> Arc<Pod> {
    let mut pod = Pod::default();
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.labels = Some([(HASH_LABEL.to_owned(), hash.to_owned())].into());
    pod.status = Some(PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(vec![PodCondition {
            type_: "Ready".to_owned(),
            status: if ready { "True" } else { "False" }.to_owned(),
            ..PodCondition::default()
        }]),
        ..PodStatus::default()
    });
    Arc::new(pod)
}

fn set(unavailable: i32, surge: i32) -> DaemonSet {
    DaemonSet {
        spec: DaemonSetSpec {
            update_strategy: Some(DaemonSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDaemonSet {
                    max_unavailable: Some(IntOrString::Int(unavailable)),
                    max_surge: Some(IntOrString::Int(surge)),
                }),
            }),
            ..DaemonSetSpec::default()
        },
        ..DaemonSet::default()
    }
}

type Pods = BTreeMap<String, Vec<Arc<Pod>>>;

fn pods(all: &[(&str, &[Arc<Pod>])]) -> Pods {
    let own = |(node, pods): &(&str, &[Arc<Pod>])| ((*node).to_owned(), pods.to_vec());
    all.iter().map(own).collect()
}

fn seen<T>(set: &DaemonSet, nodes: &[&str], pods: &Pods, with: impl FnOnce(&Seen<'_>) -> T) -> T {
    let nodes: Vec<_> = nodes.iter().map(|n| node(n)).collect();
    with(&Seen {
        set,
        spec: &tolerant(set),
        nodes: &nodes,
        pods,
        hash: "new",
        backs_off: &|node| node == "backs-off",
        now: Timestamp::from_second(1_000_000).unwrap(),
    })
}

fn gone(changes: &Changes) -> Vec<&str> {
    let mut names: Vec<_> = changes
        .delete
        .iter()
        .filter_map(|(p, _)| p.metadata.name.as_deref())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn each_node_gets_one_pod() {
    let there = pods(&[
        ("a", &[pod("a1", "new", "Running", true)]),
        (
            "b",
            &[
                pod("b1", "new", "Running", true),
                pod("b2", "new", "Running", true),
            ],
        ),
    ]);
    let changes = seen(&set(1, 0), &["a", "b", "c"], &there, manage);
    assert_eq!(changes.create, ["c"]);
    assert_eq!(gone(&changes), ["b2"]);
}

#[test]
fn failed_pods_are_replaced_when_their_time_has_come() {
    let failed = |name| [pod(name, "new", "Failed", false)];
    let (a, b) = (failed("a1"), failed("b1"));
    let there = pods(&[("a", &a), ("backs-off", &b)]);
    let changes = seen(&set(1, 0), &["a", "backs-off"], &there, manage);
    assert_eq!(gone(&changes), ["a1"]);
    assert!(changes.waits && changes.create.is_empty());
}

#[test]
fn an_update_takes_as_many_as_may_be_unavailable() {
    let there = pods(&[
        ("a", &[pod("a1", "old", "Running", true)]),
        ("b", &[pod("b1", "old", "Running", false)]),
        ("c", &[pod("c1", "old", "Running", true)]),
    ]);
    let changes = seen(&set(1, 0), &["a", "b", "c"], &there, update);
    assert_eq!(gone(&changes), ["b1"], "it is unavailable anyway");
    let changes = seen(&set(2, 0), &["a", "b", "c"], &there, update);
    assert_eq!(gone(&changes), ["a1", "b1"]);
}

#[test]
fn a_surge_makes_new_pods_first() {
    let there = pods(&[
        ("a", &[pod("a1", "old", "Running", true)]),
        ("b", &[pod("b1", "old", "Running", true)]),
    ]);
    let changes = seen(&set(0, 1), &["a", "b"], &there, update);
    assert_eq!(
        (changes.create.as_slice(), gone(&changes).len()),
        (&["a".to_owned()][..], 0)
    );
    let there = pods(&[
        (
            "a",
            &[
                pod("a1", "old", "Running", true),
                pod("a2", "new", "Running", true),
            ],
        ),
        ("b", &[pod("b1", "old", "Running", true)]),
    ]);
    let changes = seen(&set(0, 1), &["a", "b"], &there, update);
    assert_eq!(gone(&changes), ["a1"]);
    assert_eq!(changes.create, ["b"]);
}

#[test]
fn the_status_counts_nodes() {
    let there = pods(&[
        ("a", &[pod("a1", "new", "Running", true)]),
        ("b", &[pod("b1", "old", "Running", false)]),
    ]);
    let old = DaemonSetStatus::default();
    let status = seen(&set(1, 0), &["a", "b", "c"], &there, |s| status(s, &old));
    assert_eq!(status.desired_number_scheduled, 3);
    assert_eq!(status.current_number_scheduled, 2);
    assert_eq!(status.number_ready, 1);
    assert_eq!(status.updated_number_scheduled, Some(1));
    assert_eq!(status.number_unavailable, Some(2));
}
