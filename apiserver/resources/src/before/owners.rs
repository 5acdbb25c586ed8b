//! Owner references that are given twice: upstream's `dedupOwnerReferencesAndAddWarning` of
//! `endpoints/handlers/rest.go`.

use std::collections::HashSet;

use proto::Value;
use proto::catalogue::names as n;

/// When owners are told from each other, in the words of the warning.
pub const ON_ARRIVAL: &str = "";
pub const AFTER_ADMISSION: &str = " after mutating admission happens";

/// Drops owner references that are given twice, and says so.
pub fn dedup_owner_references(object: &mut Value, when: &str) -> Option<String> {
    let path = [n::METADATA, n::OWNER_REFERENCES];
    let owners = object.at_mut(&path)?.as_list_mut()?;
    if owners.len() < 2 {
        return None;
    }
    let mut seen = HashSet::new();
    let mut twice = Vec::new();
    owners.retain(|owner| {
        let mut text = Vec::new();
        proto::codec::json::write(owner, &mut text);
        let new = seen.insert(text);
        if !new {
            let uid = owner.get(n::UID).and_then(Value::as_str);
            twice.push(uid.unwrap_or_default().to_owned());
        }
        new
    });
    let twice = (!twice.is_empty()).then(|| twice.join(", "))?;
    Some(format!(
        ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {twice}"
    ))
}
