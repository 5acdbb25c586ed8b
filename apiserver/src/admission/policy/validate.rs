//! Validating policies: what they say of a write, and what follows from that.
//!
//! Upstream: `apiserver/pkg/admission/plugin/policy/validating/{dispatcher,validator}.go`.

use std::sync::Arc;
use std::time::Duration;

use cel::{RUNTIME_BUDGET, Value as Cel};
use proto::{Value, codec};
use resources::status::Failure;

use super::super::Attributes;
use super::super::given::Given;
use super::super::webhook::conditions::Verdict;
use super::compile::{Action, Binding, Policy, Reason, Validating, Validation};
use super::expression::{Evaluation, runner};
use super::metrics::error_type;
use super::scope::Inputs;
use super::source::{Candidate, Concerned};
use super::views::Views;
use super::{State, bound, conditions_of, matched};
use crate::server::Server;

const FAILURES: &str = "validation.policy.admission.k8s.io/validation_failure";
/// What is recorded of failures at most, and of a value, in bytes.
const MOST_FAILURES: usize = 50;
const MOST_VALUE: usize = 10 << 10;

/// What was found so far.
#[derive(Default)]
struct Found {
    /// The message of the first refusal.
    denied: Option<(String, Reason)>,
    failures: Vec<Failed>,
}

/// A validation that failed, for the audit log.
struct Failed {
    message: String,
    policy: String,
    binding: String,
    index: usize,
    actions: Vec<Action>,
}

/// Asks all policies that are concerned.
///
/// # Errors
/// The first refusal.
pub(super) async fn dispatch(
    server: &Server,
    state: &State<Validating>,
    concerned: Arc<Concerned<Validating>>,
    write: &mut Attributes<'_>,
) -> Result<(), Failure> {
    let mut views = Views::new(server, write);
    let mut found = Found::default();
    for candidate in &concerned.candidates {
        one(
            server, state, &concerned, candidate, write, &mut views, &mut found,
        )
        .await?;
    }
    if !found.failures.is_empty() {
        write.annotate(FAILURES, &failures(&found.failures));
    }
    match found.denied {
        None => Ok(()),
        Some((message, reason)) => Err(refusal(write, &message, reason)),
    }
}

/// The status of a refusal.
fn refusal(write: &Attributes<'_>, message: &str, reason: Reason) -> Failure {
    let forbidden = write.forbid(message);
    let (code, reason) = reason.status();
    Failure::new(code, reason, forbidden.message())
        .with_details(forbidden.details().clone())
        .with_cause("", message, "")
}

impl Found {
    /// It cannot be said what a policy wants.
    fn broken(&mut self, policy: &Policy<Validating>, binding: Option<&Binding>, why: &str) {
        if policy.ignores_failures {
            return;
        }
        let what = binding.map_or("policy", |_| "binding");
        let message = format!("failed to configure {what}: {why}");
        self.deny(policy, binding, &message, Reason::Invalid);
    }

    fn deny(
        &mut self,
        policy: &Policy<Validating>,
        binding: Option<&Binding>,
        why: &str,
        reason: Reason,
    ) {
        let name = &policy.name;
        let with = binding.map_or_else(String::new, |b| format!(" with binding '{}'", b.name));
        let message = || format!("ValidatingAdmissionPolicy '{name}'{with} denied request: {why}");
        self.denied.get_or_insert_with(|| (message(), reason));
    }
}

async fn one(
    server: &Server,
    state: &State<Validating>,
    concerned: &Concerned<Validating>,
    candidate: &Candidate<Validating>,
    write: &mut Attributes<'_>,
    views: &mut Views,
    found: &mut Found,
) -> Result<(), Failure> {
    let policy = &*candidate.policy;
    let resource = match matched(server, candidate, &concerned.equivalent, write).await {
        Ok(Some(resource)) => resource,
        Ok(None) => return Ok(()),
        Err(why) => {
            found.broken(policy, None, &why);
            return Ok(());
        }
    };
    let mut notes = Notes::default();
    for binding in candidate.bindings.iter() {
        let params = bound(
            server,
            state,
            candidate,
            &concerned.equivalent,
            binding,
            write,
        )
        .await;
        let params = match params {
            Ok(params) if params.is_empty() => continue,
            Ok(params) => params,
            Err(why) => {
                found.broken(policy, Some(binding), &why);
                continue;
            }
        };
        let given = match views.given(write, resource) {
            Ok(given) => given,
            Err(e) => {
                let why = format!("failed to convert object version: {}", e.message());
                found.broken(policy, Some(binding), &why);
                continue;
            }
        };
        let namespace = views.namespace(server, &state.memo, write).await?;
        for params in &params {
            let inputs = Inputs {
                given: &given,
                params: params.as_deref(),
                namespace: namespace.as_deref(),
                asks: true,
                variables: &policy.variables,
            };
            let result = if policy.conditions.is_empty() {
                validate(server, policy, inputs, write).await
            } else {
                let asked = views.of_conditions(write, resource)?;
                conditioned(server, state, policy, (inputs, &asked), write).await
            };
            settle(
                state,
                policy,
                binding,
                result,
                write,
                (&mut *found, &mut notes),
            );
        }
    }
    notes.publish(&policy.name, write);
    Ok(())
}

/// What a policy says of a write.
#[derive(Default)]
struct Said {
    decisions: Vec<Decision>,
    notes: Vec<Note>,
}

struct Decision {
    denies: bool,
    /// It could not be evaluated.
    failed: bool,
    message: String,
    reason: Reason,
    took: Duration,
}

enum Note {
    Published(String, String),
    Failed(String, Duration),
}

impl Said {
    /// A single decision over something that failed.
    fn failed(policy: &Policy<Validating>, message: String) -> Self {
        let failed = Decision::failed(policy, message, Duration::ZERO);
        Self {
            decisions: vec![failed],
            notes: Vec::new(),
        }
    }
}

impl Decision {
    fn failed(policy: &Policy<Validating>, message: String, took: Duration) -> Self {
        Self {
            denies: !policy.ignores_failures,
            failed: true,
            message,
            reason: Reason::Invalid,
            took,
        }
    }
}

/// The same if the policy's conditions hold; they see no namespace.
async fn conditioned(
    server: &Server,
    state: &State<Validating>,
    policy: &Policy<Validating>,
    (inputs, asked): (Inputs<'_>, &Given),
    write: &Attributes<'_>,
) -> Said {
    let of_conditions = Inputs {
        given: asked,
        namespace: None,
        ..inputs
    };
    match conditions_of(server, state, policy, of_conditions, write).await {
        Verdict::Matches => validate(server, policy, inputs, write).await,
        Verdict::Excluded => Said::default(),
        Verdict::Failed(why) => Said::failed(policy, why),
    }
}

/// What an expression of a policy gives.
#[derive(Clone, PartialEq, Debug)]
enum Got {
    True,
    Text(String),
    Null,
    Other,
}

fn got(value: &Cel<'_>) -> Got {
    match value {
        Cel::Bool(true) => Got::True,
        Cel::Null => Got::Null,
        value => value
            .as_str()
            .map_or(Got::Other, |text| Got::Text(text.to_owned())),
    }
}

async fn validate(
    server: &Server,
    policy: &Policy<Validating>,
    inputs: Inputs<'_>,
    write: &Attributes<'_>,
) -> Said {
    let runner = runner(server, write);
    let body = &policy.body;
    let expressions: Vec<_> = body
        .validations
        .iter()
        .map(|v| Some(&v.expression))
        .collect();
    let mut left = RUNTIME_BUDGET;
    let validated = match runner.run(inputs, &expressions, &mut left, got).await {
        Ok(validated) => validated,
        Err(why) => return Said::failed(policy, why.to_owned()),
    };
    let messages: Vec<_> = { body.validations.iter() }
        .map(|v| v.message_expression.as_ref())
        .collect();
    let silent = Inputs {
        asks: false,
        ..inputs
    };
    let messages = if messages.iter().any(Option::is_some) {
        runner.run(silent, &messages, &mut left, got).await
    } else {
        Ok(Vec::new())
    };
    let notes: Vec<_> = body.annotations.iter().map(|a| Some(&a.value)).collect();
    let mut own = RUNTIME_BUDGET;
    // They compile with the authorizer, but upstream gives them none, either.
    let noted = match runner.run(silent, &notes, &mut own, got).await {
        Ok(noted) => noted,
        Err(why) => return Said::failed(policy, why.to_owned()),
    };
    let decided = validated
        .into_iter()
        .flatten()
        .zip(&body.validations)
        .enumerate();
    let decisions = decided.map(|(i, (evaluation, validation))| {
        let message = match &messages {
            Ok(messages) => Ok(messages.get(i).and_then(Option::as_ref)),
            Err(why) => Err(*why),
        };
        decide(policy, validation, evaluation, message)
    });
    let notes = noted.into_iter().flatten().zip(&body.annotations);
    Said {
        decisions: decisions.collect(),
        notes: notes
            .filter_map(|(evaluation, annotation)| note(policy, &annotation.key, evaluation))
            .collect(),
    }
}

fn decide(
    policy: &Policy<Validating>,
    validation: &Validation,
    evaluation: Evaluation<Got>,
    message: Result<Option<&Evaluation<Got>>, &str>,
) -> Decision {
    let took = evaluation.took;
    let message = match (evaluation.outcome, message) {
        (Err(why), _) => return Decision::failed(policy, why, took),
        (Ok(_), Err(why)) => {
            let why = format!("failed messageExpression: {why}");
            return Decision::failed(policy, why, took);
        }
        (Ok(Got::True), Ok(_)) => {
            return Decision {
                denies: false,
                failed: false,
                message: String::new(),
                reason: Reason::Invalid,
                took,
            };
        }
        (Ok(_), Ok(message)) => message,
    };
    Decision {
        denies: true,
        failed: false,
        message: told(validation, message.map(|of| &of.outcome)),
        reason: validation.reason,
        took,
    }
}

/// What is said of a validation that fails: what its expression for that gives, if that can be said in a line; else its
/// message; else what failed.
fn told(validation: &Validation, given: Option<&Result<Got, String>>) -> String {
    let given = match given {
        Some(Ok(Got::Text(text))) => text.trim(),
        Some(Err(error)) => {
            tracing::debug!(error, "A message expression cannot be evaluated");
            ""
        }
        _ => "",
    };
    if !given.is_empty() && given.len() <= cel::MAX_MESSAGE && !given.contains('\n') {
        return given.to_owned();
    }
    match validation.message.trim() {
        "" => format!("failed expression: {}", validation.expression.text.trim()),
        message => message.to_owned(),
    }
}

fn note(policy: &Policy<Validating>, key: &str, evaluation: Evaluation<Got>) -> Option<Note> {
    match evaluation.outcome {
        Ok(Got::Text(text)) => match text.trim() {
            "" => None,
            text => Some(Note::Published(key.to_owned(), text.to_owned())),
        },
        Ok(_) => None,
        Err(_) if policy.ignores_failures => None,
        Err(why) => Some(Note::Failed(why, evaluation.took)),
    }
}

/// Does what a binding wants with what a policy said.
fn settle(
    state: &State<Validating>,
    policy: &Policy<Validating>,
    binding: &Binding,
    said: Said,
    write: &mut Attributes<'_>,
    (found, notes): (&mut Found, &mut Notes),
) {
    let (name, bound) = (&policy.name, &binding.name);
    let observe = |decision: &Decision, action| {
        let kind = error_type(&decision.message);
        state
            .checks
            .observe(name, bound, kind, Some(action), decision.took);
    };
    for (index, decision) in said.decisions.into_iter().enumerate() {
        if !decision.denies {
            if decision.failed {
                observe(&decision, "allow");
            }
            continue;
        }
        for action in &binding.actions {
            let message = &decision.message;
            match action {
                Action::Deny => {
                    found.deny(policy, Some(binding), message, decision.reason);
                    observe(&decision, "deny");
                }
                Action::Audit => {
                    found.failures.push(Failed {
                        message: message.clone(),
                        policy: binding.policy.clone(),
                        binding: bound.clone(),
                        index,
                        actions: binding.actions.clone(),
                    });
                    observe(&decision, "audit");
                }
                Action::Warn => {
                    write.warnings.push(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{name}' with binding '{bound}': {message}"
                    ));
                    observe(&decision, "warn");
                }
            }
        }
    }
    for note in said.notes {
        match note {
            Note::Published(key, value) => notes.add(key, value),
            Note::Failed(why, took) => {
                found.deny(policy, Some(binding), &why, Reason::Invalid);
                state
                    .checks
                    .observe(name, bound, error_type(&why), Some("deny"), took);
            }
        }
    }
}

/// The annotations that a policy makes, with the values that it has for each of its bindings.
#[derive(Default)]
struct Notes(Vec<(String, Vec<String>)>);

impl Notes {
    fn add(&mut self, key: String, mut value: String) {
        value.truncate(value.floor_char_boundary(MOST_VALUE));
        match self.0.iter_mut().find(|(own, _)| *own == key) {
            Some((_, values)) if values.contains(&value) => {}
            Some((_, values)) => values.push(value),
            None => self.0.push((key, vec![value])),
        }
    }

    fn publish(self, policy: &str, write: &Attributes<'_>) {
        for (key, values) in self.0 {
            write.annotate(&format!("{policy}/{key}"), &values.join(", "));
        }
    }
}

/// Failures as the audit log has them.
fn failures(all: &[Failed]) -> String {
    let quoted = |text: &str| {
        let mut out = Vec::new();
        codec::json::write(&Value::from(text), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    };
    let shown = all.iter().take(MOST_FAILURES).map(|failed| {
        let actions: Vec<String> = failed.actions.iter().map(|a| quoted(a.text())).collect();
        format!(
            "{{\"message\":{},\"policy\":{},\"binding\":{},\"expressionIndex\":{},\"validationActions\":[{}]}}",
            quoted(&failed.message),
            quoted(&failed.policy),
            quoted(&failed.binding),
            failed.index,
            actions.join(",")
        )
    });
    format!("[{}]", shown.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests;
