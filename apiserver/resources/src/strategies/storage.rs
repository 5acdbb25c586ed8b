//! What volumes are made with: drivers, classes, attachments.
//!
//! Upstream: `pkg/registry/storage`, `pkg/apis/storage`, `pkg/printers/internalversion`.

use proto::catalogue::{gate, names as n};
use proto::meta::names;
use proto::path::Spot;
use proto::view::storage_v1::{
    CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment, VolumeAttributesClass,
};
use proto::view::{Node, View};
use proto::{Value, meta};

use crate::declarative::NO_OPTIONS;
use crate::equal::alike_in;
use crate::gated::{self, Gated};
use crate::rules;
use crate::strategy::{Generation, Part, Strategy, clear_status, keep_status};
use crate::table::row;
use crate::warnings::{Warnings, deprecated_label};

mod attachment;
mod class;
mod csi;

#[cfg(test)]
mod tests;

pub static CSI_DRIVER: Strategy = Strategy {
    default: |_, object| {
        let modes = object.ensure(&[n::SPEC, n::VOLUME_LIFECYCLE_MODES]);
        if modes.as_list().is_none_or(<[Value]>::is_empty) {
            *modes = vec![Value::from("Persistent")].into();
        }
    },
    prepare_create: |cx, new| gated::drop_unused(cx.gates, new, None, DRIVER_GATED),
    prepare_update: |cx, new, old| {
        gated::drop_unused(cx.gates, new, Some(old), DRIVER_GATED);
        let spec = CSIDriver::MESSAGE.field(n::SPEC);
        if spec.is_some_and(|spec| !alike_in(new, old, spec)) {
            let generation = meta::generation(old).unwrap_or(0) + 1;
            new.set(&[n::METADATA, n::GENERATION], generation);
        }
    },
    validate: |cx, object, e| csi::driver(cx.gates, object, e),
    validate_update: |cx, new, old, e| csi::driver_update(cx.gates, new, old, e),
    declarative: Some(NO_OPTIONS),
    warnings: |_, object, old| {
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

/// What drivers report of a node's volumes.
const HEALTH: Gated = (gate::CSI_VOLUME_HEALTH, &[n::STATUS, n::STORAGE_HEALTH]);

const DRIVER_GATED: &[Gated] = &[
    (
        gate::SE_LINUX_MOUNT_READ_WRITE_ONCE_POD,
        &[n::SPEC, n::SE_LINUX_MOUNT],
    ),
    (
        gate::MUTABLE_CSI_NODE_ALLOCATABLE_COUNT,
        &[n::SPEC, n::NODE_ALLOCATABLE_UPDATE_PERIOD_SECONDS],
    ),
    (
        gate::CSI_SERVICE_ACCOUNT_TOKEN_SECRETS,
        &[n::SPEC, n::SERVICE_ACCOUNT_TOKEN_IN_SECRETS],
    ),
    (
        gate::VOLUME_LIMIT_SCALING,
        &[n::SPEC, n::PREVENT_POD_SCHEDULING_IF_MISSING],
    ),
];

pub static CSI_NODE: Strategy = Strategy {
    prepare_create: |_, new| clear_status(new),
    prepare_update: |_, new, old| keep_status(new, old),
    validate: |_, object, e| csi::node(object, e),
    validate_update: |_, new, old, e| csi::node_update(new, old, e),
    status: Some(Part {
        prepare_update: |cx, new, old| {
            (Part::STATUS_ALONE.prepare_update)(cx, new, old);
            gated::drop_unused(cx.gates, new, Some(old), &[HEALTH]);
        },
        validate_update: |_, new, _, e| csi::node_status(new, e),
        ..Part::STATUS
    }),
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
    validate: |_, object, e| csi::capacity(object, None, e),
    validate_update: |_, new, old, e| csi::capacity_update(new, old, e),
    warnings: |_, object, _| {
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
    validate: |_, object, e| class::storage_class(object, e),
    validate_update: |_, new, old, e| {
        class::storage_class(new, e);
        let fields = [
            n::PARAMETERS,
            n::PROVISIONER,
            n::RECLAIM_POLICY,
            n::VOLUME_BINDING_MODE,
        ];
        rules::immutable_fields(e, new, old, &fields);
    },
    declarative: Some(NO_OPTIONS),
    warnings: |_, object, _| {
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
    validate: |_, object, e| attachment::attachment(object, e),
    validate_update: |_, new, _, e| attachment::attachment(new, e),
    declarative: Some(NO_OPTIONS),
    status: Some(Part {
        validate_update: |_, new, _, e| {
            meta::validate_object_meta(new, false, names::subdomain_name, e);
            attachment::attachment(new, e);
        },
        ..Part::STATUS_ALONE
    }),
    generation: Generation::Ignored,
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
    validate: |_, object, e| class::attributes_class(object, e),
    validate_update: |_, new, old, e| class::attributes_class_update(new, old, e),
    declarative: Some(NO_OPTIONS),
    cells: Some(|object, now| {
        let class = VolumeAttributesClass::of(Node::new(object));
        row(object, now, [class.driver_name().into()])
    }),
    ..Strategy::DEFAULT
};
