//! Ranges of limits: what containers, pods and claims of a namespace may ask for.
//!
//! Upstream: `ValidateLimitRange` in `pkg/apis/core/validation`, `SetDefaults_LimitRangeItem`.

use std::collections::BTreeSet;

use proto::catalogue::{Gates, names as n};
use proto::meta::names;
use proto::path::{Errors, Named, Spot};
use proto::quantity::{Format, Quantity};
use proto::view::core_v1::{LimitRange, LimitRangeItem};
use proto::view::{Node, View};
use proto::{Map, NameId, Value, meta};

use crate::declarative::NO_OPTIONS;
use crate::strategy::Strategy;
use crate::{resource_names, rules};

const CONTAINER: &str = "Container";
const POD: &str = "Pod";
const CLAIM: &str = "PersistentVolumeClaim";

pub static LIMIT_RANGE: Strategy = Strategy {
    declarative: Some(NO_OPTIONS),
    default,
    // A range without a name gets one that nobody else has.
    prepare_create: |_, object| {
        if meta::name(object).is_empty() {
            meta::set(object, n::NAME, uuid::Uuid::new_v4().to_string().as_str());
        }
    },
    validate: |_, object, e| limit_range(object, e),
    validate_update: |_, new, _, e| limit_range(new, e),
    ..Strategy::DEFAULT
};

/// Limits of containers stand for each other: the maximum for the default limit, that and the minimum
/// for the default request.
fn default(_: Gates, object: &mut Value) {
    let items = object.at_mut(&[n::SPEC, n::LIMITS]);
    for item in items.and_then(Value::as_list_mut).into_iter().flatten() {
        if item.get(n::TYPE).and_then(Value::as_str) != Some(CONTAINER) {
            continue;
        }
        for (to, from) in [
            (n::DEFAULT, n::MAX),
            (n::DEFAULT_REQUEST, n::DEFAULT),
            (n::DEFAULT_REQUEST, n::MIN),
        ] {
            let Some(from) = item.get(from).and_then(Value::as_map).cloned() else {
                continue;
            };
            if from.is_empty() {
                continue;
            }
            let to = item.make_map().entry(to).make_map();
            for (name, amount) in from.iter() {
                if !to.contains(name) {
                    to.insert(name, amount.clone());
                }
            }
        }
    }
}

fn limit_range(object: &Value, e: &mut Errors<'_>) {
    let spec = LimitRange::of(Node::new(object)).spec();
    let mut seen = Vec::new();
    for item in spec.limits() {
        type_name(item, e);
        let at = Spot::of(item).field(n::TYPE);
        if seen.contains(&item.r#type()) {
            e.duplicate(at, Named(item.r#type()));
        }
        seen.push(item.r#type());
        resources(item, e);
        amounts(item, e);
    }
}

/// `validateLimitRangeTypeName`.
fn type_name(item: LimitRangeItem<'_>, e: &mut Errors<'_>) {
    let name = item.r#type();
    let mut problems = names::label_key_problems(name);
    if problems.is_empty() && !name.contains('/') && ![CONTAINER, POD, CLAIM].contains(&name) {
        problems.push("must be a standard limit type or fully qualified".into());
    }
    e.invalid_each(Spot::of(item).field(n::TYPE), Named(name), problems);
}

/// The resources that an item is about, and where.
fn resources(item: LimitRangeItem<'_>, e: &mut Errors<'_>) {
    let at = Spot::of(item);
    named(item, n::MAX, e);
    named(item, n::MIN, e);
    for field in [n::DEFAULT, n::DEFAULT_REQUEST] {
        if item.r#type() != POD {
            named(item, field, e);
        } else if !item.node().dict(field).is_empty() {
            let detail = "may not be specified when `type` is 'Pod'";
            e.forbidden(at.field(field), detail);
        }
    }
    if item.r#type() == CLAIM && !item.min().contains("storage") && !item.max().contains("storage")
    {
        let detail =
            "either minimum or maximum storage value is required, but neither was provided";
        e.required(at.field(n::LIMITS), detail);
    }
    named(item, n::MAX_LIMIT_REQUEST_RATIO, e);
}

/// `validateLimitRangeResourceName`, for all resources of a field.
fn named(item: LimitRangeItem<'_>, field: NameId, e: &mut Errors<'_>) {
    for (name, _) in item.node().dict(field).iter() {
        let name = name.as_str();
        let at = Spot::of(item).field(field).key(name);
        if [POD, CONTAINER].contains(&item.r#type()) {
            rules::container_resource_name(e, at, name);
        } else {
            rules::resource_name(e, at, name);
        }
    }
}

fn amounts(item: LimitRangeItem<'_>, e: &mut Errors<'_>) {
    let defaults = item.r#type() != POD;
    let fields = [
        (n::MAX, true),
        (n::MIN, true),
        (n::DEFAULT, defaults),
        (n::DEFAULT_REQUEST, defaults),
        (n::MAX_LIMIT_REQUEST_RATIO, true),
    ];
    let all: BTreeSet<&str> = fields
        .into_iter()
        .filter(|(_, counts)| *counts)
        .flat_map(|(field, _)| item.node().dict(field).iter())
        .map(|(name, _)| name.as_str())
        .collect();
    for name in all {
        let get = |field| amount(item.node().dict(field), name);
        let default = |field| get(field).filter(|_| defaults);
        let range = Range {
            min: get(n::MIN),
            max: get(n::MAX),
            limit: default(n::DEFAULT),
            request: default(n::DEFAULT_REQUEST),
            ratio: get(n::MAX_LIMIT_REQUEST_RATIO),
        };
        range.check(item, name, e);
    }
}

fn amount(of: &Map, name: &str) -> Option<Quantity> {
    of.get(name).and_then(Value::as_str)?.parse().ok()
}

/// What an item says of one resource.
struct Range {
    min: Option<Quantity>,
    max: Option<Quantity>,
    limit: Option<Quantity>,
    request: Option<Quantity>,
    ratio: Option<Quantity>,
}

impl Range {
    fn check(&self, item: LimitRangeItem<'_>, name: &str, e: &mut Errors<'_>) {
        let Self {
            min,
            max,
            limit,
            request,
            ..
        } = *self;
        let at = |field| Spot::of(item).field(field).key(name);
        // Two amounts in their order, how errors call them, which of the two they show, and where.
        for (small, large, what, than, shown, field) in [
            (min, max, "min", "max", min, n::MIN),
            (
                min,
                request,
                "min",
                "default request",
                request,
                n::DEFAULT_REQUEST,
            ),
            (
                request,
                max,
                "default request",
                "max",
                request,
                n::DEFAULT_REQUEST,
            ),
            (
                request,
                limit,
                "default request",
                "default limit",
                request,
                n::DEFAULT_REQUEST,
            ),
            (min, limit, "min", "default", min, n::DEFAULT),
            (limit, max, "default", "max", max, n::DEFAULT),
        ] {
            if let (Some(small), Some(large), Some(shown)) = (small, large, shown)
                && small > large
            {
                let detail = format!("{what} value {small} is greater than {than} value {large}");
                e.invalid(at(field), shown.to_string(), detail);
            }
        }
        self.check_ratio(at(n::MAX_LIMIT_REQUEST_RATIO), e);
        if let (Some(limit), Some(request)) = (limit, request)
            && limit != request
            && !resource_names::may_be_overcommitted(name)
        {
            let detail = format!(
                "default value {limit} must equal to defaultRequest value {request} in {name}"
            );
            e.invalid(at(n::DEFAULT_REQUEST), request.to_string(), detail);
        }
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "upstream compares ratios as doubles"
    )]
    fn check_ratio(&self, at: Spot<'_>, e: &mut Errors<'_>) {
        /// Larger amounts are not counted in thousandths.
        const MOST: i64 = i64::MAX / 1000;
        let Some(ratio) = self.ratio else { return };
        if ratio < Quantity::new(1, Format::DecimalSi) {
            let detail = format!("ratio {ratio} is less than 1");
            e.invalid(at, ratio.to_string(), detail);
        }
        let (Some(min), Some(max)) = (self.min, self.max) else {
            return;
        };
        let (most, bound) = if [ratio, min, max].iter().all(|q| q.value() < MOST) {
            let most = ratio.milli_value() as f64 / 1000.0;
            (most, max.milli_value() as f64 / min.milli_value() as f64)
        } else {
            (
                ratio.value() as f64,
                max.value() as f64 / min.value() as f64,
            )
        };
        if most > bound {
            let detail = format!("ratio {ratio} is greater than max/min = {bound:.6}");
            e.invalid(at, ratio.to_string(), detail);
        }
    }
}
