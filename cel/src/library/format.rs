//! Formats of strings by name: `apiserver/pkg/cel/library/format.go`.

use proto::meta::names;
use proto::time::civil::days_in_month;

use super::{Functions, opaque, overloads, text};
use crate::error::Error;
use crate::value::{NamedFormat, Opaque, Url, Value};

/// Sizes are those of upstream's regular expressions, or what it reckons instead of one.
static FORMATS: &[NamedFormat] = &[
    format(
        "format.dns1123Label",
        "DNS1123Label",
        |s| names::label_name(s, false),
        30,
    ),
    format(
        "format.dns1123Subdomain",
        "DNS1123Subdomain",
        |s| names::subdomain_name(s, false),
        60,
    ),
    format(
        "format.dns1035Label",
        "DNS1035Label",
        |s| names::dns_1035_label_name(s, false),
        30,
    ),
    format(
        "format.qualifiedName",
        "QualifiedName",
        names::label_key_problems,
        60,
    ),
    format(
        "format.dns1123LabelPrefix",
        "DNS1123LabelPrefix",
        |s| names::label_name(s, true),
        30,
    ),
    format(
        "format.dns1123SubdomainPrefix",
        "DNS1123SubdomainPrefix",
        |s| names::subdomain_name(s, true),
        60,
    ),
    format(
        "format.dns1035LabelPrefix",
        "DNS1035LabelPrefix",
        |s| names::dns_1035_label_name(s, true),
        30,
    ),
    format(
        "format.labelValue",
        "LabelValue",
        names::label_value_problems,
        40,
    ),
    format(
        "format.uri",
        "URI",
        |s| Url::check(s).err().into_iter().collect(),
        1103,
    ),
    format(
        "format.uuid",
        "uuid",
        |s| said(is_uuid(s), "does not match the UUID format"),
        70,
    ),
    format(
        "format.byte",
        "byte",
        |s| said(is_base64(s), "invalid base64"),
        84,
    ),
    format(
        "format.date",
        "date",
        |s| said(is_date(s), "invalid date"),
        71,
    ),
    format(
        "format.datetime",
        "datetime",
        |s| said(is_date_time(s), "invalid datetime"),
        71,
    ),
];

const fn format(
    function: &'static str,
    name: &'static str,
    validate: fn(&str) -> Vec<String>,
    regex_size: u32,
) -> NamedFormat {
    NamedFormat {
        function,
        name,
        validate,
        regex_size,
    }
}

fn said(holds: bool, otherwise: &str) -> Vec<String> {
    if holds {
        Vec::new()
    } else {
        vec![otherwise.to_owned()]
    }
}

pub(super) fn add(f: &mut Functions) {
    // A body is a function without state, so each format has its own.
    const BODIES: [super::Body; 13] = [
        |_| Ok(of(0)),
        |_| Ok(of(1)),
        |_| Ok(of(2)),
        |_| Ok(of(3)),
        |_| Ok(of(4)),
        |_| Ok(of(5)),
        |_| Ok(of(6)),
        |_| Ok(of(7)),
        |_| Ok(of(8)),
        |_| Ok(of(9)),
        |_| Ok(of(10)),
        |_| Ok(of(11)),
        |_| Ok(of(12)),
    ];
    overloads!(f;
        method "validate" "format-validate" "format, string -> optional(list(string))" |a| {
            let Opaque::Format(format) = opaque(a, 0)? else {
                return Err(Error::no_such_overload());
            };
            let problems = (format.validate)(text(a, 1)?);
            Ok(if problems.is_empty() {
                Value::Optional(None)
            } else {
                Value::some(Value::texts(problems))
            })
        };
        function "format.named" "format-named" "string -> optional(format)" |a| {
            let name = text(a, 0)?;
            let found = FORMATS
                .iter()
                .position(|format| format.function.strip_prefix("format.") == Some(name));
            Ok(match found {
                Some(index) => Value::some(of(index)),
                None => Value::Optional(None),
            })
        };
    );
    for (format, body) in FORMATS.iter().zip(BODIES) {
        f.function(format.function, format.function, "-> format", body);
    }
}

fn of<'a>(index: usize) -> Value<'a> {
    Value::opaque(Opaque::Format(&FORMATS[index]))
}

/// Whether a text could be the target of a request: Go's `url.ParseRequestURI`.
#[must_use]
pub fn is_uri(text: &str) -> bool {
    Url::check(text).is_ok()
}

/// Whether a text is a UUID of any version. Hyphens may be left out, each by itself.
#[must_use]
pub fn is_uuid(text: &str) -> bool {
    let mut rest = text;
    for (i, len) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if i > 0 {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        match rest.get(..len) {
            Some(group) if group.bytes().all(|b| b.is_ascii_hexdigit()) => rest = &rest[len..],
            _ => return false,
        }
    }
    rest.is_empty()
}

/// Whether a text is base64 that is not empty.
#[must_use]
pub fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && text.len() - body.len() <= 2
        && body
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

fn digits(text: &str, len: usize) -> Option<i64> {
    (text.len() == len && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// Whether a text is `2006-01-02`, a day that exists.
#[must_use]
pub fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts[..] else {
        return false;
    };
    match (digits(year, 4), digits(month, 2), digits(day, 2)) {
        (Some(year), Some(month @ 1..=12), Some(day @ 1..)) => {
            u8::try_from(month).is_ok_and(|month| day <= days_in_month(year, month).into())
        }
        _ => false,
    }
}

/// Whether a text is a date, `t` and a time of day with a zone, in either case.
#[must_use]
pub fn is_date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (Some(date), Some(time)) = (parts.next(), parts.next()) else {
        return false;
    };
    is_date(date) && is_time_of_day(time).unwrap_or(false)
}

fn is_time_of_day(text: &str) -> Option<bool> {
    let (hour, minute, second) = (text.get(0..2)?, text.get(3..5)?, text.get(6..8)?);
    let separated = text.get(2..3)? == ":" && text.get(5..6)? == ":";
    for part in [hour, minute, second] {
        digits(part, 2)?;
    }
    let mut rest = &text[8..];
    // The fraction may begin with anything but a line break.
    let mut chars = rest.chars();
    if let Some(c) = chars.next()
        && c != '\n'
        && chars.as_str().starts_with(|c: char| c.is_ascii_digit())
        && !is_zone(rest)
    {
        rest = chars
            .as_str()
            .trim_start_matches(|c: char| c.is_ascii_digit());
    }
    Some(separated && is_zone(rest) && hour <= "23" && minute <= "59" && second <= "59")
}

fn is_zone(text: &str) -> bool {
    if text == "z" {
        return true;
    }
    let Some(rest) = text.strip_prefix(['+', '-']) else {
        return false;
    };
    rest.split_once(':')
        .is_some_and(|(h, m)| digits(h, 2).is_some() && digits(m, 2).is_some())
}
