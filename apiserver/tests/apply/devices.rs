//! Devices: administration in namespaces that allow it, and claims that are bound and reported of by those
//! who may.

use serde_json::{Value, json};

use super::MERGE;
use super::daemon::{Daemon, User};

const CLAIMS: &str = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

fn claim(name: &str, admin: bool) -> Value {
    let exactly = json!({"deviceClassName": "gpu", "adminAccess": admin});
    json!({
        "metadata": {"name": name},
        "spec": {"devices": {"requests": [{"name": "a", "exactly": exactly}]}},
    })
}

#[tokio::test]
async fn devices_are_administered_in_namespaces_that_allow_it() {
    let api = Daemon::start().await;
    let template = json!({"metadata": {"name": "t"}, "spec": {"spec": claim("", true)["spec"]}});
    let templates = CLAIMS.replace("resourceclaims", "resourceclaimtemplates");
    let said = "spec.devices.requests[0].adminAccess: Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace";
    for (path, object) in [(CLAIMS, &claim("a", true)), (&templates, &template)] {
        let (code, status) = api.send("POST", path, object).await;
        assert_eq!(code, 422, "{status}");
        let message = status["message"].as_str().unwrap();
        assert!(message.ends_with(said), "{message}");
    }
    assert_eq!(
        api.send("POST", CLAIMS, &claim("plain", false)).await.0,
        201
    );
    let label = json!({"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}});
    let namespace = "/api/v1/namespaces/default";
    assert_eq!(api.patch(namespace, MERGE, &label).await.0, 200);
    for (path, object) in [(CLAIMS, &claim("a", true)), (&templates, &template)] {
        let (code, made) = api.send("POST", path, object).await;
        assert_eq!(code, 201, "{made}");
    }
    // What is allocated is held against the namespace, too.
    let unlabel = json!({"metadata": {"labels": {"resource.kubernetes.io/admin-access": null}}});
    assert_eq!(api.patch(namespace, MERGE, &unlabel).await.0, 200);
    let (code, status) = allocate(&api, "a", json!({"adminAccess": true})).await;
    assert_eq!(code, 422, "{status}");
    let message = status["message"].as_str().unwrap();
    assert!(
        message.contains("status.allocation.devices.results[0].adminAccess: Forbidden"),
        "{message}"
    );
    assert_eq!(allocate(&api, "a", json!({})).await.0, 200);
}

#[tokio::test]
async fn selectors_are_expressions_that_do_not_cost_too_much() {
    let api = Daemon::start().await;
    let classes = "/apis/resource.k8s.io/v1/deviceclasses";
    let class = |expression: &str| {
        let selectors = json!([{"cel": {"expression": expression}}]);
        json!({"metadata": {"name": "c"}, "spec": {"selectors": selectors}})
    };
    let good = "device.driver == 'd.example.com' && device.capacity['d.example.com'].memory.isGreaterThan(quantity('1Gi'))";
    let nested = "device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, device.attributes.all(d, a + b == c + d))))";
    let at = "spec.selectors[0].cel.expression";
    for (expression, why) in [
        (
            "device.name == 'x'",
            "Invalid value: \"device.name == 'x'\": compilation failed: ERROR: <input>:1:7: undefined field 'name'",
        ),
        (
            "device.driver",
            "Invalid value: \"device.driver\": must evaluate to bool or the unknown type, not string",
        ),
        (nested, "Forbidden: too complex, exceeds cost limit"),
    ] {
        let (code, status) = api.send("POST", classes, &class(expression)).await;
        assert_eq!(code, 422, "{status}");
        let message = status["message"].as_str().unwrap();
        assert!(message.contains(&format!("{at}: {why}")), "{message}");
    }
    let (code, made) = api.send("POST", classes, &class(good)).await;
    assert_eq!(code, 201, "{made}");
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let (code, changed) = api.patch(&format!("{classes}/c"), MERGE, &label).await;
    assert_eq!(code, 200, "{changed}");
    let mut asks = claim("selecting", false);
    asks["spec"]["devices"]["requests"][0]["exactly"]["selectors"] =
        json!([{"cel": {"expression": "device"}}]);
    let (code, status) = api.send("POST", CLAIMS, &asks).await;
    assert_eq!(code, 422, "{status}");
    let message = status["message"].as_str().unwrap();
    let why = "spec.devices.requests[0].exactly.selectors[0].cel.expression: Invalid value: \"device\": must evaluate to bool or \
               the unknown type, not kubernetes.DRADevice";
    assert!(message.ends_with(why), "{message}");
}

/// Gives a claim its device, on the node `n1`.
async fn allocate(by: &User, name: &str, more: Value) -> (u16, Value) {
    let mut result = json!({"request": "a", "driver": "d.example.com", "pool": "p", "device": "x"});
    let fields = result.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    let node = json!({"key": "metadata.name", "operator": "In", "values": ["n1"]});
    let status = json!({"status": {"allocation": {
        "devices": {"results": [result]},
        "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [node]}]},
    }}});
    by.patch(&format!("{CLAIMS}/{name}/status"), MERGE, &status)
        .await
}

async fn report(by: &User, name: &str, interface: &str) -> (u16, Value) {
    let device = json!({
        "driver": "d.example.com", "pool": "p", "device": "x",
        "networkData": {"interfaceName": interface},
    });
    let status = json!({"status": {"devices": [device]}});
    by.patch(&format!("{CLAIMS}/{name}/status"), MERGE, &status)
        .await
}

/// Lets somebody do something with claims, in the whole cluster.
async fn allow(api: &Daemon, user: &str, role: &str, rule: Value) {
    let body = json!({"metadata": {"name": role}, "rules": [rule]});
    let (code, made) = api
        .send("POST", &format!("{RBAC}/clusterroles"), &body)
        .await;
    assert_eq!(code, 201, "{made}");
    let body = json!({
        "metadata": {"name": role},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    });
    let path = format!("{RBAC}/clusterrolebindings");
    let (code, made) = api.send("POST", &path, &body).await;
    assert_eq!(code, 201, "{made}");
}

fn rule(verbs: &[&str], resource: &str, names: &[&str]) -> Value {
    let mut rule =
        json!({"apiGroups": ["resource.k8s.io"], "resources": [resource], "verbs": verbs});
    if !names.is_empty() {
        rule["resourceNames"] = json!(names);
    }
    rule
}

#[tokio::test]
async fn who_binds_claims_and_who_reports_of_devices_must_be_allowed_to() {
    let api = Daemon::start().await;
    assert_eq!(api.send("POST", CLAIMS, &claim("a", false)).await.0, 201);
    let status = rule(&["get", "patch", "update"], "resourceclaims/status", &[]);
    for user in ["binder", "driver"] {
        allow(&api, user, &format!("{user}-status"), status.clone()).await;
        granted(&api, user, "patch", "status", "").await;
    }
    let (binder, driver) = (api.user("binder"), api.user("driver"));
    let (code, refused) = allocate(&binder, "a", json!({})).await;
    assert_eq!(code, 422, "{refused}");
    let message = refused["message"].as_str().unwrap();
    let said = r#"status.allocation: Forbidden: changing status.allocation or status.reservedFor requires resource="resourceclaims/binding", verb="patch" permission: resourceclaims.resource.k8s.io is forbidden: User "binder" cannot patch resource "resourceclaims/binding" in API group "resource.k8s.io" at the cluster scope"#;
    assert!(message.contains(said), "{message}");
    allow(
        &api,
        "binder",
        "bind",
        rule(&["patch"], "resourceclaims/binding", &[]),
    )
    .await;
    granted(&api, "binder", "patch", "binding", "").await;
    let (code, bound) = allocate(&binder, "a", json!({})).await;
    assert_eq!(code, 200, "{bound}");

    let (code, refused) = report(&driver, "a", "eth0").await;
    assert_eq!(code, 422, "{refused}");
    let message = refused["message"].as_str().unwrap();
    let said = r#"status.devices: Forbidden: changing status.devices requires resource="resourceclaims/driver", verb="[arbitrary-node:patch]" permission: resourceclaims.resource.k8s.io "d.example.com" is forbidden: User "driver" cannot arbitrary-node:patch resource "resourceclaims/driver" in API group "resource.k8s.io" in the namespace "default""#;
    assert!(message.contains(said), "{message}");
    // He who may report for all drivers but this one may not.
    let verb = &["arbitrary-node:patch"];
    let others = rule(verb, "resourceclaims/driver", &["e.example.com"]);
    allow(&api, "driver", "others", others).await;
    granted(&api, "driver", verb[0], "driver", "e.example.com").await;
    assert_eq!(report(&driver, "a", "eth0").await.0, 422);
    let own = rule(verb, "resourceclaims/driver", &["d.example.com"]);
    allow(&api, "driver", "own", own).await;
    granted(&api, "driver", verb[0], "driver", "d.example.com").await;
    assert_eq!(report(&driver, "a", "eth0").await.0, 200);
    // What stays as it is needs no permission; taking it away does.
    assert_eq!(report(&binder, "a", "eth0").await.0, 200, "nothing changes");
    assert_eq!(report(&binder, "a", "eth1").await.0, 422);
    let path = format!("{CLAIMS}/a/status");
    for (user, field) in [(&driver, "allocation"), (&binder, "devices")] {
        let gone = json!({"status": {field: null}});
        let (code, refused) = user.patch(&path, MERGE, &gone).await;
        assert_eq!(code, 422, "{refused}");
    }
}

/// Waits until roles that were just made are known.
async fn granted(api: &Daemon, user: &str, verb: &str, subresource: &str, name: &str) {
    let review = json!({"spec": {"user": user, "resourceAttributes": {
        "verb": verb, "group": "resource.k8s.io", "resource": "resourceclaims",
        "subresource": subresource, "name": name,
        "namespace": if subresource == "driver" { "default" } else { "" },
    }}});
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let start = std::time::Instant::now();
    loop {
        let (_, review) = api.send("POST", path, &review).await;
        if review["status"]["allowed"] == true {
            return;
        }
        assert!(start.elapsed().as_secs() < 10, "{review}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
