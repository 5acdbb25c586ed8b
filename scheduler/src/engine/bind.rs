//! Binding: from the assumed place to the one that the API server knows.

use std::sync::Arc;
use std::time::Duration;

use component::events::{Event as Told, Type, reference};
use component::supervisor::Task;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::{Engine, explain};
use crate::framework::{Action, BindError, Binding, Change, Event, Resource};
use crate::metrics::Outcome;
use crate::pod::PodInfo;
use crate::queue::Queued;

impl Engine {
    /// Binds a pod as a task of its own.
    pub(super) fn bind(
        &self,
        queued: Queued,
        node: Arc<str>,
        began: Instant,
        wait: Option<Duration>,
        slot: OwnedSemaphorePermit,
    ) {
        let engine = self.clone();
        self.shared
            .tasks
            .spawn(Task::Background, "bind", async move {
                let bound = engine.bind_now(&queued, &node, wait).await;
                engine.bound(queued, &node, began, bound);
                drop(slot);
            });
    }

    async fn bind_now(
        &self,
        queued: &Queued,
        node: &str,
        wait: Option<Duration>,
    ) -> Result<(), BindError> {
        let pod = &*queued.pod;
        let Some(profile) = self.shared.profiles.of(pod) else {
            return Ok(());
        };
        if let Some(longest) = wait {
            tokio::time::sleep(longest).await;
            return Err(BindError::Permit {
                plugin: "",
                reason: "timed out".to_owned(),
            });
        }
        // From here on a failure is not the pod's.
        self.shared.state.lock().queue.done(&pod.uid);
        let binding = Binding {
            client: &self.shared.client,
            pod,
            node,
        };
        for plugin in profile.at(|p| p.pre_bind) {
            plugin.pre_bind(&binding).await?;
        }
        for plugin in profile.at(|p| p.bind) {
            if let Some(done) = plugin.bind(&binding).await {
                return done;
            }
        }
        Ok(())
    }

    /// Binding is over, one way or the other.
    fn bound(&self, queued: Queued, node: &str, began: Instant, bound: Result<(), BindError>) {
        let pod = Arc::clone(&queued.pod);
        let profile = pod.scheduler_name();
        let seconds = began.elapsed().as_secs_f64();
        match bound {
            Ok(()) => {
                tracing::debug!(pod = %pod.key, node, "Bound pod");
                self.shared
                    .metrics
                    .attempt(Outcome::Scheduled, profile, seconds);
                let first = queued.first_try.unwrap_or(began);
                self.shared
                    .metrics
                    .scheduled(queued.attempts, first.elapsed().as_secs_f64());
                let message = format!(
                    "Successfully assigned {}/{} to {node}",
                    pod.namespace(),
                    pod.key.name()
                );
                self.tell(&pod, Type::Normal, "Scheduled", "Binding", message);
                if let Some(profile) = self.shared.profiles.of(&pod) {
                    profile
                        .at(|p| p.post_bind)
                        .for_each(|p| p.post_bind(&pod, node));
                }
            }
            Err(error) => self.unbound(queued, node, began, &error),
        }
    }

    /// The place is given back, and the pod tried again.
    fn unbound(&self, mut queued: Queued, node: &str, began: Instant, error: &BindError) {
        let pod = Arc::clone(&queued.pod);
        let message = explain(error);
        tracing::warn!(pod = %pod.key, node, error = message, "Cannot bind pod");
        if let Some(profile) = self.shared.profiles.of(&pod) {
            profile
                .at(|p| p.reserve)
                .for_each(|p| p.unreserve(&pod, node));
        }
        {
            let state = &mut *self.shared.state.lock();
            if state.cluster.forget(&pod.uid) {
                let gone = Change::Pod {
                    old: Some(Arc::clone(&pod)),
                    new: None,
                };
                self.happened(
                    state,
                    Event::new(Resource::AssignedPod, Action::DELETE),
                    &gone,
                    |p| p.uid != pod.uid,
                );
            }
        }
        self.shared.metrics.attempt(
            Outcome::Error,
            pod.scheduler_name(),
            began.elapsed().as_secs_f64(),
        );
        queued.rejected_by.clear();
        queued.pending.clear();
        if let Some(pod) = self.come_back(queued, Some("")) {
            self.tell_failure(&pod, &message);
            let engine = self.clone();
            self.shared
                .tasks
                .spawn(Task::Background, "report", async move {
                    engine
                        .report(
                            pod,
                            "SchedulerError",
                            message,
                            crate::framework::PostFiltered::default(),
                        )
                        .await;
                });
        }
    }

    pub(super) fn tell_failure(&self, pod: &PodInfo, message: &str) {
        self.tell(
            pod,
            Type::Warning,
            "FailedScheduling",
            "Scheduling",
            shortened(message),
        );
    }

    pub(super) fn tell(
        &self,
        pod: &PodInfo,
        kind: Type,
        reason: &str,
        action: &str,
        message: String,
    ) {
        if let Some(recorder) = self.recorder(pod) {
            recorder.event(Told {
                regarding: reference(&*pod.pod),
                related: None,
                kind,
                reason: reason.to_owned(),
                action: action.to_owned(),
                message,
            });
        }
    }
}

/// A message that fits into an event.
fn shortened(message: &str) -> String {
    const LONGEST: usize = 1024;
    const REST: &str = " ...";
    if message.len() <= LONGEST {
        return message.to_owned();
    }
    let mut end = LONGEST - REST.len();
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{REST}", &message[..end])
}
