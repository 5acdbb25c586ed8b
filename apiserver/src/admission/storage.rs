//! Claims and volumes: the default class of a claim, protection of what is in use, and which claims
//! may grow.
//!
//! Upstream: `plugin/pkg/admission/storage`.

use proto::catalogue::names as n;
use proto::quantity::Quantity;
use proto::view::core_v1::PersistentVolumeClaim;
use proto::view::{Node, View};
use proto::{Value, meta};
use resources::status::Failure;
use resources::strategies::storage::default_among;

use super::{Attributes, CREATE, Operation, Plugin, UPDATE};
use crate::server::Server;

pub(super) const DEFAULT_CLASS: Plugin = Plugin {
    name: "DefaultStorageClass",
    on_by_default: true,
    operations: CREATE,
    mutate: Some(|server, write| Box::pin(std::future::ready(default_class(server, write)))),
    ..Plugin::OFF
};

pub(super) const IN_USE_PROTECTION: Plugin = Plugin {
    name: "StorageObjectInUseProtection",
    on_by_default: true,
    operations: CREATE,
    mutate: Some(|_, write| Box::pin(std::future::ready(protect(write)))),
    ..Plugin::OFF
};

pub(super) const CLAIM_RESIZE: Plugin = Plugin {
    name: "PersistentVolumeClaimResize",
    on_by_default: true,
    operations: UPDATE,
    validate: Some(|server, write| Box::pin(resize(server, write))),
    ..Plugin::OFF
};

const GROUP: &str = "storage.k8s.io";
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// The class that a claim names; none if it leaves the choice to the cluster. It may be empty: none
/// wanted.
fn class(claim: &Value) -> Option<&str> {
    let own = PersistentVolumeClaim::of(Node::new(claim))
        .spec()
        .storage_class_name();
    meta::annotation(claim, BETA_CLASS).or(own)
}

fn default_class(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    if write.operation != Operation::Create || !write.is("", "persistentvolumeclaims") {
        return Ok(());
    }
    let Some(claim) = write.object.as_deref_mut().filter(|c| class(c).is_none()) else {
        return Ok(());
    };
    if let Some(name) = default_among(&server.objects(GROUP, "storageclasses")) {
        claim.set(&[n::SPEC, n::STORAGE_CLASS_NAME], name);
    }
    Ok(())
}

fn protect(write: &mut Attributes<'_>) -> Result<(), Failure> {
    if write.operation != Operation::Create || !write.subresource.is_empty() {
        return Ok(());
    }
    let finalizer = match (write.resource.group, write.resource.name) {
        ("", "persistentvolumes") => "kubernetes.io/pv-protection",
        ("", "persistentvolumeclaims") => "kubernetes.io/pvc-protection",
        (GROUP, "volumeattributesclasses") => "kubernetes.io/vac-protection",
        _ => return Ok(()),
    };
    if let Some(object) = write.object.as_deref_mut() {
        meta::add_finalizer(object, finalizer);
    }
    Ok(())
}

async fn resize(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    if write.operation != Operation::Update || !write.is("", "persistentvolumeclaims") {
        return Ok(());
    }
    let (Some(new), Some(old)) = (write.object.as_deref(), write.old) else {
        return Ok(());
    };
    if size(new) <= size(old) {
        return Ok(());
    }
    if PersistentVolumeClaim::of(Node::new(old)).status().phase() != "Bound" {
        return Err(write.forbid("Only bound persistent volume claims can be expanded"));
    }
    let kept = class(new).filter(|c| !c.is_empty() && Some(*c) == class(old));
    let found = match kept {
        Some(name) => server.lookup(GROUP, "storageclasses", "", name).await?,
        None => None,
    };
    if found
        .is_some_and(|c| c.get(n::ALLOW_VOLUME_EXPANSION).and_then(Value::as_bool) == Some(true))
    {
        return Ok(());
    }
    Err(write.forbid("only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"))
}

fn size(claim: &Value) -> Option<Quantity> {
    let requests = PersistentVolumeClaim::of(Node::new(claim))
        .spec()
        .resources();
    requests
        .node()
        .dict(n::REQUESTS)
        .get("storage")?
        .as_str()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_may_want_no_class() {
        let mut claim = Value::object();
        assert_eq!(class(&claim), None);
        claim.set(&[n::SPEC, n::STORAGE_CLASS_NAME], "");
        assert_eq!(class(&claim), Some(""));
        meta::set_annotation(&mut claim, BETA_CLASS, "old");
        assert_eq!(class(&claim), Some("old"));
    }
}
