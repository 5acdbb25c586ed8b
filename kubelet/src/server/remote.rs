//! Exec and attach: a command's streams over whichever wire the client speaks.
//!
//! Sources: `k8s.io/cri-streaming/pkg/streaming/remotecommand`, and for `v5.channel.k8s.io`
//! `k8s.io/apiserver/pkg/util/proxy`. A client that goes away ends its streams and nothing else.

mod session;
mod status;

use std::future::Future;
use std::time::Duration;

use component::serving::{Request, Response, text};
use component::streaming::remote::{
    ERROR, RESIZE, STDERR, STDIN, STDOUT, V1, V2, V3, V4, V5, channels,
};
use component::streaming::websocket::{self, Protocol, Side};
use component::streaming::{Driver, Options, Stream, Streams, drive, spdy, upgrade};
use component::{Supervisor, Task};
use http::StatusCode;

use super::request::Query;
pub(super) use component::streaming::remote::STREAM_TYPE;
pub(super) use session::{attach, exec};
use status::Format;

/// How long a client may take to create its streams.
pub(super) const CREATION_LIMIT: Duration = Duration::from_secs(30);
/// In the order of upstream's preference.
const SPDY: &[&str] = &[V4, V3, V2, V1];
const WEBSOCKET: &[&str] = &[V1, "base64.channel.k8s.io", V4, "v4.base64.channel.k8s.io"];

/// Which streams a client wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

impl Wanted {
    pub(super) fn of(query: &Query) -> Result<Self, &'static str> {
        let tty = query.is_one("tty");
        let wanted = Self {
            stdin: query.is_one("input"),
            stdout: query.is_one("output"),
            stderr: query.is_one("error") && !tty,
            tty,
        };
        if wanted.stdin || wanted.stdout || wanted.stderr {
            Ok(wanted)
        } else {
            Err("you must specify at least 1 of stdin, stdout, stderr")
        }
    }
}

/// How streams may be asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ways {
    pub(super) idle: Duration,
    /// Whether WebSocket is spoken as kubectl speaks it (`ExtendWebSocketsToKubelet`): the fifth protocol, and SPDY
    /// tunnelled. Those of before are always there.
    pub(super) new_websockets: bool,
}

/// What was agreed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Agreed {
    format: Format,
    /// How many streams the client will create; `None` if they are there.
    expected: Option<usize>,
}

/// The streams of a command.
pub(super) struct Pipes {
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    error: Option<Stream>,
    resize: Option<Stream>,
    format: Format,
}

/// Switches to streams and hands them to `work`, in a task of its own.
pub(super) fn serve<F>(
    mut request: Request,
    wanted: Wanted,
    ways: Ways,
    tasks: &Supervisor,
    work: impl FnOnce(Pipes) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = ()> + Send,
{
    let options = Options { idle: ways.idle };
    let upgraded = hyper::upgrade::on(&mut request);
    let (method, headers) = (request.method(), request.headers());
    if !upgrade::is_asked(headers) {
        let reason = "Upgrade request required\n";
        return text(StatusCode::INTERNAL_SERVER_ERROR, reason);
    }
    if upgrade::is_websocket(headers) {
        let offered = upgrade::subprotocols(headers);
        let five = ways.new_websockets && offered.contains(&V5);
        let supported = if five { &[V5][..] } else { WEBSOCKET };
        let (protocol, answer) = match upgrade::websocket(method, headers, supported, !five) {
            Ok(agreed) => agreed,
            Err(refusal) => return *refusal,
        };
        let name = protocol.unwrap_or_default();
        let agreed = Agreed {
            format: Format::of(name),
            expected: None,
        };
        let protocol = Protocol::named(name);
        let channels = channels(wanted.stdin, wanted.stdout, wanted.stderr);
        let connect = move |io| websocket::channels(io, Side::Server, options, protocol, channels);
        start(tasks, upgraded, connect, agreed, work);
        return answer;
    }
    let (protocol, answer) = match upgrade::spdy(headers, SPDY) {
        Ok(agreed) => agreed,
        Err(refusal) => return *refusal,
    };
    let resizes = wanted.tty && matches!(protocol, V4 | V3);
    let streams = [true, wanted.stdin, wanted.stdout, wanted.stderr, resizes];
    let agreed = Agreed {
        format: Format::of(protocol),
        expected: Some(streams.iter().filter(|wanted| **wanted).count()),
    };
    start(
        tasks,
        upgraded,
        move |io| spdy::server(io, options),
        agreed,
        work,
    );
    answer
}

fn start<F>(
    tasks: &Supervisor,
    upgraded: hyper::upgrade::OnUpgrade,
    connect: impl FnOnce(upgrade::Io) -> (Streams, Driver) + Send + 'static,
    agreed: Agreed,
    work: impl FnOnce(Pipes) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send,
{
    tasks.spawn(Task::Worker, "remote-command", async move {
        let io = match upgraded.await {
            Ok(io) => hyper_util::rt::TokioIo::new(io),
            Err(error) => {
                tracing::debug!(error = %error, "The connection was not upgraded");
                return;
            }
        };
        let (streams, driver) = connect(io);
        let work = async move {
            match tokio::time::timeout(CREATION_LIMIT, collect(streams, agreed)).await {
                Ok(Some(pipes)) => work(pipes).await,
                Ok(None) => {}
                Err(_) => tracing::info!("Timed out waiting for the client to create streams"),
            }
        };
        drive(driver, work).await;
    });
}

/// Waits for the streams; none if the client goes away before.
async fn collect(mut streams: Streams, agreed: Agreed) -> Option<Pipes> {
    let mut pipes = Pipes {
        stdin: None,
        stdout: None,
        stderr: None,
        error: None,
        resize: None,
        format: agreed.format,
    };
    let mut received = 0;
    while agreed.expected.is_none_or(|expected| received < expected) {
        let Some(stream) = streams.accept().await else {
            return agreed.expected.is_none().then_some(pipes);
        };
        let place = match stream.header(STREAM_TYPE.as_str()) {
            STDIN => &mut pipes.stdin,
            STDOUT => &mut pipes.stdout,
            STDERR => &mut pipes.stderr,
            ERROR => &mut pipes.error,
            RESIZE => &mut pipes.resize,
            other => {
                tracing::debug!(kind = other, "Unexpected stream type");
                continue;
            }
        };
        *place = Some(stream);
        received += 1;
    }
    Some(pipes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_no_stream_for_errors() {
        let wanted = Wanted::of(&Query::parse("input=1&output=1&error=1&tty=1")).unwrap();
        assert!(wanted.stdin && wanted.stdout && wanted.tty && !wanted.stderr);
        assert!(Wanted::of(&Query::parse("error=1&tty=1")).is_err());
        assert!(Wanted::of(&Query::parse("output=true")).is_err());
    }
}
