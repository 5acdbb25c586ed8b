use super::*;
use crate::testing::{node_with, pod};
use serde_json::json;

fn fit() -> Fit {
    Fit {
        ignored: Vec::new(),
        ignored_groups: Vec::new(),
        strategy: Strategy::LeastAllocated,
        weights: weights(),
    }
}

fn weights() -> Vec<Weighted> {
    ["cpu", "memory"]
        .map(|name| Weighted {
            name: name.to_owned(),
            weight: 1,
        })
        .into()
}

fn asking(name: &str, cpu: &str, memory: &str) -> std::sync::Arc<PodInfo> {
    pod(
        name,
        json!({ "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu, "memory": memory } } }] }),
    )
}

fn cluster(nodes: &[(&str, &str, &str)], placed: &[(&str, &PodInfoArc)]) -> Cluster {
    let mut cluster = Cluster::default();
    for (name, cpu, memory) in nodes {
        cluster.set_node(&node_with(
            name,
            json!({}),
            json!({}),
            json!({ "cpu": cpu, "memory": memory, "pods": "2" }),
        ));
    }
    for (name, pod) in placed {
        let at = cluster.node(name).unwrap();
        cluster.assume(pod, at);
    }
    cluster
}

type PodInfoArc = std::sync::Arc<PodInfo>;

fn scores(plugin: &dyn Plugin, cluster: &Cluster, pod: &PodInfo) -> Vec<i64> {
    let cycle = Cycle::new(cluster, pod);
    let mut scores = vec![0; cluster.order().len()];
    if let Prepared::Ready { state, .. } = plugin.pre_score(&cycle, cluster.order()) {
        plugin.score(&cycle, &*state, cluster.order(), &mut scores);
    }
    scores
}

#[test]
fn all_that_a_node_lacks_is_said_and_what_it_never_has_is_unresolvable() {
    let placed = asking("placed", "1", "1k");
    let cluster = cluster(&[("n", "2", "2k")], &[("n", &placed)]);
    let verdict = |p: &PodInfo| fit().filter(&Cycle::new(&cluster, p), &(), 0);
    assert!(verdict(&asking("a", "1", "1k")).is_ok());
    let r = verdict(&asking("b", "1500m", "1500")).unwrap_err();
    assert_eq!(
        (r.code, r.reasons.join().as_str()),
        (Code::Unschedulable, "Insufficient cpu, Insufficient memory")
    );
    let r = verdict(&asking("c", "3", "1")).unwrap_err();
    assert_eq!(
        (r.code, r.reasons.join().as_str()),
        (Code::Unresolvable, "Insufficient cpu")
    );
}

#[test]
fn a_full_node_takes_no_pod_that_asks_for_nothing() {
    let (a, b) = (pod("a", json!({})), pod("b", json!({})));
    let cluster = cluster(&[("n", "2", "2k")], &[("n", &a), ("n", &b)]);
    let c = pod("c", json!({}));
    let r = fit().filter(&Cycle::new(&cluster, &c), &(), 0).unwrap_err();
    assert_eq!(r.reasons.join(), "Too many pods");
}

#[test]
fn strategies_prefer_more_or_less_room() {
    let placed = asking("placed", "1", "1G");
    let cluster = cluster(
        &[("empty", "4", "4G"), ("used", "4", "4G")],
        &[("used", &placed)],
    );
    let p = asking("p", "1", "1G");
    assert_eq!(scores(&fit(), &cluster, &p), [75, 50]);
    let most = Fit {
        strategy: Strategy::MostAllocated,
        ..fit()
    };
    assert_eq!(scores(&most, &cluster, &p), [25, 50]);
    let shape = vec![(0, 0), (100, 100)];
    let ratio = Fit {
        strategy: Strategy::RequestedToCapacityRatio(shape),
        ..fit()
    };
    assert_eq!(scores(&ratio, &cluster, &p), [25, 50]);
}

#[test]
fn balance_is_judged_by_what_the_pod_changes() {
    let cpu_heavy = asking("cpu", "2", "0");
    let cluster = cluster(
        &[("skewed", "4", "4G"), ("even", "4", "4G")],
        &[("skewed", &cpu_heavy)],
    );
    let p = asking("p", "0", "2G");
    let balanced = Balanced { weights: weights() };
    let all = scores(&balanced, &cluster, &p);
    // From a deviation of 0.25 to none, and from none to 0.25.
    assert_eq!(all, [50 + (50 + 100 - 75) / 2, 50 + (50 + 75 - 100) / 2]);
    let nothing = pod("nothing", json!({}));
    assert_eq!(
        scores(&balanced, &cluster, &nothing),
        [0, 0],
        "it has no opinion"
    );
}
