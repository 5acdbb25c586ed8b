//! `/metrics/slis`: how the checks of health ended, which is what a component's availability is computed from.
//!
//! KEP-3466; upstream's `component-base/metrics/prometheus/slis`. Only checks that somebody asked for by one of the whole paths
//! are counted, as upstream counts them.

use std::sync::Arc;

use http::{Method, StatusCode};
use prometheus_client::registry::Registry;

use super::{Response, exposed, text};
use crate::metrics::{self, Counters, Gauges};

/// Counts how checks ended; cheap to clone.
#[derive(Clone)]
pub struct Results {
    inner: Arc<Inner>,
}

struct Inner {
    /// By check and path: 1 if it went well the last time.
    last: Gauges<2>,
    /// By check, path and how it ended.
    all: Counters<3>,
    registry: Registry,
}

impl Default for Results {
    fn default() -> Self {
        let (last, all) = (Gauges::default(), Counters::default());
        let mut registry = Registry::default();
        let help = "How a check of health ended the last time: 1 is well";
        registry.register("kubernetes_healthcheck", help, Gauges::clone(&last));
        let help = "How checks of health ended";
        registry.register("kubernetes_healthchecks", help, Counters::clone(&all));
        metrics::register_start_time(&mut registry);
        let inner = Inner {
            last,
            all,
            registry,
        };
        Self {
            inner: Arc::new(inner),
        }
    }
}

impl Results {
    /// Notes how a check of `/healthz`, `/livez` or `/readyz` ended.
    pub(super) fn note(&self, check: &str, endpoint: &str, well: bool) {
        let [name, kind] = [("name", check.to_owned()), ("type", endpoint.to_owned())];
        let status = if well { "success" } else { "error" };
        let ended = [name.clone(), ("status", status.to_owned()), kind.clone()];
        self.inner.all.get_or_create(&ended).inc();
        self.inner
            .last
            .get_or_create(&[name, kind])
            .set(well.into());
    }

    /// Answers with all of it; a DELETE begins anew.
    #[must_use]
    pub fn serve<B>(&self, request: &http::Request<B>) -> Response {
        if *request.method() == Method::DELETE {
            self.reset();
            return text(StatusCode::OK, "metrics reset\n");
        }
        exposed(request, |accept| self.answer(accept))
    }

    fn answer(&self, accept: &str) -> (&'static str, String) {
        metrics::exposition(&self.inner.registry, accept)
    }

    fn reset(&self) {
        self.inner.last.clear();
        self.inner.all.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_of_a_check_is_counted_and_the_last_one_shown() {
        let results = Results::default();
        results.note("ping", "livez", false);
        results.note("ping", "livez", true);
        let (_, text) = results.answer("");
        for line in [
            "kubernetes_healthcheck{name=\"ping\",type=\"livez\"} 1\n",
            "kubernetes_healthchecks_total{name=\"ping\",status=\"error\",type=\"livez\"} 1\n",
            "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"livez\"} 1\n",
            "process_start_time_seconds ",
        ] {
            assert!(text.contains(line), "{text}");
        }
        results.reset();
        let (_, text) = results.answer("");
        assert!(!text.contains("ping"), "{text}");
    }
}
