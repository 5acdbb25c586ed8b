//! Port forwarding over every wire.

use component::streaming::websocket::{Channel, Protocol, Side, channels, tunnel};
use component::streaming::{Options, Stream, Streams, spdy as wire};
use kubelet::runtime::Runtime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{get, headers, run, spdy, websocket};
use crate::node::LIMIT;
use crate::setup::Setup;

/// A pod that answers on a port with what it is told.
async fn start() -> Setup {
    let setup = Setup::start().await;
    setup.run("main", "exec nc -ll -p 8080 -e /bin/cat").await;
    let deadline = std::time::Instant::now() + LIMIT;
    let runtime = setup.node.runtime();
    while runtime.port_forward(&setup.sandbox, 8080).await.is_err() {
        assert!(std::time::Instant::now() < deadline, "nobody listens");
    }
    setup
}

async fn open(streams: &Streams, port: &str, id: &str) -> (Stream, Stream) {
    let of = |kind| headers(&[("streamtype", kind), ("port", port), ("requestid", id)]);
    let error = streams.open(of("error")).await.unwrap();
    let data = streams.open(of("data")).await.unwrap();
    (data, error)
}

async fn talk(streams: &Streams, id: &str) {
    let (mut data, mut error) = open(streams, "8080", id).await;
    let sent = id.repeat(20_000);
    let write = async {
        data.writer.write_all(sent.as_bytes()).await.unwrap();
        data.writer.shutdown().await.unwrap();
    };
    let mut answer = String::new();
    let read = data.reader.read_to_string(&mut answer);
    let ((), read) = tokio::join!(write, read);
    read.unwrap();
    assert!(answer == sent, "{} of {}", answer.len(), sent.len());
    let mut said = String::new();
    error.reader.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "");
}

async fn closed_port(streams: &Streams) {
    let (mut data, mut error) = open(streams, "8081", "closed").await;
    let mut said = String::new();
    error.reader.read_to_string(&mut said).await.unwrap();
    assert!(
        said.starts_with("error forwarding port 8081 to pod web, uid "),
        "{said}"
    );
    assert_eq!(data.reader.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn connections_are_forwarded_over_spdy() {
    let setup = start().await;
    let streams = spdy(&setup, "/portForward/ns/web", "portforward.k8s.io").await;
    tokio::join!(
        talk(&streams, "one"),
        talk(&streams, "two"),
        closed_port(&streams)
    );
    // A failure ends its own streams only.
    talk(&streams, "three").await;
}

#[tokio::test]
async fn connections_are_forwarded_as_kubectl_does() {
    let setup = start().await;
    let protocol = "SPDY/3.1+portforward.k8s.io";
    let io = websocket(&setup, "/portForward/ns/web", protocol).await;
    let (inside, driver) = tunnel(io, Side::Client);
    run(driver);
    let (streams, driver) = wire::client(inside, Options::default());
    run(driver);
    tokio::join!(
        talk(&streams, "one"),
        talk(&streams, "two"),
        closed_port(&streams)
    );
}

#[tokio::test]
async fn ports_are_forwarded_over_channels() {
    let setup = start().await;
    let path = "/portForward/ns/web?port=8080,8081";
    let io = websocket(&setup, path, "v4.channel.k8s.io").await;
    let of = |number: usize| Channel {
        headers: headers(&[("number", &number.to_string())]),
        read: true,
        write: number.is_multiple_of(2),
        greeting: None,
    };
    let protocol = Protocol::named("v4.channel.k8s.io");
    let list = (0..4).map(of).collect();
    let (mut streams, driver) = channels(io, Side::Client, Options::default(), protocol, list);
    run(driver);
    let mut all = Vec::new();
    while let Some(stream) = streams.accept().await {
        all.push(stream);
    }
    for (stream, port) in all.iter_mut().zip([8080_u16, 8080, 8081, 8081]) {
        let mut greeting = [0; 2];
        stream.reader.read_exact(&mut greeting).await.unwrap();
        assert_eq!(u16::from_le_bytes(greeting), port);
    }
    let mut answer = [0; 5];
    all[0].writer.write_all(b"hello").await.unwrap();
    all[0].reader.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"hello");
    let mut said = [0; 38];
    all[3].reader.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"error forwarding port 8081 to pod web,");
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let setup = Setup::start().await;
    let cases = [
        ("/portForward/ns/none", 404, "pod does not exist"),
        ("/portForward/ns/web/other-uid", 404, "pod not found"),
        ("/portForward/ns/web", 500, "Upgrade request required\n"),
    ];
    for (path, status, body) in cases {
        let answer = get(&setup, path).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (status, body),
            "{path}"
        );
    }
}
