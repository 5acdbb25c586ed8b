//! Wiring: from flags to a server that answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use component::args::{Args, Group};
use component::config::Logging;
use component::metrics::Metrics;
use component::serving::{self, Endpoints, Health, Request, Response};
use component::{Daemon, Supervisor, Task};
use proto::catalogue::Resource;
use store::{ResourceConfig, Store};

use crate::admission;
use crate::alloc::Allocators;
use crate::audit::Audit;
use crate::auth::Authenticators;
use crate::auth::service_account::Issuer;
use crate::authz::{self, Authorizers};
use crate::bootstrap;
use crate::chain;
use crate::config::{self, Config};
use crate::discovery::Documents;
use crate::encryption::Encryption;
use crate::kubelet::Kubelets;
use crate::metrics::Requests;
use crate::registry::Registry;
use crate::registry::decoder::Objects;
use crate::server::{Identity, Server};

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

    async fn start(self, tasks: Supervisor) -> anyhow::Result<()> {
        start(self.config, &tasks).await.map(drop)
    }
}

/// Starts a server; returns once it listens. The address is the one that it is bound to.
pub(crate) async fn start(
    config: Config,
    tasks: &Supervisor,
) -> anyhow::Result<std::net::SocketAddr> {
    // The port first: a taken one must not cost a minute of lists.
    let listener = serving::Server::bind(config.serving.clone())?;
    let address = listener.address();
    let health = Health::new(tasks);
    let metrics = Metrics::new();
    let server = Arc::new(build(config, address, tasks, &health, &metrics).await?);
    bootstrap::start(&server, tasks, &health);
    let answering = server.clone();
    let service = tower::service_fn(move |request: Request| {
        let server = answering.clone();
        async move { Ok::<Response, std::convert::Infallible>(chain::serve(server, request).await) }
    });
    listener.serve(tasks, Task::Critical, "https", service);
    Ok(address)
}

async fn build(
    mut config: Config,
    address: std::net::SocketAddr,
    tasks: &Supervisor,
    health: &Health,
    metrics: &Metrics,
) -> anyhow::Result<Server> {
    config.listen.set_port(address.port());
    let store = Store::open(&store_config(&config), Arc::new(tasks.clone()))
        .context("etcd cannot be used")?;
    let encryption = match &config.etcd.encryption {
        Some(given) => Some(Encryption::load(given).context("--encryption-provider-config")?),
        None => None,
    };
    let forms = Arc::new(store::Forms::new(FORMS));
    let registry = {
        let enabled = |resource: &Resource| enabled(&config, resource);
        Registry::new(enabled, &forms, |resource, decoder| {
            open(&store, encryption.as_ref(), resource, decoder)
        })
    };
    let etcd_answers = Arc::new(AtomicBool::new(false));
    readiness(&etcd_answers, &registry, health);
    let tokens = Arc::new(Issuer::new(&config.tokens)?);
    let admission = admission::Chain::new(&config.enable_admission, &config.disable_admission)
        .map_err(anyhow::Error::msg)?;
    let authenticators = Authenticators::new(&config, &tokens)?;
    let authorizers = authorizers(&config, &registry, tasks)?;
    let audit = Audit::open(&config.audit, tasks, metrics)?;
    Ok(Server {
        identity: Identity::of_this_process(),
        endpoints: Endpoints::open(health.clone(), metrics.clone()),
        requests: Requests::register(metrics, &config.limits),
        kubelets: Kubelets::new(&config.kubelet, tasks)?,
        allocators: Allocators::new(&config),
        discovery: Documents::new(|resource| enabled(&config, resource)),
        openapi: crate::openapi::Documents::new(|resource| enabled(&config, resource)),
        etcd_answers,
        store,
        registry,
        authenticators,
        authorizers,
        audit,
        admission,
        tokens,
        config,
    })
}

fn store_config(config: &Config) -> store::Config {
    let given = &config.etcd;
    let etcd = store::etcd::Config {
        servers: given.servers.clone(),
        ca_file: given.ca.clone(),
        cert_file: given.client.as_ref().map(|c| c.cert.clone()),
        key_file: given.client.as_ref().map(|c| c.key.clone()),
    };
    store::Config {
        prefix: given.prefix.clone(),
        compaction_interval: given.compaction_interval,
        ..store::Config::new(etcd)
    }
}

/// Whether a group version is served: by default, or as `--runtime-config` says.
fn enabled(config: &Config, resource: &Resource) -> bool {
    // Stored, these would promise what nothing here keeps yet: custom resources and aggregation.
    if matches!(
        resource.group,
        "apiextensions.k8s.io" | "apiregistration.k8s.io"
    ) {
        return false;
    }
    let version = proto::catalogue::group_version(resource.group, resource.version);
    let said = |key: &str| {
        config
            .runtime_config
            .get(key)
            .map(|v| v.is_empty() || v == "true")
    };
    let stage = if resource.version.contains("alpha") {
        "api/alpha"
    } else if resource.version.contains("beta") {
        "api/beta"
    } else {
        "api/ga"
    };
    said(&format!("{version}/{}", resource.name))
        .or_else(|| said(&version))
        .or_else(|| said(stage))
        .or_else(|| said("api/all"))
        .unwrap_or(resource.on_by_default)
}

fn open(
    store: &Store,
    encryption: Option<&Encryption>,
    resource: &'static Resource,
    decoder: Arc<Objects>,
) -> Arc<store::Collection> {
    let storage = resource
        .storage
        .as_ref()
        .expect("the registry opens stored resources only");
    let mut of = ResourceConfig::new(storage.prefix, resource.namespaced, decoder);
    of.transformer = encryption.map(|e| e.of(storage.group, resource.name));
    of.keep_bodies = resource.kind != "Event";
    if resource.name == "pods" {
        of.indexes = vec!["spec.nodeName".into()];
    }
    store
        .resource(of)
        .expect("every resource of the catalogue has a prefix of its own")
}

/// `/readyz` waits for etcd and for every collection.
fn readiness(etcd_answers: &Arc<AtomicBool>, registry: &Registry, health: &Health) {
    let answers = etcd_answers.clone();
    health.live("etcd", move || {
        if answers.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err("etcd does not answer".into())
        }
    });
    let collections: Vec<_> = registry
        .iter()
        .map(|e| (e.resource.name, e.collection.clone()))
        .collect();
    health.ready("informer-sync", move || {
        match collections.iter().find(|(_, c)| c.ready().is_err()) {
            None => Ok(()),
            Some((name, _)) => Err(format!("{name} are not read yet")),
        }
    });
}

fn authorizers(
    config: &Config,
    registry: &Registry,
    tasks: &Supervisor,
) -> anyhow::Result<Authorizers> {
    let mut modes: Vec<Box<dyn authz::Authorizer>> = Vec::new();
    for mode in &config.authorization_modes {
        modes.push(match mode.as_str() {
            "Node" => Box::new(authz::node::Node::new(registry, tasks)?),
            "RBAC" => Box::new(authz::rbac::Rbac::new(registry, tasks)?),
            "AlwaysAllow" => Box::new(authz::Always(authz::Decision::Allow)),
            "AlwaysDeny" => Box::new(authz::Always(authz::Decision::NoOpinion(
                "Everything is forbidden.".into(),
            ))),
            other => anyhow::bail!(
                "--authorization-mode: {other:?} is none of Node, RBAC, AlwaysAllow, AlwaysDeny"
            ),
        });
    }
    Ok(Authorizers::new(modes))
}
