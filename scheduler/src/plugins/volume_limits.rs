//! `NodeVolumeLimits`: a node takes no more volumes of a CSI driver than the driver can attach.
//!
//! Volumes of in-tree kinds, which upstream counts for the drivers that replaced them, are not counted.

use std::collections::HashMap;

use component::volumes::class_of_claim;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::CSINode;

use super::volumes::{asks_for, not_for_pod};
use crate::cluster::volumes::{Storage, Volumes, volume_of};
use crate::cluster::{Cluster, NodeIndex};
use crate::framework::{
    Action, Change, Cycle, Event, Interest, Plugin, Prepared, Rejection, Resource, State, Verdict,
};
use crate::pod::PodInfo;

pub(super) struct VolumeLimits {
    /// Drivers may keep pods from nodes that lack them (the gate `VolumeLimitScaling`).
    pub(super) scaling: bool,
}

/// Drivers by the unique name of a volume.
type Attached = HashMap<String, String>;

/// How many volumes of each driver a node takes.
fn limits(node: Option<&CSINode>) -> HashMap<&str, i64> {
    let drivers = node.into_iter().flat_map(|n| &n.spec.drivers);
    let limit = |d: &k8s_openapi::api::storage::v1::CSINodeDriver| {
        d.allocatable.as_ref().and_then(|a| a.count)
    };
    drivers
        .filter_map(|d| Some((d.name.as_str(), i64::from(limit(d)?))))
        .collect()
}

/// The driver of a claim's volume, and a name for the volume that no other has.
fn driver_of(volumes: &Volumes, claim: &PersistentVolumeClaim) -> Option<(String, String)> {
    if let Some(volume) = volumes.volumes.get(volume_of(claim)) {
        let csi = volume.spec.as_ref()?.csi.as_ref()?;
        let named = !csi.driver.is_empty() && !csi.volume_handle.is_empty();
        return named.then(|| {
            let unique = format!("{}/{}", csi.driver, csi.volume_handle);
            (csi.driver.clone(), unique)
        });
    }
    // Not there yet: what the class will make counts under the name of the claim.
    let class = volumes.class(class_of_claim(claim))?;
    let meta = &claim.metadata;
    let handle = [&meta.namespace, &meta.name].map(|t| t.as_deref().unwrap_or_default());
    let unique = format!("{}/claim {}", class.provisioner, handle.join("/"));
    (!class.provisioner.is_empty()).then(|| (class.provisioner.clone(), unique))
}

/// Adds the volumes of a pod. A pod that is new has to have all its claims.
fn add(
    volumes: &Volumes,
    pod: &PodInfo,
    new: bool,
    attached: &mut Attached,
) -> Result<(), Rejection> {
    for claim in &pod.claims {
        if claim.name.is_empty() {
            return Err(Rejection::error("PersistentVolumeClaim had no name"));
        }
        let key = pod.claim_key(claim);
        let Some(known) = volumes.claims.get(&key) else {
            if new {
                let name = &claim.name;
                return Err(Rejection::unresolvable(format!(
                    "looking up PVC {key}: persistentvolumeclaim {name:?} not found"
                )));
            }
            continue;
        };
        if claim.ephemeral
            && let Some(reason) = not_for_pod(pod, known)
        {
            return Err(Rejection::error(reason));
        }
        if let Some((driver, unique)) = driver_of(volumes, known) {
            attached.insert(unique, driver);
        }
    }
    Ok(())
}

/// Volumes that are attached to a node, whether pods use them or not.
fn attachments<'a>(volumes: &'a Volumes, node: &'a str) -> impl Iterator<Item = (String, &'a str)> {
    volumes.attachments(node).filter_map(|a| {
        let name = a.spec.source.persistent_volume_name.as_deref()?;
        let volume = volumes.volumes.get(name)?;
        let csi = volume.spec.as_ref()?.csi.as_ref()?;
        let attacher = a.spec.attacher.as_str();
        (!attacher.is_empty()).then(|| (format!("{attacher}/{}", csi.volume_handle), attacher))
    })
}

impl VolumeLimits {
    /// Whether a node has a driver, or the driver does not insist on it.
    fn installed(&self, volumes: &Volumes, driver: &str, node: Option<&CSINode>) -> bool {
        let insists = volumes
            .driver(driver)
            .is_some_and(|d| d.spec.prevent_pod_scheduling_if_missing == Some(true));
        !self.scaling
            || !insists
            || node.is_some_and(|n| n.spec.drivers.iter().any(|d| d.name == driver))
    }
}

impl Plugin for VolumeLimits {
    fn name(&self) -> &'static str {
        "NodeVolumeLimits"
    }

    fn interests(&self) -> &'static [Interest] {
        const {
            &[
                Interest::new(Resource::CsiNode, Action::ADD.or(Action::UPDATE)),
                Interest::new(Resource::AssignedPod, Action::DELETE),
                Interest::new(Resource::PersistentVolumeClaim, Action::ADD),
                Interest::new(Resource::VolumeAttachment, Action::DELETE),
            ]
        }
    }

    fn hint(&self, _cluster: &Cluster, pod: &PodInfo, _event: Event, change: &Change) -> bool {
        match change {
            Change::Storage(Storage::Node((Some(old), Some(new)))) => {
                let was = limits(Some(old));
                let count = |d: &k8s_openapi::api::storage::v1::CSINodeDriver| {
                    d.allocatable.as_ref().and_then(|a| a.count).unwrap_or(0)
                };
                let more = |d| i64::from(count(d)) > was.get(d.name.as_str()).copied().unwrap_or(0);
                new.spec.drivers.iter().any(more)
            }
            Change::Storage(Storage::Claim((_, Some(new)))) => asks_for(pod, new, true),
            Change::Storage(Storage::Attachment(_)) => pod.claims.iter().any(|c| !c.ephemeral),
            Change::Pod {
                old: Some(gone), ..
            } => !gone.claims.is_empty(),
            _ => true,
        }
    }

    fn pre_filter(&self, cycle: &Cycle<'_>) -> Prepared {
        if cycle.pod.claims.is_empty() {
            Prepared::Skip
        } else {
            Prepared::with(())
        }
    }

    fn filter(&self, cycle: &Cycle<'_>, _state: &dyn State, node: NodeIndex) -> Verdict {
        let volumes = cycle.cluster.volumes();
        let name = cycle.cluster.name(node);
        let csi_node = volumes.csi_node(name).map(|n| &**n);
        let mut new = Attached::new();
        add(volumes, cycle.pod, true, &mut new)?;
        for driver in new.values() {
            if !self.installed(volumes, driver, csi_node) {
                return Err(Rejection::unschedulable(format!(
                    "{driver} CSI driver is not installed on the node"
                )));
            }
        }
        let limits = limits(csi_node);
        if new.is_empty() || limits.is_empty() {
            return Ok(());
        }
        let mut attached = Attached::new();
        for pod in &cycle.row(node).pods {
            add(volumes, pod, false, &mut attached)?;
        }
        // A volume that several pods use counts once.
        new.retain(|unique, _| !attached.contains_key(unique));
        for (unique, driver) in attachments(volumes, name) {
            attached.entry(unique).or_insert_with(|| driver.to_owned());
        }
        let count = |all: &Attached, driver: &str| {
            i64::try_from(all.values().filter(|d| *d == driver).count()).unwrap_or(i64::MAX)
        };
        for driver in new.values() {
            if limits
                .get(driver.as_str())
                .is_some_and(|most| count(&attached, driver) + count(&new, driver) > *most)
            {
                return Err(Rejection::unschedulable("node(s) exceed max volume count"));
            }
        }
        Ok(())
    }
}
