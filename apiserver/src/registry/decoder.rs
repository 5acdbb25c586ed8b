//! From stored bytes to cache entries: the way in of every object.
//!
//! The common case touches no tree: the envelope is opened, labels and selectable fields are read by a
//! scan over the protobuf, and the resource version is spliced in. Objects whose stored version differs
//! from the hub's, or whose strategy has an `on_read`, take the slow path through a tree.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use proto::catalogue;
use proto::codec::{self, scan};
use store::{Decoder, Entry, Fields, Labels, Undecodable};

use super::Strategy;
use crate::object::Type;

/// Decodes the entries of one stored resource.
pub struct Objects {
    hub: Type,
    strategy: &'static Strategy,
    /// Selectable attributes, and the ways to each through the message: the first that leads to
    /// something counts.
    names: Arc<[Box<str>]>,
    ways: Vec<Vec<scan::Path>>,
}

impl Objects {
    #[must_use]
    pub fn new(hub: Type, strategy: &'static Strategy, resource: &catalogue::Resource) -> Self {
        let mut attrs: Vec<&'static str> = resource
            .field_labels
            .iter()
            .map(|(_, attr)| *attr)
            .collect();
        attrs.sort_unstable();
        attrs.dedup();
        let (names, ways): (Vec<Box<str>>, Vec<Vec<scan::Path>>) = attrs
            .into_iter()
            .filter(|attr| !matches!(*attr, "metadata.name" | "metadata.namespace"))
            .map(|attr| (attr.into(), ways(hub, strategy, attr)))
            .unzip();
        Self {
            hub,
            strategy,
            names: names.into(),
            ways,
        }
    }

    fn slow(&self, api_version: &str, kind: &str, raw: &[u8]) -> Result<Vec<u8>, String> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let message = catalogue::message_of(group, version, kind)
            .ok_or_else(|| format!("{api_version} {kind} is not known to this server"))?;
        let mut object = codec::protobuf::decode(raw, message).map_err(|e| e.to_string())?;
        if message != self.hub.message {
            object = proto::convert::convert(object, message, self.hub.message)
                .map_err(|e| e.to_string())?;
        }
        if let Some(on_read) = self.strategy.on_read {
            on_read(&mut object);
        }
        let mut out = Vec::with_capacity(raw.len());
        codec::protobuf::encode(&object, self.hub.message, &mut out);
        Ok(out)
    }
}

/// The ways to an attribute; none to one that is always empty.
fn ways(hub: Type, strategy: &Strategy, attr: &str) -> Vec<scan::Path> {
    let derived = strategy.fields.iter().find(|(name, _)| *name == attr);
    let own = [attr];
    derived
        .map_or(&own[..], |(_, fields)| *fields)
        .iter()
        .filter_map(|field| scan::Path::compile(hub.message, field))
        .collect()
}

impl Decoder for Objects {
    fn entry(&self, key: &str, value: Bytes, revision: i64) -> Result<Entry, Undecodable> {
        let fail = |why: String| Undecodable {
            key: key.to_owned(),
            reason: why,
        };
        let open = codec::protobuf::open(&value).map_err(|e| fail(e.to_string()))?;
        let same = open.kind == self.hub.kind && open.api_version == self.hub.api_version();
        let body = if same && self.strategy.on_read.is_none() {
            scan::splice_resource_version(open.raw, revision)
        } else {
            let raw = self
                .slow(open.api_version, open.kind, open.raw)
                .map_err(&fail)?;
            scan::splice_resource_version(&raw, revision)
        }
        .map_err(|e| fail(e.to_string()))?;
        let meta = scan::ObjectMeta::read(&body).map_err(|e| fail(e.to_string()))?;
        let mut values = Vec::with_capacity(self.ways.len());
        for ways in &self.ways {
            let mut value = Cow::Borrowed("");
            for path in ways {
                value = match path.get(&body).map_err(|e| fail(e.to_string()))? {
                    scan::Scalar::String(text) => Cow::Borrowed(text),
                    other => Cow::Owned(other.to_string()),
                };
                if !value.is_empty() {
                    break;
                }
            }
            values.push(value);
        }
        let labels = Labels::new(meta.labels());
        let fields = Fields::new(&self.names, values.iter().map(AsRef::as_ref));
        Ok(Entry::new(key, revision, body.clone(), labels, fields))
    }

    fn body_at(&self, entry: &Entry, revision: i64) -> Bytes {
        scan::splice_resource_version(&entry.body, revision).unwrap_or_else(|_| entry.body.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::strategies;

    #[test]
    fn what_can_be_selected_on_is_found_in_the_object() {
        let mut lost = Vec::new();
        for resource in catalogue::resources() {
            let Some(storage) = &resource.storage else {
                continue;
            };
            let hub = Type {
                group: storage.group,
                version: storage.version,
                kind: resource.kind,
                message: storage.message,
            };
            for (label, attr) in resource.field_labels {
                if ways(hub, strategies::of(resource), attr).is_empty() {
                    lost.push((resource.name, *label));
                }
            }
        }
        // Upstream takes the label and never has a value for it.
        assert_eq!(lost, [("pods", "status.podIPs")]);
    }
}
