//! Which endpoints go into which slice, for the endpoints of one set of ports.
//!
//! Slices that must change anyway are filled first, so that few objects change; what is left goes into
//! one slice with room for all of it, or into new ones.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

use super::endpoint::{Family, labels, new_slice};
use super::set::{EndpointSet, equal};

/// A slice and what becomes of it.
#[derive(Clone, Debug)]
pub struct Update {
    pub old: Arc<EndpointSlice>,
    pub new: EndpointSlice,
}

/// What becomes of the slices of a service.
#[derive(Default, Debug)]
pub struct Changes {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<Update>,
    pub delete: Vec<Arc<EndpointSlice>>,
    pub unchanged: Vec<Arc<EndpointSlice>>,
}

impl Changes {
    pub(super) fn append(&mut self, mut other: Self) {
        self.create.append(&mut other.create);
        self.update.append(&mut other.update);
        self.delete.append(&mut other.delete);
        self.unchanged.append(&mut other.unchanged);
    }

    /// How many objects change.
    #[must_use]
    pub fn len(&self) -> usize {
        self.create.len() + self.update.len() + self.delete.len()
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What all slices of one set of ports have in common.
pub struct Group<'a> {
    pub service: &'a Service,
    pub ports: &'a [EndpointPort],
    pub family: Family,
    pub manager: &'a str,
    /// Endpoints in one slice.
    pub most: usize,
}

impl Group<'_> {
    /// Distributes the desired endpoints over the existing slices and new ones.
    #[must_use]
    pub fn pack(&self, existing: &[Arc<EndpointSlice>], mut desired: EndpointSet) -> Changes {
        let mut changes = Changes::default();
        for slice in existing {
            self.keep(slice, &mut desired, &mut changes);
        }
        // The fullest first: fewer slices are touched next time.
        changes
            .update
            .sort_by_key(|u| std::cmp::Reverse(endpoints(&u.new).len()));
        for update in &mut changes.update {
            self.fill(&mut update.new, &mut desired);
        }
        while !desired.is_empty() {
            self.place(&mut desired, &mut changes);
        }
        changes
    }

    /// What is still desired of an existing slice stays in it.
    fn keep(&self, slice: &Arc<EndpointSlice>, desired: &mut EndpointSet, changes: &mut Changes) {
        let before = endpoints(slice);
        let mut kept = Vec::with_capacity(before.len());
        let mut updated = false;
        for endpoint in before {
            if let Some(wanted) = desired.take(endpoint) {
                updated |= !equal(&wanted, endpoint);
                kept.push(wanted);
            }
        }
        let (labels, relabelled) =
            labels(slice.metadata.labels.as_ref(), self.service, self.manager);
        let changed = updated || kept.len() != before.len();
        if changed && kept.is_empty() {
            changes.delete.push(Arc::clone(slice));
        } else if changed || relabelled {
            let mut new = EndpointSlice::clone(slice);
            if changed {
                new.endpoints = Some(kept);
            }
            new.metadata.labels = Some(labels);
            let old = Arc::clone(slice);
            changes.update.push(Update { old, new });
        } else {
            changes.unchanged.push(Arc::clone(slice));
        }
    }

    fn fill(&self, slice: &mut EndpointSlice, desired: &mut EndpointSet) {
        let endpoints = slice.endpoints.get_or_insert_default();
        while endpoints.len() < self.most
            && let Some(endpoint) = desired.pop()
        {
            endpoints.push(endpoint);
        }
    }

    /// Puts what is left, or as much as a slice holds, into the unchanged slice that it fills best, or
    /// into a new one.
    fn place(&self, desired: &mut EndpointSet, changes: &mut Changes) {
        let room = |slice: &EndpointSlice| {
            self.most
                .checked_sub(endpoints(slice).len() + desired.len())
        };
        let best = (0..changes.unchanged.len())
            .filter_map(|i| Some((room(&changes.unchanged[i])?, i)))
            .filter(|(room, _)| *room < self.most)
            .min();
        if let Some((_, best)) = best.filter(|_| desired.len() < self.most) {
            let old = changes.unchanged.remove(best);
            let mut new = EndpointSlice::clone(&old);
            self.fill(&mut new, desired);
            changes.update.push(Update { old, new });
        } else {
            let ports = self.ports.to_vec();
            let mut new = new_slice(self.service, ports, self.family, self.manager);
            self.fill(&mut new, desired);
            changes.create.push(new);
        }
    }
}

/// The endpoints of a slice.
#[must_use]
pub fn endpoints(slice: &EndpointSlice) -> &[Endpoint] {
    slice.endpoints.as_deref().unwrap_or_default()
}
