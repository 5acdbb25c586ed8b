//! One connection: HTTP/1.1 or HTTP/2, its limits, its idleness and its end.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::aboard::{Aboard, Carriers, Quiet};
use super::gather::{Gather, Transport};
use super::stall::{Excuse, Impatient, PATIENCE, Waiting, carry};
use super::{Body, Connection, DEFAULT_STREAMS, IDLE_TIMEOUT, Options, Request, Response, Service};
use crate::supervisor::BoxError;

/// Header bytes of one request; Go's and upstream's figure.
const MAX_HEADER_BYTES: u32 = 1 << 20;
/// How long a request's head may take in HTTP/1.1. Hyper counts from the last answer, so that it has to
/// be longer than a connection may be idle.
const HTTP1_HEAD_TIMEOUT: Duration = IDLE_TIMEOUT.saturating_add(Duration::from_secs(5));
/// Header lines of one HTTP/1.1 request: front proxies send one for each group of a user.
const MAX_HEADERS: usize = 1000;
/// What a stream may send unasked, and the largest frame: upstream's figure, above 99 % of bodies.
const STREAM_WINDOW: u32 = 256 * 1024;
/// What may wait in one HTTP/2 stream before its answer is asked for more: two of the frames that most clients take.
const SEND_BUFFER: usize = 32 * 1024;
/// The largest piece that is handed over at once; of what is larger the rest stays here, where it can be let go.
pub const PIECE: usize = 128 * 1024;
/// An answer whose last piece is larger than this ends only when the piece has left, so that it can still be given up.
const LAST_PIECE: usize = 16 * 1024;

/// The HTTP settings of a listener.
#[derive(Clone)]
pub(super) struct Http {
    streams: u32,
    http2: bool,
    stalled: Counter,
}

impl Http {
    /// With the count of what ends because the client takes nothing.
    pub(super) fn new(options: &Options, stalled: Counter) -> Self {
        Self {
            streams: match options.max_streams {
                0 => DEFAULT_STREAMS,
                streams => streams,
            },
            http2: options.http2,
            stalled,
        }
    }

    /// For one connection, whose tasks `carriers` starts.
    fn builder(&self, carriers: Carriers) -> auto::Builder<Carriers> {
        let mut builder = auto::Builder::new(carriers);
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HTTP1_HEAD_TIMEOUT)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEADER_BYTES as usize);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.streams)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(
                STREAM_WINDOW
                    .saturating_mul(self.streams)
                    .min(i32::MAX as u32),
            )
            .max_frame_size(STREAM_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(MAX_HEADER_BYTES);
        builder
    }
}

/// Serves a connection until it ends, is idle for too long, takes nothing for too long, or has to stop. `http2` is what the
/// handshake agreed on; without one the first bytes tell. `socket` is what watches the socket of `io`.
pub(super) async fn drive<I, S>(
    io: I,
    socket: Arc<Waiting>,
    connection: Connection,
    http: &Http,
    http2: Option<bool>,
    service: S,
    stop: CancellationToken,
) -> io::Result<()>
where
    I: Transport,
    S: Service,
{
    let close = connection.close.clone();
    let activity = Arc::new(Activity::default());
    let answering = Answering {
        connection: Arc::new(connection),
        activity: Arc::clone(&activity),
        socket: Arc::clone(&socket),
    };
    let service = hyper::service::service_fn(answer(service, answering));
    let (mut aboard, carriers) = Aboard::new(http.stalled.clone());
    let builder = http.builder(carriers);
    let builder = match http2 {
        Some(true) => builder.http2_only(),
        Some(false) => builder.http1_only(),
        None if http.http2 => builder,
        None => builder.http1_only(),
    };
    let io = TokioIo::new(Gather::new(io));
    let mut served = pin!(builder.serve_connection_with_upgrades(io, service));
    let mut ending: Option<Instant> = None;
    let work = async {
        loop {
            let quiet = activity.quiet();
            let left = match ending {
                None => IDLE_TIMEOUT.saturating_sub(quiet),
                Some(since) => PATIENCE.saturating_sub(quiet.min(since.elapsed())),
            };
            let served_with_all = poll_fn(|cx| {
                aboard.poll(cx);
                served.as_mut().poll(cx)
            });
            tokio::select! {
                ended = served_with_all => return ended.map_err(io::Error::other),
                () = stop.cancelled(), if ending.is_none() => {}
                () = close.cancelled(), if ending.is_none() => {}
                () = tokio::time::sleep(left) => match ending {
                    None if !activity.is_idle(IDLE_TIMEOUT) => continue,
                    None => {}
                    // The client was told, has had all its answers, and does not go.
                    Some(since) if since.elapsed() >= PATIENCE && activity.is_idle(PATIENCE) => {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    Some(_) => continue,
                }
            }
            ending = Some(Instant::now());
            served.as_mut().graceful_shutdown();
        }
    };
    match carry(work, Arc::default(), Some(socket)).await {
        Ok(ended) => ended,
        Err(stalled) => {
            http.stalled.inc();
            Err(io::Error::new(io::ErrorKind::TimedOut, stalled))
        }
    }
}

/// What the answers of a connection share.
struct Answering {
    connection: Arc<Connection>,
    activity: Arc<Activity>,
    /// Since when the connection's socket takes nothing.
    socket: Arc<Waiting>,
}

/// Hands a request on with its connection, and keeps the count of answers under way.
fn answer<S: Service>(
    service: S,
    answering: Answering,
) -> impl Fn(Request) -> Pin<Box<dyn Future<Output = Result<Response, std::convert::Infallible>> + Send>>
{
    move |mut request| {
        request
            .extensions_mut()
            .insert(Arc::clone(&answering.connection));
        let under_way = answering.activity.begin();
        let (mut service, socket) = (service.clone(), Arc::clone(&answering.socket));
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await?;
            let mut response = service.call(request).await?;
            let marks = response.extensions_mut();
            let until = marks.remove::<Until>();
            let impatient = marks.remove::<Impatient>().is_some();
            let quiet = marks.remove::<Quiet>().is_some();
            let carried = Waiting::carried();
            Ok(response.map(|body| {
                Tracked {
                    body,
                    rest: Bytes::new(),
                    last: 0,
                    quiet: carried.clone().filter(|_| quiet),
                    waiting: carried.filter(|_| impatient),
                    until,
                    _excuse: (!impatient).then(|| socket.excuse()),
                    _under_way: under_way,
                }
                .boxed_unsync()
            }))
        })
    }
}

/// What a connection is doing.
struct Activity {
    born: Instant,
    under_way: AtomicUsize,
    /// Milliseconds after its birth at which the last answer ended.
    last: AtomicU64,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            under_way: AtomicUsize::new(0),
            last: AtomicU64::new(0),
        }
    }
}

impl Activity {
    fn begin(self: &Arc<Self>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// How long it has been doing nothing.
    fn quiet(&self) -> Duration {
        if self.under_way.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        self.born
            .elapsed()
            .saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    fn is_idle(&self, limit: Duration) -> bool {
        self.quiet() >= limit
    }
}

/// An answer under way, until its body was sent or dropped.
struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let age = u64::try_from(self.0.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last.store(age, Ordering::Relaxed);
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Among the extensions of an answer: when it is broken off, wherever it stands.
#[derive(Clone)]
pub struct Until {
    pub at: Instant,
    /// Called then.
    pub cut: Arc<dyn Fn() + Send + Sync>,
}

#[derive(thiserror::Error, Debug)]
#[error("the answer was not taken within its time")]
struct TooSlow;

/// A body that is under way as long as it lives, and goes out in pieces.
struct Tracked {
    body: Body,
    /// Of a piece that was too large.
    rest: Bytes,
    /// How long the last piece was.
    last: usize,
    /// Since when the last piece waits for the client.
    waiting: Option<Arc<Waiting>>,
    /// Of a [`Quiet`] answer: told when it looks for something to say, and when there is nothing.
    quiet: Option<Arc<Waiting>>,
    until: Option<Until>,
    /// One that waits for its client keeps the connection.
    _excuse: Option<Excuse>,
    _under_way: UnderWay,
}

impl Tracked {
    /// Hands a piece over, and keeps what is too much of it.
    fn hand_over(&mut self, mut piece: Bytes) -> Frame<Bytes> {
        self.rest = if piece.len() > PIECE {
            piece.split_off(PIECE)
        } else {
            Bytes::new()
        };
        self.last = piece.len();
        if let Some(waiting) = &self.waiting {
            waiting.begin();
        }
        Frame::data(piece)
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if let Some(waiting) = &self.waiting {
            waiting.end();
        }
    }
}

impl hyper::body::Body for Tracked {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(waiting) = &self.waiting {
            waiting.end();
        }
        // HTTP/2 has looked already at what it has to: whether there is room, and whether the client still wants it.
        if let Some(quiet) = &self.quiet {
            quiet.look();
        }
        let over = self.until.take_if(|until| Instant::now() >= until.at);
        if let Some(over) = over.filter(|_| !self.rest.is_empty() || !self.body.is_end_stream()) {
            (over.cut)();
            self.rest = Bytes::new();
            self.body = super::full(Bytes::new());
            return Poll::Ready(Some(Err(TooSlow.into())));
        }
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            return Poll::Ready(Some(Ok(self.hand_over(rest))));
        }
        self.last = 0;
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending()
            && let Some(quiet) = &self.quiet
        {
            quiet.settle();
        }
        Poll::Ready(ready!(polled).map(|frame| {
            frame.map(|frame| match frame.into_data() {
                Ok(piece) => self.hand_over(piece),
                Err(trailers) => trailers,
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.last <= LAST_PIECE && self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut with_rest = SizeHint::new();
        with_rest.set_lower(hint.lower() + rest);
        if let Some(upper) = hint.upper() {
            with_rest.set_upper(upper + rest);
        }
        with_rest
    }
}
