//! Policies as objects: what is asked of those who write them.

use serde_json::{Value, json};

use super::super::MERGE;
use super::super::daemon::{Daemon, eventually};
use super::{GROUP, bind, make, maps, message, object};

fn causes(status: &Value) -> Vec<(String, String)> {
    let causes = status["details"]["causes"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let text = |cause: &Value, name: &str| cause[name].as_str().unwrap_or_default().to_owned();
    causes
        .iter()
        .map(|c| (text(c, "field"), text(c, "message")))
        .collect()
}

#[tokio::test]
async fn expressions_are_compiled_when_they_are_written() {
    let api = Daemon::start().await;
    let path = format!("{GROUP}/validatingadmissionpolicies");
    let spec = json!({
        "matchConstraints": maps(&["CREATE"]),
        "matchConditions": [{"name": "c", "expression": "params.x"}],
        "variables": [{"name": "n", "expression": "1"}, {"name": "bad", "expression": "later"}],
        "validations": [{"expression": "variables.n", "messageExpression": "variables.n"}, {"expression": "variables.m == 1"}],
        "auditAnnotations": [{"key": "a", "valueExpression": "1"}],
    });
    let (code, status) = api
        .send(
            "POST",
            &path,
            &object("ValidatingAdmissionPolicy", "a", &spec),
        )
        .await;
    assert_eq!(code, 422, "{status}");
    let found = causes(&status);
    let at = |field: &str| {
        let found = found.iter().find(|(at, _)| at == field);
        found.map_or("", |(_, message)| message)
    };
    let wanted = [
        (
            "spec.matchConditions[0].expression",
            "undeclared reference to 'params' (in container '')",
        ),
        (
            "spec.variables[1].expression",
            "undeclared reference to 'later' (in container '')",
        ),
        (
            "spec.validations[0].expression",
            "must evaluate to bool but got int",
        ),
        (
            "spec.validations[0].messageExpression",
            "must evaluate to string but got int",
        ),
        ("spec.validations[1].expression", "undefined field 'm'"),
        (
            "spec.auditAnnotations[0].valueExpression",
            "must evaluate to one of [string null_type] but got int",
        ),
    ];
    for (field, told) in wanted {
        assert!(at(field).contains(told), "{field}: {status}");
    }
    assert_eq!(found.len(), wanted.len(), "{status}");
    let spec = json!({
        "matchConstraints": maps(&["CREATE"]),
        "reinvocationPolicy": "Never",
        "mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object.spec{}"}},
            {"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 1}]"}},
        ],
    });
    let path = format!("{GROUP}/mutatingadmissionpolicies");
    let (code, status) = api
        .send(
            "POST",
            &path,
            &object("MutatingAdmissionPolicy", "a", &spec),
        )
        .await;
    assert_eq!(code, 422, "{status}");
    let found = causes(&status);
    assert!(
        found[0]
            .1
            .contains("must evaluate to Object but got Object.spec"),
        "{status}"
    );
    assert!(
        found[1]
            .1
            .contains("expected type of field 'op' is 'string' but provided type is 'int'"),
        "{status}"
    );
}

#[tokio::test]
async fn conditions_of_webhooks_are_compiled_too() {
    let api = Daemon::start().await;
    let hook = |expression: &str| {
        json!({
            "name": "a.example.com",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://127.0.0.1:1/"},
            "matchConditions": [{"name": "c", "expression": expression}],
        })
    };
    let path = format!("{GROUP}/validatingwebhookconfigurations");
    let send = async |name: &str, expression: &str| {
        let object = json!({"metadata": {"name": name}, "webhooks": [hook(expression)]});
        api.send("POST", &path, &object).await
    };
    let (code, status) = send("a", "... [}").await;
    assert_eq!(code, 422, "{status}");
    assert_eq!(
        causes(&status)[0].0,
        "webhooks[0].matchConditions[0].expression"
    );
    assert!(
        message(&status).contains("compilation failed: ERROR: <input>:1:2: Syntax error"),
        "{status}"
    );
    assert_eq!(send("b", "!('k' in object.metadata.labels)").await.0, 201);
}

#[tokio::test]
async fn parameters_must_be_readable_by_whoever_names_them() {
    let api = Daemon::start().await;
    let rules = json!([{"apiGroups": ["admissionregistration.k8s.io"], "resources": ["*"], "verbs": ["*"]}]);
    let roles = "/apis/rbac.authorization.k8s.io/v1";
    let role = |name: &str, rules: Value| json!({"metadata": {"name": name}, "rules": rules});
    let grant = async |name: &str, rules: Value| {
        make(&api, &format!("{roles}/clusterroles"), &role(name, rules)).await;
        let subject =
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"});
        let of =
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
        let bound = json!({"metadata": {"name": name}, "roleRef": of, "subjects": [subject]});
        make(&api, &format!("{roles}/clusterrolebindings"), &bound).await;
    };
    grant("policies", rules).await;
    let ann = api.user("ann");
    let path = format!("{GROUP}/validatingadmissionpolicies");
    let policy = object(
        "ValidatingAdmissionPolicy",
        "p",
        &json!({
            "matchConstraints": maps(&["CREATE"]),
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "validations": [{"expression": "params != null"}],
        }),
    );
    eventually("the role is in force", async || {
        ann.send("POST", &path, &policy).await.0 != 403
    })
    .await;
    let (code, status) = ann.send("POST", &path, &policy).await;
    assert_eq!(code, 422, "{status}");
    let found = causes(&status);
    let [(field, told)] = found.as_slice() else {
        panic!("{status}");
    };
    assert_eq!(field, "spec.paramKind");
    assert!(
        told.starts_with("Forbidden: user &{ann  [system:authenticated] map["),
        "{told}"
    );
    let lacks = "must have \"get\" permission on all objects of the referenced paramKind (kind=ConfigMap, apiVersion=v1)";
    assert!(told.ends_with(lacks), "{told}");
    make(&api, &path, &policy).await;
    let (code, made) = ann
        .patch(
            &format!("{path}/p"),
            MERGE,
            &json!({"metadata": {"labels": {"a": "b"}}}),
        )
        .await;
    assert_eq!(code, 200, "{made}");
    let bindings = format!("{GROUP}/validatingadmissionpolicybindings");
    let param = json!({"name": "m", "namespace": "default", "parameterNotFoundAction": "Allow"});
    let bound = json!({"policyName": "p", "validationActions": ["Deny"], "paramRef": param});
    let bound = object("ValidatingAdmissionPolicyBinding", "b", &bound);
    let (code, status) = ann.send("POST", &bindings, &bound).await;
    assert_eq!(code, 422, "{status}");
    assert_eq!(causes(&status)[0].0, "spec.paramRef");
    assert!(
        message(&status)
            .contains("does not have \"get\" permission on the object referenced by paramRef"),
        "{status}"
    );
    grant(
        "maps",
        json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]),
    )
    .await;
    eventually("the other role is in force", async || {
        ann.send("POST", &bindings, &bound).await.0 == 201
    })
    .await;
    bind(&api, "Validating", "c", "p", json!({})).await;
}
