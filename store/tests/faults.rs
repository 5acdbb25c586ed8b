//! Broken connections, compaction, replaced and restored histories, against real etcd.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not know for tests"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use store::testing::{
    Direct, Etcd, Etcds, Gate, Rig, TextDecoder, end, eventually, list, next, pods, reached,
    watching,
};
use store::{At, Begin, Collection, End, Event, Query, ReadError, ResourceConfig, Scope, Watcher};

/// The objects that a watcher has seen so far, by applying its events.
#[derive(Default)]
struct Replay {
    objects: BTreeMap<String, i64>,
    revision: i64,
}

impl Replay {
    fn apply(&mut self, event: &Event) {
        let e = match event {
            Event::Added(e) | Event::Modified(e) | Event::Deleted(e) => e,
            Event::Bookmark { revision, .. } => {
                self.revision = *revision;
                return;
            }
        };
        // The first objects come by key.
        if self.revision > 0 {
            assert!(
                e.revision >= self.revision,
                "back in time: {} after {}",
                e.revision,
                self.revision
            );
            self.revision = e.revision;
        }
        let before = match event {
            Event::Deleted(_) => self.objects.remove(&*e.key),
            _ => self.objects.insert(e.key.to_string(), e.revision),
        };
        match event {
            Event::Added(_) => assert_eq!(before, None, "{} was there already", e.key),
            _ => assert!(before.is_some(), "{} was not there", e.key),
        }
    }

    /// Follows until the objects are those of a fresh list.
    async fn catch_up(&mut self, watcher: &mut Watcher, collection: &Collection) {
        let expected: BTreeMap<_, _> = list(collection, At::Latest).await.into_iter().collect();
        while self.objects != expected || self.revision == 0 {
            let event = tokio::time::timeout(Duration::from_secs(10), watcher.next()).await;
            self.apply(
                &event
                    .unwrap_or_else(|_| panic!("{:?} is not {expected:?}", self.objects))
                    .unwrap(),
            );
        }
    }
}

async fn put_many(direct: &Direct, prefix: &str, n: usize) {
    for chunk in (0..n).collect::<Vec<_>>().chunks(64) {
        join_all(chunk.iter().map(|i| {
            let key = format!("{prefix}{i:05}");
            async move { direct.put(&key, "||").await }
        }))
        .await;
    }
}

/// A watch of everything from the newest state on.
async fn whole(collection: &Collection) -> Watcher {
    let begin = Begin::State {
        at: At::Latest,
        end_bookmark: true,
    };
    collection.watch(watching(begin)).await.unwrap()
}

#[tokio::test]
async fn a_watch_goes_on_where_it_broke_after_5000_revisions() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        let pods = rig.pods().await;
        let mut watcher = pods.watch(watching(Begin::Now(At::Any))).await.unwrap();
        rig.wire.cut().await;
        let before = rig.direct.revision().await;
        put_many(&rig.direct, "/registry/pods/a/p", 5000).await;
        rig.wire.mend();
        for revision in before + 1..=before + 5000 {
            assert!(
                next(&mut watcher).await.contains(&format!(" {revision} ")),
                "every revision, in order"
            );
        }
        assert_eq!(pods.metrics().loads.get(), 1, "resumed, not listed");
    }
}

#[tokio::test]
async fn compaction_under_a_lost_watch_ends_watches_that_missed_something() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        let pods = rig.pods().await;
        let put = async |key: &str| {
            rig.direct
                .put(&format!("/registry/pods/a/{key}"), "||")
                .await
        };
        for key in ["same", "changed", "deleted", "recreated"] {
            put(key).await;
        }
        let mut watcher = whole(&pods).await;
        let mut replay = Replay::default();
        replay.catch_up(&mut watcher, &pods).await;
        let seen = replay.revision;

        rig.wire.cut().await;
        put("changed").await;
        rig.direct.delete("/registry/pods/a/deleted").await;
        rig.direct.delete("/registry/pods/a/recreated").await;
        let inside = put("ghost").await;
        rig.direct.delete("/registry/pods/a/ghost").await;
        put("recreated").await;
        put("created").await;
        let last = put("changed").await;
        rig.direct.compact(last).await;
        rig.wire.mend();

        eventually("listed again", || {
            pods.metrics().loads.get() == 2 && pods.ready().is_ok()
        })
        .await;
        // The difference of two lists is no history: the ghost would be missing, and what was deleted and made anew
        // would seem to have changed.
        assert_eq!(end(&mut watcher).await, End::Reset);
        for missed in [seen, inside] {
            let resumed = pods.watch(watching(Begin::Revision(missed))).await;
            assert!(matches!(resumed, Err(ReadError::Expired)));
        }
        let mut watcher = pods.watch(watching(Begin::Revision(last))).await.unwrap();
        let keys: Vec<String> = list(&pods, At::Latest)
            .await
            .into_iter()
            .map(|(key, _)| key)
            .collect();
        assert_eq!(keys, ["a/changed", "a/created", "a/recreated", "a/same"]);
        let next = put("next").await;
        let event = watcher.next().await.unwrap();
        assert!(
            matches!(&event, Event::Added(entry) if entry.revision == next),
            "{event:?}"
        );
    }
}

#[tokio::test]
async fn another_cluster_in_its_place_is_another_history() {
    for etcd in Etcds::all() {
        let mut rig = Rig::start(&etcd).await;
        let pods = rig.pods().await;
        put_many(&rig.direct, "/registry/pods/a/p", 50).await;
        reached(&pods, rig.direct.revision().await).await;
        let mut watcher = pods.watch(watching(Begin::Now(At::Any))).await.unwrap();
        rig.etcd.replace().await;
        let direct = Direct::to(&rig.etcd);
        let revision = direct.put("/registry/pods/a/new", "||").await;
        assert_eq!(end(&mut watcher).await, End::Reset);
        eventually("ready again", || pods.ready().is_ok()).await;
        assert_eq!(
            list(&pods, At::Latest).await,
            [("a/new".to_owned(), revision)]
        );
        assert!(rig.store.progress() < 50);
        assert_eq!(rig.store.metrics().replaced.get(), 1);
    }
}

#[tokio::test]
async fn a_restored_backup_is_another_history() {
    for (etcd, further) in Etcds::all()
        .into_iter()
        .flat_map(|e| [(e.clone(), 1), (e, 60)])
    {
        let mut rig = Rig::start(&etcd).await;
        let pods = rig.pods().await;
        let kept = rig.direct.put("/registry/pods/a/kept", "||").await;
        rig.etcd.kill();
        rig.etcd.backup();
        rig.etcd.restart().await;
        let direct = Direct::to(&rig.etcd);
        put_many(&direct, "/registry/pods/a/lost", 50).await;
        reached(&pods, kept + 50).await;
        let mut watcher = pods.watch(watching(Begin::Now(At::Any))).await.unwrap();
        // The same revisions again, with other contents, once fewer and once more of them.
        rig.wire.cut().await;
        rig.etcd.restore().await;
        let mut again = kept;
        for _ in 0..further {
            again = direct.put("/registry/pods/a/again", "||").await;
        }
        assert_eq!(again, kept + further);
        rig.wire.mend();
        assert_eq!(end(&mut watcher).await, End::Reset);
        eventually("ready again", || pods.ready().is_ok()).await;
        let expected = [("a/again".to_owned(), again), ("a/kept".to_owned(), kept)];
        assert_eq!(list(&pods, At::Latest).await, expected);
    }
}

#[tokio::test]
async fn a_silent_member_fails_requests_in_bounded_time_and_is_recovered_from() {
    let rig = Rig::newest().await;
    let pods = rig.pods().await;
    let before = rig.direct.put("/registry/pods/a/p", "||").await;
    pods.get("a/p", At::NotOlder(before)).await.unwrap();
    rig.etcd.freeze();
    let start = Instant::now();
    assert!(rig.store.health(Duration::from_secs(2)).await.is_err());
    let read = pods.list(Query::new(Scope::All, At::Latest)).await;
    assert!(
        matches!(read, Err(ReadError::Shared(_))),
        "{:?}",
        read.err()
    );
    let write = pods.create("a/q", "||".into(), None).await;
    assert!(write.is_err());
    assert!(
        start.elapsed() < Duration::from_secs(25),
        "took {:?}",
        start.elapsed()
    );
    assert_eq!(
        list(&pods, At::Any).await.len(),
        1,
        "what may be old is still answered"
    );
    rig.etcd.thaw();
    let start = Instant::now();
    loop {
        match pods.list(Query::new(Scope::All, At::Latest)).await {
            Ok(_) => break,
            Err(e) => assert!(start.elapsed() < Duration::from_secs(20), "{e}"),
        }
    }
    let after = Direct::to(&rig.etcd).put("/registry/pods/a/r", "||").await;
    pods.get("a/r", At::NotOlder(after)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_store_opens_before_its_etcd_and_says_so() {
    let mut etcd = Etcd::start(&Etcds::newest()).await;
    Direct::to(&etcd).put("/registry/pods/a/p", "||").await;
    etcd.kill();
    let mut rig = Rig::on(etcd).await;
    let collection = rig.store.resource(pods()).unwrap();
    let read = collection.list(Query::new(Scope::All, At::Any)).await;
    assert!(
        matches!(read, Err(ReadError::NotReady(ref n)) if n.retry_after() == 1),
        "{:?}",
        read.err()
    );
    assert_eq!(rig.store.ready().unwrap_err(), [Box::from("pods")]);
    rig.etcd.restart().await;
    eventually("ready", || rig.store.ready().is_ok()).await;
    assert_eq!(list(&collection, At::Latest).await.len(), 1);
}

#[tokio::test]
async fn an_undecodable_object_stalls_its_kind_alone() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        let pods = rig.pods().await;
        let other = ResourceConfig::new("services/specs", true, Arc::new(TextDecoder::default()));
        let services = rig.resource(other).await;
        rig.direct.put("/registry/pods/a/p", "||1").await;
        let good = rig.direct.put("/registry/pods/b/p", "||1").await;
        pods.get("b/p", At::NotOlder(good)).await.unwrap();
        let mut watcher = pods.watch(watching(Begin::Revision(good))).await.unwrap();

        rig.direct.put("/registry/pods/a/p", "garbage").await;
        let after = rig.direct.put("/registry/pods/b/p", "||2").await;
        eventually("stalled", || pods.stalled().is_some()).await;
        assert!(
            pods.stalled().unwrap().contains("/registry/pods/a/p"),
            "it says which key"
        );
        // Other kinds go on, and so does what does not touch the key.
        let service = rig.direct.put("/registry/services/specs/a/s", "||").await;
        assert_eq!(
            list(&services, At::Latest).await,
            [("a/s".to_owned(), service)]
        );
        let b = pods
            .list(Query::new(Scope::Namespace("b".into()), At::Latest))
            .await
            .unwrap();
        assert_eq!(
            b.entries
                .into_iter()
                .map(|e| e.revision)
                .collect::<Vec<_>>(),
            [after]
        );
        let whole = pods.list(Query::new(Scope::All, At::Latest)).await;
        assert!(
            matches!(whole, Err(ReadError::Unreadable { .. })),
            "never silently left out"
        );
        assert!(pods.ready().is_ok());

        // Overwritten, it is as if it had never been.
        let fixed = rig.direct.put("/registry/pods/a/p", "||3").await;
        eventually("going on", || {
            pods.stalled().is_none() && pods.ready().is_ok()
        })
        .await;
        let expected = [("a/p".to_owned(), fixed), ("b/p".to_owned(), after)];
        assert_eq!(list(&pods, At::Latest).await, expected);
        // Nobody can be told what it was in between, so no watch goes on over it.
        assert_eq!(end(&mut watcher).await, End::Reset);
        let over_it = pods.watch(watching(Begin::Revision(good))).await;
        assert!(matches!(over_it, Err(ReadError::Expired)));
        pods.watch(watching(Begin::Revision(fixed))).await.unwrap();
    }
}

#[tokio::test]
async fn keys_of_another_shape_are_left_alone() {
    let rig = Rig::newest().await;
    rig.direct.put("/registry/pods/stray", "garbage").await;
    rig.direct.put("/registry/pods/a/b/c", "garbage").await;
    let pods = rig.pods().await;
    rig.direct.put("/registry/pods/stray", "more garbage").await;
    let revision = rig.direct.put("/registry/pods/a/p", "||").await;
    assert_eq!(
        list(&pods, At::Latest).await,
        [("a/p".to_owned(), revision)]
    );
    assert_eq!(
        list(&pods, At::Exact(revision)).await,
        [("a/p".to_owned(), revision)]
    );
    assert!(pods.stalled().is_none());
}

#[tokio::test]
async fn a_resource_that_appears_under_writes_misses_none() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        for round in 0..10 {
            let path = format!("late{round}");
            put_many(&rig.direct, &format!("/registry/{path}/a/p"), 40).await;
            let writes = async {
                for i in 0..100 {
                    let key = format!("/registry/{path}/a/p{:05}", i * 7 % 50);
                    if i % 3 == 0 {
                        rig.direct.delete(&key).await
                    } else {
                        rig.direct.put(&key, "||").await
                    };
                }
            };
            let reads = async {
                tokio::time::sleep(Duration::from_millis(round)).await;
                let config = ResourceConfig::new(&path, true, Arc::new(TextDecoder::default()));
                let late = rig.resource(config).await;
                let watcher = whole(&late).await;
                (late, watcher)
            };
            let ((), (late, mut watcher)) = tokio::join!(writes, reads);
            Replay::default().catch_up(&mut watcher, &late).await;
        }
    }
}

#[tokio::test]
async fn what_happens_while_a_collection_is_listed_is_put_on_top() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        let key = |k: &str| format!("/registry/pods/a/{k}");
        for k in ["changed", "deleted", "same"] {
            rig.direct.put(&key(k), "||1").await;
        }
        let gate = Arc::new(Gate::shut());
        let config = ResourceConfig {
            transformer: Some(Arc::clone(&gate) as _),
            ..pods()
        };
        let collection = rig.store.resource(config).unwrap();
        // The list is read and cannot be opened: what happens now is newer.
        gate.waited_for().await;
        rig.direct.put(&key("changed"), "||2").await;
        rig.direct.delete(&key("deleted")).await;
        rig.direct.put(&key("created"), "||2").await;
        rig.direct.put(&key("ghost"), "||2").await;
        let last = rig.direct.delete(&key("ghost")).await;
        eventually("received", || rig.store.progress() >= last).await;
        // Long enough for the task to take the events, as it does while it waits.
        tokio::time::sleep(Duration::from_millis(100)).await;
        gate.open();
        reached(&collection, last).await;
        let keys: Vec<_> = list(&collection, At::Any).await;
        let names: Vec<_> = keys.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(names, ["a/changed", "a/created", "a/same"]);
        assert_eq!(collection.check().await, Some(true));
    }
}

#[tokio::test]
async fn a_collection_that_differs_from_etcd_is_found_and_healed() {
    let rig = Rig::newest().await;
    let pods = rig.pods().await;
    put_many(&rig.direct, "/registry/pods/a/p", 10).await;
    list(&pods, At::Latest).await;
    assert_eq!(pods.check().await, Some(true));
    store::testing::forget(&pods, "a/p00003");
    assert_eq!(list(&pods, At::Latest).await.len(), 9);
    assert_eq!(pods.check().await, Some(false));
    eventually("listed again", || {
        pods.metrics().loads.get() == 2 && pods.ready().is_ok()
    })
    .await;
    assert_eq!(list(&pods, At::Latest).await.len(), 10);
    assert_eq!(pods.check().await, Some(true));
}
