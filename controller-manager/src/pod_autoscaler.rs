//! Scales what a HorizontalPodAutoscaler names so that its metrics come near their targets
//! (`horizontal-pod-autoscaler-controller`).
//!
//! Each autoscaler is looked at once in a period. [`scale`] and [`metrics`] read, [`compute`] says what one metric asks
//! for and [`measure`] what all of them do, [`usage`] and [`limit`] decide, purely. Source: `pkg/controller/podautoscaler`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use component::client::{Client, RateLimit};
use component::controller::Next;
use component::events::{Recorder, reference};
use component::informer::{Event, Informer, Key, Lister};
use component::queue::Retry;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerSpec,
    HorizontalPodAutoscalerStatus, MetricStatus,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::context::Context;
use crate::discovery::{Discovered, discover};
use crate::error::Error;
use crate::selector::Selector;
use crate::update;
use crate::writes::Writes;

mod compute;
mod limit;
mod measure;
mod metrics;
mod scale;
mod usage;

use limit::{Bounds, History};
use measure::Measured;
use scale::Scale;

/// How long what discovery told is believed.
const DISCOVERY: Duration = Duration::from_secs(30);
const ABLE: &str = "AbleToScale";
const ACTIVE: &str = "ScalingActive";
const LIMITED: &str = "ScalingLimited";
const AT_ZERO: &str = "ScaledToZero";

/// Why an autoscaler cannot do its work, in words for people.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
#[error("{0}")]
struct Failed(String);

impl Failed {
    fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The same, with what failed for it in front.
    fn within(self, what: &str) -> Self {
        if what.is_empty() {
            return self;
        }
        Self(format!("{what}: {}", self.0))
    }
}

/// The group and version of a reference.
fn group_version(api_version: Option<&str>) -> (&str, &str) {
    let text = api_version.unwrap_or_default();
    text.split_once('/').unwrap_or(("", text))
}

fn no_kind(group: &str, kind: &str) -> Failed {
    Failed(format!("no matches for kind {kind:?} in group {group:?}"))
}

/// Starts the controller.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let config = &cx.config().horizontal_pod_autoscaler;
    let period = config.horizontal_pod_autoscaler_sync_period.0;
    // What failed comes back as what did not.
    let retry = Retry {
        first: period,
        most: period,
        overall: RateLimit::none(),
    };
    let queue = cx.queue_with::<Key>("horizontalpodautoscaler", retry);
    let autoscalers: Informer<HorizontalPodAutoscaler> = cx.informer();
    let pods: Informer<Pod> = cx.informer();
    let workers = config.concurrent_horizontal_pod_autoscaler_syncs;
    let this = Arc::new(Controller {
        cx: cx.clone(),
        autoscalers: autoscalers.lister(),
        pods: pods.lister(),
        writes: Writes::default(),
        known: Mutex::default(),
        discovered: Mutex::default(),
        recorder: cx.recorder_as("horizontal-pod-autoscaler"),
        period,
    });
    let wake = queue.clone();
    autoscalers.subscribe(move |key, event| match event {
        Event::Updated { old, new } if old.metadata.generation == new.metadata.generation => {
            wake.add_after(key.clone(), period);
        }
        _ => wake.add(key.clone()),
    });
    cx.run(workers, &queue, move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(key).await }
    });
    Ok(())
}

/// What is remembered of an autoscaler.
#[derive(Default)]
struct Known {
    history: History,
    /// Of the pods that it scales; none before they are known.
    selector: Option<Selector>,
}

struct Controller {
    cx: Context,
    autoscalers: Lister<HorizontalPodAutoscaler>,
    pods: Lister<Pod>,
    writes: Writes,
    known: Mutex<HashMap<Key, Known>>,
    discovered: Mutex<Option<(Instant, Arc<Discovered>)>>,
    recorder: Recorder,
    period: Duration,
}

impl Controller {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(autoscaler) = self.autoscalers.by_key(&key) else {
            self.known.lock().remove(&key);
            self.writes.forget(&key);
            return Ok(Next::Done);
        };
        if !self.writes.are_seen(&key, &self.autoscalers) {
            return Ok(Next::After(self.period));
        }
        let client = self.cx.client().await?;
        let discovered = self.discovered(&client).await?;
        let mut pass = Pass {
            this: self,
            client: &client,
            discovered: &discovered,
            key: &key,
            spec: autoscaler.spec.clone(),
            autoscaler: &autoscaler,
            status: autoscaler.status.clone().unwrap_or_default(),
        };
        let done = pass.carry_out().await;
        let status = pass.status;
        let api = client.namespaced::<HorizontalPodAutoscaler>(key.namespace());
        match update::status(&api, &*autoscaler, |a| a.status = Some(status)).await {
            Ok(Some(written)) => self.writes.wrote(&key, &written.metadata),
            Ok(None) => {}
            Err(e) => {
                let text = e.chain();
                let about = reference(&*autoscaler);
                self.recorder.warning(&about, "FailedUpdateStatus", &text);
                return Err(e);
            }
        }
        match done {
            Ok(()) => Ok(Next::After(self.period)),
            Err(Failed(text)) => Err(Error::Unusable(text)),
        }
    }

    async fn discovered(&self, client: &Client) -> Result<Arc<Discovered>, Error> {
        if let Some((at, discovered)) = &*self.discovered.lock()
            && at.elapsed() < DISCOVERY
        {
            return Ok(Arc::clone(discovered));
        }
        let discovered = Arc::new(discover(client).await?);
        *self.discovered.lock() = Some((Instant::now(), Arc::clone(&discovered)));
        Ok(discovered)
    }
}

/// One look at one autoscaler.
struct Pass<'p> {
    this: &'p Controller,
    client: &'p Client,
    discovered: &'p Discovered,
    key: &'p Key,
    autoscaler: &'p HorizontalPodAutoscaler,
    spec: HorizontalPodAutoscalerSpec,
    status: HorizontalPodAutoscalerStatus,
}

/// How many pods there are to be, and why.
struct Wish {
    replicas: i32,
    reason: String,
    metrics: Vec<MetricStatus>,
    /// A metric that could not be read, while others could.
    failed: Option<Failed>,
}

impl Pass<'_> {
    fn set(&mut self, kind: &str, is: bool, reason: &str, message: &str) {
        set(
            &mut self.status,
            kind,
            is,
            (reason, message),
            self.this.cx.now(),
        );
    }

    fn warn(&self, reason: &str, message: &str) {
        let about = reference(self.autoscaler);
        self.this.recorder.warning(&about, reason, message);
    }

    fn history<T>(&self, use_it: impl FnOnce(&mut History) -> T) -> T {
        let mut known = self.this.known.lock();
        use_it(&mut known.entry(self.key.clone()).or_default().history)
    }

    async fn carry_out(&mut self) -> Result<(), Failed> {
        let target = &self.spec.scale_target_ref;
        let about = format!("{}/{}/{}", target.kind, self.key.namespace(), target.name);
        let read = Scale::read(self.client, self.discovered, self.key.namespace(), target).await;
        let scale = match read {
            Ok(scale) => scale,
            Err(e) => {
                self.warn("FailedGetScale", &e.0);
                let text =
                    format!("the HPA controller was unable to get the target's current scale: {e}");
                self.set(ABLE, false, "FailedGetScale", &text);
                return Err(e.within(&format!("failed to query scale subresource for {about}")));
            }
        };
        let text = "the HPA controller was able to get the target's current scale";
        self.set(ABLE, true, "SucceededGetScale", text);
        let current = scale.wanted();
        self.history(|h| h.begin(current, Instant::now()));
        let Some(wish) = self.wish(&scale, &about).await? else {
            self.conclude(current, current, Vec::new(), false);
            return Ok(());
        };
        let rescaled = wish.replicas != current;
        if rescaled {
            self.rescale(scale, current, &wish, &about).await?;
        }
        self.conclude(current, wish.replicas, wish.metrics, rescaled);
        wish.failed.map_or(Ok(()), Err)
    }

    fn least(&self) -> i32 {
        self.spec.min_replicas.unwrap_or(1)
    }

    /// How many pods there are to be; none if it is not the autoscaler's to say.
    async fn wish(&mut self, scale: &Scale, about: &str) -> Result<Option<Wish>, Failed> {
        let (current, least) = (scale.wanted(), self.least());
        let to_zero = self.this.cx.features().enabled("HPAScaleToZero");
        let was_zero = to_zero && is(&self.status, AT_ZERO);
        let bound = |replicas, reason: &str| {
            Some(Wish {
                replicas,
                reason: reason.to_owned(),
                metrics: Vec::new(),
                failed: None,
            })
        };
        if current == 0 {
            let may_rise = was_zero && (least != 0 || self.sees_without_pods());
            if !may_rise {
                let text = "scaling is disabled since the replica count of the target is zero";
                self.set(ACTIVE, false, "ScalingDisabled", text);
                if !to_zero {
                    self.remove(AT_ZERO);
                }
                return Ok(None);
            }
        } else if current > self.spec.max_replicas {
            let most = self.spec.max_replicas;
            return Ok(bound(
                most,
                "Current number of replicas above Spec.MaxReplicas",
            ));
        } else if current < least {
            return Ok(bound(
                least,
                "Current number of replicas below Spec.MinReplicas",
            ));
        }
        let measured = match self.measure(scale).await {
            Ok(measured) => measured,
            Err((e, metrics)) => {
                self.warn("FailedComputeMetricsReplicas", &e.0);
                let desired = self.status.desired_replicas;
                self.conclude(current, desired, metrics, false);
                let what = format!(
                    "failed to compute desired number of replicas based on listed metrics for {about}"
                );
                return Err(e.within(&what));
            }
        };
        let mut wish = self.limited(measured, current);
        if current == 0 && least != 0 && wish.replicas < least {
            wish.replicas = least;
            if wish.reason.is_empty() {
                "Current number of replicas below Spec.MinReplicas".clone_into(&mut wish.reason);
            }
        }
        Ok(Some(wish))
    }

    /// What the metrics ask for, as fast as it may go.
    fn limited(&mut self, measured: Measured, current: i32) -> Wish {
        let desired = measured.replicas.max(0);
        let reason = if desired > current {
            format!("{} above target", measured.name)
        } else if desired < current {
            "All metrics below target".to_owned()
        } else {
            String::new()
        };
        let bounds = Bounds {
            current,
            least: self.least(),
            most: self.spec.max_replicas,
        };
        let config = &self.this.cx.config().horizontal_pod_autoscaler;
        let window = config
            .horizontal_pod_autoscaler_downscale_stabilization_window
            .0;
        let now = Instant::now();
        let behavior = self.spec.behavior.as_ref();
        let limited = self.history(|h| match behavior {
            None => h.plain(bounds, desired, window, now),
            Some(behavior) => h.with_behavior(behavior, bounds, desired, window, now),
        });
        let (is, said) = limited.limited;
        self.set(ABLE, true, limited.able.0, limited.able.1);
        self.set(LIMITED, is, said.0, said.1);
        Wish {
            replicas: limited.desired,
            reason,
            metrics: measured.metrics,
            failed: measured.failed,
        }
    }

    /// Whether a metric can be read of a target that has no pods.
    fn sees_without_pods(&self) -> bool {
        let mut metrics = self.spec.metrics.iter().flatten();
        metrics.any(|m| m.type_ == "Object" || m.type_ == "External")
    }

    async fn rescale(
        &mut self,
        scale: Scale,
        current: i32,
        wish: &Wish,
        about: &str,
    ) -> Result<(), Failed> {
        let (new, reason) = (wish.replicas, &wish.reason);
        if let Err(e) = scale.write(self.client, new).await {
            let text = format!("New size: {new}; reason: {reason}; error: {e}");
            self.warn("FailedRescale", &text);
            let text = format!("the HPA controller was unable to update the target scale: {e}");
            self.set(ABLE, false, "FailedUpdateScale", &text);
            let desired = self.status.desired_replicas;
            self.conclude(current, desired, wish.metrics.clone(), false);
            return Err(Failed(e.to_string()).within(&format!("failed to rescale {about}")));
        }
        let text = format!("the HPA controller was able to update the target scale to {new}");
        self.set(ABLE, true, "SucceededRescale", &text);
        let text = format!("New size: {new}; reason: {reason}");
        let about = reference(self.autoscaler);
        self.this
            .recorder
            .normal(&about, "SuccessfulRescale", &text);
        if let Some(behavior) = &self.spec.behavior {
            self.history(|h| h.scaled(behavior, current, new, Instant::now()));
        }
        if !self.this.cx.features().enabled("HPAScaleToZero") {
            self.remove(AT_ZERO);
        } else if new == 0 && self.least() == 0 && self.sees_without_pods() {
            let text = "the HPA controller scaled the workload to zero";
            self.set(AT_ZERO, true, "ScaledToZero", text);
        } else {
            let text = "the HPA controller did not scale the workload to zero";
            self.set(AT_ZERO, false, "NotScaledToZero", text);
        }
        Ok(())
    }

    fn remove(&mut self, kind: &str) {
        self.status
            .conditions
            .get_or_insert_default()
            .retain(|c| c.type_ != kind);
    }

    fn conclude(&mut self, current: i32, desired: i32, metrics: Vec<MetricStatus>, rescaled: bool) {
        let status = &mut self.status;
        status.current_replicas = Some(current);
        status.desired_replicas = desired;
        status.current_metrics = Some(metrics);
        if self.this.cx.features().enabled("HPAGeneration") {
            status.observed_generation = self.autoscaler.metadata.generation;
        }
        if rescaled {
            status.last_scale_time = Some(Time(self.this.cx.now()));
        }
    }
}

fn is(status: &HorizontalPodAutoscalerStatus, kind: &str) -> bool {
    let mut all = status.conditions.iter().flatten();
    all.any(|c| c.type_ == kind && c.status == "True")
}

/// Sets a condition; the time of its last transition is that of its status.
fn set(
    status: &mut HorizontalPodAutoscalerStatus,
    kind: &str,
    is: bool,
    (reason, message): (&str, &str),
    now: Timestamp,
) {
    let all = status.conditions.get_or_insert_default();
    let at = all.iter().position(|c| c.type_ == kind).unwrap_or_else(|| {
        all.push(HorizontalPodAutoscalerCondition {
            type_: kind.to_owned(),
            ..HorizontalPodAutoscalerCondition::default()
        });
        all.len() - 1
    });
    if let Some(condition) = all.get_mut(at) {
        let new = if is { "True" } else { "False" };
        if condition.status != new {
            condition.last_transition_time = Some(Time(now));
        }
        new.clone_into(&mut condition.status);
        condition.reason = Some(reason.to_owned());
        condition.message = Some(message.to_owned());
    }
}
