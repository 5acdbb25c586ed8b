//! What tests of the store, and of what stands on it, need: a task runner and a private etcd.

mod etcd;
mod tasks;
mod text;

pub use etcd::{Etcd, Etcds};
pub use tasks::TestTasks;
pub use text::{Label, TextDecoder};
