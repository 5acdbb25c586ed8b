//! Web servers under load, whose clients are the judge: each opens a new connection for each request and never retries.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e::https;
use serde_json::{Value, json};

use super::fixture::{Fixture, Namespace, SOON, eventually, web};

/// Between two requests of a client.
const PAUSE: Duration = Duration::from_millis(10);

pub(super) fn page(address: SocketAddr) -> Result<String, String> {
    let answer = https::get_plain(address, "/").map_err(|error| e2e::init::chain(&error))?;
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}

/// A Service of the web servers `app` at a port of every node.
pub(super) fn service(app: &str, node_port: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": app},
        "spec": {
            "type": "NodePort",
            "selector": {"app": app},
            "ports": [{"port": 80, "targetPort": 8080, "nodePort": node_port}],
        },
    })
}

/// The web servers, which go on serving for as long as proxies need to hear that they end: without that, a pod that is
/// scaled away takes a new connection with it, and says nothing about the daemons.
pub(super) fn servers() -> Value {
    let mut web = web(4);
    let pod = &mut web["spec"]["template"]["spec"];
    pod["terminationGracePeriodSeconds"] = 10.into();
    pod["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 2}}});
    web
}

/// Starts the web servers; where they answer, an address for each node.
pub(super) fn start(fixture: &Fixture, ns: &Namespace<'_>, node_port: u16) -> Vec<SocketAddr> {
    ns.apply(&service("web", node_port));
    ns.apply(&servers());
    ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    let addresses: Vec<SocketAddr> = fixture
        .cluster
        .nodes()
        .iter()
        .map(|node| (node.address, node_port).into())
        .collect();
    for address in &addresses {
        eventually(SOON, || page(*address));
    }
    addresses
}

/// Uid and restarts of each pod of the web servers.
pub(super) fn pods(ns: &Namespace<'_>) -> BTreeMap<String, i64> {
    let list = ns.get(&["pods", "-l", "app=web"]);
    let pods = list["items"].as_array().unwrap();
    pods.iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .map(|pod| {
            let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
            (
                pod["metadata"]["uid"].to_string(),
                restarts.as_i64().unwrap_or(0),
            )
        })
        .collect()
}

/// What a client saw.
struct Seen {
    answers: usize,
    failures: Vec<String>,
}

/// Does `work` while clients ask every address over and over; fails the test if one of them was not answered once.
pub(super) fn poll_while<T>(addresses: &[SocketAddr], work: impl FnOnce() -> T) -> T {
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        let pollers: Vec<_> = addresses
            .iter()
            .map(|address| scope.spawn(move || poll(*address, stop)))
            .collect();
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        let seen: Vec<Seen> = pollers
            .into_iter()
            .map(|poller| poller.join().unwrap())
            .collect();
        for seen in &seen {
            assert_eq!(seen.failures, Vec::<String>::new());
        }
        let worked = worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        for seen in &seen {
            assert!(seen.answers > 100, "{} answers", seen.answers);
        }
        worked
    })
}

fn poll(address: SocketAddr, stop: &AtomicBool) -> Seen {
    let mut seen = Seen {
        answers: 0,
        failures: Vec::new(),
    };
    let start = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let why = match page(address) {
            Ok(text) if text.starts_with("Hello from pod web-") => {
                seen.answers += 1;
                None
            }
            Ok(text) => Some(format!("{text:?}")),
            Err(error) => Some(error),
        };
        seen.failures
            .extend(why.map(|why| format!("{:?} {address}: {why}", start.elapsed())));
        thread::sleep(PAUSE);
    }
    seen
}
