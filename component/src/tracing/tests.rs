//! A request's spans as a collector is told of them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use http_body_util::BodyExt;
use store::trace::Called;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::*;
use crate::serving::{Connection, full, text};
use crate::supervisor::Shutdown;
use crate::testing::{Collector, Told};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";
/// Nothing is waited for that need not be.
const QUICK: Pace = Pace {
    delay: Duration::from_millis(10),
    timeout: Duration::from_secs(10),
    retry: (Duration::from_millis(10), Duration::from_millis(20)),
    patience: Duration::from_millis(500),
    flush: Duration::from_secs(5),
};

fn open(endpoint: &str, rate: i32, tasks: &Supervisor) -> Tracer {
    let config = TracingConfiguration {
        endpoint: Some(endpoint.to_owned()),
        sampling_rate_per_million: Some(rate),
    };
    Tracer::paced(&config, &[("service.name", "test")], tasks, QUICK)
}

async fn collected(rate: i32) -> (Collector, Tracer) {
    let collector = Collector::start().await;
    let endpoint = collector.address.to_string();
    let tracer = open(&endpoint, rate, &Supervisor::current());
    (collector, tracer)
}

fn headers(flags: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let parent = format!("00-{TRACE}-{SPAN}-{flags}");
    headers.insert("traceparent", HeaderValue::try_from(parent).unwrap());
    headers.insert("tracestate", HeaderValue::from_static("a=b"));
    headers.insert("host", HeaderValue::from_static("api.example.com:6443"));
    headers
}

/// A request with these headers, if it has a trace.
fn serve(tracer: &Tracer, headers: &HeaderMap, trusted: bool) -> Option<Serving> {
    let connection = Connection {
        peer: "10.0.0.7:1234".parse().unwrap(),
        local: "10.0.0.1:6443".parse().unwrap(),
        tls: None,
        close: CancellationToken::new(),
    };
    let uri = Uri::from_static("/api/v1/nodes?limit=1");
    let request = Incoming {
        method: &Method::GET,
        uri: &uri,
        version: Version::HTTP_2,
        headers,
        connection: &connection,
        body: Some(0),
        received: SystemTime::now(),
        audit_id: "an-id",
        server: None,
    };
    tracer.incoming(&request, || trusted, || "GET /api/v1/nodes".to_owned())
}

async fn answered(serving: Serving, code: u16) {
    let response = text(code.try_into().unwrap(), "twelve bytes");
    let body = serving.answered(response).into_body();
    assert_eq!(body.collect().await.unwrap().to_bytes().len(), 12);
}

fn hex(bytes: &Bytes) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn named(name: &'static str) -> impl Fn(&Told) -> bool {
    move |told| told.span.name == name
}

/// What another server would be told.
fn told_on() -> HeaderMap {
    let mut headers = HeaderMap::new();
    hand_on(&mut headers);
    headers
}

fn parent(headers: &HeaderMap) -> Vec<&str> {
    headers["traceparent"]
        .to_str()
        .unwrap()
        .split('-')
        .collect()
}

#[tokio::test]
async fn a_trusted_request_belongs_to_its_clients_trace_and_what_is_done_for_it_too() {
    let (collector, tracer) = collected(0).await;
    let serving = serve(&tracer, &headers("01"), true).unwrap();
    serving
        .within(async {
            let _work = span("Get", |a| {
                a.audit_id();
                a.text("name", "x".repeat(10_000));
            });
            event("About to look", |_| {});
            let called = Called {
                method: "etcdserverpb.KV/Range",
                server: ("etcd-0", 2379),
            };
            let call = store::trace::with(|trace| trace.begin(called)).flatten();
            let on = told_on();
            assert_eq!(on["tracestate"], "a=b");
            assert_eq!((parent(&on)[1], parent(&on)[3]), (TRACE, "01"));
            call.unwrap().ended(Some(&Status::unavailable("gone")));
            let _next = span("SerializeObject", |_| {});
        })
        .await;
    answered(serving, 500).await;
    let server = collector
        .until("the server's span", named("GET /api/v1/nodes"))
        .await;
    let work = collector.until("the handler's", named("Get")).await;
    let call = collector
        .until("etcd's", named("etcdserverpb.KV/Range"))
        .await;
    let next = collector.until("the last", named("SerializeObject")).await;
    for told in [&server, &work, &call, &next] {
        assert_eq!(hex(&told.span.trace_id), TRACE);
        assert_eq!(told.span.trace_state, "a=b");
        assert_eq!(told.resource["service.name"], "test");
        assert!(told.span.end_time_unix_nano >= told.span.start_time_unix_nano);
    }
    assert_eq!(hex(&server.span.parent_span_id), SPAN);
    assert_eq!(work.span.parent_span_id, server.span.span_id);
    assert_eq!(call.span.parent_span_id, work.span.span_id);
    // What had ended was no parent any more.
    assert_eq!(next.span.parent_span_id, work.span.span_id);
    assert_eq!((server.span.flags, work.span.flags), (0x301, 0x101));
    assert_eq!(server.span.kind(), SpanKind::Server);
    for (key, value) in [
        ("server.address", "api.example.com"),
        ("server.port", "6443"),
        ("http.request.method", "GET"),
        ("url.scheme", "http"),
        ("url.path", "/api/v1/nodes"),
        ("http.target", "/api/v1/nodes?limit=1"),
        ("network.peer.address", "10.0.0.7"),
        ("client.address", "10.0.0.7"),
        ("network.protocol.version", "2.0"),
        ("audit-id", "an-id"),
        ("http.response.status_code", "500"),
        ("http.response.body.size", "12"),
    ] {
        assert_eq!(server.attribute(key).as_deref(), Some(value), "{key}");
    }
    let failed = |told: &Told| told.span.status.clone().unwrap();
    assert_eq!(failed(&server).code(), pb::status::StatusCode::Error);
    assert_eq!(failed(&call).message, "gone");
    assert_eq!(
        call.attribute("rpc.response.status_code").unwrap(),
        "UNAVAILABLE"
    );
    assert_eq!(call.attribute("server.port").unwrap(), "2379");
    assert_eq!(
        work.attribute("name").unwrap().len(),
        4096,
        "clients choose names"
    );
    assert_eq!(work.events(), ["About to look"]);
}

#[tokio::test]
async fn a_stranger_decides_nothing_but_is_named() {
    let (collector, tracer) = collected(1_000_000).await;
    let serving = serve(&tracer, &headers("00"), false).unwrap();
    let on = serving.within(async { told_on() }).await;
    assert_ne!(parent(&on)[1], TRACE);
    assert!(!on.contains_key("tracestate"));
    answered(serving, 200).await;
    let server = collector
        .until("the server's span", named("GET /api/v1/nodes"))
        .await;
    assert_eq!(hex(&server.span.trace_id), parent(&on)[1]);
    assert!(server.span.parent_span_id.is_empty());
    let link = &server.span.links[0];
    assert_eq!(
        (hex(&link.trace_id).as_str(), hex(&link.span_id).as_str()),
        (TRACE, SPAN)
    );
    assert_eq!(server.span.status, None);
}

#[tokio::test]
async fn what_is_not_recorded_is_told_on_all_the_same() {
    let (collector, tracer) = collected(0).await;
    for (headers, trusted, same) in [
        (headers("00"), true, true),
        (headers("01"), false, false),
        (HeaderMap::new(), true, false),
    ] {
        let serving = serve(&tracer, &headers, trusted).unwrap();
        let on = serving
            .within(async {
                let _work = span("Get", |_| panic!("nobody wants to know"));
                event("About to look", |_| panic!("nobody wants to know"));
                told_on()
            })
            .await;
        assert_eq!(parent(&on)[1] == TRACE, same);
        assert_eq!(parent(&on)[3], "00");
        answered(serving, 200).await;
    }
    let marker = serve(&tracer, &headers("01"), true).unwrap();
    answered(marker, 200).await;
    collector.until("the marker", |_| true).await;
    assert_eq!(collector.told().len(), 1);
}

#[tokio::test]
async fn without_a_collector_what_clients_say_is_handed_on_and_nothing_else_is_done() {
    let tracer = Tracer::default();
    assert!(serve(&tracer, &HeaderMap::new(), true).is_none());
    let mut came = headers("01");
    came.insert("baggage", HeaderValue::from_static("k=v"));
    let serving = serve(&tracer, &came, false).unwrap();
    let on = serving
        .within(async {
            let _work = span("Get", |_| panic!("nobody wants to know"));
            told_on()
        })
        .await;
    for header in ["traceparent", "tracestate", "baggage"] {
        assert_eq!(on[header], came[header]);
    }
    assert!(
        told_on().is_empty(),
        "only what is done for the request knows of it"
    );
}

#[tokio::test]
async fn what_is_done_at_the_same_time_is_not_within_each_other() {
    let (collector, tracer) = collected(0).await;
    let serving = serve(&tracer, &headers("01"), true).unwrap();
    let call = async |name: &'static str| {
        let _call = span(name, |_| {});
        tokio::task::yield_now().await;
        let _inner = span("inner", |_| {});
        tokio::task::yield_now().await;
    };
    let both = async {
        let _work = span("Create", |_| {});
        tokio::join!(branch(call("one")), branch(call("two")));
        let _after = span("after", |_| {});
    };
    serving.within(both).await;
    answered(serving, 200).await;
    let work = collector.until("the work", named("Create")).await;
    for name in ["one", "two", "after"] {
        let told = collector.until(name, named(name)).await;
        assert_eq!(told.span.parent_span_id, work.span.span_id, "{name}");
    }
    let all = collector.told();
    let inner: Vec<_> = all.iter().filter(|told| named("inner")(told)).collect();
    assert_eq!(inner.len(), 2);
    assert_ne!(inner[0].span.parent_span_id, inner[1].span.parent_span_id);
}

#[tokio::test]
async fn requests_that_go_out_are_spans_that_the_other_side_is_told_of() {
    let (collector, tracer) = collected(1_000_000).await;
    let mut request = Request::get("https://10.0.0.1:6443/api/v1/pods?watch=true")
        .body(())
        .unwrap();
    let asking = tracer.outgoing(&mut request);
    let on = request.headers().clone();
    let mut response = text(404_u16.try_into().unwrap(), "");
    asking.answered(&mut response);
    let (head, _body) = response.into_parts();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(
        collector.told().is_empty(),
        "it lasts as long as its answer"
    );
    drop(head);
    let told = collector.until("the span", named("HTTP GET")).await;
    assert_eq!(
        (
            hex(&told.span.trace_id).as_str(),
            hex(&told.span.span_id).as_str()
        ),
        (parent(&on)[1], parent(&on)[2])
    );
    assert_eq!(told.span.kind(), SpanKind::Client);
    let full = "https://10.0.0.1:6443/api/v1/pods?watch=true";
    for (key, value) in [
        ("url.full", full),
        ("server.address", "10.0.0.1"),
        ("server.port", "6443"),
        ("http.response.status_code", "404"),
        ("error.type", "404"),
    ] {
        assert_eq!(told.attribute(key).as_deref(), Some(value), "{key}");
    }
    // Within a request it is a part of it, whoever's tracer is asked.
    let serving = serve(&tracer, &headers("01"), true).unwrap();
    let mut within = Request::post("http://10.0.0.9/hook").body(()).unwrap();
    serving
        .within(async { drop(Tracer::default().outgoing(&mut within)) })
        .await;
    assert_eq!(parent(within.headers())[1], TRACE);
    let told = collector.until("the webhook's", named("HTTP POST")).await;
    answered(serving, 200).await;
    let server = collector
        .until("the server's", named("GET /api/v1/nodes"))
        .await;
    assert_eq!(told.span.parent_span_id, server.span.span_id);
}

#[tokio::test]
async fn a_collector_that_is_away_costs_no_time_and_no_room() {
    // Nobody listens there.
    let gone = Collector::start().await.address.to_string();
    let tasks = Supervisor::current();
    let tracer = open(&gone, 1_000_000, &tasks);
    let started = Instant::now();
    for _ in 0..10_000 {
        let serving = serve(&tracer, &HeaderMap::new(), true).unwrap();
        serving.within(async { drop(span("Get", |_| {})) }).await;
        drop(serving.answered(crate::serving::Response::new(full("ok"))));
    }
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
    let running = tracer.running().unwrap();
    let dropped = running.queue.dropped();
    assert!(
        dropped.get() >= 20_000 - 2048 - 2 * 512,
        "{}",
        dropped.get()
    );
    // What it takes afterwards is what there was room for; the end does not wait for it either.
    tasks.stop();
    let started = Instant::now();
    tasks.finished(Shutdown::default()).await.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(6),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn what_a_collector_does_not_take_now_is_told_again() {
    let (collector, tracer) = collected(1_000_000).await;
    collector.refuse(vec![
        Status::unavailable("not yet"),
        Status::resource_exhausted("not yet"),
    ]);
    answered(serve(&tracer, &HeaderMap::new(), true).unwrap(), 200).await;
    collector.until("the third time", |_| true).await;
    assert_eq!(tracer.running().unwrap().queue.dropped().get(), 0);
    // What it will never take is let go.
    collector.refuse(vec![Status::invalid_argument("what is that?")]);
    answered(serve(&tracer, &HeaderMap::new(), true).unwrap(), 200).await;
    let dropped = tracer.running().unwrap().queue.dropped();
    let started = Instant::now();
    while dropped.get() == 0 {
        assert!(started.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((dropped.get(), collector.told().len()), (1, 1));
}

#[tokio::test]
async fn the_last_spans_are_sent_before_the_process_ends() {
    let collector = Collector::start().await;
    let tasks = Supervisor::current();
    let config = TracingConfiguration {
        endpoint: Some(collector.address.to_string()),
        sampling_rate_per_million: Some(1_000_000),
    };
    // Nothing would be sent before that.
    let pace = Pace {
        delay: Duration::from_secs(3600),
        ..QUICK
    };
    let tracer = Tracer::paced(&config, &[], &tasks, pace);
    for _ in 0..300 {
        answered(serve(&tracer, &HeaderMap::new(), true).unwrap(), 200).await;
    }
    tasks.stop();
    tasks.finished(Shutdown::default()).await.unwrap();
    assert_eq!(collector.told().len(), 300);
}

#[tokio::test]
async fn work_that_nobody_asked_for_is_a_trace_of_its_own() {
    let (collector, tracer) = collected(1_000_000).await;
    let work = async {
        failed("no space left");
        let mut request = Request::get("http://a/b").body(()).unwrap();
        drop(tracer.outgoing(&mut request));
        5
    };
    let describe = |a: &mut Attributes<'_>| a.text("k8s.pod.uid", "u");
    assert_eq!(tracer.work("syncPod", describe, work).await, 5);
    let told = collector.until("the work", named("syncPod")).await;
    assert_eq!(told.attribute("k8s.pod.uid").unwrap(), "u");
    assert_eq!(told.span.status.clone().unwrap().message, "no space left");
    assert_eq!(told.events(), ["exception"]);
    let asked = collector.until("the request", named("HTTP GET")).await;
    assert_eq!(asked.span.parent_span_id, told.span.span_id);
    let off = Tracer::default();
    let nothing = |_: &mut Attributes<'_>| panic!("nobody wants to know");
    assert_eq!(off.work("syncPod", nothing, async { 6 }).await, 6);
}
