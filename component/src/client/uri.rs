//! Escaping in paths and queries.

use std::fmt::Write;

/// A text as one segment of a path, as Go's `url.PathEscape`.
#[must_use]
pub fn path_escape(text: &str) -> String {
    escape(text, b"-_.~$&+=:@")
}

/// A text as a value of a query, as Go's `url.QueryEscape`, with spaces as `%20`.
#[must_use]
pub fn query_escape(text: &str) -> String {
    escape(text, b"-_.~")
}

fn escape(text: &str, plain: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The text of a value in a query; what is not an escape stays as it is, a plus is a space.
#[must_use]
pub fn percent_decode(text: &str) -> String {
    decode(text, b' ')
}

/// The text of a segment of a path; what is not an escape stays as it is.
#[must_use]
pub fn path_decode(text: &str) -> String {
    if text.contains('%') {
        decode(text, b'+')
    } else {
        text.to_owned()
    }
}

fn decode(text: &str, plus: u8) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        let hex = |b: &u8| {
            char::from(*b)
                .to_digit(16)
                .and_then(|d| u8::try_from(d).ok())
        };
        match (byte, after) {
            (b'%', [high, low, after @ ..]) if hex(high).is_some() && hex(low).is_some() => {
                out.push(hex(high).unwrap_or(0) << 4 | hex(low).unwrap_or(0));
                rest = after;
            }
            (b'+', _) => out.push(plus),
            _ => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_gos_and_come_back() {
        assert_eq!(path_escape("system:node/é %"), "system:node%2F%C3%A9%20%25");
        assert_eq!(query_escape("a=b,c in (d)"), "a%3Db%2Cc%20in%20%28d%29");
        for text in ["a=b,c in (d)", "100%", "é+ü", "%zz"] {
            assert_eq!(percent_decode(&query_escape(text)), text);
        }
        assert_eq!(percent_decode("%zz%4"), "%zz%4");
        assert_eq!(path_decode("%zz%4+%2f%2B"), "%zz%4+/+");
    }

    #[test]
    fn a_sign_is_no_digit() {
        for text in ["%+5", "%-5", "a%+0b", "%5+"] {
            assert_eq!(path_decode(text), text);
        }
    }
}
