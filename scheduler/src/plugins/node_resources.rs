//! `NodeResourcesFit` and `NodeResourcesBalancedAllocation`: room for a pod, and how well it is used.
//!
//! Source: `pkg/scheduler/framework/plugins/noderesources`.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::Node;

use crate::cluster::{Cluster, NodeIndex, Usage};
use crate::framework::{
    Action, Change, Code, Cycle, Event, Interest, MAX_SCORE, Plugin, Prepared, Reasons, Rejection,
    Resource, State, Verdict, own,
};
use crate::pod::PodInfo;
use crate::resources::{self, Amounts, Resources};

mod strategy;

pub(super) use strategy::{Shape, Strategy, on_line};

/// A resource and how much it counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Weighted {
    pub(super) name: String,
    pub(super) weight: i64,
}

/// Whether a node has room for what a pod asks for.
pub(super) struct Fit {
    pub(super) ignored: Vec<String>,
    pub(super) ignored_groups: Vec<String>,
    pub(super) strategy: Strategy,
    pub(super) weights: Vec<Weighted>,
}

impl Fit {
    fn ignores(&self, name: &str) -> bool {
        let group = name.split_once('/').map_or(name, |(group, _)| group);
        resources::is_extended(name)
            && (self.ignored.iter().any(|i| i == name)
                || self.ignored_groups.iter().any(|g| g == group))
    }

    /// All that a node lacks.
    fn lacking(
        &self,
        asked: &Resources,
        has: &Resources,
        used: &Usage,
        scalars: &resources::Scalars,
    ) -> Option<Rejection> {
        let mut lacking: Vec<Cow<'static, str>> = Vec::new();
        let mut code = Code::Unschedulable;
        if used.pods + 1 > has.pods {
            lacking.push("Too many pods".into());
        }
        let (a, h, u) = (&asked.amounts, &has.amounts, &used.requested);
        let native = [
            (a.milli_cpu, h.milli_cpu, u.milli_cpu, "Insufficient cpu"),
            (a.memory, h.memory, u.memory, "Insufficient memory"),
            (
                a.ephemeral_storage,
                h.ephemeral_storage,
                u.ephemeral_storage,
                "Insufficient ephemeral-storage",
            ),
        ];
        for (asked, has, used, reason) in native {
            if asked > 0 && asked > has - used {
                lacking.push(reason.into());
                code = if asked > has {
                    Code::Unresolvable
                } else {
                    code
                };
            }
        }
        for (name, asked) in asked
            .scalars
            .iter()
            .filter(|(name, asked)| *asked > 0 && !self.ignores(name))
        {
            let all = resources::scalar(&has.scalars, name).unwrap_or(0);
            if *asked > all - resources::scalar(scalars, name).unwrap_or(0) {
                lacking.push(format!("Insufficient {name}").into());
                code = if *asked > all {
                    Code::Unresolvable
                } else {
                    code
                };
            }
        }
        match lacking.len() {
            0 => None,
            1 => lacking.pop().map(|one| Rejection {
                code,
                reasons: Reasons::One(one),
            }),
            _ => Some(Rejection {
                code,
                reasons: Reasons::Many(lacking),
            }),
        }
    }

    fn fits_empty(&self, pod: &PodInfo, node: &Node) -> bool {
        self.lacking(
            &pod.requests,
            &allocatable(node),
            &Usage::default(),
            &Vec::new(),
        )
        .is_none()
    }
}

fn allocatable(node: &Node) -> Resources {
    let texts = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
    texts.map(Resources::of).unwrap_or_default()
}

/// Whether a node has more than before of what a pod asks for.
fn grew(pod: &PodInfo, old: &Node, new: &Node) -> bool {
    let (was, is) = (allocatable(old), allocatable(new));
    let a = &pod.requests.amounts;
    is.pods > was.pods
        || a.milli_cpu > 0 && is.amounts.milli_cpu > was.amounts.milli_cpu
        || a.memory > 0 && is.amounts.memory > was.amounts.memory
        || a.ephemeral_storage > 0 && is.amounts.ephemeral_storage > was.amounts.ephemeral_storage
        || pod
            .requests
            .scalars
            .iter()
            .any(|(name, asked)| *asked > 0 && is.get(name) > was.get(name))
}

/// Whether a pod gave up some of what another asks for.
fn shrank(waiting: &PodInfo, old: &PodInfo, new: &PodInfo) -> bool {
    let asked = &waiting.requests;
    let names = ["cpu", "memory", "ephemeral-storage"];
    let less = |name: &str| asked.get(name) > 0 && old.requests.get(name) > new.requests.get(name);
    names.iter().any(|n| less(n)) || asked.scalars.iter().any(|(n, _)| less(n))
}

impl Plugin for Fit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn interests(&self) -> &'static [Interest] {
        const {
            &[
                Interest::new(Resource::AssignedPod, Action::DELETE),
                Interest::new(Resource::Node, Action::ADD.or(Action::NODE_ALLOCATABLE)),
                Interest::new(Resource::AssignedPod, Action::POD_SCALE_DOWN),
                Interest::new(Resource::TargetPod, Action::POD_SCALE_DOWN),
            ]
        }
    }

    fn hint(&self, _cluster: &Cluster, pod: &PodInfo, event: Event, change: &Change) -> bool {
        match change {
            Change::Node {
                old,
                new: Some(new),
            } => self.fits_empty(pod, new) && old.as_ref().is_none_or(|old| grew(pod, old, new)),
            Change::Pod {
                old: Some(old),
                new: Some(new),
            } if event.resource == Resource::AssignedPod => shrank(pod, old, new),
            _ => true,
        }
    }

    fn filter(&self, cycle: &Cycle<'_>, _state: &dyn State, node: NodeIndex) -> Verdict {
        let (asked, has, used) = (
            &cycle.pod.requests,
            cycle.cluster.allocatable(node),
            cycle.usage(node),
        );
        // What most pods ask for, without a detour.
        let (a, h, u) = (&asked.amounts, &has.amounts, &used.requested);
        let enough = |asked: i64, has: i64, used: i64| asked <= 0 || asked <= has - used;
        if used.pods < has.pods
            && enough(a.milli_cpu, h.milli_cpu, u.milli_cpu)
            && enough(a.memory, h.memory, u.memory)
            && enough(
                a.ephemeral_storage,
                h.ephemeral_storage,
                u.ephemeral_storage,
            )
            && asked.scalars.is_empty()
        {
            return Ok(());
        }
        self.lacking(asked, has, used, &cycle.row(node).scalars)
            .map_or(Ok(()), Err)
    }

    fn score(
        &self,
        cycle: &Cycle<'_>,
        _state: &dyn State,
        nodes: &[NodeIndex],
        scores: &mut [i64],
    ) {
        let asked: Vec<i64> = self
            .weights
            .iter()
            .map(|w| counted(cycle.pod, &w.name))
            .collect();
        for (node, score) in nodes.iter().zip(scores) {
            let parts = self.weights.iter().zip(&asked).filter_map(|(w, asked)| {
                let (has, used) = room(cycle, *node, w, *asked, |u| &u.nonzero)?;
                Some((w.weight, used + asked, has))
            });
            *score = self.strategy.score(parts);
        }
    }
}

/// What a pod counts for in scores.
fn counted(pod: &PodInfo, name: &str) -> i64 {
    match name {
        "cpu" => pod.scored.milli_cpu,
        "memory" => pod.scored.memory,
        other => pod.requests.get(other),
    }
}

/// What a node has of a resource and what of it is used; none if it does not count.
fn room(
    cycle: &Cycle<'_>,
    node: NodeIndex,
    resource: &Weighted,
    asked: i64,
    sums: impl Fn(&Usage) -> &Amounts,
) -> Option<(i64, i64)> {
    let (has, usage) = (cycle.cluster.allocatable(node), cycle.usage(node));
    let (has, used) = match resource.name.as_str() {
        "cpu" => (has.amounts.milli_cpu, sums(usage).milli_cpu),
        "memory" => (has.amounts.memory, sums(usage).memory),
        "ephemeral-storage" => (
            has.amounts.ephemeral_storage,
            usage.requested.ephemeral_storage,
        ),
        name if asked == 0 && resources::is_scalar(name) => return None,
        name => (
            resources::scalar(&has.scalars, name).unwrap_or(0),
            resources::scalar(&cycle.row(node).scalars, name).unwrap_or(0),
        ),
    };
    (has != 0).then_some((has, used))
}

/// Whether a pod makes the use of a node's resources more even.
pub(super) struct Balanced {
    pub(super) weights: Vec<Weighted>,
}

impl Plugin for Balanced {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn pre_score(&self, cycle: &Cycle<'_>, _nodes: &[NodeIndex]) -> Prepared {
        let asked: Vec<i64> = self
            .weights
            .iter()
            .map(|w| cycle.pod.requests.get(&w.name))
            .collect();
        // Otherwise pods that ask for nothing would all go to one node.
        if asked.iter().all(|a| *a == 0) {
            Prepared::Skip
        } else {
            Prepared::with(asked)
        }
    }

    fn score(&self, cycle: &Cycle<'_>, state: &dyn State, nodes: &[NodeIndex], scores: &mut [i64]) {
        let asked = own::<Vec<i64>>(state);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (node, score) in nodes.iter().zip(scores) {
            before.clear();
            after.clear();
            for (w, asked) in self.weights.iter().zip(asked) {
                if let Some((has, used)) = room(cycle, *node, w, *asked, |u| &u.requested) {
                    before.push(fraction(used, has));
                    after.push(fraction(used + asked, has));
                }
            }
            let gain = evenness(&after) - evenness(&before);
            *score = MAX_SCORE / 2 + (MAX_SCORE / 2 + gain) / 2;
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "upstream divides floating-point numbers"
)]
fn fraction(used: i64, has: i64) -> f64 {
    (used as f64 / has as f64).min(1.0)
}

/// 100 if all fractions are equal, less the more they deviate.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a score of 0 to 100, cut as upstream does"
)]
fn evenness(fractions: &[f64]) -> i64 {
    let deviation = match fractions {
        [] | [_] => 0.0,
        [a, b] => ((a - b) / 2.0).abs(),
        many => {
            let count = many.len() as f64;
            let mean = many.iter().sum::<f64>() / count;
            (many.iter().map(|f| (f - mean).powi(2)).sum::<f64>() / count).sqrt()
        }
    };
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}

#[cfg(test)]
mod tests;
