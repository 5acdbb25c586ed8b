//! Nodes that fall silent (`node-lifecycle-controller`): their conditions, taints and pods.
//!
//! Owns the conditions of kubelets that are not heard of, the taints that follow from conditions, the
//! old names of the labels for system and architecture, and the readiness of pods on silent nodes.
//! Upstream looks at every node every few seconds; here a node is looked at when it changes and when it
//! would have to be taken for silent. Invariant: a node is declared silent only if the server itself
//! has no newer lease than the cache.
//!
//! Source: `pkg/controller/nodelifecycle`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use component::client::Patch;
use component::controller::Next;
use component::events::{Recorder, reference};
use component::informer::{Event, Index, Key, Lister, Selection};
use component::queue::Queue;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::context::Context;
use crate::error::Error;
use crate::taints;
use health::{AllHealth, Grace};
use zones::{Effect, Policy, Zones};

pub mod conditions;
mod health;
mod pods;
mod zones;

/// Where kubelets renew their leases.
const LEASES: &str = "kube-node-lease";
/// Nodes with this label do not count when disruptions are judged.
const NOT_COUNTED: &str = "node.kubernetes.io/exclude-disruption";
/// Upstream's number of workers.
const WORKERS: i32 = 8;
/// How soon a taint that could not be written is tried again.
const RETRY: Duration = Duration::from_millis(50);
/// How long the cache of leases gets to catch up with the server.
const CATCH_UP: Duration = Duration::from_secs(1);

/// What the queue holds.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Work {
    Node(Key),
    /// A pod came to its node.
    Pod(Key),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(key) | Self::Pod(key) => key.fmt(f),
        }
    }
}

struct Lifecycle {
    cx: Context,
    queue: Queue<Work>,
    nodes: Lister<Node>,
    leases: Lister<Lease>,
    pods: Lister<Pod>,
    by_node: Index,
    health: Arc<Mutex<AllHealth>>,
    zones: Mutex<Zones>,
    /// A node was queued for its taint, or a rate changed.
    taint: Notify,
    recorder: Recorder,
    grace: Grace,
}

/// Starts the controller.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Work>("node_lifecycle_controller");
    let (nodes, pods) = (cx.informer::<Node>(), cx.informer::<Pod>());
    let leases = cx.informer_of::<Lease>(Selection::namespace(LEASES));
    let this = Arc::new(Lifecycle {
        cx: cx.clone(),
        queue: queue.clone(),
        nodes: nodes.lister(),
        leases: leases.lister(),
        by_node: crate::indexes::pods_by_node(&pods),
        pods: pods.lister(),
        health: Arc::default(),
        zones: Mutex::new(Zones::new(policy(cx))),
        taint: Notify::new(),
        recorder: cx.recorder_as("node-controller"),
        grace: Grace {
            startup: cx.config().node_lifecycle.node_startup_grace_period.0,
            monitor: cx.config().node_lifecycle.node_monitor_grace_period.0,
        },
    });
    let health = Arc::clone(&this.health);
    leases.subscribe(move |key, event| match event {
        Event::Deleted(_) => health.lock().forget_lease(key.name()),
        _ => health.lock().renewed(event.object(), Instant::now()),
    });
    let (wake, recorder) = (queue.clone(), this.recorder.clone());
    nodes.subscribe(move |key, event| {
        let (name, verb, reason) = match event {
            Event::Added(_) => (key.name(), "Registered", "RegisteredNode"),
            Event::Deleted(_) => (key.name(), "Removing", "RemovingNode"),
            Event::Updated { .. } => return wake.add(Work::Node(key.clone())),
        };
        let place = if verb == "Removing" { "from" } else { "in" };
        let message = format!("Node {name} event: {verb} Node {name} {place} Controller");
        recorder.normal(&reference(&**event.object()), reason, &message);
        wake.add(Work::Node(key.clone()));
    });
    let wake = queue.clone();
    pods.subscribe(move |key, event| {
        let came = match event {
            Event::Added(pod) => node_of(pod).is_some(),
            Event::Updated { old, new } => node_of(new).is_some() && node_of(old) != node_of(new),
            Event::Deleted(_) => false,
        };
        if came {
            wake.add(Work::Pod(key.clone()));
        }
    });
    let tainting = Arc::clone(&this);
    cx.spawn("taints", async move { tainting.taint_nodes().await });
    cx.run(WORKERS, &queue, move |work| {
        let this = Arc::clone(&this);
        async move {
            match work {
                Work::Node(key) => this.reconcile(&key).await,
                Work::Pod(key) => this.pod_came(&key).await,
            }
        }
    });
    Ok(())
}

fn policy(cx: &Context) -> Policy {
    let config = &cx.config().node_lifecycle;
    Policy {
        rate: config.node_eviction_rate,
        secondary_rate: config.secondary_node_eviction_rate,
        large: usize::try_from(config.large_cluster_size_threshold).unwrap_or(0),
        unhealthy: config.unhealthy_zone_threshold,
        settle: config.node_monitor_period.0,
    }
}

fn node_of(pod: &Pod) -> Option<&String> {
    let name = pod.spec.as_ref()?.node_name.as_ref();
    name.filter(|name| !name.is_empty())
}

impl Lifecycle {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(node) = self.nodes.by_key(key) else {
            self.health.lock().forget(key.name());
            let effect = {
                let mut zones = self.zones.lock();
                zones.unqueue(key.name());
                zones.remove(key.name())
            };
            self.perform(effect).await?;
            return Ok(Next::Done);
        };
        self.follow(&node).await?;
        let (node, next) = self.judge(node).await?;
        self.count(&node).await?;
        self.execute(&node).await?;
        if self.health.lock().has_untold(key.name()) {
            self.tell_pods(&node).await?;
        }
        Ok(next)
    }

    /// Taints and labels that follow from what the node says of itself.
    async fn follow(&self, node: &Node) -> Result<(), Error> {
        let (add, remove) = conditions::no_schedule(node);
        if !add.is_empty() || !remove.is_empty() {
            let client = self.cx.client().await?;
            taints::change(&client, node, &add, &remove, self.cx.now()).await?;
        }
        let labels = conditions::labels(node);
        if !labels.is_empty() {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            let patch = Patch::merge(&json!({"metadata": {"labels": labels}}))?;
            let api = self.cx.client().await?.all::<Node>();
            match api.patch(name, &patch).await {
                Err(e) if !e.is_not_found() => return Err(e.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Declares the node silent if it is; the node after that, and when to look again.
    async fn judge(&self, node: Arc<Node>) -> Result<(Arc<Node>, Next), Error> {
        let now = Instant::now();
        let deadline = {
            let mut health = self.health.lock();
            health.observe(&node, self.grace, self.cx.now(), now)
        };
        if now <= deadline {
            // A little later: exactly at the deadline it is not silent yet.
            let wait = deadline - now + Duration::from_millis(1);
            return Ok((node, Next::After(wait)));
        }
        let changed = conditions::unknown(&node, self.cx.now());
        if changed.is_empty() {
            return Ok((node, Next::Done));
        }
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let cached = self.leases.get(LEASES, name);
        let version =
            |lease: Option<&Lease>| lease.and_then(|l| l.metadata.resource_version.clone());
        let client = self.cx.client().await?;
        let live = client.namespaced::<Lease>(LEASES).find(name).await?;
        if live.is_some() && version(live.as_ref()) != version(cached.as_deref()) {
            tracing::info!(
                node = name,
                "The cache of leases is behind, no node is judged by it"
            );
            return Ok((node, Next::After(CATCH_UP)));
        }
        let was_ready = conditions::ready(&node) == Some("True");
        let patch = Patch::strategic(&json!({
            "metadata": {"resourceVersion": node.metadata.resource_version},
            "status": {"conditions": changed},
        }))?;
        let silent = client.all::<Node>().patch_status(name, &patch).await?;
        if was_ready {
            let message = format!("Node {name} status is now: NodeNotReady");
            self.recorder
                .normal(&reference(&silent), "NodeNotReady", &message);
            self.health.lock().set_untold(name, true);
        }
        Ok((Arc::new(silent), Next::Done))
    }

    /// Counts the node in its zone, and acts on what that means.
    async fn count(&self, node: &Node) -> Result<(), Error> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let labels = node.metadata.labels.as_ref();
        let effect = if labels.is_some_and(|l| l.contains_key(NOT_COUNTED)) {
            self.zones.lock().remove(name)
        } else {
            let ready = conditions::ready(node) == Some("True");
            let zone = conditions::zone(node);
            self.zones.lock().set(name, &zone, ready, Instant::now())
        };
        self.taint.notify_one();
        self.perform(effect).await
    }

    async fn perform(&self, effect: Option<Effect>) -> Result<(), Error> {
        match effect {
            None => Ok(()),
            Some(Effect::Spare) => {
                tracing::warn!("No node is ready: taints are taken away and no pod is evicted");
                let client = self.cx.client().await?;
                let both = conditions::both();
                let mut results = Vec::new();
                for node in self.nodes.list() {
                    results.push(taints::change(&client, &node, &[], &both, self.cx.now()).await);
                }
                Error::all(results).map(drop)
            }
            Some(Effect::Resume) => {
                tracing::info!("Some nodes are ready again");
                self.health.lock().pardon(Instant::now());
                for node in self.nodes.list() {
                    self.queue.add(Work::Node(Key::of(&node.metadata)));
                }
                Ok(())
            }
        }
    }

    /// The taint that evicts pods: at once where it only takes another's place, in its turn otherwise.
    async fn execute(&self, node: &Node) -> Result<(), Error> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let Some(ready) = conditions::ready(node) else {
            return Ok(());
        };
        let Some((wanted, other)) = conditions::no_execute(ready) else {
            self.zones.lock().unqueue(name);
            let client = self.cx.client().await?;
            taints::change(&client, node, &[], &conditions::both(), self.cx.now()).await?;
            return Ok(());
        };
        if conditions::has(node, &other) {
            let client = self.cx.client().await?;
            taints::change(&client, node, &[wanted], &[other], self.cx.now()).await?;
        } else if !conditions::has(node, &wanted) {
            let zone = conditions::zone(node);
            self.zones.lock().queue(name, &zone, Instant::now());
            self.taint.notify_one();
        }
        Ok(())
    }

    /// Taints nodes in their turn.
    async fn taint_nodes(&self) {
        loop {
            let taken = self.zones.lock().take(Instant::now());
            match taken {
                Ok(node) => self.taint_node(&node).await,
                Err(Some(until)) => tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    () = self.taint.notified() => {}
                },
                Err(None) => self.taint.notified().await,
            }
        }
    }

    async fn taint_node(&self, name: &str) {
        let Some(node) = self.nodes.get("", name) else {
            return;
        };
        let Some((add, remove)) = conditions::ready(&node).and_then(conditions::no_execute) else {
            return;
        };
        let done = match self.cx.client().await {
            Ok(client) => taints::change(&client, &node, &[add], &[remove], self.cx.now()).await,
            Err(e) => Err(e),
        };
        if let Err(e) = done {
            tracing::warn!(node = name, error = e.chain(), "Cannot taint a node");
            self.queue.add_after(Work::Node(Key::new("", name)), RETRY);
        }
    }
}
