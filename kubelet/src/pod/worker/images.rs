//! The images of a pod: of its containers, and of its image volumes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{Container, Pod, Secret};

use super::Worker;
use super::start::Start;
use crate::image::auth::{Credential, Format, Keyring, Source};
use crate::image::ensure::{Event, PullPolicy, Reason, Wanted};
use crate::image::reference::Reference;
use crate::image::store::Image;
use crate::pod::next::Waiting;
use crate::pod::spec;
use crate::sys::userns::IdMap;

/// How soon after a failed pull its back-off is told.
const TELL: Duration = Duration::from_secs(2);

/// Types of secrets that hold credentials, with the key of their data.
const PULL_SECRETS: [(&str, &str, Format); 2] = [
    (
        "kubernetes.io/dockerconfigjson",
        ".dockerconfigjson",
        Format::DockerConfigJson,
    ),
    ("kubernetes.io/dockercfg", ".dockercfg", Format::DockerCfg),
];

impl Worker {
    /// The container's image.
    pub(super) async fn image(&self, start: &Start<'_>) -> Result<Arc<Image>, Waiting> {
        let container = start.container;
        let image = container.image.as_deref().unwrap_or_default();
        let policy = policy(container.image_pull_policy.as_deref());
        self.ensure(start, image, policy).await
    }

    /// The image volumes that the container mounts, by the names of the volumes, with owners as the
    /// pod's users see them.
    pub(super) async fn image_volumes(
        &self,
        start: &Start<'_>,
        ids: &[IdMap],
    ) -> Result<BTreeMap<String, PathBuf>, Waiting> {
        let mut paths = BTreeMap::new();
        for volume in spec::of(start.pod).volumes.iter().flatten() {
            let mut mounts = start.container.volume_mounts.iter().flatten();
            let Some(source) = volume.image.as_ref() else {
                continue;
            };
            if !mounts.any(|mount| mount.name == volume.name) {
                continue;
            }
            let reference = source.reference.as_deref().unwrap_or_default();
            let policy = policy(source.pull_policy.as_deref());
            let image = self.ensure(start, reference, policy).await?;
            let id = format!("{}.volume.{}", self.uid, volume.name);
            let path = self
                .view_image(id, image, ids.to_vec())
                .await
                .map_err(|message| Waiting {
                    reason: "CreateContainerError".into(),
                    message,
                })?;
            paths.insert(volume.name.clone(), path);
        }
        Ok(paths)
    }

    async fn ensure(
        &self,
        start: &Start<'_>,
        image: &str,
        policy: PullPolicy,
    ) -> Result<Arc<Image>, Waiting> {
        let (pod, name) = (start.pod, &start.container.name);
        let (credentials, missing) = self.credentials(pod, image).await;
        let wanted = Wanted {
            pod_uid: &self.uid,
            image,
            policy,
            credentials,
        };
        let mut tell = |event: Event| match event.warning {
            true => self.warn_container(pod, name, event.reason, &event.message),
            false => self.note_container(pod, name, event.reason, &event.message),
        };
        let ensured = self.shared.parts.images.ensure(&wanted, &mut tell);
        match start.stop.run_until_cancelled(ensured).await {
            Some(Ok(image)) => Ok(image),
            Some(Err(failure)) => {
                if failure.reason == Reason::ErrImagePull && !missing.is_empty() {
                    let message = format!(
                        "Unable to retrieve some image pull secrets ({}); attempting to pull the \
                         image may not succeed.",
                        missing.join(", ")
                    );
                    self.warn(pod, "FailedToRetrieveImagePullSecret", &message);
                }
                Err(Waiting {
                    reason: failure.reason.as_str().to_owned(),
                    message: failure.message,
                })
            }
            None => Err(Waiting {
                reason: Reason::ErrImagePull.as_str().to_owned(),
                message: "pull was cancelled".into(),
            }),
        }
    }

    /// Credentials for the image, and secrets that could not be read.
    async fn credentials(&self, pod: &Pod, image: &str) -> (Vec<Credential>, Vec<String>) {
        let mut keyring = self.shared.parts.keyring.clone();
        let mut missing = Vec::new();
        let namespace = spec::namespace(pod);
        for secret in spec::of(pod).image_pull_secrets.iter().flatten() {
            if secret.name.is_empty() {
                continue;
            }
            let objects = &self.shared.parts.objects;
            match objects.secret(namespace, &secret.name).await {
                Ok(secret) => add(&mut keyring, &secret),
                Err(_) => missing.push(secret.name.clone()),
            }
        }
        let repository = image.parse::<Reference>().map(|image| image.repository());
        let found = repository.map(|repository| keyring.lookup(&repository));
        (found.unwrap_or_default(), missing)
    }

    /// When to ask for a container's image again, after it could not be had.
    pub(super) fn images_again(&self, container: &Container) -> Option<SystemTime> {
        let image = container.image.as_deref().unwrap_or_default();
        let left = self.shared.parts.images.back_off(&self.uid, image)?;
        let told = {
            let memory = self.memory.lock();
            let last = memory.failures.get(&container.name);
            last.is_some_and(|last| last.reason == Reason::ErrImagePull.as_str())
        };
        // The next look says that it waits; the one after that tries.
        let left = if told { left } else { left.min(TELL) };
        Some(SystemTime::now() + left)
    }

    /// A root file system, with owners as the pod's users see them.
    pub(super) async fn prepare(
        &self,
        id: &str,
        image: &Image,
        ids: Vec<IdMap>,
    ) -> Result<PathBuf, String> {
        let (store, id, image) = (
            self.shared.parts.store.clone(),
            id.to_owned(),
            image.clone(),
        );
        let work = move || store.prepare(&id, &image, &ids);
        finish(tokio::task::spawn_blocking(work).await)
    }

    async fn view_image(
        &self,
        id: String,
        image: Arc<Image>,
        ids: Vec<IdMap>,
    ) -> Result<PathBuf, String> {
        let store = self.shared.parts.store.clone();
        let work = move || {
            let known = store.snapshots().iter().any(|snapshot| snapshot.id == id);
            if known {
                store.remount(&id)
            } else {
                store.view(&id, &image, &ids)
            }
        };
        finish(tokio::task::spawn_blocking(work).await)
    }

    /// Gives a root file system up.
    pub(super) async fn release(&self, id: String) {
        let store = self.shared.parts.store.clone();
        let work = move || {
            if let Err(error) = store.release(&id) {
                tracing::warn!(snapshot = id, %error, "Cannot remove a root file system");
            }
        };
        let _ = tokio::task::spawn_blocking(work).await;
    }
}

fn finish<T>(
    done: Result<Result<T, crate::image::store::Error>, tokio::task::JoinError>,
) -> Result<T, String> {
    match done {
        Ok(done) => done.map_err(|err| component::supervisor::chain(&err)),
        Err(_) => Err("the kubelet is shutting down".into()),
    }
}

fn policy(policy: Option<&str>) -> PullPolicy {
    match policy {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        _ => PullPolicy::IfNotPresent,
    }
}

fn add(keyring: &mut Keyring, secret: &Secret) {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let kind = secret.type_.as_deref().unwrap_or_default();
    let Some((_, key, format)) = PULL_SECRETS.iter().find(|(known, ..)| *known == kind) else {
        return;
    };
    let Some(data) = secret.data.as_ref().and_then(|data| data.get(*key)) else {
        return;
    };
    let meta = &secret.metadata;
    let source = Source::Secret {
        uid: text(&meta.uid),
        namespace: text(&meta.namespace),
        name: text(&meta.name),
    };
    if let Err(error) = keyring.add(&source, *format, &data.0) {
        let name = text(&meta.name);
        tracing::warn!(secret = name, %error, "Cannot read credentials for images");
    }
}

/// The image's name in the container's status: a tag, the one that was asked for if it has several.
pub(super) fn shown(container: &Container, image: &Image) -> String {
    let asked = container.image.as_deref().unwrap_or_default();
    let asked = asked.parse::<Reference>().ok().and_then(|r| r.tagged());
    let asked = asked.filter(|asked| image.tags.contains(asked));
    asked
        .or_else(|| image.tags.first().cloned())
        .unwrap_or_else(|| image.id.to_string())
}
