//! Roles and bindings, found by who asks and where.
//!
//! A check looks up the user, its groups and its service account by their names as they stand in the
//! request, and visits only what holds everywhere or in the namespace that is asked about. Bindings that
//! give a subject the same role there are one visit: neither the number of bindings in the cluster nor
//! that of the subject's bindings counts, but that of its roles.

use std::collections::HashMap;
use std::sync::Arc;

use proto::path::quote;

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

impl Subject {
    fn is(&self, user: &User) -> bool {
        match self {
            Self::User(name) => **name == *user.name,
            Self::Group(name) => user.is_in(name),
            Self::ServiceAccount(name) => account(user) == Some(name),
        }
    }
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

/// Bindings that give one subject one role in one place, by their names; at least one.
struct Same(Vec<Arc<Bound>>);

impl Same {
    /// The first in the order of a list.
    fn first(&self) -> &Arc<Bound> {
        &self.0[0]
    }

    fn role(&self) -> &Key {
        &self.first().binding.role
    }
}

/// What one subject is given in one place, by role.
#[derive(Default)]
struct Place(Vec<Same>);

impl Place {
    fn find(&self, role: &Key) -> Result<usize, usize> {
        self.0.binary_search_by(|same| same.role().cmp(role))
    }

    fn add(&mut self, bound: &Arc<Bound>) {
        match self.find(&bound.binding.role) {
            Err(at) => self.0.insert(at, Same(vec![Arc::clone(bound)])),
            Ok(at) => {
                let same = &mut self.0[at].0;
                // A binding may name a subject twice.
                if let Err(at) = same.binary_search_by(|b| b.key.cmp(&bound.key)) {
                    same.insert(at, Arc::clone(bound));
                }
            }
        }
    }

    fn remove(&mut self, bound: &Arc<Bound>) {
        if let Ok(at) = self.find(&bound.binding.role) {
            let same = &mut self.0[at].0;
            same.retain(|b| !Arc::ptr_eq(b, bound));
            if same.is_empty() {
                self.0.remove(at);
            }
        }
    }
}

/// The bindings of one subject.
#[derive(Default)]
struct Grants {
    everywhere: Place,
    by_namespace: HashMap<Box<str>, Place>,
}

impl Grants {
    fn add(&mut self, bound: &Arc<Bound>) {
        let space = &bound.key.0;
        let place = if space.is_empty() {
            &mut self.everywhere
        } else {
            self.by_namespace.entry(space.clone()).or_default()
        };
        place.add(bound);
    }

    fn remove(&mut self, bound: &Arc<Bound>) {
        let space = &bound.key.0;
        if space.is_empty() {
            self.everywhere.remove(bound);
        } else if let Some(place) = self.by_namespace.get_mut(space) {
            place.remove(bound);
            if place.0.is_empty() {
                self.by_namespace.remove(space);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.everywhere.0.is_empty() && self.by_namespace.is_empty()
    }

    fn at(&self, namespace: &str) -> &[Same] {
        if namespace.is_empty() {
            &self.everywhere.0
        } else {
            self.by_namespace
                .get(namespace)
                .map_or(&[], |place| &place.0)
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
        let grants = self.grants(user);
        for same in spaces(namespace).flat_map(|space| grants.iter().flat_map(|g| g.at(space))) {
            match self.roles.get(same.role()) {
                Some(rules) if rules.iter().any(&mut visit) => return true,
                Some(_) => {}
                None => missing.push(no_role(same.role())),
            }
        }
        false
    }

    /// Where the first rule comes from for which `wanted` returns true: a binding that holds everywhere
    /// before one of the namespace, each in the order of a list, and the first of its subjects that the
    /// user is, as upstream.
    pub(super) fn source(
        &self,
        user: &User,
        namespace: &str,
        wanted: impl Fn(&Rule) -> bool,
    ) -> Option<Source<'_>> {
        let grants = self.grants(user);
        let gives = |same: &&Same| {
            let rules = self.roles.get(same.role());
            rules.is_some_and(|rules| rules.iter().any(&wanted))
        };
        let bound = spaces(namespace).find_map(|space| {
            let given = grants.iter().flat_map(|g| g.at(space)).filter(gives);
            given.map(Same::first).min_by_key(|bound| &bound.key)
        })?;
        let subject = bound.binding.subjects.iter().find(|s| s.is(user))?;
        Some(Source { bound, subject })
    }

    /// The rules of every binding that holds for a user in a namespace, in the order of a list: what two
    /// bindings give comes twice, as upstream. With them, the roles that do not exist.
    pub(super) fn rules_for(&self, user: &User, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let (mut rules, mut missing) = (Vec::new(), Vec::new());
        let grants = self.grants(user);
        for space in spaces(namespace) {
            let given = grants.iter().flat_map(|g| g.at(space));
            let mut bound: Vec<&Arc<Bound>> = given.flat_map(|same| &same.0).collect();
            bound.sort_unstable_by_key(|bound| &bound.key);
            bound.dedup_by(|a, b| Arc::ptr_eq(a, b));
            for role in bound.iter().map(|bound| &bound.binding.role) {
                match self.roles.get(role) {
                    Some(of) => rules.extend_from_slice(of),
                    None => missing.push(no_role(role)),
                }
            }
        }
        (rules, missing)
    }

    /// What all that a user is are given.
    fn grants(&self, user: &User) -> Vec<&Grants> {
        let mut found = Vec::with_capacity(user.groups.len() + 2);
        found.extend(self.users.get(user.name.as_str()));
        found.extend(account(user).and_then(|name| self.accounts.get(name)));
        let groups = user.groups.iter();
        found.extend(groups.filter_map(|group| self.groups.get(group.as_str())));
        found
    }
}

/// Where what holds in a namespace is written.
fn spaces(namespace: &str) -> impl Iterator<Item = &str> {
    std::iter::once("").chain(Some(namespace).filter(|n| !n.is_empty()))
}

/// The service account that a user is, as [`Subject::ServiceAccount`].
fn account(user: &User) -> Option<&str> {
    user.name.strip_prefix(service_account::USER_PREFIX)
}

fn no_role(role: &Key) -> String {
    let kind = if role.0.is_empty() {
        "clusterrole"
    } else {
        "role"
    };
    format!("{kind}.rbac.authorization.k8s.io \"{}\" not found", role.1)
}

/// Where a rule comes from.
pub(super) struct Source<'a> {
    bound: &'a Bound,
    subject: &'a Subject,
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
        match self.subject {
            Subject::User(name) => write!(f, "User {}", quote(name)),
            Subject::Group(name) => write!(f, "Group {}", quote(name)),
            Subject::ServiceAccount(name) => {
                let (namespace, name) = name.split_once(':').unwrap_or(("", name));
                write!(
                    f,
                    "ServiceAccount {}",
                    quote(&format!("{name}/{namespace}"))
                )
            }
        }
    }
}
