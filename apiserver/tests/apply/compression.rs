//! What is sent compressed, and that it is the same.

use std::io::Read;

use bytes::Bytes;
use flate2::bufread::GzDecoder;
use flate2::read::MultiGzDecoder;
use http::HeaderMap;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

use super::config_map;
use super::daemon::Daemon;
use super::wire::Wire;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const WATCH: &str =
    "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=30";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// One connection of HTTP/2 on which nothing is decompressed.
struct Client(SendRequest<Empty<Bytes>>);

impl Client {
    async fn of(api: &Daemon) -> Self {
        let io = TokioIo::new(Wire::http2(api).await);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        let tasks = component::Supervisor::current();
        tasks.spawn(component::Task::Background, "client", async move {
            let _ = connection.await;
        });
        Self(sender)
    }

    async fn begin(&mut self, path: &str, accept: &str, encoding: &str) -> (HeaderMap, Incoming) {
        let request = http::Request::get(format!("https://127.0.0.1{path}"))
            .header("accept", accept)
            .header("accept-encoding", encoding)
            .body(Empty::new());
        let answer = self.0.send_request(request.unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        let (head, body) = answer.into_parts();
        (head.headers, body)
    }

    async fn get(&mut self, path: &str, accept: &str, encoding: &str) -> (HeaderMap, Bytes) {
        let (head, body) = self.begin(path, accept, encoding).await;
        (head, body.collect().await.unwrap().to_bytes())
    }
}

fn inflate(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    MultiGzDecoder::new(bytes).read_to_end(&mut plain)?;
    Ok(plain)
}

fn is_gzip(head: &HeaderMap) -> bool {
    let encoded = head.get("content-encoding").map(|v| v.as_bytes());
    let varies = head.get_all("vary").iter().any(|v| v == "Accept-Encoding");
    assert_eq!(encoded.is_some(), varies);
    encoded == Some(b"gzip")
}

/// Objects of this many bytes.
async fn fill(api: &Daemon, count: usize, size: usize) {
    for n in 0..count {
        let text: String = (0..size)
            .map(|i| char::from(b'a' + ((i * n) % 26) as u8))
            .collect();
        let map = config_map(&format!("m{n:03}"), json!({"text": text}));
        assert_eq!(api.send("POST", MAPS, &map).await.0, 201);
    }
}

#[tokio::test]
async fn long_answers_are_compressed_if_the_client_likes_and_are_the_same() {
    let api = Daemon::start().await;
    fill(&api, 50, 5_000).await;
    let large = config_map("large", json!({"text": "x".repeat(200_000)}));
    assert_eq!(api.send("POST", MAPS, &large).await.0, 201);
    let mut client = Client::of(&api).await;
    for accept in ["application/json", PROTOBUF, "application/yaml"] {
        for path in [MAPS.to_owned(), format!("{MAPS}/large")] {
            let (head, plain) = client.get(&path, accept, "identity").await;
            assert!(!is_gzip(&head) && plain.len() > 128 * 1024, "{path}");
            let (head, compressed) = client.get(&path, accept, "br, gzip").await;
            assert!(is_gzip(&head), "{accept} {path}: {head:?}");
            assert!(!head.contains_key("content-length"));
            assert!(inflate(&compressed).unwrap() == plain, "{accept} {path}");
            assert!(compressed.len() < plain.len() / 2);
        }
        // As upstream: not by another name, and not what is short.
        let (head, _) = client.get(MAPS, accept, "gzip;q=1").await;
        assert!(!is_gzip(&head));
        for path in [
            format!("{MAPS}/m001"),
            format!("{MAPS}?fieldSelector=metadata.name=m002"),
            "/apis/apps/v1".into(),
        ] {
            let accept = if path.starts_with("/apis") {
                "application/json"
            } else {
                accept
            };
            let (head, _) = client.get(&path, accept, "gzip").await;
            assert!(!is_gzip(&head), "{path}");
            assert!(head.contains_key("content-length"), "{path}");
        }
    }
    let (head, table) = client
        .get(MAPS, &format!("{TABLE},application/json"), "gzip")
        .await;
    assert!(!is_gzip(&head), "a table of these is short");
    assert!(table.starts_with(b"{\"kind\":\"Table\""));
    let (head, table) = client
        .get(&format!("{MAPS}?includeObject=Object"), TABLE, "gzip")
        .await;
    assert!(is_gzip(&head));
    let table: Value = serde_json::from_slice(&inflate(&table).unwrap()).unwrap();
    assert_eq!(table["rows"].as_array().unwrap().len(), 51);
}

#[tokio::test]
async fn a_gate_switches_compression_off() {
    let gates = "--feature-gates=APIResponseCompression=false,WatchListCompression=false";
    let api = Daemon::start_with(|_| vec![gates.into()]).await;
    fill(&api, 50, 5_000).await;
    let mut client = Client::of(&api).await;
    let (head, _) = client.get(MAPS, "application/json", "gzip").await;
    assert!(!is_gzip(&head));
    let path = format!("{MAPS}?{WATCH}&allowWatchBookmarks=true");
    let (head, _) = client.begin(&path, "application/json", "gzip").await;
    assert!(!is_gzip(&head));
}

/// Members that the server has made.
async fn members(api: &Daemon) -> u64 {
    let text = api.text("/metrics").await;
    let line = text
        .lines()
        .find(|l| l.starts_with("navarch_gzip_members_total "));
    line.and_then(|l| l.rsplit_once(' ')?.1.parse().ok())
        .unwrap()
}

/// A watch, and what has come of it.
struct Watching {
    body: Incoming,
    raw: Vec<u8>,
    /// The frames of the answer, as they came.
    frames: Vec<Bytes>,
}

impl Watching {
    async fn of(api: &Daemon, accept: &str, bookmarks: bool) -> (HeaderMap, Self) {
        let path = format!("{MAPS}?{WATCH}&allowWatchBookmarks={bookmarks}");
        let (head, body) = Client::of(api).await.begin(&path, accept, "gzip").await;
        let (raw, frames) = (Vec::new(), Vec::new());
        (head, Self { body, raw, frames })
    }

    /// What Go's reader gives out: a member once the head of the next one is there (`Reader.Read` of `compress/gzip`).
    fn given_out(&self) -> Vec<u8> {
        const HEAD: usize = 10;
        let (mut plain, mut rest) = (Vec::new(), self.raw.as_slice());
        loop {
            let (mut decoder, mut member) = (GzDecoder::new(rest), Vec::new());
            let is_whole = decoder.read_to_end(&mut member).is_ok();
            rest = decoder.into_inner();
            if !is_whole || rest.len() < HEAD {
                return plain;
            }
            plain.extend(member);
        }
    }

    /// Reads until what a client is given has this in it.
    async fn until(&mut self, text: &str) -> Vec<u8> {
        loop {
            let plain = self.given_out();
            if plain.windows(text.len()).any(|w| w == text.as_bytes()) {
                return plain;
            }
            let frame = self.body.frame().await.expect("it goes on").unwrap();
            let frame = frame.into_data().unwrap();
            self.raw.extend_from_slice(&frame);
            self.frames.push(frame);
        }
    }
}

#[tokio::test]
async fn a_watch_that_begins_with_everything_is_compressed_event_by_event() {
    let api = Daemon::start().await;
    fill(&api, 100, 2_000).await;
    let (head, mut one) = Watching::of(&api, "application/json", true).await;
    assert!(is_gzip(&head), "{head:?}");
    let (_, mut other) = Watching::of(&api, "application/json", true).await;
    let (head, mut binary) = Watching::of(&api, &format!("{PROTOBUF};stream=watch"), true).await;
    assert!(is_gzip(&head));
    let (head, _) = Watching::of(&api, "application/json", false).await;
    assert!(!is_gzip(&head), "only those that upstream compresses");

    let begin = one.until("k8s.io/initial-events-end").await;
    let lines: Vec<Value> = begin
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let count = |kind: &str| lines.iter().filter(|event| event["type"] == kind).count();
    assert!(
        count("ADDED") >= 100 && count("BOOKMARK") == 1,
        "{}",
        lines.len()
    );
    // Together: what comes at once is not a member for each.
    assert!(
        one.raw.len() < begin.len() / 8,
        "{} of {}",
        one.raw.len(),
        begin.len()
    );
    assert!(one.frames.len() < 20, "{}", one.frames.len());
    other.until("k8s.io/initial-events-end").await;
    binary.until("k8s.io/initial-events-end").await;

    // What happens now is there at once, whole, and compressed once for all who take the same form.
    let before = members(&api).await;
    for n in 0..10 {
        let text = format!("it happens now, {n}.");
        let map = config_map(&format!("fresh{n}"), json!({"text": text}));
        assert_eq!(api.send("POST", MAPS, &map).await.0, 201);
        let seen = one.until(&text).await;
        assert!(seen.ends_with(b"}\n"), "a whole event");
        other.until(&text).await;
        binary.until(&text).await;
        assert_eq!(one.frames.last(), other.frames.last());
    }
    // One of JSON and one of protobuf each; two that begin at the same moment both make it, and one is kept.
    let made = members(&api).await - before;
    assert!(
        (20..28).contains(&made),
        "{made}, and 30 if nothing is shared"
    );
    assert_eq!(
        api.send("DELETE", &format!("{MAPS}/fresh0"), &json!({}))
            .await
            .0,
        200
    );
    let seen = one.until("DELETED").await;
    assert!(
        String::from_utf8(seen)
            .unwrap()
            .contains("{\"type\":\"DELETED\",\"object\":{\"kind\":\"ConfigMap\"")
    );
}
