//! What the kernel offers to files and mounts and the standard library does not: the mount API of
//! file descriptors, `openat2`, id-mapped mounts, durable writes, directory watches.
//!
//! Only mechanism lives here: no knowledge of images, pods or volumes.

pub mod file;
pub mod mount;
pub mod open;
pub mod userns;
pub mod watch;
pub mod xattr;
