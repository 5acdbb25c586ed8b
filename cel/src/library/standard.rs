//! The standard functions: cel-go's `common/stdlib/standard.go`.

use super::{Functions, text};
use crate::error::Error;
use crate::types::Type;
use crate::value::{Outcome, Timestamp, Value, Zone, convert};

pub(super) fn add(f: &mut Functions) {
    let a = || Type::param("A");
    let map = || Type::map(a(), Type::param("B"));
    f.declare("size", "size_bytes", [Type::Bytes], Type::Int);
    f.declare_method("size", "bytes_size", [Type::Bytes], Type::Int);
    f.declare("size", "size_list", [Type::list(a())], Type::Int);
    f.declare_method("size", "list_size", [Type::list(a())], Type::Int);
    f.declare("size", "size_map", [map()], Type::Int);
    f.declare_method("size", "map_size", [map()], Type::Int);
    f.declare("size", "size_string", [Type::String], Type::Int);
    f.declare_method("size", "string_size", [Type::String], Type::Int);
    f.body("size", size);
    f.declare("type", "type", [a()], Type::of_type(a()));
    f.body("type", |args| match args {
        [value] => Ok(Value::Type(value.ty())),
        _ => Err(Error::no_such_overload()),
    });
    f.declare("dyn", "to_dyn", [a()], Type::Dyn);
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
    f.function("bool", "bool_to_bool", [Bool], Bool, |a| to(a, &Bool));
    f.function("bool", "string_to_bool", [String], Bool, |a| to(a, &Bool));
    f.function("bytes", "bytes_to_bytes", [Bytes], Bytes, |a| to(a, &Bytes));
    f.function("bytes", "string_to_bytes", [String], Bytes, |a| {
        to(a, &Bytes)
    });
    for (id, from) in [
        ("double_to_double", Double),
        ("int64_to_double", Int),
        ("string_to_double", String),
        ("uint64_to_double", Uint),
    ] {
        f.function("double", id, [from], Double, |a| to(a, &Double));
    }
    f.function(
        "duration",
        "duration_to_duration",
        [Duration],
        Duration,
        |a| to(a, &Duration),
    );
    f.function("duration", "string_to_duration", [String], Duration, |a| {
        to(a, &Duration)
    });
    for (id, from) in [
        ("int64_to_int64", Int),
        ("double_to_int64", Double),
        ("duration_to_int64", Duration),
        ("string_to_int64", String),
        ("timestamp_to_int64", Timestamp),
        ("uint64_to_int64", Uint),
    ] {
        f.function("int", id, [from], Int, |a| to(a, &Int));
    }
    for (id, from) in [
        ("string_to_string", String),
        ("bool_to_string", Bool),
        ("bytes_to_string", Bytes),
        ("double_to_string", Double),
        ("duration_to_string", Duration),
        ("int64_to_string", Int),
        ("timestamp_to_string", Timestamp),
        ("uint64_to_string", Uint),
    ] {
        f.function("string", id, [from], String, |a| to(a, &String));
    }
    for (id, from) in [
        ("timestamp_to_timestamp", Timestamp),
        ("int64_to_timestamp", Int),
        ("string_to_timestamp", String),
    ] {
        f.function("timestamp", id, [from], Timestamp, |a| to(a, &Timestamp));
    }
    for (id, from) in [
        ("uint64_to_uint64", Uint),
        ("double_to_uint64", Double),
        ("int64_to_uint64", Int),
        ("string_to_uint64", String),
    ] {
        f.function("uint", id, [from], Uint, |a| to(a, &Uint));
    }
}

fn add_strings(f: &mut Functions) {
    use Type::{Bool, String};
    f.method("contains", "contains_string", [String, String], Bool, |a| {
        Ok(Value::Bool(text(a, 0)?.contains(text(a, 1)?)))
    });
    f.method(
        "endsWith",
        "ends_with_string",
        [String, String],
        Bool,
        |a| Ok(Value::Bool(text(a, 0)?.ends_with(text(a, 1)?))),
    );
    f.method(
        "startsWith",
        "starts_with_string",
        [String, String],
        Bool,
        |a| Ok(Value::Bool(text(a, 0)?.starts_with(text(a, 1)?))),
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
        f.method(name, id, [Type::Timestamp], Type::Int, body);
        f.method(
            name,
            zoned,
            [Type::Timestamp, Type::String],
            Type::Int,
            body,
        );
    }
    let duration = [Type::Duration];
    f.method(
        "getHours",
        "duration_to_hours",
        duration.clone(),
        Type::Int,
        |a| units(a, 3_600_000_000_000),
    );
    f.method(
        "getMinutes",
        "duration_to_minutes",
        duration.clone(),
        Type::Int,
        |a| units(a, 60_000_000_000),
    );
    f.method(
        "getSeconds",
        "duration_to_seconds",
        duration.clone(),
        Type::Int,
        |a| units(a, 1_000_000_000),
    );
    f.method(
        "getMilliseconds",
        "duration_to_milliseconds",
        duration,
        Type::Int,
        |a| match a {
            [Value::Duration(nanos)] => Ok(Value::Int(nanos / 1_000_000)),
            _ => Err(Error::no_such_overload()),
        },
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
