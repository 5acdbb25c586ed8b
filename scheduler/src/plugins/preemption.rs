//! `DefaultPreemption`: pods of lower priority give way to one that fits nowhere.
//!
//! Here it is only decided who has to go; [`crate::engine`] asks them to. Source:
//! `pkg/scheduler/framework/preemption`, `pkg/scheduler/framework/plugins/defaultpreemption`.

use std::cmp::Reverse;
use std::sync::Arc;

use component::clock;
use k8s_openapi::jiff::Timestamp;

use crate::cluster::{Cluster, NodeIndex, WhatIf};
use crate::config::PreemptionArgs;
use crate::decide::{Attempt, Filters};
use crate::framework::{
    Action, Change, Code, Cycle, Diagnosis, Event, FitError, Interest, Plugin, PostFiltered,
    Rejection, Resource, Verdict,
};
use crate::pod::PodInfo;

/// The condition of a pod that has to go, and its reason.
const DISRUPTION_TARGET: &str = "DisruptionTarget";
const BY_SCHEDULER: &str = "PreemptionByScheduler";

/// Preemption.
pub(super) struct Preemption {
    pub(super) args: PreemptionArgs,
    /// Victims are deleted while the pod waits (the gate `SchedulerAsyncPreemption`).
    pub(super) asynchronous: bool,
}

/// Pods that would have to go from a node.
#[derive(Clone, Debug)]
struct Candidate {
    node: NodeIndex,
    /// The most important first; never empty.
    victims: Vec<Arc<PodInfo>>,
    violations: usize,
}

/// When a pod was started; one that was not is the youngest.
fn started(pod: &PodInfo, now: Timestamp) -> Timestamp {
    let status = pod.pod.status.as_ref();
    status
        .and_then(|s| s.start_time.as_ref())
        .map_or(now, |t| t.0)
}

/// Whether it is on its way out because of a preemption.
fn goes_for_another(pod: &PodInfo) -> bool {
    let status = pod.pod.status.as_ref();
    let mut conditions = status.and_then(|s| s.conditions.as_ref()).into_iter();
    pod.terminating
        && conditions
            .next()
            .and_then(|all| all.iter().find(|c| c.type_ == DISRUPTION_TARGET))
            .is_some_and(|c| c.status == "True" && c.reason.as_deref() == Some(BY_SCHEDULER))
}

impl Preemption {
    /// Why a pod may not make others go, if it may not.
    fn ineligible(attempt: &Attempt<'_>) -> Option<&'static str> {
        let (cluster, pod) = (attempt.cycle.cluster, attempt.cycle.pod);
        if pod.spec().preemption_policy.as_deref() == Some("Never") {
            return Some("not eligible due to preemptionPolicy=Never.");
        }
        let node = cluster.node(attempt.nominated.node_of(pod))?;
        if attempt.diagnosis.code(node) == Code::Unresolvable {
            return None;
        }
        let pods = &cluster.row(node).pods;
        pods.iter()
            .any(|p| p.priority < pod.priority && goes_for_another(p))
            .then_some("not eligible due to a terminating pod on the nominated node.")
    }

    /// How many nodes where it would work are enough to choose from.
    fn enough(&self, nodes: usize) -> usize {
        let number = |n: i32| usize::try_from(n).unwrap_or(0);
        let share = nodes * number(self.args.min_candidate_nodes_percentage) / 100;
        share
            .max(number(self.args.min_candidate_nodes_absolute))
            .min(nodes)
    }

    /// Tries nodes in turn; those that need not go against a budget come first.
    fn candidates(
        &self,
        attempt: &Attempt<'_>,
        nodes: &[NodeIndex],
        refused: &mut Diagnosis,
    ) -> Vec<Candidate> {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        let enough = self.enough(nodes.len());
        let start = attempt.roll as usize % nodes.len().max(1);
        for node in nodes[start..].iter().chain(&nodes[..start]) {
            match victims_on(attempt, *node) {
                Ok(candidate) => {
                    let list = if candidate.violations == 0 {
                        &mut good
                    } else {
                        &mut bad
                    };
                    // A list that is full takes no more.
                    if list.len() < enough {
                        list.push(candidate);
                    }
                    if !good.is_empty() && good.len() + bad.len() >= enough {
                        break;
                    }
                }
                Err(rejection) => refused.nodes.push((*node, rejection)),
            }
        }
        good.append(&mut bad);
        good
    }
}

/// The fewest and least important pods that have to go from a node.
fn victims_on(attempt: &Attempt<'_>, node: NodeIndex) -> Result<Candidate, Rejection> {
    let cycle = attempt.cycle;
    let mut possible: Vec<Arc<PodInfo>> = cycle.cluster.row(node).pods.clone();
    possible.retain(|p| p.priority < cycle.pod.priority);
    if possible.is_empty() {
        return Err(Rejection::unresolvable(
            "No preemption victims found for incoming pod",
        ));
    }
    let mut trial = Trial {
        attempt,
        node,
        filters: attempt.filters.clone(),
        what_if: WhatIf::of(cycle.cluster, node),
    };
    for victim in &possible {
        trial.without(victim);
    }
    trial.fits()?;
    let now = clock::now();
    let importance = |p: &Arc<PodInfo>| (Reverse(p.priority), started(p, now));
    possible.sort_by_key(importance);
    // Those that a budget protects are kept first.
    let mut budgets = cycle.cluster.disruption().spending();
    let (protected, others): (Vec<_>, Vec<_>) = possible.into_iter().partition(|p| budgets.take(p));
    let mut victims = Vec::new();
    for victim in &protected {
        trial.keep_if_it_fits(victim, &mut victims);
    }
    let violations = victims.len();
    for victim in &others {
        trial.keep_if_it_fits(victim, &mut victims);
    }
    if victims.is_empty() {
        // Filters that say no, and yes to the same pods put back, are at fault.
        let name = cycle.cluster.name(node);
        let reason = format!("expected at least one victim pod on node {name:?}");
        return Err(Rejection::error(reason));
    }
    victims.sort_by_key(importance);
    Ok(Candidate {
        node,
        victims,
        violations,
    })
}

/// A node with some of its pods imagined away.
struct Trial<'a> {
    attempt: &'a Attempt<'a>,
    node: NodeIndex,
    filters: Filters<'a>,
    what_if: WhatIf,
}

impl Trial<'_> {
    fn without(&mut self, pod: &PodInfo) {
        self.what_if.remove(&pod.uid);
        self.imagine(pod, false);
    }

    fn imagine(&mut self, pod: &PodInfo, added: bool) {
        let cycle = Cycle {
            what_if: Some(&self.what_if),
            ..self.attempt.cycle
        };
        self.filters.imagine(&cycle, pod, self.node, added);
    }

    fn fits(&self) -> Verdict {
        let cycle = Cycle {
            what_if: Some(&self.what_if),
            ..self.attempt.cycle
        };
        let nominated = self.attempt.nominated;
        self.filters
            .run_with_nominated(&cycle, nominated, self.node)
            .map_err(|(_, rejection)| rejection)
    }

    /// Puts a pod back if the other one still fits; otherwise it is a victim.
    fn keep_if_it_fits(&mut self, pod: &Arc<PodInfo>, victims: &mut Vec<Arc<PodInfo>>) {
        self.what_if.add(pod);
        self.imagine(pod, true);
        if self.fits().is_err() {
            self.without(pod);
            victims.push(Arc::clone(pod));
        }
    }
}

/// The candidate that does the least harm; of equal ones the first.
fn choose(mut candidates: Vec<Candidate>) -> Option<Candidate> {
    let now = clock::now();
    /// Larger is better.
    type Judge = fn(&Candidate, Timestamp) -> i128;
    let judges: [Judge; 5] = [
        |c, _| -small(c.violations),
        |c, _| -c.victims.first().map_or(0, |v| i128::from(v.priority)),
        // Lifted above zero, so that fewer pods of a negative priority are better than more.
        |c, _| {
            let lifted = |p: &Arc<PodInfo>| i128::from(p.priority) + i128::from(i32::MAX) + 1;
            -c.victims.iter().map(lifted).sum::<i128>()
        },
        |c, _| -small(c.victims.len()),
        // The youngest of the most important victims: less work is lost.
        |c, now| {
            let most = c.victims.iter().map(|v| v.priority).max();
            let first = c.victims.iter().filter(|v| Some(v.priority) == most);
            first
                .map(|v| started(v, now).as_nanosecond())
                .min()
                .unwrap_or(i128::MIN)
        },
    ];
    for judge in judges {
        let best = candidates.iter().map(|c| judge(c, now)).max()?;
        candidates.retain(|c| judge(c, now) == best);
        if candidates.len() == 1 {
            break;
        }
    }
    candidates.into_iter().next()
}

fn small(count: usize) -> i128 {
    i128::try_from(count).unwrap_or(i128::MAX)
}

impl Plugin for Preemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }

    fn interests(&self) -> &'static [Interest] {
        // So that a pod that waits for its victims is looked at when one of them is gone.
        const { &[Interest::new(Resource::AssignedPod, Action::DELETE)] }
    }

    /// The plugins that rejected the pod know whether it helps.
    fn hint(&self, _cluster: &Cluster, _pod: &PodInfo, _event: Event, _change: &Change) -> bool {
        false
    }

    fn pre_enqueue(&self, cluster: &Cluster, pod: &PodInfo) -> Verdict {
        let waits = match cluster.disruption().under_way(&pod.uid) {
            None => false,
            Some(None) => true,
            // The request for the last victim may not be answered yet, but have had its effect.
            Some(Some(victim)) => cluster.placed(victim).is_some_and(|(p, _)| !p.terminating),
        };
        if waits && self.asynchronous {
            return Err(Rejection::unresolvable(
                "waiting for the preemption for this pod to be finished",
            ));
        }
        Ok(())
    }

    fn post_filter(&self, attempt: &Attempt<'_>) -> Option<PostFiltered> {
        let said = |message: String| PostFiltered {
            message: format!("preemption: {message}"),
            ..PostFiltered::default()
        };
        if let Some(reason) = Self::ineligible(attempt) {
            return Some(said(reason.to_owned()));
        }
        let cluster = attempt.cycle.cluster;
        let mut refused = Diagnosis {
            absent: Some(Rejection::unresolvable(
                "Preemption is not helpful for scheduling",
            )),
            ..Diagnosis::default()
        };
        let nodes = attempt.diagnosis.unschedulable(cluster);
        let candidates = self.candidates(attempt, &nodes, &mut refused);
        let Some(chosen) = choose(candidates) else {
            let error = FitError {
                nodes: cluster.order().len(),
                diagnosis: refused,
            };
            return Some(PostFiltered {
                nominate: Some(String::new()),
                ..said(error.to_string())
            });
        };
        let node = cluster.name(chosen.node);
        let count = chosen.victims.len();
        Some(PostFiltered {
            nominate: Some(node.to_owned()),
            victims: chosen.victims,
            violations: chosen.violations,
            settled: true,
            ..said(format!(
                "found a potential placement for pod on node {node}, preempting {count} victims"
            ))
        })
    }
}

#[cfg(test)]
mod tests;
