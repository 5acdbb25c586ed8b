//! Paths that mean one thing to who allows them and might mean another to who serves them.

use serde_json::json;

use super::{RBAC, eventually, give, of};
use crate::bearer::ask_over;
use crate::daemon::Daemon;
use crate::wire::Wire;

const SECRET: &str = "in the clear";
/// The same in base64.
const ENCODED: &str = "aW4gdGhlIGNsZWFy";

/// Ways to write a secret's path, for somebody who may read everything but secrets there.
const PATHS: &[&str] = &[
    "/api/v1/namespaces/default/secrets/s",
    "/api/v1/namespaces/default/secrets/s/",
    "/api/v1/namespaces/default/configmaps/../secrets/s",
    "/api/v1/namespaces/default/configmaps/m/../../secrets/s",
    "/api/v1/namespaces/default/configmaps/%2e%2e/secrets/s",
    "/api/v1/namespaces/default/configmaps/..%2fsecrets%2fs",
    "/api/v1/namespaces/default/configmaps%2f..%2fsecrets/s",
    "/api/v1/namespaces/default/configmaps/.%2e/secrets/s",
    "/api/v1/namespaces/default/./secrets/s",
    "/api/v1/namespaces/default/%73ecrets/s",
    "/api/v1/namespaces/default/%2573ecrets/s",
    "/api/v1/namespaces/default/Secrets/s",
    "/api/v1/namespaces/default/secrets%00/s",
    "/api/v1/namespaces/default/secrets;configmaps/s",
    "/api/v1/namespaces/default/secrets%2fs",
    "/api/v1/namespaces/default/secrets/s?/../configmaps",
    "/api/v1/namespaces/default%2fsecrets/s",
    "/api/v1/namespaces/other/../default/secrets/s",
    "/api/v1/namespaces//default/secrets/s",
    "/api/v1/namespaces/default//secrets/s",
    "/api/v1/secrets/s",
    "/api/v1/secrets",
    "/api/v1/secrets?fieldSelector=metadata.name%3Ds",
    "/api/v1/namespaces/default/secrets?fieldSelector=metadata.name%3Ds",
    "/api/v1/namespaces/default/secrets?resource=configmaps",
    "/api/v1/watch/namespaces/default/secrets?timeoutSeconds=1",
    "/api/v1/watch/namespaces/default/secrets/s?timeoutSeconds=1",
    "/api/v1/proxy/namespaces/default/secrets/s",
    "//api/v1/namespaces/default/secrets/s",
    "/api//v1/namespaces/default/secrets/s",
    "/api/v1//namespaces/default/secrets/s",
    "/API/v1/namespaces/default/secrets/s",
    "/apis//v1/namespaces/default/secrets/s",
    "/apis/v1/namespaces/default/secrets/s",
    "/apis/core/v1/namespaces/default/secrets/s",
    "/apis/apps/v1/namespaces/default/secrets/s",
    "/apis/../api/v1/namespaces/default/secrets/s",
    "/apis/%2e%2e/api/v1/namespaces/default/secrets/s",
    "/healthz/../api/v1/namespaces/default/secrets/s",
    "/version%2f..%2fapi/v1/namespaces/default/secrets/s",
    "https://127.0.0.1/api/v1/namespaces/default/secrets/s",
];

#[tokio::test]
async fn a_path_means_to_who_serves_it_what_it_means_to_who_allows_it() {
    let api = Daemon::start().await;
    let (_, ca) = api.place();
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"password": SECRET}});
    assert_eq!(api.send("POST", secrets, &secret).await.0, 201);
    let map = json!({"metadata": {"name": "m"}});
    let maps = "/api/v1/namespaces/default/configmaps";
    assert_eq!(api.send("POST", maps, &map).await.0, 201);
    let rules = json!([
        {"apiGroups": [""], "resources": ["configmaps", "configmaps/*", "pods"], "verbs": ["*"]},
        {"apiGroups": ["apps", "core", "v1"], "resources": ["*"], "verbs": ["*"]},
    ]);
    give(&api, "ann", rules).await;
    let role = json!({"metadata": {"name": "pages"}, "rules": [
        {"nonResourceURLs": ["/apis", "/apis/*", "/healthz/*", "/version*"], "verbs": ["*"]},
    ]});
    assert_eq!(
        api.send("POST", &format!("{RBAC}/clusterroles"), &role)
            .await
            .0,
        201
    );
    let binding = json!({
        "metadata": {"name": "pages"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "pages"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}],
    });
    let path = format!("{RBAC}/clusterrolebindings");
    assert_eq!(api.send("POST", &path, &binding).await.0, 201);
    let ask = async |line: &str| {
        let mut wire = of(&api, ca, "ann").await;
        let head = wire.ask(line, &["Connection: close"], "").await;
        (head, wire.rest().await)
    };
    for readable in [format!("{maps}/m"), "/apis/no/such".to_owned()] {
        let line = format!("GET {readable}");
        eventually(&line, async || !ask(&line).await.0.contains(" 403 ")).await;
    }
    for path in PATHS {
        for method in [
            "GET", "HEAD", "DELETE", "PUT", "PATCH", "POST", "OPTIONS", "PROPFIND",
        ] {
            let (head, body) = ask(&format!("{method} {path}")).await;
            let code: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
            let told = body.contains(SECRET) || body.contains(ENCODED);
            assert!(code >= 400 && !told, "{method} {path}: {head}{body}");
        }
    }
    // It was there all the time, and still is.
    let (code, seen) = api.get(&format!("{secrets}/s")).await;
    assert_eq!(
        (code, seen["data"]["password"].as_str()),
        (200, Some(ENCODED))
    );
}

/// CVE-2019-11247: rights in a namespace are none to what lies in no namespace.
#[tokio::test]
async fn what_lies_in_no_namespace_is_not_reached_through_one() {
    let api = Daemon::start().await;
    let (_, ca) = api.place();
    let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    give(&api, "ann", everything).await;
    let ask = async |line: &str| ask_over(of(&api, ca, "ann").await, line, &[], "").await;
    let own = "GET /api/v1/namespaces/default/configmaps";
    eventually(own, async || ask(own).await.0 == 200).await;
    assert_eq!(
        api.send("POST", "/api/v1/nodes", &json!({"metadata": {"name": "n"}}))
            .await
            .0,
        201
    );
    for (prefix, path) in [
        (
            "/apis/rbac.authorization.k8s.io/v1",
            "clusterroles/cluster-admin",
        ),
        ("/apis/rbac.authorization.k8s.io/v1", "clusterroles"),
        ("/api/v1", "nodes/n"),
        ("/api/v1", "nodes"),
        ("/api/v1", "persistentvolumes"),
        ("/apis/storage.k8s.io/v1", "storageclasses"),
        ("/api/v1", "namespaces/kube-system"),
    ] {
        let inside = format!("{prefix}/namespaces/default/{path}");
        for method in ["GET", "DELETE"] {
            let (code, answer) = ask(&format!("{method} {inside}")).await;
            assert_eq!(code, 404, "{method} {inside}: {answer}");
        }
        let (code, answer) = ask(&format!("GET {prefix}/{path}")).await;
        assert_eq!(code, 403, "{path}: {answer}");
        assert_eq!(api.get(&format!("{prefix}/{path}")).await.0, 200, "{path}");
    }
}

/// Browsers can only GET a WebSocket (kubernetes/kubernetes#83465): to run something is to create it.
#[tokio::test]
async fn to_run_something_takes_more_than_the_right_to_read() {
    let api = Daemon::start().await;
    let (_, ca) = api.place();
    let streams = ["pods/exec", "pods/attach", "pods/portforward"];
    let may = |verb: &str| json!([{"apiGroups": [""], "resources": streams, "verbs": [verb]}]);
    give(&api, "reader", may("get")).await;
    give(&api, "runner", may("create")).await;
    let ask = async |user: &str, path: &str, read: bool| {
        let mut wire = of(&api, ca, user).await;
        let head = if read {
            let protocol = "Sec-WebSocket-Protocol: v5.channel.k8s.io";
            wire.upgrade(path, &[protocol]).await
        } else {
            wire.ask(&format!("POST {path}"), &["Connection: close"], "")
                .await
        };
        head.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    for stream in [
        "exec?command=id&stdout=true",
        "attach?stdout=true",
        "portforward?ports=1",
    ] {
        let path = format!("/api/v1/namespaces/default/pods/p/{stream}");
        // He may, and there is no such pod.
        eventually(&path, async || ask("runner", &path, false).await == 404).await;
        assert_eq!(ask("reader", &path, true).await, 403, "{path}");
        assert_eq!(ask("reader", &path, false).await, 403, "{path}");
        // The right to create alone does not read.
        assert_eq!(ask("runner", &path, true).await, 403, "{path}");
    }
    let nobody = async || Wire::anonymous(&api).await;
    let path = "/api/v1/namespaces/default/pods/p/exec?command=id&stdout=true";
    let head = nobody().await.upgrade(path, &[]).await;
    assert!(head.starts_with("http/1.1 403 "), "{head}");
}
