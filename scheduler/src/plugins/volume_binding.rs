//! `VolumeBinding`: volumes that are bound allow the pod's node, and those that are not are found, or can
//! be made, where the pod goes.
//!
//! [`find`] decides for a node; [`bind`] speaks for volumes and claims and has them bound. Source:
//! `pkg/scheduler/framework/plugins/volumebinding`. In-tree volumes are not translated to the terms of the
//! drivers that replaced them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use component::volumes::{asked_by, size_of_volume};

use super::node_resources::{Shape, on_line};
use super::volumes::{asks_for, not_for_pod, not_found};
use crate::cluster::volumes::{Storage, is_bound, volume_of};
use crate::cluster::{Cluster, NodeIndex};
use crate::framework::{
    Action, Change, Cycle, Event, Interest, Plugin, Prepared, Reasons, Rejection, Reserved,
    Resource, State, Verdict, own,
};
use crate::pod::PodInfo;

mod bind;
mod find;

use find::{Found, Wanted, limit};

/// Binding of volumes.
pub(super) struct VolumeBinding {
    /// How long volumes may take to be bound.
    pub(super) timeout: Duration,
    /// How the use of storage is scored; nothing without the gate `StorageCapacityScoring`.
    pub(super) shape: Shape,
}

/// Why a pod's claims rule out every node, if they do.
fn unfit(cluster: &Cluster, pod: &PodInfo) -> Option<String> {
    for claim in &pod.claims {
        let name = &*claim.name;
        let Some(known) = cluster.volumes().claims.stored(&pod.claim_key(claim)) else {
            return Some(if claim.ephemeral {
                format!(
                    "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
                )
            } else {
                not_found("persistentvolumeclaim", name)
            });
        };
        let phase = known.status.as_ref().and_then(|s| s.phase.as_deref());
        if phase == Some("Lost") {
            return Some(format!(
                "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {:?}",
                volume_of(known)
            ));
        }
        if known.metadata.deletion_timestamp.is_some() {
            return Some(format!("persistentvolumeclaim {name:?} is being deleted"));
        }
        if claim.ephemeral
            && let Some(reason) = not_for_pod(pod, known)
        {
            return Some(reason);
        }
    }
    None
}

/// Whether all volumes of a pod are bound.
fn all_bound(cluster: &Cluster, pod: &PodInfo) -> bool {
    pod.claims.iter().all(|c| {
        let known = cluster.volumes().claims.get(&pod.claim_key(c));
        known.is_some_and(|k| is_bound(k) && (!c.ephemeral || not_for_pod(pod, k).is_none()))
    })
}

impl VolumeBinding {
    /// The mean over classes of how well what they have is used.
    fn score_one(&self, found: &Found) -> i64 {
        let mut classes = BTreeMap::<String, (i64, i64)>::new();
        if found.bindings.is_empty() {
            for provision in &found.provisions {
                let Some(capacity) = &provision.capacity else {
                    continue;
                };
                let spec = provision.claim.spec.as_ref();
                let class = spec
                    .and_then(|s| s.storage_class_name.clone())
                    .unwrap_or_default();
                let sums = classes.entry(class).or_default();
                sums.0 += asked_by(&provision.claim).value();
                let all = capacity.capacity.as_ref();
                sums.1 = all.map_or(0, |q| find::quantity(q).value());
            }
        }
        for (claim, volume) in &found.bindings {
            let spec = volume.spec.as_ref();
            let class = spec
                .and_then(|s| s.storage_class_name.clone())
                .unwrap_or_default();
            let sums = classes.entry(class).or_default();
            sums.0 += asked_by(claim).value();
            sums.1 += size_of_volume(volume).value();
        }
        let count = i64::try_from(classes.len()).unwrap_or(i64::MAX);
        if count == 0 {
            return 0;
        }
        let used = |(requested, capacity): &(i64, i64)| {
            if *capacity == 0 || requested > capacity {
                100
            } else {
                let percent = i128::from(*requested) * 100 / i128::from(*capacity);
                i64::try_from(percent).unwrap_or(100)
            }
        };
        let sum: i64 = classes
            .values()
            .map(|sums| on_line(&self.shape, used(sums)))
            .sum();
        (2 * sum + count) / (2 * count)
    }
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn interests(&self) -> &'static [Interest] {
        const ANY: Action = Action::ADD.or(Action::UPDATE);
        const {
            &[
                Interest::new(Resource::StorageClass, ANY),
                Interest::new(Resource::PersistentVolumeClaim, ANY),
                Interest::new(Resource::PersistentVolume, ANY),
                Interest::new(Resource::Node, Action::ADD.or(Action::NODE_LABEL)),
                Interest::new(Resource::CsiNode, ANY),
                Interest::new(Resource::CsiDriver, Action::UPDATE),
                Interest::new(Resource::CsiStorageCapacity, ANY),
            ]
        }
    }

    fn hint(&self, _cluster: &Cluster, pod: &PodInfo, _event: Event, change: &Change) -> bool {
        const MIGRATED: &str = "storage.alpha.kubernetes.io/migrated-plugins";
        match change {
            Change::Storage(Storage::Class((Some(old), Some(new)))) => {
                old.allowed_topologies != new.allowed_topologies
            }
            Change::Storage(Storage::Claim((_, Some(new)))) => asks_for(pod, new, true),
            Change::Storage(Storage::Node((Some(old), Some(new)))) => {
                let migrated = |n: &k8s_openapi::api::storage::v1::CSINode| {
                    let all = n.metadata.annotations.as_ref();
                    all.and_then(|a| a.get(MIGRATED)).cloned()
                };
                migrated(old) != migrated(new)
            }
            Change::Storage(Storage::Driver((Some(old), Some(new)))) => {
                let mut volumes = pod.spec().volumes.iter().flatten();
                let name = new.metadata.name.as_deref();
                volumes.any(|v| v.csi.as_ref().map(|c| c.driver.as_str()) == name)
                    && old.spec.storage_capacity == Some(true)
                    && new.spec.storage_capacity != Some(true)
            }
            Change::Storage(Storage::Capacity((Some(old), Some(new)))) => {
                match (limit(old), limit(new)) {
                    (_, None) => false,
                    (None, Some(_)) => true,
                    (Some(was), Some(is)) => is.value() > was.value(),
                }
            }
            _ => true,
        }
    }

    fn pre_filter(&self, cycle: &Cycle<'_>) -> Prepared {
        if cycle.pod.claims.is_empty() {
            return Prepared::Skip;
        }
        if let Some(reason) = unfit(cycle.cluster, cycle.pod) {
            return Prepared::Rejected(Rejection::unresolvable(reason));
        }
        match Wanted::of(cycle.cluster, cycle.pod) {
            Ok(wanted) if wanted.immediate => Prepared::Rejected(Rejection::unresolvable(
                "pod has unbound immediate PersistentVolumeClaims",
            )),
            Ok(wanted) => Prepared::with(Arc::new(wanted)),
            Err(reason) => Prepared::Rejected(Rejection::error(reason)),
        }
    }

    fn filter(&self, cycle: &Cycle<'_>, state: &dyn State, node: NodeIndex) -> Verdict {
        let wanted = own::<Arc<Wanted>>(state);
        let found = wanted.on(cycle.cluster, node).map_err(Rejection::error)?;
        match found.reasons.len() {
            0 => Ok(()),
            _ => Err(Rejection {
                reasons: Reasons::Many(found.reasons.into_iter().map(Into::into).collect()),
                ..Rejection::unresolvable("")
            }),
        }
    }

    fn pre_score(&self, cycle: &Cycle<'_>, _nodes: &[NodeIndex]) -> Prepared {
        if self.shape.is_empty() || cycle.pod.claims.is_empty() {
            return Prepared::Skip;
        }
        match Wanted::of(cycle.cluster, cycle.pod) {
            Ok(wanted) if wanted.chooses() => Prepared::with(Arc::new(wanted)),
            _ => Prepared::Skip,
        }
    }

    fn score(&self, cycle: &Cycle<'_>, state: &dyn State, nodes: &[NodeIndex], scores: &mut [i64]) {
        let wanted = own::<Arc<Wanted>>(state);
        for (node, score) in nodes.iter().zip(scores) {
            let found = wanted.on(cycle.cluster, *node);
            *score = found.map_or(0, |f| self.score_one(&f));
        }
    }

    fn reserve(&self, cluster: &mut Cluster, pod: &Arc<PodInfo>, node: NodeIndex) -> Reserved {
        if pod.claims.is_empty() || all_bound(cluster, pod) {
            return Ok(None);
        }
        let found = Wanted::of(cluster, pod).and_then(|w| w.on(cluster, node));
        let reserved = found.and_then(|found| bind::reserve(cluster, node, &found, self.timeout));
        match reserved {
            Ok(reserved) => Ok(Some(Arc::new(reserved))),
            Err(reason) => Err(Rejection::error(reason)),
        }
    }
}

#[cfg(test)]
mod tests;
