//! The cluster library itself: what breaks comes back, and what is ended leaves nothing.

use std::path::Path;
use std::time::Duration;

use e2e::cluster::{self, Cluster, Daemon};
use e2e::progress::Progress;
use nix::sys::signal::Signal;

use super::fixture::{Fixture, eventually};

const SOON: Duration = Duration::from_secs(60);
const NODE: &str = "node-1";

fn is_ready(cluster: &Cluster) -> Result<(), String> {
    match cluster.get("/readyz") {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(format!("status {}", answer.status)),
        Err(error) => Err(e2e::init::chain(&error)),
    }
}

/// What carries the cluster's name on this machine.
fn traces(name: &str) -> Vec<String> {
    let named = |dir: &str| -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path().display().to_string())
            .filter(|path| {
                path.rsplit('/')
                    .next()
                    .is_some_and(|file| file == name || file.starts_with(&format!("{name}-")))
            })
            .collect()
    };
    let mut found = Vec::new();
    for dir in [
        "/run/netns",
        "/run/navarch",
        "/sys/class/net",
        "/sys/fs/cgroup",
    ] {
        found.extend(named(dir));
    }
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
    {
        found.extend(named(&hierarchy.path().to_string_lossy()));
    }
    found
}

/// One test, because every step needs the one before it.
#[test]
fn what_breaks_comes_back_and_what_is_ended_leaves_nothing() {
    let fixture = Fixture::up("harness", 1);
    let Fixture { cluster, spec, .. } = &fixture;

    let daemons = [
        (None, Daemon::Etcd),
        (None, Daemon::KubeApiserver),
        (None, Daemon::KubeScheduler),
        (None, Daemon::KubeControllerManager),
        (Some(NODE), Daemon::Kubelet),
        (Some(NODE), Daemon::KubeProxy),
    ];
    for (node, daemon) in daemons {
        let before = cluster.pid(node, daemon).unwrap();
        cluster.signal(node, daemon, Signal::SIGKILL).unwrap();
        let after = eventually(SOON, || match cluster.pid(node, daemon) {
            Ok(pid) if pid != before => Ok(pid),
            Ok(_) => Err("the old process is still there".to_owned()),
            Err(error) => Err(error.to_string()),
        });
        assert_ne!(before, after);
    }
    eventually(SOON, || is_ready(cluster));

    // A daemon that was stopped stays away, also from a look a moment later, until it is started.
    cluster.stop(None, Daemon::KubeScheduler).unwrap();
    assert!(cluster.pid(None, Daemon::KubeScheduler).is_err());
    cluster.start(None, Daemon::KubeScheduler).unwrap();
    assert!(cluster.pid(None, Daemon::KubeScheduler).is_ok());

    // The second call finds everything as it should be.
    let api_server = cluster.pid(None, Daemon::KubeApiserver).unwrap();
    Cluster::up(spec.clone(), Progress::Silent).unwrap();
    assert_eq!(
        cluster.pid(None, Daemon::KubeApiserver).unwrap(),
        api_server
    );

    // A node that lost its power comes back with its disk.
    let hostname = cluster
        .inside(NODE)
        .unwrap()
        .arg("hostname")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&hostname.stdout), "node-1\n");
    let wrote = cluster
        .inside(NODE)
        .unwrap()
        .args(["sh", "-c", "echo kept > /var/lib/kept"])
        .status()
        .unwrap();
    assert!(wrote.success());
    assert!(
        !Path::new("/var/lib/kept").exists(),
        "a node writes to its own disk only"
    );
    cluster.kill_node(NODE);
    assert!(cluster.pid(Some(NODE), Daemon::Kubelet).is_err());
    Cluster::up(spec.clone(), Progress::Silent).unwrap();
    let kept = cluster
        .inside(NODE)
        .unwrap()
        .args(["cat", "/var/lib/kept"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "kept\n");

    let name = cluster.name();
    assert!(!traces(&name).is_empty());
    cluster::down(&spec.dir, false).unwrap();
    assert_eq!(traces(&name), Vec::<String>::new());
    assert!(!spec.dir.exists());
}
