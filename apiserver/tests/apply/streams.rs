//! Logs, watches, proxies, and the streams of commands and ports.

use bytes::Bytes;
use component::serving::{Identity, Options};
use component::testing::{Ca, FakeApi};
use serde_json::{Value, json};

use super::MERGE;
use super::daemon::Daemon;
use super::wire::Wire;

mod exec;
mod forward;
mod spdy;

const PODS: &str = "/api/v1/namespaces/default/pods";
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;

/// A pod on a node whose kubelet answers what the test wants.
pub(crate) async fn pod_on(api: &Daemon) -> FakeApi {
    let ca = Ca::new("kubelets");
    let kubelet = FakeApi::secure(Identity::Memory(ca.server(&["127.0.0.1"])));
    let port: u16 = kubelet.url.rsplit_once(':').unwrap().1.parse().unwrap();
    node(api, port, &[]).await;
    pod(api).await;
    kubelet
}

/// A node whose kubelet is at this port of this machine, and has these features.
async fn node(api: &Daemon, port: u16, features: &[&str]) {
    let nodes = "/api/v1/nodes";
    let (code, node) = api
        .send("POST", nodes, &json!({"metadata": {"name": "n"}}))
        .await;
    assert_eq!(code, 201, "{node}");
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "declaredFeatures": features,
    }});
    let (code, node) = api.patch("/api/v1/nodes/n/status", MERGE, &status).await;
    assert_eq!(code, 200, "{node}");
}

async fn pod(api: &Daemon) {
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "n"},
    });
    let (code, pod) = api.send("POST", PODS, &pod).await;
    assert_eq!(code, 201, "{pod}");
}

/// A server with these flags, and the pod on a node of this kubelet.
async fn pod_of(kubelet: &spdy::Kubelet, features: &[&str], flags: &[&str]) -> Daemon {
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let api = Daemon::start_with(|_| flags).await;
    node(&api, kubelet.port, features).await;
    pod(&api).await;
    api
}

#[tokio::test]
async fn logs_come_through_a_websocket_as_the_client_takes_them() {
    let api = Daemon::start().await;
    let mut kubelet = pod_on(&api).await;
    let path = format!("{PODS}/p/log");
    for (protocol, first, pieces) in [
        (
            "Sec-WebSocket-Protocol: binary.k8s.io",
            BINARY,
            ["", "one\n", "two\n"],
        ),
        (
            "Sec-WebSocket-Protocol: base64.binary.k8s.io",
            TEXT,
            ["", "b25lCg==", "dHdvCg=="],
        ),
        ("X: none", BINARY, ["", "one\n", "two\n"]),
    ] {
        let mut wire = Wire::admin(&api).await;
        let served = async {
            let (seen, lines) = kubelet.next().await.stream();
            assert_eq!(seen.path, "/containerLogs/default/p/c");
            lines.bytes(b"one\n").await;
            lines
        };
        let headers = [protocol];
        let (lines, head) = tokio::join!(served, wire.upgrade(&path, &headers));
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(
            head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
            "{head}"
        );
        let named = protocol.to_ascii_lowercase();
        assert_eq!(head.contains(&named), named.starts_with("sec"), "{head}");
        for piece in &pieces[..2] {
            assert_eq!(wire.frame().await, (first, piece.as_bytes().to_vec()));
        }
        // Not before: pieces may be joined on the way.
        lines.bytes(b"two\n").await;
        assert_eq!(wire.frame().await, (first, pieces[2].as_bytes().to_vec()));
        drop(lines);
        assert_eq!(wire.frame().await, (CLOSE, vec![0x03, 0xe8]));
    }
    let mut wire = Wire::admin(&api).await;
    let served = async { drop(kubelet.next().await.stream()) };
    let headers = ["Sec-WebSocket-Protocol: v4.channel.k8s.io"];
    let ((), head) = tokio::join!(served, wire.upgrade(&path, &headers));
    assert!(head.starts_with("http/1.1 403 "), "{head}");
}

#[tokio::test]
async fn a_pod_without_a_node_has_no_log() {
    let api = Daemon::start().await;
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    assert_eq!(api.send("POST", PODS, &pod).await.0, 201);
    let mut wire = Wire::admin(&api).await;
    let head = wire.ask(&format!("GET {PODS}/p/log"), &[], "").await;
    assert!(head.starts_with("http/1.1 204 "), "{head}");
}

#[tokio::test]
async fn a_watch_comes_through_a_websocket_event_by_event() {
    let api = Daemon::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let path = format!("{maps}?watch=true&fieldSelector=metadata.name%3Da");
    let mut wire = Wire::admin(&api).await;
    let head = wire.upgrade(&path, &["Origin: https://page.example"]).await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    let map = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
    assert_eq!(api.send("POST", maps, &map).await.0, 201);
    let (first, event) = wire.frame().await;
    assert_eq!(first, TEXT);
    let event: Value = serde_json::from_slice(&event).unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["data"]["k"]),
        (&json!("ADDED"), &json!("v"))
    );
    // A goodbye, masked.
    wire.send(&[CLOSE, 0x80, 0, 0, 0, 0]).await;
    assert_eq!(wire.frame().await, (CLOSE, vec![0x03, 0xe8]));

    let accept = "Accept: application/vnd.kubernetes.protobuf;stream=watch";
    let mut wire = Wire::admin(&api).await;
    let headers = [accept, "Origin: https://page.example"];
    wire.upgrade(&path, &headers).await;
    let (first, event) = wire.frame().await;
    assert_eq!((first, &event[..7]), (BINARY, &b"\x0a\x05ADDED"[..]));

    let mut wire = Wire::admin(&api).await;
    let head = wire.upgrade(&path, &[]).await;
    assert!(
        head.starts_with("http/1.1 403 "),
        "pages say who they are: {head}"
    );
}

/// An address of this machine that is not of the loop.
fn own_address() -> std::net::IpAddr {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent: only the way is looked up.
    socket
        .connect("192.0.2.77:9")
        .expect("the machine has a network");
    socket.local_addr().unwrap().ip()
}

#[tokio::test]
async fn a_page_behind_the_proxy_leads_back_through_it() {
    let api = Daemon::start().await;
    pod(&api).await;
    let address = own_address();
    let mut backend = FakeApi::start(Options::plain((address, 0).into()), "http");
    let port = backend.url.rsplit_once(':').unwrap().1.to_owned();
    let status =
        json!({"status": {"podIP": address.to_string(), "podIPs": [{"ip": address.to_string()}]}});
    let (code, pod) = api.patch(&format!("{PODS}/p/status"), MERGE, &status).await;
    assert_eq!(code, 200, "{pod}");
    let proxy = format!("{PODS}/p:{port}/proxy");
    let get = async |rest: &str| {
        let mut wire = Wire::admin(&api).await;
        let line = format!("GET {proxy}{rest}");
        let headers = ["Connection: close", "X-Forwarded-Host: mine", "Accept: */*"];
        let head = wire.ask(&line, &headers, "").await;
        (head, wire.rest().await)
    };
    let answer = |kind: &'static str, body: &'static str| {
        let mut answer = component::serving::text(http::StatusCode::OK, body);
        answer
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, kind.parse().unwrap());
        let origin = http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
        answer.headers_mut().insert(origin, "*".parse().unwrap());
        answer
    };
    let page = r#"<a href="/x">x</a><a href="y">y</a>"#;
    let served = async {
        let seen = backend
            .next()
            .await
            .answer(answer("text/html; charset=utf-8", page));
        assert_eq!(seen.path, "/a//b/");
        assert_eq!(seen.header("x-forwarded-uri"), format!("{proxy}/a/b/"));
        assert_eq!(seen.header("x-forwarded-host"), "mine");
        assert!(!seen.header("x-forwarded-for").is_empty());
        assert!(!seen.headers.contains_key("x-forwarded-proto"));
    };
    let ((), (head, body)) = tokio::join!(served, get("/a//b/"));
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(!head.contains("access-control"), "{head}");
    let through = format!(r#"<a href="{proxy}/x">x</a><a href="y">y</a>"#);
    assert!(body.contains(&through), "{body}");

    let served = async { drop(backend.next().await.answer(answer("text/plain", page))) };
    let ((), (_, body)) = tokio::join!(served, get("/"));
    assert!(body.contains(page), "{body}");

    let served = async {
        let mut moved = answer("text/html", "<a href='/x'>");
        *moved.status_mut() = http::StatusCode::FOUND;
        let to = Bytes::from("/there?a=b");
        let to = http::HeaderValue::from_maybe_shared(to).unwrap();
        moved.headers_mut().insert(http::header::LOCATION, to);
        drop(backend.next().await.answer(moved));
    };
    let ((), (head, body)) = tokio::join!(served, get("/"));
    assert!(
        head.contains(&format!("location: {proxy}/there?a=b\r\n")),
        "{head}"
    );
    assert!(body.contains("<a href='/x'>"), "{body}");
}
