//! What a node must be: `ValidateNode`, `ValidateNodeUpdate` and below in `pkg/apis/core/validation`.

use proto::catalogue::names as n;
use proto::codec::json;
use proto::meta::{address, names};
use proto::path::{Errors, FieldError, Named, Reason, Show, Spot};
use proto::view::core_v1::{ConfigMapNodeConfigSource, Node as NodeView, NodeConfigSource};
use proto::view::{Node, View};
use proto::{MsgId, Value, meta};

use crate::rules;
use crate::shown::Internal;

/// What taints and repelled pods were before there were fields.
const TAINTS: &str = "scheduler.alpha.kubernetes.io/taints";
const AVOIDS: &str = "scheduler.alpha.kubernetes.io/preferAvoidPods";
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const MAX_FEATURE: usize = 253;

fn view(object: &Value) -> NodeView<'_> {
    NodeView::of(Node::new(object))
}

/// `ValidateNode`.
pub(super) fn node(object: &Value, e: &mut Errors<'_>) {
    let node = view(object);
    annotations(object, e);
    taints_of_spec(object, e);
    amounts(object, e);
    if let Some(capacity) = node.status().node_info().swap().and_then(|s| s.capacity())
        && capacity <= 0
    {
        // The path is upstream's.
        let field = "metadata.nodeSwapStatus.capacity";
        let error = FieldError::invalid(field, capacity, "must be greater than zero");
        e.push(error);
    }
    features(object, e);
    pod_cidrs(object, e);
}

fn pod_cidrs(object: &Value, e: &mut Errors<'_>) {
    let spec = view(object).spec();
    let at = Spot::of(spec).field(n::POD_CIDRS);
    let all: Vec<&str> = rules::texts(spec.pod_cidrs()).collect();
    for (i, cidr) in all.iter().enumerate() {
        let problems = address::legacy_cidr_problems(cidr, e.lax_addresses);
        e.invalid_each(at.index(i), *cidr, problems);
    }
    if all.len() < 2 {
        return;
    }
    let ranges: Vec<Option<address::Range>> =
        all.iter().map(|cidr| address::Range::parse(cidr)).collect();
    if let Some(i) = ranges.iter().position(Option::is_none) {
        let why = format!(
            "invalid CIDR[{i}]: <nil> (invalid CIDR address: {})",
            all[i]
        );
        let detail = format!("invalid PodCIDRs. failed to check with dual stack with error:{why}");
        e.internal(at, detail);
    }
    let is_six = |range: &Option<address::Range>| {
        range.is_some_and(|range| range.address.to_canonical().is_ipv6())
    };
    let dual = ranges.iter().all(Option::is_some)
        && ranges.iter().any(is_six)
        && !ranges.iter().all(is_six);
    if !dual || all.len() > 2 {
        let detail = "may specify no more than one CIDR for each IP family";
        e.invalid(at, rules::json(spec.node().get(n::POD_CIDRS)), detail);
    }
}

/// `ValidateNodeResources`. Paths are upstream's: names of resources stand as fields.
fn amounts(object: &Value, e: &mut Errors<'_>) {
    let status = view(object).status();
    for (of, amounts) in [
        ("capacity", status.capacity()),
        ("allocatable", status.allocatable()),
    ] {
        for (name, amount) in amounts.iter() {
            let mut found = Errors::new(amount);
            rules::resource_amount(&mut found, Spot::node(amount), name.as_str(), amount);
            for error in found.into_vec() {
                let field = format!("status.{of}.{}", name.as_str());
                e.push(FieldError { field, ..error });
            }
        }
    }
}

/// `validateNodeDeclaredFeatures`: names of features, sorted.
fn features(object: &Value, e: &mut Errors<'_>) {
    let status = view(object).status();
    let at = Spot::of(status).field(n::DECLARED_FEATURES);
    let all: Vec<&str> = rules::texts(status.declared_features()).collect();
    for (i, name) in all.iter().enumerate() {
        if let Some(problem) = feature_problem(name) {
            let shown = proto::path::quote(name);
            let detail = format!("invalid feature name {shown}: {problem}");
            e.invalid(at.index(i), *name, detail);
        }
        let Some(next) = all.get(i + 1) else { break };
        if name == next {
            e.duplicate(at.index(i + 1), *next);
        } else if name > next {
            e.invalid(at.index(i + 1), *next, "list must be sorted alphabetically");
        }
    }
}

fn feature_problem(name: &str) -> Option<String> {
    if name.len() > MAX_FEATURE {
        return Some(format!("must be no more than {MAX_FEATURE} characters"));
    }
    let word = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric());
    let lettered = |part: &str| part.starts_with(|c: char| c.is_ascii_alphabetic()) && word(part);
    let valid = name.starts_with(|c: char| c.is_ascii_uppercase()) && name.split('/').all(lettered);
    (!valid).then(|| {
        "must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes".into()
    })
}

/// A taint, wherever it was written.
struct Taint<'a> {
    key: &'a str,
    value: &'a str,
    effect: &'a str,
    whole: &'a Value,
}

fn taints_of_spec(object: &Value, e: &mut Errors<'_>) {
    let all = view(object).spec().taints().iter().map(|taint| Taint {
        key: taint.key(),
        value: taint.value(),
        effect: taint.effect(),
        whole: taint.node().value(),
    });
    // The path is upstream's.
    taints(all, "metadata.taints", e);
}

/// `validateNodeTaints`.
fn taints<'a>(all: impl Iterator<Item = Taint<'a>>, path: &str, e: &mut Errors<'_>) {
    let mut seen = Vec::new();
    for (i, taint) in all.enumerate() {
        let at = |field: &str| format!("{path}[{i}].{field}");
        for problem in names::label_key_problems(taint.key) {
            e.push(FieldError::invalid(at("key"), taint.key, problem));
        }
        let problems = names::label_value_problems(taint.value);
        if !problems.is_empty() {
            let detail = problems.join(";");
            e.push(FieldError::invalid(at("value"), taint.value, detail));
        }
        if taint.effect.is_empty() {
            e.push(FieldError::required(at("effect"), ""));
        } else if !EFFECTS.contains(&taint.effect) {
            let effect = Named(taint.effect);
            e.push(FieldError::not_supported(at("effect"), effect, &EFFECTS));
        }
        if seen.contains(&(taint.key, taint.effect)) {
            let shown = Internal(Some(taint.whole), TAINT).show();
            let detail = "taints must be unique by key and effect pair";
            let path = format!("{path}[{i}]");
            e.push(FieldError::new(Reason::Duplicate, path, shown, detail));
        } else {
            seen.push((taint.key, taint.effect));
        }
    }
}

const TAINT: MsgId = proto::catalogue::messages::core_v1::TAINT;

/// `ValidateNodeSpecificAnnotations`.
fn annotations(object: &Value, e: &mut Errors<'_>) {
    const AT: &str = "metadata.annotations";
    let given = |key| meta::annotation(object, key).filter(|text| !text.is_empty());
    if let Some(text) = given(TAINTS) {
        match list(text, "[]core.Taint") {
            Ok(found) => {
                let text = |of: &'_ Value, name: &str| {
                    // Go takes names of any case.
                    let fields = of.as_map().into_iter().flat_map(proto::Map::iter);
                    let mut named = fields.filter(|(n, _)| n.as_str().eq_ignore_ascii_case(name));
                    let value = named.next_back().and_then(|(_, v)| v.as_str());
                    value.unwrap_or_default().to_owned()
                };
                let read: Vec<[String; 3]> = found
                    .iter()
                    .map(|taint| ["key", "value", "effect"].map(|name| text(taint, name)))
                    .collect();
                let all = read.iter().zip(&found).map(|(text, whole)| Taint {
                    key: &text[0],
                    value: &text[1],
                    effect: &text[2],
                    whole,
                });
                taints(all, &format!("{AT}.{TAINTS}"), e);
            }
            Err(why) => e.push(FieldError::invalid(AT, TAINTS, why)),
        }
    }
    if let Some(text) = given(AVOIDS) {
        match json::parse(text.as_bytes()) {
            Ok(value) => avoids(&value, &format!("{AT}.{AVOIDS}"), e),
            Err(error) => {
                let at = format!("{AT}.AvoidPods");
                e.push(FieldError::invalid(at, AVOIDS, error.to_string()));
            }
        }
    }
}

/// A list in JSON; `null` is an empty one. `into` is what Go reads it into.
fn list(text: &str, into: &str) -> Result<Vec<Value>, String> {
    let kind = match json::parse(text.as_bytes()).map_err(|error| error.to_string())? {
        Value::List(items) => return Ok(items.into_iter().collect()),
        Value::Null => return Ok(Vec::new()),
        Value::Bool(_) => "bool",
        Value::String(_) => "string",
        Value::Map(_) => "object",
        _ => "number",
    };
    Err(format!(
        "json: cannot unmarshal {kind} into Go value of type {into}"
    ))
}

/// `validatePreferAvoidPodsEntry`.
fn avoids(value: &Value, path: &str, e: &mut Errors<'_>) {
    let entries = value.get("preferAvoidPods").and_then(Value::as_list);
    for (i, entry) in entries.into_iter().flatten().enumerate() {
        let at = format!("{path}[{i}].PodSignature");
        match entry.at(&["podSignature", "podController"]) {
            None | Some(Value::Null) => e.push(FieldError::required(at, "")),
            Some(owner) => {
                if owner.get("controller").and_then(Value::as_bool) != Some(true) {
                    let at = format!("{at}.PodController.Controller");
                    e.push(FieldError::invalid(at, false, "must point to a controller"));
                }
            }
        }
    }
}

/// `ValidateNodeUpdate`.
pub(super) fn update(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let (node, was) = (view(new), view(old).spec());
    let spec = node.spec();
    annotations(new, e);
    amounts(new, e);
    features(new, e);
    let mut seen = Vec::new();
    for address in node.status().addresses() {
        let key = (address.r#type(), address.address());
        if seen.contains(&key) {
            e.duplicate(Spot::of(address), Internal::of(address));
        }
        seen.push(key);
    }
    let at = |field| Spot::of(spec).field(field);
    let (now, had) = (spec.pod_cidrs(), was.pod_cidrs());
    let changes = match (had.len(), now.len()) {
        (0, _) => 0,
        (a, b) if a != b => 1,
        _ => now.iter().zip(had).filter(|(a, b)| a != b).count(),
    };
    for _ in 0..changes {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        e.forbidden(at(n::POD_CIDRS), detail);
    }
    if !was.provider_id().is_empty() && was.provider_id() != spec.provider_id() {
        let detail = match spec.provider_id() {
            "" => "field cannot be cleared once set",
            _ => "field cannot be modified once set",
        };
        e.invalid(at(n::PROVIDER_ID), &Value::Null, detail);
    }
    if let Some(source) = spec.config_source() {
        config_source(source, false, e);
    }
    if let Some(config) = node.status().config() {
        let sources = [config.assigned(), config.active(), config.last_known_good()];
        for source in sources.into_iter().flatten() {
            config_source(source, true, e);
        }
    }
    taints_of_spec(new, e);
    if spec.external_id() != was.external_id() {
        e.forbidden(at(n::EXTERNAL_ID), "may not be updated");
    }
}

/// Where the configuration of a kubelet came from, in servers of old; in the status with what was
/// found.
fn config_source(source: NodeConfigSource<'_>, found: bool, e: &mut Errors<'_>) {
    match source.config_map() {
        Some(map) => config_map(map, found, e),
        None => {
            let detail = "exactly one reference subfield must be non-nil";
            e.invalid(Spot::of(source), Internal::of(source), detail);
        }
    }
}

fn config_map(map: ConfigMapNodeConfigSource<'_>, found: bool, e: &mut Errors<'_>) {
    let at = |field| Spot::of(map).field(field);
    for field in [n::UID, n::RESOURCE_VERSION] {
        let given = !map.node().str(field).is_empty();
        if found && !given {
            e.required(at(field), "");
        }
        if !found && given {
            let detail = format!("{} must not be set in spec", field.text());
            e.forbidden(at(field), detail);
        }
    }
    if rules::required(e, map, n::NAMESPACE) {
        let problems = names::label_name(map.namespace(), false);
        rules::each(e, map, n::NAMESPACE, problems);
    }
    if rules::required(e, map, n::NAME) {
        let problems = names::subdomain_name(map.name(), false);
        rules::each(e, map, n::NAME, problems);
    }
    if rules::required(e, map, n::KUBELET_CONFIG_KEY) {
        let problems = names::config_map_key_problems(map.kubelet_config_key());
        rules::each(e, map, n::KUBELET_CONFIG_KEY, problems);
    }
}
