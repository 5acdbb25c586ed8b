//! The volumes of pods.
//!
//! Owns: the directories below `<root>/pods/<uid>` that hold volumes, in upstream's layout, and the
//! mounts of containers on them.
//!
//! ```text
//! volumes/<plugin>/<volume>                        what a volume holds, some with a tmpfs mounted
//! volumeDevices/<plugin>/<volume>                  links to devices
//! plugins/<plugin>/<volume>                        what is known of a volume
//! volume-subpaths/<volume>/<container>/<index>     binds of subPaths
//! ```
//! A volume is planned by a pure function ([`plan`]) from the pod, then set up; setting up again
//! brings files up to date with their sources and changes nothing else. Volumes that outlive pods are
//! found by their claims ([`claim`]) and made by plugins ([`persistent`]).
//!
//! Invariants:
//! - What a pod controls (names, links, contents of its volumes) never makes the kubelet open or
//!   make anything outside the volume.
//! - Nothing is deleted through a mount: a tree is removed only as far as its own file system
//!   reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::{Deserialize, Serialize};

mod apply;
mod atomic;
mod claim;
mod collect;
pub(crate) mod downward;
mod failure;
mod host_path;
mod mounts;
mod ownership;
mod persistent;
pub mod plan;
mod subpath;

pub use claim::Claimed;
pub use failure::{Failure, events};
pub use mounts::{ContainerMounts, Error as MountError};
use persistent::Persistent;
pub use plan::{Planned, Source};

/// Why a source of files cannot be read.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum ObjectError {
    /// In the words of the API server: `configmap "x" not found`.
    #[error("{kind} {name:?} not found")]
    NotFound { kind: &'static str, name: String },
    #[error("{0}")]
    Failed(String),
}

/// The answer of [`Objects`].
pub type Answer<'a, T> = BoxFuture<'a, Result<T, ObjectError>>;

/// A token that a pod wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenRequest {
    pub namespace: String,
    pub service_account: String,
    /// The pod that the token is bound to.
    pub pod: String,
    pub pod_uid: String,
    /// Empty for the API server's own.
    pub audience: String,
    pub expiration_seconds: Option<i64>,
}

/// A certificate that a pod wants: a podCertificate source of one of its volumes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificateRequest {
    pub namespace: String,
    pub service_account: String,
    pub pod: String,
    pub pod_uid: String,
    pub volume: String,
    /// Which of the volume's sources it is, from zero.
    pub source: usize,
    pub signer: String,
    /// `ECDSAP256` and the like.
    pub key_type: String,
    pub max_expiration_seconds: Option<i32>,
    /// For the signer, as the pod says them.
    pub annotations: BTreeMap<String, String>,
}

/// A private key and the chain of certificates for it, both in PEM.
#[derive(PartialEq, Eq)]
pub struct Credentials {
    pub key: Vec<u8>,
    pub chain: Vec<u8>,
}

impl std::fmt::Debug for Credentials {
    /// The key stays secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// Which trust bundles a pod wants.
#[derive(Clone, Debug)]
pub enum TrustBundles {
    Named(String),
    Signed {
        signer: String,
        selector: Option<LabelSelector>,
    },
}

/// Where the contents of files come from: the API server, through caches that the pod worker keeps.
pub trait Objects: Send + Sync {
    fn config_map<'a>(&'a self, namespace: &'a str, name: &'a str) -> Answer<'a, Arc<ConfigMap>>;

    fn secret<'a>(&'a self, namespace: &'a str, name: &'a str) -> Answer<'a, Arc<Secret>>;

    /// A token that is good for a while yet: asked again, the same one until it is due for renewal.
    fn token(&self, request: TokenRequest) -> Answer<'_, String>;

    /// Certificates in PEM. With `allow_empty`, none are no error.
    fn trust_anchors(&self, bundles: TrustBundles, allow_empty: bool) -> Answer<'_, Vec<u8>>;

    /// A certificate that is good for a while yet, once its signer has issued one.
    fn certificate(&self, request: CertificateRequest) -> Answer<'_, Arc<Credentials>>;

    /// A claim as it is now.
    fn claim<'a>(&'a self, namespace: &'a str, name: &'a str) -> Answer<'a, PersistentVolumeClaim>;

    /// A persistent volume as it is now.
    fn persistent_volume<'a>(&'a self, name: &'a str) -> Answer<'a, PersistentVolume>;
}

/// What the node gives pods, for `resourceFieldRef` and the size of memory volumes.
pub type Allocatable = BTreeMap<String, Quantity>;

/// A volume that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Where it is on the node; of a device a link to it.
    pub path: PathBuf,
    /// No container may write to it, whatever its mount says.
    pub read_only: bool,
    /// It is a block device, not a file system.
    #[serde(default)]
    pub device: bool,
    /// A group that all containers of the pod are given.
    #[serde(default)]
    pub group: Option<u32>,
}

/// A pod's volumes by name. Those of images are not among them: they come with the images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodVolumes {
    pub volumes: BTreeMap<String, Volume>,
    /// Whether something in them is new since the last time.
    pub changed: bool,
    /// Reasons and messages for the pod's events.
    pub warnings: Vec<(&'static str, String)>,
}

impl PodVolumes {
    /// Groups that all containers are given for their volumes' sake.
    #[must_use]
    pub fn groups(&self) -> BTreeSet<u32> {
        self.volumes.values().filter_map(|v| v.group).collect()
    }
}

/// Tells the labels that the node has now.
type Labels = Box<dyn Fn() -> BTreeMap<String, String> + Send + Sync>;

/// The volumes of all pods of a node.
pub struct Volumes {
    /// `<root>/pods`
    pods: PathBuf,
    objects: Arc<dyn Objects>,
    allocatable: Allocatable,
    labels: Labels,
    persistent: Persistent,
}

/// A pod's directory could not be taken away; asked again, the rest is tried.
#[derive(thiserror::Error, Debug)]
pub enum CleanupError {
    #[error("{0:?} cannot name a pod's directory")]
    Uid(String),
    #[error("{doing} {path}: {source}", path = path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Mount(#[from] crate::sys::mount::Error),
    #[error("{0}")]
    Volume(String),
    #[error("volumes were interrupted")]
    Interrupted,
}

impl Volumes {
    /// Volumes below `<root>/pods`.
    pub fn new(root: &Path, objects: Arc<dyn Objects>, allocatable: Allocatable) -> Self {
        Self {
            pods: root.join("pods"),
            objects,
            allocatable,
            labels: Box::new(BTreeMap::new),
            persistent: Persistent::open(root),
        }
    }

    /// The same on a node that has labels, which volumes may ask for.
    #[must_use]
    pub fn with_labels(
        mut self,
        labels: impl Fn() -> BTreeMap<String, String> + Send + Sync + 'static,
    ) -> Self {
        self.labels = Box::new(labels);
        self
    }

    /// The pod's directory.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.pods.join(uid)
    }

    /// Makes the pod's volumes, or brings their files up to date. All volumes are tried; the
    /// failures of all are told.
    pub async fn set_up(&self, pod: &Pod) -> Result<PodVolumes, Vec<Failure>> {
        apply::set_up(self, pod).await
    }

    /// Takes the mounts and volumes of a pod away, after its last container. Succeeds if there are
    /// none. Other files of the pod's directory stay.
    pub async fn tear_down(&self, uid: &str) -> Result<(), CleanupError> {
        let dir = self.checked_dir(uid)?;
        let records = self.persistent.unpublish(&dir).await;
        let records = records.map_err(CleanupError::Volume)?;
        let own = dir.clone();
        blocking(move || apply::tear_down(&own)).await?;
        let given = self.persistent.give_back(uid, &records).await;
        given.map_err(CleanupError::Volume)?;
        blocking(move || apply::forget(&dir)).await
    }

    /// Takes the pod's whole directory away.
    pub async fn remove_pod_dir(&self, uid: &str) -> Result<(), CleanupError> {
        let dir = self.checked_dir(uid)?;
        self.tear_down(uid).await?;
        blocking(move || apply::remove_pod_dir(&dir)).await
    }

    /// Gives back what a kubelet before left on the node for no pod. After orphans were removed.
    pub async fn sweep(&self) {
        self.persistent.sweep().await;
    }

    /// The names that a pod has for its persistent volumes, by those of the volumes.
    pub(crate) fn persistent_names(pod_dir: &Path) -> BTreeMap<String, String> {
        persistent::names(pod_dir)
    }

    /// Pods that have a directory here and are not among the living.
    pub fn orphans(&self, live: &BTreeSet<String>) -> Vec<String> {
        let entries = std::fs::read_dir(&self.pods)
            .into_iter()
            .flatten()
            .flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names
            .filter(|uid| is_uid(uid) && !live.contains(uid))
            .collect()
    }

    fn checked_dir(&self, uid: &str) -> Result<PathBuf, CleanupError> {
        if is_uid(uid) {
            Ok(self.pod_dir(uid))
        } else {
            Err(CleanupError::Uid(uid.to_owned()))
        }
    }
}

/// Whether a pod's uid can be a directory's name.
fn is_uid(uid: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    !uid.is_empty() && uid.len() <= 128 && uid.bytes().all(allowed)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CleanupError> + Send + 'static,
) -> Result<T, CleanupError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| CleanupError::Interrupted)?
}

#[cfg(test)]
mod tests;
