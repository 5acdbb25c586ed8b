//! Messages from the server alone: logs and watches, as browsers take them.

use std::sync::Arc;
use std::time::Duration;

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
/// peer sends otherwise is dropped. A peer that takes nothing is given up after `patience`, if there is a limit to it.
pub fn one_way<I, S>(io: I, form: Form, pieces: S, patience: Option<Duration>) -> Driver
where
    I: AsyncRead + AsyncWrite + Send + 'static,
    S: Stream<Item = Bytes> + Send + 'static,
{
    Box::pin(run(io, form, pieces, patience))
}

async fn run<I, S>(io: I, form: Form, pieces: S, patience: Option<Duration>) -> Result<(), Error>
where
    I: AsyncRead + AsyncWrite + Send + 'static,
    S: Stream<Item = Bytes> + Send + 'static,
{
    let (read, write) = tokio::io::split(io);
    let (pongs, to_pong) = mpsc::channel(ANSWERS);
    let (_streams, wire) = Hub::open(0);
    let messages = Messages::new(read, Side::Server, Arc::clone(&wire.hub), pongs);
    let sender = Patient {
        sender: Sender::new(write, Side::Server),
        patience,
    };
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
    mut to: Patient<W>,
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
        let (opcode, message) = tokio::select! {
            () = closed.cancelled() => break,
            Some(pong) = pongs.recv() => (Opcode::Pong, pong),
            piece = pieces.next() => match (piece, form) {
                (None, _) => break,
                (Some(piece), Form::Binary) => (Opcode::Binary, piece),
                (Some(piece), Form::Text) => (Opcode::Text, piece),
                (Some(piece), Form::Base64) => {
                    (Opcode::Text, BASE64_STANDARD.encode(&piece).into())
                }
            },
        };
        to.send(opcode, &message).await?;
    }
    to.close().await
}

/// Sends to a peer that may take nothing for so long.
struct Patient<W> {
    sender: Sender<W>,
    patience: Option<Duration>,
}

impl<W: AsyncWrite + Unpin> Patient<W> {
    async fn send(&mut self, opcode: Opcode, message: &[u8]) -> Result<(), Error> {
        let sent = async {
            self.sender.send(opcode, &[message]).await?;
            self.sender.flush().await
        };
        taken(self.patience, sent).await
    }

    async fn close(mut self) -> Result<(), Error> {
        let closed = async {
            self.sender.close().await?;
            self.sender.shutdown().await
        };
        taken(self.patience, closed).await
    }
}

async fn taken(
    patience: Option<Duration>,
    sent: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    let Some(patience) = patience else {
        return sent.await;
    };
    let late = |_| Err(Error::Idle(patience));
    tokio::time::timeout(patience, sent)
        .await
        .unwrap_or_else(late)
}
