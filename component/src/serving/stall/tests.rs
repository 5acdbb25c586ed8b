use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::serving::connection::{Http, drive};
use crate::serving::gather::Transport;
use crate::serving::{Connection, Options, Quiet, Request, Response, Until, full};
use crate::supervisor::{Supervisor, Task};

const PIECE: usize = 64 * 1024;

impl Transport for Watched<DuplexStream> {
    fn sealing(&mut self) -> Option<&mut rustls::ServerConnection> {
        None
    }
}

/// What a server was asked for while a client did not take it.
struct Served {
    /// Pieces that were made.
    made: Arc<AtomicUsize>,
    stalled: Counter,
    /// How the connection ended.
    ended: tokio::sync::oneshot::Receiver<io::Result<()>>,
    client: DuplexStream,
    tasks: Supervisor,
}

/// A connection whose pipe takes this much. `/endless` gives pieces for ever, `/log` does and is patient, `/idle` one and then nothing, `/large` is one
/// body of ten megabytes, and everything else is short.
fn serve(pipe: usize, http2: bool) -> Served {
    serve_until(pipe, http2, None)
}

/// The same, with what all answers are marked with.
fn serve_until(pipe: usize, http2: bool, until: Option<Until>) -> Served {
    let (client, server) = tokio::io::duplex(pipe);
    let stalled = Counter::default();
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let http = Http::new(&Options::plain(address), stalled.clone());
    let connection = Connection {
        peer: address,
        local: address,
        tls: None,
        close: CancellationToken::new(),
    };
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let service = tower::service_fn(move |request: Request| {
        let count = Arc::clone(&count);
        let most = match request.uri().path() {
            "/endless" | "/log" => usize::MAX,
            "/idle" => 1,
            _ => 0,
        };
        let piece = move |n: usize| {
            let count = Arc::clone(&count);
            async move {
                if n == most {
                    std::future::pending::<()>().await;
                }
                count.fetch_add(1, Ordering::Relaxed);
                let piece = Frame::data(Bytes::from(vec![b'x'; PIECE]));
                Some((Ok(piece), n + 1))
            }
        };
        let body = match request.uri().path() {
            "/endless" | "/log" | "/idle" => {
                StreamBody::new(stream::unfold(0, piece)).boxed_unsync()
            }
            "/large" => full(vec![b'x'; 10 << 20]),
            _ => full("short"),
        };
        let mut answer = Response::new(body);
        if let Some(until) = &until {
            answer.extensions_mut().insert(until.clone());
        }
        if request.uri().path() == "/idle" {
            answer.extensions_mut().insert(Quiet);
        }
        if request.uri().path() != "/log" {
            answer.extensions_mut().insert(Impatient);
        }
        std::future::ready(Ok(answer))
    });
    let tasks = Supervisor::current();
    let (say, ended) = tokio::sync::oneshot::channel();
    tasks.spawn(Task::Background, "server", async move {
        let stop = CancellationToken::new();
        let socket = Arc::new(Waiting::default());
        let server = Watched::new(server, Arc::clone(&socket));
        let ended = drive(
            server,
            socket,
            connection,
            &http,
            Some(http2),
            service,
            stop,
        )
        .await;
        let _ = say.send(ended);
    });
    Served {
        made,
        stalled,
        ended,
        client,
        tasks,
    }
}

type Sender = http2::SendRequest<Empty<Bytes>>;

impl Served {
    /// A client of HTTP/2 whose streams take so much unasked.
    async fn client2(self, window: u32) -> (Sender, Self) {
        let (left, _) = tokio::io::duplex(1);
        let mut served = self;
        let io = TokioIo::new(std::mem::replace(&mut served.client, left));
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .initial_connection_window_size(16 << 20)
            .handshake(io)
            .await
            .unwrap();
        served.tasks.spawn(Task::Background, "client", async move {
            let _ = connection.await;
        });
        (sender, served)
    }

    fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }
}

async fn get(sender: &mut Sender, path: &str) -> Incoming {
    let request = http::Request::get(format!("http://host{path}")).body(Empty::new());
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    answer.into_body()
}

/// The next piece of a body; `Err` if it was given up.
async fn piece(body: &mut Incoming) -> Option<Result<usize, hyper::Error>> {
    let frame = body.frame().await?;
    Some(frame.map(|f| f.into_data().unwrap_or_default().len()))
}

async fn seconds(n: u64) {
    tokio::time::sleep(Duration::from_secs(n)).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_takes_ends_and_its_neighbours_do_not() {
    for path in ["/endless", "/large"] {
        let (mut sender, served) = serve(1 << 20, true).client2(100_000).await;
        let mut stalled = get(&mut sender, path).await;
        let mut idle = get(&mut sender, "/idle").await;
        assert!(piece(&mut idle).await.is_some());
        seconds(25).await;
        assert_eq!(served.stalled.get(), 0, "not yet");
        seconds(10).await;
        assert_eq!(served.stalled.get(), 1);
        // What was on its way, and then the end, which is no good one.
        let end = loop {
            match piece(&mut stalled).await {
                Some(Ok(_)) => {}
                end => break end,
            }
        };
        assert!(end.is_some_and(|end| end.is_err()), "{path}");
        assert!(served.made() < 10, "{} pieces are held", served.made());
        let short = get(&mut sender, "/").await.collect().await.unwrap();
        assert_eq!(short.to_bytes(), "short");
        // What waits for something to tell waits for ever.
        seconds(3600).await;
        while let Some(taken) = futures::FutureExt::now_or_never(piece(&mut idle)) {
            assert!(taken.is_some_and(|taken| taken.is_ok()), "it is open");
        }
        assert!(!idle.is_end_stream());
        assert_eq!(served.stalled.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_slow_and_steady_is_served() {
    let (mut sender, served) = serve(1 << 20, true).client2(100_000).await;
    let mut body = get(&mut sender, "/endless").await;
    let mut taken = 0;
    for _ in 0..30 {
        seconds(20).await;
        let wanted = taken + PIECE;
        while taken < wanted {
            taken += piece(&mut body).await.unwrap().unwrap();
        }
    }
    assert_eq!(served.stalled.get(), 0);
    let ahead = served.made() * PIECE - taken;
    assert!(ahead < 6 * PIECE, "{ahead} bytes are made ahead");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_takes_nothing_ends() {
    // What a socket takes, and no more: the client does not read at all.
    for http2 in [true, false] {
        let mut served = serve(200_000, http2);
        let asked: &[u8] = if http2 {
            // The preface, settings with the largest windows, and a GET of /endless.
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
              \0\0\x06\x04\0\0\0\0\0\0\x04\x7f\xff\xff\xff\
              \0\0\x04\x08\0\0\0\0\0\x7f\xff\0\0\
              \0\0\x0f\x01\x05\0\0\0\x01\x82\x86\x04\x08/endless\x01\x01h"
        } else {
            b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n"
        };
        served.client.write_all(asked).await.unwrap();
        seconds(25).await;
        assert!(served.made() > 0, "it was asked for");
        assert!(served.ended.try_recv().is_err(), "not yet");
        seconds(15).await;
        let ended = served.ended.await.unwrap();
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(served.stalled.get() > 0);
        let made = served.made.load(Ordering::Relaxed);
        assert!(made < 20, "{made} pieces are held");
    }
}

#[tokio::test(start_paused = true)]
async fn an_http1_connection_may_rest_after_a_large_answer() {
    let served = serve(1 << 20, false);
    let (mut sender, connection) = http1::handshake(TokioIo::new(served.client)).await.unwrap();
    served.tasks.spawn(Task::Background, "client", async move {
        let _ = connection.await;
    });
    for _ in 0..3 {
        let request = http::Request::get("/large").header("host", "h");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let all = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(all.len(), 10 << 20);
        seconds(60).await;
    }
    assert_eq!(served.stalled.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_ignores_its_dismissal_is_cut_off() {
    let mut served = serve(1 << 20, true);
    // A preface, and never an answer to anything.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    served.client.write_all(preface).await.unwrap();
    seconds(90 + 25).await;
    assert!(served.ended.try_recv().is_err(), "it is asked to go first");
    seconds(10).await;
    let ended = served.ended.await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    let mut seen = Vec::new();
    served.client.read_to_end(&mut seen).await.unwrap();
    // Frame 7: GOAWAY.
    assert!(seen.windows(2).any(|w| w == [7, 0]), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn who_never_says_what_he_wants_is_cut_off() {
    // Of HTTP/1.1 a header a minute; of HTTP/2 a head whose end never comes, and pings in between.
    for http2 in [true, false] {
        let mut served = serve(1 << 20, http2);
        let (begin, more): (&[u8], &[u8]) = if http2 {
            let head =
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\0\0\0\0\x01\x82";
            (head, b"\0\0\x01\x09\0\0\0\0\x01\x86")
        } else {
            (b"GET / HTTP/1.1\r\n", b"X-More: x\r\n")
        };
        served.client.write_all(begin).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(150), async {
            loop {
                seconds(20).await;
                if served.client.write_all(more).await.is_err() {
                    break;
                }
            }
        });
        ended.await.expect("it is not served for ever");
        assert!(served.ended.await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_have_an_end_of_its_time() {
    let at = Instant::now() + Duration::from_secs(60);
    let cut = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&cut);
    let until = Until {
        at,
        cut: Arc::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        }),
    };
    let (mut sender, served) = serve_until(1 << 20, true, Some(until))
        .client2(100_000)
        .await;
    let whole = get(&mut sender, "/large").await.collect().await.unwrap();
    assert_eq!(whole.to_bytes().len(), 10 << 20, "it is there in time");
    let mut body = get(&mut sender, "/endless").await;
    let (taken, end) = take_slowly(&mut body).await;
    assert!(end.is_err() && Instant::now() >= at);
    assert!(taken >= 11 * PIECE, "{taken}");
    assert_eq!(cut.load(Ordering::Relaxed), 1);
    assert_eq!(served.stalled.get(), 0);
}

/// Takes a piece every five seconds; how much it was, and how it ended.
async fn take_slowly(body: &mut Incoming) -> (usize, Result<usize, hyper::Error>) {
    let mut taken = 0;
    loop {
        seconds(5).await;
        let wanted = taken + PIECE;
        while taken < wanted {
            match piece(body).await.unwrap() {
                Ok(size) => taken += size,
                broken => return (taken, broken),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_patient_waits_and_keeps_its_connection() {
    let (mut sender, served) = serve(1 << 20, true).client2(100_000).await;
    let mut log = get(&mut sender, "/log").await;
    seconds(3600).await;
    assert_eq!(served.stalled.get(), 0);
    assert!(served.made() < 10, "{} pieces are held", served.made());
    for _ in 0..20 {
        assert!(piece(&mut log).await.is_some_and(|piece| piece.is_ok()));
    }
    // The same where the socket takes nothing.
    let mut served = serve(200_000, false);
    let asked = b"GET /log HTTP/1.1\r\nHost: h\r\n\r\n";
    served.client.write_all(asked).await.unwrap();
    seconds(3600).await;
    assert!(served.ended.try_recv().is_err(), "it goes on");
    let mut seen = vec![0; 1 << 20];
    served.client.read_exact(&mut seen).await.unwrap();
    assert_eq!(served.stalled.get(), 0);
}
