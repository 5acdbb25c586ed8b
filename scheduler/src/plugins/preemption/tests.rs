use super::*;
use crate::cluster::disruption::Budget;
use crate::config::ProfileConfig;
use crate::decide::{Failure, Search, decide};
use crate::profile::Profile;
use crate::queue::Nominated;
use crate::testing::{node_with, object};
use component::features::Features;
use serde_json::{Value, json};

fn profile() -> Profile {
    ProfileConfig::default()
        .build(0, &Features::defaults())
        .unwrap()
}

/// A pod that asks for CPUs, started at a minute.
fn placed(name: &str, priority: i32, cpu: &str, minute: u32) -> Arc<PodInfo> {
    object(json!({
        "metadata": { "name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": { "name": name } },
        "spec": { "priority": priority, "schedulerName": "default-scheduler",
            "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }] },
        "status": { "startTime": format!("2026-01-01T00:{minute:02}:00Z") },
    }))
}

/// Nodes of four CPUs with their pods.
fn cluster(nodes: &[(&str, &[Arc<PodInfo>])]) -> Cluster {
    let mut cluster = Cluster::default();
    for (name, pods) in nodes {
        let has = json!({ "cpu": "4", "memory": "4G", "pods": "10" });
        cluster.set_node(&node_with(name, json!({}), json!({}), has));
        let at = cluster.node(name).unwrap();
        for pod in *pods {
            assert!(cluster.assume(pod, at));
        }
    }
    cluster
}

fn attempt(cluster: &Cluster, pod: &PodInfo, nominated: &Nominated) -> (String, PostFiltered) {
    let mut search = Search::seeded(3);
    match decide(cluster, &profile(), pod, nominated, &mut search) {
        Err(Failure::Unfit { error, nominate }) => (error.to_string(), nominate.unwrap()),
        other => panic!("{other:?}"),
    }
}

fn run(cluster: &Cluster, pod: &PodInfo) -> PostFiltered {
    attempt(cluster, pod, &Nominated::default()).1
}

fn names(made: &PostFiltered) -> Vec<&str> {
    made.victims.iter().map(|v| v.key.name()).collect()
}

#[test]
fn only_as_many_go_as_have_to_and_the_least_important_first() {
    let pods = [
        placed("low", 1, "2", 0),
        placed("lower", 0, "1", 0),
        placed("same", 10, "1", 0),
    ];
    let cluster = cluster(&[("n", &pods)]);
    let (said, made) = attempt(&cluster, &placed("p", 10, "1", 0), &Nominated::default());
    assert_eq!(names(&made), ["lower"]);
    assert_eq!(made.nominate.as_deref(), Some("n"));
    assert_eq!(
        said,
        "0/1 nodes are available: 1 Insufficient cpu. preemption: found a potential placement for pod on node n, preempting 1 victims"
    );
    let made = run(&cluster, &placed("p", 10, "3", 0));
    assert_eq!(names(&made), ["low", "lower"]);
}

#[test]
fn where_nobody_is_less_important_nobody_goes() {
    let pods = [placed("same", 10, "3", 0)];
    let cluster = cluster(&[("n", &pods), ("small", &[])]);
    let (said, made) = attempt(&cluster, &placed("p", 10, "5", 0), &Nominated::default());
    assert_eq!(
        said,
        "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    );
    assert_eq!(made.nominate.as_deref(), Some(""), "nothing is kept for it");
    let pods = [placed("same", 10, "3", 0)];
    let cluster = self::cluster(&[("n", &pods)]);
    let (said, _) = attempt(&cluster, &placed("p", 10, "2", 0), &Nominated::default());
    assert_eq!(
        said,
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    );
}

#[test]
fn a_pod_that_never_preempts_waits() {
    let cluster = cluster(&[("n", &[placed("low", 1, "4", 0)])]);
    let mut pod = (*placed("p", 10, "1", 0).pod).clone();
    pod.spec.as_mut().unwrap().preemption_policy = Some("Never".to_owned());
    let (said, made) = attempt(
        &cluster,
        &PodInfo::new(Arc::new(pod)),
        &Nominated::default(),
    );
    assert!(said.ends_with("preemption: not eligible due to preemptionPolicy=Never."));
    assert_eq!((made.nominate, made.victims.len()), (None, 0));
}

#[test]
fn the_node_where_the_least_harm_is_done_is_chosen() {
    let one = |name: &str, priority, minute| [placed(name, priority, "4", minute)];
    // By the most important victim.
    let (a, b) = (one("a", 5, 0), one("b", 1, 0));
    assert_eq!(
        names(&run(
            &cluster(&[("na", &a), ("nb", &b)]),
            &placed("p", 10, "4", 0)
        )),
        ["b"]
    );
    // By the sum over victims, which counts their number, too.
    let two = [placed("c1", 1, "2", 0), placed("c2", 1, "2", 0)];
    assert_eq!(
        names(&run(
            &cluster(&[("nc", &two), ("nb", &b)]),
            &placed("p", 10, "4", 0)
        )),
        ["b"]
    );
    let negative = [placed("d1", -5, "2", 0), placed("d2", -6, "2", 0)];
    let single = one("e", -5, 0);
    let nodes = cluster(&[("nd", &negative), ("ne", &single)]);
    assert_eq!(names(&run(&nodes, &placed("p", 10, "4", 0))), ["e"]);
    // By who was started last.
    let (old, young) = (one("old", 1, 0), one("young", 1, 30));
    let nodes = cluster(&[("no", &old), ("ny", &young)]);
    assert_eq!(names(&run(&nodes, &placed("p", 10, "4", 0))), ["young"]);
}

#[test]
fn budgets_are_kept_if_another_node_does() {
    let (a, b) = ([placed("a", 1, "4", 0)], [placed("b", 5, "4", 0)]);
    let mut cluster = cluster(&[("na", &a), ("nb", &b)]);
    let budget = json!({ "metadata": { "namespace": "default" }, "spec": { "selector": { "matchLabels": { "name": "a" } } },
        "status": { "disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0 } });
    let budget = Budget::of(&proto::typed::from_json_value(budget).unwrap());
    cluster
        .disruption_mut()
        .set_budget("default/b", Some(budget));
    let made = run(&cluster, &placed("p", 10, "4", 0));
    assert_eq!((names(&made), made.violations), (vec!["b"], 0));
    cluster.remove_node("nb");
    let made = run(&cluster, &placed("p", 10, "4", 0));
    assert_eq!((names(&made), made.violations), (vec!["a"], 1));
}

#[test]
fn a_protected_pod_stays_rather_than_one_that_is_more_important() {
    let pods = [placed("free", 5, "2", 0), placed("kept", 1, "2", 0)];
    let mut cluster = cluster(&[("n", &pods)]);
    let budget = json!({ "metadata": { "namespace": "default" }, "spec": { "selector": { "matchLabels": { "name": "kept" } } },
        "status": { "disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0 } });
    let budget = Budget::of(&proto::typed::from_json_value(budget).unwrap());
    cluster
        .disruption_mut()
        .set_budget("default/b", Some(budget));
    assert_eq!(names(&run(&cluster, &placed("p", 10, "2", 0))), ["free"]);
}

#[test]
fn a_pod_does_not_look_for_more_victims_while_the_first_are_leaving() {
    let leaving: Value = json!({
        "metadata": { "name": "v", "namespace": "default", "uid": "uid-v", "deletionTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "priority": 1, "containers": [{ "name": "c", "resources": { "requests": { "cpu": "4" } } }] },
        "status": { "conditions": [{ "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler" }] },
    });
    let cluster = cluster(&[
        ("n", &[object(leaving)]),
        ("other", &[placed("low", 0, "4", 0)]),
    ]);
    let pod = placed("p", 10, "4", 0);
    let mut nominated = Nominated::default();
    nominated.add(&pod, "n");
    let (said, made) = attempt(&cluster, &pod, &nominated);
    assert!(
        said.ends_with("preemption: not eligible due to a terminating pod on the nominated node."),
        "{said}"
    );
    assert_eq!((made.nominate, made.victims.len()), (None, 0));
}

#[test]
fn a_pod_is_not_tried_before_the_request_for_its_last_victim_has_its_effect() {
    let plugin = Preemption {
        args: PreemptionArgs::default(),
        asynchronous: true,
    };
    let victim = placed("v", 1, "1", 0);
    let mut cluster = cluster(&[("n", std::slice::from_ref(&victim))]);
    let pod = placed("p", 10, "1", 0);
    let may = |c: &Cluster| plugin.pre_enqueue(c, &pod).is_ok();
    assert!(may(&cluster));
    cluster.disruption_mut().begin(&pod.uid);
    assert!(!may(&cluster));
    cluster.disruption_mut().last(&pod.uid, &victim.uid);
    assert!(!may(&cluster));
    cluster.remove_pod(&victim.uid);
    assert!(may(&cluster));
}

#[test]
fn room_that_is_kept_for_others_of_the_same_priority_is_not_taken() {
    let pods = [placed("low", 1, "4", 0)];
    let cluster = cluster(&[("n", &pods)]);
    let mut nominated = Nominated::default();
    nominated.add(&placed("first", 10, "3", 0), "n");
    let (_, made) = attempt(&cluster, &placed("second", 10, "2", 0), &nominated);
    assert_eq!(made.victims.len(), 0);
    let (_, made) = attempt(&cluster, &placed("third", 10, "1", 0), &nominated);
    assert_eq!(names(&made), ["low"]);
}
