//! What the kubelet, the shim and the helper agree on: the [`protocol`] between them, the [`record`] of
//! an exit on disk, how descriptors travel over a socket ([`wire`]), and the numbers of capabilities.
//!
//! The shim itself is the binary; it uses the standard library and libc only, so that one per pod
//! stays small.

pub mod capability;
pub mod protocol;
pub mod record;
pub mod wire;
