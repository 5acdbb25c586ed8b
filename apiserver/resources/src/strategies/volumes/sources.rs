//! What a persistent volume is made of: exactly one source, and that complete.
//!
//! Upstream: `ValidatePersistentVolumeSpec` and below. Some of its paths are not those of the fields.

use proto::NameId;
use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, FieldError, Spot};
use proto::view::core_v1::PersistentVolumeSpec;
use proto::view::{Node, View};

use crate::rules;
use crate::strategies::pod_spec::block;
use crate::strategies::pod_spec::volumes::{
    at, flocker, host_path, label, need, nfs, no_backsteps, some,
};

const MORE_THAN_ONE: &str = "may not specify more than 1 volume type";

/// The volume with the source, and its name.
struct Of<'a> {
    spec: PersistentVolumeSpec<'a>,
    name: &'a str,
}

type Rule = fn(&mut Errors<'_>, Node<'_>, &Of<'_>);

/// Sources in the order in which upstream looks for them.
const SOURCES: &[(NameId, Rule)] = &[
    (n::HOST_PATH, |e, source, _| host_path(e, source)),
    (n::GCE_PERSISTENT_DISK, |e, source, of| {
        block::gce_persistent_disk(e, Spot::of(of.spec), source)
    }),
    (n::AWS_ELASTIC_BLOCK_STORE, |e, source, _| {
        block::aws_elastic_block_store(e, source)
    }),
    (n::GLUSTERFS, glusterfs),
    (n::FLOCKER, |e, source, _| flocker(e, source)),
    (n::NFS, |e, source, _| nfs(e, source)),
    (n::RBD, |e, source, _| block::rbd(e, source)),
    (n::QUOBYTE, |e, source, _| block::quobyte(e, source)),
    (n::CEPHFS, |e, source, _| some(e, source, n::MONITORS)),
    (n::ISCSI, iscsi),
    (n::CINDER, |e, source, _| {
        need(e, source, n::VOLUME_ID);
        block::secret(e, source, &[n::NAME, n::NAMESPACE]);
    }),
    (n::FC, |e, source, _| block::fibre_channel(e, source)),
    (n::FLEX_VOLUME, |e, source, _| block::flex(e, source)),
    (n::AZURE_FILE, |e, source, _| {
        need(e, source, n::SECRET_NAME);
        need(e, source, n::SHARE_NAME);
        if source.opt_str(n::SECRET_NAMESPACE) == Some("") {
            e.required(at(source).field(n::SECRET_NAMESPACE), "");
        }
    }),
    (n::VSPHERE_VOLUME, |e, source, _| {
        need(e, source, n::VOLUME_PATH)
    }),
    (n::PHOTON_PERSISTENT_DISK, |e, source, _| {
        need(e, source, n::PD_ID)
    }),
    (n::PORTWORX_VOLUME, |e, source, _| {
        need(e, source, n::VOLUME_ID)
    }),
    (n::AZURE_DISK, |e, source, _| block::azure_disk(e, source)),
    (n::SCALE_IO, |e, source, _| block::scale_io(e, source)),
    (n::LOCAL, local),
    (n::STORAGEOS, |e, source, _| {
        block::storage_os(e, source);
        block::secret(e, source, &[n::NAME, n::NAMESPACE]);
    }),
    (n::CSI, csi),
];

pub(super) fn sources(spec: PersistentVolumeSpec<'_>, name: &str, e: &mut Errors<'_>) {
    let of = Of { spec, name };
    let mut found = false;
    for (field, rule) in SOURCES {
        let Some(source) = spec.node().get(*field) else {
            continue;
        };
        // Upstream does not count this one's place.
        if !found || *field == n::FLEX_VOLUME {
            rule(e, Node::new(source), &of);
        } else if *field == n::CEPHFS {
            let path = rules::beside(e, Spot::of(spec), ".cephFS");
            e.push(FieldError::forbidden(path, MORE_THAN_ONE));
        } else {
            e.forbidden(Spot::of(spec).field(*field), MORE_THAN_ONE);
        }
        found = true;
    }
    if !found {
        e.required(Spot::of(spec), "must specify a volume type");
    }
}

fn glusterfs(e: &mut Errors<'_>, source: Node<'_>, _: &Of<'_>) {
    need(e, source, n::ENDPOINTS);
    need(e, source, n::PATH);
    let field = at(source).field(n::ENDPOINTS_NAMESPACE);
    match source.opt_str(n::ENDPOINTS_NAMESPACE) {
        None => {}
        Some("") => {
            let detail = "if the endpointnamespace is set, it must be a valid namespace name";
            e.invalid(field, "", detail);
        }
        Some(namespace) => {
            e.invalid_each(field, namespace, names::label_name(namespace, false));
        }
    }
}

fn iscsi(e: &mut Errors<'_>, source: Node<'_>, of: &Of<'_>) {
    const MAX_NAME: usize = 64;
    let portal = source.str(n::TARGET_PORTAL);
    need(e, source, n::TARGET_PORTAL);
    let initiator = source.opt_str(n::INITIATOR_NAME);
    // Upstream spells two fields in its own way.
    let path = e.path(at(source));
    if initiator.is_some() && of.name.len() + 1 + portal.len() > MAX_NAME {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        e.push(FieldError::invalid(
            format!("{path}.targetportal"),
            portal,
            detail,
        ));
    }
    let is_wrong = |name| block::iscsi_problem(name).is_some();
    let detail = "must be valid format";
    need(e, source, n::IQN);
    let target = source.str(n::IQN);
    if !target.is_empty() && is_wrong(target) {
        e.invalid(at(source).field(n::IQN), target, detail);
    }
    block::lun(e, source);
    let authenticates = source.bool(n::CHAP_AUTH_DISCOVERY) || source.bool(n::CHAP_AUTH_SESSION);
    if authenticates && source.get(n::SECRET_REF).is_none() {
        e.required(at(source).field(n::SECRET_REF), "");
    }
    block::secret(e, source, &[n::NAME]);
    if let Some(initiator) = initiator.filter(|name| is_wrong(name)) {
        let path = format!("{path}.initiatorname");
        e.push(FieldError::invalid(path, initiator, detail));
    }
}

fn local(e: &mut Errors<'_>, source: Node<'_>, of: &Of<'_>) {
    let path = source.str(n::PATH);
    need(e, source, n::PATH);
    no_backsteps(e, at(source).field(n::PATH), path);
    if of.spec.node_affinity().is_none() {
        let field = Spot::of(of.spec).field(n::NODE_AFFINITY);
        e.required(field, "Local volume requires node affinity");
    }
}

fn csi(e: &mut Errors<'_>, source: Node<'_>, _: &Of<'_>) {
    block::driver(e, at(source).field(n::DRIVER), source.str(n::DRIVER));
    need(e, source, n::VOLUME_HANDLE);
    for field in [
        n::CONTROLLER_PUBLISH_SECRET_REF,
        n::CONTROLLER_EXPAND_SECRET_REF,
        n::NODE_PUBLISH_SECRET_REF,
        n::NODE_EXPAND_SECRET_REF,
    ] {
        let Some(secret) = source.get(field).map(Node::new) else {
            continue;
        };
        need(e, secret, n::NAME);
        let name = secret.str(n::NAME);
        if !name.is_empty() {
            e.invalid_each(
                at(secret).field(n::NAME),
                name,
                names::dns_subdomain_problems(name),
            );
        }
        need(e, secret, n::NAMESPACE);
        label(e, secret, n::NAMESPACE);
    }
}
