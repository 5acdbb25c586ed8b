//! Who may ask, and what else is answered.

use std::sync::atomic::Ordering;

use component::Supervisor;
use component::config::TracingConfiguration;
use component::testing::{Collector, Told};
use component::tracing::Tracer;
use tokio::net::TcpStream;

use crate::client::{ask_as, ask_over, get};
use crate::setup::Setup;

#[tokio::test]
async fn nothing_is_answered_to_those_who_may_not_ask() {
    let setup = Setup::start().await;
    let stranger = setup.ca.sign(&[], "somebody", "people");
    let admin = setup.ca.admin();
    let paths = [
        "/healthz",
        "/pods",
        "/metrics",
        "/stats/summary",
        "/logs/",
        "/exec/ns/web/main?output=1",
        "/nowhere",
    ];
    for path in paths {
        let answer = ask_as(&setup, None, "GET", path, &[]).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (401, "Unauthorized"),
            "{path}"
        );
        let answer = ask_as(&setup, Some(&stranger), "GET", path, &[]).await;
        assert_eq!(answer.status, 403, "{path}");
        assert_ne!(
            ask_as(&setup, Some(&admin), "GET", path, &[]).await.status,
            403,
            "{path}"
        );
    }
    let answer = ask_as(&setup, Some(&stranger), "GET", "/pods", &[]).await;
    assert_eq!(
        answer.body,
        "Forbidden (user=somebody, verb=get, resource=nodes, subresource(s)=[pods proxy])\n"
    );
}

#[tokio::test]
async fn health_pods_and_configuration_are_told() {
    let setup = Setup::start().await;
    setup.run("main", "sleep 1000").await;
    assert_eq!(get(&setup, "/healthz").await.body, "ok");
    let verbose = get(&setup, "/healthz?verbose").await.body;
    assert_eq!(
        verbose,
        "[+]ping ok\n[+]log ok\n[+]syncloop ok\nhealthz check passed\n"
    );
    let slis = get(&setup, "/metrics/slis").await.body;
    assert!(
        slis.contains("kubernetes_healthcheck{name=\"syncloop\",type=\"healthz\"} 1\n"),
        "{slis}"
    );
    setup.pods.stuck.store(true, Ordering::Relaxed);
    assert_eq!(get(&setup, "/healthz").await.status, 500);
    let pods: serde_json::Value = serde_json::from_str(&get(&setup, "/pods").await.body).unwrap();
    assert_eq!(pods["kind"], "PodList");
    assert_eq!(pods["items"][0]["metadata"]["name"], "web");
    let running = get(&setup, "/runningpods/").await.body;
    let running: serde_json::Value = serde_json::from_str(&running).unwrap();
    let pod = &running["items"][0];
    assert_eq!(pod["metadata"]["namespace"], "ns");
    assert_eq!(pod["spec"]["containers"][0]["name"], "main");
    assert_eq!(
        get(&setup, "/configz").await.body,
        "{\"kubeletconfig\":{\"port\":10250}}"
    );
    let admin = setup.ca.admin();
    let post = ask_as(&setup, Some(&admin), "POST", "/pods", &[]).await;
    assert_eq!(
        (post.status, post.headers["allow"].to_str().unwrap()),
        (405, "GET")
    );
    let checkpoint = ask_as(&setup, Some(&admin), "POST", "/checkpoint/ns/web/main", &[]).await;
    assert_eq!(checkpoint.status, 500);
    assert!(
        checkpoint
            .body
            .starts_with("checkpointing of ns/web/main failed (")
    );
    assert_eq!(get(&setup, "/debug/pprof/cmdline").await.status, 200);
}

#[tokio::test]
async fn statistics_are_told_as_upstream_names_them() {
    let setup = Setup::start().await;
    let burn =
        "dd if=/dev/zero of=/tmp/file bs=1000 count=200; touch /tmp/done; while :; do :; done";
    let id = setup.run("main", burn).await;
    let deadline = std::time::Instant::now() + crate::node::LIMIT;
    while setup.node.exec(&id, "ls /tmp").await != "done\nfile\n" {
        assert!(std::time::Instant::now() < deadline);
    }
    let summary = async || -> serde_json::Value {
        serde_json::from_str(&get(&setup, "/stats/summary").await.body).unwrap()
    };
    let mut all = summary().await;
    let rate =
        |all: &serde_json::Value| all["pods"][0]["containers"][0]["cpu"]["usageNanoCores"].as_u64();
    assert_eq!(rate(&all), None, "one sample is no rate");
    while rate(&all).is_none() {
        assert!(std::time::Instant::now() < deadline);
        all = summary().await;
    }
    assert!(rate(&all).unwrap() > 10_000_000, "{all}");
    let (node, pod) = (&all["node"], &all["pods"][0]);
    assert_eq!(node["nodeName"], "node");
    for field in [
        "cpu", "memory", "network", "fs", "runtime", "rlimit", "swap",
    ] {
        assert!(node[field].is_object(), "{field}: {node}");
    }
    assert!(node["memory"]["availableBytes"].as_u64().unwrap() > 0);
    assert!(node["fs"]["capacityBytes"].as_u64().unwrap() > 0);
    assert_eq!(pod["podRef"]["name"], "web");
    assert!(pod["process_stats"]["process_count"].as_u64().unwrap() >= 1);
    assert!(pod["memory"]["workingSetBytes"].as_u64().unwrap() > 0);
    let container = &pod["containers"][0];
    assert_eq!(container["name"], "main");
    for field in ["rootfs", "logs"] {
        assert!(
            container[field]["availableBytes"].as_u64().unwrap() > 0,
            "{container}"
        );
    }
    let few: serde_json::Value = serde_json::from_str(
        &get(&setup, "/stats/summary?only_cpu_and_memory=true")
            .await
            .body,
    )
    .unwrap();
    assert!(few["node"]["fs"].is_null() && few["pods"][0]["containers"][0]["rootfs"].is_null());

    let resource = get(&setup, "/metrics/resource").await;
    assert!(
        resource.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    for start in [
        "container_cpu_usage_seconds_total{container=\"main\",namespace=\"ns\",pod=\"web\"} ",
        "container_memory_working_set_bytes{container=\"main\",namespace=\"ns\",pod=\"web\"} ",
        "container_start_time_seconds{container=\"main\",namespace=\"ns\",pod=\"web\"} ",
        "pod_cpu_usage_seconds_total{namespace=\"ns\",pod=\"web\"} ",
        "pod_memory_working_set_bytes{namespace=\"ns\",pod=\"web\"} ",
        "node_cpu_usage_seconds_total ",
        "node_memory_working_set_bytes ",
        "resource_scrape_error 0",
    ] {
        let is_there = resource.body.lines().any(|line| line.starts_with(start));
        assert!(is_there, "{start}\n{}", resource.body);
    }
    let cadvisor = get(&setup, "/metrics/cadvisor").await.body;
    let labels = format!(
        "{{container=\"main\",cpu=\"total\",id=\"{}/{id}\",image=\"busybox\",name=\"{id}\",namespace=\"ns\",pod=\"web\"}} ",
        cgroup(&setup)
    );
    let line = format!("container_cpu_usage_seconds_total{labels}");
    assert!(cadvisor.contains(&line), "{line}\n{cadvisor}");
    assert!(cadvisor.contains("\nmachine_memory_bytes{"), "{cadvisor}");
    let own = get(&setup, "/metrics").await.body;
    let counted = "kubelet_http_requests_total{method=\"GET\",path=\"metrics/cadvisor\",server_type=\"readwrite\",long_running=\"false\"} 1";
    assert!(own.contains(counted), "{own}");
}

fn cgroup(setup: &Setup) -> String {
    setup.node.pod(crate::setup::POD_UID).cgroup_parent
}

#[tokio::test]
async fn the_read_only_port_answers_less_and_asks_nobody() {
    let setup = Setup::start().await;
    let ask = async |path: &str| {
        let mut io = TcpStream::connect(setup.plain).await.unwrap();
        ask_over(&mut io, "GET", path, &[]).await
    };
    assert_eq!(ask("/healthz").await.body, "ok");
    assert_eq!(ask("/pods").await.status, 200);
    assert_eq!(ask("/metrics").await.status, 200);
    for path in [
        "/exec/ns/web/main?output=1",
        "/containerLogs/ns/web/main",
        "/logs/",
        "/runningpods/",
    ] {
        let answer = ask(path).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (405, "Debug endpoints are disabled.\n"),
            "{path}"
        );
    }
    assert_eq!(ask("/configz").await.status, 404);
}

#[tokio::test]
async fn what_is_switched_off_says_so() {
    let setup = Setup::with(|config| {
        config.enable_system_log_handler = false;
        config.enable_profiling_handler = false;
    })
    .await;
    assert_eq!(
        get(&setup, "/logs/").await.body,
        "logs endpoint is disabled.\n"
    );
    assert_eq!(
        get(&setup, "/debug/pprof/heap").await.body,
        "profiling endpoint is disabled.\n"
    );
}

#[tokio::test]
async fn a_collector_is_told_of_requests_and_clients_of_the_port_with_authentication_are_believed()
{
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let collector = Collector::start().await;
    let tracing = TracingConfiguration {
        endpoint: Some(collector.address.to_string()),
        sampling_rate_per_million: Some(0),
    };
    let service = [("service.name", "kubelet")];
    let tracer = Tracer::open(&tracing, &service, &Supervisor::current());
    let setup = Setup::with(|config| config.tracer = tracer).await;
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let headers = [("traceparent", parent.as_str())];
    let admin = setup.ca.admin();
    let mut stream = TcpStream::connect(setup.plain).await.unwrap();
    let plain = ask_over(&mut stream, "GET", "/pods", &headers).await;
    assert_eq!(plain.status, 200);
    for path in ["/pods", "/containerLogs/ns/nobody/main"] {
        ask_as(&setup, Some(&admin), "GET", path, &headers).await;
    }
    let route = "/containerLogs/{podNamespace}/{podID}/{containerName}";
    let logs = collector
        .until("the logs", |told| told.span.name == route)
        .await;
    assert_eq!(logs.attribute("server.address").unwrap(), "kubelet");
    assert_eq!(logs.attribute("http.response.status_code").unwrap(), "404");
    let all = collector.told();
    let pods: Vec<&Told> = all
        .iter()
        .filter(|told| told.span.name == "/pods")
        .collect();
    assert_eq!(pods.len(), 1, "a stranger decides nothing");
    for told in [pods[0], &logs] {
        let trace: String = told
            .span
            .trace_id
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(trace, TRACE);
    }
}
