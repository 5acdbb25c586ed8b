//! How many pods that a matcher speaks of are on each node, kept while pods come and go.
//!
//! A count is made by one walk over all pods when it is first asked for; from then on each pod that
//! comes or goes changes it. Pods of one workload ask for the same counts, so there are few of them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::NodeIndex;
use crate::pod::{Matcher, PodInfo};
use crate::selector::Labels;

/// Counts that are kept; beyond it, the one that was not asked for the longest goes.
const KEPT: usize = 1024;

/// Which pods are counted.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Counted {
    /// All of them have to speak of the pod.
    pub matchers: Vec<Matcher>,
    /// Whether pods that are being deleted count.
    pub terminating: bool,
}

impl Counted {
    fn counts(&self, pod: &PodInfo, namespace_labels: &Labels) -> bool {
        (self.terminating || !pod.terminating)
            && self
                .matchers
                .iter()
                .all(|m| pod.matched_by(m, namespace_labels))
    }
}

/// Pods by node.
#[derive(Clone, Default, Debug)]
pub struct ByNode {
    pods: Vec<u32>,
    total: u64,
}

impl ByNode {
    #[must_use]
    pub fn on(&self, node: NodeIndex) -> u32 {
        self.pods.get(node as usize).copied().unwrap_or(0)
    }

    /// On all nodes, also those that are not known yet.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Nodes that have such pods.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeIndex, u32)> {
        self.pods
            .iter()
            .enumerate()
            .filter(|(_, n)| **n > 0)
            .map(|(i, n)| (super::index(i), *n))
    }

    fn change(&mut self, node: NodeIndex, plus: bool) {
        let at = node as usize;
        if self.pods.len() <= at {
            self.pods.resize(at + 1, 0);
        }
        if plus {
            self.pods[at] += 1;
            self.total += 1;
        } else {
            self.pods[at] = self.pods[at].saturating_sub(1);
            self.total = self.total.saturating_sub(1);
        }
    }
}

struct Kept {
    by_node: Arc<ByNode>,
    /// When it was last asked for.
    asked: u64,
}

/// All counts that were asked for.
#[derive(Default)]
pub(super) struct Counts {
    // Behind a cell, because asking is no change that decisions can see.
    kept: RefCell<HashMap<Counted, Kept>>,
    clock: std::cell::Cell<u64>,
}

impl Counts {
    /// The count of some pods; `all` walks the pods that are on nodes, with their namespaces' labels.
    pub(super) fn get<'a, I>(&self, counted: &Counted, all: impl FnOnce() -> I) -> Arc<ByNode>
    where
        I: Iterator<Item = (NodeIndex, &'a PodInfo, &'a Labels)>,
    {
        let now = self.clock.get() + 1;
        self.clock.set(now);
        let mut kept = self.kept.borrow_mut();
        if let Some(known) = kept.get_mut(counted) {
            known.asked = now;
            return Arc::clone(&known.by_node);
        }
        let mut by_node = ByNode::default();
        for (node, pod, labels) in all() {
            if counted.counts(pod, labels) {
                by_node.change(node, true);
            }
        }
        if kept.len() >= KEPT
            && let Some(oldest) = kept
                .iter()
                .min_by_key(|(_, k)| k.asked)
                .map(|(c, _)| c.clone())
        {
            kept.remove(&oldest);
        }
        let by_node = Arc::new(by_node);
        kept.insert(
            counted.clone(),
            Kept {
                by_node: Arc::clone(&by_node),
                asked: now,
            },
        );
        by_node
    }

    /// A pod came to a node, or went.
    pub(super) fn change(&mut self, node: NodeIndex, pod: &PodInfo, labels: &Labels, plus: bool) {
        for (counted, kept) in self.kept.get_mut() {
            if counted.counts(pod, labels) {
                Arc::make_mut(&mut kept.by_node).change(node, plus);
            }
        }
    }

    /// A namespace's labels changed: what depends on such labels is counted anew.
    pub(super) fn namespace_changed(&mut self) {
        self.kept
            .get_mut()
            .retain(|c, _| c.matchers.iter().all(|m| m.namespace_selector.is_nothing()));
    }
}
