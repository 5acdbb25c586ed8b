//! Traces: what a collector is told of a request, from its client through the server to etcd and webhooks.

use std::time::{Duration, Instant};

use component::Supervisor;
use component::config::TracingConfiguration;
use component::testing::{Collector, Files, Told};
use component::tracing::Tracer;
use component::tracing::pb::span::SpanKind;
use serde_json::json;
use store::testing::{Etcd, Etcds};

use super::config_map;
use super::daemon::{Daemon, eventually};
use super::webhooks::{allowed, configure, hook, rule, webhooks};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const POSTED: &str = "POST /api/v1/namespaces/{:namespace}/configmaps";

/// Says where traces go; the flag.
fn traced(files: &Files, collector: &str, rate: i32) -> String {
    let config = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\n\
         endpoint: {collector}\nsamplingRatePerMillion: {rate}\n"
    );
    let path = files.write("tracing.yaml", &config);
    format!("--tracing-config-file={}", path.display())
}

/// What tells the same collector of a client's part.
fn client(collector: &Collector) -> Tracer {
    let config = TracingConfiguration {
        endpoint: Some(collector.address.to_string()),
        sampling_rate_per_million: Some(1_000_000),
    };
    let service = [("service.name", "client")];
    Tracer::open(&config, &service, &Supervisor::current())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// From a span up to the first of its trace that is known.
fn up(all: &[Told], from: &Told) -> Vec<String> {
    let mut names = vec![from.span.name.clone()];
    let mut at = from;
    while let Some(parent) = all
        .iter()
        .find(|told| told.span.span_id == at.span.parent_span_id)
    {
        assert_eq!(parent.span.trace_id, at.span.trace_id);
        names.push(parent.span.name.clone());
        at = parent;
    }
    names
}

fn of(service: &str, name: &str) -> impl Fn(&Told) -> bool {
    move |told: &Told| told.resource["service.name"] == service && told.span.name == name
}

#[tokio::test]
async fn one_request_is_one_trace_from_its_client_to_etcd() {
    let collector = Collector::start().await;
    let address = collector.address.to_string();
    let etcd = Etcd::start_traced(&Etcds::newest(), collector.address).await;
    let api = Daemon::start_on(etcd, |files| vec![traced(files, &address, 0)]).await;
    let tracer = client(&collector);
    let map = config_map("a", json!({"k": "v"}));
    let (code, made) = tracer
        .work("test", |_| {}, api.send("POST", MAPS, &map))
        .await;
    assert_eq!(code, 201, "{made}");
    let test = collector
        .until("the test's own span", of("client", "test"))
        .await;
    let trace = test.span.trace_id.clone();
    let ours = |name: &'static str| {
        let (named, trace) = (of("apiserver", name), trace.clone());
        move |told: &Told| named(told) && told.span.trace_id == trace
    };
    let server = collector.until("the server's span", ours(POSTED)).await;
    let txn = collector
        .until("the write's", ours("etcdserverpb.KV/Txn"))
        .await;
    let serializing = collector
        .until("the answer's", ours("SerializeObject"))
        .await;
    // etcd belongs to it by what it was told, and says so itself.
    let is_etcds = |told: &Told| {
        told.span.parent_span_id == txn.span.span_id && told.span.kind() == SpanKind::Server
    };
    let etcds = collector.until("etcd's own", is_etcds).await;
    assert_eq!(etcds.resource["service.name"], "etcd");
    let all = collector.told();
    let chain = [
        "etcdserverpb.KV/Txn",
        "Create etcd3",
        "Create",
        "authorization",
        "priorityandfairness",
        "constrainedimpersonation",
        "audit",
        POSTED,
        "HTTP POST",
        "test",
    ];
    assert_eq!(up(&all, &txn), chain);
    assert_eq!(up(&all, &serializing)[1..], chain[2..]);
    assert!(server.resource["service.instance.id"].starts_with("apiserver-"));
    for (key, value) in [
        ("http.request.method", "POST"),
        ("url.path", MAPS),
        ("url.scheme", "https"),
        ("server.address", "127.0.0.1"),
        ("network.peer.address", "127.0.0.1"),
        ("network.protocol.version", "2.0"),
        ("http.response.status_code", "201"),
    ] {
        assert_eq!(server.attribute(key).as_deref(), Some(value), "{key}");
    }
    let find = |name: &'static str| all.iter().find(|told| ours(name)(told)).unwrap();
    let (handler, stored) = (find("Create"), find("Create etcd3"));
    assert_eq!(stored.attribute("key").unwrap(), "/configmaps/default/a");
    assert_eq!(stored.attribute("type").unwrap(), "*core.ConfigMap");
    assert_eq!(handler.attribute("protocol").unwrap(), "HTTP/2.0");
    assert_eq!(handler.events(), ["limitedReadBody succeeded"]);
    let id = server.attribute("audit-id").unwrap();
    for told in [handler, stored, &serializing] {
        assert_eq!(
            told.attribute("audit-id").as_ref(),
            Some(&id),
            "{}",
            told.span.name
        );
    }
    assert_eq!(txn.attribute("rpc.system.name").unwrap(), "grpc");
    assert_eq!(txn.attribute("rpc.response.status_code").unwrap(), "OK");

    // Whoever is nobody special begins no trace here, and joins none.
    let jane = api.user("jane");
    let (code, _) = tracer.work("jane", |_| {}, jane.get(MAPS)).await;
    assert_eq!(code, 403);
    let (code, _) = tracer.work("admin", |_| {}, api.get(MAPS)).await;
    assert_eq!(code, 200);
    let listed = "GET /api/v1/namespaces/{:namespace}/configmaps";
    let list = collector
        .until("the admin's", of("apiserver", listed))
        .await;
    let janes = collector.until("jane's own", of("client", "jane")).await;
    assert_eq!(list.attribute("http.response.status_code").unwrap(), "200");
    let all = collector.told();
    let mut servers = all
        .iter()
        .filter(|told| told.resource["service.name"] == "apiserver");
    assert!(servers.all(|told| told.span.trace_id != janes.span.trace_id));
    assert_eq!(
        all.iter()
            .filter(|told| of("apiserver", listed)(told))
            .count(),
        1
    );
}

#[tokio::test]
async fn webhooks_are_told_of_the_trace_and_have_a_span() {
    let collector = Collector::start().await;
    let address = collector.address.to_string();
    let api = Daemon::start_with(|files| vec![traced(files, &address, 0)]).await;
    let remote = webhooks(|_, _| allowed());
    let rules = [rule(&["CREATE"], "configmaps")];
    let hooks = [
        hook(&remote, "/a", &rules, json!({})),
        hook(&remote, "/b", &rules, json!({})),
    ];
    configure(&api, &remote, "Validating", "v", &hooks).await;
    let tracer = client(&collector);
    let map = config_map("a", json!({"k": "v"}));
    let (code, made) = tracer
        .work("test", |_| {}, api.send("POST", MAPS, &map))
        .await;
    assert_eq!(code, 201, "{made}");
    let test = collector
        .until("the test's own span", of("client", "test"))
        .await;
    let trace = hex(&test.span.trace_id);
    for path in ["/a", "/b"] {
        let asked = remote.asked();
        let told_on: Vec<Vec<&str>> = asked
            .iter()
            .filter(|a| a.path == path)
            .map(|a| a.traceparent.split('-').collect::<Vec<_>>())
            .filter(|parts| parts.get(1) == Some(&trace.as_str()))
            .collect();
        assert_eq!((told_on.len(), told_on[0][3]), (1, "01"), "{asked:?}");
        let call = collector
            .until("the call", |told| hex(&told.span.span_id) == told_on[0][2])
            .await;
        assert_eq!(call.span.name, "HTTP POST");
        assert!(
            call.attribute("url.full")
                .unwrap()
                .contains(&format!("{path}?timeout="))
        );
        let is_around = |told: &Told| told.span.span_id == call.span.parent_span_id;
        let around = collector.until("what is around it", is_around).await;
        assert_eq!(around.span.name, "Call validating webhook");
        assert_eq!(around.attribute("configuration").unwrap(), "v");
        assert_eq!(around.attribute("operation").unwrap(), "CREATE");
    }
}

#[tokio::test]
async fn a_collector_that_is_away_disturbs_no_request() {
    // Nobody listens there.
    let gone = Collector::start().await.address.to_string();
    let mut api = Daemon::start_with(|files| vec![traced(files, &gone, 1_000_000)]).await;
    let started = Instant::now();
    for n in 0..200 {
        let map = config_map(&format!("m{n}"), json!({"k": "v"}));
        let (code, made) = api.send("POST", MAPS, &map).await;
        assert_eq!(code, 201, "{made}");
    }
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
    // More than there is room for: at least ten spans each.
    for _ in 0..200 {
        assert_eq!(api.get(&format!("{MAPS}/m0")).await.0, 200);
    }
    eventually("spans are dropped", async || {
        let text = api.text("/metrics").await;
        let mut lines = text.lines();
        let count = lines.find_map(|l| l.strip_prefix("navarch_dropped_spans_total "));
        count.unwrap().parse::<f64>().unwrap() > 0.0
    })
    .await;
    let started = Instant::now();
    api.terminate().await;
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_server_that_ends_tells_the_last_spans() {
    let collector = Collector::start().await;
    let address = collector.address.to_string();
    let mut api = Daemon::start_with(|files| vec![traced(files, &address, 1_000_000)]).await;
    let map = config_map("last", json!({"k": "v"}));
    let (code, made) = api.send("POST", MAPS, &map).await;
    assert_eq!(code, 201, "{made}");
    api.terminate().await;
    let told = collector.told();
    let keys = told.iter().filter_map(|told| told.attribute("key"));
    assert_eq!(
        keys.filter(|key| key == "/configmaps/default/last").count(),
        1
    );
}
