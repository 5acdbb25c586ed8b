//! Pods and all that is done for them: their objects, eviction, the server that shows them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use component::Task;
use component::informer::{Event, Selection};
use component::metrics::Metrics;
use component::serving::{
    Authenticator, Authorizer, ClientCa, Identity, Options, Tls, self_signed,
};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Notify, watch};

use super::images::{Own, Unused};
use super::usage::Neighbours;
use super::{OWN, Site};
use crate::container_manager::ContainerManager;
use crate::container_manager::eviction::observe::Observe;
use crate::container_manager::eviction::{Admission, Manager, Settings};
use crate::container_manager::threshold::{self, Pressure};
use crate::image::auth::{Format, Keyring, Source};
use crate::make::NodeFacts;
use crate::network::PodNetwork;
use crate::node::certificate::{self, Names, Purpose};
use crate::objects::Objects;
use crate::pod::{self, Allowlist, CrashLimits, ManifestUrl, Pods, Users, users};
use crate::runtime::Runtime;
use crate::server;
use crate::volume::Volumes;

/// How often shares of the QoS classes are looked at even if no pod came or went; upstream's figure.
const QOS_EVERY: Duration = Duration::from_secs(60);

/// What pods are run with.
pub(super) struct Workloads<'a> {
    pub(super) site: &'a Site,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) images: &'a Own,
    pub(super) network: Arc<dyn PodNetwork>,
    pub(super) facts: watch::Receiver<Arc<NodeFacts>>,
    pub(super) pressure: watch::Sender<BTreeSet<Pressure>>,
    pub(super) names: watch::Receiver<Option<Names>>,
}

impl Workloads<'_> {
    /// Starts everything.
    pub(super) fn start(self) -> anyhow::Result<(Objects, Pods)> {
        let site = self.site;
        let known: Arc<OnceLock<Pods>> = Arc::default();
        let later = Arc::clone(&known);
        let objects = site.objects(move |uid| {
            if let Some(pods) = later.get() {
                pods.refresh(uid);
            }
        });
        let moved = Arc::new(Notify::new());
        self.register_objects(&objects, &moved);
        let probes = Metrics::new();
        let pods = pod::start(self.parts(&objects, &probes)?);
        let _ = known.set(pods.clone());
        self.share_cpu(&pods, moved);
        self.evict(&pods)?;
        if site.config.kubelet.enable_server {
            self.serve(&pods, probes)?;
        }
        Ok((objects, pods))
    }

    /// Keeps at hand what the API server's pods refer to. Subscribed before the pods' workers are, so
    /// that a worker finds its pod registered.
    fn register_objects(&self, objects: &Objects, moved: &Arc<Notify>) {
        let Some(api) = &self.site.api else { return };
        let selection = Selection::fields(&format!("spec.nodeName={}", self.site.name));
        let (objects, moved) = (objects.clone(), Arc::clone(moved));
        api.informers
            .select::<Pod>(selection)
            .subscribe(move |_, event| {
                match event {
                    Event::Deleted(pod) => {
                        objects.unregister_pod(pod.metadata.uid.as_deref().unwrap_or_default());
                    }
                    Event::Updated { old, new } if old.metadata.uid != new.metadata.uid => {
                        objects.unregister_pod(old.metadata.uid.as_deref().unwrap_or_default());
                        objects.register_pod(new);
                    }
                    Event::Added(pod) | Event::Updated { new: pod, .. } => {
                        objects.register_pod(pod)
                    }
                }
                moved.notify_one();
            });
    }

    fn parts(&self, objects: &Objects, probes: &Metrics) -> anyhow::Result<pod::Parts> {
        let site = self.site;
        let kubelet = &site.config.kubelet;
        let volumes = Volumes::new(
            &site.config.node.root,
            Arc::new(objects.clone()),
            self.facts.borrow().allocatable.clone(),
        );
        let facts = self.facts.clone();
        let volumes = volumes.with_labels(move || facts.borrow().labels.clone());
        let longest = kubelet.crash_loop_back_off.max_container_restart_period;
        Ok(pod::Parts {
            client: site.api.as_ref().map(|api| api.client.clone()),
            informers: site.api.as_ref().map(|api| api.informers.clone()),
            recorder: site.recorder.clone(),
            runtime: Arc::clone(&self.runtime),
            images: Arc::clone(&self.images.images),
            store: Arc::clone(&self.images.store),
            keyring: keyring(&site.config.node.root),
            volumes: Arc::new(volumes),
            users: Arc::new(self.users()?),
            network: Arc::clone(&self.network),
            objects: Arc::new(objects.clone()),
            facts: self.facts.clone(),
            cgroups: site.manager.cgroups().clone(),
            root: site.config.node.root.clone(),
            container_logs: "/var/log/containers".into(),
            static_pods: path(&kubelet.static_pod_path),
            manifest_url: self.manifest_url(),
            admission: Admission::new(self.pressure.subscribe()),
            sysctls: Allowlist::new(&kubelet.allowed_unsafe_sysctls),
            crash_limits: longest
                .map_or_else(CrashLimits::default, |most| CrashLimits::with_most(most.0)),
            dead_containers: site.config.node.containers,
            tasks: site.tasks.clone(),
            metrics: site.metrics.clone(),
            probe_metrics: probes.clone(),
            tracer: site.tracer.clone(),
        })
    }

    /// Ids for pods with users of their own.
    fn users(&self) -> anyhow::Result<Users> {
        let kubelet = &self.site.config.kubelet;
        let asked = kubelet.user_namespaces.as_ref().and_then(|u| u.ids_per_pod);
        let length = asked.map_or(Ok(65_536), u32::try_from)?;
        let all = users::Range::of_node(length)?;
        let max_pods = u32::try_from(kubelet.max_pods).unwrap_or(0);
        Ok(Users::open(
            &self.site.config.node.root,
            all,
            length,
            max_pods,
        )?)
    }

    fn manifest_url(&self) -> Option<ManifestUrl> {
        let kubelet = &self.site.config.kubelet;
        let headers = kubelet.static_pod_url_header.iter();
        (!kubelet.static_pod_url.is_empty()).then(|| ManifestUrl {
            url: kubelet.static_pod_url.clone(),
            headers: headers
                .flat_map(|(name, all)| all.iter().map(|v| (name.clone(), v.clone())))
                .collect(),
            period: kubelet.http_check_frequency.0,
        })
    }

    fn share_cpu(&self, pods: &Pods, moved: Arc<Notify>) {
        let manager = Arc::clone(&self.site.manager);
        let work = share_cpu(manager, pods.clone(), moved);
        self.site.tasks.spawn(Task::Worker, "qos-cgroups", work);
    }

    fn evict(&self, pods: &Pods) -> anyhow::Result<()> {
        let site = self.site;
        let kubelet = &site.config.kubelet;
        let thresholds = threshold::parse(&threshold::Texts::of(kubelet))
            .map_err(|problem| anyhow::anyhow!("{}: {}", problem.field, problem.what))?;
        let observe = Observe {
            root: site.config.node.root.clone(),
            images: self.image_dir(),
            cgroups: site.manager.cgroups().clone(),
            pods: site.manager.root().to_owned(),
            memory: site.machine.memory,
            max_pids: site.machine.max_pids,
        };
        let settings = Settings {
            thresholds,
            transition: kubelet.eviction_pressure_transition_period.0,
            max_pod_grace: kubelet.eviction_max_pod_grace_period.into(),
            local_storage: kubelet.local_storage_capacity_isolation,
            separate_images: observe.separate_images(),
        };
        let neighbours = Neighbours {
            pods: pods.clone(),
            runtime: Arc::clone(&self.runtime),
            store: Arc::clone(&self.images.store),
            root: site.config.node.root.clone(),
            logs: kubelet.pod_logs_dir.clone().into(),
        };
        let manager = Manager::new(
            settings,
            observe,
            Arc::new(neighbours),
            Arc::new(Unused(Arc::clone(&self.images.collector))),
            site.recorder.clone(),
            site.node.clone(),
            self.pressure.clone(),
        );
        site.tasks.spawn(Task::Critical, "eviction", async move {
            manager.run().await;
            // Without thresholds there is nothing to watch, which is no failure.
            std::future::pending::<()>().await;
        });
        Ok(())
    }

    fn image_dir(&self) -> PathBuf {
        self.site.config.node.root.join(OWN).join("images")
    }

    /// The server, once there is a certificate for it.
    fn serve(&self, pods: &Pods, probe_metrics: Metrics) -> anyhow::Result<()> {
        let site = self.site;
        let kubelet = &site.config.kubelet;
        let identity = self.identity()?;
        let mut configz = serde_json::Map::new();
        configz.insert("kubeletconfig".to_owned(), site.config.configz());
        let auth = self.auth()?;
        let (config, pods) = (Arc::clone(&site.config), pods.clone());
        let address = |port: i32| -> anyhow::Result<SocketAddr> {
            let ip: IpAddr = config.kubelet.address.parse()?;
            Ok(SocketAddr::new(ip, u16::try_from(port)?))
        };
        let read_only = match kubelet.read_only_port {
            0 => None,
            port => Some(Options::plain(address(port)?)),
        };
        let mut tls = Tls::new(identity.clone());
        tls.client_ca = path(&kubelet.authentication.x509.client_ca_file);
        tls.only_tls13 = kubelet.tls_min_version == "VersionTLS13";
        tls.cipher_suites.clone_from(&kubelet.tls_cipher_suites);
        let groups = kubelet.tls_curve_preferences.iter();
        tls.groups = groups.map(ToString::to_string).collect();
        let config = server::Config {
            node_name: site.name.clone(),
            secure: Options::secure(address(kubelet.port)?, tls),
            read_only,
            new_websockets: site.config.features.enabled("ExtendWebSocketsToKubelet"),
            streaming_idle: kubelet.streaming_connection_idle_timeout.0,
            enable_debugging_handlers: kubelet.enable_debugging_handlers,
            enable_system_log_handler: kubelet.enable_system_log_handler,
            enable_system_log_query: kubelet.enable_system_log_query,
            enable_profiling_handler: kubelet.enable_profiling_handler,
            enable_debug_flags_handler: kubelet.enable_debug_flags_handler,
            log_dir: "/var/log".into(),
            root_dir: site.config.node.root.clone(),
            image_dir: self.image_dir(),
            pods_cgroup: site.manager.root().to_owned(),
            tracer: site.tracer.clone(),
        };
        let parts = server::Parts {
            pods: Arc::new(Shown(pods)),
            runtime: Arc::clone(&self.runtime),
            metrics: site.metrics.clone(),
            probe_metrics,
            configz,
            pages: site.config.pages.clone(),
            auth,
            config,
        };
        let Some(mut have) = self.rotate_server_certificate() else {
            return server::serve(parts, &site.tasks).map(drop);
        };
        let tasks = site.tasks.clone();
        site.tasks.spawn(Task::Worker, "server-start", async move {
            // The sender lives as long as the task that renews.
            let _ = have.wait_for(|have| *have).await;
            server::serve(parts, &tasks).map(drop)
        });
        Ok(())
    }

    /// The serving certificate: given, asked for, or made.
    fn identity(&self) -> anyhow::Result<Identity> {
        let kubelet = &self.site.config.kubelet;
        let given = (
            path(&kubelet.tls_cert_file),
            path(&kubelet.tls_private_key_file),
        );
        if let (Some(cert), Some(key)) = given {
            return Ok(Identity::Files { cert, key });
        }
        if self.asks_for_certificate() {
            let pair = self.server_store().current_path();
            return Ok(Identity::Files {
                cert: pair.clone(),
                key: pair,
            });
        }
        let dir = &self.site.config.node.cert_dir;
        let hosts = [self.site.name.clone()];
        Ok(self_signed(Some(dir), "kubelet", &hosts)?)
    }

    fn asks_for_certificate(&self) -> bool {
        let kubelet = &self.site.config.kubelet;
        kubelet.server_tls_bootstrap && kubelet.tls_cert_file.is_empty() && self.site.api.is_some()
    }

    fn server_store(&self) -> certificate::Store {
        certificate::Store::new(&self.site.config.node.cert_dir, "kubelet-server")
    }

    fn rotate_server_certificate(&self) -> Option<watch::Receiver<bool>> {
        let api = self
            .site
            .api
            .as_ref()
            .filter(|_| self.asks_for_certificate())?;
        let manager = certificate::Manager {
            client: api.client.clone(),
            store: self.server_store(),
            purpose: Purpose::Server,
            node: self.site.name.clone(),
            names: self.names.clone(),
            metrics: self.site.metrics.clone(),
        };
        Some(manager.start(&self.site.tasks))
    }

    fn auth(&self) -> anyhow::Result<server::Auth> {
        let kubelet = &self.site.config.kubelet;
        let ca = path(&kubelet.authentication.x509.client_ca_file);
        let ca = ca.map(|path| ClientCa::from_file(&path)).transpose()?;
        let ca = ca.map(|ca| ca.counted(&self.site.metrics));
        let client = self.site.api.as_ref().map(|api| api.client.clone());
        let webhook = &kubelet.authentication.webhook;
        anyhow::ensure!(
            !webhook.enabled || client.is_some(),
            "no client provided, cannot use webhook authentication"
        );
        let reviewer = client
            .clone()
            .filter(|_| webhook.enabled)
            .map(|client| (client, webhook.cache_ttl.0));
        let authorization = &kubelet.authorization;
        let authorizer = if authorization.mode == "Webhook" {
            anyhow::ensure!(
                client.is_some(),
                "no client provided, cannot use webhook authorization"
            );
            let ttl = &authorization.webhook;
            let (allowed, denied) = (ttl.cache_authorized_ttl.0, ttl.cache_unauthorized_ttl.0);
            Some(Authorizer::new(client, allowed, denied, Vec::new()))
        } else {
            None
        };
        let anonymous = kubelet.authentication.anonymous.enabled;
        Ok(server::Auth {
            authenticator: Authenticator::new(ca, reviewer, anonymous),
            authorizer,
        })
    }
}

async fn share_cpu(manager: Arc<ContainerManager>, pods: Pods, moved: Arc<Notify>) {
    loop {
        manager.update(&pods.active());
        let _ = tokio::time::timeout(QOS_EVERY, moved.notified()).await;
    }
}

/// A path in the configuration; empty for none.
fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| text.into())
}

/// The node's own credentials, from where upstream looks for them.
fn keyring(root: &Path) -> Keyring {
    let mut keyring = Keyring::default();
    let home = std::env::var("HOME").map(PathBuf::from).ok();
    let dirs = [
        Some(root.to_owned()),
        std::env::current_dir().ok(),
        home.map(|home| home.join(".docker")),
        Some("/".into()),
        Some("/.docker".into()),
    ];
    for dir in dirs.into_iter().flatten() {
        for (name, format) in [
            ("config.json", Format::DockerConfigJson),
            (".dockercfg", Format::DockerCfg),
        ] {
            let path = dir.join(name);
            let Ok(bytes) = std::fs::read(&path) else {
                continue;
            };
            if let Err(e) = keyring.add(&Source::Node, format, &bytes) {
                tracing::warn!(path = %path.display(), error = %e, "Cannot use registry credentials");
            }
        }
    }
    keyring
}

/// The pods as the server shows them.
struct Shown(Pods);

impl server::Source for Shown {
    fn all(&self) -> Vec<Arc<Pod>> {
        self.0.all()
    }

    fn get(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.0.get(namespace, name)
    }

    fn by_uid(&self, uid: &str) -> Option<Arc<Pod>> {
        self.0.by_uid(uid)
    }

    fn health(&self) -> Result<(), String> {
        self.0.health()
    }
}
