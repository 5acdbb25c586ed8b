//! Objects that cannot be read: they are named, and somebody who may can delete them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::config_map;
use super::daemon::Daemon;
use super::wire::Wire;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const OPTION: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";

fn unread(more: Value) -> Value {
    let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1", OPTION: true});
    for (name, value) in more.as_object().unwrap() {
        options[name] = value.clone();
    }
    options
}

/// Waits until the collection says what it has met.
async fn broken_list(api: &Daemon) -> Value {
    let start = Instant::now();
    loop {
        let (code, answer) = api.get(MAPS).await;
        if code == 500 {
            return answer;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{answer}");
    }
}

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";

fn role(verbs: Value) -> Value {
    json!({
        "metadata": {"name": "r"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}],
    })
}

/// Lets Alice delete.
async fn bind(api: &Daemon) {
    let binding = json!({
        "metadata": {"name": "r"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}],
    });
    let role = role(json!(["delete"]));
    let (roles, bindings) = (format!("{RBAC}/roles"), format!("{RBAC}/rolebindings"));
    assert_eq!(api.send("POST", &roles, &role).await.0, 201);
    assert_eq!(api.send("POST", &bindings, &binding).await.0, 201);
}

fn stored(name: &str) -> String {
    format!("/registry/configmaps/default/{name}")
}

/// A server with one good object, and two that cannot be read: sealed with a key that is lost, and garbage.
async fn start() -> Daemon {
    let api = Daemon::start().await;
    let good = config_map("good", json!({}));
    assert_eq!(api.send("POST", MAPS, &good).await.0, 201);
    let etcd = api.etcd();
    etcd.put(&stored("one"), "k8s:enc:aescbc:v1:lost:x").await;
    etcd.put(&stored("two"), "k8s\0garbage").await;
    api
}

fn message(status: &Value) -> &str {
    status["message"].as_str().unwrap()
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    let api = start().await;
    let list = broken_list(&api).await;
    assert_eq!(list["reason"], "StoreReadError", "{list}");
    let causes = list["details"]["causes"].as_array().unwrap();
    let named: Vec<&str> = causes
        .iter()
        .map(|c| c["field"].as_str().unwrap())
        .collect();
    assert_eq!(named, [stored("one"), stored("two")], "{list}");
    assert!(message(&list).ends_with("(and 1 more)"), "{list}");
    let one = format!("{MAPS}/one");
    let (code, read) = api.get(&one).await;
    assert_eq!(code, 500);
    assert!(message(&read).contains("Code: 7"), "{read}");
    // As if it were any other, it is not deleted.
    assert_eq!(api.send("DELETE", &one, &json!({})).await.0, 500);
    assert!(api.etcd().get(&stored("one")).await.is_some());
}

#[tokio::test]
async fn only_what_cannot_be_read_is_deleted_unread_and_nothing_else_is_asked_of_it() {
    let api = start().await;
    let one = format!("{MAPS}/one");
    let delete = async |path: &str, more: Value| api.send("DELETE", path, &unread(more)).await;
    let (code, refused) = delete(&format!("{MAPS}/good"), json!({})).await;
    assert_eq!(code, 409);
    let expected = format!(
        "Operation cannot be fulfilled on configmaps \"good\": StorageError: invalid object, Code: 4, Key: {}, \
         ResourceVersion: 0, AdditionalErrorMsg: unsafe deletion is not allowed because the object is decodable \
         from storage",
        stored("good")
    );
    assert_eq!(message(&refused), expected);
    assert_eq!(delete(&format!("{MAPS}/none"), json!({})).await.0, 404);
    for more in [
        json!({"gracePeriodSeconds": 0}),
        json!({"propagationPolicy": "Background"}),
        json!({"orphanDependents": true}),
        json!({"preconditions": {"resourceVersion": "1"}}),
    ] {
        let (code, refused) = delete(&one, more.clone()).await;
        assert_eq!(code, 422, "{more}");
        assert_eq!(refused["details"]["causes"][0]["field"], OPTION);
    }
    let (code, refused) = delete(MAPS, json!({})).await;
    assert_eq!(code, 422);
    assert!(message(&refused).contains("is not allowed with DELETECOLLECTION"));
    assert_eq!(delete(&one, json!({"dryRun": ["All"]})).await.0, 200);
    assert!(api.etcd().get(&stored("one")).await.is_some());
}

#[tokio::test]
async fn to_delete_unread_is_allowed_by_a_verb_of_its_own_and_heals_the_list() {
    let api = start().await;
    bind(&api).await;
    let (alice, one) = (api.user("alice"), format!("{MAPS}/one"));
    // Authorizers hear of a role when its event comes.
    let until = async |test: &dyn Fn(u16, &Value) -> bool| {
        let start = Instant::now();
        loop {
            let (code, answer) = alice.send("DELETE", &one, &unread(json!({}))).await;
            if test(code, &answer) {
                return (code, answer);
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{answer}");
        }
    };
    let may_delete = |_, answer: &Value| !message(answer).contains("cannot delete resource");
    let (code, refused) = until(&may_delete).await;
    assert_eq!(code, 403);
    assert_eq!(
        message(&refused),
        "configmaps \"one\" is forbidden: not permitted to do \"unsafe-delete-ignore-read-errors\", reason: "
    );
    assert!(api.etcd().get(&stored("one")).await.is_some());

    let more = role(json!(["delete", "unsafe-delete-ignore-read-errors"]));
    let (code, _) = api.send("PUT", &format!("{RBAC}/roles/r"), &more).await;
    assert_eq!(code, 200);
    let deleted = until(&|code, _| code != 403).await;
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": "one", "kind": "ConfigMap"}, "code": 200,
    });
    assert_eq!(deleted, (200, status));
    assert!(api.etcd().get(&stored("one")).await.is_none());
    // Without a body the query is read.
    let mut wire = Wire::admin(&api).await;
    let path = format!("DELETE {MAPS}/two?{OPTION}=true");
    let head = wire.ask(&path, &[], "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let start = Instant::now();
    let list = loop {
        match api.get(MAPS).await {
            (200, list) => break list,
            (_, answer) => assert!(start.elapsed() < Duration::from_secs(20), "{answer}"),
        }
    };
    let names = list["items"].as_array().unwrap().iter();
    let names: Vec<&Value> = names.map(|o| &o["metadata"]["name"]).collect();
    assert_eq!(names, [&json!("good")]);
}

#[tokio::test]
async fn without_the_gate_the_option_means_nothing() {
    let gate = "--feature-gates=AllowUnsafeMalformedObjectDeletion=false";
    let api = Daemon::start_with(|_| vec![gate.into()]).await;
    let stored = "/registry/configmaps/default/broken";
    api.etcd().put(stored, "k8s\0garbage").await;
    let (code, _) = api
        .send(
            "DELETE",
            &format!("{MAPS}/broken"),
            &unread(json!({"gracePeriodSeconds": 0})),
        )
        .await;
    assert_eq!(code, 500);
    assert!(api.etcd().get(stored).await.is_some());
}
