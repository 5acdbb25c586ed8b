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
    /// Selectable fields, and the way to each through the message.
    names: Arc<[Box<str>]>,
    paths: Vec<scan::Path>,
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
        let (names, paths): (Vec<Box<str>>, Vec<scan::Path>) = attrs
            .into_iter()
            .filter(|attr| !matches!(*attr, "metadata.name" | "metadata.namespace"))
            .filter_map(|attr| {
                scan::Path::compile(hub.message, attr).map(|path| (attr.into(), path))
            })
            .unzip();
        Self {
            hub,
            strategy,
            names: names.into(),
            paths,
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
        let mut values = Vec::with_capacity(self.paths.len());
        for path in &self.paths {
            values.push(match path.get(&body).map_err(|e| fail(e.to_string()))? {
                scan::Scalar::String(text) => Cow::Borrowed(text),
                other => Cow::Owned(other.to_string()),
            });
        }
        let labels = Labels::new(meta.labels());
        let fields = Fields::new(&self.names, values.iter().map(AsRef::as_ref));
        Ok(Entry::new(key, revision, body.clone(), labels, fields))
    }

    fn body_at(&self, entry: &Entry, revision: i64) -> Bytes {
        scan::splice_resource_version(&entry.body, revision).unwrap_or_else(|_| entry.body.clone())
    }
}
