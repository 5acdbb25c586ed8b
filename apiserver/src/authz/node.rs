//! The node authorizer: a kubelet reads what its own pods need, and nothing else.
//!
//! What a pod needs is known from the pods that are bound to the node: its secrets, config maps,
//! claims with their volumes, account and resource claims. Access to other resources is the same for
//! all nodes: the rules of the role `system:node`. What a node may *write* into the objects that it
//! reaches is the matter of the admission plugin `NodeRestriction`.
//!
//! Upstream: `plugin/pkg/auth/authorizer/node`.

use std::sync::Arc;

use component::{Supervisor, Task};
use parking_lot::RwLock;
use proto::selector::FieldSelector;

use self::graph::{Graph, Kind};
use super::rbac::Rule;
use super::{Attributes, Authorizer, Decision, Rules};
use crate::auth::User;
use crate::registry::Registry;
use crate::registry::follow::follow;

mod graph;
pub mod references;

/// The group of all nodes.
pub const GROUP: &str = "system:nodes";
/// What the name of a node's user begins with.
pub const PREFIX: &str = "system:node:";

/// The name of the node that a user is; none if it is no node. It may be empty, which is no node that
/// may do anything.
#[must_use]
pub fn identity(user: &User) -> Option<&str> {
    user.name.strip_prefix(PREFIX).filter(|_| user.is_in(GROUP))
}

/// The authorizer.
pub struct Node {
    graph: Arc<RwLock<Graph>>,
    /// What all nodes may do.
    rules: Vec<Rule>,
}

impl Node {
    /// Follows what pods refer to from now on.
    ///
    /// # Errors
    /// If the bootstrap policy has no role for nodes.
    pub fn new(registry: &Registry, tasks: &Supervisor) -> anyhow::Result<Self> {
        let rules = super::bootstrap::rules("system:node", registry.gates);
        let rules = rules.map_err(anyhow::Error::msg)?;
        let graph: Arc<RwLock<Graph>> = Arc::default();
        for source in graph::SOURCES {
            // A resource that is not served has nothing that nodes could need.
            let Some(endpoint) = registry.any_version(source.group, source.resource) else {
                continue;
            };
            let (graph, hub, collection) =
                (graph.clone(), endpoint.hub, endpoint.collection.clone());
            tasks.spawn(
                Task::Worker,
                format!("node-authorizer-{}", source.resource),
                async move {
                    follow(collection, |told| graph::apply(&graph, source, &hub, &told)).await;
                },
            );
        }
        Ok(Self { graph, rules })
    }
}

impl Authorizer for Node {
    fn authorize(&self, asked: &Attributes<'_>) -> Decision {
        let Some(node) = identity(asked.user) else {
            return Decision::NoOpinion(String::new());
        };
        if node.is_empty() {
            let user = proto::path::quote(&asked.user.name);
            return Decision::NoOpinion(format!("unknown node for user {user}"));
        }
        match decide(&self.graph.read(), &self.rules, node, asked) {
            Ok(()) => Decision::Allow,
            Err(reason) => Decision::NoOpinion(reason),
        }
    }

    fn rules_for(&self, user: &User, _namespace: &str) -> Rules {
        if identity(user).is_none() {
            return Rules::default();
        }
        let errors = vec!["node authorizer does not support user rule resolution".to_owned()];
        Rules {
            rules: Vec::new(),
            incomplete: true,
            errors,
        }
    }
}

/// Nothing, or why not.
type Verdict = Result<(), String>;

fn no(why: &str) -> Verdict {
    Err(why.to_owned())
}

fn decide(graph: &Graph, rules: &[Rule], node: &str, asked: &Attributes<'_>) -> Verdict {
    if asked.is_resource {
        let on = On { graph, node, asked };
        match (asked.group, asked.resource) {
            ("", "secrets") => return on.read_named(Kind::Secret),
            ("", "configmaps") => return on.read_named(Kind::ConfigMap),
            ("", "persistentvolumeclaims") => return on.claim(),
            ("", "persistentvolumes") => return on.get(graph.volume(asked.name, node)),
            ("", "serviceaccounts") => return on.service_account(),
            ("", "nodes") => return on.node(),
            ("", "pods") => return on.pod(),
            ("resource.k8s.io", "resourceclaims") => return on.get(on.refers(Kind::ResourceClaim)),
            ("resource.k8s.io", "resourceslices") => return on.slice(),
            ("storage.k8s.io", "volumeattachments") => {
                return on.get(graph.attachments.is_on(asked.name, node));
            }
            ("storage.k8s.io", "csinodes") => return on.csi_node(),
            ("coordination.k8s.io", "leases") => return on.lease(),
            ("certificates.k8s.io", "podcertificaterequests") => return on.certificate_request(),
            _ => {}
        }
    }
    if rules.iter().any(|rule| rule.allows(asked)) {
        Ok(())
    } else {
        no("")
    }
}

/// A request of a node about one of the resources that are told apart.
struct On<'a> {
    graph: &'a Graph,
    node: &'a str,
    asked: &'a Attributes<'a>,
}

impl On<'_> {
    fn refers(&self, kind: Kind) -> bool {
        self.graph
            .refers(kind, self.asked.namespace, self.asked.name, self.node)
    }

    fn key(&self) -> String {
        format!("{}/{}", self.asked.namespace, self.asked.name)
    }

    fn related(&self, related: bool) -> Verdict {
        if self.asked.name.is_empty() {
            return no("No Object name found");
        }
        if related {
            return Ok(());
        }
        Err(format!(
            "no relationship found between node '{}' and this object",
            self.node
        ))
    }

    /// Only `get` of the object itself.
    fn get(&self, related: bool) -> Verdict {
        match (self.asked.verb, self.asked.subresource) {
            ("get", "") => self.related(related),
            ("get", _) => no("cannot get subresource"),
            _ => no("can only get individual resources of this type"),
        }
    }

    /// Reads of one object, by whatever verb.
    fn read_named(&self, kind: Kind) -> Verdict {
        match self.asked.verb {
            "get" | "list" | "watch" => {}
            _ => return no("can only read resources of this type"),
        }
        if !self.asked.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if self.asked.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.related(self.refers(kind))
    }

    fn claim(&self) -> Verdict {
        if self.asked.subresource != "status" {
            return self.get(self.refers(Kind::Claim));
        }
        match self.asked.verb {
            "update" | "patch" => self.related(self.refers(Kind::Claim)),
            _ => no("can only get/update/patch this type"),
        }
    }

    fn service_account(&self) -> Verdict {
        let asked = self.asked;
        if asked.verb == "get" && asked.subresource.is_empty() {
            return self.read_named(Kind::ServiceAccount);
        }
        if asked.verb != "create" || asked.name.is_empty() {
            return no("can only create tokens for individual service accounts");
        }
        if asked.subresource != "token" {
            return no("can only create token subresource of serviceaccount");
        }
        self.related(self.refers(Kind::ServiceAccount))
    }

    /// Whether a list is narrowed down to what is on the node.
    fn selects_own(&self) -> bool {
        let selector = FieldSelector::parse(self.asked.field_selector).ok();
        selector.is_some_and(|s| s.requires_exact("spec.nodeName") == Some(self.node))
    }

    fn node(&self) -> Verdict {
        match (self.asked.subresource, self.asked.verb) {
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
            ("", "get" | "list" | "watch") => match self.asked.name {
                name if name == self.node => Ok(()),
                "" => Err(format!(
                    "node '{}' cannot read all nodes, only its own Node object",
                    self.node
                )),
                name => Err(format!(
                    "node '{}' cannot read '{name}', only its own Node object",
                    self.node
                )),
            },
            _ => no(""),
        }
    }

    fn pod(&self) -> Verdict {
        match (self.asked.subresource, self.asked.verb) {
            ("", "get") => self.related(self.graph.pods.is_on(&self.key(), self.node)),
            ("", "list" | "watch") if self.selects_own() => Ok(()),
            ("", "list" | "watch") if self.asked.name.is_empty() => {
                no("can only list/watch pods with spec.nodeName field selector")
            }
            ("", "list" | "watch") => self.related(self.graph.pods.is_on(&self.key(), self.node)),
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                Ok(())
            }
            _ => no(""),
        }
    }

    fn slice(&self) -> Verdict {
        if !self.asked.subresource.is_empty() {
            return no("cannot authorize ResourceSlice subresources");
        }
        match self.asked.verb {
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => {
                self.related(self.graph.slices.is_on(self.asked.name, self.node))
            }
            "watch" | "list" | "deletecollection" if self.selects_own() => Ok(()),
            "watch" | "list" | "deletecollection" => no(
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
            _ => no(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    fn csi_node(&self) -> Verdict {
        match (self.asked.subresource, self.asked.verb) {
            ("", "get" | "create" | "update" | "patch" | "delete") => {}
            ("", _) => return no("can only get, create, update, patch, or delete a CSINode"),
            ("status", _) => return no("CSINode status access requires CSIVolumeHealth feature"),
            _ => return no("cannot authorize CSINode subresources"),
        }
        // A create does not tell the name: admission looks at that.
        if self.asked.verb != "create" && self.asked.name != self.node {
            return no("can only access CSINode with the same name as the requesting node");
        }
        Ok(())
    }

    fn lease(&self) -> Verdict {
        match self.asked.verb {
            "get" | "create" | "update" | "patch" | "delete" => {}
            _ => return no("can only get, create, update, patch, or delete a node lease"),
        }
        if self.asked.namespace != "kube-node-lease" {
            return no("can only access leases in the \"kube-node-lease\" system namespace");
        }
        if self.asked.verb != "create" && self.asked.name != self.node {
            return no("can only access node lease with the same name as the requesting node");
        }
        Ok(())
    }

    fn certificate_request(&self) -> Verdict {
        if !self.asked.subresource.is_empty() {
            return no("nodes may not access the status subresource of PodCertificateRequests");
        }
        match self.asked.verb {
            "create" => Ok(()),
            "get" => self.related(self.graph.certificates.is_on(&self.key(), self.node)),
            "list" | "watch" if self.selects_own() => Ok(()),
            "list" | "watch" => {
                no("can only list/watch podcertificaterequests with nodeName field selector")
            }
            verb => Err(format!("nodes may not {verb} podcertificaterequests")),
        }
    }
}

#[cfg(test)]
mod tests;
