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

    /// The entry of an object that was never stored: it has no version of its own.
    ///
    /// # Errors
    /// As [`Decoder::entry`].
    pub fn unversioned(&self, key: &str, value: &[u8]) -> Result<Entry, Undecodable> {
        self.read(key, value, None)
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

impl Objects {
    fn read(&self, key: &str, value: &[u8], revision: Option<i64>) -> Result<Entry, Undecodable> {
        let fail = |why: String| Undecodable {
            key: key.to_owned(),
            reason: why,
        };
        let open = codec::protobuf::open(value).map_err(|e| fail(e.to_string()))?;
        let versioned = |raw: &[u8]| match revision {
            Some(revision) => scan::splice_resource_version(raw, revision),
            None => Ok(Bytes::copy_from_slice(raw)),
        };
        let same = open.kind == self.hub.kind && open.api_version == self.hub.api_version();
        let body = if same && self.strategy.on_read.is_none() {
            versioned(open.raw)
        } else {
            let raw = self
                .slow(open.api_version, open.kind, open.raw)
                .map_err(&fail)?;
            versioned(&raw)
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
        drop(values);
        // Moved: a clone would leave a count of owners behind with every object.
        let revision = revision.unwrap_or_default();
        Ok(Entry::new(key, revision, body, labels, fields))
    }
}

impl Decoder for Objects {
    fn entry(&self, key: &str, value: Bytes, revision: i64) -> Result<Entry, Undecodable> {
        self.read(key, &value, Some(revision))
    }

    fn body_at(&self, entry: &Entry, revision: i64) -> Bytes {
        scan::splice_resource_version(&entry.body, revision).unwrap_or_else(|_| entry.body.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies;

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

    #[test]
    fn what_is_no_object_of_its_resource_is_refused_and_never_guessed() {
        let resource = catalogue::resources()
            .iter()
            .find(|r| r.name == "configmaps" && r.version == "v1")
            .unwrap();
        let storage = resource.storage.as_ref().unwrap();
        let hub = Type {
            group: storage.group,
            version: storage.version,
            kind: resource.kind,
            message: storage.message,
        };
        let decoder = Objects::new(hub, strategies::of(resource), resource);
        let entry = |value: &[u8]| decoder.entry("a/b", Bytes::copy_from_slice(value), 7);
        let stored = |kind: &str, raw: &[u8]| {
            // runtime.Unknown: the type (version and kind), then the object.
            let field = |tag: u8, text: &[u8]| [&[tag, text.len() as u8], text].concat();
            let types = [field(0x0a, b"v1"), field(0x12, kind.as_bytes())].concat();
            [&b"k8s\0"[..], &field(0x0a, &types), &field(0x12, raw)].concat()
        };
        // metadata: {name: "b"}, data: {"k": "v"}
        let raw = b"\x0a\x03\x0a\x01b\x12\x06\x0a\x01k\x12\x01v";
        let good = stored("ConfigMap", raw);
        assert!(entry(&good).is_ok());
        // Between its two fields an envelope is whole, around an object that has nothing.
        let between = good.len() - 2 - raw.len();
        for cut in (0..good.len()).filter(|cut| *cut != between) {
            assert!(entry(&good[..cut]).is_err(), "cut after {cut} bytes");
        }
        for (value, why) in [
            (&b"k8s:enc:aescbc:v1:key1:0123456789"[..], "sealed"),
            (
                b"k8s:enc:kms:v9:name:0123456789",
                "sealed by what is not known",
            ),
            (b"{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\"}", "JSON"),
            (&stored("Secret", raw), "another kind"),
            (&stored("Nobody", raw), "a kind that nobody knows"),
            (&stored("ConfigMap", b"\xff\xff\xff\xff"), "no message"),
        ] {
            assert!(entry(value).is_err(), "{why}");
        }
    }
}
