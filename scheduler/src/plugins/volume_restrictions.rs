//! `VolumeRestrictions`: disks that two pods of a node cannot share, and claims that only one pod may use.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Volume;

use super::volumes::{asks_for, not_found};
use crate::cluster::volumes::Storage;
use crate::cluster::{Cluster, NodeIndex};
use crate::framework::{
    Action, Change, Cycle, Event, Interest, Plugin, Prepared, Rejection, Resource, State, Verdict,
    own, own_mut,
};
use crate::pod::PodInfo;

pub(super) struct VolumeRestrictions;

/// Claims of the pod that nobody else may use, and how many others do.
#[derive(Clone)]
struct Exclusive {
    claims: Arc<[Box<str>]>,
    users: i64,
}

/// Whether a volume is a disk of a kind that cannot be shared freely.
fn is_disk(volume: &Volume) -> bool {
    volume.gce_persistent_disk.is_some()
        || volume.aws_elastic_block_store.is_some()
        || volume.rbd.is_some()
        || volume.iscsi.is_some()
}

fn shared(a: Option<bool>, b: Option<bool>) -> bool {
    a.unwrap_or(false) && b.unwrap_or(false)
}

/// Whether two volumes are one disk that is not only read.
fn conflicts(a: &Volume, b: &Volume) -> bool {
    if let (Some(a), Some(b)) = (&a.gce_persistent_disk, &b.gce_persistent_disk)
        && a.pd_name == b.pd_name
        && !shared(a.read_only, b.read_only)
    {
        return true;
    }
    if let (Some(a), Some(b)) = (&a.aws_elastic_block_store, &b.aws_elastic_block_store)
        && a.volume_id == b.volume_id
    {
        return true;
    }
    if let (Some(a), Some(b)) = (&a.iscsi, &b.iscsi)
        && a.iqn == b.iqn
        && !shared(a.read_only, b.read_only)
    {
        return true;
    }
    if let (Some(a), Some(b)) = (&a.rbd, &b.rbd) {
        let pool = |p: &Option<String>| p.clone().unwrap_or_else(|| "rbd".to_owned());
        return a.monitors.iter().any(|m| b.monitors.contains(m))
            && pool(&a.pool) == pool(&b.pool)
            && a.image == b.image
            && !shared(a.read_only, b.read_only);
    }
    false
}

fn disks_of(pod: &PodInfo) -> impl Iterator<Item = &Volume> {
    let volumes = pod.spec().volumes.iter().flatten();
    volumes.filter(|v| is_disk(v))
}

fn disk_conflict(pod: &PodInfo, other: &PodInfo) -> bool {
    disks_of(pod).any(|a| disks_of(other).any(|b| conflicts(a, b)))
}

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn interests(&self) -> &'static [Interest] {
        const {
            &[
                Interest::new(Resource::AssignedPod, Action::DELETE),
                Interest::new(Resource::Node, Action::ADD),
                Interest::new(Resource::PersistentVolumeClaim, Action::ADD),
            ]
        }
    }

    fn hint(&self, _cluster: &Cluster, pod: &PodInfo, _event: Event, change: &Change) -> bool {
        match change {
            Change::Storage(Storage::Claim((_, Some(new)))) => asks_for(pod, new, false),
            Change::Pod {
                old: Some(gone), ..
            } => {
                let own = |p: &PodInfo| -> Vec<Box<str>> {
                    let claims = p.claims.iter().filter(|c| !c.ephemeral);
                    claims.map(|c| c.name.clone()).collect()
                };
                let mine = own(pod);
                gone.namespace() == pod.namespace()
                    && (disk_conflict(pod, gone) || own(gone).iter().any(|c| mine.contains(c)))
            }
            _ => true,
        }
    }

    fn pre_filter(&self, cycle: &Cycle<'_>) -> Prepared {
        let (pod, volumes) = (cycle.pod, cycle.cluster.volumes());
        let mut exclusive = Vec::new();
        let mut users = 0;
        for claim in pod.claims.iter().filter(|c| !c.ephemeral) {
            let key = pod.claim_key(claim);
            let Some(known) = volumes.claims.get(&key) else {
                let reason = not_found("persistentvolumeclaim", &claim.name);
                return Prepared::Rejected(Rejection::unresolvable(reason));
            };
            let modes = known.spec.as_ref().and_then(|s| s.access_modes.as_ref());
            if modes.is_some_and(|m| m.iter().any(|m| m == "ReadWriteOncePod"))
                && !exclusive.contains(&claim.name)
            {
                exclusive.push(claim.name.clone());
                users += i64::from(volumes.is_used(&key));
            }
        }
        if users == 0 && disks_of(pod).next().is_none() {
            return Prepared::Skip;
        }
        Prepared::with(Exclusive {
            claims: exclusive.into(),
            users,
        })
    }

    fn imagine(
        &self,
        cycle: &Cycle<'_>,
        state: &mut dyn State,
        other: &PodInfo,
        _node: NodeIndex,
        added: bool,
    ) {
        let exclusive = own_mut::<Exclusive>(state);
        if other.namespace() != cycle.pod.namespace() {
            return;
        }
        let uses = other.claims.iter().filter(|c| !c.ephemeral);
        let count = uses.filter(|c| exclusive.claims.contains(&c.name)).count();
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        exclusive.users += if added { count } else { -count };
    }

    fn filter(&self, cycle: &Cycle<'_>, state: &dyn State, node: NodeIndex) -> Verdict {
        let pods = &cycle.row(node).pods;
        if disks_of(cycle.pod).next().is_some() && pods.iter().any(|p| disk_conflict(cycle.pod, p))
        {
            return Err(Rejection::unschedulable("node(s) had no available disk"));
        }
        if own::<Exclusive>(state).users > 0 {
            return Err(Rejection::unschedulable(
                "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod",
            ));
        }
        Ok(())
    }
}
