//! Storage, as far as placement depends on it: claims, volumes, classes, drivers.
//!
//! A claim or volume that a decision has spoken for is *assumed*: it is read as if the API server had
//! been told already, until it says anything new about the object.
//!
//! Invariant: an assumed object is a change of exactly the stored version.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use component::volumes::{BIND_COMPLETED, class_of_volume};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::{
    CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::pod::PodInfo;

/// An object of storage, before and after.
#[derive(Clone, Debug)]
pub enum Storage {
    Claim(Pair<PersistentVolumeClaim>),
    Volume(Pair<PersistentVolume>),
    Class(Pair<StorageClass>),
    Node(Pair<CSINode>),
    Driver(Pair<CSIDriver>),
    Capacity(Pair<CSIStorageCapacity>),
    Attachment(Pair<VolumeAttachment>),
}

/// An object before and after; none if it was not, or is no more.
pub type Pair<K> = (Option<Arc<K>>, Option<Arc<K>>);

/// Kinds that decisions may speak for.
pub trait Versioned {
    fn meta(&self) -> &ObjectMeta;
}

impl Versioned for PersistentVolume {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl Versioned for PersistentVolumeClaim {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
}

/// Objects by key, some of them with what is assumed of them.
pub struct Assumable<K>(BTreeMap<String, Known<K>>);

struct Known<K> {
    stored: Arc<K>,
    assumed: Option<Arc<K>>,
}

impl<K> Default for Assumable<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Versioned> Assumable<K> {
    fn set(&mut self, key: &str, object: Option<&Arc<K>>) {
        let Some(object) = object else {
            self.0.remove(key);
            return;
        };
        let version = &object.meta().resource_version;
        // The same version again is no news.
        let assumed = self.0.remove(key).and_then(|k| k.assumed);
        let known = Known {
            stored: Arc::clone(object),
            assumed: assumed.filter(|a| a.meta().resource_version == *version),
        };
        self.0.insert(key.to_owned(), known);
    }

    /// As it is assumed to be.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Arc<K>> {
        let known = self.0.get(key)?;
        Some(known.assumed.as_ref().unwrap_or(&known.stored))
    }

    /// As the API server has it.
    #[must_use]
    pub fn stored(&self, key: &str) -> Option<&Arc<K>> {
        self.0.get(key).map(|k| &k.stored)
    }

    /// Speaks for an object: `changed` is how it will be. Says whether the version is still the same.
    pub fn assume(&mut self, key: &str, changed: K) -> bool {
        match self.0.get_mut(key) {
            Some(known)
                if known.stored.meta().resource_version == changed.meta().resource_version =>
            {
                known.assumed = Some(Arc::new(changed));
                true
            }
            _ => false,
        }
    }

    /// Takes an assumption of a version back.
    pub fn restore(&mut self, key: &str, version: Option<&str>) {
        if let Some(known) = self.0.get_mut(key)
            && known.stored.meta().resource_version.as_deref() == version
        {
            known.assumed = None;
        }
    }
}

/// All that is known of storage.
#[derive(Default)]
pub struct Volumes {
    /// By `namespace/name`.
    pub claims: Assumable<PersistentVolumeClaim>,
    pub volumes: Assumable<PersistentVolume>,
    /// The names of volumes by class.
    by_class: HashMap<String, BTreeSet<String>>,
    classes: HashMap<String, Arc<StorageClass>>,
    /// By node.
    csi_nodes: HashMap<String, Arc<CSINode>>,
    drivers: HashMap<String, Arc<CSIDriver>>,
    /// By `namespace/name`.
    capacities: BTreeMap<String, Arc<CSIStorageCapacity>>,
    /// By node, then by name.
    attachments: HashMap<String, BTreeMap<String, Arc<VolumeAttachment>>>,
    /// How many placed pods use a claim, by `namespace/name`.
    users: HashMap<String, u32>,
}

impl Volumes {
    /// Takes over what was seen of an object, by its key.
    pub fn set(&mut self, key: &str, seen: &Storage) {
        match seen {
            Storage::Claim((_, new)) => self.claims.set(key, new.as_ref()),
            Storage::Volume((old, new)) => self.set_volume(key, old.as_deref(), new.as_ref()),
            Storage::Class((_, new)) => put(&mut self.classes, key, new.as_ref()),
            Storage::Node((_, new)) => put(&mut self.csi_nodes, key, new.as_ref()),
            Storage::Driver((_, new)) => put(&mut self.drivers, key, new.as_ref()),
            Storage::Capacity((_, Some(new))) => {
                drop(self.capacities.insert(key.to_owned(), Arc::clone(new)));
            }
            Storage::Capacity((_, None)) => drop(self.capacities.remove(key)),
            Storage::Attachment((old, new)) => self.set_attachment(key, old.as_deref(), new),
        }
    }

    fn set_volume(
        &mut self,
        name: &str,
        old: Option<&PersistentVolume>,
        new: Option<&Arc<PersistentVolume>>,
    ) {
        if let Some(names) = old.and_then(|v| self.by_class.get_mut(class_of_volume(v))) {
            names.remove(name);
            if names.is_empty() {
                self.by_class.retain(|_, names| !names.is_empty());
            }
        }
        if let Some(new) = new {
            let class = class_of_volume(new).to_owned();
            self.by_class
                .entry(class)
                .or_default()
                .insert(name.to_owned());
        }
        self.volumes.set(name, new);
    }

    fn set_attachment(
        &mut self,
        name: &str,
        old: Option<&VolumeAttachment>,
        new: &Option<Arc<VolumeAttachment>>,
    ) {
        if let Some(old) = old
            && let Some(all) = self.attachments.get_mut(&old.spec.node_name)
        {
            all.remove(name);
            if all.is_empty() {
                self.attachments.remove(&old.spec.node_name);
            }
        }
        if let Some(new) = new {
            let node = new.spec.node_name.clone();
            self.attachments
                .entry(node)
                .or_default()
                .insert(name.to_owned(), Arc::clone(new));
        }
    }

    /// A pod got a place, or gave it back.
    pub(super) fn count(&mut self, pod: &PodInfo, plus: bool) {
        for claim in pod.claims.iter().filter(|c| !c.ephemeral) {
            let key = pod.claim_key(claim);
            if plus {
                *self.users.entry(key).or_default() += 1;
            } else if let Some(users) = self.users.get_mut(&key) {
                *users -= 1;
                if *users == 0 {
                    self.users.remove(&key);
                }
            }
        }
    }

    /// Whether any placed pod uses a claim.
    #[must_use]
    pub fn is_used(&self, claim: &str) -> bool {
        self.users.contains_key(claim)
    }

    /// The volumes of a class, as they are assumed to be, by name.
    pub fn of_class(&self, class: &str) -> impl Iterator<Item = &Arc<PersistentVolume>> {
        let names = self.by_class.get(class).into_iter().flatten();
        names.filter_map(|n| self.volumes.get(n))
    }

    #[must_use]
    pub fn class(&self, name: &str) -> Option<&Arc<StorageClass>> {
        self.classes.get(name)
    }

    #[must_use]
    pub fn csi_node(&self, node: &str) -> Option<&Arc<CSINode>> {
        self.csi_nodes.get(node)
    }

    #[must_use]
    pub fn driver(&self, name: &str) -> Option<&Arc<CSIDriver>> {
        self.drivers.get(name)
    }

    pub fn capacities(&self) -> impl Iterator<Item = &Arc<CSIStorageCapacity>> {
        self.capacities.values()
    }

    /// The attachments of a node.
    pub fn attachments(&self, node: &str) -> impl Iterator<Item = &Arc<VolumeAttachment>> {
        self.attachments
            .get(node)
            .into_iter()
            .flat_map(BTreeMap::values)
    }
}

fn put<K>(all: &mut HashMap<String, Arc<K>>, key: &str, object: Option<&Arc<K>>) {
    match object {
        Some(object) => drop(all.insert(key.to_owned(), Arc::clone(object))),
        None => drop(all.remove(key)),
    }
}

/// The volume that a claim is bound to; empty if none.
#[must_use]
pub fn volume_of(claim: &PersistentVolumeClaim) -> &str {
    let spec = claim.spec.as_ref();
    spec.and_then(|s| s.volume_name.as_deref())
        .unwrap_or_default()
}

/// Whether both sides of a binding are written.
#[must_use]
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let annotations = claim.metadata.annotations.as_ref();
    !volume_of(claim).is_empty() && annotations.is_some_and(|a| a.contains_key(BIND_COMPLETED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn volume(version: &str, class: &str) -> Arc<PersistentVolume> {
        Arc::new(
            proto::typed::from_json_value(json!({
                "metadata": { "name": "v", "resourceVersion": version }, "spec": { "storageClassName": class } }))
            .unwrap(),
        )
    }

    #[test]
    fn an_assumption_holds_until_the_server_says_anything_new() {
        let mut all = Volumes::default();
        let first = volume("1", "a");
        all.set("v", &Storage::Volume((None, Some(Arc::clone(&first)))));
        let mut claimed = (*first).clone();
        claimed.metadata.labels = Some([("mine".to_owned(), String::new())].into());
        assert!(all.volumes.assume("v", claimed.clone()));
        let mine = |all: &Volumes| all.volumes.get("v").unwrap().metadata.labels.is_some();
        assert!(mine(&all) && all.of_class("a").any(|v| v.metadata.labels.is_some()));
        let again = Storage::Volume((Some(Arc::clone(&first)), Some(first)));
        all.set("v", &again);
        assert!(mine(&all), "the same version is no news");
        let news = Storage::Volume((Some(volume("1", "a")), Some(volume("2", "b"))));
        all.set("v", &news);
        assert!(!mine(&all));
        assert_eq!(
            (all.of_class("a").count(), all.of_class("b").count()),
            (0, 1)
        );
        assert!(
            !all.volumes.assume("v", claimed),
            "it speaks for an old version"
        );
    }
}
