//! What a controller is given: caches, a client of its own, a queue and the runner, metrics, events, the time.
//!
//! A [`Context`] is made once for each controller. Caches are shared by all of them; the runner of a controller
//! waits for those that this controller asked for, and for no other.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;

use component::client::{Client, Kind, PartialObjectMetadata, Target};
use component::controller::{Controller, Next};
use component::events::{Api, Recorder};
use component::features::Features;
use component::informer::{Informer, Informers, Selection};
use component::metrics::Metrics;
use component::queue::{Item, Queue, Retry};
use component::{Supervisor, Task};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use crate::config::KubeControllerManagerConfiguration;
use crate::error::Error;

mod accounts;

pub use accounts::Accounts;

/// What all controllers of the process share.
pub struct Shared {
    pub accounts: Accounts,
    pub informers: Informers,
    pub config: KubeControllerManagerConfiguration,
    pub features: Features,
    pub metrics: Metrics,
    pub tasks: Supervisor,
}

/// What one controller has; cheap to clone.
#[derive(Clone)]
pub struct Context {
    name: &'static str,
    account: &'static str,
    shared: Arc<Shared>,
    own: Arc<Own>,
}

#[derive(Default)]
struct Own {
    /// The caches that this controller waits for.
    synced: Mutex<Vec<futures::future::Shared<BoxFuture<'static, ()>>>>,
    recorder: std::sync::OnceLock<Recorder>,
}

impl Context {
    /// The context of the controller with this name, which acts as this account.
    #[must_use]
    pub fn new(name: &'static str, account: &'static str, shared: &Arc<Shared>) -> Self {
        Self {
            name,
            account,
            shared: Arc::clone(shared),
            own: Arc::default(),
        }
    }

    /// The controller's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    #[must_use]
    pub fn config(&self) -> &KubeControllerManagerConfiguration {
        &self.shared.config
    }

    #[must_use]
    pub fn features(&self) -> &Features {
        &self.shared.features
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    #[must_use]
    pub fn tasks(&self) -> &Supervisor {
        &self.shared.tasks
    }

    /// The time that is written into objects.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        component::clock::now()
    }

    /// The client of this controller, under its own name. Ask for it anew in each reconciliation: its credentials
    /// have an end.
    ///
    /// # Errors
    /// If its account has no token.
    pub async fn client(&self) -> Result<Client, Error> {
        self.shared.accounts.client(self.account).await
    }

    /// The client of the manager, which may do more: for the controller that mints tokens for the others.
    #[must_use]
    pub fn root_client(&self) -> &Client {
        self.shared.accounts.root()
    }

    /// Where the controller's events go; their source is its name.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        self.own
            .recorder
            .get_or_init(|| self.recorder_as(self.name))
    }

    /// Where events of another source than the controller's name go.
    #[must_use]
    pub fn recorder_as(&self, component: &str) -> Recorder {
        Recorder::new(
            self.root_client(),
            Api::Core,
            component,
            "",
            &self.shared.tasks,
        )
    }

    /// The cache of all objects of a kind, shared by all controllers. The runner waits for it.
    #[must_use]
    pub fn informer<K: Kind>(&self) -> Informer<K> {
        self.noted(self.shared.informers.of::<K>())
    }

    /// The cache of some objects of a kind. The runner waits for it.
    #[must_use]
    pub fn informer_of<K: Kind>(&self, selection: Selection) -> Informer<K> {
        self.noted(self.shared.informers.select::<K>(selection))
    }

    /// The metadata of all objects of a kind that is not known when the program is built. The runner does not wait
    /// for it: kinds come and go.
    #[must_use]
    pub fn metadata(&self, target: Target) -> Informer<PartialObjectMetadata> {
        self.shared.informers.metadata(target)
    }

    fn noted<K: Kind>(&self, informer: Informer<K>) -> Informer<K> {
        let wait = informer.clone();
        let synced = async move { wait.synced().await };
        self.own.synced.lock().push(synced.boxed().shared());
        informer
    }

    /// A queue; `name` is its name in metrics, upstream's.
    #[must_use]
    pub fn queue<T: Item>(&self, name: &str) -> Queue<T> {
        Queue::new(name, &self.shared.metrics)
    }

    /// A queue whose failed keys come back at other times than client-go's.
    #[must_use]
    pub fn queue_with<T: Item>(&self, name: &str, retry: Retry) -> Queue<T> {
        Queue::with_retry(name, &self.shared.metrics, retry)
    }

    /// Starts the workers. They begin once the caches that this controller asked for so far are there.
    pub fn run<T, R, F>(&self, workers: i32, queue: &Queue<T>, reconcile: R)
    where
        T: Item + Display,
        R: Fn(T) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Next, Error>> + Send + 'static,
    {
        let context = self.clone();
        let reconcile = move |key: T| {
            let context = context.clone();
            let work = reconcile(key);
            async move {
                match work.await {
                    // Decided on a state that is not the newest; that is on its way to the cache.
                    Err(e) if e.is_conflict() => Ok(Next::Again),
                    Err(e) => {
                        if e.is_unauthorized() {
                            context.shared.accounts.refused(context.account).await;
                        }
                        Err(e.chain())
                    }
                    Ok(next) => Ok(next),
                }
            }
        };
        Controller {
            name: self.name,
            workers: usize::try_from(workers).unwrap_or(1).max(1),
            queue: queue.clone(),
            reconcile,
        }
        .start(&self.shared.tasks, self.synced());
    }

    /// Ends once the caches that this controller asked for so far are there.
    pub fn synced(&self) -> impl Future<Output = ()> + Send + use<> {
        let waits = self.own.synced.lock().clone();
        futures::future::join_all(waits).map(drop)
    }

    /// Starts a task of the controller that is not a worker of a queue; it is dropped where it waits when work stops.
    pub fn spawn(&self, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        self.shared
            .tasks
            .spawn(Task::Worker, format!("{}/{name}", self.name), task);
    }
}
