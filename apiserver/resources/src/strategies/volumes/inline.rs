//! The specification of a volume that no object stands for: `ValidatePersistentVolumeSpec` in the context
//! of attachments.

use proto::catalogue::names as n;
use proto::path::{Errors, Spot};
use proto::view::core_v1::PersistentVolumeSpec;

use super::{access_modes, sources};

const FORBIDDEN: &str = "may not be specified in the context of inline volumes";

/// It is a CSI volume that a pod names itself.
pub fn inline_volume_spec(e: &mut Errors<'_>, spec: PersistentVolumeSpec<'_>) {
    let at = |field| Spot::of(spec).field(field);
    if spec.claim_ref().is_some() {
        e.forbidden(at(n::CLAIM_REF), FORBIDDEN);
    }
    if !spec.capacity().is_empty() {
        e.forbidden(at(n::CAPACITY), FORBIDDEN);
    }
    if spec.csi().is_none() {
        let detail = "has to be specified in the context of inline volumes";
        e.required(at(n::CSI), detail);
    }
    if spec.access_modes().is_empty() {
        e.required(at(n::ACCESS_MODES), "");
    }
    access_modes(e, Spot::of(spec), spec.access_modes());
    if !matches!(spec.persistent_volume_reclaim_policy(), "" | "Retain") {
        let detail = "may only be Retain in the context of inline volumes";
        e.forbidden(at(n::PERSISTENT_VOLUME_RECLAIM_POLICY), detail);
    }
    if spec.node_affinity().is_some() {
        e.forbidden(at(n::NODE_AFFINITY), FORBIDDEN);
    }
    sources::sources(spec, "", e);
    if !spec.storage_class_name().is_empty() {
        e.forbidden(at(n::STORAGE_CLASS_NAME), FORBIDDEN);
    }
    if spec.volume_mode().is_some_and(|mode| mode != "Filesystem") {
        let detail =
            "may not specify volumeMode other than Filesystem in the context of inline volumes";
        e.forbidden(at(n::VOLUME_MODE), detail);
    }
}
