//! Named tasks, and what their ends mean.
//!
//! Owns every task of a daemon: no other place starts one. The kind of a task decides when it is
//! stopped and whether its end ends the process; that table is [`Task::policy`].
//!
//! Shutdown goes phase by phase, in the order of [`Phase`]: work first, then the caches that it
//! reads, health and connections last. Each phase is told to stop, is waited for, and what is left of
//! it at the deadline is dropped. A second signal ends the process at once.
//!
//! Invariants: the first reason to stop is the one reported; after it no end of a task is a failure;
//! a task started after its phase was stopped never runs, except a graceful one, which finds its token
//! cancelled.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

mod signals;

/// The cause of a task's failure.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What kind of task it is: when it stops, and what its end means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Task {
    /// The process makes no sense without it (a scheduling loop, the lease): its end ends the process.
    Critical,
    /// One of the daemon's works (a controller): its failure is logged, the rest goes on.
    Worker,
    /// Feeds a cache that work reads. It may come to its end; its failure ends the process.
    Cache,
    /// Holds a lease, which must outlive the work that it allows: stops with the caches, its end ends
    /// the process.
    Lease,
    /// Answers requests: stops last, its end ends the process.
    Server,
    /// Carries what others do (connections, event sinks): stops last, its end is its own affair.
    Background,
}

/// The order in which tasks stop.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    Work,
    Caches,
    Serving,
}

/// All phases, in the order in which they stop.
const PHASES: [Phase; 3] = [Phase::Work, Phase::Caches, Phase::Serving];

/// What an end before the shutdown means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Quiet,
    Logged,
    StopsProcess,
}

struct Policy {
    phase: Phase,
    finished: End,
    failed: End,
}

impl Task {
    const fn policy(self) -> Policy {
        use End::{Logged, Quiet, StopsProcess};
        use Phase::{Caches, Serving, Work};
        let (phase, finished, failed) = match self {
            Self::Critical => (Work, StopsProcess, StopsProcess),
            Self::Worker => (Work, Quiet, Logged),
            Self::Cache => (Caches, Quiet, StopsProcess),
            Self::Lease => (Caches, StopsProcess, StopsProcess),
            Self::Server => (Serving, StopsProcess, StopsProcess),
            Self::Background => (Serving, Quiet, Logged),
        };
        Policy {
            phase,
            finished,
            failed,
        }
    }
}

/// Why a process ended without having been asked to.
#[derive(thiserror::Error, Debug)]
pub enum Failure {
    #[error("task {task} failed: {}", chain(.cause.as_ref()))]
    Failed {
        task: Cow<'static, str>,
        cause: BoxError,
    },
    #[error("task {task} panicked: {message}")]
    Panicked {
        task: Cow<'static, str>,
        message: String,
    },
    #[error("task {task} ended")]
    Ended { task: Cow<'static, str> },
    #[error("{0} tasks did not stop in time")]
    Stuck(usize),
}

/// What a task's future may return: nothing, or how it went.
pub trait Outcome: Send + 'static {
    /// The error, if it is one.
    fn failure(self) -> Option<BoxError>;
}

impl Outcome for () {
    fn failure(self) -> Option<BoxError> {
        None
    }
}

impl<E: Into<BoxError> + Send + 'static> Outcome for Result<(), E> {
    fn failure(self) -> Option<BoxError> {
        self.err().map(Into::into)
    }
}

/// The handle through which tasks are started; cheap to clone.
#[derive(Clone)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

struct Inner {
    runtime: Handle,
    /// Cancelled as soon as somebody asks for the end.
    stopping: CancellationToken,
    phases: [PhaseState; PHASES.len()],
    /// The first reason to end, if it is a failure.
    failure: Mutex<Option<Failure>>,
}

#[derive(Default)]
struct PhaseState {
    /// Asked to stop.
    stop: CancellationToken,
    /// Out of time.
    force: CancellationToken,
    tasks: TaskTracker,
}

impl Supervisor {
    /// A supervisor that starts its tasks on `runtime`.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        Self {
            inner: Arc::new(Inner {
                runtime,
                stopping: CancellationToken::new(),
                phases: Default::default(),
                failure: Mutex::new(None),
            }),
        }
    }

    /// A supervisor on the runtime of the caller.
    ///
    /// # Panics
    /// Outside a runtime.
    #[must_use]
    pub fn current() -> Self {
        Self::new(Handle::current())
    }

    /// Starts a task that is dropped, at the point where it waits, when its phase stops.
    pub fn spawn<F>(&self, kind: Task, name: impl Into<Cow<'static, str>>, task: F)
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        let stop = self.inner.phase(kind).stop.clone();
        self.start(kind, name.into(), stop, boxed(task));
    }

    /// Starts a task that ends by itself once its token is cancelled, with time until the deadline.
    pub fn spawn_graceful<F>(
        &self,
        kind: Task,
        name: impl Into<Cow<'static, str>>,
        task: impl FnOnce(CancellationToken) -> F,
    ) where
        F: Future<Output: Outcome> + Send + 'static,
    {
        let phase = self.inner.phase(kind);
        let future = task(phase.stop.clone());
        self.start(kind, name.into(), phase.force.clone(), boxed(future));
    }

    fn start(
        &self,
        kind: Task,
        name: Cow<'static, str>,
        until: CancellationToken,
        task: BoxFuture<'static, Option<BoxError>>,
    ) {
        let span = tracing::info_span!("task", task = %name);
        let inner = Arc::clone(&self.inner);
        let run = async move {
            let task = AssertUnwindSafe(task).catch_unwind();
            let ended = tokio::select! {
                biased;
                () = until.cancelled() => return,
                ended = task => ended,
            };
            inner.ended(kind, name, ended);
        };
        self.inner
            .phase(kind)
            .tasks
            .spawn_on(run.instrument(span), &self.inner.runtime);
    }

    /// Asks for the end of the process, as a signal does.
    pub fn stop(&self) {
        self.inner.stopping.cancel();
    }

    /// Ends the process because `task` found out that it cannot go on, such as a lost lease.
    pub fn fail(&self, task: impl Into<Cow<'static, str>>, cause: impl Into<BoxError>) {
        self.inner.stop_because(Failure::Failed {
            task: task.into(),
            cause: cause.into(),
        });
    }

    /// Ends the process and drops its work at once, because the right to do it is lost: somebody else
    /// may be doing it now.
    pub fn abandon(&self, task: impl Into<Cow<'static, str>>, cause: impl Into<BoxError>) {
        self.fail(task, cause);
        let work = &self.inner.phases[Phase::Work as usize];
        work.stop.cancel();
        work.force.cancel();
    }

    /// Cancelled once the end was asked for, before anything stops: readiness fails with it.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.inner.stopping.clone()
    }

    /// Cancelled once tasks of this kind have to end.
    #[must_use]
    pub fn stop_of(&self, kind: Task) -> CancellationToken {
        self.inner.phase(kind).stop.clone()
    }

    /// Stops the process on SIGTERM or SIGINT; a second one exits at once.
    ///
    /// # Errors
    /// If the handlers cannot be installed.
    pub fn stop_on_signals(&self) -> std::io::Result<()> {
        let signals = signals::Signals::install()?;
        self.spawn(Task::Background, "signals", signals.watch(self.clone()));
        Ok(())
    }

    /// Waits until somebody asks for the end, then stops all phases.
    ///
    /// # Errors
    /// If a task ended the process, or tasks were still running at their deadline.
    pub async fn finished(&self, shutdown: Shutdown) -> Result<(), Failure> {
        self.inner.stopping.cancelled().await;
        tracing::info!("Shutting down");
        tokio::time::sleep(shutdown.delay).await;
        let mut stuck = 0;
        for phase in PHASES {
            stuck += self.inner.phases[phase as usize].end(shutdown.drain).await;
        }
        match self.inner.failure.lock().take() {
            Some(failure) => Err(failure),
            None if stuck > 0 => Err(Failure::Stuck(stuck)),
            None => Ok(()),
        }
    }
}

/// How much time a shutdown takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shutdown {
    /// Between failing readiness and stopping anything (`--shutdown-delay-duration`).
    pub delay: Duration,
    /// What each phase is given to end by itself.
    pub drain: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            drain: Duration::from_secs(10),
        }
    }
}

impl PhaseState {
    /// Stops the phase's tasks and waits for them; returns how many had to be dropped.
    async fn end(&self, drain: Duration) -> usize {
        self.tasks.close();
        self.stop.cancel();
        if tokio::time::timeout(drain, self.tasks.wait()).await.is_ok() {
            return 0;
        }
        let left = self.tasks.len();
        self.force.cancel();
        // A task that never waits cannot be dropped; it must not keep the process from ending.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.tasks.wait()).await;
        left
    }
}

/// Tasks of one type, so that the code that runs them is made once and not for each of them.
fn boxed<F>(task: F) -> BoxFuture<'static, Option<BoxError>>
where
    F: Future<Output: Outcome> + Send + 'static,
{
    task.map(Outcome::failure).boxed()
}

type Ended = Result<Option<BoxError>, Box<dyn std::any::Any + Send>>;

impl Inner {
    fn phase(&self, kind: Task) -> &PhaseState {
        &self.phases[kind.policy().phase as usize]
    }

    fn ended(&self, kind: Task, task: Cow<'static, str>, ended: Ended) {
        if self.stopping.is_cancelled() {
            return;
        }
        let policy = kind.policy();
        let (end, failure) = match ended {
            Ok(None) => (policy.finished, Failure::Ended { task }),
            Ok(Some(cause)) => (policy.failed, Failure::Failed { task, cause }),
            Err(panic) => (
                policy.failed,
                Failure::Panicked {
                    task,
                    message: panic_text(&*panic),
                },
            ),
        };
        match end {
            End::Quiet => {}
            End::Logged => tracing::error!(error = %failure, "Task failed"),
            End::StopsProcess => self.stop_because(failure),
        }
    }

    fn stop_because(&self, failure: Failure) {
        let mut first = self.failure.lock();
        if !self.stopping.is_cancelled() {
            tracing::error!(error = %failure, "Stopping");
            *first = Some(failure);
            self.stopping.cancel();
        }
    }
}

/// What a panic said.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "no message".to_owned(),
    }
}

/// An error with all its causes, in one line.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    use fmt::Write;
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let _ = write!(text, ": {cause}");
        next = cause.source();
    }
    text
}

impl store::Tasks for Supervisor {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        Self::spawn(self, Task::Cache, name, task);
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("stopping", &self.inner.stopping.is_cancelled())
            .finish()
    }
}

#[cfg(test)]
mod tests;
