//! Streams of exec, attach and port forwarding.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Error;

/// What `exec_sync` keeps of each stream; the rest is read and dropped. CRI's runtimes: 16 MiB.
pub const MAX_EXEC_SYNC_OUTPUT: usize = 16 << 20;

/// What comes out of a process.
pub type Output = Pin<Box<dyn AsyncRead + Send>>;
/// What goes into one. Shutting it down closes the process's standard input.
pub type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// A connection: bytes both ways.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// A command to run in a container.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExecRequest {
    pub command: Vec<String>,
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    /// Never together with `tty`: a terminal has one output.
    pub stderr: bool,
    /// Size of the terminal from its first moment on.
    pub size: Option<TerminalSize>,
}

/// A terminal's size in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// A running exec or attach.
///
/// Streams that were not asked for are `None`; take out those that are to be moved elsewhere. Output
/// ends when nobody holds the other side any more, which may be after the exit. Dropping the streams
/// does not end the command.
pub struct Session {
    pub stdin: Option<Input>,
    pub stdout: Option<Output>,
    pub stderr: Option<Output>,
    pub terminal: Option<Terminal>,
    /// The exit code: of the command for an exec, of the container for an attach.
    pub exit: BoxFuture<'static, Result<i32, Error>>,
}

/// The handle that resizes a session's terminal; cheap to clone.
#[derive(Clone)]
pub struct Terminal {
    resize: Arc<dyn Fn(TerminalSize) -> io::Result<()> + Send + Sync>,
}

impl Terminal {
    /// A terminal that is resized by this function.
    pub fn new(resize: impl Fn(TerminalSize) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self {
            resize: Arc::new(resize),
        }
    }

    /// # Errors
    /// If the terminal is gone.
    pub fn resize(&self, size: TerminalSize) -> io::Result<()> {
        (self.resize)(size)
    }
}

/// What a command wrote and how it ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExecOutput {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit_code: i32,
}
