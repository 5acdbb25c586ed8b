//! The scheduler at work: one cycle after the other, with what it knows behind one lock.
//!
//! Informers change the state under the lock, a cycle holds it for one decision; nothing waits for the
//! network with it. Binding and status writes run as tasks of their own, so many at a time.
//!
//! Invariant: a pod that was popped is in flight until it is bound, comes back, or is found to be gone.

use std::collections::HashMap;
use std::sync::Arc;

use component::client::Client;
use component::events::Recorder;
use component::informer::Lister;
use component::supervisor::Supervisor;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::Instant;

use crate::cluster::{Cluster, NodeIndex};
use crate::decide::{Failure, Search, decide};
use crate::extender::Extenders;
use crate::framework::{BindError, Change, Event, FitError, Permit, PostFiltered};
use crate::metrics::{Metrics, Outcome};
use crate::pod::PodInfo;
use crate::profile::{Asked, Profile, Profiles};
use crate::queue::{Queue, Queued, Settings};

mod bind;
mod extended;
mod handlers;
mod preempt;
mod report;

use bind::{Assumed, Held};

pub(crate) use handlers::RUNNING;

/// Pods that are bound at a time. The client's rate limit is lower by default.
const BINDINGS: usize = 256;
/// Status writes under way at a time.
const REPORTS: usize = 64;
/// How often waiting pods are looked through for those that wait for too long; upstream's figure.
const SWEEP: std::time::Duration = std::time::Duration::from_secs(30);

/// The scheduler; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Something changed that may let a pod be tried.
    wake: Notify,
    /// Something changed that a binding may wait for.
    storage: Notify,
    profiles: Profiles,
    recorders: Vec<(String, Recorder)>,
    client: Client,
    extenders: Extenders,
    pods: Lister<Pod>,
    metrics: Metrics,
    tasks: Supervisor,
    bindings: Arc<Semaphore>,
    reports: Arc<Semaphore>,
}

/// All that is known.
pub(crate) struct State {
    pub(crate) cluster: Cluster,
    pub(crate) queue: Queue,
    search: Search,
    /// Pods that something is done for before they are bound, and how to call it off.
    preparing: HashMap<Arc<str>, oneshot::Sender<()>>,
}

/// What an engine is made of.
pub struct Parts {
    pub profiles: Profiles,
    pub recorders: Vec<(String, Recorder)>,
    pub settings: Settings,
    pub client: Client,
    pub extenders: Extenders,
    pub pods: Lister<Pod>,
    pub metrics: Metrics,
    pub tasks: Supervisor,
    /// Decides ties.
    pub seed: u64,
}

/// What became of a pod in one cycle.
enum Tried {
    Assumed(Assumed),
    Failed {
        queued: Queued,
        failure: Failure,
        began: Instant,
    },
    /// It need not be scheduled any more.
    Skipped(Queued),
    /// Extenders have to be asked.
    Extended(Queued, Instant),
}

impl Engine {
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let state = State {
            cluster: Cluster::default(),
            queue: Queue::new(parts.settings, Instant::now()),
            search: Search::seeded(parts.seed),
            preparing: HashMap::new(),
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                wake: Notify::new(),
                storage: Notify::new(),
                profiles: parts.profiles,
                recorders: parts.recorders,
                client: parts.client,
                extenders: parts.extenders,
                pods: parts.pods,
                metrics: parts.metrics,
                tasks: parts.tasks,
                bindings: Arc::new(Semaphore::new(BINDINGS)),
                reports: Arc::new(Semaphore::new(REPORTS)),
            }),
        }
    }

    /// Schedules until it is dropped.
    pub async fn run(self) {
        let mut sweep = Instant::now() + SWEEP;
        loop {
            let Ok(slot) = Arc::clone(&self.shared.bindings).acquire_owned().await else {
                return;
            };
            let now = Instant::now();
            if now >= sweep {
                sweep = now + SWEEP;
            }
            let tried = match self.cycle(now) {
                Some(Tried::Extended(queued, began)) => self.extended(queued, began).await,
                Some(tried) => tried,
                None => {
                    let due = self.shared.state.lock().queue.next_flush();
                    let until = due.map_or(sweep, |due| due.min(sweep)).max(now + TICK);
                    let _ = tokio::time::timeout_at(until, self.shared.wake.notified()).await;
                    continue;
                }
            };
            match tried {
                Tried::Assumed(assumed) => {
                    self.bind(assumed, slot);
                    // Informers share the runtime.
                    tokio::task::yield_now().await;
                }
                Tried::Failed {
                    queued,
                    failure,
                    began,
                } => self.failed(queued, failure, began).await,
                Tried::Skipped(queued) | Tried::Extended(queued, _) => self.skipped(&queued),
            }
        }
    }

    /// Tries one pod; none if there is none to try.
    fn cycle(&self, began: Instant) -> Option<Tried> {
        let shared = &*self.shared;
        let state = &mut *shared.state.lock();
        let asked = Asked {
            profiles: &shared.profiles,
            cluster: &state.cluster,
        };
        state.queue.flush(&asked, began);
        let queued = state.queue.pop(began)?;
        let pod = Arc::clone(&queued.pod);
        if pod.terminating || state.cluster.is_assumed(&pod.uid) || !pod.node_name().is_empty() {
            return Some(Tried::Skipped(queued));
        }
        let Some(profile) = shared.profiles.of(&pod) else {
            return Some(Tried::Skipped(queued));
        };
        if shared.extenders.decides(&pod) {
            return Some(Tried::Extended(queued, began));
        }
        let decision = decide(
            &state.cluster,
            profile,
            &pod,
            state.queue.nominated(),
            &mut state.search,
        );
        shared
            .metrics
            .algorithm_seconds
            .observe(began.elapsed().as_secs_f64());
        for spent in state.search.take_spent() {
            shared.metrics.point(&spent, &profile.name);
        }
        Some(match decision {
            Ok(decision) => {
                tracing::debug!(
                    pod = %pod.key, evaluated = decision.evaluated, feasible = decision.feasible, "Decided"
                );
                assume(state, profile, queued, decision.node, began)
            }
            Err(failure) => Tried::Failed {
                queued,
                failure,
                began,
            },
        })
    }

    fn skipped(&self, queued: &Queued) {
        if queued.pod.terminating {
            let message = format!(
                "skip schedule deleting pod: {}/{}",
                queued.pod.namespace(),
                queued.pod.key.name()
            );
            self.tell_failure(&queued.pod, &message);
        }
        self.shared.state.lock().queue.done(&queued.pod.uid);
    }

    /// A pod gets no node: it waits again, and people are told why.
    async fn failed(&self, mut queued: Queued, failure: Failure, began: Instant) {
        let (outcome, reason) = match &failure {
            Failure::Plugin { .. } => (Outcome::Error, "SchedulerError"),
            _ => (Outcome::Unschedulable, "Unschedulable"),
        };
        let message = failure.to_string();
        queued.rejected_by.clear();
        queued.pending.clear();
        let mut made = PostFiltered {
            nominate: Some(String::new()),
            ..PostFiltered::default()
        };
        if let Failure::Unfit { error, nominate } = failure {
            let FitError { diagnosis, .. } = *error;
            queued.rejected_by = diagnosis.rejected_by;
            queued.pending = diagnosis.pending;
            if nominate.is_some() {
                self.shared.metrics.preemption_attempts.inc();
            }
            made = nominate.unwrap_or(made);
        }
        self.preempt(&queued.pod, &made);
        let profile = queued.pod.scheduler_name().to_owned();
        self.shared
            .metrics
            .attempt(outcome, &profile, began.elapsed().as_secs_f64());
        tracing::debug!(pod = %queued.pod.key, message, "Cannot schedule pod");
        let Some(pod) = self.come_back(queued, made.nominate.as_deref()) else {
            return;
        };
        self.tell_failure(&pod, &message);
        self.report(pod, reason, message, made).await;
    }

    /// Puts a pod that could not be scheduled or bound back into the queue, in its newest state. None if
    /// it is gone or bound.
    fn come_back(&self, mut queued: Queued, nominate: Option<&str>) -> Option<Arc<PodInfo>> {
        let shared = &*self.shared;
        let key = queued.pod.key.clone();
        let newest = shared.pods.by_key(&key).map(|p| Arc::new(PodInfo::new(p)));
        let state = &mut *shared.state.lock();
        let newest = newest.filter(|p| p.uid == queued.pod.uid && p.node_name().is_empty());
        let Some(newest) = newest else {
            state.queue.done(&queued.pod.uid);
            return None;
        };
        queued.pod = Arc::clone(&newest);
        let asked = Asked {
            profiles: &shared.profiles,
            cluster: &state.cluster,
        };
        state.queue.come_back(queued, &asked, Instant::now());
        match nominate {
            Some(node) => state.queue.nominated_mut().add(&newest, node),
            None => {
                let node = newest.nominated_node().to_owned();
                state.queue.nominated_mut().add(&newest, &node);
            }
        }
        shared.wake.notify_one();
        Some(newest)
    }

    /// Tells the queue of an event, under the lock.
    fn happened(
        &self,
        state: &mut State,
        event: Event,
        change: &Change,
        only: impl Fn(&PodInfo) -> bool,
    ) {
        let asked = Asked {
            profiles: &self.shared.profiles,
            cluster: &state.cluster,
        };
        state
            .queue
            .happened(event, change, only, &asked, Instant::now());
        self.shared.wake.notify_one();
    }

    /// Sizes for metrics.
    pub fn sizes(&self) {
        let (lengths, cache, rejections, moves) = {
            let mut state = self.shared.state.lock();
            let moves = state.queue.take_moves();
            let (pods, assumed) = state.cluster.pod_counts();
            (
                state.queue.lengths(),
                [state.cluster.order().len(), pods, assumed],
                state.queue.rejections(),
                moves,
            )
        };
        self.shared.metrics.incoming(moves);
        self.shared.metrics.sizes(lengths, cache);
        self.shared.metrics.rejections(&rejections);
    }

    fn recorder(&self, pod: &PodInfo) -> Option<&Recorder> {
        let name = pod.scheduler_name();
        self.shared
            .recorders
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, r)| r)
    }
}

/// Gives a pod its place, in memory.
fn assume(
    state: &mut State,
    profile: &Profile,
    queued: Queued,
    node: NodeIndex,
    began: Instant,
) -> Tried {
    let pod = Arc::clone(&queued.pod);
    let name: Arc<str> = state.cluster.name(node).into();
    state.cluster.assume(&pod, node);
    state.queue.nominated_mut().remove(&pod.uid);
    tracing::debug!(pod = %pod.key, node = &*name, "Assumed pod");
    match reserve(profile, &mut state.cluster, &pod, node) {
        Ok((held, wait)) => Tried::Assumed(Assumed {
            queued,
            node: name,
            began,
            wait,
            held,
        }),
        Err(failure) => {
            state.cluster.forget(&pod.uid);
            Tried::Failed {
                queued,
                failure,
                began,
            }
        }
    }
}

/// A timer that is due already still lets others run.
const TICK: std::time::Duration = std::time::Duration::from_millis(1);

/// Reserves and asks for permission: what plugins hold for the pod, and how long binding has to wait for
/// permission, if at all.
fn reserve(
    profile: &Profile,
    cluster: &mut Cluster,
    pod: &Arc<PodInfo>,
    node: NodeIndex,
) -> Result<(Vec<Held>, Option<std::time::Duration>), Failure> {
    let mut held: Vec<Held> = Vec::new();
    let mut refused = None;
    for plugin in profile.at(|p| p.reserve) {
        match plugin.reserve(cluster, pod, node) {
            Ok(None) => {}
            Ok(Some(reservation)) => held.push(Held {
                plugin: plugin.name(),
                reservation,
            }),
            Err(rejection) => {
                refused = Some((plugin.name(), rejection));
                break;
            }
        }
    }
    let mut longest = None;
    if refused.is_none() {
        for plugin in profile.at(|p| p.permit) {
            match plugin.permit(pod, cluster.name(node)) {
                Permit::Now => {}
                Permit::Wait(time) => longest = longest.max(Some(time)),
                Permit::Rejected(r) => refused = refused.or(Some((plugin.name(), r))),
            }
        }
    }
    match refused {
        None => Ok((held, longest)),
        Some((plugin, rejection)) => {
            for held in held.iter().rev() {
                held.reservation.undo(cluster);
            }
            Err(one_node(plugin, rejection))
        }
    }
}

/// The word of a plugin about the one node that was chosen.
fn one_node(plugin: &'static str, rejection: crate::framework::Rejection) -> Failure {
    if rejection.code == crate::framework::Code::Error {
        return Failure::Plugin {
            plugin,
            reason: rejection.reasons.join(),
        };
    }
    let mut diagnosis = crate::framework::Diagnosis::default();
    diagnosis.blame(plugin, rejection.code);
    diagnosis.nodes.push((0, rejection));
    Failure::Unfit {
        error: Box::new(FitError {
            nodes: 1,
            diagnosis,
        }),
        nominate: None,
    }
}

fn explain(error: &BindError) -> String {
    component::supervisor::chain(error)
}
