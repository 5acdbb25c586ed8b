//! Equality as Go's semantic comparison has it: what is empty is absent.

use proto::catalogue::{Field, Flags, Kind, Shape, names as n};
use proto::quantity::Quantity;
use proto::{Map, MsgId, NameId, Value};

const NOTHING: &Value = &Value::Null;

/// Whether two objects are equal at a path.
#[must_use]
pub fn same_at(a: &Value, b: &Value, path: &[NameId]) -> bool {
    same(a.at(path).unwrap_or(NOTHING), b.at(path).unwrap_or(NOTHING))
}

/// Whether two trees say the same.
#[must_use]
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Map(a), Value::Map(b)) => {
            a.iter()
                .all(|(name, value)| same(value, b.get(name).unwrap_or(NOTHING)))
                && b.iter()
                    .all(|(name, value)| a.contains(name) || is_nothing(value))
        }
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (a, b) => a == b || is_nothing(a) && is_nothing(b),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.iter().all(|(_, v)| is_nothing(v)),
        _ => false,
    }
}

/// Whether two objects of a type say the same, as Go's semantic comparison of them has it: a pointer to
/// nothing in particular is not the same as none, and amounts are compared by what they are.
#[must_use]
pub fn alike(a: Option<&Value>, b: Option<&Value>, of: MsgId) -> bool {
    message(a.unwrap_or(NOTHING), b.unwrap_or(NOTHING), of)
}

/// [`alike`] for a field, or a part below fields, of two objects.
#[must_use]
pub fn alike_at(a: &Value, b: &Value, path: &[NameId], of: MsgId) -> bool {
    alike(a.at(path), b.at(path), of)
}

fn message(a: &Value, b: &Value, of: MsgId) -> bool {
    let there = |value: &Value, field: &Field| value.get(field.name).is_some();
    // What an object in an object is, protobuf does not say.
    let is_object = of.field(n::METADATA).is_some();
    of.fields()
        .filter(|field| !(is_object && matches!(field.name, n::KIND | n::API_VERSION)))
        .filter(|field| there(a, field) || there(b, field))
        .all(|field| alike_in(a, b, field))
}

/// Whether two objects have a field alike.
#[must_use]
pub fn alike_in(a: &Value, b: &Value, field: &Field) -> bool {
    alike_as(a.get(field.name), b.get(field.name), field)
}

/// Whether two objects have a field alike, and what is empty is so in both.
#[must_use]
pub fn identical_in(a: &Value, b: &Value, field: &Field) -> bool {
    alike_in(a, b, field) && as_empty(a.get(field.name), b.get(field.name), field)
}

/// Whether the lists, maps and bytes that one value says are empty the other has as well; apart from that
/// they are alike.
fn as_empty(a: Option<&Value>, b: Option<&Value>, field: &Field) -> bool {
    let (a, b) = (a.filter(|v| !v.is_null()), b.filter(|v| !v.is_null()));
    let is_list = field.shape != Shape::One || field.kind == Kind::Bytes;
    if is_list && a.is_some() != b.is_some() {
        return false;
    }
    let Kind::Message(of) = field.kind else {
        return true;
    };
    let message = |a: &Value, b: &Value| {
        of.fields()
            .all(|field| as_empty(a.get(field.name), b.get(field.name), field))
    };
    match (a, b) {
        (Some(Value::List(a)), Some(Value::List(b))) => a.iter().zip(b).all(|(a, b)| message(a, b)),
        (Some(Value::Map(a)), Some(Value::Map(b))) if field.shape == Shape::Map => a
            .iter()
            .all(|(key, a)| b.get(key.as_str()).is_none_or(|b| message(a, b))),
        (None, None) => true,
        (a, b) => message(a.unwrap_or(NOTHING), b.unwrap_or(NOTHING)),
    }
}

/// Whether a field is alike with one value and with another.
#[must_use]
pub fn alike_as(a: Option<&Value>, b: Option<&Value>, field: &Field) -> bool {
    let (a, b) = (a.filter(|v| !v.is_null()), b.filter(|v| !v.is_null()));
    match field.shape {
        Shape::List => {
            let (a, b) = (
                a.and_then(Value::as_list).unwrap_or_default(),
                b.and_then(Value::as_list).unwrap_or_default(),
            );
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| single(a, b, field.kind))
        }
        Shape::Map => {
            static NONE: Map = Map::new();
            let (a, b) = (
                a.and_then(Value::as_map).unwrap_or(&NONE),
                b.and_then(Value::as_map).unwrap_or(&NONE),
            );
            a.len() == b.len()
                && a.iter().all(|(key, a)| {
                    let b = b.get(key.as_str());
                    b.is_some_and(|b| single(a, b, field.kind))
                })
        }
        Shape::One if field.has(Flags::POINTER) && a.is_some() != b.is_some() => false,
        Shape::One => single(a.unwrap_or(NOTHING), b.unwrap_or(NOTHING), field.kind),
    }
}

/// Whether two values that are neither lists nor maps are alike.
#[must_use]
pub fn single(a: &Value, b: &Value, kind: Kind) -> bool {
    match (kind, a, b) {
        (Kind::Message(of), ..) => message(a, b, of),
        (Kind::Quantity, Value::String(a), Value::String(b)) if a != b => {
            matches!((a.parse::<Quantity>(), b.parse::<Quantity>()), (Ok(a), Ok(b)) if a == b)
        }
        _ => a == b || is_zero(a) && is_zero(b),
    }
}

/// What a field that is no pointer is if nothing is said of it.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Bool(is) => !is,
        Value::Int(number) => *number == 0,
        Value::String(text) => text.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        _ => value.is_null(),
    }
}

#[cfg(test)]
mod tests {
    use proto::catalogue::messages::core_v1;
    use proto::codec::json::parse;

    use super::*;

    #[test]
    fn an_empty_list_is_not_identical_with_none() {
        use proto::catalogue::messages::networking_v1::NETWORK_POLICY;
        let field = NETWORK_POLICY.field(n::SPEC).unwrap();
        for (a, b, expected) in [
            ("{}", "{}", true),
            (r#"{"ingress":[]}"#, "{}", false),
            (r#"{"ingress":[]}"#, r#"{"ingress":[]}"#, true),
            (r#"{"ingress":[{"from":[]}]}"#, r#"{"ingress":[{}]}"#, false),
            (r#"{"podSelector":{}}"#, "{}", true),
            (r#"{"podSelector":{"matchLabels":{}}}"#, "{}", false),
            (r#"{"ingress":[{}]}"#, r#"{"egress":[{}]}"#, false),
        ] {
            let spec = |text: &str| {
                let mut object = Value::object();
                object.set(&[n::SPEC], parse(text.as_bytes()).unwrap());
                object
            };
            assert_eq!(identical_in(&spec(a), &spec(b), field), expected, "{a} {b}");
            assert_eq!(identical_in(&spec(b), &spec(a), field), expected, "{b} {a}");
        }
    }

    #[test]
    fn a_pointer_is_something_where_an_empty_list_is_nothing() {
        for (a, b, expected) in [
            (r#"{"volumes":[]}"#, "{}", true),
            (r#"{"nodeSelector":{}}"#, "{}", true),
            (r#"{"hostNetwork":false,"nodeName":""}"#, "{}", true),
            (r#"{"os":{}}"#, "{}", false),
            (r#"{"hostUsers":false}"#, "{}", false),
            (
                r#"{"containers":[{"resources":{"limits":{"cpu":"1"}}}]}"#,
                r#"{"containers":[{"resources":{"limits":{"cpu":"1000m"}}}]}"#,
                true,
            ),
            (
                r#"{"containers":[{"resources":{}}]}"#,
                r#"{"containers":[{}]}"#,
                true,
            ),
            (
                r#"{"containers":[{"name":"a"}]}"#,
                r#"{"containers":[{"name":"b"}]}"#,
                false,
            ),
        ] {
            let (x, y) = (parse(a.as_bytes()).unwrap(), parse(b.as_bytes()).unwrap());
            assert_eq!(
                alike(Some(&x), Some(&y), core_v1::POD_SPEC),
                expected,
                "{a}"
            );
            assert_eq!(
                alike(Some(&y), Some(&x), core_v1::POD_SPEC),
                expected,
                "{a}"
            );
        }
    }
}
