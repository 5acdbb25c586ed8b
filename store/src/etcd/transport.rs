//! gRPC's way to one member: HTTP/2, with no task between a request and its connection.
//!
//! tonic's own channel hands a request to a task, which hands it to another, which hands it to the connection, and so back. A
//! read of one key is all over in some tens of microseconds; half a dozen wakes are a good part of that. Here who asks writes
//! into the connection's buffers himself, and is woken by the connection.
//!
//! A connection is made when it is first needed, and again when it broke. It is given up if the other side says nothing for
//! [`KEEPALIVE`] while something is asked, and then does not answer a ping.

use std::error::Error as StdError;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use h2::client::SendRequest;
use h2::{PingPong, Reason, RecvStream, SendStream};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version, header};
use hyper::body::{Body as _, Frame};
use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use super::tls::{Files, Stream};
use crate::trace;

/// To reach a member, TLS included.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// A ping after this much silence under a request or a watch. Not optional: a stopped process keeps
/// its sockets open for ever. Not less than etcd's `--grpc-keepalive-min-time` (5 s) either, and none
/// while nothing is asked: etcd closes such connections with `too_many_pings`.
const KEEPALIVE: Duration = Duration::from_secs(6);
/// The connection is dead when the ping has no answer for this long.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Windows large enough that a list or a catching-up watch never waits for an update of them.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// One connection to a member, which its clones share.
#[derive(Clone)]
pub(crate) struct Channel {
    shared: Arc<Shared>,
}

struct Shared {
    host: String,
    port: u16,
    tls: Option<Files>,
    authority: Authority,
    /// None before the first request.
    connection: Mutex<Option<Connection>>,
    /// Held while one is made.
    dialing: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Connection {
    requests: SendRequest<Bytes>,
    load: Arc<Load>,
    finished: Finished,
}

/// Answers that were read to their end. The last handle of one wakes the connection, for nothing: they go when the next request
/// has woken it anyway. Were that here or there with another wake, a thread would be woken to share the work.
type Finished = Arc<Mutex<Vec<RecvStream>>>;

impl Channel {
    /// A connection to `host`, to be made when it is needed; by TLS if there are files for it.
    pub(super) fn new(host: &str, port: u16, authority: Authority, tls: Option<Files>) -> Self {
        let shared = Shared {
            host: host.to_owned(),
            port,
            tls,
            authority,
            connection: Mutex::new(None),
            dialing: tokio::sync::Mutex::new(()),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// A connection of its own to the same member.
    pub(super) fn another(&self) -> Self {
        let of = &self.shared;
        Self::new(&of.host, of.port, of.authority.clone(), of.tls.clone())
    }

    /// The member's host and port.
    pub(super) fn server(&self) -> (&str, u16) {
        (&self.shared.host, self.shared.port)
    }
}

impl tower::Service<Request<Body>> for Channel {
    type Response = Response<Answer>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<Answer>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.ask(request).await })
    }
}

impl Shared {
    async fn ask(&self, request: Request<Body>) -> Result<Response<Answer>, Status> {
        let mut connection = self.connection().await?;
        let under_way = UnderWay::begin(&connection.load);
        let (head, body) = request.into_parts();
        let head = self.head(head)?;
        let (answer, stream) = connection
            .requests
            .send_request(head, false)
            .map_err(broken)?;
        let mut words = Words { stream, body };
        // What asks once has said all now; a watch goes on.
        if std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut words).poll(cx)))
            .await
            .is_pending()
        {
            TokioExecutor::new().execute(words);
        }
        let finished = std::mem::take(&mut *connection.finished.lock());
        drop(finished);
        let answer = answer.await.map_err(broken)?;
        Ok(answer.map(|stream| Answer {
            stream: Some(stream),
            said: false,
            finished: connection.finished,
            _under_way: under_way,
        }))
    }

    /// What a request has to say besides what tonic does.
    fn head(&self, mut head: http::request::Parts) -> Result<Request<()>, Status> {
        let mut uri = head.uri.into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(self.authority.clone());
        head.uri = Uri::from_parts(uri).map_err(|e| Status::internal(e.to_string()))?;
        head.version = Version::HTTP_2;
        let agent = HeaderValue::from_static("navarch");
        head.headers.insert(header::USER_AGENT, agent);
        // A member without a leader fails it.
        let yes = HeaderValue::from_static("true");
        head.headers.insert("hasleader", yes);
        trace::with(|trace| trace.tell(&mut head.headers));
        Ok(Request::from_parts(head, ()))
    }

    /// One that takes requests.
    async fn connection(&self) -> Result<Connection, Status> {
        if let Some(connection) = self.made().await {
            return Ok(connection);
        }
        let _turn = self.dialing.lock().await;
        if let Some(connection) = self.made().await {
            return Ok(connection);
        }
        let dialed = tokio::time::timeout(DIAL_TIMEOUT, self.dial()).await;
        let connection = match dialed {
            Ok(Ok(connection)) => connection,
            Ok(Err(cause)) => return Err(self.unreachable(cause.to_string())),
            Err(_) => return Err(self.unreachable(format!("no connection in {DIAL_TIMEOUT:?}"))),
        };
        *self.connection.lock() = Some(connection.clone());
        Ok(connection)
    }

    /// The one there is, if it still takes requests.
    async fn made(&self) -> Option<Connection> {
        let connection = self.connection.lock().clone()?;
        let requests = connection.requests.ready().await.ok()?;
        Some(Connection {
            requests,
            ..connection
        })
    }

    async fn dial(&self) -> Result<Connection, Box<dyn StdError + Send + Sync>> {
        let tcp = TcpStream::connect((&*self.host, self.port)).await?;
        tcp.set_nodelay(true)?;
        let stream = match &self.tls {
            Some(files) => files.handshake(&self.host, tcp).await?,
            None => Stream::Plain(tcp),
        };
        let load = Arc::new(Load::default());
        let heard = Heard {
            io: stream,
            load: Arc::clone(&load),
        };
        let (requests, mut connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .enable_push(false)
            .handshake(heard)
            .await?;
        let pings = connection.ping_pong();
        let watched = Arc::clone(&load);
        TokioExecutor::new().execute(async move {
            let silence = async {
                match pings {
                    Some(pings) => silence(pings, watched).await,
                    None => std::future::pending().await,
                }
            };
            // What was asked of it is told when it goes.
            tokio::select! {
                _ = connection => {}
                () = silence => {}
            }
        });
        Ok(Connection {
            requests,
            load,
            finished: Finished::default(),
        })
    }

    fn unreachable(&self, cause: String) -> Status {
        let error = DialError {
            to: self.authority.to_string(),
            cause,
        };
        let mut status = Status::unavailable(error.to_string());
        status.set_source(Arc::new(error));
        status
    }
}

/// Nobody knows whether what was asked has happened.
fn broken(error: h2::Error) -> Status {
    let mut status = Status::unavailable(format!("the connection broke: {error}"));
    status.set_source(Arc::new(error));
    status
}

/// What a request says: one message, or one after the other for as long as a watch lasts.
///
/// It is not held back: messages are small, and few. The last one says that it is the last, or its end would be a packet of its
/// own.
struct Words {
    stream: SendStream<Bytes>,
    body: Body,
}

impl Words {
    /// Says what there is to say now. If something cannot be said, the answer tells why.
    fn say(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let mut message = Bytes::new();
        while let Poll::Ready(next) = Pin::new(&mut self.body).poll_frame(cx) {
            match next.map(|frame| frame.map(Frame::into_data)) {
                None => return Poll::Ready(self.stream.send_data(message, true)),
                Some(Ok(Ok(next))) => {
                    if !message.is_empty() {
                        self.stream.send_data(message, false)?;
                    }
                    message = next;
                }
                Some(Ok(Err(_trailers))) => {}
                Some(Err(_status)) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Ok(()));
                }
            }
        }
        if !message.is_empty() {
            self.stream.send_data(message, false)?;
        }
        self.stream.poll_reset(cx).map_ok(drop)
    }
}

impl Future for Words {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.say(cx).map(drop)
    }
}

/// The body of an answer.
pub(crate) struct Answer {
    /// None once it was read to its end.
    stream: Option<RecvStream>,
    /// All data has come; what is left is trailers.
    said: bool,
    finished: Finished,
    _under_way: UnderWay,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(stream) = &mut this.stream else {
            return Poll::Ready(None);
        };
        if !this.said {
            match ready!(stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Once it is here it takes no room of the connection's any more.
                    let _ = stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(broken(error)))),
                None => this.said = true,
            }
        }
        let trailers = ready!(stream.poll_trailers(cx)).map_err(broken)?;
        this.finished.lock().extend(this.stream.take());
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(RecvStream::is_end_stream)
    }
}

/// What is asked of a connection, and when it last said something.
struct Load {
    under_way: AtomicUsize,
    began: Notify,
    born: Instant,
    /// Milliseconds after its birth.
    heard: AtomicU64,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            under_way: AtomicUsize::new(0),
            began: Notify::new(),
            born: Instant::now(),
            heard: AtomicU64::new(0),
        }
    }
}

impl Load {
    fn hear(&self) {
        let age = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(age, Ordering::Relaxed);
    }

    /// When it has been silent for too long, unless it says something before.
    fn patience(&self) -> Instant {
        self.born + Duration::from_millis(self.heard.load(Ordering::Relaxed)) + KEEPALIVE
    }
}

/// A request of a connection, until its answer has come or is not wanted any more.
struct UnderWay(Arc<Load>);

impl UnderWay {
    fn begin(load: &Arc<Load>) -> Self {
        if load.under_way.fetch_add(1, Ordering::Relaxed) == 0 {
            load.began.notify_one();
        }
        Self(Arc::clone(load))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Ends when the other side is silent while something is asked of it, and does not answer a ping.
async fn silence(mut pings: PingPong, load: Arc<Load>) {
    loop {
        if load.under_way.load(Ordering::Relaxed) == 0 {
            load.began.notified().await;
        } else if load.patience() > Instant::now() {
            tokio::time::sleep_until(load.patience()).await;
        } else {
            let pong = pings.ping(h2::Ping::opaque());
            match tokio::time::timeout(KEEPALIVE_TIMEOUT, pong).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

/// Notes when something came.
struct Heard {
    io: Stream,
    load: Arc<Load>,
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.load.hear();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// No connection was made, so nothing was sent on it.
#[derive(thiserror::Error, Debug)]
#[error("cannot reach {to}: {cause}")]
struct DialError {
    to: String,
    cause: String,
}

/// The request failed before a connection existed that it could have been sent on.
pub(super) fn never_sent(status: &Status) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = status.source();
    while let Some(error) = cause {
        if error.is::<DialError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::etcd::pb::RangeRequest;
    use crate::etcd::pb::kv_client::KvClient;

    /// Answers one connection's requests with an empty message each, and tells how many there were when it ended.
    async fn serve(listener: &TcpListener) -> usize {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut count = 0;
        while let Some(request) = connection.accept().await {
            let Ok((request, mut answer)) = request else {
                break;
            };
            assert_eq!(request.headers()["hasleader"], "true");
            let (_, mut said) = request.into_parts();
            said.data().await.unwrap().unwrap();
            assert!(said.is_end_stream(), "the message says that it is all");
            let head = Response::builder().header(header::CONTENT_TYPE, "application/grpc");
            let mut stream = answer.send_response(head.body(()).unwrap(), false).unwrap();
            stream
                .send_data(Bytes::from_static(&[0; 5]), false)
                .unwrap();
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            stream.send_trailers(trailers).unwrap();
            count += 1;
        }
        count
    }

    #[tokio::test]
    async fn a_connection_is_made_once_and_ends_with_its_last_handle() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let authority = address.to_string().parse().unwrap();
        let channel = Channel::new("127.0.0.1", address.port(), authority, None);
        let asked = async {
            let ask = || async {
                let mut client = KvClient::new(channel.clone());
                client.range(RangeRequest::default()).await.unwrap();
            };
            futures::join!(ask(), ask());
            ask().await;
            let another = channel.another();
            drop(channel);
            another
        };
        let (count, another) = tokio::join!(serve(&listener), asked);
        assert_eq!(count, 3, "on one connection");
        drop(listener);
        let unreachable = KvClient::new(another).range(RangeRequest::default()).await;
        assert!(never_sent(&unreachable.unwrap_err()));
    }

    #[tokio::test]
    async fn a_new_connection_takes_the_place_of_one_that_broke() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let authority = address.to_string().parse().unwrap();
        let channel = Channel::new("127.0.0.1", address.port(), authority, None);
        let mut client = KvClient::new(channel);
        let broken = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            // It has come, and nobody will ever know what came of it.
            connection.accept().await.unwrap().unwrap();
        };
        let (lost, ()) = tokio::join!(client.range(RangeRequest::default()), broken);
        assert!(!never_sent(&lost.unwrap_err()));
        let served = async {
            client.range(RangeRequest::default()).await.unwrap();
            drop(client);
        };
        let (count, ()) = tokio::join!(serve(&listener), served);
        assert_eq!(count, 1);
    }
}
