//! Objects that show static pods at the API server: upstream's `pkg/kubelet/pod/mirror_client.go`.
//!
//! One per static pod, replaced when the pod changes, made again when somebody deletes it, deleted
//! when the pod is gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use component::client;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::writer::final_deletion;
use super::{Api, Shared, spec};

/// Works the queue off.
pub(super) async fn run(shared: Arc<Shared>) {
    let Some(api) = &shared.api else {
        return std::future::pending().await;
    };
    api.node.synced().await;
    api.pods.synced().await;
    // Retries come through the queue; a node that is not registered yet tells when it is.
    let names = shared.mirrors.clone();
    let seen = Arc::downgrade(&shared);
    api.node.subscribe(move |_, _| {
        if let Some(shared) = seen.upgrade() {
            let registry = shared.registry.lock();
            let pods = registry.entries.values().map(|entry| &entry.pod);
            let fixed = pods.filter(|pod| spec::is_static(pod));
            fixed.for_each(|pod| names.add(spec::full_name(pod)));
        }
    });
    while let Some(name) = shared.mirrors.take().await {
        match reconcile(&shared, api, &name).await {
            Ok(()) => shared.mirrors.forget(&name),
            Err(err) => {
                let error = component::supervisor::chain(&err);
                tracing::warn!(
                    pod.name = name.as_str(),
                    error,
                    "Cannot mirror a static pod"
                );
                shared.mirrors.add_failed(name.clone());
            }
        }
    }
}

async fn reconcile(shared: &Shared, api: &Api, name: &str) -> Result<(), client::Error> {
    let (pod, mirror) = {
        let registry = shared.registry.lock();
        let mut entries = registry.entries.values();
        let wanted =
            entries.find(|e| spec::is_static(&e.pod) && !e.gone && spec::full_name(&e.pod) == name);
        (
            wanted.map(|e| e.pod.clone()),
            registry.mirrors.get(name).cloned(),
        )
    };
    if let Some(mirror) = &mirror {
        let same = pod.as_ref().is_some_and(|pod| {
            spec::mirrored_hash(mirror) == spec::config_hash(pod) && is_mirror_of(mirror, pod)
        });
        if same && !spec::is_being_deleted(mirror) {
            return Ok(());
        }
        delete(api, mirror).await?;
    }
    let (Some(pod), Some(node)) = (pod, shared.node()) else {
        return Ok(());
    };
    if node.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let object = mirror_of(&pod, &node);
    let pods = api.client.namespaced::<Pod>(spec::namespace(&object));
    match pods.create(&object).await {
        // The cache is about to tell of it; if it is another's, the name is taken.
        Err(err) if err.is_already_exists() => Ok(()),
        made => made.map(drop),
    }
}

async fn delete(api: &Api, mirror: &Pod) -> Result<(), client::Error> {
    let pods = api.client.namespaced::<Pod>(spec::namespace(mirror));
    let options = final_deletion(spec::uid(mirror));
    match pods.delete(spec::name(mirror), &options).await {
        Err(err) if err.is_not_found() || err.is_conflict() => Ok(()),
        done => done,
    }
}

/// Whether an object still shows what the pod is, annotations of ours aside.
fn is_mirror_of(mirror: &Pod, pod: &Pod) -> bool {
    spec::name(mirror) == spec::name(pod) && spec::namespace(mirror) == spec::namespace(pod)
}

fn mirror_of(pod: &Pod, node: &Node) -> Pod {
    let mut object = pod.clone();
    let annotations = object
        .metadata
        .annotations
        .get_or_insert_with(BTreeMap::new);
    if let Some(hash) = spec::config_hash(pod) {
        annotations.insert(spec::CONFIG_MIRROR.into(), hash.to_owned());
    }
    object.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    object
}
