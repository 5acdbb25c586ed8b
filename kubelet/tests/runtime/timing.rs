//! How long things take and how large they are. The bounds are those of a loaded machine with programs
//! that were not optimised; the figures are printed.

use std::time::{Duration, Instant};

use kubelet::runtime::{Runtime, SecurityProfile};

use crate::node::{LIMIT, Node};

const ROUNDS: usize = 20;

fn report(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let (median, p90) = (times[times.len() / 2], times[times.len() * 9 / 10]);
    let (least, count) = (times[0], times.len());
    println!("{what}: least {least:.1?}, median {median:.1?}, p90 {p90:.1?}, n {count}");
    median
}

#[tokio::test]
async fn a_container_is_quick_with_and_without_a_filter() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    for seccomp in [SecurityProfile::Unconfined, SecurityProfile::RuntimeDefault] {
        let [mut created, mut started, mut exited, mut removed] = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            let mut config = node.shell("");
            config.command = vec!["/bin/true".into()];
            config.security.seccomp = seccomp.clone();
            let start = Instant::now();
            let id = node
                .runtime()
                .create_container(&sandbox, config)
                .await
                .unwrap();
            created.push(start.elapsed());
            node.runtime().start_container(&id).await.unwrap();
            started.push(start.elapsed());
            node.exited(&id).await;
            exited.push(start.elapsed());
            node.runtime().remove_container(&id).await.unwrap();
            removed.push(start.elapsed());
        }
        let with = format!("with {seccomp:?}");
        report(&format!("create {with}"), created);
        report(&format!("+ start answered {with}"), started);
        report(&format!("+ exit seen {with}"), exited);
        let whole = report(&format!("+ removed {with}"), removed);
        assert!(whole < Duration::from_millis(500));
    }
}

#[tokio::test]
async fn an_exec_is_quick() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let mut config = node.shell("sleep 1000");
    config.security.seccomp = SecurityProfile::RuntimeDefault;
    let id = node.run(&sandbox, config).await;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        node.runtime()
            .exec_sync(&id, vec!["/bin/true".into()], LIMIT)
            .await
            .unwrap();
        times.push(start.elapsed());
    }
    assert!(report("exec", times) < Duration::from_millis(250));
}

#[tokio::test]
async fn a_pod_is_quick() {
    let node = Node::start().await;
    let mut times = Vec::new();
    for number in 0..ROUNDS {
        let start = Instant::now();
        let pod = node.pod(&format!("pod{number}"));
        node.runtime().run_pod_sandbox(pod).await.unwrap();
        times.push(start.elapsed());
    }
    assert!(report("sandbox", times) < Duration::from_millis(500));
}

#[tokio::test]
async fn an_idle_shim_is_small() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    node.run(&sandbox, node.shell("sleep 1000")).await;
    node.script(&sandbox, "yes | head -c 10000000").await;
    let procs = node.cgroups.dir(
        "memory",
        &format!("{}/navarch-shims/{sandbox}", node.cgroup_root),
    );
    let pid = std::fs::read_to_string(procs.unwrap().join("cgroup.procs")).unwrap();
    let smaps = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", pid.trim())).unwrap();
    let kib = |name: &str| -> u64 {
        let line = smaps
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let (rss, pss, anonymous) = (kib("Rss:"), kib("Pss:"), kib("Anonymous:"));
    println!("shim: RSS {rss} KiB, PSS {pss} KiB, anonymous {anonymous} KiB");
    assert!(anonymous < 1024, "{smaps}");
}
