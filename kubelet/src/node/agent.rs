//! Registers the node and keeps its status current.
//!
//! The status is made anew when the node's object changes, when somebody says so, and every
//! `nodeStatusUpdateFrequency`; it is sent when it differs, and every `nodeStatusReportFrequency` all
//! the same. Until the node has been ready once, it looks every 100 ms.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use component::client::{Client, Error as ApiError, Patch};
use component::events::Recorder;
use component::informer::Informer;
use component::supervisor::chain;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use rand::Rng;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::address::Wanted;
use super::status::{self, Change, Observed};
use super::{address, object, patch};
use crate::config::Config;
use crate::network::{PodNetwork, Status};

/// Before the first try to register, doubled each time up to [`REGISTER_MOST`].
const REGISTER_FIRST: Duration = Duration::from_millis(100);
const REGISTER_MOST: Duration = Duration::from_secs(7);
/// How often a node that has not been ready yet is looked at, and for how long.
const EAGER: Duration = Duration::from_millis(100);
const EAGER_FOR: Duration = Duration::from_secs(120);
/// Tries of one update.
const TRIES: usize = 5;

/// What the status is made from, apart from what the agent finds itself.
pub trait Sources: Send + Sync + 'static {
    /// Everything but addresses and network, as of now.
    fn observe(&self) -> Observed;
}

/// Is told of the node's object and addresses whenever they change.
pub type Tell = Box<dyn Fn(&Node, &[IpAddr]) + Send + Sync>;

/// Keeps one node.
pub struct Agent {
    pub name: String,
    pub hostname: String,
    pub config: Arc<Config>,
    pub ip: Wanted,
    /// Without a rate limit, and with a short timeout: heartbeats must not wait for others.
    pub client: Client,
    /// Of this one node.
    pub informer: Informer<Node>,
    pub recorder: Recorder,
    pub network: Arc<dyn PodNetwork>,
    pub sources: Arc<dyn Sources>,
    pub tell: Tell,
    /// Whoever changes what the status is made from.
    pub changed: Arc<Notify>,
}

struct State {
    /// As it was last sent; the cache may be behind.
    sent: Option<Arc<Node>>,
    sent_at: Option<Instant>,
    /// Beside the frequency, so that nodes do not report in step; may be negative.
    delay: f64,
    cidrs: Vec<String>,
    unschedulable: bool,
    ready: bool,
}

/// Why a status was not sent.
#[derive(thiserror::Error, Debug)]
enum Error {
    #[error("node {0:?} not found")]
    NotFound(String),
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl Agent {
    /// Runs until it is dropped.
    pub async fn run(self) {
        let wake = Arc::clone(&self.changed);
        self.informer.subscribe(move |_, _| wake.notify_one());
        let mut state = State {
            sent: None,
            sent_at: None,
            delay: 0.0,
            cidrs: Vec::new(),
            unschedulable: false,
            ready: false,
        };
        if self.config.kubelet.register_node {
            state.sent = Some(Arc::new(self.register().await));
        }
        self.informer.synced().await;
        let began = Instant::now();
        loop {
            self.sync(&mut state).await;
            let eager = !state.ready && began.elapsed() < EAGER_FOR;
            let wait = if eager { EAGER } else { self.frequency() };
            let next = Instant::now() + EAGER;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.changed.notified() => tokio::time::sleep_until(next).await,
            }
        }
    }

    /// The next look, up to 4 % later, as upstream spreads them.
    fn frequency(&self) -> Duration {
        let every = self.config.kubelet.node_status_update_frequency.0;
        every.mul_f64(1.0 + rand::rng().random::<f64>() * 0.04)
    }

    /// Registers the node, or finds it registered; tries until it has succeeded.
    async fn register(&self) -> Node {
        let mut wait = REGISTER_FIRST;
        loop {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(REGISTER_MOST);
            let mut node = object::initial(&self.name, &self.hostname, &self.config, &self.ip);
            let changes = self.observe(&mut node).await;
            tracing::info!(node = self.name, "Attempting to register node");
            match self.try_register(node).await {
                Ok(registered) => {
                    tracing::info!(node = self.name, "Successfully registered node");
                    self.record(&registered, &changes);
                    return registered;
                }
                Err(e) => {
                    tracing::error!(
                        node = self.name,
                        error = chain(&e),
                        "Unable to register node with API server"
                    );
                }
            }
        }
    }

    async fn try_register(&self, node: Node) -> Result<Node, ApiError> {
        let api = self.client.all::<Node>();
        let refused = match api.create(&node).await {
            Ok(created) => return Ok(created),
            Err(e) if e.is_already_exists() => e,
            Err(e) if e.is_forbidden() => {
                if self
                    .config
                    .features
                    .enabled("KubeletRegistrationGetOnExistsOnly")
                {
                    return Err(e);
                }
                e
            }
            Err(e) => return Err(e),
        };
        let Some(existing) = api.find(&self.name).await? else {
            return Err(refused);
        };
        tracing::info!(node = self.name, "Node was previously registered");
        let mut wanted = existing.clone();
        object::reconcile(&mut wanted, &node);
        match patch::between(&existing, &wanted) {
            Some(change) => {
                let change = Patch::strategic(&change)?;
                api.patch_status(&self.name, &change).await
            }
            None => Ok(existing),
        }
    }

    /// Writes what is observed now over a node.
    async fn observe(&self, node: &mut Node) -> Vec<Change> {
        let found = self.ip.find(&self.name, &self.hostname).await;
        let mut seen = self.sources.observe();
        seen.now = Time(seconds(component::clock::now()));
        let cloud = self.config.node.external_cloud;
        let has = node
            .status
            .as_ref()
            .and_then(|s| s.addresses.as_ref())
            .is_some_and(|a| !a.is_empty());
        match found {
            // Addresses that a cloud controller has set are its own.
            Ok(_) if cloud && has => {}
            Ok(_) if cloud && !self.ip.is_given() => {
                seen.addresses = Some(address::entries(&[], &self.hostname));
            }
            Ok(ips) => seen.addresses = Some(address::entries(&ips, &self.hostname)),
            Err(e) => {
                tracing::error!(error = %e, "Failed to set some node status fields");
            }
        }
        if let Status::NotReady { reason, message } = self.network.status() {
            seen.problems.push(format!(
                "container runtime network not ready: NetworkReady=false reason:{reason} \
                 message:{message}"
            ));
        }
        object::annotate_ip(node, &self.config, &self.ip);
        let changes = status::update(node.status.get_or_insert_default(), &seen);
        (self.tell)(node, &addresses(node));
        changes
    }

    async fn sync(&self, state: &mut State) {
        for again in 0..TRIES {
            match self.try_sync(state, again > 0).await {
                Ok(()) => return,
                Err(e) => {
                    tracing::error!(error = chain(&e), "Error updating node status, will retry");
                }
            }
        }
    }

    /// The newest state of the node that is known without asking.
    fn known(&self, state: &State) -> Option<Arc<Node>> {
        let version = |node: &Arc<Node>| {
            let version = node.metadata.resource_version.as_deref();
            version.and_then(|v| v.parse::<u64>().ok()).unwrap_or(0)
        };
        match (self.informer.lister().get("", &self.name), &state.sent) {
            (Some(cached), Some(sent))
                if version(sent) > version(&cached) && same(sent, &cached) =>
            {
                Some(Arc::clone(sent))
            }
            // Registered just now: the cache has not heard of it.
            (None, sent) if state.sent_at.is_none() => sent.clone(),
            (cached, _) => cached,
        }
    }

    async fn try_sync(&self, state: &mut State, live: bool) -> Result<(), Error> {
        let api = self.client.all::<Node>();
        let before = if live {
            Arc::new(api.get(&self.name).await?)
        } else {
            let known = self.known(state);
            known.ok_or_else(|| Error::NotFound(self.name.clone()))?
        };
        let moved = self.follow_cidrs(&before, state).await;
        let mut node = Node::clone(&before);
        object::require_labels(&mut node);
        let changes = self.observe(&mut node).await;
        let (old, new) = (
            before.status.clone().unwrap_or_default(),
            node.status.clone().unwrap_or_default(),
        );
        let metadata = before.metadata != node.metadata;
        let changed = moved || metadata || status::differs(&old, &new);
        if !changed && !self.is_due(state) {
            self.settle(state, &before);
            return Ok(());
        }
        state.delay = if changed || state.sent_at.is_none() {
            rand::rng().random::<f64>() - 0.5
        } else {
            0.0
        };
        let after = match patch::between(&before, &node) {
            Some(change) => {
                api.patch_status(&self.name, &Patch::strategic(&change)?)
                    .await?
            }
            None => node,
        };
        state.sent_at = Some(Instant::now());
        self.record(&after, &changes);
        self.settle(state, &after);
        state.sent = Some(Arc::new(after));
        Ok(())
    }

    fn is_due(&self, state: &State) -> bool {
        let frequency = self.config.kubelet.node_status_report_frequency.0;
        let period = frequency.mul_f64((1.0 + state.delay).max(0.0));
        state.sent_at.is_none_or(|at| at.elapsed() >= period)
    }

    /// Tells the network which addresses the node's pods have. Whether they changed.
    async fn follow_cidrs(&self, node: &Node, state: &mut State) -> bool {
        let cidrs = node
            .spec
            .as_ref()
            .and_then(|s| s.pod_cidrs.clone())
            .unwrap_or_default();
        if cidrs.is_empty() || cidrs == state.cidrs {
            return false;
        }
        let parsed = cidrs.iter().filter_map(|c| c.parse().ok()).collect();
        match self.network.set_pod_cidrs(parsed).await {
            Ok(()) => {
                tracing::info!(cidrs = cidrs.join(","), "Updated the pod CIDRs");
                state.cidrs = cidrs;
                true
            }
            Err(e) => {
                tracing::error!(error = chain(&e), "Error updating pod CIDR");
                false
            }
        }
    }

    /// Notes what the node is like now.
    fn settle(&self, state: &mut State, node: &Node) {
        let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
        let ready = |c: &&k8s_openapi::api::core::v1::NodeCondition| {
            c.type_ == "Ready" && c.status == "True"
        };
        state.ready |= conditions.is_some_and(|all| all.iter().any(|c| ready(&c)));
        let unschedulable = node
            .spec
            .as_ref()
            .and_then(|s| s.unschedulable)
            .unwrap_or_default();
        if unschedulable != state.unschedulable {
            state.unschedulable = unschedulable;
            let reason = if unschedulable {
                "NodeNotSchedulable"
            } else {
                "NodeSchedulable"
            };
            self.record(node, &[Change::Condition(reason)]);
        }
    }

    fn record(&self, node: &Node, changes: &[Change]) {
        let about = reference(&self.name, node.metadata.uid.clone());
        for change in changes {
            match change {
                Change::Condition(reason) => {
                    let message = format!("Node {} status is now: {reason}", self.name);
                    self.recorder.normal(&about, reason, &message);
                }
                Change::Rebooted => {
                    let info = node.status.as_ref().and_then(|s| s.node_info.as_ref());
                    let boot = info.map_or("", |info| info.boot_id.as_str());
                    let message = format!("Node {} has been rebooted, boot id: {boot}", self.name);
                    self.recorder.warning(&about, "Rebooted", &message);
                }
            }
        }
    }
}

fn same(one: &Node, other: &Node) -> bool {
    one.metadata.uid == other.metadata.uid
}

/// The addresses of the node's status that pods see as its own.
fn addresses(node: &Node) -> Vec<IpAddr> {
    let all = node.status.as_ref().and_then(|s| s.addresses.as_ref());
    let internal = all
        .into_iter()
        .flatten()
        .filter(|a| a.type_ == "InternalIP");
    internal.filter_map(|a| a.address.parse().ok()).collect()
}

/// What events about the node refer to.
#[must_use]
pub fn reference(name: &str, uid: Option<String>) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: Some(name.to_owned()),
        uid,
        ..ObjectReference::default()
    }
}

/// Times in objects have no fractions.
fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
