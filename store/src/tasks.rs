//! How this crate starts tasks. The daemons' supervisor implements [`Tasks`]; the store names its
//! tasks and leaves their start, end and accounting to it.

use futures::future::BoxFuture;

/// Starts named tasks that run until they end by themselves or the process shuts down.
///
/// A task of the store handles its own errors and never returns before shutdown; an end or a panic
/// is a defect, and the implementation should end the process.
pub trait Tasks: Send + Sync {
    /// Starts `task`. At shutdown the implementation drops it at one of its await points.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>);
}
