//! Resource quotas and ranges of limits. Upstream: `pkg/registry/core/{resourcequota,limitrange}`,
//! `ValidateResourceQuota*` in `pkg/apis/core/validation`, `pkg/printers/internalversion`.

use proto::catalogue::names as n;
use proto::path::{Errors, FieldError, Named, Spot};
use proto::quantity::Quantity;
use proto::view::core_v1::{ResourceQuota, ResourceQuotaSpec, ScopeSelector};
use proto::view::{Node, View};
use proto::{Map, Value, meta};

use crate::declarative::NO_OPTIONS;
use crate::resource_names;
use crate::rules;
use crate::shown::Internal;
use crate::strategy::{Generation, Part, Strategy};
use crate::table::row;
use crate::warnings::Warnings;

pub mod limits;

pub static RESOURCE_QUOTA: Strategy = Strategy {
    declarative: Some(NO_OPTIONS),
    generation: Generation::Ignored,
    validate: |_, object, e| {
        let quota = ResourceQuota::of(Node::new(object));
        spec(quota.spec(), e);
        status(object, e);
    },
    validate_update: |_, new, old, e| update(new, old, e),
    status: Some(Part {
        validate_update: |_, new, _, e| {
            if meta::resource_version(new).is_empty() {
                e.push(FieldError::required("resourceVersion", ""));
            }
            status(new, e);
        },
        ..Part::STATUS_AND_METADATA
    }),
    warnings: |_, object, old| match old {
        None => requests_above_limits(object),
        Some(_) => Vec::new(),
    },
    cells: Some(|object, now| {
        let (requests, limits) = used(object);
        row(object, now, [requests.into(), limits.into()])
    }),
    ..Strategy::WITH_STATUS
};

/// Resources that are counted, huge pages apart.
fn is_quota_resource(name: &str) -> bool {
    name != "storage" && resource_names::is_standard(name)
}

fn amounts(e: &mut Errors<'_>, amounts: &Map, at: Spot<'_>) {
    for (name, amount) in amounts.iter() {
        let name = name.as_str();
        let at = at.key(name);
        rules::resource_name(e, at, name);
        if !name.contains('/') && !is_quota_resource(name) {
            e.invalid(at, Named(name), "must be a standard resource for quota");
        }
        rules::resource_amount(e, at, name, amount);
    }
}

fn status(object: &Value, e: &mut Errors<'_>) {
    let status = ResourceQuota::of(Node::new(object)).status();
    let at = Spot::of(status);
    amounts(e, status.hard(), at.field(n::HARD));
    amounts(e, status.used(), at.field(n::USED));
}

/// Scopes, and what of pods and claims they can be about (`IsResourceQuotaScopeValidForResource`).
const SCOPES: [(&str, Kinds); 7] = [
    ("BestEffort", Kinds::PodCount),
    ("CrossNamespacePodAffinity", Kinds::Pods),
    ("NotBestEffort", Kinds::Pods),
    ("NotTerminating", Kinds::Pods),
    ("PriorityClass", Kinds::Pods),
    ("Terminating", Kinds::Pods),
    ("VolumeAttributesClass", Kinds::Claims),
];

#[derive(Clone, Copy)]
enum Kinds {
    PodCount,
    Pods,
    Claims,
}

impl Kinds {
    fn have(self, resource: &str) -> bool {
        const COMPUTE: [&str; 6] = [
            "cpu",
            "memory",
            "limits.cpu",
            "limits.memory",
            "requests.cpu",
            "requests.memory",
        ];
        match self {
            Self::PodCount => resource == "pods",
            Self::Pods => resource == "pods" || COMPUTE.contains(&resource),
            Self::Claims => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        }
    }
}

/// Whether a scope is known, and how many resources of a quota it cannot be about.
fn scope(name: &str, hard: &Map) -> (bool, usize) {
    let known = SCOPES.iter().find(|(known, _)| *known == name);
    let counted = hard.iter().map(|(resource, _)| resource.as_str());
    let strange = known.map_or(0, |(_, kinds)| {
        counted
            .filter(|r| is_quota_resource(r) && !kinds.have(r))
            .count()
    });
    (known.is_some(), strange)
}

/// Scopes of which no object can have both.
const OPPOSITES: [[&str; 2]; 2] = [
    ["BestEffort", "NotBestEffort"],
    ["NotTerminating", "Terminating"],
];

fn opposites(names: &[&str]) -> usize {
    let both = |pair: &&[&str; 2]| pair.iter().all(|name| names.contains(name));
    OPPOSITES.iter().filter(both).count()
}

/// `ValidateResourceQuotaSpec`.
fn spec(spec: ResourceQuotaSpec<'_>, e: &mut Errors<'_>) {
    let at = Spot::of(spec);
    amounts(e, spec.hard(), at.field(n::HARD));
    let names: Vec<&str> = rules::texts(spec.scopes()).collect();
    let at = at.field(n::SCOPES);
    let shown = || rules::json(spec.node().get(n::SCOPES));
    for name in &names {
        let (known, strange) = scope(name, spec.hard());
        if !known {
            e.invalid(at, shown(), "unsupported scope");
        }
        for _ in 0..strange {
            e.invalid(at, shown(), "unsupported scope applied to resource");
        }
    }
    for _ in 0..opposites(&names) {
        e.invalid(at, shown(), "conflicting scopes");
    }
    if let Some(selected) = spec.scope_selector() {
        selector(spec, selected, e);
    }
}

/// `validateScopedResourceSelectorRequirement`. Paths are upstream's: they do not say which expression.
fn selector(spec: ResourceQuotaSpec<'_>, selector: ScopeSelector<'_>, e: &mut Errors<'_>) {
    let at = Spot::of(selector).field(n::MATCH_EXPRESSIONS);
    let mut names = Vec::new();
    for expression in selector.match_expressions() {
        let (name, operator) = (expression.scope_name(), expression.operator());
        let (known, strange) = scope(name, spec.hard());
        if !known {
            e.invalid(at.field(n::SCOPE_NAME), Named(name), "unsupported scope");
        }
        for _ in 0..strange {
            let detail = "unsupported scope applied to resource";
            e.invalid(at, Internal::of(selector), detail);
        }
        let exists_only = !matches!(name, "PriorityClass" | "VolumeAttributesClass");
        if known && exists_only && operator != "Exists" {
            let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            e.invalid(at.field(n::OPERATOR), Named(operator), detail);
        }
        let values = expression.values();
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                e.required(at.field(n::VALUES), detail);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                let shown = rules::json(expression.node().get(n::VALUES));
                e.invalid(at.field(n::VALUES), shown, detail);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                let detail = "not a valid selector operator";
                e.invalid(at.field(n::OPERATOR), Named(other), detail);
            }
        }
        names.push(name);
    }
    for _ in 0..opposites(&names) {
        let shown = rules::json(spec.node().get(n::SCOPES));
        e.invalid(at, shown, "conflicting scopes");
    }
}

fn update(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let now = ResourceQuota::of(Node::new(new)).spec();
    let was = ResourceQuota::of(Node::new(old)).spec();
    spec(now, e);
    let set = |spec: ResourceQuotaSpec<'_>| -> std::collections::BTreeSet<String> {
        rules::texts(spec.scopes()).map(str::to_owned).collect()
    };
    if set(now) != set(was) {
        let shown = rules::json(now.node().get(n::SCOPES));
        e.invalid(Spot::of(now).field(n::SCOPES), shown, rules::IMMUTABLE);
    }
}

/// A quota on requests that is above the one on limits, to which it can never come.
fn requests_above_limits(quota: &Value) -> Vec<String> {
    const NAMES: [&str; 4] = ["cpu", "memory", "storage", "ephemeral-storage"];
    let hard = ResourceQuota::of(Node::new(quota)).spec().hard();
    let amount =
        |name: &str| -> Option<Quantity> { hard.get(name).and_then(Value::as_str)?.parse().ok() };
    let mut w = Warnings::new(quota);
    for name in NAMES {
        let (mut request_name, limit_name) = (format!("requests.{name}"), format!("limits.{name}"));
        let mut request = amount(&request_name);
        if request.is_none() && matches!(name, "cpu" | "memory") {
            name.clone_into(&mut request_name);
            request = amount(name);
        }
        if let (Some(request), Some(limit)) = (request, amount(&limit_name))
            && request > limit
        {
            w.push(format!(
                "ResourceQuota {request_name} ({request}) should be less than {limit_name} ({limit})"
            ));
        }
    }
    w.into_vec()
}

/// What is used of what is allowed, apart for limits and everything else.
fn used(quota: &Value) -> (String, String) {
    let status = ResourceQuota::of(Node::new(quota)).status();
    let mut all: Vec<(&str, &str)> = status
        .hard()
        .iter()
        .map(|(name, hard)| (name.as_str(), hard.as_str().unwrap_or_default()))
        .collect();
    all.sort_unstable();
    let show = |limits: bool| {
        let of = all
            .iter()
            .filter(|(n, _)| n.starts_with("limits.") == limits);
        let shown = of.map(|(name, hard)| {
            let used = status.used().get(*name).and_then(Value::as_str);
            format!("{name}: {}/{hard}", used.unwrap_or("0"))
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    (show(false), show(true))
}

#[cfg(test)]
mod tests;
