//! Environment variables of a container, and the fields of the pod that variables and files may show.
//!
//! Upstream: `ValidateEnv`, `ValidateEnvFrom` and below.

use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Spot};
use proto::view::core_v1::{Container, EnvVar, PodSpec};
use proto::view::{Node, View};

use super::Kept;
use super::containers::all_containers;
use super::files::no_backsteps;
use super::volumes::{at, need};
use crate::rules;

/// Fields of the pod that a variable may show.
const VARIABLE_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Fields of the pod that a file may show.
pub(super) const DOWNWARD_FILE_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// Fields that are known at all, though they cannot be shown everywhere.
const KNOWN_FIELDS: [&str; 15] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
    // The old name of the node's.
    "spec.host",
];

/// Amounts of a container that can be shown, besides those of huge pages.
const AMOUNTS: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const HUGE_PAGES: [&str; 2] = ["limits.hugepages-", "requests.hugepages-"];

const CPU_DIVISORS: &[&str] = &["1m", "1"];
const BYTE_DIVISORS: &[&str] = &[
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];

pub(super) fn variables(e: &mut Errors<'_>, container: Container<'_>, kept: Kept) {
    for var in container.env() {
        if rules::required(e, var, n::NAME) {
            let problems = names::relaxed_env_var_name_problems(var.name());
            rules::each(e, var, n::NAME, problems);
        }
        value_from(e, var, kept);
    }
    // As upstream, which says of the list what is wrong with an item.
    let list = Spot::of(container).field(Container::ENV_FROM);
    for from in container.env_from() {
        if !from.prefix().is_empty() {
            let problems = names::relaxed_env_var_name_problems(from.prefix());
            rules::each(e, from, n::PREFIX, problems);
        }
        let sources = [n::CONFIG_MAP_REF, n::SECRET_REF].map(|field| from.node().get(field));
        for source in sources.into_iter().flatten().map(Node::new) {
            let name = source.str(n::NAME);
            need(e, source, n::NAME);
            if !name.is_empty() {
                e.invalid_each(
                    at(source).field(n::NAME),
                    name,
                    names::subdomain_name(name, true),
                );
            }
        }
        match sources.iter().flatten().count() {
            0 => e.invalid(
                list,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            ),
            1 => {}
            _ => e.invalid(
                list,
                "",
                "may not have more than one field specified at a time",
            ),
        }
    }
}

fn value_from(e: &mut Errors<'_>, var: EnvVar<'_>, kept: Kept) {
    let Some(source) = var.value_from() else {
        return;
    };
    let of = |field| source.node().get(field).map(Node::new);
    let mut given = 0;
    if let Some(field) = of(n::FIELD_REF) {
        given += 1;
        field_selector(e, field, at(field), &VARIABLE_FIELDS);
    }
    if let Some(amount) = of(n::RESOURCE_FIELD_REF) {
        given += 1;
        resource_selector(e, amount, at(amount), false);
    }
    let keys = [of(n::CONFIG_MAP_KEY_REF), of(n::SECRET_KEY_REF)];
    for key in keys.into_iter().flatten() {
        given += 1;
        key_selector(e, key);
    }
    if let Some(file) = of(n::FILE_KEY_REF) {
        given += 1;
        file_selector(e, file);
    }
    let detail = match given {
        0 if !kept.files_of_variables => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
        }
        0 => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        }
        _ if !var.value().is_empty() => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    e.invalid(Spot::of(source), "", detail);
}

/// A key of a ConfigMap or a Secret.
fn key_selector(e: &mut Errors<'_>, source: Node<'_>) {
    let (name, key) = (source.str(n::NAME), source.str(n::KEY));
    e.invalid_each(
        at(source).field(n::NAME),
        name,
        names::subdomain_name(name, false),
    );
    need(e, source, n::KEY);
    if !key.is_empty() {
        e.invalid_each(
            at(source).field(n::KEY),
            key,
            names::config_map_key_problems(key),
        );
    }
}

/// A variable of a file in a volume.
fn file_selector(e: &mut Errors<'_>, source: Node<'_>) {
    let (key, volume, path) = (
        source.str(n::KEY),
        source.str(n::VOLUME_NAME),
        source.str(n::PATH),
    );
    need(e, source, n::KEY);
    if !key.is_empty() {
        let problems = names::relaxed_env_var_name_problems(key);
        e.invalid_each(at(source).field(n::KEY), key, problems);
    }
    need(e, source, n::VOLUME_NAME);
    if !volume.is_empty() {
        let problems = names::dns_label_problems(volume);
        e.invalid_each(at(source).field(n::VOLUME_NAME), volume, problems);
    }
    need(e, source, n::PATH);
    no_backsteps(e, at(source).field(n::PATH), path);
}

/// `validateObjectFieldSelector`: a field of the pod that can be shown here.
pub(super) fn field_selector(
    e: &mut Errors<'_>,
    selector: Node<'_>,
    at: Spot<'_>,
    allowed: &[&str],
) {
    let (version, path) = (selector.str(n::API_VERSION), selector.str(n::FIELD_PATH));
    if version.is_empty() {
        e.required(at.field(n::API_VERSION), "");
        return;
    }
    let field = at.field(n::FIELD_PATH);
    if path.is_empty() {
        e.required(field, "");
        return;
    }
    let refuse = |e: &mut Errors<'_>, why: String| {
        e.invalid(field, path, format!("error converting fieldPath: {why}"));
    };
    if version != "v1" {
        refuse(e, format!("unsupported pod version: {version}"));
        return;
    }
    match subscript(path) {
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            let problems = names::label_key_problems(&key);
            e.invalid_each(at, key.as_str(), problems);
        }
        Some(("metadata.labels", key)) => {
            e.invalid_each(at, key, names::label_key_problems(key));
        }
        Some(_) => refuse(e, format!("field label does not support subscript: {path}")),
        None if !KNOWN_FIELDS.contains(&path) => {
            refuse(e, format!("field label not supported: {path}"));
        }
        None => {
            let path = if path == "spec.host" {
                "spec.nodeName"
            } else {
                path
            };
            if !allowed.contains(&path) {
                e.not_supported(field, path, allowed);
            }
        }
    }
}

/// `metadata.labels['key']` in two.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (path, key) = path.strip_suffix("']")?.split_once("['")?;
    (!path.is_empty()).then_some((path, key))
}

/// `validateContainerResourceFieldSelector`: an amount, and what it is divided by.
pub(super) fn resource_selector(e: &mut Errors<'_>, selector: Node<'_>, at: Spot<'_>, file: bool) {
    let resource = selector.str(n::RESOURCE);
    let of_huge_pages = HUGE_PAGES.iter().any(|prefix| resource.starts_with(prefix));
    if file && selector.str(n::CONTAINER_NAME).is_empty() {
        e.required(at.field(n::CONTAINER_NAME), "");
    } else if resource.is_empty() {
        e.required(at.field(n::RESOURCE), "");
    } else if !AMOUNTS.contains(&resource) && !of_huge_pages {
        e.not_supported(at.field(n::RESOURCE), resource, &AMOUNTS);
    }
    let divisor = selector.str(n::DIVISOR);
    if matches!(divisor, "" | "0") {
        return;
    }
    let (allowed, list, what) = match resource {
        "limits.cpu" | "requests.cpu" => (CPU_DIVISORS, "1m and 1", "cpu"),
        "limits.memory" | "requests.memory" => (BYTE_DIVISORS, BYTES, "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            (BYTE_DIVISORS, BYTES, "local ephemeral storage")
        }
        _ if of_huge_pages => (BYTE_DIVISORS, BYTES, "hugepages"),
        _ => return,
    };
    if !allowed.contains(&divisor) {
        let detail = format!("only divisor's values {list} are supported with the {what} resource");
        e.invalid(at.field(n::DIVISOR), resource, detail);
    }
}

const BYTES: &str = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";

/// `validateFileKeyRefVolumes`: files of variables are in volumes that start empty.
pub(super) fn file_volumes(e: &mut Errors<'_>, spec: PodSpec<'_>) {
    for var in all_containers(spec).flat_map(Container::env) {
        let Some(source) = var.value_from().and_then(|from| from.file_key_ref()) else {
            continue;
        };
        let field = Spot::of(source).field(n::VOLUME_NAME);
        let name = source.volume_name();
        // Of two volumes of one name the last counts.
        let volume = spec.volumes().iter().rev().find(|v| v.name() == name);
        match volume {
            None => e.not_found(field, name),
            Some(volume) if volume.empty_dir().is_none() => {
                e.invalid(field, name, "referenced volume must be of type emptyDir");
            }
            Some(_) => {}
        }
    }
}
