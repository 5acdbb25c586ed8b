#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn seed(key_id: &str, annotations: &[(&str, &[u8])]) -> Result<Source, String> {
    let all = annotations
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Bytes::copy_from_slice(value)));
    Source::of_seed(
        Bytes::from_static(b"sealed"),
        key_id.to_owned(),
        all.collect(),
    )
}

/// A value as it lies in etcd.
fn stored(source: &Source, data: &[u8]) -> Bytes {
    let mut out = Vec::new();
    begin(&mut out, data.len());
    out.extend_from_slice(data);
    out.extend(source.tail());
    out.into()
}

#[test]
fn what_is_appended_is_the_message() {
    let source = seed("key", &[("a.b", b"1"), ("c.d", b"")]).unwrap();
    let data = vec![7; 300];
    let whole = EncryptedObject {
        encrypted_data: data.clone().into(),
        ..source.0.clone()
    };
    assert_eq!(stored(&source, &data), whole.encode_to_vec());
    let (parsed, found) = parse(stored(&source, &data)).unwrap();
    assert_eq!((&parsed, &found[..]), (&source, &data[..]));
    assert_eq!(parsed.digest(), source.digest());
    assert_ne!(
        seed("other", &[]).unwrap().digest(),
        seed("key", &[]).unwrap().digest()
    );
}

#[test]
fn the_data_is_not_copied() {
    let stored = stored(&seed("key", &[]).unwrap(), &[7; 300]);
    let (_, data) = parse(stored.clone()).unwrap();
    assert!(stored.as_ptr_range().contains(&data.as_ptr()));
}

#[test]
fn what_a_plugin_says_has_bounds() {
    let key_id = |id: &str| seed(id, &[]).err();
    assert_eq!(key_id(&"k".repeat(1024)), None);
    assert_eq!(
        key_id(&"k".repeat(1025)).unwrap(),
        "failed to validate key id: keyID is 1025 bytes, which exceeds the max size of 1024"
    );
    assert_eq!(
        key_id("").unwrap(),
        "failed to validate key id: keyID is empty"
    );
    let sealed = |len| Source::of_seed(vec![0; len].into(), "k".to_owned(), BTreeMap::new()).err();
    assert_eq!(sealed(1024), None);
    assert_eq!(
        sealed(1025).unwrap(),
        "failed to validate encrypted DEK source: encrypted DEK source is 1025 bytes, which exceeds the max size of 1024"
    );
    assert_eq!(
        sealed(0).unwrap(),
        "failed to validate encrypted DEK source: encrypted DEK source is empty"
    );
    let large = vec![0; MOST_ANNOTATIONS - 2];
    assert_eq!(
        seed("k", &[("a.b", &large)]).unwrap_err(),
        "failed to validate annotations: total size of annotations is 32769, which exceeds the max size of 32768"
    );
    assert!(seed("k", &[("a.b", &large[1..])]).is_ok());
}

#[test]
fn annotations_are_named_by_domains() {
    for good in ["a.b", "version.encryption.example.com", "a.b."] {
        assert!(seed("k", &[(good, b"1")]).is_ok(), "{good}");
    }
    let why = |name: &str| seed("k", &[(name, b"1")]).unwrap_err();
    assert_eq!(
        why("a"),
        "failed to validate annotations: annotations: Invalid value: \"a\": should be a domain with at least two \
         segments separated by dots"
    );
    assert!(why("A.b").contains("a lowercase RFC 1123 subdomain must consist of"));
    assert!(why("").contains("annotations: Required value"));
}

#[test]
fn of_stored_values_the_same_is_asked() {
    let bad = |object: EncryptedObject| parse(object.encode_to_vec().into()).unwrap_err();
    let good = EncryptedObject {
        encrypted_data: Bytes::from_static(b"1"),
        ..seed("k", &[]).unwrap().0
    };
    let unknown = EncryptedObject {
        encrypted_dek_source_type: 2,
        ..good.clone()
    };
    assert_eq!(bad(unknown), "unknown encryptedDEKSourceType: 2");
    let empty = EncryptedObject {
        encrypted_data: Bytes::new(),
        ..good.clone()
    };
    assert_eq!(bad(empty), "encrypted data is empty");
    let nobody = EncryptedObject {
        key_id: String::new(),
        ..good.clone()
    };
    assert_eq!(bad(nobody), "failed to validate key id: keyID is empty");
    let key = EncryptedObject {
        encrypted_dek_source_type: 0,
        ..good
    };
    assert!(!parse(key.encode_to_vec().into()).unwrap().0.is_seed());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(bytes.into());
    }
}
