//! A store on a private etcd, with a wire to cut between them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Direct, Etcd, Etcds, TestTasks, TextDecoder, Wire};
use crate::collection::{Collection, ResourceConfig};
use crate::read::{At, Page, Query, Scope};
use crate::store::{Config, Reads, Store};
use crate::tasks::Tasks;
use crate::watch::{Begin, End, Event, WatchQuery, Watcher};

/// A store and what is needed to disturb it.
pub struct Rig {
    pub store: Store,
    pub direct: Direct,
    pub wire: Wire,
    pub etcd: Etcd,
    /// Last, so that the store's tasks end before etcd does.
    pub tasks: Arc<TestTasks>,
}

impl Rig {
    /// A store on an etcd of this kind, without compaction and without checks.
    ///
    /// # Panics
    /// When etcd does not start.
    pub async fn start(binary: &Path) -> Self {
        Self::on(Etcd::start(binary).await).await
    }

    /// A store on the newest etcd.
    ///
    /// # Panics
    /// When etcd does not start.
    pub async fn newest() -> Self {
        Self::start(&Etcds::newest()).await
    }

    /// A store on this etcd.
    ///
    /// # Panics
    /// Never: the configuration is valid.
    pub async fn on(etcd: Etcd) -> Self {
        let (direct, wire) = (Direct::to(&etcd), Wire::to(&etcd).await);
        let tasks = Arc::new(TestTasks::default());
        let config = Config {
            compaction_interval: Duration::ZERO,
            check_interval: Duration::ZERO,
            ..Config::new(wire.config())
        };
        let store = Store::open(&config, Arc::clone(&tasks) as Arc<dyn Tasks>)
            .expect("the configuration is valid");
        Self {
            store,
            direct,
            wire,
            etcd,
            tasks,
        }
    }

    /// Another store on the same etcd, straight: another API server.
    ///
    /// # Panics
    /// Never: the configuration is valid.
    #[must_use]
    pub fn other(&self) -> Store {
        self.reading(Reads::default())
    }

    /// The same, where lists are read so.
    ///
    /// # Panics
    /// Never: the configuration is valid.
    #[must_use]
    pub fn reading(&self, reads: Reads) -> Store {
        let config = Config {
            compaction_interval: Duration::ZERO,
            check_interval: Duration::ZERO,
            reads,
            ..Config::new(self.etcd.config())
        };
        Store::open(&config, Arc::clone(&self.tasks) as Arc<dyn Tasks>)
            .expect("the configuration is valid")
    }

    /// Namespaced text objects with an index on `spec.nodeName`; ready.
    ///
    /// # Panics
    /// When the collection is not ready within 20 seconds.
    pub async fn pods(&self) -> Arc<Collection> {
        self.resource(pods()).await
    }

    /// A resource; ready.
    ///
    /// # Panics
    /// As [`Rig::pods`].
    pub async fn resource(&self, config: ResourceConfig) -> Arc<Collection> {
        let collection = self.store.resource(config).expect("the path is free");
        tokio::time::timeout(Duration::from_secs(20), collection.wait_ready())
            .await
            .unwrap_or_else(|_| panic!("not ready: {:?}", collection.ready()));
        collection
    }
}

/// The configuration of [`Rig::pods`].
#[must_use]
pub fn pods() -> ResourceConfig {
    let decoder = Arc::new(TextDecoder::default());
    ResourceConfig {
        indexes: vec!["spec.nodeName".into()],
        ..ResourceConfig::new("pods", true, decoder)
    }
}

/// Waits until the cache itself has reached a revision.
///
/// # Panics
/// When it does not within 20 seconds.
pub async fn reached(collection: &Collection, revision: i64) {
    let start = tokio::time::Instant::now();
    while collection.revision() < revision {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "at {}, not at {revision}",
            collection.revision()
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Makes a collection forget an object, as a defect would.
pub fn forget(collection: &Collection, key: &str) {
    collection.cache().state.write().objects.remove(key);
}

/// Keys and versions of a page, in order.
#[must_use]
pub fn versions(page: Page) -> Vec<(String, i64)> {
    page.entries
        .into_iter()
        .map(|e| (e.key.to_string(), e.revision))
        .collect()
}

/// All objects, by key and version.
///
/// # Panics
/// When the list fails.
pub async fn list(collection: &Collection, at: At) -> Vec<(String, i64)> {
    versions(
        collection
            .list(Query::new(Scope::All, at))
            .await
            .expect("the list succeeds"),
    )
}

/// A watch of everything, without bookmarks.
#[must_use]
pub fn watching(begin: Begin) -> WatchQuery {
    WatchQuery {
        scope: Scope::All,
        filter: None,
        begin,
        bookmarks: false,
        deadline: None,
    }
}

/// The next event as text: `ADDED team/web 7 7:app=web|n1|`.
///
/// # Panics
/// When none comes within 10 seconds, or the watch ends.
pub async fn next(watcher: &mut Watcher) -> String {
    let event = tokio::time::timeout(Duration::from_secs(10), watcher.next()).await;
    shown(&event.expect("an event comes").expect("the watch goes on"))
}

/// Why a watch ends that has nothing more to tell.
///
/// # Panics
/// When it tells something, or does not end within 20 seconds.
pub async fn end(watcher: &mut Watcher) -> End {
    let end = tokio::time::timeout(Duration::from_secs(20), watcher.next()).await;
    end.expect("the watch ends")
        .expect_err("the watch tells nothing more")
}

/// Waits for something that happens by itself.
///
/// # Panics
/// When it does not happen.
pub async fn eventually(what: &str, mut test: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !test() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An event as text.
#[must_use]
pub fn shown(event: &Event) -> String {
    let (kind, entry) = match event {
        Event::Added(entry) => ("ADDED", entry),
        Event::Modified(entry) => ("MODIFIED", entry),
        Event::Deleted(entry) => ("DELETED", entry),
        Event::Bookmark {
            revision,
            initial_end,
        } => {
            return format!(
                "BOOKMARK {revision}{}",
                if *initial_end { " end" } else { "" }
            );
        }
    };
    format!(
        "{kind} {} {} {}",
        entry.key,
        entry.revision,
        String::from_utf8_lossy(&entry.body)
    )
}
