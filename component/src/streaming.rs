//! Many streams over one connection that was upgraded from HTTP/1.1: how exec, attach and port
//! forwarding travel.
//!
//! Owns both wires, SPDY/3.1 ([`spdy`]) and WebSocket with Kubernetes' subprotocols ([`websocket`]), and
//! hides them: who serves or opens streams sees [`Streams`] and [`Stream`] only. [`upgrade`] is the HTTP
//! part, [`remote`] what exec and attach call their streams. A wire does nothing by itself: its
//! [`Driver`] has to run, which [`drive`] does, beside what uses the streams.
//!
//! Invariants, whatever the peer sends: no panic; memory of a connection is bounded ([`MAX_STREAMS`],
//! [`MAX_BUFFERED`], the limits of each wire); a stream that nobody reads stops the reading of its
//! connection, never more. When all handles are dropped, what was written is sent before the end is.

mod hub;
pub mod remote;
pub mod spdy;
mod stream;
pub mod upgrade;
pub mod websocket;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use futures::future::BoxFuture;

pub use stream::{Reader, Stream, Streams, Writer};

/// Streams that a connection may have at once; more are refused. A forwarded connection takes two.
pub const MAX_STREAMS: usize = 2048;
/// Bytes that were received on a connection and not read from its streams yet.
pub const MAX_BUFFERED: usize = 4 << 20;
/// The most that is read or written at once.
pub(crate) const CHUNK: usize = 16 << 10;
/// How long one side of a connection goes on after the other has ended.
pub const LINGER: Duration = Duration::from_secs(30);

/// What moves the bytes of a connection. It ends with the connection.
pub type Driver = BoxFuture<'static, Result<(), Error>>;

/// Why a connection ended.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("protocol: {0}")]
    Protocol(&'static str),
    #[error("connection failed")]
    Io(#[from] io::Error),
    #[error("nothing was sent or received for {0:?}")]
    Idle(Duration),
}

/// How a connection is treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Ends a connection on which nothing happened for so long; zero is never.
    pub idle: Duration,
}

/// Runs a connection and what uses its streams. Each has [`LINGER`] to end once the other has: to send
/// what was written, to work off what was received. None if the work did not end.
pub async fn drive<T>(driver: Driver, work: impl Future<Output = T>) -> Option<T> {
    let (mut driver, mut work) = (driver, pin!(work));
    tokio::select! {
        biased;
        done = &mut work => {
            // How it ended is of no interest to anybody any more.
            let _ = tokio::time::timeout(LINGER, driver).await;
            Some(done)
        }
        ended = &mut driver => {
            if let Err(error) = ended {
                tracing::debug!(error = %crate::supervisor::chain(&error), "Connection of streams ended");
            }
            tokio::time::timeout(LINGER, work).await.ok()
        }
    }
}

#[cfg(test)]
mod tests;
