//! Auditing: what a webhook is posted, and what becomes of requests when it does not take it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::config_map;
use super::daemon::{Daemon, eventually};
use super::remote::{Asked, Remote, json as answer};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- {level: RequestResponse, omitStages: [RequestReceived], resources: [{resources: [configmaps]}]}
";

/// A server that writes to a webhook, with more flags.
async fn start(remote: &Remote, more: &[&str]) -> Daemon {
    Daemon::start_with(|files| {
        let policy = files.write("policy.yaml", POLICY);
        let kubeconfig = remote.kubeconfig(files, "audit.kubeconfig", "/events?cluster=a");
        let mut flags = vec![
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-webhook-config-file={kubeconfig}"),
        ];
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        flags
    })
    .await
}

/// The events of all lists that were posted so far.
fn posted(remote: &Remote) -> Vec<Value> {
    remote.asked().iter().flat_map(events).collect()
}

fn events(list: &Asked) -> Vec<Value> {
    let list = list.json();
    list["items"].as_array().unwrap().clone()
}

async fn make(api: &Daemon, name: &str) -> u16 {
    api.send("POST", MAPS, &config_map(name, json!({"k": "v"})))
        .await
        .0
}

/// What a metric counted.
async fn counted(api: &Daemon, series: &str) -> u64 {
    let text = api.text("/metrics").await;
    let line = text.lines().find_map(|l| l.strip_prefix(series));
    line.map_or(0, |count| count.trim().parse().unwrap())
}

const LOST: &str = "apiserver_audit_error_total{plugin=\"webhook\"}";
const DROPPED: &str = "apiserver_audit_error_total{plugin=\"buffered\"}";

#[tokio::test]
async fn events_are_posted_in_batches_and_those_that_wait_when_the_server_stops() {
    let remote = Remote::start(|_| Box::pin(std::future::ready(answer(200, &json!({})))));
    let mut api = start(
        &remote,
        &[
            "--audit-webhook-batch-max-size=3",
            "--audit-webhook-batch-max-wait=1h",
        ],
    )
    .await;
    for name in ["a", "b", "c", "d"] {
        assert_eq!(make(&api, name).await, 201);
    }
    eventually("a batch", async || !remote.asked().is_empty()).await;
    let asked = remote.asked();
    let [batch] = &asked[..] else {
        panic!("{asked:?}")
    };
    assert_eq!(batch.path, "/events");
    assert_eq!(batch.authorization, "Bearer from-the-api-server");
    let list = batch.json();
    assert_eq!(list["kind"], "EventList");
    assert_eq!(list["apiVersion"], "audit.k8s.io/v1");
    let names = |events: &[Value]| -> Vec<String> {
        let name = |e: &Value| e["objectRef"]["name"].as_str().unwrap().to_owned();
        events.iter().map(name).collect()
    };
    let first = events(batch);
    assert_eq!(names(&first), ["a", "b", "c"]);
    assert_eq!(first[0]["kind"], Value::Null, "a list says what it holds");
    assert_eq!(first[0]["stage"], "ResponseComplete");
    assert_eq!(first[0]["level"], "RequestResponse");
    assert_eq!(first[0]["requestObject"]["data"], json!({"k": "v"}));
    assert_eq!(first[0]["responseObject"]["metadata"]["name"], "a");

    api.terminate().await;
    assert_eq!(names(&posted(&remote)), ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn a_webhook_that_stumbles_is_posted_the_same_again() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let remote = Remote::start(move |_| {
        // Whatever the code is: what is not taken is not lost.
        let code = [404, 400, 503, 200][count.fetch_add(1, Ordering::Relaxed).min(3)];
        Box::pin(std::future::ready(answer(code, &json!({}))))
    });
    let api = start(
        &remote,
        &[
            "--audit-webhook-batch-max-wait=10ms",
            "--audit-webhook-initial-backoff=20ms",
        ],
    )
    .await;
    assert_eq!(make(&api, "a").await, 201);
    eventually("it is taken", async || calls.load(Ordering::Relaxed) == 4).await;
    let all = remote.asked();
    assert!(all.iter().all(|asked| asked.body == all[0].body));
    assert_eq!(make(&api, "b").await, 201);
    eventually("the next", async || calls.load(Ordering::Relaxed) == 5).await;
    assert_eq!(counted(&api, LOST).await, 0);
}

#[tokio::test]
async fn a_webhook_that_takes_nothing_costs_events_and_no_requests() {
    let remote = Remote::start(|_| Box::pin(std::future::pending()));
    let mut api = start(
        &remote,
        &[
            "--audit-webhook-batch-max-size=1",
            "--audit-webhook-batch-buffer-size=10",
            "--audit-webhook-batch-throttle-enable=false",
        ],
    )
    .await;
    let start = Instant::now();
    for n in 0..100 {
        assert_eq!(make(&api, &format!("m{n}")).await, 201);
    }
    assert!(start.elapsed() < Duration::from_secs(20), "nobody waits");
    // Some are on their way, ten wait, and one has left the queue.
    let dropped = counted(&api, DROPPED).await;
    let on_their_way = remote.asked().len() as u64;
    assert!((1..=64).contains(&on_their_way), "{on_their_way}");
    assert!((20..=64).contains(&dropped), "{dropped}");
    let generated = counted(&api, "apiserver_audit_event_total").await;
    assert!(generated >= 100, "{generated}");
    // Nor does it keep the server from stopping.
    api.terminate().await;
}

#[tokio::test]
async fn in_the_strict_mode_nothing_is_done_that_the_webhook_does_not_take() {
    let takes = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&takes);
    let remote = Remote::start(move |_| {
        let code = if switch.load(Ordering::Relaxed) {
            200
        } else {
            500
        };
        Box::pin(std::future::ready(answer(code, &json!({}))))
    });
    let policy = POLICY.replace("omitStages: [RequestReceived], ", "");
    for (mode, code) in [("blocking-strict", 500), ("blocking", 201)] {
        takes.store(true, Ordering::Relaxed);
        let mode_flag = format!("--audit-webhook-mode={mode}");
        let api = start(
            &remote,
            &[&mode_flag, "--audit-webhook-initial-backoff=1ms"],
        )
        .await;
        let (before, path) = (remote.asked().len(), format!("{MAPS}/b"));
        assert_eq!(make(&api, "a").await, 201);
        // It is posted before the client knows.
        assert!(remote.asked().len() > before, "{mode}");
        drop(api);

        let api = Daemon::start_with(|files| {
            let policy = files.write("policy.yaml", &policy);
            let kubeconfig = remote.kubeconfig(files, "audit.kubeconfig", "/");
            vec![
                format!("--audit-policy-file={}", policy.display()),
                format!("--audit-webhook-config-file={kubeconfig}"),
                mode_flag,
                "--audit-webhook-initial-backoff=1ms".to_owned(),
            ]
        })
        .await;
        takes.store(false, Ordering::Relaxed);
        assert_eq!(make(&api, "b").await, code, "{mode}");
        assert!(counted(&api, LOST).await > 0, "{mode}");
        takes.store(true, Ordering::Relaxed);
        let there = api.get(&path).await.0;
        assert_eq!(there, if code == 201 { 200 } else { 404 }, "{mode}");
        let refused = counted(&api, "apiserver_audit_requests_rejected_total").await;
        assert_eq!(refused > 0, code == 500, "{mode}");
    }
}

#[tokio::test]
async fn too_large_events_are_posted_without_bodies_beside_a_log_that_has_them() {
    let remote = Remote::start(|_| Box::pin(std::future::ready(answer(200, &json!({})))));
    let mut log = None;
    let api = Daemon::start_with(|files| {
        let policy = files.write("policy.yaml", POLICY);
        let path = policy.with_file_name("audit.log");
        log = Some(path.clone());
        let kubeconfig = remote.kubeconfig(files, "audit.kubeconfig", "/");
        vec![
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", path.display()),
            format!("--audit-webhook-config-file={kubeconfig}"),
            "--audit-webhook-mode=blocking".to_owned(),
            "--audit-webhook-truncate-enabled".to_owned(),
            "--audit-webhook-truncate-max-event-size=2000".to_owned(),
        ]
    })
    .await;
    let large = config_map("large", json!({"k": "x".repeat(3000)}));
    assert_eq!(api.send("POST", MAPS, &large).await.0, 201);
    let events = posted(&remote);
    let event = events.iter().find(|e| e["objectRef"]["name"] == "large");
    let event = event.unwrap();
    assert_eq!(event["requestObject"], Value::Null);
    assert_eq!(event["annotations"]["audit.k8s.io/truncated"], "true");
    let text = std::fs::read_to_string(log.unwrap()).unwrap();
    let line = text.lines().find(|l| l.contains("\"large\"")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["auditID"], event["auditID"]);
    assert_eq!(line["requestObject"]["data"], large["data"]);
}
