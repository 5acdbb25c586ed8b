//! `PodTopologySpread`: pods of one kind are spread over domains such as zones and nodes.
//!
//! Pods are counted by node as they come and go; a cycle sums them by domain. Source:
//! `pkg/scheduler/framework/plugins/podtopologyspread`.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, TopologySpreadConstraint};

use super::node_affinity::{Met, Required};
use crate::cluster::taints::taints_of;
use crate::cluster::{ByNode, Cluster, Counted, NodeIndex};
use crate::config::SpreadArgs;
use crate::framework::{
    Action, Change, Cycle, Event, Interest, MAX_SCORE, Plugin, Prepared, Rejection, Resource,
    State, Verdict, own, own_mut,
};
use crate::pod::{Matcher, PodInfo};
use crate::selector::{Labels, Selector};

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Spreading, by the constraints of pods or by those of the profile.
pub(super) struct TopologySpread {
    defaults: Vec<TopologySpreadConstraint>,
    /// The defaults are the built-in ones, which nodes without zones do not fail.
    system: bool,
    compare: bool,
}

impl TopologySpread {
    pub(super) fn new(args: &SpreadArgs, compare: bool) -> Self {
        let soft = |key: &str, max_skew| TopologySpreadConstraint {
            topology_key: key.to_owned(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            max_skew,
            ..TopologySpreadConstraint::default()
        };
        let system = args.defaulting_type == "System";
        let defaults = if system {
            vec![soft(HOSTNAME, 3), soft(ZONE, 5)]
        } else {
            args.default_constraints.clone()
        };
        Self {
            defaults,
            system,
            compare,
        }
    }

    /// The constraints of a pod with this action, its own or the defaults.
    fn constraints(&self, cluster: &Cluster, pod: &PodInfo, action: &str) -> Vec<Constraint> {
        let own = pod
            .spec()
            .topology_spread_constraints
            .as_deref()
            .unwrap_or_default();
        let wanted = |c: &&TopologySpreadConstraint| c.when_unsatisfiable == action;
        if !own.is_empty() {
            return own
                .iter()
                .filter(wanted)
                .map(|c| Constraint::of(c, &pod.labels))
                .collect();
        }
        let defaults: Vec<_> = self.defaults.iter().filter(wanted).collect();
        if defaults.is_empty() {
            return Vec::new();
        }
        let selector = cluster.workload_selector(pod);
        if selector.is_everything() {
            return Vec::new();
        }
        let one = |c: &&TopologySpreadConstraint| Constraint {
            selector: selector.clone(),
            ..Constraint::of(c, &pod.labels)
        };
        defaults.iter().map(one).collect()
    }

    /// Which nodes count for a constraint.
    fn eligible(&self, cycle: &Cycle<'_>, all: &[Constraint], topologies: bool) -> Vec<Vec<bool>> {
        let cluster = cycle.cluster;
        let affinity = all
            .iter()
            .any(|c| c.honors_affinity)
            .then(|| Required::of(cycle.pod).judge(cluster));
        let tolerations = cycle.pod.tolerations();
        let repels = |set: &[crate::cluster::TaintInfo]| {
            set.iter()
                .any(|t| t.repels() && !t.tolerated(tolerations, self.compare))
        };
        let repelled = cluster.taints().judge(repels);
        let columns: Vec<_> = all
            .iter()
            .map(|c| cluster.labels().column(&c.key))
            .collect();
        let mut eligible = vec![vec![false; cluster.slots()]; all.len()];
        for node in cluster.order().iter().copied() {
            if topologies
                && columns
                    .iter()
                    .any(|c| c.and_then(|c| c.value(node)).is_none())
            {
                continue;
            }
            for (c, eligible) in all.iter().zip(&mut eligible) {
                let met = |met: &Met| met.by(node);
                eligible[node as usize] = (!c.honors_affinity || affinity.as_ref().is_none_or(met))
                    && (!c.honors_taints || !repelled[cluster.taint_set(node) as usize]);
            }
        }
        eligible
    }
}

/// A constraint, read.
#[derive(Clone, Debug)]
struct Constraint {
    key: String,
    max_skew: i64,
    min_domains: usize,
    selector: Selector,
    honors_affinity: bool,
    honors_taints: bool,
}

impl Constraint {
    fn of(c: &TopologySpreadConstraint, labels: &Labels) -> Self {
        let mut selector = Selector::of(c.label_selector.as_ref());
        let keys = c.match_label_keys.iter().flatten();
        let same: Vec<_> = keys.filter_map(|k| labels.get_key_value(k)).collect();
        if !same.is_empty() {
            selector = selector.and(&Selector::of_labels(same));
        }
        Self {
            key: c.topology_key.clone(),
            max_skew: c.max_skew.into(),
            min_domains: c
                .min_domains
                .and_then(|n| usize::try_from(n).ok())
                .unwrap_or(1),
            selector,
            honors_affinity: c.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: c.node_taints_policy.as_deref() == Some("Honor"),
        }
    }

    /// An empty selector counts no pods.
    fn count(&self, cycle: &Cycle<'_>) -> Arc<ByNode> {
        if self.selector.is_everything() {
            return Arc::default();
        }
        let matcher = Matcher::in_namespace(cycle.pod.namespace(), self.selector.clone());
        cycle.cluster.count(&Counted {
            matchers: vec![matcher],
            terminating: false,
        })
    }
}

/// Pods by domain; none where no node counts.
type Domains = Vec<Option<i64>>;

fn domains(cycle: &Cycle<'_>, c: &Constraint, count: &ByNode, eligible: &[bool]) -> Domains {
    let Some(column) = cycle.cluster.labels().column(&c.key) else {
        return Vec::new();
    };
    let mut sums = vec![None; column.size()];
    for node in cycle
        .cluster
        .order()
        .iter()
        .filter(|n| eligible[**n as usize])
    {
        if let Some(value) = column.value(*node) {
            *sums[value as usize].get_or_insert(0) += i64::from(count.on(*node));
        }
    }
    sums
}

/// What is read for each node.
#[derive(Clone)]
struct Hard {
    constraints: Vec<Constraint>,
    domains: Vec<Domains>,
    eligible: Vec<Vec<bool>>,
}

/// What scores are made of.
#[derive(Clone)]
struct Soft {
    constraints: Vec<Constraint>,
    counts: Vec<Arc<ByNode>>,
    domains: Vec<Domains>,
    weights: Vec<f64>,
    /// Nodes that lack a topology that the pod wants.
    ignored: Vec<bool>,
}

impl Plugin for TopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn interests(&self) -> &'static [Interest] {
        const {
            &[
                Interest::new(
                    Resource::AssignedPod,
                    Action::ADD.or(Action::POD_LABEL).or(Action::DELETE),
                ),
                Interest::new(
                    Resource::TargetPod,
                    Action::POD_TOLERATION.or(Action::POD_LABEL),
                ),
                Interest::new(
                    Resource::Node,
                    Action::ADD
                        .or(Action::DELETE)
                        .or(Action::NODE_LABEL)
                        .or(Action::NODE_TAINT),
                ),
            ]
        }
    }

    fn hint(&self, cluster: &Cluster, pod: &PodInfo, event: Event, change: &Change) -> bool {
        let constraints = self.constraints(cluster, pod, "DoNotSchedule");
        let selected = |p: &PodInfo| {
            constraints
                .iter()
                .map(|c| c.selector.matches(&p.labels))
                .collect::<Vec<_>>()
        };
        match change {
            Change::Pod { .. } if event.resource == Resource::TargetPod => true,
            Change::Pod {
                old: Some(old),
                new: Some(new),
            } => new.namespace() == pod.namespace() && selected(old) != selected(new),
            Change::Pod { old: Some(one), .. } | Change::Pod { new: Some(one), .. } => {
                one.namespace() == pod.namespace() && selected(one).contains(&true)
            }
            Change::Node { old, new } => node_matters(&constraints, old.as_deref(), new.as_deref()),
            _ => true,
        }
    }

    fn pre_filter(&self, cycle: &Cycle<'_>) -> Prepared {
        let constraints = self.constraints(cycle.cluster, cycle.pod, "DoNotSchedule");
        if constraints.is_empty() {
            return Prepared::Skip;
        }
        let eligible = self.eligible(cycle, &constraints, true);
        let of = |(c, e): (&Constraint, &Vec<bool>)| domains(cycle, c, &c.count(cycle), e);
        let domains = constraints.iter().zip(&eligible).map(of).collect();
        Prepared::with(Hard {
            constraints,
            domains,
            eligible,
        })
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
        if other.namespace() != cycle.pod.namespace() {
            return;
        }
        for ((c, domains), eligible) in hard
            .constraints
            .iter()
            .zip(&mut hard.domains)
            .zip(&hard.eligible)
        {
            let value = cycle
                .cluster
                .labels()
                .column(&c.key)
                .and_then(|column| column.value(node));
            if let (Some(value), true) = (
                value,
                eligible[node as usize] && c.selector.matches(&other.labels),
            ) {
                *domains[value as usize].get_or_insert(0) += if added { 1 } else { -1 };
            }
        }
    }

    fn filter(&self, cycle: &Cycle<'_>, state: &dyn State, node: NodeIndex) -> Verdict {
        let hard = own::<Hard>(state);
        for (c, domains) in hard.constraints.iter().zip(&hard.domains) {
            let column = cycle.cluster.labels().column(&c.key);
            let Some(value) = column.and_then(|column| column.value(node)) else {
                return Err(Rejection::unresolvable(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                ));
            };
            let known = domains.iter().flatten();
            let least = if known.clone().count() < c.min_domains {
                0
            } else {
                known.min().copied().unwrap_or(i64::MAX)
            };
            let own = i64::from(c.selector.matches(&cycle.pod.labels));
            let here = domains[value as usize].unwrap_or(0);
            if (here + own).saturating_sub(least) > c.max_skew {
                return Err(Rejection::unschedulable(
                    "node(s) didn't match pod topology spread constraints",
                ));
            }
        }
        Ok(())
    }

    fn pre_score(&self, cycle: &Cycle<'_>, nodes: &[NodeIndex]) -> Prepared {
        let constraints = self.constraints(cycle.cluster, cycle.pod, "ScheduleAnyway");
        if constraints.is_empty() {
            return Prepared::Skip;
        }
        let own = cycle
            .pod
            .spec()
            .topology_spread_constraints
            .as_ref()
            .is_some_and(|c| !c.is_empty());
        let strict = own || !self.system;
        let labels = cycle.cluster.labels();
        let lacks = |node: &NodeIndex| {
            strict
                && constraints.iter().any(|c| {
                    labels
                        .column(&c.key)
                        .and_then(|col| col.value(*node))
                        .is_none()
                })
        };
        let ignored: Vec<bool> = nodes.iter().map(lacks).collect();
        let counts: Vec<_> = constraints.iter().map(|c| c.count(cycle)).collect();
        let eligible = self.eligible(cycle, &constraints, strict);
        let mut all = Vec::new();
        let mut weights = Vec::new();
        for ((c, count), eligible) in constraints.iter().zip(&counts).zip(&eligible) {
            if c.key == HOSTNAME {
                weights.push(normalizing(
                    nodes.len() - ignored.iter().filter(|i| **i).count(),
                ));
                all.push(Vec::new());
                continue;
            }
            let known = labels.column(&c.key);
            let candidates = nodes.iter().zip(&ignored).filter(|(_, ignored)| !**ignored);
            let mut values: Vec<_> = candidates
                .map(|(n, _)| known.and_then(|col| col.value(*n)))
                .collect();
            values.sort_unstable();
            values.dedup();
            weights.push(normalizing(values.len()));
            all.push(domains(cycle, c, count, eligible));
        }
        Prepared::with(Soft {
            constraints,
            counts,
            domains: all,
            weights,
            ignored,
        })
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "rounded as upstream does"
    )]
    fn score(&self, cycle: &Cycle<'_>, state: &dyn State, nodes: &[NodeIndex], scores: &mut [i64]) {
        let soft = own::<Soft>(state);
        for (i, (node, score)) in nodes.iter().zip(scores).enumerate() {
            if soft.ignored[i] {
                continue;
            }
            let mut sum = 0.0;
            for (at, c) in soft.constraints.iter().enumerate() {
                let Some(value) = cycle
                    .cluster
                    .labels()
                    .column(&c.key)
                    .and_then(|col| col.value(*node))
                else {
                    continue;
                };
                let pods = if c.key == HOSTNAME {
                    i64::from(soft.counts[at].on(*node))
                } else {
                    soft.domains[at]
                        .get(value as usize)
                        .copied()
                        .flatten()
                        .unwrap_or(0)
                };
                sum += pods as f64 * soft.weights[at] + (c.max_skew - 1) as f64;
            }
            *score = f64::round(sum) as i64;
        }
    }

    /// Fewer pods are better; nodes that were ignored are worst.
    fn normalize(&self, state: &dyn State, _nodes: &[NodeIndex], scores: &mut [i64]) {
        let ignored = &own::<Soft>(state).ignored;
        let counted = || {
            scores
                .iter()
                .zip(ignored)
                .filter(|(_, ignored)| !**ignored)
                .map(|(s, _)| *s)
        };
        let (least, most) = (
            counted().min().unwrap_or(0),
            counted().max().unwrap_or(0).max(0),
        );
        for (score, ignored) in scores.iter_mut().zip(ignored) {
            *score = match (ignored, most) {
                (true, _) => 0,
                (false, 0) => MAX_SCORE,
                (false, most) => MAX_SCORE * (most + least - *score) / most,
            };
        }
    }
}

/// The more domains, the more a pod in one of them counts.
#[expect(clippy::cast_precision_loss, reason = "a number of domains")]
fn normalizing(domains: usize) -> f64 {
    ((domains + 2) as f64).ln()
}

fn node_matters(constraints: &[Constraint], old: Option<&Node>, new: Option<&Node>) -> bool {
    let none = Labels::new();
    let labels = |n: &Node| n.metadata.labels.clone().unwrap_or_else(|| none.clone());
    let values = |n: &Node| {
        constraints
            .iter()
            .map(|c| labels(n).get(&c.key).cloned())
            .collect::<Option<Vec<_>>>()
    };
    match (old, new) {
        (Some(old), Some(new)) => match (values(old), values(new)) {
            (Some(was), Some(is)) => was != is || taints_of(old) != taints_of(new),
            (was, is) => was.is_some() != is.is_some(),
        },
        (one, other) => one.or(other).is_some_and(|n| values(n).is_some()),
    }
}

#[cfg(test)]
mod tests;
