use super::*;
use crate::pod::Matcher;
use crate::selector::Selector;
use crate::testing::{node, pod};
use serde_json::json;

#[test]
fn nodes_are_listed_zone_by_zone_in_turn() {
    let mut cluster = Cluster::default();
    for (name, zone) in [
        ("a1", "a"),
        ("a2", "a"),
        ("a3", "a"),
        ("b1", "b"),
        ("c1", "c"),
    ] {
        cluster.set_node(&node(name, json!({ "topology.kubernetes.io/zone": zone })));
    }
    let names = |c: &Cluster| {
        c.order()
            .iter()
            .map(|n| c.name(*n).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&cluster), ["a1", "b1", "c1", "a2", "a3"]);
    cluster.remove_node("a1");
    assert_eq!(names(&cluster), ["a2", "b1", "c1", "a3"]);
}

#[test]
fn a_node_s_sums_are_those_of_its_pods() {
    let mut cluster = Cluster::default();
    cluster.set_node(&node("n", json!({})));
    let at = cluster.node("n").unwrap();
    let p = pod(
        "p",
        json!({ "containers": [{ "name": "c", "ports": [{ "containerPort": 80, "hostPort": 80 }],
        "resources": { "requests": { "cpu": "1", "example.com/gpu": "2" } } }] }),
    );
    assert!(cluster.assume(&p, at));
    assert!(!cluster.assume(&p, at), "a pod has one place");
    assert_eq!(cluster.usage(at).requested.milli_cpu, 1000);
    assert_eq!(
        resources::scalar(&cluster.row(at).scalars, "example.com/gpu"),
        Some(2)
    );
    assert!(cluster.is_assumed(&p.uid));
    assert!(cluster.forget(&p.uid));
    assert_eq!(*cluster.usage(at), Usage::default());
    assert!(cluster.row(at).ports.is_empty());
    assert!(!cluster.forget(&p.uid));
}

#[test]
fn a_count_that_was_asked_for_follows_pods() {
    let mut cluster = Cluster::default();
    cluster.set_node(&node("n", json!({})));
    let at = cluster.node("n").unwrap();
    let labelled =
        |name: &str| crate::testing::labelled_pod(name, json!({ "app": "web" }), json!({}));
    let selector = Selector::of_labels(&Labels::from([("app".to_owned(), "web".to_owned())]));
    let counted = Counted {
        matchers: vec![Matcher::in_namespace("default", selector)],
        terminating: true,
    };
    let first = labelled("a");
    cluster.assume(&first, at);
    assert_eq!(cluster.count(&counted).on(at), 1);
    cluster.assume(&labelled("b"), at);
    cluster.assume(&pod("other", json!({})), at);
    assert_eq!(cluster.count(&counted).on(at), 2);
    cluster.remove_pod(&first.uid);
    assert_eq!(cluster.count(&counted).total(), 1);
}

#[test]
fn a_pod_of_an_unknown_node_waits_for_it() {
    let mut cluster = Cluster::default();
    let p = pod("p", json!({ "nodeName": "late", "containers": [] }));
    cluster.set_pod(&p);
    assert!(cluster.order().is_empty() && cluster.node("late").is_none());
    cluster.set_node(&node("late", json!({})));
    assert_eq!(cluster.usage(cluster.node("late").unwrap()).pods, 1);
    cluster.remove_node("late");
    cluster.set_node(&node("new", json!({})));
    assert_eq!(
        cluster.usage(cluster.node("new").unwrap()).pods,
        0,
        "the index was still in use"
    );
    assert!(cluster.remove_pod(&p.uid).is_some());
}
