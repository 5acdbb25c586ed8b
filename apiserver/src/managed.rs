//! Managed fields.

use proto::{MsgId, Value};

/// A write that is recorded.
pub struct Change<'a> {
    /// The object as it was; none for a create.
    pub old: Option<&'a Value>,
    pub manager: &'a str,
    pub api_version: &'a str,
    pub subresource: &'a str,
    /// RFC 3339.
    pub now: &'a str,
    pub message: MsgId,
}

/// Records who changed what in `metadata.managedFields`.
pub fn record(_change: &Change<'_>, _new: &mut Value) {}

/// A write that changes nothing but the times in managed fields keeps the old ones.
pub fn keep_time_if_nothing_else_changed(_new: &mut Value, _old: &Value) {}
