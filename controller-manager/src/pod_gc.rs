//! Pods that nobody ends any more: those of nodes that are gone or out of service, those that were deleted before they
//! had a node, and ended ones beyond a limit. Source: `pkg/controller/podgc`.
//!
//! Upstream looks at all pods every 20 s; here events name the pods to look at, and the only waiting is the quarantine
//! of nodes that vanished.

use std::sync::Arc;
use std::time::Duration;

use component::client::Patch;
use component::controller::Next;
use component::informer::{Event, Index, Informer, Key, Lister};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions, Time};
use serde_json::json;

use crate::context::Context;
use crate::error::Error;
use crate::pods;

/// How long a node has to be gone: it may be registered again.
const QUARANTINE: Duration = Duration::from_secs(40);
/// How often ended pods are counted, at most.
const COUNT: Duration = Duration::from_secs(20);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// The key under which ended pods are counted; no object has it.
const ENDED: &str = "ended pods";

/// Starts `pod-garbage-collector-controller`.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Key>("orphaned_pods_nodes");
    let pods: Informer<Pod> = cx.informer();
    let nodes: Informer<Node> = cx.informer();
    let controller = Arc::new(Controller {
        cx: cx.clone(),
        by_node: pods.index("node", |pod| vec![node_of(pod).to_owned()]),
        ended: pods.index("ended", |pod| {
            let ended = pods::is_terminal(pod) && pod.metadata.deletion_timestamp.is_none();
            ended.then(String::new).into_iter().collect()
        }),
        pods: pods.lister(),
        nodes: nodes.lister(),
    });
    let (wake, known) = (queue.clone(), nodes.lister());
    pods.subscribe(move |key, event| {
        let pod = event.object();
        if matches!(event, Event::Deleted(_)) {
            return;
        }
        if pods::is_terminal(pod) {
            wake.add_after(Key::from(ENDED), COUNT);
        }
        let node = node_of(pod);
        if !node.is_empty() && known.get("", node).is_none() {
            wake.add_after(key.clone(), QUARANTINE);
        } else if pod.metadata.deletion_timestamp.is_some() {
            wake.add(key.clone());
        }
    });
    let (wake, on_node) = (queue.clone(), Arc::clone(&controller));
    nodes.subscribe(move |key, event| match event {
        Event::Deleted(_) => on_node.each_on(key.name(), |pod| {
            wake.add_after(pods::key(pod), QUARANTINE);
        }),
        Event::Added(node) | Event::Updated { new: node, .. } => {
            if is_out_of_service(node) {
                on_node.each_on(key.name(), |pod| wake.add(pods::key(pod)));
            }
        }
    });
    cx.run(1, &queue, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.reconcile(key).await }
    });
    Ok(())
}

struct Controller {
    cx: Context,
    pods: Lister<Pod>,
    by_node: Index,
    ended: Index,
    nodes: Lister<Node>,
}

fn node_of(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref();
    spec.and_then(|s| s.node_name.as_deref())
        .unwrap_or_default()
}

fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref());
    let marked = taints
        .unwrap_or_default()
        .iter()
        .any(|t| t.key == OUT_OF_SERVICE);
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_deref());
    let ready = conditions
        .unwrap_or_default()
        .iter()
        .any(|c| c.type_ == "Ready" && c.status == "True");
    marked && !ready
}

/// What becomes of a pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Stays,
    /// Nobody will end it: it is deleted now.
    Goes,
    /// Its node is not known; the server may know it.
    GoesIfNodeIsGone,
}

/// Decides by what is seen. `node` is the pod's, if it is known.
fn fate(pod: &Pod, node: Option<&Node>) -> Fate {
    let terminating = pod.metadata.deletion_timestamp.is_some();
    match (node_of(pod), node) {
        ("", _) if terminating => Fate::Goes,
        ("", _) => Fate::Stays,
        (_, None) => Fate::GoesIfNodeIsGone,
        (_, Some(node)) if terminating && is_out_of_service(node) => Fate::Goes,
        _ => Fate::Stays,
    }
}

impl Controller {
    fn each_on(&self, node: &str, mut tell: impl FnMut(&Pod)) {
        for pod in self.pods.indexed(self.by_node, node) {
            tell(&pod);
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        if key.as_str() == ENDED {
            self.drop_surplus().await?;
            return Ok(Next::Done);
        }
        let Some(pod) = self.pods.by_key(&key) else {
            return Ok(Next::Done);
        };
        let node = self.nodes.get("", node_of(&pod));
        match fate(&pod, node.as_deref()) {
            Fate::Stays => {}
            Fate::Goes => self.remove(&pod, None).await?,
            Fate::GoesIfNodeIsGone => {
                let client = self.cx.client().await?;
                if client.all::<Node>().find(node_of(&pod)).await?.is_none() {
                    self.remove(&pod, Some("PodGC: node no longer exists"))
                        .await?;
                }
            }
        }
        Ok(Next::Done)
    }

    /// Deletes the oldest ended pods beyond the limit.
    async fn drop_surplus(&self) -> Result<(), Error> {
        let most = self.cx.config().pod_gc.terminated_pod_gc_threshold;
        let Ok(most @ 1..) = usize::try_from(most) else {
            return Ok(());
        };
        let mut ended = self.pods.indexed(self.ended, "");
        let surplus = ended.len().saturating_sub(most);
        if surplus == 0 {
            return Ok(());
        }
        let age = |p: &Arc<Pod>| {
            let created = p.metadata.creation_timestamp.as_ref().map(|t| t.0);
            (created, p.metadata.name.clone())
        };
        // Evicted pods go first: nobody looks for their logs.
        let evicted = |p: &Arc<Pod>| {
            let reason = p.status.as_ref().and_then(|s| s.reason.as_deref());
            reason == Some("Evicted")
        };
        ended.sort_by_key(|p| (!evicted(p), age(p)));
        let mut results = Vec::with_capacity(surplus);
        for pod in ended.iter().take(surplus) {
            results.push(self.remove(pod, None).await);
        }
        Error::all(results).map(drop)
    }

    /// Says that a pod has failed, if it did not end, and deletes it. `disrupted` is why, where its owner should know.
    async fn remove(&self, pod: &Pod, disrupted: Option<&str>) -> Result<(), Error> {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let api = self.cx.client().await?.namespaced::<Pod>(namespace);
        if !pods::is_terminal(pod) {
            let mut status = json!({"phase": "Failed"});
            if let Some(message) = disrupted {
                status["conditions"] = json!([{
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": "DeletionByPodGC",
                    "message": message,
                    "lastTransitionTime": Time(self.cx.now()),
                    "observedGeneration": pod.metadata.generation,
                }]);
            }
            let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
            match api.patch_status(name, &Patch::strategic(&patch)?).await {
                Err(e) if e.is_not_found() => return Ok(()),
                done => done.map(drop)?,
            }
        }
        tracing::info!(pod = %pods::key(pod), reason = disrupted, "Deleting a pod that nobody ends");
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: pod.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteOptions::default()
        };
        match api.delete(name, &options).await {
            Err(e) if !e.is_not_found() && !e.is_conflict() => Err(e.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{NodeCondition, NodeSpec, NodeStatus, PodSpec, Taint};

    fn pod(node: &str, terminating: bool) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.deletion_timestamp = terminating.then(|| Time(component::clock::now()));
        pod.spec = Some(PodSpec {
            node_name: Some(node.to_owned()),
            ..PodSpec::default()
        });
        pod
    }

    fn node(out_of_service: bool, ready: bool) -> Node {
        let taint = Taint {
            key: OUT_OF_SERVICE.to_owned(),
            effect: "NoExecute".to_owned(),
            ..Taint::default()
        };
        Node {
            spec: Some(NodeSpec {
                taints: out_of_service.then(|| vec![taint]),
                ..NodeSpec::default()
            }),
            status: Some(NodeStatus {
                conditions: Some(vec![NodeCondition {
                    type_: "Ready".to_owned(),
                    status: if ready { "True" } else { "Unknown" }.to_owned(),
                    ..NodeCondition::default()
                }]),
                ..NodeStatus::default()
            }),
            ..Node::default()
        }
    }

    #[test]
    fn a_pod_without_a_node_goes_once_it_was_deleted() {
        assert_eq!(fate(&pod("", true), None), Fate::Goes);
        assert_eq!(fate(&pod("", false), None), Fate::Stays);
    }

    #[test]
    fn a_pod_of_a_node_that_is_not_there_goes_if_the_server_agrees() {
        assert_eq!(fate(&pod("n", false), None), Fate::GoesIfNodeIsGone);
        assert_eq!(
            fate(&pod("n", true), Some(&node(false, false))),
            Fate::Stays
        );
    }

    #[test]
    fn a_node_out_of_service_ends_no_pods() {
        let gone = node(true, false);
        assert_eq!(fate(&pod("n", true), Some(&gone)), Fate::Goes);
        assert_eq!(fate(&pod("n", false), Some(&gone)), Fate::Stays);
        let back = node(true, true);
        assert_eq!(fate(&pod("n", true), Some(&back)), Fate::Stays);
    }
}
