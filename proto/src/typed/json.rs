//! JSON as serde sees it.

use std::borrow::Cow;

use serde_json::Value;

use super::{Error, Items, Left, Shown};
use crate::codec::json;

pub(super) fn look<'r>(value: Value) -> Shown<'r> {
    match value {
        Value::Null => Shown::Null,
        Value::Bool(b) => Shown::Bool(b),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(i), _) => Shown::Int(i),
            (None, Some(u)) => Shown::Unsigned(u),
            (None, None) => Shown::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Shown::Text(Cow::Owned(text)),
        Value::Array(items) => Shown::List(Items::Json(items.into_iter())),
        Value::Object(map) => Shown::map(Left::Json(map.into_iter())),
    }
}

/// JSON that is kept raw. What is not JSON shows as null, as it prints.
pub(super) fn look_raw<'r>(raw: &[u8]) -> Result<Shown<'r>, Error> {
    if !json::is_valid(raw) {
        return Ok(Shown::Null);
    }
    Ok(look(serde_json::from_str(&json::lossy(raw))?))
}

/// A number as its JSON reads: whole ones are integers.
pub(super) fn look_float<'r>(f: f64) -> Result<Shown<'r>, Error> {
    let mut text = Vec::new();
    json::push_float(f, &mut text);
    Ok(look(serde_json::from_slice(&text)?))
}
