//! What users of a connection hold: its streams, each with a side to read and a side to write.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::PollSender;

use super::CHUNK;
use super::hub::Hub;

/// The streams of a connection. Dropping it and all its streams ends the connection.
pub struct Streams {
    pub(super) incoming: mpsc::Receiver<Stream>,
    pub(super) out: mpsc::Sender<Out>,
}

/// A stream, with what its opener said about it.
pub struct Stream {
    pub id: u32,
    pub headers: HeaderMap,
    pub reader: Reader,
    pub writer: Writer,
}

/// What handles ask of the wire.
pub(super) enum Out {
    Open {
        headers: HeaderMap,
        out: mpsc::Sender<Out>,
        ready: oneshot::Sender<Stream>,
    },
    Data(u32, Bytes),
    Finish(u32),
}

/// Bytes that wait to be read, and their share of the connection's budget.
pub(super) struct Chunk {
    pub(super) bytes: Bytes,
    pub(super) _share: OwnedSemaphorePermit,
}

/// The receiving side. It ends when the peer has finished or reset the stream, or is gone.
pub struct Reader {
    pub(super) chunks: mpsc::Receiver<Chunk>,
    pub(super) begun: Option<Chunk>,
}

/// The sending side. Shutting it down finishes it; dropping it before resets the stream.
pub struct Writer {
    pub(super) id: u32,
    pub(super) out: PollSender<Out>,
    pub(super) hub: Arc<Hub>,
    /// The peer does not want more.
    pub(super) gone: Arc<AtomicBool>,
    pub(super) finished: bool,
}

impl Streams {
    /// The next stream that the peer opens; none when it will not open any more.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.incoming.recv().await
    }

    /// Opens a stream, and waits until the peer has accepted it.
    ///
    /// # Errors
    /// If the peer refuses, or is gone.
    pub async fn open(&self, headers: HeaderMap) -> io::Result<Stream> {
        let (ready, opened) = oneshot::channel();
        let ask = Out::Open {
            headers,
            out: self.out.clone(),
            ready,
        };
        self.out.send(ask).await.map_err(|_| gone())?;
        opened
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::ConnectionRefused, "stream refused"))
    }
}

impl Stream {
    /// A header as text; empty if it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

fn gone() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if let Some(chunk) = &mut self.begun {
                let length = chunk.bytes.len().min(into.remaining());
                into.put_slice(&chunk.bytes[..length]);
                chunk.bytes.advance(length);
                if chunk.bytes.is_empty() {
                    self.begun = None;
                }
                return Poll::Ready(Ok(()));
            }
            match ready!(self.chunks.poll_recv(cx)) {
                Some(chunk) if chunk.bytes.is_empty() => {}
                Some(chunk) => self.begun = Some(chunk),
                None => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if self.finished || self.gone.load(Ordering::Acquire) {
            return Poll::Ready(Err(gone()));
        }
        ready!(self.out.poll_reserve(cx)).map_err(|_| gone())?;
        let part = &bytes[..bytes.len().min(CHUNK)];
        let data = Out::Data(self.id, Bytes::copy_from_slice(part));
        self.out.send_item(data).map_err(|_| gone())?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.finished && !self.gone.load(Ordering::Acquire) {
            ready!(self.out.poll_reserve(cx)).map_err(|_| gone())?;
            let finish = Out::Finish(self.id);
            self.out.send_item(finish).map_err(|_| gone())?;
        }
        self.finished = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            self.hub.abandon(self.id);
        }
    }
}
