//! Mutating policies: what they change, in which order, how often.

use serde_json::{Value, json};

use super::super::daemon::{Daemon, User, eventually};
use super::super::{MERGE, managers};
use super::{
    GROUP, MAPS, PROBE, bind, config_map, create, in_force, make, maps, message, object, rule,
};

/// Makes a mutating policy with a binding, and waits until it is in force.
async fn mutating(api: &User, name: &str, spec: Value) {
    let mut spec = spec;
    // Only marked maps get it, so that no other round comes of it.
    let patch = format!(
        "object.kind == 'ConfigMap' && object.metadata.?annotations[?'{PROBE}'].orValue('') == '{name}' ? [JSONPatch{{op: 'add', path: '/data/force-{name}', value: 'yes'}}] : []"
    );
    let probe = json!({"patchType": "JSONPatch", "jsonPatch": {"expression": patch}});
    let mutations = spec["mutations"].as_array_mut();
    mutations.expect("a policy mutates").push(probe);
    let path = format!("{GROUP}/mutatingadmissionpolicies");
    make(api, &path, &object("MutatingAdmissionPolicy", name, &spec)).await;
    bind(api, "Mutating", name, name, json!({})).await;
    let key = format!("force-{name}");
    in_force(api, name, |_, answer| answer["data"][&key] == "yes").await;
}

fn apply(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn patch(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

fn spec(constraints: Value, reinvocation: &str, mutations: &[Value]) -> Value {
    json!({"matchConstraints": constraints, "reinvocationPolicy": reinvocation, "mutations": mutations})
}

#[tokio::test]
async fn configurations_and_patches_change_what_is_stored() {
    let api = Daemon::start().await;
    let pods = json!({"resourceRules": [rule(&["CREATE"], "", "pods"), rule(&["CREATE", "UPDATE"], "", "configmaps")]});
    let sidecar = apply(
        "object.kind != 'Pod' ? Object{} : Object{metadata: Object.metadata{labels: {'mesh': 'on'}}, spec: Object.spec{initContainers: [Object.spec.initContainers{name: 'mesh', image: 'm', restartPolicy: 'Always'}]}}",
    );
    let annotate = patch(
        "object.kind != 'Pod' ? [] : [JSONPatch{op: 'test', path: '/metadata/labels/mesh', value: 'on'}, JSONPatch{op: 'add', path: '/metadata/annotations', value: {'by': request.userInfo.username}}]",
    );
    mutating(&api, "mesh", spec(pods, "Never", &[sidecar, annotate])).await;
    let pod = json!({"metadata": {"name": "p", "labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = make(&api, "/api/v1/namespaces/default/pods", &pod).await;
    assert_eq!(
        made["metadata"]["labels"],
        json!({"app": "a", "mesh": "on"})
    );
    assert!(made["metadata"]["annotations"]["by"].is_string(), "{made}");
    let init = &made["spec"]["initContainers"][0];
    assert_eq!(
        (init["name"].as_str(), init["restartPolicy"].as_str()),
        (Some("mesh"), Some("Always"))
    );
    assert_eq!(
        init["terminationMessagePath"], "/dev/termination-log",
        "defaults come after it"
    );
    assert!(!managers(&made).is_empty());
    let metrics = api.text("/metrics").await;
    let series = "apiserver_mutating_admission_policy_check_total{policy=\"mesh\",policy_binding=\"mesh\",error_type=\"no_error\"}";
    assert!(metrics.contains(series), "{series}");
}

#[tokio::test]
async fn a_policy_is_asked_again_if_another_changes_the_object_after_it() {
    let api = Daemon::start().await;
    let count = |key: &str| {
        patch(&format!(
            "[JSONPatch{{op: 'add', path: '/data/{key}', value: object.data.?{key}.orValue('') + (has(object.data.last) ? 'b' : 'a')}}]"
        ))
    };
    mutating(
        &api,
        "again",
        spec(maps(&["CREATE"]), "IfNeeded", &[count("again")]),
    )
    .await;
    mutating(
        &api,
        "never",
        spec(maps(&["CREATE"]), "Never", &[count("never")]),
    )
    .await;
    let last = patch(
        "has(object.data.last) ? [] : [JSONPatch{op: 'add', path: '/data/last', value: 'x'}]",
    );
    mutating(&api, "z-last", spec(maps(&["CREATE"]), "Never", &[last])).await;
    let (code, made) = create(&api, "a", json!({"k": "v"})).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(
        made["data"],
        json!({"k": "v", "again": "ab", "never": "a", "last": "x"})
    );
}

#[tokio::test]
async fn what_cannot_be_changed_refuses_the_write_unless_that_is_ignored() {
    let api = Daemon::start().await;
    let wrong =
        apply("object.data.?wrong.orValue('') == '' ? Object{} : Object{spec: Object.spec{a: 1}}");
    let gone = patch(
        "object.data.?gone.orValue('') == '' ? [] : [JSONPatch{op: 'remove', path: '/data/nothing'}]",
    );
    let unknown = patch(
        "object.data.?unknown.orValue('') == '' ? [] : [JSONPatch{op: 'add', path: '/unknown', value: 1}]",
    );
    let mutations = [wrong, gone, unknown];
    mutating(&api, "strict", spec(maps(&["CREATE"]), "Never", &mutations)).await;
    let (code, status) = create(&api, "a", json!({"wrong": "x"})).await;
    assert_eq!(
        (code, status["reason"].as_str()),
        (403, Some("Invalid")),
        "{status}"
    );
    let told = "policy 'strict' with binding 'strict' denied request: error applying patch: failed to convert patch object to typed object: .spec: field not declared in schema";
    assert_eq!(message(&status), told);
    let (code, status) = create(&api, "a", json!({"gone": "x", "wrong": "x"})).await;
    let causes = status["details"]["causes"].as_array().unwrap();
    assert_eq!((code, causes.len()), (403, 2), "{status}");
    assert!(
        causes[1]["message"]
            .as_str()
            .unwrap()
            .contains("denied request: JSON Patch: "),
        "{status}"
    );
    let (code, status) = create(&api, "a", json!({"unknown": "x"})).await;
    assert_eq!(code, 500, "{status}");
    let path = format!("{GROUP}/mutatingadmissionpolicies/strict");
    let ignore = json!({"spec": {"failurePolicy": "Ignore"}});
    assert_eq!(api.patch(&path, MERGE, &ignore).await.0, 200);
    eventually("failures are ignored", async || {
        let map = config_map("b", json!({"wrong": "x"}));
        api.send("POST", &format!("{MAPS}?dryRun=All"), &map)
            .await
            .0
            == 201
    })
    .await;
}
