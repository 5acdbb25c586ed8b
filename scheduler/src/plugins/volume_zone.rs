//! `VolumeZone`: a pod goes where the zone labels of its volumes allow it.

use std::sync::Arc;

use component::volumes::class_of_claim;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::volumes::{asks_for, not_found};
use crate::cluster::volumes::{Storage, volume_of};
use crate::cluster::{Cluster, NodeIndex};
use crate::framework::{
    Action, Change, Cycle, Event, Interest, Plugin, Prepared, Rejection, Resource, State, Verdict,
    own,
};
use crate::pod::PodInfo;

const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
/// Labels of volumes, with the ones that nodes may have instead.
const LABELS: [(&str, &str); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", ZONE),
    ("failure-domain.beta.kubernetes.io/region", REGION),
    (ZONE, ZONE),
    (REGION, REGION),
];

pub(super) struct VolumeZone;

/// A label that nodes must have one of these values of.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Topology {
    key: &'static str,
    instead: &'static str,
    values: Vec<String>,
}

/// The zones of a volume; values are joined by `__`.
fn topologies(volume: &PersistentVolume) -> Vec<Topology> {
    let labels = volume.metadata.labels.as_ref();
    let one = |(key, instead): &(&'static str, &'static str)| {
        let text = labels?.get(*key)?;
        let values: Vec<String> = text.split("__").map(|v| v.trim().to_owned()).collect();
        // A label that cannot be read says nothing.
        (!values.iter().any(String::is_empty)).then_some(Topology {
            key,
            instead,
            values,
        })
    };
    LABELS.iter().filter_map(one).collect()
}

/// Where a claim's volume can be; none says anything if it is chosen with the node.
fn of_claim(cluster: &Cluster, claim: &PersistentVolumeClaim) -> Result<Vec<Topology>, String> {
    let volumes = cluster.volumes();
    let name = volume_of(claim);
    if !name.is_empty() {
        let volume = volumes.volumes.get(name);
        let volume = volume.ok_or_else(|| not_found("persistentvolume", name))?;
        return Ok(topologies(volume));
    }
    let class = class_of_claim(claim);
    if class.is_empty() {
        return Err("PersistentVolumeClaim had no pv name and storageClass name".to_owned());
    }
    let known = volumes.class(class);
    let known = known.ok_or_else(|| not_found("storageclass.storage.k8s.io", class))?;
    match known.volume_binding_mode.as_deref() {
        None => Err(format!(
            "VolumeBindingMode not set for StorageClass {class:?}"
        )),
        Some("WaitForFirstConsumer") => Ok(Vec::new()),
        Some(_) => Err("PersistentVolume had no name".to_owned()),
    }
}

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }

    fn interests(&self) -> &'static [Interest] {
        const {
            &[
                Interest::new(Resource::StorageClass, Action::ADD),
                Interest::new(Resource::Node, Action::ADD.or(Action::NODE_LABEL)),
                Interest::new(
                    Resource::PersistentVolumeClaim,
                    Action::ADD.or(Action::UPDATE),
                ),
                Interest::new(Resource::PersistentVolume, Action::ADD.or(Action::UPDATE)),
            ]
        }
    }

    fn hint(&self, _cluster: &Cluster, pod: &PodInfo, _event: Event, change: &Change) -> bool {
        match change {
            Change::Storage(Storage::Class((_, Some(new)))) => {
                new.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
            }
            Change::Storage(Storage::Claim((_, Some(new)))) => asks_for(pod, new, false),
            Change::Storage(Storage::Volume((Some(old), Some(new)))) => {
                topologies(old) != topologies(new)
            }
            _ => true,
        }
    }

    fn pre_filter(&self, cycle: &Cycle<'_>) -> Prepared {
        let mut all = Vec::new();
        for claim in cycle.pod.claims.iter().filter(|c| !c.ephemeral) {
            let claims = &cycle.cluster.volumes().claims;
            let found = claims.get(&cycle.pod.claim_key(claim));
            let found = found.ok_or_else(|| not_found("persistentvolumeclaim", &claim.name));
            match found.and_then(|claim| of_claim(cycle.cluster, claim)) {
                Ok(topologies) => all.extend(topologies),
                Err(reason) => return Prepared::Rejected(Rejection::unresolvable(reason)),
            }
        }
        if all.is_empty() {
            return Prepared::Skip;
        }
        Prepared::with(Arc::<[Topology]>::from(all))
    }

    fn filter(&self, cycle: &Cycle<'_>, state: &dyn State, node: NodeIndex) -> Verdict {
        let Some(facts) = cycle.cluster.facts(node) else {
            return Ok(());
        };
        let labels = &facts.labels;
        // A cluster of one zone may not label its nodes.
        if !LABELS.iter().any(|(key, _)| labels.contains_key(*key)) {
            return Ok(());
        }
        let allowed = |t: &Topology| {
            let value = labels.get(t.key).or_else(|| labels.get(t.instead));
            value.is_some_and(|v| t.values.contains(v))
        };
        if own::<Arc<[Topology]>>(state).iter().all(allowed) {
            Ok(())
        } else {
            Err(Rejection::unresolvable(
                "node(s) had no available volume zone",
            ))
        }
    }
}
