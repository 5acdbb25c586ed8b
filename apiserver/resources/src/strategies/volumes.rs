//! Volumes and claims of them.
//!
//! A claim says once what it wants; only its size, its class of attributes and (once) the volume that it
//! got change. A volume's source never does.
//!
//! Upstream: `pkg/registry/core/{persistentvolume,persistentvolumeclaim}`, `pkg/api/persistentvolumeclaim`,
//! `pkg/apis/core/validation` (`ValidatePersistentVolume` and below, `ValidatePersistentVolumeClaim`).

use proto::catalogue::names as n;
use proto::path::{Errors, Named, Spot};
use proto::quantity::Quantity;
use proto::view::Node;
use proto::{Map, NameId, Value, meta};

use crate::rules;

mod claim;
mod inline;
mod sources;
mod volume;

pub use claim::{PERSISTENT_VOLUME_CLAIM, claim_template_spec};
pub use inline::inline_volume_spec;
pub use volume::PERSISTENT_VOLUME;

const PENDING: &str = "Pending";
const STORAGE: &str = "storage";
const UNSET: &str = "<unset>";
/// The class of a claim or volume, before there was a field for it.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const USE_CLASS_NAME: &str = r#"deprecated since v1.8; use "storageClassName" attribute instead"#;

/// Modes of access with the short names that tables have, in the tables' order.
const ACCESS_MODES: [(&str, &str); 4] = [
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    (ONE_POD, "RWOP"),
];
const ONE_POD: &str = "ReadWriteOncePod";
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];

/// Modes that are known, and the exclusive one alone.
fn access_modes(e: &mut Errors<'_>, spec: Spot<'_>, modes: &[Value]) {
    let at = || spec.field(n::ACCESS_MODES);
    let modes: Vec<&str> = rules::texts(modes).collect();
    let mut known = ACCESS_MODES.map(|(mode, _)| mode);
    known.sort_unstable();
    for mode in modes.iter().filter(|m| !known.contains(m)) {
        e.not_supported(at(), Named(mode), &known);
    }
    let others = |m: &&str| known.contains(m) && *m != ONE_POD;
    if modes.contains(&ONE_POD) && modes.iter().any(others) {
        let detail = "may not use ReadWriteOncePod with other access modes";
        e.forbidden(at(), detail);
    }
}

fn amount(value: Option<&Value>) -> Option<Quantity> {
    value.and_then(Value::as_str).and_then(|q| q.parse().ok())
}

fn positive(e: &mut Errors<'_>, at: Spot<'_>, value: &Value) {
    if amount(Some(value)).is_none_or(|q| q.signum() <= 0) {
        let shown = value.as_str().unwrap_or_default();
        e.invalid(at, shown, "must be greater than zero");
    }
}

/// `validateBasicResource`.
fn basic(e: &mut Errors<'_>, at: Spot<'_>, value: &Value) {
    if let Some(number) = amount(Some(value)).map(Quantity::value)
        && number < 0
    {
        e.invalid(at, number, "must be a valid resource quantity");
    }
}

/// The name of a class, if one is given.
fn class(e: &mut Errors<'_>, spec: Node<'_>, field: NameId) {
    let name = spec.str(field);
    if !name.is_empty() {
        let at = Spot::node(spec.value()).field(field);
        e.invalid_each(at, name, meta::names::subdomain_name(name, false));
    }
}

fn modes_text(modes: &[Value]) -> String {
    let has = |mode: &str| modes.iter().any(|m| m.as_str() == Some(mode));
    let shown = ACCESS_MODES.iter().filter(|(mode, _)| has(mode));
    shown.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

fn storage_text(amounts: &Map) -> &str {
    amounts.get(STORAGE).and_then(Value::as_str).unwrap_or("0")
}

fn class_text<'a>(object: &'a Value, field: Option<&'a str>) -> &'a str {
    meta::annotation(object, BETA_CLASS)
        .or(field)
        .unwrap_or_default()
}

fn phase_text<'a>(object: &Value, phase: &'a str) -> &'a str {
    if meta::is_deleting(object) {
        "Terminating"
    } else {
        phase
    }
}

#[cfg(test)]
mod tests;
