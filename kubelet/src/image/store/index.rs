//! What the store holds, in memory. Changed only together with the files that it mirrors.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::snapshot::Record;
use super::{Image, LayerKey, LayerPin, Store};
use crate::image::reference::Digest;

#[derive(Default)]
pub(super) struct Index {
    images: BTreeMap<Digest, Arc<Image>>,
    names: HashMap<String, Digest>,
    pub(super) snapshots: BTreeMap<String, Arc<Record>>,
    pins: HashMap<LayerKey, usize>,
}

impl Index {
    pub(super) fn image(&self, id: &Digest) -> Option<Arc<Image>> {
        self.images.get(id).cloned()
    }

    pub(super) fn named(&self, name: &str) -> Option<Arc<Image>> {
        self.image(self.names.get(name)?)
    }

    pub(super) fn images(&self) -> Vec<Arc<Image>> {
        self.images.values().cloned().collect()
    }

    /// Adds an image or replaces the one of its id.
    pub(super) fn insert(&mut self, image: Arc<Image>) {
        self.remove(&image.id);
        for name in image.tags.iter().chain(&image.digests) {
            self.names.insert(name.clone(), image.id.clone());
        }
        self.images.insert(image.id.clone(), image);
    }

    pub(super) fn remove(&mut self, id: &Digest) {
        if self.images.remove(id).is_some() {
            self.names.retain(|_, owner| owner != id);
        }
    }

    /// Other images than `id` that have one of these tags.
    pub(super) fn holders_of(&self, tags: &BTreeSet<String>, id: &Digest) -> Vec<Arc<Image>> {
        let held = |image: &&Arc<Image>| image.id != *id && !image.tags.is_disjoint(tags);
        self.images.values().filter(held).cloned().collect()
    }

    pub(super) fn is_snapshot_of(&self, id: &Digest) -> bool {
        self.snapshots
            .values()
            .any(|snapshot| snapshot.image == *id)
    }

    pub(super) fn uses(&self, layer: &LayerKey) -> bool {
        self.pins.contains_key(layer)
            || self
                .images
                .values()
                .any(|image| image.layers.contains(layer))
            || self
                .snapshots
                .values()
                .any(|snapshot| snapshot.layers.contains(layer))
    }

    pub(super) fn pin(&mut self, store: &Arc<Store>, key: LayerKey) -> LayerPin {
        *self.pins.entry(key.clone()).or_default() += 1;
        LayerPin {
            store: store.clone(),
            key,
        }
    }

    pub(super) fn unpin(&mut self, key: &LayerKey) {
        if let Some(count) = self.pins.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.pins.remove(key);
            }
        }
    }
}
