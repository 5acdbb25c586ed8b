//! Exec and attach over every wire.

use std::time::Duration;

use component::streaming::websocket::{Channel, Protocol, Side, channels};
use component::streaming::{Options, Stream, Streams};
use kubelet::runtime::{ContainerState, Runtime};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{ask_as, get, headers, run, send, spdy, websocket};
use crate::node::LIMIT;
use crate::setup::{POD_UID, Setup};

const ALL: &str = "input=1&output=1&error=1";

fn exec(script: &str, what: &str) -> String {
    let script = component::client::query_escape(script);
    format!("/exec/ns/web/main?command=/bin/sh&command=-c&command={script}&{what}")
}

async fn open(streams: &Streams, kind: &str) -> Stream {
    streams
        .open(headers(&[("streamtype", kind)]))
        .await
        .unwrap()
}

async fn text(stream: &mut Stream) -> String {
    let mut text = String::new();
    let read = stream.reader.read_to_string(&mut text);
    tokio::time::timeout(LIMIT, read).await.unwrap().unwrap();
    text
}

async fn ended(stream: &mut Stream) -> Value {
    serde_json::from_str(&text(stream).await).unwrap()
}

/// The five channels of a WebSocket, as a client has them.
fn client_channels() -> Vec<Channel> {
    let of = |(number, kind)| Channel {
        headers: headers(&[("streamtype", kind)]),
        read: (1..4).contains(&number),
        write: !(1..4).contains(&number),
        greeting: None,
    };
    [
        (0, "stdin"),
        (1, "stdout"),
        (2, "stderr"),
        (3, "error"),
        (4, "resize"),
    ]
    .map(of)
    .to_vec()
}

async fn over_websocket(setup: &Setup, path: &str, protocol: &str) -> [Stream; 5] {
    let io = websocket(setup, path, protocol).await;
    let (mut streams, driver) = channels(
        io,
        Side::Client,
        Options::default(),
        Protocol::named(protocol),
        client_channels(),
    );
    run(driver);
    let mut all = Vec::new();
    while let Some(stream) = streams.accept().await {
        all.push(stream);
    }
    all.try_into().ok().unwrap()
}

#[tokio::test]
async fn a_command_has_its_streams_and_its_exit_code_over_spdy() {
    let setup = Setup::start().await;
    setup.run("main", "sleep 1000").await;
    let script = "cat; echo oops >&2; exit 3";
    let streams = spdy(&setup, &exec(script, ALL), "v4.channel.k8s.io").await;
    let mut error = open(&streams, "error").await;
    let mut stdin = open(&streams, "stdin").await;
    let mut stdout = open(&streams, "stdout").await;
    let mut stderr = open(&streams, "stderr").await;
    let sent = "0123456789".repeat(100_000);
    let write = async {
        stdin.writer.write_all(sent.as_bytes()).await.unwrap();
        stdin.writer.shutdown().await.unwrap();
    };
    let ((), out, err, status) = tokio::join!(
        write,
        text(&mut stdout),
        text(&mut stderr),
        ended(&mut error)
    );
    assert!(out == sent);
    assert_eq!(err, "oops\n");
    assert_eq!(status["status"], "Failure");
    assert_eq!(status["reason"], "NonZeroExitCode");
    let causes = json!([{"reason": "ExitCode", "message": "3"}]);
    assert_eq!(status["details"]["causes"], causes);
}

#[tokio::test]
async fn a_command_has_its_streams_and_its_exit_code_over_websocket() {
    let setup = Setup::start().await;
    setup.run("main", "sleep 1000").await;
    let [mut stdin, mut stdout, mut stderr, mut error, _] = over_websocket(
        &setup,
        &exec("cat; echo oops >&2; exit 4", ALL),
        "v5.channel.k8s.io",
    )
    .await;
    stdin.writer.write_all(b"hello\n").await.unwrap();
    stdin.writer.shutdown().await.unwrap();
    let (out, err, status) = tokio::join!(text(&mut stdout), text(&mut stderr), ended(&mut error));
    assert_eq!((out.as_str(), err.as_str()), ("hello\n", "oops\n"));
    assert_eq!(status["details"]["causes"][0]["message"], "4");
    for protocol in ["v4.channel.k8s.io", "v4.base64.channel.k8s.io"] {
        let [_, mut stdout, _, mut error, _] =
            over_websocket(&setup, &exec("echo out", "output=1"), protocol).await;
        let (out, status) = tokio::join!(text(&mut stdout), ended(&mut error));
        assert_eq!(out, "out\n");
        assert_eq!(status["status"], "Success");
    }
}

#[tokio::test]
async fn a_terminal_is_resized() {
    let setup = Setup::start().await;
    setup.run("main", "sleep 1000").await;
    let script = "while [ \"$(stty size)\" != '44 99' ]; do sleep 0.01; done; echo resized";
    let path = exec(script, "input=1&output=1&error=1&tty=1");
    let streams = spdy(&setup, &path, "v4.channel.k8s.io").await;
    let mut error = open(&streams, "error").await;
    let _stdin = open(&streams, "stdin").await;
    let mut stdout = open(&streams, "stdout").await;
    let mut resize = open(&streams, "resize").await;
    resize
        .writer
        .write_all(b"{\"Width\":99,\"Height\":44}\n")
        .await
        .unwrap();
    let (out, status) = tokio::join!(text(&mut stdout), ended(&mut error));
    assert_eq!(status["status"], "Success");
    assert_eq!(out, "resized\r\n");
}

#[tokio::test]
async fn what_cannot_run_says_why() {
    let setup = Setup::start().await;
    setup.run("main", "sleep 1000").await;
    let path = "/exec/ns/web/main?command=nosuch&output=1";
    let streams = spdy(&setup, path, "v4.channel.k8s.io").await;
    let mut error = open(&streams, "error").await;
    let mut stdout = open(&streams, "stdout").await;
    assert_eq!(text(&mut stdout).await, "");
    let status = ended(&mut error).await;
    assert_eq!(status["reason"], "InternalError");
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with("Internal error occurred: error executing command in container: "),
        "{message}"
    );
    assert!(
        message.contains("executable file not found in $PATH"),
        "{message}"
    );
}

#[tokio::test]
async fn old_protocols_say_failures_in_words() {
    let setup = Setup::start().await;
    setup.run("main", "sleep 1000").await;
    let streams = spdy(&setup, &exec("exit 7", "output=1"), "v2.channel.k8s.io").await;
    let mut error = open(&streams, "error").await;
    let _stdout = open(&streams, "stdout").await;
    let said = text(&mut error).await;
    assert!(said.ends_with("exit code 7"), "{said}");
}

#[tokio::test]
async fn a_client_that_goes_away_kills_nothing() {
    let setup = Setup::start().await;
    let id = setup.run("main", "sleep 1000").await;
    let script = "echo begun; read line; echo $? >/tmp/ended; sleep 2000";
    {
        let [_stdin, mut stdout, ..] = over_websocket(
            &setup,
            &exec(script, "input=1&output=1"),
            "v5.channel.k8s.io",
        )
        .await;
        let mut line = [0; 6];
        stdout.reader.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"begun\n");
    }
    // Its input ends, and it goes on.
    let deadline = std::time::Instant::now() + LIMIT;
    while !setup
        .node
        .exec(&id, "cat /tmp/ended || true")
        .await
        .starts_with('1')
    {
        assert!(
            std::time::Instant::now() < deadline,
            "the input did not end"
        );
    }
    let left = setup
        .node
        .exec(&id, "ps -o args | grep -c '[s]leep 2000'")
        .await;
    assert_eq!(left, "1\n");
}

#[tokio::test]
async fn attaching_ends_with_the_container() {
    let setup = Setup::start().await;
    let mut config = setup.node.shell("read line; echo got $line; exit 9");
    config.stdin = true;
    config.stdin_once = true;
    let id = setup.run_as("main", config).await;
    let path = format!("/attach/ns/web/{POD_UID}/main?{ALL}");
    let streams = spdy(&setup, &path, "v4.channel.k8s.io").await;
    let mut error = open(&streams, "error").await;
    let mut stdin = open(&streams, "stdin").await;
    let mut stdout = open(&streams, "stdout").await;
    let _stderr = open(&streams, "stderr").await;
    stdin.writer.write_all(b"this\n").await.unwrap();
    let (out, status) = tokio::join!(text(&mut stdout), ended(&mut error));
    assert_eq!(out, "got this\n");
    assert_eq!(status["status"], "Success");
    assert_eq!(setup.node.exited(&id).await.exit_code, 9);
}

#[tokio::test]
async fn streams_that_do_not_come_end_the_request_and_not_the_container() {
    let setup = Setup::start().await;
    let id = setup.run("main", "sleep 1000").await;
    let streams = spdy(&setup, &exec("true", "output=1"), "v4.channel.k8s.io").await;
    let mut error = open(&streams, "error").await;
    drop(streams);
    // The other stream is not opened.
    let mut byte = [0];
    let ends = error.reader.read(&mut byte);
    let ends = tokio::time::timeout(Duration::from_secs(45), ends).await;
    assert_eq!(ends.unwrap().unwrap(), 0);
    let running = setup.node.status(&id).await.state;
    assert_eq!(running, ContainerState::Running);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_as_upstream_does() {
    let setup = Setup::start().await;
    setup.run("main", "sleep 1000").await;
    let cases = [
        (
            "/exec/ns/web/main?command=true",
            400,
            "you must specify at least 1 of stdin, stdout, stderr",
        ),
        (
            "/exec/ns/none/main?command=true&output=1",
            404,
            "pod does not exist",
        ),
        (
            "/exec/ns/web/none?command=true&output=1",
            500,
            "container not found (\"none\")",
        ),
        (
            "/exec/ns/web/other-uid/main?command=true&output=1",
            500,
            "container not found (\"main\")",
        ),
        (
            "/attach/ns/web/none?output=1",
            500,
            "container none not found in pod web_ns",
        ),
        (
            "/attach/ns/web/other-uid/main?output=1",
            500,
            "pod web_ns not found",
        ),
        (
            "/exec/ns/web/main?command=true&output=1",
            500,
            "Upgrade request required\n",
        ),
        ("/exec/ns/web", 404, "404 page not found\n"),
    ];
    for (path, status, body) in cases {
        let answer = get(&setup, path).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (status, body),
            "{path}"
        );
    }
    let mut io = crate::client::connect(&setup, Some(&setup.ca.admin())).await;
    let none = [
        ("Connection", "Upgrade"),
        ("Upgrade", "SPDY/3.1"),
        ("X-Stream-Protocol-Version", "v9"),
    ];
    let (status, answer) = send(&mut io, "POST", "/exec/ns/web/main?output=1", &none).await;
    assert_eq!(status, 403);
    assert_eq!(
        answer
            .get_all("x-accepted-stream-protocol-versions")
            .iter()
            .count(),
        4
    );
}

#[tokio::test]
async fn a_command_can_be_run_without_streams() {
    let setup = Setup::start().await;
    let id = setup.run("main", "sleep 1000").await;
    let admin = setup.ca.admin();
    let run = |path| ask_as(&setup, Some(&admin), "POST", path, &[]);
    let answer = run("/run/ns/web/main?cmd=echo+hello").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "hello\n"));
    let answer = run("/run/ns/web/main?cmd=false").await;
    assert_eq!(answer.status, 500);
    assert!(answer.body.contains("exited with 1"), "{}", answer.body);
    let stopped = setup
        .node
        .runtime()
        .stop_container(&id, Duration::ZERO, None);
    stopped.await.unwrap();
    assert_eq!(run("/run/ns/web/main?cmd=true").await.status, 500);
}

#[tokio::test]
async fn without_its_gate_websocket_is_what_it_was_before() {
    let setup = Setup::with(|config| config.new_websockets = false).await;
    setup.run("main", "sleep 1000").await;
    let ask = async |path: &str, protocol: &str| {
        let mut io = crate::client::connect(&setup, Some(&setup.ca.admin())).await;
        let asked = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
            ("Sec-WebSocket-Protocol", protocol),
        ];
        let (status, answer) = send(&mut io, "GET", path, &asked).await;
        let agreed = answer.get("sec-websocket-protocol").cloned();
        (status, agreed.map(|p| p.to_str().unwrap().to_owned()))
    };
    let exec = exec("echo out", "output=1");
    let attach = "/attach/ns/web/main?output=1";
    for path in [exec.as_str(), attach] {
        assert_eq!(ask(path, "v5.channel.k8s.io").await, (403, None));
    }
    let older = "v4.channel.k8s.io".to_owned();
    let both = ask(&exec, "v5.channel.k8s.io, v4.channel.k8s.io").await;
    assert_eq!(both, (101, Some(older)));
    // Port forwarding wants to be told the ports, as of any WebSocket with channels, and tunnels nothing.
    let tunnel = "SPDY/3.1+portforward.k8s.io";
    let forward = "/portForward/ns/web";
    assert_eq!(ask(forward, tunnel).await, (400, None));
    let with_port = format!("{forward}?port=80");
    assert_eq!(ask(&with_port, tunnel).await, (403, None));
    let counted = get(&setup, "/metrics").await.body;
    let family = "kubelet_websocket_streaming_requests_total{";
    assert!(!counted.contains(family), "{counted}");
}
