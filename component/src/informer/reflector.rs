//! Keeping a cache current: list, watch, resume, and list again only when that is the only way.
//!
//! The order of things is client-go's reflector's (`tools/cache/reflector.go`):
//! 1. All objects come as the first events of a watch (KEP-3157) or, where the server refuses that, by
//!    a list.
//! 2. The watch goes on from the last version that it delivered or marked. However it ends, it is
//!    resumed there; only the answer that this version is gone, or an event that cannot be read, leads
//!    back to 1.
//!
//! Never back in time: only the first list may be of any state that the server has at hand; every
//! later one asks for the newest.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use store::objects::Objects;
use tokio::time::Instant;

use super::cache::Item;
use super::{Core, Key, Selection};
use crate::backoff::{Backoff, Policy};
use crate::client::{self, Error, ListParams, Object, WatchEvent, WatchParams};

/// Watches are asked to end after five to ten minutes, so that load moves between servers.
const WATCH_SECONDS: std::ops::Range<u32> = 300..600;
/// A watch that ends so soon without an event is a failure.
const SHORT_WATCH: Duration = Duration::from_secs(1);

type Stream = client::WatchStream<Arc<dyn Object>>;

pub(super) struct Reflector {
    source: client::Objects,
    selection: Selection,
    core: Arc<Core>,
    /// The server streams initial events; false once it refused to.
    watch_list: bool,
    backoff: Backoff,
}

impl Reflector {
    pub(super) fn new(source: client::Objects, selection: Selection, core: Arc<Core>) -> Self {
        Self {
            source,
            selection,
            core,
            watch_list: true,
            backoff: Backoff::new(Policy::REFLECTOR),
        }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let error = match self.all_objects().await {
                Ok(stream) => self.follow(stream).await,
                Err(e) => e,
            };
            self.wait(&error, "Getting all objects again").await;
        }
    }

    /// Fills the cache; returns the watch that goes on from there, if one is open already.
    async fn all_objects(&mut self) -> Result<Option<Stream>, Error> {
        if self.watch_list {
            match self.stream_all().await {
                Ok(stream) => return Ok(Some(stream)),
                // What a server says that does not know the parameter, or has it switched off.
                Err(e)
                    if e.is_invalid() || e.code() == Some(400) || e.is_method_not_supported() =>
                {
                    tracing::info!(resource = %self.source.target(), "The server does not stream lists, listing");
                    self.watch_list = false;
                }
                Err(e) => return Err(e),
            }
        }
        self.list().await.map(|()| None)
    }

    async fn list(&self) -> Result<(), Error> {
        let first = self.core.cache.resource_version().is_empty();
        let params = ListParams {
            label_selector: self.selection.labels.clone(),
            field_selector: self.selection.fields.clone(),
            resource_version: first.then(|| "0".to_owned()),
            ..ListParams::default()
        };
        let list = self.source.list(&params).await?;
        let version = list.resource_version().to_owned();
        self.replace(list.items.into_iter().map(Item::new).collect(), &version);
        Ok(())
    }

    /// Gets all objects as the first events of a watch.
    async fn stream_all(&self) -> Result<Stream, Error> {
        let mut stream = self
            .source
            .watch(&self.watch_params(String::new(), true))
            .await?;
        let mut all = Objects::new();
        loop {
            let Some(event) = stream.next().await else {
                return Err(Error::Decode {
                    expected: format!("list of {}", self.source.target()),
                    problem: "the watch ended before all objects were there".to_owned(),
                });
            };
            match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    all.insert(Item::new(object));
                }
                WatchEvent::Deleted(object) => {
                    all.remove(Key::of(object.meta()).as_str());
                }
                WatchEvent::Bookmark {
                    resource_version: new,
                    initial_events_end: true,
                } => {
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

    /// Follows the watch, resuming it, until that is of no use any more; returns why.
    async fn follow(&mut self, mut stream: Option<Stream>) -> Error {
        loop {
            let began = Instant::now();
            let before = self.core.cache.resource_version();
            let ended = match self.open(stream.take(), &before).await {
                Ok(mut open) => self.drain(&mut open).await,
                Err(e) => Err(e),
            };
            match ended {
                Ok(())
                    if began.elapsed() >= SHORT_WATCH
                        || before != self.core.cache.resource_version() => {}
                Ok(()) => {
                    self.wait_after("A watch ended at once", "no event", Duration::ZERO)
                        .await
                }
                Err(e) if e.is_gone() || matches!(e, Error::Decode { .. }) => return e,
                Err(e) => self.wait(&e, "Watch failed, resuming").await,
            }
        }
    }

    async fn open(&self, stream: Option<Stream>, version: &str) -> Result<Stream, Error> {
        match stream {
            Some(open) => Ok(open),
            None => {
                self.source
                    .watch(&self.watch_params(version.to_owned(), false))
                    .await
            }
        }
    }

    /// Applies a watch's events until it ends.
    async fn drain(&self, stream: &mut Stream) -> Result<(), Error> {
        while let Some(event) = stream.next().await {
            self.apply(event?);
        }
        Ok(())
    }

    fn apply(&self, event: WatchEvent<Arc<dyn Object>>) {
        let cache = &self.core.cache;
        let (object, is_gone) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
            WatchEvent::Deleted(object) => (object, true),
            WatchEvent::Bookmark {
                resource_version, ..
            } => return cache.set_resource_version(&resource_version),
        };
        let item = Item::new(object);
        let (key, version) = (item.key().clone(), version_of(&**item.object()));
        let subscribers = self.core.subscribers.lock();
        let event = if is_gone {
            cache.remove(item, &version)
        } else {
            Some(cache.put(item, &version))
        };
        let Some(event) = event else { return };
        for tell in &*subscribers {
            tell(&key, &event);
        }
    }

    fn replace(&self, list: Objects<Item>, version: &str) {
        let subscribers = self.core.subscribers.lock();
        let same = |old: &dyn Object, new: &dyn Object| {
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
        let cause = crate::supervisor::chain(error);
        self.wait_after(what, &cause, error.retry_after().unwrap_or_default())
            .await;
    }

    async fn wait_after(&mut self, what: &'static str, cause: &str, at_least: Duration) {
        let delay = self.backoff.failed().max(at_least);
        let version = self.core.cache.resource_version();
        tracing::warn!(resource = %self.source.target(), version, error = cause, ?delay, "{what}");
        tokio::time::sleep(delay).await;
    }
}

fn version_of(object: &dyn Object) -> String {
    let version = object.meta().resource_version.as_ref();
    version.cloned().unwrap_or_default()
}

fn uid(object: &dyn Object) -> Option<&str> {
    object.meta().uid.as_deref()
}
