//! HTTP, SPDY and WebSocket clients over TLS.

use std::sync::Arc;

use component::serving::Pair;
use component::streaming::{Driver, Streams, spdy, upgrade};
use component::{Supervisor, Task};
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::setup::Setup;

pub(crate) type Io = TlsStream<TcpStream>;

/// An answer; the body, unless the connection was switched to something else.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

pub(crate) async fn connect(setup: &Setup, who: Option<&Pair>) -> Io {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(setup.ca.pem.as_bytes()).unwrap();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match who {
        Some(pair) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap(),
            )
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect(setup.address).await.unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("127.0.0.1").unwrap(), stream)
        .await
        .unwrap()
}

/// Sends a request and reads the head of the answer.
pub(crate) async fn send(
    io: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> (u16, HeaderMap) {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: node\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    io.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let name: HeaderName = name.parse().unwrap();
        Some((name, HeaderValue::from_str(value.trim()).unwrap()))
    };
    (status.parse().unwrap(), lines.filter_map(header).collect())
}

/// Asks as somebody, and reads all of the answer.
pub(crate) async fn ask_as(
    setup: &Setup,
    who: Option<&Pair>,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let mut io = connect(setup, who).await;
    ask_over(&mut io, method, path, headers).await
}

pub(crate) async fn ask_over(
    io: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let headers = [headers, &[("Connection", "close")]].concat();
    let (status, headers) = send(io, method, path, &headers).await;
    let mut body = Vec::new();
    // Whoever closes without saying so has still said what he had to say.
    let _ = io.read_to_end(&mut body).await;
    if headers.contains_key("transfer-encoding") {
        body = unchunk(&body);
    }
    Answer {
        status,
        headers,
        body: String::from_utf8(body).unwrap(),
    }
}

pub(crate) async fn get(setup: &Setup, path: &str) -> Answer {
    ask_as(setup, Some(&setup.ca.admin()), "GET", path, &[]).await
}

pub(crate) fn unchunk(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|w| w == b"\r\n") {
        let size = std::str::from_utf8(&body[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 4 + size..];
    }
    whole
}

pub(crate) fn run(driver: Driver) {
    Supervisor::current().spawn(Task::Background, "client", async move {
        let _ = driver.await;
    });
}

/// A SPDY connection.
pub(crate) async fn spdy(setup: &Setup, path: &str, protocol: &str) -> Streams {
    let mut io = connect(setup, Some(&setup.ca.admin())).await;
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "SPDY/3.1"),
        ("X-Stream-Protocol-Version", protocol),
    ];
    let (status, answer) = send(&mut io, "POST", path, &headers).await;
    assert_eq!(status, 101);
    assert_eq!(answer["x-stream-protocol-version"], protocol);
    let (streams, driver) = spdy::client(io, component::streaming::Options::default());
    run(driver);
    streams
}

/// A connection that has become a WebSocket.
pub(crate) async fn websocket(setup: &Setup, path: &str, protocol: &str) -> Io {
    let mut io = connect(setup, Some(&setup.ca.admin())).await;
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Protocol", protocol),
    ];
    let (status, answer) = send(&mut io, "GET", path, &headers).await;
    assert_eq!(status, 101);
    assert_eq!(answer["sec-websocket-protocol"], protocol);
    assert_eq!(
        answer["sec-websocket-accept"].to_str().unwrap(),
        upgrade::accept(key.as_bytes())
    );
    io
}

/// Headers of a stream.
pub(crate) fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
        .collect()
}
