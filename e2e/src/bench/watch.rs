//! Many watchers of one collection, and how soon each hears of a write.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::Method;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::client::{Call, Connection, Error};
use super::load::{Cost, Meter, Target};
use super::objects;

/// Connections that the watchers share.
const CONNECTIONS: usize = 16;
/// An event that is not there after this long counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// What watching cost, and how many events never came.
pub(super) struct Watched {
    pub cost: Cost,
    pub lost: usize,
    /// What the server's resident memory grew by per watcher, in bytes.
    pub memory: f64,
}

/// `watchers` see each of `writes`, made one after the other, `pause` apart.
pub(super) async fn run(
    target: &Target,
    watchers: usize,
    writes: usize,
    pause: Duration,
) -> Result<Watched, Error> {
    let before = super::process::memory(target.server).resident;
    let began = Arc::new(Mutex::new(Vec::with_capacity(writes)));
    let (heard, mut hear) = mpsc::channel(4096);
    let path = format!(
        "{}?watch=true&fieldSelector=metadata.name%3Ditem-00000",
        objects::collection("configmaps")
    );
    // Dropped with this function, and the watches with it.
    let mut tasks = JoinSet::new();
    for number in 0..CONNECTIONS {
        let connection = Connection::open(target.address, Arc::clone(&target.tls)).await?;
        for _ in (number..watchers).step_by(CONNECTIONS) {
            let (began, heard) = (Arc::clone(&began), heard.clone());
            tasks.spawn(watcher(connection.clone(), path.clone(), began, heard));
        }
    }
    drop(heard);
    // Each watcher first sees the object as it is.
    for _ in 0..watchers {
        let _ = tokio::time::timeout(PATIENCE, hear.recv()).await;
    }
    let grown = super::process::memory(target.server)
        .resident
        .saturating_sub(before);
    let mut writer = Connection::open(target.address, Arc::clone(&target.tls)).await?;
    let item = format!("{}/item-00000", objects::collection("configmaps"));
    let mut meter = Meter::of(target);
    let mut latencies = Vec::with_capacity(watchers * writes);
    let every = (writes / target.pieces()).max(1);
    for n in 0..writes {
        if n % every == 0 {
            meter.pause();
            target.pass().await;
            meter.resume();
        }
        let body = format!("{{\"data\":{{\"write\":\"{n}\"}}}}");
        let call =
            Call::new(Method::PATCH, item.clone(), body).content("application/merge-patch+json");
        began.lock().push(Instant::now());
        let start = Instant::now();
        writer.send(&call).await?;
        let next = tokio::time::sleep(pause.saturating_sub(start.elapsed()));
        tokio::pin!(next);
        loop {
            tokio::select! {
                Some(latency) = hear.recv() => latencies.extend(latency),
                () = &mut next => break,
            }
        }
        // Before others have their turn, all have heard of what was written.
        let all_heard = (n + 1) % every == 0 || n + 1 == writes;
        while all_heard && latencies.len() < watchers * (n + 1) {
            match tokio::time::timeout(PATIENCE, hear.recv()).await {
                Ok(Some(latency)) => latencies.extend(latency),
                _ => break,
            }
        }
    }
    let expected = watchers * writes;
    Ok(Watched {
        lost: expected - latencies.len(),
        cost: meter.stop(latencies.len(), latencies),
        memory: grown as f64 / watchers as f64,
    })
}

/// Tells of each event: nothing for the first, then how long after its write it came.
async fn watcher(
    mut connection: Connection,
    path: String,
    began: Arc<Mutex<Vec<Instant>>>,
    heard: mpsc::Sender<Option<Duration>>,
) {
    let Ok(response) = connection.begin(&Call::get(path)).await else {
        return;
    };
    let mut body = response.into_body();
    let mut events = 0;
    while let Some(Ok(frame)) = body.frame().await {
        let Some(data) = frame.data_ref() else {
            continue;
        };
        // Events are lines.
        for _ in data.iter().filter(|byte| **byte == b'\n') {
            let latency = match events {
                0 => None,
                n => began.lock().get(n - 1).map(Instant::elapsed),
            };
            events += 1;
            if heard.send(latency).await.is_err() {
                return;
            }
        }
    }
}
