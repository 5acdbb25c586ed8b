//! Connections of streams: SPDY/3.1 and WebSocket, from either side, and a client's watch.

use std::time::Duration;

use bytes::Bytes;
use component::streaming::websocket::{self, Channel, Form, Protocol, Side};
use component::streaming::{Driver, MAX_STREAMS, Options, Streams, spdy};
use futures::stream::FuturesUnordered;
use futures::{StreamExt, stream};
use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::Target;

/// Longer than any wait for the other side. Time is not waited for: it jumps where nothing else happens.
const LONG: Duration = Duration::from_secs(600);
/// Bytes on their way in one direction.
const ON_THE_WAY: usize = 16 << 10;

fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime needs nothing")
}

/// What a peer says arrives at whoever reads all streams, and then all of it ends.
fn talk(said: &[u8], connect: impl FnOnce(DuplexStream) -> (Option<Streams>, Driver)) {
    runtime().block_on(async {
        let (peer, ours) = tokio::io::duplex(ON_THE_WAY);
        let (streams, driver) = connect(ours);
        let (mut from, mut to) = tokio::io::split(peer);
        let says = async {
            // Whoever has heard enough need not take the rest.
            let _ = to.write_all(said).await;
            let _ = to.shutdown().await;
        };
        let hears = async {
            let copied = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
            copied.unwrap_or(0)
        };
        let all = async { tokio::join!(says, hears, driver, serve(streams)) };
        let ended = timeout(LONG, all).await;
        let ((), heard, _, read) = ended.expect("a connection ends when its peer has");
        // An answer is no longer than a frame that asks for it, but for the heads of one stream.
        let most = 64 * said.len() as u64 + (64 << 10);
        assert!(
            heard <= most,
            "{heard} bytes were answered to {}",
            said.len()
        );
        assert!(read <= most, "{read} bytes were read of {}", said.len());
    });
}

/// Reads every stream that the peer opens to its end; how much there was.
async fn serve(streams: Option<Streams>) -> u64 {
    let Some(mut streams) = streams else { return 0 };
    let mut reading = FuturesUnordered::new();
    let (mut total, mut opened) = (0, 0);
    loop {
        tokio::select! {
            accepted = streams.accept() => match accepted {
                Some(mut stream) => {
                    opened += 1;
                    assert!(reading.len() <= MAX_STREAMS + 256, "{opened} streams at once");
                    reading.push(async move {
                        let mut bytes = Vec::new();
                        let _ = stream.reader.read_to_end(&mut bytes).await;
                        let _ = stream.writer.write_all(bytes.get(..16).unwrap_or(&bytes)).await;
                        let _ = stream.writer.shutdown().await;
                        bytes.len() as u64
                    });
                }
                None => break,
            },
            Some(read) = reading.next() => total += read,
        }
    }
    drop(streams);
    while let Some(read) = reading.next().await {
        total += read;
    }
    total
}

pub(crate) const SPDY: Target = Target {
    name: "spdy",
    run: |mut input| {
        let dialled = input.flag();
        let options = Options {
            idle: Duration::from_secs(u64::from(input.byte() % 2) * 60),
        };
        talk(input.rest(), |io| {
            let (streams, driver) = if dialled {
                spdy::client(io, options)
            } else {
                spdy::server(io, options)
            };
            (Some(streams), driver)
        });
    },
    seeds: || {
        let said = |dialled: bool| {
            let mut seed = vec![u8::from(dialled), 0];
            seed.extend(conversation(dialled));
            seed
        };
        vec![
            said(true),
            said(false),
            [&[0, 1, 0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1][..]].concat(),
        ]
    },
};

/// What one of our own connections says that opens streams and writes to them. `dialled`: what its peer would hear.
fn conversation(dialled: bool) -> Vec<u8> {
    runtime().block_on(async {
        let (peer, ours) = tokio::io::duplex(1 << 20);
        let options = Options::default();
        // The peer of one that dialled has accepted.
        let (streams, driver) = if dialled {
            spdy::server(ours, options)
        } else {
            spdy::client(ours, options)
        };
        let mut headers = HeaderMap::new();
        headers.insert("streamtype", "data".parse().expect("a value"));
        headers.insert("port", "80".parse().expect("a value"));
        let open = async move {
            // Nobody replies: the streams are asked for, no more.
            for _ in 0..2 {
                let _ = timeout(Duration::from_secs(1), streams.open(headers.clone())).await;
            }
        };
        let (mut from, to) = tokio::io::split(peer);
        let mut said = Vec::new();
        let hear = async {
            let _ = timeout(Duration::from_secs(5), from.read_to_end(&mut said)).await;
        };
        let _ = tokio::join!(open, timeout(Duration::from_secs(3), driver), hear);
        drop(to);
        // Data of the first stream, and its end.
        let id = if dialled { 2 } else { 1 };
        said.splice(
            said.len() - 16..said.len() - 16,
            [0, 0, 0, id, 0, 0, 0, 2, b'h', b'i', 0, 0, 0, id, 1, 0, 0, 0],
        );
        said
    })
}

pub(crate) const WEBSOCKET: Target = Target {
    name: "websocket",
    run: |mut input| {
        let kind = input.byte();
        let side = if kind & 1 == 0 {
            Side::Client
        } else {
            Side::Server
        };
        let said = input.rest();
        match kind >> 1 & 3 {
            0 => {
                talk(said, |io| {
                    let (inside, driver) = websocket::tunnel(io, side);
                    let both = async move {
                        let (streams, spdy) = spdy::server(inside, Options::default());
                        let (ended, _, _) = tokio::join!(driver, spdy, serve(Some(streams)));
                        ended
                    };
                    (None, Box::pin(both) as Driver)
                });
            }
            1 => talk(said, |io| {
                let pieces = stream::iter([
                    Bytes::from_static(b"one"),
                    Bytes::from_static("zwei é".as_bytes()),
                ]);
                let form = [Form::Binary, Form::Text, Form::Base64][usize::from(kind >> 3) % 3];
                (
                    None,
                    websocket::one_way(io, form, pieces, Some(Duration::from_secs(5))),
                )
            }),
            _ => talk(said, |io| {
                let names = [
                    "v4.channel.k8s.io",
                    "v5.channel.k8s.io",
                    "v4.base64.channel.k8s.io",
                ];
                let protocol = Protocol::named(names[usize::from(kind >> 3) % 3]);
                let channel = |read, write| Channel {
                    read,
                    write,
                    greeting: write.then(|| b"x".to_vec()),
                    ..Channel::default()
                };
                let channels = vec![
                    channel(true, false),
                    channel(false, true),
                    channel(true, true),
                    Channel::default(),
                ];
                let (streams, driver) =
                    websocket::channels(io, side, Options::default(), protocol, channels);
                (Some(streams), driver)
            }),
        }
    },
    seeds: || {
        let plain: &[u8] = &[
            0x82, 3, 0, b'h', b'i', 0x02, 2, 2, b'x', 0x80, 1, b'y', 0x89, 1, b'p', 0x82, 2, 255,
            0, 0x88, 2, 3, 0xe8,
        ];
        let masked: &[u8] = &[
            0x82, 0x83, 0, 0, 0, 0, 0, b'h', b'i', 0x81, 0x85, 0, 0, 0, 0, b'2', b'a', b'G', b'k',
            b'=', 0x88, 0x80, 0, 0, 0, 0,
        ];
        let long: &[u8] = &[
            0x82, 126, 0, 3, 0, 1, 2, 0x82, 127, 0, 0, 0, 0, 0, 0, 0, 1, 2,
        ];
        let mut seeds = Vec::new();
        for kind in 0..24 {
            for said in [plain, masked, long] {
                seeds.push([&[kind], said].concat());
            }
        }
        seeds
    },
};
