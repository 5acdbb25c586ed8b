//! Cutting a watch's bytes into events.
//!
//! In JSON an event is a line. In protobuf it is a length of four bytes, the highest first, and a
//! `WatchEvent` message, whose object is in an envelope of its own.

use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The longest event that is read: the largest object is 3 MiB on its way in, and grows in JSON.
const MAX_EVENT: usize = 64 << 20;
/// Of the length before an event in protobuf.
const PREFIX: usize = 4;

/// The bytes that came and are not an event yet.
pub(crate) struct Frames {
    protobuf: bool,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line end.
    seen: usize,
}

/// An event with its object as it came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Raw<'a> {
    pub(crate) kind: &'a str,
    pub(crate) object: &'a [u8],
}

impl Frames {
    pub(crate) fn new(protobuf: bool) -> Self {
        Self {
            protobuf,
            buffer: BytesMut::new(),
            seen: 0,
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next event's bytes, if all of them are there.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, String> {
        if self.protobuf {
            self.next_prefixed()
        } else {
            self.next_line()
        }
    }

    fn next_prefixed(&mut self) -> Result<Option<Bytes>, String> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
        if length > MAX_EVENT {
            return Err(format!("an event of {length} bytes"));
        }
        if self.buffer.len() < PREFIX + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    fn next_line(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            let Some(at) = self.buffer[self.seen..].iter().position(|b| *b == b'\n') else {
                self.seen = self.buffer.len();
                if self.seen > MAX_EVENT {
                    return Err(format!("an event longer than {MAX_EVENT} bytes"));
                }
                return Ok(None);
            };
            let line = self.buffer.split_to(self.seen + at + 1).freeze();
            self.seen = 0;
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
    }

    /// An event's type and object.
    pub(crate) fn open<'a>(&self, frame: &'a [u8]) -> Result<Raw<'a>, String> {
        if self.protobuf {
            open_protobuf(frame)
        } else {
            open_json(frame)
        }
    }
}

fn open_json(frame: &[u8]) -> Result<Raw<'_>, String> {
    #[derive(Deserialize)]
    struct Event<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
        #[serde(borrow)]
        object: &'a RawValue,
    }
    let event: Event<'_> = serde_json::from_slice(frame).map_err(|e| e.to_string())?;
    Ok(Raw {
        kind: event.kind,
        object: event.object.get().as_bytes(),
    })
}

/// `WatchEvent`: type is field 1, object field 2, a `RawExtension` whose bytes are its field 1.
fn open_protobuf(frame: &[u8]) -> Result<Raw<'_>, String> {
    let malformed = || "a malformed event".to_owned();
    let kind = field(frame, 1).ok_or_else(malformed)?;
    let object = field(frame, 2)
        .and_then(|extension| field(extension, 1))
        .ok_or_else(malformed)?;
    Ok(Raw {
        kind: std::str::from_utf8(kind).map_err(|_| malformed())?,
        object,
    })
}

/// The last length-delimited field with a number.
fn field(mut message: &[u8], number: u64) -> Option<&[u8]> {
    let mut found = None;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match key & 7 {
            0 => drop(varint(&mut message)?),
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let (value, rest) = message.split_at_checked(length)?;
                if key >> 3 == number {
                    found = Some(value);
                }
                message = rest;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    found
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
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

    /// An event as the server frames it; lengths below 128.
    fn prefixed(kind: &str, object: &[u8]) -> Vec<u8> {
        let len = |n: usize| u8::try_from(n).unwrap();
        let mut message = vec![0x0a, len(kind.len())];
        message.extend_from_slice(kind.as_bytes());
        message.extend([0x12, len(object.len() + 2), 0x0a, len(object.len())]);
        message.extend_from_slice(object);
        [
            u32::try_from(message.len())
                .unwrap()
                .to_be_bytes()
                .as_slice(),
            &message,
        ]
        .concat()
    }

    #[test]
    fn events_are_the_same_wherever_the_bytes_are_cut() {
        let lines =
            b"{\"type\":\"ADDED\",\"object\":{}}\n\n{\"type\":\"DELETED\",\"object\":{\"a\":1}}\n"
                .to_vec();
        let binary = [prefixed("ADDED", b"{}"), prefixed("DELETED", b"{\"a\":1}")].concat();
        for (protobuf, bytes) in [(false, lines), (true, binary)] {
            for cut in 0..=bytes.len() {
                let mut frames = Frames::new(protobuf);
                let mut events = Vec::new();
                for part in [&bytes[..cut], &bytes[cut..]] {
                    frames.push(part);
                    while let Some(frame) = frames.next().unwrap() {
                        let raw = frames.open(&frame).unwrap();
                        events.push((raw.kind.to_owned(), raw.object.to_vec()));
                    }
                }
                let wanted = [
                    ("ADDED".to_owned(), b"{}".to_vec()),
                    ("DELETED".to_owned(), b"{\"a\":1}".to_vec()),
                ];
                assert_eq!(events, wanted, "cut at {cut}");
            }
        }
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic() {
        let mut frames = Frames::new(true);
        frames.push(&[0xff, 0xff, 0xff, 0xff]);
        assert!(frames.next().is_err());
        let good = prefixed("ADDED", b"x");
        for end in 0..good.len() - PREFIX {
            assert!(
                open_protobuf(&good[PREFIX..PREFIX + end]).is_err(),
                "cut at {end}"
            );
        }
        let mut state = 1_u32;
        for length in 0..200 {
            let noise: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    state.to_be_bytes()[0]
                })
                .collect();
            let _ = open_protobuf(&noise);
            let _ = open_json(&noise);
        }
    }
}
