//! Frames as bytes. Pure.

use crate::streaming::Error;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    const ALL: [(u8, Self); 6] = [
        (0, Self::Continuation),
        (1, Self::Text),
        (2, Self::Binary),
        (8, Self::Close),
        (9, Self::Ping),
        (10, Self::Pong),
    ];

    fn parse(code: u8) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(known, _)| *known == code)
            .map(|(_, opcode)| *opcode)
    }

    fn code(self) -> u8 {
        Self::ALL
            .iter()
            .find(|(_, opcode)| *opcode == self)
            .map_or(0, |(code, _)| *code)
    }

    pub(super) const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The longest payload of a control frame.
pub(super) const MAX_CONTROL: u64 = 125;

/// The first two bytes of a frame, and how much follows before the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub(super) last: bool,
    pub(super) opcode: Opcode,
    pub(super) masked: bool,
    length: u8,
}

impl Head {
    pub(super) fn parse([first, second]: [u8; 2]) -> Result<Self, Error> {
        if first & 0x70 != 0 {
            return Err(Error::Protocol("extension bits that were not agreed on"));
        }
        let opcode = Opcode::parse(first & 0x0f).ok_or(Error::Protocol("unknown opcode"))?;
        let head = Self {
            last: first & 0x80 != 0,
            opcode,
            masked: second & 0x80 != 0,
            length: second & 0x7f,
        };
        if opcode.is_control() && (!head.last || u64::from(head.length) > MAX_CONTROL) {
            return Err(Error::Protocol("control frame in parts or too long"));
        }
        Ok(head)
    }

    /// Bytes of length that follow.
    pub(super) const fn extended(self) -> usize {
        match self.length {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    /// The length of the payload, of the bytes that followed.
    pub(super) fn length(self, extended: &[u8]) -> Result<u64, Error> {
        let length = match *extended {
            [] => u64::from(self.length),
            [a, b] => u64::from(u16::from_be_bytes([a, b])),
            _ => {
                let bytes = extended.try_into().map_err(|_| Error::Protocol("length"))?;
                u64::from_be_bytes(bytes)
            }
        };
        if length > i64::MAX as u64 {
            return Err(Error::Protocol("negative length"));
        }
        Ok(length)
    }
}

/// Masks or unmasks, beginning at an offset of the frame; returns the next offset.
pub(super) fn mask(bytes: &mut [u8], key: [u8; 4], offset: usize) -> usize {
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte ^= key[(offset + i) % 4];
    }
    (offset + bytes.len()) % 4
}

/// A whole frame, masked if there is a key.
pub(super) fn encode(opcode: Opcode, key: Option<[u8; 4]>, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut frame = Vec::with_capacity(length + 14);
    frame.push(0x80 | opcode.code());
    let bit = if key.is_some() { 0x80 } else { 0 };
    match length {
        0..=125 => frame.push(bit | u8::try_from(length).unwrap_or(0)),
        126..=0xffff => {
            frame.push(bit | 126);
            frame.extend_from_slice(&u16::try_from(length).unwrap_or(0).to_be_bytes());
        }
        _ => {
            frame.push(bit | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend(key.iter().flatten());
    let start = frame.len();
    for part in parts {
        frame.extend_from_slice(part);
    }
    if let Some(key) = key {
        mask(&mut frame[start..], key, 0);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_those_of_the_specifications_examples() {
        assert_eq!(
            encode(Opcode::Text, None, &[b"Hel", b"lo"]),
            [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]
        );
        let key = [0x37, 0xfa, 0x21, 0x3d];
        assert_eq!(
            encode(Opcode::Text, Some(key), &[b"Hello"]),
            [
                0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58
            ]
        );
        let long = encode(Opcode::Binary, None, &[&[0; 256]]);
        assert_eq!(long[..4], [0x82, 0x7e, 0x01, 0x00]);
        let longer = encode(Opcode::Binary, None, &[&[0; 65536]]);
        assert_eq!(longer[..10], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn heads_that_break_the_rules_are_refused() {
        for head in [[0xc1, 0], [0x83, 0], [0x8b, 0], [0x09, 0], [0x88, 126]] {
            assert!(Head::parse(head).is_err(), "{head:?}");
        }
        let head = Head::parse([0x82, 127]).unwrap();
        assert_eq!(head.extended(), 8);
        assert!(head.length(&[0x80, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }
}
