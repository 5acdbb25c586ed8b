//! One node's kubelet, exchanged both ways by drain, swap and uncordon.

use e2e::cluster::{Cluster, Daemon, Spec, Upstream};
use e2e::progress::Progress;
use serde_json::json;

use super::daemons::{is_reached, probe};
use super::fixture::{Fixture, Namespace, SOON, eventually};
use super::load;

const NODE: &str = "node-2";
const NODE_PORT: u16 = 30084;
const PROBE_PORT: u16 = 30085;

#[test]
fn a_nodes_kubelet_is_exchanged_both_ways() {
    let fixture = Fixture::with("swap-kubelet", |spec| {
        spec.nodes = 2;
        // The tools of upstream's node are built before anything is measured.
        spec.upstream = Upstream::default().and(Daemon::Kubelet, NODE);
    });
    let theirs = fixture.spec.clone();
    let ours = Spec {
        upstream: Upstream::default(),
        ..theirs.clone()
    };
    let ns = fixture.namespace("swap");
    let addresses = load::start(&fixture, &ns, NODE_PORT);
    lands(&fixture, &ns);
    load::poll_while(&addresses, || {
        for (spec, containerd) in [(ours.clone(), false), (theirs, true), (ours, false)] {
            ns.kubectl(&[
                "drain",
                NODE,
                "--ignore-daemonsets",
                "--delete-emptydir-data",
                "--timeout=90s",
            ]);
            ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
            Cluster::up(spec, Progress::Screen)
                .unwrap_or_else(|error| panic!("{}", e2e::init::chain(&error)));
            let runtime = ".status.nodeInfo.containerRuntimeVersion";
            eventually(SOON, || {
                let is =
                    ns.try_kubectl(&["get", "node", NODE, &format!("-ojsonpath={{{runtime}}}")])?;
                (is.starts_with("containerd:") == containerd)
                    .then_some(())
                    .ok_or(is)
            });
            ns.kubectl(&["uncordon", NODE]);
            lands(&fixture, &ns);
        }
    });
}

/// Pods land on the node, run, are reached by a Service of all nodes, and can be looked into.
fn lands(fixture: &Fixture, ns: &Namespace<'_>) {
    let mut probe = probe();
    probe["spec"]["template"]["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": NODE});
    is_reached(fixture, ns, &probe, PROBE_PORT, "the kubelet's exchange");
    let pod = ns.names("pods", "app=probe").remove(0);
    ns.kubectl(&["logs", &pod]);
    let node = ns.kubectl(&["get", "pod", &pod, "-ojsonpath={.spec.nodeName}"]);
    assert_eq!(node, NODE);
    ns.kubectl(&["delete", "deployment/probe", "service/probe"]);
    eventually(SOON, || match ns.names("pods", "app=probe") {
        none if none.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
}
