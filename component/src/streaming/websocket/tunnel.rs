//! A byte stream in binary messages: SPDY through WebSocket, as kubectl forwards ports.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use super::frame::Opcode;
use super::message::{Messages, Piece, Sender};
use super::{ANSWERS, Side};
use crate::streaming::hub::Hub;
use crate::streaming::{CHUNK, Driver, Error, LINGER};

/// What is on the way between a tunnel and what is in it.
const INSIDE: usize = 4 * CHUNK;

/// The inside of a tunnel, and what moves its bytes.
pub fn tunnel<I>(io: I, side: Side) -> (DuplexStream, Driver)
where
    I: AsyncRead + AsyncWrite + Send + 'static,
{
    let (inside, ours) = tokio::io::duplex(INSIDE);
    (inside, Box::pin(run(io, side, ours)))
}

async fn run<I>(io: I, side: Side, inside: DuplexStream) -> Result<(), Error>
where
    I: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = tokio::io::split(io);
    let (from_inside, to_inside) = tokio::io::split(inside);
    let (pongs, to_pong) = mpsc::channel(ANSWERS);
    let (_streams, wire) = Hub::open(0);
    let messages = Messages::new(read, side, Arc::clone(&wire.hub), pongs);
    let sender = Sender::new(write, side);
    let mut inwards = Box::pin(inwards(messages, to_inside));
    let mut outwards = Box::pin(outwards(sender, from_inside, to_pong));
    tokio::select! {
        ended = &mut inwards => {
            let bye = tokio::time::timeout(LINGER, outwards).await;
            ended.and(bye.unwrap_or(Ok(())))
        }
        ended = &mut outwards => {
            ended?;
            tokio::time::timeout(LINGER, inwards).await.unwrap_or(Ok(()))
        }
    }
}

async fn inwards<R: AsyncRead + Unpin>(
    mut messages: Messages<R>,
    mut inside: impl AsyncWrite + Unpin,
) -> Result<(), Error> {
    let mut open = true;
    loop {
        match messages.next().await? {
            // What is inside may end before the peer does.
            Piece::Bytes(bytes) if open => open = inside.write_all(&bytes).await.is_ok(),
            Piece::Closed => {
                let _ = inside.shutdown().await;
                return Ok(());
            }
            Piece::Begin | Piece::Bytes(_) | Piece::End => {}
        }
    }
}

async fn outwards<W: AsyncWrite + Unpin>(
    mut sender: Sender<W>,
    mut inside: impl AsyncRead + Unpin,
    mut pongs: mpsc::Receiver<bytes::Bytes>,
) -> Result<(), Error> {
    let mut buffer = vec![0; CHUNK];
    loop {
        tokio::select! {
            Some(pong) = pongs.recv() => sender.send(Opcode::Pong, &[&pong]).await?,
            read = inside.read(&mut buffer) => match read? {
                0 => break,
                length => sender.send(Opcode::Binary, &[&buffer[..length]]).await?,
            },
        }
        sender.flush().await?;
    }
    sender.close().await
}
