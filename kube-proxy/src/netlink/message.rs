//! Messages one after the other in one buffer, and reading attributes back.

use std::collections::BTreeMap;

pub(super) const HEADER: usize = 16;
const NESTED: u16 = 0x8000;

/// Messages to be sent together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    /// Where each message starts.
    starts: Vec<usize>,
}

impl Buffer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a message of this type, with the fixed part that its family puts first.
    pub(crate) fn message(
        &mut self,
        kind: u16,
        flags: i32,
        fixed: &[u8],
        fill: impl FnOnce(&mut Attrs<'_>),
    ) {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.resize(start + HEADER, 0);
        let flags = (flags | libc::NLM_F_REQUEST) as u16;
        self.bytes[start + 4..start + 6].copy_from_slice(&kind.to_ne_bytes());
        self.bytes[start + 6..start + 8].copy_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(fixed);
        let mut attrs = Attrs {
            bytes: &mut self.bytes,
        };
        attrs.pad();
        fill(&mut attrs);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Message `index`, with its header.
    pub(crate) fn get(&self, index: usize) -> &[u8] {
        let start = self.starts.get(index).copied();
        let end = self.starts.get(index + 1).copied();
        start.map_or(&[], |start| {
            &self.bytes[start..end.unwrap_or(self.bytes.len())]
        })
    }

    /// The type of message `index`.
    pub(crate) fn kind(&self, index: usize) -> u16 {
        match *self.get(index) {
            [_, _, _, _, k0, k1, ..] => u16::from_ne_bytes([k0, k1]),
            _ => 0,
        }
    }

    /// Adds messages of another buffer.
    pub(crate) fn append(&mut self, other: &Self, messages: std::ops::Range<usize>) {
        for index in messages {
            self.starts.push(self.bytes.len());
            self.bytes.extend_from_slice(other.get(index));
        }
    }

    /// Sets more flags of message `index`.
    pub(super) fn flag(&mut self, index: usize, flags: i32) {
        if let Some(&start) = self.starts.get(index) {
            let at = start + 6;
            let old = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]);
            self.bytes[at..at + 2].copy_from_slice(&(old | flags as u16).to_ne_bytes());
        }
    }

    /// Numbers the messages, from `first` on.
    pub(super) fn number(&mut self, first: u32) {
        for (index, &start) in self.starts.iter().enumerate() {
            let sequence = first.wrapping_add(index as u32);
            self.bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
        }
    }
}

/// The attributes of a message, or of an attribute that holds attributes.
pub(crate) struct Attrs<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Attrs<'_> {
    pub(crate) fn put(&mut self, kind: u16, data: &[u8]) {
        let length = (4 + data.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.put(kind, &[value]);
    }

    /// In network order, as netfilter wants its numbers.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    pub(crate) fn be64(&mut self, kind: u16, value: u64) {
        self.put(kind, &value.to_be_bytes());
    }

    pub(crate) fn str(&mut self, kind: u16, value: &str) {
        self.put(kind, &[value.as_bytes(), b"\0"].concat());
    }

    /// An attribute that holds attributes; the kernel counts its length in 16 bits.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attrs<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(&mut Attrs { bytes: self.bytes });
        let length = self.bytes.len() - start;
        debug_assert!(
            length <= usize::from(u16::MAX),
            "{length} bytes in one attribute"
        );
        self.bytes[start..start + 2].copy_from_slice(&(length as u16).to_ne_bytes());
    }

    /// How long the message's buffer is, to keep attributes below their limit.
    pub(crate) fn position(&self) -> usize {
        self.bytes.len()
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Attributes in order, without the flag that says that they hold others.
pub(crate) fn each(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1, ..] = *rest else {
            return None;
        };
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let data = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & !NESTED, data))
    })
}

/// Attributes by type; of equal ones the last.
pub(crate) fn attrs(bytes: &[u8]) -> BTreeMap<u16, &[u8]> {
    each(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested() {
        let mut buffer = Buffer::new();
        buffer.message(3, 0, &[], |a| {
            a.str(1, "ab");
            a.nest(2, |a| a.u8(3, 7));
        });
        let bytes = buffer.get(0);
        assert_eq!(bytes.len(), 16 + 8 + 4 + 8);
        assert_eq!(bytes[..4], 36_u32.to_ne_bytes());
        let found = attrs(&bytes[16..]);
        assert_eq!(found[&1], b"ab\0");
        assert_eq!(attrs(found[&2])[&3], [7]);
    }

    #[test]
    fn garbage_has_no_attributes() {
        assert!(attrs(&[1, 0, 0, 0]).is_empty());
        assert!(attrs(&[0, 0, 0, 0]).is_empty());
        assert!(attrs(&[200, 0, 1, 0, 5]).is_empty());
    }

    #[test]
    fn messages_keep_their_numbers_and_types_when_copied() {
        let mut one = Buffer::new();
        for kind in [5, 6, 7] {
            one.message(kind, 0, &[0; 4], |_| {});
        }
        let mut two = Buffer::new();
        two.append(&one, 1..3);
        two.number(40);
        assert_eq!((two.len(), two.kind(0), two.kind(1)), (2, 6, 7));
        assert_eq!(two.get(1)[8..12], 41_u32.to_ne_bytes());
        assert_eq!(two.kind(9), 0);
    }
}
