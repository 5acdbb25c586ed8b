//! Protobuf around bodies that are encoded already: the envelope of a list that is sent piece by piece,
//! and the frames of a watch.
//!
//! Sources: `apimachinery/pkg/runtime/serializer/protobuf`, `.../runtime/generated.proto` (`Unknown`),
//! `apis/meta/v1/generated.proto` (`WatchEvent`, lists).

use proto::catalogue::messages::meta_v1::TYPE_META;
use proto::{Value, catalogue::names as n, codec};

/// Length-delimited field tags.
const FIELD_1: u8 = 0x0a;
const FIELD_2: u8 = 0x12;
const FIELD_3: u8 = 0x1a;
const FIELD_4: u8 = 0x22;

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
pub fn list_head(api_version: &str, kind: &str, meta: &[u8], items_size: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"k8s\0");
    let mut of = Value::object();
    of.set(&[n::API_VERSION], api_version);
    of.set(&[n::KIND], kind);
    let mut type_meta = Vec::with_capacity(api_version.len() + kind.len() + 4);
    codec::protobuf::encode(&of, TYPE_META, &mut type_meta);
    field(FIELD_1, &type_meta, out);
    out.push(FIELD_2);
    varint(field_size(meta.len()) + items_size, out);
    field(FIELD_1, meta, out);
}

/// One item of a list.
pub fn list_item(body: &[u8], out: &mut Vec<u8>) {
    field(FIELD_2, body, out);
}

/// The bytes that [`list_item`] appends for a body of `len`.
#[must_use]
pub fn list_item_size(len: usize) -> usize {
    field_size(len)
}

/// What follows the items: the envelope's empty content encoding and type.
pub fn list_tail(out: &mut Vec<u8>) {
    out.extend_from_slice(&[FIELD_3, 0, FIELD_4, 0]);
}

/// A frame of a watch: its length in four bytes, big endian, and a `WatchEvent` with the object's
/// envelope as raw extension.
#[must_use]
pub fn watch_frame(kind: &str, object: &[u8]) -> Vec<u8> {
    let raw = field_size(object.len());
    let size = field_size(kind.len()) + field_size(raw);
    let mut out = Vec::with_capacity(4 + size);
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
        assert_eq!(pieces, codec::protobuf::envelope("v1", "PodList", &raw));
    }

    #[test]
    fn a_watch_frame_tells_its_length() {
        let frame = watch_frame("ADDED", b"k8s\0object");
        let (length, event) = frame.split_at(4);
        assert_eq!(u32::from_be_bytes(length.try_into().expect("four bytes")) as usize, event.len());
        assert_eq!(&event[..7], b"\x0a\x05ADDED");
    }
}
