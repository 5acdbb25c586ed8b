//! Policies of admission: expressions that refuse writes or change them, as objects of the cluster.
//!
//! A policy says what it is about and what it wants; a binding puts it in force, for everything or for less, and names its
//! parameters. Both are read from the cache and compiled once per change. A write that no policy is about costs one look-up.
//! Policies and their bindings are subject to no policy, so that a wrong one can be mended; nor are reviews, so that nobody is
//! locked out.
//!
//! ```text
//! source      what there is, and who is concerned by rule      compile     policies and bindings, compiled
//! matching    whether a write matches                          params      parameters and namespaces
//! views       what is shown of a write                         scope       variables, as they are read
//! expression  runs of expressions within a budget
//! validate    validating policies                              mutate      mutating ones
//!                                                              change      what these make of an object
//! ```
//!
//! Upstream: `apiserver/pkg/admission/plugin/policy`, `apiserver/pkg/admission/plugin/cel`, KEP-3488, KEP-3962. Policies of
//! manifests (KEP-5793) are not read.

use std::sync::Arc;

use proto::Value;
use proto::catalogue::Resource;
use resources::status::Failure;
use resources::strategies::admission_registration::is_excluded;

use super::live::Live;
use super::state::Around;
use super::webhook::conditions::Verdict;
use super::webhook::{self, seen_namespace};
use super::{Attributes, Operation, Plugin};
use crate::server::Server;

mod change;
mod compile;
pub(super) mod config;
mod expression;
mod matching;
mod metrics;
mod mutate;
mod params;
mod scope;
mod source;
#[cfg(test)]
mod testing;
mod validate;
mod views;

use compile::{Binding, Body, Policy};
pub(super) use compile::{Mutating, Validating};
use expression::runner;
use matching::About;
use metrics::Checks;
use params::Memo;
use scope::Inputs;
use source::{Candidate, Concerned, Policies};

pub(super) const MUTATING: Plugin = Plugin {
    name: "MutatingAdmissionPolicy",
    on_by_default: true,
    // There is nothing to change in a deletion.
    operations: &[Operation::Create, Operation::Update, Operation::Connect],
    configure: Some(|state, told, around| {
        config::read::<config::MutatingPolicies>(told)?;
        if around.features.enabled("MutatingAdmissionPolicy") {
            let checks = Checks::of_mutating(around.metrics);
            state.mutating_policies = Some(State::open(around, checks));
        }
        Ok(())
    }),
    idle: Some(is_idle::<Mutating>),
    mutate: Some(|server, write| {
        Box::pin(async move {
            let Some(state) = Mutating::state(server) else {
                return Ok(());
            };
            match concerned(server, state, write).await? {
                Some(concerned) => mutate::dispatch(server, state, concerned, write).await,
                None => Ok(()),
            }
        })
    }),
    ..Plugin::OFF
};

pub(super) const VALIDATING: Plugin = Plugin {
    name: "ValidatingAdmissionPolicy",
    on_by_default: true,
    operations: &Operation::ALL,
    configure: Some(|state, told, around| {
        config::read::<config::ValidatingPolicies>(told)?;
        let checks = Checks::of_validating(around.metrics);
        state.validating_policies = Some(State::open(around, checks));
        Ok(())
    }),
    idle: Some(is_idle::<Validating>),
    validate: Some(|server, write| {
        Box::pin(async move {
            let Some(state) = Validating::state(server) else {
                return Ok(());
            };
            match concerned(server, state, write).await? {
                Some(concerned) => validate::dispatch(server, state, concerned, write).await,
                None => Ok(()),
            }
        })
    }),
    ..Plugin::OFF
};

/// What one of the two plugins knows.
pub(super) struct State<B> {
    policies: Arc<Live<Policies<B>>>,
    memo: Memo,
    checks: Checks,
    /// What is measured of match conditions.
    conditions: webhook::Metrics,
}

impl<B: Body> State<B> {
    fn open(around: &Around<'_>, checks: Checks) -> Self {
        Self {
            policies: source::follow_policies(around.registry, around.tasks),
            memo: Memo::default(),
            checks,
            conditions: around.webhooks.of_policies(),
        }
    }
}

/// Policies and bindings.
const OWN: [&str; 4] = [
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
];

/// Whether a write is no policy's business, whatever its rules say.
fn is_exempt(write: &Attributes<'_>) -> bool {
    let (group, name) = (write.resource.group, write.resource.name);
    group == webhook::source::GROUP && OWN.contains(&name) || is_excluded(group, name)
}

/// Who is concerned by a write as far as rules say, of policies that are known.
fn by_rules<B: Body>(
    server: &Server,
    state: &State<B>,
    write: &Attributes<'_>,
) -> Option<Arc<Concerned<B>>> {
    let policies = state.policies.current();
    if policies.is_empty() || is_exempt(write) {
        return None;
    }
    let (operation, registry) = (write.operation, &server.registry);
    policies.concerned(registry, operation, write.resource, write.subresource)
}

/// Whether no policy is concerned by a write.
fn is_idle<B: Body>(server: &Server, write: &Attributes<'_>) -> bool {
    B::state(server)
        .is_none_or(|state| state.policies.is_known() && by_rules(server, state, write).is_none())
}

async fn concerned<B: Body>(
    server: &Server,
    state: &State<B>,
    write: &Attributes<'_>,
) -> Result<Option<Arc<Concerned<B>>>, Failure> {
    if !is_exempt(write) && !state.policies.wait_known().await {
        return Err(write.forbid("not yet ready to handle request"));
    }
    Ok(by_rules(server, state, write))
}

/// What a write is about.
fn about<'a>(write: &'a Attributes<'_>, equivalent: &'a [&'static Resource]) -> About<'a> {
    About {
        operation: write.operation,
        resource: write.resource,
        subresource: write.subresource,
        equivalent,
    }
}

/// The resource in the version in which a policy is concerned by a write, if it is.
///
/// # Errors
/// The policy is broken: a text.
async fn matched<B: Body>(
    server: &Server,
    candidate: &Candidate<B>,
    equivalent: &[&'static Resource],
    write: &Attributes<'_>,
) -> Result<Option<&'static Resource>, String> {
    let constraints = candidate.policy.constraints.as_ref();
    let constraints =
        constraints.ok_or("policy contained no match constraints, a required field")?;
    let found = constraints
        .matches(server, write, about(write, equivalent))
        .await?;
    match &candidate.params {
        params::Params::Unknown(why) if found.is_some() => Err(why.clone()),
        _ => Ok(found),
    }
}

/// What the match conditions of a policy say of a write.
async fn conditions_of<B: Body>(
    server: &Server,
    state: &State<B>,
    policy: &Policy<B>,
    inputs: Inputs<'_>,
    write: &Attributes<'_>,
) -> Verdict {
    let noted = (&state.conditions, write.operation);
    let (name, ignores) = (&policy.name, policy.ignores_failures);
    let conditions = &policy.conditions;
    conditions
        .evaluate(runner(server, write), inputs, name, ignores, noted)
        .await
}

/// The parameters with which a binding has its policy evaluated; without any, the binding is not concerned.
///
/// # Errors
/// The binding is broken: a text.
async fn bound<B: Body>(
    server: &Server,
    state: &State<B>,
    candidate: &Candidate<B>,
    equivalent: &[&'static Resource],
    binding: &Binding,
    write: &Attributes<'_>,
) -> Result<Vec<Option<Arc<Value>>>, String> {
    if let Some(resources) = &binding.resources {
        let found = resources
            .matches(server, write, about(write, equivalent))
            .await?;
        if found.is_none() {
            return Ok(Vec::new());
        }
    }
    let (param, namespace) = (binding.param.as_ref(), seen_namespace(write));
    candidate
        .params
        .collect(server, &state.memo, param, namespace)
        .await
}
