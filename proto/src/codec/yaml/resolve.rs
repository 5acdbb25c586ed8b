//! What a plain scalar stands for: the rules of YAML 1.1 as `go.yaml.in/yaml/v2` applies them.

use super::Error;

/// A resolved scalar.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    /// Beyond 63 bits.
    Uint(u64),
    Float(f64),
    /// `<<`, which merges where it is a key and is a string elsewhere.
    Merge,
    /// A string, or something that upstream keeps as a string (a date).
    String,
}

impl Scalar {
    /// The short tag, for errors.
    fn tag(&self) -> &'static str {
        match self {
            Self::Null => "!!null",
            Self::Bool(_) => "!!bool",
            Self::Int(_) | Self::Uint(_) => "!!int",
            Self::Float(_) => "!!float",
            Self::Merge => "!!merge",
            Self::String => "!!str",
        }
    }
}

/// Resolves a plain scalar without a tag.
pub(super) fn plain(text: &str) -> Scalar {
    if is_date(text) {
        Scalar::String
    } else {
        plain_number(text)
    }
}

fn plain_number(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Scalar::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Scalar::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Scalar::Float(f64::INFINITY);
        }
        "<<" => return Scalar::Merge,
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    match text.as_bytes()[0] {
        b'.' => float(text).map_or(Scalar::String, Scalar::Float),
        b'+' | b'-' | b'0'..=b'9' => number(&text.replace('_', "")),
        _ => Scalar::String,
    }
}

fn number(text: &str) -> Scalar {
    if let Some(scalar) = integer(text) {
        return scalar;
    }
    if is_float(text)
        && let Some(f) = float(text)
    {
        return Scalar::Float(f);
    }
    Scalar::String
}

/// An integer as Go's `strconv.ParseInt` reads it in base 0: `0x`, `0o`, `0b`, and a leading zero for
/// octal.
fn integer(text: &str) -> Option<Scalar> {
    let (negative, digits) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // A second sign would pass below.
    if !digits.bytes().next().is_some_and(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let n = u64::from_str_radix(digits, radix).ok()?;
    if negative {
        return 0_i64.checked_sub_unsigned(n).map(Scalar::Int);
    }
    match i64::try_from(n) {
        Ok(i) => Some(Scalar::Int(i)),
        // Unsigned numbers have no sign.
        Err(_) => (!text.starts_with('+')).then_some(Scalar::Uint(n)),
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (
            mantissa,
            Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)),
        ),
        None => (unsigned, None),
    };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let mantissa = match mantissa.split_once('.') {
        Some((whole, fraction)) => {
            digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty())
        }
        None => digits(mantissa) && !mantissa.is_empty(),
    };
    mantissa && exponent.is_none_or(|e| digits(e) && !e.is_empty())
}

/// A decimal number that a double can hold.
fn float(text: &str) -> Option<f64> {
    // Rust reads the names of what is no number, too.
    let decimal = text
        .bytes()
        .all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    text.parse().ok().filter(|f: &f64| decimal && f.is_finite())
}

/// A date or a time, which upstream recognises and then keeps as text: `2001-12-14`, with a time after
/// a `T`, a `t` or a space.
pub(super) fn is_date(text: &str) -> bool {
    let mut rest = text;
    let mut number = |max_len: usize, before: &str| {
        let found = rest.strip_prefix(before)?;
        let len = found
            .bytes()
            .take(max_len)
            .take_while(u8::is_ascii_digit)
            .count();
        let (digits, tail) = found.split_at(len);
        rest = tail;
        digits.parse::<u32>().ok()
    };
    let is_year = text.len() > 4 && text.as_bytes()[..4].iter().all(u8::is_ascii_digit);
    if !is_year || number(4, "").is_none() {
        return false;
    }
    let month = number(2, "-");
    let day = number(2, "-");
    if !matches!((month, day), (Some(1..=12), Some(1..=31))) {
        return false;
    }
    if rest.is_empty() {
        return true;
    }
    let zoned = rest.starts_with(['T', 't']);
    if !zoned && !rest.starts_with(' ') {
        return false;
    }
    let time = &rest[1..];
    let end = time
        .find(|c: char| !matches!(c, '0'..='9' | ':' | '.' | ','))
        .unwrap_or(time.len());
    let (clock, zone) = time.split_at(end);
    is_clock(clock)
        && if zoned {
            is_zone(zone)
        } else {
            zone.is_empty()
        }
}

/// `15:4:5` with an optional fraction.
fn is_clock(text: &str) -> bool {
    let (whole, fraction) = text
        .split_once(['.', ','])
        .map_or((text, None), |(w, f)| (w, Some(f)));
    let parts: Vec<&str> = whole.split(':').collect();
    let below = |part: &str, limit: u32| {
        (1..=2).contains(&part.len()) && part.parse::<u32>().is_ok_and(|n| n < limit)
    };
    matches!(parts[..], [h, m, s] if below(h, 24) && below(m, 60) && below(s, 60))
        && fraction.is_none_or(|f| !f.is_empty() && f.bytes().all(|b| b.is_ascii_digit()))
}

/// `Z` or `+01:00`.
fn is_zone(text: &str) -> bool {
    text == "Z"
        || matches!(text.as_bytes(), [b'+' | b'-', h1, h2, b':', m1, m2]
            if [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()))
}

/// Resolves a scalar with one of the tags of YAML itself (`int` of `!!int`). Other tags leave a string.
pub(super) fn tagged(tag: &str, text: &str) -> Result<Scalar, Error> {
    let found = match tag {
        "bool" | "int" | "float" | "null" => plain_number(text),
        "timestamp" if is_date(text) => return Ok(Scalar::String),
        "timestamp" => plain_number(text),
        _ => return Ok(Scalar::String),
    };
    match (tag, found) {
        ("float", Scalar::Int(i)) => {
            #[allow(clippy::cast_precision_loss, reason = "asked for a float")]
            let f = i as f64;
            Ok(Scalar::Float(f))
        }
        (tag, found) if found.tag().strip_prefix("!!") == Some(tag) => Ok(found),
        (tag, found) => Err(Error::Tag {
            found: found.tag(),
            text: text.to_owned(),
            tag: format!("!!{tag}"),
        }),
    }
}

/// A float as Go's `FormatFloat(f, 'g', -1, bits)` prints it, the digits already found: `1.5e+07`.
pub(super) fn general(shortest_scientific: &str) -> String {
    let (mantissa, exponent) = shortest_scientific
        .split_once('e')
        .unwrap_or((shortest_scientific, "0"));
    let (sign, mantissa) = mantissa
        .strip_prefix('-')
        .map_or(("", mantissa), |m| ("-", m));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..6).contains(&exponent) {
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{mantissa}e{exponent_sign}{:02}", exponent.abs());
    }
    let digits = mantissa.replace('.', "");
    let Ok(point) = usize::try_from(exponent + 1) else {
        let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
        return format!("{sign}0.{zeros}{digits}");
    };
    if point == 0 {
        return format!("{sign}0.{digits}");
    }
    if digits.len() <= point {
        return format!("{sign}{digits}{}", "0".repeat(point - digits.len()));
    }
    format!("{sign}{}.{}", &digits[..point], &digits[point..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_follow_yaml_1_1() {
        let cases = [
            ("yes", Scalar::Bool(true)),
            ("Off", Scalar::Bool(false)),
            ("yEs", Scalar::String),
            ("~", Scalar::Null),
            ("017", Scalar::Int(15)),
            ("08", Scalar::Float(8.0)),
            ("0o17", Scalar::Int(15)),
            ("0x1F", Scalar::Int(31)),
            ("-0b11", Scalar::Int(-3)),
            ("1_000", Scalar::Int(1000)),
            ("+5", Scalar::Int(5)),
            ("--5", Scalar::String),
            ("-9223372036854775808", Scalar::Int(i64::MIN)),
            ("18446744073709551615", Scalar::Uint(u64::MAX)),
            (
                "18446744073709551616",
                Scalar::Float(18_446_744_073_709_551_616.0),
            ),
            ("1e3", Scalar::Float(1000.0)),
            (".5", Scalar::Float(0.5)),
            ("1.", Scalar::Float(1.0)),
            ("1e999", Scalar::String),
            (".", Scalar::String),
            ("-", Scalar::String),
            ("+inf", Scalar::String),
            ("190:20:30", Scalar::String),
            ("2001-12-14", Scalar::String),
            ("1.2.3", Scalar::String),
        ];
        for (text, want) in cases {
            assert_eq!(plain(text), want, "{text}");
        }
    }

    #[test]
    fn dates_are_recognised_as_upstream_does() {
        for date in [
            "2001-12-14",
            "2001-1-2",
            "2001-12-14T21:59:43Z",
            "2001-12-14t21:59:43.10-05:00",
            "2001-12-14 21:59:43.1",
        ] {
            assert!(is_date(date), "{date}");
        }
        for other in [
            "2001-12",
            "2001-13-01",
            "20011-1-1",
            "2001-12-14T21:59:43",
            "2001-12-14 21:59:43 -5",
            "2001-12-14x",
        ] {
            assert!(!is_date(other), "{other}");
        }
    }
}
