//! Volume attributes classes that volumes or claims name do not go (`volumeattributesclass-protection-controller`).
//!
//! Source: `pkg/controller/volume/vacprotection`.

use component::controller::Next;
use component::informer::{Event, Index, Informer, Key, Lister};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;

use crate::context::Context;
use crate::error::Error;
use crate::finalizer::{self, Need, need};

const FINALIZER: &str = "kubernetes.io/vac-protection";

/// The classes that a claim names: wanted, current, and on the way.
fn of_claim(claim: &PersistentVolumeClaim) -> Vec<String> {
    let spec = claim.spec.as_ref();
    let status = claim.status.as_ref();
    let modified = status.and_then(|s| s.modify_volume_status.as_ref());
    let mut all: Vec<String> = [
        spec.and_then(|s| s.volume_attributes_class_name.clone()),
        status.and_then(|s| s.current_volume_attributes_class_name.clone()),
        modified.and_then(|m| m.target_volume_attributes_class_name.clone()),
    ]
    .into_iter()
    .flatten()
    .filter(|name| !name.is_empty())
    .collect();
    all.sort();
    all.dedup();
    all
}

fn of_volume(volume: &PersistentVolume) -> Vec<String> {
    let spec = volume.spec.as_ref();
    let name = spec.and_then(|s| s.volume_attributes_class_name.clone());
    name.into_iter().filter(|n| !n.is_empty()).collect()
}

/// Where classes are named.
#[derive(Clone)]
struct Users {
    claims: Lister<PersistentVolumeClaim>,
    claims_by_class: Index,
    volumes: Lister<PersistentVolume>,
    volumes_by_class: Index,
}

impl Users {
    fn has(&self, class: &str) -> bool {
        !self
            .volumes
            .indexed(self.volumes_by_class, class)
            .is_empty()
            || !self.claims.indexed(self.claims_by_class, class).is_empty()
    }
}

/// Starts the controller.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Key>("vacprotection");
    let classes = cx.informer::<VolumeAttributesClass>();
    let claims: Informer<PersistentVolumeClaim> = cx.informer();
    let volumes: Informer<PersistentVolume> = cx.informer();
    let users = Users {
        claims: claims.lister(),
        claims_by_class: claims.index("volumeAttributesClass", of_claim),
        volumes: volumes.lister(),
        volumes_by_class: volumes.index("volumeAttributesClass", of_volume),
    };
    let wake = queue.clone();
    classes.subscribe(move |key, event| {
        let needs = need(&event.object().metadata, FINALIZER) != Need::Nothing;
        if needs && !matches!(event, Event::Deleted(_)) {
            wake.add(key.clone());
        }
    });
    let wake = queue.clone();
    claims.subscribe(move |_, event| {
        for class in let_go(event, of_claim) {
            wake.add(Key::from(class.as_str()));
        }
    });
    let wake = queue.clone();
    volumes.subscribe(move |_, event| {
        for class in let_go(event, of_volume) {
            wake.add(Key::from(class.as_str()));
        }
    });
    let (context, classes) = (cx.clone(), classes.lister());
    cx.run(1, &queue, move |key| {
        let (cx, classes, users) = (context.clone(), classes.clone(), users.clone());
        async move { reconcile(&cx, &classes, &users, &key).await }
    });
    Ok(())
}

/// The classes that an object does not name any more.
fn let_go<K>(event: &Event<K>, classes: fn(&K) -> Vec<String>) -> Vec<String> {
    match event {
        Event::Added(_) => Vec::new(),
        Event::Deleted(old) => classes(old),
        Event::Updated { old, new } => {
            let still = classes(new);
            let mut gone = classes(old);
            gone.retain(|class| !still.contains(class));
            gone
        }
    }
}

async fn reconcile(
    cx: &Context,
    classes: &Lister<VolumeAttributesClass>,
    users: &Users,
    key: &Key,
) -> Result<Next, Error> {
    let Some(class) = classes.by_key(key) else {
        return Ok(Next::Done);
    };
    let add = match need(&class.metadata, FINALIZER) {
        Need::Add => true,
        Need::Remove if !users.has(key.name()) => false,
        _ => return Ok(Next::Done),
    };
    let api = cx.client().await?.all::<VolumeAttributesClass>();
    finalizer::set(&api, &*class, FINALIZER, add).await?;
    Ok(Next::Done)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use serde_json::json;

    fn claim(wanted: &str, target: &str) -> Arc<PersistentVolumeClaim> {
        Arc::new(
            proto::typed::from_json_value(json!({
                "spec": {"volumeAttributesClassName": wanted},
                "status": {
                    "currentVolumeAttributesClassName": "old",
                    "modifyVolumeStatus": {"status": "Pending", "targetVolumeAttributesClassName": target},
                },
            }))
            .unwrap(),
        )
    }

    #[test]
    fn a_claim_names_the_classes_that_it_has_wants_and_gets() {
        assert_eq!(of_claim(&claim("new", "next")), ["new", "next", "old"]);
        assert_eq!(of_claim(&claim("old", "")), ["old"]);
    }

    #[test]
    fn classes_are_looked_at_when_they_are_let_go() {
        let (old, new) = (claim("new", "next"), claim("new", ""));
        let event = Event::Updated {
            old: Arc::clone(&old),
            new,
        };
        assert_eq!(let_go(&event, of_claim), ["next"]);
        assert_eq!(let_go(&Event::Deleted(old), of_claim).len(), 3);
    }
}
