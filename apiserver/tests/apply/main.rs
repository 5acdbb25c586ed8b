//! Managed fields, apply, evictions, streams, tokens, encryption at rest, auditing, attacks what is counted and what is traced, through the daemon, on a real etcd.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod access;
mod admission;
mod annotations;
mod attacks;
mod audit;
mod audit_webhook;
mod bearer;
mod compression;
mod credentials;
mod daemon;
mod deletion;
mod devices;
mod encryption;
mod escalation;
mod fairness;
mod issuer;
mod kinds;
mod kms;
mod node_restriction;
mod oidc;
mod pages;
mod peers;
mod policies;
mod quota;
mod remote;
mod serving;
mod signer;
mod slow;
mod storage;
mod streams;
mod tokens;
mod traces;
mod unread;
mod versions;
mod warnings;
mod webhooks;
mod wire;

use daemon::Daemon;
use serde_json::{Value, json};

const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";

fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// `manager operation subresource fields` of every entry, in order.
fn managers(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array();
    let text = |e: &Value, name: &str| e[name].as_str().unwrap_or("-").to_owned();
    entries
        .into_iter()
        .flatten()
        .map(|e| {
            format!(
                "{} {} {} {}",
                text(e, "manager"),
                text(e, "operation"),
                text(e, "subresource"),
                e["fieldsV1"]
            )
        })
        .collect()
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap()
}

#[tokio::test]
async fn apply_creates_merges_and_names_conflicts() {
    let api = Daemon::start().await;
    let path = "/api/v1/namespaces/default/configmaps/a";
    let apply = async |manager: &str, data: Value| {
        let path = format!("{path}?fieldManager={manager}");
        api.patch(&path, APPLY, &config_map("a", data)).await
    };
    let (code, first) = apply("one", json!({"x": "1", "y": "1"})).await;
    assert_eq!(code, 201, "{first}");
    let own = r#"one Apply - {"f:data":{"f:x":{},"f:y":{}}}"#;
    assert_eq!(managers(&first), [own]);
    // The same again is no write.
    let (code, again) = apply("one", json!({"x": "1", "y": "1"})).await;
    assert_eq!((code, version(&again)), (200, version(&first)));
    let (code, status) = apply("two", json!({"x": "2"})).await;
    assert_eq!(code, 409);
    assert_eq!(
        status["message"],
        "Apply failed with 1 conflict: conflict with \"one\": .data.x"
    );
    assert_eq!(
        status["details"]["causes"],
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.x"}])
    );
    let (code, forced) = apply("two&force=true", json!({"x": "2"})).await;
    assert_eq!(code, 200);
    assert_eq!(forced["data"], json!({"x": "2", "y": "1"}));
    let (_, left) = apply("one", json!({})).await;
    assert_eq!(left["data"], json!({"x": "2"}));
    // Whoever applies an empty map owns the map.
    let mut owners = managers(&left);
    owners.sort();
    assert_eq!(
        owners,
        [
            r#"one Apply - {"f:data":{}}"#,
            r#"two Apply - {"f:data":{"f:x":{}}}"#
        ]
    );
}

#[tokio::test]
async fn every_way_to_write_is_recorded() {
    let api = Daemon::start().await;
    let all = "/apis/apps/v1/namespaces/default/deployments";
    let one = format!("{all}/d");
    let body = json!({
        "metadata": {"name": "d"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    });
    let (code, mut object) = api
        .send("POST", &format!("{all}?fieldManager=creator"), &body)
        .await;
    assert_eq!(code, 201, "{object}");
    object["spec"]["paused"] = json!(true);
    let (code, _) = api
        .send("PUT", &format!("{one}?fieldManager=putter"), &object)
        .await;
    assert_eq!(code, 200);
    let patch = async |path: &str, manager: &str, body: Value| {
        let path = format!("{one}{path}?fieldManager={manager}");
        let (code, object) = api.patch(&path, MERGE, &body).await;
        assert_eq!(code, 200, "{object}");
    };
    patch("", "patcher", json!({"metadata": {"labels": {"l": "1"}}})).await;
    patch("/status", "controller", json!({"status": {"replicas": 1}})).await;
    patch("/scale", "scaler", json!({"spec": {"replicas": 5}})).await;
    let (_, object) = api.get(&one).await;
    let mut managers = managers(&object);
    managers.sort();
    let creator = managers.iter().find(|m| m.starts_with("creator")).unwrap();
    assert!(
        creator.contains("f:selector") && !creator.contains("f:replicas"),
        "{creator}"
    );
    managers.retain(|m| !m.starts_with("creator"));
    assert_eq!(
        managers,
        [
            r#"controller Update status {"f:status":{"f:replicas":{}}}"#,
            r#"patcher Update - {"f:metadata":{"f:labels":{".":{},"f:l":{}}}}"#,
            r#"putter Update - {"f:spec":{"f:paused":{}}}"#,
            r#"scaler Update scale {"f:spec":{"f:replicas":{}}}"#,
        ]
    );
    // A write that changes nothing but times is none.
    let (_, noop) = api
        .send("PUT", &format!("{one}?fieldManager=putter"), &object)
        .await;
    assert_eq!(version(&noop), version(&object));
}

#[tokio::test]
async fn who_may_only_patch_does_not_create() {
    let api = Daemon::start().await;
    let role = json!({
        "metadata": {"name": "patch"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]}],
    });
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    api.send("POST", &format!("{rbac}/roles"), &role).await;
    let binding = json!({
        "metadata": {"name": "patch"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "patch"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}],
    });
    let (code, _) = api
        .send("POST", &format!("{rbac}/rolebindings"), &binding)
        .await;
    assert_eq!(code, 201);
    let path = "/api/v1/namespaces/default/configmaps/new?fieldManager=m";
    let body = config_map("new", json!({"x": "1"}));
    let alice = api.user("alice");
    let (code, status) = alice.patch(path, APPLY, &body).await;
    assert_eq!(code, 403, "{status}");
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("cannot create resource")
    );
    let (code, _) = api.patch(path, APPLY, &body).await;
    assert_eq!(code, 201);
    let (code, _) = alice.patch(path, APPLY, &body).await;
    assert_eq!(code, 200);
}

#[tokio::test]
async fn evictions_at_the_same_time_do_not_break_a_budget() {
    const PODS: usize = 8;
    const ALLOWED: i64 = 3;
    let api = Daemon::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    for i in 0..PODS {
        let pod = json!({
            "metadata": {"name": format!("p{i}"), "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "n"},
        });
        let (code, answer) = api.send("POST", pods, &pod).await;
        assert_eq!(code, 201, "{answer}");
        let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        api.patch(&format!("{pods}/p{i}/status"), MERGE, &status)
            .await;
    }
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({
        "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}},
    });
    api.send("POST", budgets, &budget).await;
    let status = json!({"status": {
        "observedGeneration": 1, "disruptionsAllowed": ALLOWED,
        "currentHealthy": PODS, "desiredHealthy": 1, "expectedPods": PODS,
    }});
    let (code, _) = api
        .patch(&format!("{budgets}/b/status"), MERGE, &status)
        .await;
    assert_eq!(code, 200);
    let evictions = (0..PODS).map(|i| {
        let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": format!("p{i}")}});
        let (api, path) = (&api, format!("{pods}/p{i}/eviction"));
        async move { api.send("POST", &path, &body).await.0 }
    });
    let codes = futures::future::join_all(evictions).await;
    let count = |wanted: u16| codes.iter().filter(|c| **c == wanted).count();
    assert_eq!((count(201), count(429)), (3, PODS - 3), "{codes:?}");
    let (_, budget) = api.get(&format!("{budgets}/b")).await;
    assert_eq!(budget["status"]["disruptionsAllowed"], 0);
    let disrupted = budget["status"]["disruptedPods"].as_object().unwrap();
    assert_eq!(disrupted.len(), 3);
    // An evicted pod says why it goes.
    let name = disrupted.keys().next().unwrap();
    let (_, pod) = api.get(&format!("{pods}/{name}")).await;
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|c| c["type"] == "DisruptionTarget"));
}

#[tokio::test]
async fn requests_are_counted_under_upstreams_names() {
    let api = Daemon::start().await;
    let all = "/api/v1/namespaces/default/configmaps";
    let map = config_map("a", json!({}));
    assert_eq!(api.send("POST", all, &map).await.0, 201);
    assert_eq!(api.send("POST", all, &map).await.0, 409);
    assert_eq!(api.get(&format!("{all}/b")).await.0, 404);
    let dry = format!("{all}/a?dryRun=All&fieldManager=m");
    assert_eq!(api.patch(&dry, APPLY, &map).await.0, 200);
    api.text(&format!("{all}?watch=true&timeoutSeconds=1"))
        .await;
    assert_eq!(api.get("/apis/no.such/v1/things").await.0, 404);
    let text = api.text("/metrics").await;
    let of = |code, dry, scope, verb| {
        format!(
            "apiserver_request_total{{code=\"{code}\",component=\"apiserver\",dry_run=\"{dry}\",group=\"\",\
             resource=\"configmaps\",scope=\"{scope}\",subresource=\"\",verb=\"{verb}\",version=\"v1\"}} 1\n"
        )
    };
    for line in [
        of(201, "", "resource", "POST"),
        of(409, "", "resource", "POST"),
        of(404, "", "resource", "GET"),
        of(200, "All", "resource", "APPLY"),
        of(200, "", "namespace", "WATCH"),
    ] {
        assert!(text.contains(&line), "{line}{text}");
    }
    assert!(!text.contains("no.such"), "{text}");
    let watches = text
        .lines()
        .filter(|l| l.starts_with("apiserver_longrunning_requests{"));
    assert!({ watches }.all(|l| l.ends_with(" 0")));
    // This one itself.
    assert!(text.contains("apiserver_current_inflight_requests{request_kind=\"readOnly\"} 1\n"));
    // The client's certificate, for each request of it and not once.
    let name = "apiserver_client_certificate_expiration_seconds_count ";
    let count = text.lines().find_map(|l| l.strip_prefix(name)).unwrap();
    assert!(count.parse::<u32>().unwrap() >= 7, "{count}");
}

#[tokio::test]
async fn who_acts_as_somebody_may_do_no_more_than_he() {
    let api = Daemon::start().await;
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let bob = api.acting_as("bob");
    let (code, seen) = bob.send("POST", path, &review).await;
    let user = &seen["status"]["userInfo"];
    assert_eq!(
        (code, user["username"].as_str()),
        (201, Some("bob")),
        "{seen}"
    );
    assert_eq!(user["groups"], json!(["system:authenticated"]));
    let all = "/api/v1/namespaces/default/configmaps";
    assert_eq!(api.get(all).await.0, 200);
    let (code, status) = bob.get(all).await;
    assert_eq!(code, 403, "{status}");
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .starts_with("configmaps is forbidden: User \"bob\" cannot list")
    );
}
