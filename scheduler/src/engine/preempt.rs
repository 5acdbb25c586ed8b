//! Preemption, carried out: victims are told and deleted while the pod that they go for waits.
//!
//! Invariant: from the decision until the last request is answered the pod is noted as making room, so
//! that it is not tried, and does not look for further victims, before the first are gone.

use std::sync::Arc;

use component::client::{Error, Patch};
use component::clock;
use component::events::{Event as Told, Type, reference};
use component::supervisor::{Task, chain};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions, Time};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Engine;
use crate::framework::PostFiltered;
use crate::pod::PodInfo;
use crate::profile::Asked;

/// Victims of one pod that are deleted at a time.
const AT_A_TIME: usize = 16;

/// What has to be done to make room for a pod.
struct Preemption {
    pod: Arc<PodInfo>,
    node: String,
    victims: Vec<Arc<PodInfo>>,
    /// Less important pods that were cleared to come to the node.
    outdone: Vec<Arc<PodInfo>>,
}

impl Engine {
    /// Begins to make room for a pod, if that was decided. The pod must be in flight.
    pub(super) fn preempt(&self, pod: &Arc<PodInfo>, made: &PostFiltered) {
        let Some(node) = made.nominate.as_ref().filter(|_| !made.victims.is_empty()) else {
            return;
        };
        let metrics = &self.shared.metrics;
        metrics.victims(made.victims.len(), made.violations);
        let victims = made.victims.iter().filter(|v| !v.terminating);
        let victims: Vec<_> = victims.cloned().collect();
        if victims.is_empty() {
            return;
        }
        let outdone = {
            let state = &mut *self.shared.state.lock();
            state.cluster.disruption_mut().begin(&pod.uid);
            let cleared = state.queue.nominated().on(node).iter();
            cleared
                .filter(|p| p.priority < pod.priority)
                .cloned()
                .collect()
        };
        let preemption = Preemption {
            pod: Arc::clone(pod),
            node: node.clone(),
            victims,
            outdone,
        };
        let engine = self.clone();
        self.shared
            .tasks
            .spawn(Task::Background, "preempt", async move {
                engine.make_way(preemption).await;
            });
    }

    async fn make_way(&self, preemption: Preemption) {
        let began = Instant::now();
        let mut fine = true;
        // They may find another place at once, and need not wait until the victims are gone.
        for pod in &preemption.outdone {
            if let Err(error) = self.clear_nomination(pod).await {
                tracing::warn!(pod = %pod.key, error = chain(&error), "Cannot take a nomination back");
                fine = false;
            }
        }
        let deleted = self.delete_victims(&preemption).await;
        if let Err(error) = &deleted {
            tracing::warn!(pod = %preemption.pod.key, error = chain(error), "Cannot preempt pods");
        }
        {
            let shared = &*self.shared;
            let state = &mut *shared.state.lock();
            state.cluster.disruption_mut().end(&preemption.pod.uid);
            // No deletion will be seen that would wake the pod.
            if !fine || !matches!(deleted, Ok(Gone::FromServer)) {
                let asked = Asked {
                    profiles: &shared.profiles,
                    cluster: &state.cluster,
                };
                state.queue.activate(&preemption.pod, &asked);
                shared.wake.notify_one();
            }
        }
        let metrics = &self.shared.metrics;
        metrics.preempted(fine && deleted.is_ok(), began.elapsed().as_secs_f64());
    }

    /// Deletes victims at the same time, but the last one only after all others.
    async fn delete_victims(&self, preemption: &Preemption) -> Result<Gone, Error> {
        let Some((last, others)) = preemption.victims.split_last() else {
            return Ok(Gone::FromServer);
        };
        for some in others.chunks(AT_A_TIME) {
            let requests: Vec<_> = some
                .iter()
                .map(|v| self.delete_victim(preemption, v))
                .collect();
            try_join_all(requests).await?;
        }
        // From here on its disappearance is enough for the pod to be tried.
        self.shared
            .state
            .lock()
            .cluster
            .disruption_mut()
            .last(&preemption.pod.uid, &last.uid);
        self.delete_victim(preemption, last).await
    }

    async fn delete_victim(
        &self,
        preemption: &Preemption,
        victim: &PodInfo,
    ) -> Result<Gone, Error> {
        let gone = if self.cancel_binding(&victim.uid) {
            Gone::FromMemory
        } else {
            match self.delete(&preemption.pod, victim).await {
                Ok(()) => {}
                // It went by itself, or another pod has its name now.
                Err(e) if e.is_not_found() || e.is_conflict() => return Ok(Gone::FromServer),
                Err(e) => return Err(e),
            }
            Gone::FromServer
        };
        tracing::info!(pod = %preemption.pod.key, victim = %victim.key, node = preemption.node, "Preempted pod");
        if let Some(recorder) = self.recorder(&preemption.pod) {
            let memory = match gone {
                Gone::FromMemory => " (in kube-scheduler memory).",
                Gone::FromServer => "",
            };
            let (uid, node) = (&preemption.pod.uid, &preemption.node);
            recorder.event(Told {
                regarding: reference(&*victim.pod),
                related: Some(reference(&*preemption.pod.pod)),
                kind: Type::Normal,
                reason: "Preempted".to_owned(),
                action: "Preempting".to_owned(),
                message: format!("Preempted by pod {uid} on node {node}{memory}"),
            });
        }
        Ok(gone)
    }

    async fn delete(&self, preemptor: &PodInfo, victim: &PodInfo) -> Result<(), Error> {
        let pods = self.shared.client.namespaced::<Pod>(victim.namespace());
        let name = victim.key.name();
        if let Some(body) = disruption_target(&victim.pod, preemptor.scheduler_name()) {
            pods.patch_status(name, &Patch::strategic(&body)?).await?;
        }
        let options = DeleteOptions {
            preconditions: Some(Preconditions {
                uid: Some(victim.uid.to_string()),
                ..Preconditions::default()
            }),
            ..DeleteOptions::default()
        };
        pods.delete(name, &options).await
    }

    async fn clear_nomination(&self, pod: &PodInfo) -> Result<(), Error> {
        if pod.nominated_node().is_empty() {
            return Ok(());
        }
        let body =
            json!({ "metadata": { "uid": &*pod.uid }, "status": { "nominatedNodeName": null } });
        let pods = self.shared.client.namespaced::<Pod>(pod.namespace());
        let written = pods
            .patch_status(pod.key.name(), &Patch::strategic(&body)?)
            .await;
        match written {
            Err(e) if !e.is_not_found() && !e.is_conflict() => Err(e),
            _ => Ok(()),
        }
    }
}

/// How a victim went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Gone {
    /// It was deleted, which will be seen.
    FromServer,
    /// It had a place only in the mind of this scheduler.
    FromMemory,
}

/// The change to a victim's status that tells why it goes; none if it says that already.
fn disruption_target(victim: &Pod, scheduler: &str) -> Option<Value> {
    let message = format!("{scheduler}: preempting to accommodate a higher priority pod");
    let status = victim.status.as_ref();
    let old = status
        .and_then(|s| s.conditions.as_ref())
        .and_then(|c| c.iter().find(|c| c.type_ == "DisruptionTarget"))
        .filter(|c| c.status == "True");
    let same = old.is_some_and(|c| {
        c.reason.as_deref() == Some("PreemptionByScheduler")
            && c.message.as_deref() == Some(&message)
    });
    if same {
        return None;
    }
    let since = old.and_then(|c| c.last_transition_time.clone());
    let mut condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": message,
        "lastProbeTime": null, "lastTransitionTime": since.unwrap_or_else(|| Time(clock::now())),
    });
    if let Some(generation) = victim.metadata.generation {
        condition["observedGeneration"] = generation.into();
    }
    Some(
        json!({ "metadata": { "uid": victim.metadata.uid }, "status": { "conditions": [condition] } }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_victim_is_told_why_once() {
        let mut pod: Pod =
            proto::typed::from_json_value(json!({ "metadata": { "uid": "u", "generation": 3 } }))
                .unwrap();
        let change = disruption_target(&pod, "default-scheduler").unwrap();
        let condition = &change["status"]["conditions"][0];
        assert_eq!(condition["reason"], "PreemptionByScheduler");
        assert_eq!(condition["observedGeneration"], 3);
        assert_eq!(
            condition["message"],
            "default-scheduler: preempting to accommodate a higher priority pod"
        );
        pod.status = proto::typed::from_json_value(change["status"].clone()).unwrap();
        assert_eq!(disruption_target(&pod, "default-scheduler"), None);
    }
}
