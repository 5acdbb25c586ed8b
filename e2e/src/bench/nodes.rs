//! A whole cluster: what its daemons take while nothing happens, and how soon pods run.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::client::{Call, Connection, Error};
use super::load::Target;
use super::report::Figures;
use super::{objects, process};
use crate::cluster::{Cluster, Daemon};

/// Nothing happens for this long before and while idleness is measured.
const SETTLE: Duration = Duration::from_secs(30);
const WINDOW: Duration = Duration::from_secs(60);
/// A pod that does not run after this long will not.
const PATIENCE: Duration = Duration::from_secs(120);
const MIB: f64 = (1 << 20) as f64;

/// The daemons whose idleness counts.
const DAEMONS: &[(Option<&str>, Daemon)] = &[
    (None, Daemon::KubeApiserver),
    (None, Daemon::KubeControllerManager),
    (None, Daemon::KubeScheduler),
    (None, Daemon::Etcd),
    (Some("node-1"), Daemon::Kubelet),
    (Some("node-1"), Daemon::Containerd),
    (Some("node-1"), Daemon::KubeProxy),
];

/// Memory and CPU of each daemon of a cluster that has nothing to do.
pub async fn idle(cluster: &Cluster, figures: &mut Figures, tell: &dyn Fn(&str)) {
    tell("settling");
    tokio::time::sleep(SETTLE).await;
    tell("idle");
    let running: Vec<(&str, Pid)> = DAEMONS
        .iter()
        .filter_map(|(node, daemon)| Some((daemon.name(), cluster.pid(*node, *daemon).ok()?)))
        .collect();
    let before: Vec<Duration> = running.iter().map(|(_, pid)| process::cpu(*pid)).collect();
    tokio::time::sleep(WINDOW).await;
    for ((name, pid), before) in running.into_iter().zip(before) {
        let used = process::cpu(pid).saturating_sub(before).as_secs_f64();
        let memory = process::memory(pid);
        figures.add(
            format!("{name}, idle: resident"),
            "MiB",
            memory.resident as f64 / MIB,
        );
        figures.add(
            format!("{name}, idle: anonymous"),
            "MiB",
            memory.anonymous as f64 / MIB,
        );
        let share = used / WINDOW.as_secs_f64() * 100.0;
        figures.add(format!("{name}, idle: CPU"), "% of a core", share);
    }
    let shims = shims(&cluster.name());
    if !shims.is_empty() {
        let sum: u64 = shims.iter().map(|pid| process::memory(*pid).resident).sum();
        figures.add(
            "shim of a pod: resident",
            "MiB",
            sum as f64 / shims.len() as f64 / MIB,
        );
    }
}

/// The processes that hold a pod each, ours (`shim`) or containerd's.
fn shims(cluster: &str) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_shim = |pid: &i32| {
        let read =
            |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        read("comm").contains("shim") && read("cgroup").contains(&format!("/{cluster}/"))
    };
    pids.filter(is_shim).map(Pid::from_raw).collect()
}

/// How soon pods run whose image is there: one after the other, then many at once.
pub async fn pods(
    target: &Target,
    figures: &mut Figures,
    tell: &dyn Fn(&str),
) -> Result<(), Error> {
    let mut connection = Connection::open(target.address, target.tls.clone()).await?;
    let post = |path: String, object: Value| Call::new(Method::POST, path, object.to_string());
    connection
        .send(&post("/api/v1/namespaces".into(), objects::namespace()))
        .await?;
    let account = format!("{}/default", objects::collection("serviceaccounts"));
    until(|| {
        let (mut connection, call) = (connection.clone(), Call::get(account.clone()));
        async move { connection.send(&call).await.is_ok() }
    })
    .await;
    let mut starts = Vec::new();
    for n in 0..20 {
        tell(&format!("pod {n} of 20"));
        let took = start(&mut connection, &[format!("single-{n}")]).await?;
        starts.extend(took);
        remove(&mut connection).await?;
    }
    starts.sort_unstable();
    let ms = |d: &Duration| d.as_secs_f64() * 1000.0;
    let at = |share: f64| {
        starts
            .get((starts.len() as f64 * share) as usize)
            .map_or(f64::NAN, ms)
    };
    figures.add("pod start, one: p50", "ms", at(0.5));
    figures.add("pod start, one: slowest of 20", "ms", at(0.99));
    tell("30 pods at once");
    let names: Vec<String> = (0..30).map(|n| format!("burst-{n}")).collect();
    let took = start(&mut connection, &names).await?;
    let last = took.iter().max().map_or(f64::NAN, ms);
    figures.add("pod start, 30 at once on 2 nodes: the last", "ms", last);
    remove(&mut connection).await
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": objects::NAMESPACE},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": "navarch.local/busybox:1", "command": ["sleep", "3600"]}],
        },
    })
}

/// Creates pods at once; how long after its creation each was seen running.
async fn start(connection: &mut Connection, names: &[String]) -> Result<Vec<Duration>, Error> {
    let path = objects::collection("pods");
    let watch = Call::get(format!("{path}?watch=true&resourceVersion=0"));
    let mut events = Events::new(connection.begin(&watch).await?.into_body());
    let creations = names.iter().map(|name| {
        let mut connection = connection.clone();
        let call = Call::new(Method::POST, path.clone(), pod(name).to_string());
        async move {
            let began = Instant::now();
            connection.send(&call).await?;
            Ok::<_, Error>((name.clone(), began))
        }
    });
    let began: HashMap<String, Instant> = try_join_all(creations).await?.into_iter().collect();
    let mut took: HashMap<String, Duration> = HashMap::new();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while took.len() < names.len() {
        let Ok(Some(event)) = tokio::time::timeout_at(deadline, events.next()).await else {
            break;
        };
        let object = &event["object"];
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if object["status"]["phase"] != "Running" || took.contains_key(name) {
            continue;
        }
        if let Some(began) = began.get(name) {
            took.insert(name.to_owned(), began.elapsed());
        }
    }
    let missing = names.len() - took.len();
    Ok(took
        .into_values()
        .chain(std::iter::repeat_n(PATIENCE, missing))
        .collect())
}

/// Deletes all pods and waits until they are gone.
async fn remove(connection: &mut Connection) -> Result<(), Error> {
    let path = objects::collection("pods");
    connection
        .send(&Call::new(Method::DELETE, path.clone(), ""))
        .await?;
    let mut left = connection.clone();
    until(|| {
        let (mut connection, call) = (left.clone(), Call::get(path.clone()));
        async move {
            let Ok(response) = connection.begin(&call).await else {
                return false;
            };
            let Ok(body) = response.into_body().collect().await else {
                return false;
            };
            serde_json::from_slice::<Value>(&body.to_bytes())
                .is_ok_and(|list| list["items"].as_array().is_some_and(Vec::is_empty))
        }
    })
    .await;
    // The next pod finds the nodes at rest.
    left.send(&Call::get("/readyz")).await.map(drop)
}

/// Asks every 20 ms until the answer is yes, or it takes too long.
async fn until<F: Future<Output = bool>>(ask: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline && !ask().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The events of a watch, which are lines.
struct Events {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Events {
    fn new(body: Incoming) -> Self {
        Self {
            body,
            buffer: Vec::new(),
        }
    }

    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line).ok();
            }
            let frame = self.body.frame().await?.ok()?;
            self.buffer.extend_from_slice(frame.data_ref()?);
        }
    }
}
