//! Fuzz targets: what reads bytes from outside, and what must hold whatever the bytes are.
//!
//! A [`Target`] is a function over bytes that panics where a property does not hold. `hack/fuzz` runs them under
//! libFuzzer (`src/main.rs`); `tests/replay.rs` runs them, built like everything else, over their seeds and over all
//! that was ever found, so that they cannot rot. `targets.tsv` says which parser is covered by which target.
//!
//! Every target is also held to bounds of memory ([`ALLOWANCE`]), and by `hack/fuzz` to bounds of stack and time.

mod input;
mod memory;
mod objects;

mod codec;
mod language;
mod mutation;
mod node;
mod patch;
mod registry;
mod requests;
mod server;
mod streams;

pub use input::Input;

/// A function over bytes from outside.
pub struct Target {
    /// Names its corpus and its findings; lasting.
    pub name: &'static str,
    /// Panics where a property does not hold.
    run: fn(Input<'_>),
    /// What to begin with: a few small inputs that get far.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Bytes that a target may make the process larger by, for any input: tables that are made once, windows of decompression.
pub const ALLOWANCE: usize = 64 << 20;
/// The same for each byte of the input. A tree needs up to 50 for a byte of its text, and a few forms
/// of it are held at once.
pub const ALLOWANCE_PER_BYTE: usize = 1 << 10;

impl Target {
    /// Runs it on one input.
    ///
    /// # Panics
    /// Where a property does not hold.
    pub fn check(&self, bytes: &[u8]) {
        let growth = memory::growth(|| (self.run)(Input::new(bytes)));
        let allowed = ALLOWANCE + ALLOWANCE_PER_BYTE * bytes.len();
        assert!(
            growth <= allowed,
            "{} made the process {growth} bytes larger than ever for an input of {}",
            self.name,
            bytes.len()
        );
    }
}

/// The target of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|t| t.name == name)
}

/// All of them.
pub const TARGETS: &[Target] = &[
    codec::JSON,
    codec::YAML,
    codec::PROTOBUF,
    patch::JSON_PATCH,
    patch::MERGE_PATCH,
    patch::STRATEGIC,
    patch::APPLY,
    patch::FIELDS,
    language::SELECTORS,
    language::SCALARS,
    registry::REGISTRY,
    registry::CERTIFICATES,
    requests::REQUEST,
    requests::BODY,
    streams::SPDY,
    streams::WEBSOCKET,
    server::CONFIGURATION,
    server::CREDENTIALS,
    server::PIECES,
    node::IMAGE,
    node::LAYER,
    node::NODE,
];
