//! In-flight limits: how many requests run at once, without fairness.
//!
//! Reads and writes have a limit each; a request over it is refused at once. Members of
//! `system:masters` always get an answer. Upstream: `server/filters/maxinflight.go`.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::class::Class;
use crate::auth::User;

/// Both limits.
pub(super) struct Limits {
    reads: Option<Arc<Semaphore>>,
    mutating: Option<Arc<Semaphore>>,
}

/// The limit is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Full;

/// Held while a request runs.
pub(super) struct Permit {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Limits {
    /// 0 means unlimited.
    pub(super) fn new(reads: usize, mutating: usize) -> Self {
        let semaphore = |n: usize| (n > 0).then(|| Arc::new(Semaphore::new(n)));
        Self {
            reads: semaphore(reads),
            mutating: semaphore(mutating),
        }
    }

    pub(super) fn enter(&self, class: Class, user: &User) -> Result<Permit, Full> {
        let semaphore = match class {
            Class::LongRunning => &None,
            Class::Read => &self.reads,
            Class::Mutating => &self.mutating,
        };
        let Some(semaphore) = semaphore else {
            return Ok(Permit { _permit: None });
        };
        match semaphore.clone().try_acquire_owned() {
            Ok(permit) => Ok(Permit {
                _permit: Some(permit),
            }),
            Err(_) if user.is_in(User::MASTERS) => Ok(Permit { _permit: None }),
            Err(_) => Err(Full),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_have_a_limit_each_and_masters_none() {
        let limits = Limits::new(1, 0);
        let user = User::default();
        let first = limits.enter(Class::Read, &user).unwrap();
        assert_eq!(limits.enter(Class::Read, &user).err(), Some(Full));
        assert!(limits.enter(Class::Mutating, &user).is_ok());
        assert!(limits.enter(Class::LongRunning, &user).is_ok());
        let master = User {
            groups: vec![User::MASTERS.into()],
            ..User::default()
        };
        assert!(limits.enter(Class::Read, &master).is_ok());
        drop(first);
        assert!(limits.enter(Class::Read, &user).is_ok());
    }
}
