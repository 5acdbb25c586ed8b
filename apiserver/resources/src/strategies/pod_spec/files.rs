//! Files in volumes: where they are, whose, and who may do what with them.

use proto::NameId;
use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Spot};
use proto::view::Node;

use super::environment::{self, DOWNWARD_FILE_FIELDS};
use super::volumes::{at, need};

const ABOVE: &str = "must not contain '..'";
const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Mode, owner and chosen keys of a ConfigMap's or a Secret's files.
pub(super) fn files(e: &mut Errors<'_>, source: Node<'_>) {
    mode(e, source, n::DEFAULT_MODE);
    user(e, source, n::DEFAULT_USER);
    for item in source.items(n::ITEMS) {
        key_to_path(e, Node::new(item));
    }
}

/// `validateKeyToPath`.
pub(super) fn key_to_path(e: &mut Errors<'_>, item: Node<'_>) {
    need(e, item, n::KEY);
    need(e, item, n::PATH);
    local_path(e, at(item).field(n::PATH), item.str(n::PATH));
    mode(e, item, n::MODE);
    user(e, item, n::USER);
}

/// `validateDownwardAPIVolumeFile`; upstream says all of it of the list's owner.
pub(super) fn downward_file(e: &mut Errors<'_>, file: Node<'_>, owner: Spot<'_>) {
    let path = file.str(n::PATH);
    if path.is_empty() {
        e.required(owner.field(n::PATH), "");
    }
    local_path(e, owner.field(n::PATH), path);
    let resource = file.get(n::RESOURCE_FIELD_REF).map(Node::new);
    match (file.get(n::FIELD_REF).map(Node::new), resource) {
        (Some(field), resource) => {
            let at = owner.field(n::FIELD_REF);
            environment::field_selector(e, field, at, &DOWNWARD_FILE_FIELDS);
            if resource.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                e.invalid(owner, "resource", detail);
            }
        }
        (None, Some(resource)) => {
            let at = owner.field(n::RESOURCE_FIELD_REF);
            environment::resource_selector(e, resource, at, true);
        }
        (None, None) => e.required(owner, "one of fieldRef and resourceFieldRef is required"),
    }
    if let Some(mode) = file.opt_int(n::MODE).filter(|m| !(0..=0o777).contains(m)) {
        e.invalid(owner.field(n::MODE), mode, MODE);
    }
    if let Some(id) = file.opt_int(n::USER) {
        e.invalid_each(owner.field(n::USER), id, names::id_problems(id));
    }
}

/// Bits of a file's mode.
pub(super) fn mode(e: &mut Errors<'_>, node: Node<'_>, field: NameId) {
    if let Some(mode) = node.opt_int(field)
        && !(0..=0o777).contains(&mode)
    {
        e.invalid(at(node).field(field), mode, MODE);
    }
}

/// The owner of a file.
pub(super) fn user(e: &mut Errors<'_>, node: Node<'_>, field: NameId) {
    if let Some(id) = node.opt_int(field) {
        e.invalid_each(at(node).field(field), id, names::id_problems(id));
    }
}

/// A path that stays below where it begins (`validateLocalDescendingPath`).
pub(super) fn descending(e: &mut Errors<'_>, at: Spot<'_>, path: &str) {
    if path.starts_with('/') {
        e.invalid(at, path, "must be a relative path");
    }
    no_backsteps(e, at, path);
}

/// `validatePathNoBacksteps`.
pub(in crate::strategies) fn no_backsteps(e: &mut Errors<'_>, at: Spot<'_>, path: &str) {
    if steps_back(path) {
        e.invalid(at, path, ABOVE);
    }
}

#[must_use]
pub(super) fn steps_back(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

/// A path below where it begins, and not one that the atomic writer uses itself
/// (`ValidateLocalNonReservedPath`).
pub(super) fn local_path(e: &mut Errors<'_>, at: Spot<'_>, path: &str) {
    descending(e, at, path);
    if path.starts_with("..") && !path.starts_with("../") {
        e.invalid(at, path, "must not start with '..'");
    }
}
