//! From create to remove: exits, signals, limits, logs.

use std::time::{Duration, Instant};

use kubelet::runtime::container::reason;
use kubelet::runtime::{
    ContainerFilter, ContainerState, Error, EventKind, Resources, Runtime, Signal,
};

use crate::node::{LIMIT, Node};

#[tokio::test]
async fn an_exit_code_is_reported_with_its_times() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    for (code, reason) in [
        (0, reason::COMPLETED),
        (7, reason::ERROR),
        (255, reason::ERROR),
    ] {
        let (_, status) = node.script(&sandbox, &format!("exit {code}")).await;
        assert_eq!((status.exit_code, status.reason), (code, reason));
        let (created, started) = (status.created_at, status.started_at.unwrap());
        let finished = status.finished_at.unwrap();
        assert!(created <= started && started <= finished);
    }
}

#[tokio::test]
async fn a_program_that_cannot_run_says_why_and_ends_the_container() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    std::fs::write(node.rootfs().join("tmp/plain"), "no program").unwrap();
    for (program, why) in [
        (
            "nosuch",
            r#"exec: "nosuch": executable file not found in $PATH"#,
        ),
        (
            "/bin/nosuch",
            r#"exec: "/bin/nosuch": stat /bin/nosuch: no such file or directory"#,
        ),
        ("/tmp/plain", r#"exec: "/tmp/plain": permission denied"#),
    ] {
        let mut config = node.shell("");
        config.command = vec![program.into()];
        let id = node
            .runtime()
            .create_container(&sandbox, config)
            .await
            .unwrap();
        let error = node.runtime().start_container(&id).await.unwrap_err();
        assert!(
            matches!(&error, Error::Start(text) if text == why),
            "{error}"
        );
        let status = node.exited(&id).await;
        assert_eq!(
            (status.exit_code, status.reason),
            (128, reason::START_ERROR)
        );
        assert_eq!(status.message, why);
        node.runtime().remove_container(&id).await.unwrap();
    }
}

#[tokio::test]
async fn a_container_that_cannot_be_made_says_why_and_leaves_nothing() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let mut config = node.shell("true");
    config.mounts = vec![kubelet::runtime::Mount {
        container_path: "/there".into(),
        host_path: node.root.path().join("nosuch"),
        ..Default::default()
    }];
    let id = node
        .runtime()
        .create_container(&sandbox, config)
        .await
        .unwrap();
    let error = node
        .runtime()
        .start_container(&id)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("nosuch"), "{error}");
    let status = node.exited(&id).await;
    assert_eq!(
        (status.exit_code, status.reason),
        (128, reason::START_ERROR)
    );
    assert_eq!(status.message, error);
    node.runtime().remove_container(&id).await.unwrap();
    // The shim has no children left but those it does not know: none.
    let (output, _) = node.script(&sandbox, "echo next").await;
    assert_eq!(output, "next\n");
}

#[tokio::test]
async fn stop_asks_first_and_kills_after_the_grace() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let polite = node
        .run(
            &sandbox,
            node.shell("trap 'exit 5' TERM; while :; do sleep 0.01; done"),
        )
        .await;
    let deaf = node
        .run(
            &sandbox,
            node.shell("trap '' TERM; while :; do sleep 0.01; done"),
        )
        .await;
    ready(&node, &polite).await;
    ready(&node, &deaf).await;

    node.runtime()
        .stop_container(&polite, LIMIT, None)
        .await
        .unwrap();
    assert_eq!(node.status(&polite).await.exit_code, 5);

    let start = Instant::now();
    let grace = Duration::from_millis(300);
    node.runtime()
        .stop_container(&deaf, grace, None)
        .await
        .unwrap();
    let took = start.elapsed();
    let status = node.status(&deaf).await;
    assert_eq!((status.exit_code, status.signal), (137, Some(9)));
    assert!(
        took >= grace && took < grace + Duration::from_secs(5),
        "{took:?}"
    );
    node.runtime()
        .stop_container(&deaf, grace, None)
        .await
        .unwrap();
}

/// Waits until the script has set its traps: it is in its loop when it has a child.
async fn ready(node: &Node, id: &str) {
    let pid = node.status(id).await.pid.unwrap();
    let children = format!("/proc/{pid}/task/{pid}/children");
    node.until("the script runs", || {
        std::fs::read_to_string(&children).is_ok_and(|text| !text.is_empty())
    })
    .await;
}

#[tokio::test]
async fn the_stop_signal_is_the_pods_then_the_images() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let traps =
        "trap 'exit 1' TERM; trap 'exit 2' QUIT; trap 'exit 3' USR1; while :; do sleep 0.01; done";
    let mut config = node.shell(traps);
    config.image_config.stop_signal = Some("SIGQUIT".parse().unwrap());
    let image = node.run(&sandbox, config.clone()).await;
    config.stop_signal = Some("SIGUSR1".parse().unwrap());
    let pod = node.run(&sandbox, config).await;
    for (id, code) in [(image, 2), (pod, 3)] {
        ready(&node, &id).await;
        node.runtime()
            .stop_container(&id, LIMIT, None)
            .await
            .unwrap();
        assert_eq!(node.status(&id).await.exit_code, code);
    }
}

#[tokio::test]
async fn out_of_memory_is_told_and_is_the_reason_of_the_exit() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let mut events = node.runtime().events();
    let mut config = node.shell("tail /dev/zero; exit 3");
    config.resources = Resources {
        memory_limit: Some(16 << 20),
        ..Resources::default()
    };
    let id = node.run(&sandbox, config).await;
    let status = node.exited(&id).await;
    assert_eq!((status.exit_code, status.reason), (3, reason::OOM_KILLED));
    let mut seen = Vec::new();
    while seen.last() != Some(&EventKind::ContainerStopped) {
        seen.push(events.next().await.kind);
    }
    assert!(seen.contains(&EventKind::ContainerOom), "{seen:?}");

    let mut config = node.shell("exec tail /dev/zero");
    config.resources = Resources {
        memory_limit: Some(16 << 20),
        ..Resources::default()
    };
    let (_, status) = node.finish(&sandbox, config).await;
    assert_eq!((status.exit_code, status.reason), (137, reason::OOM_KILLED));
}

#[tokio::test]
async fn limits_hold_and_change_in_place() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let mut config = node.shell("sleep 1000");
    config.resources = Resources {
        memory_limit: Some(64 << 20),
        cpu_quota: Some(50_000),
        cpu_period: Some(100_000),
        pids_limit: Some(20),
        ..Resources::default()
    };
    let id = node.run(&sandbox, config).await;
    let stats = node.runtime().container_stats(&id).await.unwrap().cgroup;
    assert!(stats.memory.available.unwrap() <= 64 << 20);
    assert!(stats.pids >= 1 && stats.memory.usage > 0);
    assert!(stats.cpu.usage_core_nanos > 0);

    let more = Resources {
        memory_limit: Some(128 << 20),
        ..Resources::default()
    };
    node.runtime()
        .update_container_resources(&id, more)
        .await
        .unwrap();
    let stats = node.runtime().container_stats(&id).await.unwrap().cgroup;
    assert!(stats.memory.available.unwrap() > 64 << 20);
    let resources = node.status(&id).await.resources;
    assert_eq!(
        (resources.memory_limit, resources.cpu_quota),
        (Some(128 << 20), Some(50_000))
    );

    let pod = node.runtime().pod_sandbox_stats(&sandbox).await.unwrap();
    assert_eq!(pod.containers.len(), 1);
    assert!(pod.cgroup.cpu.usage_core_nanos >= pod.containers[0].cgroup.cpu.usage_core_nanos);
}

#[tokio::test]
async fn output_is_in_the_log_before_the_exit_is_told() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    for round in 0..10 {
        let script = "echo out; echo err >&2; i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done; printf end";
        let (_, status) = node.script(&sandbox, script).await;
        let text = std::fs::read_to_string(status.log_path.unwrap()).unwrap();
        // What has no end is a part. The order between streams is not kept.
        for line in [
            " stdout F out\n",
            " stderr F err\n",
            " stdout F line 299\n",
            " stdout P end\n",
        ] {
            assert!(text.contains(line), "{round}: {line}{text}");
        }
    }
}

#[tokio::test]
async fn a_log_rotates_without_losing_a_line() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let mut config = node.shell("seq 1 20000");
    config.log_max_size = 100_000;
    config.log_max_files = 100;
    let log = config.log_path.clone().unwrap();
    node.finish(&sandbox, config).await;
    let mut files: Vec<_> = std::fs::read_dir(log.parent().unwrap())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() > 5, "{files:?}");
    files.rotate_left(1); // the current one is the newest
    let mut expected = 1..;
    for file in files {
        for line in std::fs::read_to_string(file).unwrap().lines() {
            let number: u32 = line.rsplit(' ').next().unwrap().parse().unwrap();
            assert_eq!(Some(number), expected.next());
        }
    }
    assert_eq!(expected.next(), Some(20_001));
}

#[tokio::test]
async fn a_reopened_log_goes_on_in_a_new_file() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let config = node.shell("echo one; while [ ! -e /tmp/go ]; do sleep 0.01; done; echo two");
    let log = config.log_path.clone().unwrap();
    let id = node.run(&sandbox, config).await;
    node.until("the first line", || {
        std::fs::metadata(&log).is_ok_and(|m| m.len() > 0)
    })
    .await;
    std::fs::rename(&log, log.with_extension("old")).unwrap();
    node.runtime().reopen_container_log(&id).await.unwrap();
    std::fs::write(node.rootfs().join("tmp/go"), "").unwrap();
    let status = node.exited(&id).await;
    assert_eq!(node.output(&status), "two\n");
}

#[tokio::test]
async fn removing_leaves_nothing_but_the_log() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let id = node.run(&sandbox, node.shell("sleep 1000")).await;
    let status = node.status(&id).await;
    let pid = status.pid.unwrap();
    node.runtime().remove_container(&id).await.unwrap();
    node.runtime().remove_container(&id).await.unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(status.log_path.unwrap().exists());
    assert!(
        node.runtime()
            .container_status(&id)
            .await
            .unwrap_err()
            .is_not_found()
    );
    node.runtime().remove_pod_sandbox(&sandbox).await.unwrap();
    node.runtime().remove_pod_sandbox(&sandbox).await.unwrap();
    assert_eq!(
        std::fs::read_dir(node.root.path().join("state/pods"))
            .unwrap()
            .count(),
        0
    );
    let pod = node.pod("uid").cgroup_parent;
    assert!(node.cgroups.dirs(&pod).iter().all(|dir| !dir.exists()));
}

#[tokio::test]
async fn fifty_quick_containers_lose_no_exit() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let mut ids = Vec::new();
    for number in 0..50 {
        ids.push((
            number,
            node.run(&sandbox, node.shell(&format!("exit {number}")))
                .await,
        ));
    }
    for (number, id) in ids {
        assert_eq!(node.exited(&id).await.exit_code, number);
        node.runtime().remove_container(&id).await.unwrap();
    }
    let left = node
        .runtime()
        .list_containers(ContainerFilter::default())
        .await
        .unwrap();
    assert_eq!(left, []);
}

#[tokio::test]
async fn containers_of_one_pod_start_at_once() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let starts = (0..8).map(|number| node.finish(&sandbox, node.shell(&format!("exit {number}"))));
    let ends = futures::future::join_all(starts).await;
    let codes: Vec<_> = ends.iter().map(|(_, status)| status.exit_code).collect();
    assert_eq!(codes, (0..8).collect::<Vec<_>>());
}

#[tokio::test]
async fn calls_that_come_too_early_or_too_late_are_refused() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let runtime = node.runtime();
    let id = runtime
        .create_container(&sandbox, node.shell("exit 0"))
        .await
        .unwrap();
    assert_eq!(node.status(&id).await.state, ContainerState::Created);
    let early = runtime.exec_sync(&id, vec!["true".into()], LIMIT).await;
    assert!(matches!(
        early,
        Err(Error::ContainerState {
            is: ContainerState::Created,
            ..
        })
    ));
    runtime.start_container(&id).await.unwrap();
    node.exited(&id).await;
    let again = runtime.start_container(&id).await;
    assert!(matches!(
        again,
        Err(Error::ContainerState {
            is: ContainerState::Exited,
            ..
        })
    ));
    runtime
        .stop_container(&id, LIMIT, Some(Signal::TERM))
        .await
        .unwrap();
    let unknown = runtime.start_container("nosuch").await;
    assert!(unknown.unwrap_err().is_not_found());
}
