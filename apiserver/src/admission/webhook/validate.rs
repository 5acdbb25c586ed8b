//! Validating webhooks: all are asked at the same time.
//!
//! Upstream: `apiserver/pkg/admission/plugin/webhook/validating/dispatcher.go`.

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use resources::status::Failure;

use super::super::Attributes;
use super::call::{self, Failed, PASSED, Said, Verdict};
use super::forms::Forms;
use super::review::{Answer, Objects};
use super::selected::is_selected;
use super::source::{Candidate, Concerned};
use super::{State, timed_out};
use crate::audit::Part;
use crate::server::Server;

const FAILED_OPEN: &str = "failed-open.validating.webhook.admission.k8s.io/";

/// Asks all that are concerned, and waits for all of them.
///
/// # Errors
/// The refusal that came first.
pub(super) async fn dispatch(
    server: &Server,
    state: &State,
    concerned: Concerned,
    write: &mut Attributes<'_>,
) -> Result<(), Failure> {
    let features = &server.config.features;
    let mut forms = Forms::new(write.resource, write.subresource, features);
    let mut relevant: Vec<(&Candidate, Objects)> = Vec::new();
    for candidate in concerned.iter() {
        if is_selected(server, candidate, write, &mut forms, &state.metrics).await? {
            relevant.push((candidate, forms.all(write, &candidate.kind)?));
        }
    }
    if relevant.is_empty() {
        return Ok(());
    }
    timed_out(write)?;
    let mut first = None;
    for ended in asked(server, state, &relevant, write).await {
        first = first.or(ended.settle(state, write));
    }
    first.map_or(Ok(()), Err)
}

/// A call that ended.
struct Ended<'a> {
    candidate: &'a Candidate,
    /// Its place among those that were asked.
    index: usize,
    answer: Result<Answer, Failed>,
    said: Said,
    took: Duration,
}

/// All calls, in the order in which they ended.
async fn asked<'a>(
    server: &Server,
    state: &State,
    relevant: &'a [(&'a Candidate, Objects)],
    write: &Attributes<'_>,
) -> Vec<Ended<'a>> {
    let started = Instant::now();
    let calls: FuturesUnordered<_> = relevant
        .iter()
        .enumerate()
        .map(|(index, (candidate, objects))| async move {
            let candidate: &Candidate = candidate;
            let (answer, said) = call::ask(server, state, candidate, write, objects).await;
            Ended {
                candidate,
                index,
                answer,
                said,
                took: started.elapsed(),
            }
        })
        .collect();
    calls.collect().await
}

impl Ended<'_> {
    /// Counts and tells it; the refusal, if it is one.
    fn settle(self, state: &State, write: &mut Attributes<'_>) -> Option<Failure> {
        let hook = &*self.candidate.hook;
        write.spent(Part::ValidatingWebhook, self.took);
        self.said.tell(hook, write);
        let outcome = &self.answer;
        let counted = outcome
            .as_ref()
            .map_or_else(|failed| failed.outcome(hook), |_| PASSED);
        state
            .metrics
            .called(&hook.name, write.operation, &counted, self.took);
        match self.answer.err()?.verdict(hook) {
            Verdict::Refused(failure) => Some(failure),
            Verdict::Open => {
                state.metrics.failed_open(&hook.name);
                let key = format!("{FAILED_OPEN}round_0_index_{}", self.index);
                write.annotate(&key, &hook.name);
                None
            }
        }
    }
}
