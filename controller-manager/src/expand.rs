//! Claims that ask for more than they have (`persistentvolume-expander-controller`).
//!
//! No volume plugin of this build grows volumes by itself: an external resizer does, as for CSI volumes and for those
//! of plugins that became CSI drivers. People are told who is waited for. Source: `pkg/controller/volume/expand`.

use std::sync::Arc;

use component::controller::Next;
use component::events::{Recorder, reference};
use component::informer::{Event, Informer, Key, Lister};
use component::volumes::{asked_by, storage};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec};
use proto::quantity::Quantity;

use crate::context::Context;
use crate::error::Error;
use crate::update::update;

const REASON: &str = "ExternalExpanding";
const RESIZER: &str = "volume.kubernetes.io/storage-resizer";
const BEFORE: &str = "volume.alpha.kubernetes.io/pre-resize-capacity";

/// Plugins that became CSI drivers: what tells one, its name, its driver's.
type Migrated = (
    fn(&PersistentVolumeSpec) -> bool,
    &'static str,
    &'static str,
);
const MIGRATED: [Migrated; 7] = [
    (
        |s| s.aws_elastic_block_store.is_some(),
        "kubernetes.io/aws-ebs",
        "ebs.csi.aws.com",
    ),
    (
        |s| s.gce_persistent_disk.is_some(),
        "kubernetes.io/gce-pd",
        "pd.csi.storage.gke.io",
    ),
    (
        |s| s.cinder.is_some(),
        "kubernetes.io/cinder",
        "cinder.csi.openstack.org",
    ),
    (
        |s| s.azure_disk.is_some(),
        "kubernetes.io/azure-disk",
        "disk.csi.azure.com",
    ),
    (
        |s| s.azure_file.is_some(),
        "kubernetes.io/azure-file",
        "file.csi.azure.com",
    ),
    (
        |s| s.vsphere_volume.is_some(),
        "kubernetes.io/vsphere-volume",
        "csi.vsphere.vmware.com",
    ),
    (
        |s| s.portworx_volume.is_some(),
        "kubernetes.io/portworx-volume",
        "pxd.portworx.com",
    ),
];

fn has(claim: &PersistentVolumeClaim) -> Quantity {
    storage(claim.status.as_ref().and_then(|s| s.capacity.as_ref()))
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
    phase == Some("Bound")
}

/// Who makes a volume grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Grower {
    /// The driver that a plugin became.
    Migrated(&'static str, &'static str),
    External,
    /// Nobody that is known.
    Unknown,
}

fn grower(spec: &PersistentVolumeSpec) -> Grower {
    let migrated = MIGRATED.iter().find(|(is, _, _)| is(spec));
    if let Some((_, plugin, driver)) = migrated {
        return Grower::Migrated(plugin, driver);
    }
    if spec.csi.is_some() || spec.flex_volume.is_some() {
        return Grower::External;
    }
    Grower::Unknown
}

/// Starts the controller.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Key>("volume_expand");
    let claims: Informer<PersistentVolumeClaim> = cx.informer();
    let volumes: Informer<PersistentVolume> = cx.informer();
    let this = Arc::new(Expander {
        cx: cx.clone(),
        claims: claims.lister(),
        volumes: volumes.lister(),
        recorder: cx.recorder_as("volume_expand"),
    });
    let wake = queue.clone();
    claims.subscribe(move |key, event| {
        let grew = match event {
            Event::Added(_) => true,
            Event::Updated { old, new } => asked_by(new) > asked_by(old) || has(new) > has(old),
            Event::Deleted(_) => false,
        };
        if grew && is_bound(event.object()) {
            wake.add(key.clone());
        }
    });
    cx.run(10, &queue, move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    });
    Ok(())
}

struct Expander {
    cx: Context,
    claims: Lister<PersistentVolumeClaim>,
    volumes: Lister<PersistentVolume>,
    recorder: Recorder,
}

impl Expander {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(claim) = self.claims.by_key(key) else {
            return Ok(Next::Done);
        };
        let name = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
        let name = name.unwrap_or_default();
        let Some(volume) = self.volumes.get("", name) else {
            return Err(Error::Unusable(format!(
                "failed to get PV {name:?}: persistentvolumes {name:?} not found"
            )));
        };
        let spec = volume.spec.clone().unwrap_or_default();
        let bound = spec.claim_ref.as_ref();
        let is_its = bound.is_some_and(|r| {
            r.namespace == claim.metadata.namespace && r.uid == claim.metadata.uid
        });
        if !is_its {
            return Err(Error::Unusable(format!(
                "persistent Volume is not bound to PVC being updated : {key}"
            )));
        }
        let annotations = volume.metadata.annotations.as_ref();
        let waits = annotations.is_some_and(|a| a.contains_key(BEFORE));
        if asked_by(&claim) <= has(&claim) && !waits {
            return Ok(Next::Done);
        }
        self.wait_for(key, &claim, grower(&spec)).await?;
        Ok(Next::Done)
    }

    async fn wait_for(
        &self,
        key: &Key,
        claim: &PersistentVolumeClaim,
        grower: Grower,
    ) -> Result<(), Error> {
        let about = reference(claim);
        let text = "waiting for an external controller to expand this PVC";
        let (plugin, driver) = match grower {
            Grower::External => {
                self.recorder.normal(&about, REASON, text);
                return Ok(());
            }
            Grower::Unknown => {
                self.recorder.warning(&about, REASON, text);
                return Ok(());
            }
            Grower::Migrated(plugin, driver) => (plugin, driver),
        };
        let text = format!(
            "CSI migration enabled for {plugin}; waiting for external resizer to expand the pvc"
        );
        self.recorder.normal(&about, REASON, &text);
        let mut new = claim.clone();
        let annotations = new.metadata.annotations.get_or_insert_default();
        annotations.insert(RESIZER.to_owned(), driver.to_owned());
        let api = self.cx.client().await?.namespaced(key.namespace());
        // The role lets no more than the status be written; annotations go along with it.
        update(&api, "status", claim, &new).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_makes_a_volume_grow_follows_from_its_source() {
        let of = |source: serde_json::Value| {
            let volume: PersistentVolume =
                proto::typed::from_json_value(json!({ "spec": source })).unwrap();
            grower(&volume.spec.unwrap())
        };
        let ebs = json!({"awsElasticBlockStore": {"volumeID": "v"}});
        assert_eq!(
            of(ebs),
            Grower::Migrated("kubernetes.io/aws-ebs", "ebs.csi.aws.com")
        );
        let csi = json!({"csi": {"driver": "d", "volumeHandle": "h"}});
        assert_eq!(of(csi), Grower::External);
        assert_eq!(of(json!({"hostPath": {"path": "/x"}})), Grower::Unknown);
    }
}
