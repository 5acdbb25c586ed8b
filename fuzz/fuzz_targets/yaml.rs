//! YAML: no panic; what is read can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::codec::{json, yaml};

fuzz_target!(|text: &[u8]| {
    let Ok((json, _)) = yaml::to_json(text) else { return };
    let mut written = Vec::new();
    yaml::from_json(&json, &mut written);
    let (again, duplicates) = yaml::to_json(&written).expect("what was written is read");
    assert_eq!(duplicates, None);
    assert_eq!(json::parse(&again), json::parse(&json));
});
