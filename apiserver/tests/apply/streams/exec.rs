//! exec and attach at kubelets that speak SPDY only.

use std::time::Duration;

use component::serving::{self, text as answer};
use component::streaming::remote::{V4, V5};
use http::header::LOCATION;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::MERGE;
use super::super::daemon::{Daemon, eventually};
use super::spdy::{
    Client, Connection, FEATURE, Kubelet, LIMIT, asking, exit, say, status, text, websocket,
};
use super::{PODS, pod_of};

const ALL: &str = "stdin=true&stdout=true&stderr=true";

fn exec(what: &str) -> String {
    format!("{PODS}/p/exec?command=sh&command=-c&command=a%20b&{what}")
}

/// Whether a metric has this line.
async fn counted(api: &Daemon, line: &str) -> bool {
    let text = api.text("/metrics").await;
    text.lines().any(|l| l == line)
}

/// Whether so many translations ended with a code.
async fn translated(api: &Daemon, code: u16, count: u8) -> bool {
    let line = format!("apiserver_stream_translator_requests_total{{code=\"{code}\"}} {count}");
    counted(api, &line).await
}

#[tokio::test]
async fn a_websocket_becomes_streams_of_spdy_both_ways_until_the_exit_code() {
    let mut kubelet = Kubelet::speaking(&[V4]);
    let api = pod_of(&kubelet, &[], &[]).await;
    let mut client = Client::open(&api, &exec(ALL)).await;
    let mut served = kubelet.connection().await;
    let asked = kubelet.asked();
    assert_eq!(asked.method, Method::POST);
    assert_eq!(
        asked.path,
        "/exec/default/p/c?command=sh&command=-c&command=a+b&error=1&input=1&output=1"
    );
    assert_eq!(asked.all("upgrade"), ["SPDY/3.1"]);
    let offered = ["v5", "v4", "v3", "v2"].map(|v| format!("{v}.channel.k8s.io"));
    let protocols = asked.all("x-stream-protocol-version");
    assert_eq!(
        (&protocols[..4], protocols[4]),
        (&offered.each_ref().map(|s| &**s)[..], "channel.k8s.io")
    );
    assert!(!asked.headers.contains_key("sec-websocket-key"));
    let command = async {
        let mut error = served.stream("error").await;
        let mut stdin = served.stream("stdin").await;
        let mut stdout = served.stream("stdout").await;
        let mut stderr = served.stream("stderr").await;
        // Its end comes only because the client says so.
        tokio::io::copy(&mut stdin.reader, &mut stdout.writer)
            .await
            .unwrap();
        stdout.writer.shutdown().await.unwrap();
        say(&mut stderr, "oops\n").await;
        say(&mut error, exit("3").to_string()).await;
    };
    let sent = "0123456789".repeat(200_000);
    let write = say(&mut client.stdin, &sent);
    let ((), (), out, err, ended) = tokio::join!(
        command,
        write,
        text(&mut client.stdout),
        text(&mut client.stderr),
        status(&mut client.error)
    );
    assert!(out == sent, "{}", out.len());
    assert_eq!(err, "oops\n");
    assert_eq!(ended["reason"], "NonZeroExitCode");
    let causes = json!([{"reason": "ExitCode", "message": "3"}]);
    assert_eq!(ended["details"], json!({"causes": causes}));
    served.ends().await;
    assert!(translated(&api, 200, 1).await);
    let way = "apiserver_websocket_streaming_requests_total{proxy_type=\"translated_at_apiserver\",subresource=\"exec\"} 1";
    assert!(counted(&api, way).await);
}

#[tokio::test]
async fn a_terminal_has_sizes_and_one_output() {
    let mut kubelet = Kubelet::speaking(&[V4]);
    let api = pod_of(&kubelet, &[], &[]).await;
    let path = format!("{PODS}/p/attach?{ALL}&tty=true");
    let mut client = Client::open(&api, &path).await;
    let mut served = kubelet.connection().await;
    assert_eq!(
        kubelet.asked().path,
        "/attach/default/p/c?error=1&input=1&output=1&tty=1"
    );
    let mut error = served.stream("error").await;
    let _stdin = served.stream("stdin").await;
    let mut stdout = served.stream("stdout").await;
    let mut resize = served.stream("resize").await;
    let size = b"{\"Width\":99,\"Height\":44}\n";
    client.resize.writer.write_all(size).await.unwrap();
    let mut seen = [0; 25];
    resize.reader.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, size);
    say(&mut stdout, "resized\r\n").await;
    say(
        &mut error,
        json!({"metadata": {}, "status": "Success"}).to_string(),
    )
    .await;
    assert_eq!(text(&mut client.stdout).await, "resized\r\n");
    assert_eq!(text(&mut client.stderr).await, "");
    assert_eq!(status(&mut client.error).await["status"], "Success");
}

#[tokio::test]
async fn sizes_that_nobody_asked_for_hold_nothing_up() {
    let mut kubelet = Kubelet::speaking(&["v2.channel.k8s.io"]);
    let api = pod_of(&kubelet, &[], &[]).await;
    let mut client = Client::open(&api, &exec("stdin=true&stdout=true")).await;
    let mut served = kubelet.connection().await;
    let mut error = served.stream("error").await;
    let mut stdin = served.stream("stdin").await;
    let mut stdout = served.stream("stdout").await;
    for _ in 0..100 {
        client
            .resize
            .writer
            .write_all(&[b' '; 10_000])
            .await
            .unwrap();
    }
    say(&mut client.stdin, "input").await;
    assert_eq!(text(&mut stdin).await, "input");
    stdout.writer.shutdown().await.unwrap();
    // An old kubelet, which says failures in words.
    say(&mut error, "it broke").await;
    let ended = status(&mut client.error).await;
    let words = "Internal error occurred: error executing remote command: it broke";
    assert_eq!(ended["message"], words);
    assert!(translated(&api, 500, 1).await);
}

/// The node's kubelet is at another port, as the server knows.
async fn now_at(api: &Daemon, port: u16) {
    let endpoint = json!({"kubeletEndpoint": {"Port": port}});
    let status = json!({"status": {"daemonEndpoints": endpoint}});
    let (code, node) = api.patch("/api/v1/nodes/n/status", MERGE, &status).await;
    assert_eq!(code, 200, "{node}");
    eventually("the server knows", async || {
        let (_, node) = api.get("/api/v1/nodes/n?resourceVersion=0").await;
        node["status"]["daemonEndpoints"] == endpoint
    })
    .await;
}

/// What a client is told where there are no streams.
async fn told(api: &Daemon) -> Value {
    let mut client = Client::open(api, &exec("stdout=true")).await;
    let ended = status(&mut client.error).await;
    assert_eq!(text(&mut client.stdout).await, "");
    assert_eq!(
        (&ended["reason"], &ended["code"]),
        (&json!("InternalError"), &json!(500))
    );
    ended["message"].clone()
}

#[tokio::test]
async fn what_a_kubelet_refuses_is_told_on_the_error_channel() {
    let refuses = Kubelet::answering(|| answer(StatusCode::NOT_FOUND, "pod does not exist"));
    let api = pod_of(&refuses, &[], &[]).await;
    assert_eq!(
        told(&api).await,
        "Internal error occurred: unable to upgrade connection: pod does not exist"
    );
    let moves = Kubelet::answering(|| {
        let mut moved = serving::text(StatusCode::FOUND, "");
        let to = http::HeaderValue::from_static("https://elsewhere/exec");
        moved.headers_mut().insert(LOCATION, to);
        moved
    });
    now_at(&api, moves.port).await;
    assert_eq!(
        told(&api).await,
        "Internal error occurred: error sending request: Post \"https://elsewhere/exec\": redirect not allowed"
    );
    now_at(&api, 1).await;
    let said = told(&api).await;
    let path = "/exec/default/p/c?command=sh&command=-c&command=a+b&output=1";
    let why = "dial tcp 127.0.0.1:1: connect: connection refused";
    assert_eq!(
        said,
        format!(
            "Internal error occurred: error sending request: Post \"https://127.0.0.1:1{path}\": {why}"
        )
    );
}

#[tokio::test]
async fn a_command_whose_kubelet_is_lost_did_not_succeed() {
    let mut kubelet = Kubelet::speaking(&[V4]);
    let api = pod_of(&kubelet, &[], &[]).await;
    let mut client = Client::open(&api, &exec(ALL)).await;
    let mut served = kubelet.connection().await;
    let _error = served.stream("error").await;
    let _stdin = served.stream("stdin").await;
    let mut stdout = served.stream("stdout").await;
    let _stderr = served.stream("stderr").await;
    stdout.writer.write_all(b"begun\n").await.unwrap();
    let mut line = [0; 6];
    client.stdout.reader.read_exact(&mut line).await.unwrap();
    served.cut.cancel();
    let ended = status(&mut client.error).await;
    let message = ended["message"].as_str().unwrap();
    assert!(
        message.contains("error reading from error stream"),
        "{message}"
    );
    assert_eq!(ended["reason"], "InternalError");
    assert!(translated(&api, 500, 1).await);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_input_and_after_a_while_the_connection() {
    let mut kubelet = Kubelet::speaking(&[V4]);
    let api = pod_of(&kubelet, &[], &[]).await;
    let client = Client::open(&api, &exec(ALL)).await;
    let mut served = kubelet.connection().await;
    let _error = served.stream("error").await;
    let mut stdin = served.stream("stdin").await;
    let mut stdout = served.stream("stdout").await;
    let _stderr = served.stream("stderr").await;
    client.cut.cancel();
    assert_eq!(text(&mut stdin).await, "");
    // What the command still says goes nowhere, and does not hold it up.
    let late = vec![7; 8 << 20];
    let written = tokio::time::timeout(LIMIT, stdout.writer.write_all(&late)).await;
    written.expect("it is taken").unwrap();
    served.ends().await;
}

/// Writes until nobody takes anything for a while; how much was taken.
async fn fill(writer: &mut (impl tokio::io::AsyncWrite + Unpin)) -> usize {
    let part = [b'x'; 10_000];
    let mut written = 0;
    let quiet = Duration::from_secs(2);
    // A write that is given up has handed over nothing, or all of its part.
    while tokio::time::timeout(quiet, writer.write_all(&part))
        .await
        .is_ok()
    {
        written += part.len();
        assert!(written < 64 << 20, "it is held somewhere");
    }
    written
}

#[tokio::test]
async fn what_a_client_does_not_read_is_not_read_from_the_kubelet() {
    let mut kubelet = Kubelet::speaking(&[V4]);
    let api = pod_of(&kubelet, &[], &[]).await;
    let io = websocket(&api, &exec(ALL), V5).await;
    let Connection { mut streams, .. } = kubelet.connection().await;
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(streams.accept().await.unwrap());
    }
    let [mut error, stdin, mut stdout, stderr] = <[_; 4]>::try_from(all).ok().unwrap();
    let written = fill(&mut stdout.writer).await;
    // The kubelet is done and gone while the client has most of it still to come.
    let end = async move {
        stdout.writer.shutdown().await.unwrap();
        say(&mut error, exit("9").to_string()).await;
        drop((streams, stdin, stderr));
    };
    let read = async {
        let mut client = Client::over(io).await;
        let (out, ended) = tokio::join!(text(&mut client.stdout), status(&mut client.error));
        assert!(out.len() >= written, "{} of {written}", out.len());
        assert_eq!(ended["details"]["causes"][0]["message"], "9");
    };
    tokio::join!(end, read);
}

#[tokio::test]
async fn what_a_kubelet_does_not_read_is_not_read_from_the_client() {
    let mut kubelet = Kubelet::speaking(&[V4]);
    let api = pod_of(&kubelet, &[], &[]).await;
    let mut client = Client::open(&api, &exec(ALL)).await;
    let mut served = kubelet.connection().await;
    let _error = served.stream("error").await;
    let mut stdin = served.stream("stdin").await;
    let mut stdout = served.stream("stdout").await;
    let written = fill(&mut client.stdin.writer).await;
    // Output comes through all the same.
    say(&mut stdout, "well").await;
    let mut well = [0; 4];
    let read = client.stdout.reader.read_exact(&mut well);
    let read = tokio::time::timeout(LIMIT, read).await;
    read.expect("in time").unwrap();
    assert_eq!(&well, b"well");
    let end = client.stdin.writer.shutdown();
    let (ended, read) = tokio::join!(end, text(&mut stdin));
    ended.unwrap();
    assert!(read.len() >= written, "{} of {written}", read.len());
}

#[tokio::test]
async fn what_every_kubelet_speaks_is_handed_on() {
    let kubelet = Kubelet::speaking(&[V4]);
    let api = pod_of(&kubelet, &[], &[]).await;
    // This one speaks no WebSocket at all, and says so itself.
    let (head, _) = asking(&api, &exec(ALL), V4).await;
    assert!(head.starts_with("http/1.1 400 "), "{head}");
    let asked = kubelet.asked();
    assert_eq!(
        (asked.method.as_str(), asked.all("upgrade")),
        ("GET", vec!["websocket"])
    );
    assert!(!translated(&api, 400, 1).await);
}

#[tokio::test]
async fn a_websocket_goes_to_kubelets_that_declare_it() {
    let kubelet = Kubelet::speaking(&[V4]);
    let api = pod_of(&kubelet, &[FEATURE], &[]).await;
    let (head, _) = asking(&api, &exec(ALL), V5).await;
    assert!(head.starts_with("http/1.1 400 "), "{head}");
    assert_eq!(kubelet.asked().all("sec-websocket-protocol"), [V5]);
    let way = "apiserver_websocket_streaming_requests_total{proxy_type=\"proxied_to_kubelet\",subresource=\"exec\"} 1";
    assert!(counted(&api, way).await);
}

#[tokio::test]
async fn without_its_gate_nothing_goes_to_kubelets_that_declare_it() {
    let mut kubelet = Kubelet::speaking(&[V4]);
    let flag = "--feature-gates=ExtendWebSocketsToKubelet=false";
    let api = pod_of(&kubelet, &[FEATURE], &[flag]).await;
    let mut client = Client::open(&api, &exec("stdout=true")).await;
    let mut served = kubelet.connection().await;
    let mut error = served.stream("error").await;
    let mut stdout = served.stream("stdout").await;
    say(&mut stdout, "here").await;
    say(&mut error, exit("1").to_string()).await;
    assert_eq!(text(&mut client.stdout).await, "here");
    assert_eq!(status(&mut client.error).await["reason"], "NonZeroExitCode");
}

#[tokio::test]
async fn without_its_gate_nothing_is_translated() {
    let kubelet = Kubelet::speaking(&[V4]);
    let flag = "--feature-gates=TranslateStreamCloseWebsocketRequests=false";
    let api = pod_of(&kubelet, &[], &[flag]).await;
    let (head, _) = asking(&api, &exec(ALL), V5).await;
    assert!(head.starts_with("http/1.1 400 "), "{head}");
    assert_eq!(kubelet.asked().all("upgrade"), ["websocket"]);
    let text = api.text("/metrics").await;
    assert!(
        !text.contains("apiserver_websocket_streaming_requests_total{"),
        "{text}"
    );
}
