//! What is done when something runs out: conditions of the node, refusal of new pods, room made by
//! deleting what nobody needs, and at last the eviction of a pod.
//!
//! Source: `pkg/kubelet/eviction`. What is measured and decided is pure ([`state`], [`rank`]); the
//! [`Manager`] measures every ten seconds, as upstream does, and acts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use component::events::Recorder;
use component::supervisor::chain;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use tokio::sync::watch;
use tokio::time::Instant;

pub mod local;
pub mod observe;
pub mod rank;
pub mod state;

use super::threshold::{Pressure, Threshold};
use crate::make::{Qos, is_critical, qos};
use observe::Observe;
use rank::Usage;
use state::{Observations, State};

/// Between two measurements; upstream's figure.
const EVERY: Duration = Duration::from_secs(10);
/// How long the manager waits for an evicted pod to be gone; upstream's figure.
const CLEANUP: Duration = Duration::from_secs(30);
/// How often the disk usage of pods that have a limit on it is computed.
const DISK_EVERY: Duration = Duration::from_secs(60);
/// Seconds that a pod gets at a hard threshold.
const AT_ONCE: i64 = 1;
/// The reason of a pod's status.
pub const REASON: &str = "Evicted";

/// An eviction that was decided.
#[derive(Clone, PartialEq, Debug)]
pub struct Eviction {
    pub uid: String,
    pub message: String,
    /// Seconds; overrides the pod's own.
    pub grace: i64,
    /// Whether the pod gets the condition `DisruptionTarget`.
    pub disruption: bool,
}

/// The pods of the node, as far as eviction is concerned.
pub trait Tenants: Send + Sync {
    /// Pods that are not terminal.
    fn active(&self) -> Vec<Arc<Pod>>;

    /// What a pod uses; with `disk` also of the file systems, which takes a while.
    fn usage<'a>(&'a self, pod: &'a Pod, disk: bool) -> BoxFuture<'a, Option<Usage>>;

    /// Kills a pod and marks it as failed; done when its containers are gone.
    fn evict(&self, eviction: Eviction) -> BoxFuture<'_, ()>;
}

/// What nobody needs and can be had anew.
pub trait Reclaim: Send + Sync {
    /// Deletes ended containers, then images that nothing uses.
    fn reclaim(&self) -> BoxFuture<'_, Result<(), crate::image::gc::Error>>;
}

/// How pods are evicted.
#[derive(Clone, Debug)]
pub struct Settings {
    pub thresholds: Vec<Threshold>,
    /// How long a condition outlives its cause.
    pub transition: Duration,
    /// `evictionMaxPodGracePeriod`
    pub max_pod_grace: i64,
    /// Whether limits on local storage are enforced.
    pub local_storage: bool,
    /// Images and writable layers are on a file system of their own.
    pub separate_images: bool,
}

/// Watches over the node.
pub struct Manager {
    settings: Settings,
    observe: Observe,
    tenants: Arc<dyn Tenants>,
    reclaim: Arc<dyn Reclaim>,
    recorder: Recorder,
    node: ObjectReference,
    pressure: watch::Sender<BTreeSet<Pressure>>,
}

/// Refuses pods while the node is short of something; cheap to clone.
#[derive(Clone)]
pub struct Admission {
    pressure: watch::Receiver<BTreeSet<Pressure>>,
}

impl Admission {
    /// By what the sender says.
    #[must_use]
    pub fn new(pressure: watch::Receiver<BTreeSet<Pressure>>) -> Self {
        Self { pressure }
    }

    /// What the node is short of.
    #[must_use]
    pub fn pressure(&self) -> BTreeSet<Pressure> {
        self.pressure.borrow().clone()
    }

    /// Whether a pod may start on this node.
    ///
    /// # Errors
    /// With reason and message of its status.
    pub fn admit(&self, pod: &Pod) -> Result<(), (&'static str, String)> {
        let pressure = self.pressure.borrow();
        if pressure.is_empty() || is_critical(pod) {
            return Ok(());
        }
        let only_memory = pressure.iter().all(|p| *p == Pressure::Memory);
        if only_memory && (qos(pod) != Qos::BestEffort || tolerates_memory_pressure(pod)) {
            return Ok(());
        }
        let names: Vec<&str> = pressure.iter().map(|p| p.condition()).collect();
        let message = format!("The node had condition: [{}]. ", names.join(" "));
        Err((REASON, message))
    }
}

fn tolerates_memory_pressure(pod: &Pod) -> bool {
    const TAINT: &str = "node.kubernetes.io/memory-pressure";
    let tolerations = pod.spec.as_ref().and_then(|s| s.tolerations.as_ref());
    tolerations.into_iter().flatten().any(|t| {
        let effect = t.effect.as_deref().unwrap_or_default();
        let key = t.key.as_deref().unwrap_or_default();
        let value = t.value.as_deref().unwrap_or_default();
        let right = match t.operator.as_deref().unwrap_or_default() {
            "Exists" => value.is_empty(),
            "" | "Equal" => !key.is_empty() && value.is_empty(),
            _ => false,
        };
        right && matches!(effect, "" | "NoSchedule") && (key.is_empty() || key == TAINT)
    })
}

impl Manager {
    pub fn new(
        settings: Settings,
        observe: Observe,
        tenants: Arc<dyn Tenants>,
        reclaim: Arc<dyn Reclaim>,
        recorder: Recorder,
        node: ObjectReference,
        pressure: watch::Sender<BTreeSet<Pressure>>,
    ) -> Self {
        Self {
            settings,
            observe,
            tenants,
            reclaim,
            recorder,
            node,
            pressure,
        }
    }

    /// Runs until it is dropped.
    pub async fn run(self) {
        if self.settings.thresholds.is_empty() && !self.settings.local_storage {
            return;
        }
        let mut state = State::default();
        let mut disk_at: Option<Instant> = None;
        loop {
            let due = disk_at.is_none_or(|at| at.elapsed() >= DISK_EVERY);
            if due && self.settings.local_storage {
                disk_at = Some(Instant::now());
            }
            let evicted = self.look(&mut state, due).await;
            if !evicted {
                tokio::time::sleep(EVERY).await;
            }
        }
    }

    /// Measures and acts; whether pods were evicted.
    async fn look(&self, state: &mut State, disk: bool) -> bool {
        let seen = self.observe.now();
        let step = state.step(
            &self.settings.thresholds,
            &seen,
            self.settings.transition,
            Instant::now().into_std(),
        );
        self.pressure.send_if_modified(|pressure| {
            let changed = *pressure != step.pressure;
            pressure.clone_from(&step.pressure);
            changed
        });
        if disk && self.settings.local_storage {
            let over = self.over_local_limits().await;
            if !over.is_empty() {
                return self.evict(over).await;
            }
        }
        let Some(threshold) = step.act.first() else {
            return false;
        };
        self.relieve(*threshold, &step.act, &seen).await
    }

    /// Pods that use more local storage than they may.
    async fn over_local_limits(&self) -> Vec<Eviction> {
        let mut over = Vec::new();
        for pod in self.tenants.active() {
            if !local::has_limits(&pod) || is_critical(&pod) {
                continue;
            }
            let Some(usage) = self.tenants.usage(&pod, true).await else {
                continue;
            };
            let separate = self.settings.separate_images;
            if let Some(message) = local::exceeded(&pod, &usage, separate) {
                over.push(Eviction {
                    uid: pod.metadata.uid.clone().unwrap_or_default(),
                    message,
                    grace: AT_ONCE,
                    disruption: false,
                });
            }
        }
        over
    }

    async fn relieve(&self, by: Threshold, met: &[Threshold], seen: &Observations) -> bool {
        let resource = by.signal.resource();
        tracing::warn!(
            signal = by.signal.name(),
            resource,
            "The node is short of a resource"
        );
        let message = format!("Attempting to reclaim {resource}");
        self.recorder
            .warning(&self.node, "EvictionThresholdMet", &message);
        if by.signal.pressure() == Pressure::Disk {
            if let Err(e) = self.reclaim.reclaim().await {
                tracing::warn!(error = chain(&e), "Cannot reclaim disk space");
            }
            let now = self.observe.now();
            let still = state::met(&self.settings.thresholds, &now, true);
            if still.is_empty() {
                return false;
            }
        }
        let disk = by.signal.pressure() == Pressure::Disk;
        let mut pods = Vec::new();
        for pod in self.tenants.active() {
            let usage = self.tenants.usage(&pod, disk).await;
            pods.push((pod, usage));
        }
        rank::by(by.signal, &mut pods);
        let victim = pods.iter().find(|(pod, _)| !is_critical(pod));
        let Some((pod, usage)) = victim else {
            tracing::error!("Eviction thresholds have been met, but no pods can be evicted");
            return false;
        };
        let grace = if by.is_hard() {
            AT_ONCE
        } else {
            soft_grace(pod, self.settings.max_pod_grace)
        };
        let eviction = Eviction {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            message: rank::message(by.signal, pod, usage.as_ref(), met, seen),
            grace,
            disruption: true,
        };
        self.evict(vec![eviction]).await
    }

    async fn evict(&self, all: Vec<Eviction>) -> bool {
        let each = all.into_iter().map(|eviction| {
            tracing::warn!(
                pod.uid = eviction.uid,
                message = eviction.message,
                "Evicting a pod"
            );
            self.tenants.evict(eviction)
        });
        let all = futures::future::join_all(each);
        if tokio::time::timeout(CLEANUP, all).await.is_err() {
            tracing::info!("Evicted pods take their time to go");
        }
        true
    }
}

fn soft_grace(pod: &Pod, most: i64) -> i64 {
    let own = pod
        .spec
        .as_ref()
        .and_then(|s| s.termination_grace_period_seconds);
    match own {
        // A negative bound leaves it to the pod.
        Some(own) if most < 0 => own,
        Some(own) => own.min(most),
        None => most,
    }
}

#[cfg(test)]
mod tests;
