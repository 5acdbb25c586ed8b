use super::*;
use crate::testing::{labelled_pod, node};
use serde_json::{Value, json};

const ZONE: &str = "zone";

fn cluster(placed: &[(&str, &Arc<PodInfo>)]) -> Cluster {
    let mut cluster = Cluster::default();
    for (name, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
        cluster.set_node(&node(name, json!({ ZONE: zone })));
    }
    for (on, pod) in placed {
        let at = cluster.node(on).unwrap();
        cluster.assume(pod, at);
    }
    cluster
}

fn term(app: &str) -> Value {
    json!({ "topologyKey": ZONE, "labelSelector": { "matchLabels": { "app": app } } })
}

fn pod(name: &str, app: &str, kind: &str, terms: Value) -> Arc<PodInfo> {
    labelled_pod(
        name,
        json!({ "app": app }),
        json!({ "affinity": { kind: terms } }),
    )
}

fn required(name: &str, app: &str, kind: &str, of: &str) -> Arc<PodInfo> {
    pod(
        name,
        app,
        kind,
        json!({ "requiredDuringSchedulingIgnoredDuringExecution": [term(of)] }),
    )
}

const PLUGIN: PodAffinity = PodAffinity {
    hard_weight: 1,
    ignore_placed: false,
};

fn verdicts(cluster: &Cluster, pod: &PodInfo) -> Vec<String> {
    let cycle = Cycle::new(cluster, pod);
    let Prepared::Ready { state, .. } = PLUGIN.pre_filter(&cycle) else {
        return vec!["skipped".to_owned()];
    };
    let say = |name| match PLUGIN.filter(&cycle, &*state, cluster.node(name).unwrap()) {
        Ok(()) => "ok".to_owned(),
        Err(r) => r.reasons.join(),
    };
    ["a1", "a2", "b1"].map(say).into()
}

#[test]
fn the_first_of_a_group_comes_anywhere_and_the_others_follow() {
    let first = required("first", "g", "podAffinity", "g");
    assert_eq!(verdicts(&cluster(&[]), &first), ["ok", "ok", "ok"]);
    let next = required("next", "g", "podAffinity", "g");
    let no = "node(s) didn't match pod affinity rules";
    assert_eq!(
        verdicts(&cluster(&[("a1", &first)]), &next),
        ["ok", "ok", no]
    );
    let stranger = required("stranger", "other", "podAffinity", "g");
    assert_eq!(verdicts(&cluster(&[]), &stranger), [no, no, no]);
}

#[test]
fn pods_stay_apart_whichever_of_them_wants_it() {
    let placed = labelled_pod("placed", json!({ "app": "g" }), json!({}));
    let shy = required("shy", "s", "podAntiAffinity", "g");
    let no = "node(s) didn't match pod anti-affinity rules";
    assert_eq!(verdicts(&cluster(&[("a1", &placed)]), &shy), [no, no, "ok"]);
    let no = "node(s) didn't satisfy existing pods anti-affinity rules";
    assert_eq!(
        verdicts(&cluster(&[("b1", &shy)]), &placed),
        ["ok", "ok", no]
    );
    assert_eq!(verdicts(&cluster(&[]), &placed), ["skipped"]);
}

#[test]
fn a_pod_that_is_imagined_away_is_no_hindrance() {
    let placed = labelled_pod("placed", json!({ "app": "g" }), json!({}));
    let shy = required("shy", "s", "podAntiAffinity", "g");
    let cluster = cluster(&[("a1", &placed)]);
    let cycle = Cycle::new(&cluster, &shy);
    let Prepared::Ready { mut state, .. } = PLUGIN.pre_filter(&cycle) else {
        panic!("it has terms")
    };
    let at = cluster.node("a1").unwrap();
    assert!(PLUGIN.filter(&cycle, &*state, at).is_err());
    PLUGIN.imagine(&cycle, &mut *state, &placed, at, false);
    assert!(PLUGIN.filter(&cycle, &*state, at).is_ok());
}

#[test]
fn preferences_of_both_sides_are_added() {
    let prefers = |name: &str, app: &str, of: &str, weight: i32| {
        let weighted = json!([{ "weight": weight, "podAffinityTerm": term(of) }]);
        pod(
            name,
            app,
            "podAffinity",
            json!({ "preferredDuringSchedulingIgnoredDuringExecution": weighted }),
        )
    };
    let (in_a, in_b) = (prefers("in-a", "x", "n", 10), prefers("in-b", "y", "n", 1));
    let cluster = cluster(&[("a1", &in_a), ("b1", &in_b)]);
    let incoming = prefers("new", "n", "y", 4);
    let cycle = Cycle::new(&cluster, &incoming);
    let Prepared::Ready { state, .. } = PLUGIN.pre_score(&cycle, cluster.order()) else {
        panic!("it has terms")
    };
    let nodes: Vec<_> = ["a1", "a2", "b1"]
        .iter()
        .map(|n| cluster.node(n).unwrap())
        .collect();
    let mut scores = vec![0; 3];
    PLUGIN.score(&cycle, &*state, &nodes, &mut scores);
    assert_eq!(scores, [10, 10, 5]);
    PLUGIN.normalize(&*state, &nodes, &mut scores);
    assert_eq!(scores, [100, 100, 0]);
}
