//! What a kubelet before this one left: containers, networks and directories of pods that are no
//! more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::{ContainerFilter, ContainerState, PodSandboxFilter, Shared};
/// What containers of unknown pods get to end.
const GRACE: Duration = Duration::from_secs(2);

/// Takes down networks, directories and root file systems of no pod. No pod may arrive meanwhile.
pub(super) async fn reconcile(shared: &Shared) {
    let mut live = live(shared);
    let runtime = &shared.parts.runtime;
    if let Ok(sandboxes) = runtime
        .list_pod_sandboxes(PodSandboxFilter::default())
        .await
    {
        // These go with their containers.
        live.extend(sandboxes.into_iter().map(|s| s.config.metadata.uid));
    }
    if let Err(err) = shared.parts.network.reconcile(live.clone()).await {
        let error = component::supervisor::chain(&err);
        tracing::warn!(error, "Cannot take down networks of pods that are no more");
    }
    for uid in shared.parts.volumes.orphans(&live) {
        remove_dir(shared, &uid).await;
    }
    shared.parts.volumes.sweep().await;
    shared.parts.users.retain(|uid| live.contains(uid));
    snapshots(shared, &live).await;
    links(shared).await;
}

async fn remove_dir(shared: &Shared, uid: &str) {
    if let Err(err) = shared.parts.volumes.remove_pod_dir(uid).await {
        let error = component::supervisor::chain(&err);
        tracing::warn!(
            pod.uid = uid,
            error,
            "Cannot remove the directory of a pod that is no more"
        );
    }
}

/// Ends and removes containers of no pod. Runs once, when all sources were heard: what ends later is
/// its worker's.
pub(super) async fn sweep(shared: &Shared) {
    if let Err(err) = sandboxes(shared).await {
        let error = component::supervisor::chain(&err);
        tracing::warn!(error, "Cannot end what pods before left");
    }
}

pub(super) async fn sweep_owned(shared: Arc<Shared>) {
    sweep(&shared).await;
}

fn live(shared: &Shared) -> BTreeSet<String> {
    shared.registry.lock().entries.keys().cloned().collect()
}

async fn sandboxes(shared: &Shared) -> Result<(), crate::runtime::Error> {
    let runtime = &shared.parts.runtime;
    let mut dead = BTreeMap::new();
    let sandboxes = runtime
        .list_pod_sandboxes(PodSandboxFilter::default())
        .await?;
    // Only now: a pod that has one of these is known already.
    let live = live(shared);
    for sandbox in sandboxes {
        if !live.contains(&sandbox.config.metadata.uid) {
            dead.insert(sandbox.id.clone(), sandbox);
        }
    }
    let all = runtime.list_containers(ContainerFilter::default()).await?;
    let running = all
        .iter()
        .filter(|c| c.state == ContainerState::Running && dead.contains_key(&c.sandbox));
    let ends = running.map(|c| runtime.stop_container(&c.id, GRACE, None));
    for ended in join_all(ends).await {
        if let Err(err) = ended {
            let error = component::supervisor::chain(&err);
            tracing::warn!(error, "Cannot stop a container of a pod that is no more");
        }
    }
    for (id, sandbox) in dead {
        let meta = &sandbox.config.metadata;
        let pod = format!("{}/{}", meta.namespace, meta.name);
        tracing::info!(
            pod.name = pod,
            pod.uid = meta.uid,
            "Removing what is left of a pod"
        );
        if let Err(err) = shared.parts.network.teardown(&meta.uid).await {
            let error = component::supervisor::chain(&err);
            tracing::warn!(pod.name = pod, error, "Cannot take a pod's network down");
        }
        runtime.remove_pod_sandbox(&id).await?;
        let dir = format!("{}_{}_{}", meta.namespace, meta.name, meta.uid);
        let dir = shared.facts().log_dir.join(dir);
        let _ = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(dir)).await;
        remove_dir(shared, &meta.uid).await;
        shared.parts.users.release(&meta.uid);
    }
    Ok(())
}

/// Root file systems whose container is gone.
async fn snapshots(shared: &Shared, live: &BTreeSet<String>) {
    let listed = shared
        .parts
        .runtime
        .list_containers(ContainerFilter::default());
    let Ok(containers) = listed.await else { return };
    let used = containers
        .iter()
        .filter_map(|c| c.annotations.get(super::worker::SNAPSHOT));
    let used: BTreeSet<_> = used.cloned().collect();
    let live = live.clone();
    let store = shared.parts.store.clone();
    let work = move || {
        for snapshot in store.snapshots() {
            let owner = snapshot.id.split_once('.').map_or("", |(uid, _)| uid);
            // Those of living pods are their workers', who may be making one right now.
            if used.contains(&snapshot.id) || live.contains(owner) {
                continue;
            }
            if let Err(error) = store.release(&snapshot.id) {
                tracing::warn!(snapshot = snapshot.id, %error, "Cannot remove a snapshot");
            }
        }
    };
    let _ = tokio::task::spawn_blocking(work).await;
}

/// Links to logs that are gone.
async fn links(shared: &Shared) {
    let dir = shared.parts.container_logs.clone();
    let work = move || {
        let links = std::fs::read_dir(dir).into_iter().flatten().flatten();
        for link in links.filter(|l| l.file_type().is_ok_and(|t| t.is_symlink())) {
            if !link.path().exists() {
                let _ = std::fs::remove_file(link.path());
            }
        }
    };
    let _ = tokio::task::spawn_blocking(work).await;
}
