use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use component::Supervisor;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::kubelet::Trust;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
        .collect()
}

#[test]
fn what_is_about_the_connection_stays_with_it() {
    let kept = end_to_end(&headers(&[
        ("connection", "Upgrade, X-Mine"),
        ("upgrade", "websocket"),
        ("x-mine", "1"),
        ("te", "trailers"),
        ("accept", "*/*"),
    ]));
    assert_eq!(kept, headers(&[("accept", "*/*")]));
}

/// A backend that reads one request's head, answers with `answer`, and then sends back what it gets.
async fn scripted(tasks: &Supervisor, answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tasks.spawn(Task::Background, "backend", async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a head"));
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        assert!(head.contains("upgrade: spdy/3.1\r\n"), "{head}");
        assert!(head.contains("connection: upgrade\r\n"), "{head}");
        stream.write_all(answer.as_bytes()).await.expect("written");
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    });
    address
}

/// A server in front of that backend.
async fn in_front(tasks: &Supervisor, backend: SocketAddr) -> SocketAddr {
    let config = crate::config::Kubelet {
        ca: None,
        client: None,
        address_types: vec![],
        timeout: Duration::from_secs(5),
    };
    let kubelets = std::sync::Arc::new(Kubelets::new(&config, tasks).expect("no files"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tasks.spawn(Task::Background, "front", async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let service = service_fn(move |request: Request<Incoming>| {
            let kubelets = kubelets.clone();
            async move {
                let (mut head, _) = request.into_parts();
                let mut end = head.extensions.remove::<OnUpgrade>();
                let target = Target {
                    host: backend.ip().to_string(),
                    port: backend.port(),
                    trust: Trust::Plain,
                    name: None,
                    global_only: false,
                };
                let mut response = Response::new(body::full("second"));
                if let Some(client) = upgrade(&head.headers, &mut end) {
                    let request = Request::new(body::full(Vec::new()));
                    response = upgraded(&kubelets, &target, request, client, &mut None)
                        .await
                        .unwrap_or_else(|f| panic!("{f}"));
                }
                Ok::<_, Infallible>(response)
            }
        });
        let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let _ = served.with_upgrades().await;
    });
    address
}

const ASK: &[u8] =
    b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";

/// Reads until the text has come.
async fn until(stream: &mut TcpStream, text: &str) -> String {
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(text) {
        read.push(stream.read_u8().await.expect("more to come"));
    }
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test]
async fn both_ends_are_joined_once_the_backend_agrees() {
    let tasks = Supervisor::current();
    let agrees = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v5.channel.k8s.io\r\n\r\n";
    let backend = scripted(&tasks, agrees).await;
    let front = in_front(&tasks, backend).await;
    let mut client = TcpStream::connect(front).await.expect("connected");
    client.write_all(ASK).await.expect("written");
    let head = until(&mut client, "\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(
        head.contains("x-stream-protocol-version: v5.channel.k8s.io"),
        "{head}"
    );
    client.write_all(b"bytes, not HTTP").await.expect("written");
    until(&mut client, "bytes, not HTTP").await;
}

#[tokio::test]
async fn a_refused_upgrade_does_not_hand_the_connection_over() {
    let tasks = Supervisor::current();
    let refuses = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    let backend = scripted(&tasks, refuses).await;
    let front = in_front(&tasks, backend).await;
    let mut client = TcpStream::connect(front).await.expect("connected");
    client.write_all(ASK).await.expect("written");
    let refused = until(&mut client, "no").await.to_ascii_lowercase();
    assert!(refused.starts_with("http/1.1 403 "), "{refused}");
    assert!(refused.contains("connection: close"), "{refused}");
    // What the client sends now would be the backend's next request, with the server's credentials.
    let _ = client
        .write_all(b"GET /pods HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest).await;
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
}
