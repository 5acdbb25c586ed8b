use super::*;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::{Supervisor, Task};
use websocket::{Channel, Protocol, Side};

fn kind(kind: &'static str) -> HeaderMap {
    [(
        http::HeaderName::from_static("streamtype"),
        HeaderValue::from_static(kind),
    )]
    .into_iter()
    .collect()
}

fn run(driver: Driver) {
    Supervisor::current().spawn(Task::Background, "driver", async move {
        let _ = driver.await;
    });
}

/// Answers each stream with what it says, twice, and then finishes it.
async fn echo(mut streams: Streams) {
    while let Some(mut stream) = streams.accept().await {
        Supervisor::current().spawn(Task::Background, "echo", async move {
            let mut text = Vec::new();
            stream.reader.read_to_end(&mut text).await?;
            stream.writer.write_all(&text).await?;
            stream.writer.write_all(&text).await?;
            stream.writer.shutdown().await
        });
    }
}

fn pair() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(1000)
}

#[tokio::test]
async fn streams_of_a_spdy_connection_are_apart_and_complete() {
    let (ours, theirs) = pair();
    let (server, driver) = spdy::server(theirs, Options::default());
    run(driver);
    Supervisor::current().spawn(Task::Background, "echo", echo(server));
    let (client, driver) = spdy::client(ours, Options::default());
    run(driver);
    let talk = |number: usize| {
        let client = &client;
        async move {
            let mut stream = client.open(kind("data")).await.unwrap();
            let text = vec![u8::try_from(number).unwrap(); 10_000 * number];
            stream.writer.write_all(&text).await.unwrap();
            stream.writer.shutdown().await.unwrap();
            let mut answer = Vec::new();
            stream.reader.read_to_end(&mut answer).await.unwrap();
            assert!(answer == [&text[..], &text].concat());
        }
    };
    // Each is below the share of one stream, so that none stops the others.
    futures::future::join_all((0..20).map(talk)).await;
}

#[tokio::test]
async fn what_was_written_arrives_before_the_end_and_unfinished_streams_are_reset() {
    let (ours, theirs) = pair();
    let (mut server, server_driver) = spdy::server(theirs, Options::default());
    let (client, driver) = spdy::client(ours, Options::default());
    run(driver);
    let work = async move {
        let mut out = server.accept().await.unwrap();
        let _stdin = server.accept().await.unwrap();
        out.writer.write_all(&vec![7; 300_000]).await.unwrap();
        out.writer.shutdown().await.unwrap();
    };
    let served = async { drive(server_driver, work).await.unwrap() };
    let (mut out, mut stdin) = (None, None);
    let open = async {
        out = Some(client.open(kind("stdout")).await.unwrap());
        stdin = Some(client.open(kind("stdin")).await.unwrap());
        let mut read = Vec::new();
        out.as_mut()
            .unwrap()
            .reader
            .read_to_end(&mut read)
            .await
            .unwrap();
        assert_eq!(read.len(), 300_000);
        let stdin = stdin.as_mut().unwrap();
        assert_eq!(stdin.reader.read(&mut [0]).await.unwrap(), 0);
        assert!(stdin.writer.write_all(b"late").await.is_err());
    };
    tokio::join!(served, open);
}

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_no_more_than_its_share() {
    let (ours, theirs) = pair();
    let (mut server, driver) = spdy::server(theirs, Options::default());
    run(driver);
    let (client, driver) = spdy::client(ours, Options::default());
    run(driver);
    let mut stream = client.open(kind("data")).await.unwrap();
    let held = server.accept().await.unwrap();
    let mut written = 0;
    let part = [0; 10_000];
    let quiet = Duration::from_millis(300);
    while tokio::time::timeout(quiet, stream.writer.write_all(&part))
        .await
        .is_ok()
    {
        written += part.len();
    }
    assert!(written < 1 << 20, "{written}");
    drop(held);
    // It is reset, and the connection goes on.
    assert_eq!(stream.reader.read(&mut [0]).await.unwrap(), 0);
    client.open(kind("data")).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_goes_away_ends_the_streams() {
    let (ours, theirs) = pair();
    let (mut server, driver) = spdy::server(theirs, Options::default());
    run(driver);
    {
        let (client, driver) = spdy::client(ours, Options::default());
        let opened = async { client.open(kind("data")).await.unwrap() };
        let opened = tokio::select! { _ = driver => unreachable!(), opened = opened => opened };
        drop(opened);
    }
    let mut stream = server.accept().await.unwrap();
    assert_eq!(stream.reader.read(&mut [0]).await.unwrap(), 0);
    assert!(server.accept().await.is_none());
    assert!(stream.writer.write_all(b"x").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_ended() {
    let (_ours, theirs) = pair();
    let idle = Duration::from_secs(3600);
    let (_streams, driver) = spdy::server(theirs, Options { idle });
    let start = tokio::time::Instant::now();
    assert!(matches!(driver.await, Err(Error::Idle(_))));
    assert_eq!(start.elapsed(), idle);
}

#[tokio::test]
async fn pings_of_the_peer_are_answered_and_its_floods_are_not() {
    let (mut ours, theirs) = tokio::io::duplex(64);
    let (_streams, driver) = spdy::server(theirs, Options::default());
    let ping = [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1];
    let client = async {
        let mut answer = [0; 12];
        ours.write_all(&ping).await.unwrap();
        ours.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, ping);
        while ours.write_all(&ping).await.is_ok() {}
    };
    let (ended, ()) = tokio::join!(driver, client);
    assert!(matches!(ended, Err(Error::Protocol(_))), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn who_dialled_pings_and_the_connection_is_not_idle() {
    let (mut ours, theirs) = pair();
    let (_streams, driver) = spdy::client(theirs, Options::default());
    run(driver);
    for id in [1, 3] {
        let start = tokio::time::Instant::now();
        let mut ping = [0; 12];
        ours.read_exact(&mut ping).await.unwrap();
        assert_eq!(ping, [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, id]);
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }
    let (ours, theirs) = pair();
    let idle = Duration::from_secs(60);
    let (_server, mut driver) = spdy::server(theirs, Options { idle });
    let (_client, ours) = spdy::client(ours, Options::default());
    run(ours);
    let long = tokio::time::timeout(idle * 10, &mut driver).await;
    assert!(long.is_err(), "{long:?}");
}

fn remote_command(server: bool) -> Vec<Channel> {
    let channel = |name, from_client: bool| Channel {
        headers: kind(name),
        read: from_client == server,
        write: from_client != server,
        greeting: (server && name == "stdout").then(Vec::new),
    };
    vec![
        channel("stdin", true),
        channel("stdout", false),
        channel("stderr", false),
    ]
}

#[tokio::test]
async fn channels_carry_what_streams_carry() {
    for protocol in ["v5.channel.k8s.io", "v4.base64.channel.k8s.io"].map(Protocol::named) {
        let (ours, theirs) = pair();
        let none = Options::default();
        let (mut server, driver) =
            websocket::channels(theirs, Side::Server, none, protocol, remote_command(true));
        let work = async move {
            let mut stdin = server.accept().await.unwrap();
            let mut stdout = server.accept().await.unwrap();
            assert_eq!(stdin.header("streamType"), "stdin");
            let mut text = vec![0; 100_000];
            stdin.reader.read_exact(&mut text).await.unwrap();
            if protocol.half_close {
                assert_eq!(stdin.reader.read(&mut [0]).await.unwrap(), 0);
            }
            stdout.writer.write_all(&text).await.unwrap();
            stdout.writer.shutdown().await.unwrap();
        };
        let (mut client, ours) =
            websocket::channels(ours, Side::Client, none, protocol, remote_command(false));
        run(ours);
        let ask = async move {
            let mut stdin = client.accept().await.unwrap();
            let mut stdout = client.accept().await.unwrap();
            let text: Vec<u8> = (0..100_000_u32)
                .map(|i| u8::try_from(i % 251).unwrap())
                .collect();
            stdin.writer.write_all(&text).await.unwrap();
            stdin.writer.shutdown().await.unwrap();
            let mut answer = Vec::new();
            stdout.reader.read_to_end(&mut answer).await.unwrap();
            assert!(answer == text);
        };
        let (served, ()) = tokio::join!(drive(driver, work), ask);
        served.unwrap();
    }
}

#[tokio::test]
async fn a_websocket_server_greets_answers_pings_and_says_goodbye() {
    let (mut ours, theirs) = pair();
    let protocol = Protocol::named("v4.channel.k8s.io");
    let (mut server, driver) = websocket::channels(
        theirs,
        Side::Server,
        Options::default(),
        protocol,
        remote_command(true),
    );
    let work = async move {
        let mut stdin = server.accept().await.unwrap();
        let mut stdout = server.accept().await.unwrap();
        let mut text = [0; 2];
        stdin.reader.read_exact(&mut text).await.unwrap();
        stdout.writer.write_all(&text).await.unwrap();
        stdout.writer.shutdown().await.unwrap();
    };
    let client = async move {
        let mut greeting = [0; 3];
        ours.read_exact(&mut greeting).await.unwrap();
        assert_eq!(greeting, [0x82, 1, 1]);
        let ping = [0x89, 0x82, 0, 0, 0, 0, b'h', b'i'];
        ours.write_all(&ping).await.unwrap();
        let mut pong = [0; 4];
        ours.read_exact(&mut pong).await.unwrap();
        assert_eq!(pong, [0x8a, 2, b'h', b'i']);
        // In two frames, one of them within the other's message, masked.
        let parts = [
            0x02,
            0x82,
            1,
            1,
            1,
            1,
            1,
            b'a' ^ 1,
            0x80,
            0x81,
            2,
            2,
            2,
            2,
            b'b' ^ 2,
        ];
        ours.write_all(&parts).await.unwrap();
        let mut rest = Vec::new();
        let mut said = [0; 9];
        ours.read_exact(&mut said).await.unwrap();
        assert_eq!(said, [0x82, 3, 1, b'a', b'b', 0x88, 2, 0x03, 0xe8]);
        ours.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.unwrap();
        ours.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    };
    tokio::join!(drive(driver, work), client);
}

#[tokio::test]
async fn pieces_are_messages_of_a_websocket_until_somebody_says_goodbye() {
    use websocket::Form;
    let pieces = || futures::stream::iter(["", "log", "\n"].map(bytes::Bytes::from));
    for (form, first, text) in [
        (Form::Binary, 0x82, ["", "log", "\n"]),
        (Form::Text, 0x81, ["", "log", "\n"]),
        (Form::Base64, 0x81, ["", "bG9n", "Cg=="]),
    ] {
        let (mut ours, theirs) = pair();
        let driver = websocket::one_way(theirs, form, pieces(), None);
        let client = async move {
            // What a client says is dropped.
            ours.write_all(&[0x81, 0x81, 0, 0, 0, 0, b'x'])
                .await
                .unwrap();
            for text in text {
                let mut message = vec![0; 2 + text.len()];
                ours.read_exact(&mut message).await.unwrap();
                let length = u8::try_from(text.len()).unwrap();
                assert_eq!(message, [&[first, length], text.as_bytes()].concat());
            }
            let mut bye = [0; 4];
            ours.read_exact(&mut bye).await.unwrap();
            assert_eq!(bye, [0x88, 2, 0x03, 0xe8]);
            ours.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.unwrap();
        };
        let (ended, ()) = tokio::join!(driver, client);
        ended.unwrap();
    }
    // The client goes first, from a log that has no end.
    let (mut ours, theirs) = pair();
    let endless = futures::StreamExt::chain(pieces(), futures::stream::pending());
    let driver = websocket::one_way(theirs, Form::Binary, endless, None);
    let client = async move {
        ours.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.unwrap();
        let mut all = Vec::new();
        ours.read_to_end(&mut all).await.unwrap();
        assert!(all.ends_with(&[0x88, 2, 0x03, 0xe8]), "{all:?}");
    };
    let (ended, ()) = tokio::join!(driver, client);
    ended.unwrap();
}

#[tokio::test(start_paused = true)]
async fn pieces_that_nobody_takes_end_a_websocket() {
    let (ours, theirs) = tokio::io::duplex(10_000);
    let endless = futures::stream::repeat(bytes::Bytes::from_static(&[7; 1000]));
    let ended = websocket::one_way(theirs, websocket::Form::Binary, endless, Some(LINGER)).await;
    assert!(matches!(ended, Err(Error::Idle(_))), "{ended:?}");
    drop(ours);
}

#[tokio::test]
async fn spdy_goes_through_a_websocket() {
    let (ours, theirs) = pair();
    let (inside, driver) = websocket::tunnel(theirs, Side::Server);
    run(driver);
    let (server, driver) = spdy::server(inside, Options::default());
    run(driver);
    Supervisor::current().spawn(Task::Background, "echo", echo(server));
    let (inside, driver) = websocket::tunnel(ours, Side::Client);
    run(driver);
    let (client, driver) = spdy::client(inside, Options::default());
    run(driver);
    let mut stream = client.open(kind("data")).await.unwrap();
    stream.writer.write_all(&[9; 70_000]).await.unwrap();
    stream.writer.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.reader.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer.len(), 140_000);
}

/// Feeds a server with bytes, and reads whatever it answers.
fn feed(bytes: &[u8], connect: impl FnOnce(DuplexStream) -> (Streams, Driver)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let (ours, theirs) = tokio::io::duplex(256);
        let (mut streams, driver) = connect(theirs);
        let (mut read, mut write) = tokio::io::split(ours);
        let peer = async {
            let _ = write.write_all(bytes).await;
            let _ = write.shutdown().await;
            let _ = tokio::io::copy(&mut read, &mut tokio::io::sink()).await;
        };
        let work = async {
            while let Some(mut stream) = streams.accept().await {
                let _ = stream.writer.write_all(b"hello").await;
                let _ = tokio::io::copy(&mut stream.reader, &mut tokio::io::sink()).await;
            }
        };
        let both = async { tokio::join!(drive(driver, work), peer) };
        tokio::time::timeout(Duration::from_secs(600), both)
            .await
            .expect("garbage does not hold a connection");
    });
}

/// Bytes that look a little like frames.
fn spdy_like() -> impl Strategy<Value = Vec<u8>> {
    let control = (
        0_u8..12,
        any::<u8>(),
        prop::collection::vec(any::<u8>(), 0..40),
    )
        .prop_map(|(kind, flags, payload)| {
            let length = u8::try_from(payload.len()).unwrap();
            [&[0x80, 3, 0, kind, flags, 0, 0, length][..], &payload].concat()
        });
    let data = (0_u8..9, 0_u8..3, prop::collection::vec(any::<u8>(), 0..40)).prop_map(
        |(stream, flags, payload)| {
            let length = u8::try_from(payload.len()).unwrap();
            [&[0, 0, 0, stream, flags, 0, 0, length][..], &payload].concat()
        },
    );
    let frame = prop_oneof![control, data, prop::collection::vec(any::<u8>(), 0..20)];
    prop::collection::vec(frame, 0..12).prop_map(|frames| frames.concat())
}

fn websocket_like() -> impl Strategy<Value = Vec<u8>> {
    let frame =
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(first, payload)| {
            let length = 0x80 | u8::try_from(payload.len()).unwrap();
            [&[first & 0x8f, length, 1, 2, 3, 4][..], &payload].concat()
        });
    let frame = prop_oneof![4 => frame, 1 => prop::collection::vec(any::<u8>(), 0..20)];
    prop::collection::vec(frame, 0..12).prop_map(|frames| frames.concat())
}

proptest! {
    #[test]
    fn garbage_ends_a_spdy_connection_and_nothing_else(bytes in spdy_like()) {
        feed(&bytes, |io| spdy::server(io, Options::default()));
    }

    #[test]
    fn garbage_ends_a_websocket_and_nothing_else(bytes in websocket_like(), base64: bool) {
        let protocol = Protocol { base64, half_close: !base64 };
        let connect = |io| websocket::channels(io, Side::Server, Options::default(), protocol, remote_command(true));
        feed(&bytes, connect);
    }
}
