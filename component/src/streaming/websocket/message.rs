//! Reading messages piece by piece, and writing them whole. Control frames are dealt with here.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rand::Rng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::sync::mpsc;

use super::frame::{self, Head, Opcode};
use super::{NORMAL, Side};
use crate::streaming::hub::Hub;
use crate::streaming::{CHUNK, Error};

/// What comes next.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Piece {
    Begin,
    Bytes(BytesMut),
    End,
    /// The peer closes, or is gone.
    Closed,
}

pub(super) struct Messages<R> {
    io: BufReader<R>,
    side: Side,
    hub: Arc<Hub>,
    pongs: mpsc::Sender<Bytes>,
    /// Of the frame that is being read.
    left: u64,
    key: Option<[u8; 4]>,
    offset: usize,
    last: bool,
    in_message: bool,
}

impl<R: AsyncRead + Unpin> Messages<R> {
    pub(super) fn new(io: R, side: Side, hub: Arc<Hub>, pongs: mpsc::Sender<Bytes>) -> Self {
        Self {
            io: BufReader::with_capacity(CHUNK, io),
            side,
            hub,
            pongs,
            left: 0,
            key: None,
            offset: 0,
            last: true,
            in_message: false,
        }
    }

    pub(super) async fn next(&mut self) -> Result<Piece, Error> {
        loop {
            if self.left > 0 {
                return self.piece().await.map(Piece::Bytes);
            }
            if self.in_message && self.last {
                self.in_message = false;
                return Ok(Piece::End);
            }
            let Some(head) = self.head().await? else {
                return Ok(Piece::Closed);
            };
            self.hub.touch();
            match (head.opcode, self.in_message) {
                (Opcode::Close, _) => return Ok(Piece::Closed),
                (Opcode::Ping | Opcode::Pong, _) => self.control(head.opcode).await?,
                (Opcode::Continuation, true) => {}
                (Opcode::Text | Opcode::Binary, false) => {
                    self.in_message = true;
                    return Ok(Piece::Begin);
                }
                _ => return Err(Error::Protocol("frame out of order")),
            }
        }
    }

    /// The head of the next frame; none if the peer is gone.
    async fn head(&mut self) -> Result<Option<Head>, Error> {
        let mut bytes = [0; 2];
        match self.io.read_exact(&mut bytes).await {
            Ok(_) => {}
            Err(e) if is_end(&e) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
        let head = Head::parse(bytes)?;
        if head.masked != (self.side == Side::Server) {
            return Err(Error::Protocol("clients mask, servers do not"));
        }
        let mut extended = [0; 8];
        let extended = &mut extended[..head.extended()];
        self.io.read_exact(extended).await?;
        self.left = head.length(extended)?;
        self.key = None;
        if head.masked {
            let mut key = [0; 4];
            self.io.read_exact(&mut key).await?;
            self.key = Some(key);
        }
        self.offset = 0;
        if !head.opcode.is_control() {
            self.last = head.last;
        }
        Ok(Some(head))
    }

    async fn piece(&mut self) -> Result<BytesMut, Error> {
        let length = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
        let mut bytes = BytesMut::zeroed(length);
        self.io.read_exact(&mut bytes).await?;
        self.left -= length as u64;
        if let Some(key) = self.key {
            self.offset = frame::mask(&mut bytes, key, self.offset);
        }
        self.hub.touch();
        Ok(bytes)
    }

    async fn control(&mut self, opcode: Opcode) -> Result<(), Error> {
        let payload = if self.left > 0 {
            self.piece().await?
        } else {
            BytesMut::new()
        };
        if opcode == Opcode::Ping {
            self.pongs
                .try_send(payload.freeze())
                .map_err(|_| Error::Protocol("too many pings"))?;
        }
        Ok(())
    }
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

/// The writing half.
pub(super) struct Sender<W> {
    io: BufWriter<W>,
    side: Side,
}

impl<W: AsyncWrite + Unpin> Sender<W> {
    pub(super) fn new(io: W, side: Side) -> Self {
        Self {
            io: BufWriter::with_capacity(CHUNK, io),
            side,
        }
    }

    pub(super) async fn send(&mut self, opcode: Opcode, parts: &[&[u8]]) -> Result<(), Error> {
        let key = (self.side == Side::Client).then(|| rand::rng().random());
        let frame = frame::encode(opcode, key, parts);
        Ok(self.io.write_all(&frame).await?)
    }

    pub(super) async fn flush(&mut self) -> Result<(), Error> {
        Ok(self.io.flush().await?)
    }

    pub(super) async fn close(&mut self) -> Result<(), Error> {
        self.send(Opcode::Close, &[&NORMAL.to_be_bytes()]).await?;
        self.flush().await
    }

    pub(super) async fn shutdown(&mut self) -> Result<(), Error> {
        Ok(self.io.shutdown().await?)
    }
}
