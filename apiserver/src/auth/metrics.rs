//! What is counted of authentication and impersonation
//! (`apiserver/pkg/endpoints/filters/{metrics.go,impersonation/metrics}`).

use std::time::Instant;

use component::metrics::{Buckets, Counters, Histograms, Metrics};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::User;

/// From a millisecond on, each twice as long as the one before.
const SECONDS: Buckets = Buckets(&[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384,
]);

const RESULTS: [&str; 3] = ["success", "failure", "error"];

/// Users that are counted by name; all others by what their name looks like.
const NAMED: [&str; 5] = [
    "admin",
    "client",
    "kube_proxy",
    "kubelet",
    "system:serviceaccount:kube-system:default",
];

/// Attempts to say who asks.
pub(super) struct Attempts {
    total: [Counter; 3],
    durations: [Histogram; 3],
    named: [Counter; 5],
    mail: Counter,
    others: Counter,
}

impl Attempts {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let total = metrics.registered(
            "authentication_attempts",
            "Requests by whether it was found out who asks",
            Counters::<1>::default(),
        );
        let users = metrics.registered(
            "authenticated_user_requests",
            "Requests by what their users' names look like",
            Counters::<1>::default(),
        );
        let durations = metrics.registered(
            "authentication_duration_seconds",
            "How long it took to find out who asks",
            Histograms::<1>::new_with_constructor(SECONDS),
        );
        let result = |r: &str| [("result", r.to_owned())];
        let user = |name: &str| {
            users
                .get_or_create(&[("username", name.to_owned())])
                .clone()
        };
        Self {
            total: RESULTS.map(|r| total.get_or_create(&result(r)).clone()),
            durations: RESULTS.map(|r| durations.get_or_create(&result(r)).clone()),
            named: NAMED.map(user),
            mail: user("email_id"),
            others: user("other"),
        }
    }

    pub(super) fn note(&self, found: &Result<Option<User>, String>, started: Instant) {
        let result = match found {
            Ok(Some(user)) => {
                self.of(&user.name).inc();
                0
            }
            Ok(None) => 1,
            Err(_) => 2,
        };
        self.total[result].inc();
        self.durations[result].observe(started.elapsed().as_secs_f64());
    }

    fn of(&self, name: &str) -> &Counter {
        match NAMED.iter().position(|n| *n == name) {
            Some(i) => &self.named[i],
            None if name.contains('@') => &self.mail,
            None => &self.others,
        }
    }
}

/// What is counted of those who ask as somebody else, by the way in which they may.
pub struct Impersonations {
    attempts: Counters<2>,
    durations: Histograms<2>,
    questions: Counters<2>,
    question_durations: Histograms<2>,
}

impl Impersonations {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let name = |what: &str| format!("apiserver_impersonation_{what}");
        Self {
            attempts: metrics.registered(
                &name("attempts_total"),
                "Attempts to ask as somebody else",
                Counters::default(),
            ),
            durations: metrics.registered(
                &name("attempts_duration_seconds"),
                "How long attempts to ask as somebody else took",
                Histograms::new_with_constructor(SECONDS),
            ),
            questions: metrics.registered(
                &name("authorization_attempts_total"),
                "Questions that attempts to ask as somebody else led to",
                Counters::default(),
            ),
            question_durations: metrics.registered(
                &name("authorization_attempts_duration_seconds"),
                "How long such questions took",
                Histograms::new_with_constructor(SECONDS),
            ),
        }
    }

    /// An attempt: the constraint under which it succeeded, if it did.
    pub fn attempted(&self, constraint: Option<&str>, started: Instant) {
        let labels = match constraint {
            Some("") => labels("legacy", true),
            Some(verb) => labels(way(verb), true),
            None => labels("", false),
        };
        self.attempts.get_or_create(&labels).inc();
        let took = started.elapsed().as_secs_f64();
        self.durations.get_or_create(&labels).observe(took);
    }

    /// A question on the way.
    pub fn asked(&self, verb: &str, allowed: bool, started: Instant) {
        let labels = labels(way(verb), allowed);
        self.questions.get_or_create(&labels).inc();
        let took = started.elapsed().as_secs_f64();
        self.question_durations.get_or_create(&labels).observe(took);
    }
}

fn labels(mode: &str, allowed: bool) -> [(&'static str, String); 2] {
    let decision = if allowed { "allowed" } else { "denied" };
    [("mode", mode.to_owned()), ("decision", decision.to_owned())]
}

/// The way that a verb is of; clients cannot make up others.
fn way(verb: &str) -> &'static str {
    const WAYS: [&str; 4] = [
        "associated-node",
        "arbitrary-node",
        "serviceaccount",
        "user-info",
    ];
    if verb == "impersonate" {
        return "legacy";
    }
    let rest = verb.strip_prefix("impersonate:").or_else(|| {
        let (way, _) = verb.strip_prefix("impersonate-on:")?.split_once(':')?;
        Some(way)
    });
    WAYS.into_iter()
        .find(|w| Some(*w) == rest)
        .unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_is_of_a_way() {
        for (verb, wanted) in [
            ("impersonate", "legacy"),
            ("impersonate:user-info", "user-info"),
            ("impersonate-on:associated-node:list", "associated-node"),
            ("impersonate-on:associated-node", "unknown"),
            ("impersonate:x", "unknown"),
            ("get", "unknown"),
        ] {
            assert_eq!(way(verb), wanted, "{verb}");
        }
    }
}
