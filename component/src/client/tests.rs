use super::*;
use crate::serving::{Identity, Pair};
use crate::supervisor::Task;
use crate::testing::{Ask, Ca, FakeApi, Files, status};

use http::{Method, StatusCode};
use k8s_openapi::api::core::v1::{Binding, ConfigMap, Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions, Status};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::Instant;

/// What `call` returns while the server answers as `answer` says.
macro_rules! with {
    ($api:ident, $call:expr, $answer:expr) => {{
        let answer = async {
            let ask = $api.next().await;
            #[allow(clippy::redundant_closure_call, reason = "the macro takes closures")]
            ($answer)(ask)
        };
        let (result, seen) = tokio::join!($call, answer);
        (result, seen)
    }};
}

mod connection;
mod credentials;
mod protobuf;

fn config_map(name: &str, version: &str) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"namespace": "ns", "name": name, "resourceVersion": version}, "data": {"a": "1"}})
}

#[tokio::test]
async fn typed_calls_have_upstreams_paths_and_bodies() {
    let mut api = FakeApi::plain();
    let client = api.client();
    let maps = client.namespaced::<ConfigMap>("ns");
    let (got, seen) = with!(api, maps.get("a"), |a: Ask| a.json(&config_map("a", "5")));
    assert_eq!(got.unwrap().data.unwrap()["a"], "1");
    assert_eq!(
        (seen.method.as_str(), seen.path.as_str()),
        ("GET", "/api/v1/namespaces/ns/configmaps/a")
    );
    assert!(
        seen.header("user-agent")
            .starts_with("test/v1.37.1 (linux/"),
        "{}",
        seen.header("user-agent")
    );

    let options = DeleteOptions {
        preconditions: Some(Preconditions {
            uid: Some("u".into()),
            resource_version: None,
        }),
        propagation_policy: Some("Background".into()),
        ..DeleteOptions::default()
    };
    let (done, seen) = with!(api, maps.delete("a", &options), |a: Ask| a
        .json(&config_map("a", "6")));
    done.unwrap();
    assert_eq!(seen.method, Method::DELETE);
    assert_eq!(seen.json()["preconditions"], json!({"uid": "u"}));
    assert_eq!(seen.json()["propagationPolicy"], "Background");

    let patch = Patch::apply("me", true, &json!({"data": {}})).unwrap();
    let (done, seen) = with!(api, maps.patch("a", &patch), |a: Ask| a
        .json(&config_map("a", "7")));
    done.unwrap();
    assert_eq!(seen.header("content-type"), "application/apply-patch+yaml");
    assert_eq!(
        (seen.param("fieldManager"), seen.param("force")),
        ("me", "true")
    );

    let nodes = client.all::<Node>();
    let patch = Patch::strategic(&json!({"status": {}})).unwrap();
    let node = json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n"}});
    let (done, seen) = with!(api, nodes.patch_status("n", &patch), |a: Ask| a.json(&node));
    done.unwrap();
    assert_eq!(
        (seen.method.as_str(), seen.path.as_str()),
        ("PATCH", "/api/v1/nodes/n/status")
    );

    let pods = client.namespaced::<Pod>("ns");
    let binding = Binding::default();
    let call = pods.create_subresource::<_, Status>("p", "binding", &binding);
    let (done, seen) = with!(api, call, |a: Ask| a
        .json(&json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})));
    done.unwrap();
    assert_eq!(
        (seen.method.as_str(), seen.path.as_str()),
        ("POST", "/api/v1/namespaces/ns/pods/p/binding")
    );

    let params = ListParams {
        label_selector: "a=b,c in (d)".into(),
        resource_version: Some("0".into()),
        ..ListParams::default()
    };
    let list = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "9", "continue": "x"},
        "items": [{"metadata": {"name": "a"}}]});
    let (got, seen) = with!(api, maps.list(&params), |a: Ask| a.json(&list));
    let got = got.unwrap();
    assert_eq!(
        (
            got.resource_version(),
            got.continue_token(),
            got.items.len()
        ),
        ("9", Some("x"), 1)
    );
    assert_eq!(seen.param("labelSelector"), "a=b,c in (d)");
    assert_eq!(seen.param("resourceVersion"), "0");

    let target = Target::new("x.io", "v1", "things", "Thing");
    let things = client.metadata(target, None);
    let meta = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "t", "uid": "u"}});
    let (got, seen) = with!(api, things.get("t"), |a: Ask| a.json(&meta));
    assert_eq!(got.unwrap().metadata.uid.as_deref(), Some("u"));
    assert_eq!(seen.path, "/apis/x.io/v1/things/t");
    assert!(
        seen.header("accept")
            .contains("as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
    );
}

#[tokio::test]
async fn a_failure_carries_the_servers_status() {
    let mut api = FakeApi::plain();
    let maps = api.client().namespaced::<ConfigMap>("ns");
    let (gone, _) = with!(api, maps.get("a"), |a: Ask| a.status(410, "Expired"));
    assert!(gone.unwrap_err().is_gone());
    let (none, _) = with!(api, maps.find("a"), |a: Ask| a.status(404, "NotFound"));
    assert_eq!(none.unwrap(), None);
    let (conflict, _) = with!(api, maps.get("a"), |a: Ask| a.status(409, "Conflict"));
    let conflict = conflict.unwrap_err();
    assert!(conflict.is_conflict() && !conflict.is_already_exists());
    // A 409 that says AlreadyExists is no conflict.
    let map = ConfigMap::default();
    let (exists, _) = with!(api, maps.create(&map), |a: Ask| a
        .status(409, "AlreadyExists"));
    let exists = exists.unwrap_err();
    assert!(exists.is_already_exists() && !exists.is_conflict());
    // Something between us and the server answers in text.
    let text = || crate::serving::text(StatusCode::NOT_FOUND, "404 page not found");
    let (missing, _) = with!(api, maps.get("a"), |a: Ask| a.answer(text()));
    let missing = missing.unwrap_err();
    assert!(
        missing.is_not_found() && missing.to_string().contains("404 page not found"),
        "{missing}"
    );
}

#[tokio::test]
async fn a_server_that_says_when_to_come_back_is_asked_again_then() {
    let mut api = FakeApi::plain();
    let maps = api.client().namespaced::<ConfigMap>("ns");
    let busy = || {
        let mut response = status(429, "TooManyRequests");
        response
            .headers_mut()
            .insert("retry-after", "1".parse().unwrap());
        response
    };
    let start = Instant::now();
    let map = ConfigMap::default();
    let answers = async {
        api.next().await.answer(busy());
        api.next().await.json(&config_map("a", "1"))
    };
    let (created, seen) = tokio::join!(maps.create(&map), answers);
    created.unwrap();
    assert_eq!(
        seen.method,
        Method::POST,
        "writes too: the server did not begin with them"
    );
    assert!(start.elapsed() >= Duration::from_secs(1));
    // Without a time it is an answer like any other.
    let (refused, _) = with!(api, maps.get("a"), |a: Ask| a
        .status(429, "TooManyRequests"));
    assert!(refused.unwrap_err().is_too_many_requests());
}

#[tokio::test]
async fn a_watch_is_a_stream_of_events_whatever_the_frames_are() {
    let mut api = FakeApi::plain();
    let maps = api.client().namespaced::<ConfigMap>("ns");
    let params = WatchParams {
        resource_version: "3".into(),
        bookmarks: true,
        ..WatchParams::default()
    };
    let (stream, (seen, lines)) = with!(api, maps.watch(&params), Ask::stream);
    assert_eq!(
        (
            seen.param("watch"),
            seen.param("allowWatchBookmarks"),
            seen.param("resourceVersion")
        ),
        ("true", "true", "3")
    );
    let mut stream = stream.unwrap();
    let text = format!(
        "{}\n",
        json!({"type": "ADDED", "object": config_map("a", "4")})
    );
    let (first, second) = text.as_bytes().split_at(text.len() / 2);
    lines.bytes(first).await;
    let mark = json!({"type": "BOOKMARK", "object": {"kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"resourceVersion": "7", "annotations": {"k8s.io/initial-events-end": "true"}}}});
    let rest = [second, format!("{mark}\n").as_bytes()].concat();
    lines.bytes(&rest).await;
    let Some(Ok(WatchEvent::Added(map))) = stream.next().await else {
        panic!("an added object")
    };
    assert_eq!(map.metadata.name.as_deref(), Some("a"));
    let mark = stream.next().await.unwrap().unwrap();
    assert_eq!(
        mark,
        WatchEvent::Bookmark {
            resource_version: "7".into(),
            initial_events_end: true
        }
    );
    lines.event("ERROR", &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired"})).await;
    assert!(stream.next().await.unwrap().unwrap_err().is_gone());
    lines
        .bytes(b"{\"type\":\"ADDED\",\"object\":{\"kind\":\"Pod\"}}\n")
        .await;
    assert!(matches!(
        stream.next().await,
        Some(Err(Error::Decode { .. }))
    ));
    drop(lines);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_slow_server_is_given_up_but_not_by_watches() {
    let mut api = FakeApi::plain();
    let client = api.client().with_timeout(Duration::from_millis(100));
    let maps = client.namespaced::<ConfigMap>("ns");
    assert!(maps.get("a").await.unwrap_err().is_timeout());
    drop(api.next().await);
    let watch = async { maps.watch(&WatchParams::default()).await };
    let (stream, lines) = tokio::join!(watch, async {
        let ask = api.next().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        ask.stream().1
    });
    drop(lines);
    assert!(stream.unwrap().next().await.is_none());
}

#[tokio::test]
async fn a_handle_with_another_name_shares_the_connection_but_not_the_limit() {
    let mut api = FakeApi::plain();
    let config = Config {
        qps: 0.001,
        burst: 1,
        ..api.config()
    };
    let client = Client::new(config, "test", &api.tasks, &api.metrics).unwrap();
    let lease = client.named("leader-election", RateLimit::none());
    let maps = client.namespaced::<ConfigMap>("ns");
    with!(api, maps.get("a"), |a: Ask| a.json(&config_map("a", "1")))
        .0
        .unwrap();
    let limited = tokio::time::timeout(Duration::from_millis(100), maps.get("a"));
    assert!(limited.await.is_err(), "the burst is used up");
    let maps = lease.namespaced::<ConfigMap>("ns");
    let (got, seen) = with!(api, maps.get("a"), |a: Ask| a.json(&config_map("a", "1")));
    got.unwrap();
    assert!(seen.header("user-agent").ends_with("/leader-election"));
    let text = api.metrics.answer("").1;
    assert!(
        text.contains("rest_client_requests_total{code=\"200\",method=\"GET\""),
        "{text}"
    );
}
