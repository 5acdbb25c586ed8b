//! What servers say of the versions that they store: `ValidateStorageVersion*` in
//! `pkg/apis/apiserverinternal/validation`.

use std::collections::{HashMap, HashSet};

use proto::Value;
use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, FieldError, Spot};
use proto::view::apiserverinternal_v1alpha1::{
    ServerStorageVersion, StorageVersion, StorageVersionStatus,
};
use proto::view::{Node, View};

use crate::rules;

/// `<group>.<resource>`.
pub(super) fn name_problems(name: &str) -> Vec<String> {
    let Some((group, resource)) = name.rsplit_once('.') else {
        return vec!["name must be in the form of <group>.<resource>".into()];
    };
    let group = names::dns_subdomain_problems(group).into_iter();
    let resource = names::dns_1035_label_problems(resource).into_iter();
    let group = group.map(|p| format!("the group segment {p}"));
    group
        .chain(resource.map(|p| format!("the resource segment {p}")))
        .collect()
}

pub(super) fn status(object: &Value, e: &mut Errors<'_>) {
    let status = StorageVersion::of(Node::new(object)).status();
    let mut servers = HashSet::new();
    for of in status.storage_versions() {
        if !servers.insert(of.api_server_id()) {
            let at = Spot::of(of).field(n::API_SERVER_ID);
            e.duplicate(at, of.api_server_id());
        }
        server(e, of);
    }
    common(e, status);
    conditions(e, status);
}

fn server(e: &mut Errors<'_>, server: ServerStorageVersion<'_>) {
    let at = Spot::of(server);
    let id = server.api_server_id();
    rules::each(
        e,
        server,
        n::API_SERVER_ID,
        names::subdomain_name(id, false),
    );
    let encoding = server.encoding_version();
    version(e, at.field(n::ENCODING_VERSION), encoding);
    let decodable: Vec<&str> = rules::texts(server.decodable_versions()).collect();
    for item in server.decodable_versions() {
        version(e, Spot::node(item), item.as_str().unwrap_or_default());
    }
    if !decodable.contains(&encoding) {
        let shown = rules::json(server.node().get(n::DECODABLE_VERSIONS));
        let detail = format!("decodableVersions must include encodingVersion {encoding}");
        e.invalid(at.field(n::DECODABLE_VERSIONS), shown, detail);
    }
    for item in server.served_versions() {
        let (at, served) = (Spot::node(item), item.as_str().unwrap_or_default());
        version(e, at, served);
        if !decodable.contains(&served) {
            let all = decodable.join(" ");
            let detail = format!(
                "individual served version : {served} must be included in decodableVersions : [{all}]"
            );
            e.invalid(at, served, detail);
        }
    }
}

fn version(e: &mut Errors<'_>, at: Spot<'_>, text: &str) {
    let problems = version_problems(text);
    if !problems.is_empty() {
        e.invalid(at, text, problems.join(","));
    }
}

/// `isValidAPIVersion`.
fn version_problems(text: &str) -> Vec<String> {
    const RULE: &str = "a DNS-1035 label, which must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
    let parts: Vec<&str> = text.split('/').collect();
    let (group, version) = match parts[..] {
        [version] => (None, version),
        [group, version] => (Some(group), version),
        _ => {
            let format = "[a-z]([-a-z0-9]*[a-z0-9])?";
            let rule = names::regex(RULE, format, &["my-name", "abc-123"]);
            let detail = format!(
                "an apiVersion is {rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyVersion')"
            );
            return vec![detail];
        }
    };
    let part = |name: &str, text: &str, check: fn(&str) -> Vec<String>| {
        let problems = match text {
            "" => vec!["must be non-empty".into()],
            text => check(text),
        };
        let problems = problems.into_iter();
        problems
            .map(|p| format!("{name} part: {p}"))
            .collect::<Vec<_>>()
    };
    let mut problems = group.map_or_else(Vec::new, |group| {
        part("group", group, names::dns_subdomain_problems)
    });
    problems.extend(part("version", version, names::dns_1035_label_problems));
    problems
}

/// What all servers encode alike.
fn common(e: &mut Errors<'_>, status: StorageVersionStatus<'_>) {
    let versions = status.storage_versions();
    let first = versions.first().map(|of| of.encoding_version());
    let actual = first.filter(|first| versions.iter().all(|of| of.encoding_version() == *first));
    let at = Spot::of(status).field(n::COMMON_ENCODING_VERSION);
    match (actual, status.common_encoding_version()) {
        (None, Some(given)) => {
            let detail = "should be nil if servers do not agree on the same encoding version, or if there is no server reporting the supported versions yet";
            e.invalid(at, given, detail);
        }
        (Some(actual), None) => {
            let detail = format!("the common encoding version is {actual}");
            e.invalid(at, &Value::Null, detail);
        }
        (Some(actual), Some(given)) if actual != given => {
            let detail = format!("the actual common encoding version is {actual}");
            e.invalid(at, given, detail);
        }
        _ => {}
    }
}

/// Upstream's paths leave the name of the list out.
fn conditions(e: &mut Errors<'_>, status: StorageVersionStatus<'_>) {
    let mut seen = HashMap::new();
    for (i, condition) in status.conditions().iter().enumerate() {
        let field = |name: &str| format!("status[{i}].{name}");
        let (kind, state) = (condition.r#type(), condition.status());
        if let Some(first) = seen.insert(kind, i) {
            let detail = format!(
                "the type of the condition is not unique, it also appears in conditions[{first}]"
            );
            e.push(FieldError::invalid(field("type"), kind, detail));
        }
        for (name, text) in [("type", kind), ("status", state)] {
            for problem in names::label_key_problems(text) {
                e.push(FieldError::invalid(field(name), text, problem));
            }
        }
        for name in [n::REASON, n::MESSAGE] {
            if condition.node().str(name).is_empty() {
                e.push(FieldError::required(field(name.text()), ""));
            }
        }
    }
}
