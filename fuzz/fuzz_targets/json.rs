//! JSON of any message: no panic; what is read can be written and read again; what another parser
//! takes for JSON is JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::catalogue;
use proto::codec::json::{self, Strictness};

fuzz_target!(|input: (u16, &[u8])| {
    let (choice, text) = input;
    let messages = catalogue::messages();
    let message = catalogue::messages().nth(usize::from(choice) % messages.len()).expect("below the number of messages");
    if let Ok(decoded) = json::decode(text, message, Strictness::Strict) {
        let mut once = Vec::new();
        json::encode(&decoded.value, message, &mut once);
        let again = json::decode(&once, message, Strictness::Strict).expect("what was written is read");
        let mut twice = Vec::new();
        json::encode(&again.value, message, &mut twice);
        assert_eq!(once, twice);
    }
    if let Ok(value) = json::parse(text) {
        let mut out = Vec::new();
        json::write(&value, &mut out);
        // As text: 1.0 is written, and then read, as 1.
        let mut again = Vec::new();
        json::write(&json::parse(&out).expect("what was written is read"), &mut again);
        assert_eq!(out, again);
    }
    if serde_json::from_slice::<serde_json::Value>(text).is_ok() {
        assert!(json::is_valid(text));
    }
});
