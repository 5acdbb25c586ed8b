//! What must not be in etcd, and etcds that do not work as they should: it is told, everything else goes
//! on, and nothing is deleted or rewritten by guess.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not know for tests"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use store::testing::{Etcd, Etcds, Rig, TextDecoder, eventually, list, next, pods, watching};
use store::{At, Begin, Change, ReadError, ResourceConfig, UpdateError, WriteError, etcd};

#[tokio::test]
async fn keys_that_no_api_server_writes_are_counted_and_left_alone() {
    for etcd in Etcds::all() {
        let rig = Rig::start(&etcd).await;
        let strange: [&[u8]; 5] = [
            b"/registry/pods/a/\xff\xfe",
            b"/registry/pods/\xc3\x28/p",
            b"/registry/pods/stray",
            b"/registry/pods/a/b/c",
            b"/registry/pods//p",
        ];
        let foreign: [&[u8]; 4] = [
            b"/registry/nobodys/a/p",
            b"/registry/podsecrets/a/p",
            b"/registry/pods",
            b"/elsewhere/pods/a/p",
        ];
        let all = || strange.iter().chain(&foreign);
        for key in all() {
            rig.direct.put_bytes(key, b"before").await;
        }
        let good = rig.direct.put("/registry/pods/a/p", "||").await;
        let pods = rig.pods().await;
        // Their events may come as well, if they are late.
        eventually("received", || rig.store.progress() >= good).await;
        let listed = pods.metrics().strange_keys.get();
        assert!(listed >= strange.len() as u64, "{listed}");
        let mut watcher = pods.watch(watching(Begin::Revision(good))).await.unwrap();
        let before = rig.store.metrics().foreign_events.get();
        for key in all() {
            rig.direct.put_bytes(key, b"after").await;
        }
        let last = rig.direct.put("/registry/pods/a/q", "||").await;
        assert_eq!(
            next(&mut watcher).await,
            format!("ADDED a/q {last} {last}:||")
        );
        let expected = [("a/p".to_owned(), good), ("a/q".to_owned(), last)];
        for at in [At::Any, At::Latest, At::Exact(last)] {
            assert_eq!(list(&pods, at).await, expected, "{at:?}");
        }
        // As an event, a key that is not text belongs to nobody.
        assert_eq!(pods.metrics().strange_keys.get(), listed + 3);
        assert!(rig.store.metrics().foreign_events.get() > before + 3);
        assert_eq!(pods.check().await, Some(true));
        assert!(pods.stalled().is_none() && pods.ready().is_ok());
        assert_eq!(
            rig.direct.count("/").await,
            strange.len() as i64 + foreign.len() as i64 + 2
        );
    }
}

#[tokio::test]
async fn a_value_that_is_broken_from_the_beginning_is_named_and_kept() {
    let rig = Rig::newest().await;
    let broken = "/registry/pods/a/broken";
    rig.direct.put(broken, "garbage").await;
    let good = rig.direct.put("/registry/pods/a/good", "||").await;
    let collection = rig.store.resource(pods()).unwrap();
    let other = ResourceConfig::new("services/specs", true, Arc::new(TextDecoder::default()));
    let services = rig.resource(other).await;
    let named = || {
        let failure = collection.ready().err().and_then(|e| e.failure);
        failure.is_some_and(|why| why.contains(broken))
    };
    eventually("named", named).await;
    assert_eq!(rig.store.ready().unwrap_err(), [Box::from("pods")]);
    // Everything else is there.
    let service = rig.direct.put("/registry/services/specs/a/s", "||").await;
    assert_eq!(
        list(&services, At::Latest).await,
        [("a/s".to_owned(), service)]
    );
    let read = collection.get("a/good", At::Latest).await.unwrap();
    assert_eq!(read.unwrap().revision, good);
    let read = collection.get("a/broken", At::Latest).await;
    assert!(
        matches!(read, Err(ReadError::Undecodable(ref e)) if e.key == broken),
        "{read:?}"
    );
    let written = collection.create("a/new", "||".into(), None).await.unwrap();
    // Neither is it overwritten by somebody who cannot know what it was, nor deleted as if it were good.
    let over = collection.create("a/broken", "||".into(), None).await;
    assert!(matches!(over, Err(WriteError::AlreadyExists(_))));
    let update = collection
        .update("a/broken", |_| {
            std::future::ready(Ok::<_, ()>(Change::Delete))
        })
        .await;
    assert!(update.is_err());
    assert_eq!(rig.direct.get(broken).await.unwrap().1, "garbage");
    assert!(collection.metrics().load_errors.get() > 0);
    assert!(collection.metrics().decode_errors.get() > 0);

    collection
        .delete_undecodable("a/broken", false)
        .await
        .unwrap();
    eventually("healed", || collection.ready().is_ok()).await;
    let expected = [
        ("a/good".to_owned(), good),
        ("a/new".to_owned(), written.revision),
    ];
    assert_eq!(list(&collection, At::Latest).await, expected);
}

#[tokio::test]
async fn a_full_database_refuses_writes_and_nothing_else() {
    for binary in Etcds::all() {
        let rig = Rig::on(Etcd::start_limited(&binary, 16 << 20).await).await;
        let pods = rig.pods().await;
        let first = pods.create("a/first", "||".into(), None).await.unwrap();
        let mut watcher = pods
            .watch(watching(Begin::Revision(first.revision)))
            .await
            .unwrap();
        // One key all the time: compaction can make room.
        let mut n = 0;
        let full = loop {
            n += 1;
            let value = format!("||{n}{}", "x".repeat(1 << 20));
            let put = |_| {
                let (value, ttl) = (value.clone().into(), None);
                std::future::ready(Ok::<_, ()>(Change::Put { value, ttl }))
            };
            match pods.update("a/large", put).await {
                Ok(_) => assert!(n < 100, "it never fills"),
                Err(UpdateError::Write(error)) => break error,
                Err(UpdateError::Refused(())) => unreachable!("nothing is refused"),
            }
        };
        assert!(
            matches!(full, WriteError::Etcd(etcd::Error::NoSpace)),
            "{full}"
        );
        let with_lease = pods.create("a/event", "||".into(), Some(60)).await;
        assert!(with_lease.is_err());
        assert!(rig.store.metrics().no_space.get() >= 2);

        // Reads and watches go on.
        pods.get("a/first", At::Latest).await.unwrap().unwrap();
        let held = list(&pods, At::Latest).await;
        assert_eq!(held.len(), 2);
        rig.store.health(Duration::from_secs(5)).await.unwrap();
        assert_eq!(pods.check().await, Some(true));
        // A write that finds the quota reached only when it is applied is refused, and there all the same
        // (etcd's `quotaApplierV3`): how many there were is what the last one says.
        let (_, last, _) = rig.direct.get("/registry/pods/a/large").await.unwrap();
        let written = last.trim_start_matches('|').trim_end_matches('x');
        let written: usize = written.parse().unwrap();
        assert!((n - 1..=n).contains(&written), "{written} of {n}");
        for _ in 0..written {
            let event = next(&mut watcher).await;
            assert!(event.contains(" a/large "), "{event}");
        }

        // Room is made by whoever runs etcd, and that is all it takes.
        rig.direct.compact(rig.direct.revision().await).await;
        // etcd forgets in the background, and only then there is something to give back.
        let start = Instant::now();
        loop {
            rig.direct.make_room().await;
            if rig.store.status().await.unwrap().db_size < 8 << 20 {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "it stays full");
        }
        let again = pods.create("a/again", "||".into(), None).await.unwrap();
        let event = next(&mut watcher).await;
        let wanted = format!("ADDED a/again {} ", again.revision);
        assert!(event.starts_with(&wanted), "{:.80}", event);
        assert_eq!(list(&pods, At::Latest).await.len(), 3);
        assert_eq!(rig.store.metrics().epochs.get(), 1);
    }
}

#[tokio::test]
async fn an_etcd_that_falls_short_is_told_and_used() {
    for binary in Etcds::all() {
        let rig = Rig::start(&binary).await;
        rig.pods().await;
        let version = rig.store.status().await.unwrap().version;
        let expected = etcd::Version::shortcoming(version).is_some();
        assert_eq!(
            rig.store.metrics().shortcoming.get() == 1,
            expected,
            "{version:?}"
        );
    }
}
