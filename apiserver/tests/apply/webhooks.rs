//! Admission webhooks: real servers, asked about real writes.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use component::serving::{Response, full};
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::config_map;
use super::daemon::{Daemon, User, eventually};
use super::remote::{Asked, Remote, json as answer};

mod mutate;
mod reach;
mod requests;
mod validate;

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Where webhooks of the tests are that only show that a configuration is in force.
const READY: &str = "/ready";

/// Webhooks that answer as `respond` says: it gets the path and the request and gives the response without its uid.
pub(crate) fn webhooks<F>(respond: F) -> Remote
where
    F: Fn(&str, &Value) -> Value + Send + Sync + 'static,
{
    let respond = Arc::new(respond);
    Remote::start(move |asked| {
        let respond = Arc::clone(&respond);
        Box::pin(async move {
            if asked.path == READY {
                return review(&asked, json!({"allowed": true}));
            }
            let request = asked.json()["request"].clone();
            let response = respond(&asked.path, &request);
            review(&asked, response)
        })
    })
}

/// The review with a response to it.
fn review(asked: &Asked, mut response: Value) -> Response {
    let sent = asked.json();
    response["uid"] = sent["request"]["uid"].clone();
    answer(
        200,
        &json!({"kind": sent["kind"], "apiVersion": sent["apiVersion"], "response": response}),
    )
}

pub(crate) fn allowed() -> Value {
    json!({"allowed": true})
}

fn denied(why: &str) -> Value {
    json!({"allowed": false, "status": {"message": why}})
}

/// A response that patches the object.
fn patch(operations: &Value) -> Value {
    let patch = STANDARD.encode(operations.to_string());
    json!({"allowed": true, "patchType": "JSONPatch", "patch": patch})
}

/// A rule about a resource, in any group and version.
pub(crate) fn rule(operations: &[&str], resource: &str) -> Value {
    json!({"operations": operations, "apiGroups": ["*"], "apiVersions": ["*"], "resources": [resource]})
}

/// A webhook at a path of a server; `more` is put over what all have.
pub(crate) fn hook(remote: &Remote, path: &str, rules: &[Value], more: Value) -> Value {
    let mut hook = json!({
        "name": format!("{}.example.com", path.trim_matches('/').replace('/', "-")),
        "clientConfig": {
            "url": format!("{}{path}", remote.url),
            "caBundle": STANDARD.encode(&remote.ca.pem),
        },
        "rules": rules,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 10,
    });
    for (key, value) in more.as_object().unwrap() {
        hook[key] = value.clone();
    }
    hook
}

/// Makes a configuration and waits until it is in force.
pub(crate) async fn configure(
    api: &Daemon,
    remote: &Remote,
    kind: &str,
    name: &str,
    hooks: &[Value],
) {
    let marker = format!("{name}-{}", kind.to_lowercase());
    let selector = json!({"objectSelector": {"matchLabels": {"ready": marker}}});
    let ready = hook(remote, READY, &[rule(&["CREATE"], "configmaps")], selector);
    // First, so that it sees what others will change or refuse.
    let mut hooks = hooks.to_vec();
    hooks.insert(0, ready);
    let object = json!({
        "kind": format!("{kind}WebhookConfiguration"),
        "apiVersion": "admissionregistration.k8s.io/v1",
        "metadata": {"name": name},
        "webhooks": hooks,
    });
    let path = format!("{GROUP}/{}webhookconfigurations", kind.to_lowercase());
    let (code, made) = api.send("POST", &path, &object).await;
    assert_eq!(code, 201, "{made}");
    in_force(api, remote, &marker).await;
}

/// Waits until a webhook for what is labelled so is asked.
async fn in_force(api: &Daemon, remote: &Remote, marker: &str) {
    eventually("the webhooks are asked", async || {
        let mut map = config_map("marker", json!({"k": "v"}));
        map["metadata"]["labels"] = json!({"ready": marker});
        // Others may refuse it: that they are asked is what counts.
        api.send("POST", &format!("{MAPS}?dryRun=All"), &map).await;
        asked(remote, READY)
            .iter()
            .any(|r| r["object"]["metadata"]["labels"]["ready"] == marker)
    })
    .await;
}

/// What was asked at a path so far, but for markers.
fn asked(remote: &Remote, path: &str) -> Vec<Value> {
    let all = remote.asked();
    let requests = all.iter().filter(|a| a.path == path);
    requests
        .map(|a| a.json()["request"].clone())
        .filter(|r| path == READY || r["name"] != "marker")
        .collect()
}

async fn create(api: &User, name: &str) -> (u16, Value) {
    api.send("POST", MAPS, &config_map(name, json!({"k": "v"})))
        .await
}

/// What a metric counted.
async fn counted(api: &Daemon, series: &str) -> f64 {
    let text = api.text("/metrics").await;
    let line = text.lines().find_map(|l| l.strip_prefix(series));
    line.map_or(0.0, |count| count.trim().parse().unwrap())
}
