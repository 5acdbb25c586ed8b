//! What is written at one moment leaves as one.
//!
//! HTTP/2 writes and flushes every frame for itself: 16 KiB of a list, the few hundred bytes of a watch event. Each would be a
//! record (or two) of TLS and a call of the kernel, for each of the many watches that one event wakes. Here frames gather while
//! the connection's task and those that are ready beside it have their turn, or until they fill what one call can take. Full
//! records are sealed at once, from where their bytes lie; only what fills none yet is copied and waits.

use std::io::{self, IoSlice, Write};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::stall::Watched;

/// The plain bytes of a full record (RFC 8446, section 5.1).
const RECORD: usize = 16 * 1024;
/// What sealing adds to a record at most.
const OVERHEAD: usize = 32;
/// What is kept for an answer first: most are one object.
const SMALL: usize = 2 * 1024;
/// What leaves in one call: near the largest segment that Linux hands from one socket to another.
const ROOM: usize = 4 * (RECORD + OVERHEAD);

/// A connection below HTTP.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// What seals records, where HTTP/2 is spoken over TLS.
    fn sealing(&mut self) -> Option<&mut ServerConnection>;
}

impl Transport for TlsStream<Watched<TcpStream>> {
    fn sealing(&mut self) -> Option<&mut ServerConnection> {
        let session = self.get_mut().1;
        (session.alpn_protocol() == Some(b"h2")).then_some(session)
    }
}

impl Transport for Watched<TcpStream> {
    fn sealing(&mut self) -> Option<&mut ServerConnection> {
        None
    }
}

/// A connection that passes on what is written at its task's next turn.
///
/// A flush is only noted: the task is woken, and when it comes back and reads, what was gathered leaves. That suits HTTP/2,
/// whose connection is one task that reads whenever it is woken. Others are passed through as they are.
pub(super) struct Gather<I> {
    io: I,
    gathers: bool,
    /// What was taken and fills no record; its memory goes with the last byte, since most connections are quiet.
    held: Vec<u8>,
    /// Bytes of the records that were sealed and not passed on.
    sealed: usize,
    /// The next turn passes on what was taken.
    due: bool,
}

impl<I: Transport> Gather<I> {
    pub(super) fn new(mut io: I) -> Self {
        let session = io.sealing();
        let gathers = session.is_some();
        if let Some(session) = session {
            // It is kept here, in whole records.
            session.set_buffer_limit(None);
        }
        Self {
            io,
            gathers,
            held: Vec::new(),
            sealed: 0,
            due: false,
        }
    }

    /// Makes records of what is held and the first `len` bytes of `parts`.
    fn seal(&mut self, parts: &[IoSlice<'_>], mut len: usize) -> io::Result<()> {
        let Some(session) = self.io.sealing() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let held = std::mem::take(&mut self.held);
        let mut all = Vec::with_capacity(parts.len() + 1);
        all.push(IoSlice::new(&held));
        for part in parts {
            let taken = part.len().min(len);
            len -= taken;
            all.push(IoSlice::new(&part[..taken]));
        }
        let whole: usize = all.iter().map(|part| part.len()).sum();
        let taken = session.writer().write_vectored(&all)?;
        // Without a limit rustls takes all, unless the connection is over.
        if taken != whole {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.sealed += whole + whole.div_ceil(RECORD) * OVERHEAD;
        Ok(())
    }

    /// Passes on all that was taken.
    fn poll_pass(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.sealed + RECORD + OVERHEAD > ROOM {
            ready!(self.poll_sealed(cx))?;
        }
        if !self.held.is_empty() {
            self.seal(&[], 0)?;
        }
        self.poll_sealed(cx)
    }

    /// Passes on what was sealed.
    fn poll_sealed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.sealed = 0;
        Poll::Ready(Ok(()))
    }
}

impl<I: Transport> AsyncWrite for Gather<I> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.gathers {
            return Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        }
        if self.sealed + RECORD + OVERHEAD > ROOM {
            ready!(self.poll_sealed(cx))?;
        }
        let held = self.held.len();
        let offered: usize = parts.iter().map(|part| part.len()).sum();
        let room = (ROOM - self.sealed) / (RECORD + OVERHEAD);
        let full = ((held + offered) / RECORD).min(room) * RECORD;
        let mut taken = 0;
        if full > 0 {
            taken = full - held;
            self.seal(parts, taken)?;
        }
        if offered - taken < RECORD {
            let held = self.held.len();
            let needed = held + offered - taken;
            if needed > self.held.capacity() {
                // One step for most answers, two for what fills a record: growing is copying.
                let room = if needed > SMALL { RECORD } else { SMALL };
                self.held.reserve_exact(room - held);
            }
            let mut skipped = taken;
            for part in parts {
                let rest = &part[skipped.min(part.len())..];
                skipped -= part.len() - rest.len();
                self.held.extend_from_slice(rest);
            }
            taken = offered;
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        self.gathers || self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.gathers {
            return Pin::new(&mut self.io).poll_flush(cx);
        }
        if !self.due && (self.sealed > 0 || !self.held.is_empty()) {
            self.due = true;
            // A task that wakes itself is work to tokio that another thread might take off its hands, and wakes that thread. One
            // that yields comes back after the others that are ready here, and after what has come in meanwhile.
            let _ = pin!(tokio::task::yield_now()).poll(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gathers {
            ready!(self.poll_pass(cx))?;
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<I: Transport> AsyncRead for Gather<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // If not all can go now, the task is woken when more can.
        if self.due && self.poll_pass(cx)?.is_ready() {
            self.due = false;
        }
        Pin::new(&mut self.io).poll_read(cx, into)
    }
}

#[cfg(test)]
mod tests;
