//! Messages from the server alone: logs and watches, as browsers take them.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::frame::Opcode;
use super::message::{Messages, Piece, Sender};
use super::{ANSWERS, Side};
use crate::streaming::hub::Hub;
use crate::streaming::{Driver, Error, LINGER};

/// How pieces become messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Binary,
    Text,
    /// In text.
    Base64,
}

/// Sends a message for each piece, and says goodbye after the last one or when the peer does. What the
/// peer sends otherwise is dropped.
pub fn one_way<I, S>(io: I, form: Form, pieces: S) -> Driver
where
    I: AsyncRead + AsyncWrite + Send + 'static,
    S: Stream<Item = Bytes> + Send + 'static,
{
    Box::pin(run(io, form, pieces))
}

async fn run<I, S>(io: I, form: Form, pieces: S) -> Result<(), Error>
where
    I: AsyncRead + AsyncWrite + Send + 'static,
    S: Stream<Item = Bytes> + Send + 'static,
{
    let (read, write) = tokio::io::split(io);
    let (pongs, to_pong) = mpsc::channel(ANSWERS);
    let (_streams, wire) = Hub::open(0);
    let messages = Messages::new(read, Side::Server, Arc::clone(&wire.hub), pongs);
    let sender = Sender::new(write, Side::Server);
    let closed = CancellationToken::new();
    let mut inwards = Box::pin(ignore(messages));
    let mut outwards = Box::pin(send(sender, form, pieces, to_pong, closed.clone()));
    tokio::select! {
        ended = &mut inwards => {
            closed.cancel();
            let bye = tokio::time::timeout(LINGER, outwards).await;
            ended.and(bye.unwrap_or(Ok(())))
        }
        ended = &mut outwards => {
            ended?;
            tokio::time::timeout(LINGER, inwards).await.unwrap_or(Ok(()))
        }
    }
}

async fn ignore<R: AsyncRead + Unpin>(mut messages: Messages<R>) -> Result<(), Error> {
    while messages.next().await? != Piece::Closed {}
    Ok(())
}

async fn send<W, S>(
    mut sender: Sender<W>,
    form: Form,
    pieces: S,
    mut pongs: mpsc::Receiver<Bytes>,
    closed: CancellationToken,
) -> Result<(), Error>
where
    W: AsyncWrite + Unpin,
    S: Stream<Item = Bytes>,
{
    let mut pieces = std::pin::pin!(pieces);
    loop {
        tokio::select! {
            () = closed.cancelled() => break,
            Some(pong) = pongs.recv() => sender.send(Opcode::Pong, &[&pong]).await?,
            piece = pieces.next() => match (piece, form) {
                (None, _) => break,
                (Some(piece), Form::Binary) => sender.send(Opcode::Binary, &[&piece]).await?,
                (Some(piece), Form::Text) => sender.send(Opcode::Text, &[&piece]).await?,
                (Some(piece), Form::Base64) => {
                    let text = BASE64_STANDARD.encode(&piece);
                    sender.send(Opcode::Text, &[text.as_bytes()]).await?;
                }
            },
        }
        sender.flush().await?;
    }
    sender.close().await?;
    sender.shutdown().await
}
