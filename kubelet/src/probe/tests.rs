use super::fake::{Commands, event, http, recorder, serve};
use super::*;
use crate::runtime::{Error, ExecOutput};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::mpsc;

mod timing;
mod webs;

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn pod(container: Value) -> Arc<Pod> {
    let pod = json!({
        "metadata": { "name": "p", "namespace": "n", "uid": "u" },
        "spec": { "containers": [container] },
    });
    Arc::new(proto::typed::from_json_value(pod).unwrap())
}

/// Probes whose news the test waits for.
struct Bench {
    probes: Probes,
    news: mpsc::Receiver<String>,
    api: component::testing::FakeApi,
    metrics: Metrics,
}

fn bench(runtime: Arc<dyn Runtime>) -> Bench {
    let (recorder, api) = recorder();
    let (sender, news) = mpsc::channel(100);
    let metrics = Metrics::new();
    let tasks = Supervisor::current();
    let probes = Probes::new(runtime, recorder, tasks, &metrics, move |uid| {
        let _ = sender.try_send(uid.to_owned());
    });
    Bench {
        probes,
        news,
        api,
        metrics,
    }
}

impl Bench {
    fn start(&self, pod: &Arc<Pod>, id: &str) {
        let now = SystemTime::now();
        self.probes
            .container_started(pod, "c", id, now, Some(LOOPBACK));
    }

    async fn news(&mut self) {
        assert_eq!(self.news.recv().await.as_deref(), Some("u"));
    }

    fn scrape(&self) -> String {
        self.metrics.answer("").1
    }
}

#[tokio::test]
async fn a_container_without_probes_is_started_and_ready() {
    let bench = bench(Commands::ending(0, "", ""));
    assert_eq!(bench.probes.state("1"), ProbeState::default());
    let pod = pod(json!({ "name": "c" }));
    bench.start(&pod, "1");
    let state = bench.probes.state("1");
    assert!(state.started && state.ready);
    bench
        .probes
        .container_started(&pod, "other", "2", SystemTime::now(), None);
    assert_eq!(bench.probes.state("2"), ProbeState::default());
}

#[tokio::test]
async fn a_container_is_ready_once_its_probe_says_so_and_as_long() {
    let healthy = Arc::new(AtomicBool::new(true));
    let answers = Arc::clone(&healthy);
    let at = serve(move |_| {
        let status = if answers.load(Ordering::Relaxed) {
            "200 OK"
        } else {
            "503 No"
        };
        Some(http(status, "", "secret"))
    })
    .await;
    let mut bench = bench(Commands::ending(0, "", ""));
    let pod = pod(json!({ "name": "c", "readinessProbe": {
        "httpGet": { "port": at.port(), "path": "/" }, "periodSeconds": 1, "failureThreshold": 1,
    } }));
    bench.start(&pod, "1");
    bench.start(&pod, "1"); // once more is no more
    let before = bench.probes.state("1");
    assert!(before.started && !before.ready);
    bench.news().await;
    assert!(bench.probes.state("1").ready);
    healthy.store(false, Ordering::Relaxed);
    bench.news().await;
    assert!(!bench.probes.state("1").ready);
    assert_eq!(
        event(&mut bench.api).await,
        (
            "Unhealthy".into(),
            "Readiness probe failed: HTTP probe failed with statuscode: 503".into(),
            "spec.containers{c}".into()
        )
    );
    let scrape = bench.scrape();
    let of = "container=\"c\",namespace=\"n\",pod=\"p\"";
    for line in [
        format!(
            "prober_probe_total{{{of},pod_uid=\"u\",probe_type=\"Readiness\",result=\"successful\"}} 1"
        ),
        format!(
            "prober_probe_total{{{of},pod_uid=\"u\",probe_type=\"Readiness\",result=\"failed\"}} 1"
        ),
        format!("prober_probe_duration_seconds_count{{{of},probe_type=\"Readiness\"}} 1"),
    ] {
        assert!(scrape.contains(&line), "{line}\n{scrape}");
    }
    bench.probes.remove_pod("u");
    assert_eq!(bench.probes.state("1"), ProbeState::default());
    assert!(
        !bench.scrape().contains("pod_uid"),
        "counters go with the pod"
    );
}

#[tokio::test]
async fn a_failed_startup_probe_ends_the_container_and_opens_nothing() {
    let mut bench = bench(Commands::ending(1, "not", " yet"));
    let pod = pod(json!({ "name": "c",
        "startupProbe": { "exec": { "command": ["x"] }, "periodSeconds": 1, "failureThreshold": 1 },
        "readinessProbe": { "tcpSocket": { "port": 1 } },
    }));
    bench.start(&pod, "1");
    bench.news().await;
    let state = bench.probes.state("1");
    assert!(!state.started && !state.ready);
    assert_eq!(state.startup_failed.as_deref(), Some("not yet"));
    let (reason, message, _) = event(&mut bench.api).await;
    assert_eq!(
        (reason.as_str(), message.as_str()),
        ("Unhealthy", "Startup probe failed: not yet")
    );
    assert!(bench.api.is_quiet().await);
}

#[tokio::test]
async fn what_ran_before_the_kubelet_stays_as_it_was() {
    let bench = bench(Commands::ending(1, "", ""));
    let mut of = (*pod(json!({ "name": "c",
        "startupProbe": { "exec": { "command": ["x"] } },
        "readinessProbe": { "exec": { "command": ["x"] } },
    })))
    .clone();
    of.status = proto::typed::from_json_value(json!({
        "conditions": [{ "type": "Ready", "status": "True" }],
        "containerStatuses": [{
            "name": "c", "started": true, "containerID": "navarch://old", "image": "", "imageID": "",
            "ready": true, "restartCount": 0,
        }],
    }))
    .unwrap();
    let of = Arc::new(of);
    let long_ago = SystemTime::now() - Duration::from_secs(60);
    let start = |id: &str, at| bench.probes.container_started(&of, "c", id, at, None);
    start("old", long_ago);
    let state = bench.probes.state("old");
    assert!(state.started && state.ready);
    start("young", SystemTime::now());
    assert_eq!(bench.probes.state("young"), ProbeState::default());
    start("unknown", long_ago);
    let state = bench.probes.state("unknown");
    assert!(
        !state.started && !state.ready,
        "the API server knows of another container"
    );
}

#[tokio::test]
async fn a_pod_that_ends_is_asked_for_readiness_only() {
    let mut bench = bench(Commands::ending(1, "down", ""));
    let probe = json!({ "exec": { "command": ["x"] }, "periodSeconds": 1, "failureThreshold": 1 });
    let pod = pod(json!({ "name": "c", "livenessProbe": probe }));
    bench.start(&pod, "1");
    bench.news().await;
    assert_eq!(
        bench.probes.state("1").liveness_failed.as_deref(),
        Some("down")
    );
    bench.probes.stop_liveness_and_startup("u");
    let state = bench.probes.state("1");
    assert_eq!(state.liveness_failed, None);
    assert!(state.started && state.ready);
    bench.probes.stop("1");
    assert_eq!(bench.probes.state("1"), ProbeState::default());
}

#[tokio::test]
async fn commands_see_written_variables_and_tell_how_they_ended() {
    let runtime = Commands::new(|command, timeout| match command[0].as_str() {
        "timeout" => Err(Error::Timeout(timeout)),
        "gone" => Err(Error::NotFound {
            kind: "container",
            id: "1".into(),
        }),
        "long" => Ok(ExecOutput {
            stdout: vec![b'x'; 20 << 10],
            exit_code: 1,
            ..ExecOutput::default()
        }),
        _ => Ok(ExecOutput::default()),
    });
    let bench = bench(Arc::clone(&runtime) as Arc<dyn Runtime>);
    let container: Container = proto::typed::from_json_value(json!({ "name": "c", "env": [
        { "name": "A", "value": "1" },
        { "name": "B", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
    ] }))
    .unwrap();
    let pod = pod(json!({ "name": "c" }));
    let run = async |command: &[&str]| {
        let subject = run::Subject {
            pod: &pod,
            container: &container,
            id: "1",
            kind: Kind::Liveness,
            pod_ip: None,
            timeout: Duration::from_secs(90),
        };
        let probe =
            proto::typed::from_json_value(json!({ "exec": { "command": command } })).unwrap();
        bench.probes.inner.prober.probe(&subject, &probe).await
    };
    let failure = |text: &str| Some(results::Verdict::Failure(text.to_owned()));
    assert_eq!(
        run(&["ok", "$(A)$(NONE)"]).await,
        Some(results::Verdict::Success)
    );
    assert_eq!(runtime.ran.lock()[0], ["ok", "1$(NONE)"]);
    assert_eq!(
        run(&["timeout", "x"]).await,
        failure("command timed out: \"timeout x\" timed out after 1m30s")
    );
    assert_eq!(run(&["long"]).await, failure(&"x".repeat(10 << 10)));
    let before = runtime.ran.lock().len();
    assert_eq!(run(&["gone"]).await, None);
    assert_eq!(
        runtime.ran.lock().len() - before,
        3,
        "tried again before it is given up"
    );
}

#[tokio::test]
async fn what_cannot_be_probed_is_told_and_is_no_failure() {
    let mut bench = bench(Commands::ending(0, "", ""));
    let pod = pod(json!({ "name": "c", "livenessProbe": {
        "tcpSocket": { "port": "nosuch" }, "periodSeconds": 1, "failureThreshold": 1,
    } }));
    bench.start(&pod, "1");
    let (reason, message, _) = event(&mut bench.api).await;
    assert_eq!(reason, "Unhealthy");
    assert_eq!(
        message,
        "Liveness probe errored and resulted in unknown state: port \"nosuch\" not found"
    );
    assert_eq!(bench.probes.state("1").liveness_failed, None);
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_a_failure() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut bench = bench(Commands::ending(0, "", ""));
    let pod = pod(json!({ "name": "c",
        "ports": [{ "name": "web", "containerPort": port }],
        "readinessProbe": { "tcpSocket": { "port": "web" }, "periodSeconds": 1, "failureThreshold": 1 },
    }));
    bench.start(&pod, "1");
    bench.news().await;
    assert!(bench.probes.state("1").ready);
    drop(listener);
    bench.news().await;
    let (_, message, _) = event(&mut bench.api).await;
    assert_eq!(
        message,
        format!("Readiness probe failed: dial tcp 127.0.0.1:{port}: connect: connection refused")
    );
}
