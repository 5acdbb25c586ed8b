//! The node: what it is, how it is registered, and how it says that it is alive.
//!
//! Owns: the Node object as far as it is the kubelet's, its lease, and the kubelet's certificates.
//! Deciding is pure ([`status`], [`object`], [`patch`]); [`agent`] and [`lease`] talk to the API server.

pub mod address;
pub mod agent;
pub mod certificate;
pub mod facts;
pub mod lease;
pub mod machine;
pub mod object;
pub mod patch;
pub mod selector;
pub mod status;

pub use agent::{Agent, Sources, reference};
pub use machine::Machine;
