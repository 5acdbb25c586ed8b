//! Protobuf around bodies that are encoded already: the envelope of a list that is sent piece by piece,
//! and the frames of a watch.
//!
//! Sources: `apimachinery/pkg/runtime/serializer/protobuf`, `.../runtime/generated.proto` (`Unknown`),
//! `apis/meta/v1/generated.proto` (`WatchEvent`, lists).

use bytes::Bytes;
use proto::codec;

/// Length-delimited field tags.
const FIELD_1: u8 = 0x0a;
const FIELD_2: u8 = 0x12;

fn varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_size(value: usize) -> usize {
    let bits = usize::BITS - value.max(1).leading_zeros();
    bits.div_ceil(7) as usize
}

fn field(tag: u8, body: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    varint(body.len(), out);
    out.extend_from_slice(body);
}

fn field_size(len: usize) -> usize {
    1 + varint_size(len) + len
}

/// What precedes the items of a list whose encoded items, with their tags and lengths, take
/// `items_size` bytes.
pub(super) fn list_head(
    api_version: &str,
    kind: &str,
    meta: &[u8],
    items_size: usize,
    out: &mut Vec<u8>,
) {
    codec::protobuf::envelope_head(field_size(meta.len()) + items_size, api_version, kind, out);
    field(FIELD_1, meta, out);
}

/// An encoded message in its envelope.
#[must_use]
pub(super) fn sealed(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + api_version.len() + kind.len() + 24);
    codec::protobuf::envelope(raw, api_version, kind, &mut out);
    out
}

/// The first field of a serving body, which is its metadata, as a message of its own: objects have it
/// at tag 1, and so has `PartialObjectMetadata`. None if the body does not begin with it.
#[must_use]
pub(super) fn only_metadata(body: &Bytes) -> Option<Bytes> {
    let mut rest = body.strip_prefix(&[FIELD_1])?;
    let (mut len, mut shift) = (0usize, 0);
    loop {
        let (byte, tail) = rest.split_first()?;
        rest = tail;
        len |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
        if shift > 28 {
            return None;
        }
    }
    let end = (body.len() - rest.len())
        .checked_add(len)
        .filter(|end| *end <= body.len())?;
    Some(body.slice(..end))
}

/// One item of a list.
pub(super) fn list_item(body: &[u8], out: &mut Vec<u8>) {
    field(FIELD_2, body, out);
}

/// The bytes that [`list_item`] appends for a body of `len`.
#[must_use]
pub(super) fn list_item_size(len: usize) -> usize {
    field_size(len)
}

/// What follows the items: the envelope's empty content encoding and type.
pub(super) fn list_tail(out: &mut Vec<u8>) {
    out.extend_from_slice(codec::protobuf::envelope_tail());
}

/// The bytes of a watch's frame that tell how long it is.
pub(crate) const FRAME_HEAD: usize = 4;

/// A frame of a watch: its length, big endian, and a `WatchEvent` with the object's envelope as raw
/// extension.
#[must_use]
pub(super) fn watch_frame(kind: &str, object: &[u8]) -> Vec<u8> {
    let raw = field_size(object.len());
    let size = field_size(kind.len()) + field_size(raw);
    let mut out = Vec::with_capacity(FRAME_HEAD + size);
    // Bodies are bounded by etcd's request limit, far below 4 GiB.
    out.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
    field(FIELD_1, kind.as_bytes(), &mut out);
    out.push(FIELD_2);
    varint(raw, &mut out);
    field(FIELD_1, object, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_what_is_written() {
        for len in [0, 1, 127, 128, 16_383, 16_384, 3_000_000] {
            let mut out = Vec::new();
            list_item(&vec![7; len], &mut out);
            assert_eq!(out.len(), list_item_size(len), "{len}");
        }
    }

    #[test]
    fn a_list_in_pieces_is_the_envelope_of_the_whole() {
        let (items, meta) = ([b"first".as_slice(), b"second"], b"\x12\x0242");
        let size = items.iter().map(|i| list_item_size(i.len())).sum();
        let mut pieces = Vec::new();
        list_head("v1", "PodList", meta, size, &mut pieces);
        let mut raw = Vec::new();
        field(FIELD_1, meta, &mut raw);
        for item in items {
            list_item(item, &mut pieces);
            list_item(item, &mut raw);
        }
        list_tail(&mut pieces);
        assert_eq!(pieces, sealed("v1", "PodList", &raw));
    }

    #[test]
    fn a_watch_frame_tells_its_length() {
        let frame = watch_frame("ADDED", b"k8s\0object");
        let (length, event) = frame.split_at(4);
        assert_eq!(
            u32::from_be_bytes(length.try_into().expect("four bytes")) as usize,
            event.len()
        );
        assert_eq!(&event[..7], b"\x0a\x05ADDED");
    }
}
