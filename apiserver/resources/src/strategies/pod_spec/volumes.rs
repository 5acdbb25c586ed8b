//! Volumes of a pod: unique names, exactly one source each, and that source complete.
//!
//! Upstream: `ValidateVolumes`, `validateVolumeSource` and below. Some of its paths are not those of the
//! fields.

use std::collections::{HashMap, HashSet};

use proto::NameId;
use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, FieldError, Spot, quote};
use proto::view::core_v1::{PodSpec, Volume};
use proto::view::{Node, View};
use proto::{Map, Value, meta};

use super::files::{descending, downward_file, files, mode, user};
use super::{Options, PULL_POLICIES, block, projected};

pub(in crate::strategies) use super::files::no_backsteps;

use crate::rules;

/// Volumes by name, those without faults alone: containers can mount no others.
pub(super) type Volumes<'a> = HashMap<&'a str, Volume<'a>>;

const MODE_OF_EMPTY: &str = "must be a number between 0 and 01777 (octal), both inclusive";
const MORE_THAN_ONE: &str = "may not specify more than 1 volume type";

/// A volume, and what its source may have to know.
struct Of<'a, 'o> {
    volume: Volume<'a>,
    options: &'o Options<'o>,
}

type Rule = fn(&mut Errors<'_>, Node<'_>, &Of<'_, '_>);

/// Sources in the order in which upstream looks for them, and its name for one too many.
const SOURCES: &[(NameId, &str, Rule)] = &[
    (Volume::EMPTY_DIR, "emptyDir", empty_dir),
    (Volume::HOST_PATH, "hostPath", |e, source, _| {
        host_path(e, source)
    }),
    (Volume::GIT_REPO, "gitRepo", |e, source, _| {
        need(e, source, n::REPOSITORY);
        descending(e, at(source).field(n::DIRECTORY), source.str(n::DIRECTORY));
    }),
    (
        Volume::GCE_PERSISTENT_DISK,
        "gcePersistentDisk",
        |e, source, of| {
            block::gce_persistent_disk(e, Spot::of(of.volume), source);
        },
    ),
    (
        Volume::AWS_ELASTIC_BLOCK_STORE,
        "awsElasticBlockStore",
        |e, source, _| {
            block::aws_elastic_block_store(e, source);
        },
    ),
    (Volume::SECRET, "secret", |e, source, _| {
        need(e, source, n::SECRET_NAME);
        files(e, source);
    }),
    (Volume::NFS, "nfs", |e, source, _| nfs(e, source)),
    (Volume::ISCSI, "iscsi", |e, source, _| {
        block::iscsi(e, source)
    }),
    (Volume::GLUSTERFS, "glusterfs", |e, source, _| {
        need(e, source, n::ENDPOINTS);
        need(e, source, n::PATH);
    }),
    (Volume::FLOCKER, "flocker", |e, source, _| {
        flocker(e, source)
    }),
    (
        Volume::PERSISTENT_VOLUME_CLAIM,
        "persistentVolumeClaim",
        |e, source, _| {
            need(e, source, n::CLAIM_NAME);
        },
    ),
    (Volume::RBD, "rbd", |e, source, _| block::rbd(e, source)),
    (Volume::CINDER, "cinder", |e, source, _| {
        need(e, source, n::VOLUME_ID);
        block::secret(e, source, &[n::NAME]);
    }),
    (Volume::CEPHFS, "cephFS", |e, source, _| {
        some(e, source, n::MONITORS)
    }),
    (Volume::QUOBYTE, "quobyte", |e, source, _| {
        block::quobyte(e, source)
    }),
    (Volume::DOWNWARD_API, "downwarAPI", |e, source, _| {
        mode(e, source, n::DEFAULT_MODE);
        user(e, source, n::DEFAULT_USER);
        for file in source.items(n::ITEMS) {
            downward_file(e, Node::new(file), at(source));
        }
    }),
    (Volume::FC, "fc", |e, source, _| {
        block::fibre_channel(e, source)
    }),
    (Volume::FLEX_VOLUME, "flexVolume", |e, source, _| {
        block::flex(e, source)
    }),
    (Volume::CONFIG_MAP, "configMap", |e, source, _| {
        need(e, source, n::NAME);
        files(e, source);
    }),
    (Volume::AZURE_FILE, "azureFile", |e, source, _| {
        need(e, source, n::SECRET_NAME);
        need(e, source, n::SHARE_NAME);
    }),
    (Volume::VSPHERE_VOLUME, "vsphereVolume", |e, source, _| {
        need(e, source, n::VOLUME_PATH);
    }),
    (
        Volume::PHOTON_PERSISTENT_DISK,
        "photonPersistentDisk",
        |e, source, _| {
            need(e, source, n::PD_ID);
        },
    ),
    (Volume::PORTWORX_VOLUME, "portworxVolume", |e, source, _| {
        need(e, source, n::VOLUME_ID);
    }),
    (Volume::AZURE_DISK, "azureDisk", |e, source, _| {
        block::azure_disk(e, source)
    }),
    (Volume::STORAGEOS, "storageos", |e, source, _| {
        block::storage_os(e, source);
        block::secret(e, source, &[n::NAME]);
    }),
    (Volume::PROJECTED, "projected", |e, source, of| {
        mode(e, source, n::DEFAULT_MODE);
        user(e, source, n::DEFAULT_USER);
        projected::sources(e, source, of.options);
    }),
    (Volume::SCALE_IO, "scaleIO", |e, source, _| {
        block::scale_io(e, source)
    }),
    (Volume::CSI, "csi", |e, source, _| block::csi(e, source)),
    (Volume::EPHEMERAL, "ephemeral", ephemeral),
    (Volume::IMAGE, "image", |e, source, of| {
        if !of.options.kept.empty_image_reference {
            need(e, source, n::REFERENCE);
        }
        let field = at(source).field(n::PULL_POLICY);
        rules::choice(e, field, source.str(n::PULL_POLICY), &PULL_POLICIES);
    }),
];

pub(super) fn volumes<'a>(
    e: &mut Errors<'_>,
    spec: PodSpec<'a>,
    options: &Options<'_>,
) -> Volumes<'a> {
    // Claims that the pod will make cannot be used as if they were others'.
    let pod = options.pod.map(meta::name).filter(|name| !name.is_empty());
    let made: HashSet<String> = pod
        .into_iter()
        .flat_map(|pod| {
            let ephemeral = spec.volumes().iter().filter(|v| v.ephemeral().is_some());
            ephemeral.map(move |volume| format!("{pod}-{}", volume.name()))
        })
        .collect();
    let mut sound = Volumes::new();
    for volume in spec.volumes() {
        let before = e.len();
        let field = Spot::of(volume).field(n::NAME);
        source(e, &Of { volume, options });
        if rules::required(e, volume, n::NAME) {
            e.invalid_each(
                field,
                volume.name(),
                names::dns_label_problems(volume.name()),
            );
        }
        if sound.contains_key(volume.name()) {
            e.duplicate(field, volume.name());
        }
        if e.len() == before {
            sound.insert(volume.name(), volume);
        }
        if let Some(claim) = volume.persistent_volume_claim()
            && made.contains(claim.claim_name())
        {
            let field = Spot::of(claim).field(n::CLAIM_NAME);
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            e.invalid(field, claim.claim_name(), detail);
        }
    }
    sound
}

/// Exactly one source.
fn source(e: &mut Errors<'_>, of: &Of<'_, '_>) {
    let volume = of.volume;
    let mut found = false;
    for (field, called, rule) in SOURCES {
        let Some(source) = volume.node().get(*field) else {
            continue;
        };
        if found {
            let path = rules::beside(e, Spot::of(volume), &format!(".{called}"));
            e.push(FieldError::forbidden(path, MORE_THAN_ONE));
        } else {
            rule(e, Node::new(source), of);
        }
        found = true;
        if *field == Volume::ISCSI {
            block::iscsi_name(e, volume, Node::new(source));
        }
    }
    if !found {
        e.required(Spot::of(volume), "must specify a volume type");
    }
}

pub(in crate::strategies) fn at(node: Node<'_>) -> Spot<'_> {
    Spot::node(node.value())
}

/// A text that must be given.
pub(in crate::strategies) fn need(e: &mut Errors<'_>, node: Node<'_>, field: NameId) {
    if node.str(field).is_empty() {
        e.required(at(node).field(field), "");
    }
}

/// A list that must have something in it.
pub(in crate::strategies) fn some(e: &mut Errors<'_>, node: Node<'_>, field: NameId) {
    if node.items(field).is_empty() {
        e.required(at(node).field(field), "");
    }
}

/// A DNS label, if it is given.
pub(in crate::strategies) fn label(e: &mut Errors<'_>, node: Node<'_>, field: NameId) {
    let text = node.str(field);
    if !text.is_empty() {
        e.invalid_each(at(node).field(field), text, names::dns_label_problems(text));
    }
}

fn empty_dir(e: &mut Errors<'_>, source: Node<'_>, _: &Of<'_, '_>) {
    let limit = super::resources::amount(source.get(n::SIZE_LIMIT));
    if limit.is_some_and(|limit| limit.signum() < 0) {
        let detail = "SizeLimit field must be a valid resource quantity";
        e.forbidden(at(source).field(n::SIZE_LIMIT), detail);
    }
    if let Some(mode) = source.opt_int(n::MODE)
        && !(0..=0o1777).contains(&mode)
    {
        e.invalid(at(source).field(n::MODE), mode, MODE_OF_EMPTY);
    }
}

/// Kinds of paths of the node.
const HOST_PATHS: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

pub(in crate::strategies) fn host_path(e: &mut Errors<'_>, source: Node<'_>) {
    let path = source.str(n::PATH);
    if path.is_empty() {
        e.required(at(source).field(n::PATH), "");
        return;
    }
    no_backsteps(e, at(source).field(n::PATH), path);
    if let Some(kind) = source.opt_str(n::TYPE) {
        rules::known(e, at(source).field(n::TYPE), kind, &HOST_PATHS);
    }
}

pub(in crate::strategies) fn nfs(e: &mut Errors<'_>, source: Node<'_>) {
    need(e, source, n::SERVER);
    need(e, source, n::PATH);
    let path = source.str(n::PATH);
    if !path.starts_with('/') {
        e.invalid(at(source).field(n::PATH), path, "must be an absolute path");
    }
}

pub(in crate::strategies) fn flocker(e: &mut Errors<'_>, source: Node<'_>) {
    let (name, uuid) = (source.str(n::DATASET_NAME), source.str(n::DATASET_UUID));
    if name.is_empty() && uuid.is_empty() {
        e.required(at(source), "one of datasetName and datasetUUID is required");
    }
    if !name.is_empty() && !uuid.is_empty() {
        let detail = "datasetName and datasetUUID can not be specified simultaneously";
        e.invalid(at(source), "resource", detail);
    }
    if name.contains('/') {
        e.invalid(
            at(source).field(n::DATASET_NAME),
            name,
            "must not contain '/'",
        );
    }
}

/// A volume that lives as long as the pod, made from a claim of its own.
fn ephemeral(e: &mut Errors<'_>, source: Node<'_>, of: &Of<'_, '_>) {
    match source.get(n::VOLUME_CLAIM_TEMPLATE).map(Node::new) {
        None => e.required(at(source).field(n::VOLUME_CLAIM_TEMPLATE), ""),
        Some(template) => {
            template_metadata(e, template);
            super::super::volumes::claim_template_spec(e, template.message(n::SPEC));
        }
    }
    let (volume, pod) = (of.volume, of.options.pod.map(meta::name));
    if let Some(pod) = pod.filter(|pod| !pod.is_empty() && !volume.name().is_empty()) {
        let claim = format!("{pod}-{}", volume.name());
        for problem in names::subdomain_name(&claim, false) {
            let detail = format!("PVC name {}: {problem}", quote(&claim));
            e.invalid(Spot::of(volume).field(n::NAME), volume.name(), detail);
        }
    }
}

/// Labels and annotations, and nothing else, for everything else is the server's to say.
pub(in crate::strategies) fn template_metadata(e: &mut Errors<'_>, template: Node<'_>) {
    let Some(metadata) = template.get(n::METADATA) else {
        return;
    };
    let at = Spot::node(metadata);
    let map = Node::new(metadata);
    meta::validate_annotations(map.dict(n::ANNOTATIONS), at.field(n::ANNOTATIONS), e);
    meta::validate_labels(map.dict(n::LABELS), at.field(n::LABELS), e);
    let mut set: Vec<(NameId, &str)> = Vec::new();
    for field in [
        n::NAME,
        n::GENERATE_NAME,
        n::NAMESPACE,
        n::SELF_LINK,
        n::UID,
        n::RESOURCE_VERSION,
        n::GENERATION,
        n::CREATION_TIMESTAMP,
        n::DELETION_TIMESTAMP,
        n::DELETION_GRACE_PERIOD_SECONDS,
        n::OWNER_REFERENCES,
        n::FINALIZERS,
        n::MANAGED_FIELDS,
    ] {
        if is_set(metadata.as_map(), field) {
            // Upstream makes the path from the field's name in Go.
            set.push((field, if field == n::UID { "uID" } else { field.text() }));
        }
    }
    for (_, shown) in set {
        let path = rules::beside(e, at, &format!(".{shown}"));
        e.push(FieldError::forbidden(path, "cannot be set"));
    }
}

fn is_set(map: Option<&Map>, field: NameId) -> bool {
    map.and_then(|m| m.get(field)).is_some_and(|v| match v {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        _ => true,
    })
}
