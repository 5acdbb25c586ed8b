//! Binding: from the assumed place to the one that the API server knows.

use std::sync::Arc;
use std::time::Duration;

use component::events::{Event as Told, Type, reference};
use component::supervisor::Task;
use tokio::sync::futures::Notified;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::{Engine, explain};
use crate::cluster::Cluster;
use crate::framework::{
    Action, BindError, Binding, Change, Event, Observed, Reservation, Resource,
};
use crate::metrics::Outcome;
use crate::pod::PodInfo;
use crate::queue::Queued;

/// A pod with its place, on its way to being bound.
pub(super) struct Assumed {
    pub(super) queued: Queued,
    pub(super) node: Arc<str>,
    pub(super) began: Instant,
    pub(super) wait: Option<Duration>,
    pub(super) held: Vec<Held>,
}

/// What a plugin holds for a pod.
pub(super) struct Held {
    pub(super) plugin: &'static str,
    pub(super) reservation: Arc<dyn Reservation>,
}

impl Engine {
    /// Binds a pod as a task of its own.
    pub(super) fn bind(&self, assumed: Assumed, slot: OwnedSemaphorePermit) {
        let engine = self.clone();
        self.shared
            .tasks
            .spawn(Task::Background, "bind", async move {
                let bound = engine.bind_now(&assumed).await;
                engine.bound(assumed, bound);
                drop(slot);
            });
    }

    async fn bind_now(&self, assumed: &Assumed) -> Result<(), BindError> {
        let pod = &*assumed.queued.pod;
        let Some(profile) = self.shared.profiles.of(pod) else {
            return Ok(());
        };
        if assumed.wait.is_some() || !assumed.held.is_empty() {
            // It will take a while: whoever adds nodes has to know where the pod goes.
            self.nominate(pod, &assumed.node).await;
        }
        if let Some(longest) = assumed.wait {
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
            node: &assumed.node,
            observed: self,
        };
        self.prepare(binding, &assumed.held).await?;
        if let Some(done) = self.shared.extenders.bind(pod, &assumed.node).await {
            return done;
        }
        for plugin in profile.at(|p| p.bind) {
            if let Some(done) = plugin.bind(&binding).await {
                return done;
            }
        }
        Ok(())
    }

    /// Does what plugins do before binding. A preemption may call it off.
    async fn prepare(&self, binding: Binding<'_>, held: &[Held]) -> Result<(), BindError> {
        if held.is_empty() {
            return Ok(());
        }
        let uid = &binding.pod.uid;
        let (call_off, called_off) = oneshot::channel();
        let state = &self.shared.state;
        state.lock().preparing.insert(Arc::clone(uid), call_off);
        let one = |held: &'_ Held| {
            let (plugin, work) = (held.plugin, Arc::clone(&held.reservation));
            async move {
                let done = work.prepare(binding).await;
                done.map_err(|reason| BindError::PreBind { plugin, reason })
            }
        };
        let done = tokio::select! {
            done = futures::future::try_join_all(held.iter().map(one)) => done.map(drop),
            _ = called_off => Err(BindError::Preempted),
        };
        match state.lock().preparing.remove(uid) {
            Some(_) => done,
            None => Err(BindError::Preempted),
        }
    }

    /// Gives up a pod that is not bound yet, if that is still possible.
    pub(super) fn cancel_binding(&self, uid: &str) -> bool {
        let call_off = self.shared.state.lock().preparing.remove(uid);
        call_off.is_some_and(|c| c.send(()).is_ok())
    }

    /// Binding is over, one way or the other.
    fn bound(&self, assumed: Assumed, bound: Result<(), BindError>) {
        let (queued, node, began) = (&assumed.queued, &*assumed.node, assumed.began);
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
            Err(error) => self.unbound(assumed, &error),
        }
    }

    /// The place is given back, and the pod tried again.
    fn unbound(&self, assumed: Assumed, error: &BindError) {
        let Assumed {
            mut queued,
            node,
            began,
            held,
            ..
        } = assumed;
        let pod = Arc::clone(&queued.pod);
        let message = explain(error);
        tracing::warn!(pod = %pod.key, node = &*node, error = message, "Cannot bind pod");
        {
            let state = &mut *self.shared.state.lock();
            for held in held.iter().rev() {
                held.reservation.undo(&mut state.cluster);
            }
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

impl Observed for Engine {
    fn look(&self, look: &mut dyn FnMut(&mut Cluster)) {
        look(&mut self.shared.state.lock().cluster);
    }

    fn changed(&self) -> Notified<'_> {
        self.shared.storage.notified()
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
