//! Who of several writes and reads a value: the prefix says it.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use store::entry::{Opened, TransformError};

use super::kms::{Locked, Refused};

/// Something that seals values, and opens what it sealed.
pub(crate) trait Layer: Send + Sync {
    /// Opens what was stored under `key`, the whole etcd key.
    fn open(&self, key: &str, sealed: &Bytes) -> Result<Opening, TransformError>;

    /// Appends the sealed value to `out`.
    fn seal(&self, key: &str, value: &[u8], out: &mut Vec<u8>) -> Result<(), TransformError>;

    /// What seals the next value in its place, if a plugin has to be asked for a key for each.
    fn fresh(&self) -> Option<Fresh> {
        None
    }
}

/// A layer for one value, once a plugin has answered.
pub(super) type Fresh = BoxFuture<'static, Result<Box<dyn Layer>, Refused>>;

/// What came of opening a value.
pub(crate) enum Opening {
    Open(Opened),
    /// A plugin has to be asked first.
    Locked(Locked),
}

impl Opening {
    /// The value, where all keys are at hand.
    pub(crate) fn at_once(self) -> Result<Opened, TransformError> {
        match self {
            Self::Open(opened) => Ok(opened),
            Self::Locked(_) => Err(refusal("a plugin has to be asked for the key")),
        }
    }

    /// The same, stale if this is.
    pub(super) fn stale_if(mut self, stale: bool) -> Self {
        match &mut self {
            Self::Open(opened) => opened.stale |= stale,
            Self::Locked(locked) => locked.stale |= stale,
        }
        self
    }
}

/// A refusal to open or seal.
pub(super) fn refusal(reason: impl Into<String>) -> TransformError {
    TransformError {
        reason: reason.into(),
    }
}

/// Stores values as they are.
pub(super) struct Identity;

impl Layer for Identity {
    fn open(&self, _key: &str, sealed: &Bytes) -> Result<Opening, TransformError> {
        // Reserved: neither JSON nor the envelope of protobuf begins so.
        if sealed.starts_with(b"k8s:enc:") {
            return Err(refusal(
                "the value is encrypted, the identity provider cannot open it",
            ));
        }
        Ok(Opening::Open(Opened {
            value: sealed.clone(),
            stale: false,
        }))
    }

    fn seal(&self, _key: &str, value: &[u8], out: &mut Vec<u8>) -> Result<(), TransformError> {
        out.extend_from_slice(value);
        Ok(())
    }
}

/// One of several, and how what it wrote begins.
#[derive(Clone)]
pub(super) struct Marked {
    /// Empty: it may be anything, and another is asked if it is not what it seems.
    pub(super) prefix: Arc<[u8]>,
    pub(super) layer: Arc<dyn Layer>,
}

impl Marked {
    pub(super) fn new(prefix: &str, layer: impl Layer + 'static) -> Self {
        Self {
            prefix: prefix.as_bytes().into(),
            layer: Arc::new(layer),
        }
    }
}

/// Who was asked to open a value.
#[derive(Default)]
pub(super) struct Asked<'a> {
    /// Those who had the prefix and not the key.
    pub(super) refused: Vec<&'a Marked>,
    pub(super) opened: Option<&'a Marked>,
}

/// Layers in order: the first seals, and the first that can opens. What another than the first opened
/// is stale.
pub(super) struct Choice {
    /// At least one.
    pub(super) of: Vec<Marked>,
    /// What is said if none has the prefix.
    pub(super) none: &'static str,
}

impl Choice {
    /// Opens a value, and says which layers were asked: the last one opened it, if one did.
    pub(super) fn open_by(
        &self,
        key: &str,
        sealed: &Bytes,
    ) -> (Asked<'_>, Result<Opening, TransformError>) {
        let (mut asked, mut reasons) = (Asked::default(), Vec::new());
        for (i, marked) in self.of.iter().enumerate() {
            let Marked { prefix, layer } = marked;
            if !sealed.starts_with(prefix) {
                continue;
            }
            match layer.open(key, &sealed.slice(prefix.len()..)) {
                Ok(opening) => {
                    asked.opened = Some(marked);
                    return (asked, Ok(opening.stale_if(i > 0)));
                }
                // Another one may have the same prefix and the right key, such as a provider that is
                // named twice while its key is replaced.
                Err(refusal) if !prefix.is_empty() => {
                    asked.refused.push(marked);
                    reasons.push(refusal.reason);
                }
                Err(_) => {}
            }
        }
        let reason = if reasons.is_empty() {
            self.none.to_owned()
        } else {
            proto::path::aggregate(reasons)
        };
        (asked, Err(refusal(reason)))
    }

    /// What seals the next value, if a plugin has to be asked first.
    pub(super) fn fresh(&self) -> Option<(&Marked, Fresh)> {
        let first = self.first()?;
        Some((first, first.layer.fresh()?))
    }

    /// Who seals.
    pub(super) fn first(&self) -> Option<&Marked> {
        self.of.first()
    }
}

impl Layer for Choice {
    fn open(&self, key: &str, sealed: &Bytes) -> Result<Opening, TransformError> {
        self.open_by(key, sealed).1
    }

    fn seal(&self, key: &str, value: &[u8], out: &mut Vec<u8>) -> Result<(), TransformError> {
        let Some(first) = self.first() else {
            return Err(refusal(self.none));
        };
        out.extend_from_slice(&first.prefix);
        first.layer.seal(key, value, out)
    }
}
