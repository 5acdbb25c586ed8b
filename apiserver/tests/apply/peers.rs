//! Servers of one cluster that do not serve the same: what one does not serve it gets from the other (KEP-4020).

use serde_json::{Value, json};

use super::daemon::{Daemon, OURS, Second, User, eventually, peers};

const GROUP: &str = "/apis/coordination.k8s.io/v1beta1";
const CANDIDATES: &str = "/apis/coordination.k8s.io/v1beta1/namespaces/default/leasecandidates";
const DOCUMENT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A server, and one beside it, on a host of its own, that serves candidates for leases as well.
async fn both() -> (Daemon, Second) {
    let ours = Daemon::start_with(peers).await;
    let more = ["--runtime-config=coordination.k8s.io/v1beta1=true".to_owned()];
    let other = ours.second_on("other", OURS.as_ref(), &more).await;
    eventually("the peer is known", async || {
        ours.asked(CANDIDATES).await == 200
    })
    .await;
    (ours, other)
}

fn candidate(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "leaseName": "l",
            "binaryVersion": "1.37.0",
            "emulationVersion": "1.37.0",
            "strategy": "OldestEmulationVersion",
        },
    })
}

fn has_candidates(document: &Value) -> bool {
    let groups = document["items"].as_array().unwrap();
    let named = |g: &&Value| g["metadata"]["name"] == "coordination.k8s.io";
    let versions = groups.iter().find(named).unwrap()["versions"]
        .as_array()
        .unwrap();
    versions.iter().any(|v| v["version"] == "v1beta1")
}

async fn document(api: &User, more: &str) -> Value {
    let text = api.accepting("/apis", &format!("{DOCUMENT}{more}")).await;
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn what_only_a_peer_serves_is_handed_on_to_it_for_whoever_asks() {
    let (ours, other) = both().await;
    let (code, made) = ours.send("POST", CANDIDATES, &candidate("a")).await;
    assert_eq!(code, 201, "{made}");
    let path = format!("{CANDIDATES}/a");
    assert_eq!(other.admin.get(&path).await, (200, made));
    let (code, failure) = ours.get(&format!("{CANDIDATES}/none")).await;
    assert_eq!((code, failure["reason"].as_str()), (404, Some("NotFound")));

    // A watch is handed on piece by piece.
    let watch = ours
        .text(&format!("{CANDIDATES}?watch=1&timeoutSeconds=1"))
        .await;
    assert!(watch.contains("\"ADDED\""), "{watch}");

    // Each authorizes the user, whom the other is told.
    let jane = ours.user("jane");
    let (code, failure) = jane.get(&path).await;
    let message = failure["message"].as_str().unwrap();
    assert!(
        code == 403 && message.contains("User \"jane\" cannot get"),
        "{failure}"
    );
    let rule = json!({"apiGroups": ["coordination.k8s.io"], "resources": ["leasecandidates"], "verbs": ["get"]});
    let role = json!({"metadata": {"name": "read"}, "rules": [rule]});
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    assert_eq!(ours.send("POST", roles, &role).await.0, 201);
    let binding = json!({
        "metadata": {"name": "read"},
        "subjects": [{"kind": "User", "name": "jane"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "read"},
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    assert_eq!(ours.send("POST", bindings, &binding).await.0, 201);
    eventually("jane may read", async || jane.asked(&path).await == 200).await;
    assert_eq!(jane.asked(CANDIDATES).await, 403);

    let metrics = ours.text("/metrics").await;
    let line = "apiserver_rerouted_request_total{code=\"201\",group=\"coordination.k8s.io\",\
                version=\"v1beta1\",resource=\"leasecandidates\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn discovery_tells_what_peers_serve_unless_it_is_not_to() {
    let (ours, other) = both().await;
    assert!(has_candidates(&document(&ours, "").await));
    assert!(!has_candidates(&document(&ours, ";profile=nopeer").await));
    assert!(has_candidates(
        &document(&other.admin, ";profile=nopeer").await
    ));
    // Without aggregation each tells of itself alone.
    assert_eq!(ours.asked(GROUP).await, 404);
    assert_eq!(other.admin.asked(GROUP).await, 200);
    // What nobody serves is nowhere.
    let none = "/apis/coordination.k8s.io/v1alpha2/leasecandidates";
    assert_eq!(ours.asked(none).await, 404);
}

#[tokio::test]
async fn nobody_is_there_when_the_only_server_of_a_resource_is_gone() {
    let (ours, other) = both().await;
    drop(other);
    assert_eq!(ours.asked(CANDIDATES).await, 503);
    let places = ours.etcd().count("/registry/peerserverleases/").await;
    assert!(places > 0, "each has told where it is");
}
