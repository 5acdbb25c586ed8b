//! Decisions that extenders have a word in: the lock is let go while they are asked.
//!
//! What changes meanwhile is not seen by the plugins' filters again, as upstream decides on a snapshot;
//! a node that went away is no choice any more.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use tokio::time::Instant;

use super::{Engine, Tried, assume};
use crate::cluster::{Cluster, NodeIndex};
use crate::decide::{Failure, choose, feasible, none_left};
use crate::framework::{Code, Diagnosis, Rejection};
use crate::pod::PodInfo;
use crate::profile::Profile;
use crate::queue::Queued;

/// Stands in for the name of a plugin.
const EXTENDER: &str = "Extender";

impl Engine {
    pub(super) async fn extended(&self, queued: Queued, began: Instant) -> Tried {
        let pod = Arc::clone(&queued.pod);
        let Some(profile) = self.shared.profiles.of(&pod) else {
            return Tried::Skipped(queued);
        };
        let failed = |queued, failure| Tried::Failed {
            queued,
            failure,
            began,
        };
        let cleared = {
            let state = self.shared.state.lock();
            state.queue.nominated().node_of(&pod).to_owned()
        };
        let mut found = match self.agreed(profile, &pod, &cleared).await {
            Ok(found) => found,
            Err(failure) => return failed(queued, failure),
        };
        if found.0.is_empty() && !cleared.is_empty() {
            // The node that was kept for it does not do.
            found = match self.agreed(profile, &pod, "").await {
                Ok(found) => found,
                Err(failure) => return failed(queued, failure),
            };
        }
        let (nodes, diagnosis) = found;
        let scores = match nodes.len() {
            0 | 1 => Default::default(),
            _ => self.shared.extenders.prioritize(&pod, &nodes).await,
        };
        let state = &mut *self.shared.state.lock();
        let nodes: Vec<NodeIndex> = nodes
            .iter()
            .filter_map(|n| state.cluster.node(name_of(n)))
            .collect();
        let metrics = &self.shared.metrics;
        metrics
            .algorithm_seconds
            .observe(began.elapsed().as_secs_f64());
        if nodes.is_empty() {
            let nominated = state.queue.nominated();
            let search = &mut state.search;
            let failure = none_left(&state.cluster, profile, &pod, nominated, diagnosis, search);
            return failed(queued, failure);
        }
        let of = |n: &NodeIndex| scores.get(state.cluster.name(*n)).copied().unwrap_or(0);
        let others: Vec<i64> = nodes.iter().map(of).collect();
        let (cluster, search) = (&state.cluster, &mut state.search);
        let node = choose(cluster, profile, &pod, &nodes, &others, search);
        for spent in search.take_spent() {
            metrics.point(&spent, &profile.name);
        }
        assume(state, profile, queued, node, began)
    }

    /// The nodes that plugins and extenders agree on.
    async fn agreed(
        &self,
        profile: &Profile,
        pod: &PodInfo,
        cleared: &str,
    ) -> Result<(Vec<Arc<Node>>, Diagnosis), Failure> {
        let (nodes, mut diagnosis) = {
            let state = &mut *self.shared.state.lock();
            let (cluster, nominated) = (&state.cluster, state.queue.nominated());
            let search = &mut state.search;
            let (nodes, diagnosis) = feasible(cluster, profile, pod, nominated, cleared, search)?;
            let object = |n: &NodeIndex| cluster.facts(*n).map(|f| Arc::clone(&f.node));
            let nodes: Vec<_> = nodes.iter().filter_map(object).collect();
            (nodes, diagnosis)
        };
        let before = nodes.len();
        let filtered = self.shared.extenders.filter(pod, nodes).await;
        let filtered = filtered.map_err(|e| Failure::Plugin {
            plugin: EXTENDER,
            reason: e.to_string(),
        })?;
        if filtered.nodes.len() != before {
            diagnosis.blame(EXTENDER, Code::Unschedulable);
            let state = self.shared.state.lock();
            note(&state.cluster, &filtered.failed, &mut diagnosis);
        }
        Ok((filtered.nodes, diagnosis))
    }
}

fn name_of(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

/// Notes why extenders do not want nodes.
fn note(
    cluster: &Cluster,
    failed: &std::collections::BTreeMap<String, (String, bool)>,
    diagnosis: &mut Diagnosis,
) {
    for (name, (reason, helps)) in failed {
        let Some(node) = cluster.node(name) else {
            continue;
        };
        let rejection = if *helps {
            Rejection::unschedulable(reason.clone())
        } else {
            Rejection::unresolvable(reason.clone())
        };
        diagnosis.nodes.push((node, rejection));
    }
}
