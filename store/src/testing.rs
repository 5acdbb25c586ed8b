//! What tests of the store, and of what stands on it, need: a task runner, a private etcd, a wire
//! that can be cut, and objects that are lines of text.

mod admin;
mod direct;
mod etcd;
mod gate;
mod rig;
mod tasks;
mod text;
mod wire;

pub use direct::Direct;
pub use etcd::{Etcd, Etcds, Tls};
pub use gate::Gate;
pub use rig::{Rig, end, eventually, forget, list, next, pods, reached, shown, versions, watching};
pub use tasks::TestTasks;
pub use text::{Label, TextDecoder};
pub use wire::Wire;
