//! When a node was last heard of, by the clock of this process: by its status or by its lease.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::conditions::condition;

/// What is known of one node.
#[derive(Debug)]
struct Health {
    heard: Instant,
    /// The heartbeat of the `Ready` condition; none if there was no condition.
    heartbeat: Option<Option<Time>>,
    /// Pods that could not all be told.
    untold_pods: bool,
}

/// All nodes.
#[derive(Default, Debug)]
pub(super) struct AllHealth {
    nodes: HashMap<String, Health>,
    /// The newest renewal of each lease, and when it was seen.
    leases: HashMap<String, (Option<MicroTime>, Instant)>,
}

/// The time that kubelets have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grace {
    /// To say the first thing.
    pub startup: Duration,
    /// Between two signs of life.
    pub monitor: Duration,
}

impl AllHealth {
    /// Looks at a node; says when it has to be taken for silent.
    pub(super) fn observe(
        &mut self,
        node: &Node,
        grace: Grace,
        wall: Timestamp,
        now: Instant,
    ) -> Instant {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let ready = condition(node, "Ready");
        let heartbeat = ready.map(|r| r.last_heartbeat_time.clone());
        match self.nodes.get_mut(name) {
            Some(known) if known.heartbeat == heartbeat => {}
            Some(known) => {
                known.heartbeat = heartbeat;
                known.heard = now;
            }
            None => {
                // A node that never said anything is as old as it is; others get the benefit of doubt.
                let heard = match ready {
                    Some(_) => now,
                    None => created(node, wall, now),
                };
                let health = Health {
                    heard,
                    heartbeat,
                    untold_pods: false,
                };
                self.nodes.insert(name.to_owned(), health);
            }
        }
        let grace = if ready.is_some() {
            grace.monitor
        } else {
            grace.startup
        };
        let status = self.nodes.get(name).map_or(now, |h| h.heard);
        let lease = self.leases.get(name).map(|(_, seen)| *seen);
        lease.map_or(status, |lease| lease.max(status)) + grace
    }

    /// Looks at a lease.
    pub(super) fn renewed(&mut self, lease: &Lease, now: Instant) {
        let name = lease.metadata.name.clone().unwrap_or_default();
        let renewed = lease.spec.as_ref().and_then(|s| s.renew_time.clone());
        match self.leases.get_mut(&name) {
            Some((known, seen)) => {
                if *known < renewed {
                    (*known, *seen) = (renewed, now);
                }
            }
            None => {
                self.leases.insert(name, (renewed, now));
            }
        }
    }

    /// The node is gone.
    pub(super) fn forget(&mut self, node: &str) {
        self.nodes.remove(node);
    }

    /// The lease is gone. When its node was heard of stays known as long as there is the node.
    pub(super) fn forget_lease(&mut self, name: &str) {
        if !self.nodes.contains_key(name) {
            self.leases.remove(name);
        }
    }

    /// Everybody was heard now.
    pub(super) fn pardon(&mut self, now: Instant) {
        for health in self.nodes.values_mut() {
            health.heard = now;
        }
    }

    /// Notes whether the node's pods still have to be told that it is not ready.
    pub(super) fn set_untold(&mut self, node: &str, untold: bool) {
        if let Some(health) = self.nodes.get_mut(node) {
            health.untold_pods = untold;
        }
    }

    #[must_use]
    pub(super) fn has_untold(&self, node: &str) -> bool {
        self.nodes.get(node).is_some_and(|h| h.untold_pods)
    }

    #[must_use]
    pub(super) fn knows(&self, node: &str) -> bool {
        self.nodes.contains_key(node)
    }
}

/// The node's creation by this process' clock.
fn created(node: &Node, wall: Timestamp, now: Instant) -> Instant {
    let created = node
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(wall, |t| t.0);
    let age = Duration::try_from(wall.duration_since(created)).unwrap_or_default();
    now.checked_sub(age).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const GRACE: Grace = Grace {
        startup: Duration::from_secs(60),
        monitor: Duration::from_secs(50),
    };

    fn node(heartbeat: Option<&str>) -> Node {
        let conditions = heartbeat
            .map(|at| json!([{"type": "Ready", "status": "True", "lastHeartbeatTime": at}]));
        proto::typed::from_json_value(json!({
            "metadata": {"name": "n", "creationTimestamp": "2026-01-01T00:00:00Z"}, "status": {"conditions": conditions}
        }))
        .unwrap()
    }

    fn lease(at: &str) -> Lease {
        proto::typed::from_json_value(json!({"metadata": {"name": "n"}, "spec": {"renewTime": at}}))
            .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_heard_by_heartbeat_or_lease() {
        let (mut health, start) = (AllHealth::default(), Instant::now());
        let wall = "2026-01-01T00:10:00Z".parse().unwrap();
        let after = |seconds| start + Duration::from_secs(seconds);
        let first = node(Some("2026-01-01T00:09:00Z"));
        assert_eq!(health.observe(&first, GRACE, wall, start), after(50));
        assert_eq!(
            health.observe(&first, GRACE, wall, after(20)),
            after(50),
            "nothing new"
        );
        health.renewed(&lease("2026-01-01T00:10:00.000000Z"), after(30));
        assert_eq!(health.observe(&first, GRACE, wall, after(31)), after(80));
        health.renewed(&lease("2026-01-01T00:10:00.000000Z"), after(40));
        assert_eq!(
            health.observe(&first, GRACE, wall, after(41)),
            after(80),
            "the same lease"
        );
        let second = node(Some("2026-01-01T00:11:00Z"));
        assert_eq!(health.observe(&second, GRACE, wall, after(60)), after(110));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_never_spoke_is_as_old_as_it_is() {
        tokio::time::advance(Duration::from_secs(1000)).await;
        let (mut health, start) = (AllHealth::default(), Instant::now());
        let wall = "2026-01-01T00:00:10Z".parse().unwrap();
        assert_eq!(
            health.observe(&node(None), GRACE, wall, start),
            start + Duration::from_secs(50)
        );
    }
}
