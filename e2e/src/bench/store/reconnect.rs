//! A load balancer fails over, or a server is replaced: all clients come back in one moment, each over a
//! connection of its own, and go on watching where they were.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use hyper::body::Incoming;
use serde_json::Value;

use super::super::client::{Call, Connection, Error};
use super::super::load::{Cost, Meter, Target};
use super::super::objects;

/// Clients that connect together before anything is measured.
const AT_ONCE: usize = 100;
/// Between two looks at `/readyz`.
const PROBE: Duration = Duration::from_millis(100);
/// Before a client that was refused tries again.
const AGAIN: Duration = Duration::from_millis(200);

pub(super) struct Back {
    pub cost: Cost,
    /// Tries that were refused.
    pub failed: usize,
    /// Answers of `/readyz` that were none or not good, and the longest wait for one.
    pub not_ready: usize,
    pub slowest: Duration,
}

/// A client: its connection and its watch.
type Client = (Connection, Incoming);

pub(super) async fn run(target: &Target, clients: usize) -> Result<Back, Error> {
    let path = format!(
        "{}?watch=true&resourceVersion={}",
        objects::collection("configmaps"),
        version(target).await?
    );
    let mut standing = Vec::with_capacity(clients);
    while standing.len() < clients {
        let more = AT_ONCE.min(clients - standing.len());
        let opens = (0..more).map(|_| client(target, &path));
        standing.extend(try_join_all(opens).await?);
    }
    let failed = AtomicUsize::new(0);
    let done = AtomicBool::new(false);
    let meter = Meter::start(target);
    drop(standing);
    let again = async {
        let start = Instant::now();
        let back = join_all((0..clients).map(|_| async {
            loop {
                match client(target, &path).await {
                    Ok(client) => return (client, start.elapsed()),
                    Err(_) => {
                        failed.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
        }))
        .await;
        done.store(true, Ordering::Relaxed);
        back
    };
    let (back, (not_ready, slowest)) = tokio::join!(again, probe(target, &done));
    let latencies = back.iter().map(|(_, took)| *took).collect();
    Ok(Back {
        cost: meter.stop(clients, latencies),
        failed: failed.into_inner(),
        not_ready,
        slowest,
    })
}

async fn client(target: &Target, path: &str) -> Result<Client, Error> {
    let mut connection = Connection::open(target.address, Arc::clone(&target.tls)).await?;
    let response = connection.begin(&Call::get(path)).await?;
    Ok((connection, response.into_body()))
}

/// The version of the newest list.
async fn version(target: &Target) -> Result<String, Error> {
    let mut connection = Connection::open(target.address, Arc::clone(&target.tls)).await?;
    let (mut text, path) = (Vec::new(), objects::collection("configmaps"));
    let call = Call::get(format!("{path}?limit=1"));
    connection
        .read(&call, |data| text.extend_from_slice(data))
        .await?;
    let list: Value = serde_json::from_slice(&text).unwrap_or_default();
    let version = list["metadata"]["resourceVersion"].as_str();
    Ok(version.unwrap_or_default().to_owned())
}

/// Asks for readiness until `done`, over a new connection each time, as a load balancer does.
async fn probe(target: &Target, done: &AtomicBool) -> (usize, Duration) {
    let (mut bad, mut slowest) = (0, Duration::ZERO);
    while !done.load(Ordering::Relaxed) {
        let start = Instant::now();
        let answer = async {
            let tls = Arc::clone(&target.tls);
            let mut connection = Connection::open(target.address, tls).await?;
            connection.send(&Call::get("/readyz")).await
        };
        if answer.await.is_err() {
            bad += 1;
        }
        slowest = slowest.max(start.elapsed());
        tokio::time::sleep(PROBE).await;
    }
    (bad, slowest)
}
