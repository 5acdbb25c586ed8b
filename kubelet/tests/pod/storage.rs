//! Pods with persistent volumes, and with users of their own.

use std::fs;
use std::os::unix::fs::MetadataExt;

use kubelet::runtime::ContainerFilter;
use serde_json::{Value, json};

use crate::api::{LIMIT, State};
use crate::life::{container, spec};
use crate::node::Node;

/// A pod's specification with one volume, which its container has at `/data`.
fn with_claim(policy: &str, claim: &str, script: &str) -> Value {
    let mut container = container("c", script);
    container["volumeMounts"] = json!([{ "name": "data", "mountPath": "/data" }]);
    let mut spec = spec(policy, &[container]);
    spec["volumes"] = json!([{ "name": "data", "persistentVolumeClaim": { "claimName": claim } }]);
    spec
}

fn said(event: &'static str) -> impl Fn(&State) -> Option<()> {
    move |state| {
        let mut events = state.events.iter();
        events.any(|e| e.contains(event)).then_some(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_waits_for_its_claim_and_leaves_its_data() {
    let node = Node::start().await;
    let disk = tempfile::tempdir().unwrap();
    let script = "echo kept >/data/file; while :; do sleep 0.05; done";
    node.api
        .create("db", with_claim("Always", "pv", script))
        .await;
    let event = "FailedMount: Unable to attach or mount volumes: unmounted volumes=[data], \
                 unattached volumes=[], failed to process volumes=[data]: error processing PVC \
                 ns/pv: failed to fetch PVC from API server: persistentvolumeclaims \"pv\" not found";
    node.api.until(event, said(event)).await;
    node.api
        .put_volume("pv", json!({ "local": { "path": disk.path() } }));
    node.api.phase("db", "Running").await;
    let file = disk.path().join("file");
    let start = std::time::Instant::now();
    while fs::read_to_string(&file).unwrap_or_default() != "kept\n" {
        assert!(start.elapsed() < LIMIT, "the file is written");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let volume = "volumes/kubernetes.io~local-volume/pv/file";
    assert!(node.pod_dir("uid-db").join(volume).exists());
    node.api.delete("db", 0).await;
    node.api.gone("db").await;
    let start = std::time::Instant::now();
    while node.pods().by_uid("uid-db").is_some() {
        assert!(start.elapsed() < LIMIT, "the pod is forgotten");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(!node.pod_dir("uid-db").exists());
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_of_a_pod_that_is_no_more_is_given_back_by_the_next_kubelet() {
    let mut node = Node::start().await;
    let disk = tempfile::tempdir().unwrap();
    node.api
        .put_volume("pv", json!({ "local": { "path": disk.path() } }));
    let script = "while :; do sleep 0.05; done";
    node.api
        .create("db", with_claim("Always", "pv", script))
        .await;
    node.api.phase("db", "Running").await;
    fs::write(disk.path().join("file"), "kept").unwrap();
    node.kill_kubelet().await;
    node.api.forget("db");
    node.start_kubelet().await;
    let start = std::time::Instant::now();
    while node.pod_dir("uid-db").exists() {
        assert!(start.elapsed() < LIMIT, "nothing is left of the pod");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(disk.path().join("file").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_with_users_of_its_own_runs_as_nobody_of_the_node() {
    let mut node = Node::start().await;
    let disk = tempfile::tempdir().unwrap();
    node.api
        .put_volume("pv", json!({ "local": { "path": disk.path() } }));
    let script = "cat /proc/self/uid_map >/dev/termination-log; echo x >/data/file; \
                  while :; do sleep 0.05; done";
    let mut spec = with_claim("Always", "pv", script);
    spec["hostUsers"] = false.into();
    node.api.create("own", spec).await;
    node.api.phase("own", "Running").await;
    let file = disk.path().join("file");
    let start = std::time::Instant::now();
    while !file.exists() {
        assert!(start.elapsed() < LIMIT, "the file is written");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    // On the disk it belongs to root, as the volume is mapped.
    assert_eq!(fs::metadata(&file).unwrap().uid(), 0);
    let mappings = || fs::read_to_string(node.pod_dir("uid-own").join("userns")).unwrap();
    let given: Value = serde_json::from_str(&mappings()).unwrap();
    let first = given["uidMappings"][0]["hostId"].as_u64().unwrap();
    assert!(first >= 65_536 && first.is_multiple_of(65_536));
    let all = node
        .runtime()
        .list_containers(ContainerFilter::default())
        .await
        .unwrap();
    let process = fs::read_to_string(format!("/proc/{}/status", all[0].pid.unwrap())).unwrap();
    assert!(process.contains(&format!("Uid:\t{first}\t")), "{process}");

    // The next kubelet gives the pod the same, and a container that it starts belongs to them too.
    let known = mappings();
    node.kill_kubelet().await;
    node.start_kubelet().await;
    let id = all[0].id.clone();
    let zero = std::time::Duration::ZERO;
    node.runtime()
        .stop_container(&id, zero, None)
        .await
        .unwrap();
    let again = |state: &State| {
        let status = &state.pods.get("own")?["status"]["containerStatuses"][0];
        let runs = status["restartCount"] == 1 && status["state"].get("running").is_some();
        runs.then_some(())
    };
    node.api.until("the container runs again", again).await;
    assert_eq!(
        fs::read_to_string(node.pod_dir("uid-own").join("userns")).unwrap(),
        known
    );
    node.api.delete("own", 0).await;
    node.api.gone("own").await;
}
