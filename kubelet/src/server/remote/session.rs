//! Moves the bytes between a command and its client.

use std::time::Duration;

use component::streaming::{Reader, Stream};
use component::supervisor::chain;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::Pipes;
use super::status::Ended;
use crate::runtime::stream::{Input, Output, Terminal, TerminalSize};
use crate::runtime::{Answer, Session};

/// Output after the exit is what the command had written; it is there. Others that it left behind may
/// hold its streams open, and are waited for no longer than this since they last wrote something.
const QUIET: Duration = Duration::from_millis(100);
/// The longest text of one terminal size.
const MAX_SIZE: usize = 1024;

/// Runs a command until it has ended and tells the client how.
pub(in crate::server) async fn exec(
    pipes: Pipes,
    command: Vec<String>,
    session: Answer<'_, Session>,
) {
    let (streams, error, format) = pipes.split();
    let ended = match session.await {
        Ok(session) => match relay(session, streams, Until::Exit).await {
            Some(Ok(0)) | None => Ended::Well,
            Some(Ok(code)) => Ended::Code { code, command },
            Some(Err(error)) => failed("error executing command in container", &error),
        },
        Err(error) => failed("error executing command in container", &error),
    };
    say(error, &format.say(&ended)).await;
}

/// Joins a container until it, or the client, has ended.
pub(in crate::server) async fn attach(pipes: Pipes, session: Answer<'_, Session>) {
    let (streams, error, format) = pipes.split();
    let ended = match session.await {
        Ok(session) => {
            relay(session, streams, Until::Output).await;
            Ended::Well
        }
        Err(error) => failed("error attaching to container", &error),
    };
    say(error, &format.say(&ended)).await;
}

fn failed(doing: &str, error: &crate::runtime::Error) -> Ended {
    Ended::Failed(format!("{doing}: {}", chain(error)))
}

async fn say(error: Option<Stream>, what: &[u8]) {
    if let Some(mut error) = error {
        // The client may be gone.
        let _ = error.writer.write_all(what).await;
        let _ = error.writer.shutdown().await;
    }
}

struct Streams {
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

impl Pipes {
    fn split(self) -> (Streams, Option<Stream>, super::Format) {
        let streams = Streams {
            stdin: self.stdin,
            stdout: self.stdout,
            stderr: self.stderr,
            resize: self.resize,
        };
        (streams, self.error, self.format)
    }
}

/// What ends a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Until {
    /// The exit, and what was written before it.
    Exit,
    /// The end of the output: that of the container, of which there may be more clients.
    Output,
}

/// The exit code, if the session ended with one.
async fn relay(
    session: Session,
    streams: Streams,
    until: Until,
) -> Option<Result<i32, crate::runtime::Error>> {
    let exited = CancellationToken::new();
    let Streams {
        stdin,
        stdout,
        stderr,
        resize,
    } = streams;
    let has_output = stdout.is_some() || stderr.is_some();
    let mut output = Box::pin(async {
        tokio::join!(
            copy_out(session.stdout, stdout, &exited),
            copy_out(session.stderr, stderr, &exited)
        );
    });
    let mut input = Box::pin(copy_in(stdin, session.stdin));
    let mut resizes = Box::pin(follow_sizes(resize, session.terminal));
    let mut exit = session.exit;
    let (mut output_ended, mut input_ended, mut resizes_ended) = (!has_output, false, false);
    let code = loop {
        if until == Until::Output
            && (if has_output {
                output_ended
            } else {
                input_ended
            })
        {
            return None;
        }
        tokio::select! {
            code = &mut exit => break code,
            () = &mut output, if !output_ended => output_ended = true,
            () = &mut input, if !input_ended => input_ended = true,
            () = &mut resizes, if !resizes_ended => resizes_ended = true,
        }
    };
    exited.cancel();
    if !output_ended {
        output.await;
    }
    Some(code)
}

/// Copies output until its end, and finishes the stream.
async fn copy_out(from: Option<Output>, to: Option<Stream>, exited: &CancellationToken) {
    let Some(mut to) = to else { return };
    if let Some(mut from) = from {
        let mut buffer = vec![0; 32 << 10];
        loop {
            let read = tokio::select! {
                biased;
                read = from.read(&mut buffer) => read,
                () = quiet(exited) => break,
            };
            match read {
                Ok(length) if length > 0 => {
                    if to.writer.write_all(&buffer[..length]).await.is_err() {
                        return; // the client is gone
                    }
                }
                _ => break,
            }
        }
    }
    let _ = to.writer.shutdown().await;
}

async fn quiet(exited: &CancellationToken) {
    exited.cancelled().await;
    tokio::time::sleep(QUIET).await;
}

/// Copies input until its end, and closes it.
async fn copy_in(from: Option<Stream>, to: Option<Input>) {
    let (Some(mut from), Some(mut to)) = (from, to) else {
        // What is not wanted is never at its end.
        return std::future::pending().await;
    };
    let _ = tokio::io::copy(&mut from.reader, &mut to).await;
    let _ = to.shutdown().await;
    drop(to);
    // Ours was never used: it is over with the client's.
    let _ = from.writer.shutdown().await;
}

async fn follow_sizes(from: Option<Stream>, terminal: Option<Terminal>) {
    let (Some(mut from), Some(terminal)) = (from, terminal) else {
        return;
    };
    let mut text = Vec::new();
    while read_some(&mut from.reader, &mut text).await {
        let (sizes, used) = sizes(&text);
        for size in sizes {
            if terminal.resize(size).is_err() {
                return;
            }
        }
        text.drain(..used);
        if text.len() > MAX_SIZE {
            return;
        }
    }
}

async fn read_some(from: &mut Reader, to: &mut Vec<u8>) -> bool {
    from.read_buf(to).await.is_ok_and(|length| length > 0)
}

#[derive(Deserialize)]
struct Size {
    #[serde(rename = "Width", alias = "width", default)]
    width: u16,
    #[serde(rename = "Height", alias = "height", default)]
    height: u16,
}

/// The sizes in a text, and how much of it they take.
fn sizes(text: &[u8]) -> (Vec<TerminalSize>, usize) {
    let mut all = serde_json::Deserializer::from_slice(text).into_iter::<Size>();
    let mut sizes = Vec::new();
    let mut used = 0;
    while let Some(Ok(Size { width, height })) = all.next() {
        used = all.byte_offset();
        // A terminal of no size is one that nobody looks at.
        if width > 0 && height > 0 {
            sizes.push(TerminalSize { width, height });
        }
    }
    (sizes, used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_come_one_after_the_other_and_in_pieces() {
        let text = br#"{"Width":80,"Height":24}
{"Width":100,"Height":50}{"Wid"#;
        let (sizes, used) = sizes(text);
        let heights: Vec<_> = sizes.iter().map(|size| size.height).collect();
        assert_eq!(heights, [24, 50]);
        assert_eq!(&text[used..], br#"{"Wid"#);
    }
}
