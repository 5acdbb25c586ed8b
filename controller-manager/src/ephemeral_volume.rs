//! Claims for pods' generic ephemeral volumes (`ephemeral-volume-controller`).
//!
//! Source: `pkg/controller/volume/ephemeral`.

use std::sync::Arc;

use component::controller::Next;
use component::events::{Recorder, reference};
use component::informer::{Event, Key, Lister};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::context::Context;
use crate::error::Error;
use crate::indexes::{claim, pods_by_claim};
use crate::owners;

struct Volumes {
    cx: Context,
    pods: Lister<Pod>,
    claims: Lister<PersistentVolumeClaim>,
    recorder: Recorder,
}

/// Starts the controller.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Key>("ephemeral_volume");
    let (pods, claims) = (cx.informer::<Pod>(), cx.informer::<PersistentVolumeClaim>());
    let this = Arc::new(Volumes {
        cx: cx.clone(),
        pods: pods.lister(),
        claims: claims.lister(),
        recorder: cx.recorder_as("ephemeral_volume"),
    });
    let wake = queue.clone();
    pods.subscribe(move |key, event| {
        if let Event::Added(pod) = event
            && needs_claims(pod)
        {
            wake.add(key.clone());
        }
    });
    let (wake, pods, by_claim) = (queue.clone(), pods.lister(), pods_by_claim(&pods));
    claims.subscribe(move |key, event| {
        if matches!(event, Event::Deleted(_)) {
            for pod in pods.indexed(by_claim, key.as_str()) {
                if needs_claims(&pod) {
                    wake.add(Key::of(&pod.metadata));
                }
            }
        }
    });
    let workers = cx
        .config()
        .ephemeral_volume
        .concurrent_ephemeral_volume_syncs;
    cx.run(workers, &queue, move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    });
    Ok(())
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_deref());
    volumes
        .unwrap_or_default()
        .iter()
        .filter(|v| v.ephemeral.is_some())
}

fn needs_claims(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && volumes(pod).next().is_some()
}

impl Volumes {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(pod) = self.pods.by_key(key).filter(|p| needs_claims(p)) else {
            return Ok(Next::Done);
        };
        let mut next = Next::Done;
        for volume in volumes(&pod) {
            match self.ensure(&pod, volume).await {
                Ok(Next::Done) => {}
                Ok(later) => next = later,
                Err(e) => {
                    let message = format!("ephemeral volume {}: {}", volume.name, e.chain());
                    self.recorder
                        .warning(&reference(&*pod), "FailedBinding", &message);
                    return Err(e);
                }
            }
        }
        Ok(next)
    }

    async fn ensure(&self, pod: &Pod, volume: &Volume) -> Result<Next, Error> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = claim(pod, volume).unwrap_or_default();
        if let Some(claim) = self.claims.get(namespace, &name) {
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            if owners::is_controlled_by(&claim.metadata, uid) {
                return Ok(Next::Done);
            }
            let pod = Key::of(&pod.metadata);
            return Err(Error::Unusable(format!(
                "PVC {namespace}/{name} was not created for pod {pod} (pod is not owner)"
            )));
        }
        let Some(wanted) = wanted(pod, volume, name) else {
            return Ok(Next::Done);
        };
        let api = self
            .cx
            .client()
            .await?
            .namespaced::<PersistentVolumeClaim>(namespace);
        match api.create(&wanted).await {
            // Whose it is, the cache will tell.
            Err(e) if e.is_already_exists() => Ok(Next::Again),
            Err(e) => Err(e.into()),
            Ok(_) => Ok(Next::Done),
        }
    }
}

/// The claim of a volume, out of its template.
fn wanted(pod: &Pod, volume: &Volume, name: String) -> Option<PersistentVolumeClaim> {
    let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
    let meta = template.metadata.clone().unwrap_or_default();
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: pod.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            owner_references: Some(vec![owners::reference(pod)]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec.clone()),
        status: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_is_named_after_pod_and_volume_and_belongs_to_the_pod() {
        let pod: Pod = proto::typed::from_json_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"containers": [], "volumes": [
                {"name": "plain", "emptyDir": {}},
                {"name": "v", "ephemeral": {"volumeClaimTemplate": {
                    "metadata": {"labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteOnce"]}}}}]}
        }))
        .unwrap();
        assert!(needs_claims(&pod));
        let volume = volumes(&pod).next().unwrap();
        let claim = wanted(&pod, volume, claim(&pod, volume).unwrap()).unwrap();
        assert_eq!(claim.metadata.name.as_deref(), Some("p-v"));
        assert!(owners::is_controlled_by(&claim.metadata, "u"));
        assert_eq!(claim.metadata.labels.unwrap()["a"], "b");
        assert_eq!(claim.spec.unwrap().access_modes.unwrap(), ["ReadWriteOnce"]);
    }
}
