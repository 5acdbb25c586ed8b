//! What the scheduler knows of the cluster, in arrays by node.
//!
//! Owns nodes, placed pods (bound, or assumed to be bound soon), and everything counted over them:
//! [`labels`] as columns, [`taints`] as sets, [`counts`] of pods by matcher, [`terms`] of placed pods.
//! Decisions only read it.
//!
//! Invariants: a pod is on at most one node; the sums of a node are those of its pods; a node index is
//! not given to another node while pods or the node itself use it; [`Cluster::order`] has each node
//! that exists exactly once, zone by zone in turn, as upstream's node tree lists them.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use crate::pod::{HostPort, PodInfo};
use crate::resources::{self, Amounts, Resources, Scalars};
use crate::selector::{Labels, Selector};

pub mod counts;
pub mod disruption;
pub mod labels;
pub mod taints;
pub mod terms;
pub mod volumes;
mod workloads;
mod zones;

use counts::Counts;
pub use counts::{ByNode, Counted};
use disruption::Disruption;
pub use labels::{Column, NodeLabels};
pub use taints::{TaintInfo, TaintSetId, TaintSets};
use terms::Terms;
pub use terms::Wish;
use volumes::Volumes;
pub use workloads::Workload;
use workloads::Workloads;

/// A node, as an index into arrays.
pub type NodeIndex = u32;

/// Stands for a node that does not exist.
pub const NO_NODE: NodeIndex = NodeIndex::MAX;

/// An index out of a length that cannot be that large.
pub(crate) fn index(at: usize) -> NodeIndex {
    NodeIndex::try_from(at).unwrap_or(NodeIndex::MAX)
}

/// What pods take of a node, as far as every decision reads it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    pub requested: Amounts,
    /// With defaults for what pods do not ask for.
    pub nonzero: Amounts,
    pub pods: i64,
}

impl Usage {
    fn add(&mut self, pod: &PodInfo, times: i64) {
        self.requested.add(&pod.requests.amounts, times);
        self.nonzero.add(&pod.nonzero, times);
        self.pods += times;
    }
}

/// The pods of a node, and what they take of what few pods ask for.
#[derive(Clone, Default, Debug)]
pub struct Row {
    pub pods: Vec<Arc<PodInfo>>,
    pub ports: Vec<HostPort>,
    pub scalars: Scalars,
}

impl Row {
    fn add(&mut self, pod: &Arc<PodInfo>) {
        self.ports.extend(pod.host_ports.iter().cloned());
        resources::add_scalars(&mut self.scalars, &pod.requests.scalars, 1);
        self.pods.push(Arc::clone(pod));
    }

    fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let at = self.pods.iter().position(|p| *p.uid == *uid)?;
        let pod = self.pods.swap_remove(at);
        for port in &*pod.host_ports {
            if let Some(at) = self.ports.iter().position(|p| p == port) {
                self.ports.swap_remove(at);
            }
        }
        resources::add_scalars(&mut self.scalars, &pod.requests.scalars, -1);
        Some(pod)
    }
}

/// A node's row as it would be with other pods on it.
#[derive(Clone, Debug)]
pub struct WhatIf {
    pub node: NodeIndex,
    pub usage: Usage,
    pub row: Row,
}

impl WhatIf {
    /// The node as it is.
    #[must_use]
    pub fn of(cluster: &Cluster, node: NodeIndex) -> Self {
        Self {
            node,
            usage: *cluster.usage(node),
            row: cluster.row(node).clone(),
        }
    }

    pub fn add(&mut self, pod: &Arc<PodInfo>) {
        self.usage.add(pod, 1);
        self.row.add(pod);
    }

    pub fn remove(&mut self, uid: &str) {
        if let Some(pod) = self.row.remove(uid) {
            self.usage.add(&pod, -1);
        }
    }
}

/// A node's image.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    pub size: i64,
}

/// What is fixed of a node as long as its object does not change.
#[derive(Debug)]
pub struct NodeFacts {
    pub node: Arc<Node>,
    pub name: Arc<str>,
    pub labels: Labels,
    pub unschedulable: bool,
    zone: String,
}

#[derive(Clone, Copy)]
struct Placed {
    node: NodeIndex,
    assumed: bool,
}

/// The state that decisions are made on.
#[derive(Default)]
pub struct Cluster {
    by_name: HashMap<Arc<str>, NodeIndex>,
    names: Vec<Arc<str>>,
    free: Vec<NodeIndex>,
    facts: Vec<Option<Arc<NodeFacts>>>,
    allocatable: Vec<Resources>,
    usage: Vec<Usage>,
    rows: Vec<Row>,
    taints_of: Vec<TaintSetId>,
    labels: NodeLabels,
    taints: TaintSets,
    zones: zones::Zones,
    order: Vec<NodeIndex>,
    /// The nodes that have an image, by its name.
    images: HashMap<String, HashMap<NodeIndex, Image>>,
    pods: HashMap<Arc<str>, Placed>,
    counts: Counts,
    terms: Terms,
    workloads: Workloads,
    disruption: Disruption,
    volumes: Volumes,
    namespaces: HashMap<String, Labels>,
    no_labels: Labels,
}

/// Reading.
impl Cluster {
    /// The nodes that exist, in the order in which they are looked at.
    #[must_use]
    pub fn order(&self) -> &[NodeIndex] {
        &self.order
    }

    #[must_use]
    pub fn node(&self, name: &str) -> Option<NodeIndex> {
        self.by_name
            .get(name)
            .copied()
            .filter(|n| self.facts(*n).is_some())
    }

    #[must_use]
    pub fn name(&self, node: NodeIndex) -> &str {
        &self.names[node as usize]
    }

    #[must_use]
    pub fn facts(&self, node: NodeIndex) -> Option<&Arc<NodeFacts>> {
        self.facts.get(node as usize)?.as_ref()
    }

    #[must_use]
    pub fn allocatable(&self, node: NodeIndex) -> &Resources {
        &self.allocatable[node as usize]
    }

    #[must_use]
    pub fn usage(&self, node: NodeIndex) -> &Usage {
        &self.usage[node as usize]
    }

    #[must_use]
    pub fn row(&self, node: NodeIndex) -> &Row {
        &self.rows[node as usize]
    }

    /// One more than the largest index of a node: the length of an array by node.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.names.len()
    }

    /// The number of a node's taint set in [`Cluster::taints`].
    #[must_use]
    pub fn taint_set(&self, node: NodeIndex) -> TaintSetId {
        self.taints_of[node as usize]
    }

    #[must_use]
    pub fn taints(&self) -> &TaintSets {
        &self.taints
    }

    #[must_use]
    pub fn labels(&self) -> &NodeLabels {
        &self.labels
    }

    /// The nodes that have an image.
    #[must_use]
    pub fn image(&self, name: &str) -> Option<&HashMap<NodeIndex, Image>> {
        self.images.get(name)
    }

    /// How many pods of a kind are on each node.
    #[must_use]
    pub fn count(&self, counted: &Counted) -> Arc<ByNode> {
        self.counts.get(counted, || {
            self.rows.iter().enumerate().flat_map(|(node, row)| {
                row.pods
                    .iter()
                    .map(move |p| (index(node), &**p, self.namespace_labels(p.namespace())))
            })
        })
    }

    /// Each distinct term that placed pods have, with the number of such pods by node.
    pub fn terms(
        &self,
    ) -> impl Iterator<Item = (Wish, &crate::pod::Term, &HashMap<NodeIndex, u32>)> {
        self.terms.iter()
    }

    /// Whether any placed pod keeps others away.
    #[must_use]
    pub fn has_apart_terms(&self) -> bool {
        self.terms.has_apart()
    }

    /// What the services and the controller of a pod select; everything if it has none.
    #[must_use]
    pub fn workload_selector(&self, pod: &PodInfo) -> Selector {
        self.workloads.selector(pod)
    }

    /// Storage.
    #[must_use]
    pub fn volumes(&self) -> &Volumes {
        &self.volumes
    }

    pub fn volumes_mut(&mut self) -> &mut Volumes {
        &mut self.volumes
    }

    /// Disruption budgets, and preemptions that are under way.
    #[must_use]
    pub fn disruption(&self) -> &Disruption {
        &self.disruption
    }

    pub fn disruption_mut(&mut self) -> &mut Disruption {
        &mut self.disruption
    }

    #[must_use]
    pub fn namespace_labels(&self, namespace: &str) -> &Labels {
        self.namespaces.get(namespace).unwrap_or(&self.no_labels)
    }

    /// Whether a pod is assumed to be bound soon.
    #[must_use]
    pub fn is_assumed(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|p| p.assumed)
    }

    /// A placed pod.
    #[must_use]
    pub fn placed(&self, uid: &str) -> Option<(&Arc<PodInfo>, NodeIndex)> {
        let placed = self.pods.get(uid)?;
        let pod = self.rows[placed.node as usize]
            .pods
            .iter()
            .find(|p| *p.uid == *uid)?;
        Some((pod, placed.node))
    }

    /// How many pods have a place, and how many of them are assumed.
    #[must_use]
    pub fn pod_counts(&self) -> (usize, usize) {
        (
            self.pods.len(),
            self.pods.values().filter(|p| p.assumed).count(),
        )
    }
}

/// Nodes and namespaces.
impl Cluster {
    /// Takes over a node's new state.
    pub fn set_node(&mut self, node: &Arc<Node>) {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let at = self.slot(name);
        let new = NodeFacts {
            node: Arc::clone(node),
            name: Arc::clone(&self.names[at as usize]),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            unschedulable: node
                .spec
                .as_ref()
                .and_then(|s| s.unschedulable)
                .unwrap_or(false),
            zone: zones::zone_key(node),
        };
        self.replace(at, Some(new));
        let status = node.status.as_ref();
        self.allocatable[at as usize] = status
            .and_then(|s| s.allocatable.as_ref())
            .map(Resources::of)
            .unwrap_or_default();
        let taints = self.taints.take(taints::taints_of(node));
        self.taints
            .release(std::mem::replace(&mut self.taints_of[at as usize], taints));
        for image in status.and_then(|s| s.images.as_ref()).into_iter().flatten() {
            for name in image.names.iter().flatten() {
                let size = image.size_bytes.unwrap_or(0);
                self.images
                    .entry(name.clone())
                    .or_default()
                    .insert(at, Image { size });
            }
        }
    }

    /// Forgets a node. Pods on it keep their places until they are removed themselves.
    pub fn remove_node(&mut self, name: &str) {
        let Some(at) = self.node(name) else {
            return;
        };
        self.replace(at, None);
        self.allocatable[at as usize] = Resources::default();
        self.taints.release(std::mem::replace(
            &mut self.taints_of[at as usize],
            TaintSets::NONE,
        ));
        let _ = self.taints.take(Vec::new());
        self.retire(at);
    }

    /// Changes what is known of a node, labels, zone and images included.
    fn replace(&mut self, at: NodeIndex, new: Option<NodeFacts>) {
        let old = std::mem::replace(&mut self.facts[at as usize], new.map(Arc::new));
        let new = self.facts[at as usize].as_ref();
        let none = &self.no_labels;
        let old_labels = old.as_ref().map_or(none, |f| &f.labels);
        self.labels
            .update(at, old_labels, new.map_or(none, |f| &f.labels));
        for image in old.iter().flat_map(|f| images_of(&f.node)) {
            if let Some(nodes) = self.images.get_mut(image) {
                nodes.remove(&at);
                if nodes.is_empty() {
                    self.images.remove(image);
                }
            }
        }
        let (was, is) = (old.as_ref().map(|f| &f.zone), new.map(|f| &f.zone));
        if was != is {
            if let Some(zone) = was {
                self.zones.remove(zone, at);
            }
            if let Some(zone) = is {
                self.zones.add(zone, at);
            }
            self.order = self.zones.list();
        }
    }

    fn slot(&mut self, name: &str) -> NodeIndex {
        if let Some(at) = self.by_name.get(name) {
            return *at;
        }
        let name: Arc<str> = name.into();
        let at = self.free.pop().unwrap_or_else(|| {
            self.names.push(Arc::clone(&name));
            self.facts.push(None);
            self.allocatable.push(Resources::default());
            self.usage.push(Usage::default());
            self.rows.push(Row::default());
            let none = self.taints.take(Vec::new());
            self.taints_of.push(none);
            index(self.names.len() - 1)
        });
        self.names[at as usize] = Arc::clone(&name);
        self.by_name.insert(name, at);
        at
    }

    /// Frees an index that neither a node nor a pod uses.
    fn retire(&mut self, at: NodeIndex) {
        let slot = at as usize;
        if self.facts[slot].is_none() && self.rows[slot].pods.is_empty() {
            self.by_name.remove(&self.names[slot]);
            self.rows[slot] = Row::default();
            self.usage[slot] = Usage::default();
            self.free.push(at);
        }
    }

    /// Takes over a namespace's labels; none forgets it.
    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) {
        if self.namespaces.get(name) == labels.as_ref() {
            return;
        }
        match labels {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels),
            None => self.namespaces.remove(name),
        };
        self.counts.namespace_changed();
    }
}

/// Services and workloads.
impl Cluster {
    /// Takes over what a service selects; none forgets it.
    pub fn set_service(&mut self, namespace: &str, name: &str, selector: Option<Labels>) {
        self.workloads.set_service(namespace, name, selector);
    }

    /// Takes over what a workload selects, by `namespace/name`; none forgets it.
    pub fn set_workload(&mut self, kind: Workload, key: &str, selector: Option<Selector>) {
        self.workloads.set(kind, key, selector);
    }
}

/// Pods.
impl Cluster {
    /// Gives a pod the place that it will be bound to. Nothing happens if it has a place already.
    ///
    /// Says whether it was given.
    pub fn assume(&mut self, pod: &Arc<PodInfo>, node: NodeIndex) -> bool {
        if self.pods.contains_key(&pod.uid) {
            return false;
        }
        self.place(pod, node, true);
        true
    }

    /// Takes the place of an assumed pod back. Says whether it had one.
    pub fn forget(&mut self, uid: &str) -> bool {
        self.is_assumed(uid) && self.remove_pod(uid).is_some()
    }

    /// Takes over the state of a pod that is bound.
    pub fn set_pod(&mut self, pod: &Arc<PodInfo>) {
        self.remove_pod(&pod.uid);
        let node = self.slot(pod.node_name());
        self.place(pod, node, false);
    }

    /// Removes a pod, bound or assumed.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let placed = self.pods.remove(uid)?;
        let at = placed.node as usize;
        let pod = self.rows[at].remove(uid)?;
        self.usage[at].add(&pod, -1);
        self.count_pod(&pod, placed.node, false);
        self.retire(placed.node);
        Some(pod)
    }

    fn place(&mut self, pod: &Arc<PodInfo>, node: NodeIndex, assumed: bool) {
        let at = node as usize;
        self.pods
            .insert(Arc::clone(&pod.uid), Placed { node, assumed });
        self.rows[at].add(pod);
        self.usage[at].add(pod, 1);
        self.count_pod(pod, node, true);
    }

    fn count_pod(&mut self, pod: &PodInfo, node: NodeIndex, plus: bool) {
        let labels = self
            .namespaces
            .get(pod.namespace())
            .unwrap_or(&self.no_labels);
        self.counts.change(node, pod, labels, plus);
        self.terms.change(node, pod, plus);
        self.volumes.count(pod, plus);
    }
}

fn images_of(node: &Node) -> impl Iterator<Item = &String> {
    let images = node
        .status
        .iter()
        .filter_map(|s| s.images.as_ref())
        .flatten();
    images.flat_map(|i| i.names.iter().flatten())
}

#[cfg(test)]
mod tests;
