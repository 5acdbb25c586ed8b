//! Every kubelet watches the pods of its node: what a write costs when thousands of watches must not be
//! woken, and how soon the one that must be hears of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::Method;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::client::{Call, Connection, Error};
use super::super::load::{self, Cost, Meter, Target};
use super::super::{objects, process};

const CONNECTIONS: usize = 64;
const WRITERS: usize = 8;
const WRITES_PER_SECOND: usize = 200;
/// An event that is not there after this long counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// What watching cost, and how many events never came.
pub(super) struct Watched {
    pub cost: Cost,
    pub lost: usize,
    /// What the server's resident memory grew by per watch, in bytes.
    pub memory: f64,
}

/// When the last write of each node's pod began.
type Began = Arc<[Mutex<Instant>]>;

/// One pod on each node, one watch of each node, and `seconds` of writes.
pub(super) async fn run(target: &Target, nodes: usize, seconds: usize) -> Result<Watched, Error> {
    let pods = objects::collection("pods");
    load::run(target, 16, nodes, |n| {
        let pod = objects::bound_pod(n, &node(n)).to_string();
        Call::new(Method::POST, pods.clone(), pod)
    })
    .await?;
    let began: Began = (0..nodes).map(|_| Mutex::new(Instant::now())).collect();
    let before = process::memory(target.server).resident;
    let (heard, mut hear) = mpsc::channel(4096);
    // Dropped with this function, and the watches with it.
    let mut tasks = JoinSet::new();
    for number in 0..CONNECTIONS.min(nodes) {
        let connection = Connection::open(target.address, Arc::clone(&target.tls)).await?;
        for n in (number..nodes).step_by(CONNECTIONS) {
            tasks.spawn(watch(
                connection.clone(),
                n,
                Arc::clone(&began),
                heard.clone(),
            ));
        }
    }
    drop(heard);
    // Each first sees its pod as it is.
    for _ in 0..nodes {
        let _ = tokio::time::timeout(PATIENCE, hear.recv()).await;
    }
    let grown = process::memory(target.server)
        .resident
        .saturating_sub(before);
    let total = seconds * WRITES_PER_SECOND;
    let meter = Meter::start(target);
    let write = write(target, nodes, total, &began);
    let mut latencies = Vec::with_capacity(total);
    let mut write = std::pin::pin!(write);
    loop {
        tokio::select! {
            written = &mut write => { written?; break; }
            Some(latency) = hear.recv() => latencies.extend(latency),
        }
    }
    while latencies.len() < total {
        match tokio::time::timeout(PATIENCE, hear.recv()).await {
            Ok(Some(latency)) => latencies.extend(latency),
            _ => break,
        }
    }
    let lost = total.saturating_sub(latencies.len());
    Ok(Watched {
        cost: meter.stop(total, latencies),
        lost,
        memory: grown as f64 / nodes as f64,
    })
}

fn node(n: usize) -> String {
    format!("node-{n:05}")
}

/// Writes pods one after the other, at a steady pace.
async fn write(target: &Target, nodes: usize, total: usize, began: &Began) -> Result<(), Error> {
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        writers.push(Connection::open(target.address, Arc::clone(&target.tls)).await?);
    }
    let pause = Duration::from_secs(1) * WRITERS as u32 / WRITES_PER_SECOND as u32;
    let work = writers
        .into_iter()
        .enumerate()
        .map(|(first, mut connection)| async move {
            let mut next = tokio::time::interval(pause);
            next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            for n in (first..total).step_by(WRITERS) {
                next.tick().await;
                let path = format!("{}/bound-{:05}", objects::collection("pods"), n % nodes);
                let body = format!("{{\"metadata\":{{\"annotations\":{{\"write\":\"{n}\"}}}}}}");
                let call =
                    Call::new(Method::PATCH, path, body).content("application/merge-patch+json");
                *began[n % nodes].lock() = Instant::now();
                connection.send(&call).await?;
            }
            Ok::<_, Error>(())
        });
    futures::future::try_join_all(work).await?;
    Ok(())
}

/// Tells of each event: nothing for the first, then how long after its write it came.
async fn watch(
    mut connection: Connection,
    n: usize,
    began: Began,
    heard: mpsc::Sender<Option<Duration>>,
) {
    let path = format!(
        "/api/v1/pods?watch=true&fieldSelector=spec.nodeName%3D{}",
        node(n)
    );
    let Ok(response) = connection.begin(&Call::get(path)).await else {
        return;
    };
    let (mut body, mut first) = (response.into_body(), true);
    while let Some(Ok(frame)) = body.frame().await {
        let lines = frame
            .data_ref()
            .map_or(0, |data| data.iter().filter(|byte| **byte == b'\n').count());
        for _ in 0..lines {
            let latency = (!first).then(|| began[n].lock().elapsed());
            first = false;
            if heard.send(latency).await.is_err() {
                return;
            }
        }
    }
}
