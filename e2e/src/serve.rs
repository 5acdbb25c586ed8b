//! A small HTTP/1.1 server: a request comes whole, an answer is a value or a part of a file.

use std::convert::Infallible;
use std::io::{self, Read};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::image::layout::Place;

/// Longer requests are refused: a report of one test carries all that it printed.
const MAX_REQUEST: usize = 256 << 20;
/// Read from a file at once.
const PIECE: usize = 256 << 10;
/// A client that has not said hello by then is gone. Connections that are open may stay idle: a server that closes one
/// just when a client uses it again loses a request.
const HELLO: Duration = Duration::from_secs(30);

pub(crate) enum Body {
    Bytes(Bytes),
    /// A part of a file, read while it is sent.
    Part(PathBuf, Place),
}

/// Answers one request. It is called on the server's only thread and must not wait for long.
pub(crate) type Handler = dyn Fn(Request<Bytes>) -> Response<Body> + Send + Sync;

/// Serves until accepting fails.
pub(crate) fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    handler: Arc<Handler>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    listener.set_nonblocking(true)?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let mut connections = JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await?;
            // Those that ended need no more room.
            while connections.try_join_next().is_some() {}
            let handler = Arc::clone(&handler);
            match tls.clone().map(TlsAcceptor::from) {
                None => connections.spawn(connection(socket, handler)),
                Some(acceptor) => connections.spawn(async move {
                    let hello = acceptor.accept(socket);
                    if let Ok(Ok(stream)) = tokio::time::timeout(HELLO, hello).await {
                        connection(stream, handler).await;
                    }
                }),
            };
        }
    })
}

/// What goes wrong on a connection is its client's to notice.
async fn connection<S>(stream: S, handler: Arc<Handler>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let handler = Arc::clone(&handler);
        async move {
            let (head, body) = request.into_parts();
            let answer = match Limited::new(body, MAX_REQUEST).collect().await {
                Ok(body) => handler(Request::from_parts(head, body.to_bytes())),
                Err(_) => too_large(),
            };
            Ok::<_, Infallible>(answer.map(stream_of))
        }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Also for a body that broke off, whose sender does not read this.
fn too_large() -> Response<Body> {
    let mut answer = Response::new(Body::Bytes(Bytes::new()));
    *answer.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
    answer
}

fn stream_of(body: Body) -> BoxBody<Bytes, io::Error> {
    match body {
        Body::Bytes(bytes) => Full::new(bytes).map_err(|never| match never {}).boxed(),
        Body::Part(path, place) => {
            let reader = Err(path);
            let pieces = futures::stream::try_unfold(reader, move |state| async move {
                let mut reader = match state {
                    Ok(reader) => reader,
                    Err(path) => {
                        Box::new(place.open(&path)?) as Box<dyn Read + Send + Sync + 'static>
                    }
                };
                let mut piece = vec![0; PIECE];
                let length = reader.read(&mut piece)?;
                piece.truncate(length);
                let frame = Frame::data(Bytes::from(piece));
                Ok::<_, io::Error>((length > 0).then_some((frame, Ok(reader))))
            });
            StreamBody::new(pieces).boxed()
        }
    }
}
