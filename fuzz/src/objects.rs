//! Objects to begin with: those that the registry is held against upstream's with, small and large of every resource.

use std::path::Path;
use std::sync::LazyLock;

use proto::catalogue::{self, Resource};
use proto::codec::json::{self, Strictness};
use proto::codec::yaml;
use proto::{MsgId, Value};

/// A valid object.
pub(crate) struct Object {
    pub(crate) resource: &'static Resource,
    /// As a client would send it.
    pub(crate) json: Vec<u8>,
}

impl Object {
    pub(crate) fn message(&self) -> MsgId {
        self.resource.message
    }

    /// Conformed.
    pub(crate) fn tree(&self) -> Value {
        let decoded = json::decode(&self.json, self.message(), Strictness::Lenient);
        decoded.expect("seeds are valid").value
    }

    /// The message without its envelope.
    pub(crate) fn protobuf(&self) -> Vec<u8> {
        let mut raw = Vec::new();
        proto::codec::protobuf::encode(&self.tree(), self.message(), &mut raw);
        raw
    }
}

/// All of them, in the order of their files.
pub(crate) fn objects() -> &'static [Object] {
    static ALL: LazyLock<Vec<Object>> = LazyLock::new(read);
    &ALL
}

/// A message that an input chooses by its number.
pub(crate) fn message(choice: u16) -> MsgId {
    let mut messages = catalogue::messages();
    let count = messages.len();
    messages
        .nth(usize::from(choice) % count)
        .expect("below their number")
}

/// The number that chooses a message.
pub(crate) fn number_of(message: MsgId) -> usize {
    catalogue::messages()
        .position(|m| m == message)
        .expect("it is of the catalogue")
}

/// A resource that an input chooses.
pub(crate) fn resource(choice: u16) -> &'static Resource {
    let all = catalogue::resources();
    &all[usize::from(choice) % all.len()]
}

/// The number that chooses a resource.
pub(crate) fn number_of_resource(resource: &Resource) -> usize {
    let all = catalogue::resources();
    all.iter()
        .position(|r| std::ptr::eq(r, resource))
        .expect("it is of the catalogue")
}

fn read() -> Vec<Object> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hack/go/kubernetes/oracle/seeds");
    let files = std::fs::read_dir(&seeds).expect("the seeds lie in the tree");
    let mut files: Vec<_> = files
        .map(|f| f.expect("the seeds can be listed").path())
        .collect();
    files.sort();
    let texts = files
        .iter()
        .map(|f| std::fs::read_to_string(f).expect("a seed can be read"));
    texts
        .flat_map(|text| text.split("\n---\n").filter_map(object).collect::<Vec<_>>())
        .collect()
}

fn object(text: &str) -> Option<Object> {
    let (json, _) = yaml::to_json(text.as_bytes()).expect("seeds are YAML");
    let tree = json::parse(&json).expect("YAML is read to JSON");
    let text = |name| tree.get(name).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = proto::meta::parse_api_version(text("apiVersion"))?;
    let resources = catalogue::resources().iter();
    let resource = resources
        .filter(|r| r.storage.is_some())
        .find(|r| (r.group, r.version, r.kind) == (group, version, text("kind")))?;
    Some(Object { resource, json })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_object_of_nearly_every_resource() {
        let mut kinds: Vec<_> = objects()
            .iter()
            .map(|o| (o.resource.group, o.resource.kind))
            .collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert!(kinds.len() > 55, "{}", kinds.len());
        assert!(objects().len() > kinds.len());
    }
}
