//! The annotation of client-side apply, and the way from it to server-side apply.
//!
//! An object that `kubectl apply` has managed so far belongs to the updates of kubectl. When kubectl
//! applies on the server, what the annotation says that it set is no conflict.

use super::check::check;
use super::compare::{Trees, compare};
use super::managed::Conflicts;
use super::set::Set;
use super::track::Subject;
use crate::catalogue::names as n;
use crate::codec::json;
use crate::meta;
use crate::value::Value;

pub(super) const MANAGER: &str = "kubectl";
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The annotation of an object, if it says something.
pub(super) fn of(object: &Value) -> Option<&str> {
    meta::annotation(object, ANNOTATION).filter(|text| !text.is_empty())
}

/// What the annotation says of a configuration: its JSON, without the annotation itself.
pub(super) fn text(config: &Value) -> String {
    let mut config = config.clone();
    if let Some(Value::Map(annotations)) = config.at_mut(&[n::METADATA, n::ANNOTATIONS]) {
        annotations.remove(ANNOTATION);
    }
    let mut out = Vec::new();
    json::write(&config, &mut out);
    out.push(b'\n');
    String::from_utf8_lossy(&out).into_owned()
}

/// The conflicts that the annotation does not excuse; none if it excuses them all.
pub(super) fn unexcused(
    subject: &Subject<'_>,
    live: &Value,
    mut conflicts: Conflicts,
) -> Option<Conflicts> {
    let Some(excused) = excused(subject, live) else {
        return Some(conflicts);
    };
    for conflict in &mut conflicts.0 {
        conflict.fields.difference(&excused);
    }
    conflicts.0.retain(|c| !c.fields.is_empty());
    (!conflicts.0.is_empty()).then_some(conflicts)
}

/// What was applied by the client last and is still as it was.
fn excused(subject: &Subject<'_>, live: &Value) -> Option<Set> {
    let last = json::parse(of(live)?.as_bytes()).ok()?;
    let version = last.get(n::API_VERSION).and_then(Value::as_str);
    if version != Some(subject.api_version) || check(&last, subject.message).is_some() {
        return None;
    }
    let mut set = Set::of(&last, subject.message).ok()?;
    let change = compare(&last, live, subject.message, Trees::Explicit).ok()?;
    for differs in [&change.modified, &change.added, &change.removed] {
        set.difference(differs);
    }
    Some(set)
}
