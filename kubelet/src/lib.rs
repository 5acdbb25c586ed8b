//! kubelet: runs the pods that are bound to its node.
//!
//! ```text
//! sources -> pod workers -> runtime -> shim per pod -> libcontainer -> kernel
//!                 ^ exits, OOMs, probe results, volume and image events are pushed
//! ```

pub mod config;
pub mod container_manager;
pub mod daemon;
pub mod hook;
pub mod image;
pub mod logs;
pub mod make;
pub mod network;
pub mod node;
pub mod objects;
pub mod pod;
pub mod probe;
pub mod runtime;
pub mod server;
pub mod sys;
pub mod volume;

#[doc(hidden)]
pub mod parsers;
