//! Accepting connections until the listener has to stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::connection::{self, Http};
use super::stall::{Waiting, Watched};
use super::{Connection, READ_HEADER_TIMEOUT, Server, Service, TlsPeer, tls};
use crate::supervisor::{Supervisor, Task};

/// How often the kernel asks whether the other end is there; upstream's figure.
const KEEPALIVE: Duration = Duration::from_secs(180);
/// The wait after the first failure to accept, doubled up to the second.
const ACCEPT_RETRY: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));
/// The first byte of a TLS record with a handshake message.
const TLS_HANDSHAKE: u8 = 0x16;

pub(super) async fn run<S: Service>(
    server: Server,
    tasks: Supervisor,
    kind: Task,
    stop: CancellationToken,
    service: S,
) {
    let Server {
        listener,
        options,
        tls,
        stalled,
        ..
    } = server;
    let http = Http::new(&options, stalled);
    // A connection is of its listener's phase; its failure is its own.
    let kind = if kind == Task::Server {
        Task::Background
    } else {
        Task::Worker
    };
    let mut retry = ACCEPT_RETRY.0;
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(e) if is_of_one_connection(&e) => continue,
                Err(e) => {
                    tracing::error!(error = %e, "Cannot accept connections");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(ACCEPT_RETRY.1);
                    continue;
                }
            },
        };
        retry = ACCEPT_RETRY.0;
        let (tls, http, service) = (tls.clone(), http.clone(), service.clone());
        tasks.spawn_graceful(kind, "connection", |stop| async move {
            if let Err(e) = connect(stream, peer, tls, &http, service, stop).await {
                tracing::debug!(client.addr = %peer, error = %e, "Connection failed");
            }
        });
    }
}

/// The connection was gone before it was accepted; the listener is well.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

async fn connect<S: Service>(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<tls::Acceptor>,
    http: &Http,
    service: S,
    stop: CancellationToken,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    let local = stream.local_addr()?;
    let connection = |tls| Connection {
        peer,
        local,
        tls,
        close: CancellationToken::new(),
    };
    let socket = Arc::new(Waiting::default());
    let Some(tls) = tls else {
        let stream = Watched::new(stream, Arc::clone(&socket));
        return connection::drive(stream, socket, connection(None), http, None, service, stop)
            .await;
    };
    let secured = tokio::time::timeout(READ_HEADER_TIMEOUT, secure(stream, &socket, &tls));
    let secured = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        secured = secured => secured.map_err(|_| io::ErrorKind::TimedOut)??,
    };
    let Some(stream) = secured else { return Ok(()) };
    let session = stream.get_ref().1;
    let own = |cert: &CertificateDer<'_>| cert.clone().into_owned();
    let chain = session.peer_certificates().unwrap_or_default();
    let peer = TlsPeer::new(
        chain.iter().map(own).collect(),
        session.server_name().map(str::to_owned),
    );
    let http2 = session.alpn_protocol() == Some(b"h2");
    connection::drive(
        stream,
        socket,
        connection(Some(peer)),
        http,
        Some(http2),
        service,
        stop,
    )
    .await
}

/// The handshake; none if the client did not want one and was told so.
async fn secure(
    mut stream: TcpStream,
    socket: &Arc<Waiting>,
    tls: &tls::Acceptor,
) -> io::Result<Option<TlsStream<Watched<TcpStream>>>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first[0] != TLS_HANDSHAKE {
        return refuse_plain_http(&mut stream).await.map(|()| None);
    }
    let stream = Watched::new(stream, Arc::clone(socket));
    tls.accept(stream).await.map(Some)
}

/// What Go says to a client that forgot the `s`.
async fn refuse_plain_http(stream: &mut TcpStream) -> io::Result<()> {
    let answer =
        b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    stream.write_all(answer).await?;
    stream.shutdown().await
}
