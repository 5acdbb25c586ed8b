//! The index against upstream's walk over all bindings.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// What is known, as it is listed.
#[derive(Default)]
struct Naive {
    roles: BTreeMap<Key, Vec<Rule>>,
    bindings: BTreeMap<Key, Binding>,
}

impl Naive {
    /// Bindings that hold for a user, everywhere first, each with the first subject that he is.
    fn bound<'a>(
        &'a self,
        user: &'a User,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a Key, &'a Binding, &'a Subject)> {
        let is = |subject: &Subject| match subject {
            Subject::User(name) => *user.name == **name,
            Subject::Group(name) => user.groups.iter().any(|g| **g == **name),
            Subject::ServiceAccount(name) => user.name == format!("system:serviceaccount:{name}"),
        };
        // The empty namespace sorts first.
        let all = self
            .bindings
            .iter()
            .filter(move |(key, _)| key.0.is_empty() || *key.0 == *namespace);
        let all: Vec<_> = all
            .filter_map(|(key, binding)| {
                Some((key, binding, binding.subjects.iter().find(|s| is(s))?))
            })
            .collect();
        all.into_iter()
    }

    fn reason(
        &self,
        user: &User,
        namespace: &str,
        wanted: impl Fn(&Rule) -> bool,
    ) -> Option<String> {
        let gives = |binding: &Binding| {
            self.roles
                .get(&binding.role)
                .is_some_and(|rules| rules.iter().any(&wanted))
        };
        let (key, binding, subject) = self
            .bound(user, namespace)
            .find(|(_, binding, _)| gives(binding))?;
        let of = match &*key.0 {
            "" => format!("ClusterRoleBinding \"{}\"", key.1),
            namespace => format!("RoleBinding \"{}/{namespace}\"", key.1),
        };
        let kind = if binding.role.0.is_empty() {
            "ClusterRole"
        } else {
            "Role"
        };
        let to = match subject {
            Subject::User(name) => format!("User \"{name}\""),
            Subject::Group(name) => format!("Group \"{name}\""),
            Subject::ServiceAccount(name) => {
                let (namespace, name) = name.split_once(':').unwrap();
                format!("ServiceAccount \"{name}/{namespace}\"")
            }
        };
        Some(format!("{of} of {kind} \"{}\" to {to}", binding.role.1))
    }

    /// The rules of all bindings, and the roles that do not exist.
    fn rules(&self, user: &User, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let (mut rules, mut missing) = (Vec::new(), Vec::new());
        for (
            _,
            Binding {
                role: (of, name), ..
            },
            _,
        ) in self.bound(user, namespace)
        {
            match self.roles.get(&(of.clone(), name.clone())) {
                Some(given) => rules.extend(given.iter().cloned()),
                None => {
                    let kind = if of.is_empty() { "clusterrole" } else { "role" };
                    missing.push(format!(
                        "{kind}.rbac.authorization.k8s.io \"{name}\" not found"
                    ));
                }
            }
        }
        (rules, missing)
    }
}

/// A change of roles and bindings.
#[derive(Clone, Debug)]
enum Change {
    PutRole(Key, Vec<usize>),
    DropRole(Key),
    PutBinding(Key, Key, Vec<Subject>),
    DropBinding(Key),
    DropRoles(bool),
    DropBindings(bool),
}

const SPACES: [&str; 3] = ["", "a", "b"];
const VERBS: [&str; 4] = ["get", "list", "delete", "*"];

fn key(name: &'static str, most: usize) -> impl Strategy<Value = Key> {
    let names = (0..most).prop_map(move |i| format!("{name}{i}").into());
    (
        prop::sample::select(&SPACES[..]).prop_map(Into::into),
        names,
    )
}

fn subject() -> impl Strategy<Value = Subject> {
    let name = || prop::sample::select(vec!["x", "y", "z"]);
    prop_oneof![
        name().prop_map(|n| Subject::User(n.into())),
        name().prop_map(|n| Subject::Group(n.into())),
        name().prop_map(|n| Subject::ServiceAccount(format!("a:{n}").into())),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let (role, binding) = (|| key("r", 3), || key("b", 8));
    let verbs = prop::collection::vec(0..VERBS.len(), 0..3);
    let subjects = prop::collection::vec(subject(), 0..4);
    prop_oneof![
        4 => (role(), verbs).prop_map(|(key, verbs)| Change::PutRole(key, verbs)),
        1 => role().prop_map(Change::DropRole),
        8 => (binding(), role(), subjects).prop_map(|(key, role, to)| Change::PutBinding(key, role, to)),
        2 => binding().prop_map(Change::DropBinding),
        1 => any::<bool>().prop_map(Change::DropRoles),
        1 => any::<bool>().prop_map(Change::DropBindings),
    ]
}

fn apply(change: Change, index: &mut Index, naive: &mut Naive) {
    match change {
        Change::PutRole(key, verbs) => {
            let rules: Vec<Rule> = verbs
                .into_iter()
                .map(|v| rule(&[VERBS[v]], &[""], &["pods"], &[]))
                .collect();
            index.put_role(key.clone(), rules.clone().into());
            naive.roles.insert(key, rules);
        }
        Change::DropRole(key) => {
            index.drop_role(&key);
            naive.roles.remove(&key);
        }
        Change::PutBinding(key, role, subjects) => {
            let binding = || Binding {
                role: role.clone(),
                subjects: subjects.clone(),
            };
            index.put_binding(key.clone(), binding());
            naive.bindings.insert(key, binding());
        }
        Change::DropBinding(key) => {
            index.drop_binding(&key);
            naive.bindings.remove(&key);
        }
        Change::DropRoles(cluster) => {
            index.drop_roles(cluster);
            naive.roles.retain(|key, _| key.0.is_empty() != cluster);
        }
        Change::DropBindings(cluster) => {
            index.drop_bindings(cluster);
            naive.bindings.retain(|key, _| key.0.is_empty() != cluster);
        }
    }
}

fn user(name: &str, groups: &[&str]) -> User {
    User {
        name: name.to_owned(),
        groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        ..User::default()
    }
}

proptest! {
    #[test]
    fn the_index_decides_and_explains_as_a_walk_over_all(changes in prop::collection::vec(change(), 0..60)) {
        let (mut index, mut naive) = (Index::default(), Naive::default());
        for change in changes {
            apply(change, &mut index, &mut naive);
        }
        let users = [
            user("x", &[]),
            user("y", &["x", "z", "x"]),
            user("system:serviceaccount:a:x", &["y"]),
            user("nobody", &["nothing"]),
        ];
        for (user, namespace) in users.iter().flat_map(|user| SPACES.map(|space| (user, space))) {
            prop_assert_eq!(index.rules_for(user, namespace), naive.rules(user, namespace));
            for verb in VERBS {
                let asked = asked(user, verb, namespace, "pods", "", "x");
                let wanted = |rule: &Rule| rule.allows(&asked);
                let reason = index.source(user, namespace, wanted).map(|s| s.to_string());
                prop_assert_eq!(&reason, &naive.reason(user, namespace, wanted));
                let mut missing = Vec::new();
                let allowed = index.visit(user, namespace, &mut missing, wanted);
                prop_assert_eq!(allowed, reason.is_some());
                if !allowed {
                    let missing: BTreeSet<String> = missing.into_iter().collect();
                    let absent: BTreeSet<String> = naive.rules(user, namespace).1.into_iter().collect();
                    prop_assert_eq!(missing, absent);
                }
            }
        }
    }
}
