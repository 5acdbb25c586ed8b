//! One call of one webhook, and what follows from how it ended.

use std::time::{Duration, Instant};

use component::tracing::{Span, branch, span};
use proto::meta::names::label_key_problems;
use resources::status::Failure;

use super::super::Attributes;
use super::State;
use super::hook::{Hook, SideEffects};
use super::metrics::Outcome;
use super::review::{self, Answer, Objects, Wrong};
use super::source::Candidate;
use crate::server::Server;
use crate::webhook::reach::Failed as Unreached;

/// What a webhook that says nothing of it may take; upstream's client.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Validation lets no such webhook pass.
const UNKNOWN: &str = "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)";

/// Why a call did not let the write pass.
#[derive(Debug)]
pub(super) enum Failed {
    /// The webhook was not asked, or gave no answer. What follows is said by its failure policy.
    Calling { why: String, code: u16 },
    /// It refused the write.
    Rejected(Failure),
    /// The server itself cannot go on, whatever the policy.
    Server(Failure),
}

/// What to do about it.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The write goes on as if the webhook had let it pass.
    Open,
    Refused(Failure),
}

impl Failed {
    /// What is counted of it.
    pub(super) fn outcome(&self, hook: &Hook) -> Outcome {
        match self {
            Self::Calling { code, .. } => Outcome {
                rejected: !hook.ignores_failures,
                error_type: (!hook.ignores_failures).then_some("calling_webhook_error"),
                code: *code,
            },
            Self::Rejected(failure) => Outcome {
                rejected: true,
                error_type: Some("no_error"),
                code: failure.code(),
            },
            Self::Server(_) => Outcome {
                rejected: true,
                error_type: Some("apiserver_internal_error"),
                code: 0,
            },
        }
    }

    /// What follows from it.
    pub(super) fn verdict(self, hook: &Hook) -> Verdict {
        match self {
            Self::Calling { why, .. } => {
                let error = format!(
                    "failed calling webhook {}: {why}",
                    proto::path::quote(&hook.name)
                );
                if hook.ignores_failures {
                    tracing::warn!(
                        webhook = hook.name,
                        error,
                        "A webhook gave no answer, the write goes on without"
                    );
                    return Verdict::Open;
                }
                tracing::warn!(
                    webhook = hook.name,
                    error,
                    "A webhook gave no answer, the write is refused"
                );
                Verdict::Refused(Failure::internal(error))
            }
            Self::Rejected(failure) | Self::Server(failure) => Verdict::Refused(failure),
        }
    }
}

/// What is counted of a call that let the write pass.
pub(super) const PASSED: Outcome = Outcome {
    rejected: false,
    error_type: None,
    code: 200,
};

/// Asks a webhook. What it has to say besides its decision is in the second value, whatever that is.
pub(super) async fn ask(
    server: &Server,
    state: &State,
    candidate: &Candidate,
    write: &Attributes<'_>,
    objects: &Objects,
) -> (Result<Answer, Failed>, Said) {
    let hook = &*candidate.hook;
    let mut said = Said::default();
    let asked = branch(asked(server, state, candidate, write, objects)).await;
    let outcome = asked.and_then(|mut answer| {
        said.warnings = std::mem::take(&mut answer.warnings);
        said.annotations = std::mem::take(&mut answer.annotations);
        if answer.allowed {
            return Ok(answer);
        }
        let refusal = review::refusal(&hook.name, answer.status.as_ref());
        Err(Failed::Rejected(refusal))
    });
    (outcome, said)
}

async fn asked(
    server: &Server,
    state: &State,
    candidate: &Candidate,
    write: &Attributes<'_>,
    objects: &Objects,
) -> Result<Answer, Failed> {
    let hook = &*candidate.hook;
    let calling = |why: &dyn std::fmt::Display, code| Failed::Calling {
        why: why.to_string(),
        code,
    };
    match hook.side_effects {
        _ if !write.dry_run() => {}
        SideEffects::Unsaid => return Err(calling(&"Webhook SideEffects is nil", 400)),
        SideEffects::Harmful => {
            let name = proto::path::quote(&hook.name);
            let why = format!("admission webhook {name} does not support dry run");
            return Err(Failed::Server(Failure::bad_request(why)));
        }
        SideEffects::Harmless => {}
    }
    let version = hook.review.ok_or_else(|| calling(&UNKNOWN, 400))?;
    let uid = uuid::Uuid::new_v4().to_string();
    let _span = calling_span(state, candidate, write, &uid);
    let question = review::question(version, &uid, write, candidate, objects)
        .map_err(|e| Failed::Server(Failure::internal(e)))?;
    let own = Instant::now() + hook.timeout.unwrap_or(TIMEOUT);
    let deadline = write.deadline.map_or(own, |all| all.min(own));
    let posted = hook
        .way
        .post(&state.reach, server, question, deadline)
        .await;
    let answer = posted.map_err(|e| match &e {
        Unreached::Client(_) => calling(&e, 500),
        Unreached::Call { code: 0, .. } => calling(&e, 503),
        Unreached::Call { code, .. } => calling(&e, *code),
    })?;
    let answer = review::answer(&answer, version, &uid, state.mutating);
    answer.map_err(|e| match &e {
        Wrong::Undecodable(_) | Wrong::Invalid(_) => calling(&e, 503),
    })
}

fn calling_span(state: &State, candidate: &Candidate, write: &Attributes<'_>, uid: &str) -> Span {
    let name = match state.mutating {
        true => "Call mutating webhook",
        false => "Call validating webhook",
    };
    let (hook, r) = (&*candidate.hook, write.resource);
    span(name, |a| {
        a.text("configuration", &hook.configuration);
        a.text("webhook", &hook.name);
        a.text(
            "resource",
            format!("{}/{}, Resource={}", r.group, r.version, r.name),
        );
        a.text("subresource", write.subresource);
        a.text("operation", write.operation.text());
        a.text("UID", uid);
    })
}

/// What a webhook says besides its decision.
#[derive(Default)]
pub(super) struct Said {
    warnings: Vec<String>,
    annotations: Vec<(String, String)>,
}

impl Said {
    /// Tells the client and the audit log.
    pub(super) fn tell(self, hook: &Hook, write: &mut Attributes<'_>) {
        for (key, value) in self.annotations {
            let key = format!("{}/{key}", hook.name);
            if key.matches('/').count() == 1 && label_key_problems(&key).is_empty() {
                write.annotate(&key, &value);
            } else {
                tracing::warn!(
                    key,
                    webhook = hook.name,
                    "A webhook's audit annotation has no name that one can have"
                );
            }
        }
        write.warnings.extend(self.warnings);
    }
}

#[cfg(test)]
mod tests {
    use proto::catalogue::messages::admissionregistration_v1::MUTATING_WEBHOOK_CONFIGURATION;

    use super::super::super::testing::decode;
    use super::super::hook::of_configuration;
    use super::*;

    fn hook(policy: &str) -> Hook {
        let text = format!(
            r#"{{"metadata":{{"name":"c"}},"webhooks":[{{"name":"a.b.c","failurePolicy":"{policy}"}}]}}"#
        );
        of_configuration(&decode(&text, MUTATING_WEBHOOK_CONFIGURATION)).remove(0)
    }

    #[test]
    fn the_failure_policy_is_about_calls_alone() {
        let lost = || Failed::Calling {
            why: "failed to call webhook: x".to_owned(),
            code: 503,
        };
        assert!(matches!(lost().verdict(&hook("Ignore")), Verdict::Open));
        let Verdict::Refused(failure) = lost().verdict(&hook("Fail")) else {
            panic!("it fails closed");
        };
        assert_eq!(
            (failure.code(), failure.message()),
            (
                500,
                "Internal error occurred: failed calling webhook \"a.b.c\": failed to call webhook: x"
            )
        );
        let no = Failed::Rejected(Failure::bad_request("no"));
        assert!(matches!(no.verdict(&hook("Ignore")), Verdict::Refused(_)));
        let own = Failed::Server(Failure::internal("x"));
        assert!(matches!(own.verdict(&hook("Ignore")), Verdict::Refused(_)));
    }

    #[test]
    fn what_is_counted_tells_whose_fault_it_was() {
        let lost = Failed::Calling {
            why: String::new(),
            code: 503,
        };
        let of = |failed: &Failed, policy| {
            let Outcome {
                rejected,
                error_type,
                code,
            } = failed.outcome(&hook(policy));
            (rejected, error_type, code)
        };
        assert_eq!(of(&lost, "Ignore"), (false, None, 503));
        assert_eq!(
            of(&lost, "Fail"),
            (true, Some("calling_webhook_error"), 503)
        );
        let no = Failed::Rejected(Failure::new(418, "", "no"));
        assert_eq!(of(&no, "Ignore"), (true, Some("no_error"), 418));
        let own = Failed::Server(Failure::internal("x"));
        assert_eq!(
            of(&own, "Fail"),
            (true, Some("apiserver_internal_error"), 0)
        );
    }
}
