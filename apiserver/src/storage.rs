//! The etcd clusters behind this server: one for everything, and one more for each set of servers that
//! `--etcd-servers-overrides` names (upstream's `server/options/etcd.go`).
//!
//! Owns which resource is stored where, and what health checks and metrics say of it. Each cluster is a
//! store with a history and revisions of its own; clients see the revisions of the resource they ask for.

mod metrics;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Context;
use component::Supervisor;
use component::serving::Health;
use futures::future::join_all;
use proto::catalogue::Resource;
use resources::decoder::Objects;
use store::{Collection, ResourceConfig, Store};

use crate::bootstrap::Hook;
use crate::config::{Config, Etcd};
use crate::encryption::Encryption;
use crate::registry::Registry;

pub use metrics::register as register_metrics;

/// A resource that cannot be listed, because of what is stored under it, does not hold up the readiness of
/// everything else for longer; upstream's (`StorageReadinessHook`).
const PATIENCE: Duration = Duration::from_secs(60);

/// How long metrics wait for an etcd to say how large it is; upstream's (`monitorCollector`).
const MEASURE: Duration = Duration::from_secs(1);

/// Where everything is stored.
pub struct Storage {
    /// The first is for what no override names.
    clusters: Vec<Cluster>,
    overrides: Vec<Override>,
}

struct Cluster {
    /// Of its health check.
    name: String,
    /// Sorted: the order of servers makes no other cluster.
    servers: Vec<String>,
    store: Store,
    /// Of its database, as it was when metrics were last asked for; less than 0 if it did not answer.
    size: Arc<AtomicI64>,
    /// What the last health check found.
    answers: Arc<AtomicBool>,
}

/// One resource, or all of a group, and its cluster.
struct Override {
    group: String,
    /// `*`: all.
    resource: String,
    cluster: usize,
}

/// Waits until everything is read, while `WatchCacheInitializationPostStartHook` is on.
#[must_use]
pub fn hooks(config: &Config) -> &'static [&'static Hook] {
    match config
        .features
        .enabled("WatchCacheInitializationPostStartHook")
    {
        true => &[READ],
        false => &[],
    }
}

const READ: &Hook = &Hook {
    name: "storage-readiness",
    once: |server| {
        Box::pin(async move {
            let waits = server.registry.iter().map(|e| e.collection.wait_ready());
            if tokio::time::timeout(PATIENCE, join_all(waits))
                .await
                .is_err()
            {
                tracing::warn!(
                    "Not everything that is stored has been read; the server starts all the same"
                );
            }
            Ok(())
        })
    },
    keep: None,
    end: None,
};

impl Storage {
    /// Opens a store for each cluster; none need answer yet.
    ///
    /// # Errors
    /// When a URL or a certificate file is unusable.
    pub fn open(config: &Etcd, tasks: &Supervisor) -> anyhow::Result<Self> {
        let mut storage = Self {
            clusters: vec![Cluster::open(
                "etcd".to_owned(),
                config,
                &config.servers,
                tasks,
            )?],
            overrides: Vec::new(),
        };
        for given in &config.overrides {
            let cluster = storage.cluster(config, &given.servers, tasks)?;
            storage.overrides.push(Override {
                group: given.group.clone(),
                resource: given.resource.clone(),
                cluster,
            });
        }
        Ok(storage)
    }

    /// The cluster of these servers, which several overrides may share.
    fn cluster(
        &mut self,
        config: &Etcd,
        servers: &[String],
        tasks: &Supervisor,
    ) -> anyhow::Result<usize> {
        let sorted = sorted(servers);
        if let Some(known) = self.clusters.iter().position(|c| c.servers == sorted) {
            return Ok(known);
        }
        let name = format!("etcd-override-{}", self.clusters.len() - 1);
        self.clusters
            .push(Cluster::open(name, config, servers, tasks)?);
        Ok(self.clusters.len() - 1)
    }

    /// The store of everything that no override names, and of keys that are no objects.
    #[must_use]
    pub fn main(&self) -> &Store {
        &self.clusters[0].store
    }

    /// The stores whose health ComponentStatuses tell: that of everything, and one for each override, as upstream has them.
    pub fn checked(&self) -> impl Iterator<Item = &Store> {
        let of_overrides = self.overrides.iter().map(|o| o.cluster);
        let all = std::iter::once(0).chain(of_overrides);
        all.map(|at| &self.clusters[at].store)
    }

    fn of(&self, group: &str, resource: &str) -> &Store {
        let named = |name: &str| {
            self.overrides
                .iter()
                .rfind(|o| o.group == group && o.resource == name)
        };
        let at = named(resource).or_else(|| named("*"));
        &self.clusters[at.map_or(0, |o| o.cluster)].store
    }

    /// The collection of a resource.
    #[must_use]
    pub fn collection(
        &self,
        encryption: Option<&Encryption>,
        resource: &'static Resource,
        decoder: Arc<Objects>,
    ) -> Arc<Collection> {
        let storage = resource
            .storage
            .as_ref()
            .expect("the registry opens stored resources only");
        let mut of = ResourceConfig::new(storage.prefix, resource.namespaced, decoder);
        of.transformer = encryption.map(|e| e.of(storage.group, resource.name));
        of.keep_bodies = resource.kind != "Event";
        if resource.name == "pods" {
            of.indexes = vec!["spec.nodeName".into()];
        }
        self.of(storage.group, resource.name)
            .resource(of)
            .expect("every resource of the catalogue has a prefix of its own")
    }

    /// Asks every cluster whether it answers; the health checks tell.
    pub async fn ask(&self, timeout: Duration) {
        let asked = self.clusters.iter().map(|cluster| async move {
            let answers = cluster.store.health(timeout).await.is_ok();
            cluster.answers.store(answers, Ordering::Relaxed);
        });
        join_all(asked).await;
    }

    /// Asks every cluster how large its database is; the metrics tell.
    pub async fn measure(&self) {
        let asked = self.clusters.iter().map(|cluster| async move {
            let status = tokio::time::timeout(MEASURE, cluster.store.status()).await;
            let size = status.ok().and_then(Result::ok).map_or(-1, |s| s.db_size);
            cluster.size.store(size, Ordering::Relaxed);
        });
        join_all(asked).await;
    }

    /// `/livez` tells of each cluster, `/readyz` waits for every collection too.
    pub fn checks(&self, registry: &Registry, health: &Health) {
        for cluster in &self.clusters {
            let answers = Arc::clone(&cluster.answers);
            health.live(&cluster.name, move || {
                if answers.load(Ordering::Relaxed) {
                    Ok(())
                } else {
                    Err("etcd does not answer".into())
                }
            });
        }
        let collections: Vec<_> = registry
            .iter()
            .map(|e| (e.resource.name, e.collection.clone()))
            .collect();
        health.ready("informer-sync", move || {
            let waits = |c: &Collection| c.ready().is_err_and(|e| e.down_for < PATIENCE);
            match collections.iter().find(|(_, c)| waits(c)) {
                None => Ok(()),
                Some((name, _)) => Err(format!("{name} are not read yet")),
            }
        });
    }

    /// Ends all watches, and those that begin from now on.
    pub fn end_watches(&self) {
        for cluster in &self.clusters {
            cluster.store.end_watches();
        }
    }
}

impl Cluster {
    fn open(
        name: String,
        config: &Etcd,
        servers: &[String],
        tasks: &Supervisor,
    ) -> anyhow::Result<Self> {
        let etcd = store::etcd::Config {
            servers: servers.to_vec(),
            ca_file: config.ca.clone(),
            cert_file: config.client.as_ref().map(|c| c.cert.clone()),
            key_file: config.client.as_ref().map(|c| c.key.clone()),
        };
        let config = store::Config {
            prefix: config.prefix.clone(),
            compaction_interval: config.compaction_interval,
            check_interval: config.check_interval,
            lease_reuse: config.lease_reuse,
            reads: config.reads,
            ..store::Config::new(etcd)
        };
        let store = Store::open(&config, Arc::new(tasks.clone()))
            .with_context(|| format!("etcd at {} cannot be used", servers.join(",")))?;
        Ok(Self {
            name,
            servers: sorted(servers),
            store,
            size: Arc::new(AtomicI64::new(-1)),
            answers: Arc::default(),
        })
    }
}

fn sorted(servers: &[String]) -> Vec<String> {
    let mut servers = servers.to_vec();
    servers.sort_unstable();
    servers
}
