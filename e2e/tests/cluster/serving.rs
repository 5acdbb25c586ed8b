//! What people do with a cluster, through kubectl and plain HTTP.

use std::sync::LazyLock;

use e2e::cluster::Daemon;

use super::fixture::{Fixture, SOON, eventually};
use super::load::page;

/// Two nodes, shared by all tests here; none of them may disturb the others.
pub(super) static CLUSTER: LazyLock<Fixture> = LazyLock::new(|| Fixture::up("cluster", 2));

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../hack/demo.yaml");

#[test]
fn a_deployment_is_served_by_name_and_on_every_node() {
    let fixture = &*CLUSTER;
    fixture.kubectl(&["apply", "-f", DEMO]);
    fixture.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    for node in fixture.cluster.nodes() {
        let text = eventually(SOON, || page((node.address, 30080).into()));
        assert!(
            text.starts_with("Hello from pod web-"),
            "{}: {text}",
            node.name
        );
    }
    let ask = "wget -qO- http://web.default.svc.cluster.local && wget -qO- http://web";
    fixture.kubectl(&[
        "run",
        "asker",
        "--image=navarch.local/busybox:1",
        "--restart=Never",
        "--",
        "sh",
        "-ec",
        ask,
    ]);
    fixture.kubectl(&[
        "wait",
        "pod/asker",
        "--for=jsonpath={.status.phase}=Succeeded",
        "--timeout=60s",
    ]);
    assert_eq!(
        fixture
            .kubectl(&["logs", "asker"])
            .matches("Hello from pod web-")
            .count(),
        2
    );
}

#[test]
fn commands_run_in_a_container_with_its_input_and_exit_code() {
    let fixture = &*CLUSTER;
    fixture.kubectl(&[
        "run",
        "shell",
        "--image=navarch.local/busybox:1",
        "--",
        "sleep",
        "1000",
    ]);
    fixture.kubectl(&[
        "wait",
        "pod/shell",
        "--for=condition=Ready",
        "--timeout=60s",
    ]);
    let echoed = fixture
        .cluster
        .kubectl_with_input(&["exec", "-i", "shell", "--", "cat"], "as it went in\n");
    assert_eq!(echoed.unwrap(), "as it went in\n");
    let failed = fixture
        .cluster
        .kubectl(&["exec", "shell", "--", "sh", "-c", "exit 7"])
        .unwrap_err();
    assert!(failed.to_string().contains("exit code 7"), "{failed}");
}

/// While the other tests use the cluster, each cache is compared with etcd all the time.
#[test]
fn what_the_api_server_holds_is_what_etcd_holds() {
    let fixture = &*CLUSTER;
    let ours = !fixture
        .spec
        .upstream
        .runs(Daemon::KubeApiserver, "control-plane");
    // Upstream's compares every five minutes.
    let least = if ours { 50 } else { 0 };
    let checks = eventually(SOON, || {
        let checks = fixture.cluster.cache_checks().map_err(|e| e.to_string())?;
        if checks.equal >= least || !checks.different.is_empty() {
            return Ok(checks);
        }
        Err(format!("{checks:?}"))
    });
    assert_eq!(checks.different, Vec::<String>::new());
}
