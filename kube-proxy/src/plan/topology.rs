//! Which endpoints a Service port uses from this node.
//!
//! Source: `pkg/proxy/topology.go`.

use crate::service::{Endpoint, Hint, ServicePort};

/// The endpoints for each traffic policy.
#[derive(Debug, Default)]
pub(crate) struct Usable<'a> {
    /// For the policy `Cluster`; empty if nothing uses it.
    pub(crate) cluster: Vec<&'a Endpoint>,
    /// For the policy `Local`; empty if nothing uses it.
    pub(crate) local: Vec<&'a Endpoint>,
    /// Whether an endpoint is anywhere, on this node or not.
    pub(crate) any: bool,
}

impl<'a> Usable<'a> {
    pub(crate) fn of(port: &'a ServicePort) -> Self {
        let endpoints = &port.endpoints;
        let uses_cluster = !port.internal_local || port.is_external();
        let uses_local = port.internal_local || (port.external_local && port.is_external());
        let mut usable = Self::default();
        if uses_cluster {
            let near = Near::of(endpoints);
            usable.cluster = pick(endpoints, |e| e.ready && near.allows(e));
            if usable.cluster.is_empty() {
                usable.cluster = pick(endpoints, is_ending);
            }
            usable.any = !usable.cluster.is_empty();
        }
        if uses_local {
            usable.any |= endpoints.iter().any(|e| e.ready || is_ending(e));
            usable.local = pick(endpoints, |e| e.local && e.ready);
            if usable.local.is_empty() {
                usable.local = pick(endpoints, |e| e.local && is_ending(e));
            }
        }
        usable
    }

    /// All that packets may reach, some of them twice.
    pub(crate) fn all(&self) -> impl Iterator<Item = &'a Endpoint> {
        let in_cluster = |e: &&Endpoint| self.cluster.iter().any(|c| std::ptr::eq(*c, *e));
        let only_local = self.local.iter().copied().filter(move |e| !in_cluster(e));
        self.cluster.iter().copied().chain(only_local)
    }
}

fn pick(endpoints: &[Endpoint], which: impl Fn(&Endpoint) -> bool) -> Vec<&Endpoint> {
    endpoints.iter().filter(|e| which(e)).collect()
}

/// Still answers, while it goes away.
fn is_ending(endpoint: &Endpoint) -> bool {
    !endpoint.ready && endpoint.serving && endpoint.terminating
}

/// What hints keep traffic to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Near {
    Anywhere,
    SameZone,
    SameNode,
}

impl Near {
    /// Hints count only if every ready endpoint has one and one of them is for us.
    fn of(endpoints: &[Endpoint]) -> Self {
        let ready = || endpoints.iter().filter(|e| e.ready);
        let all = |hint: fn(&Endpoint) -> Hint| ready().all(|e| hint(e) != Hint::None);
        let ours = |hint: fn(&Endpoint) -> Hint| ready().any(|e| hint(e) == Hint::Ours);
        if all(|e| e.node) && ours(|e| e.node) {
            Self::SameNode
        } else if all(|e| e.zone) && ours(|e| e.zone) {
            Self::SameZone
        } else {
            Self::Anywhere
        }
    }

    fn allows(self, endpoint: &Endpoint) -> bool {
        match self {
            Self::Anywhere => true,
            Self::SameZone => endpoint.zone == Hint::Ours,
            Self::SameNode => endpoint.node == Hint::Ours,
        }
    }
}
