//! The decision: which node a pod gets, or why none.
//!
//! A function of the cluster, the profile, the pod and the [`Search`], whose start index and random
//! numbers are the only things that change. Source: `pkg/scheduler/schedule_one.go`.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::cluster::{Cluster, NodeIndex};
use crate::framework::{
    Code, Cycle, Diagnosis, FitError, PostFiltered, Prepared, Rejection, Verdict,
};
use crate::pod::PodInfo;
use crate::profile::Profile;
use crate::queue::Nominated;

mod filters;

pub use filters::Filters;

/// Clusters up to this size are searched to the end.
const FEW_NODES: usize = 100;
/// At least so many percent of the nodes are searched for.
const LEAST_PERCENT: usize = 5;

/// Where the next search begins, and the dice for ties.
pub struct Search {
    start: usize,
    dice: SmallRng,
    spent: Vec<Spent>,
}

/// How long an extension point took, and how it ended; for metrics, no part of the decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spent {
    pub point: &'static str,
    pub status: &'static str,
    pub time: Duration,
}

/// How a point ends that has no objection.
const SUCCESS: &str = "Success";

impl Search {
    /// The same seed decides ties in the same way.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            start: 0,
            dice: SmallRng::seed_from_u64(seed),
            spent: Vec::new(),
        }
    }

    /// What the last decision spent its time with.
    pub fn take_spent(&mut self) -> Vec<Spent> {
        std::mem::take(&mut self.spent)
    }

    fn spent(&mut self, point: &'static str, status: &'static str, since: Instant) {
        self.spent.push(Spent {
            point,
            status,
            time: since.elapsed(),
        });
    }
}

/// A node for a pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    pub node: NodeIndex,
    /// Nodes that were looked at.
    pub evaluated: usize,
    /// Those of them that fit.
    pub feasible: usize,
}

/// No node for a pod.
#[derive(thiserror::Error, Debug)]
pub enum Failure {
    #[error("no nodes available to schedule pods")]
    NoNodes,
    /// With what was done to make room.
    #[error("{error}")]
    Unfit {
        error: Box<FitError>,
        nominate: Option<PostFiltered>,
    },
    #[error("running plugin {plugin:?}: {reason}")]
    Plugin {
        plugin: &'static str,
        reason: String,
    },
}

/// A search that found no node, for plugins that make room.
pub struct Attempt<'a> {
    pub cycle: Cycle<'a>,
    pub filters: Filters<'a>,
    pub nominated: &'a Nominated,
    pub diagnosis: &'a Diagnosis,
    /// A random number, for where to begin.
    pub roll: u32,
}

/// Decides.
///
/// # Errors
/// Why the pod gets no node.
pub fn decide(
    cluster: &Cluster,
    profile: &Profile,
    pod: &PodInfo,
    nominated: &Nominated,
    search: &mut Search,
) -> Result<Decision, Failure> {
    let cycle = Cycle::new(cluster, pod);
    let mut diagnosis = Diagnosis::default();
    let cleared = nominated.node_of(pod);
    let (filters, feasible) =
        search_nodes(&cycle, profile, nominated, cleared, &mut diagnosis, search)?;
    let evaluated = feasible.len() + diagnosis.nodes.len();
    if feasible.is_empty() {
        return Err(make_room(cycle, filters, nominated, diagnosis, search));
    }
    let none = vec![0; feasible.len()];
    Ok(Decision {
        node: choose(cluster, profile, pod, &feasible, &none, search),
        evaluated,
        feasible: feasible.len(),
    })
}

/// The nodes that fit a pod, for those whose decision others have a word in. `cleared`: the node that is
/// tried first, if any.
///
/// # Errors
/// If there are no nodes, or a plugin fails.
pub fn feasible(
    cluster: &Cluster,
    profile: &Profile,
    pod: &PodInfo,
    nominated: &Nominated,
    cleared: &str,
    search: &mut Search,
) -> Result<(Vec<NodeIndex>, Diagnosis), Failure> {
    let cycle = Cycle::new(cluster, pod);
    let mut diagnosis = Diagnosis::default();
    let (_, nodes) = search_nodes(&cycle, profile, nominated, cleared, &mut diagnosis, search)?;
    Ok((nodes, diagnosis))
}

/// No node is left, as `diagnosis` says: makes room if that is possible.
pub fn none_left(
    cluster: &Cluster,
    profile: &Profile,
    pod: &PodInfo,
    nominated: &Nominated,
    diagnosis: Diagnosis,
    search: &mut Search,
) -> Failure {
    let cycle = Cycle::new(cluster, pod);
    let filters = match prepare(&cycle, profile, &mut Diagnosis::default()) {
        Ok(Some((filters, _))) => filters,
        Ok(None) => Filters::none(profile),
        Err(failure) => return failure,
    };
    make_room(cycle, filters, nominated, diagnosis, search)
}

fn search_nodes<'a>(
    cycle: &Cycle<'_>,
    profile: &'a Profile,
    nominated: &Nominated,
    cleared: &str,
    diagnosis: &mut Diagnosis,
    search: &mut Search,
) -> Result<(Filters<'a>, Vec<NodeIndex>), Failure> {
    if cycle.cluster.order().is_empty() {
        return Err(Failure::NoNodes);
    }
    search.spent.clear();
    let began = Instant::now();
    let prepared = prepare(cycle, profile, diagnosis);
    let status = match &prepared {
        Ok(Some(_)) => SUCCESS,
        Ok(None) => diagnosis.absent.as_ref().map_or(SUCCESS, |r| r.code.name()),
        Err(_) => Code::Error.name(),
    };
    search.spent("PreFilter", status, began);
    match prepared? {
        Some((filters, only)) => {
            let began = Instant::now();
            let nodes = find(cycle, &filters, only, nominated, cleared, diagnosis, search);
            let status = if nodes.is_ok() {
                SUCCESS
            } else {
                Code::Error.name()
            };
            search.spent("Filter", status, began);
            Ok((filters, nodes?))
        }
        None => Ok((Filters::none(profile), Vec::new())),
    }
}

type Ready<'a> = (Filters<'a>, Option<Vec<NodeIndex>>);

/// Asks all plugins before nodes are looked at; none if they rule all nodes out.
fn prepare<'a>(
    cycle: &Cycle<'_>,
    profile: &'a Profile,
    diagnosis: &mut Diagnosis,
) -> Result<Option<Ready<'a>>, Failure> {
    let mut filters = Filters::none(profile);
    let mut only: Option<Vec<NodeIndex>> = None;
    let mut narrowing = Vec::new();
    for (index, plugin) in profile.plugins.iter().enumerate() {
        if !plugin.points.pre_filter && !plugin.points.filter {
            continue;
        }
        let name = plugin.plugin.name();
        let prepared = if plugin.points.pre_filter {
            plugin.plugin.pre_filter(cycle)
        } else {
            Prepared::with(())
        };
        match prepared {
            Prepared::Skip => {}
            Prepared::Ready { state, nodes } => {
                filters.states.push((index, state));
                if let Some(nodes) = nodes {
                    narrowing.push(name);
                    only = Some(match only {
                        Some(before) => before.into_iter().filter(|n| nodes.contains(n)).collect(),
                        None => nodes,
                    });
                }
                if only.as_ref().is_some_and(Vec::is_empty) {
                    return rule_out(diagnosis, &narrowing);
                }
            }
            Prepared::Rejected(r) if r.code == Code::Error => {
                return Err(Failure::Plugin {
                    plugin: name,
                    reason: r.reasons.join(),
                });
            }
            Prepared::Rejected(r) => {
                diagnosis.blame(name, r.code);
                diagnosis.pre_filter = r.reasons.join();
                diagnosis.absent = Some(r);
                return Ok(None);
            }
        }
    }
    if let Some(only) = &mut only {
        only.retain(|n| cycle.cluster.facts(*n).is_some());
        only.sort_unstable();
        only.dedup();
        let names = narrowing.join(" ");
        diagnosis.absent = Some(Rejection::unresolvable(format!(
            "node(s) didn't satisfy plugin(s) [{names}]"
        )));
        for name in narrowing {
            diagnosis.blame(name, Code::Unresolvable);
        }
    }
    Ok(Some((filters, only)))
}

fn rule_out<'a>(
    diagnosis: &mut Diagnosis,
    narrowing: &[&'static str],
) -> Result<Option<Ready<'a>>, Failure> {
    let names = narrowing.join(" ");
    let reason = match narrowing {
        [_] => format!("node(s) didn't satisfy plugin {names}"),
        _ => format!("node(s) didn't satisfy plugin(s) [{names}] simultaneously"),
    };
    for name in narrowing {
        diagnosis.blame(name, Code::Unresolvable);
    }
    diagnosis.pre_filter.clone_from(&reason);
    diagnosis.absent = Some(Rejection::unresolvable(reason));
    Ok(None)
}

/// Looks for as many nodes that fit as are worth scoring.
fn find(
    cycle: &Cycle<'_>,
    filters: &Filters<'_>,
    only: Option<Vec<NodeIndex>>,
    nominated: &Nominated,
    cleared: &str,
    diagnosis: &mut Diagnosis,
    search: &mut Search,
) -> Result<Vec<NodeIndex>, Failure> {
    let all = cycle.cluster.order();
    // A node that was cleared for the pod is tried first, and taken without looking at others.
    if let Some(cleared) = cycle.cluster.node(cleared) {
        let own = look(cycle, filters, &[cleared], 0, 1, nominated, diagnosis)?;
        if !own.is_empty() {
            return Ok(own);
        }
        diagnosis.nodes.clear();
    }
    let nodes = only.as_deref().unwrap_or(all);
    let wanted = if filters.profile.scores() {
        nodes_to_find(filters.profile.percentage, nodes.len())
    } else {
        1
    };
    let feasible = look(
        cycle,
        filters,
        nodes,
        search.start,
        wanted,
        nominated,
        diagnosis,
    )?;
    search.start = (search.start + feasible.len() + diagnosis.nodes.len()) % all.len();
    Ok(feasible)
}

fn look(
    cycle: &Cycle<'_>,
    filters: &Filters<'_>,
    nodes: &[NodeIndex],
    start: usize,
    wanted: usize,
    nominated: &Nominated,
    diagnosis: &mut Diagnosis,
) -> Result<Vec<NodeIndex>, Failure> {
    let mut feasible = Vec::with_capacity(wanted.min(nodes.len()));
    let start = start % nodes.len().max(1);
    for node in nodes[start..].iter().chain(&nodes[..start]).copied() {
        match filters.run_with_nominated(cycle, nominated, node) {
            Ok(()) => {
                feasible.push(node);
                if feasible.len() >= wanted {
                    break;
                }
            }
            Err((plugin, r)) if r.code == Code::Error => {
                return Err(Failure::Plugin {
                    plugin,
                    reason: r.reasons.join(),
                });
            }
            Err((plugin, r)) => {
                diagnosis.blame(plugin, r.code);
                diagnosis.nodes.push((node, r));
            }
        }
    }
    Ok(feasible)
}

/// How many nodes that fit are enough; 0 percent stands for what suits the size of the cluster.
fn nodes_to_find(percentage: usize, nodes: usize) -> usize {
    if nodes < FEW_NODES {
        return nodes;
    }
    let percentage = match percentage {
        0 => 50_usize.saturating_sub(nodes / 125).max(LEAST_PERCENT),
        given => given,
    };
    (nodes * percentage / 100).max(FEW_NODES)
}

/// The best of the nodes that fit; among equals, one by chance. `others` is added to the plugins' scores.
///
/// # Panics
/// If there are no nodes to choose from, or not as many scores.
pub fn choose(
    cluster: &Cluster,
    profile: &Profile,
    pod: &PodInfo,
    nodes: &[NodeIndex],
    others: &[i64],
    search: &mut Search,
) -> NodeIndex {
    if let [only] = *nodes {
        return only;
    }
    let totals = score(&Cycle::new(cluster, pod), profile, nodes, &mut search.spent);
    let totals = totals
        .iter()
        .zip(others)
        .map(|(own, other)| own.saturating_add(*other));
    let (mut chosen, mut most, mut equals) = (0, i64::MIN, 0_u32);
    for (at, total) in totals.enumerate() {
        if total > most {
            (chosen, most, equals) = (at, total, 1);
        } else if total == most {
            equals += 1;
            if search.dice.random_range(0..equals) == 0 {
                chosen = at;
            }
        }
    }
    nodes[chosen]
}

/// The weighted sums of all plugins' scores.
fn score(
    cycle: &Cycle<'_>,
    profile: &Profile,
    nodes: &[NodeIndex],
    spent: &mut Vec<Spent>,
) -> Vec<i64> {
    let mut totals = vec![0; nodes.len()];
    let mut scores = vec![0; nodes.len()];
    let (mut preparing, mut scoring) = (Duration::ZERO, Duration::ZERO);
    for plugin in profile.plugins.iter().filter(|p| p.points.score) {
        let began = Instant::now();
        let prepared = plugin.plugin.pre_score(cycle, nodes);
        preparing += began.elapsed();
        let Prepared::Ready { state, .. } = prepared else {
            continue;
        };
        let began = Instant::now();
        scores.fill(0);
        plugin.plugin.score(cycle, &*state, nodes, &mut scores);
        plugin.plugin.normalize(&*state, nodes, &mut scores);
        for (total, score) in totals.iter_mut().zip(&scores) {
            *total += score * plugin.weight;
        }
        scoring += began.elapsed();
    }
    for (point, time) in [("PreScore", preparing), ("Score", scoring)] {
        spent.push(Spent {
            point,
            status: SUCCESS,
            time,
        });
    }
    totals
}

/// Asks the plugins that make room, until one has the last word (`RunPostFilterPlugins`).
fn make_room(
    cycle: Cycle<'_>,
    filters: Filters<'_>,
    nominated: &Nominated,
    diagnosis: Diagnosis,
    search: &mut Search,
) -> Failure {
    let began = Instant::now();
    let profile = filters.profile;
    let attempt = Attempt {
        cycle,
        filters,
        nominated,
        diagnosis: &diagnosis,
        roll: search.dice.random(),
    };
    let mut made: Option<PostFiltered> = None;
    let mut said = Vec::new();
    for plugin in profile.at(|p| p.post_filter) {
        let Some(one) = plugin.post_filter(&attempt) else {
            continue;
        };
        if one.settled {
            said = vec![one.message.clone()];
            made = Some(one);
            break;
        }
        said.push(one.message.clone());
        if made.is_none() || one.nominate.is_some() {
            made = Some(one);
        }
    }
    if let Some(made) = &made {
        let status = if made.settled {
            SUCCESS
        } else {
            Code::Unschedulable.name()
        };
        search.spent("PostFilter", status, began);
    }
    let mut diagnosis = diagnosis.clone();
    diagnosis.post_filter = said.join(", ");
    let error = Box::new(FitError {
        nodes: cycle.cluster.order().len(),
        diagnosis,
    });
    Failure::Unfit {
        error,
        nominate: made,
    }
}

/// Whether a pod fits a node as it is: for hints and for people who ask.
///
/// # Errors
/// Why not.
pub fn fits(cluster: &Cluster, profile: &Profile, pod: &PodInfo, node: NodeIndex) -> Verdict {
    let cycle = Cycle::new(cluster, pod);
    let mut diagnosis = Diagnosis::default();
    match prepare(&cycle, profile, &mut diagnosis) {
        Ok(Some((filters, only))) if only.as_ref().is_none_or(|o| o.contains(&node)) => {
            filters.run(&cycle, node).map_err(|(_, r)| r)
        }
        Ok(_) => Err(diagnosis
            .absent
            .unwrap_or_else(|| Rejection::unresolvable("no node"))),
        Err(e) => Err(Rejection::error(e.to_string())),
    }
}

#[cfg(test)]
mod tests;
