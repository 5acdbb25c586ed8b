//! One object as the cache holds it, and the seams through which objects come in.
//!
//! The store does not know kinds. A [`Decoder`] makes an [`Entry`] from the bytes that etcd holds; a
//! [`Transformer`] stands between those bytes and etcd, for encryption at rest.
//!
//! Invariant: an entry never changes. Whatever is derived from it (JSON, a table row) hangs on it as
//! a form and may be dropped at any time; see [`crate::forms`].

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::forms::FormSlot;
use crate::objects::Keyed;

/// One object at one revision.
#[derive(Debug)]
pub struct Entry {
    /// The key below the resource's prefix: `namespace/name`, or `name`.
    pub key: Box<str>,
    /// The etcd revision that wrote it: its `metadata.resourceVersion`.
    pub revision: i64,
    /// The bytes that are served, with `metadata.resourceVersion` in them: protobuf without its
    /// envelope for built-ins, JSON for custom resources. Empty in a collection that keeps no bodies.
    pub body: Bytes,
    pub labels: Labels,
    /// The selectable fields besides `metadata.name` and `metadata.namespace`.
    pub fields: Fields,
    /// Bytes that etcd holds for it, encryption apart; 0 when it was not read from there.
    pub(crate) stored: u32,
    /// What is served is not what is stored: an update that changes nothing writes it all the same.
    pub mended: bool,
    pub(crate) forms: FormSlot,
}

impl Entry {
    #[must_use]
    pub fn new(key: &str, revision: i64, body: Bytes, labels: Labels, fields: Fields) -> Self {
        Self {
            key: key.into(),
            revision,
            body,
            labels,
            fields,
            stored: 0,
            mended: false,
            forms: FormSlot::default(),
        }
    }

    /// The namespace; empty for cluster-scoped objects.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.key
            .split_once('/')
            .map_or("", |(namespace, _)| namespace)
    }

    #[must_use]
    pub fn name(&self) -> &str {
        self.key
            .split_once('/')
            .map_or(&*self.key, |(_, name)| name)
    }

    /// The value of a selectable field; `None` when the resource has no such field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        match name {
            "metadata.name" => Some(self.name()),
            "metadata.namespace" => Some(self.namespace()),
            _ => self.fields.get(name),
        }
    }

    /// The same object with other bytes at another revision: what a DELETED event shows.
    pub(crate) fn reversioned(&self, revision: i64, body: Bytes) -> Self {
        Self {
            stored: self.stored,
            mended: self.mended,
            ..Self::new(
                &self.key,
                revision,
                body,
                self.labels.clone(),
                self.fields.clone(),
            )
        }
    }

    /// The same object without its bytes, for collections that keep none.
    pub(crate) fn without_body(&self) -> Self {
        self.reversioned(self.revision, Bytes::new())
    }

    /// Bytes of memory held for this object, forms apart: an estimate for bounds and metrics.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>()
            + self.key.len()
            + self.body.len()
            + self.labels.0.0.len()
            + self.fields.values.0.len()
    }
}

impl Keyed for Entry {
    fn key(&self) -> &str {
        &self.key
    }
}

/// The labels of an object, packed into one allocation.
#[derive(Clone, Debug, Default)]
pub struct Labels(Packed);

impl Labels {
    /// Packs the pairs as they come; of equal keys the first one counts.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(Packed::new(pairs.into_iter().flat_map(|(k, v)| [k, v])))
    }

    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        // Lists ask every object of a collection: only what is found is looked at as text.
        let mut words = self.0.words();
        loop {
            let (k, v) = (words.next()?, words.next()?);
            if k == key.as_bytes() {
                return std::str::from_utf8(v).ok();
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut words = self.0.iter();
        std::iter::from_fn(move || Some((words.next()?, words.next()?)))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.0.is_empty()
    }
}

/// The values of the selectable fields of one resource, packed; the names are shared by all its
/// objects.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    names: Option<Arc<[Box<str>]>>,
    values: Packed,
}

impl Fields {
    /// `values` in the order of `names`, one each.
    pub fn new<'a>(names: &Arc<[Box<str>]>, values: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            names: Some(Arc::clone(names)),
            values: Packed::new(values),
        }
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.names.as_ref()?.iter().position(|n| **n == *name)?;
        self.values.iter().nth(at)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.names
            .iter()
            .flat_map(|n| n.iter())
            .map(|n| &**n)
            .zip(self.values.iter())
    }
}

/// Strings one after the other, each after its length in LEB128.
#[derive(Clone, Debug, Default)]
struct Packed(Box<[u8]>);

impl Packed {
    fn new<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut bytes = Vec::new();
        for word in words {
            let mut len = word.len();
            while len >= 0x80 {
                bytes.push(len as u8 | 0x80);
                len >>= 7;
            }
            bytes.push(len as u8);
            bytes.extend_from_slice(word.as_bytes());
        }
        Self(bytes.into_boxed_slice())
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        self.words()
            .map_while(|word| std::str::from_utf8(word).ok())
    }

    fn words(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (mut len, mut shift) = (0usize, 0);
            loop {
                let (&byte, tail) = rest.split_first()?;
                rest = tail;
                len |= usize::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
                shift += 7;
            }
            let (word, tail) = rest.split_at_checked(len)?;
            rest = tail;
            Some(word)
        })
    }
}

/// Turns stored bytes into entries; one per resource, given by whoever knows the kind.
///
/// It runs on the resource's event line: it does no IO and calls no webhook.
pub trait Decoder: Send + Sync {
    /// The entry for what etcd holds under `key` (below the resource's prefix), written at
    /// `revision`. `value` is the stored form after the [`Transformer`]; it may be a slice of a large
    /// buffer, so it is copied, not kept.
    ///
    /// # Errors
    /// When the bytes are not an object of this resource. The resource stalls there, and only it,
    /// until the key is overwritten or deleted; see [`Collection::ready`](crate::Collection::ready).
    fn entry(&self, key: &str, value: Bytes, revision: i64) -> Result<Entry, Undecodable>;

    /// The entry's body with another `metadata.resourceVersion`: what a DELETED event carries.
    fn body_at(&self, entry: &Entry, revision: i64) -> Bytes;
}

/// Stored bytes that are not an object of their resource.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
#[error("key {key} cannot be decoded: {reason}")]
pub struct Undecodable {
    /// The key as etcd has it, or below the resource's prefix where only that is known.
    pub key: String,
    pub reason: String,
}

/// Encryption at rest: between stored bytes and etcd. A resource without one is stored as it is.
pub trait Transformer: Send + Sync {
    /// Opens what etcd holds under `key`, the full etcd key, which is authenticated with the data.
    fn open<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
    ) -> BoxFuture<'a, Result<Opened, TransformError>>;

    /// Seals what is to be stored under `key`.
    fn seal<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, TransformError>>;
}

/// What a [`Transformer`] opened.
#[derive(Clone, Debug)]
pub struct Opened {
    pub value: Bytes,
    /// Sealed with an older key or format: the next update writes it anew even if it changes nothing.
    pub stale: bool,
}

/// A value that could not be sealed or opened.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
#[error("{reason}")]
pub struct TransformError {
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_come_from_the_key_and_other_fields_from_the_object() {
        let names: Arc<[Box<str>]> = ["spec.nodeName".into(), "status.phase".into()].into();
        let entry = |key| {
            Entry::new(
                key,
                1,
                Bytes::new(),
                Labels::default(),
                Fields::new(&names, ["n1", ""]),
            )
        };
        let (pod, node) = (entry("team/web-0"), entry("n1"));
        assert_eq!((pod.namespace(), pod.name()), ("team", "web-0"));
        assert_eq!((node.namespace(), node.name()), ("", "n1"));
        assert_eq!(pod.field("metadata.namespace"), Some("team"));
        assert_eq!(
            (pod.field("spec.nodeName"), pod.field("status.phase")),
            (Some("n1"), Some(""))
        );
        assert_eq!(pod.field("spec.unknown"), None);
    }

    proptest! {
        #[test]
        fn labels_come_back_as_they_went_in(pairs in prop::collection::vec((".{0,200}", ".{0,300}"), 0..8)) {
            let labels = Labels::new(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())));
            prop_assert!(labels.iter().eq(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str()))));
            for (key, _) in &pairs {
                let first = pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
                prop_assert_eq!(labels.get(key), first);
            }
            prop_assert_eq!(labels.get("a key that is longer than any that is made\u{0}"), None);
        }
    }
}
