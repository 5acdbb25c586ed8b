//! Values, written as `hack/go/kubernetes/cel/show.go` writes them.

use std::fmt::Write;

use cel::{Opaque, Value};

pub(crate) fn show(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Uint(u) => format!("{u}u"),
        Value::Double(d) => double(*d),
        Value::String(text) => json(text),
        Value::Bytes(bytes) => bytes.iter().fold(String::from("b"), |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        }),
        Value::Duration(nanos) => format!("duration({nanos})"),
        Value::Timestamp(time) => format!("timestamp({time})"),
        Value::Optional(None) => "none".into(),
        Value::Optional(Some(value)) => format!("optional({})", show(value)),
        Value::Type(ty) => format!("type({})", ty.name()),
        Value::List(list) => {
            let inner: Vec<String> = list.iter().map(|v| outcome(&v)).collect();
            format!("[{}]", inner.join(", "))
        }
        Value::Map(map) => {
            let mut entries: Vec<String> = map
                .keys()
                .iter()
                .map(|key| {
                    let value = map.find(key).transpose().expect("a key has a value");
                    format!("{}: {}", show(key), outcome(&value))
                })
                .collect();
            entries.sort();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Object(object) if object.name() == "JSONPatch" => {
            let fields = object
                .fields()
                .map(|(name, v)| format!("{name}: {}", show(v)));
            let mut fields: Vec<String> = fields.collect();
            for name in ["op", "path"] {
                if object.get(name).is_none() {
                    fields.push(format!("{name}: \"\""));
                }
            }
            fields.sort();
            format!("JSONPatch{{{}}}", fields.join(", "))
        }
        Value::Object(object) => {
            let tree = value.to_tree().expect("an object is JSON");
            let mut out = Vec::new();
            proto::codec::json::write(&tree, &mut out);
            format!("{}{}", object.name(), String::from_utf8_lossy(&out))
        }
        Value::Opaque(opaque) => match &**opaque {
            Opaque::Quantity(quantity, _) => format!("quantity({quantity})"),
            Opaque::Ip(ip) => format!("ip({ip})"),
            Opaque::Cidr(cidr) => format!("cidr({cidr})"),
            _ => value.ty().name().to_owned(),
        },
        Value::Preserved(_) => "unknown".into(),
    }
}

fn outcome(value: &cel::Outcome<'_>) -> String {
    match value {
        Ok(value) => show(value),
        Err(error) => format!("error({error})"),
    }
}

fn json(text: &str) -> String {
    let mut out = Vec::new();
    proto::codec::json::write(&proto::Value::from(text), &mut out);
    let text = String::from_utf8(out).expect("JSON is text");
    // What only HTML has to escape is written as it is.
    ["\\u0026", "\\u003c", "\\u003e"]
        .iter()
        .zip(["&", "<", ">"])
        .fold(text, |text, (escaped, plain)| text.replace(escaped, plain))
}

/// As Go's `strconv.FormatFloat(d, 'e', -1, 64)`.
fn double(d: f64) -> String {
    if d.is_nan() {
        return "NaN".into();
    }
    if d.is_infinite() {
        return if d > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let text = format!("{d:e}");
    let (mantissa, exponent) = text.split_once('e').expect("it has an exponent");
    let exponent: i32 = exponent.parse().expect("it is a number");
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}
