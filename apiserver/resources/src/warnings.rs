//! What a client is told of an object that is taken as it is: fields that do nothing, names that will
//! surprise, forms that go away.
//!
//! Strategies say it with the functions of this module and of their own files; clients get each text
//! in a `Warning` header. The texts are upstream's, for clients and tests read them:
//! `pkg/api/{node,pod,service,…}` and `apimachinery/pkg/util/validation/ip.go`.

use std::fmt::Display;

use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Spot, quote};
use proto::quantity::Quantity;
use proto::view::core_v1::NodeSelectorTerm;
use proto::{Map, Value, meta};

pub mod address;
pub mod lifecycle;

#[cfg(test)]
mod tests;

/// Collects the warnings about one object, in the order found.
pub struct Warnings<'a> {
    paths: Errors<'a>,
    found: Vec<String>,
}

impl<'a> Warnings<'a> {
    #[must_use]
    pub fn new(object: &'a Value) -> Self {
        Self {
            paths: Errors::new(object),
            found: Vec::new(),
        }
    }

    #[must_use]
    pub fn into_vec(self) -> Vec<String> {
        self.found
    }

    /// A text that names its field itself, or none.
    pub fn push(&mut self, text: impl Into<String>) {
        self.found.push(text.into());
    }

    /// A text about the field at a spot.
    pub fn at(&mut self, at: Spot<'_>, text: impl Display) {
        let path = self.path(at);
        self.push(format!("{path}: {text}"));
    }

    #[must_use]
    pub fn path(&mut self, at: Spot<'_>) -> String {
        self.paths.path(at)
    }

    /// Addresses in forms that not everyone reads alike; each item is a string of the object.
    pub fn ips(&mut self, items: &[Value]) {
        for item in items {
            self.ip(Spot::node(item), item.as_str().unwrap_or_default());
        }
    }

    pub fn ip(&mut self, at: Spot<'_>, value: &str) {
        if let Some(text) = address::ip(value) {
            self.at(at, text);
        }
    }

    /// An address of a load balancer, if it has one; upstream says it of the whole entry.
    pub fn balancer(&mut self, entry: Spot<'_>, ip: &str) {
        if !ip.is_empty() {
            self.ip(entry, ip);
        }
    }

    /// Address ranges, as [`Warnings::ips`].
    pub fn cidrs(&mut self, items: &[Value]) {
        for item in items {
            self.cidr(Spot::node(item), item.as_str().unwrap_or_default());
        }
    }

    pub fn cidr(&mut self, at: Spot<'_>, value: &str) {
        for text in address::cidr(value) {
            self.at(at, text);
        }
    }

    /// An amount of bytes, of those at a spot, that has a fraction.
    pub fn fraction(&mut self, amounts: &Map, name: &str, at: Spot<'_>) {
        if let Some(amount) = fraction(amounts, name) {
            self.at(at.key(name), amount);
        }
    }

    /// `GetWarningsForNodeSelectorTerm`: labels of nodes that go away and, on demand, values that no label
    /// can have.
    pub fn node_selector_term(&mut self, term: NodeSelectorTerm<'_>, values: bool) {
        for expression in term.match_expressions() {
            let key = expression.key();
            if let Some(text) = deprecated_label(key) {
                self.at(
                    Spot::of(expression).field(n::KEY),
                    format_args!("{key} is {text}"),
                );
            }
            for value in expression.values().iter().filter(|_| values) {
                let text = value.as_str().unwrap_or_default();
                for problem in names::label_value_problems(text) {
                    self.at(
                        Spot::node(value),
                        format_args!("{text} is invalid, {problem}"),
                    );
                }
            }
        }
    }

    /// The name of what makes pods, which will be part of host names.
    pub fn name_of_pods(&mut self, object: &Value) {
        self.name(object, "this is used in Pod names and hostnames");
    }

    /// The name of something that has to do with host names, as `used` says.
    pub fn name(&mut self, object: &Value, used: &str) {
        let problems = names::dns_label_problems(meta::name(object));
        if !problems.is_empty() {
            self.push(format!(
                "metadata.name: {used}, which can result in surprising behavior; a DNS label is recommended: [{}]",
                problems.join(" ")
            ));
        }
    }
}

/// What is wrong with an amount of bytes that has a fraction; nothing with others.
#[must_use]
pub fn fraction(amounts: &Map, name: &str) -> Option<String> {
    let text = amounts.get(name).and_then(Value::as_str)?;
    let amount: Quantity = text.parse().ok()?;
    // As upstream counts: what is too much for thousandths of 64 bits has a fraction, too.
    (amount.milli_value() % 1000 != 0).then(|| {
        format!(
            "fractional byte value {} is invalid, must be an integer",
            quote(&amount.to_string())
        )
    })
}

/// Labels of nodes that other labels took the place of.
const DEPRECATED_LABELS: [(&str, &str); 8] = [
    (
        "beta.kubernetes.io/arch",
        r#"deprecated since v1.14; use "kubernetes.io/arch" instead"#,
    ),
    (
        "beta.kubernetes.io/os",
        r#"deprecated since v1.14; use "kubernetes.io/os" instead"#,
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        r#"deprecated since v1.17; use "topology.kubernetes.io/region" instead"#,
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        r#"deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#,
    ),
    (
        "beta.kubernetes.io/instance-type",
        r#"deprecated since v1.17; use "node.kubernetes.io/instance-type" instead"#,
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    (
        "node-role.kubernetes.io/master",
        r#"use "node-role.kubernetes.io/control-plane" instead"#,
    ),
];

/// What to say of a label of nodes that goes away.
#[must_use]
pub fn deprecated_label(key: &str) -> Option<&'static str> {
    let mut all = DEPRECATED_LABELS.iter();
    all.find(|(label, _)| *label == key).map(|(_, text)| *text)
}

/// Says whether an update changed what generations count: templates are read again only then.
#[must_use]
pub fn changed(object: &Value, old: Option<&Value>) -> bool {
    old.is_none_or(|old| meta::generation(old) != meta::generation(object))
}
