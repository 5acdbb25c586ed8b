//! From the sources to the registry: every pod that a source names gets an entry and a worker.
//!
//! Pods of the API server are looked at by key, so what matters is the cache and not how often it
//! told. The first look comes when the caches are complete, in the order in which the pods were
//! made: those that ran before this kubelet are taken before those that came since.

use std::collections::BTreeMap;
use std::sync::Arc;

use component::informer::Key;
use component::queue::Queue;
use component::supervisor::Task;
use k8s_openapi::api::core::v1::Pod;

use super::registry::{Offered, Source};
use super::{Api, Shared, recover, source, spec, worker};

/// Follows all sources. What earlier pods left is swept up once all of them were heard.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut files = source::start(&shared);
    let mut first = files.expected;
    if let Some(api) = &shared.api {
        let keys = follow(&shared, api);
        let tasks = &shared.parts.tasks;
        tasks.spawn(Task::Critical, "api-pods", look(shared.clone(), keys));
    }
    if first == 0 {
        heard(&shared).await;
    }
    while let Some((source, pods)) = files.receiver.recv().await {
        {
            let _arriving = shared.arrivals.lock().await;
            replace(&shared, source, pods);
        }
        if first > 0 {
            first -= 1;
            if first == 0 {
                heard(&shared).await;
            }
        }
    }
    // No static source is configured.
    std::future::pending().await
}

/// All static sources were heard; without an API server there are no others.
async fn heard(shared: &Arc<Shared>) {
    shared.statics_heard.cancel();
    if shared.api.is_none() {
        let _arriving = shared.arrivals.lock().await;
        recover::reconcile(shared).await;
        recover::sweep(shared).await;
    }
}

fn follow(shared: &Arc<Shared>, api: &Api) -> Queue<Key> {
    let keys = Queue::new("pods", &shared.parts.metrics);
    let noted = keys.clone();
    api.pods.subscribe(move |key, _| noted.add(key.clone()));
    keys
}

fn first_look(shared: &Arc<Shared>, api: &Api) {
    let mut pods = api.pods().list();
    pods.sort_by(|a, b| {
        let key = |pod: &Pod| pod.metadata.creation_timestamp.clone();
        key(a).cmp(&key(b))
    });
    for pod in pods {
        take(shared, &pod);
    }
}

async fn look(shared: Arc<Shared>, keys: Queue<Key>) {
    let Some(api) = &shared.api else { return };
    api.node.synced().await;
    api.pods.synced().await;
    shared.statics_heard.cancelled().await;
    {
        let _arriving = shared.arrivals.lock().await;
        first_look(&shared, api);
        recover::reconcile(&shared).await;
    }
    let sweep = recover::sweep_owned(shared.clone());
    shared
        .parts
        .tasks
        .spawn(Task::Worker, "orphaned-pods", sweep);
    while let Some(key) = keys.take().await {
        let now = api.pods().by_key(&key);
        forget_others(&shared, &key, now.as_deref());
        if let Some(pod) = now {
            take(&shared, &pod);
        }
    }
}

/// Pods of this name that the API server does not have any more.
fn forget_others(shared: &Shared, key: &Key, now: Option<&Pod>) {
    let name = format!("{}_{}", key.name(), key.namespace());
    let uid = now.map_or("", |pod| spec::uid(pod));
    let mut registry = shared.registry.lock();
    let is_mirror = now.is_some_and(|pod| spec::mirrored_hash(pod).is_some());
    if !is_mirror && registry.mirrors.remove(&name).is_some() {
        shared.mirrors.add(name.clone());
    }
    let gone: Vec<_> = registry
        .entries
        .iter()
        .filter(|(id, e)| e.source == Source::Api && !e.gone && *id != uid)
        .filter(|(_, e)| spec::full_name(&e.pod) == name)
        .map(|(id, _)| id.clone())
        .collect();
    for uid in gone {
        registry.withdraw(&uid);
    }
}

/// A pod as the API server has it now.
fn take(shared: &Arc<Shared>, pod: &Arc<Pod>) {
    if spec::mirrored_hash(pod).is_some() {
        let name = spec::full_name(pod);
        let mut registry = shared.registry.lock();
        registry.mirrors.insert(name.clone(), pod.clone());
        if let Some(entry) = registry.mirrored(pod) {
            shared.writes.add(spec::uid(&entry.pod).to_owned());
        }
        shared.mirrors.add(name);
        return;
    }
    let uid = spec::uid(pod).to_owned();
    offer(shared, Source::Api, pod.clone());
    // The object may have lost what was written, or be due for its deletion.
    shared.writes.add(uid);
}

/// A pod that a source names.
pub(super) fn offer(shared: &Arc<Shared>, source: Source, pod: Arc<Pod>) {
    let uid = spec::uid(&pod).to_owned();
    let name = spec::full_name(&pod);
    let is_static = spec::is_static(&pod);
    let offered = shared.registry.lock().offer(source, pod);
    if is_static {
        shared.mirrors.add(name.clone());
    }
    if offered == Offered::New {
        let task = format!("pod {name}");
        let worker = worker::run(shared.clone(), uid);
        shared.parts.tasks.spawn(Task::Worker, task, worker);
    }
}

/// All pods that a static source names now.
fn replace(shared: &Arc<Shared>, source: Source, pods: Vec<Pod>) {
    let mut named = BTreeMap::new();
    for pod in pods {
        let name = spec::full_name(&pod);
        if named.contains_key(&name) {
            tracing::warn!(
                pod.name = name,
                "Two static pods of one name; the second is left out"
            );
            continue;
        }
        named.insert(name, Arc::new(pod));
    }
    let uids: Vec<_> = named
        .values()
        .map(|pod| spec::uid(pod).to_owned())
        .collect();
    {
        let mut registry = shared.registry.lock();
        let gone: Vec<_> = registry
            .entries
            .iter()
            .filter(|(uid, e)| e.source == source && !e.gone && !uids.contains(uid))
            .map(|(uid, e)| (uid.clone(), spec::full_name(&e.pod)))
            .collect();
        for (uid, name) in gone {
            registry.withdraw(&uid);
            shared.mirrors.add(name);
        }
    }
    for pod in named.into_values() {
        offer(shared, source, pod);
    }
}
