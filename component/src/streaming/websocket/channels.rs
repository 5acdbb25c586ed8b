//! Channels: streams that both sides know by number.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::frame::Opcode;
use super::message::{Messages, Piece, Sender};
use super::{ANSWERS, Side};
use crate::streaming::hub::{Directions, Hub, Wire};
use crate::streaming::stream::Out;
use crate::streaming::{Driver, Error, LINGER, Options, Streams};

/// The first byte of a message that ends the sender's side of a channel, in protocols that have it.
const CLOSE: u8 = 255;

/// How a subprotocol writes messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Protocol {
    /// In base64 after a digit, in text frames.
    pub base64: bool,
    /// A channel can be ended in one direction (`v5.channel.k8s.io`).
    pub half_close: bool,
}

impl Protocol {
    /// What the name of a subprotocol says about it.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            base64: name.contains("base64."),
            half_close: name == "v5.channel.k8s.io",
        }
    }
}

/// A channel; its number is its place in the list.
#[derive(Clone, Debug, Default)]
pub struct Channel {
    /// What would be said about it if it were a stream that the peer opens.
    pub headers: HeaderMap,
    pub read: bool,
    pub write: bool,
    /// What is sent before anything else, even if it is empty.
    pub greeting: Option<Vec<u8>>,
}

/// A connection with these channels, all of which are there to be accepted, those apart that go in no
/// direction.
pub fn channels<I>(
    io: I,
    side: Side,
    options: Options,
    protocol: Protocol,
    channels: Vec<Channel>,
) -> (Streams, Driver)
where
    I: AsyncRead + AsyncWrite + Send + 'static,
{
    let (streams, wire) = Hub::open(channels.len());
    let mut greetings = Vec::new();
    // More channels than a byte can name do not exist.
    for (number, channel) in (0..=u8::MAX).zip(channels) {
        if let Some(greeting) = channel.greeting {
            greetings.push((number, greeting));
        }
        if !channel.read && !channel.write {
            continue;
        }
        let may = Directions {
            read: channel.read,
            write: channel.write,
        };
        let stream = wire
            .hub
            .add(u32::from(number), channel.headers, streams.out.clone(), may);
        if let Some(stream) = stream {
            // There is room for all of them.
            let _ = wire.incoming.try_send(stream);
        }
    }
    let driver = Box::pin(run(io, side, options, protocol, wire, greetings));
    (streams, driver)
}

async fn run<I>(
    io: I,
    side: Side,
    options: Options,
    protocol: Protocol,
    wire: Wire,
    greetings: Vec<(u8, Vec<u8>)>,
) -> Result<(), Error>
where
    I: AsyncRead + AsyncWrite + Send + 'static,
{
    let Wire {
        hub, out, incoming, ..
    } = wire;
    drop(incoming);
    let (read, write) = tokio::io::split(io);
    let (pongs, to_pong) = mpsc::channel(ANSWERS);
    let messages = Messages::new(read, side, Arc::clone(&hub), pongs);
    let writing = Writing {
        sender: Sender::new(write, side),
        side,
        protocol,
        hub: Arc::clone(&hub),
    };
    let closed = CancellationToken::new();
    let mut reading = Box::pin(read_all(messages, protocol, Arc::clone(&hub)));
    let mut writing = Box::pin(writing.run(greetings, out, to_pong, closed.clone()));
    let result = tokio::select! {
        ended = &mut reading => {
            hub.end();
            // The peer's goodbye is answered.
            closed.cancel();
            let bye = tokio::time::timeout(LINGER, writing).await;
            ended.and(bye.unwrap_or(Ok(())))
        }
        idle = hub.idle(options.idle) => Err(idle),
        written = &mut writing => match written {
            Ok(()) => tokio::time::timeout(LINGER, reading).await.unwrap_or(Ok(())),
            failed => failed,
        },
    };
    hub.end();
    result
}

/// A message that is being read.
struct Begun {
    channel: Option<u8>,
    closes: bool,
    base64: Option<Base64>,
    length: usize,
}

async fn read_all<R: AsyncRead + Unpin>(
    mut messages: Messages<R>,
    protocol: Protocol,
    hub: Arc<Hub>,
) -> Result<(), Error> {
    let mut begun = begin(protocol);
    loop {
        match messages.next().await? {
            Piece::Begin => begun = begin(protocol),
            Piece::Bytes(bytes) => {
                if let Some((channel, bytes)) = begun.take(bytes, protocol) {
                    hub.deliver(u32::from(channel), bytes).await;
                }
            }
            Piece::End if begun.closes => match (begun.length, begun.channel) {
                (2, Some(channel)) => hub.peer_finished(u32::from(channel)),
                _ => return Err(Error::Protocol("bad end of a channel")),
            },
            Piece::End => {}
            Piece::Closed => return Ok(()),
        }
    }
}

fn begin(protocol: Protocol) -> Begun {
    Begun {
        channel: None,
        closes: false,
        base64: protocol.base64.then(Base64::default),
        length: 0,
    }
}

impl Begun {
    /// Takes a piece of the message; what it says to which channel.
    fn take(&mut self, mut bytes: BytesMut, protocol: Protocol) -> Option<(u8, Bytes)> {
        self.length = self.length.saturating_add(bytes.len());
        if self.channel.is_none() && protocol.half_close && bytes.first() == Some(&CLOSE) {
            self.closes = true;
            let _ = bytes.split_to(1);
        }
        if self.channel.is_none() && !bytes.is_empty() {
            let first = bytes.split_to(1)[0];
            self.channel = Some(match self.base64 {
                Some(_) => first.wrapping_sub(b'0'),
                None => first,
            });
        }
        let channel = self.channel.filter(|_| !self.closes)?;
        match &mut self.base64 {
            None => Some((channel, bytes.freeze())),
            Some(base64) => Some((channel, base64.decode(&bytes)?)),
        }
    }
}

/// Base64 that comes in pieces.
#[derive(Default)]
struct Base64 {
    /// Less than four characters.
    rest: Vec<u8>,
    /// What follows an error in a message is dropped.
    broken: bool,
}

impl Base64 {
    fn decode(&mut self, piece: &[u8]) -> Option<Bytes> {
        if self.broken {
            return None;
        }
        let lines = piece.iter().filter(|byte| !matches!(byte, b'\r' | b'\n'));
        self.rest.extend(lines);
        let rest = self.rest.split_off(self.rest.len() / 4 * 4);
        let whole = std::mem::replace(&mut self.rest, rest);
        match BASE64_STANDARD.decode(whole) {
            Ok(bytes) => Some(bytes.into()),
            Err(_) => {
                self.broken = true;
                None
            }
        }
    }
}

struct Writing<W> {
    sender: Sender<W>,
    side: Side,
    protocol: Protocol,
    hub: Arc<Hub>,
}

impl<W: AsyncWrite + Unpin> Writing<W> {
    async fn run(
        mut self,
        greetings: Vec<(u8, Vec<u8>)>,
        mut out: mpsc::Receiver<Out>,
        mut pongs: mpsc::Receiver<Bytes>,
        closed: CancellationToken,
    ) -> Result<(), Error> {
        for (channel, greeting) in greetings {
            self.message(channel, &greeting).await?;
        }
        self.sender.flush().await?;
        let hub = Arc::clone(&self.hub);
        loop {
            tokio::select! {
                () = closed.cancelled() => break,
                Some(pong) = pongs.recv() => self.sender.send(Opcode::Pong, &[&pong]).await?,
                ids = hub.abandoned() => ids.into_iter().for_each(|id| hub.finished(id)),
                ask = out.recv() => match ask {
                    Some(Out::Data(id, bytes)) => self.message(number(id)?, &bytes).await?,
                    Some(Out::Finish(id)) => self.finish(number(id)?).await?,
                    // Channels cannot be opened: `ready` says so by being dropped.
                    Some(Out::Open { .. }) => {}
                    None => break,
                },
            }
            if out.is_empty() && pongs.is_empty() {
                self.sender.flush().await?;
            }
            hub.touch();
        }
        self.sender.close().await?;
        if self.side == Side::Client {
            return Ok(()); // servers close first
        }
        self.sender.shutdown().await
    }

    async fn message(&mut self, channel: u8, bytes: &[u8]) -> Result<(), Error> {
        if self.protocol.base64 {
            let text = BASE64_STANDARD.encode(bytes);
            let digit = [channel.wrapping_add(b'0')];
            return self
                .sender
                .send(Opcode::Text, &[&digit, text.as_bytes()])
                .await;
        }
        self.sender.send(Opcode::Binary, &[&[channel], bytes]).await
    }

    async fn finish(&mut self, channel: u8) -> Result<(), Error> {
        // Only clients say so: upstream's servers never do, and its clients would not understand.
        if self.protocol.half_close && self.side == Side::Client {
            self.sender
                .send(Opcode::Binary, &[&[CLOSE, channel]])
                .await?;
        }
        self.hub.finished(u32::from(channel));
        Ok(())
    }
}

fn number(id: u32) -> Result<u8, Error> {
    u8::try_from(id).map_err(|_| Error::Protocol("no such channel"))
}
