//! Watches against real etcd, Debian's and the newest.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not know for tests"
)]

use std::sync::Arc;
use std::time::Duration;

use store::testing::{Etcds, Label, Rig, end, next, pods, shown, watching};
use store::{At, Begin, Collection, End, ReadError, ResourceConfig, Scope, WatchQuery};

async fn quiet(watcher: &mut store::Watcher) {
    let event = tokio::time::timeout(Duration::from_millis(200), watcher.next()).await;
    assert!(event.is_err(), "{event:?}");
}

#[tokio::test]
async fn an_object_enters_and_leaves_a_selection() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        let pods = rig.pods().await;
        let filter = Some(Arc::new(Label("app", "web")) as _);
        let mut web = pods
            .watch(WatchQuery {
                filter,
                ..watching(Begin::Now(At::Any))
            })
            .await
            .unwrap();
        let key = "/registry/pods/a/p";
        let put = async |value| rig.direct.put(key, value).await;
        put("app=db||1").await;
        let r = put("app=web||2").await;
        assert_eq!(
            next(&mut web).await,
            format!("ADDED a/p {r} {r}:app=web||2")
        );
        let r = put("app=web||3").await;
        assert_eq!(
            next(&mut web).await,
            format!("MODIFIED a/p {r} {r}:app=web||3")
        );
        let r = put("app=db||4").await;
        assert_eq!(
            next(&mut web).await,
            format!("DELETED a/p {r} {r}:app=web||3"),
            "the object before"
        );
        put("app=db||5").await;
        let r = put("app=web||6").await;
        assert_eq!(
            next(&mut web).await,
            format!("ADDED a/p {r} {r}:app=web||6")
        );
        let r = rig.direct.delete(key).await;
        assert_eq!(
            next(&mut web).await,
            format!("DELETED a/p {r} {r}:app=web||6")
        );
        quiet(&mut web).await;
    }
}

#[tokio::test]
async fn watchers_of_one_value_see_exactly_their_events() {
    let rig = Rig::newest().await;
    let pods = rig.pods().await;
    let watch = async |scope, filter: Option<Label>| {
        let filter = filter.map(|f| Arc::new(f) as _);
        pods.watch(WatchQuery {
            scope,
            filter,
            ..watching(Begin::Now(At::Any))
        })
        .await
        .unwrap()
    };
    let mut all = watch(Scope::All, None).await;
    let mut narrow = [
        watch(Scope::Namespace("ns1".into()), None).await,
        watch(Scope::One("ns0/p0".into()), None).await,
        watch(Scope::All, Some(Label("spec.nodeName", "n1"))).await,
        watch(
            Scope::Namespace("ns1".into()),
            Some(Label("spec.nodeName", "n1")),
        )
        .await,
        watch(
            Scope::Namespace("ns0".into()),
            Some(Label("metadata.name", "p0")),
        )
        .await,
    ];
    let mut last = 0;
    for i in 0..400 {
        // An object moves from node to node; many more events than a watcher follows by links.
        let key = format!("/registry/pods/ns{}/p{}", i % 2, i % 4);
        last = match i % 9 {
            8 => rig.direct.delete(&key).await,
            _ => {
                rig.direct
                    .put(&key, &format!("|n{}|{i}", (i / 4) % 3))
                    .await
            }
        };
    }
    let mut seen = Vec::new();
    while seen
        .last()
        .is_none_or(|e: &String| !e.contains(&format!(" {last} ")))
    {
        seen.push(next(&mut all).await);
    }
    let of = |test: &dyn Fn(&str, &str, &str) -> bool| -> Vec<String> {
        let parts = |e: &String| {
            let p: Vec<_> = e.splitn(4, ' ').map(str::to_owned).collect();
            (p[0].clone(), p[1].clone(), p[3].clone())
        };
        seen.iter()
            .filter(|e| {
                let (kind, key, body) = parts(e);
                test(&kind, &key, &body)
            })
            .cloned()
            .collect()
    };
    let expected_ns1 = of(&|_, key, _| key.starts_with("ns1/"));
    let expected_one = of(&|_, key, _| key == "ns0/p0");
    for (watcher, expected) in [
        (0, expected_ns1),
        (1, expected_one.clone()),
        (4, expected_one),
    ] {
        for e in expected {
            assert_eq!(next(&mut narrow[watcher]).await, e);
        }
        quiet(&mut narrow[watcher]).await;
    }
    // A selection changes what an event is, so replay it.
    for (watcher, scope) in [(2, ""), (3, "ns1/")] {
        let mut inside = std::collections::HashMap::new();
        for event in &seen {
            let p: Vec<_> = event.splitn(4, ' ').collect();
            let (kind, key, revision, body) = (p[0], p[1], p[2], p[3]);
            if !key.starts_with(scope) {
                continue;
            }
            let on = kind != "DELETED" && body.contains("|n1|");
            let rest = body.split_once(':').unwrap().1.to_owned();
            let was: Option<String> = if on {
                inside.insert(key, rest.clone())
            } else {
                inside.remove(key)
            };
            let expected = match (was, on) {
                (None, false) => continue,
                (None, true) => format!("ADDED {key} {revision} {body}"),
                (Some(_), true) => format!("MODIFIED {key} {revision} {body}"),
                (Some(was), false) => format!("DELETED {key} {revision} {revision}:{was}"),
            };
            assert_eq!(next(&mut narrow[watcher]).await, expected);
        }
        quiet(&mut narrow[watcher]).await;
    }
}

#[tokio::test]
async fn a_thousand_keys_of_one_revision_are_one_step() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        let pods = rig.pods().await;
        let lease = rig.direct.lease().await;
        let keys: Vec<String> = (0..1000)
            .map(|i| format!("/registry/pods/a/p{i:04}"))
            .collect();
        for chunk in keys.chunks(100) {
            let pairs: Vec<_> = chunk.iter().map(|k| (k.as_str(), "||x")).collect();
            rig.direct.put_leased(&pairs, lease).await;
        }
        let query = store::Query::new(Scope::All, At::Latest);
        let before = pods.list(query.clone()).await.unwrap().revision;
        let mut watcher = pods.watch(watching(Begin::Revision(before))).await.unwrap();
        let lists = async {
            loop {
                let n = pods
                    .list(query.clone())
                    .await
                    .unwrap()
                    .entries
                    .into_iter()
                    .count();
                assert!(n == 0 || n == 1000, "a list inside a revision: {n}");
                if n == 0 {
                    break;
                }
            }
        };
        tokio::join!(rig.direct.revoke(lease), lists);
        for key in &keys {
            let event = next(&mut watcher).await;
            let key = key.trim_start_matches("/registry/pods/");
            assert!(
                event.starts_with("DELETED a/p") && event.contains(&format!(" {} ", before + 1)),
                "{event} {key}"
            );
        }
        quiet(&mut watcher).await;
        // Whoever resumes at that revision has seen all of it, whoever resumes before sees all.
        let mut after = pods
            .watch(watching(Begin::Revision(before + 1)))
            .await
            .unwrap();
        quiet(&mut after).await;
        let mut again = pods.watch(watching(Begin::Revision(before))).await.unwrap();
        for _ in 0..1000 {
            next(&mut again).await;
        }
    }
}

#[tokio::test]
async fn initial_events_end_with_their_bookmark() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        let pods = rig.pods().await;
        for i in 0..150 {
            rig.direct
                .put(&format!("/registry/pods/a/p{i:03}"), "||")
                .await;
        }
        let newest = rig.direct.put("/registry/pods/a/p007", "||new").await;
        let begin = Begin::of_watch(None, Some(true), true);
        let mut watcher = pods
            .watch(WatchQuery {
                bookmarks: true,
                ..watching(begin)
            })
            .await
            .unwrap();
        for i in 0..150 {
            let event = next(&mut watcher).await;
            assert!(event.starts_with(&format!("ADDED a/p{i:03} ")), "{event}");
            if i == 7 {
                assert!(
                    event.ends_with(&format!("{newest}:||new")),
                    "as fresh as etcd"
                );
                rig.direct.put("/registry/pods/a/later", "||").await;
            }
        }
        assert_eq!(next(&mut watcher).await, format!("BOOKMARK {newest} end"));
        assert!(next(&mut watcher).await.starts_with("ADDED a/later "));
    }
}

#[tokio::test]
async fn the_last_bookmark_comes_before_the_deadline_and_claims_what_was_delivered() {
    let rig = Rig::newest().await;
    let pods = rig.pods().await;
    let start = tokio::time::Instant::now();
    let deadline = Some(start + Duration::from_millis(3000));
    let query = WatchQuery {
        bookmarks: true,
        deadline,
        scope: Scope::Namespace("idle".into()),
        ..watching(Begin::Now(At::Any))
    };
    let mut idle = pods.watch(query.clone()).await.unwrap();
    let mut busy = pods
        .watch(WatchQuery {
            scope: Scope::All,
            ..query
        })
        .await
        .unwrap();
    let last = rig.direct.put("/registry/pods/a/p", "||").await;
    let bookmark = next(&mut idle).await;
    assert_eq!(bookmark, format!("BOOKMARK {last}"), "idle is not behind");
    assert!(start.elapsed() < Duration::from_millis(1500));
    assert!(
        next(&mut busy).await.starts_with("ADDED a/p"),
        "the event comes before the bookmark"
    );
    assert_eq!(next(&mut busy).await, format!("BOOKMARK {last}"));
    assert_eq!(end(&mut idle).await, End::Over);
    assert!(start.elapsed() >= Duration::from_millis(3000));
    // Though there is something to say.
    rig.direct.put("/registry/pods/a/p", "||").await;
    assert_eq!(end(&mut busy).await, End::Over);
}

#[tokio::test]
async fn who_falls_off_the_ring_is_told_and_who_is_idle_does_not() {
    let rig = Rig::newest().await;
    let pods = rig
        .resource(ResourceConfig {
            ring_bytes: 20_000,
            ..pods()
        })
        .await;
    let first = rig.direct.put("/registry/pods/a/p", "||").await;
    let idle = WatchQuery {
        scope: Scope::Namespace("b".into()),
        ..watching(Begin::Revision(first))
    };
    let mut idle = pods.watch(idle).await.unwrap();
    let mut slow = pods.watch(watching(Begin::Revision(first))).await.unwrap();
    let mut busy = pods
        .watch(WatchQuery {
            scope: Scope::One("a/p".into()),
            ..watching(Begin::Revision(first))
        })
        .await
        .unwrap();
    let mut last = first;
    for _ in 0..300 {
        last = rig
            .direct
            .put("/registry/pods/a/p", &format!("||{}", "x".repeat(200)))
            .await;
    }
    pods.get("a/p", At::NotOlder(last)).await.unwrap();
    assert!(pods.metrics().ring_bytes.get() <= 20_000);
    assert_eq!(end(&mut slow).await, End::Expired);
    assert_eq!(end(&mut busy).await, End::Expired);
    rig.direct.put("/registry/pods/b/q", "||").await;
    assert!(next(&mut idle).await.starts_with("ADDED b/q "));
    let resumed = pods.watch(watching(Begin::Revision(first))).await;
    assert!(matches!(resumed, Err(ReadError::Expired)));
    assert_eq!(pods.metrics().watchers_expired.get(), 2);
}

#[tokio::test]
async fn a_schema_change_ends_watches_and_decodes_anew() {
    let rig = Rig::newest().await;
    let pods = rig.pods().await;
    let now = rig.direct.put("/registry/pods/a/p", "||x").await;
    pods.get("a/p", At::NotOlder(now)).await.unwrap();
    let mut watcher = pods.watch(watching(Begin::Now(At::Any))).await.unwrap();
    pods.redefine(Arc::new(Upper::default()));
    assert_eq!(end(&mut watcher).await, End::Reset);
    pods.wait_ready().await;
    let mut watcher = pods
        .watch(watching(Begin::State {
            at: At::Any,
            end_bookmark: false,
        }))
        .await
        .unwrap();
    assert_eq!(
        next(&mut watcher).await,
        format!("ADDED a/p {now} {now}:||X")
    );
    pods.close();
    assert_eq!(end(&mut watcher).await, End::Reset);
    assert!(pods.ready().is_err());
    rig.pods().await;
}

#[tokio::test]
async fn a_store_that_drains_ends_watches_and_goes_on_reading() {
    let rig = Rig::newest().await;
    let pods = rig.pods().await;
    let mut open = pods.watch(watching(Begin::Now(At::Any))).await.unwrap();
    rig.store.end_watches();
    assert_eq!(end(&mut open).await, End::Reset);
    let now = rig.direct.put("/registry/pods/a/p", "||x").await;
    assert!(pods.get("a/p", At::NotOlder(now)).await.unwrap().is_some());
    let mut late = pods.watch(watching(Begin::Now(At::Any))).await.unwrap();
    assert_eq!(end(&mut late).await, End::Reset);
}

/// Shows objects in capitals.
#[derive(Default)]
struct Upper(store::testing::TextDecoder);

impl store::Decoder for Upper {
    fn entry(
        &self,
        key: &str,
        value: bytes::Bytes,
        revision: i64,
    ) -> Result<store::Entry, store::Undecodable> {
        self.0
            .entry(key, value.to_ascii_uppercase().into(), revision)
    }

    fn body_at(&self, entry: &store::Entry, revision: i64) -> bytes::Bytes {
        self.0.body_at(entry, revision)
    }
}

#[tokio::test]
async fn a_collection_without_bodies_serves_whole_objects() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        rig.direct.put("/registry/pods/a/old", "app=web||old").await;
        let events: Arc<Collection> = rig
            .resource(ResourceConfig {
                keep_bodies: false,
                ..pods()
            })
            .await;
        let filter = Some(Arc::new(Label("app", "web")) as _);
        let begin = Begin::State {
            at: At::Latest,
            end_bookmark: true,
        };
        let query = WatchQuery {
            filter,
            bookmarks: true,
            ..watching(begin)
        };
        let mut watcher = events.watch(query).await.unwrap();
        let old = events.get("a/old", At::Any).await.unwrap().unwrap();
        assert_eq!(old.body, format!("{}:app=web||old", old.revision));
        assert_eq!(
            next(&mut watcher).await,
            format!("ADDED a/old {0} {0}:app=web||old", old.revision)
        );
        assert!(next(&mut watcher).await.starts_with("BOOKMARK"));
        let r = rig.direct.put("/registry/pods/a/new", "app=web||new").await;
        assert_eq!(
            next(&mut watcher).await,
            format!("ADDED a/new {r} {r}:app=web||new")
        );
        let r = rig.direct.put("/registry/pods/a/new", "app=db||new").await;
        assert_eq!(
            next(&mut watcher).await,
            format!("DELETED a/new {r} {r}:app=web||new")
        );
        let r = rig.direct.delete("/registry/pods/a/old").await;
        assert_eq!(
            next(&mut watcher).await,
            format!("DELETED a/old {r} {r}:app=web||old")
        );
        let page = events
            .list(store::Query::new(Scope::All, At::Any))
            .await
            .unwrap();
        let bodies: Vec<_> = page
            .entries
            .into_iter()
            .map(|e| String::from_utf8_lossy(&e.body).into_owned())
            .collect();
        assert_eq!(bodies, [format!("{}:app=db||new", r - 1)]);
        assert!(
            shown(&store::Event::Bookmark {
                revision: 1,
                initial_end: false
            })
            .starts_with("BOOKMARK")
        );
    }
}
