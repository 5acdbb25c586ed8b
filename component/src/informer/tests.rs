use super::*;
use crate::testing::{Ask, FakeApi, Lines};

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::{Value, json};
use std::time::Duration;

fn map(name: &str, version: u64) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"namespace": "ns", "name": name, "uid": name,
        "resourceVersion": version.to_string(), "managedFields": [{"manager": "x", "operation": "Update"}]},
        "data": {"v": version.to_string()}})
}

fn bookmark(version: u64, initial_end: bool) -> Value {
    let annotations = if initial_end {
        json!({"k8s.io/initial-events-end": "true"})
    } else {
        json!({})
    };
    json!({"kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"resourceVersion": version.to_string(), "annotations": annotations}})
}

fn list(version: u64, items: &[Value]) -> Value {
    json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": version.to_string()}, "items": items})
}

/// What subscribers were told, as short texts.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn to(informer: &Informer<ConfigMap>) -> Self {
        let told = Self::default();
        let note = told.clone();
        informer.subscribe(move |key, event| {
            let v = |m: &ConfigMap| m.metadata.resource_version.clone().unwrap();
            note.0.lock().push(match event {
                Event::Added(new) => format!("+{} {}", key.name(), v(new)),
                Event::Updated { old, new } => format!("~{} {}>{}", key.name(), v(old), v(new)),
                Event::Deleted(last) => format!("-{} {}", key.name(), v(last)),
            });
        });
        told
    }

    async fn wait(&self, wanted: &[&str]) {
        let reached = async {
            while self.0.lock().len() < wanted.len() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(10), reached).await;
        assert_eq!(*self.0.lock(), wanted);
    }
}

/// Lets the server stream the initial objects.
async fn stream_initial(ask: Ask, version: u64, items: &[Value]) -> Lines {
    let (seen, lines) = ask.stream();
    assert_eq!(seen.param("sendInitialEvents"), "true");
    assert_eq!(seen.param("resourceVersionMatch"), "NotOlderThan");
    for item in items {
        lines.event("ADDED", item).await;
    }
    lines.event("BOOKMARK", &bookmark(version, true)).await;
    lines
}

fn informers(api: &FakeApi) -> Informers {
    Informers::new(api.client(), api.tasks.clone())
}

#[tokio::test]
async fn initial_objects_are_streamed_and_followed() {
    let mut api = FakeApi::plain();
    let informers = informers(&api);
    let informer = informers.of::<ConfigMap>();
    let told = Told::to(&informer);
    let ask = api.next().await;
    assert!(!informer.has_synced());
    assert_eq!(informers.unsynced(), ["v1/configmaps"]);
    let lines = stream_initial(ask, 10, &[map("a", 3), map("b", 7)]).await;
    informers.synced().await;
    let lister = informer.lister();
    assert_eq!(
        (lister.len(), lister.resource_version().as_str()),
        (2, "10")
    );
    assert!(
        lister
            .get("ns", "a")
            .unwrap()
            .metadata
            .managed_fields
            .is_none()
    );
    lines.event("MODIFIED", &map("a", 11)).await;
    lines.event("DELETED", &map("b", 12)).await;
    lines.event("ADDED", &map("c", 13)).await;
    told.wait(&["+a 3", "+b 7", "~a 3>11", "-b 12", "+c 13"])
        .await;
    assert_eq!(lister.resource_version(), "13");
    assert!(lister.has_reached("13") && !lister.has_reached("14"));
    assert!(lister.get("ns", "b").is_none());
    assert_eq!(lister.in_namespace("ns").len(), 2);
    assert!(lister.in_namespace("n").is_empty());
}

#[tokio::test]
async fn a_server_that_does_not_stream_lists_is_listed() {
    let mut api = FakeApi::plain();
    let informer = informers(&api).of::<ConfigMap>();
    api.next().await.status(422, "Invalid");
    let seen = api.next().await.json(&list(5, &[map("a", 5)]));
    assert_eq!(
        (seen.param("watch"), seen.param("resourceVersion")),
        ("", "0")
    );
    informer.synced().await;
    let (seen, _lines) = api.next().await.stream();
    assert_eq!(
        (
            seen.param("watch"),
            seen.param("resourceVersion"),
            seen.param("sendInitialEvents")
        ),
        ("true", "5", "")
    );
    assert_eq!(seen.param("allowWatchBookmarks"), "true");
}

#[tokio::test]
async fn a_watch_that_ends_is_resumed_from_the_last_bookmark() {
    let mut api = FakeApi::plain();
    let informer = informers(&api).of::<ConfigMap>();
    let told = Told::to(&informer);
    let ask = api.next().await;
    let lines = stream_initial(ask, 10, &[map("a", 3)]).await;
    lines.event("BOOKMARK", &bookmark(50, false)).await;
    drop(lines);
    let (seen, lines) = api.next().await.stream();
    assert_eq!(
        (
            seen.param("resourceVersion"),
            seen.param("sendInitialEvents")
        ),
        ("50", "")
    );
    lines.event("MODIFIED", &map("a", 51)).await;
    told.wait(&["+a 3", "~a 3>51"]).await;
    // A connection that breaks is resumed in the same way.
    lines.fail().await;
    let (seen, _lines) = api.next().await.stream();
    assert_eq!(seen.param("resourceVersion"), "51");
}

#[tokio::test]
async fn only_a_version_that_is_gone_leads_to_a_new_list_which_is_told_as_differences() {
    let mut api = FakeApi::plain();
    let informer = informers(&api).of::<ConfigMap>();
    let told = Told::to(&informer);
    api.next().await.status(422, "Invalid");
    api.next()
        .await
        .json(&list(10, &[map("a", 3), map("b", 4), map("c", 5)]));
    // Not gone: resumed.
    api.next().await.status(500, "InternalError");
    let (seen, lines) = api.next().await.stream();
    assert_eq!(
        (seen.param("watch"), seen.param("resourceVersion")),
        ("true", "10")
    );
    let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired"});
    lines.event("ERROR", &gone).await;
    let ask = api.next().await;
    assert_eq!(
        informer.lister().len(),
        3,
        "the old state is served meanwhile"
    );
    let seen = ask.json(&list(90, &[map("b", 4), map("c", 80), map("d", 85)]));
    assert_eq!(
        (seen.param("watch"), seen.param("resourceVersion")),
        ("", ""),
        "the newest state, not the lost one"
    );
    told.wait(&["+a 3", "+b 4", "+c 5", "-a 3", "~c 5>80", "+d 85"])
        .await;
    let (seen, _lines) = api.next().await.stream();
    assert_eq!(seen.param("resourceVersion"), "90");
}

#[tokio::test]
async fn an_answer_of_410_to_the_watch_itself_leads_to_a_list_too() {
    let mut api = FakeApi::plain();
    let informer = informers(&api).of::<ConfigMap>();
    let ask = api.next().await;
    drop(stream_initial(ask, 10, &[]).await);
    informer.synced().await;
    let mut ask = api.next().await;
    if ask.seen.param("resourceVersion") == "10" {
        ask.status(410, "Gone");
        ask = api.next().await;
    }
    assert_eq!(
        (
            ask.seen.param("sendInitialEvents"),
            ask.seen.param("resourceVersion")
        ),
        ("true", "")
    );
    stream_initial(ask, 20, &[map("x", 15)]).await;
}

/// Resuming would bring the same event again, for ever.
#[tokio::test]
async fn an_event_that_cannot_be_read_leads_to_the_newest_state() {
    let mut api = FakeApi::plain();
    let informer = informers(&api).of::<ConfigMap>();
    let told = Told::to(&informer);
    let ask = api.next().await;
    let lines = stream_initial(ask, 100, &[map("a", 100)]).await;
    told.wait(&["+a 100"]).await;
    lines.bytes(b"garbage\n").await;
    let ask = api.next().await;
    assert_eq!(informer.lister().resource_version(), "100");
    assert_eq!(
        (
            ask.seen.param("sendInitialEvents"),
            ask.seen.param("resourceVersion")
        ),
        ("true", "")
    );
    let _lines = stream_initial(ask, 120, &[map("a", 110)]).await;
    told.wait(&["+a 100", "~a 100>110"]).await;
}

/// A server that has compacted everything must not be asked in a loop.
#[tokio::test]
async fn versions_that_are_gone_again_and_again_are_asked_for_less_and_less_often() {
    let mut api = FakeApi::plain();
    let _informer = informers(&api).of::<ConfigMap>();
    api.next().await.status(422, "Invalid");
    let start = std::time::Instant::now();
    for _ in 0..2 {
        api.next().await.json(&list(5, &[]));
        api.next().await.status(410, "Gone");
    }
    let wait = start.elapsed();
    assert!(wait >= Duration::from_millis(790), "{wait:?}");
}

#[tokio::test]
async fn an_initial_stream_that_breaks_leaves_no_half_state() {
    let mut api = FakeApi::plain();
    let informer = informers(&api).of::<ConfigMap>();
    let told = Told::to(&informer);
    let (_, lines) = api.next().await.stream();
    lines.event("ADDED", &map("a", 1)).await;
    lines.fail().await;
    let ask = api.next().await;
    assert!(!informer.has_synced() && informer.lister().is_empty());
    let _lines = stream_initial(ask, 10, &[map("b", 2)]).await;
    told.wait(&["+b 2"]).await;
}

#[tokio::test]
async fn only_the_bookmark_that_says_so_ends_the_initial_objects() {
    let mut api = FakeApi::plain();
    let informer = informers(&api).of::<ConfigMap>();
    let told = Told::to(&informer);
    let (_, lines) = api.next().await.stream();
    lines.event("ADDED", &map("a", 1)).await;
    lines.event("BOOKMARK", &bookmark(5, false)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(
        !informer.has_synced() && told.0.lock().is_empty(),
        "half of the objects are no state"
    );
    lines.event("ADDED", &map("b", 2)).await;
    lines.event("BOOKMARK", &bookmark(10, true)).await;
    told.wait(&["+a 1", "+b 2"]).await;
}

#[tokio::test]
async fn a_late_subscriber_is_told_what_is_there_and_misses_nothing_after_it() {
    let mut api = FakeApi::plain();
    let informer = informers(&api).of::<ConfigMap>();
    let ask = api.next().await;
    let lines = stream_initial(ask, 10, &[map("a", 1), map("b", 2)]).await;
    informer.synced().await;
    let told = Told::to(&informer);
    lines.event("MODIFIED", &map("a", 11)).await;
    told.wait(&["+a 1", "+b 2", "~a 1>11"]).await;
}

#[tokio::test]
async fn one_watch_is_shared_per_kind_and_selection() {
    let mut api = FakeApi::plain();
    let informers = informers(&api);
    let (_one, _two) = (informers.of::<ConfigMap>(), informers.of::<ConfigMap>());
    let other = informers.select::<Pod>(Selection::fields("spec.nodeName=n"));
    let mut paths = [api.next().await, api.next().await].map(|a| {
        let (seen, lines) = a.stream();
        std::mem::forget(lines);
        (seen.path.clone(), seen.param("fieldSelector").to_owned())
    });
    paths.sort();
    let wanted = [
        ("/api/v1/configmaps", ""),
        ("/api/v1/pods", "spec.nodeName=n"),
    ];
    assert_eq!(paths, wanted.map(|(a, b)| (a.to_owned(), b.to_owned())));
    assert!(api.is_quiet().await);
    other.stop();
    let _again = informers.select::<Pod>(Selection::fields("spec.nodeName=n"));
    assert_eq!(api.next().await.seen.path, "/api/v1/pods");
}

#[tokio::test]
async fn an_index_follows_its_objects() {
    let mut api = FakeApi::plain();
    let informer = informers(&api).of::<ConfigMap>();
    let values = |m: &ConfigMap| {
        m.data
            .iter()
            .flatten()
            .map(|(_, v)| (v.len() % 2).to_string())
            .collect()
    };
    let early = informer.index("parity", values);
    let ask = api.next().await;
    let lines = stream_initial(ask, 10, &[map("a", 1), map("b", 2), map("c", 13)]).await;
    informer.synced().await;
    let lister = informer.lister();
    let names = |value: &str| -> Vec<String> {
        lister
            .indexed(early, value)
            .iter()
            .map(|m| m.metadata.name.clone().unwrap())
            .collect()
    };
    assert_eq!(
        (names("1"), names("0")),
        (vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()])
    );
    let told = Told::to(&informer);
    lines.event("MODIFIED", &map("a", 44)).await;
    lines.event("DELETED", &map("b", 45)).await;
    told.wait(&["+a 1", "+b 2", "+c 13", "~a 1>44", "-b 45"])
        .await;
    assert_eq!(
        (names("1"), names("0")),
        (vec![], vec!["a".to_owned(), "c".to_owned()])
    );
    assert_eq!(
        informer.index("parity", |_| vec![]),
        early,
        "one name is one index"
    );
    let late = informer.index("all", |_| vec!["x".to_owned()]);
    assert_eq!(lister.indexed(late, "x").len(), 2);
}

#[tokio::test]
async fn a_watch_ends_with_its_daemon() {
    let mut api = FakeApi::plain();
    let tasks = Supervisor::current();
    let client = Client::new(api.config(), "test", &tasks, &api.metrics).unwrap();
    let informer = Informers::new(client, tasks.clone()).of::<ConfigMap>();
    let ask = api.next().await;
    let lines = stream_initial(ask, 10, &[]).await;
    informer.synced().await;
    tasks.stop();
    tasks
        .finished(crate::supervisor::Shutdown::default())
        .await
        .unwrap();
    tokio::time::timeout(Duration::from_secs(5), lines.closed())
        .await
        .expect("the server sees the end");
}
