//! A cluster as `hack/up` brings it up, held to the CIS Kubernetes Benchmark by kube-bench: every check that is scored passes,
//! but for a few that are about something a local cluster has not ([`APART`]).
//!
//! `hack/test cis` runs it: kube-bench has to be built for it.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[allow(dead_code, reason = "each program of tests has a use for a part")]
#[path = "../cluster/fixture.rs"]
mod fixture;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::cluster::{Cluster, Daemon};
use e2e::workshop::Workshop;
use serde_json::Value;

use fixture::Fixture;

/// The newest benchmark that the pinned kube-bench knows.
const BENCHMARK: &str = "cis-1.10";
const CONTROL_PLANE: &str = "control-plane";
/// How many scored checks it has of the control plane, of etcd and of a node.
const SCORED: [(&str, usize); 3] = [("master", 46), ("etcd", 6), ("node", 12)];

/// Checks that do not pass, and why that is as it shall be.
const APART: &[(&str, &str)] = &[
    (
        "1.1.12",
        "etcd runs as root, in a host of its own without a user of that name",
    ),
    (
        "1.3.7",
        "it is bound to a loopback address, which is the cluster's own: several clusters stand on one machine",
    ),
    ("1.4.2", "as 1.3.7"),
];

/// What is known of one check.
#[derive(Debug, PartialEq)]
struct Found {
    status: String,
    scored: bool,
    said: String,
}

#[test]
fn every_scored_check_of_the_benchmark_passes() {
    let fixture = Fixture::with("cis", |spec| spec.secured = true);
    let workshop = Workshop::new("dev");
    workshop.ensure_tools(&["kube-bench"]).unwrap();
    let node = fixture.cluster.nodes().remove(0).name;
    let mut all = BTreeMap::new();
    for (target, all_scored) in SCORED {
        let host = if target == "node" {
            &node
        } else {
            CONTROL_PLANE
        };
        let found = checks(&fixture.cluster, &workshop, host, target);
        let scored = found.values().filter(|of| of.scored).count();
        assert_eq!(scored, all_scored, "{target}: {found:?}");
        all.extend(found);
    }
    let apart = |number: &str| APART.iter().any(|(of, _)| *of == number);
    let scored = all.iter().filter(|(_, found)| found.scored);
    let failed: Vec<_> = scored
        .clone()
        .filter(|(number, found)| found.status != "PASS" && !apart(number))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let stale: Vec<_> = scored
        .filter(|(number, found)| found.status == "PASS" && apart(number))
        .collect();
    assert!(stale.is_empty(), "they pass now: {stale:#?}");
}

/// Runs kube-bench on a host.
fn checks(
    cluster: &Cluster,
    workshop: &Workshop,
    host: &str,
    target: &str,
) -> BTreeMap<String, Found> {
    let dir = cluster.spec.dir.join("cis").join(target);
    configure(cluster, workshop, host, &dir);
    let mut command: Command = cluster.inside(host).unwrap();
    // The control plane shows the machine's processes, which are not its own.
    let own = "mount -t proc proc /proc && exec \"$@\"";
    let output = command
        .args(["unshare", "--mount", "sh", "-c", own, "sh"])
        .arg(cluster.spec.tools.join("kube-bench"))
        .args([
            "run",
            "--json",
            "--benchmark",
            BENCHMARK,
            "--targets",
            target,
            "--config-dir",
        ])
        .arg(&dir)
        .arg("--config")
        .arg(dir.join("config.yaml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    let list = |of: &Value, name: &str| of[name].as_array().cloned().unwrap_or_default();
    let groups = list(&report, "Controls");
    let groups = groups.iter().flat_map(|of| list(of, "tests"));
    let results = groups.flat_map(|of| list(&of, "results"));
    let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
    results
        .map(|of| {
            let found = Found {
                status: text(&of["status"]),
                scored: of["scored"] == true,
                said: format!(
                    "{} {} {}",
                    text(&of["test_desc"]),
                    text(&of["reason"]),
                    text(&of["actual_value"])
                ),
            };
            (text(&of["test_number"]), found)
        })
        .collect()
}

/// Writes what kube-bench reads: its own checks, with the places of this cluster in the place of kubeadm's. What a daemon is
/// started with lies in its host's file of processes, as it does in a pod's manifest there.
fn configure(cluster: &Cluster, workshop: &Workshop, host: &str, dir: &Path) {
    let spec = &cluster.spec;
    let checks = workshop
        .module("kube-bench", "github.com/aquasecurity/kube-bench")
        .unwrap();
    let checks = checks.join("cfg").join(BENCHMARK);
    fs::create_dir_all(dir.join(BENCHMARK)).unwrap();
    let kubeconfig = |who: &str| {
        spec.dir
            .join("kubeconfigs")
            .join(format!("{who}.kubeconfig"))
    };
    let admin = spec.dir.join("admin.kubeconfig");
    for file in fs::read_dir(checks).unwrap().flatten() {
        let text = fs::read_to_string(file.path()).unwrap();
        let text = text
            .replace(
                "/etc/kubernetes/pki/",
                &format!("{}/", spec.dir.join("pki").display()),
            )
            .replace("/etc/kubernetes/admin.conf", &admin.display().to_string());
        fs::write(dir.join(BENCHMARK).join(file.file_name()), text).unwrap();
    }
    let processes = spec.dir.join("hosts").join(host).join("processes.json");
    // Its checks look for a file of this name: the same one, and its permissions.
    let of_etcd = dir.join("etcd.json");
    fs::hard_link(&processes, &of_etcd).unwrap();
    let daemon = |daemon: Daemon, fields: &[(&str, &Path)]| {
        let fields = fields
            .iter()
            .map(|(name, path)| ((*name).to_owned(), serde_json::json!([path])));
        let mut all: serde_json::Map<String, Value> = fields.collect();
        all.insert("bins".to_owned(), serde_json::json!([daemon.name()]));
        Value::Object(all)
    };
    let control = |of, who: &str| {
        daemon(
            of,
            &[("confs", &processes), ("kubeconfig", &kubeconfig(who))],
        )
    };
    let api_server = daemon(Daemon::KubeApiserver, &[("confs", &processes)]);
    let etcd = daemon(
        Daemon::Etcd,
        &[("confs", &of_etcd), ("datadirs", &spec.dir.join("etcd"))],
    );
    let config = |name: &str| spec.dir.join("nodes").join(host).join("config").join(name);
    let config = serde_json::json!({
        "master": {
            "components": ["apiserver", "scheduler", "controllermanager", "etcd"],
            "apiserver": api_server,
            "scheduler": control(Daemon::KubeScheduler, "scheduler"),
            "controllermanager": control(Daemon::KubeControllerManager, "controller-manager"),
            "etcd": etcd,
        },
        "etcd": {"components": ["etcd"], "etcd": etcd},
        "node": {
            "components": ["kubelet", "proxy"],
            "kubelet": daemon(Daemon::Kubelet, &[
                ("confs", &config("kubelet.yaml")),
                ("svc", &processes),
                ("kubeconfig", &kubeconfig(host)),
                ("cafile", &spec.dir.join("pki/ca.crt")),
            ]),
            "proxy": daemon(Daemon::KubeProxy, &[
                ("confs", &config("kube-proxy.yaml")),
                ("kubeconfig", &config("kube-proxy.yaml")),
            ]),
        },
        "target_mapping": {BENCHMARK: ["master", "etcd", "node"]},
    });
    // JSON is YAML.
    fs::write(dir.join("config.yaml"), config.to_string()).unwrap();
}
