//! Reads ConfigMaps as they lie in etcd: upstream's envelope around protobuf, of which only a few fields count here.

use super::record::{Object, Revision};
use crate::protobuf::{self, Held, MAGIC};

/// The object in a stored value, or nothing if the value is none.
pub(super) fn config_map(key: &str, revision: Revision, value: &[u8]) -> Option<Object> {
    // runtime.Unknown: raw = 2. ConfigMap: metadata = 1, data = 2. ObjectMeta: uid = 5, labels = 11.
    let raw = fields(value.strip_prefix(MAGIC)?, 2)?.pop()?;
    let meta = fields(raw, 1)?.pop()?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    Some(Object {
        key: key.to_owned(),
        revision,
        uid: text(fields(meta, 5)?.pop()?)?,
        value: text(entry(&fields(raw, 2)?, b"value")?)?,
        color: text(entry(&fields(meta, 11)?, b"color")?)?,
    })
}

/// The value of a map's entry: key = 1, value = 2.
fn entry<'a>(entries: &[&'a [u8]], key: &[u8]) -> Option<&'a [u8]> {
    let found = entries
        .iter()
        .find(|entry| fields(entry, 1).is_some_and(|keys| keys == [key]))?;
    fields(found, 2)?.pop()
}

/// All length-delimited fields of this number; nothing if the message is malformed.
fn fields(mut message: &[u8], wanted: u64) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    while !message.is_empty() {
        if let (number, Held::Bytes(bytes)) = protobuf::field(&mut message)?
            && number == wanted
        {
            found.push(bytes);
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        [&[number << 3 | 2, length], content].concat()
    }

    fn map_entry(number: u8, key: &str, value: &str) -> Vec<u8> {
        let entry = [field(1, key.as_bytes()), field(2, value.as_bytes())].concat();
        field(number, &entry)
    }

    fn stored() -> Vec<u8> {
        let meta = [
            field(1, b"a"),
            field(5, b"uid-1"),
            // A number, which is of no interest here.
            vec![7 << 3, 0x96, 0x01],
            map_entry(11, "app", "other"),
            map_entry(11, "color", "red"),
        ]
        .concat();
        let raw = [field(1, &meta), map_entry(2, "value", "v1")].concat();
        let kind = field(1, b"\x0a\x02v1");
        [MAGIC, &kind, &field(2, &raw)].concat()
    }

    #[test]
    fn what_counts_of_a_stored_object_is_found() {
        let object = config_map("a", 7, &stored()).unwrap();
        let wanted = Object {
            key: "a".to_owned(),
            revision: 7,
            uid: "uid-1".to_owned(),
            value: "v1".to_owned(),
            color: "red".to_owned(),
        };
        assert_eq!(object, wanted);
    }

    #[test]
    fn a_value_that_is_cut_off_is_no_object() {
        let stored = stored();
        for length in 0..stored.len() {
            assert_eq!(config_map("a", 7, &stored[..length]), None);
        }
    }
}
