//! What is asked of etcd and what waits for caches, under upstream's names: made when they are asked for, since the stores count
//! without knowing who reads it (`storage/etcd3/metrics`, `storage/cacher/metrics`).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use component::metrics::Labels;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use store::metrics::{Operation, Reading, Requests};
use store::{Collection, Store};

type Collections = Arc<[(Labels<2>, Arc<Collection>)]>;
type Nothing = [(&'static str, &'static str); 0];

/// Of all collections and clusters.
pub(super) struct Timings {
    pub(super) collections: Collections,
    pub(super) stores: Vec<Store>,
    /// Sizes of databases in bytes, in the order of the clusters; less than 0 when it is not known.
    pub(super) sizes: Vec<Arc<AtomicI64>>,
}

impl fmt::Debug for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Timings")
    }
}

impl Collector for Timings {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let to = encoder.encode_descriptor(
            "etcd_request_duration_seconds",
            "How long requests to etcd took, by what was asked and for which resource",
            None,
            MetricType::Histogram,
        )?;
        self.requests(to, |to, _, reading| histogram(to, reading))?;
        let to = encoder.encode_descriptor(
            "etcd_requests",
            "Requests to etcd, by what was asked and for which resource",
            None,
            MetricType::Counter,
        )?;
        self.requests(to, |to, _, reading| counter(to, reading.count))?;
        let to = encoder.encode_descriptor(
            "etcd_request_errors",
            "Requests to etcd that failed",
            None,
            MetricType::Counter,
        )?;
        self.requests(to, |to, requests, _| counter(to, requests.failed.get()))?;
        self.waits(&mut encoder)?;
        self.leases(&mut encoder)?;
        self.sizes(&mut encoder)
    }
}

impl Timings {
    /// One sample for each kind of request that was made for a resource.
    fn requests(
        &self,
        mut to: MetricEncoder<'_>,
        encode: impl Fn(&mut MetricEncoder<'_>, &Requests, &Reading) -> fmt::Result,
    ) -> fmt::Result {
        for ([group, resource], collection) in self.collections.iter() {
            for operation in Operation::ALL {
                let requests = collection.metrics().of(operation);
                let Some(reading) = requests.took.read() else {
                    continue;
                };
                let labels = [
                    group.clone(),
                    ("operation", operation.name().to_owned()),
                    resource.clone(),
                ];
                encode(&mut to.encode_family(&labels)?, requests, &reading)?;
            }
        }
        Ok(())
    }

    fn waits(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = encoder.encode_descriptor(
            "apiserver_watch_cache_read_wait_seconds",
            "How long reads waited for a cache to be fresh enough",
            None,
            MetricType::Histogram,
        )?;
        for (labels, collection) in self.collections.iter() {
            if let Some(reading) = collection.metrics().read_wait.0.read() {
                histogram(&mut to.encode_family(labels)?, &reading)?;
            }
        }
        Ok(())
    }

    fn leases(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = encoder.encode_descriptor(
            "etcd_lease_object_counts",
            "Objects that one lease of etcd was given",
            None,
            MetricType::Histogram,
        )?;
        let all = self
            .stores
            .iter()
            .filter_map(|s| s.metrics().lease_objects.0.read());
        match all.reduce(sum) {
            Some(reading) => histogram(&mut to, &reading),
            None => Ok(()),
        }
    }

    fn sizes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = encoder.encode_descriptor(
            "apiserver_storage_size_bytes",
            "Bytes that the database of an etcd takes on disk",
            None,
            MetricType::Gauge,
        )?;
        for (number, size) in self.sizes.iter().enumerate() {
            let size = size.load(Ordering::Relaxed);
            if size >= 0 {
                let labels = [("storage_cluster_id", format!("etcd-{number}"))];
                to.encode_family(&labels)?.encode_gauge(&size)?;
            }
        }
        Ok(())
    }
}

fn histogram(to: &mut MetricEncoder<'_>, reading: &Reading) -> fmt::Result {
    to.encode_histogram::<Nothing>(reading.sum, reading.count, &reading.buckets, None)
}

fn counter(to: &mut MetricEncoder<'_>, count: u64) -> fmt::Result {
    to.encode_counter::<Nothing, u64, f64>(&count, None)
}

/// Two histograms with the same buckets as one.
fn sum(mut one: Reading, other: Reading) -> Reading {
    one.sum += other.sum;
    one.count += other.count;
    for ((_, count), (_, more)) in one.buckets.iter_mut().zip(other.buckets) {
        *count += more;
    }
    one
}
