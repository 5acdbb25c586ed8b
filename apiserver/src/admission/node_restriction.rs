//! `NodeRestriction`: a kubelet writes about itself and about its own pods only, and cannot use what it
//! writes to draw work or permissions to itself.
//!
//! It completes the node authorizer, which does not see the objects that are written. Upstream:
//! `plugin/pkg/admission/noderestriction`.

use proto::catalogue::names as n;
use proto::path::quote;
use proto::view::core_v1::Pod;
use proto::view::{Node, View};
use proto::{NameId, Value, meta};
use resources::equal::{same, same_at};
use resources::status::Failure;

use super::{Attributes, CHANGES, Operation, Plugin};
use crate::authz::node::{identity, references};
use crate::server::Server;

mod credentials;
mod labels;

/// Off by default as upstream's; clusters with nodes of several tenants' trust switch it on.
pub(super) const PLUGIN: Plugin = Plugin {
    name: "NodeRestriction",
    operations: CHANGES,
    mutate: Some(|server, write| Box::pin(admit(server, write))),
    ..Plugin::OFF
};

/// Nothing, or why not.
type Verdict = Result<(), Failure>;

async fn admit(server: &Server, write: &mut Attributes<'_>) -> Verdict {
    if write.operation == Operation::Connect {
        return Ok(());
    }
    let Some(node) = identity(write.user) else {
        return Ok(());
    };
    if node.is_empty() {
        return Err(write.forbid(&format!(
            "could not determine node from user {}",
            quote(&write.user.name)
        )));
    }
    match (write.resource.group, write.resource.name, write.subresource) {
        ("", "pods", "") => pod(server, node, write).await,
        ("", "pods", "status") => refuse(write, pod_status(node, write)),
        ("", "pods", "eviction") => eviction(server, node, write).await,
        ("", "pods", other) => {
            let why = format!(
                "unexpected pod subresource {}, only 'status' and 'eviction' are allowed",
                quote(other)
            );
            Err(write.forbid(&why))
        }
        ("", "nodes", _) => refuse(write, labels::node(node, write)),
        ("", "persistentvolumeclaims", "status") => refuse(write, claim_status(node, write)),
        ("", "persistentvolumeclaims", _) => Err(write.forbid("may only update PVC status")),
        ("", "serviceaccounts", "token") => credentials::token(server, node, write).await,
        ("certificates.k8s.io", "podcertificaterequests", _) => {
            credentials::pod_certificate(server, node, write).await
        }
        ("certificates.k8s.io", "certificatesigningrequests", _) => {
            let insecure = server
                .config
                .features
                .enabled("AllowInsecureKubeletCertificateSigningRequests");
            if insecure {
                Ok(())
            } else {
                refuse(write, credentials::signing_request(node, write))
            }
        }
        ("coordination.k8s.io", "leases", _) => refuse(write, lease(node, write)),
        ("storage.k8s.io", "csinodes", _) => {
            let health = server.config.features.enabled("CSIVolumeHealth");
            refuse(write, csi_node(node, write, health))
        }
        ("resource.k8s.io", "resourceslices", _) => refuse(write, slice(node, write)),
        _ => Ok(()),
    }
}

/// A reason as a refusal.
fn refuse(write: &Attributes<'_>, verdict: Result<(), String>) -> Verdict {
    verdict.map_err(|why| write.forbid(&why))
}

fn node_of(pod: &Value) -> &str {
    Pod::of(Node::new(pod)).spec().node_name()
}

/// A pod that must be there. Upstream's listers name what they do not find by the singular.
async fn existing(server: &Server, write: &Attributes<'_>, name: &str) -> Result<Value, Failure> {
    let pod = server.lookup("", "pods", write.namespace, name).await?;
    pod.ok_or_else(|| Failure::not_found("", "pod", name))
}

async fn pod(server: &Server, node: &str, write: &Attributes<'_>) -> Verdict {
    let quoted = quote(node);
    match (write.operation, write.object.as_deref()) {
        (Operation::Create, Some(pod)) => {
            refuse(write, mirror_pod(node, pod))?;
            let found = server.lookup("", "nodes", "", node).await?;
            let found = found.ok_or_else(|| Failure::not_found("", "node", node))?;
            let owner = meta::owner_references(pod)
                .first()
                .and_then(|o| o.get(n::UID))
                .and_then(Value::as_str);
            let (owner, uid) = (owner.unwrap_or_default(), meta::uid(&found));
            if owner != uid {
                return Err(write.forbid(&format!(
                    "node {node} UID mismatch: expected {owner} got {uid}"
                )));
            }
            refuse(write, no_references(node, pod))
        }
        (Operation::Delete, _) => {
            let on = match write.old {
                Some(old) => node_of(old) == node,
                None => node_of(&existing(server, write, write.name).await?) == node,
            };
            let why =
                format!("node {quoted} can only delete pods with spec.nodeName set to itself");
            if on { Ok(()) } else { Err(write.forbid(&why)) }
        }
        (operation, _) => {
            let operation = quote(operation.text());
            let why = format!(
                "unexpected operation {operation}, node {quoted} can only create and delete mirror pods"
            );
            Err(write.forbid(&why))
        }
    }
}

/// What a node may create: a mirror of a pod that it runs on its own account, owned by itself.
fn mirror_pod(node: &str, pod: &Value) -> Result<(), String> {
    let quoted = quote(node);
    if !references::is_mirror(pod) {
        let annotation = quote(references::MIRROR);
        return Err(format!(
            "pod does not have {annotation} annotation, node {quoted} can only create mirror pods"
        ));
    }
    if node_of(pod) != node {
        return Err(format!(
            "node {quoted} can only create pods with spec.nodeName set to itself"
        ));
    }
    let owner = match meta::owner_references(pod) {
        [owner] => owner,
        [] => {
            return Err(format!(
                "node {quoted} can only create pods with an owner reference set to itself"
            ));
        }
        _ => {
            return Err(format!(
                "node {quoted} can only create pods with a single owner reference set to itself"
            ));
        }
    };
    let is = |name: NameId, wanted: &str| owner.get(name).and_then(Value::as_str) == Some(wanted);
    let flag = |name: NameId| owner.get(name).and_then(Value::as_bool) == Some(true);
    if !is(n::API_VERSION, "v1") || !is(n::KIND, "Node") || !is(n::NAME, node) {
        return Err(format!(
            "node {quoted} can only create pods with an owner reference set to itself"
        ));
    }
    if !flag(n::CONTROLLER) {
        return Err(format!(
            "node {quoted} can only create pods with a controller owner reference set to itself"
        ));
    }
    if flag(n::BLOCK_OWNER_DELETION) {
        return Err(format!(
            "node {quoted} must not set blockOwnerDeletion on an owner reference"
        ));
    }
    Ok(())
}

fn no_references(node: &str, pod: &Value) -> Result<(), String> {
    match references::api_object(Pod::of(Node::new(pod)).spec()) {
        Ok(None) => Ok(()),
        Ok(Some(what)) => Err(format!(
            "node {} can not create pods that reference {what}",
            quote(node)
        )),
        Err(why) => Err(format!(
            "error checking mirror pod for API references: {why}"
        )),
    }
}

fn pod_status(node: &str, write: &Attributes<'_>) -> Result<(), String> {
    let (Operation::Update, Some(old), Some(new)) =
        (write.operation, write.old, write.object.as_deref())
    else {
        return Err(format!(
            "unexpected operation {}",
            quote(write.operation.text())
        ));
    };
    let quoted = quote(node);
    if node_of(old) != node {
        return Err(format!(
            "node {quoted} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    if meta::labels(old) != meta::labels(new) {
        return Err(format!(
            "node {quoted} cannot update labels through pod status"
        ));
    }
    let kept = [
        (n::RESOURCE_CLAIM_STATUSES, "resource claim statues"),
        (
            n::EXTENDED_RESOURCE_CLAIM_STATUS,
            "extended resource claim status",
        ),
        (
            n::NODE_ALLOCATABLE_RESOURCE_CLAIM_STATUSES,
            "node allocatable resource claim statuses",
        ),
    ];
    match kept
        .iter()
        .find(|(field, _)| !same_at(old, new, &[n::STATUS, *field]))
    {
        Some((_, what)) => Err(format!("node {quoted} cannot update {what}")),
        None => Ok(()),
    }
}

async fn eviction(server: &Server, node: &str, write: &Attributes<'_>) -> Verdict {
    if write.operation != Operation::Create {
        return Err(write.forbid(&format!("unexpected operation {}", write.operation.text())));
    }
    let name = match (write.name, write.object.as_deref()) {
        ("", Some(eviction)) => meta::name(eviction),
        (name, _) => name,
    };
    if name.is_empty() {
        return Err(write.forbid("could not determine pod from request data"));
    }
    if node_of(&existing(server, write, name).await?) != node {
        return Err(write.forbid(&format!(
            "node {node} can only evict pods with spec.nodeName set to itself"
        )));
    }
    Ok(())
}

fn claim_status(node: &str, write: &Attributes<'_>) -> Result<(), String> {
    const FREE: [&[NameId]; 6] = [
        &[n::METADATA, n::RESOURCE_VERSION],
        &[n::METADATA, n::MANAGED_FIELDS],
        &[n::STATUS, n::CAPACITY],
        &[n::STATUS, n::CONDITIONS],
        &[n::STATUS, n::ALLOCATED_RESOURCE_STATUSES],
        &[n::STATUS, n::ALLOCATED_RESOURCES],
    ];
    let (Operation::Update, Some(old), Some(new)) =
        (write.operation, write.old, write.object.as_deref())
    else {
        return Err(format!(
            "unexpected operation {}",
            quote(write.operation.text())
        ));
    };
    let (mut old, mut new) = (old.clone(), new.clone());
    for field in FREE {
        old.remove(field);
        new.remove(field);
    }
    if same(&old, &new) {
        return Ok(());
    }
    Err(format!(
        "node {} is not allowed to update fields other than status.quantity and status.conditions",
        quote(node)
    ))
}

/// The name of the object: creates name it in the object alone.
fn name<'a>(write: &'a Attributes<'_>) -> &'a str {
    match (write.operation, write.object.as_deref()) {
        (Operation::Create, Some(object)) => meta::name(object),
        _ => write.name,
    }
}

fn lease(node: &str, write: &Attributes<'_>) -> Result<(), String> {
    if write.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" system namespace".into());
    }
    if name(write) != node {
        return Err("can only access node lease with the same name as the requesting node".into());
    }
    Ok(())
}

fn csi_node(node: &str, write: &Attributes<'_>, health: bool) -> Result<(), String> {
    if name(write) != node {
        return Err("can only access CSINode with the same name as the requesting node".into());
    }
    if write.subresource != "status" {
        return Ok(());
    }
    if !health {
        return Err("CSIVolumeHealth feature gate is disabled".into());
    }
    match (write.operation, write.old, write.object.as_deref()) {
        (Operation::Update, Some(old), Some(new)) if same_at(old, new, &[n::SPEC]) => Ok(()),
        (Operation::Update, Some(_), Some(_)) => Err(format!(
            "node {} is not allowed to modify CSINode spec via status",
            quote(node)
        )),
        (operation, ..) => Err(format!("unexpected operation {}", quote(operation.text()))),
    }
}

fn slice(node: &str, write: &Attributes<'_>) -> Result<(), String> {
    let (object, verb) = match write.operation {
        Operation::Create => (write.object.as_deref(), "create"),
        Operation::Delete => (write.old, "delete"),
        _ => return Ok(()),
    };
    let on = object
        .and_then(|o| o.at(&[n::SPEC, n::NODE_NAME]))
        .and_then(Value::as_str);
    if on != Some(node) {
        return Err(format!(
            "can only {verb} ResourceSlice with the same NodeName as the requesting node"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
