//! Following a collection: its objects as they are, then every change, for ever.
//!
//! For indexes inside the server (authorizers, admission) that must be as fresh as the cache. After a
//! reset of the collection's history everything is told again.

use std::sync::Arc;
use std::time::Duration;

use store::watch::Begin;
use store::{At, Collection, Entry, Event, Scope, WatchQuery};

/// One thing told of a collection.
pub enum Told {
    /// Forget everything: what follows is the whole again.
    Reset,
    Put(Arc<Entry>),
    Gone(Arc<Entry>),
    /// The objects as they were at the beginning have all been told.
    Complete,
}

/// How long to wait when the collection is not ready.
const RETRY: Duration = Duration::from_millis(50);

/// Tells `on` everything, in order. Never returns.
pub async fn follow(collection: Arc<Collection>, on: impl FnMut(Told) + Send) {
    follow_in(collection, Scope::All, on).await;
}

/// The same of a part of the collection.
pub async fn follow_in(collection: Arc<Collection>, scope: Scope, mut on: impl FnMut(Told) + Send) {
    loop {
        collection.wait_ready().await;
        let begin = Begin::State {
            at: At::Any,
            end_bookmark: true,
        };
        let query = WatchQuery {
            scope: scope.clone(),
            filter: None,
            begin,
            bookmarks: true,
            deadline: None,
        };
        let mut watcher = match collection.watch(query).await {
            Ok(watcher) => watcher,
            Err(error) => {
                tracing::debug!(%error, path = collection.path(), "a collection cannot be followed yet");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        on(Told::Reset);
        loop {
            match watcher.next().await {
                Ok(Event::Added(entry) | Event::Modified(entry)) => on(Told::Put(entry)),
                Ok(Event::Deleted(entry)) => on(Told::Gone(entry)),
                Ok(Event::Bookmark {
                    initial_end: true, ..
                }) => on(Told::Complete),
                Ok(Event::Bookmark { .. }) => {}
                Err(_) => break,
            }
        }
    }
}
