//! HTTP/1.1 by hand: what a well-behaved client does not let a test see.

use std::sync::Arc;

use component::serving::Pair;
use component::testing::Ca;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::daemon::Daemon;

fn administrator(ca: &Ca) -> Pair {
    ca.client("admin", &["system:masters"])
}

/// A connection, as the administrator unless the request says otherwise.
pub(crate) struct Wire(TlsStream<TcpStream>);

impl Wire {
    pub(crate) async fn admin(api: &Daemon) -> Self {
        let (port, ca) = api.place();
        Self::open(port, ca, Some(&administrator(ca))).await
    }

    /// Without a certificate.
    pub(crate) async fn anonymous(api: &Daemon) -> Self {
        let (port, ca) = api.place();
        Self::open(port, ca, None).await
    }

    /// With a certificate, behind which its issuers may stand.
    pub(crate) async fn with(api: &Daemon, pair: &Pair) -> Self {
        let (port, ca) = api.place();
        Self::open(port, ca, Some(pair)).await
    }

    /// For a client of HTTP/2, as the administrator.
    pub(crate) async fn http2(api: &Daemon) -> TlsStream<TcpStream> {
        let (port, ca) = api.place();
        Self::open_for("h2", port, ca, Some(&administrator(ca))).await
    }

    /// For a client of HTTP/2 that does not say who it is.
    pub(crate) async fn http2_anonymous(api: &Daemon) -> TlsStream<TcpStream> {
        let (port, ca) = api.place();
        Self::open_for("h2", port, ca, None).await
    }

    async fn open(port: u16, ca: &Ca, pair: Option<&Pair>) -> Self {
        Self(Self::open_for("http/1.1", port, ca, pair).await)
    }

    async fn open_for(
        protocol: &str,
        port: u16,
        ca: &Ca,
        pair: Option<&Pair>,
    ) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = CertificateDer::pem_slice_iter(pair.cert.as_bytes());
                let chain = chain.collect::<Result<_, _>>().unwrap();
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await.unwrap()
    }

    /// Sends a request and reads the head of the answer: its lines in lower case.
    pub(crate) async fn ask(&mut self, line: &str, headers: &[&str], body: &str) -> String {
        let mut head = format!("{line} HTTP/1.1\r\nHost: api.example\r\n");
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        head.push_str(body);
        self.0.write_all(head.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap().to_ascii_lowercase()
    }

    /// What follows, to the end of the connection, which the request must have asked for.
    pub(crate) async fn rest(mut self) -> String {
        let mut rest = Vec::new();
        // A server that closes without a farewell of TLS has sent everything all the same.
        let _ = self.0.read_to_end(&mut rest).await;
        String::from_utf8(rest).unwrap()
    }

    /// Opens a WebSocket; the head of the answer.
    pub(crate) async fn upgrade(&mut self, path: &str, headers: &[&str]) -> String {
        let mut all = vec![
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ];
        all.extend(headers);
        self.ask(&format!("GET {path}"), &all, "").await
    }

    /// The next frame: the first byte, and what is in it.
    pub(crate) async fn frame(&mut self) -> (u8, Vec<u8>) {
        let first = self.0.read_u8().await.unwrap();
        let length = match self.0.read_u8().await.unwrap() {
            126 => usize::from(self.0.read_u16().await.unwrap()),
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await.unwrap();
        (first, payload)
    }

    /// The connection, once it speaks something else.
    pub(crate) fn into_io(self) -> TlsStream<TcpStream> {
        self.0
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }
}
