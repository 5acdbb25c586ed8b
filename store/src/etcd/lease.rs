//! Leases for objects that end by themselves (events, master leases), shared by many objects so that
//! etcd holds few of them. The rules are upstream's (`storage/etcd3/lease_manager.go`).

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Client, Error};

/// A lease is handed out for at most this long after it was granted, or a twentieth of the time to
/// live where that is shorter.
const REUSE: Duration = Duration::from_secs(60);
/// One lease takes at most this many objects, since all end in one revision.
const MAX_OBJECTS: u32 = 1000;

/// Hands out leases.
#[derive(Default)]
pub(crate) struct Leases {
    last: Mutex<Option<Granted>>,
}

#[derive(Clone, Copy)]
struct Granted {
    id: i64,
    ends: Instant,
    objects: u32,
}

impl Leases {
    /// A lease that lives at least `ttl` seconds and not much longer.
    pub(crate) async fn get(&self, client: &Client, ttl: i64) -> Result<i64, Error> {
        let mut last = self.last.lock().await;
        let now = Instant::now();
        if let Some(lease) = last.as_mut()
            && lease.serves(ttl, now)
        {
            lease.objects += 1;
            return Ok(lease.id);
        }
        let granted = ttl + reuse(ttl);
        let id = client.grant(granted).await?;
        *last = Some(Granted {
            id,
            ends: now + seconds(granted),
            objects: 1,
        });
        Ok(id)
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
    fn serves(&self, ttl: i64, now: Instant) -> bool {
        let long_enough = now + seconds(ttl) < self.ends;
        let not_too_long = now + seconds(ttl + reuse(ttl)) > self.ends;
        long_enough && not_too_long && self.objects < MAX_OBJECTS
    }
}

fn reuse(ttl: i64) -> i64 {
    (ttl / 20).min(REUSE.as_secs() as i64)
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
            ends: now + seconds(3600 + reuse(3600)),
            objects,
        };
        let after = |s| now + seconds(s);
        assert!(lease(1).serves(3600, after(1)));
        assert!(lease(1).serves(3600, after(59)));
        assert!(
            !lease(1).serves(3600, after(60)),
            "an object would end early"
        );
        assert!(
            !lease(1).serves(60, after(1)),
            "a short-lived object would stay"
        );
        assert!(!lease(MAX_OBJECTS).serves(3600, after(1)), "full");
    }
}
