//! JSON of any message: no panic; what is read can be written and read again; what another parser
//! takes for JSON is JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::codec::json::{self, Strictness};
use proto::{Value, catalogue};

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
        // 1.0 is written, and then read, as 1, and -0.0 as -0, which is read as 0: as in Go.
        let once = write(&json::parse(&write(&value)).expect("what was written is read"));
        assert_eq!(write(&json::parse(&once).expect("what was written is read")), once);
    }
    if serde_json::from_slice::<serde_json::Value>(text).is_ok() {
        assert!(json::is_valid(text));
    }
});

fn write(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    json::write(value, &mut out);
    out
}
