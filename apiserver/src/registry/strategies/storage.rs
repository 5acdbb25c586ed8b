//! What volumes are made with: drivers, classes, attachments.
//!
//! Upstream: `pkg/registry/storage`, `pkg/printers/internalversion`.

use proto::Value;
use proto::catalogue::names as n;
use proto::path::Spot;
use proto::view::storage_v1::{
    CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment, VolumeAttributesClass,
};
use proto::view::{Node, View};

use crate::registry::strategy::Strategy;
use crate::registry::warnings::{Warnings, deprecated_label};
use crate::table::row;

pub static CSI_DRIVER: Strategy = Strategy {
    warnings: |object, old| {
        let spec = |object| CSIDriver::of(Node::new(object)).spec().node();
        let requests = spec(object).items(n::TOKEN_REQUESTS);
        let new = old.is_none_or(|old| spec(old).items(n::TOKEN_REQUESTS) != requests);
        let unset = spec(object)
            .get(n::SERVICE_ACCOUNT_TOKEN_IN_SECRETS)
            .is_none();
        let mut w = Warnings::new(object);
        if new && !requests.is_empty() && unset {
            w.push("spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes");
        }
        w.into_vec()
    },
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

pub static CSI_STORAGE_CAPACITY: Strategy = Strategy {
    warnings: |object, _| {
        let topology = CSIStorageCapacity::of(Node::new(object)).node_topology();
        let mut w = Warnings::new(object);
        for expression in topology.into_iter().flat_map(|t| t.match_expressions()) {
            let key = expression.key();
            if let Some(text) = deprecated_label(key) {
                let at = Spot::of(expression).field(n::KEY);
                w.at(at, format_args!("{key} is {text}"));
            }
        }
        let labels = topology.into_iter().flat_map(|t| t.match_labels().iter());
        for (label, _) in labels {
            if let Some(text) = deprecated_label(label.as_str()) {
                w.push(format!(
                    "nodeTopology.matchLabels.{}: {text}",
                    label.as_str()
                ));
            }
        }
        w.into_vec()
    },
    ..Strategy::DEFAULT
};

pub static STORAGE_CLASS: Strategy = Strategy {
    warnings: |object, _| {
        let mut w = Warnings::new(object);
        let topologies = StorageClass::of(Node::new(object)).allowed_topologies();
        for expression in topologies.iter().flat_map(|t| t.match_label_expressions()) {
            if let Some(text) = deprecated_label(expression.key()) {
                w.at(Spot::of(expression).field(n::KEY), text);
            }
        }
        w.into_vec()
    },
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
