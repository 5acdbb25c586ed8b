//! `EventRateLimit`: events come no faster than the configuration allows, to the server, into a
//! namespace, from a user, or about one object from one source.
//!
//! Upstream: `plugin/pkg/admission/eventratelimit`. Like there, events of the group `events.k8s.io` are
//! not counted.

use std::time::Instant;

use component::bucket::{Bucket, Rate};
use component::config::Versioned;
use component::recent::Recent;
use parking_lot::Mutex;
use proto::path::FieldError;
use proto::view::core_v1::Event;
use proto::view::{Node, View};
use resources::status::Failure;
use serde::Deserialize;

use super::config::Refused;
use super::{Attributes, Plugin, WRITES};
use crate::server::Server;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "EventRateLimit",
    operations: WRITES,
    configure: Some(|state, told, _| {
        state.event_limits = limits(told)?;
        Ok(())
    }),
    validate: Some(|server, write| Box::pin(std::future::ready(validate(server, write)))),
    ..Plugin::OFF
};

/// Buckets that are remembered of a limit if nothing else is said.
const REMEMBERED: usize = 4096;
const KINDS: [(&str, Of); 4] = [
    ("Namespace", Of::Namespace),
    ("Server", Of::Server),
    ("SourceAndObject", Of::SourceAndObject),
    ("User", Of::User),
];

/// What has a bucket of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Of {
    Server,
    Namespace,
    User,
    SourceAndObject,
}

impl Of {
    fn named(name: &str) -> Option<Self> {
        let kind = KINDS.iter().find(|(known, _)| *known == name);
        kind.map(|(_, of)| *of)
    }

    fn name(self) -> &'static str {
        let kind = KINDS.iter().find(|(_, of)| *of == self);
        kind.map_or("", |(name, _)| name)
    }

    fn key(self, write: &Attributes<'_>) -> String {
        match self {
            Self::Server => String::new(),
            Self::Namespace => write.namespace.to_owned(),
            Self::User => write.user.name.clone(),
            Self::SourceAndObject => {
                let Some(object) = write.object.as_deref() else {
                    return String::new();
                };
                let event = Event::of(Node::new(object));
                let (source, about) = (event.source(), event.involved_object());
                [
                    source.component(),
                    source.host(),
                    about.kind(),
                    about.namespace(),
                    about.name(),
                    about.uid(),
                    about.api_version(),
                ]
                .concat()
            }
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Configuration {
    limits: Vec<LimitConfiguration>,
}

impl Versioned for Configuration {
    const API_VERSIONS: &'static [&'static str] = &["eventratelimit.admission.k8s.io/v1alpha1"];
    const KIND: &'static str = "Configuration";
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct LimitConfiguration {
    r#type: String,
    qps: i32,
    burst: i32,
    cache_size: i32,
}

/// One limit, with a bucket for each key that was seen lately.
pub(super) struct Limit {
    of: Of,
    rate: Rate,
    start: Instant,
    buckets: Mutex<Recent<String, Bucket>>,
}

/// # Errors
/// If there is no limit, or one that allows nothing.
fn limits(told: Option<&[u8]>) -> Result<Vec<Limit>, Refused> {
    let file: Configuration = match told {
        Some(text) => component::config::read(text)?,
        None => Configuration::default(),
    };
    let mut errors = Vec::new();
    if file.limits.is_empty() {
        let none = proto::Value::Null;
        errors.push(FieldError::invalid("limits", &none, "must not be empty"));
    }
    let mut limits = Vec::new();
    for (i, limit) in file.limits.iter().enumerate() {
        limits.extend(check(limit, &format!("limits[{i}]"), &mut errors));
    }
    if errors.is_empty() {
        Ok(limits)
    } else {
        Err(Refused::Invalid(errors))
    }
}

fn check(of: &LimitConfiguration, at: &str, errors: &mut Vec<FieldError>) -> Option<Limit> {
    let kind = Of::named(&of.r#type);
    let field = |name: &str| format!("{at}.{name}");
    if kind.is_none() {
        let known = KINDS.map(|(name, _)| name);
        errors.push(FieldError::not_supported(
            field("type"),
            of.r#type.as_str(),
            &known,
        ));
    }
    for (name, value) in [("burst", of.burst), ("qps", of.qps)] {
        if value <= 0 {
            let value = i64::from(value);
            errors.push(FieldError::invalid(field(name), value, "must be positive"));
        }
    }
    if kind != Some(Of::Server) && of.cache_size < 0 {
        let size = i64::from(of.cache_size);
        let why = "must not be negative";
        errors.push(FieldError::invalid(field("cacheSize"), size, why));
    }
    let most = match usize::try_from(of.cache_size) {
        Ok(0) | Err(_) => REMEMBERED,
        Ok(given) => given,
    };
    Some(Limit {
        of: kind?,
        rate: Rate::new(of.qps.into(), of.burst.unsigned_abs()),
        start: Instant::now(),
        buckets: Mutex::new(Recent::new(most)),
    })
}

impl Limit {
    /// Takes a token; whether there was one.
    fn take(&self, key: &str, now: Instant) -> bool {
        let mut buckets = self.buckets.lock();
        let now = now.saturating_duration_since(self.start);
        let full = || Bucket::full(self.rate, now);
        buckets
            .entry(&key.to_owned(), full)
            .try_take(self.rate, now)
    }
}

fn validate(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    if !write.is_any("", "events") || write.dry_run() {
        return Ok(());
    }
    refused(&server.admission.state.event_limits, write, Instant::now())
}

/// Every limit is asked, also after one has refused.
fn refused(limits: &[Limit], write: &Attributes<'_>, now: Instant) -> Result<(), Failure> {
    let mut reached = Vec::new();
    for limit in limits {
        let key = limit.of.key(write);
        if !limit.take(&key, now) {
            let kind = limit.of.name();
            reached.push(format!("limit reached on type {kind} for key {key}"));
        }
    }
    if reached.is_empty() {
        return Ok(());
    }
    let message = format!("Too many requests: {}", proto::path::aggregate(&reached));
    Err(Failure::new(429, "TooManyRequests", message))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{Asked, decode};
    use super::*;

    fn configured(limits: &str) -> Result<Vec<Limit>, Refused> {
        let text = format!(
            "{{\"apiVersion\": \"eventratelimit.admission.k8s.io/v1alpha1\", \"kind\": \"Configuration\", \"limits\": {limits}}}"
        );
        super::limits(Some(text.as_bytes()))
    }

    #[test]
    fn a_bucket_holds_a_burst_and_fills_again() {
        let limits = configured(r#"[{"type": "Server", "qps": 2, "burst": 3}]"#).unwrap();
        let start = Instant::now();
        let took = |millis| limits[0].take("", start + Duration::from_millis(millis));
        assert_eq!([0, 0, 0, 0].map(took), [true, true, true, false]);
        assert_eq!([499, 500, 500].map(took), [false, true, false]);
        assert_eq!([9000; 4].map(took), [true, true, true, false]);
    }

    #[test]
    fn each_kind_of_limit_has_its_keys() {
        let event = |name: &str| {
            let text = format!(
                r#"{{"source":{{"component":"c","host":"h"}},"involvedObject":{{"kind":"Pod","namespace":"ns","name":"{name}","uid":"u","apiVersion":"v1"}}}}"#
            );
            decode(&text, proto::catalogue::messages::core_v1::EVENT)
        };
        let asked = |namespace: &str, user: &str, name: &str| {
            Asked::create("events", event(name))
                .inside(namespace)
                .by(user)
        };
        let says = |limits: &[Limit], mut asked: Asked| {
            let now = Instant::now();
            asked.ask(|write| refused(limits, write, now).map_err(|f| f.message().to_owned()))
        };
        for (kind, other, key) in [
            ("Namespace", asked("other", "ann", "p"), "ns"),
            ("User", asked("ns", "bob", "p"), "ann"),
            ("SourceAndObject", asked("ns", "ann", "q"), "chPodnspuv1"),
        ] {
            let limits = configured(&format!(r#"[{{"type":"{kind}","qps":1,"burst":1}}]"#));
            let limits = limits.unwrap();
            assert_eq!(says(&limits, asked("ns", "ann", "p")), Ok(()));
            assert_eq!(says(&limits, other), Ok(()), "another key of {kind}");
            let wanted = format!("Too many requests: limit reached on type {kind} for key {key}");
            assert_eq!(says(&limits, asked("ns", "ann", "p")), Err(wanted));
        }
    }

    #[test]
    fn what_was_used_longest_ago_begins_anew() {
        let limits = configured(r#"[{"type":"User","qps":1,"burst":1,"cacheSize":1}]"#).unwrap();
        let now = Instant::now();
        assert!(limits[0].take("a", now) && !limits[0].take("a", now));
        assert!(limits[0].take("b", now) && limits[0].take("a", now));
    }

    #[test]
    fn limits_that_allow_nothing_are_refused() {
        let says = |limits: &str| match configured(limits) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        assert_eq!(says("[]"), "limits: Invalid value: null: must not be empty");
        assert!(limits(None).is_err());
        assert_eq!(
            says(r#"[{"type":"Node","qps":1,"burst":0,"cacheSize":-1}]"#),
            r#"[limits[0].type: Unsupported value: "Node": supported values: "Namespace", "Server", "SourceAndObject", "User", limits[0].burst: Invalid value: 0: must be positive, limits[0].cacheSize: Invalid value: -1: must not be negative]"#
        );
        assert!(
            says(r#"[{"type":"Server","qps":1,"burst":1,"size":1}]"#).contains("unknown field")
        );
    }
}
