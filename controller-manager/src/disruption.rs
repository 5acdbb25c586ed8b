//! Budgets of disruptions (`disruption-controller`): how many of the selected pods may be evicted now.
//!
//! Owns the budgets' status, of which the eviction API takes part under the same version, and the
//! `DisruptionTarget` condition of pods that stayed.
//!
//! Source: `pkg/controller/disruption`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use component::client::Patch;
use component::controller::Next;
use component::events::{Recorder, reference};
use component::informer::{Event, Index, Informer, Key, Lister};
use component::queue::Queue;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use crate::context::Context;
use crate::error::Error;
use crate::indexes::{label, pods_by_label};
use crate::selector::Selector;
use crate::update::update;
use plan::Basis;
use scale::Controllers;

mod plan;
mod scale;

/// How long a pod may say that it is to be disrupted without going.
const STALE: Duration = Duration::from_secs(120);

/// What the queue holds.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Work {
    Budget(Key),
    /// A pod that says that it is to be disrupted.
    Pod(Key),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Budget(key) | Self::Pod(key) => key.fmt(f),
        }
    }
}

struct Budgets {
    cx: Context,
    budgets: Lister<PodDisruptionBudget>,
    pods: Lister<Pod>,
    by_label: Index,
    controllers: Controllers,
    recorder: Recorder,
}

/// Starts the controller.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Work>("disruption");
    let (budgets, pods) = (cx.informer::<PodDisruptionBudget>(), cx.informer::<Pod>());
    let this = Arc::new(Budgets {
        cx: cx.clone(),
        budgets: budgets.lister(),
        by_label: pods_by_label(&pods),
        pods: pods.lister(),
        controllers: Controllers {
            cx: cx.clone(),
            deployments: cx.informer().lister(),
            replica_sets: cx.informer().lister(),
            stateful_sets: cx.informer().lister(),
            replication_controllers: cx.informer().lister(),
        },
        recorder: cx.recorder_as("controllermanager"),
    });
    let wake = queue.clone();
    budgets.subscribe(move |key, event| {
        let same = matches!(event, Event::Updated { old, new }
            if old.metadata.generation == new.metadata.generation && old.status == new.status);
        if !same {
            wake.add(Work::Budget(key.clone()));
        }
    });
    follow(&pods, &queue, budgets.lister(), this.recorder.clone());
    let workers = cx.config().disruption.concurrent_disruption_syncs;
    cx.run(workers, &queue, move |work| {
        let this = Arc::clone(&this);
        async move {
            match work {
                Work::Budget(key) => this.reconcile(&key).await,
                Work::Pod(key) => this.pod(&key).await,
            }
        }
    });
    Ok(())
}

/// Wakes the budget of a pod that changed.
fn follow(
    pods: &Informer<Pod>,
    queue: &Queue<Work>,
    budgets: Lister<PodDisruptionBudget>,
    recorder: Recorder,
) {
    let wake = queue.clone();
    pods.subscribe(move |key, event| {
        let pod = event.object();
        let of = |pod: &Pod| of_pod(&budgets, key.namespace(), pod);
        let mut all = of(pod);
        if let Event::Updated { old, new } = event
            && old.metadata.labels != new.metadata.labels
        {
            // Upstream forgets the budget that the pod leaves.
            all.extend(of(old));
        } else if all.len() > 1 {
            let name = all.first().map(Key::name).unwrap_or_default();
            let message = format!(
                "Pod {:?}/{:?} matches multiple PodDisruptionBudgets.  Chose {name:?} arbitrarily.",
                key.namespace(),
                key.name()
            );
            let about = reference(&**pod);
            recorder.warning(&about, "MultiplePodDisruptionBudgets", &message);
        }
        for budget in all {
            wake.add(Work::Budget(budget));
        }
        if !matches!(event, Event::Deleted(_)) && stale(pod).is_some() {
            wake.add(Work::Pod(key.clone()));
        }
    });
}

/// The budgets that select a pod.
fn of_pod(budgets: &Lister<PodDisruptionBudget>, namespace: &str, pod: &Pod) -> Vec<Key> {
    let selects = |budget: &Arc<PodDisruptionBudget>| {
        selector(budget).is_some_and(|s| s.matches(pod.metadata.labels.as_ref()))
    };
    let all = budgets.in_namespace(namespace);
    all.iter()
        .filter(|b| selects(b))
        .map(|b| Key::of(&b.metadata))
        .collect()
}

/// None: the budget selects nothing.
fn selector(budget: &PodDisruptionBudget) -> Option<Selector> {
    Selector::of(budget.spec.as_ref()?.selector.as_ref()?).ok()
}

/// When a pod's condition of disruption is stale; none if it says nothing of that kind.
fn stale(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let conditions = status.conditions.as_ref()?;
    let condition = conditions
        .iter()
        .find(|c| c.type_ == "DisruptionTarget" && c.status == "True")?;
    let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let by_kubelet = condition.reason.as_deref() == Some("TerminationByKubelet");
    if pod.metadata.deletion_timestamp.is_some() || ended || by_kubelet {
        return None;
    }
    Some(condition.last_transition_time.as_ref()?.0 + STALE)
}

impl Budgets {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(budget) = self.budgets.by_key(key) else {
            return Ok(Next::Done);
        };
        match self.count(&budget).await {
            Ok((status, next)) => {
                self.write(&budget, status).await?;
                Ok(next)
            }
            Err(e) => {
                tracing::warn!(error = e.chain(), "The pods of a budget cannot be counted");
                let status = plan::fail_safe(&budget, &e.chain(), self.cx.now());
                self.write(&budget, status).await?;
                Ok(Next::Again)
            }
        }
    }

    /// The pods that a budget selects, by name.
    fn pods_of(&self, budget: &PodDisruptionBudget) -> Result<Vec<Arc<Pod>>, Error> {
        let namespace = budget.metadata.namespace.as_deref().unwrap_or_default();
        let spec = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
        let Some(spec) = spec else {
            return Ok(Vec::new());
        };
        let selector = Selector::of(spec)?;
        let first = spec.match_labels.as_ref().and_then(|l| l.first_key_value());
        let mut pods = match first {
            Some((k, v)) => self.pods.indexed(self.by_label, &label(namespace, k, v)),
            None => self.pods.in_namespace(namespace),
        };
        pods.retain(|pod| selector.matches(pod.metadata.labels.as_ref()));
        Ok(pods)
    }

    async fn count(
        &self,
        budget: &PodDisruptionBudget,
    ) -> Result<(PodDisruptionBudgetStatus, Next), Error> {
        let about = reference(budget);
        let pods = self.pods_of(budget)?;
        if pods.is_empty() {
            self.recorder
                .normal(&about, "NoPods", "No matching pods found");
        }
        let (expected, unmanaged) = match plan::basis(budget) {
            Basis::Controllers => self.controllers.expected(&pods).await.inspect_err(|e| {
                let message = format!(
                    "Failed to calculate the number of expected pods: {}",
                    e.chain()
                );
                self.recorder
                    .warning(&about, "CalculateExpectedPodCountFailed", &message);
            })?,
            Basis::Pods => (i32::try_from(pods.len()).unwrap_or(i32::MAX), Vec::new()),
            Basis::Nothing => (0, Vec::new()),
        };
        if !unmanaged.is_empty() {
            let selector = selector(budget).map(|s| s.to_string()).unwrap_or_default();
            let message = format!(
                "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
            );
            self.recorder.warning(&about, "UnmanagedPods", &message);
        }
        let desired = plan::desired(budget, expected).map_err(Error::Unusable)?;
        let now = self.cx.now();
        let plan = plan::plan(budget, &pods, expected, desired, now);
        for pod in &plan.not_deleted {
            let message = format!(
                "Pod was expected by PDB {} to be deleted but it wasn't",
                Key::of(&budget.metadata)
            );
            self.recorder
                .warning(&reference(&**pod), "NotDeleted", &message);
        }
        let wait = plan.recheck.map(|at| at.duration_since(now));
        let wait = wait.map(|w| Duration::try_from(w).unwrap_or_default());
        // At that time itself the pod may still go.
        let next = wait.map_or(Next::Done, |w| Next::After(w + Duration::from_millis(1)));
        Ok((plan.status, next))
    }

    async fn write(
        &self,
        budget: &PodDisruptionBudget,
        status: PodDisruptionBudgetStatus,
    ) -> Result<(), Error> {
        let wanted = PodDisruptionBudget {
            status: Some(status),
            ..budget.clone()
        };
        let namespace = budget.metadata.namespace.as_deref().unwrap_or_default();
        let api = self.cx.client().await?.namespaced(namespace);
        match update(&api, "status", budget, &wanted).await {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Takes the condition back from a pod that stayed.
    async fn pod(&self, key: &Key) -> Result<Next, Error> {
        let Some((pod, at)) = self
            .pods
            .by_key(key)
            .and_then(|p| stale(&p).map(|at| (p, at)))
        else {
            return Ok(Next::Done);
        };
        let now = self.cx.now();
        if let Ok(left) = Duration::try_from(at.duration_since(now))
            && !left.is_zero()
        {
            return Ok(Next::After(left));
        }
        let patch = Patch::strategic(&json!({
            "metadata": {"uid": pod.metadata.uid},
            "status": {"conditions": [{
                "type": "DisruptionTarget",
                "status": "False",
                "reason": null,
                "message": null,
                "observedGeneration": pod.metadata.generation,
                "lastTransitionTime": Time(now),
            }]},
        }))?;
        let api = self.cx.client().await?.namespaced::<Pod>(key.namespace());
        match api.patch_status(key.name(), &patch).await {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Ok(Next::Done),
        }
    }
}
