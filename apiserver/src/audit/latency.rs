//! What the time of a request was spent on, which is told of one that took long.
//!
//! Upstream: `apiserver/pkg/endpoints/request/webhook_duration.go`, `writeLatencyToAnnotation`.

use std::time::Duration;

/// A request that takes longer says what its time was spent on.
const LONG: Duration = Duration::from_millis(500);
const TOTAL: &str = "apiserver.latency.k8s.io/total";

/// A part of the work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    Authentication,
    Impersonation,
    /// Until it was the request's turn.
    Queue,
    Authorization,
    /// Until etcd, or a cache that follows it, had answered.
    Storage,
    /// One after the other.
    MutatingWebhook,
    /// At the same time: the longest counts.
    ValidatingWebhook,
}

/// In the order of the parts.
const KEYS: [&str; 7] = [
    "apiserver.latency.k8s.io/authentication",
    "apiserver.latency.k8s.io/impersonation",
    "apiserver.latency.k8s.io/apf-queue-wait",
    "apiserver.latency.k8s.io/authorization",
    "apiserver.latency.k8s.io/etcd",
    "apiserver.latency.k8s.io/mutating-webhook",
    "apiserver.latency.k8s.io/validating-webhook",
];

/// How long each part took so far.
#[derive(Default)]
pub(super) struct Spent([Duration; KEYS.len()]);

impl Spent {
    pub(super) fn add(&mut self, part: Part, took: Duration) {
        let spent = &mut self.0[part as usize];
        *spent = match part {
            Part::ValidatingWebhook => took.max(*spent),
            _ => took + *spent,
        };
    }

    /// The annotations of a request that took `total`: of a short one, none.
    pub(super) fn told(&self, total: Duration) -> Vec<(&'static str, String)> {
        if total <= LONG {
            return Vec::new();
        }
        let parts = KEYS.into_iter().zip(self.0);
        let mut told: Vec<_> = parts
            .filter(|(_, took)| !took.is_zero())
            .chain([(TOTAL, total)])
            .map(|(key, took)| (key, text(took)))
            .collect();
        if told.len() == 1 {
            told.clear();
        }
        told
    }
}

/// As Go prints durations.
fn text(of: Duration) -> String {
    proto::time::Duration(i64::try_from(of.as_nanos()).unwrap_or(i64::MAX)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_took_long_says_what_took_it() {
        let mut spent = Spent::default();
        let ms = Duration::from_millis;
        assert!(spent.told(ms(900)).is_empty(), "nothing is known");
        spent.add(Part::Storage, ms(300));
        spent.add(Part::Storage, ms(300));
        spent.add(Part::Authentication, ms(1));
        spent.add(Part::ValidatingWebhook, ms(3));
        spent.add(Part::ValidatingWebhook, ms(2));
        assert!(spent.told(ms(500)).is_empty());
        let told = spent.told(ms(1501));
        let told: Vec<_> = told.iter().map(|(key, took)| (*key, &**took)).collect();
        assert_eq!(
            told,
            [
                ("apiserver.latency.k8s.io/authentication", "1ms"),
                ("apiserver.latency.k8s.io/etcd", "600ms"),
                ("apiserver.latency.k8s.io/validating-webhook", "3ms"),
                ("apiserver.latency.k8s.io/total", "1.501s"),
            ]
        );
    }
}
