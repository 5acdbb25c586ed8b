//! Leader election over a Lease, as `k8s.io/client-go/tools/leaderelection` does it, so that our
//! replicas and upstream's can stand by for each other.
//!
//! Time is judged by the own clock alone: a lease is valid for as long as it says, counted from when
//! this process saw it change. The holder renews every retry period; if it cannot for the renew
//! deadline, it abandons its work and ends the process, because from then on another may hold the
//! lease. When the process is asked to end, the lease is given up after the work has stopped, so that
//! the next replica need not wait.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use rand::Rng;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::{Api, Client, Error};
use crate::clock;
use crate::config::LeaderElection;
use crate::events::Recorder;
use crate::metrics::Metrics;
use crate::supervisor::{BoxError, Supervisor, Task, chain};

/// Attempts to take the lease are spread by up to this part of the retry period.
const JITTER: f64 = 1.2;

/// The lease went to somebody else, or could not be renewed in time.
#[derive(thiserror::Error, Debug)]
#[error("the lease {0} is lost")]
pub struct Lost(String);

/// One candidate for one lease.
pub struct Election {
    api: Api<Lease>,
    config: LeaderElection,
    identity: String,
    metrics: Metrics,
    recorder: Option<Recorder>,
    /// The lease as it was last seen, and when it was seen to change.
    seen: Option<(Lease, Instant)>,
}

/// A name for this process that no other has: `hostname_uuid`.
#[must_use]
pub fn identity() -> String {
    format!("{}_{}", hostname(), uuid::Uuid::new_v4())
}

/// The name of the machine.
#[must_use]
pub fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

impl Election {
    /// A candidate under `identity`. Its requests have a limit of their own and never wait for the
    /// daemon's.
    #[must_use]
    pub fn new(config: LeaderElection, client: &Client, identity: String) -> Self {
        let metrics = client.metrics().clone();
        let client = client
            .named("leader-election", crate::client::RateLimit::none())
            .with_timeout(config.renew_deadline.0 / 2);
        let api = client.namespaced::<Lease>(&config.resource_namespace);
        metrics.leading(&config.resource_name, false);
        Self {
            api,
            config,
            identity,
            metrics,
            recorder: None,
            seen: None,
        }
    }

    /// Tells in events who became leader.
    #[must_use]
    pub fn with_recorder(self, recorder: Recorder) -> Self {
        Self {
            recorder: Some(recorder),
            ..self
        }
    }

    /// Stands for election; once elected, calls `lead`, which starts the work and returns. Losing the
    /// lease ends the process.
    pub fn start<F, W>(mut self, tasks: &Supervisor, lead: W)
    where
        W: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let own = tasks.clone();
        tasks.spawn_graceful(Task::Lease, "leader-election", |stop| async move {
            let asked = own.stopping();
            tokio::select! {
                biased;
                () = asked.cancelled() => return,
                () = self.acquire() => {}
            }
            if let Err(e) = lead().await {
                own.fail("leader-election", e);
            }
            match self.hold(&stop).await {
                Ok(()) => self.release().await,
                Err(lost) => own.abandon("leader-election", lost),
            }
            self.metrics.leading(&self.config.resource_name, false);
        });
    }

    /// Returns once the lease is held.
    async fn acquire(&mut self) {
        tracing::info!(
            lease = self.lease_name(),
            identity = self.identity,
            "Attempting to acquire the lease"
        );
        while !self.try_once().await {
            let spread = 1.0 + rand::rng().random::<f64>() * JITTER;
            tokio::time::sleep(self.config.retry_period.0.mul_f64(spread)).await;
        }
        tracing::info!(lease = self.lease_name(), "Acquired the lease");
        self.metrics.leading(&self.config.resource_name, true);
        self.tell("became leader");
    }

    /// Renews the lease until `stop`.
    async fn hold(&mut self, stop: &CancellationToken) -> Result<(), Lost> {
        loop {
            let deadline = Instant::now() + self.config.renew_deadline.0;
            let renewed = tokio::time::timeout_at(deadline, async {
                while !self.try_once().await {
                    tokio::time::sleep(self.config.retry_period.0).await;
                }
            });
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                renewed = renewed => if renewed.is_err() {
                    self.tell("stopped leading");
                    return Err(Lost(self.lease_name()));
                },
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(self.config.retry_period.0) => {}
            }
        }
    }

    /// Takes or renews the lease if that is possible now; says whether it is held.
    async fn try_once(&mut self) -> bool {
        match self.attempt().await {
            Ok(held) => held,
            Err(e) => {
                tracing::warn!(
                    lease = self.lease_name(),
                    error = chain(&e),
                    "Cannot take or renew the lease"
                );
                false
            }
        }
    }

    async fn attempt(&mut self) -> Result<bool, Error> {
        // The holder writes what it wrote last, with a new time. Only if somebody else wrote meanwhile
        // is the lease read.
        if let Some((seen, since)) = self.seen.clone()
            && holder(&seen) == self.identity
            && since.elapsed() < validity(&seen)
        {
            match self.write(&seen).await {
                Ok(()) => return Ok(true),
                Err(e) => tracing::info!(
                    lease = self.lease_name(),
                    error = chain(&e),
                    "Cannot renew at once, reading"
                ),
            }
        }
        let Some(current) = self.api.find(&self.config.resource_name).await? else {
            return self.create().await.map(|()| true);
        };
        if self
            .seen
            .as_ref()
            .is_none_or(|(seen, _)| seen.spec != current.spec)
        {
            self.seen = Some((current.clone(), Instant::now()));
        }
        let since = self
            .seen
            .as_ref()
            .map_or_else(Instant::now, |(_, since)| *since);
        let holder = holder(&current);
        if !holder.is_empty() && holder != self.identity && since.elapsed() < validity(&current) {
            tracing::debug!(lease = self.lease_name(), holder, "The lease is held");
            return Ok(false);
        }
        self.write(&current).await.map(|()| true)
    }

    async fn create(&mut self) -> Result<(), Error> {
        let now = MicroTime(clock::now());
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.config.resource_name.clone()),
                namespace: Some(self.config.resource_namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(self.spec(now.clone(), now, 0)),
        };
        let created = self.api.create(&lease).await?;
        self.seen = Some((created, Instant::now()));
        Ok(())
    }

    /// Writes the lease as held by this candidate, on top of what was seen.
    async fn write(&mut self, seen: &Lease) -> Result<(), Error> {
        let now = MicroTime(clock::now());
        let old = seen.spec.clone().unwrap_or_default();
        let transitions = old.lease_transitions.unwrap_or(0);
        let (acquired, transitions) = if holder(seen) == self.identity {
            (
                old.acquire_time.clone().unwrap_or_else(|| now.clone()),
                transitions,
            )
        } else {
            (now.clone(), transitions.saturating_add(1))
        };
        let lease = Lease {
            spec: Some(LeaseSpec {
                strategy: old.strategy,
                ..self.spec(acquired, now, transitions)
            }),
            metadata: seen.metadata.clone(),
        };
        // Counted from before the write: the lease must not seem valid for longer than it is.
        let began = Instant::now();
        let written = self.api.replace(&lease).await?;
        self.seen = Some((written, began));
        Ok(())
    }

    fn spec(&self, acquired: MicroTime, renewed: MicroTime, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(
                i32::try_from(self.config.lease_duration.0.as_secs()).unwrap_or(i32::MAX),
            ),
            acquire_time: Some(acquired),
            renew_time: Some(renewed),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Gives the lease up, so that another need not wait for its end.
    async fn release(&mut self) {
        let name = self.lease_name();
        let released = tokio::time::timeout(self.config.renew_deadline.0, async {
            loop {
                match self.try_release().await {
                    // A renewal that was under way when the end came may have changed the lease.
                    Err(e) if e.is_conflict() => {}
                    done => return done,
                }
            }
        });
        match released.await {
            Ok(Ok(())) => tracing::info!(lease = name, "Released the lease"),
            Ok(Err(e)) => {
                tracing::warn!(lease = name, error = chain(&e), "Cannot release the lease")
            }
            Err(_) => tracing::warn!(lease = name, "Cannot release the lease in time"),
        }
        self.tell("stopped leading");
    }

    async fn try_release(&self) -> Result<(), Error> {
        let Some(mut lease) = self.api.find(&self.config.resource_name).await? else {
            return Ok(());
        };
        if holder(&lease) != self.identity {
            return Ok(());
        }
        let now = MicroTime(clock::now());
        let transitions = lease.spec.take().and_then(|s| s.lease_transitions);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: transitions,
            ..LeaseSpec::default()
        });
        self.api.replace(&lease).await.map(drop)
    }

    fn lease_name(&self) -> String {
        format!(
            "{}/{}",
            self.config.resource_namespace, self.config.resource_name
        )
    }

    fn tell(&self, what: &str) {
        let (Some(recorder), Some((lease, _))) = (&self.recorder, &self.seen) else {
            return;
        };
        let lease = ObjectReference {
            api_version: Some("coordination.k8s.io/v1".to_owned()),
            kind: Some("Lease".to_owned()),
            name: lease.metadata.name.clone(),
            namespace: lease.metadata.namespace.clone(),
            uid: lease.metadata.uid.clone(),
            resource_version: lease.metadata.resource_version.clone(),
            ..ObjectReference::default()
        };
        recorder.normal(
            &lease,
            "LeaderElection",
            &format!("{} {what}", self.identity),
        );
    }
}

fn holder(lease: &Lease) -> &str {
    lease
        .spec
        .as_ref()
        .and_then(|s| s.holder_identity.as_deref())
        .unwrap_or_default()
}

/// How long the lease is good after it changed.
fn validity(lease: &Lease) -> Duration {
    let seconds = lease
        .spec
        .as_ref()
        .and_then(|s| s.lease_duration_seconds)
        .unwrap_or(0);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests;
