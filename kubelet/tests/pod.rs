//! Pods from the API server's object to processes and back: an API server whose objects the test
//! holds, the native runtime on the real kernel, an image out of an archive. Needs root and
//! `/bin/busybox` (Debian's `busybox-static`).
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "pod/api.rs"]
mod api;
#[path = "pod/life.rs"]
mod life;
#[path = "pod/node.rs"]
mod node;
#[path = "pod/storage.rs"]
mod storage;
