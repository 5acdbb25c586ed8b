//! What is written at one moment leaves as one.
//!
//! HTTP/2 writes and flushes every frame for itself: 16 KiB of a list, the few hundred bytes of a watch event. Each would be a
//! record (or two) of TLS and a call of the kernel, for each of the many watches that one event wakes. Here frames gather while
//! the connection's task and those that are ready beside it have their turn, or until they fill what one call can take.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// As much as rustls takes in one call (its `DEFAULT_BUFFER_LIMIT`), which is also the largest segment that Linux hands
/// from one socket to another.
const ROOM: usize = 64 * 1024;

/// A connection that passes on what is written at its task's next turn.
///
/// A flush is only noted: the task is woken, and when it comes back and reads, what was gathered leaves. That suits HTTP/2,
/// whose connection is one task that reads whenever it is woken. Others are passed through as they are.
pub(super) struct Gather<I> {
    io: I,
    gathers: bool,
    /// What was taken and not passed on; its memory goes with the last byte, since most connections are quiet.
    held: Vec<u8>,
    /// How much of `held` has been passed on.
    passed: usize,
    /// The next turn passes on what is held.
    due: bool,
}

impl<I: AsyncWrite + Unpin> Gather<I> {
    pub(super) fn new(io: I, gathers: bool) -> Self {
        Self {
            io,
            gathers,
            held: Vec::new(),
            passed: 0,
            due: false,
        }
    }

    /// Passes on all that is held.
    fn poll_pass(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.passed < self.held.len() {
            let rest = &self.held[self.passed..];
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.passed += written,
            }
        }
        self.held.clear();
        self.passed = 0;
        Poll::Ready(Ok(()))
    }

    /// Waits until there is room for a byte at least, and says for how many.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.held.len() >= ROOM {
            ready!(self.poll_pass(cx))?;
        }
        Poll::Ready(Ok(ROOM - self.held.len()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Gather<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.gathers {
            return Pin::new(&mut self.io).poll_write(cx, bytes);
        }
        let room = ready!(self.poll_room(cx))?;
        let taken = room.min(bytes.len());
        self.held.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.gathers {
            return Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        }
        let room = ready!(self.poll_room(cx))?;
        let mut taken = 0;
        for part in parts {
            let of_part = part.len().min(room - taken);
            self.held.extend_from_slice(&part[..of_part]);
            taken += of_part;
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
        if !self.held.is_empty() && !self.due {
            self.due = true;
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pass(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gather<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // If not all can go now, the task is woken when more can.
        if self.due && self.poll_pass(cx)?.is_ready() {
            self.due = false;
            self.held = Vec::new();
            let _ = Pin::new(&mut self.io).poll_flush(cx)?;
        }
        Pin::new(&mut self.io).poll_read(cx, into)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A turn of a connection's task that has nothing to read.
    fn turn<I: AsyncRead + AsyncWrite + Unpin>(io: &mut Gather<I>) {
        let mut byte = [0];
        assert!(io.read(&mut byte).now_or_never().is_none());
    }

    #[tokio::test]
    async fn what_is_written_in_one_turn_leaves_at_the_next() {
        let (io, mut peer) = tokio::io::duplex(1 << 20);
        let mut io = Gather::new(io, true);
        let mut seen = [0; 16];
        for part in ["one ", "two"] {
            io.write_all(part.as_bytes()).await.unwrap();
            io.flush().await.unwrap();
        }
        assert!(peer.read(&mut seen).now_or_never().is_none());
        turn(&mut io);
        let read = peer.read(&mut seen).await.unwrap();
        assert_eq!(&seen[..read], b"one two");
        assert_eq!(io.held.capacity(), 0, "a quiet connection holds nothing");
    }

    #[tokio::test]
    async fn a_flush_brings_the_task_back() {
        let (io, mut peer) = tokio::io::duplex(1 << 20);
        let mut io = Gather::new(io, true);
        let task = async move {
            let mut byte = [0];
            io.write_all(b"answer").await.unwrap();
            poll_fn(|cx| {
                let read = Pin::new(&mut io).poll_read(cx, &mut ReadBuf::new(&mut byte));
                ready!(Pin::new(&mut io).poll_flush(cx)).unwrap();
                read
            })
            .await
        };
        let client = async move {
            let mut seen = [0; 6];
            peer.read_exact(&mut seen).await.unwrap();
            seen
        };
        let (read, seen) = tokio::join!(task, client);
        read.unwrap();
        assert_eq!(&seen, b"answer");
    }

    #[tokio::test]
    async fn what_is_more_than_the_room_arrives_in_order_through_a_narrow_pipe() {
        let (io, mut peer) = tokio::io::duplex(1000);
        let sent: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
        let all = sent.clone();
        let writer = async move {
            let mut io = Gather::new(io, true);
            for part in all.chunks(7000) {
                let (head, body) = part.split_at(part.len() / 3);
                let mut parts = [IoSlice::new(head), IoSlice::new(body)];
                let mut parts = &mut parts[..];
                while !parts.is_empty() {
                    let written = io.write_vectored(parts).await.unwrap();
                    assert!(io.held.len() <= ROOM, "what is held is bounded");
                    IoSlice::advance_slices(&mut parts, written);
                }
            }
            io.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let ((), read) = tokio::join!(writer, peer.read_to_end(&mut got));
        read.unwrap();
        assert_eq!(got, sent);
    }

    #[tokio::test]
    async fn a_flush_that_meets_a_full_pipe_goes_on_when_there_is_room() {
        let (io, mut peer) = tokio::io::duplex(10);
        let mut io = Gather::new(io, true);
        io.write_all(b"more than ten bytes").await.unwrap();
        io.flush().await.unwrap();
        turn(&mut io);
        let mut seen = Vec::new();
        while seen.len() < 19 {
            let mut part = [0; 10];
            let read = peer.read(&mut part).await.unwrap();
            seen.extend_from_slice(&part[..read]);
            turn(&mut io);
        }
        assert_eq!(seen, b"more than ten bytes");
    }

    #[tokio::test]
    async fn others_are_passed_through() {
        let (io, mut peer) = tokio::io::duplex(100);
        let mut io = Gather::new(io, false);
        io.write_all(b"at once").await.unwrap();
        let mut seen = [0; 7];
        peer.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"at once");
    }
}
