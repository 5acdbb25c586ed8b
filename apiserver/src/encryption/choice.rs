//! Who of several writes and reads a value: the prefix says it.

use std::sync::Arc;

use bytes::Bytes;
use store::entry::{Opened, TransformError};

/// Something that seals values, and opens what it sealed.
pub(super) trait Layer: Send + Sync {
    /// Opens what was stored under `key`, the whole etcd key.
    fn open(&self, key: &str, sealed: &Bytes) -> Result<Opened, TransformError>;

    /// Appends the sealed value to `out`.
    fn seal(&self, key: &str, value: &[u8], out: &mut Vec<u8>) -> Result<(), TransformError>;
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
    fn open(&self, _key: &str, sealed: &Bytes) -> Result<Opened, TransformError> {
        // Reserved: neither JSON nor the envelope of protobuf begins so.
        if sealed.starts_with(b"k8s:enc:") {
            return Err(refusal(
                "the value is encrypted, the identity provider cannot open it",
            ));
        }
        Ok(Opened {
            value: sealed.clone(),
            stale: false,
        })
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

/// Layers in order: the first seals, and the first that can opens. What another than the first opened
/// is stale.
pub(super) struct Choice {
    /// At least one.
    pub(super) of: Vec<Marked>,
    /// What is said if none has the prefix.
    pub(super) none: &'static str,
}

impl Layer for Choice {
    fn open(&self, key: &str, sealed: &Bytes) -> Result<Opened, TransformError> {
        let mut reasons: Vec<String> = Vec::new();
        for (i, Marked { prefix, layer }) in self.of.iter().enumerate() {
            if !sealed.starts_with(prefix) {
                continue;
            }
            match layer.open(key, &sealed.slice(prefix.len()..)) {
                Ok(opened) => {
                    return Ok(Opened {
                        stale: opened.stale || i > 0,
                        ..opened
                    });
                }
                // Another one may have the same prefix and the right key, such as a provider that is
                // named twice while its key is replaced.
                Err(refusal) if !prefix.is_empty() => reasons.push(refusal.reason),
                Err(_) => {}
            }
        }
        Err(refusal(match reasons.as_slice() {
            [] => self.none.to_owned(),
            [one] => one.clone(),
            all => format!("[{}]", all.join(", ")),
        }))
    }

    fn seal(&self, key: &str, value: &[u8], out: &mut Vec<u8>) -> Result<(), TransformError> {
        let Some(first) = self.of.first() else {
            return Err(refusal(self.none));
        };
        out.extend_from_slice(&first.prefix);
        first.layer.seal(key, value, out)
    }
}
