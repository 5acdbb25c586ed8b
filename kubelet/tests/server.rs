//! The kubelet's server on the real runtime, over real TLS. Needs root and `/bin/busybox`, as
//! `runtime.rs` does.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "server/api.rs"]
mod api;
#[path = "server/client.rs"]
mod client;
#[path = "server/forward.rs"]
mod forward;
#[path = "server/log.rs"]
mod log;
#[path = "runtime/node.rs"]
#[allow(dead_code, reason = "shared with the tests of the runtime")]
mod node;
#[path = "server/remote.rs"]
mod remote;
#[path = "server/setup.rs"]
mod setup;
