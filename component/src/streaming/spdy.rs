//! SPDY/3.1, as much of it as Kubernetes speaks: `moby/spdystream` is at the other end.
//!
//! Peers do no flow control: they neither send window updates nor heed them, so that a sender that
//! waited for one would wait for ever. Here it is TCP's: what is not read from a stream stops the
//! reading of its connection once its share of the buffers is full.
//!
//! Whoever dialled pings, as upstream's clients do: what is between keeps a connection that nobody uses, and a peer that is
//! gone without a word is noticed.

mod dictionary;
mod frame;
mod headers;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter, ReadHalf, WriteHalf,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use self::frame::Head;
use super::hub::{Directions, Hub, Wire};
use super::stream::Out;
use super::{CHUNK, Driver, Error, LINGER, Options, Streams};

/// What the `Upgrade` header says.
pub const PROTOCOL: &str = "SPDY/3.1";

/// The longest control frame; the longest real ones hold headers of a stream.
const MAX_CONTROL: usize = 64 << 10;
/// Answers to the peer that wait to be written; a peer that makes more of them floods.
const ANSWERS: usize = 128;
/// How often clients ping.
const PING: Duration = Duration::from_secs(5);

/// Which side of the connection this is: it decides the ids of streams and pings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Server,
    Client,
}

impl Side {
    /// Whether an id was given by the peer.
    const fn is_peers(self, id: u32) -> bool {
        match self {
            Self::Server => !id.is_multiple_of(2),
            Self::Client => id.is_multiple_of(2),
        }
    }
}

/// What the reading half wants to be written.
enum Answer {
    Reply(u32),
    Frame(Vec<u8>),
}

/// The accepting side of a connection.
pub fn server<I>(io: I, options: Options) -> (Streams, Driver)
where
    I: AsyncRead + AsyncWrite + Send + 'static,
{
    connect(io, options, Side::Server)
}

/// The side that dialled.
pub fn client<I>(io: I, options: Options) -> (Streams, Driver)
where
    I: AsyncRead + AsyncWrite + Send + 'static,
{
    connect(io, options, Side::Client)
}

fn connect<I>(io: I, options: Options, side: Side) -> (Streams, Driver)
where
    I: AsyncRead + AsyncWrite + Send + 'static,
{
    let (streams, wire) = Hub::open(0);
    (streams, Box::pin(run(io, options, side, wire)))
}

async fn run<I>(io: I, options: Options, side: Side, wire: Wire) -> Result<(), Error>
where
    I: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = tokio::io::split(io);
    let (answers, to_answer) = mpsc::channel(ANSWERS);
    let hub = Arc::clone(&wire.hub);
    let reading = Reading {
        io: BufReader::with_capacity(CHUNK, read),
        side,
        hub: Arc::clone(&hub),
        decoder: headers::Decoder::new(),
        weak: wire.weak,
        incoming: wire.incoming,
        answers,
        last: 0,
    };
    let writing = Writing {
        io: BufWriter::with_capacity(CHUNK, write),
        hub: Arc::clone(&hub),
        encoder: headers::Encoder::new()?,
        asks: wire.out,
        answers: to_answer,
        next: if side == Side::Client { 1 } else { 2 },
        pings: (side == Side::Client).then(pings),
        ping: 1,
    };
    let (mut reading, mut writing) = (Box::pin(reading.run()), Box::pin(writing.run()));
    let result = tokio::select! {
        ended = &mut reading => ended,
        idle = hub.idle(options.idle) => Err(idle),
        written = &mut writing => match written {
            // Closing while the peer still sends would reset the connection, and with it what was
            // written: the peer closes first.
            Ok(()) => match tokio::time::timeout(LINGER, reading).await {
                Ok(ended) => ended,
                Err(_) => Ok(()),
            },
            failed => failed,
        },
    };
    hub.end();
    result
}

struct Reading<I> {
    io: BufReader<ReadHalf<I>>,
    side: Side,
    hub: Arc<Hub>,
    decoder: headers::Decoder,
    weak: mpsc::WeakSender<Out>,
    incoming: mpsc::Sender<super::Stream>,
    answers: mpsc::Sender<Answer>,
    /// The highest id that the peer has used.
    last: u32,
}

impl<I: AsyncRead> Reading<I> {
    /// Reads until the peer is done.
    async fn run(mut self) -> Result<(), Error> {
        loop {
            let mut head = [0; frame::HEAD];
            match self.io.read_exact(&mut head).await {
                Ok(_) => {}
                Err(e) if is_end(&e) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
            self.hub.touch();
            match Head::parse(head) {
                Head::Data {
                    stream,
                    flags,
                    length,
                } => self.data(stream, flags, length).await?,
                Head::Control {
                    version: frame::VERSION,
                    kind,
                    flags,
                    length: length @ 0..=MAX_CONTROL,
                } => {
                    let mut payload = vec![0; length];
                    self.io.read_exact(&mut payload).await?;
                    if kind == frame::GOAWAY {
                        return Ok(());
                    }
                    self.control(kind, flags, &payload).await?;
                }
                Head::Control { .. } => return Err(Error::Protocol("bad control frame")),
            }
        }
    }

    async fn data(&mut self, stream: u32, flags: u8, mut length: usize) -> Result<(), Error> {
        while length > 0 {
            let part = length.min(CHUNK);
            let mut bytes = BytesMut::zeroed(part);
            self.io.read_exact(&mut bytes).await?;
            self.hub.touch();
            self.hub.deliver(stream, bytes.freeze()).await;
            length -= part;
        }
        if flags & frame::FIN != 0 {
            self.hub.peer_finished(stream);
        }
        Ok(())
    }

    async fn control(&mut self, kind: u16, flags: u8, payload: &[u8]) -> Result<(), Error> {
        let short = || Error::Protocol("short frame");
        match kind {
            frame::SYN_STREAM => self.open(flags, payload).await,
            frame::SYN_REPLY => {
                let id = frame::word(payload, 0).ok_or_else(short)?;
                self.decoder.decode(&payload[4..])?;
                if !self.side.is_peers(id) {
                    self.hub.accepted(id);
                }
                if flags & frame::FIN != 0 {
                    self.hub.peer_finished(id);
                }
                Ok(())
            }
            frame::HEADERS => {
                let id = frame::word(payload, 0).ok_or_else(short)?;
                self.decoder.decode(&payload[4..])?;
                if flags & frame::FIN != 0 {
                    self.hub.peer_finished(id);
                }
                Ok(())
            }
            frame::RST_STREAM => {
                self.hub.reset(frame::word(payload, 0).ok_or_else(short)?);
                Ok(())
            }
            frame::PING => {
                let id = frame::word(payload, 0).ok_or_else(short)?;
                if self.side.is_peers(id) {
                    self.answer(Answer::Frame(frame::ping(id)))?;
                }
                Ok(())
            }
            // Settings and windows have no use here; what is unknown is passed over.
            _ => Ok(()),
        }
    }

    async fn open(&mut self, flags: u8, payload: &[u8]) -> Result<(), Error> {
        let id = frame::word(payload, 0).ok_or(Error::Protocol("short frame"))?;
        let block = payload.get(10..).ok_or(Error::Protocol("short frame"))?;
        let headers = self.decoder.decode(block)?;
        let refuse = |status| Answer::Frame(frame::reset(id, status));
        if id > frame::MAX_ID || !self.side.is_peers(id) || id <= self.last {
            return self.answer(refuse(frame::PROTOCOL_ERROR));
        }
        self.last = id;
        let may = Directions {
            read: flags & frame::FIN == 0,
            write: flags & frame::UNIDIRECTIONAL == 0,
        };
        let stream = self
            .weak
            .upgrade()
            .filter(|_| !self.incoming.is_closed())
            .and_then(|out| self.hub.add(id, headers, out, may));
        let Some(stream) = stream else {
            return self.answer(refuse(frame::REFUSED_STREAM));
        };
        self.answer(Answer::Reply(id))?;
        // If nobody accepts any more, the stream resets itself when it is dropped.
        let _ = self.incoming.send(stream).await;
        Ok(())
    }

    fn answer(&self, answer: Answer) -> Result<(), Error> {
        self.answers
            .try_send(answer)
            .map_err(|_| Error::Protocol("too many frames that want an answer"))
    }
}

fn pings() -> Interval {
    let mut pings = interval_at(Instant::now() + PING, PING);
    // Those that a stalled connection missed are not made up for: that would look like a flood.
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings
}

/// The next time of an interval; never if there is none.
async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// The peer went away between two frames.
fn is_end(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

struct Writing<I> {
    io: BufWriter<WriteHalf<I>>,
    hub: Arc<Hub>,
    encoder: headers::Encoder,
    asks: mpsc::Receiver<Out>,
    answers: mpsc::Receiver<Answer>,
    /// The id of the next stream of ours.
    next: u32,
    /// When to ping, and the id of the next ping, which is odd.
    pings: Option<Interval>,
    ping: u32,
}

impl<I: AsyncWrite> Writing<I> {
    /// Writes until all handles are gone, and says goodbye.
    async fn run(mut self) -> Result<(), Error> {
        loop {
            let abandoned = Arc::clone(&self.hub);
            tokio::select! {
                Some(answer) = self.answers.recv() => self.answer(answer).await?,
                ids = abandoned.abandoned() => self.reset(ids).await?,
                () = tick(&mut self.pings) => {
                    self.io.write_all(&frame::ping(self.ping)).await?;
                    self.ping = self.ping.wrapping_add(2);
                }
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.ask(ask).await?,
                    None => break,
                },
            }
            if self.asks.is_empty() && self.answers.is_empty() {
                self.io.flush().await?;
            }
            self.hub.touch();
        }
        self.drain_answers().await?;
        let left = self.hub.left();
        self.reset(left).await?;
        self.io.write_all(&frame::go_away(0)).await?;
        self.io.flush().await?;
        self.io.shutdown().await?;
        Ok(())
    }

    /// A stream's reply goes before its data.
    async fn drain_answers(&mut self) -> Result<(), Error> {
        while let Ok(answer) = self.answers.try_recv() {
            self.answer(answer).await?;
        }
        Ok(())
    }

    async fn answer(&mut self, answer: Answer) -> Result<(), Error> {
        let frame = match answer {
            Answer::Frame(frame) => frame,
            Answer::Reply(id) => {
                let block = self.encoder.encode(&HeaderMap::new())?;
                frame::control(frame::SYN_REPLY, 0, &[&id.to_be_bytes(), &block])
            }
        };
        Ok(self.io.write_all(&frame).await?)
    }

    async fn ask(&mut self, ask: Out) -> Result<(), Error> {
        self.drain_answers().await?;
        match ask {
            Out::Data(id, bytes) => self.data(id, 0, bytes).await,
            Out::Finish(id) => {
                self.data(id, frame::FIN, Bytes::new()).await?;
                self.hub.finished(id);
                Ok(())
            }
            Out::Open {
                headers,
                out,
                ready,
            } => {
                let id = self.next;
                let may = Directions {
                    read: true,
                    write: true,
                };
                let free = Some(id).filter(|id| *id <= frame::MAX_ID);
                let sent = headers.clone();
                let Some(stream) = free.and_then(|id| self.hub.add(id, headers, out, may)) else {
                    return Ok(()); // `ready` says so by being dropped
                };
                self.next += 2;
                self.hub.wait_for_reply(stream, ready);
                let block = self.encoder.encode(&sent)?;
                // No associated stream, priority 0, slot 0.
                let frame =
                    frame::control(frame::SYN_STREAM, 0, &[&id.to_be_bytes(), &[0; 6], &block]);
                Ok(self.io.write_all(&frame).await?)
            }
        }
    }

    async fn data(&mut self, id: u32, flags: u8, bytes: Bytes) -> Result<(), Error> {
        if !self.hub.is_open(id) {
            return Ok(()); // reset meanwhile
        }
        self.io
            .write_all(&frame::data(id, flags, bytes.len()))
            .await?;
        Ok(self.io.write_all(&bytes).await?)
    }

    async fn reset(&mut self, ids: Vec<u32>) -> Result<(), Error> {
        self.drain_answers().await?;
        for id in ids {
            if self.hub.reset(id) {
                let frame = frame::reset(id, frame::CANCEL);
                self.io.write_all(&frame).await?;
            }
        }
        Ok(())
    }
}
