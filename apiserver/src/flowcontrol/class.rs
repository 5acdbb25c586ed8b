//! Reads, writes, and what lasts as long as the client likes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use resources::request::RequestInfo;

/// What kind of load a request is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    Read,
    Mutating,
    /// Watches, streams, proxies.
    LongRunning,
}

impl Class {
    #[must_use]
    pub fn of(info: &RequestInfo) -> Self {
        if info.verb == "watch" || info.verb == "proxy" || crate::dispatch::is_stream(info) {
            return Self::LongRunning;
        }
        match info.verb.as_str() {
            "get" | "list" => Self::Read,
            _ => Self::Mutating,
        }
    }
}

/// Requests that run and requests that wait; a watch is a read that runs until it is initialized.
#[derive(Default)]
pub struct InFlight {
    counts: [[AtomicI64; 2]; 2],
}

/// Whether a counted request runs or waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Executing,
    Waiting,
}

/// One request in a phase, until it is dropped.
pub(super) struct Counted {
    all: Arc<InFlight>,
    phase: Phase,
    mutating: bool,
}

impl InFlight {
    #[must_use]
    pub fn count(&self, phase: Phase, mutating: bool) -> i64 {
        self.counter(phase, mutating).load(Ordering::Relaxed)
    }

    fn counter(&self, phase: Phase, mutating: bool) -> &AtomicI64 {
        &self.counts[usize::from(phase == Phase::Waiting)][usize::from(mutating)]
    }

    pub(super) fn begin(self: &Arc<Self>, phase: Phase, class: Class) -> Counted {
        let mutating = class == Class::Mutating;
        self.counter(phase, mutating)
            .fetch_add(1, Ordering::Relaxed);
        Counted {
            all: Arc::clone(self),
            phase,
            mutating,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let counter = self.all.counter(self.phase, self.mutating);
        counter.fetch_sub(1, Ordering::Relaxed);
    }
}
