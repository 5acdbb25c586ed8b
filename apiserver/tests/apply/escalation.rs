//! Nobody gives what he does not have.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::MERGE;
use super::daemon::{Daemon, User};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const GROUP: &str = "rbac.authorization.k8s.io";

fn role(name: &str, rules: Value) -> Value {
    json!({"metadata": {"name": name}, "rules": rules})
}

fn binding(name: &str, kind: &str, role: &str, user: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role},
        "subjects": [{"apiGroup": GROUP, "kind": "User", "name": user}],
    })
}

/// Makes something, which must work.
async fn make(by: &User, path: &str, object: &Value) {
    let (code, made) = by.send("POST", &format!("{RBAC}/{path}"), object).await;
    assert_eq!(code, 201, "{made}");
}

/// Waits until a binding that was just written has reached whoever decides.
async fn granted(to: &User, verb: &str, resource: &str) {
    let review = json!({"spec": {"resourceAttributes": {
        "verb": verb, "group": GROUP, "resource": resource, "namespace": "default",
    }}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let start = Instant::now();
    loop {
        let (code, review) = to.send("POST", path, &review).await;
        assert_eq!(code, 201, "{review}");
        if review["status"]["allowed"] == true {
            return;
        }
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{verb} {resource}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn nobody_gives_more_than_he_has_unless_he_may() {
    let api = Daemon::start().await;
    let (roles, bindings) = (
        "namespaces/default/roles",
        "namespaces/default/rolebindings",
    );
    let write = json!({
        "apiGroups": [GROUP], "resources": ["roles", "rolebindings", "clusterroles"],
        "verbs": ["create", "update", "patch", "get"],
    });
    let read = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]});
    make(&api, "clusterroles", &role("writer", json!([write, read]))).await;
    make(
        &api,
        "clusterrolebindings",
        &binding("w", "ClusterRole", "writer", "ann"),
    )
    .await;
    let ann = api.user("ann");
    granted(&ann, "create", "roles").await;
    let post = async |path: &str, object: &Value| {
        ann.send("POST", &format!("{RBAC}/{path}"), object).await
    };

    let wide =
        json!([{"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["get"]}]);
    let (code, status) = post(roles, &role("wide", wide.clone())).await;
    assert_eq!(code, 403, "{status}");
    let wanted = "roles.rbac.authorization.k8s.io \"wide\" is forbidden: user \"ann\" (groups=[\"system:authenticated\"]) is \
                  attempting to grant RBAC permissions not currently held:\n\
                  {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}";
    assert_eq!(status["message"], wanted);
    make(&ann, roles, &role("own", json!([read]))).await;
    make(&ann, bindings, &binding("own", "Role", "own", "bob")).await;
    let path = format!("{RBAC}/{roles}/own");
    assert_eq!(
        ann.patch(&path, MERGE, &json!({"rules": wide})).await.0,
        403
    );
    let named = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(ann.patch(&path, MERGE, &named).await.0, 200);

    let admin = binding("admin", "ClusterRole", "cluster-admin", "bob");
    assert_eq!(post(bindings, &admin).await.0, 403);
    let absent = binding("absent", "ClusterRole", "absent", "ann");
    let (code, status) = post(bindings, &absent).await;
    assert_eq!(
        (code, status["reason"].as_str()),
        (404, Some("NotFound")),
        "{status}"
    );
    let gathers = json!({
        "metadata": {"name": "gathers"}, "rules": [],
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]},
    });
    let (code, status) = post("clusterroles", &gathers).await;
    assert_eq!(code, 403);
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .ends_with("to use the aggregationRule"),
        "{status}"
    );
    // Objects of others that are let go of need no more than the right to write them.
    make(
        &api,
        roles,
        &role(
            "strong",
            json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]),
        ),
    )
    .await;
    let strong = format!("{RBAC}/{roles}/strong");
    let finalizer = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    assert_eq!(ann.patch(&strong, MERGE, &finalizer).await.0, 200);
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(ann.patch(&strong, MERGE, &label).await.0, 403);

    let may = json!([
        {"apiGroups": [GROUP], "resources": ["roles"], "verbs": ["escalate"]},
        {"apiGroups": [GROUP], "resources": ["clusterroles"], "resourceNames": ["cluster-admin"], "verbs": ["bind"]},
    ]);
    make(&api, roles, &role("may", may)).await;
    make(&api, bindings, &binding("may", "Role", "may", "ann")).await;
    granted(&ann, "escalate", "roles").await;
    assert_eq!(post(roles, &role("wide", wide)).await.0, 201);
    assert_eq!(post(bindings, &admin).await.0, 201);
    // Not `edit` itself, which has no rules until a controller gathers them.
    let edit = binding("edit", "ClusterRole", "system:aggregate-to-edit", "ann");
    assert_eq!(post(bindings, &edit).await.0, 403);
}
