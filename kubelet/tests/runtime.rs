//! The native runtime on the real kernel: shims, helpers, cgroups, namespaces. Needs root and
//! `/bin/busybox` (Debian's `busybox-static`).
//!
//! `RUNTIME_LIBEXEC_DIR` names a directory with `navarch-shim` and `navarch-helper` to test; without it
//! they are built from this tree.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "runtime/confinement.rs"]
mod confinement;
#[path = "runtime/lifecycle.rs"]
mod lifecycle;
#[path = "runtime/node.rs"]
mod node;
#[path = "runtime/pod.rs"]
mod pod;
#[path = "runtime/streams.rs"]
mod streams;
#[path = "runtime/survival.rs"]
mod survival;
#[path = "runtime/timing.rs"]
mod timing;
#[path = "runtime/users.rs"]
mod users;
