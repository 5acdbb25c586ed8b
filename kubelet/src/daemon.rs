//! The daemon: everything wired together.
//!
//! ```text
//! configuration -> machine, cgroups -> runtime, images, network -> pods -> server
//!               \-> certificate, client -> objects, node status, lease
//! ```
//! Nothing waits for the API server to be reachable, as it may be one of the static pods; only the
//! first certificate of a bootstrap is waited for.
//! A shutdown leaves pods running.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use component::args::{Args, Group};
use component::client::{Client, RateLimit};
use component::events::{Api, Recorder};
use component::features::Features;
use component::informer::{Informers, Selection};
use component::metrics::Metrics;
use component::serving::{Health, Options, Server, text};
use component::tracing::Tracer;
use component::{Daemon, Supervisor, Task};
use http::StatusCode;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::{Notify, watch};

mod host;
mod images;
mod usage;
mod workloads;

use crate::config::{Config, flags};
use crate::container_manager::ContainerManager;
use crate::container_manager::threshold::Pressure;
use crate::image::store::Store;
use crate::make::NodeFacts;
use crate::network::bridge::{self, Bridge};
use crate::network::choice::Choice;
use crate::network::cni::{self, Cni};
use crate::network::{PodNetwork, Status};
use crate::node::address::Wanted;
use crate::node::certificate::{self, Purpose};
use crate::node::lease::Renewal;
use crate::node::status::Observed;
use crate::node::{self, Agent, Machine, Sources, facts, object};
use crate::objects::{self, Objects, Strategy};
use crate::runtime::Runtime;
use crate::runtime::native::{self, Native};

/// Below the kubelet's root: what is this kubelet's own.
const OWN: &str = "navarch";

/// What the node declares beyond its version: the features that this kubelet has, by the gates that can take them away
/// (`k8s.io/component-helpers/nodedeclaredfeatures`).
const DECLARED: &[&str] = &[
    "ExtendWebSocketsToKubelet",
    "RestartAllContainersOnContainerExits",
];

/// kubelet.
pub struct Kubelet {
    config: Arc<Config>,
}

impl Daemon for Kubelet {
    const NAME: &'static str = "kubelet";
    const ABOUT: &'static str = "Runs the pods of a node.";

    fn flags() -> Vec<Group> {
        flags::groups()
    }

    fn configure(args: &Args) -> anyhow::Result<Self> {
        Ok(Self {
            config: Arc::new(Config::load(args)?),
        })
    }

    fn logging(&self) -> &component::config::Logging {
        &self.config.kubelet.logging
    }

    async fn start(self, tasks: Supervisor) -> anyhow::Result<()> {
        start(self.config, tasks).await
    }
}

/// What all parts of the daemon share.
struct Site {
    config: Arc<Config>,
    tasks: Supervisor,
    metrics: Metrics,
    name: String,
    machine: Arc<Machine>,
    manager: Arc<ContainerManager>,
    tracer: Tracer,
    recorder: Recorder,
    /// What events about the node refer to.
    node: ObjectReference,
    api: Option<Connection>,
}

/// The API server.
#[derive(Clone)]
struct Connection {
    client: Client,
    informers: Informers,
}

async fn start(config: Arc<Config>, tasks: Supervisor) -> anyhow::Result<()> {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    host::check_supported(&config)?;
    host::check_swap(&config)?;
    if let Some(lock) = host::lock(&config)? {
        // Held until the process ends.
        std::mem::forget(lock);
    }
    host::adjust(&config);
    host::directories(&config)?;
    let name = host::hostname(&config)?;
    let machine = Arc::new(Machine::read());
    let manager = Arc::new(ContainerManager::new(&config, &machine)?);
    let metrics = Metrics::new();
    metrics.features(&config.features);
    healthz(&config, &tasks)?;
    let tracer = tracer(&config, &name, &tasks, &metrics);
    let api = connect(&config, &name, &tracer, &tasks, &metrics).await?;
    let recorder = recorder(&config, &name, api.as_ref(), &tasks);
    let site = Site {
        node: node::reference(&name, None),
        config,
        tasks,
        metrics,
        name,
        machine,
        manager,
        tracer,
        recorder,
        api,
    };
    site.recorder
        .normal(&site.node, "Starting", "Starting kubelet.");
    site.manager
        .start(&site.tasks, site.recorder.clone(), site.node.clone())?;
    site.run().await?;
    host::notify_ready();
    Ok(())
}

/// What tells a collector of what is done, if there is one.
fn tracer(config: &Config, name: &str, tasks: &Supervisor, metrics: &Metrics) -> Tracer {
    let Some(tracing) = &config.kubelet.tracing else {
        return Tracer::default();
    };
    let service = [("service.name", Kubelet::NAME), ("host.name", name)];
    let tracer = Tracer::open(tracing, &service, tasks);
    tracer.register(metrics);
    tracer
}

/// The client, with a certificate, or none in standalone mode.
async fn connect(
    config: &Config,
    name: &str,
    tracer: &Tracer,
    tasks: &Supervisor,
    metrics: &Metrics,
) -> anyhow::Result<Option<Connection>> {
    let Some(kubeconfig) = &config.node.kubeconfig else {
        tracing::info!("Standalone mode, no API client");
        return Ok(None);
    };
    let mut settings = certificate::client_config(config, kubeconfig, name, tasks).await?;
    let kubelet = &config.kubelet;
    // Zero means the default here, not client-go's.
    settings.qps = match kubelet.kube_api_qps {
        0 => 50.0,
        #[allow(clippy::cast_precision_loss)]
        qps => qps as f32,
    };
    settings.burst = match kubelet.kube_api_burst {
        0 => 100,
        burst => burst,
    };
    settings.tracer = tracer.clone();
    let client = Client::new(settings, Kubelet::NAME, tasks, metrics)?;
    if kubelet.rotate_certificates {
        let (_, names) = watch::channel(Some(certificate::Names::default()));
        certificate::Manager {
            client: client.clone(),
            store: certificate::Store::new(&config.node.cert_dir, "kubelet-client"),
            purpose: Purpose::Client,
            node: name.to_owned(),
            names,
            metrics: metrics.clone(),
        }
        .start(tasks);
    }
    let informers = Informers::new(client.clone(), tasks.clone());
    Ok(Some(Connection { client, informers }))
}

fn declared(features: &Features) -> Vec<String> {
    let gates = DECLARED.iter().filter(|gate| features.enabled(gate));
    gates.map(|gate| (*gate).to_owned()).collect()
}

/// Events have a rate limit of their own.
fn recorder(config: &Config, name: &str, api: Option<&Connection>, tasks: &Supervisor) -> Recorder {
    let Some(api) = api else {
        return Recorder::discarding();
    };
    let kubelet = &config.kubelet;
    let limit = match kubelet.event_record_qps {
        0 => RateLimit::none(),
        #[allow(clippy::cast_precision_loss)]
        qps => RateLimit::new(qps as f32, kubelet.event_burst),
    };
    let client = api.client.named("events", limit);
    Recorder::new(&client, Api::Core, Kubelet::NAME, name, tasks)
}

/// The port for whoever watches over the kubelet on its own machine.
fn healthz(config: &Config, tasks: &Supervisor) -> anyhow::Result<()> {
    let kubelet = &config.kubelet;
    let port = u16::try_from(kubelet.healthz_port).unwrap_or(0);
    if port == 0 {
        return Ok(());
    }
    let ip: IpAddr = kubelet.healthz_bind_address.parse()?;
    let server = Server::bind(Options::plain(SocketAddr::new(ip, port)))?;
    let health = Health::new(tasks);
    let service = tower::service_fn(move |request: component::serving::Request| {
        let query = request.uri().query().unwrap_or_default();
        let answer = health.answer(request.uri().path(), query);
        let answer = answer.unwrap_or_else(|| text(StatusCode::NOT_FOUND, "404 page not found\n"));
        async move { Ok(answer) }
    });
    server.serve(tasks, Task::Server, "healthz", service);
    Ok(())
}

impl Site {
    async fn run(&self) -> anyhow::Result<()> {
        let own = self.config.node.root.join(OWN);
        let native = native::Config {
            root: own.clone(),
            libexec_dir: None,
            cgroup_root: match self.config.kubelet.cgroup_root.as_str() {
                "" => "/".to_owned(),
                root => root.to_owned(),
            },
        };
        let native = Native::open(native, self.tasks.clone())
            .await
            .context("cannot open the container runtime")?;
        let runtime: Arc<dyn Runtime> = Arc::new(native);
        let images = images::open(
            &self.config,
            &own.join("images"),
            &self.tasks,
            &self.recorder,
            &self.node,
            &self.tracer,
        )?;
        let network = self.network(&own).await?;
        let ip = Wanted::parse(&self.config.node.ip)?;
        let initial = object::initial(&self.name, &self.name, &self.config, &ip);
        let known = facts::initial(
            &self.name,
            &self.config,
            &self.machine,
            self.manager.allocatable(),
            self.manager.cgroups(),
        );
        let found = ip.find(&self.name, &self.name).await.unwrap_or_default();
        let (tell, facts) = watch::channel(Arc::new(facts::with_node(&known, &initial, &found)));
        let (pressure, pressed) = watch::channel(BTreeSet::new());
        let (names, named) = watch::channel(None);
        let changed = Arc::new(Notify::new());
        let workloads = workloads::Workloads {
            site: self,
            runtime: Arc::clone(&runtime),
            images: &images,
            network: Arc::clone(&network),
            facts,
            pressure,
            names: named,
        };
        let (objects, pods) = workloads.start()?;
        let Some(api) = &self.api else {
            return Ok(());
        };
        let sources = Arc::new(Measured {
            config: Arc::clone(&self.config),
            machine: Arc::clone(&self.machine),
            manager: Arc::clone(&self.manager),
            runtime: runtime.version().to_string(),
            store: Arc::clone(&images.store),
            pressure: pressed.clone(),
            declared: declared(&self.config.features),
        });
        self.wake_on_pressure(pressed, &changed);
        let (of_pods, was_ready) = (Arc::clone(&network), AtomicBool::new(false));
        let told = move |node: &Node, ips: &[IpAddr]| {
            let ready = of_pods.status() == Status::Ready;
            if ready && !was_ready.swap(ready, Ordering::AcqRel) {
                pods.wake_all();
            }
            objects.set_ttl(ttl(node));
            publish(&tell, &known, node, ips);
            publish_names(&names, node);
        };
        self.keep_node(api, ip, network, sources, Box::new(told), changed);
        Ok(())
    }

    async fn network(&self, own: &std::path::Path) -> anyhow::Result<Arc<dyn PodNetwork>> {
        let root = own.join("network");
        let opened = tokio::task::spawn_blocking(move || {
            Ok::<_, crate::network::Error>(Choice {
                cni: Cni::open(cni::Config::new(&root))?,
                bridge: Bridge::open(bridge::Config::new(&root))?,
            })
        });
        let network = opened.await?.context("cannot open the pod network")?;
        if self.api.is_none() && !self.config.kubelet.pod_cidr.is_empty() {
            let cidrs = self.config.kubelet.pod_cidr.split(',');
            let cidrs = cidrs.map(|c| c.trim().parse()).collect::<Result<_, _>>();
            network.set_pod_cidrs(cidrs.context("podCIDR")?).await?;
        }
        Ok(Arc::new(network))
    }

    fn wake_on_pressure(
        &self,
        mut pressed: watch::Receiver<BTreeSet<Pressure>>,
        changed: &Arc<Notify>,
    ) {
        let changed = Arc::clone(changed);
        self.tasks.spawn(Task::Worker, "pressure", async move {
            while pressed.changed().await.is_ok() {
                changed.notify_one();
            }
        });
    }

    /// Registers the node, keeps its status and its lease.
    fn keep_node(
        &self,
        api: &Connection,
        ip: Wanted,
        network: Arc<dyn PodNetwork>,
        sources: Arc<dyn Sources>,
        tell: node::agent::Tell,
        changed: Arc<Notify>,
    ) {
        let kubelet = &self.config.kubelet;
        let lease = u64::try_from(kubelet.node_lease_duration_seconds).unwrap_or(40);
        let timeout = kubelet
            .node_status_update_frequency
            .0
            .min(Duration::from_secs(lease));
        let heartbeat = api
            .client
            .named("heartbeat", RateLimit::none())
            .with_timeout(timeout);
        let selection = Selection::fields(&format!("metadata.name={}", self.name));
        let agent = Agent {
            name: self.name.clone(),
            hostname: self.name.clone(),
            config: Arc::clone(&self.config),
            ip,
            client: heartbeat.clone(),
            informer: api.informers.select(selection),
            recorder: self.recorder.clone(),
            network,
            sources,
            tell,
            changed,
        };
        self.tasks.spawn(Task::Critical, "node-status", agent.run());
        let renewal = Renewal::new(
            heartbeat,
            self.name.clone(),
            kubelet.node_lease_duration_seconds,
        );
        self.tasks
            .spawn(Task::Critical, "node-lease", renewal.run());
    }

    /// What pods refer to.
    fn objects(&self, changed: impl Fn(&str) + Send + Sync + 'static) -> Objects {
        let Some(api) = &self.api else {
            return Objects::standalone();
        };
        let kubelet = &self.config.kubelet;
        let strategy = Strategy::of(&kubelet.config_map_and_secret_change_detection_strategy);
        let parts = objects::Parts {
            client: &api.client,
            informers: &api.informers,
            strategy,
            node: &self.name,
            certificates: self.config.features.enabled("PodCertificateRequest"),
            recorder: &self.recorder,
            metrics: &self.metrics,
            tasks: &self.tasks,
        };
        Objects::new(&parts, changed)
    }
}

/// `node.alpha.kubernetes.io/ttl`: how old cached objects may be, in seconds.
fn ttl(node: &Node) -> Option<Duration> {
    let annotations = node.metadata.annotations.as_ref()?;
    let text = annotations.get("node.alpha.kubernetes.io/ttl")?;
    text.parse().ok().map(Duration::from_secs)
}

fn publish(tell: &watch::Sender<Arc<NodeFacts>>, known: &NodeFacts, node: &Node, ips: &[IpAddr]) {
    tell.send_if_modified(|facts| {
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let same = facts.labels == labels && (ips.is_empty() || facts.host_ips == ips);
        if !same {
            *facts = Arc::new(facts::with_node(known, node, ips));
        }
        !same
    });
}

/// What a serving certificate has to name.
fn publish_names(tell: &watch::Sender<Option<certificate::Names>>, node: &Node) {
    let addresses = node.status.as_ref().and_then(|s| s.addresses.as_ref());
    let mut names = certificate::Names::default();
    for address in addresses.into_iter().flatten() {
        match address.address.parse() {
            Ok(ip) => names.ips.push(ip),
            Err(_) => names.dns.push(address.address.clone()),
        }
    }
    names.dns.sort();
    names.dns.dedup();
    names.ips.sort();
    names.ips.dedup();
    let names = (!names.dns.is_empty() || !names.ips.is_empty()).then_some(names);
    tell.send_if_modified(|told| {
        let changed = *told != names;
        told.clone_from(&names);
        changed
    });
}

/// What the node's status is made from.
struct Measured {
    config: Arc<Config>,
    machine: Arc<Machine>,
    manager: Arc<ContainerManager>,
    runtime: String,
    store: Arc<Store>,
    pressure: watch::Receiver<BTreeSet<Pressure>>,
    declared: Vec<String>,
}

impl Sources for Measured {
    fn observe(&self) -> Observed {
        let kubelet = &self.config.kubelet;
        Observed {
            now: Time(component::clock::now()),
            machine: Arc::clone(&self.machine),
            addresses: None,
            capacity: self.manager.capacity().clone(),
            allocatable: self.manager.allocatable().clone(),
            runtime_version: self.runtime.clone(),
            port: kubelet.port,
            images: node::status::images(&self.store.images(), kubelet.node_status_max_images),
            in_user_namespace: false,
            declared_features: self.declared.clone(),
            pressure: self.pressure.borrow().clone(),
            problems: Vec::new(),
            volumes_in_use: Vec::new(),
            storage_isolation: kubelet.local_storage_capacity_isolation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_whose_gate_is_off_is_not_declared() {
        let all = Features::defaults();
        assert_eq!(declared(&all), DECLARED);
        let fewer = all.with([("ExtendWebSocketsToKubelet", false)]).unwrap();
        assert_eq!(declared(&fewer), ["RestartAllContainersOnContainerExits"]);
    }
}
