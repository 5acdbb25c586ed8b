//! What containers of a pod share.

use std::collections::BTreeMap;

use kubelet::runtime::{NamespaceMode, Network, Runtime};

use crate::node::Node;

const NAMESPACES: &str = "cd /proc/self/ns; for n in net ipc uts pid mnt; do readlink $n; done";

#[tokio::test]
async fn network_ipc_and_host_name_are_the_pods_and_processes_the_containers() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    // The first still runs when the second does: numbers of namespaces that are gone come again.
    let config = node.shell(&format!("{NAMESPACES}; sleep 1000"));
    let log = config.log_path.clone().unwrap();
    let first = node.run(&sandbox, config).await;
    let all = || std::fs::read_to_string(&log).is_ok_and(|text| text.lines().count() == 5);
    node.until("the first has written", all).await;
    let one = node.output(&node.status(&first).await);
    let (two, _) = node.script(&sandbox, NAMESPACES).await;
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (one, two) = (lines(&one), lines(&two));
    assert_eq!(one[..3], two[..3]);
    assert_ne!(one[3], two[3], "PID namespaces");
    for (own, kind) in one.iter().zip(["net", "ipc", "uts", "pid", "mnt"]) {
        let host = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(own, &host.display().to_string());
    }
    let (shared, _) = node.script(&sandbox, "echo hello >/dev/shm/file").await;
    assert_eq!(shared, "");
    let (shared, _) = node
        .script(&sandbox, "cat /dev/shm/file; df -k /dev/shm | tail -1")
        .await;
    assert!(
        shared.starts_with("hello\n") && shared.contains("65536"),
        "{shared}"
    );
}

#[tokio::test]
async fn a_pod_can_be_in_the_nodes_namespaces() {
    let node = Node::start().await;
    let mut pod = node.pod("host");
    pod.network = Network::Node;
    pod.ipc = NamespaceMode::Node;
    pod.pid = NamespaceMode::Node;
    pod.hostname = String::new();
    let sandbox = node.runtime().run_pod_sandbox(pod).await.unwrap();
    let (output, _) = node.script(&sandbox, NAMESPACES).await;
    for (own, kind) in output.lines().zip(["net", "ipc", "uts", "pid"]) {
        let host = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_eq!(own, host.display().to_string());
    }
    // In the node's PID namespace nobody but the runtime ends what a container leaves behind.
    let (_, status) = node.script(&sandbox, "sleep 998 & exit 3").await;
    assert_eq!(status.exit_code, 3);
    node.until("what was left is gone", || {
        !node.cgroups.has_processes("/kubepods/burstable/podhost")
    })
    .await;
}

#[tokio::test]
async fn a_shared_pid_namespace_is_held_and_reaped_and_seen_by_all() {
    let node = Node::start().await;
    let mut pod = node.pod("shared");
    pod.pid = NamespaceMode::Pod;
    let sandbox = node.runtime().run_pod_sandbox(pod.clone()).await.unwrap();
    let first = node.run(&sandbox, node.shell("sleep 1000")).await;
    let second = node.run(&sandbox, node.shell("exec sleep 2000")).await;
    let seen = node.exec(&second, "ps -o pid,args").await;
    assert!(
        seen.contains("sleep 1000") && seen.contains("sleep 2000"),
        "{seen}"
    );

    let holder = node
        .exec(&first, "cat /proc/1/status; cat /proc/1/oom_score_adj")
        .await;
    assert!(holder.contains("Name:\tnavarch-shim"), "{holder}");
    assert!(
        holder.contains("Uid:\t65535") && holder.contains("CapBnd:\t0000000000000000"),
        "{holder}"
    );
    let outside = node.runtime().exec_sync(
        &first,
        [
            "/bin/sh",
            "-c",
            "ls /proc/1/root /proc/1/fd; ls -l /proc/1/exe",
        ]
        .map(String::from)
        .to_vec(),
        crate::node::LIMIT,
    );
    let outside = String::from_utf8(outside.await.unwrap().stdout).unwrap();
    assert!(
        !outside.contains("etc"),
        "the holder leads nowhere: {outside}"
    );

    // An orphan goes to the holder, which reaps it.
    node.exec(&first, "(sleep 0.05 &) ; true").await;
    let deadline = std::time::Instant::now() + crate::node::LIMIT;
    while node
        .exec(&first, "ps -o stat,args")
        .await
        .contains("sleep 0.05")
    {
        assert!(
            std::time::Instant::now() < deadline,
            "the orphan is still there"
        );
    }

    node.runtime()
        .stop_container(&first, std::time::Duration::ZERO, None)
        .await
        .unwrap();
    assert_eq!(node.exec(&second, "echo alive").await, "alive\n");
    node.runtime().remove_pod_sandbox(&sandbox).await.unwrap();
    assert!(
        node.cgroups
            .dirs(&pod.cgroup_parent)
            .iter()
            .all(|dir| !dir.exists())
    );
}

#[tokio::test]
async fn a_container_can_join_the_processes_of_another() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let target = node.run(&sandbox, node.shell("exec sleep 3000")).await;
    let mut config = node.shell("ps -o pid,args");
    config.security.pid = NamespaceMode::Target(target.clone());
    let (output, _) = node.finish(&sandbox, config).await;
    assert!(output.contains("1 sleep 3000"), "{output}");
    let mut config = node.shell("true");
    config.security.pid = NamespaceMode::Target("nosuch".into());
    let id = node
        .runtime()
        .create_container(&sandbox, config)
        .await
        .unwrap();
    let error = node.runtime().start_container(&id).await.unwrap_err();
    assert!(error.to_string().contains("no container nosuch"), "{error}");
}

#[tokio::test]
async fn sysctls_are_the_pods_and_unknown_ones_refused() {
    let node = Node::start().await;
    let mut pod = node.pod("sysctl");
    pod.sysctls = BTreeMap::from([
        ("net.ipv4.ip_local_port_range".into(), "2000 3000".into()),
        ("kernel.shm_rmid_forced".into(), "1".into()),
    ]);
    let sandbox = node.runtime().run_pod_sandbox(pod.clone()).await.unwrap();
    let read = "cd /proc/sys; cat net/ipv4/ip_local_port_range kernel/shm_rmid_forced \
        net/ipv4/ip_unprivileged_port_start";
    let (output, _) = node.script(&sandbox, read).await;
    assert_eq!(
        output.split_whitespace().collect::<Vec<_>>(),
        ["2000", "3000", "1", "0"]
    );
    for bad in ["net.no.such", "net/../kernel.hostname", ""] {
        let mut pod = node.pod("bad");
        pod.sysctls = BTreeMap::from([(bad.into(), "1".into())]);
        assert!(node.runtime().run_pod_sandbox(pod).await.is_err(), "{bad}");
    }
    let dirs = std::fs::read_dir(node.root.path().join("state/pods"))
        .unwrap()
        .count();
    assert_eq!(dirs, 1, "a sandbox that failed leaves nothing");
}

#[tokio::test]
async fn a_given_network_is_joined_and_held() {
    let node = Node::start().await;
    let maker = node.sandbox().await;
    let id = node.run(&maker, node.shell("sleep 1000")).await;
    let pid = node.status(&id).await.pid.unwrap();
    let mut pod = node.pod("given");
    pod.network = Network::Path(format!("/proc/{pid}/ns/net").into());
    let sandbox = node.runtime().run_pod_sandbox(pod).await.unwrap();
    let expected = std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    node.runtime().remove_pod_sandbox(&maker).await.unwrap();
    let (output, _) = node
        .script(&sandbox, "readlink /proc/self/ns/net; ip addr show lo")
        .await;
    assert!(
        output.starts_with(&expected.display().to_string()),
        "{output}"
    );
    assert!(output.contains("127.0.0.1"), "{output}");
}

#[tokio::test]
async fn stopping_a_sandbox_ends_everything_in_it() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let ids = [
        node.run(&sandbox, node.shell("sleep 1000")).await,
        node.run(&sandbox, node.shell("sleep 1000")).await,
    ];
    node.runtime().stop_pod_sandbox(&sandbox).await.unwrap();
    for id in ids {
        assert_eq!(node.status(&id).await.exit_code, 137);
    }
    assert!(!node.cgroups.has_processes(&node.cgroup_root));
    let refused = node
        .runtime()
        .create_container(&sandbox, node.shell(""))
        .await;
    assert!(refused.is_err());
}
