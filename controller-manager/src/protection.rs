//! Volumes and claims that are in use do not go (`persistentvolumeclaim-protection-controller`,
//! `persistentvolume-protection-controller`).
//!
//! Owns one finalizer of each kind, and the claims' condition `Unused`.
//!
//! Source: `pkg/controller/volume/{pvcprotection,pvprotection}`.

use std::sync::Arc;

use component::client::{Api, ListParams};
use component::controller::Next;
use component::informer::{Event, Index, Key, Lister};
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimCondition, Pod,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::context::Context;
use crate::error::Error;
use crate::finalizer::{self, Need, need};
use crate::indexes::{claim, claims, pods_by_claim};
use crate::{owners, update};

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";
const UNUSED: &str = "Unused";

/// Starts the controller of volumes.
///
/// # Errors
/// None.
pub fn start_volumes(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Key>("pvprotection");
    let volumes = cx.informer::<PersistentVolume>();
    let wake = queue.clone();
    volumes.subscribe(move |key, event| {
        let needs = need(&event.object().metadata, VOLUME) != Need::Nothing;
        if needs && !matches!(event, Event::Deleted(_)) {
            wake.add(key.clone());
        }
    });
    let (context, volumes) = (cx.clone(), volumes.lister());
    cx.run(1, &queue, move |key| {
        let (cx, volumes) = (context.clone(), volumes.clone());
        async move { volume(&cx, &volumes, &key).await }
    });
    Ok(())
}

async fn volume(
    cx: &Context,
    volumes: &Lister<PersistentVolume>,
    key: &Key,
) -> Result<Next, Error> {
    let Some(volume) = volumes.by_key(key) else {
        return Ok(Next::Done);
    };
    let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
    let add = match need(&volume.metadata, VOLUME) {
        Need::Add => true,
        Need::Remove if phase != Some("Bound") => false,
        _ => return Ok(Next::Done),
    };
    let api = cx.client().await?.all::<PersistentVolume>();
    finalizer::set(&api, &*volume, VOLUME, add).await?;
    Ok(Next::Done)
}

struct Claims {
    cx: Context,
    claims: Lister<PersistentVolumeClaim>,
    pods: Lister<Pod>,
    by_claim: Index,
    /// Whether the condition of claims without pods is kept.
    tell_unused: bool,
}

/// Starts the controller of claims.
///
/// # Errors
/// None.
pub fn start_claims(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Key>("pvcprotection");
    let (all, pods) = (cx.informer::<PersistentVolumeClaim>(), cx.informer::<Pod>());
    let tell_unused = cx
        .features()
        .enabled("PersistentVolumeClaimUnusedSinceTime");
    let this = Arc::new(Claims {
        cx: cx.clone(),
        claims: all.lister(),
        by_claim: pods_by_claim(&pods),
        pods: pods.lister(),
        tell_unused,
    });
    let wake = queue.clone();
    all.subscribe(move |key, event| {
        let claim = event.object();
        let needs = need(&claim.metadata, CLAIM) != Need::Nothing
            || (tell_unused && condition(claim).is_none());
        if needs && !matches!(event, Event::Deleted(_)) {
            wake.add(key.clone());
        }
    });
    let wake = queue.clone();
    pods.subscribe(move |_, event| {
        let pod = event.object();
        let helps = tell_unused
            || matches!(event, Event::Deleted(_))
            || is_terminated(pod)
            || node(pod).is_none();
        if !helps || matches!(event, Event::Updated { old, new } if same(old, new)) {
            return;
        }
        for claim in claims(pod) {
            wake.add(Key::from(claim.as_str()));
        }
    });
    cx.run(30, &queue, move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    });
    Ok(())
}

fn node(pod: &Pod) -> Option<&String> {
    let name = pod.spec.as_ref()?.node_name.as_ref()?;
    (!name.is_empty()).then_some(name)
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

/// Whether two states of a pod use claims alike.
fn same(old: &Pod, new: &Pod) -> bool {
    old.metadata.uid == new.metadata.uid
        && node(old) == node(new)
        && phase(old) == phase(new)
        && old.metadata.deletion_timestamp == new.metadata.deletion_timestamp
        && old.metadata.deletion_grace_period_seconds == new.metadata.deletion_grace_period_seconds
        && is_terminated(old) == is_terminated(new)
}

/// Whether no container of a pod runs any more, nor ever will.
pub(crate) fn is_terminated(pod: &Pod) -> bool {
    let ended = matches!(phase(pod), Some("Succeeded" | "Failed"));
    let statuses = pod
        .status
        .as_ref()
        .and_then(|s| s.container_statuses.as_ref());
    let running = statuses.into_iter().flatten().any(|c| {
        let state = c.state.as_ref();
        state.is_none_or(|s| s.terminated.is_none() && s.waiting.is_none())
    });
    ended || (pod.metadata.deletion_timestamp.is_some() && !running)
}

/// Whether the kubelet is done with a pod.
fn is_shut_down(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
        && pod.metadata.deletion_grace_period_seconds == Some(0)
}

fn condition(claim: &PersistentVolumeClaim) -> Option<&PersistentVolumeClaimCondition> {
    let conditions = claim.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == UNUSED)
}

/// The pod's volumes that need this claim: whether one does, and whether one does that the claim was
/// made for.
fn references(pod: &Pod, wanted: &PersistentVolumeClaim) -> (bool, bool) {
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_deref());
    let name = wanted.metadata.name.as_deref();
    let own = owners::is_controlled_by(
        &wanted.metadata,
        pod.metadata.uid.as_deref().unwrap_or_default(),
    );
    let needing = || {
        let all = volumes.unwrap_or_default().iter();
        all.filter(|v| claim(pod, v).as_deref() == name)
    };
    (
        needing().any(|v| v.persistent_volume_claim.is_some()),
        needing().any(|v| v.ephemeral.is_some()) && own,
    )
}

/// Whether a pod keeps a claim from going.
fn keeps(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let (named, own) = references(pod, claim);
    node(pod).is_some() && (named || (own && !is_shut_down(pod)))
}

/// Whether a pod makes a claim used.
fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let (named, own) = references(pod, claim);
    !is_terminated(pod) && (named || own)
}

impl Claims {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(claim) = self.claims.by_key(key) else {
            return Ok(Next::Done);
        };
        let bound = claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
        if self.tell_unused && bound && claim.metadata.deletion_timestamp.is_none() {
            self.tell(&claim).await?;
        }
        match need(&claim.metadata, CLAIM) {
            Need::Add => self.finalize(&claim, true).await?,
            Need::Remove if !self.is_used(&claim, keeps).await? => {
                self.finalize(&claim, false).await?;
            }
            _ => {}
        }
        Ok(Next::Done)
    }

    async fn api(
        &self,
        claim: &PersistentVolumeClaim,
    ) -> Result<Api<PersistentVolumeClaim>, Error> {
        let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
        Ok(self.cx.client().await?.namespaced(namespace))
    }

    async fn finalize(&self, claim: &PersistentVolumeClaim, add: bool) -> Result<(), Error> {
        finalizer::set(&self.api(claim).await?, claim, CLAIM, add).await
    }

    /// Says whether pods use the claim.
    async fn tell(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let known = condition(claim).map(|c| c.status.as_str());
        // What the cache says is not asked of the server again: only the answer `unused` needs that.
        let used = self.is_used(claim, uses).await?;
        let (status, reason, message) = if used {
            (
                "False",
                "PodUsingPVC",
                "A pod is currently referencing this PVC",
            )
        } else {
            (
                "True",
                "NoPodsUsingPVC",
                "No pods are currently referencing this PVC",
            )
        };
        let right = if used {
            known.is_some_and(|k| k != "True")
        } else {
            known == Some("True")
        };
        if right {
            return Ok(());
        }
        let said = PersistentVolumeClaimCondition {
            type_: UNUSED.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: Some(Time(self.cx.now())),
            last_probe_time: None,
        };
        update::status(&self.api(claim).await?, claim, |c| {
            let status = c.status.get_or_insert_default();
            let conditions = status.conditions.get_or_insert_default();
            conditions.retain(|c| c.type_ != UNUSED);
            conditions.push(said);
        })
        .await?;
        Ok(())
    }

    /// Whether a pod uses the claim; if the cache knows none, the server is asked.
    async fn is_used(
        &self,
        claim: &PersistentVolumeClaim,
        by: fn(&Pod, &PersistentVolumeClaim) -> bool,
    ) -> Result<bool, Error> {
        let key = Key::of(&claim.metadata);
        let cached = self.pods.indexed(self.by_claim, key.as_str());
        if cached.iter().any(|pod| by(pod, claim)) {
            return Ok(true);
        }
        let api = self.cx.client().await?.namespaced::<Pod>(key.namespace());
        let live = api.list(&ListParams::default()).await?;
        Ok(live.items.iter().any(|pod| by(pod, claim)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value, meta: serde_json::Value) -> Pod {
        let mut pod =
            json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec});
        pod["spec"]["containers"] = json!([]);
        for (key, value) in meta.as_object().unwrap() {
            pod["metadata"][key] = value.clone();
        }
        proto::typed::from_json_value(pod).unwrap()
    }

    fn claim_named(name: &str) -> PersistentVolumeClaim {
        proto::typed::from_json_value(
            json!({"metadata": {"name": name, "namespace": "ns", "ownerReferences": [
            {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}]}}),
        )
        .unwrap()
    }

    #[test]
    fn a_scheduled_pod_keeps_its_claims() {
        let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
        let bound = pod(json!({"nodeName": "n", "volumes": volumes}), json!({}));
        assert!(keeps(&bound, &claim_named("c")) && !keeps(&bound, &claim_named("d")));
        let waiting = pod(json!({"volumes": volumes}), json!({}));
        assert!(!keeps(&waiting, &claim_named("c")) && uses(&waiting, &claim_named("c")));
    }

    #[test]
    fn a_pods_own_claim_goes_when_the_kubelet_is_done() {
        let spec = json!({"nodeName": "n", "volumes": [{"name": "v", "ephemeral": {}}]});
        let claim = claim_named("p-v");
        assert!(keeps(&pod(spec.clone(), json!({})), &claim));
        let gone =
            json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0});
        assert!(!keeps(&pod(spec, gone), &claim));
    }
}
