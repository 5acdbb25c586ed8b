//! The daemon: flags, port, caches, lease, and the engine once the lease is held.

use std::net::SocketAddr;
use std::path::PathBuf;

use component::args::{self, Args, Flag, Group};
use component::client::{Client, Config};
use component::config as shared;
use component::events::{Api, Recorder};
use component::features::Features;
use component::informer::{Informers, Selection};
use component::leader::{self, Election};
use component::metrics::Metrics as Registry;
use component::serving::{Authenticator, Authorizer, Endpoints, Health, Options, Pages, Server};
use component::supervisor::BoxError;
use component::{Daemon, Supervisor, Task};
use k8s_openapi::api::core::v1::Pod;

use crate::config::KubeSchedulerConfiguration;
use crate::engine::{Engine, Parts, RUNNING};
use crate::extender::Extenders;
use crate::metrics::Metrics;
use crate::plugins;
use crate::profile::{Profile, Profiles};
use crate::queue::Settings;

/// `--pod-max-in-unschedulable-pods-duration`
const MAX_UNSCHEDULABLE: Flag<std::time::Duration> = Flag::new(
    "pod-max-in-unschedulable-pods-duration",
    "5m",
    "How long a pod waits for an event before it is tried again all the same.",
)
.deprecated("pods are tried again when something changes that may help them");

/// kube-scheduler.
pub struct Scheduler {
    config: KubeSchedulerConfiguration,
    profiles: Vec<Profile>,
    logging: shared::Logging,
    features: Features,
    args: Args,
}

impl Daemon for Scheduler {
    const NAME: &'static str = "kube-scheduler";
    const ABOUT: &'static str = "Finds nodes for pods.";

    fn flags() -> Vec<Group> {
        vec![
            Group::new(
                "Misc",
                &[&args::CONFIG, &args::WRITE_CONFIG_TO, &MAX_UNSCHEDULABLE],
            ),
            args::secure_serving().with_default(&args::SECURE_PORT, "10259"),
            args::delegated_authentication()
                .with_default(&args::AUTHENTICATION_TOLERATE_LOOKUP_FAILURE, "true"),
            args::delegated_authorization(),
            args::client_connection(),
            args::leader_election()
                .with_default(&args::LEADER_ELECT_RESOURCE_NAME, "kube-scheduler"),
            args::debugging(),
            args::logs(),
            args::metrics(),
            args::global(),
            args::versions(),
        ]
    }

    fn configure(args: &Args) -> anyhow::Result<Self> {
        let mut logging = shared::Logging::default();
        logging.flags(args);
        let mut problems = shared::Problems::new();
        logging.validate("logging", &mut problems);
        problems.or(())?;
        let features = Features::from_args(args)?;
        let config = KubeSchedulerConfiguration::load(args)?;
        let percentage = config.percentage_of_nodes_to_score;
        let left = config.left_to_extenders();
        let profiles: Result<_, String> = config
            .profiles
            .iter()
            .map(|p| p.build_beside(&left, percentage, &features))
            .collect();
        Ok(Self {
            profiles: profiles.map_err(anyhow::Error::msg)?,
            config,
            logging,
            features,
            args: args.clone(),
        })
    }

    fn logging(&self) -> &shared::Logging {
        &self.logging
    }

    async fn start(self, tasks: Supervisor) -> anyhow::Result<()> {
        self.serve(&tasks).await.map(drop)
    }
}

impl Scheduler {
    /// Starts everything; the address of the port, if there is one.
    ///
    /// # Errors
    /// If it cannot start.
    pub async fn serve(self, tasks: &Supervisor) -> anyhow::Result<Option<SocketAddr>> {
        let config = &self.config;
        if let Some(path) = self.args.get(&args::WRITE_CONFIG_TO) {
            std::fs::write(&path, serde_json::to_vec_pretty(&self.configz())?)?;
            tracing::info!(path = %path.display(), "Wrote the configuration");
            tasks.stop();
            return Ok(None);
        }
        for missing in plugins::PLUGINS
            .iter()
            .filter(|e| e.default && e.make.is_none())
        {
            tracing::warn!(
                plugin = missing.name,
                reason = missing.missing,
                "A default plugin is not available"
            );
        }
        let registry = Registry::without(self.args.get(&args::DISABLED_METRICS));
        registry.features(&self.features);
        registry.compatibility(self.features.version());
        let metrics = Metrics::new(&registry);
        let master = self.args.get(&args::MASTER);
        let client = Client::new(
            Config::load(&config.client_connection, &master)?,
            Self::NAME,
            tasks,
            &registry,
        )?;
        let informers = Informers::new(client.clone(), tasks.clone());
        let health = Health::new(tasks);
        let pods = informers.select::<Pod>(Selection::fields(RUNNING)).lister();
        let engine = Engine::new(Parts {
            recorders: recorders(&self.profiles, &client, tasks),
            profiles: Profiles::new(self.profiles.into_iter().collect()),
            settings: settings(config, self.args.get(&MAX_UNSCHEDULABLE)),
            extenders: Extenders::new(&config.extenders, tasks, &registry)?,
            client: client.clone(),
            pods,
            metrics,
            tasks: tasks.clone(),
            seed: rand::random(),
        });
        let sized = engine.clone();
        registry.before_scrape(move || sized.sizes());
        let unsynced = informers.clone();
        health.ready("informer-sync", move || match unsynced.unsynced() {
            waiting if waiting.is_empty() => Ok(()),
            waiting => Err(format!("{} informers not synced yet", waiting.len())),
        });
        let configz = serde_json::to_value(config)?;
        let pages = Pages::new(Self::NAME, &self.args, &Endpoints::PATHS);
        let pages = pages.of(&self.features);
        let endpoints = Endpoints::open(health, registry.clone())
            .with_pages(pages)
            .with_debug(config.enable_profiling);
        endpoints.configz("kubescheduler.config.k8s.io", configz);
        let address = listen(&self.args, endpoints, &registry, tasks).await?;
        engine.follow(&informers);
        lead(config, &client, engine, informers, tasks);
        Ok(address)
    }

    fn configz(&self) -> serde_json::Value {
        let mut config = serde_json::to_value(&self.config).unwrap_or_default();
        config["apiVersion"] = "kubescheduler.config.k8s.io/v1".into();
        config["kind"] = "KubeSchedulerConfiguration".into();
        config
    }
}

fn settings(
    config: &KubeSchedulerConfiguration,
    max_unschedulable: std::time::Duration,
) -> Settings {
    let seconds = |s: i64| std::time::Duration::from_secs(u64::try_from(s).unwrap_or(0));
    Settings {
        initial_backoff: seconds(config.pod_initial_backoff_seconds),
        max_backoff: seconds(config.pod_max_backoff_seconds),
        max_unschedulable,
    }
}

fn recorders(profiles: &[Profile], client: &Client, tasks: &Supervisor) -> Vec<(String, Recorder)> {
    let one = |name: &String| {
        (
            name.clone(),
            Recorder::new(client, Api::Events, name, "", tasks),
        )
    };
    profiles.iter().map(|p| one(&p.name)).collect()
}

/// The client of a kubeconfig that a flag names; none without the flag.
fn reviewer(
    kubeconfig: Option<PathBuf>,
    name: &str,
    tasks: &Supervisor,
) -> anyhow::Result<Option<Client>> {
    let Some(path) = kubeconfig else {
        return Ok(None);
    };
    let config = Config {
        qps: -1.0,
        ..Config::from_kubeconfig(&path)?
    };
    Ok(Some(Client::new(config, name, tasks, &Registry::new())?))
}

/// Serves health, metrics and configuration.
async fn listen(
    args: &Args,
    endpoints: Endpoints,
    metrics: &Registry,
    tasks: &Supervisor,
) -> anyhow::Result<Option<SocketAddr>> {
    let Some(options) = Options::from_flags(args, Scheduler::NAME)? else {
        return Ok(None);
    };
    let server = Server::bind(options)?;
    let address = server.address();
    let authentication = reviewer(
        args.get(&args::AUTHENTICATION_KUBECONFIG),
        Scheduler::NAME,
        tasks,
    )?
    .map(|client| (client.clone(), Informers::new(client, tasks.clone())));
    let authenticator = Authenticator::from_flags(args, authentication, metrics).await?;
    let authorization = reviewer(
        args.get(&args::AUTHORIZATION_KUBECONFIG),
        Scheduler::NAME,
        tasks,
    )?;
    let endpoints = endpoints.guarded(authenticator, Authorizer::from_flags(args, authorization));
    let service = tower::service_fn(move |request| {
        let endpoints = endpoints.clone();
        async move { Ok(endpoints.serve(request).await) }
    });
    server.serve(tasks, Task::Server, "secure", service);
    Ok(Some(address))
}

/// Schedules once the caches are there and the lease is held.
fn lead(
    config: &KubeSchedulerConfiguration,
    client: &Client,
    engine: Engine,
    informers: Informers,
    tasks: &Supervisor,
) {
    let own = tasks.clone();
    let work = move || async move {
        informers.synced().await;
        own.spawn(Task::Critical, "scheduling", engine.run());
        Ok::<(), BoxError>(())
    };
    let lease = config.leader_election.clone();
    if !lease.leader_elect {
        tasks.spawn(Task::Worker, "start", work());
        return;
    }
    let recorder = Recorder::new(client, Api::Core, Scheduler::NAME, "", tasks);
    Election::new(lease, client, leader::identity())
        .with_recorder(recorder)
        .start(tasks, work);
}
