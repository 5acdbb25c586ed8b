//! What a pod's status says about its scheduling.

use std::sync::Arc;

use component::client::Patch;
use component::clock;
use component::supervisor::{Task, chain};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::Engine;
use crate::framework::PostFiltered;
use crate::pod::PodInfo;

impl Engine {
    /// Writes the condition `PodScheduled=False` and the nomination, if they say something new.
    pub(super) async fn report(
        &self,
        pod: Arc<PodInfo>,
        reason: &'static str,
        message: String,
        made: PostFiltered,
    ) {
        let Some(body) = status_patch(&pod.pod, reason, &message, made.nominate.as_deref()) else {
            return;
        };
        let Ok(slot) = Arc::clone(&self.shared.reports).acquire_owned().await else {
            return;
        };
        let client = self.shared.client.clone();
        self.shared.tasks.spawn(Task::Background, "report", async move {
            let pods = client.namespaced::<Pod>(pod.namespace());
            let written = match Patch::strategic(&body) {
                Ok(patch) => pods.patch_status(pod.key.name(), &patch).await.map(drop),
                Err(e) => Err(e),
            };
            match written {
                Err(e) if !e.is_not_found() => {
                    tracing::warn!(pod = %pod.key, error = chain(&e), "Cannot write the status of a pod");
                }
                _ => {}
            }
            drop(slot);
        });
    }

    /// Notes in a pod's status which node it is about to be bound to.
    pub(super) async fn nominate(&self, pod: &PodInfo, node: &str) {
        if pod.nominated_node() == node {
            return;
        }
        let body =
            json!({ "metadata": { "uid": &*pod.uid }, "status": { "nominatedNodeName": node } });
        let pods = self.shared.client.namespaced::<Pod>(pod.namespace());
        let written = match Patch::strategic(&body) {
            Ok(patch) => pods.patch_status(pod.key.name(), &patch).await.map(drop),
            Err(e) => Err(e),
        };
        if let Err(e) = written {
            tracing::warn!(pod = %pod.key, error = chain(&e), "Cannot nominate a node");
        }
    }
}

/// The change to a pod's status; none if it says all that already.
fn status_patch(pod: &Pod, reason: &str, message: &str, nominate: Option<&str>) -> Option<Value> {
    let status = pod.status.as_ref();
    let mut change = serde_json::Map::new();
    let old = status
        .and_then(|s| s.conditions.as_ref())
        .and_then(|c| c.iter().find(|c| c.type_ == "PodScheduled"));
    let same = old.is_some_and(|c| {
        c.status == "False"
            && c.reason.as_deref() == Some(reason)
            && c.message.as_deref() == Some(message)
            && c.observed_generation == pod.metadata.generation
    });
    if !same {
        let since = old
            .filter(|c| c.status == "False")
            .and_then(|c| c.last_transition_time.clone());
        let mut condition = json!({
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
            "lastProbeTime": null, "lastTransitionTime": since.unwrap_or_else(|| Time(clock::now())),
        });
        if let Some(generation) = pod.metadata.generation {
            condition["observedGeneration"] = generation.into();
        }
        change.insert("conditions".to_owned(), json!([condition]));
    }
    let known = status
        .and_then(|s| s.nominated_node_name.as_deref())
        .unwrap_or_default();
    match nominate {
        Some("") if !known.is_empty() => {
            drop(change.insert("nominatedNodeName".to_owned(), Value::Null))
        }
        Some(node) if node != known => {
            drop(change.insert("nominatedNodeName".to_owned(), node.into()))
        }
        _ => {}
    }
    // The uid makes it a change of this pod only, not of one of the same name that came later.
    (!change.is_empty())
        .then(|| json!({ "metadata": { "uid": pod.metadata.uid }, "status": change }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_status_says_already_is_not_written_again() {
        let condition = json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no",
            "lastTransitionTime": "2026-01-01T00:00:00Z" });
        let pod: Pod = proto::typed::from_json_value(
            json!({ "metadata": { "uid": "u" }, "status": { "conditions": [condition] } }),
        )
        .unwrap();
        assert_eq!(status_patch(&pod, "Unschedulable", "no", Some("")), None);
        let patch = status_patch(&pod, "Unschedulable", "other", Some("n1")).unwrap();
        assert_eq!(
            patch["status"]["conditions"][0]["lastTransitionTime"],
            "2026-01-01T00:00:00Z"
        );
        assert_eq!(patch["status"]["nominatedNodeName"], "n1");
        assert_eq!(patch["metadata"]["uid"], "u");
    }
}
