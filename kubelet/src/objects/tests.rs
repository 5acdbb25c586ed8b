use std::time::Duration;

use component::testing::{Ask, FakeApi};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::volume::Objects as _;

struct Node {
    api: FakeApi,
    objects: Objects,
    changed: mpsc::UnboundedReceiver<String>,
}

fn node(strategy: Strategy) -> Node {
    let api = FakeApi::plain();
    let client = api.client();
    let tasks = Supervisor::current();
    let informers = Informers::new(client.clone(), tasks.clone());
    let (tell, changed) = mpsc::unbounded_channel();
    let parts = Parts {
        client: &client,
        informers: &informers,
        strategy,
        node: "node-1",
        certificates: true,
        recorder: &Recorder::discarding(),
        metrics: &Metrics::new(),
        tasks: &tasks,
    };
    let objects = Objects::new(&parts, move |uid| {
        let _ = tell.send(uid.to_owned());
    });
    Node {
        api,
        objects,
        changed,
    }
}

fn pod(uid: &str, map: &str) -> Pod {
    proto::typed::from_json_value(json!({
        "metadata": {"namespace": "ns", "name": uid, "uid": uid},
        "spec": {"containers": [], "volumes": [{"name": "v", "configMap": {"name": map}}]},
    }))
    .unwrap()
}

fn map(version: &str, value: &str, immutable: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "ns", "name": "m", "resourceVersion": version},
        "data": {"k": value}, "immutable": immutable,
    })
}

fn value(map: &ConfigMap) -> &str {
    map.data.as_ref().unwrap()["k"].as_str()
}

/// Answers the reflector with a list of what is there, by the events of a watch.
async fn serve(ask: Ask, objects: &[Value]) -> component::testing::Lines {
    let (seen, lines) = ask.stream();
    assert_eq!(seen.param("fieldSelector"), "metadata.name=m");
    assert_eq!(seen.param("watch"), "true");
    for object in objects {
        lines.event("ADDED", object).await;
    }
    let end = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "resourceVersion": "5",
            "annotations": {"k8s.io/initial-events-end": "true"},
        },
    });
    lines.event("BOOKMARK", &end).await;
    lines
}

#[tokio::test]
async fn pods_share_a_watch_and_all_are_told_of_a_change() {
    let mut node = node(Strategy::Watch);
    node.objects.register_pod(&pod("a", "m"));
    node.objects.register_pod(&pod("b", "m"));
    let lines = serve(node.api.next().await, &[map("1", "one", false)]).await;
    let got = node.objects.config_map("ns", "m").await.unwrap();
    assert_eq!(value(&got), "one");
    let mut told = vec![
        node.changed.recv().await.unwrap(),
        node.changed.recv().await.unwrap(),
    ];
    lines.event("MODIFIED", &map("6", "two", false)).await;
    told.extend([
        node.changed.recv().await.unwrap(),
        node.changed.recv().await.unwrap(),
    ]);
    assert_eq!(told, ["a", "b", "a", "b"]);
    assert_eq!(
        value(&node.objects.config_map("ns", "m").await.unwrap()),
        "two"
    );
    assert!(node.api.is_quiet().await, "one watch for both");

    node.objects.unregister_pod("a");
    lines.event("MODIFIED", &map("7", "three", false)).await;
    assert_eq!(node.changed.recv().await.unwrap(), "b");
    node.objects.unregister_pod("b");
    lines.closed().await;
    let gone = node.objects.config_map("ns", "m").await.unwrap_err();
    assert!(gone.to_string().contains("not registered"));
}

#[tokio::test]
async fn an_object_that_is_not_there_is_not_found_until_it_comes() {
    let mut node = node(Strategy::Watch);
    node.objects.register_pod(&pod("a", "m"));
    let lines = serve(node.api.next().await, &[]).await;
    let missing = node.objects.config_map("ns", "m").await.unwrap_err();
    assert_eq!(missing.to_string(), "configmap \"m\" not found");
    lines.event("ADDED", &map("6", "one", false)).await;
    assert_eq!(node.changed.recv().await.unwrap(), "a");
    assert!(node.objects.config_map("ns", "m").await.is_ok());
}

#[tokio::test]
async fn an_immutable_object_needs_no_watch() {
    let mut node = node(Strategy::Watch);
    node.objects.register_pod(&pod("a", "m"));
    let lines = serve(node.api.next().await, &[map("1", "one", true)]).await;
    node.objects.config_map("ns", "m").await.unwrap();
    lines.closed().await;
    node.objects.register_pod(&pod("b", "m"));
    assert_eq!(
        value(&node.objects.config_map("ns", "m").await.unwrap()),
        "one"
    );
    assert!(node.api.is_quiet().await);
}

#[tokio::test]
async fn the_cache_strategy_reads_once_for_each_ttl_and_anew_for_a_new_pod() {
    let mut node = node(Strategy::Cache);
    node.objects.register_pod(&pod("a", "m"));
    let objects = node.objects.clone();
    let get = || {
        let objects = objects.clone();
        async move {
            objects
                .config_map("ns", "m")
                .await
                .map(|m| value(&m).to_owned())
        }
    };
    let (got, _) = tokio::join!(get(), async {
        node.api.next().await.json(&map("1", "one", false));
    });
    assert_eq!(got.unwrap(), "one");
    assert_eq!(get().await.unwrap(), "one", "from the cache");
    node.objects.register_pod(&pod("b", "m"));
    let (got, _) = tokio::join!(get(), async {
        node.api.next().await.json(&map("2", "two", false));
    });
    assert_eq!(got.unwrap(), "two");
    node.objects.set_ttl(Some(Duration::ZERO));
    let (got, _) = tokio::join!(get(), async {
        node.api.next().await.status(500, "InternalError");
    });
    assert_eq!(got.unwrap(), "two", "an old one is better than none");
    let (got, _) = tokio::join!(get(), async {
        node.api.next().await.status(404, "NotFound");
    });
    assert_eq!(got.unwrap_err().to_string(), "configmap \"m\" not found");
}

fn request(uid: &str) -> TokenRequest {
    TokenRequest {
        namespace: "ns".to_owned(),
        service_account: "sa".to_owned(),
        pod: "p".to_owned(),
        pod_uid: uid.to_owned(),
        audience: "aud".to_owned(),
        expiration_seconds: Some(600),
    }
}

/// A token that expires in so many seconds of the ten minutes that were asked for.
fn token(text: &str, in_seconds: i64) -> Value {
    let at = component::clock::now().as_second() + in_seconds;
    json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": ["aud"], "expirationSeconds": 600},
        "status": {"token": text, "expirationTimestamp": proto::time::print_time(at)},
    })
}

#[tokio::test]
async fn a_token_is_kept_for_as_long_as_its_pod() {
    let mut node = node(Strategy::Watch);
    let objects = node.objects.clone();
    let get = || {
        let objects = objects.clone();
        async move { objects.token(request("u")).await }
    };
    let (got, seen) = tokio::join!(get(), async {
        node.api.next().await.json(&token("one", 600))
    });
    assert_eq!(got.unwrap(), "one");
    assert_eq!(seen.json()["spec"]["boundObjectRef"]["uid"], "u");
    assert_eq!(get().await.unwrap(), "one", "from the cache");
    node.objects.inner.as_ref().unwrap().tokens.forget("u");
    let (got, _) = tokio::join!(get(), async {
        node.api.next().await.json(&token("two", 600))
    });
    assert_eq!(got.unwrap(), "two");
}

#[tokio::test]
async fn a_pod_is_told_that_its_token_is_due() {
    let mut node = node(Strategy::Watch);
    let objects = node.objects.clone();
    // A fifth of its life is left already.
    let (got, _) = tokio::join!(objects.token(request("u")), async {
        node.api.next().await.json(&token("old", 100))
    });
    assert_eq!(got.unwrap(), "old");
    assert_eq!(node.changed.recv().await.unwrap(), "u");
    let (got, _) = tokio::join!(objects.token(request("u")), async {
        node.api.next().await.status(500, "InternalError")
    });
    assert_eq!(got.unwrap(), "old", "still valid");
    // Not asked again at once.
    assert_eq!(objects.token(request("u")).await.unwrap(), "old");
    assert!(node.api.is_quiet().await);
}

#[tokio::test]
async fn without_an_api_server_there_is_a_clear_answer() {
    let objects = Objects::standalone();
    objects.register_pod(&pod("a", "m"));
    let error = objects.secret("ns", "s").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot get secrets when kubelet is in standalone mode"
    );
}

fn certificate_request(key_type: &str) -> CertificateRequest {
    CertificateRequest {
        namespace: "ns".to_owned(),
        service_account: "sa".to_owned(),
        pod: "u".to_owned(),
        pod_uid: "u".to_owned(),
        volume: "tls".to_owned(),
        source: 0,
        signer: "example.com/s".to_owned(),
        key_type: key_type.to_owned(),
        max_expiration_seconds: Some(3600),
        annotations: BTreeMap::from([("example.com/a".to_owned(), "b".to_owned())]),
    }
}

/// The end of what is there at the start of a watch.
async fn no_more(lines: &component::testing::Lines, version: &str, kind: &str) {
    let meta = json!({
        "resourceVersion": "5", "annotations": {"k8s.io/initial-events-end": "true"},
    });
    let end = json!({"apiVersion": version, "kind": kind, "metadata": meta});
    lines.event("BOOKMARK", &end).await;
}

#[tokio::test]
async fn a_certificate_is_asked_for_once_and_given_when_it_is_signed() {
    const V1: &str = "certificates.k8s.io/v1";
    let mut node = node(Strategy::Get);
    node.objects.register_pod(&pod("u", "m"));
    // Whoever wanted it gives up; it is asked for all the same.
    let wanted = node.objects.certificate(certificate_request("ECDSAP256"));
    assert!(wanted.now_or_never().is_none());
    let (seen, requests) = node.api.next().await.stream();
    assert_eq!(
        seen.path,
        "/apis/certificates.k8s.io/v1/podcertificaterequests"
    );
    assert_eq!(seen.param("fieldSelector"), "spec.nodeName=node-1");
    no_more(&requests, V1, "PodCertificateRequest").await;
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "sa", "namespace": "ns", "uid": "account"},
    });
    let seen = node.api.next().await.json(&account);
    assert_eq!(seen.path, "/api/v1/namespaces/ns/serviceaccounts/sa");
    let (_, nodes) = node.api.next().await.stream();
    let of_node = json!({"name": "node-1", "uid": "node-uid", "resourceVersion": "1"});
    let of_node = json!({"apiVersion": "v1", "kind": "Node", "metadata": of_node});
    nodes.event("ADDED", &of_node).await;
    no_more(&nodes, "v1", "Node").await;

    let ask = node.api.next().await;
    assert_eq!(ask.seen.method, "POST");
    let mut request = ask.seen.json();
    let spec = request["spec"].clone();
    for (field, value) in [
        ("signerName", "example.com/s"),
        ("podUID", "u"),
        ("serviceAccountUID", "account"),
        ("nodeName", "node-1"),
        ("nodeUID", "node-uid"),
    ] {
        assert_eq!(spec[field], value, "{field}");
    }
    assert_eq!(spec["maxExpirationSeconds"], 3600);
    assert_eq!(
        spec["unverifiedUserAnnotations"],
        json!({"example.com/a": "b"})
    );
    assert_eq!(request["metadata"]["generateName"], "req-");
    assert_eq!(request["metadata"]["ownerReferences"][0]["uid"], "u");
    request["metadata"]["name"] = "req-1".into();
    request["metadata"]["resourceVersion"] = "6".into();
    request["metadata"]["creationTimestamp"] = component::clock::now().to_string().into();
    ask.json(&request);
    requests.event("ADDED", &request).await;

    let in_a_day = component::clock::now().as_second() + 86_400;
    request["metadata"]["resourceVersion"] = "7".into();
    request["status"] = json!({
        "certificateChain": "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n",
        "beginRefreshAt": proto::time::print_time(in_a_day),
        "notAfter": proto::time::print_time(in_a_day),
        "conditions": [{
            "type": "Issued", "status": "True", "reason": "r", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    });
    requests.event("MODIFIED", &request).await;
    assert_eq!(node.changed.recv().await.unwrap(), "u");
    let given = node.objects.certificate(certificate_request("ECDSAP256"));
    let given = given.await.unwrap();
    assert!(given.key.starts_with(b"-----BEGIN PRIVATE KEY-----"));
    assert!(given.chain.starts_with(b"-----BEGIN CERTIFICATE-----"));
    assert!(node.api.is_quiet().await, "one request only");
    // With the pod, its certificate is forgotten.
    node.objects.unregister_pod("u");
    let gone = node.objects.certificate(certificate_request("ECDSAP256"));
    assert_eq!(
        gone.await.unwrap_err().to_string(),
        "pod \"u\" not registered"
    );
}

#[tokio::test]
async fn a_key_that_cannot_be_made_is_told_at_once() {
    let mut node = node(Strategy::Get);
    node.objects.register_pod(&pod("u", "m"));
    let refused = node.objects.certificate(certificate_request("RSA4096"));
    let said = refused.await.unwrap_err().to_string();
    assert!(
        said.starts_with("while generating keypair: keys of type RSA4096"),
        "{said}"
    );
    assert!(node.api.is_quiet().await);
}
