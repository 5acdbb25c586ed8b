//! Nodes by zone, listed one of each zone in turn (`pkg/scheduler/backend/cache/node_tree.go`), so that a
//! search that stops early has seen all zones.

use k8s_openapi::api::core::v1::Node;

use super::NodeIndex;

#[derive(Default)]
pub(super) struct Zones {
    /// In the order in which they appeared.
    zones: Vec<(String, Vec<NodeIndex>)>,
}

impl Zones {
    pub(super) fn add(&mut self, zone: &str, node: NodeIndex) {
        match self.zones.iter_mut().find(|(z, _)| z == zone) {
            Some((_, nodes)) => nodes.push(node),
            None => self.zones.push((zone.to_owned(), vec![node])),
        }
    }

    pub(super) fn remove(&mut self, zone: &str, node: NodeIndex) {
        if let Some((_, nodes)) = self.zones.iter_mut().find(|(z, _)| z == zone) {
            nodes.retain(|n| *n != node);
        }
        self.zones.retain(|(_, nodes)| !nodes.is_empty());
    }

    pub(super) fn list(&self) -> Vec<NodeIndex> {
        let longest = self
            .zones
            .iter()
            .map(|(_, nodes)| nodes.len())
            .max()
            .unwrap_or(0);
        (0..longest)
            .flat_map(|turn| {
                self.zones
                    .iter()
                    .filter_map(move |(_, nodes)| nodes.get(turn).copied())
            })
            .collect()
    }
}

/// Region and zone of a node, the deprecated labels first; empty if it has neither.
pub(super) fn zone_key(node: &Node) -> String {
    let label = |old: &str, new: &str| {
        let labels = node.metadata.labels.as_ref();
        labels
            .and_then(|l| l.get(old).or_else(|| l.get(new)))
            .map_or("", String::as_str)
    };
    let zone = label(
        "failure-domain.beta.kubernetes.io/zone",
        "topology.kubernetes.io/zone",
    );
    let region = label(
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/region",
    );
    if zone.is_empty() && region.is_empty() {
        String::new()
    } else {
        format!("{region}:\0:{zone}")
    }
}
