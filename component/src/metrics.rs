//! What a daemon counts, under upstream's names, as Prometheus reads it.
//!
//! Owns the registry and the families that more than one module feeds. A daemon makes one
//! [`Metrics`], hands it to its client and its queues, and registers its own beside them.
//!
//! Counters are registered without `_total`, which the encoder adds.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use crate::compatibility::EffectiveVersion;
use crate::features::Features;
use crate::version;

mod client;
pub(crate) mod plugin;
mod process;
mod queue;
mod text;

pub use client::Requests;
pub use plugin::Plugins;
pub use queue::{QueueMetrics, Queues};

/// The media type of the answer in either form.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Prometheus' older text form, which is upstream's default.
pub const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// Label names and values, in the order in which they are printed.
pub type Labels<const N: usize> = [(&'static str, String); N];

/// A histogram whose buckets are a constant.
#[derive(Clone, Copy, Debug)]
pub struct Buckets(pub &'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// A family of histograms.
pub type Histograms<const N: usize> = Family<Labels<N>, Histogram, Buckets>;
/// A family of counters.
pub type Counters<const N: usize> = Family<Labels<N>, Counter>;
/// A family of gauges.
pub type Gauges<const N: usize> = Family<Labels<N>, Gauge>;

/// The registry of a daemon and the metrics that everything in it shares; cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Mutex<Registry>,
    refresh: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
    disabled: Vec<String>,
    requests: Requests,
    plugins: Plugins,
    queues: Queues,
    leader: Gauges<1>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A registry with what every daemon has: the process, the build, the client, the work queues.
    #[must_use]
    pub fn new() -> Self {
        Self::without(Vec::new())
    }

    /// The same, leaving out metrics by name (`--disabled-metrics`).
    #[must_use]
    pub fn without(disabled: Vec<String>) -> Self {
        let inner = Inner {
            registry: Mutex::default(),
            refresh: Mutex::default(),
            disabled,
            requests: Requests::default(),
            plugins: Plugins::default(),
            queues: Queues::default(),
            leader: Family::default(),
        };
        let metrics = Self {
            inner: Arc::new(inner),
        };
        metrics
            .inner
            .registry
            .lock()
            .register_collector(Box::new(process::Process));
        metrics.inner.requests.register(&metrics);
        metrics.inner.plugins.register(&metrics);
        metrics.inner.queues.register(&metrics);
        metrics.register(
            "leader_election_master_status",
            "Whether the process holds the lease of that name",
            metrics.inner.leader.clone(),
        );
        metrics.register(
            "kubernetes_build_info",
            "The build, with the constant value 1",
            build_info(),
        );
        metrics
    }

    /// Registers a metric. Upstream's name for it, if upstream has it; no full stop after the help.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        let full = name.strip_suffix("_total").unwrap_or(name);
        if !self
            .inner
            .disabled
            .iter()
            .any(|d| d.strip_suffix("_total").unwrap_or(d) == full)
        {
            self.inner.registry.lock().register(full, help, metric);
        }
    }

    /// [`Metrics::register`] for a metric that is made for it: gives it back to whoever counts.
    pub fn registered<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.register(name, help, metric.clone());
        metric
    }

    /// Registers metrics that are made when they are asked for.
    pub fn register_collector(&self, collector: impl Collector) {
        self.inner
            .registry
            .lock()
            .register_collector(Box::new(collector));
    }

    /// Calls `refresh` before each answer, for gauges that nobody writes otherwise.
    pub fn before_scrape(&self, refresh: impl Fn() + Send + Sync + 'static) {
        self.inner.refresh.lock().push(Box::new(refresh));
    }

    /// `kubernetes_feature_enabled`: the gates that are on.
    pub fn features(&self, features: &Features) {
        let enabled = Gauges::<2>::default();
        let version = features.version();
        for gate in proto::catalogue::gates() {
            // Before there is such a gate, nothing is said of it.
            let Some(spec) = version.spec(gate) else {
                continue;
            };
            let stage = match spec.stage {
                proto::catalogue::GateStage::Alpha => "ALPHA",
                proto::catalogue::GateStage::Beta => "BETA",
                proto::catalogue::GateStage::Stable => "",
                proto::catalogue::GateStage::Deprecated => "DEPRECATED",
            };
            let labels = [("name", gate.name.to_owned()), ("stage", stage.to_owned())];
            enabled
                .get_or_create(&labels)
                .set(features.enabled(gate.name).into());
        }
        self.register(
            "kubernetes_feature_enabled",
            "Whether a feature gate is on, with its stage",
            enabled,
        );
    }

    /// `version_info`: the release that the daemon is of, and the one that it behaves like.
    pub fn compatibility(&self, version: EffectiveVersion) {
        let info = Gauges::<4>::default();
        let labels = [
            ("component", crate::compatibility::COMPONENT.to_owned()),
            (
                "binary",
                version::KUBERNETES.trim_start_matches('v').to_owned(),
            ),
            ("emulation", version.emulation.to_string()),
            ("min_compat", version.min_compatibility.to_string()),
        ];
        info.get_or_create(&labels).set(1);
        let help = "Which release the daemon is of, behaves like, and is compatible with";
        self.register("version_info", help, info);
    }

    /// All metrics in the form that the `Accept` header asks for, and its media type.
    #[must_use]
    pub fn answer(&self, accept: &str) -> (&'static str, String) {
        for refresh in self.inner.refresh.lock().iter() {
            refresh();
        }
        exposition(&self.inner.registry.lock(), accept)
    }

    /// What clients of this process ask.
    #[must_use]
    pub fn requests(&self) -> &Requests {
        &self.inner.requests
    }

    /// What the credential plugins of its clients give.
    #[must_use]
    pub fn plugins(&self) -> &Plugins {
        &self.inner.plugins
    }

    /// What its work queues do.
    #[must_use]
    pub fn queues(&self) -> &Queues {
        &self.inner.queues
    }

    /// Says whether the process holds the lease `name`.
    pub fn leading(&self, name: &str, leading: bool) {
        self.inner
            .leader
            .get_or_create(&[("name", name.to_owned())])
            .set(leading.into());
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// What is in a registry, in the form that the `Accept` header asks for, and its media type.
pub(crate) fn exposition(registry: &Registry, accept: &str) -> (&'static str, String) {
    let mut text = String::new();
    // Writing to a string does not fail, and a metric that cannot say itself is left out.
    let _ = prometheus_client::encoding::text::encode(&mut text, registry);
    // Infinity as both forms write it.
    let text = text.replace(" inf\n", " +Inf\n");
    if accept.contains("application/openmetrics-text") {
        (OPENMETRICS, text)
    } else {
        (TEXT, text::classic(&text))
    }
}

/// Registers since when the process runs, and nothing else of it.
pub(crate) fn register_start_time(registry: &mut Registry) {
    registry.register_collector(Box::new(process::Start));
}

fn build_info() -> Gauges<9> {
    let info = version::info();
    let build = Gauges::<9>::default();
    let labels = [
        ("major", info.major.to_owned()),
        ("minor", info.minor.to_owned()),
        ("git_version", info.git_version.to_owned()),
        ("git_commit", info.git_commit.to_owned()),
        ("git_tree_state", info.git_tree_state.to_owned()),
        ("build_date", info.build_date.to_owned()),
        ("go_version", info.go_version.to_owned()),
        ("compiler", info.compiler.to_owned()),
        ("platform", info.platform),
    ];
    build.get_or_create(&labels).set(1);
    build
}

#[cfg(test)]
mod tests;
