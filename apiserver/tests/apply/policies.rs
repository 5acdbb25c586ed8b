//! Admission policies: expressions that refuse and change real writes.

use serde_json::{Value, json};

use super::config_map;
use super::daemon::{User, eventually};

mod mutating;
mod validating;
mod written;

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// The annotation by which a test asks whether a policy is in force.
const PROBE: &str = "example.com/probe";

/// A rule about a resource of a group in version 1.
fn rule(operations: &[&str], group: &str, resource: &str) -> Value {
    json!({"operations": operations, "apiGroups": [group], "apiVersions": ["v1"], "resources": [resource]})
}

fn maps(operations: &[&str]) -> Value {
    json!({"resourceRules": [rule(operations, "", "configmaps")]})
}

/// What a policy, or a binding, is called and says.
fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    })
}

async fn make(by: &User, path: &str, object: &Value) -> Value {
    let (code, made) = by.send("POST", path, object).await;
    assert_eq!(code, 201, "{made}");
    made
}

/// Makes a validating policy with a binding that denies, and waits until it is in force.
async fn validating(api: &User, name: &str, spec: Value, binding: Value) {
    let mut spec = spec;
    let probe = json!({
        "expression": format!("!has(object.metadata.annotations) || object.metadata.annotations[?'{PROBE}'].orValue('') != '{name}'"),
        "message": "in force",
    });
    let validations = spec["validations"].as_array_mut();
    validations.expect("a policy validates").push(probe);
    let path = format!("{GROUP}/validatingadmissionpolicies");
    make(
        api,
        &path,
        &object("ValidatingAdmissionPolicy", name, &spec),
    )
    .await;
    bind(api, "Validating", name, name, binding).await;
    in_force(api, name, |code, answer| {
        code != 201
            && answer["message"]
                .as_str()
                .is_some_and(|m| m.ends_with("in force"))
    })
    .await;
}

/// Binds a policy, by default so that what fails is denied.
async fn bind(api: &User, kind: &str, name: &str, policy: &str, more: Value) {
    let mut spec = json!({"policyName": policy});
    if kind == "Validating" {
        spec["validationActions"] = json!(["Deny"]);
    }
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let path = format!("{GROUP}/{}admissionpolicybindings", kind.to_lowercase());
    let kind = format!("{kind}AdmissionPolicyBinding");
    make(api, &path, &object(&kind, name, &spec)).await;
}

/// Waits until the answer to a map that is marked for a policy says that it is in force.
async fn in_force(api: &User, name: &str, is_so: impl Fn(u16, &Value) -> bool) {
    eventually("the policy is in force", async || {
        let mut map = config_map("probe", json!({"probe": "probe"}));
        map["metadata"]["annotations"] = json!({PROBE: name});
        let (code, answer) = api.send("POST", &format!("{MAPS}?dryRun=All"), &map).await;
        is_so(code, &answer)
    })
    .await;
}

async fn create(api: &User, name: &str, data: Value) -> (u16, Value) {
    api.send("POST", MAPS, &config_map(name, data)).await
}

fn message(status: &Value) -> &str {
    status["message"].as_str().unwrap_or_default()
}
