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

    /// The node of a pod.
    #[must_use]
    pub fn node_of(&self, uid: &str) -> Option<&str> {
        self.node_of.get(uid).map(String::as_str)
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

    /// Takes a pod's new state over. What its status does not say yet stays noted.
    pub(super) fn update(&mut self, pod: &Arc<PodInfo>) {
        let noted = self.node_of.get(&pod.uid).cloned().unwrap_or_default();
        let node = if pod.nominated_node().is_empty() {
            noted
        } else {
            pod.nominated_node().to_owned()
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
