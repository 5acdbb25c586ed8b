//! How Go prints values.

use std::fmt::Write;

use super::{Map, Value};

/// A double as Go's `%g`: the fewest digits that tell it, with an exponent below 10^-4 and from 10^6.
pub(crate) fn go_double(d: f64) -> String {
    if d.is_nan() {
        return "NaN".into();
    }
    if d.is_infinite() {
        return if d > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    if d == 0.0 {
        return if d.is_sign_negative() { "-0" } else { "0" }.into();
    }
    let scientific = format!("{d:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{d}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// A double with a fixed number of digits behind the point, as Go's `%.Nf`.
pub(crate) fn double(d: f64, precision: usize) -> String {
    if d.is_finite() {
        return format!("{d:.precision$}");
    }
    if d.is_nan() {
        "NaN".into()
    } else if d > 0.0 {
        "+Inf".into()
    } else {
        "-Inf".into()
    }
}

/// Nanoseconds as seconds: `1.5s`.
#[allow(
    clippy::cast_precision_loss,
    reason = "Go's Duration.Seconds is a double"
)]
pub(super) fn seconds(nanos: i64) -> String {
    const SECOND: i64 = 1_000_000_000;
    let seconds = (nanos / SECOND) as f64 + (nanos % SECOND) as f64 / 1e9;
    format!("{seconds}s")
}

/// A string as Go's `%q`.
pub(crate) fn quote(text: &str) -> String {
    proto::path::quote(text)
}

/// A value as Go's `%v` prints it inside an error.
pub(crate) fn brief(value: &Value<'_>) -> String {
    match value {
        Value::Null => "0".into(),
        Value::String(text) => text.to_string(),
        Value::Bytes(bytes) => {
            let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
            format!("[{}]", numbers.join(" "))
        }
        Value::Duration(nanos) => proto::time::Duration(*nanos).to_string(),
        Value::Timestamp(time) => {
            let text = time.to_string();
            let (date, rest) = text.split_once('T').unwrap_or((&text, ""));
            let clock = rest.trim_end_matches('Z');
            format!("{date} {clock} +0000 UTC")
        }
        Value::Type(ty) => ty.to_string(),
        Value::List(list) => {
            let inner: Vec<String> = list.iter().flatten().map(|v| brief(&v)).collect();
            format!("[{}]", inner.join(", "))
        }
        Value::Map(map) => brief_map(map),
        Value::Optional(None) => "optional.none()".into(),
        Value::Optional(Some(value)) => format!("optional({})", brief(value)),
        other => super::to_text(other)
            .ok()
            .flatten()
            .unwrap_or_else(|| other.type_name().to_owned()),
    }
}

fn brief_map(map: &Map<'_>) -> String {
    let mut out = String::from("{");
    for (i, key) in map.keys().iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        let value = map.find(key).ok().flatten();
        let value = value.map_or_else(|| "<nil>".into(), |v| brief(&v));
        let _ = write!(out, "{}: {value}", brief(key));
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_print_as_go_prints_them() {
        for (d, text) in [
            (1.0, "1"),
            (1.5, "1.5"),
            (-0.0, "-0"),
            (123_456_789.0, "1.23456789e+08"),
            (1e6, "1e+06"),
            (100_000.0, "100000"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1e100, "1e+100"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(go_double(d), text);
        }
    }
}
