//! Writes against real etcd, Debian's and the newest.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not know for tests"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, join_all, ready};
use store::entry::{Opened, TransformError};
use store::testing::{Etcds, Rig, eventually, pods, reached};
use store::{
    At, Change, Config, Entry, Outcome, ResourceConfig, Store, Tasks, Transformer, UpdateError,
    WriteError, etcd,
};

fn put(value: String) -> Change {
    Change::Put {
        value: value.into(),
        ttl: None,
    }
}

/// The number at the end of a text object.
fn count(entry: &Entry) -> u32 {
    let text = std::str::from_utf8(&entry.body).unwrap();
    text.rsplit('|').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_is_written_is_what_is_read() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        let pods = rig.pods().await;
        let created = pods.create("a/p", "||1".into(), None).await.unwrap();
        let entry = created.entry.unwrap();
        assert_eq!(
            (created.outcome, entry.revision),
            (Outcome::Put, created.revision)
        );
        assert_eq!(entry.body, format!("{}:||1", created.revision));
        assert_eq!(
            rig.direct.get("/registry/pods/a/p").await.unwrap().1,
            "||1",
            "stored without its version"
        );
        let again = pods.create("a/p", "||1".into(), None).await;
        assert!(
            matches!(again, Err(WriteError::AlreadyExists(key)) if key == "/registry/pods/a/p")
        );

        let updated = pods
            .update("a/p", |_| ready(Ok::<_, ()>(put("||2".into()))))
            .await
            .unwrap();
        let read = pods.get("a/p", At::Latest).await.unwrap().unwrap();
        assert_eq!((read.revision, count(&read)), (updated.revision, 2));
        reached(&pods, updated.revision).await;
        let (cached, written) = (pods.peek("a/p").unwrap(), updated.entry.unwrap());
        assert!(
            Arc::ptr_eq(&cached, &written),
            "an own write is decoded once"
        );

        let deleted = pods.delete("a/p", |_| Ok::<_, ()>(())).await.unwrap();
        assert_eq!(deleted.outcome, Outcome::Deleted);
        assert_eq!(
            deleted.entry.unwrap().body,
            format!("{}:||2", deleted.revision)
        );
        assert!(pods.get("a/p", At::Latest).await.unwrap().is_none());
        let gone = pods.delete("a/p", |_| Ok::<_, ()>(())).await;
        assert!(matches!(
            gone,
            Err(UpdateError::Write(WriteError::NotFound(_)))
        ));
    }
}

#[tokio::test]
async fn concurrent_updates_lose_nothing() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        let mine = rig.pods().await;
        let theirs = rig.other().resource(pods()).unwrap();
        theirs.wait_ready().await;
        mine.create("a/n", "||0".into(), None).await.unwrap();
        let add = |c: Arc<store::Collection>| async move {
            for _ in 0..20 {
                c.update("a/n", |n| {
                    ready(Ok::<_, ()>(put(format!("||{}", count(&n.unwrap()) + 1))))
                })
                .await
                .unwrap();
            }
        };
        join_all((0..8).map(|i| add(Arc::clone(if i % 2 == 0 { &mine } else { &theirs })))).await;
        let n = mine.get("a/n", At::Latest).await.unwrap().unwrap();
        assert_eq!(count(&n), 160);
        assert!(mine.metrics().conflicts.get() > 0);
    }
}

#[tokio::test]
async fn an_error_found_on_an_old_object_is_no_answer() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        let pods = rig.pods().await;
        let created = pods.create("a/p", "||1".into(), None).await.unwrap();
        reached(&pods, created.revision).await;
        // The cache cannot learn of the second write.
        rig.wire.cut().await;
        rig.direct.put("/registry/pods/a/p", "||2").await;
        let seen = std::sync::Mutex::new(Vec::new());
        let only_two = |entry: Option<Arc<Entry>>| {
            let n = entry.as_ref().map(|e| count(e));
            seen.lock().unwrap().push(n);
            if n == Some(1) {
                rig.wire.mend();
            }
            ready(if n == Some(2) {
                Ok(put("||3".into()))
            } else {
                Err(n)
            })
        };
        let updated = pods.update("a/p", only_two).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), [Some(1), Some(2)]);

        let calls = AtomicUsize::new(0);
        let never = |_| {
            calls.fetch_add(1, Ordering::Relaxed);
            ready(Err::<Change, _>("no"))
        };
        reached(&pods, updated.revision).await;
        assert!(matches!(
            pods.update("a/p", never).await,
            Err(UpdateError::Refused("no"))
        ));
        assert_eq!(
            calls.load(Ordering::Relaxed),
            1,
            "confirmed by the version, not decided twice"
        );
    }
}

#[tokio::test]
async fn nothing_to_do_is_said_only_of_the_newest_object() {
    let rig = Rig::newest().await;
    let pods = rig.pods().await;
    let created = pods.create("a/p", "||1".into(), None).await.unwrap();
    reached(&pods, created.revision).await;
    let set_one = |entry: Option<Arc<Entry>>| {
        let n = entry.as_ref().map(|e| count(e));
        ready(Ok::<_, ()>(if n == Some(1) {
            Change::Nothing
        } else {
            put("||1".into())
        }))
    };
    let done = pods.update("a/p", set_one).await.unwrap();
    assert_eq!(
        (done.outcome, done.revision),
        (Outcome::Unchanged, created.revision)
    );
    rig.wire.cut().await;
    let foreign = rig.direct.put("/registry/pods/a/p", "||2").await;
    let mend = |entry| {
        rig.wire.mend();
        set_one(entry)
    };
    let done = pods.update("a/p", mend).await.unwrap();
    assert_eq!(done.outcome, Outcome::Put);
    assert!(done.revision > foreign);
    // The same bytes as etcd has are not written.
    pods.get("a/p", At::Latest).await.unwrap();
    let absent = pods
        .update("a/q", |_| ready(Ok::<_, ()>(Change::Nothing)))
        .await
        .unwrap();
    assert!(absent.entry.is_none());
}

#[tokio::test]
async fn objects_that_end_by_themselves_share_leases() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        let pods = rig.pods().await;
        for i in 0..5 {
            pods.create(&format!("a/e{i}"), "||".into(), Some(3600))
                .await
                .unwrap();
        }
        let mut leases = Vec::new();
        for i in 0..5 {
            leases.push(
                rig.direct
                    .get(&format!("/registry/pods/a/e{i}"))
                    .await
                    .unwrap()
                    .0,
            );
        }
        leases.dedup();
        assert!(leases.len() == 1 && leases[0] != 0, "{leases:?}");
        // A lease that somebody ended is replaced without an error.
        rig.direct.revoke(leases[0]).await;
        pods.create("a/next", "||".into(), Some(3600))
            .await
            .unwrap();
        let next = rig.direct.get("/registry/pods/a/next").await.unwrap().0;
        assert!(next != 0 && next != leases[0]);
        assert!(pods.get("a/e0", At::Latest).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn how_long_a_lease_takes_objects_is_configured_and_how_many_it_had_is_counted() {
    let rig = Rig::newest().await;
    let config = Config {
        lease_reuse: 0,
        ..Config::new(rig.etcd.config())
    };
    let tasks = Arc::clone(&rig.tasks) as Arc<dyn Tasks>;
    let store = Store::open(&config, tasks).unwrap();
    let (shared, own) = (rig.pods().await, store.resource(pods()).unwrap());
    own.wait_ready().await;
    for (collection, name) in [(&shared, "s"), (&own, "o")] {
        for i in 0..3 {
            let key = format!("a/{name}{i}");
            collection
                .create(&key, "||".into(), Some(3600))
                .await
                .unwrap();
        }
    }
    let lease = async |key: &str| {
        let found = rig.direct.get(&format!("/registry/pods/a/{key}")).await;
        found.unwrap().0
    };
    assert_eq!(lease("s0").await, lease("s2").await);
    assert_ne!(lease("o0").await, lease("o1").await);
    assert_eq!(
        rig.store.metrics().lease_objects.0.read(),
        None,
        "the first is in use"
    );
    let counted = store.metrics().lease_objects.0.read().unwrap();
    assert_eq!((counted.count, counted.sum), (2, 2.0));
}

#[tokio::test]
async fn what_etcd_does_not_take_is_refused_by_its_name_and_leaves_nothing() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        let pods = rig.pods().await;
        // More than etcd takes, and more than its gRPC takes.
        let of = |size| Bytes::from(format!("||{}", "x".repeat(size)));
        let large = of(1_700_000);
        for value in [large.clone(), of(3 << 20)] {
            let refused = pods.create("a/p", value, None).await;
            assert!(
                matches!(refused, Err(WriteError::Etcd(etcd::Error::TooLarge))),
                "{refused:?}"
            );
        }
        pods.create("a/p", "||".into(), None).await.unwrap();
        let grow = |_| {
            ready(Ok::<_, ()>(Change::Put {
                value: large.clone(),
                ttl: None,
            }))
        };
        let refused = pods.update("a/p", grow).await;
        assert!(
            matches!(
                refused,
                Err(UpdateError::Write(WriteError::Etcd(etcd::Error::TooLarge)))
            ),
            "{refused:?}"
        );
        let kept = pods.get("a/p", At::Latest).await.unwrap().unwrap();
        assert!(kept.body.len() < 100);
    }
}

/// Marks values with a key's name; the other key's are stale; without a key, nothing opens.
#[derive(Default)]
struct Keys {
    new: AtomicBool,
    away: AtomicBool,
}

impl Transformer for Keys {
    fn open<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
    ) -> BoxFuture<'a, Result<Opened, TransformError>> {
        async move {
            if self.away.load(Ordering::Relaxed) {
                return Err(TransformError {
                    reason: "the key service is away".into(),
                });
            }
            let text = String::from_utf8(value.to_vec()).unwrap();
            let bound = |mark: &str| {
                text.strip_prefix(&format!("{mark}{key}:"))
                    .map(str::to_owned)
            };
            let (value, of_new) = match (bound("new"), bound("old")) {
                (Some(value), _) => (value, true),
                (_, Some(value)) => (value, false),
                _ => {
                    return Err(TransformError {
                        reason: "sealed for another key".into(),
                    });
                }
            };
            Ok(Opened {
                value: value.into(),
                stale: of_new != self.new.load(Ordering::Relaxed),
            })
        }
        .boxed()
    }

    fn seal<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, TransformError>> {
        let mark = if self.new.load(Ordering::Relaxed) {
            "new"
        } else {
            "old"
        };
        let sealed = [mark.as_bytes(), key.as_bytes(), b":", &value].concat();
        ready(Ok(sealed.into())).boxed()
    }
}

#[tokio::test]
async fn what_is_sealed_with_an_old_key_is_written_anew_even_if_nothing_changes() {
    let rig = Rig::newest().await;
    let keys = Arc::new(Keys::default());
    let config = ResourceConfig {
        transformer: Some(Arc::clone(&keys) as _),
        ..pods()
    };
    let secrets = rig.resource(config).await;
    let created = secrets
        .create("a/s", "||1".into(), Some(3600))
        .await
        .unwrap();
    let stored = async || rig.direct.get("/registry/pods/a/s").await.unwrap();
    let (lease, value, _) = stored().await;
    assert_eq!(value, "old/registry/pods/a/s:||1");
    secrets.get("a/s", At::Latest).await.unwrap();
    let same = |_| ready(Ok::<_, ()>(Change::Nothing));
    let same_bytes = |_| {
        ready(Ok::<_, ()>(Change::Put {
            value: "||1".into(),
            ttl: Some(3600),
        }))
    };
    assert_eq!(
        secrets.update("a/s", same).await.unwrap().outcome,
        Outcome::Unchanged
    );

    keys.new.store(true, Ordering::Relaxed);
    let rewritten = secrets.update("a/s", same).await.unwrap();
    assert_eq!(rewritten.outcome, Outcome::Put);
    assert!(rewritten.revision > created.revision);
    let (same_lease, value, _) = stored().await;
    assert_eq!(
        (value.as_str(), same_lease),
        ("new/registry/pods/a/s:||1", lease)
    );
    assert_eq!(
        secrets.update("a/s", same).await.unwrap().outcome,
        Outcome::Unchanged
    );
    assert!(matches!(
        secrets.update("a/s", same_bytes).await.unwrap().outcome,
        Outcome::Put | Outcome::Unchanged
    ));

    // While the key service is away the kind waits; when it is back nothing was lost.
    keys.away.store(true, Ordering::Relaxed);
    let sealed = format!("new/registry/pods/a/s:||{}", 2);
    let revision = rig.direct.put("/registry/pods/a/s", &sealed).await;
    assert!(secrets.get("a/s", At::Latest).await.is_err());
    assert!(secrets.stalled().is_some());
    keys.away.store(false, Ordering::Relaxed);
    let read = secrets
        .get("a/s", At::NotOlder(revision))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(read.revision, revision);
}

#[tokio::test]
async fn only_what_cannot_be_decoded_is_deleted_unread() {
    let rig = Rig::newest().await;
    rig.direct.put("/registry/pods/a/good", "||").await;
    let pods = rig.pods().await;
    rig.direct.put("/registry/pods/a/bad", "garbage").await;
    assert!(matches!(
        pods.delete_undecodable("a/good", false).await,
        Err(WriteError::Decodable(_))
    ));
    assert!(matches!(
        pods.delete_undecodable("a/none", false).await,
        Err(WriteError::NotFound(_))
    ));
    let refused = pods.delete("a/bad", |_| Ok::<_, ()>(())).await;
    assert!(matches!(
        refused,
        Err(UpdateError::Write(WriteError::Undecodable(_)))
    ));
    pods.delete_undecodable("a/bad", true).await.unwrap();
    assert!(rig.direct.get("/registry/pods/a/bad").await.is_some());
    pods.delete_undecodable("a/bad", false).await.unwrap();
    assert!(rig.direct.get("/registry/pods/a/bad").await.is_none());
    assert!(pods.get("a/bad", At::Latest).await.unwrap().is_none());
    eventually("it goes on", || pods.stalled().is_none()).await;
}

#[tokio::test]
async fn raw_keys_are_written_by_their_revision() {
    let rig = Rig::newest().await;
    let raw = rig.store.raw();
    let first = raw
        .put("ranges/serviceips", 0, "1".into(), None)
        .await
        .unwrap();
    assert!(
        raw.put("ranges/serviceips", 0, "2".into(), None)
            .await
            .is_err()
    );
    raw.put("ranges/serviceips", first, "3".into(), Some(60))
        .await
        .unwrap();
    raw.put("ranges/servicenodeports", 0, "4".into(), None)
        .await
        .unwrap();
    let values: Vec<_> = raw
        .list("ranges/")
        .await
        .unwrap()
        .into_iter()
        .map(|v| (v.key, v.value))
        .collect();
    let expected = [("ranges/serviceips", "3"), ("ranges/servicenodeports", "4")];
    assert_eq!(
        values,
        expected.map(|(k, v)| (k.to_owned(), Bytes::from(v)))
    );
    assert!(
        rig.direct
            .get("/registry/ranges/serviceips")
            .await
            .unwrap()
            .0
            != 0,
        "it has a lease"
    );
    let kept = raw.get("ranges/servicenodeports").await.unwrap().unwrap();
    raw.delete("ranges/servicenodeports", kept.revision)
        .await
        .unwrap();
    assert!(raw.get("ranges/servicenodeports").await.unwrap().is_none());
}
