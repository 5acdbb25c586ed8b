//! What auditing counts, under upstream's names (`apiserver/pkg/audit/metrics.go`).

use component::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::policy::Level;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Counters {
    events: Counter,
    errors: Family<[(&'static str, &'static str); 1], Counter>,
    levels: Family<[(&'static str, &'static str); 1], Counter>,
    rejected: Counter,
}

impl Counters {
    pub(super) fn register(metrics: &Metrics) -> Self {
        Self {
            events: metrics.registered(
                "apiserver_audit_event_total",
                "Audit events that were generated and sent to the backend",
                Counter::default(),
            ),
            errors: metrics.registered(
                "apiserver_audit_error_total",
                "Audit events that were not recorded, by what failed",
                Family::default(),
            ),
            levels: metrics.registered(
                "apiserver_audit_level_total",
                "Requests by the level that the policy has for them",
                Family::default(),
            ),
            rejected: metrics.registered(
                "apiserver_audit_requests_rejected_total",
                "Requests that were refused because they could not be recorded",
                Counter::default(),
            ),
        }
    }

    /// A request was looked up in the policy.
    pub(super) fn level(&self, level: Level) {
        self.levels.get_or_create(&[("level", level.name())]).inc();
    }

    pub(super) fn event(&self) {
        self.events.inc();
    }

    /// Events were lost in `plugin`: `log`, `webhook`, `buffered` or `truncate`.
    pub(super) fn lost(&self, plugin: &'static str, events: usize) {
        let counter = self.errors.get_or_create(&[("plugin", plugin)]);
        counter.inc_by(events as u64);
    }

    pub(super) fn rejected(&self) {
        self.rejected.inc();
    }
}
