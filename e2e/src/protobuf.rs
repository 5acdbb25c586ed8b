//! Protobuf without a schema: the fields of a message, as they lie there.

/// What stored objects and bodies of built-in kinds begin with.
pub(crate) const MAGIC: &[u8] = b"k8s\0";

/// What a field holds, by its wire type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Held<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

/// Takes the next field off a message: its number and what it holds. Nothing if it is malformed, or of the groups that nobody
/// uses any more.
pub(crate) fn field<'a>(message: &mut &'a [u8]) -> Option<(u64, Held<'a>)> {
    let tag = varint(message)?;
    let held = match tag & 7 {
        0 => Held::Varint(varint(message)?),
        1 => Held::Fixed64(fixed(message)?),
        2 => {
            let length = usize::try_from(varint(message)?).ok()?;
            let (bytes, rest) = message.split_at_checked(length)?;
            *message = rest;
            Held::Bytes(bytes)
        }
        5 => Held::Fixed32(fixed(message)?),
        _ => return None,
    };
    Some((tag >> 3, held))
}

fn fixed<const N: usize>(message: &mut &[u8]) -> Option<[u8; N]> {
    let (fixed, rest) = message.split_first_chunk()?;
    *message = rest;
    Some(*fixed)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_taken_one_by_one() {
        let mut message: &[u8] = b"\x08\x96\x01\x12\x02ab\x1d\x01\x00\x00\x00";
        assert_eq!(field(&mut message), Some((1, Held::Varint(150))));
        assert_eq!(field(&mut message), Some((2, Held::Bytes(b"ab"))));
        assert_eq!(field(&mut message), Some((3, Held::Fixed32([1, 0, 0, 0]))));
        assert!(message.is_empty());
    }

    #[test]
    fn what_is_cut_short_or_a_group_is_no_field() {
        for bad in [&b"\x12\x05ab"[..], b"\x0b", b"\x09\x01", b"\x80"] {
            assert_eq!(field(&mut { bad }), None, "{bad:?}");
        }
    }
}
