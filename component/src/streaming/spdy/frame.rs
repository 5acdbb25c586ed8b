//! SPDY/3.1 frames as bytes. Pure.

/// The first eight bytes of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Head {
    Data {
        stream: u32,
        flags: u8,
        length: usize,
    },
    Control {
        version: u16,
        kind: u16,
        flags: u8,
        length: usize,
    },
}

pub(super) const HEAD: usize = 8;
pub(super) const VERSION: u16 = 3;

pub(super) const SYN_STREAM: u16 = 1;
pub(super) const SYN_REPLY: u16 = 2;
pub(super) const RST_STREAM: u16 = 3;
pub(super) const PING: u16 = 6;
pub(super) const GOAWAY: u16 = 7;
pub(super) const HEADERS: u16 = 8;

pub(super) const FIN: u8 = 1;
pub(super) const UNIDIRECTIONAL: u8 = 2;

/// Reasons of a reset.
pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const REFUSED_STREAM: u32 = 3;
pub(super) const CANCEL: u32 = 5;

/// Stream ids have 31 bits.
pub(super) const MAX_ID: u32 = 0x7fff_ffff;

impl Head {
    pub(super) fn parse(bytes: [u8; HEAD]) -> Self {
        let [a, b, c, d, flags, e, f, g] = bytes;
        let word = u32::from_be_bytes([a, b, c, d]);
        let length = u32::from_be_bytes([0, e, f, g]) as usize;
        if word & !MAX_ID == 0 {
            return Self::Data {
                stream: word,
                flags,
                length,
            };
        }
        Self::Control {
            version: u16::from_be_bytes([a & 0x7f, b]),
            kind: u16::from_be_bytes([c, d]),
            flags,
            length,
        }
    }
}

/// A big-endian word at an offset, if the payload is that long.
pub(super) fn word(payload: &[u8], at: usize) -> Option<u32> {
    let bytes = payload.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// The head of a data frame; `length` is at most 24 bits.
pub(super) fn data(stream: u32, flags: u8, length: usize) -> [u8; HEAD] {
    head(stream & MAX_ID, flags, length)
}

fn head(word: u32, flags: u8, length: usize) -> [u8; HEAD] {
    let [a, b, c, d] = word.to_be_bytes();
    let [.., e, f, g] = (length as u64).to_be_bytes();
    [a, b, c, d, flags, e, f, g]
}

/// A control frame.
pub(super) fn control(kind: u16, flags: u8, payload: &[&[u8]]) -> Vec<u8> {
    let length = payload.iter().map(|part| part.len()).sum();
    let word = 0x8000_0000 | u32::from(VERSION) << 16 | u32::from(kind);
    let mut frame = Vec::with_capacity(HEAD + length);
    frame.extend_from_slice(&head(word, flags, length));
    for part in payload {
        frame.extend_from_slice(part);
    }
    frame
}

pub(super) fn reset(stream: u32, status: u32) -> Vec<u8> {
    control(
        RST_STREAM,
        0,
        &[&stream.to_be_bytes(), &status.to_be_bytes()],
    )
}

pub(super) fn ping(id: u32) -> Vec<u8> {
    control(PING, 0, &[&id.to_be_bytes()])
}

pub(super) fn go_away(last: u32) -> Vec<u8> {
    control(GOAWAY, 0, &[&last.to_be_bytes(), &0_u32.to_be_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_bytes_of_the_specification() {
        assert_eq!(
            control(SYN_REPLY, FIN, &[&7_u32.to_be_bytes(), b"xy"]),
            [0x80, 3, 0, 2, 1, 0, 0, 6, 0, 0, 0, 7, b'x', b'y']
        );
        assert_eq!(data(5, FIN, 0x01_0203), [0, 0, 0, 5, 1, 1, 2, 3]);
        assert_eq!(
            go_away(9),
            [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 0]
        );
        let head = Head::parse([0x80, 3, 0, 1, 2, 0, 1, 0]);
        let expected = Head::Control {
            version: 3,
            kind: SYN_STREAM,
            flags: UNIDIRECTIONAL,
            length: 256,
        };
        assert_eq!(head, expected);
    }
}
