//! Match conditions: expressions over a question that all must hold for a webhook to be asked it.
//!
//! Upstream: `apiserver/pkg/authorization/cel`.

use std::collections::HashSet;
use std::sync::LazyLock;
use std::time::Instant;

use cel::{Activation, Environment, Outcome, Schema, Type, Version};
use component::metrics::{Buckets, Counters, Histograms, Metrics};
use prometheus_client::metrics::family::Family;
use proto::path::{FieldError, Reason, quote};
use proto::{Map, Value};

use super::Attributes;
use super::selectors::{self, Requirement};
use crate::expression::Expression;

/// Conditions of one webhook.
const MOST: usize = 64;
const FIELDS: &str = "fieldSelector";
const LABELS: &str = "labelSelector";

/// The conditions of a webhook, and what they read of selectors: those are not looked at otherwise.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Conditions {
    all: Vec<Expression>,
    fields: bool,
    labels: bool,
}

/// `request` is a `SubjectAccessReviewSpec` (`buildRequestType`).
static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    let text = || Schema::of(Type::String);
    let texts = || Schema::list(text());
    let selector = |name| {
        let requirement = Schema::object(
            "kubernetes.SelectorRequirement",
            [("key", text()), ("operator", text()), ("values", texts())],
        );
        let requirements = Schema::list(requirement);
        Schema::object(
            name,
            [("rawSelector", text()), ("requirements", requirements)],
        )
    };
    let resource = Schema::object(
        "kubernetes.ResourceAttributes",
        [
            ("namespace", text()),
            ("verb", text()),
            ("group", text()),
            ("version", text()),
            ("resource", text()),
            ("subresource", text()),
            ("name", text()),
            (FIELDS, selector("kubernetes.FieldSelectorAttributes")),
            (LABELS, selector("kubernetes.LabelSelectorAttributes")),
        ],
    );
    let path = Schema::object(
        "kubernetes.NonResourceAttributes",
        [("path", text()), ("verb", text())],
    );
    let request = Schema::object(
        "kubernetes.SubjectAccessReviewSpec",
        [
            ("resourceAttributes", resource),
            ("nonResourceAttributes", path),
            ("user", text()),
            ("groups", texts()),
            ("extra", Schema::map(texts())),
            ("uid", text()),
        ],
    );
    Environment::new(Version::STORED).with_schema("request", &request)
});

impl Conditions {
    /// Reads what stands at `at`; what is wrong is noted.
    pub fn read<'a>(
        given: impl ExactSizeIterator<Item = &'a str>,
        at: &str,
        errors: &mut Vec<FieldError>,
    ) -> Self {
        let (mut read, mut seen) = (Self::default(), HashSet::new());
        if given.len() > MOST {
            let many = format!("must have at most {MOST} items");
            let count = given.len().to_string();
            errors.push(FieldError::new(Reason::TooMany, at, count, many));
            return read;
        }
        for (i, text) in given.enumerate() {
            let at = format!("{at}[{i}].expression");
            if text.trim().is_empty() {
                errors.push(FieldError::required(at, ""));
            } else if !seen.insert(text) {
                errors.push(FieldError::new(Reason::Duplicate, at, quote(text), ""));
            } else {
                match compile(text, &at) {
                    Ok(expression) => read.push(expression),
                    Err(error) => errors.push(error),
                }
            }
        }
        read
    }

    fn push(&mut self, expression: Expression) {
        for selection in ENVIRONMENT.selections(expression.text()) {
            self.fields |= *selection.field == *FIELDS;
            self.labels |= *selection.field == *LABELS;
        }
        self.all.push(expression);
    }

    /// Whether the webhook is to be asked. One that does not hold decides, whatever is wrong with those
    /// before it.
    ///
    /// # Errors
    /// Why that cannot be said.
    pub fn hold(
        &self,
        asked: &Attributes<'_>,
        name: &str,
        counted: &Counted,
    ) -> Result<bool, String> {
        if self.all.is_empty() {
            return Ok(true);
        }
        let started = Instant::now();
        let given = Given(Value::Map(self.request(asked)));
        let (held, errors) = self.evaluate(&given);
        counted.note(name, held, !errors.is_empty(), started);
        if held && !errors.is_empty() {
            return Err(proto::path::aggregate(&errors));
        }
        Ok(held)
    }

    /// Whether none was found that does not hold, and what went wrong until then.
    fn evaluate(&self, given: &Given) -> (bool, Vec<String>) {
        let mut errors = Vec::new();
        for expression in &self.all {
            match expression.evaluate(given).map(|value| value.as_bool()) {
                Ok(Some(true)) => {}
                Ok(Some(false)) => return (false, errors),
                Ok(None) => errors.push(format!(
                    "cel evaluation error: expression '{}' eval result type should be bool",
                    expression.text()
                )),
                Err(e) => errors.push(format!("cel evaluation error: {e}")),
            }
        }
        (true, errors)
    }

    /// The question with all its texts, also those that are empty, and those selectors that are read
    /// (`convertObjectToUnstructured`).
    fn request(&self, asked: &Attributes<'_>) -> Map {
        let user = asked.user;
        let mut request = texts([("user", user.name.as_str()), ("uid", user.uid.as_str())]);
        request.insert("groups", user.groups.clone());
        let mut extra = Map::new();
        for (key, values) in &user.extra {
            extra.insert(key.as_str(), values.clone());
        }
        request.insert("extra", extra);
        if !asked.is_resource {
            let path = texts([("path", asked.path), ("verb", asked.verb)]);
            request.insert("nonResourceAttributes", path);
            return request;
        }
        let mut resource = texts([
            ("namespace", asked.namespace),
            ("verb", asked.verb),
            ("group", asked.group),
            ("version", asked.version),
            ("resource", asked.resource),
            ("subresource", asked.subresource),
            ("name", asked.name),
        ]);
        let selected = [
            (
                self.fields,
                FIELDS,
                selectors::fields as Read,
                asked.field_selector,
            ),
            (
                self.labels,
                LABELS,
                selectors::labels as Read,
                asked.label_selector,
            ),
        ];
        for (_, field, read, selector) in selected.into_iter().filter(|(is_read, ..)| *is_read) {
            let requirements: Vec<Value> = read(selector).into_iter().map(requirement).collect();
            if !requirements.is_empty() {
                let mut selector = Map::new();
                selector.insert("requirements", Value::List(requirements));
                resource.insert(field, selector);
            }
        }
        request.insert("resourceAttributes", resource);
        request
    }
}

type Read = fn(&str) -> Vec<Requirement>;

fn requirement(of: Requirement) -> Value {
    let mut all = texts([("key", of.key.as_str()), ("operator", of.operator)]);
    all.insert("values", of.values);
    Value::Map(all)
}

fn texts<const N: usize>(fields: [(&str, &str); N]) -> Map {
    let mut map = Map::new();
    for (name, text) in fields {
        map.insert(name, text);
    }
    map
}

fn compile(text: &str, at: &str) -> Result<Expression, FieldError> {
    let expression = Expression::compile(&ENVIRONMENT, text, at)?;
    if *expression.gives() != Type::Bool {
        let why = format!("must evaluate to bool but got {}", expression.gives());
        return Err(FieldError::invalid(at, text, why));
    }
    Ok(expression)
}

struct Given(Value);

impl Activation for Given {
    fn get(&self, name: &str) -> Option<Outcome<'_>> {
        (name == "request").then(|| Ok(cel::Value::of(&self.0)))
    }
}

/// Upstream's, in seconds.
const SECONDS: Buckets = Buckets(&[0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25]);

/// What is counted of conditions, by webhook (`apiserver/pkg/authorization/cel/metrics.go`).
#[derive(Clone)]
pub struct Counted {
    errors: Counters<2>,
    exclusions: Counters<2>,
    durations: Histograms<2>,
}

impl Counted {
    #[must_use]
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            errors: metrics.registered(
                "apiserver_authorization_match_condition_evaluation_errors_total",
                "Questions for which a match condition of a webhook could not be evaluated",
                Family::default(),
            ),
            exclusions: metrics.registered(
                "apiserver_authorization_match_condition_exclusions_total",
                "Questions that a webhook was not asked because of its match conditions",
                Family::default(),
            ),
            durations: metrics.registered(
                "apiserver_authorization_match_condition_evaluation_seconds",
                "How long the match conditions of a webhook took",
                Family::new_with_constructor(SECONDS),
            ),
        }
    }

    fn note(&self, name: &str, held: bool, failed: bool, started: Instant) {
        let labels = [("type", "Webhook".to_owned()), ("name", name.to_owned())];
        if !held {
            self.exclusions.get_or_create(&labels).inc();
        }
        if failed {
            self.errors.get_or_create(&labels).inc();
        }
        let took = started.elapsed().as_secs_f64();
        self.durations.get_or_create(&labels).observe(took);
    }
}

#[cfg(test)]
mod tests;
