//! Why a pod fits no node, and how upstream words it.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use super::{Code, Rejection};
use crate::cluster::{Cluster, NodeIndex};

/// What each node and plugin said.
#[derive(Clone, Default, Debug)]
pub struct Diagnosis {
    /// Nodes that were looked at.
    pub nodes: Vec<(NodeIndex, Rejection)>,
    /// What holds for all other nodes, if anything.
    pub absent: Option<Rejection>,
    /// The word of the plugin that ruled all nodes out beforehand.
    pub pre_filter: String,
    /// The word of the plugins that tried to make room.
    pub post_filter: String,
    /// Plugins that said no.
    pub rejected_by: Vec<&'static str>,
    /// Those of them that wait for somebody.
    pub pending: Vec<&'static str>,
}

impl Diagnosis {
    /// How a node was rejected.
    #[must_use]
    pub fn code(&self, node: NodeIndex) -> Code {
        let said = self.nodes.iter().find(|(n, _)| *n == node);
        let said = said.map(|(_, r)| r).or(self.absent.as_ref());
        said.map_or(Code::Unresolvable, |r| r.code)
    }

    /// The nodes on which something else would have to be gone first.
    #[must_use]
    pub fn unschedulable(&self, cluster: &Cluster) -> Vec<NodeIndex> {
        let said = self.nodes.iter();
        let mut all: Vec<_> = said
            .filter(|(_, r)| r.code == Code::Unschedulable)
            .map(|(n, _)| *n)
            .collect();
        let absent = self.absent.as_ref().map(|r| r.code);
        if absent == Some(Code::Unschedulable) {
            let known: HashSet<_> = self.nodes.iter().map(|(n, _)| *n).collect();
            all.extend(cluster.order().iter().filter(|n| !known.contains(n)));
        }
        all
    }

    /// Notes who said no.
    pub fn blame(&mut self, plugin: &'static str, code: Code) {
        if code == Code::Error {
            return;
        }
        note(&mut self.rejected_by, plugin);
        if code == Code::Pending {
            note(&mut self.pending, plugin);
        }
    }
}

fn note(list: &mut Vec<&'static str>, plugin: &'static str) {
    if !list.contains(&plugin) {
        list.push(plugin);
    }
}

/// A pod fits no node.
#[derive(Clone, Debug)]
pub struct FitError {
    /// How many nodes there are.
    pub nodes: usize,
    pub diagnosis: Diagnosis,
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable. <what preemption says>`
impl fmt::Display for FitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = &self.diagnosis;
        write!(f, "0/{} nodes are available:", self.nodes)?;
        if d.pre_filter.is_empty() {
            self.write_reasons(f)?;
        } else {
            write!(f, " {}.", d.pre_filter)?;
        }
        if !d.post_filter.is_empty() {
            write!(f, " {}", d.post_filter)?;
        }
        Ok(())
    }
}

impl FitError {
    fn write_reasons(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = &self.diagnosis;
        let mut counts = BTreeMap::<&str, usize>::new();
        for (_, rejection) in &d.nodes {
            for reason in rejection.reasons.as_slice() {
                *counts.entry(reason).or_default() += 1;
            }
        }
        let others = self.nodes.saturating_sub(d.nodes.len());
        if let (Some(absent), 1..) = (&d.absent, others) {
            for reason in absent.reasons.as_slice() {
                *counts.entry(reason).or_default() += others;
            }
        }
        // Sorted as texts, counts included.
        let mut reasons: Vec<String> = counts.iter().map(|(r, n)| format!("{n} {r}")).collect();
        reasons.sort_unstable();
        if !reasons.is_empty() {
            write!(f, " {}.", reasons.join(", "))?;
        }
        Ok(())
    }
}

impl std::error::Error for FitError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_and_sorted_as_texts() {
        let mut d = Diagnosis::default();
        for node in 0..12 {
            d.nodes
                .push((node, Rejection::unschedulable("Insufficient cpu")));
        }
        d.nodes
            .push((12, Rejection::unresolvable("node(s) were unschedulable")));
        d.absent = Some(Rejection::unresolvable("other"));
        d.post_filter = "preemption: none.".to_owned();
        let error = FitError {
            nodes: 15,
            diagnosis: d,
        };
        assert_eq!(
            error.to_string(),
            "0/15 nodes are available: 1 node(s) were unschedulable, 12 Insufficient cpu, 2 other. preemption: none."
        );
    }

    #[test]
    fn a_word_beforehand_stands_for_all_nodes() {
        let diagnosis = Diagnosis {
            pre_filter: "pod affinity terms conflict".to_owned(),
            ..Diagnosis::default()
        };
        let error = FitError {
            nodes: 2,
            diagnosis,
        };
        assert_eq!(
            error.to_string(),
            "0/2 nodes are available: pod affinity terms conflict."
        );
    }
}
