//! One connection: HTTP/1.1 or HTTP/2, its limits, its idleness and its end.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::gather::Gather;
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

/// The HTTP settings of a listener.
#[derive(Clone)]
pub(super) struct Http {
    builder: Arc<auto::Builder<TokioExecutor>>,
    http2: bool,
}

impl Http {
    pub(super) fn new(options: &Options) -> Self {
        let streams = if options.max_streams == 0 {
            DEFAULT_STREAMS
        } else {
            options.max_streams
        };
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HTTP1_HEAD_TIMEOUT)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEADER_BYTES as usize);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(streams)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(
                STREAM_WINDOW.saturating_mul(streams).min(i32::MAX as u32),
            )
            .max_frame_size(STREAM_WINDOW)
            .max_header_list_size(MAX_HEADER_BYTES);
        Self {
            builder: Arc::new(builder),
            http2: options.http2,
        }
    }
}

/// Serves a connection until it ends, is idle for too long, or has to stop. `http2` is what the
/// handshake agreed on; without one the first bytes tell.
pub(super) async fn drive<I, S>(
    io: I,
    connection: Connection,
    http: &Http,
    http2: Option<bool>,
    service: S,
    stop: CancellationToken,
) -> io::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service,
{
    let close = connection.close.clone();
    let activity = Arc::new(Activity::default());
    let service =
        hyper::service::service_fn(answer(service, Arc::new(connection), Arc::clone(&activity)));
    let builder = match http2 {
        Some(true) => (*http.builder).clone().http2_only(),
        Some(false) => (*http.builder).clone().http1_only(),
        None if http.http2 => (*http.builder).clone(),
        None => (*http.builder).clone().http1_only(),
    };
    let io = TokioIo::new(Gather::new(io, http2 == Some(true)));
    let mut served = pin!(builder.serve_connection_with_upgrades(io, service));
    let mut ending = false;
    loop {
        let idle = activity.idle_in(IDLE_TIMEOUT);
        tokio::select! {
            ended = served.as_mut() => return ended.map_err(io::Error::other),
            () = stop.cancelled(), if !ending => {}
            () = close.cancelled(), if !ending => {}
            () = tokio::time::sleep(idle), if !ending => {
                if !activity.is_idle(IDLE_TIMEOUT) {
                    continue;
                }
            }
        }
        ending = true;
        served.as_mut().graceful_shutdown();
    }
}

/// Hands a request on with its connection, and keeps the count of answers under way.
fn answer<S: Service>(
    service: S,
    connection: Arc<Connection>,
    activity: Arc<Activity>,
) -> impl Fn(Request) -> Pin<Box<dyn Future<Output = Result<Response, std::convert::Infallible>> + Send>>
{
    move |mut request| {
        request.extensions_mut().insert(Arc::clone(&connection));
        let under_way = activity.begin();
        let mut service = service.clone();
        Box::pin(async move {
            std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
            let response = service.call(request).await?;
            Ok(response.map(|body| {
                Tracked {
                    body,
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

    /// The earliest time from now at which it can be idle.
    fn idle_in(&self, limit: Duration) -> Duration {
        limit.saturating_sub(self.quiet())
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

/// A body that is under way as long as it lives.
struct Tracked {
    body: Body,
    _under_way: UnderWay,
}

impl hyper::body::Body for Tracked {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
