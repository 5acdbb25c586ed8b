//! The registry: what is served, and the rules of each resource.
//!
//! `generic` does create, update, patch, delete and deletecollection once for all resources; one file
//! per resource holds its [`Strategy`]. Resources without a file of their own are served by
//! [`Strategy::DEFAULT`] or [`Strategy::WITH_STATUS`], as their subresources say.

use std::collections::HashMap;
use std::sync::Arc;

use proto::catalogue::{self, Resource};
use store::Collection;

use crate::object::Type;

pub mod before;
pub mod decoder;
pub mod defaults;
pub mod generic;
pub mod strategies;
pub mod strategy;

pub use strategy::{Cx, Strategy};

/// One resource of one served group version.
pub struct Endpoint {
    /// Its place in the registry.
    pub index: u16,
    pub resource: &'static Resource,
    pub strategy: &'static Strategy,
    /// The version in which clients speak here.
    pub served: Type,
    /// The version in which objects are stored, and in which rules see them.
    pub hub: Type,
    pub collection: Arc<Collection>,
}

/// Everything that is served from storage.
pub struct Registry {
    endpoints: Vec<Endpoint>,
    by_path: HashMap<(&'static str, &'static str, &'static str), usize>,
}

impl Registry {
    /// `open` gives the collection of a stored resource; group versions that share a storage prefix
    /// share the collection.
    pub fn new(
        enabled: impl Fn(&Resource) -> bool,
        mut open: impl FnMut(&'static Resource, &'static Strategy, Type) -> Arc<Collection>,
    ) -> Self {
        let mut registry = Self { endpoints: Vec::new(), by_path: HashMap::new() };
        let mut collections: HashMap<&'static str, Arc<Collection>> = HashMap::new();
        for resource in catalogue::resources().iter().filter(|r| enabled(r)) {
            let Some(storage) = &resource.storage else { continue };
            let strategy = strategies::of(resource);
            let kind = resource.kind;
            let served = Type { group: resource.group, version: resource.version, kind, message: resource.message };
            let hub = Type { group: storage.group, version: storage.version, kind, message: storage.message };
            let collection =
                collections.entry(storage.prefix).or_insert_with(|| open(resource, strategy, hub)).clone();
            let index = registry.endpoints.len();
            registry.by_path.insert((resource.group, resource.version, resource.name), index);
            let index = u16::try_from(index).expect("the catalogue has a few hundred resources");
            registry.endpoints.push(Endpoint { index, resource, strategy, served, hub, collection });
        }
        registry
    }

    #[must_use]
    pub fn find(&self, group: &str, version: &str, resource: &str) -> Option<&Endpoint> {
        self.by_path.get(&(group, version, resource)).map(|i| &self.endpoints[*i])
    }

    /// The endpoint of a resource in any version: for admission and authorizers, which read objects.
    #[must_use]
    pub fn any_version(&self, group: &str, resource: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|e| e.resource.group == group && e.resource.name == resource)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter()
    }
}
