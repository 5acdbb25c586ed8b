//! What volumes are made with: drivers, classes, attachments.
//!
//! Upstream: `pkg/registry/storage`, `pkg/printers/internalversion`.

use proto::Value;
use proto::view::storage_v1::{
    CSIDriver, CSINode, StorageClass, VolumeAttachment, VolumeAttributesClass,
};
use proto::view::{Node, View};

use crate::registry::strategy::Strategy;
use crate::table::row;

pub static CSI_DRIVER: Strategy = Strategy {
    cells: Some(|object, now| {
        let spec = CSIDriver::of(Node::new(object)).spec();
        let join = |texts: Vec<&str>| texts.join(",");
        let modes = spec.volume_lifecycle_modes();
        let modes = join(modes.iter().filter_map(Value::as_str).collect());
        let tokens = spec.token_requests();
        let tokens = if tokens.is_empty() {
            "<unset>".to_owned()
        } else {
            join(tokens.iter().map(|t| t.audience()).collect())
        };
        row(
            object,
            now,
            [
                spec.attach_required().unwrap_or(true).into(),
                spec.pod_info_on_mount().unwrap_or(false).into(),
                spec.storage_capacity().unwrap_or(false).into(),
                tokens.into(),
                spec.requires_republish().unwrap_or(false).into(),
                if modes.is_empty() { "<none>" } else { &modes }.into(),
            ],
        )
    }),
    ..Strategy::DEFAULT
};

pub static CSI_NODE: Strategy = Strategy {
    cells: Some(|object, now| {
        let drivers = CSINode::of(Node::new(object)).spec().drivers().len();
        row(object, now, [super::count(drivers)])
    }),
    ..Strategy::DEFAULT
};

/// On the class of claims that name none.
const IS_DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

/// The class of claims that name none.
#[must_use]
pub fn default_among(classes: &[Value]) -> Option<String> {
    super::newest_default(classes, &IS_DEFAULT)
}

pub static STORAGE_CLASS: Strategy = Strategy {
    default_among: Some(default_among),
    cells: Some(|object, now| {
        let class = StorageClass::of(Node::new(object));
        row(
            object,
            now,
            [
                class.provisioner().into(),
                class.reclaim_policy().unwrap_or("Delete").into(),
                class.volume_binding_mode().unwrap_or("Immediate").into(),
                class.allow_volume_expansion().unwrap_or(false).into(),
            ],
        )
    }),
    ..Strategy::DEFAULT
};

pub static VOLUME_ATTACHMENT: Strategy = Strategy {
    generation: false,
    cells: Some(|object, now| {
        let attachment = VolumeAttachment::of(Node::new(object));
        let spec = attachment.spec();
        let volume = spec.source().persistent_volume_name();
        row(
            object,
            now,
            [
                spec.attacher().into(),
                volume.unwrap_or_default().into(),
                spec.node_name().into(),
                attachment.status().attached().into(),
            ],
        )
    }),
    ..Strategy::WITH_STATUS
};

pub static VOLUME_ATTRIBUTES_CLASS: Strategy = Strategy {
    cells: Some(|object, now| {
        let class = VolumeAttributesClass::of(Node::new(object));
        row(object, now, [class.driver_name().into()])
    }),
    ..Strategy::DEFAULT
};
