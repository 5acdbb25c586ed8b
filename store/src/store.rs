//! One etcd cluster: its line, its collections, and what keeps them in order.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::backoff::spread;
use crate::cache::Cache;
use crate::check;
use crate::collection::{Collection, ResourceConfig};
use crate::compact;
use crate::etcd::{self, Client, MemberStatus};
use crate::line::{Line, PathTaken};
use crate::metrics::StoreMetrics;
use crate::raw::Raw;
use crate::tasks::Tasks;

/// How often old events are dropped from collections that nothing happens in.
const TRIM: Duration = Duration::from_secs(15);

/// A store.
#[derive(Clone, Debug)]
pub struct Config {
    pub etcd: etcd::Config,
    /// `--etcd-prefix`; slashes at its ends do not matter.
    pub prefix: String,
    /// `--etcd-compaction-interval`; zero leaves compaction to others.
    pub compaction_interval: Duration,
    /// How often each collection is compared with etcd; zero never.
    pub check_interval: Duration,
    /// `--lease-reuse-duration-seconds`: how long a lease takes new objects.
    pub lease_reuse: i64,
    pub reads: Reads,
}

/// How lists are read; everything by default.
#[derive(Clone, Copy, Debug)]
pub struct Reads {
    /// Lists of the past, and what continues a list, come from the cache where it remembers.
    pub past: bool,
    /// Long ranges of etcd are read as streams where etcd can (3.7).
    pub streams: bool,
}

impl Default for Reads {
    fn default() -> Self {
        Self {
            past: true,
            streams: true,
        }
    }
}

impl Config {
    /// Upstream's defaults for these etcd servers.
    #[must_use]
    pub fn new(etcd: etcd::Config) -> Self {
        Self {
            etcd,
            prefix: "/registry".to_owned(),
            compaction_interval: Duration::from_secs(300),
            check_interval: Duration::from_secs(300),
            lease_reuse: 60,
            reads: Reads::default(),
        }
    }
}

/// A store that cannot be opened.
#[derive(thiserror::Error, Debug)]
pub enum OpenError {
    #[error("the etcd prefix must not be empty")]
    EmptyPrefix,
    #[error(transparent)]
    Etcd(#[from] etcd::Error),
}

/// One etcd cluster and the collections in it. Cloning is cheap.
///
/// A second cluster for some resources (`--etcd-servers-overrides`) is a second store.
#[derive(Clone)]
pub struct Store {
    line: Arc<Line>,
    tasks: Arc<dyn Tasks>,
    caches: Arc<Mutex<Vec<Weak<Cache>>>>,
}

impl Store {
    /// Opens a store and starts its tasks. etcd need not answer yet.
    ///
    /// # Errors
    /// When the configuration is unusable.
    pub fn open(config: &Config, tasks: Arc<dyn Tasks>) -> Result<Self, OpenError> {
        let prefix = config.prefix.trim_matches('/');
        if prefix.is_empty() {
            return Err(OpenError::EmptyPrefix);
        }
        let client = Client::new(&config.etcd)?;
        let line = Line::start(
            client,
            &format!("/{prefix}/"),
            config.lease_reuse,
            config.reads,
            &*tasks,
        );
        if !config.compaction_interval.is_zero() {
            let compactor = compact::run(Arc::clone(&line), config.compaction_interval);
            tasks.spawn("etcd-compactor", compactor.boxed());
        }
        let caches = Arc::default();
        tasks.spawn(
            "watch-cache-upkeep",
            upkeep(Arc::clone(&caches), config.check_interval).boxed(),
        );
        Ok(Self {
            line,
            tasks,
            caches,
        })
    }

    /// Serves a resource from now on. It can be added at any time; it is ready when it has been
    /// listed.
    ///
    /// # Errors
    /// When another resource has its path.
    pub fn resource(&self, config: ResourceConfig) -> Result<Arc<Collection>, PathTaken> {
        let collection = Collection::open(config, &self.line, &*self.tasks)?;
        self.caches.lock().push(Arc::downgrade(collection.cache()));
        Ok(Arc::new(collection))
    }

    /// Access to keys that are no objects.
    #[must_use]
    pub fn raw(&self) -> Raw {
        Raw {
            line: Arc::clone(&self.line),
        }
    }

    /// etcd's revision now.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn revision(&self) -> Result<i64, Arc<etcd::Error>> {
        self.line.ask().await
    }

    /// The revision up to which every event was received; 0 before the first.
    #[must_use]
    pub fn progress(&self) -> i64 {
        self.line.frontier()
    }

    /// The newest compaction that is known of; 0 before one is.
    #[must_use]
    pub fn compacted(&self) -> i64 {
        self.line.compacted()
    }

    /// Whether etcd answers a linearizable read in time: the `etcd` and `etcd-readiness` health checks.
    ///
    /// # Errors
    /// Says what is wrong.
    pub async fn health(&self, timeout: Duration) -> Result<(), Unhealthy> {
        match tokio::time::timeout(timeout, self.line.ask()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Unhealthy::Etcd(error)),
            Err(_) => Err(Unhealthy::Slow(timeout)),
        }
    }

    /// Whether every collection answers.
    ///
    /// # Errors
    /// The paths of those that do not.
    pub fn ready(&self) -> Result<(), Vec<Box<str>>> {
        let caches: Vec<_> = self
            .caches
            .lock()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        let unready: Vec<_> = caches
            .iter()
            .filter(|c| !c.is_closed())
            .filter_map(|c| c.ready().err())
            .map(|e| e.path)
            .collect();
        if unready.is_empty() {
            Ok(())
        } else {
            Err(unready)
        }
    }

    /// Ends all watches, and every one that begins from now on, while reads and writes go on: the
    /// process is about to stop, and clients shall go elsewhere.
    pub fn end_watches(&self) {
        for cache in self.caches.lock().iter().filter_map(Weak::upgrade) {
            cache.drain();
        }
    }

    /// Version and database size of the etcd member in use.
    ///
    /// # Errors
    /// When none answers.
    pub async fn status(&self) -> Result<MemberStatus, etcd::Error> {
        self.line.client.status().await
    }

    #[must_use]
    pub fn metrics(&self) -> &StoreMetrics {
        &self.line.metrics
    }
}

/// etcd does not serve.
#[derive(thiserror::Error, Debug)]
pub enum Unhealthy {
    #[error("error getting data from etcd: {0}")]
    Etcd(Arc<etcd::Error>),
    #[error("no answer from etcd in {0:?}")]
    Slow(Duration),
}

/// Drops old events and compares collections with etcd, one at a time, each once in `interval`.
async fn upkeep(caches: Arc<Mutex<Vec<Weak<Cache>>>>, interval: Duration) {
    let round = |interval: Duration| Instant::now() + spread(interval, 1.0..1.5);
    let mut due = round(interval);
    loop {
        tokio::time::sleep(TRIM).await;
        let alive: Vec<_> = {
            let mut caches = caches.lock();
            caches.retain(|c| c.upgrade().is_some_and(|c| !c.is_closed()));
            caches.iter().filter_map(Weak::upgrade).collect()
        };
        for cache in &alive {
            cache.trim();
        }
        if interval.is_zero() || Instant::now() < due {
            continue;
        }
        for cache in &alive {
            check::check(cache).await;
        }
        due = round(interval);
    }
}
