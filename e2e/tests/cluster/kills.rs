//! Daemons and nodes that die: what serves keeps serving, and everything converges.

use e2e::cluster::Daemon;
use nix::sys::signal::Signal;
use serde_json::json;

use super::fixture::{Fixture, Namespace, SOON, eventually};
use super::load;

const NODE_PORT: u16 = 30081;

/// Everything that may die, in turn: on the control plane, then on each node.
const DAEMONS: &[(Option<&str>, Daemon)] = &[
    (None, Daemon::KubeApiserver),
    (None, Daemon::KubeScheduler),
    (None, Daemon::KubeControllerManager),
    (None, Daemon::Etcd),
    (Some("node-1"), Daemon::Kubelet),
    (Some("node-2"), Daemon::Kubelet),
    (Some("node-1"), Daemon::KubeProxy),
    (Some("node-2"), Daemon::KubeProxy),
];

/// The daemons are there again, and the cluster does new work.
fn converges(fixture: &Fixture, ns: &Namespace<'_>, after: &str) {
    eventually(SOON, || match fixture.cluster.get("/readyz") {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(format!("after {after}: status {}", answer.status)),
        Err(error) => Err(format!("after {after}: {}", e2e::init::chain(&error))),
    });
    for node in fixture.cluster.nodes() {
        let ready = ".status.conditions[?(@.type==\"Ready\")].status";
        ns.wait_for(&format!("node/{}", node.name), ready, "True");
    }
    for replicas in ["5", "4"] {
        let scale = format!("--replicas={replicas}");
        ns.kubectl(&["scale", "deployment/web", &scale]);
        for field in ["availableReplicas", "replicas", "updatedReplicas"] {
            ns.wait_for("deployment/web", &format!(".status.{field}"), replicas);
        }
    }
    eventually(SOON, || match load::pods(ns).len() {
        4 => Ok(()),
        other => Err(format!("after {after}: {other} pods of 4")),
    });
}

#[test]
fn pods_keep_serving_while_each_daemon_dies() {
    let fixture = Fixture::up("kills", 2);
    let ns = fixture.namespace("kills");
    let addresses = load::start(&fixture, &ns, NODE_PORT);
    let before = load::pods(&ns);
    load::poll_while(&addresses, || {
        for (node, daemon) in DAEMONS {
            let name = format!("{} {}", daemon.name(), node.unwrap_or_default());
            let old = fixture.cluster.pid(*node, *daemon).unwrap();
            fixture
                .cluster
                .signal(*node, *daemon, Signal::SIGKILL)
                .unwrap();
            eventually(SOON, || match fixture.cluster.pid(*node, *daemon) {
                Ok(pid) if pid != old => Ok(()),
                other => Err(format!("{name} is not back: {other:?}")),
            });
            converges(&fixture, &ns, &name);
        }
    });
    let now = load::pods(&ns);
    assert!(now.values().all(|restarts| *restarts == 0), "{now:?}");
    let kept = before.keys().filter(|uid| now.contains_key(*uid)).count();
    assert!(kept >= 3, "of {before:?} too few are left in {now:?}");

    a_node_is_lost(&fixture, &ns);
}

/// A node that loses its power: its pods are made anew elsewhere, and it takes pods again when it is back.
fn a_node_is_lost(fixture: &Fixture, ns: &Namespace<'_>) {
    let mut quick = load::servers();
    let unreachable = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1});
    quick["spec"]["template"]["spec"]["tolerations"] = json!([
        unreachable("node.kubernetes.io/not-ready"),
        unreachable("node.kubernetes.io/unreachable"),
    ]);
    ns.apply(&quick);
    ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    fixture.cluster.kill_node("node-2");
    let ready = ".status.conditions[?(@.type==\"Ready\")].status";
    // The node monitor's grace period is 50 s.
    eventually(SOON * 2, || {
        let list = ns.get(&["pods", "-l", "app=web"]);
        let on_first = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|pod| {
                pod["spec"]["nodeName"] == "node-1"
                    && pod["status"]["phase"] == "Running"
                    && pod["metadata"]["deletionTimestamp"].is_null()
            })
            .count();
        (on_first == 4)
            .then_some(())
            .ok_or(format!("{on_first} of 4 pods on the node that is left"))
    });
    ns.wait_for("node/node-2", ready, "Unknown");
    e2e::cluster::Cluster::up(fixture.spec.clone(), e2e::progress::Progress::Silent).unwrap();
    ns.wait_for("node/node-2", ready, "True");
    converges(fixture, ns, "the node's return");
}
