//! What tokens turned out to be, for a few seconds, and looks that requests share.
//!
//! Tokens are not kept, only keyed digests of them: nobody who does not know the key can make tokens
//! that fall together. Only good tokens are remembered. Upstream:
//! `apiserver/pkg/authentication/token/cache`.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use component::metrics::{Counters, Metrics};
use component::recent::Recent;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use ring::hmac;
use ring::rand::SystemRandom;

use super::{Refused, Verified};
use crate::flights::Flights;

/// How long a good token is believed; upstream's figure.
const BELIEVED: Duration = Duration::from_secs(10);
/// Twice what 5,000 nodes and 10,000 namespaces use, as upstream reckons.
const SHARDS: usize = 32;
const PER_SHARD: usize = 1024;

type Answer = Result<Arc<Verified>, Arc<Refused>>;
type Digest = [u8; 32];

/// The cache.
pub struct Cache {
    key: hmac::Key,
    shards: Vec<Shard>,
    hits: Counter,
    misses: Counter,
    fetched: Counter,
    failed: Counter,
}

struct Shard {
    known: Mutex<Recent<Digest, (Arc<Verified>, Instant)>>,
    /// Looks that somebody waits for.
    running: Flights<Digest, Answer>,
}

impl Shard {
    /// What a token was a few seconds ago.
    fn known(&self, digest: &Digest) -> Option<Arc<Verified>> {
        let known = self.known.lock();
        let (verified, until) = known.get(digest)?;
        (*until > Instant::now()).then(|| Arc::clone(verified))
    }
}

impl Cache {
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let shard = || Shard {
            known: Mutex::new(Recent::new(PER_SHARD)),
            running: Flights::default(),
        };
        let requests = metrics.registered(
            "authentication_token_cache_request_total",
            "Tokens of requests, by whether they were remembered",
            Counters::<1>::default(),
        );
        let fetches = metrics.registered(
            "authentication_token_cache_fetch_total",
            "Tokens that were looked at, by whether that went well",
            Counters::<1>::default(),
        );
        let of = |family: &Counters<1>, status: &str| {
            family
                .get_or_create(&[("status", status.to_owned())])
                .clone()
        };
        Self {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
                .expect("the system gives random bytes"),
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            hits: of(&requests, "hit"),
            misses: of(&requests, "miss"),
            fetched: of(&fetches, "ok"),
            failed: of(&fetches, "error"),
        }
    }

    fn digest(&self, token: &str) -> Digest {
        let mut digest = [0; 32];
        digest.copy_from_slice(hmac::sign(&self.key, token.as_bytes()).as_ref());
        digest
    }

    /// What a token is: as it was a few seconds ago, or as `look` finds out, once for all that ask at
    /// the same time.
    ///
    /// # Errors
    /// What `look` says.
    pub async fn get<F>(
        self: &Arc<Self>,
        token: &str,
        look: impl FnOnce() -> F,
    ) -> Result<Arc<Verified>, Refused>
    where
        F: Future<Output = Result<Verified, Refused>> + Send + 'static,
    {
        let digest = self.digest(token);
        if let Some(verified) = self.shard(&digest).known(&digest) {
            self.hits.inc();
            return Ok(verified);
        }
        self.misses.inc();
        let start = || Arc::clone(self).look(digest, look());
        let answer = self.shard(&digest).running.join(&digest, start).await;
        answer.map_err(|refused| (*refused).clone())
    }

    fn shard(&self, digest: &Digest) -> &Shard {
        &self.shards[usize::from(digest[0]) % SHARDS]
    }

    async fn look<F>(self: Arc<Self>, digest: Digest, look: F) -> Answer
    where
        F: Future<Output = Result<Verified, Refused>> + Send + 'static,
    {
        // The look before may have just ended.
        if let Some(verified) = self.shard(&digest).known(&digest) {
            return Ok(verified);
        }
        match look.await {
            Ok(verified) => {
                self.fetched.inc();
                let verified = Arc::new(verified);
                let known = (Arc::clone(&verified), Instant::now() + BELIEVED);
                self.shard(&digest).known.lock().insert(digest, known);
                Ok(verified)
            }
            Err(refused) => {
                self.failed.inc();
                Err(Arc::new(refused))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use component::serving::User;

    use super::*;

    fn verified(name: &str) -> Verified {
        Verified {
            user: User {
                name: name.to_owned(),
                ..User::default()
            },
            audiences: Vec::new(),
            warnings: Vec::new(),
            annotations: Vec::new(),
        }
    }

    #[tokio::test]
    async fn one_look_serves_all_that_ask_at_the_same_time_and_soon_after() {
        let cache = Arc::new(Cache::new(&Metrics::new()));
        let looks = Arc::new(AtomicUsize::new(0));
        let (open, gate) = tokio::sync::watch::channel(false);
        let look = || {
            let (looks, mut gate) = (Arc::clone(&looks), gate.clone());
            async move {
                looks.fetch_add(1, Ordering::Relaxed);
                gate.wait_for(|open| *open).await.unwrap();
                Ok(verified("ann"))
            }
        };
        let all = futures::future::join_all((0..10).map(|_| cache.get("token", look)));
        let (all, ()) = tokio::join!(all, async {
            tokio::task::yield_now().await;
            open.send(true).unwrap();
        });
        assert!(all.iter().all(|v| v.as_ref().unwrap().user.name == "ann"));
        cache.get("token", look).await.unwrap();
        assert_eq!(looks.load(Ordering::Relaxed), 1);
        cache.get("other", look).await.unwrap();
        assert_eq!(looks.load(Ordering::Relaxed), 2);
        assert!(cache.shards.iter().all(|s| s.running.is_empty()));
    }

    #[tokio::test]
    async fn a_refusal_is_not_remembered_and_a_look_nobody_waits_for_is_gone() {
        let cache = Arc::new(Cache::new(&Metrics::new()));
        let no = || async { Err(Refused(vec!["no".to_owned()])) };
        assert!(cache.get("token", no).await.is_err());
        let yes = || async { Ok(verified("ann")) };
        assert!(cache.get("token", yes).await.is_ok());
        let never = || futures::future::pending();
        let given_up = tokio::time::timeout(Duration::from_millis(10), cache.get("slow", never));
        assert!(given_up.await.is_err());
        assert!(cache.shards.iter().all(|s| s.running.is_empty()));
        assert!(cache.get("slow", yes).await.is_ok());
    }
}
