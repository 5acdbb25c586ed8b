//! A manifest, or a directory of manifests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;

use super::Heard;
use super::decode::{self, Origin};
use crate::pod::registry::Source;
use crate::sys::watch::Watch;

/// How often a path that cannot be watched is looked at (`fileCheckFrequency`).
const CHECK: Duration = Duration::from_secs(20);

/// Files are read up to here.
const MAX: u64 = 10 << 20;

/// Reads the path whenever something in its directory changes.
pub(super) async fn follow(path: PathBuf, node: String, to: mpsc::Sender<Heard>) {
    loop {
        let watch = watch(&path);
        loop {
            let (from, node) = (path.clone(), node.clone());
            let read = tokio::task::spawn_blocking(move || read(&from, &node)).await;
            let pods = match read {
                Ok(Ok(pods)) => Some(pods),
                Ok(Err(error)) => {
                    let path = path.display();
                    tracing::warn!(%path, %error, "Cannot read static pods");
                    None
                }
                Err(_) => return,
            };
            if let Some(pods) = pods
                && to.send((Source::File, pods)).await.is_err()
            {
                return;
            }
            let Some(watch) = &watch else { break };
            if let Err(error) = watch.changed().await {
                tracing::warn!(%error, "Cannot watch static pods");
                break;
            }
            if !path.exists() {
                // The directory itself may be another one next time.
                break;
            }
        }
        if watch.is_none() || !path.exists() {
            tokio::time::sleep(CHECK).await;
        }
    }
}

fn watch(path: &Path) -> Option<Watch> {
    let dir = if path.is_dir() { path } else { path.parent()? };
    let watch = Watch::new().ok()?;
    watch.add(dir).ok()?;
    Some(watch)
}

/// The pods that the path holds. Files that are no pods are told and left out.
fn read(path: &Path, node: &str) -> std::io::Result<Vec<Pod>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    if !path.is_dir() {
        return Ok(pod(path, node).into_iter().collect());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        let name = file.file_name().unwrap_or_default();
        if !name.as_encoded_bytes().starts_with(b".") && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files.iter().filter_map(|file| pod(file, node)).collect())
}

fn pod(file: &Path, node: &str) -> Option<Pod> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file);
    let read = opened.and_then(|opened| opened.take(MAX).read_to_end(&mut bytes));
    if let Err(error) = read {
        tracing::warn!(path = %file.display(), %error, "Cannot read a static pod");
        return None;
    }
    let name = file.display().to_string();
    match decode::pod(&bytes, Origin::File(&name), node) {
        Ok(pod) => Some(pod),
        Err(error) => {
            tracing::error!(path = name, %error, "Not a static pod");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::spec;

    const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: \
                       [{name: c, image: app}]}\n";

    #[tokio::test]
    async fn a_directory_is_followed_and_what_is_no_pod_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("bad.yaml"), "kind: [").unwrap();
        std::fs::write(dir.path().join(".hidden"), POD).unwrap();
        std::fs::write(dir.path().join("a.yaml"), POD).unwrap();
        let (sender, mut heard) = mpsc::channel(8);
        let follow = follow(dir.path().to_owned(), "Node-1".into(), sender);
        let changes = async {
            let (_, pods) = heard.recv().await.unwrap();
            let names: Vec<_> = pods.iter().map(spec::name).collect();
            assert_eq!(names, ["web-node-1"]);
            std::fs::remove_file(dir.path().join("a.yaml")).unwrap();
            loop {
                let (_, pods) = heard.recv().await.unwrap();
                if pods.is_empty() {
                    break;
                }
            }
        };
        tokio::select! {
            () = follow => panic!("it ended"),
            done = tokio::time::timeout(Duration::from_secs(10), changes) => done.unwrap(),
        }
    }
}
