//! Rules of single kinds: volumes, events, pods, and the schemas of all.

use serde_json::{Value, json};

use super::MERGE;
use super::daemon::Daemon;
use super::wire::Wire;

/// The cells of a table's rows.
async fn table(api: &Daemon, path: &str) -> (Vec<String>, Vec<Vec<Value>>) {
    let mut wire = Wire::admin(api).await;
    let accept = "Accept: application/json;as=Table;v=v1;g=meta.k8s.io";
    let headers = [accept, "Connection: close"];
    wire.ask(&format!("GET {path}"), &headers, "").await;
    let body = wire.rest().await;
    let json = &body[body.find('{').unwrap()..=body.rfind('}').unwrap()];
    let table: Value = serde_json::from_str(json).unwrap();
    let columns = table["columnDefinitions"].as_array().unwrap();
    let names = columns
        .iter()
        .map(|c| c["name"].as_str().unwrap().to_owned());
    let rows = table["rows"].as_array().unwrap();
    let cells = rows.iter().map(|r| r["cells"].as_array().unwrap().clone());
    (names.collect(), cells.collect())
}

#[tokio::test]
async fn volumes_and_claims_are_pending_and_shown() {
    let api = Daemon::start().await;
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let claim = json!({
        "metadata": {"name": "c"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Bound"},
    });
    let (code, made) = api.send("POST", claims, &claim).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["status"], json!({"phase": "Pending"}));
    assert_eq!(made["spec"]["volumeMode"], "Filesystem");
    assert!(made["metadata"].get("generation").is_none(), "{made}");
    let (names, rows) = table(&api, claims).await;
    assert_eq!(names[..3], ["Name", "Status", "Volume"]);
    assert_eq!(
        rows[0][..4],
        [json!("c"), json!("Pending"), json!(""), json!("")]
    );
    let bound = json!({"status": {"phase": "Bound"}});
    let (_, made) = api
        .patch(&format!("{claims}/c/status"), MERGE, &bound)
        .await;
    assert_eq!(made["status"]["phase"], "Bound");
    let other = json!({"spec": {"accessModes": ["ReadOnlyMany"]}});
    let (code, status) = api.patch(&format!("{claims}/c"), MERGE, &other).await;
    assert_eq!(
        (code, &status["details"]["causes"][0]["field"]),
        (422, &json!("spec"))
    );

    let volumes = "/api/v1/persistentvolumes";
    let volume = json!({
        "metadata": {"name": "v"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": "/x"},
            "claimRef": {"namespace": "default", "name": "c"},
        },
    });
    let (code, made) = api.send("POST", volumes, &volume).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["status"]["phase"], "Pending");
    assert_eq!(made["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    assert!(
        made["status"]["lastPhaseTransitionTime"].is_string(),
        "{made}"
    );
    let (_, rows) = table(&api, volumes).await;
    assert_eq!(
        rows[0][..6],
        ["v", "1Gi", "RWO", "Retain", "Pending", "default/c"].map(Value::from)
    );
}

#[tokio::test]
async fn events_are_found_by_all_that_upstream_finds_them_by() {
    let api = Daemon::start().await;
    let old = json!({
        "metadata": {"name": "old"},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p", "apiVersion": "v1", "uid": "u", "fieldPath": "f", "resourceVersion": "7"},
        "reason": "R", "type": "Normal", "source": {"component": "kubelet"}, "reportingComponent": "kubelet",
    });
    let core = "/api/v1/namespaces/default/events";
    let (code, made) = api.send("POST", core, &old).await;
    assert_eq!(code, 201, "{made}");
    let new = json!({
        "metadata": {"name": "new"},
        "regarding": {"kind": "Pod", "namespace": "default", "name": "q"},
        "eventTime": "2026-01-02T03:04:05.000000Z", "reportingController": "example.com/c", "reportingInstance": "i",
        "action": "A", "reason": "S", "type": "Warning",
    });
    let events = "/apis/events.k8s.io/v1/namespaces/default/events";
    let (code, made) = api.send("POST", events, &new).await;
    assert_eq!(code, 201, "{made}");
    let (code, refused) = api.send("POST", events, &json!({
        "metadata": {"name": "torn"}, "regarding": {"namespace": "default"}, "type": "Normal",
    })).await;
    assert_eq!(
        (code, &refused["details"]["causes"][0]["field"]),
        (422, &json!("eventTime"))
    );
    let names = async |path: &str, selector: &str| -> Vec<String> {
        let selector = selector.replace('=', "%3D");
        let (code, list) = api.get(&format!("{path}?fieldSelector={selector}")).await;
        assert_eq!(code, 200, "{list}");
        let items = list["items"].as_array().unwrap();
        let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_owned();
        items.iter().map(name).collect()
    };
    for selector in [
        "source=kubelet",
        "reportingComponent=kubelet",
        "involvedObject.kind=Pod,reason=R",
        "involvedObject.name=p",
        "involvedObject.uid=u",
        "involvedObject.apiVersion=v1",
        "involvedObject.fieldPath=f",
        "involvedObject.resourceVersion=7",
        "type=Normal",
        "metadata.name=old",
    ] {
        assert_eq!(names(core, selector).await, ["old"], "{selector}");
    }
    // Where the old field is empty, the new one tells the source.
    assert_eq!(names(core, "source=example.com/c").await, ["new"]);
    for selector in [
        "reportingController=example.com/c",
        "regarding.name=q",
        "reason=S",
        "type=Warning",
    ] {
        assert_eq!(names(events, selector).await, ["new"], "{selector}");
    }
    let (code, _) = api
        .get(&format!("{events}?fieldSelector=source%3Dkubelet"))
        .await;
    assert_eq!(code, 400);
}

#[tokio::test]
async fn pods_do_not_set_parameters_of_their_host() {
    let api = Daemon::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = |name: &str, more: Value| {
        let mut pod = json!({
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "image": "i"}], "securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]}},
        });
        for (field, value) in more.as_object().unwrap() {
            pod["spec"][field] = value.clone();
        }
        pod
    };
    assert_eq!(api.send("POST", pods, &pod("good", json!({}))).await.0, 201);
    let (code, status) = api
        .send("POST", pods, &pod("bad", json!({"hostNetwork": true})))
        .await;
    let cause = &status["details"]["causes"][0];
    assert_eq!(
        (code, &cause["field"]),
        (422, &json!("spec.securityContext.sysctls[0].name"))
    );
    let odd = json!({"securityContext": {"sysctls": [{"name": "foo-", "value": "bar"}, {"name": "kernel.shmmax", "value": "1"}]}});
    let (code, status) = api.send("POST", pods, &pod("odd", odd)).await;
    assert_eq!(code, 422);
    let message = status["message"].as_str().unwrap();
    assert!(
        message.contains(r#"spec.securityContext.sysctls[0].name: Invalid value: "foo-""#),
        "{message}"
    );
}

#[tokio::test]
async fn a_revision_keeps_its_bytes() {
    let api = Daemon::start().await;
    let all = "/apis/apps/v1/namespaces/default/controllerrevisions";
    let ask = async |line: &str, kind: &str, body: &str| {
        let mut wire = Wire::admin(&api).await;
        let kind = format!("Content-Type: {kind}");
        let head = wire.ask(line, &[&kind, "Connection: close"], body).await;
        (head, wire.rest().await)
    };
    // Not in the order in which a map would have the keys.
    let data = r#""data":{"b":1,"a":"\u003c"}"#;
    let body = format!(r#"{{"metadata":{{"name":"r"}},{data},"revision":1}}"#);
    let (head, made) = ask(&format!("POST {all}"), "application/json", &body).await;
    assert!(head.starts_with("http/1.1 201 "), "{made}");
    let patch = r#"{"metadata":{"labels":{"l":"1"}},"revision":2}"#;
    let one = format!("PATCH {all}/r");
    let (head, patched) = ask(&one, MERGE, patch).await;
    assert!(head.starts_with("http/1.1 200 "), "{patched}");
    assert!(patched.contains(data), "{patched}");
    assert!(patched.contains(r#""revision":2"#), "{patched}");
    let (head, _) = ask(&one, MERGE, r#"{"data":{"b":2}}"#).await;
    assert!(
        head.starts_with("http/1.1 422 "),
        "data are immutable: {head}"
    );
    let list = json!({"metadata": {"name": "l"}, "data": [], "revision": 1});
    assert_eq!(api.send("POST", all, &list).await.0, 422);
}

#[tokio::test]
async fn older_clients_get_the_schema_in_protobuf() {
    let api = Daemon::start().await;
    let get = async |accept: &str| {
        let mut wire = Wire::admin(&api).await;
        let accept = format!("Accept: {accept}");
        wire.ask("GET /openapi/v2", &[&accept], "").await
    };
    let etag = |head: &str| {
        let line = head.lines().find(|l| l.starts_with("etag: ")).unwrap();
        line.to_owned()
    };
    let json = get("application/json").await;
    assert!(
        json.contains("content-type: application/json\r\n"),
        "{json}"
    );
    for accept in [
        "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf, application/json;q=0.5",
    ] {
        let head = get(accept).await;
        let kind = "content-type: application/com.github.proto-openapi.spec.v2.v1.0+protobuf\r\n";
        assert!(
            head.starts_with("http/1.1 200 ") && head.contains(kind),
            "{head}"
        );
        assert_eq!(etag(&head), etag(&json));
    }
    assert!(get("text/html").await.starts_with("http/1.1 406 "));
}
