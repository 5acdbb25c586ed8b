//! `/healthz` and `/livez` at port 10256: whether the rules follow, and whether the node is to get traffic.
//!
//! Source: `pkg/proxy/healthcheck/proxy_health.go`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use parking_lot::Mutex;

use crate::metrics::Metrics;
use crate::nft::Family;

/// Whether rules follow changes; cheap to clone.
#[derive(Clone)]
pub(crate) struct ProxyHealth {
    shared: Arc<Shared>,
}

struct Shared {
    /// How long a change may wait.
    patience: Duration,
    metrics: Metrics,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    families: BTreeMap<Family, Times>,
    /// Whether load balancers shall send traffic to the node.
    eligible: bool,
}

#[derive(Clone, Copy)]
struct Times {
    updated: SystemTime,
    /// When the oldest change that is not in the rules was asked for.
    queued: Option<SystemTime>,
}

impl ProxyHealth {
    pub(crate) fn new(patience: Duration, metrics: Metrics) -> Self {
        Self {
            shared: Arc::new(Shared {
                patience,
                metrics,
                state: Mutex::default(),
            }),
        }
    }

    /// A change waits.
    pub(crate) fn queued(&self, family: Family) {
        let mut state = self.shared.state.lock();
        if let Some(times) = state.families.get_mut(&family) {
            times.queued.get_or_insert_with(SystemTime::now);
        }
    }

    /// The rules are as wanted.
    pub(crate) fn updated(&self, family: Family) {
        let times = Times {
            updated: SystemTime::now(),
            queued: None,
        };
        self.shared.state.lock().families.insert(family, times);
    }

    /// The node is to get traffic, or not (it is being deleted).
    pub(crate) fn set_eligible(&self, eligible: bool) {
        self.shared.state.lock().eligible = eligible;
    }

    pub(crate) fn is_healthy(&self) -> bool {
        let now = SystemTime::now();
        let state = self.shared.state.lock();
        state
            .families
            .values()
            .all(|times| self.is_timely(times, now))
    }

    fn is_timely(&self, times: &Times, now: SystemTime) -> bool {
        let waits = |queued| now.duration_since(queued).unwrap_or_default();
        times
            .queued
            .is_none_or(|queued| waits(queued) < self.shared.patience)
    }

    /// The answer to a path; none for others.
    pub(crate) fn answer(&self, path: &str) -> Option<(StatusCode, serde_json::Value)> {
        if !matches!(path, "/healthz" | "/livez") {
            return None;
        }
        let now = SystemTime::now();
        let healthy = self.is_healthy();
        let state = self.shared.state.lock();
        let served = healthy && (path == "/livez" || state.eligible);
        let code = if served {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let newest = state.families.values().map(|times| times.updated).max();
        let last = if served { Some(now) } else { newest };
        let status = state.families.iter().map(|(family, times)| {
            let health = serde_json::json!({
                "lastUpdated": rfc3339(Some(times.updated)),
                "healthy": self.is_timely(times, now),
            });
            (family.name().to_owned(), health)
        });
        let mut answer = serde_json::json!({
            "lastUpdated": rfc3339(last),
            "currentTime": rfc3339(Some(now)),
            "healthy": healthy,
        });
        let status: serde_json::Map<_, _> = status.collect();
        if !status.is_empty() {
            answer["status"] = status.into();
        }
        if path == "/healthz" {
            answer["nodeEligible"] = state.eligible.into();
        }
        self.shared.metrics.answered(path, code);
        Some((code, answer))
    }
}

fn rfc3339(time: Option<SystemTime>) -> String {
    let since = time.and_then(|t| t.duration_since(SystemTime::UNIX_EPOCH).ok());
    match since {
        None => "0001-01-01T00:00:00Z".to_owned(),
        Some(since) => {
            let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
            proto::time::print_micro_time(seconds, since.subsec_nanos().cast_signed())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(patience: Duration) -> ProxyHealth {
        let registry = component::metrics::Metrics::new();
        ProxyHealth::new(patience, Metrics::new(&registry))
    }

    fn code(health: &ProxyHealth, path: &str) -> u16 {
        health.answer(path).unwrap().0.as_u16()
    }

    #[test]
    fn a_node_that_goes_away_is_alive_and_gets_no_traffic() {
        let health = health(Duration::from_secs(60));
        health.updated(Family::Ipv4);
        assert_eq!(
            (code(&health, "/healthz"), code(&health, "/livez")),
            (503, 200)
        );
        health.set_eligible(true);
        assert_eq!(
            (code(&health, "/healthz"), code(&health, "/livez")),
            (200, 200)
        );
        let (_, answer) = health.answer("/healthz").unwrap();
        assert_eq!(answer["nodeEligible"], true);
        assert_eq!(answer["status"]["IPv4"]["healthy"], true);
        assert!(
            health
                .answer("/livez")
                .unwrap()
                .1
                .get("nodeEligible")
                .is_none()
        );
        assert!(health.answer("/readyz").is_none());
    }

    #[test]
    fn a_change_that_waits_too_long_is_unhealthy_until_it_is_done() {
        let health = health(Duration::ZERO);
        health.set_eligible(true);
        health.updated(Family::Ipv4);
        health.updated(Family::Ipv6);
        health.queued(Family::Ipv6);
        let (status, answer) = health.answer("/livez").unwrap();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer["status"]["IPv4"]["healthy"], true);
        assert_eq!(answer["status"]["IPv6"]["healthy"], false);
        health.updated(Family::Ipv6);
        assert_eq!(code(&health, "/healthz"), 200);
    }
}
