//! Connections of probes and hooks: TCP, with or without TLS that believes everybody.
//!
//! Errors read as those of Go's network packages do: people search for them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use component::trust::{self, Believe};
use nix::errno::Errno;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::target;

#[derive(thiserror::Error, Debug)]
pub(crate) enum Error {
    #[error("dial tcp: lookup {host}: no such host")]
    NoHost { host: String },
    #[error("dial tcp {at}: i/o timeout")]
    Timeout { at: String },
    #[error("dial tcp {at}: connect: {reason}")]
    Connect { at: SocketAddr, reason: String },
    #[error("net/http: TLS handshake timeout")]
    HandshakeTimeout,
    /// The other side does not speak TLS.
    #[error("http: server gave HTTP response to HTTPS client")]
    NotTls,
    #[error("{0}")]
    Tls(String),
}

/// Waits no longer than until the deadline.
pub(super) async fn within<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = T>,
) -> Option<T> {
    match deadline {
        None => Some(work.await),
        Some(deadline) => tokio::time::timeout_at(deadline, work).await.ok(),
    }
}

/// Connects to the first address of a host that answers.
pub(super) async fn connect(
    host: &str,
    port: u16,
    deadline: Option<Instant>,
) -> Result<TcpStream, Error> {
    let timeout = || Error::Timeout {
        at: target::join(host, port),
    };
    let found = within(deadline, tokio::net::lookup_host((host, port))).await;
    let mut last = Error::NoHost {
        host: host.to_owned(),
    };
    for at in found.ok_or_else(timeout)?.into_iter().flatten() {
        let connected = within(deadline, TcpStream::connect(at)).await;
        match connected.ok_or_else(timeout)? {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                let reason = reason(&error);
                last = Error::Connect { at, reason };
            }
        }
    }
    Err(last)
}

/// An error of the system in the words of Go: `connection refused`.
pub(super) fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => {
            let text = Errno::from_raw(number).desc();
            let mut chars = text.chars();
            let first = chars.next().map(|c| c.to_ascii_lowercase());
            first.into_iter().chain(chars).collect()
        }
        None => error.to_string(),
    }
}

/// Bytes both ways, and the protocol that was agreed on.
pub(super) struct Stream {
    pub(super) is_h2: bool,
    inner: Inner,
}

enum Inner {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(super) const fn plain(tcp: TcpStream) -> Self {
        Self {
            is_h2: false,
            inner: Inner::Plain(tcp),
        }
    }
}

/// Clients that take any certificate: pods are asked by address, and how they are is no secret.
#[derive(Clone)]
pub(crate) struct Tls {
    /// HTTP of either version.
    web: Arc<ClientConfig>,
    /// HTTP/2 only.
    h2: Arc<ClientConfig>,
}

impl Tls {
    pub(crate) fn new() -> Self {
        let config = |protocols: &[&[u8]]| {
            let config = trust::client(&Believe::Anyone, None, protocols);
            Arc::new(config.expect("the provider has the suites of the default versions"))
        };
        Self {
            web: config(&[b"h2", b"http/1.1"]),
            h2: config(&[b"h2"]),
        }
    }

    pub(super) async fn web(
        &self,
        tcp: TcpStream,
        host: &str,
        deadline: Option<Instant>,
    ) -> Result<Stream, Error> {
        handshake(&self.web, tcp, host, deadline).await
    }

    pub(super) async fn h2(
        &self,
        tcp: TcpStream,
        host: &str,
        deadline: Option<Instant>,
    ) -> Result<Stream, Error> {
        handshake(&self.h2, tcp, host, deadline).await
    }
}

async fn handshake(
    config: &Arc<ClientConfig>,
    tcp: TcpStream,
    host: &str,
    deadline: Option<Instant>,
) -> Result<Stream, Error> {
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|error| Error::Tls(format!("tls: {error}")))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
    let shaken = within(deadline, connector.connect(name, tcp)).await;
    let tls = shaken.ok_or(Error::HandshakeTimeout)?.map_err(|error| {
        let inner = error
            .get_ref()
            .and_then(|e| e.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidMessage(_)) => Error::NotTls,
            Some(other) => Error::Tls(trust::words(other)),
            None => Error::Tls(format!("tls: {}", reason(&error))),
        }
    })?;
    Ok(Stream {
        is_h2: tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        inner: Inner::Tls(Box::new(tls)),
    })
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Inner::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.inner {
            Inner::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Inner::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Inner::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Inner::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
