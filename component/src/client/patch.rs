//! The four kinds of patch.

use bytes::Bytes;
use serde::Serialize;

use super::Error;

/// A change to an object, encoded.
#[derive(Clone, Debug)]
pub struct Patch {
    pub(super) media_type: &'static str,
    pub(super) body: Bytes,
    pub(super) manager: Option<String>,
    pub(super) force: bool,
}

impl Patch {
    /// RFC 6902: a list of operations.
    ///
    /// # Errors
    /// If the value cannot be encoded.
    pub fn json(operations: &impl Serialize) -> Result<Self, Error> {
        Self::of("application/json-patch+json", operations)
    }

    /// RFC 7386: the fields to change, null to remove.
    ///
    /// # Errors
    /// If the value cannot be encoded.
    pub fn merge(fields: &impl Serialize) -> Result<Self, Error> {
        Self::of("application/merge-patch+json", fields)
    }

    /// Kubernetes' own: lists merge by the keys of the schema.
    ///
    /// # Errors
    /// If the value cannot be encoded.
    pub fn strategic(fields: &impl Serialize) -> Result<Self, Error> {
        Self::of("application/strategic-merge-patch+json", fields)
    }

    /// Server-side apply of what `manager` wants; `force` takes fields from other managers.
    ///
    /// # Errors
    /// If the value cannot be encoded.
    pub fn apply(manager: &str, force: bool, wanted: &impl Serialize) -> Result<Self, Error> {
        let patch = Self::of("application/apply-patch+yaml", wanted)?;
        Ok(Self {
            manager: Some(manager.to_owned()),
            force,
            ..patch
        })
    }

    /// The same patch with a field manager of its own; otherwise the user agent names it.
    #[must_use]
    pub fn managed_by(self, manager: &str) -> Self {
        Self {
            manager: Some(manager.to_owned()),
            ..self
        }
    }

    fn of(media_type: &'static str, value: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_vec(value).map_err(Error::Encode)?;
        Ok(Self {
            media_type,
            body: body.into(),
            manager: None,
            force: false,
        })
    }
}
