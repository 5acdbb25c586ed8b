//! The policies that there are, each with its bindings: live from the cache, compiled once per change of their object.
//!
//! Who may be concerned by a write is looked up by resource, subresource and operation; what was looked up once is kept until
//! a policy or a binding changes, or what is served. A policy that nothing binds concerns nobody.
//!
//! Upstream: `apiserver/pkg/admission/plugin/policy/generic/policy_source.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use component::{Supervisor, Task};
use parking_lot::Mutex;
use proto::Value;
use proto::catalogue::Resource;
use resources::object::{self, Type};
use store::Entry;

use super::super::Operation;
use super::super::live::{All, ByWrite, Change, Live};
use super::super::webhook::source::{GROUP, equivalent};
use super::compile::{Binding, Body, Policy};
use super::matching::About;
use super::params::Params;
use crate::registry::follow::{Told, follow};
use crate::registry::{Endpoint, Registry};

/// What the two collections have told so far, by name.
struct Known<B> {
    policies: All<Policy<B>>,
    bindings: All<Binding>,
}

impl<B> Default for Known<B> {
    fn default() -> Self {
        Self {
            policies: All::default(),
            bindings: All::default(),
        }
    }
}

/// A policy with its bindings.
type Bound<B> = (Arc<Policy<B>>, Arc<[Arc<Binding>]>);

/// All policies as they are at one time, by name, with their bindings.
pub(super) struct Policies<B> {
    all: Vec<Bound<B>>,
    /// None if there are none.
    concerned: ByWrite<Option<Arc<Concerned<B>>>>,
}

impl<B> Default for Policies<B> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            concerned: ByWrite::default(),
        }
    }
}

/// Those that may be concerned by a kind of write.
pub(super) struct Concerned<B> {
    pub(super) candidates: Vec<Candidate<B>>,
    /// The other served versions of the resource.
    pub(super) equivalent: Vec<&'static Resource>,
}

/// A policy some rule of which matches.
pub(super) struct Candidate<B> {
    pub(super) policy: Arc<Policy<B>>,
    pub(super) bindings: Arc<[Arc<Binding>]>,
    pub(super) params: Params,
}

/// Follows policies and bindings from now on. If the server does not have them, there are none.
pub(super) fn follow_policies<B: Body>(
    registry: &Registry,
    tasks: &Supervisor,
) -> Arc<Live<Policies<B>>> {
    let found = |resource| registry.any_version(GROUP, resource);
    let (Some(policies), Some(bindings)) = (found(B::POLICIES), found(B::BINDINGS)) else {
        return Live::nothing();
    };
    let live = Live::new();
    let known = Arc::new(Mutex::new(Known::default()));
    let keep = |endpoint: &Endpoint, resource: &str, take: Take<B>| {
        let (collection, hub) = (endpoint.collection.clone(), endpoint.hub);
        let (live, known) = (Arc::clone(&live), Arc::clone(&known));
        tasks.spawn(Task::Worker, format!("admission-{resource}"), async move {
            follow(collection, |event| {
                take(&known, event, hub);
                let known = known.lock();
                if known.policies.complete && known.bindings.complete {
                    // Under the lock, so that the newest state is put down last.
                    live.set(Policies::new(&known));
                }
            })
            .await;
        });
    };
    keep(policies, B::POLICIES, |known, event, hub| {
        let compile = |entry: &Entry| Some(Policy::compile(&read(hub, entry)?));
        let change = Change::read(event, compile);
        known.lock().policies.take(change);
    });
    keep(bindings, B::BINDINGS, |known, event, hub| {
        let compile = |entry: &Entry| Some(Binding::compile(&read(hub, entry)?));
        let change = Change::read(event, compile);
        known.lock().bindings.take(change);
    });
    live
}

/// Takes what one of the two collections tells.
type Take<B> = fn(&Mutex<Known<B>>, Told, Type);

fn read(hub: Type, entry: &Entry) -> Option<Value> {
    let read = object::from_body(&entry.body, &hub);
    if let Err(error) = &read {
        tracing::error!(%error, name = entry.name(), "A policy or its binding cannot be read");
    }
    read.ok()
}

impl<B: Body> Policies<B> {
    fn new(known: &Known<B>) -> Self {
        let mut bindings: BTreeMap<&str, Vec<Arc<Binding>>> = BTreeMap::new();
        for binding in known.bindings.all.values() {
            let of_policy = bindings.entry(&binding.policy).or_default();
            of_policy.push(Arc::clone(binding));
        }
        let bound = bindings.into_iter().filter_map(|(name, bindings)| {
            let policy = known.policies.all.get(name)?;
            Some((Arc::clone(policy), bindings.into()))
        });
        Self {
            all: bound.collect(),
            concerned: ByWrite::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Those that may be concerned by such writes; none if there are none.
    pub(super) fn concerned(
        &self,
        registry: &Registry,
        operation: Operation,
        resource: &'static Resource,
        subresource: &str,
    ) -> Option<Arc<Concerned<B>>> {
        let generation = registry.generation();
        let write = (operation, resource, subresource);
        self.concerned.get(generation, write, || {
            let equivalent = equivalent(registry, resource, subresource);
            let about = About {
                operation,
                resource,
                subresource,
                equivalent: &equivalent,
            };
            // A policy without constraints is broken, which everybody is told.
            let may = |policy: &Policy<B>| {
                let constraints = policy.constraints.as_ref();
                constraints.is_none_or(|constraints| constraints.may_match(about))
            };
            let candidates = self.all.iter().filter(|(policy, _)| may(policy));
            let candidates: Vec<_> = candidates
                .map(|(policy, bindings)| Candidate {
                    policy: Arc::clone(policy),
                    bindings: Arc::clone(bindings),
                    params: Params::resolve(registry, policy.param_kind.as_ref()),
                })
                .collect();
            (!candidates.is_empty()).then(|| {
                Arc::new(Concerned {
                    candidates,
                    equivalent,
                })
            })
        })
    }
}

/// The kinds that policies are, for tests: compiled from JSON.
#[cfg(test)]
pub(super) fn policies<B: Body>(policies: &[Value], bindings: &[Value]) -> Policies<B> {
    let mut known = Known::default();
    for policy in policies {
        let name = proto::meta::name(policy).into();
        known
            .policies
            .all
            .insert(name, Arc::new(Policy::compile(policy)));
    }
    for binding in bindings {
        let name = proto::meta::name(binding).into();
        known
            .bindings
            .all
            .insert(name, Arc::new(Binding::compile(binding)));
    }
    Policies::new(&known)
}

#[cfg(test)]
mod tests {
    use super::super::compile::{Action, Validating};
    use super::super::testing::{binding, policy};
    use super::*;

    #[test]
    fn policies_come_by_name_with_their_bindings_and_only_if_they_have_any() {
        let all = [
            policy("b", "true"),
            policy("a", "true"),
            policy("unbound", "true"),
        ];
        let bound = [
            binding("z", "b", "[\"Deny\"]"),
            binding("y", "b", "[\"Warn\",\"Audit\"]"),
            binding("x", "a", "[\"Deny\"]"),
            binding("w", "missing", "[\"Deny\"]"),
        ];
        let policies = policies::<Validating>(&all, &bound);
        let shown: Vec<(&str, Vec<&str>)> = { policies.all.iter() }
            .map(|(policy, bindings)| {
                let names = bindings.iter().map(|b| b.name.as_str());
                (policy.name.as_str(), names.collect())
            })
            .collect();
        assert_eq!(shown, [("a", vec!["x"]), ("b", vec!["y", "z"])]);
        assert_eq!(policies.all[1].1[0].actions, [Action::Warn, Action::Audit]);
    }
}
