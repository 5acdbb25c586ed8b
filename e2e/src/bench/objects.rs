//! The objects of the load: sizes as real ones have.

use serde_json::{Value, json};

pub(super) const NAMESPACE: &str = "bench";

/// Collections below which objects are made.
pub(super) fn collection(resource: &str) -> String {
    let group = if resource == "deployments" {
        "apis/apps/v1"
    } else {
        "api/v1"
    };
    format!("/{group}/namespaces/{NAMESPACE}/{resource}")
}

pub(super) fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
}

/// 0.8 KB as sent; one of a hundred carries the label `hundredth: "0"`.
pub(super) fn config_map(n: usize, revision: usize) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": format!("item-{n:05}"),
            "namespace": NAMESPACE,
            "labels": {"app": "bench", "hundredth": (n % 100).to_string()},
            "annotations": {"example.com/owner": "team-blue", "example.com/revision": revision.to_string()},
        },
        "data": {
            "settings.properties": format!("revision={revision}\n{}", "colour=green size=7 depth=12\n".repeat(16)),
            "note": "x".repeat(120),
        },
    })
}

fn container(name: &str) -> Value {
    let env: Vec<Value> = (0..12)
        .map(|i| json!({"name": format!("SETTING_{i}"), "value": format!("value of setting {i}")}))
        .collect();
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": 8080}, "periodSeconds": 10});
    json!({
        "name": name,
        "image": "registry.example.com/team/app:1.2.3",
        "args": ["--listen=:8080", "--config=/etc/app/config.yaml", "--v=2"],
        "ports": [{"name": "http", "containerPort": 8080}],
        "env": env,
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "livenessProbe": probe("/healthz"),
        "readinessProbe": probe("/readyz"),
        "volumeMounts": [{"name": "config", "mountPath": "/etc/app"}, {"name": "scratch", "mountPath": "/tmp"}],
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true},
    })
}

fn pod_spec() -> Value {
    json!({
        "containers": [container("app"), container("proxy")],
        "volumes": [{"name": "config", "configMap": {"name": "item-00000"}}, {"name": "scratch", "emptyDir": {}}],
        "serviceAccountName": "default",
        "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
    })
}

/// 3 KB as sent.
pub(super) fn pod(n: usize) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": format!("pod-{n:05}"), "namespace": NAMESPACE, "labels": {"app": "bench"}},
        "spec": pod_spec(),
    })
}

/// A pod that is bound already; a few hundred bytes.
pub(super) fn bound_pod(n: usize, node: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": format!("bound-{n:05}"), "namespace": NAMESPACE, "labels": {"app": "bench"}},
        "spec": {"nodeName": node, "containers": [{"name": "app", "image": "registry.example.com/team/app:1.2.3"}]},
    })
}

/// 3 KB as sent; `revision` changes an environment variable and the number of replicas.
pub(super) fn deployment(n: usize, revision: usize) -> Value {
    let mut spec = pod_spec();
    spec["containers"][0]["env"][0]["value"] = json!(format!("revision {revision}"));
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": format!("app-{n:03}"), "namespace": NAMESPACE, "labels": {"app": "bench"}},
        "spec": {
            "replicas": 1 + revision % 3,
            "selector": {"matchLabels": {"app": "bench"}},
            "template": {"metadata": {"labels": {"app": "bench"}}, "spec": spec},
        },
    })
}
