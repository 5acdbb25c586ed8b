//! Hints that keep traffic near, from a service's `trafficDistribution`.

use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointSlice, ForNode, ForZone};

use super::pack::{Changes, Update, endpoints};

/// Where a service wants its traffic to stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Distribution {
    SameZone,
    SameNode,
}

impl Distribution {
    /// The distribution of that name; other values are as good as none.
    #[must_use]
    pub fn of(name: Option<&str>) -> Option<Self> {
        match name? {
            "PreferClose" | "PreferSameZone" => Some(Self::SameZone),
            "PreferSameNode" => Some(Self::SameNode),
            _ => None,
        }
    }

    /// The hints of a ready endpoint.
    fn hints(self, endpoint: &Endpoint) -> Option<EndpointHints> {
        let zone = endpoint.zone.clone().map(|name| vec![ForZone { name }]);
        let node = match self {
            Self::SameZone => None,
            Self::SameNode => endpoint
                .node_name
                .clone()
                .map(|name| vec![ForNode { name }]),
        };
        (zone.is_some() || node.is_some()).then_some(EndpointHints {
            for_nodes: node,
            for_zones: zone,
        })
    }
}

/// Gives every ready endpoint the hints that the distribution asks for; without one, takes all away.
pub fn distribute(distribution: Option<Distribution>, changes: &mut Changes) {
    let wrong = |endpoint: &Endpoint| match distribution {
        Some(_) if !is_ready(endpoint) => false,
        Some(d) => normal(endpoint.hints.as_ref()) != normal(d.hints(endpoint).as_ref()),
        None => endpoint.hints.is_some(),
    };
    touch(changes, |slice| endpoints(slice).iter().any(wrong));
    for slice in changed(changes) {
        for endpoint in slice.endpoints.iter_mut().flatten() {
            match distribution {
                Some(d) if is_ready(endpoint) => endpoint.hints = d.hints(endpoint),
                Some(_) => {}
                None => endpoint.hints = None,
            }
        }
    }
}

/// Hints as lists, absent and empty the same.
fn normal(hints: Option<&EndpointHints>) -> (Vec<&str>, Vec<&str>) {
    let zones = hints.and_then(|h| h.for_zones.as_ref());
    let nodes = hints.and_then(|h| h.for_nodes.as_ref());
    (
        zones
            .into_iter()
            .flatten()
            .map(|z| z.name.as_str())
            .collect(),
        nodes
            .into_iter()
            .flatten()
            .map(|n| n.name.as_str())
            .collect(),
    )
}

/// Moves slices that are unchanged so far to those that change.
pub(super) fn touch(changes: &mut Changes, mut must: impl FnMut(&EndpointSlice) -> bool) {
    let unchanged = std::mem::take(&mut changes.unchanged);
    for slice in unchanged {
        if must(&slice) {
            let new = EndpointSlice::clone(&slice);
            changes.update.push(Update {
                old: Arc::clone(&slice),
                new,
            });
        } else {
            changes.unchanged.push(slice);
        }
    }
}

/// The slices that are created or updated.
pub(super) fn changed(changes: &mut Changes) -> impl Iterator<Item = &mut EndpointSlice> {
    let updated = changes.update.iter_mut().map(|u| &mut u.new);
    changes.create.iter_mut().chain(updated)
}

#[must_use]
pub fn is_ready(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions.and_then(|c| c.ready).unwrap_or(false)
}
