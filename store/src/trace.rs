//! How the calls of etcd that are made for a request are told to whoever traces the request.
//!
//! What a [`Trace`] is, the store does not know: it belongs to the task that works on the request, as long as
//! [`within`] runs, and hears of every call of etcd that the task makes. Nothing is told of calls that belong
//! to nobody (watches, compaction) or to several at once (asks for the revision).

use std::any::Any;
use std::sync::Arc;

use tonic::Status;

tokio::task_local! {
    /// Of the request that the task works on.
    static CURRENT: Arc<dyn Trace>;
}

/// What traces a request.
pub trait Trace: Any + Send + Sync {
    /// A call begins; none if nobody wants to know how it ends.
    fn begin(&self, called: Called<'_>) -> Option<Box<dyn Call>>;

    /// What the other side is told of the span that is open, as headers.
    fn tell(&self, headers: &mut http::HeaderMap);
}

/// What is called.
#[derive(Clone, Copy, Debug)]
pub struct Called<'a> {
    /// Service and method, such as `etcdserverpb.KV/Txn`.
    pub method: &'static str,
    /// The member's host and port.
    pub server: (&'a str, u16),
}

/// A call under way. It also ends when it is dropped.
pub trait Call: Send {
    /// How it ended: well, or with this status.
    fn ended(self: Box<Self>, failed: Option<&Status>);
}

/// Works under a trace.
pub async fn within<F: Future>(trace: Arc<dyn Trace>, work: F) -> F::Output {
    CURRENT.scope(trace, work).await
}

/// What `see` makes of the trace of the task; nothing if there is none.
pub fn with<R>(see: impl FnOnce(&Arc<dyn Trace>) -> R) -> Option<R> {
    CURRENT.try_with(see).ok()
}

/// A call that may be traced.
pub(crate) struct Tried(Option<Box<dyn Call>>);

impl Tried {
    pub(crate) fn begin<'a>(called: impl FnOnce() -> Called<'a>) -> Self {
        Self(with(|trace| trace.begin(called())).flatten())
    }

    pub(crate) fn ended<T>(self, outcome: &Result<T, Status>) {
        if let Some(call) = self.0 {
            call.ended(outcome.as_ref().err());
        }
    }
}
