//! Formats of strings: those of `kube-openapi/pkg/validation/strfmt` that `apiserver/validation/formats.go`
//! has for custom resources of this version. A format of another name restricts nothing.

mod email;

use std::sync::LazyLock;

use cel::{Pattern, format};
use proto::meta::{address, names};
use proto::time::Duration;

/// Whether a text is of a format.
pub(super) type Check = fn(&str) -> bool;

/// By name without hyphens.
const FORMATS: &[(&str, Check)] = &[
    ("bsonobjectid", |s| is_hex(s, 24)),
    ("uri", format::is_uri),
    ("email", email::is_address),
    ("hostname", is_hostname),
    ("ipv4", |s| s.contains('.') && address::parse(s).is_some()),
    ("ipv6", |s| {
        s.contains(':') && s.parse::<std::net::IpAddr>().is_ok()
    }),
    ("cidr", |s| address::Range::parse(s).is_some()),
    ("mac", is_mac),
    ("uuid", format::is_uuid),
    ("uuid3", |s| format::is_uuid(s) && uuid_digit(s, 12) == b'3'),
    ("uuid4", |s| is_random_uuid(s, b'4')),
    ("uuid5", |s| is_random_uuid(s, b'5')),
    ("isbn", |s| is_isbn10(s) || is_isbn13(s)),
    ("isbn10", is_isbn10),
    ("isbn13", is_isbn13),
    ("creditcard", is_credit_card),
    ("ssn", is_ssn),
    ("hexcolor", is_hex_color),
    ("rgbcolor", |s| RGB_COLOR.is_match(s)),
    ("byte", format::is_base64),
    ("password", |_| true),
    ("date", format::is_date),
    ("duration", is_duration),
    ("datetime", format::is_date_time),
    ("k8sshortname", |s| names::short_name_problems(s).is_empty()),
    ("k8slongname", |s| names::long_name_problems(s).is_empty()),
];

/// The check of a format, whose name may have hyphens anywhere.
pub(super) fn find(name: &str) -> Option<Check> {
    let plain: String;
    let name = if name.contains('-') {
        plain = name.replace('-', "");
        &plain
    } else {
        name
    };
    let found = FORMATS.iter().find(|(known, _)| *known == name);
    found.map(|(_, check)| *check)
}

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).expect("the patterns here are tested")
}

static RGB_COLOR: LazyLock<Pattern> = LazyLock::new(|| {
    const PART: &str = r"\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*";
    pattern(&format!(r"^rgb\({PART},{PART},{PART}\)$"))
});

static CREDIT_CARD: LazyLock<Pattern> = LazyLock::new(|| {
    pattern(
        "^(4[0-9]{12}([0-9]{3})?|5[1-5][0-9]{14}|6(011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}\
         |3(0[0-5]|[68][0-9])[0-9]{11}|(2131|1800|35[0-9]{3})[0-9]{11})$",
    )
});

/// Labels of letters, digits and symbols; the last of a name with dots is letters alone.
static HOSTNAME: LazyLock<Pattern> = LazyLock::new(|| {
    const ONE: &str = r"[a-zA-Z0-9\p{S}\p{L}]";
    const INNER: &str = r"[a-zA-Z0-9-\p{S}\p{L}]";
    pattern(&format!(
        r"^({ONE}((-?{ONE}{{0,62}})?)|({ONE}(({INNER}{{0,61}}{ONE})?)(\.)){{1,}}([a-zA-Z\p{{L}}]){{2,63}})$"
    ))
});

fn is_hostname(s: &str) -> bool {
    s.len() <= 255 && s.split('.').all(|label| label.len() <= 63) && HOSTNAME.is_match(s)
}

fn is_hex(s: &str, len: usize) -> bool {
    s.len() == len && s.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The digit of a UUID at a place that does not count hyphens.
fn uuid_digit(s: &str, i: usize) -> u8 {
    s.bytes().filter(|b| *b != b'-').nth(i).unwrap_or_default()
}

fn is_random_uuid(s: &str, version: u8) -> bool {
    let variant = || uuid_digit(s, 16).to_ascii_lowercase();
    format::is_uuid(s)
        && uuid_digit(s, 12) == version
        && matches!(variant(), b'8' | b'9' | b'a' | b'b')
}

/// Six, eight or twenty bytes: in pairs of digits between colons or hyphens, in fours between dots, or all
/// in one.
fn is_mac(s: &str) -> bool {
    let (separator, digits) = match s.as_bytes() {
        [_, _, separator @ (b':' | b'-'), ..] => (*separator, 2),
        [_, _, _, _, b'.', ..] => (b'.', 4),
        _ => return matches!(s.len(), 12 | 16 | 40) && is_hex(s, s.len()),
    };
    let groups: Vec<&str> = s.split(char::from(separator)).collect();
    matches!(groups.len() * digits / 2, 6 | 8 | 20) && groups.iter().all(|g| is_hex(g, digits))
}

fn without_spaces(s: &str) -> String {
    s.chars()
        .filter(|c| !matches!(c, ' ' | '\t' | '\n' | '\x0c' | '\r' | '-'))
        .collect()
}

fn is_isbn10(s: &str) -> bool {
    let digits = without_spaces(s);
    let mut sum = 0;
    for (i, c) in digits.chars().enumerate() {
        let digit = match c.to_digit(10) {
            Some(digit) => digit,
            None if c == 'X' && i == 9 => 10,
            None => return false,
        };
        // The tenth weighs ten.
        sum += u32::try_from(i + 1).unwrap_or(u32::MAX).min(10) * digit;
    }
    digits.len() == 10 && sum % 11 == 0
}

fn is_isbn13(s: &str) -> bool {
    let digits = without_spaces(s);
    if digits.len() != 13 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    let weighed = digits.bytes().enumerate().map(|(i, b)| {
        let weight = if i % 2 == 0 { 1 } else { 3 };
        u32::from(b - b'0') * weight
    });
    weighed.sum::<u32>() % 10 == 0
}

fn is_credit_card(s: &str) -> bool {
    let digits: String = s.chars().filter(char::is_ascii_digit).collect();
    let luhn = digits.bytes().rev().enumerate().map(|(i, b)| {
        let digit = u32::from(b - b'0');
        match i % 2 {
            0 => digit,
            _ => digit * 2 / 10 + digit * 2 % 10,
        }
    });
    luhn.sum::<u32>() % 10 == 0 && CREDIT_CARD.is_match(&digits)
}

/// `123-45-6789`, where a hyphen may be a space.
fn is_ssn(s: &str) -> bool {
    s.len() == 11
        && s.bytes().enumerate().all(|(i, b)| match i {
            3 | 6 => matches!(b, b'-' | b' '),
            _ => b.is_ascii_digit(),
        })
}

fn is_hex_color(s: &str) -> bool {
    let digits = s.strip_prefix('#').unwrap_or(s);
    is_hex(digits, 3) || is_hex(digits, 6)
}

/// One of Go's, or numbers with units in words somewhere in the text, as Scala has them.
fn is_duration(s: &str) -> bool {
    if s.parse::<Duration>().is_ok() {
        return true;
    }
    /// The last of each is a prefix.
    const UNITS: [&[&str]; 8] = [
        &["ns", "nano"],
        &["us", "\u{b5}s", "micro"],
        &["ms", "milli"],
        &["s", "sec"],
        &["m", "min"],
        &["h", "hr", "hour"],
        &["d", "day"],
        &["w", "wk", "week"],
    ];
    let mut found = false;
    let mut rest = s;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        rest = &rest[start..];
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let number = &rest[..rest.len() - digits.len()];
        let spaces = digits.trim_start_matches([' ', '\t', '\n', '\x0c', '\r']);
        let end = spaces
            .find(|c: char| !c.is_ascii_alphabetic() && c != '\u{b5}')
            .unwrap_or(spaces.len());
        let (unit, behind) = spaces.split_at(end);
        rest = behind;
        if unit.is_empty() {
            continue;
        }
        if number.parse::<i64>().is_err() {
            return false;
        }
        let unit = unit.to_lowercase();
        found |= UNITS.iter().any(|names| {
            names.iter().any(|name| *name == unit)
                || names.last().is_some_and(|prefix| unit.starts_with(prefix))
        });
    }
    found
}
