//! Which volumes are to be attached to a node, and which may be detached. Pure.
//!
//! Source: `pkg/controller/volume/attachdetach/reconciler`, `pkg/volume/csi/csi_attacher.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{AttachedVolume, Node, PersistentVolume, Pod};
use k8s_openapi::api::storage::v1::{
    VolumeAttachment, VolumeAttachmentSource, VolumeAttachmentSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use ring::digest;

/// How long a node that does not answer may keep a volume.
const PATIENCE: Duration = Duration::from_secs(360);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// A volume and the node that it is for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    /// The name of the attachment.
    pub attachment: String,
    /// What nodes call the volume.
    pub unique: String,
    /// The persistent volume's name.
    pub volume: String,
    pub driver: String,
    /// Several nodes may have it at a time.
    pub shared: bool,
}

impl Place {
    /// The place of a CSI volume on a node; none for other volumes.
    pub(super) fn of(volume: &PersistentVolume, node: &str) -> Option<Self> {
        let spec = volume.spec.as_ref()?;
        let csi = spec.csi.as_ref()?;
        let modes = spec.access_modes.iter().flatten();
        // Without a mode nothing is known: the driver will say.
        let mut modes = modes.peekable();
        let shared = modes.peek().is_none()
            || modes.any(|m| matches!(m.as_str(), "ReadWriteMany" | "ReadOnlyMany"));
        Some(Self {
            attachment: name(&csi.volume_handle, &csi.driver, node),
            unique: format!("kubernetes.io/csi/{}^{}", csi.driver, csi.volume_handle),
            volume: volume.metadata.name.clone().unwrap_or_default(),
            driver: csi.driver.clone(),
            shared,
        })
    }

    /// The attachment that asks a driver to attach it.
    pub(super) fn attachment(&self, node: &str) -> VolumeAttachment {
        VolumeAttachment {
            metadata: ObjectMeta {
                name: Some(self.attachment.clone()),
                ..ObjectMeta::default()
            },
            spec: VolumeAttachmentSpec {
                attacher: self.driver.clone(),
                node_name: node.to_owned(),
                source: VolumeAttachmentSource {
                    persistent_volume_name: Some(self.volume.clone()),
                    inline_volume_spec: None,
                },
            },
            status: None,
        }
    }
}

/// The name of the attachment of a volume to a node: the same one is never made twice.
fn name(handle: &str, driver: &str, node: &str) -> String {
    let digest = digest::digest(
        &digest::SHA256,
        format!("{handle}{driver}{node}").as_bytes(),
    );
    let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("csi-{hex}")
}

pub(super) fn is_attached(attachment: &VolumeAttachment) -> bool {
    let going = attachment.metadata.deletion_timestamp.is_some();
    attachment.status.as_ref().is_some_and(|s| s.attached) && !going
}

/// What a driver says in the way of attaching.
pub(super) fn trouble(attachment: &VolumeAttachment) -> Option<&str> {
    let error = attachment.status.as_ref()?.attach_error.as_ref()?;
    error.message.as_deref()
}

/// A node, its attachments that are this controller's, and what it needs.
pub(super) struct Seen<'s> {
    /// None if it is gone.
    pub node: Option<&'s Node>,
    pub attachments: &'s BTreeMap<String, (Place, Arc<VolumeAttachment>)>,
    /// Places that pods of the node need.
    pub wanted: &'s BTreeMap<Place, Vec<Arc<Pod>>>,
    /// Volumes that other nodes have.
    pub elsewhere: &'s BTreeSet<String>,
}

/// What to do.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Plan {
    pub attach: Vec<Place>,
    /// Attached to another node, and not to be shared.
    pub blocked: Vec<Place>,
    pub detach: Vec<Place>,
    /// What the node's status is to say.
    pub reported: Vec<AttachedVolume>,
    /// When a node that does not answer loses its volumes.
    pub wait: Option<Duration>,
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|c| c.type_ == "Ready" && c.status == "True")
}

fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_ref());
    taints
        .into_iter()
        .flatten()
        .any(|t| t.key == OUT_OF_SERVICE)
}

fn uses(node: &Node, unique: &str) -> bool {
    let status = node.status.as_ref();
    let used = status.and_then(|s| s.volumes_in_use.as_ref());
    used.into_iter().flatten().any(|v| v == unique)
}

/// The plan; `waited` says for how long an attachment was not wanted, and `forces` whether nodes that do not answer
/// lose their volumes.
pub(super) fn plan(seen: &Seen<'_>, waited: impl Fn(&str) -> Duration, forces: bool) -> Plan {
    let mut plan = Plan::default();
    for place in seen.wanted.keys() {
        if seen.attachments.contains_key(&place.attachment) {
            continue;
        }
        if !place.shared && seen.elsewhere.contains(&place.volume) {
            plan.blocked.push(place.clone());
        } else {
            plan.attach.push(place.clone());
        }
    }
    for (place, attachment) in seen.attachments.values() {
        if !seen.wanted.contains_key(place) && attachment.metadata.deletion_timestamp.is_none() {
            let left = PATIENCE.saturating_sub(waited(&place.attachment));
            if may_go(seen.node, place, forces && left.is_zero()) {
                plan.detach.push(place.clone());
                continue;
            }
            if forces && !left.is_zero() {
                plan.wait = Some(plan.wait.map_or(left, |before| before.min(left)));
            }
        }
        if is_attached(attachment) {
            plan.reported.push(AttachedVolume {
                name: place.unique.clone(),
                device_path: String::new(),
            });
        }
    }
    plan.reported.sort_by(|a, b| a.name.cmp(&b.name));
    plan
}

/// Whether a volume may be taken from a node: it does not use it, or will never say so.
fn may_go(node: Option<&Node>, place: &Place, overdue: bool) -> bool {
    match node {
        None => overdue,
        Some(node) => {
            !uses(node, &place.unique) || is_out_of_service(node) || (overdue && !is_ready(node))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn volume(mode: &str) -> PersistentVolume {
        proto::typed::from_json_value(json!({
            "metadata": {"name": "pv"},
            "spec": {"accessModes": [mode], "csi": {"driver": "d.io", "volumeHandle": "h"}},
        }))
        .unwrap()
    }

    fn node(ready: &str, in_use: bool) -> Node {
        let used = if in_use {
            vec!["kubernetes.io/csi/d.io^h"]
        } else {
            vec![]
        };
        proto::typed::from_json_value(json!({
            "metadata": {"name": "n"},
            "status": {"volumesInUse": used, "conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    fn place(mode: &str) -> Place {
        Place::of(&volume(mode), "n").unwrap()
    }

    fn attached(place: &Place) -> BTreeMap<String, (Place, Arc<VolumeAttachment>)> {
        let mut attachment = place.attachment("n");
        let status = json!({"status": {"attached": true}, "spec": {"attacher": "", "nodeName": "", "source": {}}});
        let told: VolumeAttachment = proto::typed::from_json_value(status).unwrap();
        attachment.status = told.status;
        BTreeMap::from([(
            place.attachment.clone(),
            (place.clone(), Arc::new(attachment)),
        )])
    }

    fn planned(
        node: Option<&Node>,
        attachments: &BTreeMap<String, (Place, Arc<VolumeAttachment>)>,
        wanted: &[Place],
        elsewhere: &[&str],
        waited: u64,
    ) -> Plan {
        let seen = Seen {
            node,
            attachments,
            wanted: &wanted.iter().map(|p| (p.clone(), Vec::new())).collect(),
            elsewhere: &elsewhere.iter().map(|v| (*v).to_owned()).collect(),
        };
        plan(&seen, |_| Duration::from_secs(waited), true)
    }

    #[test]
    fn an_attachment_is_named_by_volume_driver_and_node() {
        // sha256 of "hd.ion".
        let name = place("ReadWriteOnce").attachment;
        assert_eq!((name.len(), name.starts_with("csi-")), (68, true));
        assert_ne!(
            Place::of(&volume("ReadWriteOnce"), "m").unwrap().attachment,
            name
        );
    }

    #[test]
    fn a_volume_is_attached_where_pods_need_it() {
        let (place, ready) = (place("ReadWriteOnce"), node("True", false));
        let none = BTreeMap::new();
        let first = planned(Some(&ready), &none, std::slice::from_ref(&place), &[], 0);
        assert_eq!((first.attach.len(), first.reported.len()), (1, 0));
        let there = attached(&place);
        let then = planned(Some(&ready), &there, &[place], &[], 0);
        assert_eq!((then.attach.len(), then.detach.len()), (0, 0));
        assert_eq!(then.reported[0].name, "kubernetes.io/csi/d.io^h");
    }

    #[test]
    fn one_node_at_a_time_has_a_volume_that_is_not_shared() {
        let (ready, none) = (node("True", false), BTreeMap::new());
        let of = |mode| {
            let plan = planned(Some(&ready), &none, &[place(mode)], &["pv"], 0);
            (plan.attach.len(), plan.blocked.len())
        };
        assert_eq!(of("ReadWriteOnce"), (0, 1));
        assert_eq!(of("ReadWriteMany"), (1, 0));
    }

    #[test]
    fn a_volume_is_detached_when_the_node_has_let_go() {
        let there = attached(&place("ReadWriteOnce"));
        let of = |node: Option<&Node>, waited| {
            let plan = planned(node, &there, &[], &[], waited);
            (plan.detach.len(), plan.reported.len(), plan.wait.is_some())
        };
        assert_eq!(of(Some(&node("True", false)), 0), (1, 0, false));
        assert_eq!(of(Some(&node("True", true)), 0), (0, 1, true));
        assert_eq!(
            of(Some(&node("True", true)), 999),
            (0, 1, false),
            "it answers"
        );
        assert_eq!(of(Some(&node("Unknown", true)), 999), (1, 0, false));
        assert_eq!(of(None, 0), (0, 1, true));
        assert_eq!(of(None, 999), (1, 0, false));
        let mut shut = node("Unknown", true);
        let taint = json!({"spec": {"taints": [{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]}});
        shut.spec = proto::typed::from_json_value::<Node>(taint).unwrap().spec;
        assert_eq!(of(Some(&shut), 0), (1, 0, false));
    }
}
