//! Pods of silent nodes: they are not ready, whatever they said last.

use component::client::Patch;
use component::controller::Next;
use component::events::reference;
use component::informer::Key;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use super::{Lifecycle, conditions, node_of};
use crate::context::Context;
use crate::error::Error;

impl Lifecycle {
    /// Tells all pods of a node that is not ready.
    pub(super) async fn tell_pods(&self, node: &Node) -> Result<(), Error> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        if conditions::ready(node) != Some("True") {
            let mut results = Vec::new();
            for pod in self.pods.indexed(self.by_node, name) {
                results.push(self.tell(&pod).await);
            }
            Error::all(results)?;
        }
        self.health.lock().set_untold(name, false);
        Ok(())
    }

    /// A pod came to its node: perhaps the node is silent.
    pub(super) async fn pod_came(&self, key: &Key) -> Result<Next, Error> {
        let Some(pod) = self.pods.by_key(key) else {
            return Ok(Next::Done);
        };
        let name = node_of(&pod).map(String::as_str).unwrap_or_default();
        // Without the node there is nothing to say; with it, its own turn comes first.
        let Some(node) = self.nodes.get("", name) else {
            return Ok(Next::Done);
        };
        let known = self.health.lock().knows(name);
        if known && conditions::ready(&node).is_some_and(|ready| ready != "True") {
            self.tell(&pod).await?;
        }
        Ok(Next::Done)
    }

    async fn tell(&self, pod: &Pod) -> Result<(), Error> {
        let Some(patch) = not_ready(pod, &self.cx)? else {
            return Ok(());
        };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let api = self.cx.client().await?.namespaced::<Pod>(namespace);
        match api.patch_status(name, &patch).await {
            Ok(_) => {
                let about = reference(pod);
                self.recorder
                    .warning(&about, "NodeNotReady", "Node is not ready");
                Ok(())
            }
            Err(e) if e.is_not_found() => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

/// The patch that says so; none if the pod says so, or never said that it is ready.
fn not_ready(pod: &Pod, cx: &Context) -> Result<Option<Patch>, Error> {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let ready = conditions.and_then(|c| c.iter().find(|c| c.type_ == "Ready"));
    if ready.is_none_or(|c| c.status == "False") {
        return Ok(None);
    }
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(cx.now());
    let patch = json!({
        "metadata": {"uid": pod.metadata.uid},
        "status": {"conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": now},
        ]},
    });
    Ok(Some(Patch::strategic(&patch)?))
}
