//! From the volumes that were found to those that are bound.
//!
//! Volumes and claims are spoken for in memory at once, written before the pod is bound, and waited for:
//! the volume controller, or a provisioner, does the rest.

use std::sync::Arc;
use std::time::Duration;

use component::client::{Error, Patch};
use component::supervisor::chain;
use component::volumes::{BOUND_BY_CONTROLLER, SELECTED_NODE, is_for};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;
use serde_json::json;

use super::find::Found;
use crate::cluster::volumes::{is_bound, volume_of};
use crate::cluster::{Cluster, NodeIndex};
use crate::framework::{Binding, Reservation};
use crate::plugins::node_affinity::NodeSelector;
use crate::selector::Labels;

/// What was spoken for.
pub(super) struct Reserved {
    /// Volumes, changed to be bound to their claims.
    bindings: Vec<(Arc<PersistentVolumeClaim>, PersistentVolume)>,
    /// Claims, changed so that their volumes are made for the node.
    provisions: Vec<PersistentVolumeClaim>,
    timeout: Duration,
    /// The versions that were written, volumes first.
    written: Mutex<Vec<String>>,
}

fn key(meta: &ObjectMeta) -> String {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    format!("{}/{}", text(&meta.namespace), text(&meta.name))
}

fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

fn annotate(meta: &mut ObjectMeta, key: &str, value: &str) {
    meta.annotations
        .get_or_insert_default()
        .insert(key.to_owned(), value.to_owned());
}

/// A volume as it is when it is bound to a claim.
fn bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> PersistentVolume {
    let mut bound = volume.clone();
    if !is_for(volume, claim) {
        annotate(&mut bound.metadata, BOUND_BY_CONTROLLER, "yes");
    }
    let meta = &claim.metadata;
    let spec = bound.spec.get_or_insert_default();
    let known = spec.claim_ref.as_ref();
    if !known.is_some_and(|r| r.uid == meta.uid && r.uid.is_some()) {
        spec.claim_ref = Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("PersistentVolumeClaim".to_owned()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            field_path: None,
        });
    }
    bound
}

/// Speaks for what was found on a node.
///
/// # Errors
/// If an object changed meanwhile; nothing is spoken for then.
pub(super) fn reserve(
    cluster: &mut Cluster,
    node: NodeIndex,
    found: &Found,
    timeout: Duration,
) -> Result<Reserved, String> {
    let node = cluster.name(node).to_owned();
    let volumes = cluster.volumes_mut();
    let mut reserved = Reserved {
        bindings: Vec::new(),
        provisions: Vec::new(),
        timeout,
        written: Mutex::default(),
    };
    let mut fine = true;
    for (claim, volume) in &found.bindings {
        let bound = bound_to(volume, claim);
        fine &= volumes.volumes.assume(name(&bound.metadata), bound.clone());
        reserved.bindings.push((Arc::clone(claim), bound));
    }
    for provision in &found.provisions {
        let mut claim = (*provision.claim).clone();
        annotate(&mut claim.metadata, SELECTED_NODE, &node);
        fine &= volumes.claims.assume(&key(&claim.metadata), claim.clone());
        reserved.provisions.push(claim);
    }
    if fine {
        return Ok(reserved);
    }
    reserved.undo(cluster);
    Err("a volume or claim is out of sync".to_owned())
}

/// Where a binding is.
enum Progress {
    Done,
    Waits,
}

impl Reserved {
    /// Writes volumes and claims.
    async fn write(&self, binding: Binding<'_>) -> Result<(), Error> {
        for (_, volume) in &self.bindings {
            let meta = &volume.metadata;
            let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
            let mut change = json!({
                "metadata": { "uid": meta.uid, "resourceVersion": meta.resource_version },
                "spec": { "claimRef": reference },
            });
            let annotations = meta.annotations.as_ref();
            if let Some(value) = annotations.and_then(|a| a.get(BOUND_BY_CONTROLLER)) {
                change["metadata"]["annotations"] = json!({ BOUND_BY_CONTROLLER: value });
            }
            let volumes = binding.client.all::<PersistentVolume>();
            let written = volumes.patch(name(meta), &Patch::merge(&change)?).await?;
            self.note(written.metadata);
        }
        for claim in &self.provisions {
            let meta = &claim.metadata;
            let change = json!({ "metadata": {
                "uid": meta.uid, "resourceVersion": meta.resource_version,
                "annotations": { SELECTED_NODE: binding.node },
            } });
            let namespace = meta.namespace.as_deref().unwrap_or_default();
            let claims = binding
                .client
                .namespaced::<PersistentVolumeClaim>(namespace);
            let written = claims.patch(name(meta), &Patch::merge(&change)?).await?;
            self.note(written.metadata);
        }
        Ok(())
    }

    fn note(&self, meta: ObjectMeta) {
        let version = meta.resource_version.unwrap_or_default();
        self.written.lock().push(version);
    }

    /// Looks whether all is bound.
    ///
    /// # Errors
    /// If it never will be.
    fn progress(&self, cluster: &Cluster, binding: Binding<'_>) -> Result<Progress, String> {
        let node = cluster.node(binding.node).and_then(|n| cluster.facts(n));
        let node = node.ok_or_else(|| format!("failed to get node {:?}", binding.node))?;
        if cluster.placed(&binding.pod.uid).is_none() {
            return Err("pod does not exist any more".to_owned());
        }
        let written = self.written.lock();
        let mut versions = written.iter();
        let all = cluster.volumes();
        for (claim, volume) in &self.bindings {
            let version = versions.next().map_or("", String::as_str);
            let (name, key) = (name(&volume.metadata), key(&claim.metadata));
            let lost =
                |kind: &str, of: &str| format!("failed to check binding: {kind} {of:?} not found");
            let volume = all.volumes.stored(name);
            let volume = volume.ok_or_else(|| lost("persistentvolume", name))?;
            let claim = all.claims.stored(&key);
            let claim = claim.ok_or_else(|| lost("persistentvolumeclaim", &key))?;
            if older(&volume.metadata, version) {
                return Ok(Progress::Waits);
            }
            check_affinity(volume, &node.labels, binding.node)?;
            let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
            if reference
                .and_then(|r| r.uid.as_deref())
                .unwrap_or_default()
                .is_empty()
            {
                return Err(format!("ClaimRef got reset for pv {name:?}"));
            }
            if !is_bound(claim) {
                return Ok(Progress::Waits);
            }
        }
        for claim in &self.provisions {
            let version = versions.next().map_or("", String::as_str);
            let key = key(&claim.metadata);
            let Some(claim) = all.claims.stored(&key) else {
                return Err(format!(
                    "failed to check provisioning pvc: persistentvolumeclaim {key:?} not found"
                ));
            };
            if older(&claim.metadata, version) {
                return Ok(Progress::Waits);
            }
            let name = name(&claim.metadata);
            let annotations = claim.metadata.annotations.as_ref();
            let selected = annotations.and_then(|a| a.get(SELECTED_NODE));
            if selected.map(String::as_str) != Some(binding.node) {
                return Err(match annotations {
                    // The provisioner gave up, and wants another node.
                    Some(_) => format!("provisioning failed for PVC {name:?}"),
                    None => format!("selectedNode annotation reset for PVC {name:?}"),
                });
            }
            let volume = volume_of(claim);
            if !volume.is_empty() {
                match all.volumes.stored(volume) {
                    Some(volume) => check_affinity(volume, &node.labels, binding.node)?,
                    None => return Ok(Progress::Waits),
                }
            }
            if !is_bound(claim) {
                return Ok(Progress::Waits);
            }
        }
        Ok(Progress::Done)
    }

    async fn wait(&self, binding: Binding<'_>) -> Result<(), String> {
        loop {
            let changed = binding.observed.changed();
            let mut progress = Ok(Progress::Waits);
            binding
                .observed
                .look(&mut |cluster| progress = self.progress(cluster, binding));
            match progress? {
                Progress::Done => return Ok(()),
                Progress::Waits => changed.await,
            }
        }
    }
}

/// Whether an object is older than what was written.
fn older(meta: &ObjectMeta, written: &str) -> bool {
    let number = |v: &str| v.parse::<u64>().unwrap_or(0);
    number(meta.resource_version.as_deref().unwrap_or_default()) < number(written)
}

fn check_affinity(volume: &PersistentVolume, labels: &Labels, node: &str) -> Result<(), String> {
    let affinity = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref());
    let Some(required) = affinity.and_then(|a| a.required.as_ref()) else {
        return Ok(());
    };
    if NodeSelector::of(required).matches("", labels) {
        return Ok(());
    }
    let name = name(&volume.metadata);
    Err(format!(
        "pv {name:?} node affinity doesn't match node {node:?}: no matching NodeSelectorTerms"
    ))
}

impl Reservation for Reserved {
    fn prepare<'a>(&'a self, binding: Binding<'a>) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            self.write(binding).await.map_err(|e| chain(&e))?;
            match tokio::time::timeout(self.timeout, self.wait(binding)).await {
                Ok(done) => done.map_err(|e| format!("binding volumes: {e}")),
                Err(_) => Err("binding volumes: context deadline exceeded".to_owned()),
            }
        })
    }

    fn undo(&self, cluster: &mut Cluster) {
        let all = cluster.volumes_mut();
        for (_, volume) in &self.bindings {
            let meta = &volume.metadata;
            all.volumes
                .restore(name(meta), meta.resource_version.as_deref());
        }
        for claim in &self.provisions {
            let meta = &claim.metadata;
            all.claims
                .restore(&key(meta), meta.resource_version.as_deref());
        }
    }
}
