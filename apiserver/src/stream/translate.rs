//! exec and attach at kubelets that speak SPDY only: the client's WebSocket ends here, and what its channels carry goes
//! through streams of a SPDY connection.
//!
//! The client has its WebSocket before the kubelet is asked, as upstream does it: what goes wrong from then on is told on the
//! error channel. Bytes that one side does not take are not read from the other. What ends, and how:
//!
//! - The client ends its input: so does the kubelet's stream.
//! - The client is gone: the input ends, output is dropped, and the command has [`LINGER`] to end
//!   by itself before the kubelet's connection is closed. Upstream keeps that until the command ends, if it ever does.
//! - The kubelet is gone, or done: the client gets what was sent before, however slow he is, and then how it ended.
//!
//! Upstream: `apiserver/pkg/util/proxy/{streamtranslator,websocket}.go`, `client-go/tools/remotecommand`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use component::streaming::remote::{self, ERROR, RESIZE, STDERR, STDIN, STDOUT, V5};
use component::streaming::websocket::{self, Protocol, Side};
use component::streaming::{
    Driver, LINGER, Options, Reader, Stream, Streams, Writer, drive, spdy, upgrade,
};
use component::{Task, supervisor};
use http::{Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use proto::catalogue::names as n;
use proto::view::Node;
use resources::status::Failure;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, sink};

use self::dial::Ask;
use self::ended::{Ended, Format};
use crate::body::Body;
use crate::chain::Exchange;
use crate::kubelet::Target;
use crate::metrics::Running;
use crate::server::Server;

mod dial;
mod ended;

/// How long a WebSocket is kept on which nothing happens; upstream's.
const IDLE: Duration = Duration::from_secs(4 * 60 * 60);
/// How long a kubelet may take to accept a stream; upstream's.
const CREATION_LIMIT: Duration = Duration::from_secs(30);
/// The longest that a kubelet may say about how a command ended.
const MAX_MESSAGE: u64 = 1 << 20;

/// Which streams a client wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Wanted {
    /// As `PodExecOptions` and `PodAttachOptions` say it.
    pub(super) fn of(options: Node<'_>) -> Self {
        Self {
            stdin: options.bool(n::STDIN),
            stdout: options.bool(n::STDOUT),
            stderr: options.bool(n::STDERR),
            tty: options.bool(n::TTY),
        }
    }
}

/// Agrees with the client, and carries its streams in a task of its own.
pub(super) fn serve(
    x: &mut Exchange,
    target: Target,
    path: &str,
    wanted: Wanted,
    client: OnUpgrade,
) -> Result<Response<Body>, Failure> {
    let ask = Ask::new(target, path)?;
    let answer = match upgrade::websocket(&x.method, &x.headers, &[V5], false) {
        Ok((_, answer)) => answer,
        Err(refused) => {
            x.server.streams.translated(StatusCode::BAD_REQUEST);
            return Ok(*refused);
        }
    };
    let session = Session {
        server: Arc::clone(&x.server),
        ask,
        wanted,
        _until_here: x.counted.take().map(Running::switched),
    };
    let tasks = x.server.kubelets.tasks();
    tasks.spawn(Task::Background, "stream-translator", async move {
        match client.await {
            Ok(io) => {
                let options = Options { idle: IDLE };
                let channels = remote::channels(wanted.stdin, wanted.stdout, wanted.stderr);
                let (streams, driver) = websocket::channels(
                    TokioIo::new(io),
                    Side::Server,
                    options,
                    Protocol::named(V5),
                    channels,
                );
                drive(driver, session.run(streams)).await;
            }
            Err(error) => tracing::debug!(%error, "A WebSocket was not handed over"),
        }
    });
    Ok(answer)
}

struct Session {
    server: Arc<Server>,
    ask: Ask,
    wanted: Wanted,
    _until_here: Option<Running>,
}

impl Session {
    async fn run(self, streams: Streams) {
        let client = Client::of(streams).await;
        let (told, error) = client.split();
        let (io, format) = match self.ask.dial(&self.server.kubelets).await {
            Ok(connected) => connected,
            Err(why) => return tell(&self.server, error, &Ended::Failed(why)).await,
        };
        let (kubelet, driver) = spdy::client(io, Options::default());
        let (server, wanted) = (&self.server, self.wanted);
        beside(driver, async move {
            let ended = match Command::open(&kubelet, wanted, format).await {
                Ok(command) => command.carry(told).await,
                Err(why) => Ended::Failed(why),
            };
            tell(server, error, &ended).await;
        })
        .await;
    }
}

/// Does work on the streams of a kubelet, whose connection may end before: what it has sent is there to be worked off.
async fn beside(mut driver: Driver, work: impl Future<Output = ()>) {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        biased;
        () = &mut work => {
            // The kubelet is told that nothing more comes.
            let _ = tokio::time::timeout(LINGER, driver).await;
        }
        ended = &mut driver => {
            if let Err(error) = ended {
                let error = supervisor::chain(&error);
                tracing::debug!(error, "A kubelet's connection of streams broke");
            }
            work.await;
        }
    }
}

/// Tells the client how it ended. He may be gone.
async fn tell(server: &Server, error: Option<Writer>, ended: &Ended) {
    if let Ended::Failed(why) = ended {
        tracing::debug!(why, "A command's streams were not carried to their end");
    }
    server.streams.translated(ended.code());
    if let Some(mut error) = error {
        let _ = error.write_all(&ended.status()).await;
        let _ = error.shutdown().await;
    }
}

/// The client's channels.
struct Client {
    stdin: Option<Reader>,
    stdout: Option<Writer>,
    stderr: Option<Writer>,
    resize: Option<Reader>,
    error: Option<Writer>,
}

impl Client {
    /// All are there from the beginning.
    async fn of(mut streams: Streams) -> Self {
        let mut client = Self {
            stdin: None,
            stdout: None,
            stderr: None,
            resize: None,
            error: None,
        };
        while let Some(stream) = streams.accept().await {
            match stream.header(remote::STREAM_TYPE.as_str()) {
                STDIN => client.stdin = Some(stream.reader),
                STDOUT => client.stdout = Some(stream.writer),
                STDERR => client.stderr = Some(stream.writer),
                RESIZE => client.resize = Some(stream.reader),
                _ => client.error = Some(stream.writer),
            }
        }
        client
    }

    /// The error channel apart.
    fn split(mut self) -> (Self, Option<Writer>) {
        let error = self.error.take();
        (self, error)
    }
}

/// The streams of a command at a kubelet. They are kept whole: a half that is dropped resets its stream.
struct Command {
    error: Stream,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
    format: Format,
}

impl Command {
    /// Opens what is wanted; a terminal has one output.
    async fn open(kubelet: &Streams, wanted: Wanted, format: Format) -> Result<Self, String> {
        let when = async |wanted: bool, kind| match wanted {
            true => open(kubelet, kind).await.map(Some),
            false => Ok(None),
        };
        Ok(Self {
            error: open(kubelet, ERROR).await?,
            stdin: when(wanted.stdin, STDIN).await?,
            stdout: when(wanted.stdout, STDOUT).await?,
            stderr: when(wanted.stderr && !wanted.tty, STDERR).await?,
            resize: when(wanted.tty && format.resizes(), RESIZE).await?,
            format,
        })
    }

    /// Carries everything until the output and what the kubelet says have ended.
    async fn carry(self, client: Client) -> Ended {
        let input = async {
            tokio::join!(
                feed(client.stdin, self.stdin),
                feed(client.resize, self.resize)
            );
            std::future::pending::<Infallible>().await
        };
        let output = async {
            let (message, (), ()) = tokio::join!(
                whole(self.error.reader),
                pour(self.stdout, client.stdout),
                pour(self.stderr, client.stderr)
            );
            self.format.read(&message)
        };
        tokio::select! {
            ended = output => ended,
            never = input => match never {},
        }
    }
}

async fn open(kubelet: &Streams, kind: &'static str) -> Result<Stream, String> {
    let opened = kubelet.open(remote::headers(kind));
    let opened = tokio::time::timeout(CREATION_LIMIT, opened).await;
    let stream = opened.map_err(|_| format!("stream {kind}: timed out"))?;
    stream.map_err(|error| format!("stream {kind}: {error}"))
}

/// Input from the client until he ends it, or the kubelet wants no more. What comes then is dropped.
async fn feed(from: Option<Reader>, to: Option<Stream>) {
    let (Some(mut from), Some(mut to)) = (from, to) else {
        return;
    };
    let mut nowhere = sink();
    // What fails has ended, and the other side sees it.
    tokio::select! {
        _ = copy(&mut from, &mut to.writer) => {}
        _ = copy(&mut to.reader, &mut nowhere) => {}
    }
    let _ = to.writer.shutdown().await;
}

/// Output to the client. When he is gone it is dropped: a stream that nobody reads would hold up all others.
async fn pour(from: Option<Stream>, to: Option<Writer>) {
    let Some(mut from) = from else { return };
    if let Some(mut to) = to {
        let _ = copy(&mut from.reader, &mut to).await;
        let _ = to.shutdown().await;
    }
    let _ = copy(&mut from.reader, &mut sink()).await;
}

/// All that a stream says, if that is not too long.
async fn whole(mut from: Reader) -> Vec<u8> {
    let mut message = Vec::new();
    let _ = (&mut from)
        .take(MAX_MESSAGE)
        .read_to_end(&mut message)
        .await;
    let _ = copy(&mut from, &mut sink()).await;
    message
}
