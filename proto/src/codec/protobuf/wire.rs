//! The wire format: fields of a message as slices, forwards; and a buffer written backwards.
//!
//! Writing backwards, as upstream does, needs no sizes in advance: when the length of a message is
//! written, its content already stands behind it.

use super::super::DecodeError;

pub(crate) const VARINT: u8 = 0;
pub(crate) const FIXED64: u8 = 1;
pub(crate) const BYTES: u8 = 2;
const START_GROUP: u8 = 3;
const END_GROUP: u8 = 4;
const FIXED32: u8 = 5;

/// The value of one field. A plain struct of words, because it is copied from hand to hand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wire<'a> {
    /// The wire type.
    kind: u64,
    /// Of a varint or 64 fixed bits.
    number: u64,
    /// Of a field with a length.
    bytes: &'a [u8],
}

impl<'a> Wire<'a> {
    pub(crate) fn of_varint(number: u64) -> Self {
        Self {
            kind: VARINT.into(),
            number,
            bytes: &[],
        }
    }

    #[inline]
    pub(crate) fn as_bytes(self) -> Option<&'a [u8]> {
        (self.kind == u64::from(BYTES)).then_some(self.bytes)
    }

    #[inline]
    pub(crate) fn as_varint(self) -> Option<u64> {
        (self.kind == u64::from(VARINT)).then_some(self.number)
    }

    #[inline]
    pub(crate) fn as_double(self) -> Option<f64> {
        (self.kind == u64::from(FIXED64)).then_some(f64::from_bits(self.number))
    }

    #[inline]
    pub(crate) fn bytes(self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        self.as_bytes().ok_or_else(|| self.wrong(field))
    }

    #[inline]
    pub(crate) fn varint(self, field: &'static str) -> Result<u64, DecodeError> {
        self.as_varint().ok_or_else(|| self.wrong(field))
    }

    #[inline]
    pub(crate) fn double(self, field: &'static str) -> Result<f64, DecodeError> {
        self.as_double().ok_or_else(|| self.wrong(field))
    }

    #[cold]
    fn wrong(self, field: &'static str) -> DecodeError {
        DecodeError::WrongWireType {
            wire_type: self.kind as u8,
            field,
        }
    }
}

/// Reads the fields of one message in the order of the bytes.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    /// For errors.
    message: &'static str,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(raw: &'a [u8], message: &'static str) -> Self {
        Self { rest: raw, message }
    }

    /// What has not been read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next field: its tag and value. Inlined, for it is the innermost loop of everything here.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = varint(&mut self.rest)?;
        // Upstream reads the tag as 32 bits, too.
        let tag = (key >> 3) as u32;
        if tag == 0 || tag > i32::MAX as u32 {
            return Err(self.illegal(key));
        }
        let mut wire = Wire {
            kind: key & 7,
            number: 0,
            bytes: &[],
        };
        match wire.kind as u8 {
            BYTES => wire.bytes = length_delimited(&mut self.rest)?,
            VARINT => wire.number = varint(&mut self.rest)?,
            FIXED64 => wire.number = u64::from_le_bytes(fixed(&mut self.rest)?),
            _ => self.skip(key)?,
        }
        Ok(Some((tag, wire)))
    }

    #[cold]
    fn illegal(&self, key: u64) -> DecodeError {
        if (key & 7) as u8 == END_GROUP {
            return DecodeError::EndOfGroup;
        }
        DecodeError::IllegalTag {
            message: self.message,
            tag: (key >> 3) as i32,
            wire: key,
        }
    }

    /// Wire types that no field of the API has.
    #[cold]
    fn skip(&mut self, key: u64) -> Result<(), DecodeError> {
        match (key & 7) as u8 {
            START_GROUP => skip_group(&mut self.rest),
            FIXED32 => fixed::<4>(&mut self.rest).map(|_| ()),
            END_GROUP => Err(DecodeError::EndOfGroup),
            kind => Err(DecodeError::IllegalWireType(kind)),
        }
    }
}

#[inline]
fn fixed<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (bytes, tail) = rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
    *rest = tail;
    Ok(*bytes)
}

#[inline]
pub(crate) fn varint(rest: &mut &[u8]) -> Result<u64, DecodeError> {
    // Keys, lengths and most numbers are one byte.
    if let [byte @ 0..0x80, tail @ ..] = *rest {
        *rest = tail;
        return Ok(u64::from(*byte));
    }
    long_varint(rest)
}

#[cold]
fn long_varint(rest: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut n = 0;
    for (i, byte) in rest.iter().enumerate() {
        if i == 10 {
            return Err(DecodeError::VarintOverflow);
        }
        n |= u64::from(byte & 0x7f) << (7 * i);
        if *byte < 0x80 {
            *rest = &rest[i + 1..];
            return Ok(n);
        }
    }
    Err(if rest.len() >= 10 {
        DecodeError::VarintOverflow
    } else {
        DecodeError::Truncated
    })
}

#[inline]
fn length_delimited<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let len = usize::try_from(varint(rest)?).map_err(|_| DecodeError::Truncated)?;
    let (bytes, tail) = rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
    *rest = tail;
    Ok(bytes)
}

/// Skips to the end of a group that has begun, without recursion.
fn skip_group(rest: &mut &[u8]) -> Result<(), DecodeError> {
    let mut depth = 1_usize;
    while depth > 0 {
        match (varint(rest)? & 7) as u8 {
            VARINT => {
                varint(rest)?;
            }
            FIXED64 => *rest = rest.get(8..).ok_or(DecodeError::Truncated)?,
            BYTES => {
                length_delimited(rest)?;
            }
            START_GROUP => depth += 1,
            END_GROUP => depth -= 1,
            FIXED32 => *rest = rest.get(4..).ok_or(DecodeError::Truncated)?,
            kind => return Err(DecodeError::IllegalWireType(kind)),
        }
    }
    Ok(())
}

/// A buffer that is filled from its end. What is written stands at the end of `out` and moves to the
/// front of its free part at [`Back::finish`].
pub(crate) struct Back<'o> {
    out: &'o mut Vec<u8>,
    /// What was in `out` before.
    base: usize,
    /// The first byte written.
    pos: usize,
}

impl<'o> Back<'o> {
    pub(crate) fn new(out: &'o mut Vec<u8>) -> Self {
        let base = out.len();
        // A typical object; the vector may already have more.
        out.resize(out.capacity().max(base + 1024), 0);
        Self {
            base,
            pos: out.len(),
            out,
        }
    }

    /// Drops the unused space; the bytes written follow what was there before.
    pub(crate) fn finish(self) {
        self.out.copy_within(self.pos.., self.base);
        let len = self.written();
        self.out.truncate(self.base + len);
    }

    /// The number of bytes written, for lengths: the difference of two marks.
    pub(crate) fn written(&self) -> usize {
        self.out.len() - self.pos
    }

    fn grow(&mut self, need: usize) {
        let old = self.out.len();
        let more = need.max(old - self.base);
        self.out.resize(old + more, 0);
        self.out.copy_within(self.pos..old, self.pos + more);
        self.pos += more;
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        if self.pos - self.base < bytes.len() {
            self.grow(bytes.len());
        }
        self.pos -= bytes.len();
        self.out[self.pos..self.pos + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn varint(&mut self, mut n: u64) {
        if n < 0x80 {
            return self.bytes(&[n as u8]);
        }
        let mut bytes = [0; 10];
        let mut len = 0;
        loop {
            bytes[len] = (n & 0x7f) as u8 | 0x80;
            len += 1;
            n >>= 7;
            if n == 0 {
                break;
            }
        }
        bytes[len - 1] &= 0x7f;
        self.bytes(&bytes[..len]);
    }

    pub(crate) fn key(&mut self, tag: u16, kind: u8) {
        self.varint(u64::from(tag) << 3 | u64::from(kind));
    }

    /// A field of bytes.
    pub(crate) fn field(&mut self, tag: u16, bytes: &[u8]) {
        self.bytes(bytes);
        self.varint(bytes.len() as u64);
        self.key(tag, BYTES);
    }

    /// Closes a message whose content is what was written since `mark`.
    pub(crate) fn close(&mut self, tag: u16, mark: usize) {
        let len = self.written() - mark;
        self.varint(len as u64);
        self.key(tag, BYTES);
    }
}
