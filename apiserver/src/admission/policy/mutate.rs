//! Mutating policies: one after the other, each sees what the one before made of the object.
//!
//! Upstream: `apiserver/pkg/admission/plugin/policy/mutating/dispatcher.go`, `policy/generic/policy_dispatcher.go`.

use std::sync::Arc;
use std::time::Instant;

use cel::RUNTIME_BUDGET;
use proto::{Value, meta};
use resources::status::Failure;

use super::super::webhook::conditions::Verdict;
use super::super::webhook::keep_managers;
use super::super::{Attributes, Operation};
use super::change::{self, Change};
use super::compile::{Binding, Mutating, Mutation, Policy};
use super::expression::runner;
use super::metrics::{NO_ERROR, error_type};
use super::scope::Inputs;
use super::source::{Candidate, Concerned};
use super::views::Views;
use super::{State, bound, conditions_of, matched};
use crate::server::Server;

/// One policy with one of its bindings and one of the binding's parameters.
struct Invocation<'a> {
    policy: &'a Policy<Mutating>,
    binding: &'a Binding,
    params: Option<Arc<Value>>,
    resource: &'static proto::catalogue::Resource,
}

impl Invocation<'_> {
    /// What it is known by in further rounds.
    fn key(&self) -> String {
        let params = self.params.as_deref();
        let of = params.map(|p| format!("{}/{}", meta::namespace(p), meta::name(p)));
        let (policy, binding) = (&self.policy.name, &self.binding.name);
        format!("{policy}/{binding}/{}", of.unwrap_or_default())
    }
}

/// A policy that could not do what it is for.
struct Error {
    message: String,
    /// Of the status; none: that of any refusal.
    reason: Option<&'static str>,
}

/// Errors of policies that do not ignore them.
#[derive(Default)]
struct Errors(Vec<Error>);

impl Errors {
    fn add(
        &mut self,
        policy: &Policy<Mutating>,
        binding: Option<&Binding>,
        why: &str,
        reason: Option<&'static str>,
    ) {
        if policy.ignores_failures {
            return;
        }
        let name = &policy.name;
        let who = match binding {
            Some(binding) => format!("policy '{name}' with binding '{}'", binding.name),
            None => format!("policy {}", proto::path::quote(name)),
        };
        let message = format!("{who} denied request: {why}");
        self.0.push(Error { message, reason });
    }

    fn broken(&mut self, policy: &Policy<Mutating>, binding: Option<&Binding>, why: &str) {
        let what = binding.map_or("policy", |_| "binding");
        self.add(
            policy,
            binding,
            &format!("failed to configure {what}: {why}"),
            None,
        );
    }

    /// The refusal that they are together, if there are any.
    fn refusal(&self, write: &Attributes<'_>) -> Option<Failure> {
        let first = self.0.first()?;
        let forbidden = write.forbid("admission request denied by policy");
        let reason = first.reason.unwrap_or("Forbidden");
        let failure = Failure::new(forbidden.code(), reason, &first.message);
        let failure = failure.with_details(forbidden.details().clone());
        let causes = self.0.iter().map(|error| &error.message);
        Some(causes.fold(failure, |failure, cause| failure.with_cause("", cause, "")))
    }
}

/// Lets all policies that are concerned change the object.
///
/// # Errors
/// What policies could not do, unless they ignore that.
pub(super) async fn dispatch(
    server: &Server,
    state: &State<Mutating>,
    concerned: Arc<Concerned<Mutating>>,
    write: &mut Attributes<'_>,
) -> Result<(), Failure> {
    let mut errors = Errors::default();
    let mut invocations = Vec::new();
    for candidate in &concerned.candidates {
        relevant(
            server,
            state,
            &concerned,
            candidate,
            write,
            &mut errors,
            &mut invocations,
        )
        .await;
    }
    if !invocations.is_empty() {
        let again = write.reinvocation.again;
        let mut views = Views::new(server, write);
        let of = views.forms.message();
        let object = write.object.as_deref();
        let rounds = write.reinvocation.policies.get_or_insert_default();
        rounds.again = again;
        rounds.begin(object, of);
        let outcome = all(server, state, &invocations, write, &mut views, &mut errors).await;
        let object = write.object.as_deref();
        let rounds = write.reinvocation.policies.get_or_insert_default();
        rounds.end(object);
        write.reinvocation.wanted |= rounds.wanted;
        outcome?;
    }
    errors.refusal(write).map_or(Ok(()), Err)
}

/// Adds what a policy has to do with a write, as it came.
async fn relevant<'a>(
    server: &Server,
    state: &State<Mutating>,
    concerned: &Concerned<Mutating>,
    candidate: &'a Candidate<Mutating>,
    write: &Attributes<'_>,
    errors: &mut Errors,
    invocations: &mut Vec<Invocation<'a>>,
) {
    let policy = &*candidate.policy;
    let resource = match matched(server, candidate, &concerned.equivalent, write).await {
        Ok(Some(resource)) => resource,
        Ok(None) => return,
        Err(why) => return errors.broken(policy, None, &why),
    };
    for binding in candidate.bindings.iter() {
        match bound(
            server,
            state,
            candidate,
            &concerned.equivalent,
            binding,
            write,
        )
        .await
        {
            Ok(params) => invocations.extend(params.into_iter().map(|params| Invocation {
                policy,
                binding,
                params,
                resource,
            })),
            Err(why) => errors.broken(policy, Some(binding), &why),
        }
    }
}

async fn all(
    server: &Server,
    state: &State<Mutating>,
    invocations: &[Invocation<'_>],
    write: &mut Attributes<'_>,
    views: &mut Views,
    errors: &mut Errors,
) -> Result<(), Failure> {
    let namespace = views.namespace(server, &state.memo, write).await?;
    let mut changed = false;
    for invocation in invocations {
        changed |= one(
            server,
            state,
            invocation,
            namespace.as_deref(),
            write,
            views,
            errors,
        )
        .await?;
    }
    // Upstream asks again after any change, be it one that leaves everything as it was.
    if changed {
        let rounds = write.reinvocation.policies.get_or_insert_default();
        rounds.changed();
    }
    Ok(())
}

/// Whether the policy did anything.
async fn one(
    server: &Server,
    state: &State<Mutating>,
    invocation: &Invocation<'_>,
    namespace: Option<&Value>,
    write: &mut Attributes<'_>,
    views: &mut Views,
    errors: &mut Errors,
) -> Result<bool, Failure> {
    let Invocation {
        policy, binding, ..
    } = invocation;
    if !policy.conditions.is_empty() {
        let given = views.of_conditions(write, invocation.resource)?;
        let inputs = Inputs {
            given: &given,
            params: invocation.params.as_deref(),
            namespace: None,
            asks: true,
            variables: &policy.variables,
        };
        match conditions_of(server, state, policy, inputs, write).await {
            Verdict::Matches => {}
            Verdict::Excluded => return Ok(false),
            Verdict::Failed(why) => {
                errors.add(policy, Some(binding), &why, Some("Invalid"));
                return Ok(false);
            }
        }
    }
    let key = invocation.key();
    if !write
        .reinvocation
        .policies
        .as_ref()
        .is_none_or(|rounds| rounds.is_due(&key))
    {
        return Ok(false);
    }
    let (mut applied, mut changed) = (false, false);
    for mutation in &policy.body.mutations {
        if write.object.is_none() {
            continue;
        }
        let started = Instant::now();
        let mutated = mutate(server, invocation, mutation, namespace, write, views).await;
        let kind = match &mutated {
            Ok(_) => NO_ERROR,
            Err(Fault::Server(failure)) => error_type(failure.message()),
            Err(Fault::Policy(why)) => error_type(why),
        };
        let (name, bound) = (&policy.name, &binding.name);
        state
            .checks
            .observe(name, bound, kind, None, started.elapsed());
        match mutated {
            Ok(now) => {
                applied = true;
                changed |= now;
            }
            Err(Fault::Server(failure)) => return Err(failure),
            Err(Fault::Policy(why)) => errors.add(policy, Some(binding), &why, Some("Invalid")),
        }
    }
    let rounds = write.reinvocation.policies.get_or_insert_default();
    if changed {
        rounds.changed();
    }
    if policy.body.reinvoked {
        rounds.asked(&key);
    }
    Ok(applied)
}

/// Why a change was not made.
pub(super) enum Fault {
    /// The policy's failure policy decides.
    Policy(String),
    /// The server refuses, whatever the policy.
    Server(Failure),
}

/// Makes one change; whether it changed anything.
async fn mutate(
    server: &Server,
    invocation: &Invocation<'_>,
    mutation: &Mutation,
    namespace: Option<&Value>,
    write: &mut Attributes<'_>,
    views: &mut Views,
) -> Result<bool, Fault> {
    let resource = invocation.resource;
    let kind = Views::kind(write, resource);
    if write.operation == Operation::Connect {
        // The options of a connection have no published schema.
        let (group, version, kind) = (kind.group, kind.version, kind.kind);
        return Err(Fault::Server(Failure::unavailable(format!(
            "Resource kind {group}/{version}, Kind={kind} not found. There can be a delay between when CustomResourceDefinitions are created and when they are available."
        ))));
    }
    let given = views.given(write, resource).map_err(Fault::Server)?;
    let (Mutation::Apply(expression) | Mutation::Patch(expression)) = mutation;
    if let Err(invalid) = &expression.program {
        return Err(Fault::Policy(invalid.detail.clone()));
    }
    let inputs = Inputs {
        given: &given,
        params: invocation.params.as_deref(),
        namespace,
        asks: true,
        variables: &invocation.policy.variables,
    };
    let mut left = RUNTIME_BUDGET;
    let read: fn(&cel::Value<'_>) -> Result<Change, String> = match mutation {
        Mutation::Apply(_) => change::configuration,
        Mutation::Patch(_) => change::patch,
    };
    let run = runner(server, write)
        .run(inputs, &[Some(expression)], &mut left, read)
        .await;
    let evaluations = run.map_err(|why| Fault::Policy(why.to_owned()))?;
    let Some(evaluation) = evaluations.into_iter().flatten().next() else {
        return Ok(false);
    };
    let change = evaluation
        .outcome
        .and_then(|change| change)
        .map_err(Fault::Policy)?;
    let Some(object) = write.object.as_deref_mut() else {
        return Ok(false);
    };
    let Some(patched) = change.make(&given.object, object, &kind, &views.forms)? else {
        return Ok(false);
    };
    let before = std::mem::replace(object, patched.object);
    write.warnings.extend(keep_managers(object, &before));
    views.changed();
    Ok(patched.changed)
}

#[cfg(test)]
mod tests {
    use proto::catalogue::messages::core_v1::POD;

    use super::super::super::testing::{Asked, decode};
    use super::super::testing::policy_with;
    use super::*;

    fn policy(failure_policy: &str) -> Policy<Mutating> {
        Policy::compile(&policy_with(
            "p",
            &format!(r#""failurePolicy":"{failure_policy}""#),
        ))
    }

    #[test]
    fn errors_are_told_together_and_the_first_gives_its_name() {
        let mut errors = Errors::default();
        errors.broken(&policy("Ignore"), None, "never mind");
        let mut asked = Asked::create("pods", decode(r#"{"metadata":{"name":"a"}}"#, POD));
        assert!(asked.ask(|write| errors.refusal(write)).is_none());
        errors.broken(&policy("Fail"), None, "it is broken");
        let binding = Binding {
            name: "b".to_owned(),
            policy: "p".to_owned(),
            resources: None,
            param: None,
            actions: Vec::new(),
        };
        errors.add(&policy("Fail"), Some(&binding), "why", Some("Invalid"));
        let refusal = asked.ask(|write| errors.refusal(write)).unwrap();
        let first = "policy \"p\" denied request: failed to configure policy: it is broken";
        assert_eq!(
            (refusal.code(), refusal.reason(), refusal.message()),
            (403, "Forbidden", first)
        );
        let causes: Vec<&str> = refusal
            .details()
            .causes
            .iter()
            .map(|c| c.message.as_str())
            .collect();
        assert_eq!(
            causes,
            [first, "policy 'p' with binding 'b' denied request: why"]
        );
    }
}
