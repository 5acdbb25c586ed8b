//! The lives of pods.

use std::time::{Duration, Instant};

use kubelet::runtime::{ContainerFilter, ContainerState};
use serde_json::{Value, json};

use crate::api::{LIMIT, State};
use crate::node::Node;

pub(crate) fn container(name: &str, script: &str) -> Value {
    json!({
        "name": name, "image": "busybox:1", "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", script],
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
    })
}

pub(crate) fn spec(policy: &str, containers: &[Value]) -> Value {
    json!({
        "nodeName": "node-1", "restartPolicy": policy, "containers": containers,
        "dnsPolicy": "Default", "terminationGracePeriodSeconds": 5,
    })
}

fn is_true(status: &Value, kind: &str) -> bool {
    let conditions = status["conditions"].as_array().unwrap();
    conditions
        .iter()
        .any(|c| c["type"] == kind && c["status"] == "True")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_runs_is_deleted_and_leaves_nothing() {
    let node = Node::start().await;
    let began = Instant::now();
    let script = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
    node.api
        .create("web", spec("Always", &[container("c", script)]))
        .await;
    let status = node.api.phase("web", "Running").await;
    eprintln!("running after {:?}", began.elapsed());
    assert!(is_true(&status, "Ready") && is_true(&status, "PodReadyToStartContainers"));
    assert_eq!(status["podIP"], "10.1.2.3");
    assert_eq!(status["hostIP"], "192.168.9.1");
    let told = &status["containerStatuses"][0];
    assert_eq!(told["image"], "docker.io/library/busybox:1");
    let id = told["containerID"].as_str().unwrap();
    let id = id.strip_prefix("navarch://").unwrap();
    let known = node.pods().container("uid-web", "c").unwrap();
    assert_eq!((known.id.as_str(), known.restart_count), (id, 0));
    assert!(node.pods().sandbox("uid-web").is_some());
    let link = format!("logs/containers/web_ns_c-{id}.log");
    assert!(node.root.path().join(link).exists());
    let hosts = node
        .runtime()
        .exec_sync(id, vec!["cat".into(), "/etc/hosts".into()], LIMIT)
        .await
        .unwrap();
    let hosts = String::from_utf8(hosts.stdout).unwrap();
    assert!(hosts.contains("10.1.2.3\tweb"), "{hosts}");

    node.api.delete("web", 5).await;
    node.api.gone("web").await;
    let deletion = node.api.state(|state| state.deletions[0].clone());
    assert_eq!(deletion["gracePeriodSeconds"], 0);
    assert_eq!(deletion["preconditions"]["uid"], "uid-web");
    let start = Instant::now();
    while node.pods().by_uid("uid-web").is_some() {
        assert!(start.elapsed() < LIMIT, "the pod is forgotten");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let all = ContainerFilter::default();
    assert!(
        node.runtime()
            .list_containers(all)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(!node.pod_dir("uid-web").exists());
    assert!(node.network.pods.lock().is_empty());
    assert!(!node.root.path().join("logs/pods/ns_web_uid-web").exists());
    for event in [
        "Pulled: ",
        "Created: Container created",
        "Started: ",
        "Killing: ",
    ] {
        let is = |state: &State| {
            let mut events = state.events.iter();
            events.any(|e| e.starts_with(event)).then_some(())
        };
        node.api.until(event, is).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_ends_tells_how() {
    let node = Node::start().await;
    let script = "echo -n because >/dev/termination-log; exit 3";
    node.api
        .create("job", spec("Never", &[container("c", script)]))
        .await;
    let status = node.api.phase("job", "Failed").await;
    let ended = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&ended["exitCode"], &ended["message"]),
        (&json!(3), &json!("because"))
    );
    node.api
        .create("good", spec("Never", &[container("c", "exit 0")]))
        .await;
    let status = node.api.phase("good", "Succeeded").await;
    assert_eq!(status["podIP"], "10.1.2.3");
    assert!(node.network.pods.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_crashes_is_started_again_and_then_waits() {
    let node = Node::start().await;
    node.api
        .create("loop", spec("Always", &[container("c", "exit 7")]))
        .await;
    let is = |state: &State| {
        let told = state.pods.get("loop")?["status"]["containerStatuses"]
            .get(0)?
            .clone();
        (told["state"]["waiting"]["reason"] == "CrashLoopBackOff").then_some(told)
    };
    let told = node.api.until("it waits", is).await;
    assert_eq!(told["restartCount"], 1);
    assert_eq!(told["lastState"]["terminated"]["exitCode"], 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_containers_share_volumes_with_what_comes_after() {
    let node = Node::start().await;
    let with = |name: &str, script: &str| {
        let mut made = container(name, script);
        made["volumeMounts"] = json!([{ "name": "v", "mountPath": "/v" }]);
        made
    };
    let mut pod = spec("Never", &[with("main", "test -e /v/file")]);
    pod["initContainers"] = json!([with("init", "touch /v/file")]);
    pod["volumes"] = json!([{ "name": "v", "emptyDir": {} }]);
    node.api.create("init", pod).await;
    let status = node.api.phase("init", "Succeeded").await;
    assert_eq!(status["initContainerStatuses"][0]["ready"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_secret_holds_the_container_and_says_so() {
    let node = Node::start().await;
    let mut held = container("c", "exit 0");
    held["envFrom"] = json!([{ "secretRef": { "name": "nope" } }]);
    node.api.create("held", spec("Never", &[held])).await;
    let is = |state: &State| {
        let told = state.pods.get("held")?["status"]["containerStatuses"]
            .get(0)?
            .clone();
        let waiting = told["state"]["waiting"].clone();
        (waiting["reason"] == "CreateContainerConfigError").then_some(waiting)
    };
    let waiting = node.api.until("it waits", is).await;
    assert_eq!(waiting["message"], r#"secret "nope" not found"#);
    node.api.delete("held", 0).await;
    node.api.gone("held").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kubelet_that_was_killed_finds_its_pods_and_their_exits() {
    let mut node = Node::start().await;
    let script = "while ! test -e /v/go; do sleep 0.05; done; exit 5";
    let mut made = container("c", script);
    made["volumeMounts"] = json!([{ "name": "v", "mountPath": "/v" }]);
    let mut pod = spec("Never", &[made, container("stays", "sleep 1000")]);
    pod["volumes"] = json!([{ "name": "v", "emptyDir": {} }]);
    node.api.create("kept", pod).await;
    let status = node.api.phase("kept", "Running").await;
    let ids = |status: &Value| {
        let all = status["containerStatuses"].as_array().unwrap();
        all.iter()
            .map(|c| c["containerID"].clone())
            .collect::<Vec<_>>()
    };
    let before = ids(&status);
    node.kill_kubelet().await;
    let go = node
        .pod_dir("uid-kept")
        .join("volumes/kubernetes.io~empty-dir/v/go");
    std::fs::write(go, "").unwrap();
    node.start_kubelet().await;
    let is = |state: &State| {
        let status = &state.pods.get("kept")?["status"];
        let ended = &status["containerStatuses"][0]["state"]["terminated"];
        (ended["exitCode"] == 5).then(|| status.clone())
    };
    let status = node.api.until("its exit is told", is).await;
    assert_eq!(ids(&status), before);
    let running = ContainerFilter {
        state: Some(ContainerState::Running),
        ..ContainerFilter::default()
    };
    let running = node.runtime().list_containers(running).await.unwrap();
    assert_eq!(running.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_does_not_fit_is_refused() {
    let node = Node::start().await;
    let mut pod = spec("Always", &[container("c", "sleep 1000")]);
    pod["nodeSelector"] = json!({ "no": "where" });
    node.api.create("far", pod).await;
    let status = node.api.phase("far", "Failed").await;
    assert_eq!(status["reason"], "NodeAffinity");
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .starts_with("Pod was rejected: Predicate")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pods_start_at_once() {
    let node = Node::start().await;
    let began = Instant::now();
    let names: Vec<_> = (0..15).map(|n| format!("p{n}")).collect();
    for name in &names {
        let pod = spec("Always", &[container("c", "exec sleep 1000")]);
        node.api.create(name, pod).await;
    }
    for name in &names {
        node.api.phase(name, "Running").await;
    }
    eprintln!("all running after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_is_replaced_at_once_does_not_seem_to_be_away() {
    let node = Node::start().await;
    let script = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
    let mut alive = container("c", script);
    alive["livenessProbe"] = json!({
        "exec": { "command": ["/bin/sh", "-c", "test ! -e /broken"] },
        "periodSeconds": 1, "timeoutSeconds": 30, "failureThreshold": 1, "successThreshold": 1,
    });
    node.api.create("web", spec("Always", &[alive])).await;
    let status = node.api.phase("web", "Running").await;
    let first = status["containerStatuses"][0]["containerID"].clone();
    let before = node.api.state(|state| state.statuses.len());
    let id = first.as_str().unwrap().strip_prefix("navarch://").unwrap();
    let broken = vec!["touch".into(), "/broken".into()];
    node.runtime().exec_sync(id, broken, LIMIT).await.unwrap();
    let is_back = |state: &State| {
        let container = &state.pods["web"]["status"]["containerStatuses"][0];
        (container["restartCount"] == 1 && container["containerID"] != first).then_some(())
    };
    node.api.until("the container is back", is_back).await;
    let told = node.api.state(|state| state.statuses[before..].to_vec());
    assert!(!told.is_empty());
    for status in told {
        assert!(is_true(&status, "Ready"), "{status}");
    }
}
