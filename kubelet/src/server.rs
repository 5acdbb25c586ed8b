//! The kubelet's HTTP API: exec, attach, port forwarding, logs, pods, statistics, metrics, health.
//!
//! Owns upstream's paths, codes and texts, and who may ask for them ([`Auth`]). What it serves is other
//! rooms': pods come from a [`Source`], everything else from the runtime.
//!
//! Invariants: nothing is answered before the request was authorized; work that a client started and
//! left is dropped with it, the command that it runs excepted.

mod container_logs;
mod exposition;
mod files;
mod guard;
mod labels;
mod metrics;
mod pods;
mod port_forward;
mod remote;
mod request;
mod routes;
pub(crate) mod stats;
mod streams;
mod traces;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use component::metrics::Metrics;
use component::serving::{self, Health, Pages, Request, Response};
use component::tracing::Tracer;
use component::{Supervisor, Task};
use k8s_openapi::api::core::v1::Pod;

pub use guard::Auth;
pub use stats::summary;

use crate::runtime::Runtime;

/// What the server has to know of the pods of this node.
pub trait Source: Send + Sync {
    /// All pods, with their status as last generated; static pods included.
    fn all(&self) -> Vec<Arc<Pod>>;
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<Pod>>;
    /// The uid of a mirror pod is its static pod's.
    fn by_uid(&self, uid: &str) -> Option<Arc<Pod>>;
    /// Whether pods are being worked on; what is wrong, if not (`/healthz/syncloop`).
    ///
    /// # Errors
    /// What is wrong, in words.
    fn health(&self) -> Result<(), String>;
}

/// What the server is made of.
pub struct Parts {
    pub pods: Arc<dyn Source>,
    pub runtime: Arc<dyn Runtime>,
    /// `/metrics`
    pub metrics: Metrics,
    /// `/metrics/probes`
    pub probe_metrics: Metrics,
    /// `/configz`: configurations by name.
    pub configz: serde_json::Map<String, serde_json::Value>,
    /// `/flagz` and `/statusz`.
    pub pages: Pages,
    pub auth: Auth,
    pub config: Config,
}

/// How it is served.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    pub secure: serving::Options,
    /// The port without authentication, which answers fewer paths; none by default.
    pub read_only: Option<serving::Options>,
    /// `streamingConnectionIdleTimeout`
    pub streaming_idle: Duration,
    /// `ExtendWebSocketsToKubelet`
    pub new_websockets: bool,
    pub enable_debugging_handlers: bool,
    pub enable_system_log_handler: bool,
    pub enable_system_log_query: bool,
    pub enable_profiling_handler: bool,
    pub enable_debug_flags_handler: bool,
    /// `/var/log`
    pub log_dir: PathBuf,
    /// `/var/lib/kubelet`
    pub root_dir: PathBuf,
    /// Where images and the writable layers of containers are.
    pub image_dir: PathBuf,
    /// The cgroup of all pods, such as `/kubepods`.
    pub pods_cgroup: String,
    /// Who hears of requests.
    pub tracer: Tracer,
}

/// Which of the two servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Port {
    Secure,
    ReadOnly,
}

/// What both servers share.
struct Server {
    pods: Arc<dyn Source>,
    runtime: Arc<dyn Runtime>,
    metrics: Metrics,
    probe_metrics: Metrics,
    configz: serde_json::Map<String, serde_json::Value>,
    pages: Pages,
    auth: Auth,
    config: Config,
    health: Health,
    http: metrics::Http,
    stats: stats::Stats,
    tasks: Supervisor,
}

/// Where the servers are, with their real ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bound {
    pub secure: SocketAddr,
    pub read_only: Option<SocketAddr>,
}

/// Starts the servers.
///
/// # Errors
/// If an address is taken, or the certificate cannot be used.
pub fn serve(parts: Parts, tasks: &Supervisor) -> anyhow::Result<Bound> {
    let health = Health::new(tasks);
    health.live("log", || Ok(()));
    let pods = Arc::clone(&parts.pods);
    health.live("syncloop", move || pods.health());
    let secure = serving::Server::bind(parts.config.secure.clone())?;
    let read_only = match &parts.config.read_only {
        Some(options) => Some(serving::Server::bind(options.clone())?),
        None => None,
    };
    let bound = Bound {
        secure: secure.address(),
        read_only: read_only.as_ref().map(serving::Server::address),
    };
    let config = &parts.config;
    let places = stats::Places {
        node_name: config.node_name.clone(),
        root_dir: config.root_dir.clone(),
        image_dir: config.image_dir.clone(),
        pod_logs: config.log_dir.join("pods"),
        pods_cgroup: config.pods_cgroup.clone(),
    };
    let stats = stats::Stats::new(Arc::clone(&parts.runtime), Arc::clone(&parts.pods), places);
    let server = Arc::new(Server {
        http: metrics::Http::new(&parts.metrics),
        stats,
        pods: parts.pods,
        runtime: parts.runtime,
        metrics: parts.metrics,
        probe_metrics: parts.probe_metrics,
        configz: parts.configz,
        pages: parts.pages,
        auth: parts.auth,
        config: parts.config,
        health,
        tasks: tasks.clone(),
    });
    secure.serve(
        tasks,
        Task::Server,
        "kubelet",
        service(&server, Port::Secure),
    );
    if let Some(read_only) = read_only {
        let service = service(&server, Port::ReadOnly);
        read_only.serve(tasks, Task::Server, "kubelet-read-only", service);
    }
    Ok(bound)
}

fn service(server: &Arc<Server>, port: Port) -> impl serving::Service + use<> {
    let server = Arc::clone(server);
    tower::service_fn(move |request| {
        let server = Arc::clone(&server);
        async move { Ok(server.answer(request, port).await) }
    })
}

impl Server {
    async fn answer(self: Arc<Self>, request: Request, port: Port) -> Response {
        let kind = match port {
            Port::Secure => "readwrite",
            Port::ReadOnly => "readonly",
        };
        let _under_way = self
            .http
            .begin(request.method(), request.uri().path(), kind);
        if port == Port::Secure
            && let Err(refusal) = self.auth.pass(&self.config.node_name, &request).await
        {
            return *refusal;
        }
        traces::traced(&self, request, port).await
    }
}
