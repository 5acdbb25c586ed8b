//! `InterPodAffinity`: pods that want to be with others, or apart from them.
//!
//! The incoming pod's terms are counts of pods by node, summed by domain; the terms of placed pods are
//! kept once each. Source: `pkg/scheduler/framework/plugins/interpodaffinity`.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use crate::cluster::labels::ValueId;
use crate::cluster::{Cluster, Counted, NodeIndex, Wish, terms};
use crate::framework::{
    Action, Change, Cycle, Event, Interest, MAX_SCORE, Plugin, Prepared, Rejection, Resource,
    State, Verdict, own, own_mut,
};
use crate::pod::{PodInfo, Term};

/// Affinity between pods.
pub(super) struct PodAffinity {
    /// What a required term of a placed pod counts for when nodes are scored.
    pub(super) hard_weight: i64,
    /// Whether the preferences of placed pods count.
    pub(super) ignore_placed: bool,
}

/// A number by domain: topology key and value.
type Sums = HashMap<(Arc<str>, ValueId), i64>;

fn value(cluster: &Cluster, key: &str, node: NodeIndex) -> Option<ValueId> {
    cluster.labels().column(key)?.value(node)
}

fn add(sums: &mut Sums, cluster: &Cluster, key: &Arc<str>, node: NodeIndex, amount: i64) {
    // Pods may be on nodes that are not known yet.
    if let Some(value) = value(cluster, key, node) {
        *sums.entry((Arc::clone(key), value)).or_default() += amount;
    }
}

fn matches(cluster: &Cluster, term: &Term, pod: &PodInfo) -> bool {
    pod.matched_by(&term.matcher, cluster.namespace_labels(pod.namespace()))
}

fn matches_all(cluster: &Cluster, terms: &[Arc<Term>], pod: &PodInfo) -> bool {
    !terms.is_empty() && terms.iter().all(|t| matches(cluster, t, pod))
}

/// What is read for each node.
#[derive(Clone, Default)]
struct Hard {
    /// Pods that meet all required terms, by the domains of each term.
    with: Sums,
    /// Pods that meet a term of being apart.
    apart: Sums,
    /// Pods whose own terms keep the incoming one away.
    kept_away: Sums,
}

fn positive(sums: &Sums, cluster: &Cluster, term: &Term, node: NodeIndex) -> Option<bool> {
    let value = value(cluster, &term.topology_key, node)?;
    Some(
        sums.get(&(Arc::clone(&term.topology_key), value))
            .is_some_and(|n| *n > 0),
    )
}

impl PodAffinity {
    fn weight(&self, wish: Wish) -> i64 {
        match wish {
            Wish::Prefer(weight) => weight.into(),
            Wish::With => self.hard_weight,
            Wish::Apart => 0,
        }
    }
}

impl Plugin for PodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn interests(&self) -> &'static [Interest] {
        const {
            &[
                Interest::new(
                    Resource::AssignedPod,
                    Action::ADD.or(Action::POD_LABEL).or(Action::DELETE),
                ),
                Interest::new(Resource::TargetPod, Action::POD_LABEL),
                Interest::new(Resource::Node, Action::ADD.or(Action::NODE_LABEL)),
            ]
        }
    }

    fn hint(&self, cluster: &Cluster, pod: &PodInfo, event: Event, change: &Change) -> bool {
        let (with, apart) = (&pod.affinity.required, &pod.affinity.required_anti);
        let all = |p: &PodInfo| matches_all(cluster, with, p);
        let any = |terms: &[Arc<Term>], p: &PodInfo| terms.iter().any(|t| matches(cluster, t, p));
        match change {
            Change::Pod { .. } if event.resource == Resource::TargetPod => true,
            Change::Pod {
                old: Some(old),
                new: Some(new),
            } => (!all(old) && all(new)) || (any(apart, old) && !any(apart, new)),
            Change::Pod {
                old: None,
                new: Some(new),
            } => all(new),
            Change::Pod {
                old: Some(old),
                new: None,
            } => any(apart, old) || any(&old.affinity.required_anti, pod),
            Change::Node {
                old,
                new: Some(new),
            } => {
                let label = |n: &Node, t: &Term| {
                    n.metadata
                        .labels
                        .as_ref()
                        .and_then(|l| l.get(&*t.topology_key))
                        .cloned()
                };
                let Some(old) = old else {
                    return !apart.is_empty() || with.iter().any(|t| label(new, t).is_some());
                };
                with.iter()
                    .any(|t| label(new, t).is_some() && label(old, t) != label(new, t))
                    || apart
                        .iter()
                        .any(|t| label(old, t).is_some() && label(old, t) != label(new, t))
            }
            _ => true,
        }
    }

    fn pre_filter(&self, cycle: &Cycle<'_>) -> Prepared {
        let (cluster, pod) = (cycle.cluster, cycle.pod);
        let (with, apart) = (&pod.affinity.required, &pod.affinity.required_anti);
        let mut hard = Hard::default();
        if cluster.has_apart_terms() {
            for (wish, term, nodes) in cluster.terms() {
                if wish == Wish::Apart && matches(cluster, term, pod) {
                    for (node, pods) in nodes {
                        add(
                            &mut hard.kept_away,
                            cluster,
                            &term.topology_key,
                            *node,
                            (*pods).into(),
                        );
                    }
                }
            }
        }
        if hard.kept_away.is_empty() && with.is_empty() && apart.is_empty() {
            return Prepared::Skip;
        }
        let count = |terms: &[Arc<Term>], sums: &mut Sums| {
            let matchers = terms.iter().map(|t| t.matcher.clone()).collect();
            let by_node = cluster.count(&Counted {
                matchers,
                terminating: true,
            });
            for (node, pods) in by_node.nodes() {
                for term in terms {
                    add(sums, cluster, &term.topology_key, node, pods.into());
                }
            }
        };
        if !with.is_empty() {
            count(with, &mut hard.with);
        }
        for term in apart {
            count(std::slice::from_ref(term), &mut hard.apart);
        }
        Prepared::with(hard)
    }

    fn imagine(
        &self,
        cycle: &Cycle<'_>,
        state: &mut dyn State,
        other: &PodInfo,
        node: NodeIndex,
        added: bool,
    ) {
        let hard = own_mut::<Hard>(state);
        let (cluster, own) = (cycle.cluster, &cycle.pod.affinity);
        let amount = if added { 1 } else { -1 };
        for term in other
            .affinity
            .required_anti
            .iter()
            .filter(|t| matches(cluster, t, cycle.pod))
        {
            add(
                &mut hard.kept_away,
                cluster,
                &term.topology_key,
                node,
                amount,
            );
        }
        if matches_all(cluster, &own.required, other) {
            for term in &own.required {
                add(&mut hard.with, cluster, &term.topology_key, node, amount);
            }
        }
        for term in own
            .required_anti
            .iter()
            .filter(|t| matches(cluster, t, other))
        {
            add(&mut hard.apart, cluster, &term.topology_key, node, amount);
        }
    }

    fn filter(&self, cycle: &Cycle<'_>, state: &dyn State, node: NodeIndex) -> Verdict {
        let hard = own::<Hard>(state);
        let (cluster, own) = (cycle.cluster, &cycle.pod.affinity);
        let found: Option<Vec<bool>> = own
            .required
            .iter()
            .map(|t| positive(&hard.with, cluster, t, node))
            .collect();
        // The first of a group that wants to be together may come where nobody is yet.
        let first = || {
            hard.with.values().all(|n| *n <= 0) && matches_all(cluster, &own.required, cycle.pod)
        };
        if !found.is_some_and(|all| all.iter().all(|yes| *yes) || first()) {
            return Err(Rejection::unresolvable(
                "node(s) didn't match pod affinity rules",
            ));
        }
        if own
            .required_anti
            .iter()
            .any(|t| positive(&hard.apart, cluster, t, node) == Some(true))
        {
            return Err(Rejection::unschedulable(
                "node(s) didn't match pod anti-affinity rules",
            ));
        }
        let kept_away = |(key, at): &(Arc<str>, ValueId)| value(cluster, key, node) == Some(*at);
        if hard
            .kept_away
            .iter()
            .any(|(domain, pods)| *pods > 0 && kept_away(domain))
        {
            return Err(Rejection::unschedulable(
                "node(s) didn't satisfy existing pods anti-affinity rules",
            ));
        }
        Ok(())
    }

    fn pre_score(&self, cycle: &Cycle<'_>, _nodes: &[NodeIndex]) -> Prepared {
        let (cluster, pod) = (cycle.cluster, cycle.pod);
        let own = &pod.affinity;
        let wants = !own.preferred.is_empty() || !own.preferred_anti.is_empty();
        if self.ignore_placed && !wants {
            return Prepared::Skip;
        }
        let mut sums = Sums::new();
        let weighted = terms::wishes(pod).filter_map(|(wish, term)| match wish {
            Wish::Prefer(weight) => Some((i64::from(weight), term)),
            _ => None,
        });
        for (weight, term) in weighted {
            let counted = Counted {
                matchers: vec![term.matcher.clone()],
                terminating: true,
            };
            for (node, pods) in cluster.count(&counted).nodes() {
                add(
                    &mut sums,
                    cluster,
                    &term.topology_key,
                    node,
                    weight * i64::from(pods),
                );
            }
        }
        for (wish, term, nodes) in cluster.terms() {
            let weight = self.weight(wish);
            if weight != 0 && matches(cluster, term, pod) {
                for (node, pods) in nodes {
                    add(
                        &mut sums,
                        cluster,
                        &term.topology_key,
                        *node,
                        weight * i64::from(*pods),
                    );
                }
            }
        }
        if sums.is_empty() {
            Prepared::Skip
        } else {
            Prepared::with(sums)
        }
    }

    fn score(&self, cycle: &Cycle<'_>, state: &dyn State, nodes: &[NodeIndex], scores: &mut [i64]) {
        let sums = own::<Sums>(state);
        let mut keys: Vec<&Arc<str>> = sums.keys().map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            for (node, score) in nodes.iter().zip(&mut *scores) {
                let value = value(cycle.cluster, key, *node);
                *score += value
                    .and_then(|v| sums.get(&(Arc::clone(key), v)))
                    .copied()
                    .unwrap_or(0);
            }
        }
    }

    /// From the lowest to the highest; all equal is 0.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "upstream divides floating-point numbers"
    )]
    fn normalize(&self, _state: &dyn State, _nodes: &[NodeIndex], scores: &mut [i64]) {
        let (least, most) = (
            scores.iter().copied().min().unwrap_or(0),
            scores.iter().copied().max().unwrap_or(0),
        );
        for score in scores {
            *score = if most > least {
                (MAX_SCORE as f64 * ((*score - least) as f64 / (most - least) as f64)) as i64
            } else {
                0
            };
        }
    }
}

#[cfg(test)]
mod tests;
