//! Who may have devices: administration of them is asked for in namespaces that allow it, and what a
//! claim gets is written by those who bind claims and by the drivers of its devices.
//!
//! It is no admission plugin, as it cannot be switched off: what is wrong is told among the errors of
//! validation. Upstream: `pkg/registry/resource/utils.go` (KEP-5018; gate
//! `DRAResourceClaimGranularStatusAuthorization`).

use std::collections::BTreeSet;

use proto::catalogue::{Resource, messages::resource_v1 as messages, names as n};
use proto::meta::names;
use proto::path::{FieldError, Reason};
use proto::view::resource_v1::{
    AllocatedDeviceStatus, AllocationResult, ResourceClaim, ResourceClaimSpec, ResourceClaimStatus,
    ResourceClaimTemplate,
};
use proto::view::{Node, View};
use proto::{Value, meta};
use resources::equal::alike;
use resources::status::Failure;

use super::{Attributes, Decision, refusal};
use crate::auth::User;
use crate::server::Server;

pub const GROUP: &str = "resource.k8s.io";
const CLAIMS: &str = "resourceclaims";
const TEMPLATES: &str = "resourceclaimtemplates";
/// The label of namespaces in which devices may be administered.
const ADMINISTERED: &str = "resource.kubernetes.io/admin-access";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const ASSOCIATED: &str = "associated-node:";
const ARBITRARY: &str = "arbitrary-node:";

/// A write that may give devices.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub server: &'a Server,
    pub user: &'a User,
    /// Of the request.
    pub verb: &'a str,
    pub resource: &'static Resource,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub new: &'a Value,
    pub old: Option<&'a Value>,
}

/// What speaks against a write of a resource of the [`GROUP`], as errors of its object.
pub async fn objections(asked: Asked<'_>) -> Vec<FieldError> {
    let administers = match (asked.resource.name, asked.subresource, asked.old) {
        (CLAIMS, "", None) => requested(ResourceClaim::of(Node::new(asked.new)).spec()),
        (TEMPLATES, "", None) => {
            let template = ResourceClaimTemplate::of(Node::new(asked.new));
            requested(template.spec().spec())
        }
        (CLAIMS, "status", Some(old)) => return of_status(asked, old).await,
        // What a spec asks for does not change.
        _ => None,
    };
    match administers {
        Some(at) => administered(asked, at).await.into_iter().collect(),
        None => Vec::new(),
    }
}

/// Where a claim asks for administration.
fn requested(spec: ResourceClaimSpec<'_>) -> Option<String> {
    let mut requests = spec.devices().requests().iter();
    let i = requests.position(|request| {
        let exactly = request.exactly();
        exactly.and_then(|exactly| exactly.admin_access()) == Some(true)
    })?;
    Some(format!("spec.devices.requests[{i}].adminAccess"))
}

/// Where a claim got administration.
fn granted(status: ResourceClaimStatus<'_>) -> Option<String> {
    let mut results = status.allocation()?.devices().results().iter();
    let i = results.position(|result| result.admin_access() == Some(true))?;
    Some(format!(
        "status.allocation.devices.results[{i}].adminAccess"
    ))
}

async fn administered(asked: Asked<'_>, at: String) -> Option<FieldError> {
    let namespace = asked.server.lookup("", "namespaces", "", asked.namespace);
    let unknown = |why: &str| {
        let why = format!("could not retrieve namespace to verify admin access: {why}");
        FieldError::new(Reason::Internal, at.as_str(), String::new(), why)
    };
    match namespace.await {
        Ok(Some(namespace)) if meta::label(&namespace, ADMINISTERED) == Some("true") => None,
        Ok(Some(_)) => Some(FieldError::forbidden(
            at,
            format!(
                "admin access to devices requires the `{ADMINISTERED}: true` label on the containing namespace"
            ),
        )),
        Ok(None) => {
            let failure = Failure::not_found("", "namespaces", asked.namespace);
            Some(unknown(failure.message()))
        }
        Err(failure) => Some(unknown(failure.message())),
    }
}

async fn of_status(asked: Asked<'_>, old: &Value) -> Vec<FieldError> {
    let status = |claim| ResourceClaim::of(Node::new(claim)).status();
    let (new, old) = (status(asked.new), status(old));
    let mut objections = Vec::new();
    if let Some(at) = granted(new).filter(|_| granted(old).is_none()) {
        objections.extend(administered(asked, at).await);
    }
    let features = &asked.server.config.features;
    if features.enabled("DRAResourceClaimGranularStatusAuthorization") {
        if bound(new, old) {
            objections.extend(may_bind(asked).await);
        }
        // Reports go with the allocation.
        if new.allocation().is_some() {
            for driver in reporting(new, old) {
                objections.extend(may_report(asked, new.allocation(), driver).await);
            }
        }
    }
    objections
}

/// Whether a write changes what is allocated, or to whom.
fn bound(new: ResourceClaimStatus<'_>, old: ResourceClaimStatus<'_>) -> bool {
    let at = |status: ResourceClaimStatus<'_>, field| status.node().get(field).cloned();
    let users = |status| {
        let mut only = Value::object();
        if let Some(users) = at(status, n::RESERVED_FOR) {
            only.set(&[n::RESERVED_FOR], users);
        }
        only
    };
    let (now, was) = (users(new), users(old));
    !alike(
        at(new, n::ALLOCATION).as_ref(),
        at(old, n::ALLOCATION).as_ref(),
        AllocationResult::MESSAGE,
    ) || new.allocation().is_some() != old.allocation().is_some()
        || !alike(Some(&now), Some(&was), messages::RESOURCE_CLAIM_STATUS)
}

/// The drivers whose reports a write adds, changes or takes away.
fn reporting<'a>(new: ResourceClaimStatus<'a>, old: ResourceClaimStatus<'a>) -> BTreeSet<&'a str> {
    type Device<'a> = (&'a str, &'a str, &'a str, &'a str);
    fn device<'a>(of: AllocatedDeviceStatus<'a>) -> Device<'a> {
        let share = of.share_id().unwrap_or_default();
        (of.driver(), of.pool(), of.device(), share)
    }
    let same = |a: AllocatedDeviceStatus<'_>, b: AllocatedDeviceStatus<'_>| {
        let (a, b) = (a.node().value(), b.node().value());
        alike(Some(a), Some(b), AllocatedDeviceStatus::MESSAGE)
    };
    let unlike = |all: ResourceClaimStatus<'a>, others: ResourceClaimStatus<'a>| {
        let changed = move |of: &AllocatedDeviceStatus<'a>| {
            let mut others = others.devices().iter();
            let other = others.rfind(|other| device(*other) == device(*of));
            other.is_none_or(|other| !same(*of, other))
        };
        all.devices().iter().filter(changed).map(|of| of.driver())
    };
    unlike(new, old).chain(unlike(old, new)).collect()
}

async fn may_bind(asked: Asked<'_>) -> Option<FieldError> {
    let subresource = Attributes {
        subresource: "binding",
        ..about(asked, asked.verb)
    };
    let why = refused(asked.server, &subresource).await?;
    let verb = asked.verb;
    Some(FieldError::forbidden(
        "status.allocation",
        format!(
            "changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", verb=\"{verb}\" permission: {why}"
        ),
    ))
}

/// A driver on the node of the claim may be allowed to report only there.
async fn may_report(
    asked: Asked<'_>,
    allocation: Option<AllocationResult<'_>>,
    driver: &str,
) -> Option<FieldError> {
    let mut verbs = vec![format!("{ARBITRARY}{}", asked.verb)];
    let node = allocation.and_then(node_of).unwrap_or_default();
    if is_on(asked.user, node) {
        verbs.insert(0, format!("{ASSOCIATED}{}", asked.verb));
    }
    let mut first = None;
    for verb in &verbs {
        let subresource = Attributes {
            subresource: "driver",
            namespace: asked.namespace,
            name: driver,
            ..about(asked, verb)
        };
        let why = refused(asked.server, &subresource).await?;
        first.get_or_insert(why);
    }
    let why = first.unwrap_or_default();
    Some(FieldError::forbidden(
        "status.devices",
        format!(
            "changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[{}]\" permission: {why}",
            verbs.join(" ")
        ),
    ))
}

fn about<'a>(asked: Asked<'a>, verb: &'a str) -> Attributes<'a> {
    let version = asked.resource.version;
    Attributes::about(asked.user, verb, GROUP, version, CLAIMS)
}

/// Why somebody may not do something, if he may not.
async fn refused(server: &Server, asked: &Attributes<'_>) -> Option<String> {
    let reason = match server.authorizers.decide(asked).await {
        Decision::Allow => return None,
        Decision::Deny(reason) | Decision::NoOpinion(reason) => reason,
    };
    let why = refusal(asked, &reason);
    let failure = Failure::forbidden(asked.group, asked.resource, asked.name, &why);
    Some(failure.message().to_owned())
}

/// The one node that an allocation is for.
fn node_of(allocation: AllocationResult<'_>) -> Option<&str> {
    let terms = allocation.node_selector()?.node_selector_terms();
    let term = terms.first().filter(|_| terms.len() == 1)?;
    let fields = term.match_fields();
    let field = fields.first().filter(|_| fields.len() == 1)?;
    let plain = term.match_expressions().is_empty()
        && field.key() == "metadata.name"
        && field.operator() == "In";
    match field.values() {
        [node] if plain => node.as_str(),
        _ => None,
    }
}

/// Whether a user is a service account whose token is bound to a node.
fn is_on(user: &User, node: &str) -> bool {
    let account = user.name.strip_prefix("system:serviceaccount:");
    let is_account = account.is_some_and(|rest| {
        let mut parts = rest.split(':');
        let named = |part: Option<&str>, rule: fn(&str) -> Vec<String>| {
            part.is_some_and(|part| rule(part).is_empty())
        };
        named(parts.next(), names::dns_label_problems)
            && named(parts.next(), names::dns_subdomain_problems)
            && parts.next().is_none()
    });
    let nodes = user.extra.get(NODE_NAME).map(Vec::as_slice);
    !node.is_empty()
        && is_account
        && matches!(nodes, Some([own]) if own == node)
        && names::dns_subdomain_problems(node).is_empty()
}

#[cfg(test)]
mod tests;
