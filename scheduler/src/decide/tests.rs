use super::*;
use crate::cluster::Cluster;
use crate::config::ProfileConfig;
use crate::testing::{node_with, pod};
use component::features::Features;
use serde_json::{Value, json};

fn profile() -> Profile {
    ProfileConfig::default()
        .build(0, &Features::defaults())
        .unwrap()
}

fn cluster(nodes: &[(&str, Value)]) -> Cluster {
    let mut cluster = Cluster::default();
    for (name, spec) in nodes {
        let has = json!({ "cpu": "2", "memory": "4G", "pods": "10" });
        cluster.set_node(&node_with(name, json!({}), spec.clone(), has));
    }
    cluster
}

fn asking(name: &str, cpu: &str) -> std::sync::Arc<PodInfo> {
    pod(
        name,
        json!({ "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }] }),
    )
}

fn run(cluster: &Cluster, pod: &PodInfo) -> Result<Decision, Failure> {
    decide(
        cluster,
        &profile(),
        pod,
        &Nominated::default(),
        &mut Search::seeded(1),
    )
}

#[test]
fn a_pod_that_fits_nowhere_says_why_of_each_node() {
    let cluster = cluster(&[
        ("small-1", json!({})),
        ("small-2", json!({})),
        (
            "tainted",
            json!({ "taints": [{ "key": "k", "effect": "NoSchedule" }] }),
        ),
        ("closed", json!({ "unschedulable": true })),
    ]);
    let said = run(&cluster, &asking("p", "3")).unwrap_err().to_string();
    assert_eq!(
        said,
        "0/4 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, 2 Insufficient cpu. preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling."
    );
    assert_eq!(
        run(&Cluster::default(), &asking("p", "1"))
            .unwrap_err()
            .to_string(),
        "no nodes available to schedule pods"
    );
}

#[test]
fn the_emptier_node_is_better_and_ties_fall_evenly() {
    let mut cluster = cluster(&[("a", json!({})), ("b", json!({})), ("c", json!({}))]);
    let first = asking("first", "1");
    let used = run(&cluster, &first).unwrap().node;
    cluster.assume(&first, used);
    let next = asking("next", "1");
    let mut search = Search::seeded(7);
    let mut chosen = [0; 3];
    for _ in 0..400 {
        let d = decide(
            &cluster,
            &profile(),
            &next,
            &Nominated::default(),
            &mut search,
        )
        .unwrap();
        chosen[d.node as usize] += 1;
    }
    assert_eq!(chosen[used as usize], 0);
    assert!(
        chosen.iter().filter(|n| **n > 100).count() == 2,
        "{chosen:?}"
    );
}

#[test]
fn room_that_is_kept_for_a_more_important_pod_is_not_given_away() {
    let cluster = cluster(&[("n", json!({}))]);
    let mut spec = json!({ "priority": 10 });
    spec["containers"] = json!([{ "name": "c", "resources": { "requests": { "cpu": "2" } } }]);
    let mut nominated = Nominated::default();
    nominated.add(&pod("important", spec), "n");
    let search = &mut Search::seeded(1);
    let said = decide(&cluster, &profile(), &asking("p", "1"), &nominated, search)
        .unwrap_err()
        .to_string();
    assert!(said.contains("1 Insufficient cpu"), "{said}");
    let mut spec = json!({ "priority": 11 });
    spec["containers"] = json!([{ "name": "c" }]);
    assert!(decide(&cluster, &profile(), &pod("more", spec), &nominated, search).is_ok());
}

#[test]
fn large_clusters_are_searched_in_turn() {
    let names: Vec<String> = (0..1000).map(|n| format!("n{n}")).collect();
    let nodes: Vec<_> = names.iter().map(|n| (n.as_str(), json!({}))).collect();
    let cluster = cluster(&nodes);
    let mut search = Search::seeded(1);
    let mut decided = |name: &str| {
        decide(
            &cluster,
            &profile(),
            &asking(name, "1"),
            &Nominated::default(),
            &mut search,
        )
        .unwrap()
    };
    // 50 - 1000/125 = 42 percent.
    let (first, second) = (decided("a"), decided("b"));
    assert_eq!((first.evaluated, first.feasible), (420, 420));
    assert!(first.node < 420 && (420..840).contains(&second.node));
    assert_eq!(nodes_to_find(0, 5000), 500);
    assert_eq!(nodes_to_find(0, 99), 99);
    assert_eq!(nodes_to_find(1, 200), 100);
}

#[test]
fn a_pod_that_names_its_node_is_held_against_that_one_only() {
    let cluster = cluster(&[("a", json!({})), ("b", json!({}))]);
    let term =
        json!({ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["b"] }] });
    let affinity = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [term] } } });
    let own = pod(
        "p",
        json!({ "affinity": affinity, "containers": [{ "name": "c", "resources": { "requests": { "cpu": "9" } } }] }),
    );
    let said = run(&cluster, &own).unwrap_err().to_string();
    assert_eq!(
        said,
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) [NodeAffinity]. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    );
}
