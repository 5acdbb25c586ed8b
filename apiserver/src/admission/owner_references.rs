//! `OwnerReferencesPermissionEnforcement`: owners are set by those who may delete the object, and
//! deletions of owners are blocked by those who may set the owner's finalizers.
//!
//! Upstream: `plugin/pkg/admission/gc`.

use proto::catalogue::{self, Resource, names as n};
use proto::{Value, meta};
use resources::equal::same;
use resources::status::Failure;

use super::{Attributes, Operation, Plugin, WRITES};
use crate::authz::{self, Decision};
use crate::server::Server;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "OwnerReferencesPermissionEnforcement",
    operations: WRITES,
    validate: Some(|server, write| Box::pin(validate(server, write))),
    ..Plugin::OFF
};

async fn validate(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    // The strategy of a pod's status keeps owners as they are.
    if !matches!(write.operation, Operation::Create | Operation::Update)
        || write.is_any("", "pods") && write.subresource == "status"
    {
        return Ok(());
    }
    let Some(new) = write.object.as_deref() else {
        return Ok(());
    };
    let owners = meta::owner_references(new);
    let old = write.old.map(meta::owner_references).unwrap_or_default();
    if owners.len() == old.len() && owners.iter().zip(old).all(|(a, b)| same(a, b)) {
        return Ok(());
    }
    let (group, version, resource) = (
        write.resource.group,
        write.resource.version,
        write.resource.name,
    );
    if write.operation != Operation::Create {
        let delete = authz::Attributes {
            subresource: write.subresource,
            namespace: write.namespace,
            name: write.name,
            ..authz::Attributes::about(write.user, "delete", group, version, resource)
        };
        if let Some(why) = refused(server, &delete).await {
            return Err(write.forbid(&format!(
                "cannot set an ownerRef on a resource you can't delete: {why}, <nil>"
            )));
        }
    }
    let blocking: Vec<&Value> = owners.iter().filter(|o| newly_blocks(o, old)).collect();
    let anything = authz::Attributes {
        subresource: "finalizers",
        name: "*",
        ..authz::Attributes::about(write.user, "update", "*", "*", "*")
    };
    if blocking.is_empty() || refused(server, &anything).await.is_none() {
        return Ok(());
    }
    for owner in blocking {
        may_block(server, write, owner).await?;
    }
    Ok(())
}

async fn refused(server: &Server, asked: &authz::Attributes<'_>) -> Option<String> {
    match server.authorizers.decide(asked).await {
        Decision::Allow => None,
        Decision::Deny(why) | Decision::NoOpinion(why) => Some(why),
    }
}

fn blocks(owner: &Value) -> bool {
    owner.get(n::BLOCK_OWNER_DELETION).and_then(Value::as_bool) == Some(true)
}

fn newly_blocks(owner: &Value, old: &[Value]) -> bool {
    blocks(owner)
        && !old
            .iter()
            .any(|was| was.get(n::UID) == owner.get(n::UID) && blocks(was))
}

async fn may_block(server: &Server, write: &Attributes<'_>, owner: &Value) -> Result<(), Failure> {
    let text = |name| owner.get(name).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text(n::API_VERSION), text(n::KIND));
    let mut known = resources(api_version, kind).peekable();
    if known.peek().is_none() {
        let why = format!(
            "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {api_version} Kind {kind}: no matches for kind {} in version {}",
            proto::path::quote(kind),
            proto::path::quote(api_version)
        );
        return Err(write.forbid(&why));
    }
    for resource in known {
        let asked = authz::Attributes {
            subresource: "finalizers",
            // A namespaced owner is in the namespace of what it owns.
            namespace: if resource.namespaced {
                write.namespace
            } else {
                ""
            },
            name: text(n::NAME),
            ..authz::Attributes::about(
                write.user,
                "update",
                resource.group,
                resource.version,
                resource.name,
            )
        };
        if let Some(why) = refused(server, &asked).await {
            let why = format!(
                "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: {why}, <nil>"
            );
            return Err(write.forbid(&why));
        }
    }
    Ok(())
}

fn resources(api_version: &str, kind: &str) -> impl Iterator<Item = &'static Resource> {
    let of = meta::parse_api_version(api_version);
    catalogue::resources()
        .iter()
        .filter(move |r| of == Some((r.group, r.version)) && r.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_blocks_need_permission() {
        let owner = |uid: &str, blocks: bool| {
            let mut owner = Value::object();
            owner.set(&[n::UID], uid);
            owner.set(&[n::BLOCK_OWNER_DELETION], blocks);
            owner
        };
        assert!(newly_blocks(&owner("a", true), &[]));
        assert!(newly_blocks(
            &owner("a", true),
            &[owner("a", false), owner("b", true)]
        ));
        assert!(!newly_blocks(&owner("a", true), &[owner("a", true)]));
        assert!(!newly_blocks(&owner("a", false), &[]));
    }
}
