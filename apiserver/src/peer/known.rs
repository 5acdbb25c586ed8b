//! What a peer serves, as its discovery says.

use std::collections::HashSet;

use proto::catalogue::names as n;
use proto::{Value, meta};

/// Another server.
pub(super) struct Peer {
    /// The name of its identity lease.
    pub(super) id: String,
    /// Group, version and resource.
    resources: HashSet<(String, String, String)>,
    /// What it tells at `/apis`.
    pub(super) groups: Vec<Value>,
}

impl Peer {
    /// Of the groups that a peer tells at `/api` and `/apis`.
    pub(super) fn new(id: &str, core: &[Value], groups: Vec<Value>) -> Self {
        let mut resources = HashSet::new();
        for group in core.iter().chain(&groups) {
            for version in list(group, n::VERSIONS) {
                for resource in list(version, n::RESOURCES) {
                    resources.insert((
                        meta::name(group).to_owned(),
                        text(version, n::VERSION).to_owned(),
                        text(resource, n::RESOURCE).to_owned(),
                    ));
                }
            }
        }
        Self {
            id: id.to_owned(),
            resources,
            groups,
        }
    }

    pub(super) fn serves(&self, group: &str, version: &str, resource: &str) -> bool {
        let wanted = (group.to_owned(), version.to_owned(), resource.to_owned());
        self.resources.contains(&wanted)
    }
}

pub(super) fn list(owner: &Value, field: proto::NameId) -> &[Value] {
    let list = owner.get(field).and_then(Value::as_list);
    list.unwrap_or_default()
}

pub(super) fn text(owner: &Value, field: proto::NameId) -> &str {
    let text = owner.get(field).and_then(Value::as_str);
    text.unwrap_or_default()
}
