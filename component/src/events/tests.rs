use super::classic::Correlator;
use super::series::AllSeries;
use super::*;
use crate::clock;
use crate::testing::FakeApi;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::json;

fn pod(name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: Some("ns".into()),
        name: Some(name.into()),
        ..Default::default()
    }
}

fn event(object: &str, message: &str) -> Event {
    Event {
        regarding: pod(object),
        related: None,
        kind: Type::Warning,
        reason: "Failed".into(),
        action: "Trying".into(),
        message: message.into(),
    }
}

fn source() -> Source {
    Source {
        component: "kubelet".into(),
        host: "node".into(),
    }
}

fn later(now: Timestamp, seconds: i64) -> Timestamp {
    now + SignedDuration::from_secs(seconds)
}

#[test]
fn repetitions_are_counted_in_one_event() {
    let mut correlator = Correlator::new();
    let now = clock::now();
    let first = correlator
        .observe(&event("a", "x"), &source(), now)
        .unwrap();
    assert!(first.patch.is_none());
    assert_eq!(
        (first.event.count, first.event.metadata.namespace.as_deref()),
        (Some(1), Some("ns"))
    );
    assert_eq!(first.event.reporting_component.as_deref(), Some("kubelet"));
    let again = correlator
        .observe(&event("a", "x"), &source(), later(now, 5))
        .unwrap();
    assert_eq!(again.event.metadata.name, first.event.metadata.name);
    assert_eq!(again.event.first_timestamp, first.event.first_timestamp);
    assert_eq!(again.patch.unwrap()["count"], 2);
    let other = correlator
        .observe(&event("b", "x"), &source(), now)
        .unwrap();
    assert!(other.patch.is_none());
}

#[test]
fn the_tenth_similar_event_is_joined_with_those_after_it() {
    let mut correlator = Correlator::new();
    let now = clock::now();
    let mut said = |n: i64, at| {
        correlator
            .observe(&event("a", &format!("m{n}")), &source(), later(now, at))
            .unwrap()
    };
    for n in 1..10 {
        assert!(said(n, n).patch.is_none());
    }
    let tenth = said(10, 10);
    assert_eq!(
        tenth.event.message.as_deref(),
        Some("(combined from similar events): m10")
    );
    let eleventh = said(11, 11);
    assert_eq!(
        (eleventh.event.count, eleventh.event.metadata.name),
        (Some(2), tenth.event.metadata.name)
    );
    // After a pause they are told one by one again.
    assert_eq!(said(12, 1000).event.message.as_deref(), Some("m12"));
}

#[test]
fn an_object_gets_twenty_five_events_and_then_one_every_five_minutes() {
    let mut correlator = Correlator::new();
    let now = clock::now();
    let mut passes = |at| {
        correlator
            .observe(&event("a", "x"), &source(), later(now, at))
            .is_some()
    };
    assert_eq!((0..40).filter(|_| passes(0)).count(), 25);
    assert!(!passes(299) && passes(301) && !passes(301));
    assert!(
        correlator
            .observe(&event("b", "x"), &source(), now)
            .is_some(),
        "others are not touched"
    );
}

#[test]
fn a_repetition_starts_a_series_and_further_ones_are_only_counted() {
    let mut all = AllSeries::new();
    let now = clock::now();
    let first = all.observe(&event("a", "x"), &source(), now).unwrap();
    assert_eq!(
        (first.series.is_none(), first.reporting_instance.as_deref()),
        (true, Some("kubelet-node"))
    );
    // The note does not matter for what is the same.
    let second = all
        .observe(&event("a", "y"), &source(), later(now, 1))
        .unwrap();
    assert_eq!(
        (second.series.unwrap().count, second.metadata.name),
        (2, first.metadata.name)
    );
    assert!(
        all.observe(&event("a", "x"), &source(), later(now, 2))
            .is_none()
    );
    assert_eq!(all.refresh()[0].series.as_ref().unwrap().count, 3);
    assert!(all.finish(later(now, 300)).is_empty());
    assert_eq!(
        all.finish(later(now, 400))[0]
            .series
            .as_ref()
            .unwrap()
            .count,
        3
    );
    assert!(
        all.observe(&event("a", "x"), &source(), later(now, 401))
            .unwrap()
            .series
            .is_none(),
        "it begins anew"
    );
}

#[test]
fn names_are_what_the_server_takes() {
    assert_eq!(event_name("pod-1", 255), "pod-1.ff");
    assert_eq!(
        event_name(&"a".repeat(300), 255).len(),
        36,
        "a random one where the object's is too long"
    );
    assert!(!event_name("system:node", 255).contains(':'));
    assert_eq!(event_namespace(&ObjectReference::default()), "default");
}

#[tokio::test]
async fn events_arrive_in_order_and_repetitions_as_patches() {
    let mut api = FakeApi::plain();
    let recorder = Recorder::new(&api.client(), Api::Core, "kubelet", "node", &api.tasks);
    recorder.normal(&pod("a"), "Pulled", "done");
    recorder.normal(&pod("a"), "Pulled", "done");
    recorder.warning(&pod("a"), "Failed", "no");
    let ask = api.next().await;
    assert_eq!(
        (ask.seen.method.as_str(), ask.seen.path.as_str()),
        ("POST", "/api/v1/namespaces/ns/events")
    );
    let name = ask.seen.json()["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let body = ask.seen.json();
    ask.json(&body);
    let ask = api.next().await;
    assert_eq!(
        (ask.seen.method.as_str(), ask.seen.path.clone()),
        ("PATCH", format!("/api/v1/namespaces/ns/events/{name}"))
    );
    assert_eq!(ask.seen.json()["count"], 2);
    // It is gone meanwhile: it is written anew, with its count.
    ask.status(404, "NotFound");
    let ask = api.next().await;
    assert_eq!(
        (ask.seen.method.as_str(), &ask.seen.json()["count"]),
        ("POST", &json!(2))
    );
    let body = ask.seen.json();
    ask.json(&body);
    let ask = api.next().await;
    assert_eq!(
        (&ask.seen.json()["reason"], &ask.seen.json()["type"]),
        (&json!("Failed"), &json!("Warning"))
    );
    ask.status(403, "Forbidden");
    assert!(
        api.is_quiet().await,
        "what the server refuses is not tried again"
    );
}

#[tokio::test]
async fn recording_never_waits() {
    let api = FakeApi::plain();
    let recorder = Recorder::new(&api.client(), Api::Events, "scheduler", "", &api.tasks);
    let start = std::time::Instant::now();
    for n in 0..3000 {
        recorder.normal(&pod(&format!("p{n}")), "Scheduled", "ok");
    }
    assert!(start.elapsed().as_secs() < 2);
    assert!(recorder.dropped() >= 1900, "{}", recorder.dropped());
}
