//! The daemon: flags, the node, ports, caches, and the engine.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use component::args::{self as shared, Args, Group};
use component::client::{Client, Config};
use component::config::Logging;
use component::events::{Api, Event, Recorder, Type};
use component::informer::{Informer, Informers, Selection};
use component::metrics::Metrics as Registry;
use component::serving::{self, Endpoints, Health, Pages};
use component::{Daemon, Supervisor};
use http::StatusCode;
use k8s_openapi::api::core::v1::{Node, ObjectReference};

use crate::args;
use crate::config::{KubeProxyConfiguration, socket_address};
use crate::engine::{Engine, Parts, Unit};
use crate::health::ProxyHealth;
use crate::kernel::Netlink;
use crate::metrics::Metrics;
use crate::nft::Family;
use crate::node::{self, NodeIps, NodePortAddresses};
use crate::proxier::Proxier;
use crate::routes;
use crate::ruleset::{Layout, LocalDetector};
use crate::service::{Gates, Place, parse_net};
use crate::service_health::ServiceHealth;
use crate::sysctl;

mod ports;
mod watch;

/// How long to wait for the Node to have addresses.
const NODE_IPS_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait for it to have a range for its pods, where that is needed.
const POD_CIDRS_TIMEOUT: Duration = Duration::from_secs(300);

/// kube-proxy.
pub struct KubeProxy {
    config: KubeProxyConfiguration,
    args: Args,
}

impl Daemon for KubeProxy {
    const NAME: &'static str = "kube-proxy";
    const ABOUT: &'static str = "Makes Services reachable from this node.";

    fn flags() -> Vec<Group> {
        args::groups()
    }

    fn configure(args: &Args) -> anyhow::Result<Self> {
        Ok(Self {
            config: KubeProxyConfiguration::load(args)?,
            args: args.clone(),
        })
    }

    fn logging(&self) -> &Logging {
        &self.config.logging
    }

    async fn start(self, tasks: Supervisor) -> anyhow::Result<()> {
        self.serve(&tasks).await.map(drop)
    }
}

/// Where a started daemon is reached; none of what is not served.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bound {
    pub healthz: Option<SocketAddr>,
    pub metrics: Option<SocketAddr>,
}

impl KubeProxy {
    /// Starts everything.
    ///
    /// # Errors
    /// If it cannot start.
    pub async fn serve(self, tasks: &Supervisor) -> anyhow::Result<Bound> {
        let config = &self.config;
        if let Some(path) = self.args.get(&shared::WRITE_CONFIG_TO) {
            std::fs::write(&path, serde_json::to_vec_pretty(&self.configz()?)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
            tracing::info!(path = %path.display(), "Wrote the configuration");
            tasks.stop();
            return Ok(Bound::default());
        }
        if self.args.get(&args::CLEANUP) {
            tokio::task::spawn_blocking(cleanup).await??;
            tasks.stop();
            return Ok(Bound::default());
        }
        if config.is_other_mode() {
            tracing::warn!(
                mode = config.effective_mode(),
                "There is one backend, on nftables: this mode means it as well"
            );
        }
        if self.args.get(&args::INIT_ONLY) {
            sysctl::apply(&config.conntrack)?;
            tracing::info!("System initialized and --init-only specified");
            tasks.stop();
            return Ok(Bound::default());
        }
        if let Some(path) = self.args.get(&shared::CONFIG) {
            watch::file(&path, tasks)?;
        }
        self.run(tasks).await
    }

    async fn run(&self, tasks: &Supervisor) -> anyhow::Result<Bound> {
        let config = &self.config;
        let features = config.features()?;
        let registry = Registry::new();
        registry.features(&features);
        let metrics = Metrics::new(&registry);
        let master = self.args.get(&shared::MASTER);
        let client_config = Config::load(&config.client_connection, &master)?;
        let client = Client::new(client_config, Self::NAME, tasks, &registry)?;
        let informers = Informers::new(client.clone(), tasks.clone());
        let name = self.node_name()?;
        let field = format!("metadata.name={name}");
        let node = informers.select::<Node>(Selection::fields(&field));
        let seen = self.wait_for_node(&node, &name).await?;
        let ips = NodeIps::detect(&seen.ips, &config.bind_address);
        if ips.of(ips.primary).is_loopback() {
            tracing::warn!(
                "The node's address is unknown, assuming loopback: --bind-address can say it"
            );
        }
        sysctl::apply(&config.conntrack)?;
        if let Some(score) = config.oom_score_adj {
            sysctl::oom_score_adj(score);
        }
        let health = ProxyHealth::new(config.sync_period() * 2, metrics.clone());
        let recorder = Recorder::new(&client, Api::Events, Self::NAME, &name, tasks);
        let bound = self.listen(tasks, &registry, &health, &recorder, &name)?;
        let shape = Shape {
            config,
            ips: &ips,
            pod_cidrs: &seen.pod_cidrs,
            node: &name,
        };
        let mut units = Vec::new();
        for family in families(&ips)? {
            units.push(shape.unit(family, &health, &recorder, tasks)?);
        }
        let parts = Parts {
            units,
            place: Place {
                node: name.clone(),
                zone: seen.zone,
            },
            gates: Gates {
                external_ips: features.enabled("AllowServiceExternalIPs"),
                same_node: features.enabled("PreferSameTrafficDistribution"),
            },
            min_sync_period: config.min_sync_period(),
            sync_period: config.sync_period(),
            metrics,
            health,
        };
        let engine = Engine::new(parts, &informers, &node);
        let pods = config.detect_local_mode == "NodeCIDR";
        watch::node(&node, seen.ips, pods.then_some(seen.pod_cidrs), tasks);
        recorder.event(birth(&name));
        engine.start(tasks);
        if config.pod_routes {
            routes::follow(informers.of::<Node>(), self.routes(name, &ips)?, tasks);
        }
        Ok(bound)
    }

    /// Whose routes to keep.
    fn routes(&self, node: String, ips: &NodeIps) -> anyhow::Result<routes::Scope> {
        let within = self.config.cluster_cidrs();
        Ok(routes::Scope {
            node,
            within: within.iter().filter_map(|cidr| parse_net(cidr)).collect(),
            families: families(ips)?,
            retry: self.config.sync_period(),
        })
    }

    fn configz(&self) -> serde_json::Result<serde_json::Value> {
        let mut config = serde_json::to_value(&self.config)?;
        config["apiVersion"] = "kubeproxy.config.k8s.io/v1alpha1".into();
        config["kind"] = "KubeProxyConfiguration".into();
        Ok(config)
    }

    fn node_name(&self) -> anyhow::Result<String> {
        let given = &self.config.hostname_override;
        let name = if given.is_empty() {
            component::leader::hostname()
        } else {
            given.clone()
        };
        let name = name.trim().to_lowercase();
        anyhow::ensure!(!name.is_empty(), "empty hostname is invalid");
        Ok(name)
    }

    /// Waits for the Node and its addresses, within limits: rules for other nodes' pods need neither.
    async fn wait_for_node(&self, informer: &Informer<Node>, name: &str) -> anyhow::Result<Seen> {
        let changed = std::sync::Arc::new(tokio::sync::Notify::new());
        let wake = std::sync::Arc::clone(&changed);
        informer.subscribe(move |_, _| wake.notify_one());
        informer.synced().await;
        let lister = informer.lister();
        let see = || lister.get("", name).map(|node| Seen::of(&node));
        let until = |right: fn(&Seen) -> bool, limit: Duration| {
            let (changed, see) = (&changed, &see);
            async move {
                let wait = async {
                    loop {
                        match see() {
                            Some(seen) if right(&seen) => break seen,
                            _ => changed.notified().await,
                        }
                    }
                };
                tokio::time::timeout(limit, wait).await.ok().or_else(see)
            }
        };
        let mut seen = until(|seen| !seen.ips.is_empty(), NODE_IPS_TIMEOUT).await;
        if self.config.detect_local_mode == "NodeCIDR" {
            seen = until(|seen| !seen.pod_cidrs.is_empty(), POD_CIDRS_TIMEOUT).await;
            match &seen {
                None => anyhow::bail!("timeout waiting for node {name:?} to exist"),
                Some(seen) if seen.pod_cidrs.is_empty() => {
                    anyhow::bail!("timeout waiting for PodCIDR allocation on node {name:?}")
                }
                Some(_) => {}
            }
        }
        match &seen {
            None => tracing::error!(node = name, "Timed out waiting for node to exist"),
            Some(seen) if seen.ips.is_empty() => {
                tracing::error!(node = name, "Timed out waiting for node to be assigned IPs");
            }
            Some(_) => {}
        }
        Ok(seen.unwrap_or_default())
    }

    /// Serves health and metrics.
    fn listen(
        &self,
        tasks: &Supervisor,
        registry: &Registry,
        health: &ProxyHealth,
        recorder: &Recorder,
        node: &str,
    ) -> anyhow::Result<Bound> {
        let hard = self.config.bind_address_hard_fail;
        let port = |address: &str, reason: &'static str| ports::Port {
            address: socket_address(address),
            recorder: recorder.clone(),
            node: node_reference(node),
            reason,
            hard,
        };
        let answers = health.clone();
        let healthz = port(
            &self.config.healthz_bind_address,
            "FailedToStartProxierHealthcheck",
        );
        let healthz = healthz.serve(tasks, "healthz", move |request| {
            let response = match answers.answer(request.uri().path()) {
                Some((code, answer)) => ports::json(code, &answer),
                None => serving::text(StatusCode::NOT_FOUND, "404 page not found\n"),
            };
            std::future::ready(response)
        })?;
        let paths = Endpoints::PATHS.iter().copied().chain(["/proxyMode"]);
        let paths: Vec<&str> = paths.collect();
        let pages = Pages::new(Self::NAME, &self.args, &paths);
        let endpoints = Endpoints::open(Health::new(tasks), registry.clone())
            .with_pages(pages.of(&self.config.features()?))
            .with_debug(self.config.enable_profiling);
        endpoints.configz("kubeproxy.config.k8s.io", self.configz()?);
        let metrics = port(
            &self.config.metrics_bind_address,
            "FailedToStartMetricServer",
        );
        let metrics = metrics.serve(tasks, "metrics", move |request| {
            let endpoints = endpoints.clone();
            async move {
                if request.uri().path() == "/proxyMode" {
                    return serving::text(StatusCode::OK, "nftables");
                }
                // Nobody guards this port.
                endpoints.serve(request).await
            }
        })?;
        Ok(Bound { healthz, metrics })
    }
}

/// What is known of the Node at the start.
#[derive(Clone, Default)]
struct Seen {
    ips: Vec<std::net::IpAddr>,
    pod_cidrs: Vec<String>,
    zone: String,
}

impl Seen {
    fn of(node: &Node) -> Self {
        Self {
            ips: node::host_ips(node),
            pod_cidrs: node::pod_cidrs(node),
            zone: node::zone(node),
        }
    }
}

/// The families to serve: IPv6 where the kernel has it.
fn families(ips: &NodeIps) -> anyhow::Result<Vec<Family>> {
    let v6 = node::has_ipv6();
    anyhow::ensure!(
        v6 || ips.primary == Family::Ipv4,
        "no support for primary IP family \"IPv6\""
    );
    let mut families = vec![Family::Ipv4];
    if v6 {
        families.push(Family::Ipv6);
    }
    Ok(families)
}

/// What a family's rules are made from.
struct Shape<'a> {
    config: &'a KubeProxyConfiguration,
    ips: &'a NodeIps,
    pod_cidrs: &'a [String],
    node: &'a str,
}

impl Shape<'_> {
    fn unit(
        &self,
        family: Family,
        health: &ProxyHealth,
        recorder: &Recorder,
        tasks: &Supervisor,
    ) -> anyhow::Result<Unit> {
        let node_ports = NodePortAddresses::new(&self.config.node_ports_at(), family, self.ips);
        let layout = Layout {
            family,
            masquerade_mark: self.config.masquerade_mark(),
            masquerade_all: self.config.masquerade_all(),
            pods: self.pods(family),
            node_ports_everywhere: node_ports == NodePortAddresses::All,
            service_ranges: Vec::new(),
        };
        let machine = node::interface_addresses().unwrap_or_default();
        let listen_at = node_ports.of(&machine);
        let (health, recorder) = (health.clone(), recorder.clone());
        Ok(Unit {
            family,
            proxier: Proxier::new(Netlink::open(family)?, layout, self.ips.of(family)),
            node_ports,
            service_health: ServiceHealth::new(
                self.node,
                family,
                listen_at,
                health,
                recorder,
                tasks.clone(),
            ),
        })
    }

    fn pods(&self, family: Family) -> LocalDetector {
        let first_of = |cidrs: &[&str]| {
            let mut nets = cidrs.iter().filter_map(|cidr| parse_net(cidr));
            nets.find(|net| Family::of(net.addr()) == family)
        };
        let local = &self.config.detect_local;
        let net = match self.config.detect_local_mode.as_str() {
            "BridgeInterface" => return LocalDetector::Interface(local.bridge_interface.clone()),
            "InterfaceNamePrefix" => {
                return LocalDetector::InterfacePrefix(local.interface_name_prefix.clone());
            }
            "NodeCIDR" => {
                let cidrs: Vec<_> = self.pod_cidrs.iter().map(String::as_str).collect();
                first_of(&cidrs)
            }
            _ => first_of(&self.config.cluster_cidrs()),
        };
        if net.is_none() && family == self.ips.primary {
            tracing::info!(
                mode = self.config.detect_local_mode,
                family = family.name(),
                "No range of pods is known: traffic of pods is not told from other traffic"
            );
        }
        net.map_or(LocalDetector::None, LocalDetector::Cidr)
    }
}

/// Takes away the rules of both families.
fn cleanup() -> anyhow::Result<()> {
    for family in [Family::Ipv4, Family::Ipv6] {
        Netlink::open(family)?.cleanup()?;
        routes::cleanup(family)?;
    }
    Ok(())
}

fn node_reference(name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}

fn birth(node: &str) -> Event {
    Event {
        regarding: node_reference(node),
        related: None,
        kind: Type::Normal,
        reason: "Starting".to_owned(),
        action: "StartKubeProxy".to_owned(),
        message: String::new(),
    }
}
