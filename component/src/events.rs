//! Events: what a daemon tells people about objects.
//!
//! A [`Recorder`] writes core/v1 Events or events.k8s.io/v1 Events, as the upstream component in
//! question does, and joins repetitions as upstream's correlator does in its default settings.
//! Recording never waits: events go through a bounded queue, and are dropped and counted when it is
//! full. One task writes them, in order; while the API server cannot be reached it holds them back.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

use crate::client::{Client, Kind};
use crate::leader::hostname;
use crate::supervisor::{Supervisor, Task};

mod classic;
mod series;
mod sink;

/// Events between recorder and writer; upstream's figure.
const QUEUE: usize = 1000;

/// Which of the two kinds of event a component writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Api {
    /// core/v1, joined by counting: kubelet, controllers.
    Core,
    /// events.k8s.io/v1, joined in series: scheduler, kube-proxy.
    Events,
}

/// Whether it is good news.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Type {
    Normal,
    Warning,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Something to be told.
#[derive(Clone, Debug)]
pub struct Event {
    /// What it is about.
    pub regarding: ObjectReference,
    /// Another object that it is about (events.k8s.io only).
    pub related: Option<ObjectReference>,
    pub kind: Type,
    /// For machines: `FailedScheduling`.
    pub reason: String,
    /// What was done (events.k8s.io only).
    pub action: String,
    /// For people.
    pub message: String,
}

/// Where a component says things; cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    sender: mpsc::Sender<Event>,
    dropped: Counter,
}

/// Who says it.
#[derive(Clone, Debug)]
struct Source {
    /// `kubelet`, `deployment-controller`, `default-scheduler`.
    component: String,
    /// The machine; core/v1's `source.host`, set by node components only.
    host: String,
}

impl Recorder {
    /// A recorder for a component. `host` is the node that a node component works for, empty otherwise.
    #[must_use]
    pub fn new(client: &Client, api: Api, component: &str, host: &str, tasks: &Supervisor) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let dropped = Counter::default();
        let source = Source {
            component: component.to_owned(),
            host: host.to_owned(),
        };
        let sink = sink::Sink::new(client.clone(), source, api);
        tasks.spawn_graceful(Task::Background, format!("events {component}"), |stop| {
            sink.run(receiver, stop)
        });
        Self { sender, dropped }
    }

    /// A recorder that tells nobody, for daemons that run without an API server.
    #[must_use]
    pub fn discarding() -> Self {
        let (sender, _) = mpsc::channel(1);
        Self {
            sender,
            dropped: Counter::default(),
        }
    }

    /// Tells something that went as it should.
    pub fn normal(&self, regarding: &ObjectReference, reason: &str, message: &str) {
        self.tell(Type::Normal, regarding, reason, message);
    }

    /// Tells something that did not.
    pub fn warning(&self, regarding: &ObjectReference, reason: &str, message: &str) {
        self.tell(Type::Warning, regarding, reason, message);
    }

    fn tell(&self, kind: Type, regarding: &ObjectReference, reason: &str, message: &str) {
        self.event(Event {
            regarding: regarding.clone(),
            related: None,
            kind,
            reason: reason.to_owned(),
            action: reason.to_owned(),
            message: message.to_owned(),
        });
    }

    /// Tells something with all that can be said.
    pub fn event(&self, event: Event) {
        tracing::debug!(
            object.kind = event.regarding.kind.as_deref().unwrap_or_default(),
            object.r#ref = %crate::informer::Key::new(
                event.regarding.namespace.as_deref().unwrap_or_default(),
                event.regarding.name.as_deref().unwrap_or_default(),
            ),
            kind = event.kind.name(),
            reason = event.reason,
            message = event.message,
            "Event occurred"
        );
        if self.sender.try_send(event).is_err() {
            self.dropped.inc();
        }
    }

    /// Events that were dropped because the queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.get()
    }
}

/// A reference to an object, for events about it.
#[must_use]
pub fn reference<K: Kind>(object: &K) -> ObjectReference {
    let meta: &ObjectMeta = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// `component-host`, which upstream's new events name as the reporting instance.
fn instance(source: &Source) -> String {
    let host = if source.host.is_empty() {
        hostname()
    } else {
        source.host.clone()
    };
    format!("{}-{host}", source.component)
}

/// The name of an event: its object's, with the time in hexadecimal; a random one where that is no
/// name that the server takes.
fn event_name(object: &str, nanos: i128) -> String {
    let name = format!("{object}.{nanos:x}");
    if proto::meta::names::dns_subdomain_problems(&name).is_empty() {
        name
    } else {
        uuid::Uuid::new_v4().to_string()
    }
}

/// The namespace of an event about an object.
fn event_namespace(regarding: &ObjectReference) -> String {
    regarding
        .namespace
        .clone()
        .filter(|ns| !ns.is_empty())
        .unwrap_or_else(|| "default".to_owned())
}

#[cfg(test)]
mod tests;
