//! Keeping a cache current: list, watch, resume, and list again only when that is the only way.
//!
//! The order of things is client-go's reflector's (`tools/cache/reflector.go`):
//! 1. All objects come as the first events of a watch (KEP-3157) or, where the server refuses that, by
//!    a list.
//! 2. The watch goes on from the last version that it delivered or marked. However it ends, it is
//!    resumed there; only the answer that this version is gone leads back to 1.
//!
//! Never back in time: a list that is older than the cache is not taken, unless the server says that
//! the cache's version is gone: then the newest state is asked for and believed (a restored etcd).

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use store::objects::Objects;
use tokio::time::Instant;

use super::cache::Item;
use super::{Core, Key, Selection};
use crate::backoff::{Backoff, Policy};
use crate::client::{Api, Error, Kind, List, ListParams, WatchEvent, WatchParams, WatchStream};

/// Watches are asked to end after five to ten minutes, so that load moves between servers.
const WATCH_SECONDS: std::ops::Range<u32> = 300..600;
/// A watch that ends so soon without an event is a failure.
const SHORT_WATCH: Duration = Duration::from_secs(1);

pub(super) struct Reflector<K> {
    api: Api<K>,
    selection: Selection,
    core: Arc<Core<K>>,
    /// The server streams initial events; false once it refused to.
    watch_list: bool,
    /// The server does not have our version any more: lists must not ask for it.
    version_lost: bool,
    backoff: Backoff,
}

/// Why a watch came to its end.
enum Ended {
    /// It is time to resume.
    Closed,
    /// Its version is gone: all objects have to come again.
    Gone,
}

impl<K: Kind> Reflector<K> {
    pub(super) fn new(api: Api<K>, selection: Selection, core: Arc<Core<K>>) -> Self {
        Self {
            api,
            selection,
            core,
            watch_list: true,
            version_lost: false,
            backoff: Backoff::new(Policy::REFLECTOR),
        }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        loop {
            match self.all_objects().await {
                Ok(stream) => {
                    self.version_lost = false;
                    self.follow(stream).await;
                    self.version_lost = true;
                }
                Err(e) => {
                    self.version_lost |= e.is_gone() || e.is_too_large_resource_version();
                    self.wait(&e, "Cannot list").await;
                }
            }
        }
    }

    /// Fills the cache; returns the watch that goes on from there, if one is open already.
    async fn all_objects(&mut self) -> Result<Option<WatchStream<K>>, Error> {
        if self.watch_list {
            match self.stream_all().await {
                Ok(stream) => return Ok(Some(stream)),
                // What a server says that does not know the parameter, or has it switched off.
                Err(e)
                    if e.is_invalid() || e.code() == Some(400) || e.is_method_not_supported() =>
                {
                    tracing::info!(resource = %self.api.target(), "The server does not stream lists, listing");
                    self.watch_list = false;
                }
                Err(e) => return Err(e),
            }
        }
        self.list().await.map(|()| None)
    }

    async fn list(&self) -> Result<(), Error> {
        let version = self.core.cache.resource_version();
        let params = ListParams {
            label_selector: self.selection.labels.clone(),
            field_selector: self.selection.fields.clone(),
            resource_version: match (self.version_lost, version.as_str()) {
                (true, _) => None,
                (false, "") => Some("0".to_owned()),
                (false, known) => Some(known.to_owned()),
            },
            ..ListParams::default()
        };
        let list = self.api.list(&params).await?;
        let new = list.resource_version().to_owned();
        if !self.version_lost && is_older(&new, &version) {
            return Err(went_back(&new, &version));
        }
        let List { items, .. } = list;
        self.replace(items.into_iter().map(item).collect(), &new);
        Ok(())
    }

    /// Gets all objects as the first events of a watch.
    async fn stream_all(&self) -> Result<WatchStream<K>, Error> {
        let version = self.core.cache.resource_version();
        let asked = if self.version_lost {
            String::new()
        } else {
            version.clone()
        };
        let mut stream = self.api.watch(&self.watch_params(asked, true)).await?;
        let mut all = Objects::new();
        loop {
            let Some(event) = stream.next().await else {
                return Err(Error::Decode {
                    expected: format!("list of {}", self.api.target()),
                    problem: "the watch ended before all objects were there".to_owned(),
                });
            };
            match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    all.insert(item(object));
                }
                WatchEvent::Deleted(object) => {
                    all.remove(Key::of(object.metadata()).as_str());
                }
                WatchEvent::Bookmark {
                    resource_version: new,
                    initial_events_end: true,
                } => {
                    if !self.version_lost && is_older(&new, &version) {
                        return Err(went_back(&new, &version));
                    }
                    self.replace(all, &new);
                    return Ok(stream);
                }
                WatchEvent::Bookmark { .. } => {}
            }
        }
    }

    fn watch_params(&self, resource_version: String, send_initial_events: bool) -> WatchParams {
        WatchParams {
            label_selector: self.selection.labels.clone(),
            field_selector: self.selection.fields.clone(),
            resource_version,
            bookmarks: true,
            send_initial_events,
            timeout_seconds: rand::rng().random_range(WATCH_SECONDS),
        }
    }

    /// Follows the watch, resuming it, until its version is gone.
    async fn follow(&mut self, mut stream: Option<WatchStream<K>>) {
        loop {
            let began = Instant::now();
            let before = self.core.cache.resource_version();
            let opened = match stream.take() {
                Some(open) => Ok(open),
                None => {
                    self.api
                        .watch(&self.watch_params(before.clone(), false))
                        .await
                }
            };
            let ended = match opened {
                Ok(mut open) => self.drain(&mut open).await,
                Err(e) => Err(e),
            };
            match ended {
                Ok(Ended::Gone) => return,
                Ok(Ended::Closed)
                    if began.elapsed() < SHORT_WATCH
                        && before == self.core.cache.resource_version() =>
                {
                    let delay = self.backoff.failed();
                    tracing::warn!(resource = %self.api.target(), ?delay, "A watch ended at once");
                    tokio::time::sleep(delay).await;
                }
                Ok(Ended::Closed) => {}
                Err(e) if e.is_gone() => {
                    tracing::info!(resource = %self.api.target(), "The watched version is gone, listing again");
                    return;
                }
                Err(e) => self.wait(&e, "Watch failed").await,
            }
        }
    }

    /// Applies a watch's events until it ends.
    async fn drain(&self, stream: &mut WatchStream<K>) -> Result<Ended, Error> {
        while let Some(event) = stream.next().await {
            match event {
                Ok(event) => self.apply(event),
                Err(e) if e.is_gone() => return Ok(Ended::Gone),
                Err(e) => return Err(e),
            }
        }
        Ok(Ended::Closed)
    }

    fn apply(&self, event: WatchEvent<K>) {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let item = item(object);
                let version = version_of(&**item.object());
                let subscribers = self.core.subscribers.lock();
                let event = self
                    .core
                    .cache
                    .put(item.key(), Arc::clone(item.object()), &version);
                for tell in &*subscribers {
                    tell(item.key(), &event);
                }
            }
            WatchEvent::Deleted(object) => {
                let item = item(object);
                let version = version_of(&**item.object());
                let subscribers = self.core.subscribers.lock();
                if let Some(event) =
                    self.core
                        .cache
                        .remove(item.key(), Arc::clone(item.object()), &version)
                {
                    for tell in &*subscribers {
                        tell(item.key(), &event);
                    }
                }
            }
            WatchEvent::Bookmark {
                resource_version, ..
            } => self.core.cache.set_resource_version(&resource_version),
        }
    }

    fn replace(&self, list: Objects<Item<K>>, version: &str) {
        let subscribers = self.core.subscribers.lock();
        let same = |old: &K, new: &K| {
            !version_of(old).is_empty()
                && version_of(old) == version_of(new)
                && uid(old) == uid(new)
        };
        let events = self.core.cache.replace(list, version, same);
        for (key, event) in &events {
            for tell in &*subscribers {
                tell(key, event);
            }
        }
        drop(subscribers);
        self.core.synced.send_replace(true);
    }

    async fn wait(&mut self, error: &Error, what: &'static str) {
        let delay = self
            .backoff
            .failed()
            .max(error.retry_after().unwrap_or_default());
        let cause = crate::supervisor::chain(error);
        tracing::warn!(resource = %self.api.target(), error = cause, ?delay, "{what}");
        tokio::time::sleep(delay).await;
    }
}

fn item<K: Kind>(mut object: K) -> Item<K> {
    object.metadata_mut().managed_fields = None;
    Item::new(Key::of(object.metadata()), Arc::new(object))
}

fn version_of<K: Kind>(object: &K) -> String {
    object
        .metadata()
        .resource_version
        .clone()
        .unwrap_or_default()
}

fn uid<K: Kind>(object: &K) -> Option<&str> {
    object.metadata().uid.as_deref()
}

/// Whether a version is from before another. Versions that are no numbers are not compared.
fn is_older(new: &str, known: &str) -> bool {
    match (new.parse::<u64>(), known.parse::<u64>()) {
        (Ok(new), Ok(known)) => new < known,
        _ => false,
    }
}

fn went_back(new: &str, known: &str) -> Error {
    Error::Decode {
        expected: format!("state not older than {known}"),
        problem: format!("it is of version {new}"),
    }
}
