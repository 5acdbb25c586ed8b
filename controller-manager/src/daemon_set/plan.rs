//! Which pods a daemon set gets and loses, and its status. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use k8s_openapi::jiff::Timestamp;

use super::placement::{Belongs, belongs};
use crate::deployment::scaled;
use crate::history::HASH_LABEL;
use crate::pods;
use crate::status::{nonzero, whole};

/// The most pods that are created or deleted before the cache is looked at again.
const BURST: usize = 250;

/// What the controller sees.
pub(super) struct Seen<'s> {
    pub set: &'s DaemonSet,
    /// The template's spec as daemons have it.
    pub spec: &'s PodSpec,
    pub nodes: &'s [Arc<Node>],
    /// The set's pods by their nodes.
    pub pods: &'s BTreeMap<String, Vec<Arc<Pod>>>,
    /// The current revision's.
    pub hash: &'s str,
    /// Whether a failed pod of this node has to wait before it is replaced.
    pub backs_off: &'s (dyn Fn(&str) -> bool + Sync),
    pub now: Timestamp,
}

/// Why a pod goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    Failed,
    Succeeded,
    /// It does not belong there, is one too many, or is of an old revision.
    Surplus,
}

/// What to do.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Changes {
    /// Nodes that get a pod.
    pub create: Vec<String>,
    pub delete: Vec<(Arc<Pod>, Why)>,
    /// A failed pod waits for its time.
    pub waits: bool,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.create.is_empty() && self.delete.is_empty()
    }

    fn drop(&mut self, pod: &Arc<Pod>) {
        self.delete.push((Arc::clone(pod), Why::Surplus));
    }

    fn cut(mut self) -> Self {
        self.create.truncate(BURST);
        self.delete.truncate(BURST);
        self
    }
}

fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

fn rolling(set: &DaemonSet) -> RollingUpdateDaemonSet {
    let strategy = set.spec.update_strategy.as_ref();
    strategy
        .and_then(|s| s.rolling_update.clone())
        .unwrap_or_default()
}

pub(super) fn rolls(set: &DaemonSet) -> bool {
    let strategy = set.spec.update_strategy.as_ref();
    strategy.and_then(|s| s.type_.as_deref()) != Some("OnDelete")
}

fn surges(set: &DaemonSet) -> bool {
    rolls(set) && scaled(rolling(set).max_surge.as_ref(), 100, true) > 0
}

/// A node's pods of the newest and of the oldest revision.
type NewAndOld = (Option<Arc<Pod>>, Option<Arc<Pod>>);

impl Seen<'_> {
    fn on(&self, node: &str) -> &[Arc<Pod>] {
        self.pods.get(node).map_or(&[], Vec::as_slice)
    }

    fn is_new(&self, pod: &Pod) -> bool {
        let labels = pod.metadata.labels.as_ref();
        labels.and_then(|l| l.get(HASH_LABEL)).map(String::as_str) == Some(self.hash)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        let seconds = self.set.spec.min_ready_seconds.unwrap_or(0);
        pods::is_available(pod, seconds, self.now)
    }

    /// The newest and the oldest revision's pod on a node; none if there are more of one of them.
    fn revisions(&self, pods: &[Arc<Pod>]) -> Option<NewAndOld> {
        let (mut new, mut old) = (None, None);
        let going = |p: &&Arc<Pod>| p.metadata.deletion_timestamp.is_none();
        for pod in pods.iter().filter(going) {
            let slot = if self.is_new(pod) { &mut new } else { &mut old };
            if slot.replace(Arc::clone(pod)).is_some() {
                return None;
            }
        }
        Some((new, old))
    }
}

/// Oldest first; of two, the one with a node.
fn by_age(pods: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
    let mut sorted = pods.to_vec();
    let key = |p: &Arc<Pod>| {
        let created = p.metadata.creation_timestamp.as_ref().map(|t| t.0);
        (created, p.metadata.name.clone())
    };
    sorted.sort_by_key(key);
    sorted
}

/// One pod where one belongs, none elsewhere.
pub(super) fn manage(seen: &Seen<'_>) -> Changes {
    let mut changes = Changes::default();
    for node in seen.nodes {
        on_node(seen, name(node), belongs(seen.spec, node), &mut changes);
    }
    // Pods of nodes that are gone cannot run, and cannot be told to stop: whoever collects pods ends them. Those
    // that wait for such a node never will have one.
    let gone = |node: &str| !seen.nodes.iter().any(|n| name(n) == node);
    for pods in seen.pods.iter().filter(|(node, _)| gone(node)) {
        let waiting = pods.1.iter().filter(|p| {
            let spec = p.spec.as_ref();
            p.metadata.deletion_timestamp.is_none()
                && spec.is_none_or(|s| s.node_name.as_deref().unwrap_or_default().is_empty())
        });
        for pod in waiting {
            changes.drop(pod);
        }
    }
    changes.cut()
}

fn on_node(seen: &Seen<'_>, node: &str, belongs: Belongs, changes: &mut Changes) {
    let pods = seen.on(node);
    let live = pods
        .iter()
        .filter(|p| p.metadata.deletion_timestamp.is_none());
    if belongs.starts && pods.is_empty() {
        changes.create.push(node.to_owned());
        return;
    }
    if !belongs.stays {
        for pod in live {
            changes.drop(pod);
        }
        return;
    }
    let mut running = Vec::new();
    for pod in live {
        match pods::phase(pod) {
            "Failed" if (seen.backs_off)(node) => changes.waits = true,
            "Failed" => changes.delete.push((Arc::clone(pod), Why::Failed)),
            "Succeeded" => changes.delete.push((Arc::clone(pod), Why::Succeeded)),
            _ => running.push(Arc::clone(pod)),
        }
    }
    let running = by_age(&running);
    if !surges(seen.set) {
        for pod in running.iter().skip(1) {
            changes.drop(pod);
        }
    } else if running.is_empty() && belongs.starts {
        changes.create.push(node.to_owned());
    } else if running.len() > 1 {
        keep_two(seen, &running, changes);
    }
}

/// While a new pod gets ready, the old one stays as long as it is ready.
fn keep_two(seen: &Seen<'_>, running: &[Arc<Pod>], changes: &mut Changes) {
    let (mut new, mut old) = (None, None);
    for pod in running {
        let slot = if seen.is_new(pod) { &mut new } else { &mut old };
        if slot.is_some() {
            changes.drop(pod);
        } else {
            *slot = Some(pod);
        }
    }
    if let (Some(new), Some(old)) = (new, old)
        && (!pods::is_ready(old) || seen.is_available(new))
    {
        changes.drop(old);
    }
}

/// Replaces pods of old revisions, as many at once as the strategy allows.
pub(super) fn update(seen: &Seen<'_>) -> Changes {
    let desired = seen.nodes.iter().filter(|n| belongs(seen.spec, n).starts);
    let desired = whole(desired.count());
    let rolling = rolling(seen.set);
    let surge = scaled(rolling.max_surge.as_ref(), desired, true);
    let unavailable = match &rolling.max_unavailable {
        None => 1,
        some => scaled(some.as_ref(), desired, true),
    };
    let changes = if surge == 0 {
        // Both nothing: one, or nothing would move.
        in_place(seen, unavailable.max(1), desired)
    } else {
        surging(seen, surge, desired)
    };
    changes.cut()
}

fn in_place(seen: &Seen<'_>, most: i32, _desired: i32) -> Changes {
    let mut changes = Changes::default();
    let (mut unavailable, mut candidates) = (0, Vec::new());
    for pods in seen.pods.values() {
        match seen.revisions(pods) {
            None | Some((None, None) | (Some(_), Some(_))) => unavailable += 1,
            Some((Some(new), None)) => unavailable += i32::from(!seen.is_available(&new)),
            Some((None, Some(old))) if !seen.is_available(&old) => {
                changes.drop(&old);
                unavailable += 1;
            }
            Some((None, Some(old))) => candidates.push(old),
        }
    }
    let left = usize::try_from(most - unavailable).unwrap_or(0);
    for old in candidates.iter().take(left) {
        changes.drop(old);
    }
    changes
}

fn surging(seen: &Seen<'_>, most: i32, desired: i32) -> Changes {
    let starts = |node: &str| {
        let found = seen.nodes.iter().find(|n| name(n) == node);
        found.is_some_and(|n| belongs(seen.spec, n).starts)
    };
    let mut changes = Changes::default();
    let (mut surge, mut available) = (0, 0);
    let (mut nodes, mut elsewhere) = (Vec::new(), Vec::new());
    for (node, pods) in seen.pods {
        let Some((new, old)) = seen.revisions(pods) else {
            surge += 1;
            continue;
        };
        let one = old.as_ref().or(new.as_ref());
        available += i32::from(one.is_some_and(|p| seen.is_available(p)));
        match (new, old) {
            (_, None) => {}
            (Some(new), Some(_)) if !seen.is_available(&new) => surge += 1,
            (Some(_), Some(old)) => changes.drop(&old),
            (None, Some(old)) if !starts(node) => {
                if seen.is_available(&old) {
                    elsewhere.push(old);
                } else {
                    changes.drop(&old);
                }
            }
            (None, Some(old)) if !seen.is_available(&old) => changes.create.push(node.clone()),
            (None, Some(_)) => nodes.push(node.clone()),
        }
    }
    // A pod that moves goes only once another one is there for it.
    let spare = usize::try_from(available - desired).unwrap_or(0);
    for pod in elsewhere.iter().take(spare) {
        changes.drop(pod);
    }
    let left = usize::try_from(most - surge).unwrap_or(0);
    changes.create.extend(nodes.into_iter().take(left));
    changes
}

/// The status. `observed` is false while its generation is not acted on.
pub(super) fn status(seen: &Seen<'_>, old: &DaemonSetStatus) -> DaemonSetStatus {
    let (mut desired, mut current, mut misscheduled) = (0, 0, 0);
    let (mut ready, mut available, mut updated) = (0, 0, 0);
    for node in seen.nodes {
        let pods = seen.on(name(node));
        if !belongs(seen.spec, node).starts {
            misscheduled += i32::from(!pods.is_empty());
            continue;
        }
        desired += 1;
        let Some(pod) = by_age(pods).into_iter().next() else {
            continue;
        };
        current += 1;
        ready += i32::from(pods::is_ready(&pod));
        available += i32::from(seen.is_available(&pod));
        updated += i32::from(seen.is_new(&pod));
    }
    DaemonSetStatus {
        collision_count: old.collision_count,
        conditions: old.conditions.clone(),
        current_number_scheduled: current,
        desired_number_scheduled: desired,
        number_available: nonzero(available),
        number_misscheduled: misscheduled,
        number_ready: ready,
        number_unavailable: nonzero(desired - available),
        observed_generation: seen.set.metadata.generation,
        updated_number_scheduled: nonzero(updated),
    }
}

#[cfg(test)]
mod tests;
