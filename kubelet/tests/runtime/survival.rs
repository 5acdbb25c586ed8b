//! What outlives what: kubelets killed and started again, shims killed.

use kubelet::runtime::container::reason;
use kubelet::runtime::{ContainerState, EventKind, PodSandboxState, Runtime};
use tokio::io::AsyncReadExt;

use crate::node::{LIMIT, Node};

#[tokio::test]
async fn a_killed_kubelet_loses_no_container_and_no_exit() {
    let mut node = Node::start().await;
    let sandbox = node.sandbox().await;
    let wait = "while [ ! -e /tmp/go ]; do sleep 0.01; done";
    let ends = node
        .run(
            &sandbox,
            node.shell(&format!("echo begin; {wait}; echo end; exit 7")),
        )
        .await;
    let stays = node.run(&sandbox, node.shell("sleep 1000")).await;
    let ended = node.run(&sandbox, node.shell("exit 3")).await;
    node.exited(&ended).await;
    let created = node
        .runtime()
        .create_container(&sandbox, node.shell("exit 4"))
        .await
        .unwrap();
    let before = node.status(&stays).await;

    node.kill_kubelet().await;
    std::fs::write(node.rootfs().join("tmp/go"), "").unwrap();
    // It ends while nobody looks.
    let record = node
        .root
        .path()
        .join("state/pods/uid")
        .join(&sandbox)
        .join(&ends)
        .join("exit");
    node.until("the exit is recorded", || record.exists()).await;
    node.start_kubelet().await;

    let status = node.status(&ends).await;
    assert_eq!(
        (status.state, status.exit_code),
        (ContainerState::Exited, 7)
    );
    assert_eq!(node.output(&status), "begin\nend\n");
    assert!(status.started_at.is_some());
    assert_eq!(node.status(&ended).await.exit_code, 3);
    let after = node.status(&stays).await;
    assert_eq!(after, before, "nothing of it changed");
    let state = node
        .runtime()
        .pod_sandbox_status(&sandbox)
        .await
        .unwrap()
        .state;
    assert_eq!(state, PodSandboxState::Ready);

    assert_eq!(node.exec(&stays, "echo alive").await, "alive\n");
    node.runtime().start_container(&created).await.unwrap();
    assert_eq!(node.exited(&created).await.exit_code, 4);
    node.runtime()
        .stop_container(&stays, std::time::Duration::ZERO, None)
        .await
        .unwrap();
    assert_eq!(node.status(&stays).await.exit_code, 137);
    node.runtime().remove_pod_sandbox(&sandbox).await.unwrap();
}

#[tokio::test]
async fn an_attached_kubelet_that_dies_does_not_disturb_the_container() {
    let mut node = Node::start().await;
    let sandbox = node.sandbox().await;
    let wait = "while [ ! -e /tmp/go ]; do sleep 0.01; done";
    let id = node
        .run(&sandbox, node.shell(&format!("{wait}; seq 1 50000")))
        .await;
    let session = node.runtime().attach(&id, false).await.unwrap();
    drop(session);
    node.kill_kubelet().await;
    node.start_kubelet().await;
    let mut session = node.runtime().attach(&id, false).await.unwrap();
    std::fs::write(node.rootfs().join("tmp/go"), "").unwrap();
    let mut text = String::new();
    session
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .await
        .unwrap();
    assert_eq!(text.lines().count(), 50_000);
    assert_eq!(node.exited(&id).await.exit_code, 0);
}

#[tokio::test]
async fn a_killed_shim_takes_its_containers_along_and_says_so() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let lost = node.run(&sandbox, node.shell("sleep 1000")).await;
    let ended = node.run(&sandbox, node.shell("exit 3")).await;
    node.exited(&ended).await;
    let pid = node.status(&lost).await.pid.unwrap();
    let mut events = node.runtime().events();
    node.cgroups
        .kill(&format!("{}/navarch-shims", node.cgroup_root));

    let status = node.exited(&lost).await;
    assert_eq!((status.exit_code, status.reason), (255, reason::UNKNOWN));
    assert!(status.message.contains("shim"), "{}", status.message);
    assert_eq!(node.status(&ended).await.exit_code, 3);
    // Nobody may have reaped it yet.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    while events.next().await.kind != EventKind::SandboxGone {}
    let state = node
        .runtime()
        .pod_sandbox_status(&sandbox)
        .await
        .unwrap()
        .state;
    assert_eq!(state, PodSandboxState::NotReady);
    let again = node
        .runtime()
        .create_container(&sandbox, node.shell(""))
        .await;
    assert!(again.is_err());

    // The pod gets another one.
    let next = node.sandbox().await;
    let (output, _) = node.script(&next, "echo again").await;
    assert_eq!(output, "again\n");
    node.runtime().remove_pod_sandbox(&sandbox).await.unwrap();
    node.runtime().remove_pod_sandbox(&next).await.unwrap();
}

#[tokio::test]
async fn shim_and_kubelet_killed_together_leave_a_clear_state() {
    let mut node = Node::start().await;
    let sandbox = node.sandbox().await;
    let lost = node.run(&sandbox, node.shell("sleep 1000")).await;
    let never = node
        .runtime()
        .create_container(&sandbox, node.shell(""))
        .await
        .unwrap();
    node.kill_kubelet().await;
    node.cgroups
        .kill(&format!("{}/navarch-shims", node.cgroup_root));
    node.start_kubelet().await;
    let status = node.exited(&lost).await;
    assert_eq!((status.exit_code, status.reason), (255, reason::UNKNOWN));
    assert_eq!(node.status(&never).await.state, ContainerState::Created);
    node.runtime().remove_pod_sandbox(&sandbox).await.unwrap();
}

#[tokio::test]
async fn a_kubelet_killed_while_it_starts_containers_finds_them_whole() {
    let mut node = Node::start().await;
    let sandbox = node.sandbox().await;
    for round in 0..10_u64 {
        let mut ids = Vec::new();
        for code in 0..4 {
            let config = node.shell(&format!("exit {code}"));
            ids.push(
                node.runtime()
                    .create_container(&sandbox, config)
                    .await
                    .unwrap(),
            );
        }
        {
            let starts = ids.iter().map(|id| node.runtime().start_container(id));
            let all = futures::future::join_all(starts);
            // The moments lie before, in and after the start.
            let _ = tokio::time::timeout(std::time::Duration::from_millis(round * 4), all).await;
        }
        node.kill_kubelet().await;
        node.start_kubelet().await;
        for (code, id) in ids.iter().enumerate() {
            if node.status(id).await.state == ContainerState::Created {
                node.runtime().start_container(id).await.unwrap();
            }
            let status = node.exited(id).await;
            assert_eq!(
                (status.exit_code as usize, status.reason == reason::ERROR),
                (code, code > 0)
            );
            node.runtime().remove_container(id).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_stopped_sandbox_stays_stopped_for_the_next_kubelet() {
    let mut node = Node::start().await;
    let sandbox = node.sandbox().await;
    let id = node.run(&sandbox, node.shell("sleep 1000")).await;
    node.runtime().stop_pod_sandbox(&sandbox).await.unwrap();
    node.runtime().stop_pod_sandbox(&sandbox).await.unwrap();
    node.kill_kubelet().await;
    node.start_kubelet().await;
    let state = node
        .runtime()
        .pod_sandbox_status(&sandbox)
        .await
        .unwrap()
        .state;
    assert_eq!(state, PodSandboxState::NotReady);
    assert_eq!(node.status(&id).await.exit_code, 137);
    node.runtime().remove_pod_sandbox(&sandbox).await.unwrap();
}

#[tokio::test]
async fn an_unfinished_sandbox_is_removed_at_start() {
    let mut node = Node::start().await;
    let sandbox = node.sandbox().await;
    let pods = node.root.path().join("state/pods/uid");
    node.kill_kubelet().await;
    // As if it had been killed before the shim had made the namespaces, and before anything was written.
    std::fs::remove_file(pods.join(&sandbox).join("made")).unwrap();
    std::fs::create_dir(pods.join("half")).unwrap();
    node.start_kubelet().await;
    let all = node
        .runtime()
        .list_pod_sandboxes(Default::default())
        .await
        .unwrap();
    assert_eq!(all, []);
    assert!(!pods.join("half").exists() && !pods.join(&sandbox).exists());
    assert!(
        !node.cgroups.has_processes(&node.cgroup_root),
        "its shim is gone"
    );
}

#[tokio::test]
async fn events_come_in_the_order_of_life() {
    let node = Node::start().await;
    let mut events = node.runtime().events();
    let sandbox = node.sandbox().await;
    let (_, status) = node.script(&sandbox, "exit 0").await;
    node.runtime().remove_container(&status.id).await.unwrap();
    node.runtime().stop_pod_sandbox(&sandbox).await.unwrap();
    let mut kinds = Vec::new();
    while kinds.last() != Some(&EventKind::SandboxGone) {
        let event = tokio::time::timeout(LIMIT, events.next()).await.unwrap();
        assert_eq!((event.pod_uid.as_str(), &event.sandbox), ("uid", &sandbox));
        kinds.push(event.kind);
    }
    use EventKind as E;
    // A quick container's exit may be told before the answer to its start.
    let mut middle = kinds.split_off(2);
    middle[..2].sort_by_key(|kind| *kind == E::ContainerStopped);
    kinds.extend(middle);
    let expected = [
        E::SandboxReady,
        E::ContainerCreated,
        E::ContainerStarted,
        E::ContainerStopped,
        E::ContainerDeleted,
        E::SandboxGone,
    ];
    assert_eq!(kinds, expected);
}
