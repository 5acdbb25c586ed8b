//! Clients that do not take what they asked for: they are given up, counted, and nobody else notices.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;

use super::config_map;
use super::daemon::Daemon;
use super::wire::Wire;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// How long a client may take nothing, and the time to notice.
const GIVEN_UP: Duration = Duration::from_secs(45);

/// Requests of one connection, whose streams take only so much until somebody reads.
async fn connect(api: &Daemon, window: u32) -> SendRequest<Empty<Bytes>> {
    let io = TokioIo::new(Wire::http2(api).await);
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(io)
        .await
        .unwrap();
    let tasks = component::Supervisor::current();
    tasks.spawn(component::Task::Background, "client", async move {
        let _ = connection.await;
    });
    sender
}

async fn begin(sender: &mut SendRequest<Empty<Bytes>>, path: &str) -> Incoming {
    let request = http::Request::get(format!("https://127.0.0.1{path}")).body(Empty::new());
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.into_body()
}

/// The value of the metric whose line has all of these in it.
async fn metric(api: &Daemon, parts: &[&str]) -> f64 {
    let text = api.text("/metrics").await;
    let found = text
        .lines()
        .find(|line| !line.starts_with('#') && parts.iter().all(|p| line.contains(p)));
    found
        .and_then(|line| line.rsplit_once(' '))
        .map_or(0.0, |(_, n)| n.parse().unwrap())
}

/// Two megabytes.
async fn fill(api: &Daemon) {
    for n in 0..40 {
        let map = config_map(&format!("m{n}"), json!({"text": "x".repeat(50_000)}));
        assert_eq!(api.send("POST", MAPS, &map).await.0, 201);
    }
}

#[tokio::test]
async fn watches_and_lists_that_nobody_reads_are_given_up_and_others_do_not_notice() {
    const CONNECTIONS: usize = 5;
    const EACH: usize = 60;
    let api = Daemon::start().await;
    fill(&api).await;
    let mut held = Vec::new();
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut sender = connect(&api, 1000).await;
        for n in 0..EACH {
            let path = if n % 2 == 0 {
                format!("{MAPS}?watch=true")
            } else {
                format!("{MAPS}?limit=100")
            };
            held.push(begin(&mut sender, &path).await);
        }
        connections.push(sender);
    }
    let watchers = ["navarch_watch_cache_watchers", "\"configmaps\""];
    let half = (CONNECTIONS * EACH / 2) as f64;
    assert!(metric(&api, &watchers).await >= half);
    // A connection like those, on which one watch is read.
    let mut sender = connect(&api, 1000).await;
    let mut read = begin(&mut sender, &format!("{MAPS}?watch=true&resourceVersion=0&sendInitialEvents=false&resourceVersionMatch=NotOlderThan")).await;
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    while start.elapsed() < GIVEN_UP {
        let asked = Instant::now();
        assert_eq!(api.get(&format!("{MAPS}/m1")).await.0, 200);
        slowest = slowest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(
        slowest < Duration::from_secs(2),
        "others waited {slowest:?}"
    );
    assert!(
        metric(&api, &watchers).await <= 20.0,
        "the server's own and one"
    );
    assert!(metric(&api, &["navarch_stalled_answers_total"]).await >= 2.0 * half);
    // What they held is broken off; the one that is read goes on.
    for mut body in held {
        let mut end = None;
        while let Some(frame) = body.frame().await {
            if frame.is_err() {
                end = Some(frame);
                break;
            }
        }
        assert!(end.is_some(), "it seems to be complete");
    }
    let map = config_map("late", json!({}));
    assert_eq!(api.send("POST", MAPS, &map).await.0, 201);
    let event = tokio::time::timeout(Duration::from_secs(10), read.frame()).await;
    let event = event.unwrap().unwrap().unwrap().into_data().unwrap();
    assert!(String::from_utf8_lossy(&event).contains("\"late\""));
}

#[tokio::test]
async fn a_list_has_the_time_of_its_request() {
    let api = Daemon::start().await;
    fill(&api).await;
    let mut sender = connect(&api, 20_000).await;
    let mut body = begin(&mut sender, &format!("{MAPS}?timeout=3s")).await;
    let (start, mut taken) = (Instant::now(), 0);
    let end = loop {
        // Steady, and too slow for two megabytes.
        tokio::time::sleep(Duration::from_millis(100)).await;
        match body.frame().await {
            Some(Ok(frame)) => taken += frame.into_data().unwrap().len(),
            other => break other,
        }
    };
    assert!(end.is_some_and(|end| end.is_err()), "broken off, not ended");
    assert!(taken > 100_000 && taken < 1_900_000, "{taken}");
    assert!(start.elapsed() < Duration::from_secs(10));
    let counted = [
        "apiserver_request_terminations_total",
        "\"configmaps\"",
        "\"LIST\"",
        "504",
    ];
    assert!(metric(&api, &counted).await >= 1.0);
    // One that hurries has it all.
    let mut sender = connect(&api, 1 << 20).await;
    let body = begin(&mut sender, &format!("{MAPS}?timeout=30s")).await;
    assert!(body.collect().await.unwrap().to_bytes().len() > 2_000_000);
}

#[tokio::test]
async fn two_thousand_watches_of_one_client_are_counted_and_cost_little() {
    const CONNECTIONS: usize = 20;
    const EACH: usize = 100;
    let api = Daemon::start().await;
    fill(&api).await;
    let before = metric(&api, &["process_resident_memory_bytes"]).await;
    // With the objects that there are, once: those must not be held for each.
    let (mut held, mut connections) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        let mut sender = connect(&api, 1000).await;
        for _ in 0..EACH {
            held.push(
                begin(
                    &mut sender,
                    &format!("{MAPS}?watch=true&fieldSelector=metadata.name=m1"),
                )
                .await,
            );
        }
        connections.push(sender);
    }
    let open = ["apiserver_longrunning_requests", "\"configmaps\""];
    let watches = (CONNECTIONS * EACH) as f64;
    assert!(metric(&api, &open).await >= watches);
    let each = (metric(&api, &["process_resident_memory_bytes"]).await - before) / watches;
    assert!(
        each < 200_000.0,
        "{each} bytes each, with an object on its way"
    );
    let asked = Instant::now();
    assert_eq!(api.get(&format!("{MAPS}/m1")).await.0, 200);
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
    drop((held, connections));
    let start = Instant::now();
    while metric(&api, &open).await > 20.0 {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "they are counted still"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
