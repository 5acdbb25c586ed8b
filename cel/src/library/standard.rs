//! The standard functions: cel-go's `common/stdlib/standard.go`.

use super::{Functions, overloads, text};
use crate::error::Error;
use crate::types::Type;
use crate::value::{Outcome, Timestamp, Value, Zone, convert};

pub(super) fn add(f: &mut Functions) {
    f.declare("size", "size_bytes", "bytes -> int");
    f.declare_method("size", "bytes_size", "bytes -> int");
    f.declare("size", "size_list", "list(A) -> int");
    f.declare_method("size", "list_size", "list(A) -> int");
    f.declare("size", "size_map", "map(A, B) -> int");
    f.declare_method("size", "map_size", "map(A, B) -> int");
    f.declare("size", "size_string", "string -> int");
    f.declare_method("size", "string_size", "string -> int");
    f.body("size", size);
    f.declare("type", "type", "A -> type(A)");
    f.body("type", |args| match args {
        [value] => Ok(Value::Type(value.ty())),
        _ => Err(Error::no_such_overload()),
    });
    f.declare("dyn", "to_dyn", "A -> dyn");
    f.body("dyn", |args| {
        args.first().cloned().ok_or_else(Error::no_such_overload)
    });
    add_conversions(f);
    add_strings(f);
    add_times(f);
}

fn size<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let Some(value) = args.first() else {
        return Err(Error::no_such_overload());
    };
    match value.size().and_then(|size| i64::try_from(size).ok()) {
        Some(size) => Ok(Value::Int(size)),
        None => Err(match value {
            Value::Duration(_) | Value::Timestamp(_) => Error::no_such_overload(),
            _ => Error::new("no such overload: size"),
        }),
    }
}

fn to<'a>(args: &[Value<'a>], ty: &Type) -> Outcome<'a> {
    let value = args.first().ok_or_else(Error::no_such_overload)?;
    convert(value, ty)
}

fn add_conversions(f: &mut Functions) {
    use Type::{Bool, Bytes, Double, Duration, Int, String, Timestamp, Uint};
    overloads!(f;
        function "bool" "bool_to_bool" "bool -> bool" |a| to(a, &Bool);
        function "bool" "string_to_bool" "string -> bool" |a| to(a, &Bool);
        function "bytes" "bytes_to_bytes" "bytes -> bytes" |a| to(a, &Bytes);
        function "bytes" "string_to_bytes" "string -> bytes" |a| to(a, &Bytes);
    );
    for (id, from) in [
        ("double_to_double", "double"),
        ("int64_to_double", "int"),
        ("string_to_double", "string"),
        ("uint64_to_double", "uint"),
    ] {
        f.function("double", id, &format!("{from} -> double"), |a| {
            to(a, &Double)
        });
    }
    overloads!(f;
        function "duration" "duration_to_duration" "duration -> duration" |a| to(a, &Duration);
        function "duration" "string_to_duration" "string -> duration" |a| to(a, &Duration);
    );
    for (id, from) in [
        ("int64_to_int64", "int"),
        ("double_to_int64", "double"),
        ("duration_to_int64", "duration"),
        ("string_to_int64", "string"),
        ("timestamp_to_int64", "timestamp"),
        ("uint64_to_int64", "uint"),
    ] {
        f.function("int", id, &format!("{from} -> int"), |a| to(a, &Int));
    }
    for (id, from) in [
        ("string_to_string", "string"),
        ("bool_to_string", "bool"),
        ("bytes_to_string", "bytes"),
        ("double_to_string", "double"),
        ("duration_to_string", "duration"),
        ("int64_to_string", "int"),
        ("timestamp_to_string", "timestamp"),
        ("uint64_to_string", "uint"),
    ] {
        f.function("string", id, &format!("{from} -> string"), |a| {
            to(a, &String)
        });
    }
    for (id, from) in [
        ("timestamp_to_timestamp", "timestamp"),
        ("int64_to_timestamp", "int"),
        ("string_to_timestamp", "string"),
    ] {
        f.function("timestamp", id, &format!("{from} -> timestamp"), |a| {
            to(a, &Timestamp)
        });
    }
    for (id, from) in [
        ("uint64_to_uint64", "uint"),
        ("double_to_uint64", "double"),
        ("int64_to_uint64", "int"),
        ("string_to_uint64", "string"),
    ] {
        f.function("uint", id, &format!("{from} -> uint"), |a| to(a, &Uint));
    }
}

fn add_strings(f: &mut Functions) {
    overloads!(f;
        method "contains" "contains_string" "string, string -> bool"
            |a| Ok(Value::Bool(text(a, 0)?.contains(text(a, 1)?)));
        method "endsWith" "ends_with_string" "string, string -> bool"
            |a| Ok(Value::Bool(text(a, 0)?.ends_with(text(a, 1)?)));
        method "startsWith" "starts_with_string" "string, string -> bool"
            |a| Ok(Value::Bool(text(a, 0)?.starts_with(text(a, 1)?)));
    );
    for name in ["contains", "endsWith", "startsWith"] {
        f.unguarded(name);
    }
}

/// A part of a timestamp's date or time of day.
type Get = fn(Timestamp) -> i64;

/// Function, ids without and with a time zone, what it gives.
const PARTS: &[(&str, &str, &str, Get)] = &[
    (
        "getFullYear",
        "timestamp_to_year",
        "timestamp_to_year_with_tz",
        |t| t.civil().year,
    ),
    (
        "getMonth",
        "timestamp_to_month",
        "timestamp_to_month_with_tz",
        |t| i64::from(t.civil().month) - 1,
    ),
    (
        "getDayOfYear",
        "timestamp_to_day_of_year",
        "timestamp_to_day_of_year_with_tz",
        |t| t.day_of_year(),
    ),
    (
        "getDayOfMonth",
        "timestamp_to_day_of_month",
        "timestamp_to_day_of_month_with_tz",
        |t| i64::from(t.civil().day) - 1,
    ),
    (
        "getDate",
        "timestamp_to_day_of_month_1_based",
        "timestamp_to_day_of_month_1_based_with_tz",
        |t| i64::from(t.civil().day),
    ),
    (
        "getDayOfWeek",
        "timestamp_to_day_of_week",
        "timestamp_to_day_of_week_with_tz",
        |t| i64::from(t.civil().weekday()),
    ),
    (
        "getHours",
        "timestamp_to_hours",
        "timestamp_to_hours_with_tz",
        |t| i64::from(t.civil().hour),
    ),
    (
        "getMinutes",
        "timestamp_to_minutes",
        "timestamp_to_minutes_with_tz",
        |t| i64::from(t.civil().minute),
    ),
    (
        "getSeconds",
        "timestamp_to_seconds",
        "timestamp_to_seconds_tz",
        |t| i64::from(t.civil().second),
    ),
    (
        "getMilliseconds",
        "timestamp_to_milliseconds",
        "timestamp_to_milliseconds_with_tz",
        |t| i64::from(t.nanos / 1_000_000),
    ),
];

/// The part in UTC, or in the zone that the second argument names.
fn part<'a>(args: &[Value<'a>], get: Get) -> Outcome<'a> {
    let Some(Value::Timestamp(time)) = args.first() else {
        return Err(Error::no_such_overload());
    };
    let zone = match args.get(1) {
        Some(Value::String(name)) => Zone::parse(name)?,
        Some(_) => return Err(Error::no_such_overload()),
        None => Zone::Fixed(0),
    };
    Ok(Value::Int(get(time.within(&zone))))
}

fn add_times(f: &mut Functions) {
    // A body is a function without state, so each part has its own.
    const BODIES: [super::Body; 10] = [
        |a| part(a, PARTS[0].3),
        |a| part(a, PARTS[1].3),
        |a| part(a, PARTS[2].3),
        |a| part(a, PARTS[3].3),
        |a| part(a, PARTS[4].3),
        |a| part(a, PARTS[5].3),
        |a| part(a, PARTS[6].3),
        |a| part(a, PARTS[7].3),
        |a| part(a, PARTS[8].3),
        |a| part(a, PARTS[9].3),
    ];
    for ((name, id, zoned, _), body) in PARTS.iter().zip(BODIES) {
        f.method(name, id, "timestamp -> int", body);
        f.method(name, zoned, "timestamp, string -> int", body);
    }
    overloads!(f;
        method "getHours" "duration_to_hours" "duration -> int" |a| units(a, 3_600_000_000_000);
        method "getMinutes" "duration_to_minutes" "duration -> int" |a| units(a, 60_000_000_000);
        method "getSeconds" "duration_to_seconds" "duration -> int" |a| units(a, 1_000_000_000);
        method "getMilliseconds" "duration_to_milliseconds" "duration -> int" |a| match a {
            [Value::Duration(nanos)] => Ok(Value::Int(nanos / 1_000_000)),
            _ => Err(Error::no_such_overload()),
        };
    );
}

/// A duration in whole units; by way of a double, as Go counts.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a duration has fewer than 2^53 seconds"
)]
fn units<'a>(args: &[Value<'a>], unit: i64) -> Outcome<'a> {
    match args {
        [Value::Duration(nanos)] => {
            let units = (nanos / unit) as f64 + (nanos % unit) as f64 / unit as f64;
            Ok(Value::Int(units as i64))
        }
        _ => Err(Error::no_such_overload()),
    }
}
