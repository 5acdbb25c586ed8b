//! Roles and bindings, found by who asks and where.
//!
//! A check looks up the user, its groups and its service account by their names as they stand in the
//! request, and visits only bindings that hold everywhere or in the namespace that is asked about:
//! neither the number of bindings in the cluster nor that of the subject's bindings elsewhere counts.

use std::collections::HashMap;
use std::sync::Arc;

use super::Rule;
use crate::auth::{User, service_account};

/// Whom a binding is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    User(Box<str>),
    Group(Box<str>),
    /// `namespace:name`, as the user's name ends.
    ServiceAccount(Box<str>),
}

/// A role or a binding, by its namespace (empty if it holds everywhere) and name.
pub type Key = (Box<str>, Box<str>);

/// A binding.
#[derive(Debug)]
pub struct Binding {
    pub role: Key,
    pub subjects: Vec<Subject>,
}

#[derive(Debug)]
struct Bound {
    key: Key,
    binding: Binding,
}

/// The bindings of one subject.
#[derive(Default)]
struct Grants {
    everywhere: Vec<Arc<Bound>>,
    by_namespace: HashMap<Box<str>, Vec<Arc<Bound>>>,
}

impl Grants {
    fn add(&mut self, bound: &Arc<Bound>) {
        let space = &bound.key.0;
        let list = if space.is_empty() {
            &mut self.everywhere
        } else {
            self.by_namespace.entry(space.clone()).or_default()
        };
        // A binding may name a subject twice.
        if !list.iter().any(|b| Arc::ptr_eq(b, bound)) {
            list.push(Arc::clone(bound));
        }
    }

    fn remove(&mut self, bound: &Arc<Bound>) {
        let space = &bound.key.0;
        if space.is_empty() {
            self.everywhere.retain(|b| !Arc::ptr_eq(b, bound));
        } else if let Some(list) = self.by_namespace.get_mut(space) {
            list.retain(|b| !Arc::ptr_eq(b, bound));
            if list.is_empty() {
                self.by_namespace.remove(space);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.everywhere.is_empty() && self.by_namespace.is_empty()
    }

    fn at(&self, namespace: &str) -> &[Arc<Bound>] {
        if namespace.is_empty() {
            &self.everywhere
        } else {
            self.by_namespace.get(namespace).map_or(&[], Vec::as_slice)
        }
    }
}

type BySubject = HashMap<Box<str>, Grants>;

/// Roles and bindings, with bindings by subject and namespace.
#[derive(Default)]
pub struct Index {
    roles: HashMap<Key, Arc<[Rule]>>,
    bindings: HashMap<Key, Arc<Bound>>,
    users: BySubject,
    groups: BySubject,
    accounts: BySubject,
}

impl Index {
    pub fn put_role(&mut self, key: Key, rules: Arc<[Rule]>) {
        self.roles.insert(key, rules);
    }

    pub fn drop_role(&mut self, key: &Key) {
        self.roles.remove(key);
    }

    /// The rules of a role.
    #[must_use]
    pub fn role(&self, key: &Key) -> Option<&Arc<[Rule]>> {
        self.roles.get(key)
    }

    pub fn put_binding(&mut self, key: Key, binding: Binding) {
        self.drop_binding(&key);
        let bound = Arc::new(Bound { key, binding });
        for subject in &bound.binding.subjects {
            let (of, name) = self.list(subject);
            of.entry(name.into()).or_default().add(&bound);
        }
        self.bindings.insert(bound.key.clone(), bound);
    }

    pub fn drop_binding(&mut self, key: &Key) {
        let Some(old) = self.bindings.remove(key) else {
            return;
        };
        for subject in &old.binding.subjects {
            let (of, name) = self.list(subject);
            if let Some(grants) = of.get_mut(name) {
                grants.remove(&old);
                if grants.is_empty() {
                    of.remove(name);
                }
            }
        }
    }

    /// Forgets the roles of the cluster, or those of namespaces.
    pub fn drop_roles(&mut self, cluster: bool) {
        self.roles.retain(|key, _| key.0.is_empty() != cluster);
    }

    /// Forgets the bindings of the cluster, or those of namespaces.
    pub fn drop_bindings(&mut self, cluster: bool) {
        let of = |key: &&Key| key.0.is_empty() == cluster;
        let gone: Vec<Key> = self.bindings.keys().filter(of).cloned().collect();
        gone.iter().for_each(|key| self.drop_binding(key));
    }

    fn list<'s>(&mut self, subject: &'s Subject) -> (&mut BySubject, &'s str) {
        match subject {
            Subject::User(name) => (&mut self.users, name),
            Subject::Group(name) => (&mut self.groups, name),
            Subject::ServiceAccount(name) => (&mut self.accounts, name),
        }
    }

    /// Nothing is bound to anybody.
    #[cfg(test)]
    pub(super) fn has_no_subject(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty() && self.accounts.is_empty()
    }

    /// Calls `visit` with every rule that holds for a user in a namespace (empty: cluster-wide rules
    /// only) until it returns true; roles that are bound but do not exist are added to `missing`.
    pub fn visit(
        &self,
        user: &User,
        namespace: &str,
        missing: &mut Vec<String>,
        mut visit: impl FnMut(&Rule) -> bool,
    ) -> bool {
        self.source(user, namespace, missing, |rule| visit(rule))
            .is_some()
    }

    /// Where the first rule comes from for which `wanted` returns true, as [`Index::visit`] visits
    /// them: those that hold everywhere first, as upstream.
    pub(super) fn source(
        &self,
        user: &User,
        namespace: &str,
        missing: &mut Vec<String>,
        mut wanted: impl FnMut(&Rule) -> bool,
    ) -> Option<Source<'_>> {
        let account = user.name.strip_prefix(service_account::USER_PREFIX);
        let user_grants = self.users.get_key_value(user.name.as_str());
        let mut found: Vec<(Who, &str, &Grants)> = Vec::with_capacity(user.groups.len() + 2);
        found.extend(user_grants.map(|(name, grants)| (Who::User, &**name, grants)));
        if let Some((name, grants)) = account.and_then(|name| self.accounts.get_key_value(name)) {
            found.push((Who::Account, name, grants));
        }
        for group in &user.groups {
            let of = self.groups.get_key_value(group.as_str());
            found.extend(of.map(|(name, grants)| (Who::Group, &**name, grants)));
        }
        let spaces = ["", namespace];
        let spaces = if namespace.is_empty() {
            &spaces[..1]
        } else {
            &spaces[..]
        };
        for space in spaces {
            for (who, name, grants) in &found {
                for bound in grants.at(space) {
                    match self.roles.get(&bound.binding.role) {
                        Some(rules) if rules.iter().any(&mut wanted) => {
                            let (who, name) = (*who, *name);
                            return Some(Source { bound, who, name });
                        }
                        Some(_) => {}
                        None => missing.push(no_role(&bound.binding.role)),
                    }
                }
            }
        }
        None
    }
}

fn no_role(role: &Key) -> String {
    let kind = if role.0.is_empty() {
        "clusterrole"
    } else {
        "role"
    };
    format!("{kind}.rbac.authorization.k8s.io \"{}\" not found", role.1)
}

#[derive(Clone, Copy)]
enum Who {
    User,
    Group,
    Account,
}

/// Where a rule comes from.
pub(super) struct Source<'a> {
    bound: &'a Bound,
    who: Who,
    name: &'a str,
}

impl std::fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.bound.key {
            (ns, name) if ns.is_empty() => write!(f, "ClusterRoleBinding \"{name}\"")?,
            (namespace, name) => write!(f, "RoleBinding \"{name}/{namespace}\"")?,
        }
        let role = &self.bound.binding.role;
        let kind = if role.0.is_empty() {
            "ClusterRole"
        } else {
            "Role"
        };
        write!(f, " of {kind} \"{}\" to ", role.1)?;
        match self.who {
            Who::User => write!(f, "User \"{}\"", self.name),
            Who::Group => write!(f, "Group \"{}\"", self.name),
            Who::Account => {
                let (namespace, name) = self.name.split_once(':').unwrap_or(("", self.name));
                write!(f, "ServiceAccount \"{name}/{namespace}\"")
            }
        }
    }
}
