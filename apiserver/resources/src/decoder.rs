//! From stored bytes to cache entries: the way in of every object.
//!
//! The common case touches no tree: the envelope is opened, one walk over the protobuf finds that there is nothing to mend
//! ([`reading`]), labels and selectable fields are read by a scan, and the resource version is spliced in. Everything else
//! takes the way that upstream's decoder takes: out of the version in which it is stored, whichever upstream's scheme still
//! knows, with defaults, into the hub's. Objects in JSON do so too: `--storage-media-type` may have been that.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use proto::catalogue::{self, Gates, names as n};
use proto::codec::settled::Form;
use proto::codec::{self, scan};
use proto::{MsgId, Value, meta};
use store::{Decoder, Entry, Fields, Labels, Undecodable};

use super::Strategy;
use crate::object::{Type, strip_type};
use crate::{defaults, reading};

/// Decodes the entries of one stored resource.
pub struct Objects {
    hub: Type,
    strategy: &'static Strategy,
    gates: Gates,
    /// What objects look like in which there is nothing to mend; made with the first of them.
    form: OnceLock<Form>,
    /// Selectable attributes, and the ways to each through the message: the first that leads to
    /// something counts.
    names: Arc<[Box<str>]>,
    ways: Vec<Vec<scan::Path>>,
}

impl Objects {
    #[must_use]
    pub fn new(
        hub: Type,
        strategy: &'static Strategy,
        resource: &catalogue::Resource,
        gates: Gates,
    ) -> Self {
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
            gates,
            form: OnceLock::new(),
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

    /// Whether there is nothing to mend in an object of the hub's version.
    fn is_settled(&self, raw: &[u8]) -> bool {
        let make = || Form::new(self.hub.message, &reading::rules(self.gates));
        self.form.get_or_init(make).holds(raw)
    }

    /// The message of the hub's version, as upstream reads it out of what is stored.
    fn mend(&self, stored: &Stored<'_>) -> Result<Vec<u8>, String> {
        let (object, from) = stored.decode()?;
        let hub = self.hub.message;
        let object = defaults::into_hub(self.gates, self.strategy, from, hub, object);
        let mut object = object.map_err(|e| e.to_string())?;
        if let Some(on_read) = self.strategy.on_read {
            on_read(&mut object);
        }
        let mut out = Vec::with_capacity(1024);
        codec::protobuf::encode(&object, hub, &mut out);
        Ok(out)
    }
}

/// A stored value.
enum Stored<'a> {
    Protobuf(codec::protobuf::Envelope<'a>),
    Json(&'a [u8]),
}

impl<'a> Stored<'a> {
    fn open(value: &'a [u8]) -> Result<Self, codec::DecodeError> {
        if value.starts_with(b"{") {
            return Ok(Self::Json(value));
        }
        codec::protobuf::open(value).map(Self::Protobuf)
    }

    /// The object without version and kind, and its message.
    fn decode(&self) -> Result<(Value, MsgId), String> {
        let text = |e: codec::DecodeError| e.to_string();
        match self {
            Self::Protobuf(open) => {
                let from = message_of(open.api_version, open.kind)?;
                let object = codec::protobuf::decode(open.raw, from).map_err(text)?;
                Ok((object, from))
            }
            Self::Json(json) => {
                let head = codec::json::parse(json).map_err(text)?;
                let of = |name| head.get(name).and_then(Value::as_str).unwrap_or_default();
                let from = message_of(of(n::API_VERSION), of(n::KIND))?;
                let lenient = codec::json::Strictness::Lenient;
                let decoded = codec::json::decode(json, from, lenient).map_err(text)?;
                let mut object = decoded.value;
                strip_type(&mut object);
                Ok((object, from))
            }
        }
    }
}

/// The message of a kind, in any version that upstream's scheme has.
fn message_of(api_version: &str, kind: &str) -> Result<MsgId, String> {
    meta::parse_api_version(api_version)
        .and_then(|(group, version)| catalogue::message_of(group, version, kind))
        .ok_or_else(|| format!("{api_version} {kind} is not known to this server"))
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
        let stored = Stored::open(value).map_err(|e| fail(e.to_string()))?;
        let versioned = |raw: &[u8]| match revision {
            Some(revision) => scan::splice_resource_version(raw, revision),
            None => Ok(Bytes::copy_from_slice(raw)),
        };
        let today = match &stored {
            Stored::Protobuf(open) if self.is_of_hub(open) => Some(open.raw),
            _ => None,
        };
        let settled = today.filter(|raw| self.strategy.on_read.is_none() && self.is_settled(raw));
        let mut mended = false;
        let body = match settled {
            Some(raw) => versioned(raw),
            None => {
                let raw = self.mend(&stored).map_err(&fail)?;
                mended = today != Some(&raw[..]);
                versioned(&raw)
            }
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
        let mut entry = Entry::new(key, revision, body, labels, fields);
        entry.mended = mended;
        Ok(entry)
    }

    fn is_of_hub(&self, open: &codec::protobuf::Envelope<'_>) -> bool {
        meta::parse_api_version(open.api_version) == Some((self.hub.group, self.hub.version))
            && open.kind == self.hub.kind
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
mod tests;
