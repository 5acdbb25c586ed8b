//! Role-based access control.
//!
//! An index from subjects to bindings and from names to compiled rules, kept up to date by following
//! the four collections. A check looks up the user, its groups and its service account, and nothing
//! else: its cost grows with the roles of those, not with the cluster's.
//!
//! Upstream: `plugin/pkg/auth/authorizer/rbac`, `pkg/registry/rbac/validation`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use component::{Supervisor, Task};
use parking_lot::RwLock;
use proto::catalogue::names as n;
use proto::{Value, meta};
use resources::object::{self, Type};
use store::Entry;

use super::{Attributes, Authorizer, Decision};
use crate::auth::User;
use crate::registry::Registry;
use crate::registry::follow::{Told, follow};

mod index;
mod rule;

pub use index::{Binding, Index, Key, Subject};
pub use rule::{Rule, uncovered};

/// The authorizer. Cheap to clone.
#[derive(Clone)]
pub struct Rbac {
    index: Arc<RwLock<Index>>,
    /// Collections that have not been read yet: until then nothing is known and nobody is allowed.
    unread: Arc<AtomicUsize>,
}

const ROLES: &str = "roles";
const CLUSTER_ROLES: &str = "clusterroles";
const ROLE_BINDINGS: &str = "rolebindings";
const CLUSTER_ROLE_BINDINGS: &str = "clusterrolebindings";

impl Rbac {
    /// Follows the collections from now on.
    pub fn new(registry: &Registry, tasks: &Supervisor) -> anyhow::Result<Self> {
        let rbac = Self {
            index: Arc::default(),
            unread: Arc::new(AtomicUsize::new(4)),
        };
        for resource in [ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS] {
            let endpoint = registry
                .any_version("rbac.authorization.k8s.io", resource)
                .ok_or_else(|| anyhow::anyhow!("--authorization-mode=RBAC needs rbac.authorization.k8s.io/v1, which is switched off"))?;
            let (index, unread, hub) = (rbac.index.clone(), rbac.unread.clone(), endpoint.hub);
            let mut first = true;
            let collection = endpoint.collection.clone();
            tasks.spawn(Task::Worker, format!("rbac-{resource}"), async move {
                follow(collection, |told| {
                    if matches!(told, Told::Complete) && std::mem::replace(&mut first, false) {
                        unread.fetch_sub(1, Ordering::Release);
                    }
                    apply(&mut index.write(), resource, &hub, &told);
                })
                .await;
            });
        }
        Ok(rbac)
    }

    /// Whether all roles and bindings are known.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.unread.load(Ordering::Acquire) == 0
    }

    /// Every rule that holds for a user in a namespace, for `SelfSubjectRulesReview` and escalation
    /// checks, with what is wrong with the bindings.
    #[must_use]
    pub fn rules_for(&self, user: &User, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        self.index.read().rules_for(user, namespace)
    }

    /// The rules of a role, by its namespace (empty for cluster roles) and name.
    #[must_use]
    pub fn role(&self, namespace: &str, name: &str) -> Option<Arc<[Rule]>> {
        let key = (namespace.into(), name.into());
        self.index.read().role(&key).cloned()
    }
}

impl Authorizer for Rbac {
    fn authorize(&self, asked: &Attributes<'_>) -> Decision {
        let mut missing = Vec::new();
        let namespace = if asked.is_resource {
            asked.namespace
        } else {
            ""
        };
        let allowed = self
            .index
            .read()
            .visit(asked.user, namespace, &mut missing, |rule| {
                rule.allows(asked)
            });
        if allowed {
            return Decision::Allow;
        }
        if missing.is_empty() {
            return Decision::NoOpinion(String::new());
        }
        missing.sort();
        Decision::NoOpinion(format!("RBAC: {}", proto::path::aggregate(&missing)))
    }

    fn reason(&self, asked: &Attributes<'_>) -> String {
        let namespace = if asked.is_resource {
            asked.namespace
        } else {
            ""
        };
        let index = self.index.read();
        index
            .source(asked.user, namespace, |rule| rule.allows(asked))
            .map(|s| format!("RBAC: allowed by {s}"))
            .unwrap_or_default()
    }

    fn rules_for(&self, user: &User, namespace: &str) -> super::Rules {
        let (rules, errors) = self.rules_for(user, namespace);
        super::Rules {
            rules,
            incomplete: false,
            errors,
        }
    }
}

fn apply(index: &mut Index, resource: &str, hub: &Type, told: &Told) {
    let cluster = matches!(resource, CLUSTER_ROLES | CLUSTER_ROLE_BINDINGS);
    let is_role = matches!(resource, ROLES | CLUSTER_ROLES);
    match told {
        Told::Reset if is_role => index.drop_roles(cluster),
        Told::Reset => index.drop_bindings(cluster),
        Told::Put(entry) => {
            let Ok(object) = object::from_body(&entry.body, hub) else {
                return;
            };
            if is_role {
                let rules = object
                    .get(n::RULES)
                    .and_then(Value::as_list)
                    .unwrap_or_default();
                index.put_role(key(entry), rules.iter().map(Rule::of).collect());
            } else {
                index.put_binding(key(entry), binding(&object));
            }
        }
        Told::Gone(entry) if is_role => index.drop_role(&key(entry)),
        Told::Gone(entry) => index.drop_binding(&key(entry)),
        Told::Complete => {}
    }
}

fn key(entry: &Entry) -> Key {
    (entry.namespace().into(), entry.name().into())
}

fn binding(object: &Value) -> Binding {
    let text = |v: &Value, name: proto::NameId| -> Box<str> {
        v.get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .into()
    };
    let namespace = meta::namespace(object);
    let role = object.get(n::ROLE_REF).cloned().unwrap_or_default();
    let of = if &*text(&role, n::KIND) == "ClusterRole" {
        ""
    } else {
        namespace
    };
    let subjects = object
        .get(n::SUBJECTS)
        .and_then(Value::as_list)
        .unwrap_or_default();
    let subjects = subjects
        .iter()
        .filter_map(|s| match &*text(s, n::KIND) {
            "User" => Some(Subject::User(text(s, n::NAME))),
            "Group" => Some(Subject::Group(text(s, n::NAME))),
            "ServiceAccount" => {
                let given = text(s, n::NAMESPACE);
                let own = if given.is_empty() { namespace } else { &given };
                let name = format!("{own}:{}", text(s, n::NAME));
                // A binding that holds everywhere must say where the account is.
                (!own.is_empty()).then(|| Subject::ServiceAccount(name.into()))
            }
            _ => None,
        })
        .collect();
    Binding {
        role: (of.into(), text(&role, n::NAME)),
        subjects,
    }
}

#[cfg(test)]
mod tests;
