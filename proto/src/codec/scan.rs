//! Reading single fields of stored protobuf, and splicing the resource version into it, without a tree.
//!
//! For the watch cache, which sees every object go by: labels, selectable fields and the metadata that
//! decides where an object belongs. All functions take a message without its envelope and assume what
//! every encoder does, each single field once; where the same field comes again the last one counts.

use bytes::Bytes;

use super::DecodeError;
use super::protobuf::scalar;
use super::protobuf::wire::{BYTES, Fields, Wire};
use crate::catalogue::{self, Flags, Kind, MsgId, Shape};
use crate::name::NameId;
use crate::time::GO_ZERO;

/// Tags of `ObjectMeta` and `OwnerReference`, `apimachinery/pkg/apis/meta/v1/generated.proto`. A test
/// holds them against the catalogue.
mod tag {
    pub(super) const METADATA: u32 = 1;

    pub(super) const NAME: u32 = 1;
    pub(super) const NAMESPACE: u32 = 3;
    pub(super) const UID: u32 = 5;
    pub(super) const RESOURCE_VERSION: u32 = 6;
    pub(super) const GENERATION: u32 = 7;
    pub(super) const DELETION_TIMESTAMP: u32 = 9;
    pub(super) const LABELS: u32 = 11;
    pub(super) const ANNOTATIONS: u32 = 12;
    pub(super) const OWNER_REFERENCES: u32 = 13;
    pub(super) const FINALIZERS: u32 = 14;

    pub(super) const OWNER_KIND: u32 = 1;
    pub(super) const OWNER_NAME: u32 = 3;
    pub(super) const OWNER_UID: u32 = 4;
    pub(super) const OWNER_API_VERSION: u32 = 5;
    pub(super) const OWNER_CONTROLLER: u32 = 6;
    pub(super) const OWNER_BLOCK: u32 = 7;
}

/// The metadata of an object, borrowed from its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct ObjectMeta<'a> {
    pub name: &'a str,
    pub namespace: &'a str,
    pub uid: &'a str,
    pub resource_version: &'a str,
    pub generation: i64,
    /// Seconds since 1970.
    pub deletion_timestamp: Option<i64>,
    raw: &'a [u8],
}

impl<'a> ObjectMeta<'a> {
    /// Reads the metadata of an object; that of an object without any is empty. The whole of it is
    /// checked here, so that the iterators need not fail.
    ///
    /// # Errors
    /// Malformed bytes or invalid UTF-8.
    pub fn read(object: &'a [u8]) -> Result<Self, DecodeError> {
        let mut meta = Self {
            raw: metadata(object)?.unwrap_or_default(),
            ..Self::default()
        };
        let mut fields = Fields::new(meta.raw, "ObjectMeta");
        while let Some((tag, wire)) = fields.next()? {
            match tag {
                tag::NAME => meta.name = text(wire, "Name")?,
                tag::NAMESPACE => meta.namespace = text(wire, "Namespace")?,
                tag::UID => meta.uid = text(wire, "UID")?,
                tag::RESOURCE_VERSION => meta.resource_version = text(wire, "ResourceVersion")?,
                tag::GENERATION => meta.generation = wire.varint("Generation")?.cast_signed(),
                tag::DELETION_TIMESTAMP => {
                    let unix = scalar::timestamp(wire.bytes("DeletionTimestamp")?, Kind::Time)?;
                    meta.deletion_timestamp = Some(unix.map_or(GO_ZERO, |(secs, _)| secs));
                }
                tag::LABELS => drop(pair(wire.bytes("Labels")?)?),
                tag::ANNOTATIONS => drop(pair(wire.bytes("Annotations")?)?),
                tag::OWNER_REFERENCES => {
                    OwnerReference::read(wire.bytes("OwnerReferences")?)?;
                }
                tag::FINALIZERS => drop(text(wire, "Finalizers")?),
                _ => {}
            }
        }
        Ok(meta)
    }

    fn all(self, wanted: u32) -> impl Iterator<Item = &'a [u8]> + Clone {
        let mut fields = Fields::new(self.raw, "ObjectMeta");
        std::iter::from_fn(move || {
            loop {
                let (tag, wire) = fields.next().ok()??;
                if tag == wanted {
                    return wire.as_bytes();
                }
            }
        })
    }

    /// As stored: by ascending key.
    pub fn labels(self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone {
        self.all(tag::LABELS).filter_map(|raw| pair(raw).ok())
    }

    /// As stored: by ascending key.
    pub fn annotations(self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone {
        self.all(tag::ANNOTATIONS).filter_map(|raw| pair(raw).ok())
    }

    pub fn owner_references(self) -> impl Iterator<Item = OwnerReference<'a>> + Clone {
        self.all(tag::OWNER_REFERENCES)
            .filter_map(|raw| OwnerReference::read(raw).ok())
    }

    pub fn finalizers(self) -> impl Iterator<Item = &'a str> + Clone {
        self.all(tag::FINALIZERS)
            .filter_map(|raw| std::str::from_utf8(raw).ok())
    }
}

/// An entry of `metadata.ownerReferences`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OwnerReference<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub controller: bool,
    pub block_owner_deletion: bool,
}

impl<'a> OwnerReference<'a> {
    fn read(raw: &'a [u8]) -> Result<Self, DecodeError> {
        let mut owner = Self::default();
        let mut fields = Fields::new(raw, "OwnerReference");
        while let Some((tag, wire)) = fields.next()? {
            match tag {
                tag::OWNER_KIND => owner.kind = text(wire, "Kind")?,
                tag::OWNER_NAME => owner.name = text(wire, "Name")?,
                tag::OWNER_UID => owner.uid = text(wire, "UID")?,
                tag::OWNER_API_VERSION => owner.api_version = text(wire, "APIVersion")?,
                tag::OWNER_CONTROLLER => owner.controller = wire.varint("Controller")? != 0,
                tag::OWNER_BLOCK => {
                    owner.block_owner_deletion = wire.varint("BlockOwnerDeletion")? != 0
                }
                _ => {}
            }
        }
        Ok(owner)
    }
}

/// The bytes of `metadata`, which every object of the API has as its first field.
fn metadata(object: &[u8]) -> Result<Option<&[u8]>, DecodeError> {
    let mut found = None;
    let mut fields = Fields::new(object, "Object");
    while let Some((tag, wire)) = fields.next()? {
        if tag == tag::METADATA {
            found = Some(wire.bytes("ObjectMeta")?);
        }
    }
    Ok(found)
}

fn text<'a>(wire: Wire<'a>, field: &'static str) -> Result<&'a str, DecodeError> {
    std::str::from_utf8(wire.bytes(field)?).map_err(|_| DecodeError::NotText { field })
}

/// An entry of a map of strings.
fn pair(raw: &[u8]) -> Result<(&str, &str), DecodeError> {
    let (mut key, mut value) = ("", "");
    let mut fields = Fields::new(raw, "MapEntry");
    while let Some((tag, wire)) = fields.next()? {
        match tag {
            1 => key = text(wire, "key")?,
            2 => value = text(wire, "value")?,
            _ => {}
        }
    }
    Ok((key, value))
}

/// The way to a scalar field below a message, compiled to tags: `spec.nodeName`, `status.phase`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path {
    tags: Box<[u32]>,
    kind: Kind,
}

/// A scalar at the end of a [`Path`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scalar<'a> {
    String(&'a str),
    Int(i64),
    Bool(bool),
}

impl std::fmt::Display for Scalar<'_> {
    /// As field selectors compare it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::String(text) => f.write_str(text),
            Self::Int(i) => i.fmt(f),
            Self::Bool(b) => b.fmt(f),
        }
    }
}

impl Path {
    /// Compiles field names joined by dots. None if there is no such field, or if the way leads through
    /// a list or map, or to something else than a string, an integer or a boolean.
    #[must_use]
    pub fn compile(mut message: MsgId, path: &str) -> Option<Self> {
        let mut tags = Vec::new();
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            let field = find(message, NameId::find(name)?, &mut tags)?;
            if field.shape != Shape::One {
                return None;
            }
            match (field.kind, names.peek()) {
                (Kind::Message(inner), Some(_)) => message = inner,
                (kind @ (Kind::String | Kind::Int32 | Kind::Int64 | Kind::Bool), None) => {
                    return Some(Self {
                        tags: tags.into(),
                        kind,
                    });
                }
                _ => return None,
            }
        }
        None
    }

    /// The field in an object; one that is absent has its zero value, as for field selectors.
    ///
    /// # Errors
    /// Malformed bytes on the way, or invalid UTF-8.
    pub fn get<'a>(&self, object: &'a [u8]) -> Result<Scalar<'a>, DecodeError> {
        let Some(wire) = last_at(object, &self.tags)? else {
            return Ok(self.zero());
        };
        Ok(match self.kind {
            Kind::Bool => Scalar::Bool(wire.varint("Bool")? != 0),
            Kind::Int32 => Scalar::Int(scalar::int32(wire.varint("Int")?).into()),
            Kind::Int64 => Scalar::Int(wire.varint("Int")?.cast_signed()),
            _ => Scalar::String(text(wire, "String")?),
        })
    }

    fn zero(&self) -> Scalar<'static> {
        match self.kind {
            Kind::Bool => Scalar::Bool(false),
            Kind::Int32 | Kind::Int64 => Scalar::Int(0),
            _ => Scalar::String(""),
        }
    }
}

/// Finds a field and appends the tags that lead to it through embedded structs.
fn find(message: MsgId, name: NameId, tags: &mut Vec<u32>) -> Option<&'static catalogue::Field> {
    let own = || message.fields_by_tag();
    if let Some(field) = own().find(|f| f.name == name && !f.has(Flags::INLINE)) {
        tags.push(field.tag.into());
        return Some(field);
    }
    own().filter(|f| f.has(Flags::INLINE)).find_map(|inline| {
        let Kind::Message(inner) = inline.kind else {
            return None;
        };
        tags.push(inline.tag.into());
        let found = find(inner, name, tags);
        if found.is_none() {
            tags.pop();
        }
        found
    })
}

/// The last value at the end of a way. Of a message that comes in several pieces each adds to those before, as decoders
/// have it.
fn last_at<'a>(message: &'a [u8], way: &[u32]) -> Result<Option<Wire<'a>>, DecodeError> {
    let Some((wanted, below)) = way.split_first() else {
        return Ok(None);
    };
    let mut found = None;
    let mut fields = Fields::new(message, "Message");
    while let Some((tag, wire)) = fields.next()? {
        if tag == *wanted {
            found = match below {
                [] => Some(wire),
                _ => last_at(wire.bytes("Message")?, below)?.or(found),
            };
        }
    }
    Ok(found)
}

/// The message with `metadata.resourceVersion` set to a revision of etcd: stored objects have it
/// empty, served ones have it. One allocation.
///
/// # Errors
/// Malformed bytes, or metadata in more than one piece, which no encoder writes (decoding and encoding
/// again puts it in one).
pub fn splice_resource_version(raw: &[u8], revision: i64) -> Result<Bytes, DecodeError> {
    let (outer, meta) = sole(raw, tag::METADATA, "metadata")?;
    let inner = match meta {
        Some(meta) => sole(meta, tag::RESOURCE_VERSION, "resourceVersion")?.0,
        None => 0..0,
    };
    let meta = meta.unwrap_or_default();

    let mut digits = itoa::Buffer::new();
    let version = digits.format(revision).as_bytes();
    let field_len = 1 + len_of_varint(version.len()) + version.len();
    let meta_len = meta.len() - inner.len() + field_len;

    let mut out =
        Vec::with_capacity(raw.len() - outer.len() + 1 + len_of_varint(meta_len) + meta_len);
    out.extend_from_slice(&raw[..outer.start]);
    push_head(tag::METADATA, meta_len, &mut out);
    out.extend_from_slice(&meta[..inner.start]);
    push_head(tag::RESOURCE_VERSION, version.len(), &mut out);
    out.extend_from_slice(version);
    out.extend_from_slice(&meta[inner.end..]);
    out.extend_from_slice(&raw[outer.end..]);
    Ok(Bytes::from(out))
}

/// The place of a field of bytes, key and length included, and its content. If the field is not there,
/// the empty place before the first higher tag.
fn sole<'a>(
    message: &'a [u8],
    wanted: u32,
    name: &'static str,
) -> Result<(std::ops::Range<usize>, Option<&'a [u8]>), DecodeError> {
    let mut fields = Fields::new(message, name);
    let mut start = 0;
    let mut gap = None;
    let mut found = None;
    while let Some((tag, wire)) = fields.next()? {
        let end = message.len() - fields.rest().len();
        if tag == wanted {
            if found.is_some() {
                return Err(DecodeError::Repeated { field: name });
            }
            found = Some((start..end, wire.bytes(name)?));
        } else if tag > wanted && gap.is_none() {
            gap = Some(start);
        }
        start = end;
    }
    Ok(match found {
        Some((place, content)) => (place, Some(content)),
        None => {
            let gap = gap.unwrap_or(message.len());
            (gap..gap, None)
        }
    })
}

fn len_of_varint(n: usize) -> usize {
    (usize::BITS - (n | 1).leading_zeros()).div_ceil(7) as usize
}

/// Key and length of a field of bytes with a tag below 16.
fn push_head(tag: u32, len: usize, out: &mut Vec<u8>) {
    out.push((tag << 3) as u8 | BYTES);
    let mut n = len;
    while n >= 0x80 {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

#[cfg(test)]
mod tests;
