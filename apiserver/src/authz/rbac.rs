//! Role-based access control.
//!
//! An index from subjects to bindings and from names to compiled rules, kept up to date by following
//! the four collections. A check looks up the user, its groups and its service account, and nothing
//! else: its cost grows with the bindings of those, not with the cluster's.
//!
//! Upstream: `plugin/pkg/auth/authorizer/rbac`, `pkg/registry/rbac/validation`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use component::{Supervisor, Task};
use parking_lot::RwLock;
use proto::catalogue::names as n;
use proto::{Value, meta};
use store::Entry;

use super::{Attributes, Authorizer, Decision};
use crate::auth::service_account;
use crate::object::{self, Type};
use crate::registry::Registry;
use crate::registry::follow::{Told, follow};

/// One rule of a role, compiled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    pub verbs: Vec<Box<str>>,
    pub groups: Vec<Box<str>>,
    pub resources: Vec<Box<str>>,
    pub names: Vec<Box<str>>,
    pub paths: Vec<Box<str>>,
}

fn texts(rule: &Value, name: proto::NameId) -> Vec<Box<str>> {
    let items = rule.get(name).and_then(Value::as_list).unwrap_or_default();
    items
        .iter()
        .filter_map(|v| v.as_str().map(Into::into))
        .collect()
}

fn has(list: &[Box<str>], wanted: &str) -> bool {
    list.iter().any(|v| **v == *"*" || **v == *wanted)
}

impl Rule {
    #[must_use]
    pub fn of(rule: &Value) -> Self {
        Self {
            verbs: texts(rule, n::VERBS),
            groups: texts(rule, n::API_GROUPS),
            resources: texts(rule, n::RESOURCES),
            names: texts(rule, n::RESOURCE_NAMES),
            paths: texts(rule, n::NON_RESOURCE_URLS),
        }
    }

    /// The rule as an object; what is empty is absent.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut value = Value::object();
        let lists = [
            (n::VERBS, &self.verbs),
            (n::API_GROUPS, &self.groups),
            (n::RESOURCES, &self.resources),
            (n::RESOURCE_NAMES, &self.names),
            (n::NON_RESOURCE_URLS, &self.paths),
        ];
        for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            value.set(
                &[name],
                list.iter()
                    .map(|text| Value::from(&**text))
                    .collect::<Vec<_>>(),
            );
        }
        value
    }

    /// Upstream's `RuleAllows`.
    #[must_use]
    pub fn allows(&self, asked: &Attributes<'_>) -> bool {
        if !has(&self.verbs, asked.verb) {
            return false;
        }
        if !asked.is_resource {
            return self.allows_path(asked.path);
        }
        has(&self.groups, asked.group)
            && self.allows_resource(asked)
            && (self.names.is_empty() || self.names.iter().any(|v| **v == *asked.name))
    }

    fn allows_path(&self, path: &str) -> bool {
        self.paths
            .iter()
            .any(|allowed| match allowed.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => **allowed == *path,
            })
    }

    /// `pods`, `pods/log`, `*/scale`, `*`.
    fn allows_resource(&self, asked: &Attributes<'_>) -> bool {
        self.resources.iter().any(|allowed| {
            if **allowed == *"*" {
                return true;
            }
            match allowed.split_once('/') {
                None => asked.subresource.is_empty() && **allowed == *asked.resource,
                Some((resource, subresource)) => {
                    !asked.subresource.is_empty()
                        && subresource == asked.subresource
                        && (resource == "*" || resource == asked.resource)
                }
            }
        })
    }
}

/// Whom a binding is for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Subject {
    User(Box<str>),
    Group(Box<str>),
    /// Namespace and name.
    ServiceAccount(Box<str>, Box<str>),
}

/// A role, by its namespace (empty for cluster roles) and name.
type RoleKey = (Box<str>, Box<str>);
type BindingKey = (Box<str>, Box<str>);

#[derive(Debug)]
struct Binding {
    role: RoleKey,
    subjects: Vec<Subject>,
}

/// Roles and bindings, with bindings by subject.
#[derive(Default)]
pub struct Index {
    roles: HashMap<RoleKey, Arc<[Rule]>>,
    bindings: HashMap<BindingKey, Binding>,
    by_subject: HashMap<Subject, HashSet<BindingKey>>,
}

impl Index {
    fn put_role(&mut self, key: RoleKey, rules: Arc<[Rule]>) {
        self.roles.insert(key, rules);
    }

    fn put_binding(&mut self, key: BindingKey, binding: Binding) {
        self.drop_binding(&key);
        for subject in &binding.subjects {
            self.by_subject
                .entry(subject.clone())
                .or_default()
                .insert(key.clone());
        }
        self.bindings.insert(key, binding);
    }

    fn drop_binding(&mut self, key: &BindingKey) {
        let Some(old) = self.bindings.remove(key) else {
            return;
        };
        for subject in &old.subjects {
            if let Some(keys) = self.by_subject.get_mut(subject) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_subject.remove(subject);
                }
            }
        }
    }

    /// Calls `visit` with every rule that holds for a user in a namespace (empty: cluster-wide rules
    /// only) until it returns true; roles that are bound but do not exist are added to `missing`.
    pub fn visit(
        &self,
        user: &crate::auth::User,
        namespace: &str,
        missing: &mut Vec<String>,
        mut visit: impl FnMut(&Rule) -> bool,
    ) -> bool {
        self.source(user, namespace, missing, |rule| visit(rule))
            .is_some()
    }

    /// Where the first rule comes from for which `wanted` returns true, as [`Index::visit`] visits them.
    fn source(
        &self,
        user: &crate::auth::User,
        namespace: &str,
        missing: &mut Vec<String>,
        mut wanted: impl FnMut(&Rule) -> bool,
    ) -> Option<Source<'_>> {
        for subject in subjects(user) {
            let Some((subject, keys)) = self.by_subject.get_key_value(&subject) else {
                continue;
            };
            let here = |key: &&BindingKey| key.0.is_empty() || *key.0 == *namespace;
            for key in keys.iter().filter(here) {
                let Some(Binding { role, .. }) = self.bindings.get(key) else {
                    continue;
                };
                match self.roles.get(role) {
                    Some(rules) if rules.iter().any(&mut wanted) => {
                        return Some(Source {
                            binding: key,
                            role,
                            subject,
                        });
                    }
                    Some(_) => {}
                    None => {
                        let kind = if role.0.is_empty() {
                            "clusterrole"
                        } else {
                            "role"
                        };
                        missing.push(format!(
                            "{kind}.rbac.authorization.k8s.io \"{}\" not found",
                            role.1
                        ));
                    }
                }
            }
        }
        None
    }
}

/// Where a rule comes from.
struct Source<'a> {
    binding: &'a BindingKey,
    role: &'a RoleKey,
    subject: &'a Subject,
}

impl std::fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.binding {
            (ns, name) if ns.is_empty() => write!(f, "ClusterRoleBinding \"{name}\"")?,
            (namespace, name) => write!(f, "RoleBinding \"{name}/{namespace}\"")?,
        }
        let kind = if self.role.0.is_empty() {
            "ClusterRole"
        } else {
            "Role"
        };
        write!(f, " of {kind} \"{}\" to ", self.role.1)?;
        match self.subject {
            Subject::User(name) => write!(f, "User \"{name}\""),
            Subject::Group(name) => write!(f, "Group \"{name}\""),
            Subject::ServiceAccount(namespace, name) => {
                write!(f, "ServiceAccount \"{name}/{namespace}\"")
            }
        }
    }
}

fn subjects(user: &crate::auth::User) -> impl Iterator<Item = Subject> + '_ {
    let account = service_account::named(&user.name);
    let account =
        account.map(|(namespace, name)| Subject::ServiceAccount(namespace.into(), name.into()));
    std::iter::once(Subject::User(user.name.as_str().into()))
        .chain(account)
        .chain(
            user.groups
                .iter()
                .map(|g| Subject::Group(g.as_str().into())),
        )
}

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
    pub fn rules_for(&self, user: &crate::auth::User, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let (mut rules, mut missing) = (Vec::new(), Vec::new());
        self.index
            .read()
            .visit(user, namespace, &mut missing, |rule| {
                rules.push(rule.clone());
                false
            });
        (rules, missing)
    }

    /// The rules of a role, by its namespace (empty for cluster roles) and name.
    #[must_use]
    pub fn role(&self, namespace: &str, name: &str) -> Option<Arc<[Rule]>> {
        self.index
            .read()
            .roles
            .get(&(namespace.into(), name.into()))
            .cloned()
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
        Decision::NoOpinion(format!("RBAC: {}", super::joined(&missing)))
    }

    fn reason(&self, asked: &Attributes<'_>) -> String {
        let namespace = if asked.is_resource {
            asked.namespace
        } else {
            ""
        };
        let index = self.index.read();
        let source = index.source(asked.user, namespace, &mut Vec::new(), |rule| {
            rule.allows(asked)
        });
        source
            .map(|s| format!("RBAC: allowed by {s}"))
            .unwrap_or_default()
    }

    fn rules_for(&self, user: &crate::auth::User, namespace: &str) -> super::Rules {
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
        Told::Reset if is_role => index.roles.retain(|key, _| key.0.is_empty() != cluster),
        Told::Reset => {
            let gone: Vec<BindingKey> = index
                .bindings
                .keys()
                .filter(|k| k.0.is_empty() == cluster)
                .cloned()
                .collect();
            gone.iter().for_each(|key| index.drop_binding(key));
        }
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
        Told::Gone(entry) if is_role => drop(index.roles.remove(&key(entry))),
        Told::Gone(entry) => index.drop_binding(&key(entry)),
        Told::Complete => {}
    }
}

fn key(entry: &Entry) -> (Box<str>, Box<str>) {
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
                let own = if given.is_empty() {
                    namespace.into()
                } else {
                    given
                };
                Some(Subject::ServiceAccount(own, text(s, n::NAME)))
            }
            _ => None,
        })
        .collect();
    Binding {
        role: (of.into(), text(&role, n::NAME)),
        subjects,
    }
}

/// The rules of `wanted` that `held` do not cover: upstream's `Covers`. Each rule is broken into single
/// permissions; a single permission is covered by one held rule.
#[must_use]
pub fn uncovered(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    wanted
        .iter()
        .flat_map(singles)
        .filter(|single| !held.iter().any(|rule| covers(rule, single)))
        .collect()
}

fn singles(rule: &Rule) -> Vec<Rule> {
    let mut all = Vec::new();
    for verb in &rule.verbs {
        for path in &rule.paths {
            all.push(Rule {
                verbs: vec![verb.clone()],
                paths: vec![path.clone()],
                ..Rule::default()
            });
        }
        for group in &rule.groups {
            for resource in &rule.resources {
                let one = Rule {
                    verbs: vec![verb.clone()],
                    groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    ..Rule::default()
                };
                if rule.names.is_empty() {
                    all.push(one);
                } else {
                    all.extend(rule.names.iter().map(|name| Rule {
                        names: vec![name.clone()],
                        ..one.clone()
                    }));
                }
            }
        }
    }
    all
}

fn covers(held: &Rule, single: &Rule) -> bool {
    let in_list = |list: &[Box<str>], wanted: &[Box<str>]| wanted.iter().all(|w| has(list, w));
    if !in_list(&held.verbs, &single.verbs) {
        return false;
    }
    if let Some(path) = single.paths.first() {
        return held.paths.iter().any(|h| {
            h == path
                || h.strip_suffix('*')
                    .is_some_and(|prefix| path.starts_with(prefix))
        });
    }
    let resources = single.resources.iter().all(|w| {
        has(&held.resources, w)
            || w.split_once('/')
                .is_some_and(|(_, sub)| held.resources.iter().any(|h| **h == *format!("*/{sub}")))
    });
    let names = held.names.is_empty()
        || (!single.names.is_empty() && single.names.iter().all(|w| held.names.contains(w)));
    in_list(&held.groups, &single.groups) && resources && names
}

#[cfg(test)]
mod tests;
