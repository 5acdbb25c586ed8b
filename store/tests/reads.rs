//! Reads against real etcd, Debian's and the newest.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not know for tests"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use store::metrics::Operation;
use store::testing::{Etcds, Label, Rig, list, pods, reached, versions};
use store::{At, Collection, Query, ReadError, Reads, ResourceConfig, Scope};

#[tokio::test]
async fn a_list_holds_every_write_that_finished_before_it() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        let pods = rig.pods().await;
        for i in 0..200 {
            let revision = rig
                .direct
                .put(&format!("/registry/pods/a/p{:02}", i % 20), "||")
                .await;
            let page = pods.list(Query::new(Scope::All, At::Latest)).await.unwrap();
            assert!(page.revision >= revision);
            let found = versions(page);
            assert!(
                found.contains(&(format!("a/p{:02}", i % 20), revision)),
                "{revision} not in {found:?}"
            );
            let got = pods
                .get(&format!("a/p{:02}", i % 20), At::Latest)
                .await
                .unwrap()
                .unwrap();
            assert_eq!(got.revision, revision);
        }
    }
}

#[tokio::test]
async fn a_foreign_write_on_an_idle_prefix_holds_up_no_list() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        let pods = rig.pods().await;
        rig.direct.put("/registry/pods/a/p", "||").await;
        for _ in 0..5 {
            // Beyond both ends of the watched range: no event of it ever comes.
            let foreign = rig.direct.put("/aaa", "x").await;
            let start = Instant::now();
            let page = pods.list(Query::new(Scope::All, At::Latest)).await.unwrap();
            assert!(page.revision >= foreign);
            assert!(
                start.elapsed() < Duration::from_secs(1),
                "took {:?}",
                start.elapsed()
            );
            assert_eq!(versions(page).len(), 1);
        }
        let asked = rig.store.metrics().progress_requests.get();
        let trusted = rig
            .store
            .status()
            .await
            .unwrap()
            .version
            .unwrap()
            .progress_is_true();
        assert_eq!(
            asked > 0,
            trusted,
            "progress is asked for only where the answer is true"
        );
    }
}

#[tokio::test]
async fn what_is_written_between_the_prefix_and_the_compaction_key_moves_the_frontier() {
    let rig = Rig::newest().await;
    let pods = rig.pods().await;
    let asks = rig.store.metrics().asks.get();
    let foreign = rig.direct.put("/sky/other", "x").await;
    // Without anybody asking.
    reached(&pods, foreign).await;
    assert_eq!(rig.store.metrics().asks.get(), asks);
}

#[tokio::test]
async fn pages_of_one_list_fit_together_while_objects_change() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        let pods = rig.pods().await;
        for i in 0..25 {
            rig.direct
                .put(&format!("/registry/pods/a/p{i:02}"), "||")
                .await;
        }
        let whole = list(&pods, At::Latest).await;
        let mut query = Query {
            limit: 10,
            ..Query::new(Scope::Namespace("a".into()), At::Latest)
        };
        let (mut pages, mut remaining, mut revision) = (Vec::new(), Vec::new(), None);
        loop {
            let page = pods.list(query.clone()).await.unwrap();
            assert_eq!(*revision.get_or_insert(page.revision), page.revision);
            remaining.push(page.remaining);
            query.continue_token.clone_from(&page.next);
            pages.extend(versions(page));
            if query.continue_token.is_none() {
                break;
            }
            rig.direct.put("/registry/pods/a/p24", "||changed").await;
            rig.direct
                .delete(&format!("/registry/pods/a/p{:02}", pages.len()))
                .await;
            rig.direct.put("/registry/pods/a/p11a", "||new").await;
        }
        assert_eq!(pages, whole);
        assert_eq!(remaining, [Some(15), Some(5), None]);
    }
}

#[tokio::test]
async fn a_continue_token_outlives_compaction_inconsistently_only() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        let pods = rig.pods().await;
        for i in 0..10 {
            rig.direct
                .put(&format!("/registry/pods/a/p{i}"), "||")
                .await;
        }
        let first = Query {
            limit: 4,
            ..Query::new(Scope::All, At::Latest)
        };
        let page = pods.list(first.clone()).await.unwrap();
        let rest = Query {
            continue_token: page.next,
            ..first
        };
        let newest = rig.direct.put("/registry/pods/a/p9", "||new").await;
        rig.direct.compact(newest).await;
        // What every API server learns over the watch.
        rig.direct.put("compact_rev_key", &newest.to_string()).await;
        pods.get("a/p9", At::NotOlder(newest + 1)).await.unwrap();

        let Err(ReadError::ContinueExpired { resume }) = pods.list(rest.clone()).await else {
            panic!("the revision is compacted");
        };
        let page = pods
            .list(Query {
                continue_token: Some(resume),
                limit: 0,
                ..rest
            })
            .await
            .unwrap();
        assert!(page.revision >= newest);
        let keys: Vec<_> = versions(page).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["a/p4", "a/p5", "a/p6", "a/p7", "a/p8", "a/p9"]);
        let exact = pods
            .list(Query::new(Scope::All, At::Exact(newest - 3)))
            .await;
        assert!(matches!(exact, Err(ReadError::Expired)));
    }
}

#[tokio::test]
async fn past_revisions_come_from_events_and_from_etcd_alike() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        rig.direct.put("/registry/pods/a/old", "||").await;
        let before = rig.direct.put("/registry/pods/a/x", "||").await;
        rig.direct.put("/registry/pods/a/y", "||").await;
        // The ring begins here.
        let pods = rig.pods().await;
        let mut states = Vec::new();
        for i in 0..30 {
            let key = format!("/registry/pods/a/k{}", i % 7);
            let revision = if i % 3 == 2 {
                rig.direct.delete(&key).await
            } else {
                rig.direct.put(&key, "||").await
            };
            states.push((revision, list(&pods, At::Latest).await));
        }
        let etcd_reads = pods.metrics().etcd_reads.get();
        for (revision, state) in &states {
            assert_eq!(&list(&pods, At::Exact(*revision)).await, state);
        }
        assert_eq!(
            pods.metrics().etcd_reads.get(),
            etcd_reads,
            "all from events"
        );
        let keys: Vec<_> = list(&pods, At::Exact(before))
            .await
            .into_iter()
            .map(|(key, _)| key)
            .collect();
        assert_eq!(keys, ["a/old", "a/x"]);
        assert_eq!(
            pods.metrics().etcd_reads.get(),
            etcd_reads + 1,
            "older than the events"
        );
    }
}

#[tokio::test]
async fn the_past_and_what_continues_a_list_are_read_from_etcd_where_the_cache_shall_not_tell_them()
{
    let rig = Rig::newest().await;
    let mut asked = Vec::new();
    for past in [true, false] {
        let store = rig.reading(Reads {
            past,
            ..Reads::default()
        });
        let pods = store.resource(pods()).unwrap();
        pods.wait_ready().await;
        let before = rig.direct.put("/registry/pods/a/x", "||").await;
        let newest = rig.direct.put("/registry/pods/a/y", "||").await;
        reached(&pods, newest).await;
        let first = Query {
            limit: 1,
            ..Query::new(Scope::All, At::Latest)
        };
        let page = pods.list(first.clone()).await.unwrap();
        let rest = Query {
            continue_token: page.next.clone(),
            ..first
        };
        let new = pods.metrics().etcd_lists.get();
        assert_eq!(pods.list(rest).await.unwrap().revision, page.revision);
        let continued = pods.metrics().etcd_lists.get();
        assert_eq!(
            list(&pods, At::Exact(before)).await[0],
            ("a/x".to_owned(), before)
        );
        asked.push((new, continued, pods.metrics().etcd_lists.get()));
    }
    assert_eq!(asked, [(0, 0, 0), (0, 1, 2)]);
}

#[tokio::test]
async fn a_revision_of_the_future_is_waited_for_three_seconds() {
    let rig = Rig::newest().await;
    let pods = rig.pods().await;
    let now = rig.direct.put("/registry/pods/a/p", "||").await;
    let start = Instant::now();
    let read = pods
        .list(Query::new(Scope::All, At::NotOlder(now + 1000)))
        .await;
    assert!(matches!(read, Err(ReadError::TooNew { .. })));
    assert!((2.9..3.5).contains(&start.elapsed().as_secs_f64()));
    let soon = pods.get("a/p", At::NotOlder(now + 1));
    let write = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        rig.direct.put("/registry/pods/a/p", "||").await
    };
    let (read, written) = tokio::join!(soon, write);
    assert_eq!(read.unwrap().unwrap().revision, written);
}

#[tokio::test]
async fn an_index_gives_what_a_scan_gives() {
    let rig = Rig::newest().await;
    let pods = rig.pods().await;
    for i in 0..40 {
        rig.direct
            .put(
                &format!("/registry/pods/ns{}/p{i}", i % 3),
                &format!("app=a{}|n{}|", i % 2, i % 4),
            )
            .await;
    }
    for i in (0..40).step_by(5) {
        rig.direct
            .put(&format!("/registry/pods/ns{}/p{i}", i % 3), "|n9|moved")
            .await;
    }
    for i in (0..40).step_by(7) {
        rig.direct
            .delete(&format!("/registry/pods/ns{}/p{i}", i % 3))
            .await;
    }
    for (scope, node) in [
        (Scope::All, "n9"),
        (Scope::All, "n1"),
        (Scope::Namespace("ns1".into()), "n1"),
    ] {
        let all = pods
            .list(Query::new(scope.clone(), At::Latest))
            .await
            .unwrap();
        let expected: Vec<_> = all
            .entries
            .into_iter()
            .filter(|e| e.field("spec.nodeName") == Some(node))
            .map(|e| (e.key.to_string(), e.revision))
            .collect();
        let filter = Arc::new(Label(
            "spec.nodeName",
            Box::leak(node.to_owned().into_boxed_str()),
        ));
        let query = Query {
            filter: Some(filter),
            ..Query::new(scope, At::Latest)
        };
        assert!(!expected.is_empty());
        assert_eq!(versions(pods.list(query).await.unwrap()), expected);
    }
}

/// What the store has asked of etcd: reads of keys for this collection, and of the revision for everybody.
fn asked(rig: &Rig, collection: &Collection) -> (u64, u64) {
    let gets = collection.metrics().of(Operation::Get).took.read();
    (gets.map_or(0, |r| r.count), rig.store.metrics().asks.get())
}

#[tokio::test]
async fn a_lone_get_is_one_request_and_many_at_once_share_a_few() {
    let rig = Rig::newest().await;
    let pods = rig.pods().await;
    let last = rig.direct.put("/registry/pods/a/p", "||").await;
    reached(&pods, last).await;
    let (gets, asks) = asked(&rig, &pods);
    for _ in 0..10 {
        let read = pods.get("a/p", At::Latest).await.unwrap();
        assert_eq!(read.unwrap().revision, last);
        assert!(pods.get("a/none", At::Latest).await.unwrap().is_none());
    }
    assert_eq!(asked(&rig, &pods), (gets + 20, asks), "one round trip each");
    let mut reads: Vec<_> = (0..500)
        .map(|_| Box::pin(pods.get("a/p", At::Latest)))
        .collect();
    for read in &mut reads {
        // All have come before any is answered.
        assert!(futures::future::poll_immediate(read).await.is_none());
    }
    for read in futures::future::join_all(reads).await {
        assert_eq!(read.unwrap().unwrap().revision, last);
    }
    let (more, shared) = asked(&rig, &pods);
    let sent = (more - gets - 20) + (shared - asks);
    assert!(sent < 50, "{sent} requests for 500 reads");
}

#[tokio::test]
async fn what_a_cache_holds_is_read_without_asking_and_what_it_lacks_is_looked_up_once() {
    let rig = Rig::newest().await;
    let pods = rig.pods().await;
    let last = rig.direct.put("/registry/pods/a/p", "||").await;
    reached(&pods, last).await;
    let before = asked(&rig, &pods);
    for _ in 0..10 {
        assert!(pods.cached("a/p").await.unwrap().is_some());
    }
    assert_eq!(asked(&rig, &pods), before);
    assert!(pods.cached("a/none").await.unwrap().is_none());
    assert_eq!(asked(&rig, &pods), (before.0 + 1, before.1));
    // Its event has not come, and nobody waits for it.
    rig.wire.cut().await;
    let newer = rig.direct.put("/registry/pods/a/newer", "||").await;
    rig.wire.mend();
    let found = pods.cached("a/newer").await.unwrap();
    assert_eq!(found.unwrap().revision, newer);
}

#[tokio::test]
async fn sizes_are_those_that_etcd_holds_whether_bodies_are_kept_or_not() {
    let rig = Rig::newest().await;
    rig.direct
        .put("/registry/pods/a/old", &format!("||{}", "x".repeat(998)))
        .await;
    for keep_bodies in [true, false] {
        let collection = rig
            .resource(ResourceConfig {
                keep_bodies,
                ..pods()
            })
            .await;
        assert_eq!(collection.metrics().stored_bytes.get(), 1000);
        let grown = rig
            .direct
            .put("/registry/pods/a/new", &format!("||{}", "x".repeat(498)))
            .await;
        reached(&collection, grown).await;
        assert_eq!(collection.metrics().stored_bytes.get(), 1500);
        let shrunk = rig.direct.put("/registry/pods/a/new", "||").await;
        reached(&collection, shrunk).await;
        assert_eq!(collection.metrics().stored_bytes.get(), 1002);
        let gone = rig.direct.delete("/registry/pods/a/new").await;
        reached(&collection, gone).await;
        assert_eq!(collection.metrics().stored_bytes.get(), 1000);
        collection.close();
    }
}
