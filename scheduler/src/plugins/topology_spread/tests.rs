use super::*;
use crate::testing::{labelled_pod, node};
use serde_json::json;

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    for (name, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
        cluster.set_node(&node(name, json!({ "topology.kubernetes.io/zone": zone })));
    }
    cluster.set_node(&node("nowhere", json!({})));
    for (i, on) in ["a1", "a1", "b1"].into_iter().enumerate() {
        let at = cluster.node(on).unwrap();
        cluster.assume(
            &labelled_pod(&format!("w{i}"), json!({ "app": "w" }), json!({})),
            at,
        );
    }
    cluster
}

fn wanting(action: &str) -> Arc<PodInfo> {
    let constraint = json!({ "topologyKey": ZONE, "whenUnsatisfiable": action, "maxSkew": 1,
        "labelSelector": { "matchLabels": { "app": "w" } } });
    labelled_pod(
        "new",
        json!({ "app": "w" }),
        json!({ "topologySpreadConstraints": [constraint] }),
    )
}

#[test]
fn a_domain_may_be_ahead_by_the_skew_and_no_more() {
    let (cluster, plugin) = (
        cluster(),
        TopologySpread::new(&SpreadArgs::default(), false),
    );
    let pod = wanting("DoNotSchedule");
    let cycle = Cycle::new(&cluster, &pod);
    let Prepared::Ready { state, .. } = plugin.pre_filter(&cycle) else {
        panic!("it has constraints")
    };
    let verdict = |name: &str| plugin.filter(&cycle, &*state, cluster.node(name).unwrap());
    assert!(verdict("b1").is_ok());
    assert_eq!(
        verdict("a2").unwrap_err(),
        Rejection::unschedulable("node(s) didn't match pod topology spread constraints")
    );
    assert!(
        verdict("nowhere")
            .unwrap_err()
            .reasons
            .join()
            .ends_with("(missing required label)")
    );
}

#[test]
fn fewer_pods_in_a_domain_are_better() {
    let (cluster, plugin) = (
        cluster(),
        TopologySpread::new(&SpreadArgs::default(), false),
    );
    let pod = wanting("ScheduleAnyway");
    let cycle = Cycle::new(&cluster, &pod);
    let nodes: Vec<_> = ["a1", "b1", "nowhere"]
        .iter()
        .map(|n| cluster.node(n).unwrap())
        .collect();
    let Prepared::Ready { state, .. } = plugin.pre_score(&cycle, &nodes) else {
        panic!("it has constraints")
    };
    let mut scores = vec![0; 3];
    plugin.score(&cycle, &*state, &nodes, &mut scores);
    plugin.normalize(&*state, &nodes, &mut scores);
    // Two and one pods times ln 4, rounded: 3 and 1.
    assert_eq!(scores, [33, 100, 0]);
}

#[test]
fn a_service_s_pods_are_spread_without_being_asked() {
    let (mut cluster, plugin) = (
        cluster(),
        TopologySpread::new(&SpreadArgs::default(), false),
    );
    let pod = labelled_pod("new", json!({ "app": "w" }), json!({}));
    assert!(matches!(
        plugin.pre_score(&Cycle::new(&cluster, &pod), cluster.order()),
        Prepared::Skip
    ));
    cluster.set_service(
        "default",
        "web",
        Some([("app".to_owned(), "w".to_owned())].into()),
    );
    let cycle = Cycle::new(&cluster, &pod);
    let Prepared::Ready { state, .. } = plugin.pre_score(&cycle, cluster.order()) else {
        panic!("it has defaults")
    };
    let mut scores = vec![0; 4];
    plugin.score(&cycle, &*state, cluster.order(), &mut scores);
    plugin.normalize(&*state, cluster.order(), &mut scores);
    let of = |name: &str| {
        scores[cluster
            .order()
            .iter()
            .position(|n| cluster.name(*n) == name)
            .unwrap()]
    };
    assert!(
        of("a1") < of("a2") && of("a2") <= of("b1") && of("nowhere") == 100,
        "{scores:?}"
    );
}
