use super::*;
use crate::probe::fake::{Commands, event, http, recorder, serve};
use component::testing::FakeApi;
use serde_json::{Value, json};
use std::sync::Arc;

fn pod(lifecycle: Value) -> Pod {
    let pod = json!({
        "metadata": { "name": "p", "namespace": "n", "uid": "u" },
        "spec": { "containers": [{ "name": "c", "lifecycle": lifecycle }] },
    });
    proto::typed::from_json_value(pod).unwrap()
}

struct Bench {
    hooks: Hooks,
    api: FakeApi,
    metrics: Metrics,
}

fn bench() -> Bench {
    let (recorder, api) = recorder();
    let metrics = Metrics::new();
    Bench {
        hooks: Hooks::new(recorder, &metrics),
        api,
        metrics,
    }
}

impl Bench {
    async fn post_start(&self, runtime: &dyn Runtime, handler: Value) -> Result<(), String> {
        let pod = pod(json!({ "postStart": handler }));
        let done = self.hooks.post_start(&hooked(runtime, &pod)).await;
        done.map_err(|error| error.to_string())
    }
}

fn hooked<'a>(runtime: &'a dyn Runtime, pod: &'a Pod) -> Hooked<'a> {
    Hooked {
        runtime,
        pod,
        container: &pod.spec.as_ref().unwrap().containers[0],
        id: "1",
        pod_ip: Some("127.0.0.1".parse().unwrap()),
    }
}

fn fine() -> Arc<Commands> {
    Commands::ending(0, "", "")
}

#[tokio::test]
async fn a_container_without_hooks_waits_for_nothing() {
    let bench = bench();
    let runtime = fine();
    let pod = pod(json!({}));
    let of = hooked(&*runtime, &pod);
    bench.hooks.post_start(&of).await.unwrap();
    let grace = Duration::from_secs(30);
    assert_eq!(bench.hooks.pre_stop(&of, grace).await, grace);
    assert!(runtime.ran.lock().is_empty());
}

#[tokio::test]
async fn a_command_that_fails_is_told_without_its_output() {
    let mut bench = bench();
    let failing = Commands::ending(3, "out", "err");
    let handler = json!({ "exec": { "command": ["a", "b"] } });
    let message = bench
        .post_start(&*failing, handler.clone())
        .await
        .unwrap_err();
    assert_eq!(
        message,
        "Exec lifecycle hook ([a b]) for Container \"c\" in Pod \"p_n(u)\" failed - error: command \
         'a b' exited with 3: err, message: \"outerr\""
    );
    assert_eq!(*failing.ran.lock(), [["a", "b"]]);
    assert_eq!(
        event(&mut bench.api).await,
        (
            "FailedPostStartHook".into(),
            "PostStartHook failed".into(),
            "spec.containers{c}".into()
        )
    );
    assert_eq!(bench.post_start(&*fine(), handler).await, Ok(()));
}

#[tokio::test]
async fn any_answer_of_a_server_is_good() {
    let at = serve(|head| {
        assert!(head.contains("User-Agent: kube-lifecycle/1.37"), "{head}");
        Some(http("500 No", "", ""))
    })
    .await;
    let bench = bench();
    let handler = json!({ "httpGet": { "port": at.port(), "path": "/x" } });
    assert_eq!(bench.post_start(&*fine(), handler).await, Ok(()));
}

#[tokio::test]
async fn nobody_there_is_a_failure() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = free.local_addr().unwrap();
    drop(free);
    let bench = bench();
    let handler = json!({ "httpGet": { "port": closed.port(), "path": "/x" } });
    assert_eq!(
        bench.post_start(&*fine(), handler).await.unwrap_err(),
        format!(
            "HTTP lifecycle hook (/x) for Container \"c\" in Pod \"p_n(u)\" failed - error: Get \
             \"http://{closed}/x\": dial tcp {closed}: connect: connection refused"
        )
    );
}

#[tokio::test]
async fn a_server_without_tls_is_asked_again_without_it_and_without_credentials() {
    let at = serve(|head| {
        if head.starts_with("GET ") {
            assert!(!head.contains("Authorization"), "{head}");
            assert!(head.contains("X-Kept: 1"), "{head}");
        }
        Some(http("200 OK", "", ""))
    })
    .await;
    let mut bench = bench();
    let headers = json!([
        { "name": "Authorization", "value": "secret" }, { "name": "X-Kept", "value": "1" },
    ]);
    let handler = json!({ "httpGet": {
        "port": at.port(), "scheme": "HTTPS", "httpHeaders": headers,
    } });
    assert_eq!(bench.post_start(&*fine(), handler).await, Ok(()));
    let (reason, message, _) = event(&mut bench.api).await;
    assert_eq!(reason, "LifecycleHTTPFallback");
    assert_eq!(
        message,
        format!(
            "request to HTTPS lifecycle hook {at} got HTTP response, retry with HTTP succeeded"
        )
    );
    let scrape = bench.metrics.answer("").1;
    assert!(
        scrape.contains("kubelet_lifecycle_handler_http_fallbacks_total 1"),
        "{scrape}"
    );
}

#[tokio::test]
async fn a_socket_was_never_a_hook() {
    let bench = bench();
    let handler = json!({ "tcpSocket": { "port": 80 } });
    assert_eq!(
        bench.post_start(&*fine(), handler).await.unwrap_err(),
        "Cannot run handler: invalid handler: {\"tcpSocket\":{\"port\":80}}"
    );
}

#[tokio::test]
async fn a_hook_before_the_end_takes_from_the_grace_and_no_more() {
    let bench = bench();
    let runtime = fine();
    let sleep = |seconds: u64| pod(json!({ "preStop": { "sleep": { "seconds": seconds } } }));
    tokio::time::pause();
    let grace = Duration::from_secs(30);
    let (short, long) = (sleep(10), sleep(100));
    let left = bench
        .hooks
        .pre_stop(&hooked(&*runtime, &short), grace)
        .await;
    assert_eq!((left + Duration::from_millis(500)).as_secs(), 20);
    let began = Instant::now();
    let left = bench.hooks.pre_stop(&hooked(&*runtime, &long), grace).await;
    assert_eq!(left, Duration::ZERO);
    assert_eq!(began.elapsed().as_secs(), 30);
    let scrape = bench.metrics.answer("").1;
    assert!(
        scrape.contains("kubelet_sleep_action_terminated_early_total 1"),
        "{scrape}"
    );
}

#[tokio::test]
async fn a_failure_before_the_end_holds_nothing_up() {
    let mut bench = bench();
    let failing = Commands::ending(1, "", "");
    let pod = pod(json!({ "preStop": { "exec": { "command": ["x"] } } }));
    let grace = Duration::from_secs(30);
    let left = bench.hooks.pre_stop(&hooked(&*failing, &pod), grace).await;
    assert!(left > Duration::from_secs(20));
    let (reason, message, _) = event(&mut bench.api).await;
    assert_eq!(
        (reason.as_str(), message.as_str()),
        ("FailedPreStopHook", "PreStopHook failed")
    );
}
