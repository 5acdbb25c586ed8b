//! Wiring: from flags to a server that answers.

use std::sync::Arc;

use anyhow::Context;
use component::args::{Args, Group};
use component::config::Logging;
use component::metrics::Metrics;
use component::serving::{self, Endpoints, Health, Request, Response};
use component::supervisor::Shutdown;
use component::tracing::Tracer;
use component::{Daemon, Supervisor, Task};
use proto::catalogue::Resource;

use crate::admission;
use crate::alloc::Allocators;
use crate::audit::Audit;
use crate::auth::Authenticators;
use crate::auth::service_account::Issuer;
use crate::authz::Authorizers;
use crate::bootstrap;
use crate::chain;
use crate::compress::gzip::Pool;
use crate::config::{self, Config};
use crate::discovery::Documents;
use crate::encryption::Encryption;
use crate::flowcontrol::FlowControl;
use crate::kubelet::Kubelets;
use crate::loopback::Loopback;
use crate::metrics::Requests;
use crate::peer::{self, Peers};
use crate::registry::Registry;
use crate::server::{Identity, Server};
use crate::storage::{self, Storage};
use crate::stream;

/// Bytes of JSON and other forms of objects that are kept to be shared by reads and watches.
const FORMS: usize = 32 << 20;

/// kube-apiserver.
pub struct ApiServer {
    config: Config,
}

impl Daemon for ApiServer {
    const NAME: &'static str = "kube-apiserver";
    const ABOUT: &'static str = "Serves the Kubernetes API in front of etcd.";

    fn flags() -> Vec<Group> {
        config::groups()
    }

    fn configure(args: &Args) -> anyhow::Result<Self> {
        Ok(Self {
            config: Config::from_args(args)?,
        })
    }

    fn logging(&self) -> &Logging {
        &self.config.logging
    }

    fn shutdown(&self) -> Shutdown {
        // A request under way has the time that any request has.
        Shutdown {
            delay: self.config.shutdown_delay,
            drain: self.config.request_timeout,
        }
    }

    async fn start(self, tasks: Supervisor) -> anyhow::Result<()> {
        start(self.config, &tasks).await.map(drop)
    }
}

/// Starts a server; returns once it listens. The address is the one that it is bound to.
pub(crate) async fn start(
    mut config: Config,
    tasks: &Supervisor,
) -> anyhow::Result<std::net::SocketAddr> {
    let loopback = Loopback::open(&mut config.serving)?;
    // The port first: a taken one must not cost a minute of lists.
    let listener = serving::Server::bind(config.serving.clone())?;
    let address = listener.address();
    let health = Health::new(tasks);
    let metrics = Metrics::new();
    metrics.register(
        "navarch_stalled_answers_total",
        "Answers and connections that were ended because the client took nothing",
        listener.stalled(),
    );
    if let Some(path) = &config.debugging.socket {
        serving::debug_socket(path, tasks)?;
    }
    config.listen.set_port(address.port());
    let loopback = loopback.bound(address.port());
    let server = Arc::new(build(config, loopback, tasks, &health, &metrics).await?);
    bootstrap::start(&server, tasks, &health);
    FlowControl::start(&server, tasks);
    peer::start(&server, tasks);
    let answering = server.clone();
    let service = tower::service_fn(move |request: Request| {
        let server = answering.clone();
        async move { Ok::<Response, std::convert::Infallible>(chain::serve(server, request).await) }
    });
    let ending = server.clone();
    tasks.spawn_graceful(Task::Worker, "watches", |stop| async move {
        stop.cancelled().await;
        ending.storage.end_watches();
    });
    listener.serve(tasks, Task::Critical, "https", service);
    Ok(address)
}

async fn build(
    config: Config,
    loopback: Loopback,
    tasks: &Supervisor,
    health: &Health,
    metrics: &Metrics,
) -> anyhow::Result<Server> {
    metrics.features(&config.features);
    metrics.compatibility(config.features.version());
    let storage = Storage::open(&config.etcd, tasks)?;
    let identity = Identity::of_this_process();
    let encryption = encryption(&config, &identity, tasks, metrics).await?;
    if let Some(encryption) = &encryption {
        encryption.checks(health);
    }
    let forms = Arc::new(store::Forms::new(FORMS));
    let registry = {
        let served = |resource: &Resource| config.served.has(resource);
        Registry::new(served, &config.features, &forms, |resource, decoder| {
            storage.collection(encryption.as_ref(), resource, decoder)
        })
    };
    storage.checks(&registry, health);
    storage::register_metrics(metrics, &storage, &registry);
    let tokens = Arc::new(Issuer::open(&config.tokens, tasks, metrics).await?);
    let features = &config.features;
    let admission = admission::Chain::open(&config.admission, &registry, features, tasks, metrics)?;
    let server = identity.lease.as_str();
    let authenticators = Authenticators::new(&config, &tokens, tasks, metrics, server)?;
    let authorizers = Authorizers::open(&config.authorization, &registry, tasks, metrics, server)?;
    let audit = Audit::open(&config.audit, tasks, metrics)?;
    let tracer = tracer(&config, &identity, tasks, metrics);
    let flow_control = FlowControl::new(config.in_flight, &config.features, tasks, metrics);
    Ok(Server {
        identity,
        loopback,
        endpoints: Endpoints::open(health.clone(), metrics.clone())
            .with_pages(config.pages.clone())
            .with_debug(config.debugging.profiling),
        requests: Requests::register(metrics, &flow_control),
        gzip: Arc::new(Pool::register(metrics)),
        flow_control,
        kubelets: Kubelets::new(&config.kubelet, tasks)?,
        streams: stream::Counts::register(metrics),
        allocators: Allocators::new(&config),
        discovery: Documents::new(
            |resource| config.served.has(resource),
            |resource, part| config.served.has_part(resource, part),
            &config.features,
        ),
        openapi: crate::openapi::Documents::new(
            |resource| config.served.has(resource),
            &config.features,
        ),
        peers: Peers::open(&config.peers, tasks, metrics)?,
        store: storage.main().clone(),
        storage,
        encryption,
        registry,
        authenticators,
        authorizers,
        audit,
        tracer,
        admission,
        tokens,
        config,
    })
}

/// What tells a collector of requests, if there is one.
fn tracer(config: &Config, identity: &Identity, tasks: &Supervisor, metrics: &Metrics) -> Tracer {
    let Some(tracing) = &config.debugging.tracing else {
        return Tracer::default();
    };
    let service = [
        ("service.name", "apiserver"),
        ("service.instance.id", identity.lease.as_str()),
    ];
    let tracer = Tracer::open(tracing, &service, tasks);
    tracer.register(metrics);
    tracer
}

/// What is encrypted at rest, if anything is.
async fn encryption(
    config: &Config,
    identity: &Identity,
    tasks: &Supervisor,
    metrics: &Metrics,
) -> anyhow::Result<Option<Encryption>> {
    let Some(given) = &config.etcd.encryption else {
        return Ok(None);
    };
    let (features, server) = (&config.features, identity.lease.as_str());
    let loaded = Encryption::load(given, features, tasks, metrics, server).await;
    let what = || format!("--encryption-provider-config {}", given.file.display());
    Ok(Some(loaded.with_context(what)?))
}
