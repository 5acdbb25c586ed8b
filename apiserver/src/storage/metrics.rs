//! What the stores count, under upstream's names where upstream has them
//! (`storage/cacher/metrics`, `storage/etcd3/metrics`), `navarch_` where only we have it.

mod requests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use component::metrics::{Labels, Metrics};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use resources::status::qualified;
use store::metrics::{CollectionMetrics, StoreMetrics};
use store::{Collection, Store};

use requests::Timings;

use super::Storage;
use crate::registry::Registry;

type Read<T> = fn(&T) -> u64;
/// A counter of something, by its name and help.
type Counts<T> = (&'static str, &'static str, Read<T>);
/// An amount of something now, by its name and help.
type Amounts<T> = (&'static str, &'static str, fn(&T) -> i64);

const OF_COLLECTIONS: &[Counts<CollectionMetrics>] = &[
    (
        "apiserver_watch_cache_initializations_total",
        "Times a resource was listed from etcd: 1 after the start",
        |m| m.loads.get(),
    ),
    (
        "apiserver_watch_cache_initialization_errors_total",
        "Lists from etcd that failed",
        |m| m.load_errors.get(),
    ),
    (
        "apiserver_watch_cache_events_received_total",
        "Events of a resource that were applied",
        |m| m.events.get(),
    ),
    (
        "apiserver_storage_events_received_total",
        "Events of a resource that etcd told",
        |m| m.events.get(),
    ),
    (
        "apiserver_watch_cache_events_dispatched_total",
        "Events of a resource that watches were told, or could have been",
        |m| m.events.get(),
    ),
    (
        "apiserver_init_events_total",
        "Objects that watches began with",
        |m| m.initial_events.get(),
    ),
    (
        "apiserver_terminated_watchers_total",
        "Watches that were ended because they took too long",
        |m| m.watchers_expired.get() + m.watchers_stalled.get(),
    ),
    (
        "apiserver_storage_decode_errors_total",
        "Stored values that could not be opened or decoded",
        |m| m.decode_errors.get(),
    ),
    (
        "navarch_storage_strange_keys_total",
        "Keys below a resource's path that no API server writes, and that were left alone",
        |m| m.strange_keys.get(),
    ),
    (
        "navarch_storage_conflicts_total",
        "Writes that found another revision than they expected",
        |m| m.conflicts.get(),
    ),
    (
        "navarch_watch_cache_reads_total",
        "Reads that the cache answered",
        |m| m.cache_reads.get(),
    ),
    (
        "navarch_watch_cache_fallbacks_total",
        "Reads that gave up waiting for the cache and went to etcd",
        |m| m.read_fallbacks.get(),
    ),
    (
        "navarch_watch_cache_resets_total",
        "Watches that ended with the history they followed",
        |m| m.watchers_reset.get(),
    ),
];

const AMOUNTS: &[Amounts<Collection>] = &[
    (
        "apiserver_resource_objects",
        "Objects of a resource; -1 while they are not known",
        objects,
    ),
    (
        "apiserver_resource_size_estimate_bytes",
        "Bytes that etcd holds for the objects of a resource; -1 while they are not known",
        |c| known(c, |m| m.stored_bytes.get()),
    ),
    (
        "apiserver_watch_cache_resource_version",
        "The revision that a cache has reached, without its digits above the fifteenth",
        |c| c.revision() % 1_000_000_000_000_000,
    ),
    (
        "navarch_watch_cache_object_bytes",
        "Bytes of the objects in memory",
        |c| c.metrics().object_bytes.get(),
    ),
    (
        "navarch_watch_cache_ring_bytes",
        "Bytes of past objects that recent events hold",
        |c| c.metrics().ring_bytes.get(),
    ),
    ("navarch_watch_cache_watchers", "Open watches", |c| {
        c.metrics().watchers.get()
    }),
];

/// Linearizable reads: whether they were answered, and whether etcd itself had to.
const CONSISTENT: &[([&str; 2], Read<CollectionMetrics>)] = &[
    (["false", "true"], |m| m.consistent_reads.get()),
    (["true", "true"], |m| m.read_fallbacks.get()),
    (["false", "false"], |m| m.read_timeouts.get()),
];

/// Where lists came from, in upstream's words.
const LISTS: &[(&str, Read<CollectionMetrics>)] = &[
    ("watchcache", |m| m.cache_lists.get()),
    ("etcd", |m| m.etcd_lists.get()),
];

fn objects(collection: &Collection) -> i64 {
    known(collection, |m| m.objects.get())
}

/// Upstream's number for what cannot be told.
fn known(collection: &Collection, amount: fn(&CollectionMetrics) -> i64) -> i64 {
    if collection.ready().is_ok() {
        amount(collection.metrics())
    } else {
        -1
    }
}

const OF_STORES: &[Counts<StoreMetrics>] = &[
    (
        "navarch_etcd_watch_streams_total",
        "Watches that were opened on etcd: 1 after the start",
        |m| m.streams.get(),
    ),
    (
        "navarch_etcd_histories_total",
        "Histories of etcd that were begun: 1 after the start",
        |m| m.epochs.get(),
    ),
    (
        "navarch_etcd_histories_replaced_total",
        "Of them, those of another cluster or a restored backup",
        |m| m.replaced.get(),
    ),
    (
        "navarch_etcd_no_space_total",
        "Writes that etcd refused because its database is full",
        |m| m.no_space.get(),
    ),
    (
        "navarch_etcd_foreign_events_total",
        "Events of keys that belong to no resource that is served",
        |m| m.foreign_events.get(),
    ),
    (
        "navarch_etcd_revision_reads_total",
        "Reads of etcd's revision",
        |m| m.asks.get(),
    ),
    (
        "navarch_etcd_revision_readers_total",
        "Reads that shared them",
        |m| m.asked.get(),
    ),
    (
        "navarch_etcd_compactions_total",
        "Compactions by this server",
        |m| m.compactions.get(),
    ),
];

/// How checks of cache and etcd ended, in upstream's words.
const CHECKS: &[(&str, Read<CollectionMetrics>)] = &[
    ("success", |m| m.checks_equal.get()),
    ("failure", |m| m.checks_different.get()),
    ("error", |m| m.checks_failed.get()),
];

type Family64<const N: usize> = Family<Labels<N>, Counter<u64, AtomicU64>>;

/// Registers everything; it is read when it is asked for.
pub fn register(metrics: &Metrics, storage: &Storage, registry: &Registry) {
    let mut collections: Vec<(Labels<2>, Arc<Collection>)> = Vec::new();
    for endpoint in registry.iter() {
        let known = |(_, c): &(_, Arc<Collection>)| Arc::ptr_eq(c, &endpoint.collection);
        if !collections.iter().any(known) {
            let (group, resource) = (endpoint.resource.group, endpoint.resource.name);
            let labels = [
                ("group", group.to_owned()),
                ("resource", resource.to_owned()),
            ];
            collections.push((labels, endpoint.collection.clone()));
        }
    }
    let stores: Vec<(Labels<1>, Store)> = storage
        .clusters
        .iter()
        .map(|c| ([("cluster", c.name.clone())], c.store.clone()))
        .collect();
    let collections = collections.into();
    metrics.register_collector(Timings {
        collections: Arc::clone(&collections),
        stores: stores.iter().map(|(_, store)| store.clone()).collect(),
        sizes: storage.clusters.iter().map(|c| c.size.clone()).collect(),
    });
    of_collections(metrics, &collections);
    of_answers(metrics, &collections);
    of_stores(metrics, &stores.into());
}

fn of_collections(metrics: &Metrics, collections: &Arc<[(Labels<2>, Arc<Collection>)]>) {
    for (name, help, count) in OF_COLLECTIONS {
        let (family, of) = (Family64::<2>::default(), Arc::clone(collections));
        metrics.register(name, help, family.clone());
        metrics.before_scrape(move || {
            for (labels, collection) in of.iter() {
                set(&family, labels, count(collection.metrics()));
            }
        });
    }
    for (name, help, amount) in AMOUNTS {
        let family = Family::<Labels<2>, Gauge>::default();
        let of = Arc::clone(collections);
        metrics.register(name, help, family.clone());
        metrics.before_scrape(move || {
            for (labels, collection) in of.iter() {
                family.get_or_create(labels).set(amount(collection));
            }
        });
    }
    let deprecated = metrics.registered(
        "apiserver_storage_objects",
        "Objects of a resource; -1 while they are not known. Deprecated: apiserver_resource_objects",
        Family::<Labels<1>, Gauge>::default(),
    );
    let of = Arc::clone(collections);
    metrics.before_scrape(move || {
        for (labels, collection) in of.iter() {
            let [(_, group), (_, resource)] = labels;
            let labels = [("resource", qualified(group, resource))];
            deprecated.get_or_create(&labels).set(objects(collection));
        }
    });
    let (checks, of) = (Family64::<3>::default(), Arc::clone(collections));
    metrics.register(
        "apiserver_storage_consistency_checks_total",
        "Comparisons of cache and etcd, by how they ended",
        checks.clone(),
    );
    metrics.before_scrape(move || {
        for ([group, resource], collection) in of.iter() {
            for (status, count) in CHECKS {
                let labels = [
                    group.clone(),
                    resource.clone(),
                    ("status", (*status).to_owned()),
                ];
                set(&checks, &labels, count(collection.metrics()));
            }
        }
    });
}

/// How reads were answered.
fn of_answers(metrics: &Metrics, collections: &Arc<[(Labels<2>, Arc<Collection>)]>) {
    let consistent = metrics.registered(
        "apiserver_watch_cache_consistent_read_total",
        "Reads as fresh as etcd, by who answered them",
        Family64::<4>::default(),
    );
    let lists = metrics.registered(
        "apiserver_storage_list_total",
        "Lists, by where they came from",
        Family64::<4>::default(),
    );
    let of = Arc::clone(collections);
    metrics.before_scrape(move || {
        for ([group, resource], collection) in of.iter() {
            let labels = |third, fourth| [third, group.clone(), resource.clone(), fourth];
            for ([fallback, success], count) in CONSISTENT {
                let fallback = ("fallback", (*fallback).to_owned());
                let labels = labels(fallback, ("success", (*success).to_owned()));
                set(&consistent, &labels, count(collection.metrics()));
            }
            for (storage, count) in LISTS {
                let storage = ("storage", (*storage).to_owned());
                let [index, group, resource, storage] = labels(("index", String::new()), storage);
                let labels = [group, index, resource, storage];
                set(&lists, &labels, count(collection.metrics()));
            }
        }
    });
}

fn of_stores(metrics: &Metrics, stores: &Arc<[(Labels<1>, Store)]>) {
    for (name, help, count) in OF_STORES {
        let (family, of) = (Family64::<1>::default(), Arc::clone(stores));
        metrics.register(name, help, family.clone());
        metrics.before_scrape(move || {
            for (labels, store) in of.iter() {
                set(&family, labels, count(store.metrics()));
            }
        });
    }
    let shortcoming = Family::<Labels<1>, Gauge>::default();
    metrics.register(
        "navarch_etcd_falls_short",
        "Whether etcd is too old for what this server makes use of; its log says what",
        shortcoming.clone(),
    );
    let of = Arc::clone(stores);
    metrics.before_scrape(move || {
        for (labels, store) in of.iter() {
            shortcoming
                .get_or_create(labels)
                .set(store.metrics().shortcoming.get());
        }
    });
}

/// What is counted elsewhere only grows, as a counter does.
fn set<const N: usize>(family: &Family64<N>, labels: &Labels<N>, count: u64) {
    family
        .get_or_create(labels)
        .inner()
        .store(count, Ordering::Relaxed);
}
