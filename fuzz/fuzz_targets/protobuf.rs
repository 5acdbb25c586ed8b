//! Protobuf of any message: no panic; decoding and transcoding agree; what is read can be written and
//! read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::codec::{json, protobuf, scan, transcode};
use proto::{catalogue, typed};

fuzz_target!(|input: (u16, &[u8])| {
    let (choice, raw) = input;
    let messages = catalogue::messages();
    let message = catalogue::messages().nth(usize::from(choice) % messages.len()).expect("below the number of messages");
    let decoded = protobuf::decode(raw, message);
    let mut transcoded = Vec::new();
    let result = transcode::to_json(raw, message, None, &mut transcoded);
    assert_eq!(result.err(), decoded.as_ref().err().cloned());
    if let Ok(value) = decoded {
        let mut text = Vec::new();
        json::encode(&value, message, &mut text);
        assert_eq!(text, transcoded);
        // As bytes: a double may be no number.
        let mut once = Vec::new();
        protobuf::encode(&value, message, &mut once);
        let mut twice = Vec::new();
        protobuf::encode(&protobuf::decode(&once, message).expect("what was written is read"), message, &mut twice);
        assert_eq!(once, twice);
        if let Ok(want) = serde_json::from_slice::<serde_json::Value>(&text) {
            let typed = typed::from_protobuf::<serde_json::Value>(raw, message);
            assert_eq!(typed.expect("a value takes any object"), want);
        }
    }
    let _ = protobuf::open(raw);
    let _ = scan::splice_resource_version(raw, i64::MAX);
    if let Ok(meta) = scan::ObjectMeta::read(raw) {
        let _ = (meta.labels().count(), meta.annotations().count(), meta.owner_references().count());
    }
});
