//! The terms that placed pods have about others, each kept once with the nodes of the pods that have it.
//!
//! An incoming pod is held against each distinct term, not against each pod.

use std::collections::HashMap;
use std::sync::Arc;

use super::NodeIndex;
use crate::pod::{PodInfo, Term};

/// What a term of a placed pod wants of pods that come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Wish {
    /// They must not come into the domain.
    Apart,
    /// The pod itself must be with them.
    With,
    /// So much better (or worse, below zero) if they come.
    Prefer(i32),
}

#[derive(Default)]
pub(super) struct Terms {
    all: HashMap<(Wish, Arc<Term>), HashMap<NodeIndex, u32>>,
    /// How many of them are [`Wish::Apart`].
    apart: usize,
}

impl Terms {
    /// Each distinct term, with the number of pods that have it by node.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Wish, &Term, &HashMap<NodeIndex, u32>)> {
        self.all
            .iter()
            .map(|((wish, term), nodes)| (*wish, &**term, nodes))
    }

    pub(super) fn has_apart(&self) -> bool {
        self.apart > 0
    }

    pub(super) fn change(&mut self, node: NodeIndex, pod: &PodInfo, plus: bool) {
        for (wish, term) in wishes(pod) {
            self.change_one((wish, Arc::clone(term)), node, plus);
        }
    }

    fn change_one(&mut self, key: (Wish, Arc<Term>), node: NodeIndex, plus: bool) {
        let apart = usize::from(key.0 == Wish::Apart);
        if plus {
            let known = self.all.len();
            *self.all.entry(key).or_default().entry(node).or_default() += 1;
            self.apart += apart * (self.all.len() - known);
            return;
        }
        let Some(nodes) = self.all.get_mut(&key) else {
            return;
        };
        if let Some(pods) = nodes.get_mut(&node) {
            *pods -= 1;
            if *pods == 0 {
                nodes.remove(&node);
            }
        }
        if nodes.is_empty() {
            self.all.remove(&key);
            self.apart -= apart;
        }
    }
}

/// What a pod wants of others.
pub(crate) fn wishes(pod: &PodInfo) -> impl Iterator<Item = (Wish, &Arc<Term>)> {
    let a = &pod.affinity;
    let apart = a.required_anti.iter().map(|t| (Wish::Apart, t));
    let with = a.required.iter().map(|t| (Wish::With, t));
    let prefer = a.preferred.iter().map(|(w, t)| (Wish::Prefer(*w), t));
    let avoid = a.preferred_anti.iter().map(|(w, t)| (Wish::Prefer(-*w), t));
    apart.chain(with).chain(prefer).chain(avoid)
}
