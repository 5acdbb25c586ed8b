//! Daemons and nodes that die: what serves keeps serving, and everything converges.
//!
//! The judge is a client that opens a new connection for each request and never retries.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use e2e::cluster::Daemon;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::fixture::{Fixture, Namespace, SOON, eventually, web};
use super::serving::page;

const NODE_PORT: u16 = 30081;
/// Between two requests of the poller.
const PAUSE: Duration = Duration::from_millis(10);

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

fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {
            "type": "NodePort",
            "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": 8080, "nodePort": NODE_PORT}],
        },
    })
}

/// The web servers, which go on serving for as long as proxies need to hear that they end: without that, a pod that is
/// scaled away takes a new connection with it, and says nothing about the daemons.
fn servers() -> Value {
    let mut web = web(4);
    let pod = &mut web["spec"]["template"]["spec"];
    pod["terminationGracePeriodSeconds"] = 10.into();
    pod["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 2}}});
    web
}

/// What a poller saw.
struct Seen {
    answers: usize,
    failures: Vec<String>,
}

/// Asks an address over and over until `stop`.
fn poll<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    address: SocketAddr,
    stop: &'scope AtomicBool,
    answers: &'scope AtomicUsize,
) -> ScopedJoinHandle<'scope, Seen> {
    scope.spawn(move || {
        let mut seen = Seen {
            answers: 0,
            failures: Vec::new(),
        };
        let start = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            match page(address) {
                Ok(text) if text.starts_with("Hello from pod web-") => {
                    seen.answers += 1;
                    answers.fetch_add(1, Ordering::Relaxed);
                }
                Ok(text) => seen
                    .failures
                    .push(format!("{:?} {address}: {text:?}", start.elapsed())),
                Err(error) => seen
                    .failures
                    .push(format!("{:?} {address}: {error}", start.elapsed())),
            }
            thread::sleep(PAUSE);
        }
        seen
    })
}

/// Uid and restarts of each pod of the web servers.
fn pods(ns: &Namespace<'_>) -> BTreeMap<String, i64> {
    let list = ns.get(&["pods", "-l", "app=web"]);
    let pods = list["items"].as_array().unwrap();
    pods.iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .map(|pod| {
            let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
            (
                pod["metadata"]["uid"].to_string(),
                restarts.as_i64().unwrap_or(0),
            )
        })
        .collect()
}

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
    eventually(SOON, || match pods(ns).len() {
        4 => Ok(()),
        other => Err(format!("after {after}: {other} pods of 4")),
    });
}

#[test]
fn pods_keep_serving_while_each_daemon_dies() {
    let fixture = Fixture::up("kills", 2);
    let ns = fixture.namespace("kills");
    ns.apply(&service());
    ns.apply(&servers());
    ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    let addresses: Vec<SocketAddr> = fixture
        .cluster
        .nodes()
        .iter()
        .map(|node| (node.address, NODE_PORT).into())
        .collect();
    for address in &addresses {
        eventually(SOON, || page(*address));
    }
    let before = pods(&ns);
    let (stop, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let pollers: Vec<_> = addresses
            .iter()
            .map(|address| poll(scope, *address, &stop, &answers))
            .collect();
        let work = scope.spawn(|| {
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
        let worked = work.join();
        stop.store(true, Ordering::Relaxed);
        for poller in pollers {
            let seen = poller.join().unwrap();
            assert!(seen.answers > 100, "{} answers", seen.answers);
            assert_eq!(seen.failures, Vec::<String>::new());
        }
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let now = pods(&ns);
    assert!(now.values().all(|restarts| *restarts == 0), "{now:?}");
    let kept = before.keys().filter(|uid| now.contains_key(*uid)).count();
    assert!(kept >= 3, "of {before:?} too few are left in {now:?}");

    a_node_is_lost(&fixture, &ns);
}

/// A node that loses its power: its pods are made anew elsewhere, and it takes pods again when it is back.
fn a_node_is_lost(fixture: &Fixture, ns: &Namespace<'_>) {
    let mut quick = servers();
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
