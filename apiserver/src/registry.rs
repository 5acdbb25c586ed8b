//! The registry: what is served, and the rules of each resource.
//!
//! `generic` does create, update, patch, delete and deletecollection once for all resources; each has its
//! [`Strategy`] in the crate `resources`. Resources without a file of their own are served by
//! [`Strategy::DEFAULT`] or [`Strategy::WITH_STATUS`], as their subresources say.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use component::features::Features;
use proto::catalogue::{self, Gates, Resource};
use store::{Collection, Forms};

use resources::object::{self, Type};
use resources::{Strategy, decoder, strategies};

pub mod follow;
pub mod generic;
pub mod hooks;
pub mod served;

/// One resource of one served group version.
pub struct Endpoint {
    /// Its place in the registry.
    pub index: u16,
    pub resource: &'static Resource,
    pub strategy: &'static Strategy,
    /// The feature gates that are on.
    pub gates: Gates,
    pub hooks: Option<&'static dyn hooks::Hooks>,
    /// The version in which clients speak here.
    pub served: Type,
    /// The version in which objects are stored, and in which rules see them.
    pub hub: Type,
    pub collection: Arc<Collection>,
    pub decoder: Arc<decoder::Objects>,
    /// What is made of entries besides their stored bytes, shared by all endpoints.
    pub forms: Arc<Forms>,
    /// The same of what is sent at once and then hardly again: frames of watches.
    pub frames: Arc<Forms>,
}

/// Bytes of frames that are kept: all that watch an event send its frame within a moment.
const FRAMES: usize = 2 << 20;

/// Everything that is served from storage.
pub struct Registry {
    /// The feature gates that are on.
    pub gates: Gates,
    endpoints: Vec<Endpoint>,
    generation: AtomicU64,
    by_path: HashMap<(&'static str, &'static str, &'static str), usize>,
}

impl Registry {
    /// `open` gives the collection of a stored resource, with the decoder of its entries; group versions that share a storage prefix
    /// share the collection.
    pub fn new(
        enabled: impl Fn(&Resource) -> bool,
        features: &Features,
        forms: &Arc<Forms>,
        mut open: impl FnMut(&'static Resource, Arc<decoder::Objects>) -> Arc<Collection>,
    ) -> Self {
        let (gates, least) = (features.gates(), features.version().min_compatibility);
        let mut registry = Self {
            gates,
            endpoints: Vec::new(),
            generation: AtomicU64::new(0),
            by_path: HashMap::new(),
        };
        let frames = Arc::new(Forms::new(FRAMES));
        let mut opened: HashMap<&'static str, (Arc<Collection>, Arc<decoder::Objects>)> =
            HashMap::new();
        for resource in catalogue::resources().iter().filter(|r| enabled(r)) {
            let Some(storage) = &resource.storage else {
                continue;
            };
            let Some((served, hub)) = object::types(resource, least) else {
                continue;
            };
            let strategy = strategies::of(resource);
            let (collection, decoder) = opened
                .entry(storage.prefix)
                .or_insert_with(|| {
                    let decoder = Arc::new(decoder::Objects::new(hub, strategy, resource, gates));
                    (open(resource, decoder.clone()), decoder)
                })
                .clone();
            let index = registry.endpoints.len();
            registry
                .by_path
                .insert((resource.group, resource.version, resource.name), index);
            let index = u16::try_from(index).expect("the catalogue has a few hundred resources");
            let (forms, frames) = (forms.clone(), frames.clone());
            registry.endpoints.push(Endpoint {
                index,
                resource,
                strategy,
                gates,
                hooks: hooks::of(resource),
                served,
                hub,
                collection,
                decoder,
                forms,
                frames,
            });
        }
        registry
    }

    #[must_use]
    pub fn find(&self, group: &str, version: &str, resource: &str) -> Option<&Endpoint> {
        self.by_path
            .get(&(group, version, resource))
            .map(|i| &self.endpoints[*i])
    }

    /// The endpoint whose [`Endpoint::index`] this is.
    #[must_use]
    pub fn at(&self, index: u16) -> Option<&Endpoint> {
        self.endpoints.get(usize::from(index))
    }

    /// The endpoint of a resource in any version: for admission and authorizers, which read objects.
    #[must_use]
    pub fn any_version(&self, group: &str, resource: &str) -> Option<&Endpoint> {
        self.endpoints
            .iter()
            .find(|e| e.resource.group == group && e.resource.name == resource)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter()
    }

    /// Which state of what is served this is: what others find out of it holds as long as this stays the same.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Ends the generation, once what is served has changed.
    pub fn advance(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }
}
