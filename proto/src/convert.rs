//! Objects from one version of their kind to another.

use crate::catalogue::MsgId;
use crate::value::Value;

/// Versions between which there is no way.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
#[error("{from} cannot be converted to {to}")]
pub struct Error {
    pub from: &'static str,
    pub to: &'static str,
}

/// Converts an object; versions that are the same message in all but name pass as they are.
///
/// # Errors
/// If the two are not versions of one kind.
pub fn convert(object: Value, from: MsgId, to: MsgId) -> Result<Value, Error> {
    let kind = |m: MsgId| m.name().rsplit('.').next().unwrap_or_default();
    if kind(from) == kind(to) {
        return Ok(object);
    }
    Err(Error { from: from.name(), to: to.name() })
}
