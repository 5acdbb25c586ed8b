//! What is written at one moment leaves as one.
//!
//! HTTP/2 writes every frame for itself: 16 KiB of a list, the few hundred bytes of a watch event. Each would be a record
//! (or two) of TLS and a call of the kernel. Here frames gather until the writer has no more of them and flushes, or until
//! they fill what one call can take.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// As much as rustls takes in one call (its `DEFAULT_BUFFER_LIMIT`), which is also the largest segment that Linux hands
/// from one socket to another.
const ROOM: usize = 64 * 1024;

/// A connection whose writes wait for a flush.
pub(super) struct Coalesced<I> {
    io: I,
    /// What was taken and not passed on; its memory goes with the last byte, since most connections are quiet.
    held: Vec<u8>,
    /// How much of `held` has been passed on.
    passed: usize,
}

impl<I: AsyncWrite + Unpin> Coalesced<I> {
    pub(super) fn new(io: I) -> Self {
        Self {
            io,
            held: Vec::new(),
            passed: 0,
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

impl<I: AsyncWrite + Unpin> AsyncWrite for Coalesced<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
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
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pass(cx))?;
        self.held = Vec::new();
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pass(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Coalesced<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, into)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn small_writes_leave_with_the_flush() {
        let (io, mut peer) = tokio::io::duplex(1 << 20);
        let mut io = Coalesced::new(io);
        io.write_all(b"one ").await.unwrap();
        io.write_all(b"two").await.unwrap();
        let mut seen = [0; 16];
        let early = futures::poll!(Box::pin(peer.read(&mut seen)));
        assert!(early.is_pending(), "nothing leaves before the flush");
        io.flush().await.unwrap();
        let read = peer.read(&mut seen).await.unwrap();
        assert_eq!(&seen[..read], b"one two");
        assert_eq!(io.held.capacity(), 0, "a quiet connection holds nothing");
    }

    #[tokio::test]
    async fn what_is_more_than_the_room_arrives_in_order_through_a_narrow_pipe() {
        let (io, mut peer) = tokio::io::duplex(1000);
        let sent: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
        let all = sent.clone();
        let writer = tokio::spawn(async move {
            let mut io = Coalesced::new(io);
            for part in all.chunks(7000) {
                let mut parts = [
                    IoSlice::new(&part[..part.len() / 3]),
                    IoSlice::new(&part[part.len() / 3..]),
                ];
                let mut parts = &mut parts[..];
                while !parts.is_empty() {
                    let written = io.write_vectored(parts).await.unwrap();
                    assert!(io.held.len() <= ROOM, "what is held is bounded");
                    IoSlice::advance_slices(&mut parts, written);
                }
            }
            io.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        peer.read_to_end(&mut got).await.unwrap();
        writer.await.unwrap();
        assert_eq!(got, sent);
    }
}
