//! The authorizer that asks a server: a `SubjectAccessReview` is posted, its status is the decision.
//! Match conditions say whether it is asked at all ([`super::conditions`]).
//!
//! Answers are remembered for a while, so that the same question is not asked for each request. If
//! there is no answer, the failure policy says whether that is a no or no opinion. Upstream:
//! `apiserver/plugin/pkg/authorizer/webhook`.

use std::time::{Duration, Instant};

use component::Supervisor;
use component::client::ConfigError;
use component::metrics::{Buckets, Counters, Histograms, Metrics};
use component::recent::Recent;
use parking_lot::Mutex;
use prometheus_client::metrics::family::Family;
use ring::digest;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::conditions::{self, Conditions};
use super::config::{Version, WebhookSettings};
use super::selectors::{self, Requirement};
use super::{Attributes, Decision, Outcome};
use crate::webhook::{self, Call, Review};

pub const NO_RULES: &str = "webhook authorizer does not support user rule resolution";
/// Answers that are remembered.
const ANSWERS: usize = 8192;
/// Questions that are longer are not remembered: whoever asks decides how long they are.
const LONGEST: usize = 10_000;

/// The authorizer.
pub struct Webhook {
    name: String,
    hook: webhook::Webhook,
    version: Version,
    /// Allowed, and everything else.
    remembered_for: (Duration, Duration),
    fail_closed: bool,
    conditions: Conditions,
    known: Mutex<Recent<Digest, (Instant, Status)>>,
    counted: Counted,
}

type Digest = [u8; 32];

#[derive(Deserialize, Clone, Default, Debug)]
#[serde(default)]
struct Status {
    allowed: bool,
    denied: bool,
    reason: String,
}

impl Webhook {
    /// # Errors
    /// If its kubeconfig cannot be used.
    pub fn open(
        name: &str,
        settings: &WebhookSettings,
        tasks: &Supervisor,
        metrics: &Metrics,
        counted: Counted,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            name: name.to_owned(),
            hook: webhook::Webhook::open(&settings.kubeconfig, settings.timeout, tasks, metrics)?,
            version: settings.version,
            remembered_for: (settings.authorized_ttl, settings.unauthorized_ttl),
            fail_closed: settings.fail_closed,
            conditions: settings.conditions.clone(),
            known: Mutex::new(Recent::new(ANSWERS)),
            counted,
        })
    }

    /// What the server says.
    pub async fn ask(&self, asked: &Attributes<'_>) -> Outcome {
        let held = { &self.conditions }.hold(asked, &self.name, &self.counted.conditions);
        match held {
            Ok(true) => {}
            Ok(false) => return decision(Status::default()),
            Err(error) => {
                let name = &self.name;
                tracing::error!(authorizer = name, %error, "Match conditions cannot be evaluated");
                return self.undecided(error);
            }
        }
        let spec = spec(asked, self.version);
        let mut key = [0; 32];
        key.copy_from_slice(digest::digest(&digest::SHA256, spec.to_string().as_bytes()).as_ref());
        let known = self.known.lock().get(&key).cloned();
        let status = match known.filter(|(until, _)| *until > Instant::now()) {
            Some((_, status)) => status,
            None => match self.review(&spec).await {
                Ok(status) => {
                    self.remember(key, asked, &status);
                    status
                }
                Err(error) => return self.failed(&error),
            },
        };
        decision(status)
    }

    async fn review(&self, spec: &Value) -> Result<Status, webhook::Error> {
        let review = Review {
            api_version: self.version.api_version(),
            kind: "SubjectAccessReview",
            spec,
        };
        let answer = self
            .hook
            .ask(&review, |call| self.counted.note(&self.name, call));
        let status = answer.await?.get("status").cloned().unwrap_or_default();
        if status.is_null() {
            return Ok(Status::default());
        }
        serde_json::from_value(status).map_err(|e| webhook::Error::Answer {
            expected: "SubjectAccessReview".to_owned(),
            problem: e.to_string(),
        })
    }

    fn remember(&self, key: Digest, asked: &Attributes<'_>, status: &Status) {
        let ttl = if status.allowed {
            self.remembered_for.0
        } else {
            self.remembered_for.1
        };
        let controlled = [
            asked.namespace,
            asked.verb,
            asked.group,
            asked.version,
            asked.resource,
            asked.subresource,
            asked.name,
            asked.path,
        ];
        let length: usize = controlled.iter().map(|text| text.len()).sum();
        if !ttl.is_zero() && length < LONGEST {
            let until = Instant::now() + ttl;
            self.known.lock().insert(key, (until, status.clone()));
        }
    }

    fn failed(&self, error: &webhook::Error) -> Outcome {
        tracing::error!(authorizer = self.name, %error, "The webhook gives no decision");
        let result = if error.is_timeout() {
            "timeout"
        } else {
            "error"
        };
        if !self.fail_closed {
            self.counted.failed_open(&self.name, result);
        }
        self.undecided(error.to_string())
    }

    /// What the failure policy says.
    fn undecided(&self, error: String) -> Outcome {
        let decision = if self.fail_closed {
            Decision::Deny(String::new())
        } else {
            Decision::NoOpinion(String::new())
        };
        Outcome {
            decision,
            reason: String::new(),
            error: Some(error),
        }
    }
}

fn decision(status: Status) -> Outcome {
    let Status {
        allowed,
        denied,
        reason,
    } = status;
    let both = "webhook subject access review returned both allow and deny response";
    let error = (allowed && denied).then(|| both.to_owned());
    let (decision, reason) = match (denied, allowed) {
        (true, _) => (Decision::Deny(reason), String::new()),
        (false, true) => (Decision::Allow, reason),
        (false, false) => (Decision::NoOpinion(reason), String::new()),
    };
    Outcome {
        decision,
        reason,
        error,
    }
}

/// An object of those fields that are not empty.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let given = fields.into_iter().filter(|(_, value)| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    });
    Value::Object(given.map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>())
}

/// The question as upstream's `SubjectAccessReviewSpec`.
fn spec(asked: &Attributes<'_>, version: Version) -> Value {
    let (resource, path) = if asked.is_resource {
        let resource = object([
            ("namespace", asked.namespace.into()),
            ("verb", asked.verb.into()),
            ("group", asked.group.into()),
            ("version", asked.version.into()),
            ("resource", asked.resource.into()),
            ("subresource", asked.subresource.into()),
            ("name", asked.name.into()),
            (
                "fieldSelector",
                requirements(selectors::fields(asked.field_selector)),
            ),
            (
                "labelSelector",
                requirements(selectors::labels(asked.label_selector)),
            ),
        ]);
        (resource, Value::Null)
    } else {
        let path = object([("path", asked.path.into()), ("verb", asked.verb.into())]);
        (Value::Null, path)
    };
    let groups = match version {
        Version::V1 => "groups",
        Version::V1beta1 => "group",
    };
    object([
        ("resourceAttributes", resource),
        ("nonResourceAttributes", path),
        ("user", asked.user.name.as_str().into()),
        (groups, json!(asked.user.groups)),
        ("extra", json!(asked.user.extra)),
        ("uid", asked.user.uid.as_str().into()),
    ])
}

fn requirements(all: Vec<Requirement>) -> Value {
    let requirement = |of: Requirement| {
        object([
            ("key", of.key.into()),
            ("operator", of.operator.into()),
            ("values", json!(of.values)),
        ])
    };
    let all = all.into_iter().map(requirement).collect();
    object([("requirements", Value::Array(all))])
}

/// Prometheus' default buckets.
const SECONDS: Buckets = Buckets(&[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
]);

/// What is counted of webhooks; cheap to clone.
#[derive(Clone)]
pub struct Counted {
    evaluations: Counters<2>,
    fail_open: Counters<2>,
    durations: Histograms<2>,
    conditions: conditions::Counted,
}

impl Counted {
    #[must_use]
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            evaluations: metrics.registered(
                "apiserver_authorization_webhook_evaluations_total",
                "Calls of authorization webhooks",
                Family::default(),
            ),
            fail_open: metrics.registered(
                "apiserver_authorization_webhook_evaluations_fail_open_total",
                "Requests that went on to the next authorizer because a webhook gave no answer",
                Family::default(),
            ),
            durations: metrics.registered(
                "apiserver_authorization_webhook_duration_seconds",
                "How long calls of authorization webhooks took",
                Family::new_with_constructor(SECONDS),
            ),
            conditions: conditions::Counted::register(metrics),
        }
    }

    fn note(&self, name: &str, call: &Call) {
        let labels = [
            ("name", name.to_owned()),
            ("result", call.result.to_owned()),
        ];
        self.evaluations.get_or_create(&labels).inc();
        let took = call.took.as_secs_f64();
        self.durations.get_or_create(&labels).observe(took);
    }

    fn failed_open(&self, name: &str, result: &str) {
        let labels = [("name", name.to_owned()), ("result", result.to_owned())];
        self.fail_open.get_or_create(&labels).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::User;

    fn user() -> User {
        User {
            name: "ann".into(),
            uid: "u".into(),
            groups: vec!["dev".into()],
            extra: [("k".to_owned(), vec!["v".to_owned()])].into(),
        }
    }

    #[test]
    fn a_question_has_what_is_not_empty_and_the_selectors() {
        let user = user();
        let asked = Attributes {
            namespace: "ns",
            field_selector: "spec.nodeName=n1,status.phase!=Failed",
            label_selector: "a in (x,y),!b",
            ..Attributes::about(&user, "list", "", "v1", "pods")
        };
        let wanted = json!({
            "resourceAttributes": {
                "namespace": "ns", "verb": "list", "version": "v1", "resource": "pods",
                "fieldSelector": {"requirements": [
                    {"key": "spec.nodeName", "operator": "In", "values": ["n1"]},
                    {"key": "status.phase", "operator": "NotIn", "values": ["Failed"]},
                ]},
                "labelSelector": {"requirements": [
                    {"key": "a", "operator": "In", "values": ["x", "y"]},
                    {"key": "b", "operator": "DoesNotExist"},
                ]},
            },
            "user": "ann", "groups": ["dev"], "extra": {"k": ["v"]}, "uid": "u",
        });
        assert_eq!(spec(&asked, Version::V1), wanted);
        let broken = Attributes {
            field_selector: "a",
            label_selector: "a in",
            ..asked
        };
        let attributes = &spec(&broken, Version::V1)["resourceAttributes"];
        assert_eq!(attributes["fieldSelector"], Value::Null);
        assert_eq!(attributes["labelSelector"], Value::Null);
    }

    #[test]
    fn the_older_version_has_another_name_for_groups() {
        let user = user();
        let asked = Attributes {
            is_resource: false,
            path: "/metrics",
            ..Attributes::about(&user, "get", "", "", "")
        };
        let spec = spec(&asked, Version::V1beta1);
        assert_eq!(spec["group"], json!(["dev"]));
        assert_eq!(spec["groups"], Value::Null);
        assert_eq!(
            spec["nonResourceAttributes"],
            json!({"path": "/metrics", "verb": "get"})
        );
    }

    #[test]
    fn a_no_wins_over_a_yes_in_one_answer() {
        let of = |allowed, denied| {
            decision(Status {
                allowed,
                denied,
                reason: "why".into(),
            })
        };
        assert_eq!(of(true, false).decision, Decision::Allow);
        assert_eq!(of(true, false).reason, "why");
        assert_eq!(of(false, true).decision, Decision::Deny("why".into()));
        assert_eq!(of(false, false).decision, Decision::NoOpinion("why".into()));
        let both = of(true, true);
        assert_eq!(both.decision, Decision::Deny("why".into()));
        assert!(both.error.is_some());
    }
}
