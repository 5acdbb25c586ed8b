//! Port-forward at kubelets that speak SPDY only.

use component::serving::text as answer;
use component::streaming::websocket::{Side, tunnel};
use component::streaming::{Options, Stream, Streams, spdy as wire};
use component::{Supervisor, Task};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::spdy::{Connection, FEATURE, Kubelet, LIMIT, asking, run, say, text, websocket};
use super::{PODS, pod_of};

const PROTOCOL: &str = "portforward.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

fn path() -> String {
    format!("{PODS}/p/portforward?ports=80")
}

fn streams(io: TlsStream<TcpStream>) -> Streams {
    let (inside, driver) = tunnel(io, Side::Client);
    run(driver);
    let (streams, driver) = wire::client(inside, Options::default());
    run(driver);
    streams
}

async fn open(streams: &Streams, port: &str, id: &str) -> (Stream, Stream) {
    let of = |kind: &str| {
        let pairs = [("streamtype", kind), ("port", port), ("requestid", id)];
        let pair = |(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        };
        HeaderMap::from_iter(pairs.map(pair))
    };
    let error = streams.open(of("error")).await.unwrap();
    let data = streams.open(of("data")).await.unwrap();
    (data, error)
}

/// A kubelet's end: what comes on a port goes back, and port 81 is closed.
async fn echo(mut streams: Streams) {
    while let Some(mut stream) = streams.accept().await {
        Supervisor::current().spawn(Task::Background, "echo", async move {
            let closed = stream.header("port") == "81";
            if stream.header("streamtype") == "error" {
                let said = if closed { "nobody listens" } else { "" };
                say(&mut stream, said).await;
            } else if !closed {
                tokio::io::copy(&mut stream.reader, &mut stream.writer)
                    .await
                    .unwrap();
                stream.writer.shutdown().await.unwrap();
            }
        });
    }
}

async fn talk(streams: &Streams, id: &str) {
    let (data, mut error) = open(streams, "80", id).await;
    let sent = id.repeat(100_000);
    let (mut reader, mut writer) = (data.reader, data.writer);
    let write = async {
        writer.write_all(sent.as_bytes()).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut answer = String::new();
    let ((), read) = tokio::join!(write, reader.read_to_string(&mut answer));
    read.unwrap();
    assert!(answer == sent, "{} of {}", answer.len(), sent.len());
    assert_eq!(text(&mut error).await, "");
}

#[tokio::test]
async fn several_connections_go_through_one_tunnel() {
    let mut kubelet = Kubelet::speaking(&[PROTOCOL]);
    let api = pod_of(&kubelet, &[], &[]).await;
    let io = websocket(&api, &path(), TUNNEL).await;
    let asked = kubelet.asked();
    assert_eq!(
        (asked.method.as_str(), asked.path.as_str()),
        ("POST", "/portForward/default/p?port=80")
    );
    assert_eq!(asked.all("x-stream-protocol-version"), [PROTOCOL]);
    assert_eq!(
        (asked.all("upgrade"), asked.all("connection")),
        (vec!["SPDY/3.1"], vec!["Upgrade"])
    );
    assert!(
        !asked
            .headers
            .keys()
            .any(|name| name.as_str().starts_with("sec-websocket"))
    );
    let Connection {
        streams: served, ..
    } = kubelet.connection().await;
    Supervisor::current().spawn(Task::Background, "kubelet", echo(served));
    let streams = streams(io);
    let closed = async {
        let (mut data, mut error) = open(&streams, "81", "closed").await;
        assert_eq!(text(&mut error).await, "nobody listens");
        assert_eq!(data.reader.read(&mut [0]).await.unwrap(), 0);
    };
    tokio::join!(talk(&streams, "one"), talk(&streams, "two"), closed);
    talk(&streams, "three").await;
    let text = api.text("/metrics").await;
    for line in [
        "apiserver_stream_tunnel_requests_total{code=\"101\"} 1\n",
        "apiserver_websocket_streaming_requests_total{proxy_type=\"translated_at_apiserver\",subresource=\"portforward\"} 1\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}

#[tokio::test]
async fn a_tunnel_ends_with_either_of_its_ends() {
    let mut kubelet = Kubelet::speaking(&[PROTOCOL]);
    let api = pod_of(&kubelet, &[], &[]).await;
    let client = streams(websocket(&api, &path(), TUNNEL).await);
    let served = kubelet.connection().await;
    drop(client);
    served.ends().await;
    let client = streams(websocket(&api, &path(), TUNNEL).await);
    let Connection {
        streams: served,
        cut,
    } = kubelet.connection().await;
    Supervisor::current().spawn(Task::Background, "kubelet", echo(served));
    talk(&client, "one").await;
    let (mut data, _error) = open(&client, "80", "two").await;
    cut.cancel();
    let ended = tokio::time::timeout(LIMIT, data.reader.read(&mut [0])).await;
    assert_eq!(ended.expect("it ends").unwrap(), 0);
}

#[tokio::test]
async fn what_the_kubelet_refuses_is_the_clients_answer() {
    let kubelet = Kubelet::answering(|| answer(StatusCode::NOT_FOUND, "pod not found"));
    let api = pod_of(&kubelet, &[], &[]).await;
    let (head, wire) = asking(&api, &path(), TUNNEL).await;
    assert!(head.starts_with("http/1.1 404 "), "{head}");
    assert_eq!(wire.rest().await, "pod not found");
    let text = api.text("/metrics").await;
    assert!(
        text.contains("apiserver_stream_tunnel_requests_total{code=\"404\"} 1\n"),
        "{text}"
    );
}

#[tokio::test]
async fn a_tunnel_goes_to_kubelets_that_declare_it_or_without_its_gate() {
    let off = "--feature-gates=PortForwardWebsockets=false";
    for (features, flags) in [(&[FEATURE][..], &[][..]), (&[], &[off])] {
        let kubelet = Kubelet::speaking(&[PROTOCOL]);
        let api = pod_of(&kubelet, features, flags).await;
        let (head, _) = asking(&api, &path(), TUNNEL).await;
        assert!(head.starts_with("http/1.1 400 "), "{head}");
        let asked = kubelet.asked();
        assert_eq!(
            (asked.method.as_str(), asked.all("upgrade")),
            ("GET", vec!["websocket"])
        );
        let text = api.text("/metrics").await;
        assert!(
            !text.contains("apiserver_stream_tunnel_requests_total{"),
            "{text}"
        );
        let counted =
            text.contains("{proxy_type=\"proxied_to_kubelet\",subresource=\"portforward\"} 1\n");
        assert_eq!(counted, flags.is_empty(), "{text}");
    }
}
