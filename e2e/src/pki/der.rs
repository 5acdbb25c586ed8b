//! As much DER as certificates and keys are put together from.

use x509_parser::time::ASN1Time;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
const BOOLEAN: u8 = 0x01;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// A value of these parts, one after the other.
pub(super) fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    if let Ok(short @ ..0x80) = u8::try_from(length) {
        out.push(short);
    } else {
        let bytes = length.to_be_bytes();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let bytes = &bytes[zeros..];
        out.push(0x80 | u8::try_from(bytes.len()).expect("a length has eight bytes at most"));
        out.extend(bytes);
    }
    out.extend(parts.concat());
    out
}

pub(super) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    value(SEQUENCE, parts)
}

/// `[number]` around a value.
pub(super) fn explicit(number: u8, inner: &[u8]) -> Vec<u8> {
    value(0xa0 | number, &[inner])
}

/// A bit string of whole bytes.
pub(super) fn bits(bytes: &[u8]) -> Vec<u8> {
    value(BIT_STRING, &[&[0], bytes])
}

/// An extension of a certificate; `content` is its value in DER.
pub(super) fn extension(oid: &[u8], critical: bool, content: &[u8]) -> Vec<u8> {
    let oid = value(OBJECT_IDENTIFIER, &[oid]);
    let critical: &[u8] = if critical { &[BOOLEAN, 1, 0xff] } else { &[] };
    sequence(&[&oid, critical, &value(OCTET_STRING, &[content])])
}

/// A moment as certificates write it: with two digits of the year up to 2049 (RFC 5280, section 4.1.2.5).
pub(super) fn time(when: ASN1Time) -> Vec<u8> {
    let when = when.to_datetime();
    let year = when.year();
    let rest = format!(
        "{:02}{:02}{:02}{:02}{:02}Z",
        u8::from(when.month()),
        when.day(),
        when.hour(),
        when.minute(),
        when.second()
    );
    if (1950..2050).contains(&year) {
        let text = format!("{:02}{rest}", year.rem_euclid(100));
        value(UTC_TIME, &[text.as_bytes()])
    } else {
        value(GENERALIZED_TIME, &[format!("{year:04}{rest}").as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_as_many_bytes_as_they_need() {
        assert_eq!(value(4, &[b"ab", b"c"]), [4, 3, b'a', b'b', b'c']);
        assert_eq!(value(4, &[&[0; 127]])[..2], [4, 127]);
        assert_eq!(value(4, &[&[0; 128]])[..3], [4, 0x81, 128]);
        assert_eq!(value(4, &[&[0; 300]])[..4], [4, 0x82, 1, 44]);
    }

    #[test]
    fn years_from_2050_have_four_digits() {
        let at = |seconds| time(ASN1Time::from_timestamp(seconds).unwrap());
        assert_eq!(at(2_524_607_999), b"\x17\x0d491231235959Z");
        assert_eq!(at(2_524_608_000), b"\x18\x0f20500101000000Z");
    }
}
