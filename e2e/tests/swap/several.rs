//! Three API servers, one of them upstream's, on three members of etcd: what one of a kind may be without, they are.

use std::collections::BTreeSet;

use e2e::cluster::{Cluster, Daemon, Spec, Upstream};
use e2e::progress::Progress;

use super::api::Api;
use super::fixture::{Fixture, web};
use super::storage::THEIRS;

#[test]
fn a_control_plane_of_three_bears_the_loss_of_each() {
    let fixture = Fixture::with("several", |spec| {
        spec.api_servers = 3;
        spec.etcd_members = 3;
        spec.upstream = Upstream::default().and(Daemon::KubeApiserver, THEIRS);
    });
    let cluster = &fixture.cluster;
    let servers = cluster.api_servers();
    let addresses: BTreeSet<String> = servers
        .iter()
        .map(|(_, address)| address.ip().to_string())
        .collect();
    assert_eq!(addresses.len(), 3);
    for (host, _) in &servers {
        Api::on(cluster, "an API server", host).knows_servers(&addresses);
    }
    let ns = fixture.namespace("several");
    ns.apply(&web(1));
    ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    for (turn, (host, _)) in servers.iter().enumerate() {
        let replicas = (turn + 2).to_string();
        cluster.stop(Some(host), Daemon::KubeApiserver).unwrap();
        cluster.stop(Some(host), Daemon::Etcd).unwrap();
        ns.kubectl(&["scale", "deployment/web", &format!("--replicas={replicas}")]);
        ns.wait_for("deployment/web", ".status.availableReplicas", &replicas);
        cluster.start(Some(host), Daemon::Etcd).unwrap();
        cluster.start(Some(host), Daemon::KubeApiserver).unwrap();
    }

    // Fewer API servers, then the one alone, on what etcd has.
    for api_servers in [2, 1] {
        let fewer = Spec {
            api_servers,
            upstream: Upstream::default(),
            ..fixture.spec.clone()
        };
        let cluster = Cluster::up(fewer, Progress::Screen).unwrap();
        assert_eq!(cluster.api_servers().len(), api_servers);
        ns.wait_for("deployment/web", ".status.availableReplicas", "4");
    }
    let grown = Spec {
        etcd_members: 1,
        ..fixture.spec.clone()
    };
    assert!(
        Cluster::up(grown, Progress::Silent).is_err(),
        "members of etcd do not change with the number that is asked for"
    );
}
