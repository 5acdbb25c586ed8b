//! Interleavings of the line and a collection, step by step: nothing runs by itself here.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, poll_immediate};

use super::inbox::Received;
use super::*;
use crate::etcd::{Client, Config, pb};
use crate::read::{Query, Scope};
use crate::testing::{TextDecoder, pods, versions};
use crate::watch::{Begin, WatchQuery, Watcher};
use crate::{At, Event, ReadError, Reads};

/// Starts nothing.
struct Still;

impl Tasks for Still {
    fn spawn(&self, _: &'static str, _: BoxFuture<'static, ()>) {}
}

/// A line without an etcd, and a collection that is live at revision 4.
fn still() -> (Arc<Line>, Arc<Cache>) {
    let config = Config {
        servers: vec!["http://127.0.0.1:1".into()],
        ca_file: None,
        cert_file: None,
        key_file: None,
    };
    let client = Client::new(&config).unwrap();
    let line = Line::start(client, "/registry/", 60, Reads::default(), &Still);
    let cache = Arc::new(Cache::new(pods(), Arc::clone(&line)));
    line.route("pods", Arc::clone(&cache) as Arc<dyn Sink>)
        .unwrap();
    line.begin(4, false);
    assert!(cache.install(Entries::new(), 4, 1));
    (line, cache)
}

fn put(key: &str, revision: i64) -> pb::Event {
    let kv = pb::KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::from_static(b"||"),
        mod_revision: revision,
        ..Default::default()
    };
    pb::Event {
        r#type: 0,
        kv: Some(kv),
    }
}

/// Lets the collection's task take one batch.
async fn step(cache: &Cache) {
    let mut epochs = cache.line.epochs();
    let Received::Batch(batch) = cache.inbox.pop().await else {
        panic!("a batch waits")
    };
    assert_eq!(cache.digest(batch, &mut epochs).await, None);
    cache.inbox.applied();
    cache.moved.notify_waiters();
}

fn frontier(cache: &Cache) -> i64 {
    cache.frontier(&cache.state.read())
}

#[tokio::test]
async fn a_revision_is_claimed_when_it_is_applied_not_when_it_is_received() {
    let (line, cache) = still();
    line.deliver(vec![put("/registry/pods/a/p", 5)], 5);
    assert_eq!((line.frontier(), frontier(&cache)), (5, 4));
    let query = Query::new(Scope::All, At::NotOlder(5));
    let mut read = cache.list(query).boxed();
    assert!(
        poll_immediate(&mut read).await.is_none(),
        "it waits for the event"
    );
    step(&cache).await;
    let page = poll_immediate(&mut read).await.unwrap().unwrap();
    assert_eq!(page.revision, 5);
    assert_eq!(versions(page), [("a/p".to_owned(), 5)]);
}

#[tokio::test]
async fn what_happens_elsewhere_moves_a_collection_that_waits_for_nothing() {
    let (line, cache) = still();
    line.deliver(vec![put("/elsewhere", 5)], 5);
    assert_eq!(frontier(&cache), 5);
    line.deliver(vec![put("/registry/pods/a/p", 6)], 6);
    line.deliver(vec![put("/elsewhere", 7)], 7);
    assert_eq!(frontier(&cache), 5, "revision 6 waits");
    step(&cache).await;
    assert_eq!(frontier(&cache), 7);
}

#[tokio::test]
async fn a_bookmark_claims_nothing_that_was_not_handed_out() {
    let (line, cache) = still();
    tokio::time::pause();
    let query = WatchQuery {
        scope: Scope::All,
        filter: None,
        begin: Begin::Now(At::Any),
        bookmarks: true,
        deadline: None,
    };
    let mut watcher = Watcher::open(&cache, query).await.unwrap();
    line.deliver(vec![put("/registry/pods/a/p", 5)], 5);
    tokio::time::advance(std::time::Duration::from_secs(61)).await;
    let bookmark = watcher.try_next().await.unwrap();
    assert!(
        matches!(bookmark, Some(Event::Bookmark { revision: 4, .. })),
        "{bookmark:?}"
    );
    step(&cache).await;
    tokio::time::advance(std::time::Duration::from_secs(61)).await;
    let added = watcher.try_next().await.unwrap();
    assert!(
        matches!(added, Some(Event::Added(_))),
        "the event before the bookmark: {added:?}"
    );
    let bookmark = watcher.try_next().await.unwrap();
    assert!(
        matches!(bookmark, Some(Event::Bookmark { revision: 5, .. })),
        "{bookmark:?}"
    );
    assert!(watcher.try_next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_list_of_an_epoch_that_has_ended_is_not_installed() {
    let (line, cache) = still();
    line.begin(9, false);
    assert!(!cache.install(Entries::new(), 5, 1));
    let read = cache.list(Query::new(Scope::All, At::Any)).await;
    assert!(matches!(read, Err(ReadError::NotReady(_))));
    assert!(cache.install(Entries::new(), 9, 2));
    assert_eq!(frontier(&cache), 9);
}

#[tokio::test]
async fn a_replaced_history_leaves_nothing_behind() {
    let (line, cache) = still();
    line.deliver(vec![put("/registry/pods/a/p", 500)], 500);
    step(&cache).await;
    assert_eq!(frontier(&cache), 500);
    line.begin(7, true);
    assert!(cache.install(Entries::new(), 7, 2));
    assert_eq!(
        frontier(&cache),
        7,
        "revisions of the old history mean nothing"
    );
    assert_eq!(cache.state.read().objects.len(), 0);
}

#[tokio::test]
async fn a_decoder_that_was_replaced_leaves_no_entries() {
    let (_line, cache) = still();
    let decoder = TextDecoder::default();
    let entry = decoder.entry("a/p", Bytes::from_static(b"||"), 5).unwrap();
    cache
        .written
        .put(&Arc::new(entry), cache.decoder_generation());
    cache.redefine(Arc::new(decoder));
    assert!(
        cache
            .written
            .take("a/p", 5, cache.decoder_generation())
            .is_none()
    );
}

#[tokio::test]
async fn an_event_takes_only_the_entry_of_its_own_write() {
    let (line, cache) = still();
    let entry = |text: &'static str, revision| {
        let decoder = TextDecoder::default();
        Arc::new(
            decoder
                .entry("a/p", Bytes::from_static(text.as_bytes()), revision)
                .unwrap(),
        )
    };
    // Written here at revision 6; somebody else was faster, at 5.
    cache
        .written
        .put(&entry("||mine", 6), cache.decoder_generation());
    line.deliver(vec![put("/registry/pods/a/p", 5)], 5);
    step(&cache).await;
    let now = |cache: &Cache| cache.state.read().objects.get("a/p").unwrap().body.clone();
    assert_eq!(now(&cache), "5:||");
    line.deliver(vec![put("/registry/pods/a/p", 6)], 6);
    step(&cache).await;
    assert_eq!(now(&cache), "6:||mine");
}

#[tokio::test]
async fn first_objects_that_nobody_takes_are_let_go() {
    let (line, cache) = still();
    tokio::time::pause();
    for (key, revision) in [("p", 5), ("q", 6), ("r", 7)] {
        line.deliver(
            vec![put(&format!("/registry/pods/a/{key}"), revision)],
            revision,
        );
        step(&cache).await;
    }
    let query = WatchQuery {
        scope: Scope::All,
        filter: None,
        begin: Begin::State {
            at: At::Any,
            end_bookmark: true,
        },
        bookmarks: true,
        deadline: None,
    };
    let mut stalled = Watcher::open(&cache, query.clone()).await.unwrap();
    let mut slow = Watcher::open(&cache, query).await.unwrap();
    let snapshot = Arc::downgrade(&Arc::clone(cache.state.read().objects.get("a/q").unwrap()));
    line.deliver(vec![put("/registry/pods/a/q", 8)], 8);
    step(&cache).await;
    cache.state.write().ring.reset(8);
    for _ in 0..2 {
        tokio::time::advance(std::time::Duration::from_secs(20)).await;
        let event = slow.try_next().await.unwrap();
        assert!(matches!(event, Some(Event::Added(_))), "{event:?}");
        cache.trim();
    }
    assert!(matches!(stalled.try_next().await, Err(crate::End::Expired)));
    assert_eq!(cache.metrics.watchers_stalled.get(), 1);
    drop(slow);
    assert!(
        snapshot.upgrade().is_none(),
        "nothing holds what was overwritten"
    );
}
