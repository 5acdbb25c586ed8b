//! An API server with objects that do not change.

use component::testing::{Ask, FakeApi, Lines};
use serde_json::{Value, json};

/// A node that serves a Service with one endpoint, which is on another node.
fn objects(path: &str) -> Option<(&'static str, &'static str, Vec<Value>)> {
    let meta = |name: &str| json!({ "name": name, "resourceVersion": "1", "uid": name });
    let found = match path {
        "/api/v1/nodes" => {
            let mut node = json!({ "metadata": meta("node-a") });
            node["spec"] = json!({ "podCIDRs": ["10.244.0.0/24"] });
            let address = json!({ "type": "InternalIP", "address": "192.0.2.1" });
            node["status"] = json!({ "addresses": [address] });
            let mut other = json!({ "metadata": meta("node-b") });
            other["spec"] = json!({ "podCIDRs": ["10.244.1.0/24"] });
            let address = json!({ "type": "InternalIP", "address": "192.0.2.2" });
            other["status"] = json!({ "addresses": [address] });
            ("v1", "Node", vec![node, other])
        }
        "/api/v1/services" => {
            let mut web = json!({ "metadata": meta("web") });
            web["metadata"]["namespace"] = "default".into();
            let port = json!({ "name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": 30080 });
            web["spec"] = json!({
                "type": "NodePort", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": [port],
                "ipFamilies": ["IPv4"], "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Cluster",
            });
            ("v1", "Service", vec![web])
        }
        "/apis/discovery.k8s.io/v1/endpointslices" => {
            let mut slice = json!({ "metadata": meta("web-1"), "addressType": "IPv4" });
            slice["metadata"]["namespace"] = "default".into();
            slice["metadata"]["labels"] = json!({ "kubernetes.io/service-name": "web" });
            let ready = json!({ "ready": true, "serving": true, "terminating": false });
            slice["endpoints"] = json!([{ "addresses": ["10.244.1.10"], "conditions": ready, "nodeName": "node-b" }]);
            slice["ports"] = json!([{ "name": "http", "port": 8080, "protocol": "TCP" }]);
            ("discovery.k8s.io/v1", "EndpointSlice", vec![slice])
        }
        "/apis/networking.k8s.io/v1/servicecidrs" => {
            let mut range = json!({ "metadata": meta("kubernetes") });
            range["spec"] = json!({ "cidrs": ["10.96.0.0/16"] });
            ("networking.k8s.io/v1", "ServiceCIDR", vec![range])
        }
        _ => return None,
    };
    Some(found)
}

/// Answers until the task is dropped.
pub(crate) async fn serve(mut fake: FakeApi) {
    // Watches stay open, and say nothing.
    let mut watches: Vec<Lines> = Vec::new();
    loop {
        // The fake gives up when nobody asks for long: nobody has to.
        let ask = tokio::time::timeout(std::time::Duration::from_secs(15), fake.next());
        if let Ok(ask) = ask.await {
            watches.extend(answer(ask).await);
        }
    }
}

async fn answer(ask: Ask) -> Option<Lines> {
    if ask.seen.method != "GET" {
        let sent = ask.seen.json();
        ask.json(&sent);
        return None;
    }
    let Some((api_version, kind, mut items)) = objects(&ask.seen.path) else {
        ask.status(404, "NotFound");
        return None;
    };
    if let Some(name) = ask
        .seen
        .param("fieldSelector")
        .strip_prefix("metadata.name=")
    {
        items.retain(|item| item["metadata"]["name"] == name);
    }
    for item in &mut items {
        item["apiVersion"] = api_version.into();
        item["kind"] = kind.into();
    }
    if ask.seen.param("watch") != "true" {
        ask.json(&json!({
            "kind": format!("{kind}List"), "apiVersion": api_version,
            "metadata": { "resourceVersion": "1" }, "items": items,
        }));
        return None;
    }
    let (seen, lines) = ask.stream();
    if seen.param("sendInitialEvents") == "true" {
        for item in &items {
            lines.event("ADDED", item).await;
        }
        let end = json!({ "k8s.io/initial-events-end": "true" });
        let metadata = json!({ "resourceVersion": "1", "annotations": end });
        let bookmark = json!({ "kind": kind, "apiVersion": api_version, "metadata": metadata });
        lines.event("BOOKMARK", &bookmark).await;
    }
    Some(lines)
}
