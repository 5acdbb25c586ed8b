//! Equality and order, as cel-go's `common/types` have them: numbers compare by value across types.

use std::cmp::Ordering;

use super::{List, Map, Opaque, Value, keyed, map};
use crate::error::Error;

/// 2^63 as a double: what Go makes of the largest int.
const TWO_63: f64 = 9_223_372_036_854_775_808.0;
const TWO_64: f64 = 18_446_744_073_709_551_616.0;

/// Whether two values are equal. Values of different types are not, but for numbers; some of
/// Kubernetes' types refuse to be compared with others.
pub(crate) fn equal(a: &Value<'_>, b: &Value<'_>) -> Result<bool, Error> {
    Ok(match (a, b) {
        (Value::Null, _) | (_, Value::Null) => {
            matches!((a, b), (Value::Null, Value::Null))
        }
        (Value::Int(_) | Value::Uint(_) | Value::Double(_), _) => {
            number(a, b).is_some_and(Ordering::is_eq)
        }
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => **a == **b,
        (Value::Bytes(a), Value::Bytes(b)) => **a == **b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a.instant() == b.instant(),
        (Value::Type(a), Value::Type(b)) => a.name() == b.name(),
        (Value::List(a), Value::List(b)) => return lists(a, b),
        (Value::Map(a), Value::Map(b)) => return maps(a, b),
        (
            Value::List(List::Typed(..) | List::Keyed(..))
            | Value::Map(Map::Typed(..) | Map::Lazy(_)),
            _,
        ) => return Err(Error::no_such_overload()),
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (None, None) => true,
            (Some(a), Some(b)) => return equal(a, b),
            _ => false,
        },
        (Value::Object(a), Value::Object(b)) => {
            if a.name != b.name || a.fields().len() != b.fields().len() {
                return Ok(false);
            }
            for (name, value) in a.fields() {
                match b.get(name) {
                    Some(other) if equal(value, other)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Opaque(a), _) => return opaque(a, b),
        (Value::Preserved(a), Value::Preserved(b)) => a == b,
        _ => false,
    })
}

/// Order of two numbers of any types; none if one is not a number.
fn number(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    Some(match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Uint(a), Value::Uint(b)) => a.cmp(b),
        (Value::Double(a), Value::Double(b)) => return a.partial_cmp(b),
        (Value::Int(a), Value::Uint(b)) => int_uint(*a, *b),
        (Value::Uint(a), Value::Int(b)) => int_uint(*b, *a).reverse(),
        (Value::Int(_) | Value::Uint(_), Value::Double(d)) if d.is_nan() => return None,
        (Value::Double(d), Value::Int(_) | Value::Uint(_)) if d.is_nan() => return None,
        (Value::Int(a), Value::Double(b)) => int_double(*a, *b),
        (Value::Double(a), Value::Int(b)) => int_double(*b, *a).reverse(),
        (Value::Uint(a), Value::Double(b)) => uint_double(*a, *b),
        (Value::Double(a), Value::Uint(b)) => uint_double(*b, *a).reverse(),
        _ => return None,
    })
}

fn int_uint(a: i64, b: u64) -> Ordering {
    u64::try_from(a).map_or(Ordering::Less, |a| a.cmp(&b))
}

/// The double is a number.
#[allow(clippy::cast_precision_loss, reason = "cel-go compares as doubles")]
pub(super) fn int_double(a: i64, b: f64) -> Ordering {
    if b < -TWO_63 {
        return Ordering::Greater;
    }
    if b > TWO_63 {
        return Ordering::Less;
    }
    (a as f64).partial_cmp(&b).unwrap_or(Ordering::Equal)
}

/// The double is a number.
#[allow(clippy::cast_precision_loss, reason = "cel-go compares as doubles")]
pub(super) fn uint_double(a: u64, b: f64) -> Ordering {
    if b < 0.0 {
        return Ordering::Greater;
    }
    if b > TWO_64 {
        return Ordering::Less;
    }
    (a as f64).partial_cmp(&b).unwrap_or(Ordering::Equal)
}

/// Order of two values that have one.
pub(crate) fn compare(a: &Value<'_>, b: &Value<'_>) -> Result<Ordering, Error> {
    let nan = |v: &Value<'_>| matches!(v, Value::Double(d) if d.is_nan());
    let is_number = |v: &Value<'_>| matches!(v, Value::Int(_) | Value::Uint(_) | Value::Double(_));
    if nan(a) || (is_number(a) && nan(b)) {
        return Err(Error::new("NaN values cannot be ordered"));
    }
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a.cmp(b)),
        (Value::String(a), Value::String(b)) => Ok((**a).cmp(&**b)),
        (Value::Bytes(a), Value::Bytes(b)) => Ok((**a).cmp(&**b)),
        (Value::Duration(a), Value::Duration(b)) => Ok(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Ok(a.instant().cmp(&b.instant())),
        _ => number(a, b).ok_or_else(Error::no_such_overload),
    }
}

/// In a list that the expression made, elements that refuse to be compared count as equal; where it is
/// two joined, they are told of if nothing differs.
fn lists(a: &List<'_>, b: &List<'_>) -> Result<bool, Error> {
    if let List::Typed(..) | List::Keyed(..) = a {
        return keyed::same(a, b);
    }
    if a.len() != b.len() {
        return Ok(false);
    }
    let mut refused = None;
    for (ours, theirs) in a.iter().zip(b.iter()) {
        match ours.and_then(|ours| equal(&ours, &theirs?)) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    match (a, refused) {
        (List::Joined(_), Some(error)) => Err(error),
        _ => Ok(true),
    }
}

fn maps(a: &Map<'_>, b: &Map<'_>) -> Result<bool, Error> {
    match (a, b) {
        (Map::Typed(..), _) => return map::typed_equal(a, b),
        (Map::Lazy(a), Map::Lazy(b)) => {
            return Ok(std::ptr::addr_eq(*a, *b));
        }
        (Map::Lazy(_), _) => return Err(Error::no_such_overload()),
        _ => {}
    }
    if a.len() != b.len() {
        return Ok(false);
    }
    for key in a.keys() {
        let Some(ours) = a.find(&key)? else {
            return Ok(false);
        };
        let Some(theirs) = b.find(&key)? else {
            return Ok(false);
        };
        if equal(&ours, &theirs) == Ok(false) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn opaque(a: &Opaque<'_>, b: &Value<'_>) -> Result<bool, Error> {
    let Value::Opaque(b) = b else {
        return Err(Error::no_such_overload());
    };
    match (a, &**b) {
        (Opaque::Quantity(a, _), Opaque::Quantity(b, _)) => Ok(a == b),
        (Opaque::Ip(a), Opaque::Ip(b)) => Ok(a == b),
        (Opaque::Cidr(a), Opaque::Cidr(b)) => Ok(a == b),
        (Opaque::Url(a), Opaque::Url(b)) => Ok(a.text() == b.text()),
        (Opaque::Semver(a), Opaque::Semver(b)) => Ok(a.cmp(b).is_eq()),
        (Opaque::Format(a), Opaque::Format(b)) => Ok(a.name == b.name),
        _ => Err(Error::no_such_overload()),
    }
}
