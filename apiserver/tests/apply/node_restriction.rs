//! What a kubelet may write: about itself and its own pods, and nothing that draws work or permissions to
//! it.

use serde_json::{Value, json};

use super::MERGE;
use super::daemon::{Daemon, User};

const PODS: &str = "/api/v1/namespaces/default/pods";
const NODES: &str = "/api/v1/nodes";

async fn started() -> (Daemon, User) {
    let api = Daemon::start_with(|_| {
        vec![
            "--authorization-mode=Node".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
        ]
    })
    .await;
    let node = api.member("system:node:n1", &["system:nodes"]);
    (api, node)
}

fn message(status: &Value) -> &str {
    status["message"].as_str().unwrap_or_default()
}

async fn refused(answer: (u16, Value), why: &str) {
    let (code, status) = answer;
    assert_eq!(code, 403, "{status}");
    assert!(message(&status).contains(why), "{why}: {status}");
}

/// CVE-2025-5187: a node that owns itself to something else could have itself deleted and come back with
/// other labels. CVE-2021-25735: what is compared is the node as it is stored.
#[tokio::test]
async fn a_node_changes_itself_in_harmless_ways_only() {
    let (api, node) = started().await;
    let own = json!({"metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "n1"}}});
    let (code, made) = node.send("POST", NODES, &own).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(
        made["spec"]["taints"][0]["key"],
        "node.kubernetes.io/not-ready"
    );
    let (code, _) = api
        .send("POST", NODES, &json!({"metadata": {"name": "n2"}}))
        .await;
    assert_eq!(code, 201);
    let path = format!("{NODES}/n1");
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "u"}]);
    for (part, why) in [
        (
            json!({"metadata": {"ownerReferences": owner}}),
            "is not allowed to modify ownerReferences",
        ),
        (
            json!({"spec": {"taints": []}}),
            "is not allowed to modify taints",
        ),
        (
            json!({"metadata": {"labels": {"node-restriction.kubernetes.io/zone": "secure"}}}),
            "is not allowed to modify labels: node-restriction.kubernetes.io/zone",
        ),
        (
            json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}}),
            "is not allowed to modify labels: node-role.kubernetes.io/control-plane",
        ),
    ] {
        for path in [path.clone(), format!("{path}/status")] {
            refused(node.patch(&path, MERGE, &part).await, why).await;
        }
        // Neither does it help to send the whole object, with what it was said to be before.
        let mut whole = made.clone();
        whole["metadata"]["resourceVersion"] = Value::Null;
        merge(&mut whole, &part);
        refused(node.send("PUT", &path, &whole).await, why).await;
    }
    let (code, changed) = node
        .patch(&path, MERGE, &json!({"metadata": {"labels": {"own": "1"}}}))
        .await;
    assert_eq!(code, 200, "{changed}");
    let other = node
        .patch(
            &format!("{NODES}/n2"),
            MERGE,
            &json!({"metadata": {"labels": {"a": "b"}}}),
        )
        .await;
    assert_eq!(other.0, 403, "{}", other.1);
    let (_, kept) = api.get(&path).await;
    assert_eq!(kept["metadata"]["ownerReferences"], Value::Null);
    assert_eq!(kept["spec"]["taints"], made["spec"]["taints"]);
}

fn merge(into: &mut Value, part: &Value) {
    match (into, part) {
        (Value::Object(into), Value::Object(part)) => {
            for (key, value) in part {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, part) => *into = part.clone(),
    }
}

/// CVE-2025-4563: a mirror pod with claims of devices would give the node access to them.
#[tokio::test]
async fn a_node_mirrors_its_own_pods_which_refer_to_nothing() {
    let (api, node) = started().await;
    let (code, own) = node
        .send("POST", NODES, &json!({"metadata": {"name": "n1"}}))
        .await;
    assert_eq!(code, 201, "{own}");
    let mirror = |uid: &Value, more: Value| {
        let mut pod = json!({
            "metadata": {
                "name": "m-n1",
                "annotations": {"kubernetes.io/config.mirror": "h"},
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": true,
                }],
            },
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]},
        });
        merge(&mut pod["spec"], &more);
        pod
    };
    let uid = &own["metadata"]["uid"];
    for (pod, why) in [
        (
            mirror(
                uid,
                json!({"resourceClaims": [{"name": "d", "resourceClaimName": "x"}]}),
            ),
            "can not create pods that reference resourceclaims",
        ),
        (
            mirror(
                uid,
                json!({"volumes": [{"name": "s", "secret": {"secretName": "x"}}]}),
            ),
            "can not create pods that reference secrets",
        ),
        (
            mirror(uid, json!({"nodeName": "n2"})),
            "with spec.nodeName set to itself",
        ),
        (mirror(&json!("other"), json!({})), "UID mismatch"),
    ] {
        refused(node.send("POST", PODS, &pod).await, why).await;
    }
    let mut plain = mirror(uid, json!({}));
    plain["metadata"]["annotations"] = Value::Null;
    refused(
        node.send("POST", PODS, &plain).await,
        "can only create mirror pods",
    )
    .await;
    let (code, made) = node.send("POST", PODS, &mirror(uid, json!({}))).await;
    assert_eq!(code, 201, "{made}");
    let status =
        json!({"status": {"resourceClaimStatuses": [{"name": "d", "resourceClaimName": "x"}]}});
    let path = format!("{PODS}/m-n1/status");
    refused(
        node.patch(&path, MERGE, &status).await,
        "cannot update resource claim statues",
    )
    .await;
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    refused(
        node.patch(&path, MERGE, &labels).await,
        "cannot update labels through pod status",
    )
    .await;
    let running = json!({"status": {"phase": "Running"}});
    assert_eq!(node.patch(&path, MERGE, &running).await.0, 200);
    // Pods elsewhere are not the node's.
    let other = json!({
        "metadata": {"name": "o"},
        "spec": {"nodeName": "n2", "containers": [{"name": "c", "image": "i"}]},
    });
    assert_eq!(api.send("POST", PODS, &other).await.0, 201);
    let path = format!("{PODS}/o");
    let (code, status) = node.send("DELETE", &path, &json!({})).await;
    assert_eq!(code, 403, "{status}");
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "o"}});
    let evicted = node
        .send("POST", &format!("{path}/eviction"), &eviction)
        .await;
    refused(
        evicted,
        "can only evict pods with spec.nodeName set to itself",
    )
    .await;
    assert_eq!(
        node.send("DELETE", &format!("{PODS}/m-n1"), &json!({}))
            .await
            .0,
        200
    );
}

/// A token for an audience that the pod has no use for would be the node's to use elsewhere.
#[tokio::test]
async fn a_node_gets_tokens_that_its_pods_use() {
    let (api, node) = started().await;
    let (code, own) = node
        .send("POST", NODES, &json!({"metadata": {"name": "n1"}}))
        .await;
    assert_eq!(code, 201, "{own}");
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = json!({"metadata": {"name": "app"}});
    assert_eq!(api.send("POST", accounts, &account).await.0, 201);
    let token = json!({"serviceAccountToken": {"path": "t", "audience": "vault"}});
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {
            "nodeName": "n1", "serviceAccountName": "app",
            "containers": [{"name": "c", "image": "i"}],
            "volumes": [
                {"name": "t", "projected": {"sources": [token]}},
                {"name": "s", "csi": {"driver": "secrets.example.com"}},
            ],
        },
    });
    let (code, pod) = api.send("POST", PODS, &pod).await;
    assert_eq!(code, 201, "{pod}");
    let path = format!("{accounts}/app/token");
    let ask = async |audience: &str| {
        let bound =
            json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": pod["metadata"]["uid"]});
        let request = json!({"spec": {"audiences": [audience], "boundObjectRef": bound}});
        node.send("POST", &path, &request).await
    };
    let (code, given) = ask("vault").await;
    assert_eq!(code, 201, "{given}");
    // Whether the driver of the other volume wants it, nobody knows yet.
    let missing = "error validating audience \"other\": csidriver.storage.k8s.io \"secrets.example.com\" not found";
    refused(ask("other").await, missing).await;
    let driver = json!({
        "metadata": {"name": "secrets.example.com"},
        "spec": {"tokenRequests": [{"audience": "driver"}], "volumeLifecycleModes": ["Ephemeral"]},
    });
    let drivers = "/apis/storage.k8s.io/v1/csidrivers";
    let (code, made) = api.send("POST", drivers, &driver).await;
    assert_eq!(code, 201, "{made}");
    let why = "is not authorized to request tokens for audience \"other\"";
    refused(ask("other").await, why).await;
    let (code, given) = ask("driver").await;
    assert_eq!(code, 201, "{given}");
    let unbound = json!({"spec": {"audiences": ["vault"]}});
    let answer = node.send("POST", &path, &unbound).await;
    refused(answer, "node requested token not bound to a pod").await;
}
