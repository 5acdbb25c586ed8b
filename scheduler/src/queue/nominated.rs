//! Pods that were cleared to come to a node, and for whom room is kept there.

use std::collections::HashMap;
use std::sync::Arc;

use crate::pod::PodInfo;

/// Nominated pods by node.
#[derive(Default, Debug)]
pub struct Nominated {
    by_node: HashMap<String, Vec<Arc<PodInfo>>>,
    node_of: HashMap<Arc<str>, String>,
}

impl Nominated {
    /// The pods that were cleared to come to a node.
    #[must_use]
    pub fn on(&self, node: &str) -> &[Arc<PodInfo>] {
        self.by_node.get(node).map_or(&[], Vec::as_slice)
    }

    /// Whether there is none at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.node_of.is_empty()
    }

    /// The node that was cleared for a pod, whether its status says so yet or not; empty if none.
    #[must_use]
    pub fn node_of<'a>(&'a self, pod: &'a PodInfo) -> &'a str {
        let noted = self.node_of.get(&pod.uid).map(String::as_str);
        noted.unwrap_or_else(|| pod.nominated_node())
    }

    /// Notes that room is kept on a node.
    pub fn add(&mut self, pod: &Arc<PodInfo>, node: &str) {
        self.remove(&pod.uid);
        if !node.is_empty() {
            self.by_node
                .entry(node.to_owned())
                .or_default()
                .push(Arc::clone(pod));
            self.node_of.insert(Arc::clone(&pod.uid), node.to_owned());
        }
    }

    /// Takes a pod's new state over. A node that its status does not name yet stays noted; one that its
    /// status names no more does not.
    pub(super) fn update(&mut self, old: &PodInfo, pod: &Arc<PodInfo>) {
        let silent = old.nominated_node().is_empty() && pod.nominated_node().is_empty();
        let node = match self.node_of.get(&pod.uid) {
            Some(noted) if silent => noted.clone(),
            _ => pod.nominated_node().to_owned(),
        };
        self.add(pod, &node);
    }

    pub fn remove(&mut self, uid: &str) {
        let Some(node) = self.node_of.remove(uid) else {
            return;
        };
        if let Some(pods) = self.by_node.get_mut(&node) {
            pods.retain(|p| *p.uid != *uid);
            if pods.is_empty() {
                self.by_node.remove(&node);
            }
        }
    }
}
