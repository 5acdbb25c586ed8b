//! API server, scheduler, controller manager and kube-proxy, exchanged for upstream's and back in a running cluster.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use e2e::cluster::{Cluster, Daemon, Spec, Upstream};
use e2e::progress::Progress;
use serde_json::Value;

use super::api::{Api, Inventory};
use super::fixture::{Fixture, Namespace, SOON, eventually, web};
use super::load;

const NODE_PORT: u16 = 30082;
/// Of the Services that show that a daemon does its work.
const PROBE_PORT: u16 = 30083;

const EXCHANGED: &[Daemon] = &[
    Daemon::KubeApiserver,
    Daemon::KubeScheduler,
    Daemon::KubeControllerManager,
    Daemon::KubeProxy,
];

/// Every daemon of the cluster, by host and name: its process.
fn processes(cluster: &Cluster) -> BTreeMap<(String, &'static str), i32> {
    let control_plane = [
        Daemon::Etcd,
        Daemon::KubeApiserver,
        Daemon::KubeControllerManager,
        Daemon::KubeScheduler,
    ];
    let mut hosts = vec![("control-plane".to_owned(), &control_plane[..])];
    let node = &[Daemon::Kubelet, Daemon::KubeProxy][..];
    hosts.extend(cluster.nodes().into_iter().map(|of| (of.name, node)));
    let mut all = BTreeMap::new();
    for (host, daemons) in hosts {
        for daemon in daemons {
            let pid = cluster.pid(Some(&host), *daemon).unwrap();
            all.insert((host.clone(), daemon.name()), pid.as_raw());
        }
    }
    all
}

#[test]
fn daemons_are_exchanged_and_put_back_while_pods_serve() {
    let fixture = Fixture::with("swap", |spec| {
        spec.nodes = 2;
        // All that will be needed is built before anything is measured.
        spec.upstream = Upstream::from(EXCHANGED);
    });
    let ours = Spec {
        upstream: Upstream::default(),
        ..fixture.spec.clone()
    };
    Cluster::up(ours.clone(), Progress::Screen).unwrap();
    let ns = fixture.namespace("swap");
    let addresses = load::start(&fixture, &ns, NODE_PORT);
    works(&fixture, &ns, "the first time");
    let before = load::pods(&ns);
    load::poll_while(&addresses, || {
        for daemon in EXCHANGED {
            for upstream in [Upstream::from(&[*daemon][..]), Upstream::default()] {
                let spec = Spec {
                    upstream,
                    ..ours.clone()
                };
                exchange(&fixture, &ns, *daemon, spec);
            }
        }
    });
    assert_eq!(load::pods(&ns), before, "no pod was restarted or made anew");
}

/// Brings the cluster to `spec`, which differs in `daemon`.
fn exchange(fixture: &Fixture, ns: &Namespace<'_>, daemon: Daemon, spec: Spec) {
    let cluster = &fixture.cluster;
    let whose = if spec.upstream == Upstream::default() {
        "ours"
    } else {
        "upstream's"
    };
    let what = format!("{} became {whose}", daemon.name());
    eprintln!("{what}");
    let api = Api::on(cluster, "the API server", "control-plane");
    let (were, objects) = (processes(cluster), api.inventory());
    let programs = if whose == "ours" {
        &spec.programs
    } else {
        &spec.tools
    };
    let program = programs.join(daemon.name());
    Cluster::up(spec, Progress::Screen).unwrap_or_else(|error| {
        panic!("{what}: {}", e2e::init::chain(&error));
    });
    for (key, pid) in processes(cluster) {
        if key.1 == daemon.name() {
            let runs = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
            assert_eq!(runs, program.canonicalize().unwrap(), "{what}: {key:?}");
            assert_ne!(pid, were[&key], "{what}: {key:?}");
        } else {
            assert_eq!(pid, were[&key], "{what}: {key:?} was started again");
        }
    }
    works(fixture, ns, &what);
    // What the daemon makes of what is there, it has made by now. Kinds that only one API server knows do not count.
    let now = api.inventory();
    let only_in = |all: &Inventory, other: &Inventory| -> Vec<String> {
        let left = all.objects.iter().filter(|(uid, (kind, _))| {
            other.kinds.contains(kind) && !other.objects.contains_key(*uid)
        });
        left.map(|(_, (kind, name))| format!("{kind} {name}"))
            .collect()
    };
    let (lost, made) = (only_in(&objects, &now), only_in(&now, &objects));
    assert!(
        lost.is_empty() && made.is_empty(),
        "{what}: lost {lost:?}, made {made:?}"
    );
}

/// A new Deployment rolls out and a new Service is reached on every node; both go again, with all they own.
fn works(fixture: &Fixture, ns: &Namespace<'_>, when: &str) {
    is_reached(fixture, ns, &probe(), PROBE_PORT, when);
    ns.kubectl(&["delete", "deployment/probe", "service/probe"]);
    eventually(SOON, || {
        let left = ["pods", "replicasets", "endpointslices"].map(|kind| {
            ns.names(
                kind,
                if kind == "endpointslices" {
                    "kubernetes.io/service-name=probe"
                } else {
                    "app=probe"
                },
            )
        });
        let left = left.concat();
        left.is_empty()
            .then_some(())
            .ok_or(format!("after {when}: {left:?}"))
    });
}

/// Rolls a probe out, which a Service with this node port leads to on every node.
pub(super) fn is_reached(
    fixture: &Fixture,
    ns: &Namespace<'_>,
    probe: &Value,
    port: u16,
    when: &str,
) {
    ns.apply(probe);
    ns.apply(&load::service("probe", port));
    ns.kubectl(&["rollout", "status", "deployment/probe", "--timeout=90s"]);
    for node in fixture.cluster.nodes() {
        let address = SocketAddr::from((node.address, port));
        eventually(SOON, || match load::page(address) {
            Ok(text) if text.starts_with("Hello from pod probe-") => Ok(()),
            other => Err(format!("after {when}, {address}: {other:?}")),
        });
    }
}

pub(super) fn probe() -> Value {
    let text = web(2).to_string();
    serde_json::from_str(
        &text
            .replace("\"app\":\"web\"", "\"app\":\"probe\"")
            .replace(
                "\"metadata\":{\"name\":\"web\"}",
                "\"metadata\":{\"name\":\"probe\"}",
            ),
    )
    .unwrap()
}
