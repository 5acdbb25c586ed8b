//! The daemon: flags, port, lease, and the controllers once the lease is held.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use component::args::{self, Args, Group};
use component::client::{Client, Config};
use component::config as shared;
use component::events::{Api, Recorder};
use component::features::Features;
use component::informer::Informers;
use component::leader::{self, Election};
use component::metrics::{Gauges, Metrics};
use component::serving::{Authenticator, Authorizer, Endpoints, Health, Options, Pages, Server};
use component::supervisor::{BoxError, Shutdown};
use component::{Daemon, Supervisor, Task};
use rand::Rng;

use crate::config::{KubeControllerManagerConfiguration, flags};
use crate::context::{Accounts, Context, Shared};
use crate::controllers::{CONTROLLERS, Choice, Entry, Start, gate_off};

/// kube-controller-manager.
pub struct ControllerManager {
    config: KubeControllerManagerConfiguration,
    choice: Choice,
    logging: shared::Logging,
    features: Features,
    args: Args,
}

impl Daemon for ControllerManager {
    const NAME: &'static str = "kube-controller-manager";
    const ABOUT: &'static str = "Brings the cluster closer to what is wanted.";

    fn flags() -> Vec<Group> {
        flags::all()
    }

    fn configure(args: &Args) -> anyhow::Result<Self> {
        let logging = shared::Logging::from_flags(args);
        let mut problems = shared::Problems::new();
        logging.validate("logging", &mut problems);
        problems.or(())?;
        let features = Features::from_args(args)?;
        let (config, choice) = KubeControllerManagerConfiguration::of(args)?;
        Ok(Self {
            config,
            choice,
            logging,
            features,
            args: args.clone(),
        })
    }

    fn logging(&self) -> &shared::Logging {
        &self.logging
    }

    fn shutdown(&self) -> Shutdown {
        let drain = self.args.get(&flags::CONTROLLER_SHUTDOWN_TIMEOUT);
        Shutdown {
            drain,
            ..Shutdown::default()
        }
    }

    async fn start(self, tasks: Supervisor) -> anyhow::Result<()> {
        self.serve(&tasks).await.map(drop)
    }
}

impl ControllerManager {
    /// Starts everything; the address of the port, if there is one.
    ///
    /// # Errors
    /// If it cannot start.
    pub async fn serve(self, tasks: &Supervisor) -> anyhow::Result<Option<SocketAddr>> {
        let registry = Metrics::without(self.args.get(&args::DISABLED_METRICS));
        registry.features(&self.features);
        registry.compatibility(self.features.version());
        let generic = &self.config.generic;
        let master = self.args.get(&args::MASTER);
        let access = Config::load(&generic.client_connection, &master)?;
        let root = Client::new(access.clone(), Self::NAME, tasks, &registry)?;
        let health = Health::new(tasks);
        let pages = Pages::new(Self::NAME, &self.args, &Endpoints::PATHS);
        let pages = pages.of(&self.features);
        let endpoints = Endpoints::open(health.clone(), registry.clone())
            .with_pages(pages)
            .with_debug(generic.debugging.enable_profiling);
        endpoints.configz("kubecontrollermanager.config.k8s.io", self.config.configz());
        let address = listen(&self.args, endpoints, &registry, tasks).await?;

        let connection = &generic.client_connection;
        let accounts = if self
            .config
            .kube_cloud_shared
            .use_service_account_credentials
        {
            Accounts::each(root.clone(), access, Self::NAME, connection, tasks)
        } else {
            Accounts::one(root.clone(), connection)
        };
        let election = generic.leader_election.clone();
        // Caches have a limit of their own: writes must not wait for lists.
        let limit = component::client::RateLimit::new(connection.qps, connection.burst);
        let informers = Informers::new(root.named("shared-informers", limit), tasks.clone());
        let work = Work {
            choice: self.choice,
            health,
            shared: Arc::new(Shared {
                accounts,
                informers,
                config: self.config,
                features: self.features,
                metrics: registry,
                tasks: tasks.clone(),
            }),
        };
        work.lead(election, &root, tasks);
        Ok(address)
    }
}

/// The controllers, before they run.
struct Work {
    choice: Choice,
    health: Health,
    shared: Arc<Shared>,
}

impl Work {
    /// Runs once the lease is held, or at once where none is asked for.
    fn lead(self, election: shared::LeaderElection, root: &Client, tasks: &Supervisor) {
        let elect = election.leader_elect;
        let start = move || async move { self.start().await.map_err(BoxError::from) };
        if !elect {
            let own = tasks.clone();
            tasks.spawn(Task::Worker, "start", async move {
                if let Err(e) = start().await {
                    own.fail("start", e);
                }
            });
            return;
        }
        let recorder = Recorder::new(root, Api::Core, ControllerManager::NAME, "", tasks);
        Election::new(election, root, leader::identity())
            .with_recorder(recorder)
            .start(tasks, start);
    }

    async fn start(self) -> anyhow::Result<()> {
        let running = Gauges::<2>::default();
        self.shared.metrics.register(
            "running_managed_controllers",
            "Whether a controller of that name runs in that manager",
            running.clone(),
        );
        let interval = self.shared.config.generic.controller_start_interval.0;
        let mut missing = Vec::new();
        for entry in CONTROLLERS.iter().filter(|e| self.wanted(e)) {
            let Start::Run(start) = entry.start else {
                missing.push(entry.name);
                continue;
            };
            start(&Context::new(entry.name, entry.account, &self.shared))?;
            tracing::info!(controller = entry.name, "Controller started");
            self.health.live(entry.name, || Ok(()));
            let labels = [
                ("name", entry.name.to_owned()),
                ("manager", ControllerManager::NAME.to_owned()),
            ];
            running.get_or_create(&labels).set(1);
            if !interval.is_zero() {
                // Upstream's jitter: up to twice the interval.
                let spread = 1.0 + rand::rng().random::<f64>();
                tokio::time::sleep(interval.mul_f64(spread)).await;
            }
        }
        if !missing.is_empty() {
            let controllers = missing.join(",");
            tracing::warn!(controllers, "Controllers are not available");
        }
        Ok(())
    }

    /// Whether a controller is to run; says why not.
    fn wanted(&self, entry: &Entry) -> bool {
        let controller = entry.name;
        if !self.choice.asks_for(entry) {
            tracing::info!(controller, "Controller is disabled");
            return false;
        }
        if let Some(gate) = gate_off(entry, &self.shared.features) {
            tracing::info!(controller, gate, "Controller is disabled by a feature gate");
            return false;
        }
        true
    }
}

/// The client of a kubeconfig that a flag names; none without the flag.
fn reviewer(kubeconfig: Option<PathBuf>, tasks: &Supervisor) -> anyhow::Result<Option<Client>> {
    let Some(path) = kubeconfig else {
        return Ok(None);
    };
    let config = Config {
        qps: -1.0,
        ..Config::from_kubeconfig(&path)?
    };
    let client = Client::new(config, ControllerManager::NAME, tasks, &Metrics::new())?;
    Ok(Some(client))
}

/// Serves health, metrics and configuration.
async fn listen(
    args: &Args,
    endpoints: Endpoints,
    metrics: &Metrics,
    tasks: &Supervisor,
) -> anyhow::Result<Option<SocketAddr>> {
    let Some(options) = Options::from_flags(args, ControllerManager::NAME)? else {
        return Ok(None);
    };
    let server = Server::bind(options)?;
    let address = server.address();
    let authentication = reviewer(args.get(&args::AUTHENTICATION_KUBECONFIG), tasks)?
        .map(|client| (client.clone(), Informers::new(client, tasks.clone())));
    let authenticator = Authenticator::from_flags(args, authentication, metrics).await?;
    let authorization = reviewer(args.get(&args::AUTHORIZATION_KUBECONFIG), tasks)?;
    let endpoints = endpoints.guarded(authenticator, Authorizer::from_flags(args, authorization));
    let service = tower::service_fn(move |request| {
        let endpoints = endpoints.clone();
        async move { Ok(endpoints.serve(request).await) }
    });
    server.serve(tasks, Task::Server, "secure", service);
    Ok(Some(address))
}
