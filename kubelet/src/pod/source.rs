//! Pods that the node's owner wrote down: a file, a directory of files, or a URL
//! (`staticPodPath`, `staticPodURL`).

use std::path::PathBuf;
use std::sync::Arc;

use component::supervisor::Task;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;

use super::Shared;
use super::registry::Source;

pub(crate) mod decode;
mod defaults;
mod file;
pub(super) mod url;

/// All pods of a source, each time that they changed.
type Heard = (Source, Vec<Pod>);

/// Both sources tell rarely, and the last word counts.
const QUEUE: usize = 8;

/// The static sources.
pub(super) struct Files {
    /// How many there are: each tells at least once.
    pub(super) expected: usize,
    pub(super) receiver: mpsc::Receiver<Heard>,
}

/// Starts to follow what is configured.
pub(super) fn start(shared: &Arc<Shared>) -> Files {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let tasks = &shared.parts.tasks;
    let node = shared.facts().name.clone();
    let mut expected = 0;
    if let Some(path) = shared.parts.static_pods.clone() {
        expected += 1;
        let follow = file::follow(trimmed(path), node.clone(), sender.clone());
        tasks.spawn(Task::Worker, "static-pod-files", follow);
    }
    if let Some(url) = shared.parts.manifest_url.clone() {
        expected += 1;
        let follow = url::follow(url, node, sender);
        tasks.spawn(Task::Worker, "static-pod-url", follow);
    }
    Files { expected, receiver }
}

fn trimmed(path: PathBuf) -> PathBuf {
    path.components().collect()
}
