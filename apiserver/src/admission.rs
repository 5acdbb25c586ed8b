//! Admission: what may change or refuse a write after it is authorized.
//!
//! A table of plugins in upstream's order. On a write all that change objects run first, then all that
//! only look. Plugins read caches; what they do not find there they look up once live. Policies and webhooks
//! take their places in the same table; if one of them changes an object, all that change objects run once
//! more.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use component::Supervisor;
use component::features::Features;
use component::metrics::Metrics;
use proto::catalogue::Resource;
use proto::{Value, meta};
use resources::options::{DeleteOptions, WriteOptions};
use resources::status::Failure;

use crate::audit::{Part, Trail};
use crate::auth::User;
use crate::config::AdmissionConfig;
use crate::registry::Registry;
use crate::server::{Server, read_failure};

mod amounts;
mod certificates;
pub mod config;
mod declared_features;
mod default_tolerations;
mod event_rate_limit;
mod given;
mod image_policy;
mod limit_ranger;
mod live;
mod metrics;
mod namespace_lifecycle;
mod network;
mod node_restriction;
mod owner_references;
mod pod_groups;
mod pod_node_selector;
mod pod_resize;
mod pod_security;
mod pod_tolerations;
mod pods;
mod policy;
mod priority;
mod quota;
mod runtime_class;
mod service_account;
mod state;
mod storage;
mod taint_nodes;
#[cfg(test)]
mod testing;
mod tolerations;
pub mod webhook;

use config::{File, Refused};
use metrics::{Durations, Series};
use state::{Around, State};
use webhook::Reinvocation;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    pub const ALL: [Self; 4] = [Self::Create, Self::Update, Self::Delete, Self::Connect];

    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// What most plugins look at.
const CREATE: &[Operation] = &[Operation::Create];
const UPDATE: &[Operation] = &[Operation::Update];
const WRITES: &[Operation] = &[Operation::Create, Operation::Update];
const CHANGES: &[Operation] = &[Operation::Create, Operation::Update, Operation::Delete];

/// A half of admission.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Plugins may change the object.
    Mutate,
    /// They only look at it.
    Validate,
}

impl Phase {
    /// Upstream's name for it.
    fn name(self) -> &'static str {
        match self {
            Self::Mutate => "admit",
            Self::Validate => "validate",
        }
    }
}

/// A write, as plugins see it.
pub struct Attributes<'a> {
    pub operation: Operation,
    pub resource: &'static Resource,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// The object as it would be stored; for subresources with a body of their own, that body. None
    /// for deletes.
    pub object: Option<&'a mut Value>,
    /// The object as it is; none for creates.
    pub old: Option<&'a Value>,
    pub user: &'a User,
    /// What else the client said of the write.
    pub options: Options<'a>,
    /// When the request's time is over, if it has one.
    pub deadline: Option<Instant>,
    /// What the rounds of mutation know of each other.
    pub reinvocation: Reinvocation,
    /// Texts that are sent to the client as warnings.
    pub warnings: &'a mut Vec<String>,
    /// What is recorded of the request, if anything is.
    pub trail: Option<&'a Trail>,
}

/// The options of a write.
#[derive(Clone, Copy)]
pub enum Options<'a> {
    /// A connection has none.
    None,
    Create(&'a WriteOptions),
    /// Patches as well.
    Update(&'a WriteOptions),
    Delete(&'a DeleteOptions),
}

impl Options<'_> {
    /// With kind and version.
    fn to_json(self) -> Option<Vec<u8>> {
        use proto::catalogue::messages::meta_v1::{CREATE_OPTIONS, DELETE_OPTIONS, UPDATE_OPTIONS};
        let (kind, message, value) = match self {
            Self::None => return None,
            Self::Create(options) => ("CreateOptions", CREATE_OPTIONS, options.to_value()),
            Self::Update(options) => ("UpdateOptions", UPDATE_OPTIONS, options.to_value()),
            Self::Delete(options) => ("DeleteOptions", DELETE_OPTIONS, options.to_value()),
        };
        let (mut body, mut out) = (Vec::new(), Vec::new());
        proto::codec::json::encode(&value, message, &mut body);
        crate::render::with_type(kind, "meta.k8s.io/v1", &body, &mut out);
        Some(out)
    }
}

impl Attributes<'_> {
    /// Whether nothing is to be stored.
    #[must_use]
    pub fn dry_run(&self) -> bool {
        match self.options {
            Options::None => false,
            Options::Create(options) | Options::Update(options) => options.dry_run,
            Options::Delete(options) => options.dry_run,
        }
    }

    /// Whether the write is about this resource (and no subresource of it).
    #[must_use]
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.subresource.is_empty() && self.is_any(group, resource)
    }

    /// Whether the write is about this resource or a subresource of it.
    #[must_use]
    pub fn is_any(&self, group: &str, resource: &str) -> bool {
        self.resource.group == group && self.resource.name == resource
    }

    /// A refusal in the words that upstream's plugins share. An object without a name is called by
    /// what its name will begin with.
    #[must_use]
    pub fn forbid(&self, why: &str) -> Failure {
        let of_object = |object| match (meta::name(object), meta::generate_name(object)) {
            ("", "") => "Unknown",
            ("", prefix) => prefix,
            (name, _) => name,
        };
        let name = match (self.name, self.object.as_deref()) {
            ("", object) => object.map_or("Unknown", of_object),
            (name, _) => name,
        };
        Failure::forbidden(self.resource.group, self.resource.name, name, why)
    }

    /// Notes something in the audit event of the request.
    pub fn annotate(&self, key: &str, value: &str) {
        if let Some(trail) = self.trail {
            trail.annotate(key, value);
        }
    }

    /// A part of the work took that long.
    fn spent(&self, part: Part, took: Duration) {
        if let Some(trail) = self.trail {
            trail.spent(part, took);
        }
    }

    /// The key of a namespaced object in the namespace of the write.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.namespace)
    }
}

/// One object as etcd has it now, where the cache may not be new enough.
///
/// # Errors
/// If it cannot be read, or nothing serves the resource.
async fn newest(
    server: &Server,
    group: &str,
    resource: &str,
    key: &str,
) -> Result<Option<Value>, Failure> {
    let endpoint = server
        .registry
        .any_version(group, resource)
        .ok_or_else(Failure::no_such_resource)?;
    let entry = endpoint
        .collection
        .get(key, store::At::Latest)
        .await
        .map_err(read_failure)?;
    entry
        .map(|e| resources::object::from_body(&e.body, &endpoint.hub))
        .transpose()
}

/// The objects of a resource in one namespace, from the cache.
fn in_namespace(server: &Server, group: &str, resource: &str, namespace: &str) -> Vec<Value> {
    let Some(endpoint) = server.registry.any_version(group, resource) else {
        return Vec::new();
    };
    let Ok((entries, _)) = endpoint.collection.snapshot() else {
        return Vec::new();
    };
    let prefix = format!("{namespace}/");
    entries
        .prefix(&prefix)
        .filter_map(|e| resources::object::from_body(&e.body, &endpoint.hub).ok())
        .collect()
}

pub type Outcome<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;
/// A plugin's function: the server with its caches, and the write.
pub type Step = for<'a> fn(&'a Arc<Server>, &'a mut Attributes<'_>) -> Outcome<'a>;
/// Reads what the configuration file has for a plugin, which may be nothing.
type Configure = fn(&mut State, Option<&[u8]>, &Around<'_>) -> Result<(), Refused>;
/// Whether a plugin has nothing to do with a write.
type Idle = fn(&Server, &Attributes<'_>) -> bool;

pub struct Plugin {
    /// The name in `--enable-admission-plugins`.
    pub name: &'static str,
    pub on_by_default: bool,
    /// What it looks at; the chain passes it over on others.
    pub operations: &'static [Operation],
    configure: Option<Configure>,
    /// Most writes pass a plugin that has this without a future being made for them.
    idle: Option<Idle>,
    pub mutate: Option<Step>,
    pub validate: Option<Step>,
}

impl Plugin {
    /// One that does nothing unless it is said.
    const OFF: Self = Self {
        name: "",
        on_by_default: false,
        operations: &[],
        configure: None,
        idle: None,
        mutate: None,
        validate: None,
    };
}

/// Upstream's order (`pkg/kubeapiserver/options/plugins.go`).
pub static PLUGINS: &[Plugin] = &[
    Plugin {
        name: "AlwaysAdmit",
        operations: &Operation::ALL,
        ..Plugin::OFF
    },
    namespace_lifecycle::AUTO_PROVISION,
    namespace_lifecycle::PLUGIN,
    namespace_lifecycle::EXISTS,
    pods::ANTI_AFFINITY,
    limit_ranger::PLUGIN,
    service_account::PLUGIN,
    node_restriction::PLUGIN,
    taint_nodes::PLUGIN,
    pods::ALWAYS_PULL,
    image_policy::PLUGIN,
    pod_security::PLUGIN,
    pod_node_selector::PLUGIN,
    priority::PLUGIN,
    default_tolerations::PLUGIN,
    pod_tolerations::PLUGIN,
    event_rate_limit::PLUGIN,
    pods::EXTENDED_RESOURCES,
    storage::DEFAULT_CLASS,
    storage::IN_USE_PROTECTION,
    pod_groups::PROTECTION,
    owner_references::PLUGIN,
    storage::CLAIM_RESIZE,
    runtime_class::PLUGIN,
    certificates::APPROVAL,
    certificates::SIGNING,
    certificates::ATTEST,
    certificates::SUBJECT,
    network::DEFAULT_INGRESS_CLASS,
    network::DENY_EXTERNAL_IPS,
    pods::TOPOLOGY_LABELS,
    declared_features::PLUGIN,
    pod_resize::PLUGIN,
    policy::MUTATING,
    webhook::MUTATING,
    policy::VALIDATING,
    webhook::VALIDATING,
    quota::PLUGIN,
    Plugin {
        name: "AlwaysDeny",
        operations: &Operation::ALL,
        validate: Some(|_, write| {
            Box::pin(std::future::ready(Err(
                write.forbid("admission control is denying all modifications")
            )))
        }),
        ..Plugin::OFF
    },
];

/// The plugins that run in this server, in order, with what they know.
pub struct Chain {
    plugins: Vec<Running>,
    steps: [Series; 2],
    state: State,
}

/// A plugin with its series in both phases.
struct Running {
    plugin: &'static Plugin,
    series: [Series; 2],
}

impl Running {
    /// What the plugin does in a phase.
    fn step(&self, phase: Phase) -> Option<Step> {
        match phase {
            Phase::Mutate => self.plugin.mutate,
            Phase::Validate => self.plugin.validate,
        }
    }
}

impl Chain {
    /// The plugins of the flags, told what the file has for them.
    ///
    /// # Errors
    /// If the file, or what it tells a plugin, cannot be used.
    pub fn open(
        config: &AdmissionConfig,
        registry: &Registry,
        features: &Features,
        tasks: &Supervisor,
        metrics: &Metrics,
    ) -> Result<Self, config::Error> {
        let file = match &config.file {
            Some(path) => File::read(path)?,
            None => File::default(),
        };
        let around = Around {
            registry,
            features,
            tasks,
            metrics,
            webhooks: &webhook::Families::register(metrics),
        };
        let state = State::configure(&config.plugins, &file, &around)?;
        let durations = Durations::register(metrics);
        let phases = [Phase::Mutate, Phase::Validate];
        let running = |plugin: &&'static Plugin| Running {
            plugin,
            series: phases.map(|phase| durations.plugin(plugin.name, phase)),
        };
        let plugins: Vec<Running> = config.plugins.iter().map(running).collect();
        for phase in phases {
            let works = plugins.iter().filter(|p| p.step(phase).is_some());
            let names: Vec<&str> = works.map(|p| p.plugin.name).collect();
            tracing::info!(phase = phase.name(), plugins = names.join(","), "Admission");
        }
        Ok(Self {
            plugins,
            steps: phases.map(|phase| durations.step(phase)),
            state,
        })
    }

    /// Lets plugins change the object of a write, or refuse it.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn mutate(
        &self,
        server: &Arc<Server>,
        write: &mut Attributes<'_>,
    ) -> Result<(), Failure> {
        self.run(Phase::Mutate, server, write).await
    }

    /// Lets plugins refuse a write as it would be stored.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn validate(
        &self,
        server: &Arc<Server>,
        write: &mut Attributes<'_>,
    ) -> Result<(), Failure> {
        self.run(Phase::Validate, server, write).await
    }

    async fn run(
        &self,
        phase: Phase,
        server: &Arc<Server>,
        write: &mut Attributes<'_>,
    ) -> Result<(), Failure> {
        let operation = write.operation;
        let begun = Instant::now();
        let mut last = begun;
        let mut outcome = self.round(phase, server, write, &mut last).await;
        if outcome.is_ok() && phase == Phase::Mutate && write.reinvocation.wanted {
            write.reinvocation.again = true;
            outcome = self.round(phase, server, write, &mut last).await;
        }
        self.steps[phase as usize].observe(operation, outcome.is_err(), last - begun);
        outcome
    }

    /// All plugins once; `last` is when the one before ended.
    async fn round(
        &self,
        phase: Phase,
        server: &Arc<Server>,
        write: &mut Attributes<'_>,
        last: &mut Instant,
    ) -> Result<(), Failure> {
        let operation = write.operation;
        for running in &self.plugins {
            let concerned = running.plugin.operations.contains(&operation);
            let Some(step) = running.step(phase).filter(|_| concerned) else {
                continue;
            };
            let outcome = match running.plugin.idle {
                Some(idle) if idle(server, write) => Ok(()),
                _ => step(server, write).await,
            };
            let now = Instant::now();
            let series = &running.series[phase as usize];
            series.observe(operation, outcome.is_err(), now - *last);
            *last = now;
            outcome?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
