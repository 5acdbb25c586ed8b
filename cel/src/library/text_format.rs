//! `format` and `strings.quote`: cel-go's `ext/formatting.go` in its first version, which prints
//! numbers as American English writes them.

use std::fmt::Write;

use super::{Functions, LONGEST_TEXT, list, overloads, text};
use crate::error::Error;
use crate::value::{List, Map, Value, double, quote, to_text};

pub(super) fn add(f: &mut Functions) {
    overloads!(f;
        method "format" "string_format" "string, list(dyn) -> string" |a| {
            let args = list(a, 1)?;
            let mut printer = Printer { args };
            interpolate(text(a, 0)?, args.len(), &mut printer)
                .map(Value::owned)
                .map_err(Error::new)
        };
        function "strings.quote" "strings_quote" "string -> string"
            |a| Ok(Value::owned(quoted(text(a, 0)?)));
    );
}

/// A string in quotes, as cel-go writes it.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// What stands behind a percent sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Clause {
    Text,
    Decimal,
    Fixed(Option<usize>),
    Scientific(Option<usize>),
    Binary,
    Hex { upper: bool },
    Octal,
}

impl Clause {
    /// What a clause says to a value of another type.
    pub(crate) fn refusal(self, ty: &str) -> String {
        let rule = match self {
            Self::Text => {
                "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps"
            }
            Self::Decimal => "decimal clause can only be used on integers",
            Self::Fixed(_) => "fixed-point clause can only be used on doubles",
            Self::Scientific(_) => "scientific clause can only be used on doubles",
            Self::Binary => "only integers and bools can be formatted as binary",
            Self::Hex { .. } => "only integers, byte buffers, and strings can be formatted as hex",
            Self::Octal => "octal clause can only be used on integers",
        };
        format!("{rule}, was given {ty}")
    }
}

/// Takes the place of the clauses of a format.
trait Fill {
    fn fill(&mut self, index: usize, clause: Clause) -> Result<String, String>;
}

/// The format with its clauses filled in.
fn interpolate(format: &str, args: usize, fill: &mut impl Fill) -> Result<String, String> {
    let mut out = String::with_capacity(format.len());
    let mut rest = format;
    let mut index = 0;
    while let Some(percent) = rest.find('%') {
        out.push_str(&rest[..percent]);
        rest = &rest[percent + 1..];
        if let Some(behind) = rest.strip_prefix('%') {
            out.push('%');
            rest = behind;
            continue;
        }
        if index >= args {
            return Err(format!("index {index} out of range"));
        }
        if rest.is_empty() {
            return Err("unexpected end of string".into());
        }
        let (clause, behind) =
            clause(rest).map_err(|why| format!("could not parse formatting clause: {why}"))?;
        let filled = fill.fill(index, clause);
        out.push_str(&filled.map_err(|why| format!("error during formatting: {why}"))?);
        is_short(&out)?;
        rest = behind;
        index += 1;
    }
    out.push_str(rest);
    Ok(out)
}

/// A short format can say that a long text be printed many times.
fn is_short(text: &str) -> Result<(), String> {
    if text.len() > LONGEST_TEXT {
        return Err("the text is too long".into());
    }
    Ok(())
}

fn clause(text: &str) -> Result<(Clause, &str), String> {
    let mut rest = text;
    let mut precision = None;
    if let Some(behind) = text.strip_prefix('.') {
        let wrong = |why: &str| format!("error while parsing precision: {why}");
        let digits = behind
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(|| wrong("could not find end of precision specifier"))?;
        let (number, behind) = behind.split_at(digits);
        let parsed: u32 = number.parse().map_err(|_| {
            let why = if number.is_empty() {
                "invalid syntax"
            } else {
                "value out of range"
            };
            wrong(&format!(
                "error while converting precision to integer: strconv.Atoi: parsing {}: {why}",
                quote(number)
            ))
        })?;
        // More digits than a double has are zeros; nobody needs a thousand of them.
        precision = usize::try_from(parsed.min(1_000)).ok();
        rest = behind;
    }
    let c = rest.chars().next().unwrap_or(' ');
    let clause = match c {
        's' => Clause::Text,
        'd' => Clause::Decimal,
        'f' => Clause::Fixed(precision),
        'e' => Clause::Scientific(precision),
        'b' => Clause::Binary,
        'x' | 'X' => Clause::Hex { upper: c == 'X' },
        'o' => Clause::Octal,
        // Go looks at bytes.
        _ => {
            let first = rest.as_bytes().first().map_or(' ', |b| char::from(*b));
            return Err(format!("unrecognized formatting clause \"{first}\""));
        }
    };
    Ok((clause, &rest[1..]))
}

/// What a format asks for, without values: for the check of literals.
pub(crate) fn check(
    format: &str,
    args: usize,
    check: &mut dyn FnMut(usize, Clause) -> Result<(), String>,
) -> Result<usize, String> {
    struct Checker<'a> {
        check: &'a mut dyn FnMut(usize, Clause) -> Result<(), String>,
        asked: usize,
    }
    impl Fill for Checker<'_> {
        fn fill(&mut self, index: usize, clause: Clause) -> Result<String, String> {
            self.asked += 1;
            (self.check)(index, clause).map(|()| String::new())
        }
    }
    let mut checker = Checker { check, asked: 0 };
    interpolate(format, args, &mut checker)?;
    Ok(checker.asked)
}

struct Printer<'v, 'a> {
    args: &'v List<'a>,
}

impl Fill for Printer<'_, '_> {
    fn fill(&mut self, index: usize, clause: Clause) -> Result<String, String> {
        let value = match self.args.get(index) {
            Some(Ok(value)) => value,
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err(format!("index {index} out of range")),
        };
        let refuse = || Err(clause.refusal(value.type_name()));
        match (clause, &value) {
            (Clause::Text, _) => string(&value),
            (Clause::Decimal, Value::Int(i)) => Ok(i.to_string()),
            (Clause::Decimal, Value::Uint(u)) => Ok(u.to_string()),
            (Clause::Fixed(precision), _) => match number(&value) {
                Some(d) => Ok(fixed(d, precision.unwrap_or(6))),
                None => refuse(),
            },
            (Clause::Scientific(precision), _) => match number(&value) {
                // Upstream takes the precision for a width.
                Some(d) => Ok(format!("{:>1$}", scientific(d), precision.unwrap_or(6))),
                None => refuse(),
            },
            (Clause::Binary, Value::Int(i)) => Ok(signed(*i, |u| format!("{u:b}"))),
            (Clause::Binary, Value::Uint(u)) => Ok(format!("{u:b}")),
            (Clause::Binary, Value::Bool(b)) => Ok(if *b { "1" } else { "0" }.into()),
            (Clause::Hex { upper }, _) => match hex(&value) {
                Some(text) if upper => Ok(text.to_ascii_uppercase()),
                Some(text) => Ok(text),
                None => refuse(),
            },
            (Clause::Octal, Value::Int(i)) => Ok(signed(*i, |u| format!("{u:o}"))),
            (Clause::Octal, Value::Uint(u)) => Ok(format!("{u:o}")),
            _ => refuse(),
        }
    }
}

fn signed(i: i64, print: fn(u64) -> String) -> String {
    let sign = if i < 0 { "-" } else { "" };
    format!("{sign}{}", print(i.unsigned_abs()))
}

/// A double, or one of the three that are given as strings.
fn number(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(d) => Some(*d),
        Value::String(text) => match &**text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn special(d: f64) -> Option<String> {
    if d.is_nan() {
        Some("NaN".into())
    } else if d.is_infinite() {
        Some(if d > 0.0 { "∞" } else { "-∞" }.into())
    } else {
        None
    }
}

/// With a comma between thousands.
fn fixed(d: f64, precision: usize) -> String {
    if let Some(text) = special(d) {
        return text;
    }
    // A zero has no sign here.
    let d = d + 0.0;
    let plain = double(d.abs(), precision);
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    let mut out = String::new();
    if d.is_sign_negative() {
        out.push('-');
    }
    for (i, c) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// `1.234500×10⁰³`
fn scientific(d: f64) -> String {
    const SUPERSCRIPT: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    if let Some(text) = special(d) {
        return text;
    }
    // A zero has no sign here.
    let text = format!("{:.6e}", d + 0.0);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mut out = format!("{mantissa}×10");
    if exponent < 0 {
        out.push('⁻');
    }
    for digit in format!("{:02}", exponent.abs()).bytes() {
        out.push(SUPERSCRIPT[usize::from(digit - b'0')]);
    }
    out
}

fn hex(value: &Value<'_>) -> Option<String> {
    let of = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        })
    };
    Some(match value {
        Value::Int(i) => signed(*i, |u| format!("{u:x}")),
        Value::Uint(u) => format!("{u:x}"),
        Value::String(text) => of(text.as_bytes()),
        Value::Bytes(bytes) => of(bytes),
        _ => return None,
    })
}

/// A value for `%s`.
fn string(value: &Value<'_>) -> Result<String, String> {
    match value {
        Value::List(list) => list_text(list),
        Value::Map(map) => map_text(map),
        Value::Null => Ok("null".into()),
        Value::Int(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::Bool(_)
        | Value::String(_)
        | Value::Timestamp(_)
        | Value::Bytes(_)
        | Value::Duration(_)
        | Value::Type(_) => match to_text(value) {
            Ok(Some(text)) => Ok(text),
            Ok(None) => Err(Clause::Text.refusal(value.type_name())),
            Err(error) => Err(format!(
                "could not convert argument {} to string",
                quote(&error.to_string())
            )),
        },
        other => Err(Clause::Text.refusal(other.type_name())),
    }
}

/// A value inside a list or map.
fn inner(value: &Value<'_>) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(quote(text)),
        Value::Bytes(_) => Ok(format!("b{}", quote(&string(value)?))),
        Value::Timestamp(_) => Ok(format!("timestamp({})", quote(&string(value)?))),
        Value::Duration(_) => Ok(format!("duration({})", quote(&string(value)?))),
        Value::Double(d) if d.is_finite() => Ok(double(*d, 6)),
        Value::Double(d) => Ok(quote(&double(*d, 6))),
        Value::Int(_)
        | Value::Uint(_)
        | Value::Bool(_)
        | Value::Null
        | Value::Type(_)
        | Value::List(_)
        | Value::Map(_) => string(value),
        other => Err(format!("no formatting function for {}", other.type_name())),
    }
}

fn list_text(list: &List<'_>) -> Result<String, String> {
    let mut out = String::from("[");
    for (i, value) in list.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        out.push_str(&inner(&value.map_err(|error| error.to_string())?)?);
        is_short(&out)?;
    }
    out.push(']');
    Ok(out)
}

fn map_text(map: &Map<'_>) -> Result<String, String> {
    let mut entries = Vec::with_capacity(map.len());
    let mut length = 0;
    for key in map.keys() {
        if !matches!(
            key,
            Value::String(_) | Value::Bool(_) | Value::Int(_) | Value::Uint(_)
        ) {
            return Err(format!(
                "no formatting function for map key of type {}",
                key.type_name()
            ));
        }
        let value = match map.find(&key) {
            Ok(Some(value)) => value,
            Ok(None) => return Err("could not find key".into()),
            Err(error) => return Err(error.to_string()),
        };
        let entry = (inner(&key)?, inner(&value)?);
        length += entry.0.len() + entry.1.len();
        if length > LONGEST_TEXT {
            return Err("the text is too long".into());
        }
        entries.push(entry);
    }
    entries.sort();
    let entries: Vec<String> = entries
        .into_iter()
        .map(|(k, v)| format!("{k}:{v}"))
        .collect();
    Ok(format!("{{{}}}", entries.join(", ")))
}
