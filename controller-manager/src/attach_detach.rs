//! Attaches CSI volumes to the nodes whose pods need them (`persistentvolume-attach-detach-controller`).
//!
//! The attachments are the state: what is asked for is a `VolumeAttachment`, what a driver did is in its status. A node
//! is looked at as a whole. Volumes of plugins that are part of Kubernetes need no attaching, or became CSI volumes.
//! Source: `pkg/controller/volume/attachdetach`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use component::client::{Client, Patch};
use component::controller::Next;
use component::events::{Recorder, reference};
use component::informer::{Event, Index, Informer, Key, Lister};
use component::queue::Queue;
use k8s_openapi::api::core::v1::{
    AttachedVolume, Node, PersistentVolume, PersistentVolumeClaim, Pod,
};
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use crate::context::Context;
use crate::error::Error;
use crate::indexes::{claims, pods_by_claim, pods_by_node};
use crate::protection::is_terminated;
use crate::writes::Writes;

mod plan;

use plan::{Place, Plan, Seen, is_attached, trouble};

/// On nodes whose kubelet leaves attaching to this controller.
const MANAGED: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
const FAILED: &str = "FailedAttachVolume";

/// Starts the controller.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Key>("attach_detach");
    let pods: Informer<Pod> = cx.informer();
    let nodes: Informer<Node> = cx.informer();
    let claims: Informer<PersistentVolumeClaim> = cx.informer();
    let volumes: Informer<PersistentVolume> = cx.informer();
    let attachments: Informer<VolumeAttachment> = cx.informer();
    let drivers: Informer<CSIDriver> = cx.informer();
    let this = Arc::new(Attacher {
        cx: cx.clone(),
        pods_by_node: pods_by_node(&pods),
        pods_by_claim: pods_by_claim(&pods),
        pods: pods.lister(),
        nodes: nodes.lister(),
        claims: claims.lister(),
        volumes: volumes.lister(),
        by_node: attachments.index("spec.nodeName", |a| vec![a.spec.node_name.clone()]),
        by_volume: attachments.index("persistentVolume", |a| {
            a.spec
                .source
                .persistent_volume_name
                .iter()
                .cloned()
                .collect()
        }),
        attachments: attachments.lister(),
        drivers: drivers.lister(),
        idle: Mutex::default(),
        news: Mutex::default(),
        blocked: Mutex::default(),
        writes: Writes::default(),
        recorder: cx.recorder_as("attachdetach-controller"),
    });
    this.wake(&pods, &nodes, &queue);
    this.wake_by_storage(&claims, &attachments, &queue);
    let (wake, all) = (queue.clone(), nodes.lister());
    drivers.subscribe(move |_, _| {
        for node in all.list() {
            wake.add(Key::of(&node.metadata));
        }
    });
    // One at a time: a volume must not be given to two nodes.
    cx.run(1, &queue, move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    });
    Ok(())
}

struct Attacher {
    cx: Context,
    pods: Lister<Pod>,
    pods_by_node: Index,
    pods_by_claim: Index,
    nodes: Lister<Node>,
    claims: Lister<PersistentVolumeClaim>,
    volumes: Lister<PersistentVolume>,
    attachments: Lister<VolumeAttachment>,
    by_node: Index,
    by_volume: Index,
    drivers: Lister<CSIDriver>,
    /// Since when attachments are not wanted any more.
    idle: Mutex<HashMap<String, Instant>>,
    /// Attachments whose driver said something that pods are not told yet.
    news: Mutex<HashSet<String>>,
    /// Attachments of which pods were told that another node is in the way.
    blocked: Mutex<HashSet<String>>,
    /// Attachments that were made or deleted, of all nodes.
    writes: Writes,
    recorder: Recorder,
}

fn node_of(pod: &Pod) -> Option<Key> {
    let node = pod.spec.as_ref()?.node_name.as_deref()?;
    (!node.is_empty()).then(|| Key::from(node))
}

fn in_use(node: &Node) -> Option<&Vec<String>> {
    node.status.as_ref()?.volumes_in_use.as_ref()
}

impl Attacher {
    fn wake(&self, pods: &Informer<Pod>, nodes: &Informer<Node>, queue: &Queue<Key>) {
        let wake = queue.clone();
        pods.subscribe(move |_, event| {
            let pod = event.object();
            let same = match event {
                Event::Updated { old, new } => {
                    node_of(old) == node_of(new) && is_terminated(old) == is_terminated(new)
                }
                _ => false,
            };
            if let Some(node) = node_of(pod).filter(|_| !same && !claims(pod).is_empty()) {
                wake.add(node);
            }
        });
        let wake = queue.clone();
        nodes.subscribe(move |key, event| {
            let same = match event {
                Event::Updated { old, new } => {
                    let spec = |n: &Node| n.spec.clone().unwrap_or_default().taints;
                    in_use(old) == in_use(new)
                        && spec(old) == spec(new)
                        && is_managed(old) == is_managed(new)
                }
                _ => false,
            };
            if !same {
                wake.add(key.clone());
            }
        });
    }

    fn wake_by_storage(
        self: &Arc<Self>,
        claims: &Informer<PersistentVolumeClaim>,
        attachments: &Informer<VolumeAttachment>,
        queue: &Queue<Key>,
    ) {
        let (this, wake) = (Arc::clone(self), queue.clone());
        claims.subscribe(move |key, event| {
            let same = match event {
                Event::Updated { old, new } => old.spec == new.spec,
                _ => false,
            };
            if !same {
                this.wake_users(key.as_str(), &wake);
            }
        });
        let (this, wake) = (Arc::clone(self), queue.clone());
        attachments.subscribe(move |key, event| {
            let attachment = event.object();
            wake.add(Key::from(attachment.spec.node_name.as_str()));
            match event {
                Event::Updated { old, new }
                    if is_attached(old) != is_attached(new) || trouble(old) != trouble(new) =>
                {
                    this.news.lock().insert(key.as_str().to_owned());
                }
                Event::Deleted(old) => this.wake_waiting(old, &wake),
                _ => {}
            }
        });
    }

    /// Wakes the nodes of the pods that use a claim.
    fn wake_users(&self, claim: &str, queue: &Queue<Key>) {
        for pod in self.pods.indexed(self.pods_by_claim, claim) {
            if let Some(node) = node_of(&pod) {
                queue.add(node);
            }
        }
    }

    /// Other nodes may wait for a volume that is detached now.
    fn wake_waiting(&self, attachment: &VolumeAttachment, queue: &Queue<Key>) {
        let name = attachment.spec.source.persistent_volume_name.as_deref();
        let volume = self.volumes.get("", name.unwrap_or_default());
        let claim = volume.and_then(|v| v.spec.as_ref()?.claim_ref.clone());
        if let Some(claim) = claim {
            let namespace = claim.namespace.unwrap_or_default();
            let claim = format!("{namespace}/{}", claim.name.unwrap_or_default());
            self.wake_users(&claim, queue);
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let node = self.nodes.by_key(key);
        if node.as_ref().is_some_and(|n| !is_managed(n)) {
            return Ok(Next::Done);
        }
        if !self.writes.are_seen(&all_nodes(), &self.attachments) {
            return Ok(Next::Again);
        }
        let (attachments, wanted) = (self.attached(key), self.wanted(key, node.is_some()));
        let elsewhere = self.elsewhere(key, wanted.keys());
        let seen = Seen {
            node: node.as_deref(),
            attachments: &attachments,
            wanted: &wanted,
            elsewhere: &elsewhere,
        };
        let forces = !self
            .cx
            .config()
            .attach_detach
            .disable_force_detach_on_timeout;
        let plan = plan::plan(&seen, |name| self.waited(name), forces);
        self.remember(&seen);
        let client = self.cx.client().await?;
        if let Some(node) = &node {
            report(&client, node, &plan.reported).await?;
        }
        self.apply(&client, key, &plan).await?;
        self.tell(&seen, &plan);
        Ok(plan.wait.map_or(Next::Done, Next::After))
    }

    /// The attachments of a node that this controller made, or would have made.
    fn attached(&self, node: &Key) -> BTreeMap<String, (Place, Arc<VolumeAttachment>)> {
        let mut all = BTreeMap::new();
        for attachment in self.attachments.indexed(self.by_node, node.as_str()) {
            let volume = attachment.spec.source.persistent_volume_name.as_deref();
            let volume = self.volumes.get("", volume.unwrap_or_default());
            let place = volume.and_then(|v| Place::of(&v, node.as_str()));
            if let Some(place) = place
                && attachment.metadata.name.as_ref() == Some(&place.attachment)
            {
                all.insert(place.attachment.clone(), (place, attachment));
            }
        }
        all
    }

    /// The places that the pods of a node need.
    fn wanted(&self, node: &Key, there: bool) -> BTreeMap<Place, Vec<Arc<Pod>>> {
        let mut all: BTreeMap<Place, Vec<Arc<Pod>>> = BTreeMap::new();
        let pods = self.pods.indexed(self.pods_by_node, node.as_str());
        for pod in pods.into_iter().filter(|p| there && !is_terminated(p)) {
            for claim in claims(&pod) {
                if let Some(place) = self.place(&pod, &claim, node) {
                    all.entry(place).or_default().push(Arc::clone(&pod));
                }
            }
        }
        all
    }

    /// The place of the volume behind a claim, if a driver has to attach it.
    fn place(&self, pod: &Pod, claim: &str, node: &Key) -> Option<Place> {
        let claim = self.claims.by_key(&Key::from(claim))?;
        let spec = claim.spec.as_ref()?;
        let own = |v: &PersistentVolume| {
            let bound = v.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
            bound.is_some_and(|r| r.uid == claim.metadata.uid)
        };
        let is_made_for_other = claim.metadata.owner_references.iter().flatten().any(|r| {
            r.controller == Some(true)
                && r.kind == "Pod"
                && Some(&r.uid) != pod.metadata.uid.as_ref()
        });
        if is_made_for_other {
            return None;
        }
        let volume = self.volumes.get("", spec.volume_name.as_deref()?)?;
        let place = Place::of(&volume, node.as_str()).filter(|_| own(&volume))?;
        let driver = self.drivers.get("", &place.driver);
        let attaches = driver.is_none_or(|d| d.spec.attach_required != Some(false));
        attaches.then_some(place)
    }

    /// Of these volumes those that other nodes have.
    fn elsewhere<'p>(
        &self,
        node: &Key,
        places: impl Iterator<Item = &'p Place>,
    ) -> BTreeSet<String> {
        let elsewhere = |place: &&Place| {
            let all = self.attachments.indexed(self.by_volume, &place.volume);
            all.iter().any(|a| a.spec.node_name != node.as_str())
        };
        places.filter(elsewhere).map(|p| p.volume.clone()).collect()
    }

    fn waited(&self, attachment: &str) -> Duration {
        let idle = self.idle.lock();
        idle.get(attachment)
            .map_or(Duration::ZERO, Instant::elapsed)
    }

    fn remember(&self, seen: &Seen<'_>) {
        let mut idle = self.idle.lock();
        for (name, (place, _)) in seen.attachments {
            if seen.wanted.contains_key(place) {
                idle.remove(name);
            } else {
                idle.entry(name.clone()).or_insert_with(Instant::now);
            }
        }
    }

    async fn apply(&self, client: &Client, node: &Key, plan: &Plan) -> Result<(), Error> {
        let api = client.all::<VolumeAttachment>();
        let mut results = Vec::new();
        for place in &plan.detach {
            match api
                .delete(&place.attachment, &DeleteOptions::default())
                .await
            {
                Err(e) if !e.is_not_found() => results.push(Err(Error::from(e))),
                _ => {
                    self.idle.lock().remove(&place.attachment);
                    results.push(Ok(()));
                }
            }
        }
        for place in &plan.attach {
            match api.create(&place.attachment(node.as_str())).await {
                Ok(made) => {
                    self.writes.wrote(&all_nodes(), &made.metadata);
                    results.push(Ok(()));
                }
                Err(e) if e.is_already_exists() => results.push(Ok(())),
                Err(e) => results.push(Err(Error::from(e))),
            }
        }
        Error::all(results).map(drop)
    }

    /// Tells pods what became of their volumes.
    fn tell(&self, seen: &Seen<'_>, plan: &Plan) {
        for (place, pods) in seen.wanted {
            if plan.blocked.contains(place) {
                if self.blocked.lock().insert(place.attachment.clone()) {
                    self.tell_blocked(place, pods);
                }
                continue;
            }
            self.blocked.lock().remove(&place.attachment);
            let Some((_, attachment)) = seen.attachments.get(&place.attachment) else {
                continue;
            };
            if !self.news.lock().remove(&place.attachment) {
                continue;
            }
            let volume = &place.volume;
            for pod in pods {
                let about = reference(&**pod);
                if is_attached(attachment) {
                    let text = format!("AttachVolume.Attach succeeded for volume {volume:?} ");
                    self.recorder
                        .normal(&about, "SuccessfulAttachVolume", &text);
                } else if let Some(why) = trouble(attachment) {
                    let text = format!("AttachVolume.Attach failed for volume {volume:?} : {why}");
                    self.recorder.warning(&about, FAILED, &text);
                }
            }
        }
    }

    fn tell_blocked(&self, place: &Place, pods: &[Arc<Pod>]) {
        let users = self.users_elsewhere(place, pods);
        for pod in pods {
            let namespace = &pod.metadata.namespace;
            let (local, others): (Vec<_>, Vec<_>) = users
                .iter()
                .partition(|u| u.metadata.namespace == *namespace);
            let names: Vec<_> = local
                .iter()
                .filter_map(|u| u.metadata.name.as_deref())
                .collect();
            let why = match (names.is_empty(), others.len()) {
                (true, 0) => "Volume is already exclusively attached to one node, waiting on detach before it can be \
                              attached to another node"
                    .to_owned(),
                (true, n) => format!("Volume is already used by {n} pod(s) in different namespaces"),
                (false, 0) => format!("Volume is already used by pod(s) {}", names.join(", ")),
                (false, n) => format!(
                    "Volume is already used by pod(s) {} and {n} pod(s) in different namespaces",
                    names.join(", ")
                ),
            };
            let text = format!("Waiting for detach for volume {:?} {why}", place.volume);
            self.recorder.warning(&reference(&**pod), FAILED, &text);
        }
    }

    /// The pods of other nodes that use a volume.
    fn users_elsewhere(&self, place: &Place, pods: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
        let volume = self.volumes.get("", &place.volume);
        let Some(claim) = volume.and_then(|v| v.spec.as_ref()?.claim_ref.clone()) else {
            return Vec::new();
        };
        let key = format!(
            "{}/{}",
            claim.namespace.unwrap_or_default(),
            claim.name.unwrap_or_default()
        );
        let here = pods.first().and_then(|p| node_of(p));
        let mut users = self.pods.indexed(self.pods_by_claim, &key);
        users.retain(|p| node_of(p).is_some() && node_of(p) != here && !is_terminated(p));
        users
    }
}

/// Under what writes of all nodes are known.
fn all_nodes() -> Key {
    Key::from("nodes")
}

fn is_managed(node: &Node) -> bool {
    let annotations = node.metadata.annotations.as_ref();
    annotations
        .and_then(|a| a.get(MANAGED))
        .is_some_and(|v| v == "true")
}

/// Says in a node's status what is attached to it: before anything is detached, so that the kubelet does not begin to
/// use it.
async fn report(client: &Client, node: &Node, wanted: &[AttachedVolume]) -> Result<(), Error> {
    let told = node
        .status
        .as_ref()
        .and_then(|s| s.volumes_attached.clone());
    let mut told = told.unwrap_or_default();
    told.sort_by(|a, b| a.name.cmp(&b.name));
    if told == wanted {
        return Ok(());
    }
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let patch = Patch::merge(&json!({"status": {"volumesAttached": wanted}}))?;
    match client.all::<Node>().patch_status(name, &patch).await {
        Err(e) if !e.is_not_found() => Err(e.into()),
        _ => Ok(()),
    }
}
