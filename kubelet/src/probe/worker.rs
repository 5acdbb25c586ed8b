//! One probe of one container, from its start to its end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::results::Verdict;
use super::run::Subject;
use super::schedule::{Row, Timing};
use super::{Inner, Kind};

pub(super) struct Worker {
    pub(super) inner: Arc<Inner>,
    pub(super) pod: Arc<Pod>,
    pub(super) container: Container,
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) probe: Probe,
    pub(super) started_at: SystemTime,
    /// The container is older than this kubelet.
    pub(super) resumed: bool,
    pub(super) pod_ip: Option<IpAddr>,
}

impl Worker {
    /// Probes until the verdict is final, or until somebody drops it. `started` tells that the
    /// container has started.
    pub(super) async fn run(self, mut started: watch::Receiver<bool>) {
        if self.kind != Kind::Startup && started.wait_for(|started| *started).await.is_err() {
            return;
        }
        let timing = Timing::of(&self.probe);
        let first = Instant::now() + self.first(&timing);
        let mut ticks = tokio::time::interval_at(first, timing.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut row = Row::EMPTY;
        loop {
            ticks.tick().await;
            let Some(result) = self.probe(&timing).await else {
                continue;
            };
            let Some(verdict) = row.count(&timing, result) else {
                continue;
            };
            let last = match self.kind {
                Kind::Startup => true,
                Kind::Liveness => verdict != Verdict::Success,
                Kind::Readiness => false,
            };
            self.inner.results.set(&self.id, self.kind, verdict);
            if last {
                return;
            }
        }
    }

    fn first(&self, timing: &Timing) -> Duration {
        let age = self.started_at.elapsed().unwrap_or_default();
        if self.resumed {
            timing.resumed(age, rand::random())
        } else {
            timing.first(self.kind, age)
        }
    }

    /// Probes once. Nothing if it could not be found out.
    async fn probe(&self, timing: &Timing) -> Option<Verdict> {
        let subject = Subject {
            pod: &self.pod,
            container: &self.container,
            id: &self.id,
            kind: self.kind,
            pod_ip: self.pod_ip,
            timeout: timing.timeout,
        };
        let began = Instant::now();
        let result = self.inner.prober.probe(&subject, &self.probe).await?;
        let success = result == Verdict::Success;
        let (counts, name) = (&self.inner.counts, &self.container.name);
        counts.count(&self.pod, name, self.kind, success, began.elapsed());
        Some(result)
    }
}
