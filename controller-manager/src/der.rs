//! Writing DER (X.690): what certificates and keys are made of.

use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::tz::TimeZone;

pub const BOOLEAN: u8 = 0x01;
pub const INTEGER: u8 = 0x02;
pub const BIT_STRING: u8 = 0x03;
pub const OCTET_STRING: u8 = 0x04;
pub const OBJECT_IDENTIFIER: u8 = 0x06;
pub const UTC_TIME: u8 = 0x17;
pub const GENERALIZED_TIME: u8 = 0x18;
pub const SEQUENCE: u8 = 0x30;
/// NULL, whole.
pub const NULL: [u8; 2] = [0x05, 0x00];
/// True, whole.
pub const TRUE: [u8; 3] = [BOOLEAN, 0x01, 0xff];

/// A tag with a number, of constructed content.
#[must_use]
pub fn constructed(number: u8) -> u8 {
    0xa0 | number
}

/// A tag with a number, of primitive content.
#[must_use]
pub fn primitive(number: u8) -> u8 {
    0x80 | number
}

/// One element whose content is these parts.
#[must_use]
pub fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|p| p.len()).sum();
    let mut out = vec![tag];
    let bytes = length.to_be_bytes();
    let significant = bytes
        .iter()
        .position(|b| *b != 0)
        .unwrap_or(bytes.len() - 1);
    let significant = bytes.get(significant..).unwrap_or_default();
    match (length, u8::try_from(significant.len())) {
        (..=127, _) | (_, Err(_)) => out.extend(significant),
        (_, Ok(count)) => {
            out.push(0x80 | count);
            out.extend(significant);
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

#[must_use]
pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(SEQUENCE, parts)
}

/// A number that is not negative, big end first.
#[must_use]
pub fn integer(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    let digits = bytes.get(zeros..).unwrap_or_default();
    match digits.first() {
        None => element(INTEGER, &[&[0]]),
        Some(first) if first & 0x80 != 0 => element(INTEGER, &[&[0], digits]),
        Some(_) => element(INTEGER, &[digits]),
    }
}

/// A string of bits, of which the last `unused` do not count.
#[must_use]
pub fn bits(bytes: &[u8], unused: u8) -> Vec<u8> {
    element(BIT_STRING, &[&[unused], bytes])
}

/// An object identifier; the first two arcs are below 3 and 40.
#[must_use]
pub fn oid(arcs: &[u32]) -> Vec<u8> {
    let mut body = Vec::new();
    if let [first, second, rest @ ..] = arcs {
        base128(first * 40 + second, &mut body);
        for arc in rest {
            base128(*arc, &mut body);
        }
    }
    element(OBJECT_IDENTIFIER, &[&body])
}

fn base128(number: u32, out: &mut Vec<u8>) {
    let groups = (1..5).rev().filter(|i| number >> (7 * i) != 0);
    for i in groups {
        out.push(0x80 | (number >> (7 * i) & 0x7f) as u8);
    }
    out.push((number & 0x7f) as u8);
}

/// A time in seconds, in the form that certificates use for its year.
#[must_use]
pub fn time(at: Timestamp) -> Vec<u8> {
    let at = at.to_zoned(TimeZone::UTC);
    let short = (1950..2050).contains(&at.year());
    let (tag, format) = if short {
        (UTC_TIME, "%y%m%d%H%M%SZ")
    } else {
        (GENERALIZED_TIME, "%Y%m%d%H%M%SZ")
    };
    element(tag, &[at.strftime(format).to_string().as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_as_many_bytes_as_they_need() {
        assert_eq!(element(4, &[]), [4, 0]);
        assert_eq!(element(4, &[&[7; 127]])[..2], [4, 127]);
        assert_eq!(element(4, &[&[7; 128]])[..3], [4, 0x81, 128]);
        assert_eq!(element(4, &[&[7; 256], &[1]])[..4], [4, 0x82, 1, 1]);
    }

    #[test]
    fn numbers_are_not_negative_and_not_padded() {
        assert_eq!(integer(&[0, 0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(integer(&[0, 1]), [2, 1, 1]);
        assert_eq!(integer(&[]), [2, 1, 0]);
    }

    #[test]
    fn identifiers_and_times_are_as_in_the_standard() {
        assert_eq!(
            oid(&[1, 2, 840, 113_549, 1, 1, 11]),
            [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11]
        );
        let at = |text: &str| time(text.parse().unwrap());
        assert_eq!(at("2026-01-02T03:04:05Z")[2..], *b"260102030405Z");
        assert_eq!(at("2050-01-02T03:04:05Z")[2..], *b"20500102030405Z");
    }
}
