//! What migrations of stored objects must be: `ValidateStorageVersionMigration*` in
//! `pkg/apis/storagemigration/validation`.

use proto::catalogue::messages::meta_v1::CONDITION;
use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Spot};
use proto::view::storagemigration_v1beta1::{
    StorageVersionMigration, StorageVersionMigrationStatus,
};
use proto::view::{Node, View};
use proto::{Value, meta};

use crate::equal::same_at;
use crate::rules;
use crate::shown::Internal;

pub(super) fn migration(object: &Value, e: &mut Errors<'_>) {
    let resource = StorageVersionMigration::of(Node::new(object))
        .spec()
        .resource();
    let at = Spot::of(resource);
    match resource.resource() {
        "" => e.required(at.field(n::RESOURCE), "resource is required to be set"),
        name => {
            let problems = names::dns_1035_label_problems(name);
            if !problems.is_empty() {
                e.invalid(at.field(n::RESOURCE), name, problems.join(","));
            }
        }
    }
    let group = resource.group();
    let problems = names::dns_subdomain_problems(group);
    if !group.is_empty() && !problems.is_empty() {
        e.invalid(at.field(n::GROUP), group, problems.join(","));
    }
}

pub(super) fn update(new: &Value, old: &Value, e: &mut Errors<'_>) {
    migration(new, e);
    if !same_at(new, old, &[n::SPEC]) {
        let spec = StorageVersionMigration::of(Node::new(new)).spec();
        e.invalid(Spot::of(spec), Internal::of(spec), rules::IMMUTABLE);
    }
}

/// What has begun at a version stays there; what has ended stays ended.
pub(super) fn status(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let status = |object| StorageVersionMigration::of(Node::new(object)).status();
    let (now, was) = (status(new), status(old));
    let (at, version) = (Spot::of(now), now.resource_version());
    let digits = version.bytes().all(|b| b.is_ascii_digit());
    if !version.is_empty() && (!digits || version.starts_with('0')) {
        let detail = format!("resource version is not well formed: {version}");
        e.invalid(at.field(n::RESOURCE_VERSION), version, detail);
    }
    let conditions = now.node().get(n::CONDITIONS);
    if let Some(conditions) = conditions {
        meta::validate_conditions(conditions, e);
    }
    if !was.resource_version().is_empty() && was.resource_version() != version {
        e.invalid(at.field(n::RESOURCE_VERSION), version, rules::IMMUTABLE);
    }
    let at = at.field(n::CONDITIONS);
    let mut wrong = |detail: &str| {
        e.invalid(at, Internal(conditions, CONDITION), detail);
    };
    if holds(now, "Succeeded") && holds(now, "Failed") {
        wrong("Both success and failed conditions cannot be true at the same time");
    }
    if holds(was, "Succeeded") && !holds(now, "Succeeded") {
        wrong("Success condition cannot be set to false once it is true");
    }
    if holds(was, "Failed") && !holds(now, "Failed") {
        wrong("Failed condition cannot be set to false once it is true");
    }
}

fn holds(status: StorageVersionMigrationStatus<'_>, kind: &str) -> bool {
    let mut conditions = status.conditions().iter();
    let first = conditions.find(|c| c.r#type() == kind);
    first.is_some_and(|c| c.status() == "True")
}
