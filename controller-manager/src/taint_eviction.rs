//! Pods that do not tolerate a `NoExecute` taint of their node, or only for a while
//! (`taint-eviction-controller`).
//!
//! Invariants: a pod's time runs from when its taints were first seen here; it starts anew only if all
//! taints went or all are tolerated for ever in between.
//!
//! Source: `pkg/controller/tainteviction`.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use component::client::Patch;
use component::controller::Next;
use component::events::Recorder;
use component::informer::{Event, Index, Key, Lister};
use component::queue::Queue;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Time};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use crate::context::Context;
use crate::error::Error;
use crate::taints::{self, NO_EXECUTE};

/// Upstream's number of workers.
const WORKERS: i32 = 8;
const REASON: &str = "TaintManagerEviction";

/// What the queue holds.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Work {
    Node(Key),
    Pod(Key),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(key) | Self::Pod(key) => key.fmt(f),
        }
    }
}

struct Evictor {
    cx: Context,
    queue: Queue<Work>,
    nodes: Lister<Node>,
    pods: Lister<Pod>,
    by_node: Index,
    /// Since when a pod's time runs.
    since: Mutex<HashMap<Key, Instant>>,
    recorder: Recorder,
    compare: bool,
}

/// Starts the controller.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Work>("noexec_taint");
    let (nodes, pods) = (cx.informer::<Node>(), cx.informer::<Pod>());
    let this = Arc::new(Evictor {
        cx: cx.clone(),
        queue: queue.clone(),
        nodes: nodes.lister(),
        by_node: crate::indexes::pods_by_node(&pods),
        pods: pods.lister(),
        since: Mutex::default(),
        recorder: cx.recorder().clone(),
        compare: cx.features().enabled("TaintTolerationComparisonOperators"),
    });
    let wake = queue.clone();
    nodes.subscribe(move |key, event| {
        let changed = match event {
            Event::Updated { old, new } => executing(old) != executing(new),
            Event::Added(node) => !executing(node).is_empty(),
            Event::Deleted(_) => false,
        };
        if changed {
            wake.add(Work::Node(key.clone()));
        }
    });
    let wake = queue.clone();
    pods.subscribe(move |key, event| {
        let bound = |pod: &Pod| pod.spec.as_ref().is_some_and(|s| s.node_name.is_some());
        let spec = |pod: &Pod| {
            let spec = pod.spec.as_ref();
            spec.map(|s| (s.tolerations.clone(), s.node_name.clone()))
        };
        let changed = match event {
            Event::Updated { old, new } => spec(old) != spec(new),
            Event::Added(pod) => bound(pod),
            Event::Deleted(_) => true,
        };
        if changed {
            wake.add(Work::Pod(key.clone()));
        }
    });
    cx.run(WORKERS, &queue, move |work| {
        let this = Arc::clone(&this);
        async move {
            match work {
                Work::Node(key) => Ok(this.node(&key)),
                Work::Pod(key) => this.pod(&key).await,
            }
        }
    });
    Ok(())
}

/// The node's taints that evict.
fn executing(node: &Node) -> Vec<Taint> {
    let mut taints = taints::of(node).to_vec();
    taints.retain(|t| t.effect == NO_EXECUTE);
    taints
}

/// What the taints mean for a pod.
#[derive(PartialEq, Eq, Debug)]
enum Verdict {
    Stays,
    Goes,
    /// So long after the taints came.
    After(Duration),
}

fn judge(taints: &[Taint], tolerations: &[Toleration], compare: bool) -> Verdict {
    let mut shortest = None::<Duration>;
    for taint in taints {
        let by = |t: &&Toleration| taints::tolerates(t, taint, compare);
        let Some(toleration) = tolerations.iter().find(by) else {
            return Verdict::Goes;
        };
        if let Some(seconds) = toleration.toleration_seconds {
            let after = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            shortest = Some(shortest.map_or(after, |s| s.min(after)));
        }
    }
    match shortest {
        None => Verdict::Stays,
        Some(Duration::ZERO) => Verdict::Goes,
        Some(after) => Verdict::After(after),
    }
}

impl Evictor {
    /// A node's taints changed: its pods are looked at.
    fn node(&self, key: &Key) -> Next {
        for pod in self.pods.indexed(self.by_node, key.name()) {
            self.queue.add(Work::Pod(Key::of(&pod.metadata)));
        }
        Next::Done
    }

    async fn pod(&self, key: &Key) -> Result<Next, Error> {
        let pod = self.pods.by_key(key);
        let spec = pod.as_ref().and_then(|p| p.spec.as_ref());
        let node = spec.and_then(|s| self.nodes.get("", s.node_name.as_deref()?));
        let taints = node.map(|n| executing(&n)).unwrap_or_default();
        let tolerations = spec.and_then(|s| s.tolerations.as_deref());
        let verdict = judge(&taints, tolerations.unwrap_or_default(), self.compare);
        let Some(pod) = pod.filter(|_| verdict != Verdict::Stays) else {
            if self.since.lock().remove(key).is_some() {
                self.tell(key, &format!("Cancelling deletion of Pod {key}"));
            }
            return Ok(Next::Done);
        };
        if pod.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        if let Verdict::After(after) = verdict {
            let now = Instant::now();
            let since = *self.since.lock().entry(key.clone()).or_insert(now);
            let left = (since + after).saturating_duration_since(now);
            if !left.is_zero() {
                return Ok(Next::After(left));
            }
        }
        self.tell(key, &format!("Marking for deletion Pod {key}"));
        self.evict(&pod).await?;
        self.since.lock().remove(key);
        Ok(Next::Done)
    }

    async fn evict(&self, pod: &Pod) -> Result<(), Error> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let api = self.cx.client().await?.namespaced::<Pod>(namespace);
        if !is_marked(pod) {
            let patch = Patch::strategic(&json!({
                "metadata": {"uid": pod.metadata.uid},
                "status": {"conditions": [{
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": "DeletionByTaintManager",
                    "message": "Taint manager: deleting due to NoExecute taint",
                    "observedGeneration": pod.metadata.generation,
                    "lastTransitionTime": Time(self.cx.now()),
                }]},
            }))?;
            match api.patch_status(name, &patch).await {
                Err(e) if e.is_not_found() => return Ok(()),
                done => drop(done?),
            }
        }
        match api.delete(name, &DeleteOptions::default()).await {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Ok(()),
        }
    }

    fn tell(&self, key: &Key, message: &str) {
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(key.namespace().to_owned()),
            name: Some(key.name().to_owned()),
            ..ObjectReference::default()
        };
        self.recorder.normal(&about, REASON, message);
    }
}

/// Whether the pod says already why it goes.
fn is_marked(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let condition = conditions.and_then(|c| c.iter().find(|c| c.type_ == "DisruptionTarget"));
    condition.is_some_and(|c| {
        c.status == "True" && c.reason.as_deref() == Some("DeletionByTaintManager")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::taints::{NOT_READY, UNREACHABLE, taint};

    fn toleration(key: &str, seconds: Option<i64>) -> Toleration {
        Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(NO_EXECUTE.to_owned()),
            toleration_seconds: seconds,
            value: None,
        }
    }

    #[test]
    fn the_shortest_toleration_of_all_taints_counts() {
        let taints = [taint(NOT_READY, NO_EXECUTE), taint(UNREACHABLE, NO_EXECUTE)];
        let judged = |tolerations: &[Toleration]| judge(&taints, tolerations, false);
        assert_eq!(judged(&[]), Verdict::Goes);
        assert_eq!(judged(&[toleration(NOT_READY, None)]), Verdict::Goes);
        let both = |a, b| [toleration(NOT_READY, a), toleration(UNREACHABLE, b)];
        assert_eq!(judged(&both(None, None)), Verdict::Stays);
        assert_eq!(
            judged(&both(None, Some(300))),
            Verdict::After(Duration::from_secs(300))
        );
        assert_eq!(
            judged(&both(Some(10), Some(300))),
            Verdict::After(Duration::from_secs(10))
        );
        assert_eq!(judged(&both(Some(-1), None)), Verdict::Goes);
        assert_eq!(judge(&[], &[], false), Verdict::Stays);
    }
}
