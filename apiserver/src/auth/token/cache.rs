//! What tokens turned out to be, for a few seconds, and looks that requests share.
//!
//! Tokens are not kept, only keyed digests of them: nobody who does not know the key can make tokens
//! that fall together. Only good tokens are remembered. Upstream:
//! `apiserver/pkg/authentication/token/cache`.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use component::metrics::{Counters, Metrics};
use component::recent::Recent;
use futures::FutureExt;
use futures::future::{Shared, WeakShared};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use ring::hmac;
use ring::rand::SystemRandom;

use super::{Refused, Verified};

/// How long a good token is believed; upstream's figure.
const BELIEVED: Duration = Duration::from_secs(10);
/// Twice what 5,000 nodes and 10,000 namespaces use, as upstream reckons.
const SHARDS: usize = 32;
const PER_SHARD: usize = 1024;

type Answer = Result<Arc<Verified>, Arc<Refused>>;
type Look = Pin<Box<dyn Future<Output = Answer> + Send>>;
type Digest = [u8; 32];

/// The cache.
pub struct Cache {
    key: hmac::Key,
    shards: Vec<Mutex<Shard>>,
    hits: Counter,
    misses: Counter,
    fetched: Counter,
    failed: Counter,
}

struct Shard {
    known: Recent<Digest, (Arc<Verified>, Instant)>,
    /// Looks that somebody waits for.
    running: HashMap<Digest, WeakShared<Look>>,
}

impl Cache {
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let shard = || {
            Mutex::new(Shard {
                known: Recent::new(PER_SHARD),
                running: HashMap::new(),
            })
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
        let shard = &self.shards[usize::from(digest[0]) % SHARDS];
        let running = {
            let mut shard = shard.lock();
            if let Some((verified, until)) = shard.known.get(&digest)
                && *until > Instant::now()
            {
                self.hits.inc();
                return Ok(Arc::clone(verified));
            }
            let joined = shard.running.get(&digest).and_then(WeakShared::upgrade);
            match joined {
                Some(running) => running,
                None => {
                    let running = self.start(digest, look());
                    if let Some(weak) = running.downgrade() {
                        shard.running.insert(digest, weak);
                    }
                    running
                }
            }
        };
        self.misses.inc();
        let waiting = Waiting {
            shard,
            digest,
            running: Some(running.clone()),
        };
        let answer = running.await;
        drop(waiting);
        answer.map_err(|refused| (*refused).clone())
    }

    fn start<F>(self: &Arc<Self>, digest: Digest, look: F) -> Shared<Look>
    where
        F: Future<Output = Result<Verified, Refused>> + Send + 'static,
    {
        let this = Arc::clone(self);
        let look: Look = Box::pin(async move {
            match look.await {
                Ok(verified) => {
                    this.fetched.inc();
                    let verified = Arc::new(verified);
                    let until = Instant::now() + BELIEVED;
                    let shard = &this.shards[usize::from(digest[0]) % SHARDS];
                    let known = (Arc::clone(&verified), until);
                    shard.lock().known.insert(digest, known);
                    Ok(verified)
                }
                Err(refused) => {
                    this.failed.inc();
                    Err(Arc::new(refused))
                }
            }
        });
        look.shared()
    }
}

/// One that waits for a look. The last that goes takes the look with it.
struct Waiting<'a> {
    shard: &'a Mutex<Shard>,
    digest: Digest,
    running: Option<Shared<Look>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Outside the lock: what the look holds is dropped with it.
        drop(self.running.take());
        let mut shard = self.shard.lock();
        let gone = |of: &WeakShared<Look>| of.upgrade().is_none_or(|look| look.peek().is_some());
        if shard.running.get(&self.digest).is_some_and(gone) {
            shard.running.remove(&self.digest);
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
        assert!(cache.shards.iter().all(|s| s.lock().running.is_empty()));
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
        assert!(cache.shards.iter().all(|s| s.lock().running.is_empty()));
        assert!(cache.get("slow", yes).await.is_ok());
    }
}
