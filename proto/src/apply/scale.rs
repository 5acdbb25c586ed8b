//! Ownership of the number of replicas, carried between an object and its `scale`.

use super::element::Element;
use super::managed::{Entry, Managed};
use super::set::Set;

const SCALE_VERSION: &str = "autoscaling/v1";
const REPLICAS: &str = "spec.replicas";

fn replicas() -> Set {
    Set::of_dotted([REPLICAS])
}

fn has_replicas(set: &Set) -> bool {
    set.has(&[Element::field("spec"), Element::field("replicas")])
}

/// The managers of an object's replicas as managers of its scale. `versions` are those of the object
/// whose replicas are at `spec.replicas`.
#[must_use]
pub fn of_object(object: &Managed, versions: &[&str]) -> Managed {
    let entries = object
        .entries
        .iter()
        .filter(|e| versions.contains(&e.api_version.as_str()) && has_replicas(&e.set))
        .map(|e| Entry {
            api_version: SCALE_VERSION.to_owned(),
            set: replicas(),
            ..e.clone()
        })
        .collect();
    Managed { entries }
}

/// The managers of an object after a write to its scale: who lost the replicas there loses them here.
/// New owners are recorded in `api_version`; they have no time of their own, as upstream has it.
#[must_use]
pub fn into_object(
    object: &Managed,
    scale: Managed,
    versions: &[&str],
    api_version: &str,
) -> Managed {
    let mut left = scale.entries;
    let mut entries = Vec::with_capacity(object.entries.len() + left.len());
    for entry in &object.entries {
        if !versions.contains(&entry.api_version.as_str()) {
            continue;
        }
        let mut entry = entry.clone();
        if has_replicas(&entry.set) {
            let who = entry.who();
            match left.iter().position(|e| e.is(&who)) {
                Some(i) => drop(left.remove(i)),
                None => entry.set.difference(&replicas()),
            }
        }
        if !entry.set.is_empty() {
            entries.push(entry);
        }
    }
    let new = left.into_iter().filter(|e| has_replicas(&e.set)).map(|e| {
        let who = e.who();
        let before = object.entries.iter().find(|o| o.is(&who));
        Entry {
            api_version: api_version.to_owned(),
            time: before.and_then(|o| o.time.clone()),
            set: replicas(),
            ..e
        }
    });
    entries.extend(new);
    Managed { entries }
}
