//! In-flight limits: how many requests run at once.
//!
//! Long-running requests (watches, exec, logs, proxies) are not counted. Reads and writes have a limit
//! each, upstream's `--max-requests-inflight` and `--max-mutating-requests-inflight`; a request over it
//! is refused at once with 429, so that the client's back-off and not a queue here takes the load.
//! Members of `system:masters` are not limited by upstream either, but they are authenticated first.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::request::RequestInfo;
use crate::status::Failure;

/// Which limit a request counts against.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    Read,
    Mutating,
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

/// Held while a request runs.
pub struct Permit {
    _permit: OwnedSemaphorePermit,
}

#[derive(Clone)]
pub struct Limits {
    reads: Option<Arc<Semaphore>>,
    mutating: Option<Arc<Semaphore>>,
    limits: (usize, usize),
}

impl Limits {
    /// 0 means unlimited, as in upstream's flags.
    #[must_use]
    pub fn new(reads: usize, mutating: usize) -> Self {
        let semaphore = |n: usize| (n > 0).then(|| Arc::new(Semaphore::new(n)));
        Self {
            reads: semaphore(reads),
            mutating: semaphore(mutating),
            limits: (reads, mutating),
        }
    }

    /// How many requests of a class run now; unknown without a limit.
    #[must_use]
    pub fn running(&self, class: Class) -> usize {
        let (limit, semaphore) = match class {
            Class::LongRunning => return 0,
            Class::Read => (self.limits.0, &self.reads),
            Class::Mutating => (self.limits.1, &self.mutating),
        };
        let free = semaphore.as_ref().map(|s| s.available_permits());
        free.map_or(0, |free| limit.saturating_sub(free))
    }

    pub fn enter(&self, class: Class) -> Result<Option<Permit>, Failure> {
        let semaphore = match class {
            Class::LongRunning => return Ok(None),
            Class::Read => &self.reads,
            Class::Mutating => &self.mutating,
        };
        let Some(semaphore) = semaphore else {
            return Ok(None);
        };
        match semaphore.clone().try_acquire_owned() {
            Ok(permit) => Ok(Some(Permit { _permit: permit })),
            Err(_) => Err(Failure::too_many_requests(
                "Too many requests, please try again later.",
                1,
            )),
        }
    }
}
