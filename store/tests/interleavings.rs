//! Interleavings made to happen, not hoped for, against real etcd: each is the shape of an incident.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not know for tests"
)]

use std::sync::Arc;

use store::testing::{
    Etcds, Gate, Rig, TextDecoder, eventually, list, next, pods, reached, versions, watching,
};
use store::{At, Begin, Query, ReadError, Reads, ResourceConfig, Scope};

/// More keys than the first page of a list has.
const MANY: usize = 300;

/// Writes `n` keys, many in a revision, with values of `size` bytes; the last revision.
async fn put_many(rig: &Rig, prefix: &str, n: usize, size: usize) -> i64 {
    let value = format!("||{}", "x".repeat(size));
    let mut last = 0;
    for chunk in (0..n).collect::<Vec<_>>().chunks(100) {
        let keys: Vec<String> = chunk.iter().map(|i| format!("{prefix}{i:05}")).collect();
        let pairs: Vec<_> = keys
            .iter()
            .map(|key| (key.as_str(), value.as_str()))
            .collect();
        last = rig.direct.put_leased(&pairs, 0).await;
    }
    last
}

/// Whether this etcd streams lists.
async fn streams(rig: &Rig) -> bool {
    let version = rig.store.status().await.unwrap().version.unwrap();
    version.has_range_stream()
}

/// A resource behind a gate, whose lists come from etcd.
fn gated(gate: &Arc<Gate>, keep_bodies: bool) -> ResourceConfig {
    ResourceConfig {
        transformer: Some(Arc::clone(gate) as _),
        keep_bodies,
        ..pods()
    }
}

#[tokio::test]
async fn compaction_under_a_slow_list_begins_it_anew_unless_its_revision_was_asked_for() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        let gate = Arc::new(Gate::default());
        let collection = rig.resource(gated(&gate, false)).await;
        let before = put_many(&rig, "/registry/pods/a/p", MANY, 10).await;
        reached(&collection, before).await;

        let slow = async |at| {
            gate.close();
            let read = collection.list(Query::new(Scope::All, at));
            let meanwhile = async {
                // The first page is there and waits for its keys; the next one is not asked for yet.
                gate.waited_for().await;
                rig.direct.delete("/registry/pods/a/p00000").await;
                let last = rig.direct.put("/registry/pods/a/p00001", "||new").await;
                rig.direct.compact(last).await;
                gate.open();
                last
            };
            tokio::join!(read, meanwhile)
        };
        let (page, last) = slow(At::Latest).await;
        let page = page.unwrap();
        assert_eq!(page.revision, last, "as new as the restart");
        let seen = versions(page);
        assert_eq!(seen.len(), MANY - 1);
        assert_eq!(seen[0], ("a/p00001".to_owned(), last));

        let (page, _) = slow(At::Exact(last)).await;
        assert!(matches!(page, Err(ReadError::Expired)), "{:?}", page.err());
    }
}

#[tokio::test]
async fn compaction_under_the_first_list_of_a_collection_is_no_failure() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        put_many(&rig, "/registry/pods/a/p", MANY, 10).await;
        let gate = Arc::new(Gate::shut());
        let collection = rig.store.resource(gated(&gate, true)).unwrap();
        gate.waited_for().await;
        let last = rig.direct.put("/registry/pods/a/p00001", "||new").await;
        // Or etcd would compact under a watch that is still catching up, and end it.
        eventually("received", || rig.store.progress() >= last).await;
        rig.direct.compact(last).await;
        gate.open();
        reached(&collection, last).await;
        let metrics = collection.metrics();
        let counted = || {
            let store = rig.store.metrics();
            let (loads, errors) = (metrics.loads.get(), metrics.load_errors.get());
            (loads, errors, store.streams.get(), store.epochs.get())
        };
        let read = collection.list(Query::new(Scope::All, At::Latest)).await;
        let read = read.unwrap_or_else(|e| panic!("{e}: {:?}", counted()));
        assert_eq!(versions(read).len(), MANY);
        assert_eq!(counted(), (2, 0, 1, 1));
        assert_eq!(collection.check().await, Some(true));
    }
}

#[tokio::test]
async fn a_list_that_breaks_in_the_middle_goes_on_there() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        // 30 MB: more than any window lets through at once.
        let last = put_many(&rig, "/registry/pods/a/p", 3000, 10_000).await;
        let gate = Arc::new(Gate::shut());
        let collection = rig.store.resource(gated(&gate, true)).unwrap();
        gate.waited_for().await;
        // The first page waits here. Where etcd streams, the rest comes as a stream from the next key on,
        // and that is cut once it has begun.
        let streamed = streams(&rig).await;
        gate.open();
        eventually("the rest is asked for", || {
            !streamed || rig.store.metrics().list_streams.get() == 1
        })
        .await;
        gate.close();
        gate.waited_for().await;
        rig.wire.cut().await;
        rig.wire.mend();
        gate.open();
        reached(&collection, last).await;
        assert_eq!(list(&collection, At::Latest).await.len(), 3000);
        let metrics = collection.metrics();
        assert_eq!((metrics.loads.get(), metrics.load_errors.get()), (1, 0));
        let used = rig.store.metrics().list_streams.get();
        assert!(if streamed { used > 1 } else { used == 0 }, "{used}");
        assert_eq!(collection.check().await, Some(true));
    }
}

#[tokio::test]
async fn long_lists_come_in_pages_where_streams_are_not_wanted() {
    let rig = Rig::newest().await;
    assert!(streams(&rig).await, "the newest etcd could");
    let last = put_many(&rig, "/registry/pods/a/p", 300, 10).await;
    for streams in [true, false] {
        let store = rig.reading(Reads {
            streams,
            ..Reads::default()
        });
        let collection = store.resource(pods()).unwrap();
        reached(&collection, last).await;
        assert_eq!(list(&collection, At::Latest).await.len(), 300);
        assert_eq!(store.metrics().list_streams.get() > 0, streams);
    }
}

#[tokio::test]
async fn a_key_service_that_is_away_stalls_its_kind_alone_and_loses_nothing() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        let gate = Arc::new(Gate::default());
        let secrets = ResourceConfig {
            transformer: Some(Arc::clone(&gate) as _),
            ..ResourceConfig::new("secrets", true, Arc::new(TextDecoder::default()))
        };
        let (pods, secrets) = (rig.pods().await, rig.resource(secrets).await);
        let begin = rig.direct.put("/registry/secrets/a/s", "||1").await;
        reached(&secrets, begin).await;
        let mut watcher = secrets
            .watch(watching(Begin::Revision(begin)))
            .await
            .unwrap();

        gate.leave();
        let changed = rig.direct.put("/registry/secrets/a/s", "||2").await;
        let later = rig.direct.put("/registry/secrets/b/t", "||3").await;
        eventually("stalled", || secrets.stalled().is_some()).await;
        let why = secrets.stalled().unwrap();
        assert!(
            why.contains("/registry/secrets/a/s") && why.contains("away"),
            "{why}"
        );
        // Others go on; this kind says what it has, and no more.
        let pod = rig.direct.put("/registry/pods/a/p", "||").await;
        assert_eq!(list(&pods, At::Latest).await, [("a/p".to_owned(), pod)]);
        assert_eq!(list(&secrets, At::Any).await, [("a/s".to_owned(), begin)]);
        assert_eq!(secrets.revision(), begin, "nothing is claimed");
        let fresh = secrets.list(Query::new(Scope::All, At::Latest)).await;
        let Err(ReadError::Unreadable { objects, more }) = fresh else {
            panic!("{:?}", fresh.err());
        };
        let keys: Vec<_> = objects.into_iter().map(|o| o.key).collect();
        assert_eq!(keys, ["/registry/secrets/a/s", "/registry/secrets/b/t"]);
        assert!(!more);

        gate.open();
        assert_eq!(
            next(&mut watcher).await,
            format!("MODIFIED a/s {changed} {changed}:||2")
        );
        assert_eq!(
            next(&mut watcher).await,
            format!("ADDED b/t {later} {later}:||3")
        );
        assert!(secrets.stalled().is_none());
        assert_eq!(secrets.metrics().loads.get(), 1, "nothing was listed again");
        assert!(secrets.metrics().decode_errors.get() > 0);
    }
}

#[tokio::test]
async fn a_revision_of_many_keys_is_never_seen_in_part_by_reads_of_any_kind() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        let pods = rig.pods().await;
        let write = async {
            for round in 0..30 {
                put_many(&rig, "/registry/pods/a/p", 100, round).await;
            }
        };
        let mut write = std::pin::pin!(write);
        let mut lists = 0;
        loop {
            let page = tokio::select! {
                biased;
                () = &mut write => break,
                page = pods.list(Query::new(Scope::All, At::Latest)) => page.unwrap(),
            };
            let seen = versions(page);
            let (oldest, newest) = (
                seen.iter().map(|(_, revision)| revision).min(),
                seen.iter().map(|(_, revision)| revision).max(),
            );
            assert_eq!(oldest, newest, "all were written in one transaction");
            lists += 1;
        }
        assert!(lists > 3, "{lists} lists saw something");
    }
}
