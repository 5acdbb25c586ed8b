//! Many writers, readers and watchers on several threads and two stores: what must hold of every
//! single answer.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "helpers of tests, which clippy does not know for tests; load from several threads"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use futures::future::{join_all, ready};
use store::testing::{Etcds, Label, Rig, list, pods, watching};
use store::{At, Begin, Change, Collection, Event, Query, Scope, WatchQuery};

const KEYS: usize = 12;
const RUN: Duration = Duration::from_secs(4);

/// The newest revision of each key whose write has finished, and whether the run is over.
#[derive(Default)]
struct Finished {
    revisions: [AtomicI64; KEYS],
    over: AtomicBool,
}

fn key(i: usize) -> String {
    format!("ns{}/k{i:02}", i % 3)
}

/// Writes and deletes one key after the other.
async fn write(collection: Arc<Collection>, finished: Arc<Finished>, seed: usize) {
    let mut n = seed;
    while !finished.over.load(Ordering::Relaxed) {
        n += 1;
        let i = (n * 7 + seed) % KEYS;
        let change = |_| {
            let node = n % 4;
            ready(Ok::<_, ()>(if n.is_multiple_of(5) {
                Change::Delete
            } else {
                Change::Put {
                    value: format!("app=a{}|n{node}|{n}", n % 2).into(),
                    ttl: None,
                }
            }))
        };
        match collection.update(&key(i), change).await {
            Ok(written) => {
                finished.revisions[i].fetch_max(written.revision, Ordering::SeqCst);
            }
            Err(store::UpdateError::Write(store::WriteError::NotFound(_))) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// No read is older than any write that finished before it, and none goes back.
async fn read(collection: Arc<Collection>, finished: Arc<Finished>, seed: usize) {
    let mut last = 0;
    let mut n = seed;
    while !finished.over.load(Ordering::Relaxed) {
        n += 1;
        let floor: Vec<i64> = finished
            .revisions
            .iter()
            .map(|r| r.load(Ordering::SeqCst))
            .collect();
        if n.is_multiple_of(2) {
            let i = n % KEYS;
            let entry = collection.get(&key(i), At::Latest).await.unwrap();
            // Absent: the write was a deletion, or one came after it.
            assert!(
                entry.is_none_or(|e| e.revision >= floor[i]),
                "an old object"
            );
            continue;
        }
        let page = collection
            .list(Query::new(Scope::All, At::Latest))
            .await
            .unwrap();
        assert!(page.revision >= *floor.iter().max().unwrap(), "an old list");
        assert!(page.revision >= last, "a list from before the last one");
        last = page.revision;
        for entry in page.entries {
            let i: usize = entry.key.rsplit('k').next().unwrap().parse().unwrap();
            assert!(
                entry.revision >= floor[i] && entry.revision <= last,
                "an old object in a list"
            );
        }
    }
}

/// Events make one history that ends in what a list shows.
async fn follow(collection: Arc<Collection>, finished: Arc<Finished>, query: WatchQuery) {
    let mut watcher = collection.watch(query.clone()).await.unwrap();
    let mut objects = BTreeMap::new();
    let (mut initial, mut last) = (true, 0);
    let expected = loop {
        let event = tokio::time::timeout(Duration::from_millis(500), watcher.next()).await;
        match event.map(|event| event.unwrap()) {
            Err(_) if finished.over.load(Ordering::Relaxed) => {
                let list = Query {
                    filter: query.filter.clone(),
                    ..Query::new(query.scope.clone(), At::Latest)
                };
                break store::testing::versions(collection.list(list).await.unwrap());
            }
            Err(_) => {}
            Ok(Event::Bookmark { revision, .. }) => {
                assert!(revision >= last);
                (initial, last) = (false, revision);
            }
            Ok(Event::Deleted(e)) => {
                assert!(e.revision >= last, "back in time");
                last = e.revision;
                assert!(
                    objects.remove(&e.key).is_some_and(|r| r < e.revision),
                    "never was there"
                );
            }
            Ok(event @ (Event::Added(_) | Event::Modified(_))) => {
                let (added, e) = match event {
                    Event::Added(e) => (true, e),
                    Event::Modified(e) => (false, e),
                    _ => unreachable!(),
                };
                if !initial {
                    assert!(e.revision >= last, "back in time");
                    last = e.revision;
                }
                let before = objects.insert(e.key.clone(), e.revision);
                assert_eq!(before.is_none(), added, "{} {before:?}", e.key);
                assert!(before.is_none_or(|r| r < e.revision), "twice");
            }
        }
    };
    let objects: Vec<_> = objects
        .into_iter()
        .map(|(k, r)| (k.to_string(), r))
        .collect();
    assert_eq!(objects, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_answer_fits_one_history() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        let (mine, other) = (rig.pods().await, rig.other());
        let theirs = other.resource(pods()).unwrap();
        theirs.wait_ready().await;
        let finished = Arc::new(Finished::default());
        let mut tasks = Vec::new();
        for (seed, collection) in [&mine, &theirs, &mine, &theirs].into_iter().enumerate() {
            let task = write(Arc::clone(collection), Arc::clone(&finished), seed);
            tasks.push(tokio::spawn(task));
            let task = read(Arc::clone(collection), Arc::clone(&finished), seed);
            tasks.push(tokio::spawn(task));
        }
        let all = watching(Begin::State {
            at: At::Latest,
            end_bookmark: true,
        });
        let narrow = |scope, label: Label| WatchQuery {
            scope,
            filter: Some(Arc::new(label)),
            ..all.clone()
        };
        let queries = [
            all.clone(),
            WatchQuery {
                scope: Scope::Namespace("ns1".into()),
                ..all.clone()
            },
            WatchQuery {
                scope: Scope::One("ns0/k03".into()),
                ..all.clone()
            },
            narrow(Scope::All, Label("spec.nodeName", "n1")),
            narrow(Scope::Namespace("ns2".into()), Label("spec.nodeName", "n2")),
            narrow(Scope::All, Label("app", "a1")),
        ];
        for query in queries {
            for collection in [&mine, &theirs] {
                let task = follow(Arc::clone(collection), Arc::clone(&finished), query.clone());
                tasks.push(tokio::spawn(task));
            }
        }
        tokio::time::sleep(RUN).await;
        finished.over.store(true, Ordering::Relaxed);
        for done in join_all(tasks).await {
            done.unwrap();
        }
        assert_eq!(
            list(&mine, At::Latest).await,
            list(&theirs, At::Latest).await
        );
        assert_eq!(mine.check().await, Some(true));
        assert!(
            mine.revision() > 200,
            "hardly anything happened: {}",
            mine.revision()
        );
    }
}
