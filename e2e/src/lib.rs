//! Local clusters, OCI images, certificates: what `hack/up` and the black-box suites are made of.
//!
//! This crate sees binaries and sockets only; it depends on no other crate of the workspace. It is blocking: what it does
//! is start programs and wait for them.

pub mod balancer;
pub mod bench;
pub mod chart;
pub mod cluster;
pub mod command;
pub mod conformance;
pub mod diff;
pub mod files;
mod gateway;
pub mod history;
pub mod https;
pub mod image;
pub mod init;
mod lines;
pub mod pki;
pub mod progress;
mod protobuf;
pub mod registry;
mod serve;
pub mod workshop;
