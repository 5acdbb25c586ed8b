//! Leases for objects that end by themselves (events, master leases), shared by many objects so that
//! etcd holds few of them. The rules are upstream's (`storage/etcd3/lease_manager.go`).

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Client, Error};

/// One lease takes at most this many objects, since all end in one revision.
const MAX_OBJECTS: u32 = 1000;

/// Hands out leases.
pub(crate) struct Leases {
    /// A lease is handed out for at most so many seconds after it was granted, or a twentieth of the time to live where that
    /// is shorter.
    reuse: i64,
    last: Mutex<Option<Granted>>,
}

/// A lease for one object.
pub(crate) struct Given {
    pub(crate) id: i64,
    /// It is a new one, and the one before had so many objects.
    pub(crate) replaced: Option<u32>,
}

#[derive(Clone, Copy)]
struct Granted {
    id: i64,
    ends: Instant,
    objects: u32,
}

impl Leases {
    /// Leases that are handed out for so many seconds.
    pub(crate) fn new(reuse: i64) -> Self {
        Self {
            reuse,
            last: Mutex::default(),
        }
    }

    /// A lease that lives at least `ttl` seconds and not much longer.
    pub(crate) async fn get(&self, client: &Client, ttl: i64) -> Result<Given, Error> {
        let mut last = self.last.lock().await;
        let now = Instant::now();
        let spare = spare(ttl, self.reuse);
        if let Some(lease) = last.as_mut()
            && lease.serves(ttl, spare, now)
        {
            lease.objects += 1;
            return Ok(Given {
                id: lease.id,
                replaced: None,
            });
        }
        let granted = ttl + spare;
        let id = client.grant(granted).await?;
        let before = last.replace(Granted {
            id,
            ends: now + seconds(granted),
            objects: 1,
        });
        Ok(Given {
            id,
            replaced: before.map(|lease| lease.objects),
        })
    }

    /// Forgets a lease that etcd does not know any more.
    pub(crate) async fn forget(&self, id: i64) {
        let mut last = self.last.lock().await;
        if last.is_some_and(|lease| lease.id == id) {
            *last = None;
        }
    }
}

impl Granted {
    fn serves(&self, ttl: i64, spare: i64, now: Instant) -> bool {
        let long_enough = now + seconds(ttl) < self.ends;
        let not_too_long = now + seconds(ttl + spare) > self.ends;
        long_enough && not_too_long && self.objects < MAX_OBJECTS
    }
}

/// The seconds that a lease lives longer than its first object needs.
fn spare(ttl: i64, reuse: i64) -> i64 {
    (ttl / 20).min(reuse).max(0)
}

fn seconds(n: i64) -> Duration {
    Duration::from_secs(n.max(0).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_shared_while_it_fits_the_wanted_life() {
        let now = Instant::now();
        let lease = |objects| Granted {
            id: 1,
            ends: now + seconds(3600 + spare(3600, 60)),
            objects,
        };
        let after = |s| now + seconds(s);
        let serves = |objects, ttl, now| lease(objects).serves(ttl, spare(ttl, 60), now);
        assert!(serves(1, 3600, after(1)));
        assert!(serves(1, 3600, after(59)));
        assert!(!serves(1, 3600, after(60)), "an object would end early");
        assert!(!serves(1, 60, after(1)), "a short-lived object would stay");
        assert!(!serves(MAX_OBJECTS, 3600, after(1)), "full");
    }

    #[test]
    fn a_lease_lives_longer_by_what_is_configured_and_never_by_more_than_a_twentieth() {
        assert_eq!(spare(3600, 60), 60);
        assert_eq!(spare(3600, 600), 180);
        assert_eq!(spare(100, 60), 5);
        assert_eq!((spare(3600, 0), spare(3600, -7)), (0, 0));
    }
}
