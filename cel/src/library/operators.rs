//! Operators: one body for all types, which says what it does not take as cel-go does.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Functions;
use crate::error::Error;
use crate::value::{
    Key, List, MAX_UNIX, MIN_UNIX, Made, Map, Outcome, Timestamp, Value, brief, compare, equal,
};

const INT_OVERFLOW: &str = "integer overflow";
const UINT_OVERFLOW: &str = "unsigned integer overflow";

/// The message where `value` does not know an operator at all. Strings, durations and timestamps are
/// asked once more for a function of that name.
fn unknown<'a>(value: &Value<'_>, operator: &str) -> Outcome<'a> {
    Err(match value {
        Value::String(_) | Value::Duration(_) | Value::Timestamp(_) => Error::no_such_overload(),
        _ => Error::new(format!("no such overload: {operator}")),
    })
}

pub(super) fn add(f: &mut Functions) {
    f.declare("_?_:_", "conditional", "bool, A, A -> A");
    f.declare("_&&_", "logical_and", "bool, bool -> bool");
    f.declare("_||_", "logical_or", "bool, bool -> bool");
    f.declare("!_", "logical_not", "bool -> bool");
    f.body("!_", |args| match args {
        [Value::Bool(b)] => Ok(Value::Bool(!b)),
        _ => Err(Error::no_such_overload()),
    });
    f.declare("@not_strictly_false", "not_strictly_false", "bool -> bool");
    f.declare("_==_", "equals", "A, A -> bool");
    f.declare("_!=_", "not_equals", "A, A -> bool");
    f.declare("_[_]", "index_list", "list(A), int -> A");
    f.declare("_[_]", "index_map", "map(A, B), A -> B");
    f.declare("@in", "in_list", "A, list(A) -> bool");
    f.declare("@in", "in_map", "A, map(A, B) -> bool");
    f.body("@in", |args| match args {
        [element, container] => contains(container, element).map(Value::Bool),
        _ => Err(Error::no_such_overload()),
    });
    add_arithmetic(f);
    for (op, name) in COMPARISONS {
        for (suffix, ty) in ORDERED {
            let id = format!("{name}_{suffix}");
            f.declare(op, &id, &format!("{ty}, {ty} -> bool"));
        }
    }
    f.body("_<_", |args| {
        ordered(args, "_<_", std::cmp::Ordering::is_lt)
    });
    f.body("_<=_", |args| {
        ordered(args, "_<=_", std::cmp::Ordering::is_le)
    });
    f.body("_>_", |args| {
        ordered(args, "_>_", std::cmp::Ordering::is_gt)
    });
    f.body("_>=_", |args| {
        ordered(args, "_>=_", std::cmp::Ordering::is_ge)
    });
}

const COMPARISONS: &[(&str, &str)] = &[
    ("_<_", "less"),
    ("_<=_", "less_equals"),
    ("_>_", "greater"),
    ("_>=_", "greater_equals"),
];

/// What stands in ids, and the type.
const ORDERED: &[(&str, &str)] = &[
    ("bool", "bool"),
    ("int64", "int"),
    ("uint64", "uint"),
    ("double", "double"),
    ("string", "string"),
    ("bytes", "bytes"),
    ("timestamp", "timestamp"),
    ("duration", "duration"),
];

/// Numbers of different types have an order only since 1.28.
pub(super) fn add_across_types(f: &mut Functions) {
    let numbers = &ORDERED[1..4];
    for (op, name) in COMPARISONS {
        for (left, a) in numbers {
            for (right, b) in numbers.iter().filter(|(right, _)| right != left) {
                let id = format!("{name}_{left}_{right}");
                f.declare(op, &id, &format!("{a}, {b} -> bool"));
            }
        }
    }
}

fn ordered<'a>(
    args: &[Value<'a>],
    operator: &str,
    holds: fn(std::cmp::Ordering) -> bool,
) -> Outcome<'a> {
    let [left, right] = args else {
        return Err(Error::no_such_overload());
    };
    match left {
        Value::Bool(_)
        | Value::Bytes(_)
        | Value::Double(_)
        | Value::Duration(_)
        | Value::Int(_)
        | Value::String(_)
        | Value::Timestamp(_)
        | Value::Uint(_) => compare(left, right).map(|order| Value::Bool(holds(order))),
        other => unknown(other, operator),
    }
}

fn add_arithmetic(f: &mut Functions) {
    f.declare("_+_", "add_bytes", "bytes, bytes -> bytes");
    f.declare("_+_", "add_double", "double, double -> double");
    f.declare(
        "_+_",
        "add_duration_duration",
        "duration, duration -> duration",
    );
    f.declare(
        "_+_",
        "add_duration_timestamp",
        "duration, timestamp -> timestamp",
    );
    f.declare(
        "_+_",
        "add_timestamp_duration",
        "timestamp, duration -> timestamp",
    );
    f.declare("_+_", "add_int64", "int, int -> int");
    f.declare("_+_", "add_list", "list(A), list(A) -> list(A)");
    f.declare("_+_", "add_string", "string, string -> string");
    f.declare("_+_", "add_uint64", "uint, uint -> uint");
    f.body("_+_", plus);
    f.declare("_-_", "subtract_double", "double, double -> double");
    f.declare(
        "_-_",
        "subtract_duration_duration",
        "duration, duration -> duration",
    );
    f.declare("_-_", "subtract_int64", "int, int -> int");
    f.declare(
        "_-_",
        "subtract_timestamp_duration",
        "timestamp, duration -> timestamp",
    );
    f.declare(
        "_-_",
        "subtract_timestamp_timestamp",
        "timestamp, timestamp -> duration",
    );
    f.declare("_-_", "subtract_uint64", "uint, uint -> uint");
    f.body("_-_", minus);
    f.declare("_*_", "multiply_double", "double, double -> double");
    f.declare("_*_", "multiply_int64", "int, int -> int");
    f.declare("_*_", "multiply_uint64", "uint, uint -> uint");
    f.body("_*_", times);
    f.declare("_/_", "divide_double", "double, double -> double");
    f.declare("_/_", "divide_int64", "int, int -> int");
    f.declare("_/_", "divide_uint64", "uint, uint -> uint");
    f.body("_/_", divide);
    f.declare("_%_", "modulo_int64", "int, int -> int");
    f.declare("_%_", "modulo_uint64", "uint, uint -> uint");
    f.body("_%_", modulo);
    f.declare("-_", "negate_double", "double -> double");
    f.declare("-_", "negate_int64", "int -> int");
    f.body("-_", negate);
}

fn int<'a>(result: Option<i64>) -> Outcome<'a> {
    result
        .map(Value::Int)
        .ok_or_else(|| Error::new(INT_OVERFLOW))
}

fn uint<'a>(result: Option<u64>) -> Outcome<'a> {
    result
        .map(Value::Uint)
        .ok_or_else(|| Error::new(UINT_OVERFLOW))
}

fn nanos<'a>(result: Option<i64>) -> Outcome<'a> {
    result
        .map(Value::Duration)
        .ok_or_else(|| Error::new(INT_OVERFLOW))
}

fn plus<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let [left, right] = args else {
        return Err(Error::no_such_overload());
    };
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => int(a.checked_add(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_add(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Value::String(a), Value::String(b)) => Ok(Value::owned([&**a, &**b].concat())),
        (Value::Bytes(a), Value::Bytes(b)) => Ok(Value::bytes([&**a, &**b].concat())),
        (Value::List(a), Value::List(b)) => a.clone().join(b.clone()).map(Value::List),
        (Value::Duration(a), Value::Duration(b)) => nanos(a.checked_add(*b)),
        (Value::Duration(a), Value::Timestamp(b)) | (Value::Timestamp(b), Value::Duration(a)) => {
            shifted(*b, *a)
        }
        (
            Value::Int(_)
            | Value::Uint(_)
            | Value::Double(_)
            | Value::String(_)
            | Value::Bytes(_)
            | Value::List(_)
            | Value::Duration(_)
            | Value::Timestamp(_),
            _,
        ) => Err(Error::no_such_overload()),
        (other, _) => unknown(other, "_+_"),
    }
}

/// Later by so many nanoseconds.
fn shifted<'a>(time: Timestamp, nanos: i64) -> Outcome<'a> {
    const SECOND: i64 = 1_000_000_000;
    let overflow = || Error::new("timestamp overflow");
    let sum = i64::from(time.nanos) + nanos.rem_euclid(SECOND);
    let secs = time
        .secs
        .checked_add(nanos.div_euclid(SECOND) + sum.div_euclid(SECOND))
        .filter(|secs| (MIN_UNIX..=MAX_UNIX).contains(secs))
        .ok_or_else(overflow)?;
    let nanos = u32::try_from(sum.rem_euclid(SECOND)).map_err(|_| overflow())?;
    Ok(Value::Timestamp(Timestamp {
        secs,
        nanos,
        ..time
    }))
}

fn minus<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let [left, right] = args else {
        return Err(Error::no_such_overload());
    };
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => int(a.checked_sub(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_sub(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
        (Value::Duration(a), Value::Duration(b)) => nanos(a.checked_sub(*b)),
        (Value::Timestamp(a), Value::Duration(b)) => match b.checked_neg() {
            Some(back) => shifted(*a, back),
            None => Err(Error::new(INT_OVERFLOW)),
        },
        (Value::Timestamp(a), Value::Timestamp(b)) => {
            let between = (i128::from(a.secs) - i128::from(b.secs)) * 1_000_000_000
                + i128::from(a.nanos)
                - i128::from(b.nanos);
            nanos(i64::try_from(between).ok())
        }
        (
            Value::Int(_)
            | Value::Uint(_)
            | Value::Double(_)
            | Value::Duration(_)
            | Value::Timestamp(_),
            _,
        ) => Err(Error::no_such_overload()),
        (other, _) => unknown(other, "_-_"),
    }
}

fn times<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => int(a.checked_mul(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_mul(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a * b)),
        _ => not_a_number(args, "_*_"),
    }
}

fn divide<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            Err(Error::new("division by zero"))
        }
        [Value::Int(a), Value::Int(b)] => int(a.checked_div(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_div(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a / b)),
        _ => not_a_number(args, "_/_"),
    }
}

fn modulo<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            Err(Error::new("modulus by zero"))
        }
        [Value::Int(a), Value::Int(b)] => int(a.checked_rem(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_rem(*b)),
        [Value::Double(_), _] => unknown(&args[0], "_%_"),
        _ => not_a_number(args, "_%_"),
    }
}

fn negate<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(a)] => int(a.checked_neg()),
        [Value::Double(a)] => Ok(Value::Double(-a)),
        [Value::Duration(a)] => nanos(a.checked_neg()),
        [Value::Bool(_)] => Err(Error::no_such_overload()),
        [other] => unknown(other, "-_"),
        _ => Err(Error::no_such_overload()),
    }
}

fn not_a_number<'a>(args: &[Value<'_>], operator: &str) -> Outcome<'a> {
    match args {
        [Value::Int(_) | Value::Uint(_) | Value::Double(_), _] => Err(Error::no_such_overload()),
        [other, _] => unknown(other, operator),
        _ => Err(Error::no_such_overload()),
    }
}

/// `element in container`
fn contains(container: &Value<'_>, element: &Value<'_>) -> Result<bool, Error> {
    match container {
        Value::List(list) => {
            let mut failed = None;
            for have in list.iter() {
                match have.and_then(|have| equal(&have, element)) {
                    Ok(true) => return Ok(true),
                    Ok(false) => {}
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            // Only lists with a schema tell that something in them could not be compared.
            match (list, failed) {
                (List::Typed(..), Some(error)) => Err(error),
                _ => Ok(false),
            }
        }
        Value::Map(Map::Lazy(_)) => Err(Error::no_such_overload()),
        Value::Map(map) => map.find(element).map(|found| found.is_some()),
        _ => Err(Error::no_such_overload()),
    }
}

/// What two-variable comprehensions make maps with.
pub(super) fn add_map_insert(f: &mut Functions) {
    const NAME: &str = "cel.@mapInsert";
    f.function(
        NAME,
        "@mapInsert_map_key_value",
        "map(K, V), K, V -> map(K, V)",
        |args| match args {
            [Value::Map(map), key, value] => {
                insert(map.clone(), key, value.clone()).map(Value::Map)
            }
            _ => Err(Error::no_such_overload()),
        },
    );
    f.function(
        NAME,
        "@mapInsert_map_map",
        "map(K, V), map(K, V) -> map(K, V)",
        |args| match args {
            [Value::Map(into), Value::Map(from)] => {
                let mut all = into.clone();
                for key in from.keys() {
                    let value = from.find(&key)?.ok_or_else(Error::no_such_overload)?;
                    all = insert(all, &key, value)?;
                }
                Ok(Value::Map(all))
            }
            _ => Err(Error::no_such_overload()),
        },
    );
}

/// A map with one entry more. One that nobody else has grows in place.
pub(crate) fn insert<'a>(
    map: Map<'a>,
    key: &Value<'a>,
    value: Value<'a>,
) -> Result<Map<'a>, Error> {
    if map.find(key)?.is_some() {
        return Err(Error::new(format!(
            "insert failed: key {} already exists",
            brief(key)
        )));
    }
    let key = Key::of(key).ok_or_else(|| Error::new("unsupported key type"))?;
    let mut entries = match map {
        Map::Owned(entries) => entries,
        other => {
            let mut entries = BTreeMap::new();
            for key in other.keys() {
                if let (Some(value), Some(key)) = (other.find(&key)?, Key::of(&key)) {
                    entries.insert(key, value);
                }
            }
            Arc::new(Made::new(entries))
        }
    };
    Arc::make_mut(&mut entries).insert(key, value);
    Ok(Map::Owned(entries))
}
