//! Volumes and the claims that they serve (`persistentvolume-binder-controller`).
//!
//! Owns the binding of both, and their phases. Volumes are made and deleted by drivers outside: here
//! their claims are only told whom to wait for.
//!
//! Source: `pkg/controller/volume/persistentvolume`.

use std::fmt;
use std::sync::Arc;

use component::client::Kind;
use component::controller::Next;
use component::events::{Event as About, Recorder, Type, reference};
use component::informer::{Event, Index, Informer, Key, Lister};
use component::queue::Queue;
use component::volumes::{CLASS, SELECTED_NODE, class_of_claim, class_of_volume};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use crate::context::Context;
use crate::error::Error;
use crate::update::update;
use plan::{Owner, Step, Told};

mod fit;
mod plan;

/// Upstream's number of workers.
const WORKERS: i32 = 10;
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";
/// Whom a claim waits for; the first is the old name.
const PROVISIONER: [&str; 2] = [
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/storage-provisioner",
];

/// What the queue holds.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Work {
    Volume(Key),
    Claim(Key),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(key) | Self::Claim(key) => key.fmt(f),
        }
    }
}

struct Binder {
    cx: Context,
    volumes: Lister<PersistentVolume>,
    by_class: Index,
    claims: Lister<PersistentVolumeClaim>,
    classes: Lister<StorageClass>,
    recorder: Recorder,
}

/// Starts the controller.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Work>("volumes");
    let volumes = cx.informer::<PersistentVolume>();
    let claims = cx.informer::<PersistentVolumeClaim>();
    let classes = cx.informer::<StorageClass>();
    let by_class = volumes.index("class", |v| vec![class_of_volume(v).to_owned()]);
    follow(&volumes, &claims, &classes, &queue);
    let this = Arc::new(Binder {
        cx: cx.clone(),
        volumes: volumes.lister(),
        by_class,
        claims: claims.lister(),
        classes: classes.lister(),
        recorder: cx.recorder_as("persistentvolume-controller"),
    });
    cx.run(WORKERS, &queue, move |work| {
        let this = Arc::clone(&this);
        async move {
            match work {
                Work::Volume(key) => this.volume(&key).await,
                Work::Claim(key) => this.claim(&key).await,
            }
        }
    });
    Ok(())
}

fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    let spec = claim.spec.as_ref();
    spec.and_then(|s| s.volume_name.as_deref())
        .unwrap_or_default()
}

fn claim_key(volume: &PersistentVolume) -> Option<Key> {
    let reference = volume.spec.as_ref()?.claim_ref.as_ref()?;
    let namespace = reference.namespace.as_deref().unwrap_or_default();
    Some(Key::new(namespace, reference.name.as_deref()?))
}

/// What an event wakes: the object, the other side, and claims that may wait for just this.
fn follow(
    volumes: &Informer<PersistentVolume>,
    claims: &Informer<PersistentVolumeClaim>,
    classes: &Informer<StorageClass>,
    queue: &Queue<Work>,
) {
    let waiting = claims.index("waiting class", |claim| match volume_name(claim) {
        "" => vec![class_of_claim(claim).to_owned()],
        _ => Vec::new(),
    });
    let naming = claims.index("volume", |claim| match volume_name(claim) {
        "" => Vec::new(),
        name => vec![name.to_owned()],
    });
    let (wake, lister) = (queue.clone(), claims.lister());
    let wake_all = move |index, value: &str, wake: &Queue<Work>| {
        for claim in lister.indexed(index, value) {
            wake.add(Work::Claim(Key::of(&claim.metadata)));
        }
    };
    let all = wake_all.clone();
    volumes.subscribe(move |key, event| {
        let volume = event.object();
        wake.add(Work::Volume(key.clone()));
        all(naming, key.name(), &wake);
        match claim_key(volume) {
            Some(claim) => wake.add(Work::Claim(claim)),
            None => all(waiting, class_of_volume(volume), &wake),
        }
    });
    let (wake, all) = (queue.clone(), wake_all);
    classes.subscribe(move |key, event| {
        if !matches!(event, Event::Deleted(_)) {
            all(waiting, key.name(), &wake);
            all(waiting, "", &wake);
        }
    });
    let (wake, lister) = (queue.clone(), volumes.lister());
    claims.subscribe(move |key, event| {
        wake.add(Work::Claim(key.clone()));
        let name = volume_name(event.object());
        if !name.is_empty() && lister.get("", name).is_some() {
            wake.add(Work::Volume(Key::new("", name)));
        }
    });
}

impl Binder {
    async fn claim(&self, key: &Key) -> Result<Next, Error> {
        let Some(claim) = self.claims.by_key(key) else {
            return Ok(Next::Done);
        };
        let named = volume_name(&claim);
        let volume = (!named.is_empty())
            .then(|| self.volumes.get("", named))
            .flatten();
        let step = if plan::is_bound(&claim) {
            plan::keep(&claim, volume.as_deref())
        } else if named.is_empty() {
            let volumes = self.volumes.indexed(self.by_class, class_of_claim(&claim));
            plan::search(
                &claim,
                fit::best(&claim, &volumes, self.is_delayed(&claim)).as_ref(),
            )
        } else {
            plan::join(&claim, named, volume.as_deref())
        };
        let step = match step {
            Step::Provision => self.provision(&claim),
            step => step,
        };
        self.perform(&*claim, step).await
    }

    /// Whether the scheduler has to choose a node first.
    fn is_delayed(&self, claim: &PersistentVolumeClaim) -> bool {
        let class = self.classes.get("", class_of_claim(claim));
        class.is_some_and(|c| c.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
    }

    /// What a claim waits for that no volume fits.
    fn provision(&self, claim: &PersistentVolumeClaim) -> Step {
        let annotations = claim.metadata.annotations.as_ref();
        if let Some(class) = self.missing_class(claim) {
            let mut next = claim.clone();
            next.spec.get_or_insert_default().storage_class_name = Some(class);
            return Step::Claim(Box::new(next));
        }
        let chosen = annotations.is_some_and(|a| a.contains_key(SELECTED_NODE));
        if self.is_delayed(claim) && !chosen {
            let message = "waiting for first consumer to be created before binding".to_owned();
            return plan::status_or_tell(claim, (false, "WaitForFirstConsumer", message));
        }
        let name = class_of_claim(claim);
        if name.is_empty() {
            let message =
                "no persistent volumes available for this claim and no storage class is set";
            return plan::status_or_tell(claim, (false, "FailedBinding", message.to_owned()));
        }
        if !self
            .cx
            .config()
            .persistent_volume_binder
            .enable_dynamic_provisioning
        {
            return Step::Nothing;
        }
        let Some(class) = self.classes.get("", name) else {
            let message = format!("storageclass.storage.k8s.io {name:?} not found");
            return Step::Tell((true, "ProvisioningFailed", message));
        };
        let provisioner = &class.provisioner;
        if provisioner.starts_with("kubernetes.io/") {
            let message = format!("no volume plugin matched name: {provisioner}");
            return Step::Tell((true, "ProvisioningFailed", message));
        }
        if PROVISIONER
            .iter()
            .any(|key| annotations.and_then(|a| a.get(*key)) != Some(provisioner))
        {
            let mut next = claim.clone();
            let annotations = next.metadata.annotations.get_or_insert_default();
            for key in PROVISIONER {
                annotations.insert(key.to_owned(), provisioner.clone());
            }
            return Step::Claim(Box::new(next));
        }
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
        );
        Step::Tell((false, "ExternalProvisioning", message))
    }

    /// The default class, for a claim that says nothing of classes.
    fn missing_class(&self, claim: &PersistentVolumeClaim) -> Option<String> {
        let annotations = claim.metadata.annotations.as_ref();
        let field = claim
            .spec
            .as_ref()
            .and_then(|s| s.storage_class_name.as_ref());
        if field.is_some() || annotations.is_some_and(|a| a.contains_key(CLASS)) {
            return None;
        }
        let is_default = |class: &StorageClass| {
            let annotations = class.metadata.annotations.as_ref();
            annotations
                .and_then(|a| a.get(DEFAULT_CLASS))
                .is_some_and(|v| v == "true")
        };
        let mut defaults = self.classes.list();
        defaults.retain(|c| is_default(c));
        // The newest, then the first by name.
        let created = |c: &StorageClass| c.metadata.creation_timestamp.as_ref().map(|t| t.0);
        defaults.sort_by(|a, b| {
            created(b)
                .cmp(&created(a))
                .then_with(|| a.metadata.name.cmp(&b.metadata.name))
        });
        defaults.first().and_then(|c| c.metadata.name.clone())
    }

    async fn volume(&self, key: &Key) -> Result<Next, Error> {
        let Some(volume) = self.volumes.by_key(key) else {
            return Ok(Next::Done);
        };
        let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
        let uid = reference
            .and_then(|r| r.uid.as_ref())
            .filter(|uid| !uid.is_empty());
        let (Some(claim), Some(uid)) = (claim_key(&volume), uid) else {
            return self.perform(&*volume, plan::offer(&volume)).await;
        };
        let is_it = |claim: &PersistentVolumeClaim| claim.metadata.uid.as_ref() == Some(uid);
        let cached = self.claims.by_key(&claim).filter(|c| is_it(c));
        let step = match cached {
            Some(claim) => plan::hold(&volume, Owner::There(&claim)),
            None => {
                // Only the server knows that a claim is gone.
                let client = self.cx.client().await?;
                let api = client.namespaced::<PersistentVolumeClaim>(claim.namespace());
                match api.find(claim.name()).await?.filter(|c| is_it(c)) {
                    Some(live) => plan::hold(&volume, Owner::There(&live)),
                    None => plan::hold(&volume, Owner::Gone),
                }
            }
        };
        let step = match step {
            Step::Reclaim => reclaim(&volume),
            step => step,
        };
        self.perform(&*volume, step).await
    }

    /// Does a step, and tells about `of` what there is to tell.
    async fn perform<K: Kind>(&self, of: &K, step: Step) -> Result<Next, Error> {
        let told = match step {
            Step::Nothing | Step::Provision | Step::Reclaim => None,
            Step::Tell(told) => Some(told),
            Step::Volume(next) => self.write(&self.volumes, "", &*next).await?,
            Step::Claim(next) => self.write(&self.claims, "", &*next).await?,
            Step::VolumeStatus(next, told) => {
                self.write(&self.volumes, "status", &*next).await?.or(told)
            }
            Step::ClaimStatus(next, told) => {
                self.write(&self.claims, "status", &*next).await?.or(told)
            }
        };
        if let Some((warning, reason, message)) = told {
            self.recorder.event(About {
                regarding: reference(of),
                related: None,
                kind: if warning { Type::Warning } else { Type::Normal },
                reason: reason.to_owned(),
                action: reason.to_owned(),
                message,
            });
        }
        Ok(Next::Done)
    }

    /// Writes the next state of a cached object, under the version that it was made from.
    async fn write<K: Kind>(
        &self,
        cache: &Lister<K>,
        subresource: &str,
        next: &K,
    ) -> Result<Option<Told>, Error> {
        let key = Key::of(next.metadata());
        let old = cache.by_key(&key);
        let same =
            |old: &Arc<K>| old.metadata().resource_version == next.metadata().resource_version;
        let Some(old) = old.filter(same) else {
            // It changed meanwhile, and wakes this again.
            return Ok(None);
        };
        let client = self.cx.client().await?;
        let api = match key.namespace() {
            "" => client.all::<K>(),
            namespace => client.namespaced::<K>(namespace),
        };
        match update(&api, subresource, &old, next).await {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Ok(None),
        }
    }
}

/// What the volume's policy asks for, now that its claim is gone.
fn reclaim(volume: &PersistentVolume) -> Step {
    let annotations = volume.metadata.annotations.as_ref();
    let value = |key: &str| annotations.and_then(|a| a.get(key));
    let spec = volume.spec.as_ref();
    let policy = spec.and_then(|s| s.persistent_volume_reclaim_policy.as_deref());
    // Drivers delete what is theirs.
    let external = spec.is_some_and(|s| s.csi.is_some())
        || value(MIGRATED_TO).is_some()
        || value(PROVISIONED_BY).is_some_and(|by| !by.starts_with("kubernetes.io/"));
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    match policy {
        Some("Delete") if !external => {
            let why = format!(
                "error getting deleter volume plugin for volume {name:?}: no deletable volume plugin matched"
            );
            plan::failed(volume, why)
        }
        Some("Recycle") => plan::failed(
            volume,
            "no recycler is available, use the policy Delete or Retain".to_owned(),
        ),
        _ => Step::Nothing,
    }
}
