//! Which persistent volume a pod's volume is, and how it is used. Pure: upstream's
//! `volumemanager/populator`.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, PodSpec};

/// What keeps a claim that is being deleted for as long as pods use it.
const PROTECTION: &str = "kubernetes.io/pvc-protection";
/// On a volume: a group that pods which use it are given.
const GROUP: &str = "pv.beta.kubernetes.io/gid";
/// On a volume: mount options, before there was a field for them.
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";

/// The claim that a pod's volume names, and how the pod's containers use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub claim: String,
    pub read_only: bool,
    /// It has to be the pod's own: made for a volume of type `ephemeral`.
    pub ephemeral: bool,
    /// Containers mount it.
    pub mounted: bool,
    /// Containers have it as a device.
    pub mapped: bool,
}

/// Names of volumes that containers use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Uses {
    pub(super) mounts: BTreeSet<String>,
    pub(super) devices: BTreeSet<String>,
}

impl Uses {
    /// By containers of all kinds.
    pub(super) fn of(spec: &PodSpec) -> Self {
        let mut all = Self::default();
        let init = spec.init_containers.iter().flatten();
        for container in init.chain(&spec.containers) {
            let mounts = container.volume_mounts.iter().flatten();
            all.mounts.extend(mounts.map(|mount| mount.name.clone()));
            let devices = container.volume_devices.iter().flatten();
            all.devices
                .extend(devices.map(|device| device.name.clone()));
        }
        for container in spec.ephemeral_containers.iter().flatten() {
            let mounts = container.volume_mounts.iter().flatten();
            all.mounts.extend(mounts.map(|mount| mount.name.clone()));
            let devices = container.volume_devices.iter().flatten();
            all.devices
                .extend(devices.map(|device| device.name.clone()));
        }
        all
    }

    pub(super) fn contains(&self, volume: &str) -> bool {
        self.mounts.contains(volume) || self.devices.contains(volume)
    }
}

/// Why a claim gives no volume.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub(super) enum Error {
    #[error("PVC is being deleted")]
    Deleted,
    #[error("PVC is not bound")]
    NotBound,
    #[error("PVC has empty pvc.Spec.VolumeName")]
    NoVolume,
    #[error(
        "found PV object {0} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to \
         the claim"
    )]
    Unclaimed(String),
    #[error(
        "found PV object {volume} but its pv.Spec.ClaimRef.UID {of} does not point to claim.UID \
         {claim}"
    )]
    OfAnother {
        volume: String,
        of: String,
        claim: String,
    },
}

/// The name of the volume that a claim is bound to.
pub(super) fn volume_of(claim: &PersistentVolumeClaim) -> Result<&str, Error> {
    let meta = &claim.metadata;
    let mut finalizers = meta.finalizers.iter().flatten();
    if meta.deletion_timestamp.is_some() && !finalizers.any(|f| f == PROTECTION) {
        return Err(Error::Deleted);
    }
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
    if phase != Some("Bound") {
        return Err(Error::NotBound);
    }
    let name = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
    name.filter(|name| !name.is_empty()).ok_or(Error::NoVolume)
}

/// Whether the volume is bound to the claim, too.
pub(super) fn check(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), Error> {
    let name = || volume.metadata.name.clone().unwrap_or_default();
    let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    let reference = reference.ok_or_else(|| Error::Unclaimed(name()))?;
    if reference.uid != claim.metadata.uid {
        return Err(Error::OfAnother {
            volume: name(),
            of: reference.uid.clone().unwrap_or_default(),
            claim: claim.metadata.uid.clone().unwrap_or_default(),
        });
    }
    Ok(())
}

/// Whether a claim was made for this pod.
pub(super) fn is_of(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let mut owners = claim.metadata.owner_references.iter().flatten();
    let controls = owners.any(|owner| {
        owner.controller == Some(true) && Some(&owner.uid) == pod.metadata.uid.as_ref()
    });
    controls && claim.metadata.namespace == pod.metadata.namespace
}

/// A persistent volume as one pod uses it.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) name: String,
    pub(super) volume: PersistentVolume,
    pub(super) read_only: bool,
    /// It is a device, not a file system.
    pub(super) block: bool,
    /// Mount options, each once, in order.
    pub(super) options: Vec<String>,
    /// A group that the pod is given.
    pub(super) group: Option<u32>,
    /// One pod alone may use it.
    pub(super) one_pod: bool,
}

impl Bound {
    /// `in_pod` is the pod's name for the volume.
    pub(super) fn new(
        volume: &PersistentVolume,
        claimed: &Claimed,
        in_pod: &str,
    ) -> Result<Self, String> {
        let spec = volume.spec.clone().unwrap_or_default();
        let mode = spec.volume_mode.as_deref().unwrap_or("Filesystem");
        let wrong = |used: &str| {
            Err(format!(
                "volume {in_pod} has volumeMode {mode}, but is specified in {used}"
            ))
        };
        if claimed.mounted && mode != "Filesystem" {
            return wrong("volumeMounts");
        }
        if claimed.mapped && mode != "Block" {
            return wrong("volumeDevices");
        }
        let annotation = |key: &str| volume.metadata.annotations.as_ref()?.get(key);
        let options: BTreeSet<String> = match annotation(MOUNT_OPTIONS) {
            Some(old) => old.split(',').map(str::to_owned).collect(),
            None => spec.mount_options.iter().flatten().cloned().collect(),
        };
        let modes = spec.access_modes.as_deref().unwrap_or_default();
        Ok(Self {
            name: volume.metadata.name.clone().unwrap_or_default(),
            read_only: claimed.read_only,
            block: mode == "Block",
            options: options.into_iter().filter(|o| !o.is_empty()).collect(),
            group: annotation(GROUP).and_then(|gid| gid.parse().ok()),
            one_pod: *modes == ["ReadWriteOncePod"],
            volume: volume.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn claim(value: Value) -> PersistentVolumeClaim {
        proto::typed::from_json_value(value).unwrap()
    }

    fn volume(spec: Value) -> PersistentVolume {
        let meta = json!({"name": "pv", "annotations": {GROUP: "777"}});
        proto::typed::from_json_value(json!({"metadata": meta, "spec": spec})).unwrap()
    }

    fn bound() -> Value {
        json!({
            "metadata": {"name": "c", "namespace": "ns", "uid": "claim"},
            "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"},
        })
    }

    #[test]
    fn a_claim_has_to_be_bound_and_to_stay() {
        assert_eq!(volume_of(&claim(bound())), Ok("pv"));
        let mut pending = bound();
        pending["status"]["phase"] = "Pending".into();
        assert_eq!(volume_of(&claim(pending)), Err(Error::NotBound));
        let mut empty = bound();
        empty["spec"]["volumeName"] = "".into();
        assert_eq!(volume_of(&claim(empty)), Err(Error::NoVolume));
        let mut going = bound();
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(volume_of(&claim(going.clone())), Err(Error::Deleted));
        // A pod uses it still.
        going["metadata"]["finalizers"] = json!([PROTECTION]);
        assert_eq!(volume_of(&claim(going)), Ok("pv"));
    }

    #[test]
    fn the_volume_has_to_be_bound_to_the_same_claim() {
        let claim = claim(bound());
        let ours = volume(json!({"claimRef": {"uid": "claim"}}));
        assert_eq!(check(&ours, &claim), Ok(()));
        let unclaimed = check(&volume(json!({})), &claim).unwrap_err();
        assert_eq!(unclaimed, Error::Unclaimed("pv".into()));
        let other = check(&volume(json!({"claimRef": {"uid": "x"}})), &claim).unwrap_err();
        assert_eq!(
            other.to_string(),
            "found PV object pv but its pv.Spec.ClaimRef.UID x does not point to claim.UID claim"
        );
    }

    #[test]
    fn an_ephemeral_claim_is_the_pods_own() {
        let pod: Pod = proto::typed::from_json_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "pod"}, "spec": {"containers": []},
        }))
        .unwrap();
        let owned = |owner: Value| {
            let mut claim = bound();
            claim["metadata"]["ownerReferences"] = json!([owner]);
            is_of(&pod, &self::claim(claim))
        };
        let owner = |uid: &str, controller: bool| {
            json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid,
                "controller": controller})
        };
        assert!(owned(owner("pod", true)));
        assert!(!owned(owner("other", true)) && !owned(owner("pod", false)));
        assert!(!is_of(&pod, &claim(bound())));
    }

    #[test]
    fn how_it_is_used_has_to_be_what_it_is() {
        let claimed = |mounted, mapped| Claimed {
            claim: "c".into(),
            read_only: true,
            ephemeral: false,
            mounted,
            mapped,
        };
        let block = volume(json!({"volumeMode": "Block"}));
        let said = Bound::new(&block, &claimed(true, false), "data").unwrap_err();
        assert_eq!(
            said,
            "volume data has volumeMode Block, but is specified in volumeMounts"
        );
        let device = Bound::new(&block, &claimed(false, true), "data").unwrap();
        assert!(device.block && device.read_only && device.group == Some(777));
        let files = volume(json!({
            "accessModes": ["ReadWriteOncePod"], "mountOptions": ["noexec", "", "hard", "noexec"],
        }));
        assert!(Bound::new(&files, &claimed(false, true), "data").is_err());
        let files = Bound::new(&files, &claimed(true, false), "data").unwrap();
        assert!(!files.block && files.one_pod);
        assert_eq!(files.options, ["hard", "noexec"]);
    }
}
