//! What somebody may try who has no right to what he wants. Each test fails on a server that falls for it.

use component::testing::Ca;
use serde_json::{Value, json};

use super::bearer::ask_over;
use super::daemon::{Daemon, eventually};
use super::wire::Wire;

mod certificates;
mod crowd;
mod headers;
mod kubelets;
mod paths;
mod tokens;

const WHO: &str = "POST /apis/authentication.k8s.io/v1/selfsubjectreviews";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// Whom the server takes the other end of a connection for: code, and name and groups.
async fn who(wire: Wire, headers: &[&str]) -> (u16, Value) {
    let (code, review) = ask_over(wire, WHO, headers, "{}").await;
    (code, review["status"]["userInfo"].clone())
}

/// Gives a user rights in the default namespace.
async fn give(api: &Daemon, user: &str, rules: Value) {
    let path = format!("{RBAC}/namespaces/default");
    let role = json!({"metadata": {"name": user}, "rules": rules});
    let (code, made) = api.send("POST", &format!("{path}/roles"), &role).await;
    assert_eq!(code, 201, "{made}");
    let binding = json!({
        "metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    });
    let path = format!("{path}/rolebindings");
    let (code, made) = api.send("POST", &path, &binding).await;
    assert_eq!(code, 201, "{made}");
}

/// A connection of somebody in particular.
async fn of(api: &Daemon, ca: &Ca, user: &str) -> Wire {
    Wire::with(api, &ca.client(user, &[])).await
}
