//! How long a write waits for storage: its audit events tell of it if the request takes long, and its trace.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use component::tracing::{Span, span};
use parking_lot::Mutex;
use resources::object;
use resources::status::Failure;
use store::{Change, Entry, UpdateError};

use super::Write;
use crate::audit::Part;

impl Write<'_> {
    /// Waits for storage.
    pub(super) async fn stored<T>(&self, work: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let done = work.await;
        self.waited(started.elapsed());
        done
    }

    /// Updates an object. What the attempts take (admission may ask others) is not storage's.
    pub(super) async fn updated<F, Fut>(
        &self,
        key: &str,
        mut attempt: F,
    ) -> Result<store::Written, UpdateError<Failure>>
    where
        F: FnMut(Option<Arc<Entry>>) -> Fut,
        Fut: Future<Output = Result<Change, Failure>>,
    {
        let (started, own) = (Instant::now(), Mutex::new(Duration::ZERO));
        let timed = |current| {
            let (attempt, own) = (attempt(current), &own);
            async move {
                let started = Instant::now();
                let change = attempt.await;
                *own.lock() += started.elapsed();
                change
            }
        };
        let outcome = self.endpoint.collection.update(key, timed).await;
        self.waited(started.elapsed().saturating_sub(own.into_inner()));
        outcome
    }

    /// The span of what is done in storage.
    pub(super) fn storing(&self, name: &str, key: &str) -> Span {
        let r = self.endpoint.resource;
        span(name, |a| {
            a.audit_id();
            a.text("key", format!("/{}/{key}", self.endpoint.collection.path()));
            a.text("type", format!("*{}", object::internal(r.group, r.kind)));
            a.text("group", r.group);
            a.text("resource", r.name);
        })
    }

    fn waited(&self, took: Duration) {
        if let Some(trail) = self.trail {
            trail.spent(Part::Storage, took);
        }
    }
}
