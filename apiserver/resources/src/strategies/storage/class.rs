//! What classes of storage must be: `ValidateStorageClass*`, `ValidateVolumeAttributesClass*` in
//! `pkg/apis/storage/validation`.

use std::collections::{BTreeMap, BTreeSet};

use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Named, Spot};
use proto::view::core_v1::TopologySelectorTerm;
use proto::view::storage_v1::{StorageClass, VolumeAttributesClass};
use proto::view::{List, Node, View};
use proto::{Map, Value, meta};

use crate::rules;

const MOST_PARAMETERS: usize = 512;
/// Bytes of keys and values.
const LARGEST_PARAMETERS: usize = 256 << 10;

/// That there is a provisioner and what may not change, declarative validation asks for.
pub(super) fn storage_class(object: &Value, e: &mut Errors<'_>) {
    let class = StorageClass::of(Node::new(object));
    let at = Spot::of(class);
    provisioner(e, at.field(n::PROVISIONER), class.provisioner());
    parameters(e, at.field(n::PARAMETERS), class.parameters());
    if let Some(policy) = class.reclaim_policy()
        && !policy.is_empty()
    {
        rules::known(
            e,
            at.field(n::RECLAIM_POLICY),
            policy,
            &["Delete", "Retain"],
        );
    }
    const MODES: [&str; 2] = ["Immediate", "WaitForFirstConsumer"];
    match class.volume_binding_mode() {
        None => e.required(at.field(n::VOLUME_BINDING_MODE), ""),
        Some(mode) => rules::known(e, at.field(n::VOLUME_BINDING_MODE), mode, &MODES),
    }
    topologies(e, class.allowed_topologies());
}

/// That there is a driver, declarative validation asks for.
pub(super) fn attributes_class(object: &Value, e: &mut Errors<'_>) {
    let class = VolumeAttributesClass::of(Node::new(object));
    let at = Spot::of(class);
    provisioner(e, at.field(n::DRIVER_NAME), class.driver_name());
    parameters(e, at.field(n::PARAMETERS), class.parameters());
    if class.parameters().is_empty() {
        let detail = "must contain at least one key/value pair";
        e.required(at.field(n::PARAMETERS), detail);
    }
}

pub(super) fn attributes_class_update(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let (now, was) = (
        VolumeAttributesClass::of(Node::new(new)),
        VolumeAttributesClass::of(Node::new(old)),
    );
    let at = Spot::of(now);
    if now.driver_name() != was.driver_name() {
        let detail = "updates to driverName are forbidden.";
        e.forbidden(at.field(n::DRIVER_NAME), detail);
    }
    if now.parameters() != was.parameters() {
        let detail = "updates to parameters are forbidden.";
        e.forbidden(at.field(n::PARAMETERS), detail);
    }
    meta::validate_object_meta(new, false, names::subdomain_name, e);
    attributes_class(new, e);
}

fn provisioner(e: &mut Errors<'_>, at: Spot<'_>, name: &str) {
    if name.is_empty() {
        return e.covered(|e| e.required(at, ""));
    }
    let lower = name.to_lowercase();
    e.invalid_each(at, lower.as_str(), names::label_key_problems(&lower));
}

fn parameters(e: &mut Errors<'_>, at: Spot<'_>, parameters: &Map) {
    if parameters.len() > MOST_PARAMETERS {
        return e.too_long(at, MOST_PARAMETERS);
    }
    let mut size = 0;
    for (key, value) in parameters.iter() {
        if key.as_str().is_empty() {
            e.invalid(at, "", "field can not be empty.");
        }
        size += key.as_str().len() + value.as_str().map_or(0, str::len);
    }
    if size > LARGEST_PARAMETERS {
        e.too_long(at, LARGEST_PARAMETERS);
    }
}

type Term<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// `validateAllowedTopologies`. Upstream begins its search for equal terms with an empty one for each
/// of them, so that an empty term is told as often as there are terms, at least.
fn topologies(e: &mut Errors<'_>, terms: List<'_, TopologySelectorTerm<'_>>) {
    let mut seen: Vec<Term<'_>> = vec![Term::new(); terms.len()];
    for of in terms {
        let this = term(e, of);
        let at = Spot::of(of).field(n::MATCH_LABEL_EXPRESSIONS);
        for _ in seen.iter().filter(|before| **before == this) {
            e.duplicate(at, "");
        }
        seen.push(this);
    }
}

/// `ValidateTopologySelectorTerm`.
fn term<'a>(e: &mut Errors<'_>, term: TopologySelectorTerm<'a>) -> Term<'a> {
    let mut keys = Term::new();
    for expression in term.match_label_expressions() {
        let at = Spot::of(expression);
        if expression.values().is_empty() {
            e.required(at.field(n::VALUES), "");
        }
        let mut values = BTreeSet::new();
        for item in expression.values() {
            let text = item.as_str().unwrap_or_default();
            if !values.insert(text) {
                e.duplicate(Spot::node(item), text);
            }
        }
        let key = expression.key();
        rules::each(e, expression, n::KEY, names::label_key_problems(key));
        if keys.insert(key, values).is_some() {
            e.duplicate(at.field(n::KEY), key);
        }
    }
    keys
}

/// `ValidateCSIDriverName` of core.
pub(super) fn driver_name(e: &mut Errors<'_>, at: Spot<'_>, name: &str) {
    const LONGEST: usize = 63;
    if name.is_empty() {
        return e.required(at, "");
    }
    if name.len() > LONGEST {
        e.too_long(at, LONGEST);
    }
    e.invalid_each(
        at,
        name,
        names::dns_subdomain_problems(&name.to_lowercase()),
    );
}

/// A mode of access or of anything else, of which upstream knows a few.
pub(super) fn known_item(e: &mut Errors<'_>, at: Spot<'_>, item: &Value, known: &[&str]) {
    let text = item.as_str().unwrap_or_default();
    if !known.contains(&text) {
        e.not_supported(at, Named(text), known);
    }
}
